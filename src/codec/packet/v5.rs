//! MQTT 5.
//!
//! CONNECT, SUBSCRIBE and UNSUBSCRIBE are written by mqttbytes. All that is read is read here, and
//! PUBLISH and DISCONNECT are written here. Where mqttbytes reads MQTT 5 it is not sound: a
//! DISCONNECT without properties, or with nothing at all, is an error to it; an AUTH it does not
//! know; an answer in the form of 3.1.1 is an error too; bytes behind the end of a packet's content,
//! reserved flags and what comes twice are all the same to it (see `properties`).

use mqttbytes::QoS;
use mqttbytes::v5;

use super::parts::{
    ConnAck, Connect, InPublish, Inbound, PAYLOAD_BYTES_USUAL, PacketError, Reason, RespondTo,
    ServerLimits, Version, append, frame, head_len, is_topic, variable,
};
use super::properties::{Malformed, Name, Property, Reader};

/// Reads one whole packet.
pub fn decode(packet: &mut [u8]) -> Result<Inbound<'_>, PacketError> {
    let first = packet.first().copied().unwrap_or_default();
    let malformed = PacketError::Malformed { first };
    let head = head_len(packet);
    if first >> 4 == 3 {
        return match packet
            .get_mut(head..)
            .map(|body| decode_publish(body, first))
        {
            Some(Ok(Ok(publish))) => Ok(Inbound::Publish(publish)),
            Some(Ok(Err(error))) => Err(error),
            Some(Err(Malformed)) | None => Err(malformed),
        };
    }
    // What is reserved must be as the standard has it [MQTT-2.1.3-1].
    let Some(body) = packet.get(head..).filter(|_| first << 4 == 0) else {
        return Err(malformed);
    };
    let mut body = Reader(body);
    let inbound = match first >> 4 {
        2 => conn_ack(&mut body),
        4 | 5 | 7 => acknowledgement(&mut body),
        9 => body_of_acks(&mut body).map(|(id, refused)| Inbound::SubAck { refused, id }),
        11 => body_of_acks(&mut body).map(|_| Inbound::UnsubAck),
        13 => Ok(Inbound::PingResp),
        14 => farewell(&mut body).map(Inbound::Disconnect),
        15 => return Err(PacketError::Auth),
        _ => Err(Malformed),
    };
    match inbound {
        Ok(inbound) if body.is_empty() => Ok(inbound),
        Ok(_) | Err(Malformed) => Err(malformed),
    }
}

fn conn_ack<'a>(body: &mut Reader<'a>) -> Result<Inbound<'a>, Malformed> {
    let flags = body.byte()?;
    let code = body.byte()?;
    if flags > 1 {
        return Err(Malformed);
    }
    let mut ack = ConnAck {
        form: Version::V5,
        farewell: Reason {
            code,
            ..Reason::default()
        },
        ..ConnAck::default()
    };
    if body.is_empty() {
        // No place for properties: the form of 3.1.1, or of a broker that is short of words.
        if code < 0x80 {
            ack.form = Version::V3;
        }
        return Ok(Inbound::ConnAck(ack));
    }
    let (farewell, server_limits) = (&mut ack.farewell, &mut ack.server_limits);
    body.properties()?.each(&OF_CONNACK, |property| {
        match property {
            Property::Number(name, number) => take_limit(server_limits, name, number)?,
            Property::Text(Name::ReasonString, text) => farewell.reason = text,
            Property::Text(Name::ServerReference, text) => farewell.server = text,
            Property::Text(..) | Property::Bytes(..) | Property::User => {}
        }
        Ok(())
    })?;
    Ok(Inbound::ConnAck(ack))
}

