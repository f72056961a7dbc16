//! What packets of both versions are made of: how long one is, what it means to a session, and the few that
//! look the same in both.

/// A version of MQTT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Version {
    /// MQTT 3.1.1.
    #[default]
    V3,
    /// MQTT 5.
    V5,
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Version::V3 => "MQTT 3.1.1",
            Version::V5 => "MQTT 5",
        })
    }
}

/// Bytes from a peer that are not MQTT as used here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// Longer than we buffer.
    #[error("a packet of {found} bytes, more than {max}")]
    TooLarge {
        /// Its whole length in bytes.
        found: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// A web server's answer, where MQTT was expected.
    #[error(
        "an HTTP answer: this port is for WebSocket or web pages; write ws:// before the address, or give the port for MQTT"
    )]
    Http,
    /// A record of TLS, where MQTT was expected.
    #[error("a TLS record: this port is encrypted; write mqtts:// (or wss://) before the address")]
    Tls,
    /// Not as the standard says.
    #[error("a malformed {} (first byte 0x{first:02x})", packet_name(*first))]
    Malformed {
        /// The first byte of the packet.
        first: u8,
    },
    /// A topic alias, though none was allowed [MQTT-3.1.2-27].
    #[error("a topic alias, though none was allowed")]
    TopicAlias,
    /// A challenge of an authentication method [MQTT-3.15].
    #[error("an AUTH packet: it wants a method of authentication that is not supported here")]
    Auth,
}

fn packet_name(first: u8) -> &'static str {
    match first >> 4 {
        1 => "CONNECT",
        2 => "CONNACK",
        3 => "PUBLISH",
        4 => "PUBACK",
        5 => "PUBREC",
        6 => "PUBREL",
        7 => "PUBCOMP",
        8 => "SUBSCRIBE",
        9 => "SUBACK",
        10 => "UNSUBSCRIBE",
        11 => "UNSUBACK",
        12 => "PINGREQ",
        13 => "PINGRESP",
        14 => "DISCONNECT",
        15 => "AUTH",
        _ => "packet",
    }
}

/// What a broker sends.
#[derive(Debug, PartialEq)]
pub enum Inbound<'a> {
    /// The answer to CONNECT.
    ConnAck(ConnAck<'a>),
    /// A message.
    Publish(InPublish<'a>),
    /// The answer to SUBSCRIBE.
    SubAck {
        /// The reason code of the first filter that was refused; `None` where all were taken.
        refused: Option<u8>,
        /// Which SUBSCRIBE it answers.
        id: u16,
    },
    /// The answer to UNSUBSCRIBE.
    UnsubAck,
    /// The answer to PINGREQ.
    PingResp,
    /// The broker ends the session, and says why (MQTT 5).
    Disconnect(Reason<'a>),
    /// Something a broker may send, and that we need not look at.
    Other,
}

/// A broker's last words (MQTT 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reason<'a> {
    /// The reason code.
    pub code: u8,
    /// The reason in the broker's own words; empty where it gives none.
    pub reason: &'a str,
    /// The broker to go to instead; empty where it names none.
    pub server: &'a str,
}

/// The answer to CONNECT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ConnAck<'a> {
    /// Which version's form it has: a broker that knows 3.1.1 only answers in that form to MQTT 5.
    pub form: Version,
    /// 0, or why not, with what the broker says of it.
    pub farewell: Reason<'a>,
    /// What the broker allows.
    pub server_limits: ServerLimits,
}

/// The limits of a broker; the default applies if it does not announce them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerLimits {
    /// The longest packet that it takes, in bytes.
    pub packet_bytes_max: Option<u32>,
    /// The highest topic alias; 0: none.
    pub aliases_max: u16,
    /// The ping interval in seconds, in place of ours; 0: none.
    pub ping_s: Option<u16>,
    /// Whether it retains messages.
    pub retain: bool,
    /// Whether filters may have wildcards.
    pub wildcards: bool,
    /// Whether it has shared subscriptions.
    pub shared: bool,
}

