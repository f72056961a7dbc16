//! What a client may send, in MQTT 3.1, 3.1.1 and 5, as a server reads it.
//!
//! A packet is checked to its last byte before anything of it is used; what is wrong is a [`Fault`]
//! with the reason code of MQTT 5. Nothing is copied and nothing is allocated.

use super::parts::{RespondTo, Version, head_len};
use super::properties::{Malformed, Name, Properties, Property, Reader};

/// A packet that a client must not send: the reason code of MQTT 5 for it [MQTT-4.13].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault(pub u8);

impl Fault {
    /// Bytes that are not as the standard says.
    pub const MALFORMED: Fault = Fault(0x81);
    /// A packet that must not come then, or a value that it must not have.
    pub const PROTOCOL: Fault = Fault(0x82);
    /// A version that there is not, or that is not served.
    pub const VERSION: Fault = Fault(0x84);
    /// A client id that cannot be taken.
    pub const CLIENT_ID: Fault = Fault(0x85);
    /// An authentication method: there are none.
    pub const METHOD: Fault = Fault(0x8c);
    /// A topic that no message can have.
    pub const TOPIC: Fault = Fault(0x90);
    /// More messages unacknowledged than allowed.
    pub const RECEIVE_MAXIMUM: Fault = Fault(0x93);
    /// A topic alias that was not allowed, or that stands for nothing.
    pub const ALIAS: Fault = Fault(0x94);
    /// A packet longer than allowed.
    pub const TOO_LARGE: Fault = Fault(0x95);
}

/// A text of a client: without control characters, which no name or topic needs and every log has to
/// escape [MQTT-1.5.4-2].
fn text<'a>(reader: &mut Reader<'a>) -> Result<&'a str, Malformed> {
    let text = reader.text()?;
    if text.chars().any(char::is_control) {
        return Err(Malformed);
    }
    Ok(text)
}

/// Whether a packet of a client that is connected can begin so.
pub fn begins(first: u8) -> Result<(), Fault> {
    let (kind, flags) = (first >> 4, first & 15);
    let wanted = match kind {
        3 => flags,
        6 | 8 | 10 => 2,
        _ => 0,
    };
    if flags != wanted {
        return Err(Fault::MALFORMED);
    }
    if matches!(kind, 3..=8 | 10 | 12 | 14) {
        Ok(())
    } else {
        Err(Fault::PROTOCOL)
    }
}

impl From<Malformed> for Fault {
    fn from(_: Malformed) -> Fault {
        Fault::MALFORMED
    }
}

/// The length of the packet that `bytes` begin with; `None` where too few are there to tell. Refuses
/// what is longer than `max`, before it is all there.
pub fn length(bytes: &[u8], max: usize) -> Result<Option<usize>, Fault> {
    let mut reader = Reader(bytes.get(1..).unwrap_or_default());
    let remaining = match reader.variable() {
        Ok(remaining) => usize::try_from(remaining).unwrap_or(usize::MAX),
        Err(Malformed) if bytes.len() < 5 => return Ok(None),
        Err(Malformed) => return Err(Fault::MALFORMED),
    };
    let whole = remaining.saturating_add(bytes.len() - reader.0.len());
    if whole > max {
        return Err(Fault::TOO_LARGE);
    }
    Ok(Some(whole))
}

/// What a client says of itself [MQTT-3.1].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello<'a> {
    /// The form of all further packets.
    pub version: Version,
    /// Whether it is MQTT 3.1, where a SUBACK cannot refuse.
    pub old: bool,
    /// Whether it is the bridge of another broker: no local, and retain as published (§9.2).
    pub bridge: bool,
    /// The client id; empty where the server is to assign one.
    pub client_id: &'a str,
    /// The keep-alive interval in seconds; 0: none.
    pub keep_alive_s: u16,
    /// What is to be published when the client is lost.
    pub will: Option<Message<'a>>,
    /// The user name.
    pub user: Option<&'a str>,
    /// The password.
    pub password: Option<&'a [u8]>,
    /// The longest packet that it takes, in bytes.
    pub packet_bytes_max: Option<u32>,
}