fn take_limit(server_limits: &mut ServerLimits, name: Name, number: u32) -> Result<(), Malformed> {
    let flag = || match number {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Malformed),
    };
    let two = || u16::try_from(number).map_err(|_| Malformed);
    #[allow(
        clippy::wildcard_enum_match_arm,
        reason = "the rest says nothing to us"
    )]
    match name {
        // Our messages have QoS 0, to which it does not apply.
        Name::ReceiveMaximum => drop(Some(two()?).filter(|&n| n > 0).ok_or(Malformed)?),
        Name::MaximumPacketSize => {
            server_limits.packet_bytes_max =
                Some(Some(number).filter(|&n| n > 0).ok_or(Malformed)?);
        }
        Name::TopicAliasMaximum => server_limits.aliases_max = two()?,
        Name::ServerKeepAlive => server_limits.ping_s = Some(two()?),
        Name::MaximumQos => drop(flag()?),
        Name::RetainAvailable => server_limits.retain = flag()?,
        Name::WildcardSubscriptions => server_limits.wildcards = flag()?,
        Name::SharedSubscriptions => server_limits.shared = flag()?,
        Name::SubscriptionIds => {
            flag()?;
        }
        _ => {}
    }
    Ok(())
}

/// PUBACK, PUBREC, PUBCOMP: we sent nothing that they answer.
fn acknowledgement<'a>(body: &mut Reader<'a>) -> Result<Inbound<'a>, Malformed> {
    body.two()?;
    if !body.is_empty() {
        body.byte()?;
    }
    if !body.is_empty() {
        body.properties()?.only(&[Name::ReasonString])?;
    }
    Ok(Inbound::Other)
}

/// Of SUBACK and UNSUBACK: what they answer, and the first refusal.
fn body_of_acks(body: &mut Reader<'_>) -> Result<(u16, Option<u8>), Malformed> {
    let id = body.two()?;
    body.properties()?.only(&[Name::ReasonString])?;
    let codes = body.take(body.0.len())?;
    if id == 0 || codes.is_empty() {
        return Err(Malformed);
    }
    Ok((id, codes.iter().copied().find(|&code| code >= 0x80)))
}

fn farewell<'a>(body: &mut Reader<'a>) -> Result<Reason<'a>, Malformed> {
    let mut farewell = Reason::default();
    // Both may be left out [MQTT-3.14.2.1, MQTT-3.14.2.2.1].
    if !body.is_empty() {
        farewell.code = body.byte()?;
    }
    if !body.is_empty() {
        let allowed = [
            Name::SessionExpiry,
            Name::ReasonString,
            Name::ServerReference,
        ];
        body.properties()?.each(&allowed, |property| {
            match property {
                Property::Text(Name::ReasonString, text) => farewell.reason = text,
                Property::Text(Name::ServerReference, text) => farewell.server = text,
                Property::Number(..)
                | Property::Text(..)
                | Property::Bytes(..)
                | Property::User => {}
            }
            Ok(())
        })?;
    }
    Ok(farewell)
}

type Publish<'a> = Result<InPublish<'a>, PacketError>;

fn decode_publish(body: &mut [u8], first: u8) -> Result<Publish<'_>, Malformed> {
    // The payload begins where the properties end, and is handed out for writing.
    let mut reader = Reader(body);
    reader.bytes()?;
    let qos = (first >> 1) & 3;
    // We subscribe with QoS 1, so that QoS 2 cannot come [MQTT-3.8.4-8]; a message with QoS 0 is
    // never a repetition [MQTT-3.3.1-2].
    if qos > 1 || (qos == 0 && first & 0x08 != 0) {
        return Err(Malformed);
    }
    if qos > 0 {
        reader.two()?;
    }
    reader.properties()?;
    let head = body.len() - reader.0.len();
    let (head, payload) = body.split_at_mut_checked(head).ok_or(Malformed)?;

    let mut reader = Reader(head);
    let topic = reader.text()?;
    let id = if qos > 0 {
        Some(Some(reader.two()?).filter(|&id| id > 0).ok_or(Malformed)?)
    } else {
        None
    };
    let (mut response, mut correlation, mut alias) = (None, &[][..], false);
    reader.properties()?.each(&OF_PUBLISH, |property| {
        match property {
            Property::Text(Name::ResponseTopic, text) => response = Some(text),
            Property::Bytes(Name::CorrelationData, bytes) => correlation = bytes,
            Property::Number(Name::TopicAlias, _) => alias = true,
            Property::Number(Name::SubscriptionId, 0) => return Err(Malformed),
            Property::Number(..) | Property::Text(..) | Property::Bytes(..) | Property::User => {}
        }
        Ok(())
    })?;
    if alias {
        return Ok(Err(PacketError::TopicAlias));
    }
    if !is_topic(topic) {
        return Err(Malformed);
    }
    Ok(Ok(InPublish {
        topic,
        payload,
        retain: first & 1 != 0,
        id,
        respond_to: response.map(|topic| RespondTo { topic, correlation }),
    }))
}

