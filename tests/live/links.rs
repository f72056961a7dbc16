//! Connections that are neither there nor gone: ends that vanish without a word, queues that are full,
//! and what takes connections only to close them. Nothing hangs, nothing is left over, and when the
//! other end is back the values are right.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use rustix::net::SocketAddrUnix;
use rustix::process::Signal;

use crate::support::bridge::Bridge;
use crate::support::broker::{Broker, free_port};
use crate::support::bus::Bus;
use crate::support::client::{packet, put_text, take_text};
use crate::support::fake_broker::{CONNECT, FakeBroker, Manner, Packet};
use crate::support::line::Line;
use crate::support::rig::{
    OFFLINE, ONLINE, Rig, both, bridge_args, bridge_to, n, r, retained, value, w, wait_one_retained,
};
use crate::support::service::{BATTERY, battery, vebus};
use crate::support::wire::V;
use crate::support::{PATIENCE, poll};

const SOC: &str = "battery/258/Soc";

/// A bridge of a rig, by way of a line, with short pings.
fn bridge_by(rig: &Rig, line: &Line) -> Bridge {
    let server = format!("127.0.0.1:{}", line.port);
    let more = "--retain true --keep-alive 0 --ping 2";
    let bridge = Bridge::spawn(&bridge_args(&rig.bus, &server, more));
    rig.online(0);
    bridge
}

/// How long a connection may be silent with `--ping 2`, on a slow machine.
const SILENCE: Duration = Duration::from_secs(10);

#[test]
fn a_line_that_freezes_is_given_up_and_taken_up_again() {
    // Half open: neither end closes, nothing arrives. Values that changed meanwhile come when it thaws,
    // the old connection's last will does not have the last word, and its descriptors are closed.
    let Some(rig) = Rig::start() else { return };
    let peer = rig.bus.serve(battery());
    let line = Line::to(rig.broker.port);
    let bridge = bridge_by(&rig, &line);
    rig.wait_retained("at first", &battery().topics(258));
    let before = bridge.vitals();
    for round in 1..=2 {
        let soc = f64::from(round);
        line.freeze();
        let mark = bridge.log_with(&["trying again"]).len();
        peer.update(BATTERY, "/Soc", V::D(soc));
        poll("the silence to be noticed", SILENCE * 3, || {
            (bridge.log_with(&["trying again"]).len() > mark).then_some(())
        });
        let beside = rig.bus.serve(vebus()); // the bus side goes on
        beside.wait_calls("the scan", 1, |call| call.member == "GetItems");
        line.thaw();
        let now = battery().item("/Soc", V::D(soc));
        rig.wait_retained("thawed", &both(now.topics(258), vebus().topics(257)));
        wait_one_retained(&rig.broker, &n("bridge/status"), Some(ONLINE));
        drop(beside);
        rig.wait_retained("without the other service", &now.topics(258));
    }
    bridge.wait_vitals("after two frozen lines", &before);
}

#[test]
fn a_line_that_is_cut_in_the_middle_of_a_flood_ends_right() {
    // Ten times, wherever a packet is just then.
    let Some(rig) = Rig::start() else { return };
    let mut service = battery();
    for item in 0..500 {
        service = service.item(&format!("/Load/{item}"), V::I(-1));
    }
    let peer = rig.bus.serve(service.clone());
    let line = Line::to(rig.broker.port);
    let bridge = bridge_by(&rig, &line);
    rig.wait_retained("at first", &service.topics(258));
    let before = bridge.vitals();
    for round in 0..3 {
        let changes = (0..500).map(|item| (format!("/Load/{item}"), V::I(round)));
        for (path, v) in changes {
            peer.update(BATTERY, &path, v.clone());
            service = service.item(&path, v);
        }
        line.cut();
        rig.wait_retained("after the cut", &service.topics(258));
    }
    bridge.wait_vitals("after three cuts", &before);
}

