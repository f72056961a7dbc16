#![allow(clippy::disallowed_methods)] // any moment will do

use super::*;
use crate::bridge::store::ids::BrokerId;

const TIMEOUT: Duration = Duration::from_secs(5);

/// Calls, and what of them was sent.
struct Scene {
    calls: Calls,
    now: Instant,
    sent: Vec<Call>,
}

impl Scene {
    fn new() -> Scene {
        let (calls, now) = (Calls::new(), Instant::now());
        let sent = Vec::new();
        Scene { calls, now, sent }
    }

    fn call(&mut self, owner: &str, method: Method, purpose: Purpose) {
        let callee = Callee {
            owner,
            destination: owner,
        };
        self.calls
            .call(self.now, TIMEOUT, callee, "/", method, purpose);
    }

    fn read(&mut self, owner: &str) {
        let purpose = ClientCall::Read {
            broker: BrokerId::from(0),
            ticket: 0,
            service: ServiceId(0),
            path: "/".into(),
            leaf: true,
            respond_to: None,
        };
        self.call(owner, Method::GetValue, Purpose::Client(purpose));
    }

    fn write(&mut self, owner: &str) {
        let purpose = ClientCall::Write {
            broker: BrokerId::from(0),
            topic: owner.into(),
            writer: None,
            secret: false,
        };
        self.call(
            owner,
            Method::SetValue(BusValue::Bool(true)),
            Purpose::Client(purpose),
        );
    }

    fn scan(&mut self, owner: &str, service: u32) {
        let purpose = Purpose::Scan {
            service: ServiceId(service),
            scan: 1,
            step: Step::Items,
        };
        self.call(owner, Method::GetItems, purpose);
    }

    /// Sends all there is room for; tells how many that were.
    fn send(&mut self) -> usize {
        let before = self.sent.len();
        assert_eq!(
            self.calls.has_calls(),
            self.calls.next_turn().is_some() || !self.calls.to_bus.is_empty()
        );
        while let Some(call) = self.calls.poll() {
            self.sent.push(call);
        }
        assert!(!self.calls.has_calls());
        self.sent.len() - before
    }

    /// A peer answers the oldest call that it was sent.
    fn answer(&mut self, owner: &str) -> Answered {
        let at = self
            .sent
            .iter()
            .position(|call| *call.destination == *owner);
        let call = self.sent.remove(at.unwrap());
        self.calls.answer(self.now, call.id, owner, None, |_| false)
    }

    /// Time passes; why calls ended.
    fn pass(&mut self, time: Duration) -> Vec<Missing> {
        self.now += time;
        let now = self.now;
        std::iter::from_fn(|| self.calls.expire(now))
            .map(|ended| ended.why)
            .collect()
    }

    fn sent_to(&self, owner: &str) -> usize {
        self.sent
            .iter()
            .filter(|call| *call.destination == *owner)
            .count()
    }

    /// Nothing is left of all that was.
    fn assert_settled(&self) {
        let calls = &self.calls;
        assert_eq!(calls.at_bus, AtBus::default());
        assert_eq!((calls.reads, calls.writes, calls.urgent), (0, 0, 0));
        assert!(
            calls.pending.is_empty() && calls.peers.is_empty() && calls.deadline().is_none(),
            "{calls:?}"
        );
        assert!(!calls.has_calls());
    }
}

#[test]
fn every_call_ends_once() {
    let mut scene = Scene::new();
    for _ in 0..3 {
        scene.call(BUS, Method::ListNames, Purpose::Names);
    }
    scene.send();
    let ids: Vec<_> = scene.sent.iter().map(|call| call.id).collect();
    assert_eq!(ids, [0, 1, 2].map(|n| CallId(CallId::MIN.0 + n)));
    assert_eq!(scene.answer(BUS).purpose, Some(Purpose::Names));
    let again = scene
        .calls
        .answer(scene.now, CallId::MIN, BUS, None, |_| false);
    assert_eq!(again, Answered::default());
    assert_eq!(scene.pass(TIMEOUT), [Missing::TimedOut, Missing::TimedOut]);
    scene.call(BUS, Method::ListNames, Purpose::Names);
    assert_eq!(scene.calls.end_all(), [Purpose::Names]);
    scene.assert_settled();
}