/// Why a CONNECT is refused: the version to answer in, where there is one, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoHello {
    /// In which form CONNACK is written; `None`: the connection is closed without a word.
    pub form: Option<Version>,
    /// Why.
    pub fault: Fault,
}

/// A message of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message<'a> {
    /// Its topic; empty where an alias stands for it.
    pub topic: &'a str,
    /// Its payload.
    pub payload: &'a [u8],
    /// 0, 1 or 2.
    pub qos: u8,
    /// Whether it is to be retained.
    pub retain: bool,
    /// Its packet id; 0 with QoS 0.
    pub id: u16,
    /// The number that stands for the topic from now on.
    pub alias: Option<u16>,
    /// After how many seconds it is worth nothing.
    pub expiry_s: Option<u32>,
    /// Where an answer is expected.
    pub respond_to: Option<RespondTo<'a>>,
    /// Its properties as they stand in the packet, without their length.
    pub properties: Properties<'a>,
}

/// What a client sends after CONNECT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromClient<'a> {
    /// A message.
    Publish(Message<'a>),
    /// PUBACK, PUBREC, PUBREL, PUBCOMP: which one (4 to 7), and what it is about.
    Ack {
        /// The type of the packet.
        kind: u8,
        /// Its packet id.
        id: u16,
        /// Its reason code.
        code: u8,
    },
    /// SUBSCRIBE.
    Subscribe {
        /// Its packet id.
        id: u16,
        /// Whether there is a subscription identifier.
        identifier: bool,
        /// Filters with options.
        filters: Filters<'a>,
    },
    /// UNSUBSCRIBE.
    Unsubscribe {
        /// Its packet id.
        id: u16,
        /// Filters.
        filters: Filters<'a>,
    },
    /// PINGREQ.
    Ping,
    /// DISCONNECT.
    Disconnect {
        /// Why: 4 asks for the will.
        code: u8,
    },
}

/// The filters of one packet, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filters<'a> {
    rest: &'a [u8],
    options: bool,
}

/// One filter, and what is wanted of it [MQTT-3.8.3.1].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// The filter as it was written.
    pub filter: &'a str,
    /// The options byte; 0 in UNSUBSCRIBE.
    pub options: u8,
}

impl Wanted<'_> {
    /// The greatest QoS wanted.
    pub fn qos(self) -> u8 {
        self.options & 3
    }

    /// Whether what the client publishes itself is left out.
    pub fn no_local(self) -> bool {
        self.options & 4 != 0
    }

    /// Whether messages keep the retain flag of their sender.
    pub fn retain_as_published(self) -> bool {
        self.options & 8 != 0
    }

    /// Retain handling: 0 always, 1 for a new subscription, 2 never.
    pub fn retain_handling(self) -> u8 {
        self.options >> 4 & 3
    }
}

impl<'a> Iterator for Filters<'a> {
    type Item = Wanted<'a>;

    fn next(&mut self) -> Option<Wanted<'a>> {
        let mut reader = Reader(self.rest);
        let filter = text(&mut reader).ok()?;
        let options = if self.options { reader.byte().ok()? } else { 0 };
        self.rest = reader.0;
        Some(Wanted { filter, options })
    }
}