impl Default for ServerLimits {
    fn default() -> ServerLimits {
        ServerLimits {
            packet_bytes_max: None,
            aliases_max: 0,
            ping_s: None,
            retain: true,
            wildcards: true,
            shared: true,
        }
    }
}

/// A message from the broker, borrowed from the read buffer; the payload is ours to rewrite.
#[derive(Debug, PartialEq)]
pub struct InPublish<'a> {
    /// Its topic.
    pub topic: &'a str,
    /// Its payload.
    pub payload: &'a mut [u8],
    /// Whether the broker had it in store when we subscribed [MQTT-3.3.1-8].
    pub retain: bool,
    /// Which PUBACK the broker waits for; `None` with QoS 0.
    pub id: Option<u16>,
    /// Where an answer is expected (MQTT 5).
    pub respond_to: Option<RespondTo<'a>>,
}

/// Where, and with what, a request wants to be answered (MQTT 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RespondTo<'a> {
    /// The response topic, whatever the client made it.
    pub topic: &'a str,
    /// The correlation data.
    pub correlation: &'a [u8],
}

/// What CONNECT says [MQTT-3.1].
#[derive(Debug, Clone)]
pub struct Connect<'a> {
    /// The client id.
    pub client_id: &'a str,
    /// User and password.
    pub login: Option<(&'a str, &'a str)>,
    /// The ping interval, in seconds.
    pub ping_s: u16,
    /// Topic and payload that the broker publishes when we are lost.
    pub will: Option<(&'a str, &'a [u8])>,
    /// Whether the will is neither retained nor of QoS 1, for a broker that takes neither.
    pub plain_will: bool,
    /// The longest packet that we take (MQTT 5).
    pub packet_bytes_max: u32,
    /// For how many seconds the session outlives a lost connection, and the will waits (MQTT 5).
    pub kept_s: u32,
    /// Whether an earlier session is ended, and its will published if that waits (MQTT 5).
    pub clean_start: bool,
}

impl Connect<'_> {
    /// How the will is published.
    pub(super) fn will_qos(&self) -> mqttbytes::QoS {
        if self.plain_will {
            mqttbytes::QoS::AtMostOnce
        } else {
            mqttbytes::QoS::AtLeastOnce
        }
    }
}

/// The longest packet that a broker is to send us: with MQTT 5 it keeps longer ones to itself. What is
/// shorter, but longer than we buffer, is skipped (§4.14), so that what is read back of ours may have
/// this length too (§4.9).
pub const SENT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The length of the packet that `bytes` begin with, `None` where too few are there to tell or the
/// packet is not whole. Refuses what is longer than `max` before it is all there.
pub fn packet_len(bytes: &[u8], max: usize) -> Result<Option<usize>, PacketError> {
    let Some((&first, _)) = bytes.split_first() else {
        return Ok(None);
    };
    // No broker begins a packet so: CONNECT, and flags that PUBACK does not have.
    match first {
        HTTP if bytes.starts_with(b"HTTP/") => return Err(PacketError::Http),
        ALERT | HANDSHAKE if matches!(bytes, [_, 3, 1..=4, ..]) => {
            return Err(PacketError::Tls);
        }
        _ => {}
    }
    match mqttbytes::check(bytes.iter(), max) {
        Ok(header) => Ok(Some(header.frame_length())),
        Err(mqttbytes::Error::InsufficientBytes(_)) => Ok(None),
        Err(mqttbytes::Error::PayloadSizeLimitExceeded(remaining)) => {
            let found = remaining.saturating_add(head_len(bytes));
            Err(PacketError::TooLarge { found, max })
        }
        Err(_) => Err(PacketError::Malformed { first }),
    }
}

/// What of a message that is too large for us is of interest all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beginning<'a> {
    /// Its topic.
    pub topic: &'a str,
    /// Whether the broker had it in store when we subscribed.
    pub retain: bool,
    /// Which PUBACK the broker waits for; `None` with QoS 0.
    pub id: Option<u16>,
}