#[test]
fn s2_9_a_peer_and_all_have_their_limits() {
    let mut scene = Scene::new();
    for peer in 0..100 {
        for _ in 0..100 {
            scene.read(&format!(":1.{peer}"));
            scene.write(&format!(":1.{peer}"));
        }
    }
    assert_eq!(scene.send(), READS_MAX + WRITES_MAX);
    let reads = |scene: &Scene, peer: &str| {
        let to = |call: &&Call| *call.destination == *peer && call.method == Method::GetValue;
        scene.sent.iter().filter(to).count()
    };
    let most = (0..100)
        .map(|peer| reads(&scene, &format!(":1.{peer}")))
        .max();
    assert!(most <= Some(PEER_READS_MAX), "{most:?}");
    assert_eq!(
        (scene.calls.reads(), scene.calls.writes()),
        (10_000, 10_000)
    );
    // Whatever is answered makes room for as much.
    for _ in 0..500 {
        let owner = scene.sent[0].destination.clone();
        scene.answer(&owner);
        assert_eq!(scene.send(), 1);
    }
    // What is given up keeps its place, and is not a reason to ask somebody else.
    scene.pass(TIMEOUT);
    assert_eq!(
        (scene.calls.at_bus.reads, scene.calls.at_bus.writes),
        (READS_MAX, WRITES_MAX)
    );
    scene.read(":1.200");
    assert_eq!(scene.send(), 0);
    assert_eq!(scene.pass(TIMEOUT), [Missing::NoTurn]);
    // Its answer frees it, however late.
    while let Some(call) = scene.sent.first() {
        let owner = call.destination.clone();
        assert_eq!(scene.answer(&owner).purpose, None);
    }
    scene.assert_settled();
}

#[test]
fn s2_9_a_single_peer_takes_a_few_places_only() {
    let mut scene = Scene::new();
    for _ in 0..200 {
        scene.read(":1.1");
        scene.write(":1.2");
        scene.scan(":1.3", 3);
    }
    scene.send();
    let found = [":1.1", ":1.2", ":1.3"].map(|peer| scene.sent_to(peer));
    assert_eq!(found, [PEER_READS_MAX, 8, PEER_READS_MAX - KEPT_FOR_READS]);
    for peer in [":1.4", ":1.5"] {
        scene.read(peer);
        scene.write(peer);
        scene.scan(peer, 4);
        scene.send();
        assert_eq!(scene.sent_to(peer), 3, "{peer}");
    }
}

#[test]
fn s2_9_scans_leave_room_for_reads() {
    let mut scene = Scene::new();
    for peer in 0..100 {
        scene.scan(&format!(":1.{peer}"), peer);
    }
    assert_eq!(scene.send(), READS_MAX - KEPT_FOR_READS);
    scene.pass(TIMEOUT);
    for _ in 0..10 {
        scene.read(":1.200");
        assert_eq!(scene.send(), 1);
        assert!(scene.answer(":1.200").purpose.is_some());
    }
}

#[test]
fn s2_9_peers_have_turns() {
    let mut scene = Scene::new();
    for _ in 0..1_000 {
        scene.read(":1.1");
    }
    for peer in 2..5 {
        scene.read(&format!(":1.{peer}"));
        scene.scan(&format!(":1.{peer}"), peer);
    }
    scene.send();
    for peer in 2..5 {
        assert_eq!(scene.sent_to(&format!(":1.{peer}")), 2);
    }
    // Reads and scans of one peer take turns too.
    let mut scene = Scene::new();
    for number in 0..100 {
        scene.read(":1.1");
        scene.scan(":1.1", number);
    }
    scene.send();
    for _ in 0..50 {
        scene.answer(":1.1");
        scene.send();
    }
    let scans = scene
        .calls
        .pending
        .values()
        .filter(|pending| pending.lane == Lane::Scan);
    assert!((60..90).contains(&scans.count()));
}

