#![allow(clippy::disallowed_methods)] // any moment will do

use super::*;

use crate::codec::packet::{ConnAck, QoS};

fn config(reads_back: bool) -> SessionConfig {
    SessionConfig {
        version: Version::V3,
        client_id: "c".into(),
        login: None,
        ping: Duration::from_secs(30),
        will_topic: "N/x/bridge/status".into(),
        will_payload: b"off".to_vec(),
        subscribe_qos: QoS::AtLeastOnce,
        plain_will: false,
        kept: Duration::ZERO,
        clean_start: true,
        is_reconnect: false,
        packet_bytes_max: 1 << 17,
        request_filters: vec!["R/x/#".into(), "W/x/#".into()],
        retained_filters: reads_back.then(|| "N/x/#".into()).into_iter().collect(),
        notice_filters: Vec::new(),
        watch_filter: "N/x/#".into(),
        online_payload: b"{}".to_vec(),
    }
}

fn conn_ack(form: Version, code: u8) -> ConnAck<'static> {
    ConnAck {
        form,
        farewell: Reason {
            code,
            ..Reason::default()
        },
        ..ConnAck::default()
    }
}

fn connected(reads_back: bool, now: Instant) -> (Session, Vec<u8>) {
    connected_as(config(reads_back), conn_ack(Version::V3, 0), now)
}

fn connected_as(config: SessionConfig, ack: ConnAck<'static>, now: Instant) -> (Session, Vec<u8>) {
    let mut out = Vec::new();
    let mut session = Session::open(config, now, &mut out);
    assert_eq!(out[0] >> 4, 1);
    out.clear();
    assert_eq!(
        session
            .receive(now, Inbound::ConnAck(ack), &mut out)
            .unwrap(),
        Event::None
    );
    assert_eq!(out[0] >> 4, 8);
    assert!(!session.is_connected());
    out.clear();
    let ack = Inbound::SubAck {
        refused: None,
        id: REQUESTS_ID,
    };
    assert_eq!(
        session.receive(now, ack, &mut out).unwrap(),
        Event::Connected
    );
    assert!(session.is_connected());
    (session, out)
}

#[test]
fn s4_9_what_is_retained_is_read_back_first() {
    let start = Instant::now();
    let (mut session, mut out) = connected(true, start);
    assert_eq!((out[0] >> 4, out.ends_with(&[0xc0, 0])), (8, true));
    let mut payload = *b"{}";
    let retained = Inbound::Publish(InPublish {
        topic: "N/x/a",
        payload: &mut payload,
        retain: true,
        id: None,
        respond_to: None,
    });
    let later = start + Duration::from_millis(100);
    assert_eq!(
        session.receive(later, retained, &mut out).unwrap(),
        Event::Retained("N/x/a", b"{}")
    );
    assert!(!session.tick(later + QUIET, &mut out).unwrap());
    assert_eq!(
        session
            .receive(later + QUIET, Inbound::PingResp, &mut out)
            .unwrap(),
        Event::None
    );
    assert!(!session.tick(later + QUIET, &mut out).unwrap());
    out.clear();
    assert_eq!(session.deadline(), later + QUIET * 2);
    assert!(session.tick(later + QUIET * 2, &mut out).unwrap());
    assert_eq!(out[0] >> 4, 10);
    assert!(!session.tick(later + QUIET * 3, &mut out).unwrap());
}

#[test]
fn s6_a_silent_peer_is_dropped_after_one_and_a_half_intervals() {
    let start = Instant::now();
    let (mut session, mut out) = connected(false, start);
    assert!(session.tick(start, &mut out).unwrap());
    out.clear();
    assert_eq!(session.deadline(), start + Duration::from_secs(30));
    assert!(
        !session
            .tick(start + Duration::from_secs(30), &mut out)
            .unwrap()
    );
    assert_eq!(out, [0xc0, 0]);
    let end = session.tick(start + Duration::from_secs(45), &mut out);
    assert!(matches!(end, Err(LinkError::Silent { .. })));
}

