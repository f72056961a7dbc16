//! What must hold of the world in [`super`]: of each message, and once all has settled.

use super::*;

impl World {
    pub(super) fn poll(&mut self, at: usize, count: usize) {
        if self.brokers[at].link == Link::Down {
            return;
        }
        for _ in 0..count {
            let (mut sent, mut told) = (Vec::new(), Vec::new());
            let mut sink = Sink {
                prefix: format!("{}N/{PORTAL}/", self.brokers[at].prefix),
                sent: &mut sent,
                told: &mut told,
            };
            if !self.bridge.poll_publish(self.now, at, &mut sink) {
                assert!(sent.is_empty() && told.is_empty());
                assert!(!self.bridge.has_work(at) || self.brokers[at].link == Link::Reading);
                return;
            }
            if let ([], [(to, payload)]) = (&sent[..], &told[..]) {
                self.told(at, to, payload);
                continue;
            }
            assert!(told.is_empty());
            let [message] = &sent[..] else {
                panic!("{} messages at once", sent.len())
            };
            self.check_message(at, message);
            let broker = &mut self.brokers[at];
            if message.topic == "full_publish_completed" {
                broker
                    .echoes
                    .retain(|echo| !message.payload.ends_with(&format!("{echo}}}")));
            }
            broker.wire.push_back(message.clone());
            broker.log.push(message.clone());
        }
    }

    pub(super) fn drain(&mut self, broker: usize) {
        self.poll(broker, 10_000);
        self.deliver(broker, usize::MAX);
    }

    pub(super) fn deliver(&mut self, at: usize, count: usize) {
        let broker = &mut self.brokers[at];
        let count = count.min(broker.wire.len());
        for message in broker.wire.drain(..count) {
            let store = message.retain.then_some(&mut broker.store);
            for place in store.into_iter().chain([&mut broker.view]) {
                if message.payload.is_empty() {
                    place.remove(&message.topic);
                } else {
                    place.insert(message.topic.clone(), message.payload.clone());
                }
            }
        }
    }

    /// What is true of every message, whenever it is sent.
    fn check_message(&self, at: usize, message: &Message) {
        let broker = &self.brokers[at];
        let Message {
            retain,
            topic,
            payload,
        } = message;
        assert!(
            payload.is_empty()
                || (payload.starts_with("{\"value\": ")
                    && serde_json::from_str::<serde_json::Value>(payload).is_ok()),
            "{message:?}"
        );
        let event = matches!(&**topic, "heartbeat" | "full_publish_completed");
        let always = topic.ends_with("/Serial") && topic.starts_with("system/");
        let expected = match &**topic {
            // Taking back what an earlier life retained.
            "heartbeat" if payload.is_empty() => true,
            "bridge/status" => true,
            _ if always => true,
            _ => broker.retains && !event,
        };
        assert_eq!(*retain, expected, "s4_1: {message:?}");
        // §4.7
        assert!(!topic.ends_with("/Tunnel") || !topic.starts_with("vebus"));
        assert!(!topic.contains('+'));
        if topic.ends_with("/Pincode") && topic.starts_with("settings") {
            assert!(!payload.contains("text"), "a secret: {message:?}");
        }
        if let Some((key, path)) = split_topic(topic) {
            let admitted = broker.lists.publish.admits(key, path);
            assert!(admitted || always || payload.is_empty(), "s8: {message:?}");
        }
        // §4.3: not alive, nothing but departures and answers.
        let age = broker
            .last_request
            .map(|at| self.now.monotonic.duration_since(at));
        let alive = age.is_some_and(|age| age < KEEP_ALIVE);
        // The device may have moved to another instance since.
        let asked = broker.reads.iter().any(|read| {
            let (read, topic) = (without_instance(read), without_instance(topic));
            let rest = topic.strip_prefix(read.trim_end_matches('/'));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        });
        // What a stalled broker is sent late, it was owed while alive.
        let own = OWN.contains(&&**topic) || event;
        assert!(
            alive || payload.is_empty() || own || asked,
            "s4_3: {message:?}"
        );
    }

    // Time, and the end.

    pub(super) fn pass(&mut self, time: Duration) {
        self.now = self.now.later(time);
        self.tick();
    }

    pub(super) fn tick(&mut self) {
        let due = |world: &World| {
            (world.bridge.poll_timeout()).is_some_and(|at| at <= world.now.monotonic)
        };
        let mut ticks = 0;
        while due(self) {
            self.bridge.tick(self.now);
            self.take_calls();
            ticks += 1;
            assert!(ticks < 4, "the bridge asks for a tick that changes nothing");
        }
    }

    /// Everybody answers, nobody stalls, until nothing is left to happen.
    pub(super) fn settle(&mut self) {
        if !self.bus_up {
            self.find_bus();
        }
        for broker in 0..self.brokers.len() {
            if self.brokers[broker].link == Link::Down {
                self.connect(broker, 0);
            }
            self.ready(broker);
        }
        #[cfg(feature = "listen")]
        {
            // What clients have asked for is asked of the services.
            self.clients.settle(self.now, &mut self.bridge);
            self.take_calls();
        }
        self.calls.append(&mut self.late);
        for _ in 0..3 {
            self.answer_all();
            self.pass(Duration::from_secs(61));
        }
        self.answer_all();
        #[cfg(feature = "listen")]
        {
            self.clients.settle(self.now, &mut self.bridge);
            self.tick();
            self.compare(0, self.clients.everything());
            self.clients.check();
        }
        for broker in 0..self.brokers.len() {
            self.drain(broker);
            let echoes = &self.brokers[broker].echoes;
            assert!(echoes.is_empty(), "s5_3: {echoes:?} did not come back");
        }
    }