impl<'a> Filters<'a> {
    /// Checks all that is left of a packet's body.
    fn check(body: Reader<'a>, version: Version, options: bool) -> Result<Filters<'a>, Fault> {
        let filters = Filters {
            rest: body.0,
            options,
        };
        let mut left = filters.clone();
        let mut count = 0_usize;
        for wanted in left.by_ref() {
            count += 1;
            // [MQTT-4.7.3-1]
            if wanted.filter.is_empty() {
                return Err(Fault::MALFORMED);
            }
            let reserved = match version {
                Version::V3 => wanted.options & !3,
                Version::V5 => wanted.options & 0xc0,
            };
            if reserved != 0 || wanted.qos() == 3 {
                return Err(Fault::MALFORMED);
            }
            if wanted.retain_handling() == 3 {
                return Err(Fault::PROTOCOL);
            }
            // [MQTT-3.8.3-4]
            if wanted.no_local() && wanted.filter.starts_with("$share/") {
                return Err(Fault::PROTOCOL);
            }
        }
        if !left.rest.is_empty() {
            return Err(Fault::MALFORMED);
        }
        // [MQTT-3.8.3-2], [MQTT-3.10.3-2]
        if count == 0 {
            return Err(Fault::PROTOCOL);
        }
        Ok(filters)
    }
}

/// Reads one whole CONNECT.
pub fn decode_connect(packet: &[u8]) -> Result<Hello<'_>, NoHello> {
    let silent = |fault| NoHello { form: None, fault };
    let first = packet.first().copied().unwrap_or_default();
    if first >> 4 != 1 {
        return Err(silent(Fault::PROTOCOL));
    }
    let mut body = Reader(packet.get(head_len(packet)..).unwrap_or_default());
    let name = body.bytes().map_err(|_| silent(Fault::MALFORMED))?;
    let level = body.byte().map_err(|_| silent(Fault::MALFORMED))?;
    let (version, old) = match (name, level & 0x7f) {
        (b"MQIsdp", 3) => (Version::V3, true),
        (b"MQTT", 4) => (Version::V3, false),
        (b"MQTT", 5) if level == 5 => (Version::V5, false),
        (b"MQTT" | b"MQIsdp", _) => {
            let form = if level > 5 && level & 0x80 == 0 {
                Version::V5
            } else {
                Version::V3
            };
            return Err(NoHello {
                form: Some(form),
                fault: Fault::VERSION,
            });
        }
        _ => return Err(silent(Fault::VERSION)),
    };
    // MQTT 3.1 has no reserved flags there.
    if first & 15 != 0 && !old {
        return Err(silent(Fault::MALFORMED));
    }
    decode_hello(body, version, old, level & 0x80 != 0).map_err(|fault| NoHello {
        // Who sends bytes that are not as they should be would not understand an answer; and MQTT 3.x
        // has a code for the client id only.
        form: Some(version).filter(|version| match version {
            Version::V5 => fault != Fault::MALFORMED,
            Version::V3 => fault == Fault::CLIENT_ID,
        }),
        fault,
    })
}

fn decode_hello(
    mut body: Reader<'_>,
    version: Version,
    old: bool,
    bridge: bool,
) -> Result<Hello<'_>, Fault> {
    let flags = body.byte()?;
    let flag = |bit: u8| flags >> bit & 1 != 0;
    let will_qos = flags >> 3 & 3;
    // [MQTT-3.1.2-3], [MQTT-3.1.2-11] to [MQTT-3.1.2-15]
    let will_flags = !flag(2) && (will_qos != 0 || flag(5));
    if (flag(0) && !old) || will_qos == 3 || will_flags {
        return Err(Fault::MALFORMED);
    }
    // [MQTT-3.1.2-22]
    if version == Version::V3 && flag(6) && !flag(7) {
        return Err(Fault::MALFORMED);
    }
    let keep_alive_s = body.two()?;
    let mut packet_bytes_max = None;
    if version == Version::V5 {
        let (mut method, mut data) = (false, false);
        body.properties()?.each(&OF_CONNECT, |property| {
            if let Property::Number(name, number) = property {
                packet_bytes_max = check_number(name, number)?.or(packet_bytes_max);
            }
            method |= matches!(property, Property::Text(Name::AuthenticationMethod, _));
            data |= matches!(property, Property::Bytes(Name::AuthenticationData, _));
            Ok(())
        })?;
        if method {
            return Err(Fault::METHOD);
        }
        if data {
            return Err(Fault::PROTOCOL);
        }
    }
    let client_id = text(&mut body)?;
    let will = if flag(2) {
        let properties = match version {
            Version::V3 => Properties::default(),
            Version::V5 => body.properties()?,
        };
        let topic = text(&mut body)?;
        let payload = body.bytes()?;
        Some(message(Message {
            qos: will_qos,
            retain: flag(5),
            ..plain(topic, payload, properties, &OF_WILL)?
        })?)
    } else {
        None
    };
    let user = if flag(7) {
        Some(text(&mut body)?)
    } else {
        None
    };
    let password = if flag(6) { Some(body.bytes()?) } else { None };
    if !body.is_empty() {
        return Err(Fault::MALFORMED);
    }
    // MQTT 3.1 has no empty client id, 3.1.1 none in a session that is kept [MQTT-3.1.3-8].
    if client_id.is_empty() && version == Version::V3 && (old || !flag(1)) {
        return Err(Fault::CLIENT_ID);
    }
    Ok(Hello {
        version,
        old,
        bridge,
        client_id,
        keep_alive_s,
        will,
        user,
        password,
        packet_bytes_max,
    })
}

