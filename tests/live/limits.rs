//! Floods, live: of requests, of long values, of mistakes that are logged. What is beyond a limit is
//! refused or left out, and counted; everybody else is served.

use std::time::Instant;

use crate::support::bridge::Bridge;
use crate::support::broker::Broker;
use crate::support::bus::Bus;
use crate::support::client::Client;
use crate::support::fake_broker::respond_to;
use crate::support::rig::{ONLINE, PORTAL, n, r, value, w};
use crate::support::service::{BATTERY, battery, vebus};
use crate::support::wire::{V, array, s};
use crate::support::{PATIENCE, poll};
use rustix::process::Signal;
use serde_json::Value as Json;

/// A bus, two brokers with clients that see everything, and a bridge with a settings file.
struct Site {
    bus: Bus,
    bridge: Bridge,
    clients: [Client; 2],
    brokers: [Broker; 2],
    file: std::path::PathBuf,
    _folder: tempfile::TempDir,
}

impl Site {
    /// `None`, said aloud, where a program is missing.
    fn start(bus: Bus, top: &str, limits: &str) -> Option<Site> {
        let brokers = [Broker::start()?, Broker::start()?];
        let clients = [brokers[0].listener(), brokers[1].listener()];
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("settings.toml");
        let ports = [brokers[0].port, brokers[1].port];
        write_settings(&file, &bus, ports, top, limits);
        let path = file.display().to_string();
        let bridge = bus.scanned_by(|| Bridge::spawn(&["--config", &path]));
        for client in &clients {
            client.expect(0, &n("bridge/status"), ONLINE);
        }
        Some(Site {
            bus,
            bridge,
            clients,
            brokers,
            file,
            _folder: folder,
        })
    }

    /// Other settings, taken over while it runs.
    fn reload(&self, top: &str, limits: &str) {
        let ports = [self.brokers[0].port, self.brokers[1].port];
        write_settings(&self.file, &self.bus, ports, top, limits);
        self.bridge.signal(Signal::HUP);
        self.bridge.wait_log(&["settings reloaded"]);
    }

    /// A read whose answer comes after all requests before it.
    fn answered(&self, broker: usize) {
        let client = &self.clients[broker];
        let mark = client.mark();
        client.publish(&r("battery/258/Soc"), "");
        client.wait(mark, "the answer to a read", |message| {
            message.topic == n("battery/258/Soc")
        });
    }
}

fn write_settings(file: &std::path::Path, bus: &Bus, ports: [u16; 2], top: &str, limits: &str) {
    let mut text = format!(
        "dbus = '{}'\nportal-id = '{PORTAL}'\n{top}\n",
        bus.address()
    );
    for port in ports {
        text += &format!("[[broker]]\nserver = '127.0.0.1:{port}'\nkeep-alive = 0\n");
    }
    std::fs::write(file, format!("{text}[limits]\n{limits}\n")).unwrap();
}

/// The last stats that a broker had, once they are such.
fn wait_stats(client: &Client, what: &str, such: impl Fn(&Json) -> bool) -> Json {
    let topic = n("bridge/stats");
    client.wait_until(0, what, |messages| {
        let last = messages.iter().rfind(|message| message.topic == topic)?;
        assert!(!last.retain);
        let told: Json = serde_json::from_str(last.text()).unwrap();
        such(&told["value"]).then(|| told["value"].clone())
    })
}

