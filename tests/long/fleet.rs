//! Many installations (`dbus-mqtt fleet`) on clusters of NATS and RabbitMQ whose nodes end, and a thousand of
//! them for ten minutes. What is measured is printed; what is claimed of it stands in docs/fleets.md.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use serde_json::Value;

use crate::support::bridge::Bridge;
use crate::support::broker::Broker;
use crate::support::client::Client;
use crate::support::line::Line;
use crate::support::poll;
use crate::support::process::Process;
use crate::support::recording::Recording;
use crate::support::rig::{PORTAL, difference};
use crate::support::server::{Server, takes_mqtt};

const SERVICES: [&str; 2] = [
    "com.victronenergy.battery.ttyS5",
    "com.victronenergy.tank.adc_builtin0_1",
];
/// How long it may take until every installation is right again: a cluster may take its time to find itself.
const RECOVERY: Duration = Duration::from_secs(180);

/// A broker has had time to tell an installation what it is asked, and the installation to notice that it does
/// not.
const DEAF: Duration = Duration::from_secs(60);

/// Topic and payload.
type Values = BTreeMap<String, String>;

fn portal_id(number: usize) -> String {
    format!("fleet{number:06}")
}

/// What a fleet plays, and what each of its installations has to publish of that at the end.
struct Play {
    files: Vec<String>,
    changes: usize,
    /// Without `N/<portal id>/`.
    last: Values,
}

impl Play {
    fn read() -> Play {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/recordings");
        let files = SERVICES.map(|name| folder.join(format!("{name}.jsonl")));
        let (mut last, mut changes) = (Values::new(), 0);
        for file in &files {
            let recording = Recording::read(file);
            let end = recording.after(recording.bursts.len());
            changes += recording.bursts.iter().map(Vec::len).sum::<usize>();
            let topics = recording.published(&end).into_iter();
            last.extend(topics.map(|(topic, payload)| {
                let rest = topic.strip_prefix(&format!("N/{PORTAL}/")).unwrap();
                (rest.to_owned(), payload)
            }));
        }
        let files = files.map(|file| file.display().to_string());
        Play {
            files: files.to_vec(),
            changes,
            last,
        }
    }

    fn fleet(&self, port: u16, options: &str) -> Bridge {
        let mut args = vec!["fleet".to_owned(), "--broker".to_owned()];
        args.push(format!("127.0.0.1:{port}"));
        args.extend("--keep-alive 0 --once --json".split(' ').map(str::to_owned));
        args.extend(options.split(' ').map(str::to_owned));
        for file in &self.files {
            args.extend(["--recording".to_owned(), file.clone()]);
        }
        Bridge::spawn(&args)
    }
}

/// The last values of installations, by their portal ids, as one client has them.
struct Observer {
    client: Client,
    /// How many messages were looked at.
    looked: usize,
    live: BTreeMap<String, Values>,
    retained: BTreeMap<String, Values>,
}

impl Observer {
    fn of(client: Client) -> Observer {
        Observer {
            client,
            looked: 0,
            live: BTreeMap::new(),
            retained: BTreeMap::new(),
        }
    }

    /// A client of any node that takes one and lets it subscribe.
    fn of_any(nodes: &[Server]) -> Option<Observer> {
        let running = nodes.iter().filter(|node| node.process().is_some());
        running.map(Server::address).find_map(Observer::at)
    }

    fn at(address: SocketAddr) -> Option<Observer> {
        let client = Client::try_connect(4, address, None).ok()?;
        client.try_subscribe("N/#").then(|| Observer::of(client))
    }

    /// Whether an installation shows that it is connected.
    fn hears(&self, number: usize) -> bool {
        let values = self.live.get(&portal_id(number));
        values.is_some_and(|values| values.contains_key("heartbeat"))
    }