#[test]
fn s6_refusals_are_told_in_plain_words() {
    let now = Instant::now();
    let mut out = Vec::new();
    let mut session = Session::open(config(true), now, &mut out);
    let error = session
        .receive(now, Inbound::ConnAck(conn_ack(Version::V3, 4)), &mut out)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "the broker rejected the user name or password"
    );
    assert!(error.needs_operator());
    let mut session = Session::open(config(true), now, &mut out);
    assert!(matches!(
        session.receive(now, Inbound::PingResp, &mut out),
        Err(LinkError::OutOfTurn)
    ));
    let end = session.tick(now + ANSWER_TIMEOUT, &mut out);
    assert!(matches!(end, Err(LinkError::NoAnswer { what: "CONNECT" })));
}

fn of_5(reads_back: bool) -> SessionConfig {
    SessionConfig {
        version: Version::V5,
        ..config(reads_back)
    }
}

#[test]
fn s6_the_brokers_ping_interval_takes_the_place_of_ours() {
    let start = Instant::now();
    let mut ack = conn_ack(Version::V5, 0);
    ack.server_limits.ping_s = Some(5);
    let (mut session, mut out) = connected_as(of_5(false), ack, start);
    assert!(session.tick(start, &mut out).unwrap());
    assert_eq!(session.deadline(), start + Duration::from_secs(5));
    let end = session.tick(start + Duration::from_millis(7_500), &mut out);
    assert!(matches!(end, Err(LinkError::Silent { .. })));
    ack.server_limits.ping_s = Some(0);
    let (mut session, mut out) = connected_as(of_5(false), ack, start);
    assert!(session.tick(start, &mut out).unwrap());
    assert_eq!(session.deadline(), start + Duration::from_secs(30));
}

#[test]
fn s5_7_requests_in_store_are_not_asked_for() {
    let now = Instant::now();
    let mut out = Vec::new();
    let mut session = Session::open(of_5(true), now, &mut out);
    out.clear();
    let ack = Inbound::ConnAck(conn_ack(Version::V5, 0));
    session.receive(now, ack, &mut out).unwrap();
    assert_eq!(out, b"\x82\x13\0\x01\0\0\x05R/x/#\x29\0\x05W/x/#\x29");
    out.clear();
    let ack = Inbound::SubAck {
        refused: None,
        id: REQUESTS_ID,
    };
    session.receive(now, ack, &mut out).unwrap();
    assert_eq!(out, b"\x82\x0b\0\x02\0\0\x05N/x/#\x01\xc0\0");
}

#[test]
fn s6_a_broker_may_be_subscribed_to_with_qos_0() {
    let now = Instant::now();
    for (version, subscribe) in [
        (
            Version::V3,
            &b"\x82\x12\0\x01\0\x05R/x/#\0\0\x05W/x/#\0"[..],
        ),
        (
            Version::V5,
            b"\x82\x13\0\x01\0\0\x05R/x/#\x28\0\x05W/x/#\x28",
        ),
    ] {
        let mut out = Vec::new();
        let with_0 = SessionConfig {
            version,
            subscribe_qos: QoS::AtMostOnce,
            ..config(true)
        };
        let mut session = Session::open(with_0, now, &mut out);
        out.clear();
        let ack = Inbound::ConnAck(conn_ack(version, 0));
        session.receive(now, ack, &mut out).unwrap();
        assert_eq!(out, subscribe);
    }
}

#[test]
fn s6_after_a_reconnect_requests_are_subscribed_to_once_more() {
    let start = Instant::now();
    let after = |seconds| start + Duration::from_secs(seconds);
    let again = SessionConfig {
        is_reconnect: true,
        ..config(false)
    };
    let (mut session, mut out) = connected_as(again, conn_ack(Version::V3, 0), start);
    session.tick(start, &mut out).unwrap();
    out.clear();
    assert_eq!(session.deadline(), after(10));
    session.tick(after(10), &mut out).unwrap();
    assert_eq!(out, b"\x82\x12\0\x06\0\x05R/x/#\x01\0\x05W/x/#\x01");
    out.clear();
    // Once, and no more; a broker that refuses it now does not give us requests.
    session.tick(after(20), &mut out).unwrap();
    assert_eq!(out, b"");
    let answer = |refused| Inbound::SubAck { refused, id: 6 };
    let granted = session.receive(after(20), answer(None), &mut out);
    assert_eq!(granted.unwrap(), Event::None);
    let refused = session.receive(after(20), answer(Some(0x80)), &mut out);
    assert!(matches!(refused, Err(LinkError::Subscription { .. })));
    // Not at the first connection.
    let (mut session, mut out) = connected(false, start);
    session.tick(start, &mut out).unwrap();
    out.clear();
    assert_eq!(session.deadline(), after(30));
    session.tick(after(20), &mut out).unwrap();
    assert_eq!(out, b"");
}