#[test]
fn a_broker_of_mqtt_5_gets_it_again_though_something_before_it_closed_silently() {
    // A port forward, or a broker that is starting: it takes the connection and drops it. For an hour
    // after that there would be no answers to requests (§5.8), and no expiry.
    let Some(bus) = Bus::start() else { return };
    let _battery = bus.serve(battery());
    let broker = FakeBroker::start(Manner::Good);
    let _bridge = bridge_to(&bus, &broker, "--retain false --keep-alive 0");
    for manner in [Manner::Close, Manner::Mute] {
        let so_far = broker.connections();
        broker.behave(manner);
        broker.close();
        broker.wait_connections(so_far + 1, crate::support::PATIENCE);
        broker.wait_closed(so_far + 1, SILENCE * 3);
        broker.behave(Manner::Good);
        let from = broker.packets().len();
        broker.wait_published(from, &n(SOC), &value("87.5"));
    }
    let levels: Vec<u8> = broker
        .packets()
        .iter()
        .filter(|packet| packet.kind() == CONNECT)
        .map(|packet| take_text(&packet.body).1[0])
        .collect();
    assert!(levels.iter().all(|level| *level == 5), "{levels:?}");
}

#[test]
fn s6_after_a_reconnect_the_full_publish_waits_unless_a_client_asks() {
    let Some(bus) = Bus::start() else { return };
    let _battery = bus.serve(battery());
    let broker = FakeBroker::start(Manner::Good);
    let more = "--retain false --keep-alive 0 --republish-jitter 86400";
    let _bridge = bridge_to(&bus, &broker, more);
    broker.wait_published(0, &n(SOC), &value("87.5")); // the first connection does not wait
    let from = broker.packets().len();
    broker.close();
    let online = broker.wait_published(from, &n("bridge/status"), ONLINE);
    std::thread::sleep(Duration::from_secs(1)); // that nothing comes is what is tested
    let values = |from: usize| {
        let packets = broker.packets();
        let published = packets[from..].iter().filter_map(Packet::published);
        let values = published.filter(|(topic, ..)| topic.starts_with(&n("battery/")));
        values.count()
    };
    assert_eq!(values(online), 0);
    broker.publish(&r("battery/258/Soc"), "");
    broker.wait_published(online, &n(SOC), &value("87.5"));
    poll("the full publish", crate::support::PATIENCE, || {
        (values(online) >= battery().topics(258).len()).then_some(())
    });
}

#[test]
fn s6_another_node_of_the_cluster_takes_over() {
    // Three addresses: one where nobody is, two brokers. Whichever has the bridge ends.
    let Some(mut rig) = Rig::start() else { return };
    let Some(mut other) = Broker::start() else {
        return;
    };
    let (dead, one, two) = (free_port(), rig.broker.port, other.port);
    let server = format!("127.0.0.1:{dead},127.0.0.1:{one},127.0.0.1:{two}");
    let _battery = rig.bus.serve(battery());
    let _bridge = Bridge::spawn(&bridge_args(&rig.bus, &server, "--keep-alive 0"));
    let has_it = |broker: &Broker| retained(broker, &n("battery/#")) == battery().topics(258);
    let first_has_it = poll("one of them to have the values", PATIENCE, || {
        let found = [&rig.broker, &other].map(has_it);
        (found[0] || found[1]).then_some(found[0])
    });
    let (lost, left) = if first_has_it {
        (&mut rig.broker, &other)
    } else {
        (&mut other, &rig.broker)
    };
    lost.kill();
    poll("the other one to have them", PATIENCE, || {
        has_it(left).then_some(())
    });
    wait_one_retained(left, &n("bridge/status"), Some(ONLINE));
}

#[test]
fn s6_with_a_will_delay_a_short_loss_is_not_seen_as_offline() {
    let status = n("bridge/status");
    for (delay, is_seen) in [("0", true), ("3600", false)] {
        let Some(rig) = Rig::start() else { return };
        let _battery = rig.bus.serve(battery());
        let line = Line::to(rig.broker.port);
        let server = format!("127.0.0.1:{}", line.port);
        let more = format!("--mqtt-version 5 --keep-alive 0 --will-delay {delay}");
        let mut bridge = Bridge::spawn(&bridge_args(&rig.bus, &server, &more));
        rig.online(0);
        rig.completed(0);
        for _ in 0..2 {
            let mark = rig.client.mark();
            line.cut();
            rig.completed(mark);
            let said = rig.client.payloads(mark, &status);
            assert_eq!(
                said.iter().any(|said| said != ONLINE),
                is_seen,
                "{delay}: {said:?}"
            );
        }
        // An end in good order is said at once, and nothing of the session is left.
        let mark = rig.client.mark();
        bridge.terminate();
        rig.client.expect(mark, &status, OFFLINE);
    }
    let Some(rig) = Rig::start() else { return };
    let mut bridge = rig.bridge("--mqtt-version 5 --will-delay 1");
    let mark = rig.client.mark();
    bridge.kill();
    rig.client.expect(mark, &status, OFFLINE);
}

