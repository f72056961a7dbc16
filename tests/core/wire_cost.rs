//! What topic aliases save on the wire, for each recorded device: everything once, then all its
//! recorded changes one by one. Prints the figures: `cargo test --test core wire_cost -- --nocapture`.

use crate::frames::{Device, Packets, Packets5};
use dbus_mqtt::bridge::{Bridge, ItemRef, PublishSink};
use dbus_mqtt::link::aliases::Aliases;
use dbus_mqtt::model::time::Now;

/// Bytes of the full publish, and of the changes after it.
type Bytes = (usize, usize);

/// Has a bridge that has sent nothing yet publish all, then each change as it comes.
fn play<S: PublishSink>(
    device: &Device,
    mut sink: S,
    out: impl Fn(&mut S) -> &mut Vec<u8>,
) -> Bytes {
    let now = crate::frames::now();
    let mut bridge = Bridge::new(crate::frames::config(vec![crate::frames::outlet(
        true, None,
    )]));
    bridge.bus_connected(now);
    crate::frames::answer_all(&mut bridge, now, std::slice::from_ref(device));
    bridge.broker_connected(0);
    bridge.broker_ready(now, 0);
    let full = drain(&mut bridge, now, &mut sink, &out);
    let mut changes = 0;
    for signal in device.single_signals(|_| true) {
        crate::frames::feed(&mut bridge, now, &signal);
        changes += drain(&mut bridge, now, &mut sink, &out);
    }
    (full, changes)
}

fn drain<S: PublishSink>(
    bridge: &mut Bridge,
    now: Now,
    sink: &mut S,
    out: &impl Fn(&mut S) -> &mut Vec<u8>,
) -> usize {
    while bridge.poll_publish(now, 0, sink) {}
    let bytes = out(sink).len();
    out(sink).clear();
    bytes
}

/// The other way to give the numbers away: to the first that come.
struct FirstCome {
    inner: Packets5,
    max: u16,
    known: std::collections::HashMap<u32, u16>,
}

impl PublishSink for FirstCome {
    fn publish(&mut self, retain: bool, topic: &[&[u8]; 3], payload: impl FnOnce(&mut Vec<u8>)) {
        self.inner.publish(retain, topic, payload);
    }

    fn notify(
        &mut self,
        item: ItemRef,
        retain: bool,
        topic: &[&[u8]; 3],
        payload: impl FnOnce(&mut Vec<u8>),
    ) {
        use dbus_mqtt::codec::packet::v5::{Extra, write_publish};
        let next = u16::try_from(self.known.len() + 1).unwrap_or(u16::MAX);
        let alias = match self.known.get(&item.slot.0) {
            Some(alias) => Some((*alias, true)),
            None if next <= self.max => {
                self.known.insert(item.slot.0, next);
                Some((next, false))
            }
            None => None,
        };
        let extra = Extra {
            retain,
            alias,
            expiry_s: None,
        };
        write_publish(&mut self.inner.out, extra, topic, payload);
    }
}

fn with_aliases(device: &Device, max: u16, expiry_s: Option<u32>) -> Bytes {
    let sink = Packets5 {
        aliases: Aliases::new(max),
        expiry_s,
        ..Packets5::default()
    };
    play(device, sink, |sink| &mut sink.out)
}

#[test]
fn s6_topic_aliases_save_most_of_what_a_change_costs() {
    let mut devices: Vec<_> = crate::frames::recordings()
        .iter()
        .map(|file| crate::frames::load(file))
        .collect();
    if devices.is_empty() {
        devices.push(crate::frames::made_up("vebus", 300));
    }
    println!("bytes of all items once + of their changes");
    let (mut plain_all, mut ten_all, mut many_all) = (0, 0, 0);
    for device in &devices {
        let plain = play(device, Packets::default(), |sink| &mut sink.out);
        let none = with_aliases(device, 0, None);
        let ten = with_aliases(device, 10, None);
        let many = with_aliases(device, u16::MAX, None);
        let expiry = with_aliases(device, u16::MAX, Some(600));
        let first = FirstCome {
            inner: Packets5::default(),
            max: 10,
            known: std::collections::HashMap::new(),
        };
        let first = play(device, first, |sink| &mut sink.inner.out);
        println!(
            "{}: {} items, {} changes\n  3.1.1: {} + {}\n  5: {} + {}\n  5, 10 aliases: {} + {} \
             (first come: {} + {})\n  5, 65,535 aliases: {} + {}\n  the same with an expiry: {} + {}",
            device.name,
            device.items.len(),
            device.changes.len(),
            plain.0,
            plain.1,
            none.0,
            none.1,
            ten.0,
            ten.1,
            first.0,
            first.1,
            many.0,
            many.1,
            expiry.0,
            expiry.1
        );
        // A number costs three bytes once, which a topic that comes only twice does not bring in.
        let once = 3 * device.items.len();
        assert!(
            many.1 <= none.1 + once && ten.1 <= none.1 + once,
            "{}",
            device.name
        );
        plain_all += plain.1;
        ten_all += ten.1;
        many_all += many.1;
    }
    println!("all changes: 3.1.1 {plain_all}, 10 aliases {ten_all}, 65,535 aliases {many_all}");
    assert!(many_all * 2 < plain_all, "{many_all} of {plain_all}");
    assert!(ten_all < plain_all, "{ten_all} of {plain_all}");
}
