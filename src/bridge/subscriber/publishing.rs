//! The bridge towards its brokers: connections, and what is published next (§4).

use std::time::Duration;

use super::outbox::{Control, Entry};
use super::remote::{Outlet, Verdict};
use crate::bridge::Bridge;
use crate::bridge::store::cache::SlotId;
use crate::bridge::store::items::ItemRef;
use crate::codec::payload;
use crate::codec::request::ECHO;
use crate::model::request::ResponseAddress;
use crate::model::time::Now;
use crate::model::topic;

/// Takes what a broker is to be sent.
pub trait PublishSink {
    /// One message: its topic in parts, and what writes its payload.
    fn publish(&mut self, retain: bool, topic: &[&[u8]; 3], payload: impl FnOnce(&mut Vec<u8>));

    /// The value of an item. Unlike other messages it comes again, and so its topic may be
    /// abbreviated and its value expire.
    #[inline]
    fn notify(
        &mut self,
        item: ItemRef,
        retain: bool,
        topic: &[&[u8]; 3],
        payload: impl FnOnce(&mut Vec<u8>),
    ) {
        let _ = item;
        self.publish(retain, topic, payload);
    }

    /// How much memory the program has, in bytes, where that is known.
    fn memory_bytes(&self) -> Option<u64> {
        None
    }

    /// The answer to a request (§5.8). Only those that gave such an address are answered so.
    fn respond(&mut self, to: &ResponseAddress, payload: impl FnOnce(&mut Vec<u8>)) {
        let _ = (to, payload);
    }
}

impl Bridge {
    /// A broker is connected and subscribed. What is retained there comes next, with
    /// [`Bridge::broker_retained`], then [`Bridge::broker_ready`].
    pub fn broker_connected(&mut self, broker: usize) {
        if let Some(outlet) = self.outlets.get_mut(broker) {
            outlet.connected();
        }
    }

    /// A broker forgets the retained notifications of this connection after this time, at least
    /// [`super::EXPIRY_MIN`]. Told before [`Bridge::broker_ready`]; those in demand are said again.
    pub fn broker_expires(&mut self, broker: usize, after: Option<Duration>) {
        if let Some(outlet) = self.outlets.get_mut(broker) {
            outlet.expires(after);
        }
    }

    /// A broker told one of the topics that it retains (§4.9), as it stands there.
    /// `payload` is what is there; only of configurations it is of interest.
    pub fn broker_retained(&mut self, broker: usize, topic: &str, payload: &[u8]) {
        let Some(outlet) = self.outlets.get_mut(broker) else {
            return;
        };
        match topic.strip_prefix(outlet.prefix()) {
            Some(rest) => {
                outlet.retained(rest, &self.items);
                if outlet.subscriber.is_open() && self.registry.is_settled() {
                    outlet.settle_late(&self.items);
                }
            }
            None => outlet.config_retained(topic, payload),
        }
    }

    /// A message of a broker was too large for us, and was skipped (§4.14).
    pub fn broker_skipped(&mut self, broker: usize) {
        if let Some(outlet) = self.outlets.get_mut(broker) {
            outlet.tally.skipped += 1;
        }
    }

    /// A broker has told all that it retains, or there was nothing to ask for.
    pub fn broker_ready(&mut self, now: Now, broker: usize) {
        // Before any value, so that who is told of them is there to take it.
        self.describe_all(now, broker);
        if let Some(outlet) = self.outlets.get_mut(broker) {
            let unscanned = self.registry.unscanned();
            outlet.ready(now.monotonic, &self.items, &unscanned);
        }
    }

    /// A broker is lost.
    pub fn broker_disconnected(&mut self, broker: usize) {
        let Some(outlet) = self.outlets.get_mut(broker) else {
            return;
        };
        for slot in outlet.disconnected(&self.items) {
            self.told(slot);
        }
    }

    /// Whether a broker is to be connected at all: not one whose clients may have nothing (§8).
    pub fn wants(&self, broker: usize) -> bool {
        let outlet = self.outlets.get(broker);
        outlet.is_some_and(|outlet| !outlet.subscriber.is_leaving())
    }

    /// Whether a broker is connected.
    pub fn is_connected(&self, broker: usize) -> bool {
        self.outlets
            .get(broker)
            .is_some_and(|outlet| outlet.subscriber.is_connected())
    }

    /// Whether a broker's topics are to be read back when it connects (§4.9).
    pub fn reads_back(&self, broker: usize) -> bool {
        self.outlets.get(broker).is_some_and(Outlet::retains)
    }

    /// The bridge ends: everything published is taken back (§4.9).
    pub fn end(&mut self) {
        for outlet in &mut self.outlets {
            outlet.end();
        }
    }

