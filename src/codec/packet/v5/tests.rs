use super::*;

fn malformed(packets: &[&[u8]]) {
    for bytes in packets {
        let error = decode(&mut bytes.to_vec()).map(|inbound| format!("{inbound:?}"));
        assert_eq!(
            error,
            Err(PacketError::Malformed { first: bytes[0] }),
            "{bytes:02x?}"
        );
    }
}

#[test]
fn connack_tells_what_the_broker_allows() {
    let mut bytes =
        b"\x20\x2f\x00\x00\x2c\x21\x00\x14\x24\x00\x25\x00\x27\x00\x00\x04\x00\x22\x00\x0a\x13\x00\x3c\x28\x00\x2a\x00\x12\x00\x02id\x1f\x00\x02ok\x11\x00\x00\x00\x05\x1c\x00\x01s"
            .to_vec();
    let length = u8::try_from(bytes.len()).unwrap();
    (bytes[1], bytes[4]) = (length - 2, length - 5);
    let Ok(Inbound::ConnAck(ack)) = decode(&mut bytes) else {
        panic!("{:?}", decode(&mut bytes))
    };
    let server_limits = ServerLimits {
        packet_bytes_max: Some(1024),
        aliases_max: 10,
        ping_s: Some(60),
        retain: false,
        wildcards: false,
        shared: false,
    };
    assert_eq!((ack.form, ack.server_limits), (Version::V5, server_limits));
    assert_eq!((ack.farewell.reason, ack.farewell.server), ("ok", "s"));
    malformed(&[
        &[0x20, 0],
        &[0x20, 1, 0],
        &[0x20, 3, 2, 0, 0],
        &[0x20, 3, 0, 0, 1],
        &[0x20, 4, 0, 0, 0, 0],
        &[0x21, 3, 0, 0, 0],
        &[0x20, 6, 0, 0, 3, 0x21, 0, 0],
        &[0x20, 5, 0, 0, 2, 0x24, 2],
        &[0x20, 5, 0, 0, 2, 0x25, 2],
        &[0x20, 8, 0, 0, 5, 0x27, 0, 0, 0, 0],
        &[0x20, 6, 0, 0, 3, 35, 0, 1],
    ]);
}

/// `20 02 00 01` is what a broker that knows 3.1.1 only says to MQTT 5.
#[test]
fn an_answer_in_the_form_of_3_1_1_is_known_as_such() {
    for (bytes, form) in [
        (&mut [0x20, 2, 0, 1], Version::V3),
        (&mut [0x20, 2, 0, 0], Version::V3),
        (&mut [0x20, 2, 0, 0x84], Version::V5),
    ] {
        let code = bytes[3];
        let Ok(Inbound::ConnAck(ack)) = decode(bytes) else {
            panic!()
        };
        assert_eq!((ack.form, ack.farewell.code), (form, code));
    }
}

/// mosquitto sends one with a reason and no properties when a session is taken over.
#[test]
fn a_disconnect_may_leave_out_what_it_likes() {
    for (bytes, code, reason) in [
        (&b"\xe0\x00"[..], 0, ""),
        (b"\xe0\x01\x8e", 0x8e, ""),
        (b"\xe0\x02\x8b\x00", 0x8b, ""),
        (b"\xe0\x07\x8b\x05\x1f\x00\x02by", 0x8b, "by"),
    ] {
        let expected = Reason {
            code,
            reason,
            server: "",
        };
        assert_eq!(
            decode(&mut bytes.to_vec()),
            Ok(Inbound::Disconnect(expected))
        );
    }
    malformed(&[
        &[0xe1, 0],
        &[0xe0, 2, 0x8b, 1],
        &[0xe0, 3, 0x8b, 0, 0],
        b"\xe0\x07\x8b\x05\x12\x00\x02by",
    ]);
}

#[test]
fn a_publish_is_read_where_it_stands() {
    let mut bytes =
        b"\x33\x1b\x00\x03a/b\x00\x07\x10\x08\x00\x02re\x09\x00\x02\x00\xff\x0b\x01\x0b\x02\x01\x01xy"
            .to_vec();
    bytes[1] = u8::try_from(bytes.len() - 2).unwrap();
    let expected = InPublish {
        topic: "a/b",
        payload: &mut [b'x', b'y'],
        retain: true,
        id: Some(7),
        respond_to: Some(RespondTo {
            topic: "re",
            correlation: &[0, 0xff],
        }),
    };
    assert_eq!(decode(&mut bytes), Ok(Inbound::Publish(expected)));
    malformed(&[
        &[0x30, 0],
        &[0x30, 3, 0, 1, b'a'],
        &[0x30, 4, 0, 1, b'a', 1],
        &[0x30, 4, 0, 1, b'+', 0],
        &[0x30, 4, 0, 1, 0xff, 0],
        &[0x30, 4, 0, 1, 0, 0],
        &[0x30, 3, 0, 0, 0],
        &[0x38, 4, 0, 1, b'a', 0],
        &[0x32, 6, 0, 1, b'a', 0, 0, 0],
        &[0x34, 6, 0, 1, b'a', 0, 1, 0],
        &[0x36, 6, 0, 1, b'a', 0, 1, 0],
        &[0x30, 6, 0, 1, b'a', 2, 11, 0],
        &[0x30, 5, 0, 9, b'a', 0, 0],
    ]);
    let alias = [0x30, 7, 0, 1, b'a', 3, 35, 0, 1];
    assert_eq!(decode(&mut alias.to_vec()), Err(PacketError::TopicAlias));
}

