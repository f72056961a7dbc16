//! Clients that have been there all along, one of the broker and one of the bridge itself: what each was told last of
//! each topic, and whether a counter ever ran backwards.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::World;
use super::tap::{Event, Tap};
use crate::support::rig::n;

/// What it has seen.
#[derive(Default)]
pub struct Seen {
    /// The last payload of each topic; what was emptied is not there.
    pub last: BTreeMap<String, String>,
    pub messages: u64,
    /// Values that came after newer ones.
    pub backwards: Vec<String>,
    /// Numbers of counters that were left out: replaced by later ones on the way, or lost in an outage.
    pub skipped: u64,
    counters: HashMap<String, i64>,
}

impl Seen {
    fn take(&mut self, topic: String, payload: &[u8], retain: bool) {
        self.messages += 1;
        let text = String::from_utf8_lossy(payload).into_owned();
        if topic.contains("/Count/") && !retain {
            let number = text
                .trim_start_matches("{\"value\": ")
                .trim_end_matches('}');
            if let Ok(number) = number.parse::<i64>() {
                let before = self.counters.insert(topic.clone(), number);
                match before {
                    Some(before) if number < before => {
                        self.backwards
                            .push(format!("{topic}: {number} after {before}"));
                    }
                    Some(before) => {
                        let left_out = (number - before - 1).max(0);
                        self.skipped += u64::try_from(left_out).unwrap();
                    }
                    None => {}
                }
            }
        }
        if payload.is_empty() {
            self.last.remove(&topic);
        } else {
            self.last.insert(topic, text);
        }
    }
}

/// Both listen until the end, and connect again whenever they have to.
pub fn listen(world: &Arc<World>) {
    for is_near in [false, true] {
        let world = Arc::clone(world);
        thread::spawn(move || {
            let (port, seen) = if is_near {
                (world.listener, &world.near)
            } else {
                (world.broker, &world.seen)
            };
            while !world.is_over() {
                if let Ok(mut tap) = Tap::connect(port, 4, "mirror") {
                    follow(&mut tap, seen, &world);
                }
                thread::sleep(Duration::from_millis(100));
            }
        });
    }
}

fn follow(tap: &mut Tap, seen: &Mutex<Seen>, world: &World) {
    seen.lock().unwrap().last.clear();
    let mut first = Vec::new();
    if tap.subscribe(&n("#"), &mut first).is_err() {
        return;
    }
    let mut take = |event| {
        if let Event::Message {
            topic,
            payload,
            retain,
            ..
        } = event
        {
            seen.lock().unwrap().take(topic, &payload, retain);
        }
    };
    first.into_iter().for_each(&mut take);
    while !world.is_over() {
        match tap.next(Instant::now() + Duration::from_millis(200)) {
            Ok(Some(event)) => take(event),
            Ok(None) => {}
            Err(_) => return,
        }
    }
}