    /// Whether a broker can be sent something.
    pub fn has_work(&self, broker: usize) -> bool {
        self.outlets.get(broker).is_some_and(Outlet::has_work)
    }

    /// What a broker is called in the log.
    pub fn broker_name(&self, broker: usize) -> &str {
        let outlet = self.config.outlets.get(broker);
        outlet.map_or("", |outlet| &outlet.name)
    }

    /// How many brokers there are.
    pub fn brokers(&self) -> usize {
        self.outlets.len()
    }

    /// Clears retained topics that no item has, of devices that are scanned or that no service can be.
    /// Called whenever a service is scanned, comes or goes.
    pub(in crate::bridge) fn settle(&mut self, now: Now) {
        if self.outlets.iter().any(Outlet::is_unsettled) {
            let unscanned = self.registry.unscanned();
            for outlet in &mut self.outlets {
                outlet.settle(now.monotonic, &self.items, &unscanned);
            }
        }
    }

    /// Gives one message for this broker to `sink`. `false` where there is none. Asked only while
    /// the broker's link has room: the pull is the back-pressure (§4.4).
    #[inline]
    pub fn poll_publish(&mut self, now: Now, broker: usize, sink: &mut impl PublishSink) -> bool {
        loop {
            let Some(outlet) = self.outlets.get_mut(broker) else {
                return false;
            };
            let slot = match outlet.next() {
                None => return false,
                Some(Entry::Control(Control::Answer(item))) => {
                    if !self.items.is_there(item) {
                        continue;
                    }
                    outlet.subscriber.allow(item.slot);
                    item.slot
                }
                Some(Entry::Control(Control::Describe(device))) => {
                    if !self.publish_config(now, broker, device, sink) {
                        continue;
                    }
                    return self.has_published(broker);
                }
                Some(Entry::Control(Control::Forget(object))) => {
                    if !self.publish_no_config(broker, &object, sink) {
                        continue;
                    }
                    return self.has_published(broker);
                }
                Some(Entry::Control(control)) => {
                    self.publish_control(now, &control, broker, sink);
                    // There is room again for what waited behind it.
                    if let Some(outlet) = self.outlets.get_mut(broker) {
                        outlet.subscriber.advance(now.monotonic, &self.items);
                    }
                    return self.has_published(broker);
                }
                Some(Entry::Item(slot)) => slot,
            };
            if self.publish_item(broker, slot, sink) {
                return true;
            }
        }
    }

    /// Publishes an item whose turn has come, or takes it back. `false` where nothing is to be said.
    #[inline]
    fn publish_item(&mut self, broker: usize, slot: SlotId, sink: &mut impl PublishSink) -> bool {
        let (Some(outlet), Some(item)) = (self.outlets.get_mut(broker), self.items.get(slot))
        else {
            return false;
        };
        let verdict = outlet.verdict(slot, item, || self.values.has_value(slot));
        let mut topic = [
            outlet.prefix().as_bytes(),
            self.items.device_key(item.device).as_bytes(),
            self.items.path(item).as_bytes(),
        ];
        if let Some(rest) = outlet.fit.topic(slot) {
            topic = [outlet.prefix().as_bytes(), rest.as_bytes(), b""];
        }
        match verdict {
            Verdict::Nothing => {}
            Verdict::Publish { retain } => {
                if item.rule.publish == crate::schema::rule::Publish::PortalId {
                    let portal = self.config.portal_id.as_str();
                    sink.publish(retain, &topic, |out| text_payload(out, portal));
                } else {
                    let item = item.at(slot);
                    sink.notify(item, retain, &topic, |out| self.values.render(slot, out));
                }
            }
            Verdict::Unpublish { retain } => sink.publish(retain, &topic, |_| {}),
        }
        if item.life != crate::bridge::store::items::Life::Live {
            self.told(slot);
        }
        verdict != Verdict::Nothing
    }

    /// Publishes what has this topic once more, alone (§4.12): an item, a configuration, or, where it was
    /// `empty`, nothing. `false` where it is none of ours any more, or nobody wants it.
    pub fn publish_alone(
        &mut self,
        now: Now,
        broker: usize,
        (topic, empty): (&str, bool),
        sink: &mut impl PublishSink,
    ) -> bool {
        let Some(outlet) = self.outlets.get_mut(broker) else {
            return false;
        };
        if !outlet.subscriber.is_open() || outlet.subscriber.is_leaving() {
            return false;
        }
        let Some(rest) = topic.strip_prefix(outlet.prefix()) else {
            let device = outlet.described(topic, &self.items);
            return device.is_some_and(|device| self.publish_config(now, broker, device, sink))
                && self.has_published(broker);
        };
        let gone = || self.items.find_gone_topic(rest);
        match outlet.find(rest, &self.items).or_else(gone) {
            Some(slot) => self.publish_item(broker, slot, sink),
            None if empty => {
                let topic = [outlet.prefix().as_bytes(), b"", rest.as_bytes()];
                sink.publish(true, &topic, |_| {});
                self.has_published(broker)
            }
            None => false,
        }
    }