const OF_CONNACK: [Name; 16] = [
    Name::SessionExpiry,
    Name::ReceiveMaximum,
    Name::MaximumQos,
    Name::RetainAvailable,
    Name::MaximumPacketSize,
    Name::AssignedClientId,
    Name::TopicAliasMaximum,
    Name::ReasonString,
    Name::WildcardSubscriptions,
    Name::SubscriptionIds,
    Name::SharedSubscriptions,
    Name::ServerKeepAlive,
    Name::ResponseInformation,
    Name::ServerReference,
    Name::AuthenticationMethod,
    Name::AuthenticationData,
];

const OF_PUBLISH: [Name; 7] = [
    Name::PayloadFormat,
    Name::MessageExpiry,
    Name::TopicAlias,
    Name::ResponseTopic,
    Name::CorrelationData,
    Name::SubscriptionId,
    Name::ContentType,
];

/// Writes CONNECT.
pub fn write_connect(out: &mut Vec<u8>, connect: &Connect<'_>) {
    let mut packet = v5::Connect::new(connect.client_id);
    packet.keep_alive = connect.ping_s;
    packet.clean_session = connect.clean_start;
    let kept_s = Some(connect.kept_s).filter(|kept_s| *kept_s > 0);
    // Without a session expiry the session ends with the connection, and without a topic alias
    // maximum the broker may use none.
    packet.properties = Some(v5::ConnectProperties {
        session_expiry_interval: kept_s,
        receive_maximum: None,
        max_packet_size: Some(connect.packet_bytes_max),
        topic_alias_max: None,
        request_response_info: None,
        request_problem_info: None,
        user_properties: Vec::new(),
        authentication_method: None,
        authentication_data: None,
    });
    let qos = connect.will_qos();
    packet.last_will = connect.will.map(|(topic, payload)| {
        let mut will = v5::LastWill::new(topic, payload, qos, !connect.plain_will);
        // Without properties it goes out at once. It never expires.
        will.properties = kept_s.map(|kept_s| v5::WillProperties {
            delay_interval: Some(kept_s),
            payload_format_indicator: None,
            message_expiry_interval: None,
            content_type: None,
            response_topic: None,
            correlation_data: None,
            user_properties: Vec::new(),
        });
        will
    });
    if let Some((user, password)) = connect.login {
        packet.set_login(user, password);
    }
    append(out, |buffer| packet.write(buffer));
}

/// What a subscription wants besides messages that match [MQTT-3.8.3.1].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// What the broker has in store: without it only what comes from now on.
    pub stored: bool,
    /// What we publish ourselves is left out (no local).
    pub others_only: bool,
    /// A message has the retain flag that its sender gave it (retain as published).
    pub retain_flag: bool,
}

/// Writes SUBSCRIBE. With QoS 1 what a client sends with QoS 0 comes with QoS 0 all the same; with QoS 0 the
/// broker keeps nothing for us while we are away.
pub fn write_subscribe(out: &mut Vec<u8>, id: u16, filters: &[String], qos: QoS, options: Options) {
    let filters = filters.iter().map(|filter| {
        let mut filter = v5::SubscribeFilter::new(filter.clone(), qos);
        if !options.stored {
            filter.retain_forward_rule = v5::RetainForwardRule::Never;
        }
        filter.nolocal = options.others_only;
        filter.preserve_retain = options.retain_flag;
        filter
    });
    let mut packet = v5::Subscribe::new_many(filters);
    packet.pkid = id;
    append(out, |buffer| packet.write(buffer));
}

/// Writes UNSUBSCRIBE.
pub fn write_unsubscribe(out: &mut Vec<u8>, id: u16, filter: &str) {
    let mut packet = v5::Unsubscribe::new(filter);
    packet.pkid = id;
    append(out, |buffer| packet.write(buffer));
}