    /// Takes what has come; gives how much of that were values, and no signs of life.
    fn look(&mut self) -> usize {
        let mut count = 0;
        for message in self.client.since(self.looked) {
            self.looked += 1;
            let parts: Vec<&str> = message.topic.splitn(3, '/').collect();
            let ["N", portal, rest] = parts[..] else {
                continue;
            };
            let all = if message.retain {
                &mut self.retained
            } else {
                &mut self.live
            };
            let values = all.entry(portal.to_owned()).or_default();
            values.insert(rest.to_owned(), message.text().to_owned());
            count += usize::from(rest != "heartbeat");
        }
        count
    }

    /// Waits until no value has come for that long.
    fn wait_quiet(&mut self, time: Duration) {
        let mut quiet = Instant::now();
        while quiet.elapsed() < time {
            std::thread::sleep(Duration::from_millis(20));
            if self.look() > 0 {
                quiet = Instant::now();
            }
        }
    }
}

/// What is wrong or missing of an installation.
fn wrong(last: &Values, seen: &BTreeMap<String, Values>, number: usize) -> String {
    let nothing = Values::new();
    let seen = seen.get(&portal_id(number)).unwrap_or(&nothing);
    if last
        .iter()
        .all(|(topic, payload)| seen.get(topic) == Some(payload))
    {
        return String::new();
    }
    let mut seen = seen.clone();
    seen.retain(|topic, _| last.contains_key(topic));
    difference(last, &seen)
}

/// What is wrong with the first installation that is not right.
fn first_wrong(last: &Values, seen: &BTreeMap<String, Values>, count: usize) -> Option<String> {
    let mut all = (0..count).map(|number| (number, wrong(last, seen, number)));
    let (number, text) = all.find(|(_, text)| !text.is_empty())?;
    Some(format!("{}:\n{text}", portal_id(number)))
}

/// A connection that was made after a moment, of the lines that a fleet prints.
fn connects(fleet: &Bridge, since_ms: u64) -> Vec<u64> {
    let events = fleet.log().into_iter();
    let events = events.filter_map(|line| serde_json::from_str::<Value>(&line).ok());
    let made = events.filter(|event| event["connected"] == true);
    let times = made.map(|event| event["ts"].as_u64().unwrap());
    times.filter(|ts| *ts >= since_ms).collect()
}

