//! A bridge by script: what clients of the broker see of dbus-mqtt (2018) and dbus-flashmq (2023).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};

use super::broker::Broker;
use super::client::Client;
use super::rig::{PORTAL, n, r, value};

/// The generation of a bridge.
#[derive(Clone, Copy, PartialEq)]
pub enum Generation {
    /// dbus-mqtt: retained, kept alive by any request, an object for an inner node.
    Y2018,
    /// dbus-flashmq: nothing retained but the serial, keep-alive options, no reads of inner nodes.
    Y2023,
}

/// A bridge that does what the script says, as a client of the broker. `/Limit` takes 100 at most, and
/// `/Stubborn` nothing at all.
pub struct Scripted {
    stop: Arc<AtomicBool>,
    requests: Arc<Mutex<Vec<(String, String)>>>,
    thread: Option<JoinHandle<()>>,
}

struct Script {
    client: Client,
    generation: Generation,
    alive: bool,
    items: BTreeMap<String, Value>,
}

impl Scripted {
    pub fn start(broker: &Broker, generation: Generation) -> Scripted {
        let client = broker.client();
        client.subscribe(&r("#"));
        client.subscribe(&format!("W/{PORTAL}/#"));
        client.publish_retained(&n("system/0/Serial"), value(&format!("{PORTAL:?}")));
        client.fence();
        let mut next = client.mark();
        let items = [
            ("system/0/Serial", json!(PORTAL)),
            ("battery/1/ProductName", json!("BMV")),
            ("battery/1/Soc", json!(50.5)),
            ("battery/1/Dc/0/Voltage", json!(26.0)),
            ("battery/1/Dc/0/Power", json!(-100)),
            ("vebus/2/Mode", json!(3)),
            ("vebus/2/Limit", json!(50)),
            ("vebus/2/Stubborn", json!(7)),
        ];
        let items = items.map(|(topic, value)| (topic.to_owned(), value));
        let mut script = Script {
            client,
            generation,
            alive: false,
            items: items.into(),
        };
        let stop = Arc::new(AtomicBool::new(false));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (stopped, seen) = (Arc::clone(&stop), Arc::clone(&requests));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                for message in script.client.since(next) {
                    next += 1;
                    let text = message.text().to_owned();
                    let request = (message.topic.clone(), text.clone());
                    seen.lock().unwrap().push(request);
                    script.request(&message.topic, &text);
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        Scripted {
            stop,
            requests,
            thread: Some(thread),
        }
    }

    pub fn requests(&self) -> Vec<(String, String)> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

impl Script {
    fn tell(&self, topic: &str) {
        let payload = value(&self.items[topic].to_string());
        if self.generation == Generation::Y2018 {
            self.client.publish_retained(&n(topic), payload);
        } else {
            self.client.publish(&n(topic), payload);
        }
    }

    fn tell_all(&self) {
        self.items.keys().for_each(|topic| self.tell(topic));
    }

    fn request(&mut self, topic: &str, payload: &str) {
        let rest = topic.splitn(3, '/').nth(2).unwrap();
        if topic.starts_with("W/") {
            self.write(rest, payload);
        } else if rest == "keepalive" && self.generation == Generation::Y2023 {
            self.keep_alive(payload);
        } else if self.items.contains_key(rest) {
            self.tell(rest);
        } else if self.generation == Generation::Y2018 {
            let below = format!("{rest}/");
            let inner = self.items.iter();
            let inner =
                inner.filter_map(|(topic, value)| Some((topic.strip_prefix(&below)?, value)));
            let inner: BTreeMap<_, _> = inner.collect();
            if !inner.is_empty() {
                let object = json!({ "value": inner });
                self.client.publish_retained(&n(rest), object.to_string());
            }
        }
        if self.generation == Generation::Y2018 && !self.alive {
            self.alive = true;
            self.tell_all();
        }
    }

    fn keep_alive(&self, payload: &str) {
        let json: Value = serde_json::from_str(payload).unwrap_or_default();
        let options = json["keepalive-options"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        if options.contains(&json!("suppress-republish")) {
            return;
        }
        self.tell_all();
        let mut completed = json!({ "value": 1 });
        for option in options {
            if let Some(echo) = option.get("full-publish-completed-echo") {
                completed["full-publish-completed-echo"] = echo.clone();
            }
        }
        self.client
            .publish(&n("full_publish_completed"), completed.to_string());
    }

    fn write(&mut self, rest: &str, payload: &str) {
        let json: Value = serde_json::from_str(payload).unwrap();
        let mut asked = json["value"].clone();
        if rest.ends_with("/Stubborn") {
            return;
        }
        if rest.ends_with("/Limit") && asked.as_f64().unwrap() > 100.0 {
            asked = json!(100);
        }
        let item = self.items.get_mut(rest).unwrap();
        if *item != asked {
            *item = asked;
            self.tell(rest);
        }
    }
}