/// Whether a number can be what it is; gives the maximum packet size.
fn check_number(name: Name, number: u32) -> Result<Option<u32>, Malformed> {
    let least_1 = [Name::ReceiveMaximum, Name::MaximumPacketSize].contains(&name);
    let flag = [Name::RequestProblem, Name::RequestResponse].contains(&name);
    let fits = !(least_1 && number == 0 || flag && number > 1);
    if !fits {
        return Err(Malformed);
    }
    Ok(Some(number).filter(|_| name == Name::MaximumPacketSize))
}

/// Reads one whole packet of a client that is connected.
pub fn decode(version: Version, packet: &[u8]) -> Result<FromClient<'_>, Fault> {
    let first = packet.first().copied().unwrap_or_default();
    let mut body = Reader(packet.get(head_len(packet)..).unwrap_or_default());
    begins(first)?;
    let kind = first >> 4;
    let v5 = version == Version::V5;
    let packet = match kind {
        3 => FromClient::Publish(publish(&mut body, version, first)?),
        4..=7 => acknowledgement(&mut body, v5, kind)?,
        8 | 10 => {
            let id = id(&mut body)?;
            let mut identifier = false;
            if v5 {
                let allowed: &[Name] = if kind == 8 {
                    &[Name::SubscriptionId]
                } else {
                    &[]
                };
                let mut zero = false;
                body.properties()?.each(allowed, |property| {
                    zero |= identifier || property == Property::Number(Name::SubscriptionId, 0);
                    identifier = true;
                    Ok(())
                })?;
                if zero {
                    return Err(Fault::PROTOCOL);
                }
            }
            let filters = Filters::check(body, version, kind == 8)?;
            body = Reader(&[]);
            if kind == 8 {
                FromClient::Subscribe {
                    id,
                    identifier,
                    filters,
                }
            } else {
                FromClient::Unsubscribe { id, filters }
            }
        }
        12 => FromClient::Ping,
        14 => disconnect(&mut body, v5)?,
        _ => return Err(Fault::PROTOCOL),
    };
    if !body.is_empty() {
        return Err(Fault::MALFORMED);
    }
    Ok(packet)
}

/// A packet id, which is never 0 [MQTT-2.2.1-3].
fn id(body: &mut Reader<'_>) -> Result<u16, Fault> {
    match body.two()? {
        0 => Err(Fault::PROTOCOL),
        id => Ok(id),
    }
}

fn publish<'a>(body: &mut Reader<'a>, version: Version, first: u8) -> Result<Message<'a>, Fault> {
    let qos = first >> 1 & 3;
    // [MQTT-3.3.1-4]; a message with QoS 0 is never a repetition [MQTT-3.3.1-2].
    if qos == 3 || (qos == 0 && first & 8 != 0) {
        return Err(Fault::MALFORMED);
    }
    let topic = text(body)?;
    let id = if qos > 0 { id(body)? } else { 0 };
    let properties = match version {
        Version::V3 => Properties::default(),
        Version::V5 => body.properties()?,
    };
    let payload = body.take(body.0.len())?;
    message(Message {
        qos,
        id,
        retain: first & 1 != 0,
        ..plain(topic, payload, properties, &OF_PUBLISH)?
    })
}