fn unix_ms() -> u64 {
    let now = std::time::SystemTime::now();
    let since = now.duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

/// Asks each installation for everything, on any of these nodes, until all have answered with what they have.
/// Gives how long after `since` each of them had. Those that a broker does not tell what they are asked, though
/// they are connected, are given in `deaf`, or it fails.
fn wait_live(
    nodes: &[Server],
    count: usize,
    last: &Values,
    since: Instant,
    mut deaf: Option<&mut BTreeSet<usize>>,
) -> Vec<Duration> {
    let mut missing: BTreeSet<usize> = (0..count).collect();
    let mut times = Vec::new();
    let mut observer: Option<Observer> = None;
    // No answer comes from an installation that is on its way: it is asked again.
    let again =
        Duration::from_secs(5).max(Duration::from_millis(20) * u32::try_from(count).unwrap());
    let mut asked: Option<Instant> = None;
    while let Some(first) = missing.first() {
        if let (Some(deaf), Some(one)) = (&mut deaf, &observer)
            && since.elapsed() > DEAF
            && missing.iter().all(|number| one.hears(*number))
        {
            deaf.append(&mut missing);
            break;
        }
        assert!(
            since.elapsed() < RECOVERY,
            "{} of {count} installations do not answer, such as {}:\n{}",
            missing.len(),
            portal_id(*first),
            observer.map_or_else(String::new, |one| wrong(last, &one.live, *first))
        );
        std::thread::sleep(Duration::from_millis(20));
        if observer.as_ref().is_none_or(|one| one.client.is_closed()) {
            observer = Observer::of_any(nodes);
            asked = None;
        }
        let Some(one) = &mut observer else { continue };
        if asked.is_none_or(|asked| asked.elapsed() > again) {
            asked = Some(Instant::now());
            for number in &missing {
                let topic = format!("R/{}/keepalive", portal_id(*number));
                // If it is gone, there is another next time.
                one.client.try_publish(&topic, "").ok();
            }
        }
        one.look();
        missing.retain(|number| {
            let is_missing = !wrong(last, &one.live, *number).is_empty();
            if !is_missing {
                times.push(since.elapsed());
            }
            is_missing
        });
    }
    times
}

/// A client that comes now has from each node the last values of every installation.
fn wait_retained(addresses: &[SocketAddr], count: usize, last: &Values) {
    for address in addresses {
        let start = Instant::now();
        loop {
            let wrong = Observer::at(*address).map(|mut observer| {
                // What is retained comes after the SUBACK.
                observer.wait_quiet(Duration::from_millis(300));
                first_wrong(last, &observer.retained, count)
            });
            if wrong == Some(None) {
                break;
            }
            assert!(
                start.elapsed() < RECOVERY,
                "retained at {address}: {wrong:?}"
            );
        }
    }
}

/// Half, 95 of 100, all.
fn spread(times: &[Duration]) -> String {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let part = |of: usize| sorted[(sorted.len() - 1) * of / 100].as_secs_f64();
    format!(
        "half within {:.1} s, 95 % within {:.1} s, the last after {:.1} s",
        part(50),
        part(95),
        part(100)
    )
}

/// How many connections were made in each second after a moment.
fn histogram(times_ms: &[u64], since_ms: u64) -> String {
    let mut seconds: BTreeMap<u64, usize> = BTreeMap::new();
    for time in times_ms {
        *seconds.entry((time - since_ms) / 1000).or_default() += 1;
    }
    let bars = seconds
        .iter()
        .map(|(second, count)| format!("{second} s: {count}"));
    bars.collect::<Vec<_>>().join(", ")
}

/// Tells past the harness what was measured.
fn tell(text: &str) {
    use std::io::Write;
    writeln!(std::io::stderr(), "fleet: {text}").unwrap();
}

struct Scene {
    name: &'static str,
    fleet: Bridge,
    line: Line,
    nodes: Vec<Server>,
    play: Play,
    retains: bool,
}

const COUNT: usize = 50;

impl Scene {
    fn start(name: &'static str, nodes: Vec<Server>, retains: bool, options: &str) -> Scene {
        let line = Line::over(nodes.iter().map(|node| node.port).collect());
        let play = Play::read();
        let options =
            format!("--count {COUNT} --engine {name} --rate 300 --start-rate 50 {options}");
        let fleet = play.fleet(line.port, options.trim());
        let scene = Scene {
            name,
            nodes,
            line,
            fleet,
            play,
            retains,
        };
        let times = wait_live(&scene.nodes, COUNT, &scene.play.last, Instant::now(), None);
        tell(&format!(
            "{name}, {COUNT} installations, {options}: all there: {}",
            spread(&times)
        ));
        scene
    }

    /// Lets a fault happen; from when `fault` says that a broker can be reached it counts.
    fn survives(&mut self, what: &str, fault: impl FnOnce(&mut Scene) -> (Instant, u64)) {
        let (since, since_ms) = fault(self);
        let mut deaf = BTreeSet::new();
        // RabbitMQ 3.10 may delete the queue, or the route to it, of a client that is back before it has cleaned up
        // what was on the node that ended.
        let may_be_deaf = (!self.retains).then_some(&mut deaf);
        let times = wait_live(&self.nodes, COUNT, &self.play.last, since, may_be_deaf);
        self.fleet.assert_alive();
        let came = connects(&self.fleet, since_ms);
        tell(&format!(
            "{}, {what}: {} right again, {}; {} reconnects: {}",
            self.name,
            times.len(),
            spread(&times),
            came.len(),
            histogram(&came, since_ms)
        ));
        for node in &mut self.nodes {
            if node.process().is_none() {
                node.restart();
            }
        }
        if !deaf.is_empty() {
            tell(&format!(
                "{}: the broker gives {} connected installations none of their requests; once connected again:",
                self.name,
                deaf.len()
            ));
            self.line.cut();
            let times = wait_live(&self.nodes, COUNT, &self.play.last, Instant::now(), None);
            tell(&format!("{}: all right, {}", self.name, spread(&times)));
        }
        if self.retains {
            let nodes: Vec<SocketAddr> = self.nodes.iter().map(Server::address).collect();
            wait_retained(&nodes, COUNT, &self.play.last);
        }
    }

    /// Stopping in good order, it clears what it published.
    fn end(&mut self) {
        self.fleet.signal(Signal::INT);
        let status = self.fleet.wait_exit(Duration::from_secs(60));
        assert_eq!(status.code(), Some(0));
    }

    fn cpu(&self) -> (Duration, Duration) {
        let nodes = self.nodes.iter().filter_map(Server::process);
        (self.fleet.cpu(), nodes.map(Process::cpu).sum())
    }
}

fn now() -> (Instant, u64) {
    (Instant::now(), unix_ms())
}

/// Ends nodes in every way, one after the other and all at once.
fn survives_everything(mut scene: Scene) {
    for number in 0..scene.nodes.len() {
        scene.survives(&format!("node {number} ended by SIGTERM"), |scene| {
            let start = now();
            scene.nodes[number].terminate();
            start
        });
    }
    for number in 0..scene.nodes.len() {
        scene.survives(&format!("node {number} ended by SIGKILL"), |scene| {
            let start = now();
            scene.nodes[number].kill();
            start
        });
    }
    scene.survives("the balancer away for 2 s", |scene| {
        scene.line.close();
        std::thread::sleep(Duration::from_secs(2));
        scene.line.open();
        now()
    });
    scene.survives("all nodes ended by SIGKILL at once", |scene| {
        scene.nodes.iter_mut().for_each(Server::kill);
        scene.nodes.iter_mut().for_each(Server::launch);
        let nodes = &scene.nodes;
        poll("a node to take clients", RECOVERY, || {
            nodes
                .iter()
                .any(|node| takes_mqtt(node.address()))
                .then_some(())
        });
        now()
    });
    scene.nodes.iter_mut().for_each(Server::wait_ready);
    scene.end();
}

/// How long a mass reconnect is measured.
const MEASURED: Duration = Duration::from_secs(20);

/// What a mass reconnect costs, with and without `republish-jitter`.
fn mass_reconnect(name: &'static str, nodes: Vec<Server>, retains: bool) -> Vec<Server> {
    let mut nodes = nodes;
    for jitter in ["0", "10"] {
        let options = format!("--republish-jitter {jitter}");
        let mut scene = Scene::start(name, nodes, retains, &options);
        let mut observer = Observer::of_any(&scene.nodes).unwrap();
        // Some have been asked twice.
        observer.wait_quiet(Duration::from_secs(3));
        observer.live.clear();
        let before = scene.cpu();
        scene.line.cut();
        let start = Instant::now();
        // Each publishes everything once more, without being asked.
        poll("every value of every installation", RECOVERY, || {
            observer.look();
            let wrong = first_wrong(&scene.play.last, &observer.live, COUNT);
            wrong.is_none().then_some(())
        });
        let all = start.elapsed();
        // The same time for both, with the signs of life in it.
        poll("the time of the measurement", MEASURED * 2, || {
            (start.elapsed() > MEASURED).then_some(())
        });
        let after = scene.cpu();
        let traffic = scene.line.traffic(start);
        let most = traffic.iter().copied().max().unwrap_or(0);
        let bytes: usize = traffic.iter().sum();
        tell(&format!(
            "{name}, all {COUNT} reconnect, republish-jitter {jitter}: everything published after {:.1} s, {bytes} bytes, \
             at most {most} of them in a tenth of a second; CPU of the nodes {:.0} ms, of the fleet {:.0} ms",
            all.as_secs_f64(),
            (after.1 - before.1).as_secs_f64() * 1000.0,
            (after.0 - before.0).as_secs_f64() * 1000.0,
        ));
        scene.end();
        nodes = scene.nodes;
    }
    nodes
}

#[test]
fn fifty_installations_on_three_nodes_of_nats() {
    let Some(nodes) = Server::nats_cluster(3) else {
        return;
    };
    let nodes = mass_reconnect("nats", nodes, true);
    survives_everything(Scene::start("nats", nodes, true, "--reconnect-max 5"));
}

#[test]
fn fifty_installations_on_three_nodes_of_rabbitmq() {
    let Some(nodes) = Server::rabbitmq_cluster(3) else {
        return;
    };
    let nodes = mass_reconnect("rabbitmq", nodes, false);
    survives_everything(Scene::start("rabbitmq", nodes, false, "--reconnect-max 5"));
}

/// How long the thousand play.
const PLAY: Duration = Duration::from_secs(600);
const MANY: usize = 1000;

/// A thousand installations that play for ten minutes, on a broker of this process.
fn a_thousand(name: &str, port: u16, broker: &Process, options: &str) -> (Bridge, Play) {
    let play = Play::read();
    // One pass takes as long as they play.
    #[allow(clippy::cast_precision_loss)] // a few hundred
    let rate = play.changes as f64 / PLAY.as_secs_f64();
    let before = broker.status("VmRSS:");
    let start = Instant::now();
    let options = format!("--count {MANY} --rate {rate:.3} --start-rate 20 {options}");
    let fleet = play.fleet(port, options.trim());
    let mut rates: Vec<Value> = Vec::new();
    // The last of them starts when the others have played for a while.
    let all = PLAY + Duration::from_secs(60);
    poll(
        "a thousand installations to have played",
        all + RECOVERY,
        || (start.elapsed() > all).then_some(()),
    );
    for line in fleet.log() {
        let event: Value = serde_json::from_str(&line).unwrap();
        if event["installations"].is_u64() && event["connected"] == MANY {
            rates.push(event);
        }
    }
    let last = rates.last().expect("all of them connected");
    let mut publishes: Vec<f64> = rates
        .iter()
        .map(|event| event["publishes_per_second"].as_f64().unwrap())
        .collect();
    publishes.sort_by(f64::total_cmp);
    let per = |kib: u64| kib / u64::try_from(MANY).unwrap();
    tell(&format!(
        "{name}, {options}: {} publishes/s (median), {} connects, {} errors; memory of each installation {} KiB in the \
         fleet and {} KiB in the broker ({} KiB with none); {} s of broker CPU",
        publishes[publishes.len() / 2],
        last["connects"],
        last["errors"],
        per(last["memory_bytes"].as_u64().unwrap() / 1024),
        per(broker.status("VmRSS:").saturating_sub(before)),
        before,
        broker.cpu().as_secs()
    ));
    assert_eq!(last["connects"], MANY, "none was lost on the way");
    (fleet, play)
}

/// Many files are open at once, here and in the broker.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, raised).unwrap();
}