#[test]
fn s6_of_a_session_that_is_kept_no_old_request_is_carried_out() {
    let now = Instant::now();
    let mut out = Vec::new();
    let kept = SessionConfig {
        kept: Duration::from_secs(60),
        clean_start: false,
        ..of_5(true)
    };
    let mut session = Session::open(kept, now, &mut out);
    // Clean start 0, session expiry and will delay of a minute.
    assert_eq!((out[9] & 2, &out[12..18]), (0, &b"\x0a\x11\0\0\0\x3c"[..]));
    out.clear();
    let ack = Inbound::ConnAck(conn_ack(Version::V5, 0));
    session.receive(now, ack, &mut out).unwrap();
    // The broker keeps nothing for us: QoS 0.
    assert_eq!(out, b"\x82\x13\0\x01\0\0\x05R/x/#\x28\0\x05W/x/#\x28");
    // By the subscriptions of before: acknowledged, and that is all.
    let write = |topic: &'static str, payload: &'static mut [u8]| {
        Inbound::Publish(InPublish {
            topic,
            payload,
            retain: false,
            id: Some(7),
            respond_to: None,
        })
    };
    for topic in ["W/x/vebus/257/Mode", "N/x/vebus/257/Mode"] {
        out.clear();
        let old = write(topic, Box::leak(Box::new(*b"{}")));
        assert_eq!(session.receive(now, old, &mut out).unwrap(), Event::None);
        assert_eq!(out, [0x40, 2, 0, 7]);
    }
    let ack = Inbound::SubAck {
        refused: None,
        id: REQUESTS_ID,
    };
    let event = session.receive(now, ack, &mut out).unwrap();
    assert_eq!(event, Event::Connected);
    let new = write("W/x/vebus/257/Mode", Box::leak(Box::new(*b"{}")));
    let event = session.receive(now, new, &mut out).unwrap();
    assert!(matches!(event, Event::Request(_)), "{event:?}");
    // Nothing of it is left when we are done.
    out.clear();
    session.close(&mut out);
    assert_eq!(out, b"\xe0\x07\0\x05\x11\0\0\0\0");
}

#[test]
fn s6_where_the_broker_sends_us_is_known() {
    let now = Instant::now();
    let farewell = |code| Reason {
        code,
        server: "other.example:1884",
        ..Reason::default()
    };
    for (code, expected) in [
        (0x9c, Some("other.example:1884")),
        (0x9d, Some("other.example:1884")),
        (0x88, None),
    ] {
        let mut out = Vec::new();
        let mut session = Session::open(of_5(true), now, &mut out);
        let mut ack = conn_ack(Version::V5, code);
        ack.farewell = farewell(code);
        let end = session.receive(now, Inbound::ConnAck(ack), &mut out);
        assert!(matches!(end, Err(LinkError::Refused { .. })));
        assert_eq!(session.referral().as_deref(), expected);
        let ack = conn_ack(Version::V5, 0);
        let (mut session, mut out) = connected_as(of_5(true), ack, now);
        let end = session.receive(now, Inbound::Disconnect(farewell(code)), &mut out);
        assert!(matches!(end, Err(LinkError::Dismissed { .. })));
        assert_eq!(session.referral().as_deref(), expected);
    }
}