/// Reads the beginning of a PUBLISH, which is the same in both versions. `None` where it is not there
/// yet.
pub fn beginning(bytes: &[u8]) -> Result<Option<Beginning<'_>>, PacketError> {
    let first = bytes.first().copied().unwrap_or_default();
    let malformed = PacketError::Malformed { first };
    let qos = (first >> 1) & 3;
    if first >> 4 != 3 || qos > 1 {
        return Err(malformed);
    }
    let body = bytes.get(head_len(bytes)..).unwrap_or_default();
    let Some((length, body)) = body.split_first_chunk::<2>() else {
        return Ok(None);
    };
    let Some((topic, body)) = body.split_at_checked(u16::from_be_bytes(*length).into()) else {
        return Ok(None);
    };
    let id = match (qos, body.first_chunk::<2>()) {
        (0, _) => None,
        (_, Some(id)) => Some(u16::from_be_bytes(*id)),
        (_, None) => return Ok(None),
    };
    match std::str::from_utf8(topic) {
        Ok(topic) if is_topic(topic) => Ok(Some(Beginning {
            topic,
            retain: first & 1 != 0,
            id,
        })),
        Ok(_) | Err(_) => Err(malformed),
    }
}

/// How many bytes of a packet stand before its body: first byte and remaining length.
pub(super) fn head_len(packet: &[u8]) -> usize {
    let lengths = packet.iter().skip(1).take(4);
    lengths.take_while(|&&byte| byte & 0x80 != 0).count() + 2
}

/// Whether text is a topic that a message can have [MQTT-3.3.2-2].
pub fn is_topic(text: &str) -> bool {
    !text.is_empty() && !text.contains(['+', '#', '\0'])
}

/// Writes PUBACK; both versions have the same where all is well.
pub fn write_puback(out: &mut Vec<u8>, id: u16) {
    let [high, low] = id.to_be_bytes();
    out.extend_from_slice(&[0x40, 2, high, low]);
}

/// Writes PINGREQ.
pub fn write_pingreq(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0xc0, 0]);
}

/// Writes DISCONNECT as a client that is done.
pub fn write_disconnect(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0xe0, 0]);
}

/// Writes a packet whose body is about that long.
///
/// The remaining length stands before the body and takes one to four bytes: one is left for a body
/// that promises to be short enough, and the body is moved where that was wrong.
#[inline]
pub(super) fn frame(
    out: &mut Vec<u8>,
    first: u8,
    body_bytes_usual: usize,
    body: impl FnOnce(&mut Vec<u8>),
) {
    let guess = if body_bytes_usual < 128 { 1 } else { 2 };
    let start = out.len();
    let head = [first, 0, 0];
    out.extend_from_slice(head.get(..=guess).unwrap_or(&head));
    body(out);
    set_length(out, start, guess);
}

/// Sets the remaining length of the packet that begins at `start` and ends with the buffer, which
/// has `guess` bytes for it.
#[inline]
pub(super) fn set_length(out: &mut Vec<u8>, start: usize, guess: usize) {
    let remaining = out.len() - start - 1 - guess;
    if guess == 1
        && let Some(length) = u8::try_from(remaining).ok().filter(|&length| length < 128)
        && let Some(place) = out.get_mut(start + 1)
    {
        *place = length;
        return;
    }
    let (length, used) = variable(remaining);
    let length = length.get(..used).unwrap_or_default();
    if used == guess {
        if let Some(place) = out.get_mut(start + 1..start + 1 + used) {
            place.copy_from_slice(length);
        }
    } else {
        out.splice(start + 1..start + 1 + guess, length.iter().copied());
    }
}

/// A length as it stands in a packet [MQTT-2.2.3], and how many bytes of it count.
pub(super) fn variable(mut length: usize) -> ([u8; 4], usize) {
    let mut bytes = [0; 4];
    let mut used = 0;
    for byte in &mut bytes {
        used += 1;
        *byte = u8::try_from(length & 0x7f).unwrap_or_default();
        length >>= 7;
        if length == 0 {
            break;
        }
        *byte |= 0x80;
    }
    (bytes, used)
}