#[test]
fn a_flood_of_requests_is_refused_counted_and_survived() {
    const READS: usize = 5_000;
    let Some(bus) = Bus::start() else { return };
    let peer = bus.serve(battery());
    let limits = "request-rate-max = 5\nrequest-burst-max = 50";
    let Some(mut site) = Site::start(bus, "stats = 1", limits) else {
        return;
    };
    let topic = r("battery/258/Soc");
    let before_kib = site.bridge.peak_kib();
    for part in 0..READS / 500 {
        site.clients[0].burst((0..500).map(|_| (topic.as_str(), &b""[..])));
        site.clients[0].fence();
        if part == 5 {
            // Keep-alives get through in the midst of it.
            let mark = site.clients[0].mark();
            let echo = r#"{"keepalive-options": [{"full-publish-completed-echo": "midst"}]}"#;
            site.clients[0].publish(&r("keepalive"), echo);
            site.clients[0].wait(mark, "the completion of a keep-alive", |message| {
                message.topic == n("full_publish_completed") && message.text().contains("midst")
            });
        }
    }
    // The clients of the other broker have a rate of their own.
    site.answered(1);
    let all = READS as u64 + 1;
    let stats = wait_stats(&site.clients[0], "stats of all requests", |stats| {
        stats["requests"].as_u64() == Some(all)
    });
    let refused = stats["refused"]["too-fast"].as_u64().unwrap();
    // All that were not refused went to the service, and that of the other broker.
    let expected = READS + 1 - usize::try_from(refused).unwrap();
    let asked = peer.wait_calls("the reads", expected, |call| call.is("GetValue", "/Soc"));
    assert_eq!(asked.len(), expected, "{stats}");
    assert!(refused > READS as u64 / 2, "{stats}");
    assert_eq!(stats["refused"].as_object().unwrap().len(), 1, "{stats}");
    assert!(stats["memory"].as_u64().unwrap() > 1 << 20, "{stats}");
    assert_eq!(
        (&stats["services"], &stats["items"]),
        (&1.into(), &7.into())
    );
    let other = wait_stats(&site.clients[1], "stats of the other broker", |stats| {
        stats["requests"].as_u64() == Some(1)
    });
    assert_eq!(other["refused"].as_object().unwrap().len(), 0);
    let grown_kib = site.bridge.peak_kib() - before_kib;
    assert!(grown_kib < 16 * 1024, "{grown_kib} KiB more in a flood");
    // It was logged, but not line by line.
    let lines = site
        .bridge
        .log_with(&["rejected", "more than 5 requests"])
        .len() as u64;
    assert!((1..refused / 10).contains(&lines), "{lines} lines");
    // One that wants to be told is.
    let curious = Client::connect_as(5, site.brokers[0].address(), None);
    curious.subscribe("answers/#");
    for number in 0..200_u8 {
        curious.publish_with(&topic, &respond_to("answers/x", &[number]), "");
    }
    curious.wait(0, "to be told", |message| {
        message.text().contains("too-fast")
    });
    site.bridge.assert_alive();
    site.bridge.terminate();
}

#[test]
fn long_texts_and_lists_are_left_out_and_reported_once() {
    let Some(bus) = Bus::start() else { return };
    let peer = bus.serve(battery());
    let _vebus = bus.serve(vebus());
    let limits = "text-bytes-max = 1_000\narray-bytes-max = 1_000";
    let Some(mut site) = Site::start(bus, "", limits) else {
        return;
    };
    let client = &site.clients[0];
    let name = n("battery/258/ProductName");
    client.expect(0, &name, &value("\"SmartShunt\""));
    for (path, longest, too_long, json) in [
        (
            "/ProductName",
            s(&"x".repeat(1_000)),
            s(&"x".repeat(1_001)),
            format!("\"{}\"", "x".repeat(1_000)),
        ),
        (
            "/List",
            array("i", (0..240).map(V::I)),
            array("i", (0..251).map(V::I)),
            format!("{:?}", (0..240).collect::<Vec<_>>()),
        ),
    ] {
        let topic = n(&format!("battery/258{path}"));
        let mark = client.mark();
        peer.update(BATTERY, path, longest);
        client.expect(mark, &topic, &value(&json));
        for _ in 0..3 {
            peer.update(BATTERY, path, too_long.clone());
        }
        // What is no more true is taken back, once.
        client.expect(mark, &topic, "");
        peer.update(BATTERY, path, s("short"));
        client.expect(mark, &topic, &value("\"short\""));
        let of_it = client.payloads(mark, &topic);
        assert_eq!(of_it.iter().filter(|payload| payload.is_empty()).count(), 1);
        let lines = site
            .bridge
            .log_with(&[path, "not published", "more than 1000"]);
        assert_eq!(lines.len(), 1, "{lines:?}");
    }
    // Texts of 16 MiB: thrown away, and the memory with them.
    for _ in 0..5 {
        peer.facets("/Huge", [("Value", s(&"x".repeat(16 << 20)))]);
    }
    peer.update(BATTERY, "/Huge", s("small"));
    client.expect(0, &n("battery/258/Huge"), &value("\"small\""));
    assert_eq!(site.bridge.log_with(&["/Huge", "not published"]).len(), 1);
    let peak_kib = site.bridge.peak_kib();
    assert!(peak_kib < 128 * 1024, "{peak_kib} KiB");
    // The same holds for what is written.
    client.publish(
        &w("vebus/257/ProductName"),
        value(&format!("\"{}\"", "x".repeat(1_001))),
    );
    site.bridge
        .wait_log(&["vebus/257/ProductName", "rejected", "1001 bytes"]);
    // And more may be had without a restart.
    site.reload("", "text-bytes-max = 1_001\narray-bytes-max = 1_000");
    let mark = client.mark();
    peer.update(BATTERY, "/ProductName", s(&"y".repeat(1_001)));
    client.expect(mark, &name, &value(&format!("\"{}\"", "y".repeat(1_001))));
    site.bridge.terminate();
}