#[test]
fn a_status_that_does_not_come_back_is_noticed_once() {
    // What was retained before is not proof; our own word of now is.
    // A status in store is of a bridge that got in; where others get in and none did, the broker has
    // these topics for itself.
    for (topic, retain, expected) in [
        ("N/x/bridge/status", false, None),
        ("N/x/bridge/status", true, Some(false)),
        ("N/x/system/0/Serial", false, Some(true)),
        ("N/x/system/0/Serial", true, Some(true)),
        ("R/x/keepalive", true, Some(false)),
    ] {
        let now = Instant::now();
        let (mut session, mut out) = connected(true, now);
        let mut payload = *b"{}";
        let back = Inbound::Publish(InPublish {
            topic,
            payload: &mut payload,
            retain,
            id: None,
            respond_to: None,
        });
        session.receive(now, back, &mut out).unwrap();
        let mut judged = || session.receive(now, Inbound::UnsubAck, &mut out).unwrap();
        let unheard = |others| Event::Found(Finding::Unheard { others });
        let expected = expected.map_or(Event::None, unheard);
        assert_eq!(judged(), expected, "{topic} {retain}");
        assert_eq!(judged(), Event::None);
    }
    // Where it was not read back, nothing was to come; and a refusal has its own words.
    let now = Instant::now();
    for (reads_back, refused) in [(false, None), (true, Some(0x80))] {
        let (mut session, mut out) = connected(reads_back, now);
        let ack = Inbound::SubAck {
            refused,
            id: RETAINED_ID,
        };
        session.receive(now, ack, &mut out).unwrap();
        let judged = session.receive(now, Inbound::UnsubAck, &mut out);
        assert_eq!(judged.unwrap(), Event::None);
    }
}

#[test]
fn s6_a_broker_that_retains_nothing_is_not_read_back() {
    let now = Instant::now();
    let mut ack = conn_ack(Version::V5, 0);
    ack.server_limits.retain = false;
    let (mut session, mut out) = connected_as(of_5(true), ack, now);
    assert!(out.is_empty());
    assert!(session.tick(now, &mut out).unwrap());
    assert!(!session.server_limits().retain);
}

#[test]
fn s6_the_reason_of_an_end_is_told_in_both_directions() {
    let now = Instant::now();
    let (mut session, mut out) = connected_as(of_5(false), conn_ack(Version::V5, 0), now);
    let farewell = Reason {
        code: 0x8e,
        reason: "bye",
        server: "",
    };
    let error = session
        .receive(now, Inbound::Disconnect(farewell), &mut out)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "the broker ended the session: another client connected with the same client id; \
         the broker says: bye"
    );
    assert!(error.needs_operator());
    out.clear();
    session.give_up(&error, &mut out);
    assert!(out.is_empty());
    let malformed = PacketError::Malformed { first: 0x20 };
    session.give_up(&LinkError::Packet(malformed), &mut out);
    assert_eq!(out, [0xe0, 1, 0x81]);
}

#[test]
fn s6_a_refused_version_is_known_in_every_form() {
    let now = Instant::now();
    for (version, form, code) in [
        (Version::V5, Version::V5, 0x84),
        (Version::V5, Version::V3, 1),
        (Version::V5, Version::V3, 0),
        (Version::V5, Version::V3, 5),
        (Version::V3, Version::V3, 1),
    ] {
        let mut out = Vec::new();
        let config = SessionConfig {
            version,
            ..config(false)
        };
        let mut session = Session::open(config, now, &mut out);
        let ack = Inbound::ConnAck(conn_ack(form, code));
        let end = session.receive(now, ack, &mut out);
        assert!(
            matches!(end, Err(LinkError::Version { version: found }) if found == version),
            "{end:?}"
        );
    }
    let mut out = Vec::new();
    let mut session = Session::open(of_5(false), now, &mut out);
    let mut ack = conn_ack(Version::V5, 0);
    ack.server_limits.wildcards = false;
    let end = session.receive(now, Inbound::ConnAck(ack), &mut out);
    assert!(matches!(end, Err(LinkError::Wildcards)));
}