#[test]
fn s6_a_server_that_the_broker_names_is_gone_to_where_that_is_allowed() {
    let Some(bus) = Bus::start() else { return };
    let _battery = bus.serve(battery());
    let (second, third) = (
        FakeBroker::start(Manner::Good),
        FakeBroker::start(Manner::Good),
    );
    let reference = |broker: &FakeBroker| {
        let mut property = vec![0x1C];
        put_text(&mut property, &broker.address.to_string());
        property
    };
    let named = reference(&second);
    let mut moved = vec![0, 0x9D, u8::try_from(named.len()).unwrap()];
    moved.extend(named);
    let first = FakeBroker::start(Manner::Babble(packet(0x20, &moved)));
    let more = "--mqtt-version 5 --retain false --keep-alive 0";
    let server = first.address.to_string();
    let stays = Bridge::spawn(&bridge_args(&bus, &server, more));
    stays.wait_log(&["WARN", "moved", "with follow-redirect we would go there"]);
    assert_eq!(second.connections(), 0);
    drop(stays);
    let more = format!("{more} --follow-redirect true");
    let _bridge = Bridge::spawn(&bridge_args(&bus, &server, &more));
    second.wait_published(0, &n(SOC), &value("87.5"));
    // In the middle of a session too.
    let named = reference(&third);
    let mut other = vec![0x9C, u8::try_from(named.len()).unwrap()];
    other.extend(named);
    second.send(&packet(0xE0, &other));
    third.wait_published(0, &n(SOC), &value("87.5"));
    // When that one is lost, the one of the settings is asked again.
    let (asked, from) = (first.connections(), second.packets().len());
    third.close();
    first.wait_connections(asked + 1, PATIENCE);
    second.wait_published(from, &n(SOC), &value("87.5"));
}

#[test]
fn s4_14_what_is_too_large_is_skipped_and_ends_no_session() {
    // A request that is retained, which 3.1.1 hands out at each connect, and what an earlier run retained.
    for version in ["3", "5"] {
        let Some(rig) = Rig::start() else { return };
        let _battery = rig.bus.serve(battery());
        let client = rig.broker.client();
        let large = "x".repeat(200_000);
        for topic in [r("x/1/y"), w("x/1/y"), n("ghost/0/Large")] {
            client.publish_retained(&topic, &large);
        }
        client.fence();
        let args = format!("--keep-alive 0 --stats 1 --mqtt-version {version}");
        let bridge = rig.bridge(&args);
        rig.wait_retained("beside what is too large", &battery().topics(258));
        wait_one_retained(&rig.broker, &n("ghost/0/Large"), None);
        // Live too, with QoS 0 and 1, and a request behind it is answered.
        let mark = client.mark();
        client.subscribe(&n("#"));
        for _ in 0..3 {
            client.publish(&r("battery/258/Soc"), &large);
            client.publish(&w("battery/258/Soc"), &large);
        }
        client.publish(&r("battery/258/Soc"), "");
        client.expect(mark, &n(SOC), &value("87.5"));
        client.wait_until(mark, "six requests skipped", |messages| {
            let mut stats = messages.iter().filter(|m| m.topic == n("bridge/stats"));
            stats.find(|m| {
                let stats: serde_json::Value = serde_json::from_str(m.text()).unwrap();
                let stats = &stats["value"];
                assert_eq!(stats["reconnects"], 0);
                let refused = stats["refused"]["too-large"].as_u64().unwrap_or(0);
                stats["skipped"].as_u64().unwrap() >= 7 && refused >= 6
            })?;
            Some(())
        });
        if version == "3" {
            bridge.wait_log(&["WARN", "x/1/y", "rejected"]); // with 5 it is not asked for
        }
        bridge.wait_log(&["WARN", "skipped a message of 200", "ghost/0/Large"]);
        assert!(bridge.log_with(&["trying again"]).is_empty());
    }
}