    pub(super) fn check_alive(&mut self) {
        for at in 0..self.brokers.len() {
            self.brokers[at].log.clear();
            self.keep_alive(at, 0);
            self.drain(at);
            let broker = &self.brokers[at];
            let last = broker.log.last().map(|message| &*message.topic);
            assert_eq!(last, Some("full_publish_completed"), "s5_3");
            let has = if broker.retains {
                &broker.store
            } else {
                &broker.view
            };
            self.compare(at, has);
        }
    }

    /// One minute later: nothing is left but what the bridge says of itself (§4.5).
    pub(super) fn check_not_alive(&mut self) {
        self.pass(KEEP_ALIVE + Duration::from_secs(1));
        for at in 0..self.brokers.len() {
            self.drain(at);
            let broker = &self.brokers[at];
            let kept: Vec<_> = (broker.store.keys())
                .filter(|topic| !OWN.contains(&&***topic))
                .collect();
            assert!(kept.is_empty(), "s4_5: broker {at} keeps {kept:?}");
            assert_eq!(
                broker.store.get("bridge/status").map(|p| &**p),
                Some("{\"value\": \"online\"}")
            );
            let serial = format!("{{\"value\": \"{PORTAL}\"}}");
            assert_eq!(broker.store.get(SERIAL), Some(&serial), "s4_2");
        }
    }

    /// The bridge ends: brokers keep who it was, and that it is gone (§4.9).
    pub(super) fn check_end(&mut self) {
        for at in 0..self.brokers.len() {
            self.keep_alive(at, 0);
            self.poll(at, at);
        }
        self.bridge.end();
        for at in 0..self.brokers.len() {
            // Brokers may be told of the end, and of nothing else, whether alive or not.
            self.drain(at);
            let broker = &self.brokers[at];
            let kept: Vec<_> = broker.store.keys().map(String::as_str).collect();
            assert_eq!(kept, ["bridge/status", SERIAL], "s4_9: broker {at}");
            let offline = "{\"value\": \"offline\"}";
            assert_eq!(broker.store["bridge/status"], offline, "s4_9");
        }
    }

    /// What topics call the service.
    pub(super) fn key(&self, service: usize) -> String {
        let items = &self.services[service].items;
        let value = |path: &str| items.get(path).map(|item| &item.value);
        let instance = match (value("/DeviceInstance"), value("/Identifier")) {
            (Some(V::I(number)), _) => number.to_string(),
            (_, Some(V::S(text))) if !text.is_empty() => text.clone(),
            _ => "0".into(),
        };
        let service_type = SERVICES[service].split('.').next().unwrap();
        format!("{service_type}/{instance}")
    }

    fn expected(&self, broker: usize, service: usize) -> BTreeMap<String, String> {
        let service_type = SERVICES[service].split('.').next().unwrap();
        let key = self.key(service);
        let items = self.services[service].items.iter();
        let payload = |(path, item): (&String, &Item)| {
            let rule = schema::lookup(service_type, path).rule;
            let lists = &self.brokers[broker].lists;
            if !is_topic_path(path)
                || rule.publish == Publish::Blocked
                || !lists.publish.admits(&key, path)
            {
                return None;
            }
            let text = match &item.value {
                _ if rule.publish == Publish::PortalId => s(PORTAL),
                V::S(text) if rule.secret && !text.is_empty() => s("******"),
                // In parts it is one too; an empty array is no value.
                V::Array(_, parts) if rule.secret && !parts.is_empty() => s("******"),
                V::Struct(_) if rule.secret => s("******"),
                value => value.clone(),
            };
            let payload = json::payload(&text, None, item.max.as_ref());
            Some((format!("{key}{path}"), payload))
        };
        items.filter_map(payload).collect()
    }

    /// Whether a broker has what the bus has; of services that clash, one (§2.7).
    fn compare(&self, broker: usize, has: &BTreeMap<String, String>) {
        let mut rest: BTreeMap<_, _> = has.clone();
        for own in OWN {
            assert!(rest.contains_key(own), "{own} is not there");
            rest.remove(own);
        }
        rest.remove("heartbeat");
        rest.remove("full_publish_completed");
        let mut devices: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (at, service) in self.services.iter().enumerate() {
            if service.owner.is_some() {
                devices.entry(self.key(at)).or_default().push(at);
            }
        }
        for (key, services) in devices {
            let below = format!("{key}/");
            let unsure = (services.iter()).any(|at| self.services[*at].limits_unsure);
            let known = |payload: &String| match payload.split_once(", \"max\"") {
                Some((value, _)) if unsure => format!("{value}}}"),
                _ => payload.clone(),
            };
            let found: BTreeMap<_, _> = (rest.iter())
                .filter(|(topic, _)| topic.starts_with(&below))
                .map(|(topic, payload)| (topic.clone(), known(payload)))
                .collect();
            rest.retain(|topic, _| !topic.starts_with(&below));
            let candidates: Vec<_> = (services.iter())
                .map(|service| {
                    let mut expected = self.expected(broker, *service);
                    expected.remove(SERIAL);
                    for payload in expected.values_mut() {
                        *payload = known(payload);
                    }
                    expected
                })
                .collect();
            assert!(
                candidates.contains(&found),
                "{key} is\n{found:#?}\nand should be\n{candidates:#?}"
            );
        }
        assert!(rest.is_empty(), "stale: {rest:#?}");
    }
}