#[test]
fn texts_are_bounded_together_too() {
    let Some(bus) = Bus::start() else { return };
    let peer = bus.serve(battery());
    let Some(mut site) = Site::start(bus, "", "cache-bytes-max = 10_000") else {
        return;
    };
    let client = &site.clients[0];
    let text = |of: &str| s(&of.repeat(4_000));
    let told_as = |of: &str| value(&format!("\"{}\"", of.repeat(4_000)));
    let topic = |path: &str| n(&format!("battery/258{path}"));
    for path in ["/A", "/B", "/C"] {
        peer.update(BATTERY, path, text("x"));
    }
    // Two of them have room, the third has not; numbers need none.
    client.expect(0, &topic("/A"), &told_as("x"));
    client.expect(0, &topic("/B"), &told_as("x"));
    peer.update(BATTERY, "/Soc", V::D(1.5));
    client.expect(0, &topic("/Soc"), &value("1.5"));
    assert!(client.payloads(0, &topic("/C")).is_empty());
    let told = ["battery/258/C is not published", "more than 10000 bytes"];
    assert_eq!(site.bridge.log_with(&told).len(), 1);
    // Who asks for it is told the same.
    client.publish(&r("battery/258/C"), "");
    site.bridge.wait_log(&["R/", "/C rejected", "10000 bytes"]);
    // What becomes short makes room.
    let mark = client.mark();
    peer.update(BATTERY, "/A", s("short"));
    peer.update(BATTERY, "/C", text("y"));
    client.expect(mark, &topic("/A"), &value("\"short\""));
    client.expect(mark, &topic("/C"), &told_as("y"));
    // And so does a higher limit.
    peer.update(BATTERY, "/A", text("z"));
    client.expect(mark, &topic("/A"), "");
    site.reload("", "cache-bytes-max = 100_000");
    let mark = client.mark();
    peer.update(BATTERY, "/A", text("z"));
    client.expect(mark, &topic("/A"), &told_as("z"));
    site.bridge.terminate();
}

#[test]
fn a_flood_of_mistakes_does_not_flood_the_log() {
    let Some(bus) = Bus::start() else { return };
    let peer = bus.serve(battery());
    let limits = "log-lines-max = 3\nlog-interval-s = 100_000";
    let Some(mut site) = Site::start(bus, "", limits) else {
        return;
    };
    let lines = |texts: &[&str]| site.bridge.log_with(texts).len();
    // The same request would be said three times an hour, whatever the limit.
    let topics: Vec<_> = (0..1_000)
        .map(|number| w(&format!("battery/258/{number}")))
        .collect();
    for broker in [0, 1] {
        for some in topics.chunks(100) {
            site.clients[broker].burst(some.iter().map(|topic| (topic.as_str(), &b"no JSON"[..])));
            site.clients[broker].fence();
        }
        site.answered(broker);
        // The clients of one broker do not use up what there is for those of another.
        assert_eq!(lines(&["rejected", &format!("broker {}", broker + 1)]), 3);
    }
    let bad: Vec<String> = (0..100).map(|item| format!("/Bad//{item}")).collect();
    peer.items_changed(bad.iter().map(|path| (path.as_str(), V::I(1))));
    site.bridge.wait_log(&["no topic can have that path"]);
    site.answered(0);
    assert_eq!(lines(&["no topic can have that path"]), 3);

    // A shorter interval holds at once, and what was left out is said.
    site.reload("", "log-lines-max = 2\nlog-interval-s = 1");
    let words = "more rejected requests are not shown";
    let mut numbers = topics.iter().cycle();
    let said = poll("the number of those that are not shown", PATIENCE, || {
        site.clients[0].publish(numbers.next().unwrap(), "no JSON");
        std::thread::sleep(std::time::Duration::from_millis(100)); // not a flood
        site.bridge
            .log_with(&["broker 1", words])
            .into_iter()
            .next()
    });
    let number = said.split(words).next().unwrap().trim_end();
    let number: u64 = number.rsplit(' ').next().unwrap().parse().unwrap();
    // And those that came in the meantime.
    assert!((997..1_500).contains(&number), "{said}");
    let start = Instant::now();
    let before = lines(&["rejected", "broker 1"]);
    for topic in &topics {
        site.clients[0].publish(topic, "no JSON");
    }
    site.answered(0);
    let seconds = start.elapsed().as_secs() + 2;
    let more = (lines(&["rejected", "broker 1"]) - before) as u64;
    assert!(more <= seconds * 3, "{more} lines in {seconds} s");
    site.bridge.terminate();
}