/// Has mqttbytes write a packet. Into a separate buffer: it writes a CONNECT wrong into one that
/// is not empty.
pub(super) fn append<E>(
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut bytes::BytesMut) -> Result<usize, E>,
) {
    let mut buffer = bytes::BytesMut::new();
    // It fails for packet id 0 and lengths beyond the protocol, neither of which we make.
    if write(&mut buffer).is_ok() {
        out.extend_from_slice(&buffer);
    }
}

/// `H`, with which a web server's answer begins.
const HTTP: u8 = b'H';
/// With which an alert of TLS begins: what it answers to a CONNECT.
const ALERT: u8 = 0x15;
/// With which TLS begins.
const HANDSHAKE: u8 = 0x16;

/// `{"value": }` around a number of usual length.
pub(super) const PAYLOAD_BYTES_USUAL: usize = 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_known_before_the_packet_is_whole() {
        assert_eq!(packet_len(&[], 100), Ok(None));
        assert_eq!(packet_len(&[0x30], 100), Ok(None));
        assert_eq!(packet_len(&[0x30, 0x80], 100), Ok(None));
        assert_eq!(packet_len(&[0x30, 50, 1], 100), Ok(None));
        assert!(matches!(
            packet_len(&[0x30, 0xff, 0x7f], 100),
            Err(PacketError::TooLarge { .. })
        ));
        assert!(matches!(
            packet_len(&[0x30, 0xff, 0xff, 0xff, 0xff, 1], 100),
            Err(PacketError::Malformed { .. })
        ));
    }

    #[test]
    fn s4_14_the_whole_length_of_what_is_too_large_is_known() {
        for (head, found) in [
            (&[0x30, 0xff, 0x7f][..], 16_386),
            (&[0x32, 0x80, 0x80, 1], 16_388),
        ] {
            let max = 100;
            assert_eq!(
                packet_len(head, max),
                Err(PacketError::TooLarge { found, max })
            );
        }
    }

    #[test]
    fn s4_14_the_beginning_of_a_message_says_what_it_is() {
        let bytes = b"\x33\x80\x80\x01\0\x05N/x/a\0\x07{...";
        let whole = Beginning {
            topic: "N/x/a",
            retain: true,
            id: Some(7),
        };
        for length in 0..13 {
            let found = beginning(&bytes[..length]);
            assert_eq!(found.unwrap_or(None), None, "{length}");
        }
        assert_eq!(beginning(bytes), Ok(Some(whole)));
        let plain = Beginning {
            retain: false,
            id: None,
            ..whole
        };
        assert_eq!(beginning(b"\x30\x80\x80\x01\0\x05N/x/a"), Ok(Some(plain)));
        for wrong in [
            &b"\x20\x80\x80\x01\0\x05N/x/a\0\x07"[..],
            b"\x34\x80\x80\x01\0\x05N/x/a\0\x07",
            b"\x30\x80\x80\x01\0\x05N/x/#",
            b"\x30\x80\x80\x01\0\x05N/x/\xff",
        ] {
            assert!(beginning(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn s6_http_and_tls_are_known_by_their_first_bytes() {
        let answer = b"HTTP/1.1 400 Bad Request\r\n\r\n";
        assert_eq!(packet_len(answer, 1000), Err(PacketError::Http));
        let alert = [0x15, 3, 1, 0, 2, 2, 70];
        assert_eq!(packet_len(&alert, 1000), Err(PacketError::Tls));
        assert_eq!(
            packet_len(&[0x16, 3, 3, 0, 80], 1000),
            Err(PacketError::Tls)
        );
        for text in [PacketError::Http.to_string(), PacketError::Tls.to_string()] {
            assert!(text.contains("s://"), "{text}");
        }
    }

    #[test]
    fn an_error_names_the_packet() {
        let text = PacketError::Malformed { first: 0x22 }.to_string();
        assert_eq!(text, "a malformed CONNACK (first byte 0x22)");
    }
}