#[test]
fn s6_what_is_read_is_acknowledged_at_once() {
    // This broker has no TCP_NODELAY: its second message waits until the first is acknowledged, which an
    // ordinary socket puts off for 40 ms when it has nothing to say.
    let Some(bus) = Bus::start() else { return };
    let _battery = bus.serve(battery());
    let broker = FakeBroker::start(Manner::Good);
    let _bridge = bridge_to(
        &bus,
        &broker,
        "--retain false --keep-alive 0 --mqtt-version 5",
    );
    broker.wait_completed(0);
    broker.send_with_delay();
    // On a busy machine some are slow for other reasons, and without this nearly all are.
    let quick = (0..300).filter(|_| {
        let from = broker.packets().len();
        let start = Instant::now();
        broker.publish("other/unknown", ""); // nobody answers this
        broker.publish(&r("battery/258/Soc"), "");
        broker.wait_published(from, &n(SOC), &value("87.5"));
        start.elapsed() < Duration::from_millis(20)
    });
    assert_eq!(quick.take(60).count(), 60, "of 300 requests");
}

#[test]
fn s4_13_a_pace_is_kept_by_waiting_and_answers_go_first() {
    const MAX: usize = 40;
    let Some(bus) = Bus::start() else { return };
    let mut service = battery();
    for item in 0..120 {
        service = service.item(&format!("/Load/{item}"), V::I(-1));
    }
    let peer = bus.serve(service);
    let broker = FakeBroker::start(Manner::Good);
    let more = "--retain false --keep-alive 0 --publish-rate-max 40";
    let _bridge = bridge_to(&bus, &broker, more);
    broker.wait_published(0, &n("battery/258/Load/119"), &value("-1"));
    // While a full publish is on its way, an answer does not wait for it, and a value that changed
    // meanwhile comes as it is then.
    let from = broker.packets().len();
    broker.publish(&r("keepalive"), "");
    peer.update(BATTERY, "/Load/119", V::I(7));
    broker.publish(&r("battery/258/Load/118"), "");
    let answer = broker.wait_published(from, &n("battery/258/Load/118"), &value("-1"));
    let last = broker.wait_published(from, &n("battery/258/Load/119"), &value("7"));
    let end = broker.wait_completed(from);
    assert!(answer < last && last < end, "{answer} {last} {end}");
    let packets = broker.packets();
    let times: Vec<Instant> = packets
        .iter()
        .filter(|packet| packet.published().is_some())
        .map(|packet| packet.at)
        .collect();
    assert!(times.len() > 120);
    for (at, time) in times.iter().enumerate() {
        // What arrives may have been held up on its way: a tenth of a second is allowed for that.
        let second = times[at..]
            .iter()
            .filter(|t| t.duration_since(*time) < Duration::from_millis(900));
        assert!(second.count() <= MAX, "more than {MAX} in a second");
    }
    let stale = packets[from..].iter().filter_map(Packet::published);
    let old = (n("battery/258/Load/119"), value("-1"));
    let stale = stale.filter(|(topic, text, _)| (topic, text) == (&old.0, &old.1));
    assert_eq!(
        stale.count(),
        0,
        "an old value was sent though a newer one waited"
    );
}

#[test]
fn s6_what_a_user_can_change_is_said() {
    let alert = vec![0x15, 3, 1, 0, 2, 2, 70];
    let http = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n".to_vec();
    let old = vec![0x20, 2, 0, 1];
    let cases = [
        (Manner::Babble(alert), "", "write mqtts://"),
        (Manner::Babble(http), "", "write ws://"),
        (Manner::Close, "", "write mqtts:// or ws://"),
        (
            Manner::Old(old),
            "--mqtt-version 5",
            "try --mqtt-version auto",
        ),
        (Manner::Mute, "--mqtt-version 5", "try --mqtt-version 3"),
        (Manner::Mute, "", "which --mqtt-version 3 does at once"),
    ];
    crate::support::in_parallel(&cases, |(manner, more, says)| {
        let Some(bus) = Bus::start() else { return };
        let broker = FakeBroker::start(manner.clone());
        let bridge = Bridge::spawn(&bridge_args(&bus, &broker.address.to_string(), more));
        bridge.wait_log(&["WARN", says]);
    });
}