#[test]
fn acknowledgements_are_read_and_the_rest_is_malformed() {
    let refused = |refused| Ok(Inbound::SubAck { refused, id: 1 });
    assert_eq!(decode(&mut [0x90, 5, 0, 1, 0, 1, 0]), refused(None));
    assert_eq!(
        decode(&mut [0x90, 5, 0, 1, 0, 1, 0x87]),
        refused(Some(0x87))
    );
    assert_eq!(decode(&mut [0xb0, 4, 0, 1, 0, 0x11]), Ok(Inbound::UnsubAck));
    assert_eq!(decode(&mut [0xd0, 0]), Ok(Inbound::PingResp));
    for other in [
        &[0x40, 2, 0, 1][..],
        &[0x50, 3, 0, 1, 0x10],
        &[0x70, 4, 0, 1, 0, 0],
    ] {
        assert_eq!(decode(&mut other.to_vec()), Ok(Inbound::Other));
    }
    assert_eq!(decode(&mut [0xf0, 0]), Err(PacketError::Auth));
    malformed(&[
        &[0x00, 0],
        &[0x10, 0],
        &[0x40, 1, 0],
        &[0x62, 2, 0, 1],
        &[0x82, 0],
        &[0x90, 3, 0, 1, 0],
        &[0x90, 2, 0, 1],
        &[0x90, 4, 0, 0, 0, 0],
        &[0x92, 4, 0, 1, 0, 0],
        &[0xb0, 3, 0, 1, 0],
        &[0xc0, 0],
        &[0xd0, 1, 0],
        &[0xd8, 0],
    ]);
}

#[test]
fn what_is_written_is_that_of_the_standard() {
    let mut out = vec![0xaa];
    let mut connect = Connect {
        client_id: "c",
        login: Some(("u", "p")),
        ping_s: 30,
        will: Some(("w", b"off")),
        plain_will: false,
        packet_bytes_max: 0x0102_0304,
        kept_s: 0,
        clean_start: true,
    };
    write_connect(&mut out, &connect);
    assert_eq!(
        out,
        b"\xaa\x10\x22\x00\x04MQTT\x05\xee\x00\x1e\x05\x27\x01\x02\x03\x04\x00\x01c\x00\x00\x01w\x00\x03off\x00\x01u\x00\x01p"
    );
    connect.plain_will = true;
    connect.login = None;
    out.clear();
    write_connect(&mut out, &connect);
    assert_eq!(out[9], 0x06);
    connect.kept_s = 60;
    connect.clean_start = false;
    out.clear();
    write_connect(&mut out, &connect);
    assert_eq!(
        out,
        b"\x10\x26\x00\x04MQTT\x05\x04\x00\x1e\x0a\x11\x00\x00\x00\x3c\x27\x01\x02\x03\x04\x00\x01c\x05\x18\x00\x00\x00\x3c\x00\x01w\x00\x03off"
    );
    out.clear();
    write_subscribe(
        &mut out,
        1,
        &["a/#".into()],
        QoS::AtLeastOnce,
        Options::default(),
    );
    assert_eq!(out, b"\x82\x09\x00\x01\x00\x00\x03a/#\x21");
    out.clear();
    let all = Options {
        stored: true,
        ..Options::default()
    };
    write_subscribe(&mut out, 2, &["a/#".into()], QoS::AtLeastOnce, all);
    assert_eq!(out, b"\x82\x09\x00\x02\x00\x00\x03a/#\x01");
    out.clear();
    write_subscribe(&mut out, 2, &["a/#".into()], QoS::AtMostOnce, all);
    assert_eq!(out, b"\x82\x09\x00\x02\x00\x00\x03a/#\x00");
    out.clear();
    let others = Options {
        others_only: true,
        retain_flag: true,
        ..Options::default()
    };
    write_subscribe(&mut out, 3, &["a/#".into()], QoS::AtLeastOnce, others);
    assert_eq!(out, b"\x82\x09\x00\x03\x00\x00\x03a/#\x2d");
    out.clear();
    write_unsubscribe(&mut out, 2, "a/#");
    assert_eq!(out, b"\xa2\x08\x00\x02\x00\x00\x03a/#");
    out.clear();
    let to = RespondTo {
        topic: "re",
        correlation: b"id",
    };
    write_response(&mut out, to, |out| out.extend_from_slice(b"{}"));
    assert_eq!(out, b"\x30\x0c\x00\x02re\x05\x09\x00\x02id{}");
}

#[test]
fn a_publish_has_what_it_is_given_and_no_more() {
    let check = |extra: Extra, expected: &[u8]| {
        let mut out = Vec::new();
        write_publish(&mut out, extra, &[b"N/", b"a", b"/b"], |out| out.push(b'x'));
        assert_eq!(out, expected);
    };
    let plain = Extra::default();
    check(plain, b"\x30\x09\x00\x05N/a/b\x00x");
    let new = Extra {
        alias: Some((258, false)),
        ..plain
    };
    check(new, b"\x30\x0c\x00\x05N/a/b\x03\x23\x01\x02x");
    let known = Extra {
        retain: true,
        alias: Some((258, true)),
        expiry_s: Some(600),
    };
    check(
        known,
        b"\x31\x0c\x00\x00\x08\x02\x00\x00\x02\x58\x23\x01\x02x",
    );
}

#[test]
fn a_publish_may_say_what_its_payload_is() {
    let mut out = Vec::new();
    write_publish_as(&mut out, "a/b", &[b"N/", b"x", b"/batch"], b"xyz");
    assert_eq!(out, b"\x30\x15\x00\x09N/x/batch\x06\x03\x00\x03a/bxyz");
    let Ok(Inbound::Publish(publish)) = decode(&mut out) else {
        panic!("a PUBLISH");
    };
    assert_eq!(
        (publish.topic, &*publish.payload),
        ("N/x/batch", &b"xyz"[..])
    );
}