    /// A topic made the broker close the connection: it is left out for that long (§4.12).
    pub fn leave_topic_out(&mut self, now: Now, broker: usize, topic: &str, time: Duration) {
        if let Some(outlet) = self.outlets.get_mut(broker) {
            outlet.leave_out(topic, now.monotonic + time, &self.items);
        }
    }

    /// Whether a broker is connected and read back.
    pub fn is_up(&self, broker: usize) -> bool {
        self.outlets
            .get(broker)
            .is_some_and(|outlet| outlet.subscriber.is_open())
    }

    /// A topic of a request as it would be called without `topic-replace`; `None` where it is the same.
    pub fn original(&self, broker: usize, topic: &str) -> Option<String> {
        let outlet = self.outlets.get(broker)?;
        let (_, rest) = topic::parse_any(topic)?;
        let head = topic.strip_suffix(rest)?;
        if let Some(slot) = outlet.fit.find(rest) {
            let item = self.items.get(slot)?;
            let key = self.items.device_key(item.device);
            return Some([head, key, self.items.path(item)].concat());
        }
        let (at, _) = rest.match_indices('/').nth(1)?;
        let (key, path) = rest.split_at_checked(at)?;
        let item = self.items.get(outlet.fit.find_device(key)?)?;
        Some([head, self.items.device_key(item.device), path].concat())
    }

    /// Counts a message that is no item; items are counted where it is decided to publish them.
    fn has_published(&mut self, broker: usize) -> bool {
        if let Some(outlet) = self.outlets.get_mut(broker) {
            outlet.tally.published += 1;
        }
        true
    }

    /// One broker knows that an item is gone.
    fn told(&mut self, slot: SlotId) {
        if self.items.told(slot) {
            self.charge();
            for outlet in &mut self.outlets {
                outlet.released(slot);
            }
        }
    }

    fn publish_control(
        &self,
        now: Now,
        control: &Control,
        broker: usize,
        sink: &mut impl PublishSink,
    ) {
        let Some(outlet) = self.outlets.get(broker) else {
            return;
        };
        let (retain, retains) = (true, outlet.retains());
        if *control == Control::Stats {
            let memory_bytes = sink.memory_bytes();
            let topic = [outlet.prefix().as_bytes(), b"", topic::STATS.as_bytes()];
            return sink.publish(false, &topic, |out| {
                self.write_stats(now, outlet, memory_bytes, out);
            });
        }
        let mut publish = |retain, rest: &str, payload: &dyn Fn(&mut Vec<u8>)| {
            sink.publish(
                retain,
                &[outlet.prefix().as_bytes(), b"", rest.as_bytes()],
                payload,
            );
        };
        match control {
            Control::Online => publish(retain, topic::STATUS, &|out| text_payload(out, "online")),
            Control::Offline => publish(retain, topic::STATUS, &|out| text_payload(out, "offline")),
            Control::Serial => {
                publish(retain, topic::SERIAL, &|out| {
                    text_payload(out, self.config.portal_id.as_str());
                });
            }
            Control::KeepAlive => publish(retains, topic::KEEPALIVE, &|out| number_payload(out, 1)),
            Control::NoKeepAlive => publish(retain, topic::KEEPALIVE, &|_| {}),
            Control::Heartbeat => publish(false, topic::HEARTBEAT, &|out| {
                number_payload(out, now.unix_s);
            }),
            Control::Completed(echo) => publish(false, topic::COMPLETED, &|out| {
                number_payload(out, now.unix_s);
                if let Some(echo) = echo {
                    out.pop();
                    out.extend_from_slice(b", \"");
                    out.extend_from_slice(ECHO.as_bytes());
                    out.extend_from_slice(b"\": ");
                    out.extend_from_slice(echo.as_bytes());
                    out.push(b'}');
                }
            }),
            Control::Clear(rest) => publish(retain, rest, &|_| {}),
            Control::Respond(response) => {
                sink.respond(&response.to, |out| {
                    self.render_response(outlet.subscriber.gate(), &response.told, out);
                });
            }
            // Published above, as the item that it is, or by `discovery`.
            Control::Stats | Control::Answer(_) | Control::Describe(_) | Control::Forget(_) => {}
        }
    }
}

/// `{"value": "text"}`: what the bridge says of itself, and what it uses as last will (§4.10).
pub fn text_payload(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(payload::HEAD);
    payload::write_text(out, text);
    out.push(b'}');
}

/// `{"value": number}`.
pub(in crate::bridge) fn number_payload(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(payload::HEAD);
    payload::write_uint(out, number);
    out.push(b'}');
}