/// A message with what its properties say.
fn plain<'a>(
    topic: &'a str,
    payload: &'a [u8],
    properties: Properties<'a>,
    allowed: &[Name],
) -> Result<Message<'a>, Fault> {
    let (mut alias, mut expiry_s) = (None, None);
    let (mut response, mut correlation) = (None, &[][..]);
    let mut fault = None;
    properties.clone().each(allowed, |property| {
        match property {
            Property::Number(Name::TopicAlias, number) => alias = u16::try_from(number).ok(),
            Property::Number(Name::MessageExpiry, number) => expiry_s = Some(number),
            Property::Number(Name::PayloadFormat, 2..) => fault = Some(Fault::PROTOCOL),
            Property::Text(Name::ResponseTopic, text) => {
                // [MQTT-3.3.2-14]
                if !super::parts::is_topic(text) {
                    fault = Some(Fault::PROTOCOL);
                }
                response = Some(text);
            }
            Property::Bytes(Name::CorrelationData, bytes) => correlation = bytes,
            Property::Number(..) | Property::Text(..) | Property::Bytes(..) | Property::User => {}
        }
        Ok(())
    })?;
    if let Some(fault) = fault {
        return Err(fault);
    }
    Ok(Message {
        topic,
        payload,
        qos: 0,
        retain: false,
        id: 0,
        alias,
        expiry_s,
        respond_to: response.map(|topic| RespondTo { topic, correlation }),
        properties,
    })
}

/// Whether a message can have its topic.
fn message(message: Message<'_>) -> Result<Message<'_>, Fault> {
    if message.alias == Some(0) {
        return Err(Fault::ALIAS);
    }
    if message.topic.is_empty() {
        return if message.alias.is_some() {
            Ok(message)
        } else {
            Err(Fault::PROTOCOL)
        };
    }
    if super::parts::is_topic(message.topic) {
        Ok(message)
    } else {
        Err(Fault::TOPIC)
    }
}

fn acknowledgement<'a>(body: &mut Reader<'a>, v5: bool, kind: u8) -> Result<FromClient<'a>, Fault> {
    let id = id(body)?;
    let mut code = 0;
    if v5 && !body.is_empty() {
        code = body.byte()?;
        let known: &[u8] = match kind {
            4 | 5 => &[0, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99],
            _ => &[0, 0x92],
        };
        if !known.contains(&code) {
            return Err(Fault::PROTOCOL);
        }
        if !body.is_empty() {
            body.properties()?.only(&[Name::ReasonString])?;
        }
    }
    Ok(FromClient::Ack { kind, id, code })
}

fn disconnect<'a>(body: &mut Reader<'a>, v5: bool) -> Result<FromClient<'a>, Fault> {
    let mut code = 0;
    if v5 && !body.is_empty() {
        code = body.byte()?;
        if !OF_CLIENTS_DISCONNECT.contains(&code) {
            return Err(Fault::PROTOCOL);
        }
        if !body.is_empty() {
            let allowed = [Name::SessionExpiry, Name::ReasonString];
            body.properties()?.only(&allowed)?;
        }
    }
    Ok(FromClient::Disconnect { code })
}

/// Why a client may leave [MQTT-3.14.2.1].
const OF_CLIENTS_DISCONNECT: [u8; 14] = [
    0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99,
];

const OF_CONNECT: [Name; 8] = [
    Name::SessionExpiry,
    Name::ReceiveMaximum,
    Name::MaximumPacketSize,
    Name::TopicAliasMaximum,
    Name::RequestResponse,
    Name::RequestProblem,
    Name::AuthenticationMethod,
    Name::AuthenticationData,
];