#[test]
fn what_else_is_subscribed_to_may_be_refused() {
    let start = Instant::now();
    for version in [Version::V3, Version::V5] {
        let mut out = Vec::new();
        let mut more = config(false);
        more.version = version;
        more.retained_filters = vec!["p/N/x/#".into(), "h/device/x/+/config".into()];
        more.notice_filters.push("h/status".into());
        let mut session = Session::open(more, start, &mut out);
        let ack = |id, refused| Inbound::SubAck { refused, id };
        let conn_ack = Inbound::ConnAck(conn_ack(version, 0));
        session.receive(start, conn_ack, &mut out).unwrap();
        out.clear();
        let event = session.receive(start, ack(REQUESTS_ID, None), &mut out);
        assert_eq!(event.unwrap(), Event::Connected);
        let subscribes = out.windows(4).filter(|bytes| {
            bytes[0] == 0x82 && [RETAINED_ID, NOTICES_ID].contains(&u16::from(bytes[3]))
        });
        assert_eq!(subscribes.count(), 2);
        let event = session.receive(start, ack(NOTICES_ID, Some(0x80)), &mut out);
        assert_eq!(event.unwrap(), Event::None);
        let mut told = |topic, retain| {
            let mut payload = *b"online";
            let publish = Inbound::Publish(InPublish {
                topic,
                payload: &mut payload,
                retain,
                id: None,
                respond_to: None,
            });
            match session.receive(start, publish, &mut out).unwrap() {
                Event::Retained(topic, _) => topic.to_owned(),
                Event::Request(message) => format!("request {}", message.topic),
                Event::Foreign(message) => format!("foreign {}", message.topic),
                Event::Skipped(_) | Event::ForeignSkipped(_) => unreachable!(),
                Event::None | Event::Connected | Event::Found(_) => "nothing".to_owned(),
            }
        };
        assert_eq!(told("h/device/x/a/config", true), "h/device/x/a/config");
        assert_eq!(told("p/N/x/a/0/A", true), "p/N/x/a/0/A");
        assert_eq!(told("h/status", false), "request h/status");
        assert_eq!(told("p/R/x/keepalive", false), "request p/R/x/keepalive");
        session.receive(start, Inbound::PingResp, &mut out).unwrap();
        out.clear();
        assert!(session.tick(start + QUIET, &mut out).unwrap());
        // One UNSUBSCRIBE for each filter, with different ids.
        let ids = out.windows(4).filter(|bytes| bytes[0] == 0xa2);
        let ids: Vec<_> = ids.map(|bytes| bytes[3]).collect();
        assert_eq!(ids, [7, 8]);
    }
}

#[test]
fn s4_14_what_is_too_large_is_skipped_and_acknowledged() {
    let start = Instant::now();
    for version in [Version::V3, Version::V5] {
        let config = SessionConfig {
            version,
            ..config(true)
        };
        let (mut session, mut out) = connected_as(config, conn_ack(version, 0), start);
        let mut skip = |topic, retain, id| {
            out.clear();
            let beginning = Beginning { topic, retain, id };
            let event = session.skip(start, beginning, &mut out).unwrap();
            (format!("{event:?}"), out.clone())
        };
        let (event, acknowledged) = skip("R/x/a", true, Some(7));
        assert!(event.starts_with("Skipped"), "{event}");
        assert_eq!(acknowledged, [0x40, 2, 0, 7]);
        let (event, acknowledged) = skip("N/x/a", true, None);
        assert_eq!(event, "Retained(\"N/x/a\", [])");
        assert!(acknowledged.is_empty());
        assert_eq!(skip("N/x/a", false, None).0, "None");
        // While the rest of it comes, slowly perhaps, the broker is not silent.
        let late = start + Duration::from_secs(44);
        session.skipping(late);
        assert!(
            session
                .tick(late + Duration::from_secs(44), &mut out)
                .is_ok()
        );
    }
    let mut out = Vec::new();
    let mut session = Session::open(config(true), start, &mut out);
    let beginning = Beginning {
        topic: "R/x/a",
        retain: false,
        id: None,
    };
    let early = session.skip(start, beginning, &mut out);
    assert!(matches!(early, Err(LinkError::OutOfTurn)));
}

/// A session in each of its states.
fn in_every_state(version: Version, now: Instant) -> Vec<Session> {
    let config = || SessionConfig {
        version,
        ..config(true)
    };
    let mut out = Vec::new();
    let connecting = Session::open(config(), now, &mut out);
    let mut subscribing = Session::open(config(), now, &mut out);
    let ack = Inbound::ConnAck(conn_ack(version, 0));
    subscribing.receive(now, ack, &mut out).unwrap();
    let (reading, _) = connected_as(config(), conn_ack(version, 0), now);
    let (mut up, _) = connected_as(config(), conn_ack(version, 0), now);
    assert!(up.tick(now + READING_MAX, &mut out).unwrap());
    vec![connecting, subscribing, reading, up]
}