#[test]
fn s2_9_a_peer_that_owes_answers_is_asked_nothing_more() {
    let mut scene = Scene::new();
    for _ in 0..100 {
        scene.read(":1.1");
        scene.write(":1.1");
    }
    let sent = scene.send();
    assert_eq!(sent, PEER_READS_MAX + 8);
    let why = scene.pass(TIMEOUT);
    assert_eq!(why.len(), 200);
    let silent = why.iter().filter(|why| **why == Missing::Silent).count();
    assert_eq!(silent, 200 - sent);
    assert!(scene.calls.owes(":1.1") && !scene.calls.owes(":1.2"));
    scene.read(":1.1");
    scene.scan(":1.1", 0);
    assert_eq!(scene.send(), 0);
    assert_eq!(scene.calls.deadline(), Some(scene.now));
    assert_eq!(
        scene.pass(Duration::ZERO),
        [Missing::Silent, Missing::Silent]
    );
    // Another owner is not blamed for it.
    scene.read(":1.2");
    assert_eq!(scene.send(), 1);
    assert!(scene.answer(":1.2").purpose.is_some());
    // The first answer settles it; the other places come back one by one.
    assert_eq!(
        scene.answer(":1.1"),
        Answered {
            again: true,
            ..Answered::default()
        }
    );
    assert!(!scene.calls.owes(":1.1"));
    scene.write(":1.1");
    assert_eq!(scene.send(), 1);
    for again in 0..sent {
        let answered = scene.answer(":1.1");
        assert_eq!(
            (answered.purpose.is_some(), answered.again),
            (again == sent - 1, false)
        );
    }
    scene.assert_settled();
}

#[test]
fn s2_9_a_peer_that_left_owes_nothing() {
    let mut scene = Scene::new();
    scene.read(":1.1");
    scene.send();
    scene.pass(TIMEOUT);
    assert!(scene.calls.owes(":1.1"));
    let no_reply = Some("org.freedesktop.DBus.Error.NoReply");
    let call = scene.sent.remove(0);
    assert_eq!(
        scene
            .calls
            .answer(scene.now, call.id, BUS, no_reply, |_| false),
        Answered::default()
    );
    scene.assert_settled();
}

#[test]
fn s2_9_one_lost_answer_is_no_silence() {
    let mut scene = Scene::new();
    scene.read(":1.1");
    scene.read(":1.1");
    scene.send();
    let lost = scene.sent.remove(0);
    scene.answer(":1.1");
    assert_eq!(scene.pass(TIMEOUT), [Missing::TimedOut]);
    assert!(!scene.calls.owes(":1.1"));
    assert_eq!(scene.calls.at_bus.reads, 1);
    scene
        .calls
        .answer(scene.now, lost.id, ":1.1", None, |_| false);
    scene.assert_settled();
}

#[test]
fn s2_9_the_bus_says_that_its_limits_are_exceeded() {
    let mut scene = Scene::new();
    scene.write(":1.1");
    scene.write(":1.1");
    scene.send();
    let (first, second) = (scene.sent.remove(0), scene.sent.remove(0));
    scene.write(":1.1");
    let mut refuse = |id| {
        scene
            .calls
            .answer(scene.now, id, BUS, Some(LIMITS_EXCEEDED), |_| false)
    };
    assert_eq!(refuse(second.id), Answered::default());
    assert_eq!(refuse(first.id), Answered::default());
    // They go again, in their order, after a moment.
    assert_eq!(scene.send(), 0);
    assert_eq!(scene.calls.deadline(), Some(scene.now + LIMITS_PAUSE));
    assert!(scene.pass(LIMITS_PAUSE).is_empty());
    assert_eq!(scene.send(), 3);
    assert_eq!((&scene.sent[0], &scene.sent[1]), (&first, &second));
    // A service that says so itself has answered.
    let first = scene.sent.remove(0);
    let answered = scene
        .calls
        .answer(scene.now, first.id, ":1.1", Some(LIMITS_EXCEEDED), |_| {
            false
        });
    assert!(answered.purpose.is_some());
    // What was never delivered when the time is up is not owed.
    let second = scene.sent.remove(0);
    scene
        .calls
        .answer(scene.now, second.id, BUS, Some(LIMITS_EXCEEDED), |_| false);
    scene.answer(":1.1");
    assert_eq!(scene.pass(TIMEOUT), [Missing::NoTurn]);
    assert!(!scene.calls.owes(":1.1"));
    scene.assert_settled();
}

