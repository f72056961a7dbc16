//! The brokers and their clients in the world of [`super`]: connections and requests.

use super::*;

impl World {
    pub(super) fn connect(&mut self, broker: usize, some: u8) {
        if some % 4 == 1 {
            // What an earlier life left behind.
            let topics = ["tank/99/Level", "battery/0/Soc", "heartbeat", "x"];
            let topic = topics[usize::from(some / 4) % topics.len()];
            if self.brokers[broker].retains {
                let store = &mut self.brokers[broker].store;
                store.insert(topic.into(), "{\"value\": 12345}".into());
            }
        }
        self.brokers[broker].link = Link::Reading;
        self.brokers[broker].view.clear();
        self.bridge.broker_connected(broker);
        if broker == 2 {
            self.bridge.broker_expires(broker, Some(EXPIRY));
        }
        if self.bridge.reads_back(broker) {
            let topics: Vec<_> = self.brokers[broker].store.keys().cloned().collect();
            let prefix = self.brokers[broker].prefix;
            for topic in topics {
                self.bridge
                    .broker_retained(broker, &format!("{prefix}N/{PORTAL}/{topic}"), b"");
            }
        }
    }

    pub(super) fn ready(&mut self, broker: usize) {
        if self.brokers[broker].link == Link::Reading {
            self.brokers[broker].link = Link::Up;
            self.bridge.broker_ready(self.now, broker);
        }
    }

    pub(super) fn disconnect(&mut self, at: usize, forgets: bool) {
        let broker = &mut self.brokers[at];
        if broker.link == Link::Down {
            return;
        }
        broker.link = Link::Down;
        broker.wire.clear();
        broker.reads.clear();
        broker.echoes.clear();
        if forgets {
            broker.store.clear();
        }
        let offline = "{\"value\": \"offline\"}";
        broker.store.insert("bridge/status".into(), offline.into());
        for write in &mut self.writes {
            // Who asked is gone with the broker.
            write.may_be_untold |= write.broker == at;
        }
        self.bridge.broker_disconnected(at);
    }

    pub(super) fn request(&mut self, broker: usize, topic: &str, payload: &str, retained: bool) {
        self.request_from(broker, topic, payload, retained, None);
    }

    pub(super) fn request_from(
        &mut self,
        broker: usize,
        topic: &str,
        payload: &str,
        retained: bool,
        respond_to: Option<ResponseAddress>,
    ) {
        if self.brokers[broker].link == Link::Down {
            return;
        }
        let mut payload = payload.as_bytes().to_vec();
        let request = self
            .reader
            .read(topic, &mut payload, &super::super::portal());
        let request = request.expect("a request of ours");
        self.bridge
            .request_from(self.now, broker, topic, request, retained, respond_to);
        if !retained {
            self.brokers[broker].last_request = Some(self.now.monotonic);
        }
        self.take_calls();
    }

    pub(super) fn keep_alive(&mut self, broker: usize, n: u8) {
        let topic = format!("R/{PORTAL}/keepalive");
        match n % 4 {
            0 => self.request(broker, &topic, "", false),
            1 => {
                let options = r#"{"keepalive-options": ["suppress-republish"]}"#;
                self.request(broker, &topic, options, false);
            }
            2 => {
                self.echoes += 1;
                let echo = format!("\"echo {}\"", self.echoes);
                let options = format!(
                    r#"{{"keepalive-options": [{{"full-publish-completed-echo": {echo}}}]}}"#
                );
                // More than this many may be refused (§5.3: bounded).
                if self.brokers[broker].link != Link::Down && self.brokers[broker].echoes.len() < 50
                {
                    self.brokers[broker].echoes.insert(echo);
                }
                self.request(broker, &topic, &options, false);
            }
            _ => self.request(broker, &format!("R/{PORTAL}/{SERIAL}"), "", false),
        }
    }

    pub(super) fn item_topic(&self, service: u8, path: u8) -> String {
        let service = usize::from(service) % SERVICES.len();
        let nodes = ["/", "/Dc", "/Nowhere"];
        let path = (PATHS.iter().chain(&nodes).cycle())
            .nth(usize::from(path))
            .unwrap();
        format!("{}{path}", self.key(service))
    }
}