#[test]
fn any_packet_at_any_time_ends_the_session_or_does_no_harm() {
    // Every first byte, with bodies that are empty, cut short at every place, whole, and too long.
    let now = Instant::now();
    let whole: [&[u8]; 7] = [
        &[0, 0],
        &[0, 0, 0],
        &[0, 1, 0, 0],
        &[0, 1, 0, 0, 0, 0],
        b"\0\x05N/x/a\0{}",
        b"\0\x05R/x/a\x03\x23\0\x01{}",
        b"\0\x04MQTT\x05\x02\0\x0a\0\0\x01c",
    ];
    let mut taken = 0;
    for version in [Version::V3, Version::V5] {
        for head in 0..=u8::MAX {
            for body in whole {
                for length in 0..=body.len() + 1 {
                    let mut packet = vec![head, u8::try_from(length).unwrap()];
                    packet.extend(body.iter().chain(&[7]).take(length));
                    let found = packet::packet_len(&packet, 1 << 17).unwrap();
                    assert_eq!(found, Some(packet.len()));
                    if packet::decode_as(version, &mut packet.clone()).is_err() {
                        continue;
                    }
                    for mut session in in_every_state(version, now) {
                        let mut packet = packet.clone();
                        let Ok(inbound) = packet::decode_as(version, &mut packet) else {
                            continue;
                        };
                        // What only a client says, and what nobody does, is never taken.
                        assert!(!matches!(head >> 4, 0 | 1 | 8 | 10 | 12 | 15), "{head:02x}");
                        let was_up = session.is_connected();
                        let mut out = Vec::new();
                        let result = session.receive(now, inbound, &mut out);
                        assert!(out.len() < 100);
                        if let Err(error) = &result {
                            assert!(!error.to_string().is_empty());
                        } else if !was_up && session.is_connected() {
                            assert_eq!(head, 0x90, "only SUBACK opens a session");
                        }
                        taken += usize::from(result.is_ok());
                    }
                }
            }
        }
    }
    assert!(taken > 1_000, "{taken}");
}

fn published(topic: &str, payload: &mut [u8], retain: bool) -> Inbound<'static> {
    Inbound::Publish(InPublish {
        topic: topic.to_owned().leak(),
        payload: payload.to_vec().leak(),
        retain,
        id: None,
        respond_to: None,
    })
}

/// A session that has read back: whether anything retained came.
fn up(version: Version, told: bool, now: Instant) -> (Session, Vec<u8>) {
    let config = SessionConfig {
        version,
        ..config(true)
    };
    let (mut session, mut out) = connected_as(config, conn_ack(version, 0), now);
    let mut receive = |packet| session.receive(now, packet, &mut out).unwrap();
    receive(published("N/x/bridge/status", &mut b"{}".to_vec(), false));
    if told {
        receive(published("N/x/a/0/A", &mut b"1".to_vec(), true));
    }
    receive(Inbound::PingResp);
    out.clear();
    assert!(session.tick(now + QUIET, &mut out).unwrap());
    (session, out)
}

fn has(out: &[u8], packet: &[u8]) -> bool {
    out.windows(packet.len()).any(|bytes| bytes == packet)
}

const WATCH: &[u8] = b"\x82\x0b\0\x04\0\0\x05N/x/#\x2d";

#[test]
fn s4_11_our_topics_are_watched_once_they_are_read_back() {
    let now = Instant::now();
    let (_, out) = up(Version::V3, true, now);
    assert_eq!(out, b"\xa2\x09\0\x07\0\x05N/x/#");
    let (mut session, mut out) = up(Version::V5, true, now);
    assert!(has(&out, WATCH));
    out.clear();
    let refused = None;
    let mut receive = |packet| session.receive(now, packet, &mut out).unwrap();
    assert_eq!(receive(Inbound::UnsubAck), Event::None);
    let ack = Inbound::SubAck {
        refused,
        id: WATCH_ID,
    };
    assert_eq!(receive(ack), Event::Found(Finding::Watching));
    let foreign = receive(published("N/x/a/0/A", &mut b"9".to_vec(), true));
    assert!(matches!(foreign, Event::Foreign(message) if message.retain));
    let foreign = receive(published("N/x/bridge/status", &mut b"off".to_vec(), false));
    assert!(matches!(foreign, Event::Foreign(_)));
    let write = receive(published("W/x/a/0/A", &mut b"9".to_vec(), true));
    assert!(matches!(write, Event::Request(message) if message.retain));
    assert!(out.is_empty());
    // One that is too large is foreign too.
    let beginning = Beginning {
        topic: "N/x/battery/0/Soc",
        retain: true,
        id: None,
    };
    let event = session.skip(now, beginning, &mut out).unwrap();
    assert!(matches!(event, Event::ForeignSkipped(_)), "{event:?}");
}