#[test]
fn s2_10_only_who_was_asked_can_answer() {
    let mut scene = Scene::new();
    scene.write(":1.1");
    // Before it is sent nobody can.
    let stranger = |scene: &mut Scene, sender, error| {
        scene
            .calls
            .answer(scene.now, CallId::MIN, sender, error, |_| false)
    };
    assert_eq!(stranger(&mut scene, ":1.1", None), Answered::default());
    scene.send();
    assert_eq!(stranger(&mut scene, ":1.2", None), Answered::default());
    assert_eq!(
        stranger(&mut scene, ":1.2", Some("com.example.No")),
        Answered::default()
    );
    // The bus has errors only.
    assert_eq!(stranger(&mut scene, BUS, None), Answered::default());
    assert_eq!(scene.calls.writes(), 1);
    assert!(stranger(&mut scene, ":1.1", None).purpose.is_some());
    scene.assert_settled();
}

#[test]
fn s5_6_writes_keep_their_order() {
    let mut scene = Scene::new();
    for _ in 0..20 {
        scene.write(":1.1");
        scene.write(":1.2");
    }
    let mut order = Vec::new();
    while scene.send() > 0 || !scene.sent.is_empty() {
        order.extend(
            scene
                .sent
                .first()
                .map(|call| (call.destination.clone(), call.id)),
        );
        let owner = scene.sent[0].destination.clone();
        scene.answer(&owner);
    }
    for owner in [":1.1", ":1.2"] {
        let ids: Vec<CallId> = order
            .iter()
            .filter(|(to, _)| **to == *owner)
            .map(|(_, id)| *id)
            .collect();
        assert!(ids.len() == 20 && ids.is_sorted(), "{ids:?}");
    }
}

#[test]
fn s2_9_abandoned_scans_are_not_made() {
    let mut scene = Scene::new();
    for service in 0..5 {
        scene.scan(":1.1", service);
    }
    assert_eq!(scene.send(), 3);
    for service in 0..5 {
        scene.calls.abandon_scan(ServiceId(service));
    }
    assert_eq!((scene.send(), scene.calls.deadline()), (0, None));
    assert_eq!(scene.calls.at_bus.scans, 3);
    for _ in 0..3 {
        assert_eq!(scene.answer(":1.1").purpose, None);
    }
    scene.assert_settled();
}

#[test]
fn s2_10_the_next_owner_of_a_name_may_have_got_the_call() {
    let mut scene = Scene::new();
    let callee = Callee {
        owner: ":1.1",
        destination: "com.victronenergy.tank.a",
    };
    let (now, method) = (scene.now, Method::ListNames);
    let purpose = Purpose::Scan {
        service: ServiceId(0),
        scan: 1,
        step: Step::Items,
    };
    scene.calls.call(now, TIMEOUT, callee, "/", method, purpose);
    let id = scene.calls.poll().unwrap().id;
    // Its answer counts for nothing, but the place is free.
    let ignored = scene.calls.answer(now, id, ":1.3", None, |_| false);
    assert_eq!(ignored, Answered::default());
    let answered = scene
        .calls
        .answer(now, id, ":1.2", None, |name| name == callee.destination);
    assert!(answered.another && answered.purpose.is_some());
    scene.assert_settled();
}