/// Writes DISCONNECT as a client that is done, and whose session is not to be kept.
pub fn write_disconnect_for_good(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0xe0, 7, 0, 5, 0x11, 0, 0, 0, 0]);
}

/// Writes DISCONNECT with the reason for which we give a broker up. It publishes our will then.
pub fn write_disconnect(out: &mut Vec<u8>, code: u8) {
    out.extend_from_slice(&[0xe0, 1, code]);
}

/// What a PUBLISH says besides topic and payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Extra {
    /// Whether the broker keeps it.
    pub retain: bool,
    /// A number for the topic, and whether the broker knows already which topic it stands for: then
    /// the topic is left out.
    pub alias: Option<(u16, bool)>,
    /// After how many seconds the broker is to forget it.
    pub expiry_s: Option<u32>,
}

/// Writes a PUBLISH with QoS 0. The topic comes in parts, and `payload` writes behind what is there.
#[inline]
pub fn write_publish(
    out: &mut Vec<u8>,
    extra: Extra,
    topic: &[&[u8]; 3],
    payload: impl FnOnce(&mut Vec<u8>),
) {
    let known = matches!(extra.alias, Some((_, true)));
    let topic_len: usize = if known {
        0
    } else {
        topic.iter().map(|part| part.len()).sum()
    };
    let properties =
        if extra.alias.is_some() { 3 } else { 0 } + if extra.expiry_s.is_some() { 5 } else { 0 };
    let usual = 2 + topic_len + 1 + usize::from(properties) + PAYLOAD_BYTES_USUAL;
    frame(out, 0x30 | u8::from(extra.retain), usual, |out| {
        let length = u16::try_from(topic_len).unwrap_or(u16::MAX);
        out.extend_from_slice(&length.to_be_bytes());
        if !known {
            for part in topic {
                out.extend_from_slice(part);
            }
        }
        out.push(properties);
        if let Some(expiry_s) = extra.expiry_s {
            out.push(2);
            out.extend_from_slice(&expiry_s.to_be_bytes());
        }
        if let Some((alias, _)) = extra.alias {
            out.push(35);
            out.extend_from_slice(&alias.to_be_bytes());
        }
        payload(out);
    });
}

/// Writes a PUBLISH with QoS 0 that says what its payload is.
pub fn write_publish_as(out: &mut Vec<u8>, content_type: &str, topic: &[&[u8]; 3], payload: &[u8]) {
    let two = |length: usize| u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
    let topic_len: usize = topic.iter().map(|part| part.len()).sum();
    let properties = 3 + content_type.len();
    let (length, used) = variable(properties);
    let usual = 2 + topic_len + used + properties + payload.len();
    frame(out, 0x30, usual, |out| {
        out.extend_from_slice(&two(topic_len));
        for part in topic {
            out.extend_from_slice(part);
        }
        out.extend_from_slice(length.get(..used).unwrap_or_default());
        out.push(3);
        out.extend_from_slice(&two(content_type.len()));
        out.extend_from_slice(content_type.as_bytes());
        out.extend_from_slice(payload);
    });
}

/// Writes the answer to a request, as a PUBLISH with QoS 0. The correlation data comes back as it
/// came; none is none.
pub fn write_response(out: &mut Vec<u8>, to: RespondTo<'_>, payload: impl FnOnce(&mut Vec<u8>)) {
    let [high, low] = u16::try_from(to.topic.len())
        .unwrap_or(u16::MAX)
        .to_be_bytes();
    let data_len = u16::try_from(to.correlation.len()).unwrap_or(u16::MAX);
    let properties = if data_len == 0 {
        0
    } else {
        3 + usize::from(data_len)
    };
    let usual = 4 + to.topic.len() + properties + PAYLOAD_BYTES_USUAL;
    frame(out, 0x30, usual, |out| {
        out.extend_from_slice(&[high, low]);
        out.extend_from_slice(to.topic.as_bytes());
        let (length, used) = variable(properties);
        out.extend_from_slice(length.get(..used).unwrap_or_default());
        if data_len > 0 {
            out.push(9);
            out.extend_from_slice(&data_len.to_be_bytes());
            out.extend_from_slice(to.correlation);
        }
        payload(out);
    });
}

#[cfg(test)]
mod tests;