#[test]
fn s6_two_bridges_with_one_client_id_are_told_so() {
    // With MQTT 5 the broker says it; with 3.1.1 it only closes, again and again.
    for version in ["5", "3"] {
        let Some(rig) = Rig::start() else { return };
        let args = format!("--client-id twin --reconnect-max 1 --mqtt-version {version}");
        let first = Bridge::spawn(&rig.args(&args));
        let _second = Bridge::spawn(&rig.args(&args));
        first.wait_log(&["WARN", "client id twin", "--client-id"]);
    }
}

#[test]
fn a_broker_with_a_full_queue_holds_up_nothing() {
    // No answer to a SYN: the attempt ends by itself, the bus side goes on, and so does SIGTERM.
    let Some(mut broker) = Broker::absent() else {
        return;
    };
    let Some(bus) = Bus::start() else { return };
    let listener = TcpListener::bind(broker.address()).unwrap();
    let waiting = fill(&listener, broker.address());
    let server = format!("127.0.0.1:{}", broker.port);
    let args = bridge_args(&bus, &server, "--keep-alive 0");
    let peer = bus.serve(battery());
    let mut ending = Bridge::spawn(&args);
    let bridge = Bridge::spawn(&args);
    peer.wait_calls("two scans", 2, |call| call.member == "GetItems");
    let start = Instant::now();
    ending.signal(Signal::TERM);
    assert_eq!(ending.wait_exit(crate::support::PATIENCE).code(), Some(0));
    assert!(
        start.elapsed() < Duration::from_secs(8),
        "{:?} to end",
        start.elapsed()
    );
    bridge.wait_log(&["trying again"]);
    drop((waiting, listener));
    broker.restart();
    wait_one_retained(&broker, &n(SOC), Some(&value("87.5")));
}

/// Fills a listener's queue, so that the next attempt is not answered.
fn fill(listener: &TcpListener, address: SocketAddr) -> Vec<TcpStream> {
    rustix::net::listen(listener, 0).unwrap();
    let mut waiting = Vec::new();
    loop {
        match TcpStream::connect_timeout(&address, Duration::from_millis(500)) {
            Ok(stream) => waiting.push(stream),
            Err(_) => return waiting,
        }
    }
}

#[test]
fn a_bus_with_a_full_queue_holds_up_nothing() {
    // A bus that is stopped takes connections until its queue is full; then a plain connect() waits.
    let Some(rig) = Rig::with_absent_bus() else {
        return;
    };
    let listener = UnixListener::bind(rig.bus.socket()).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let address = SocketAddrUnix::new(rig.bus.socket()).unwrap();
    let mut waiting: Vec<UnixStream> = Vec::new();
    loop {
        let flags = rustix::net::SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(
            rustix::net::AddressFamily::UNIX,
            rustix::net::SocketType::STREAM,
            flags,
            None,
        )
        .unwrap();
        if rustix::net::connect(socket.as_fd(), &address).is_err() {
            break;
        }
        waiting.push(socket.into());
    }
    let mut ending = Bridge::spawn(&rig.args("--keep-alive 0"));
    let mark = rig.online(0); // the brokers are served all the same
    ending.wait_log(&["bus", "trying again"]);
    assert!(ending.log_with(&["os error"]).is_empty());
    ending.terminate();
    let mut bridge = Bridge::spawn(&rig.args("--keep-alive 0"));
    rig.online(mark + 1);
    drop((waiting, listener));
    let mut rig = rig;
    rig.bus.restart();
    let _battery = rig.bus.serve(battery());
    rig.wait_retained("with a bus again", &battery().topics(258));
    bridge.assert_alive();
}
