//! Connections that are neither there nor gone: ends that vanish without a word, queues that are full,
//! and what takes connections only to close them. Nothing hangs, nothing is left over, and when the
//! other end is back the values are right.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods // tests have clocks
)]

mod support;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use rustix::net::SocketAddrUnix;
use rustix::process::Signal;

use support::bridge::Bridge;
use support::broker::Broker;
use support::bus::Bus;
use support::client::take_text;
use support::fake_broker::{CONNECT, FakeBroker, Manner, Packet};
use support::line::Line;
use support::poll;
use support::rig::{ONLINE, Rig, both, bridge_args, bridge_to, n, r, value, wait_one_retained};
use support::service::{BATTERY, battery, vebus};
use support::wire::V;

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
        broker.wait_connections(so_far + 1, support::PATIENCE);
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
    poll("the full publish", support::PATIENCE, || {
        (values(online) >= battery().topics(258).len()).then_some(())
    });
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
    assert_eq!(ending.wait_exit(support::PATIENCE).code(), Some(0));
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