/// Ends a fleet, which clears what it published.
fn end(mut fleet: Bridge) {
    fleet.signal(Signal::INT);
    let status = fleet.wait_exit(Duration::from_secs(60));
    assert_eq!(status.code(), Some(0));
}

#[test]
fn a_thousand_installations_for_ten_minutes_on_mosquitto() {
    raise_file_limit();
    let Some(broker) = Broker::start() else {
        return;
    };
    let (fleet, play) = a_thousand("mosquitto", broker.port, broker.process(), "");
    wait_retained(&[broker.address()], MANY, &play.last);
    end(fleet);
    let mut observer = Observer::at(broker.address()).unwrap();
    observer.wait_quiet(Duration::from_millis(300));
    let mut left = observer.retained;
    for values in left.values_mut() {
        values.retain(|topic, _| play.last.contains_key(topic));
    }
    left.retain(|_, values| !values.is_empty());
    assert_eq!(left, BTreeMap::new(), "all is cleared");
}

#[test]
fn a_thousand_installations_for_ten_minutes_on_rabbitmq() {
    raise_file_limit();
    let Some(nodes) = Server::rabbitmq_cluster(1) else {
        return;
    };
    let process = nodes[0].process().unwrap();
    let options = "--engine rabbitmq";
    let (fleet, play) = a_thousand("RabbitMQ", nodes[0].port, process, options);
    wait_live(&nodes, MANY, &play.last, Instant::now(), None);
    end(fleet);
}