#[test]
fn s4_11_a_broker_that_sends_us_our_own_is_not_watched() {
    let now = Instant::now();
    for (after, ours) in [(Duration::ZERO, true), (ECHO_MAX * 2, false)] {
        let (mut session, mut out) = up(Version::V5, true, now);
        let ack = Inbound::SubAck {
            refused: None,
            id: WATCH_ID,
        };
        session.receive(now, ack, &mut out).unwrap();
        out.clear();
        let own = published("N/x/bridge/status", &mut b"{}".to_vec(), false);
        let event = session.receive(now + after, own, &mut out).unwrap();
        assert_eq!(event == Event::Found(Finding::Unwatched), ours);
        assert_eq!(has(&out, b"\xa2"), ours);
    }
}

#[test]
fn s4_9_a_broker_that_keeps_retained_messages_from_wildcards_is_found_out() {
    let now = Instant::now();
    let wild = b"N/x/bridge/+";
    let exact = b"N/x/bridge/status";
    for version in [Version::V3, Version::V5] {
        // What it finds with a wildcard, and without.
        for (found, finding) in [
            ([true, false], None),
            ([false, true], Some(Finding::NoStoredForWildcards)),
            ([false, false], Some(Finding::NothingStored)),
        ] {
            let (mut session, mut out) = up(version, false, now);
            assert!(!has(&out, WATCH));
            out.clear();
            session.receive(now, Inbound::UnsubAck, &mut out).unwrap();
            for (filter, found) in [&wild[..], &exact[..]].into_iter().zip(found) {
                assert!(
                    has(&out, filter) && out.ends_with(&[0xc0, 0]),
                    "{finding:?}"
                );
                out.clear();
                if found {
                    let stored = published("N/x/bridge/status", &mut b"{}".to_vec(), true);
                    session.receive(now, stored, &mut out).unwrap();
                    break;
                }
                session.receive(now, Inbound::PingResp, &mut out).unwrap();
                assert_eq!(session.deadline(), now + QUIET);
                assert!(!session.tick(now + QUIET, &mut out).unwrap());
            }
            assert_eq!(session.news(), finding);
            assert_eq!(has(&out, WATCH), version == Version::V5);
        }
        // Where something retained came, nothing is asked.
        let (mut session, mut out) = up(version, true, now);
        out.clear();
        session.receive(now, Inbound::UnsubAck, &mut out).unwrap();
        assert!(out.is_empty());
    }
}

#[test]
fn s4_9_endless_retained_messages_keep_values_back_for_three_seconds_only() {
    let start = Instant::now();
    for version in [Version::V3, Version::V5] {
        let config = SessionConfig {
            version,
            ..config(true)
        };
        let (mut session, mut out) = connected_as(config, conn_ack(version, 0), start);
        session.receive(start, Inbound::PingResp, &mut out).unwrap();
        let (mut ready, mut told) = (None, 0);
        for tenth in 0..600 {
            let now = start + Duration::from_millis(100) * tenth;
            let stored = published("N/x/a/0/A", &mut b"1".to_vec(), true);
            if session.receive(now, stored, &mut out).unwrap() == Event::Retained("N/x/a/0/A", b"1")
            {
                told += 1;
            }
            if now >= session.deadline() && session.tick(now, &mut out).unwrap() {
                assert_eq!(ready, None);
                ready = Some(now - start);
                // From now on our own come back as well.
                let own = published("N/x/a/0/A", &mut b"1".to_vec(), false);
                assert_eq!(session.receive(now, own, &mut out).unwrap(), Event::None);
            }
            if session.state == State::Up {
                assert!(now >= start + READING_MAX && now < start + READING_MAX * 2);
                break;
            }
        }
        assert_eq!(session.state, State::Up);
        assert_eq!(ready, Some(VALUES_WAIT_MAX));
        assert!(told > 290);
    }
}