const OF_WILL: [Name; 6] = [
    Name::WillDelay,
    Name::PayloadFormat,
    Name::MessageExpiry,
    Name::ContentType,
    Name::ResponseTopic,
    Name::CorrelationData,
];

const OF_PUBLISH: [Name; 6] = [
    Name::PayloadFormat,
    Name::MessageExpiry,
    Name::TopicAlias,
    Name::ResponseTopic,
    Name::CorrelationData,
    Name::ContentType,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_known_before_the_packet_is_whole() {
        for (bytes, expected) in [
            (&[][..], Ok(None)),
            (&[0x30], Ok(None)),
            (&[0x30, 0x80], Ok(None)),
            (&[0x30, 0x80, 0x80, 0x80], Ok(None)),
            (&[0x30, 3, 0], Ok(Some(5))),
            (&[0x30, 0x80, 1], Ok(Some(131))),
            (&[0x30, 0xff, 0x7f], Err(Fault::TOO_LARGE)),
            (&[0x30, 0x80, 0x80, 0x80, 0x80], Err(Fault::MALFORMED)),
        ] {
            assert_eq!(length(bytes, 1000), expected, "{bytes:?}");
        }
    }

    #[test]
    fn a_message_says_what_it_is() {
        let packet =
            b"\x35\x1c\0\x03a/b\0\x07\x12\x02\0\0\0\x09\x08\0\x01r\x09\0\x01c\x23\0\x02\x01\x01xx";
        let Ok(FromClient::Publish(message)) = decode(Version::V5, packet) else {
            panic!();
        };
        assert_eq!((message.topic, message.payload), ("a/b", &b"xx"[..]));
        assert_eq!((message.qos, message.retain, message.id), (2, true, 7));
        assert_eq!((message.alias, message.expiry_s), (Some(2), Some(9)));
        let to = RespondTo {
            topic: "r",
            correlation: b"c",
        };
        assert_eq!(message.respond_to, Some(to));
    }

    #[test]
    fn filters_come_with_their_options() {
        let packet = b"\x82\x0d\0\x07\0\0\x01a\x2c\0\x03b/#\x00";
        let Ok(FromClient::Subscribe { id, filters, .. }) = decode(Version::V5, packet) else {
            panic!();
        };
        let wanted: Vec<_> = filters.collect();
        assert_eq!((id, wanted.len()), (7, 2));
        let first = wanted[0];
        assert_eq!(
            (first.filter, first.qos(), first.retain_handling()),
            ("a", 0, 2)
        );
        assert!(first.no_local() && first.retain_as_published());
        assert_eq!(wanted[1].filter, "b/#");
    }

    /// Each wrong packet, in which version, and its reason code.
    #[test]
    fn what_is_wrong_has_its_reason_code() {
        for (version, packet, code) in [
            (Version::V3, &b"\x36\x05\0\x01a\0\x01"[..], 0x81),
            (Version::V3, b"\x38\x03\0\x01a", 0x81),
            (Version::V3, b"\x32\x05\0\x01a\0\0", 0x82),
            (Version::V3, b"\x30\x03\0\x01#", 0x90),
            (Version::V3, b"\x30\x02\0\0", 0x82),
            (Version::V3, b"\x30\x03\0\x01\xff", 0x81),
            (Version::V3, b"\x82\x06\0\x01\0\x01a\x04", 0x81),
            (Version::V3, b"\x62\x03\0\x01\0", 0x81),
            (Version::V3, b"\xe0\x01\0", 0x81),
            (Version::V5, b"\x30\x04\0\x01a\x01", 0x81),
            (Version::V5, b"\x82\x09\0\x01\x02\x0b\0\0\x01a\0", 0x82),
            (Version::V5, b"\x40\x04\0\x01\0\x01", 0x81),
            (Version::V5, b"\xf0\x00", 0x82),
            (Version::V5, b"\x10\x00", 0x82),
        ] {
            assert_eq!(decode(version, packet), Err(Fault(code)), "{packet:02x?}");
        }
    }
}
