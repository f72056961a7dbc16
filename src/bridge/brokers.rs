//! The bridge towards its brokers: connections, what clients ask for, and what is published next (§4).

use std::time::Duration;

use super::Bridge;
use super::discovery::{AllReaders, Known};
use super::request::response;
use super::store::cache::SlotId;
use super::store::ids::BrokerId;
use super::store::items::{DeviceId, Life};
use super::subscriber::foreign::Foreign;
use super::subscriber::outbox::{Control, Entry};
use super::subscriber::remote::Verdict;
use super::subscriber::sink::{PublishSink, number_payload, text_payload};
use crate::codec::gzip;
use crate::codec::request::ECHO;
use crate::model::request::{Rejection, Request, ResponseAddress};
use crate::model::time::Now;
use crate::model::topic;

/// What of a PUBLISH says that its payload is compressed.
const COMPRESSED_BYTES: usize = 3 + gzip::CONTENT_TYPE.len();
/// What of a PUBLISH is neither topic nor payload, at most: its type and length, the topic's length, and those of
/// properties.
const PUBLISH_BYTES: usize = 16;

impl Bridge {
    /// A broker is connected and subscribed. What is retained there comes next, with
    /// [`Bridge::broker_retained`], then [`Bridge::broker_ready`].
    pub fn broker_connected(&mut self, broker: impl Into<BrokerId>) {
        let broker = broker.into();
        self.outlets.at_mut(broker).connected();
    }

    /// A broker forgets the retained notifications of this connection after this time, at least
    /// [`super::EXPIRY_MIN`]. Told before [`Bridge::broker_ready`]; those in demand are said again.
    pub fn broker_expires(&mut self, broker: impl Into<BrokerId>, after: Option<Duration>) {
        let broker = broker.into();
        self.outlets.at_mut(broker).expires(after);
    }

    /// A broker told one of the topics that it retains (§4.9), as it stands there.
    /// `payload` is what is there; only of configurations it is of interest.
    pub fn broker_retained(&mut self, broker: impl Into<BrokerId>, topic: &str, payload: &[u8]) {
        let broker = broker.into();
        let outlet = self.outlets.at_mut(broker);
        match topic.strip_prefix(outlet.prefix()) {
            Some(rest) => {
                outlet.retained(rest, &self.store.items);
                if outlet.subscriber.is_open() && self.bus.registry.is_settled() {
                    outlet.settle_late(&self.store.items);
                }
            }
            None => outlet.config_retained(topic, payload),
        }
    }

    /// A message of a broker was too large for us, and was skipped (§4.14).
    pub fn broker_skipped(&mut self, broker: impl Into<BrokerId>) {
        let broker = broker.into();
        self.outlets.at_mut(broker).tally.skipped += 1;
    }

    /// A broker has told all that it retains, or there was nothing to ask for.
    pub fn broker_ready(&mut self, now: Now, broker: impl Into<BrokerId>) {
        let broker = broker.into();
        // Before any value, so that who is told of them is there to take it.
        AllReaders::new(&mut self.outlets, &mut self.discovery).describe_all(
            now,
            &mut self.store,
            &self.bus.registry,
            broker,
        );
        let unscanned = self.bus.registry.unscanned();
        let outlet = self.outlets.at_mut(broker);
        outlet.ready(now.monotonic, &self.store.items, &unscanned);
    }

    /// A broker is lost.
    pub fn broker_disconnected(&mut self, broker: impl Into<BrokerId>) {
        let broker = broker.into();
        let outlet = self.outlets.at_mut(broker);
        for slot in outlet.disconnected(&self.store.items) {
            self.told(slot);
        }
    }

    /// Whether a broker is to be connected at all: not one whose clients may have nothing (§8).
    pub fn wants(&self, broker: impl Into<BrokerId>) -> bool {
        let broker = broker.into();
        !self.outlets.at(broker).subscriber.is_leaving()
    }

    /// Whether a broker is connected.
    pub fn is_connected(&self, broker: impl Into<BrokerId>) -> bool {
        let broker = broker.into();
        self.outlets.at(broker).subscriber.is_connected()
    }

    /// Whether a broker's topics are to be read back when it connects (§4.9).
    pub fn reads_back(&self, broker: impl Into<BrokerId>) -> bool {
        let broker = broker.into();
        self.outlets.at(broker).retains()
    }

    /// The bridge ends: everything published is cleared (§4.9).
    pub fn end(&mut self) {
        for outlet in self.outlets.iter_mut() {
            outlet.end();
        }
    }

    /// Whether a broker can be sent something.
    pub fn has_work(&self, broker: impl Into<BrokerId>) -> bool {
        let broker = broker.into();
        self.outlets.at(broker).has_work()
    }

    /// What a broker is called in the log.
    pub fn broker_name(&self, broker: impl Into<BrokerId>) -> &str {
        let broker = broker.into();
        self.outlets.at(broker).name()
    }

    /// How many brokers there are.
    pub fn brokers(&self) -> usize {
        self.outlets.iter().len()
    }

    /// Gives one message for this broker to `sink`. `false` where there is none. Asked only while
    /// the broker's link has room: the pull is the back-pressure (§4.4).
    #[inline]
    pub fn poll_publish(
        &mut self,
        now: Now,
        broker: impl Into<BrokerId>,
        sink: &mut impl PublishSink,
    ) -> bool {
        let broker = broker.into();
        loop {
            let outlet = self.outlets.at_mut(broker);
            let slot = match outlet.next() {
                None => return false,
                Some(Entry::Control(Control::Answer(item))) => {
                    if !self.store.items.is_there(item) {
                        continue;
                    }
                    outlet.subscriber.allow(item.slot);
                    self.holds_back(now, broker, item.slot);
                    item.slot
                }
                Some(Entry::Control(control)) => {
                    if self.publish_other(now, broker, &control, sink) {
                        return true;
                    }
                    continue;
                }
                Some(Entry::Item(slot)) => slot,
                Some(Entry::Held(slot)) => {
                    if self.holds_back(now, broker, slot) {
                        continue;
                    }
                    slot
                }
            };
            if self.publish_item(broker, slot, sink) {
                return true;
            }
        }
    }

    /// Whether an item is held back whose turn has come (`throttle`). One that is gone is not.
    #[cold]
    #[inline(never)]
    fn holds_back(&mut self, now: Now, broker: BrokerId, slot: SlotId) -> bool {
        let subscriber = &mut self.outlets.at_mut(broker).subscriber;
        let number = self.store.values.number(slot);
        let held = subscriber.holds_back(now.monotonic, slot, number);
        held && self.store.items.is_live(slot)
    }

    /// Publishes what is not an item. `false` where there is nothing to be said of it.
    ///
    /// Apart from [`Bridge::poll_publish`]: with all of this in it, what this needs of the time was worked
    /// out for each value too, 65 instructions (`benches/instructions`).
    #[inline(never)]
    fn publish_other(
        &mut self,
        now: Now,
        broker: BrokerId,
        control: &Control,
        sink: &mut impl PublishSink,
    ) -> bool {
        let is_said = if *control == Control::Batch {
            self.publish_batch(now, broker, sink)
        } else if let Control::Describe(device) = control {
            self.publish_config(now, broker, *device, sink)
        } else if let Control::Forget(object) = control {
            AllReaders::new(&mut self.outlets, &mut self.discovery).publish_no_config(
                &self.store.items,
                broker,
                object,
                sink,
            )
        } else {
            self.publish_control(now, control, broker, sink);
            // There is room again for what waited behind it.
            let subscriber = &mut self.outlets.at_mut(broker).subscriber;
            subscriber.advance(now.monotonic, &self.store.items);
            true
        };
        is_said && self.has_published(broker)
    }

    /// Publishes a part of a batch, and has the next one follow. `false` where there is nothing to be said.
    fn publish_batch(&mut self, now: Now, broker: BrokerId, sink: &mut impl PublishSink) -> bool {
        let outlet = self.outlets.at_mut(broker);
        let topic_bytes = outlet.prefix().len() + topic::BATCH.len();
        let (store, portal) = (&self.store, self.portal_id.as_str());
        let bytes_max = sink.packet_bytes_max().unwrap_or(usize::MAX);
        let bytes_max = bytes_max.saturating_sub(topic_bytes + PUBLISH_BYTES);
        let prefix: Box<str> = outlet.prefix().into();
        let Some(batch) = outlet
            .subscriber
            .batch_mut()
            .filter(|batch| batch.has_news())
        else {
            return false;
        };
        let topic = [prefix.as_bytes(), b"", topic::BATCH.as_bytes()];
        let is_compressed = batch.is_compressed() && sink.takes_content_types();
        let write = |out: &mut Vec<u8>| {
            batch.write(store, (now.unix_time_ms(), portal), bytes_max, out);
        };
        if is_compressed {
            publish_compressed(sink, &topic, write);
        } else {
            sink.publish(false, &topic, write);
        }
        if batch.has_news() {
            outlet.subscriber.continue_batch();
        }
        true
    }

    /// Publishes an item whose turn has come, or takes it back. `false` where nothing is to be said.
    #[inline]
    fn publish_item(
        &mut self,
        broker: BrokerId,
        slot: SlotId,
        sink: &mut impl PublishSink,
    ) -> bool {
        let Some(item) = self.store.items.get(slot) else {
            return false;
        };
        let outlet = self.outlets.at_mut(broker);
        let verdict = outlet.verdict(slot, item, || self.store.values.has_value(slot));
        let mut topic = [
            outlet.prefix().as_bytes(),
            self.store.items.device_key(item.device).as_bytes(),
            self.store.items.path(item).as_bytes(),
        ];
        if let Some(rest) = outlet.fit.topic(slot) {
            topic = [outlet.prefix().as_bytes(), rest.as_bytes(), b""];
        }
        match verdict {
            Verdict::Nothing => {}
            Verdict::Publish { retain } => {
                if item.rule.publish == crate::schema::rule::Publish::PortalId {
                    let portal = self.portal_id.as_str();
                    sink.publish(retain, &topic, |out| text_payload(out, portal));
                } else {
                    let item = item.at(slot);
                    sink.notify(item, retain, &topic, |out| {
                        self.store.values.render(slot, out);
                    });
                }
            }
            Verdict::Unpublish { retain } => sink.publish(retain, &topic, |_| {}),
        }
        if item.life != Life::Live {
            self.told(slot);
        }
        verdict != Verdict::Nothing
    }

    /// Publishes what has this topic once more, alone (§4.12): an item, a configuration, or, where it was
    /// `empty`, nothing. `false` where it is none of ours any more, or nobody wants it.
    pub fn publish_alone(
        &mut self,
        now: Now,
        broker: impl Into<BrokerId>,
        (topic, empty): (&str, bool),
        sink: &mut impl PublishSink,
    ) -> bool {
        let broker = broker.into();
        let outlet = self.outlets.at_mut(broker);
        if !outlet.subscriber.is_open() || outlet.subscriber.is_leaving() {
            return false;
        }
        let Some(rest) = topic.strip_prefix(outlet.prefix()) else {
            let device = outlet.described(topic, &self.store.items);
            return device.is_some_and(|device| self.publish_config(now, broker, device, sink))
                && self.has_published(broker);
        };
        let gone = || self.store.items.find_gone_topic(rest);
        match outlet.find(rest, &self.store.items).or_else(gone) {
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
    pub fn leave_topic_out(
        &mut self,
        now: Now,
        broker: impl Into<BrokerId>,
        topic: &str,
        time: Duration,
    ) {
        let broker = broker.into();
        self.outlets
            .at_mut(broker)
            .leave_out(topic, now.monotonic + time, &self.store.items);
    }

    /// What others publish below our topics comes to us from now on, or does not.
    pub fn broker_watched(&mut self, now: Now, broker: impl Into<BrokerId>, watched: bool) {
        let broker = broker.into();
        self.outlets.at_mut(broker).watched(now.monotonic, watched);
    }

    /// A broker was found to give no retained messages to subscriptions with wildcards (§4.9).
    pub fn broker_hides_retained(&mut self, broker: impl Into<BrokerId>) {
        let broker = broker.into();
        self.outlets.at_mut(broker).tally.hides_retained = true;
    }

    /// Another client published this below our topics; `retained` where the broker keeps it (§4.11).
    pub fn broker_foreign(
        &mut self,
        now: Now,
        broker: impl Into<BrokerId>,
        topic: &str,
        payload: &[u8],
        retained: bool,
    ) {
        let broker = broker.into();
        let outlet = self.outlets.at_mut(broker);
        let unscanned = self.bus.registry.unscanned();
        let portal = self.portal_id.as_str();
        let foreign = Foreign {
            topic,
            payload,
            retained,
        };
        outlet.foreign(now, &self.store, &unscanned, portal, foreign);
    }

    /// Home Assistant says that it has started: it is told of all devices once more.
    pub fn home_assistant_started(&mut self, now: Now, broker: impl Into<BrokerId>) {
        let broker = broker.into();
        let mut readers = AllReaders::new(&mut self.outlets, &mut self.discovery);
        readers.home_assistant_started(now, &mut self.store, &self.bus.registry, broker);
    }

    /// A client of a broker asks for something, or tried to: `topic` is for the log. `retained`
    /// where the broker had the message in store (§5.7).
    pub fn request(
        &mut self,
        now: Now,
        broker: impl Into<BrokerId>,
        topic: &str,
        request: Result<Request<'_>, Rejection>,
        retained: bool,
    ) {
        let broker = broker.into();
        self.request_from(now, broker, topic, request, retained, None);
    }

    /// The same, of a client that wants to be told how it ended, if it says where (§5.8).
    pub fn request_from(
        &mut self,
        now: Now,
        broker: impl Into<BrokerId>,
        topic: &str,
        request: Result<Request<'_>, Rejection>,
        retained: bool,
        respond_to: Option<ResponseAddress>,
    ) {
        let broker = broker.into();
        self.requests()
            .take(now, (broker, None), topic, request, retained, respond_to);
    }

    /// Publishes the configuration of a device, unless the broker has it as it is.
    pub(super) fn publish_config(
        &mut self,
        now: Now,
        broker: BrokerId,
        device: DeviceId,
        sink: &mut impl PublishSink,
    ) -> bool {
        let known = Known {
            store: &self.store,
            registry: &self.bus.registry,
            portal_id: &self.portal_id,
        };
        let mut readers = AllReaders::new(&mut self.outlets, &mut self.discovery);
        readers.publish_config(now, &known, broker, device, sink)
    }

    /// Whether a broker is connected and read back.
    pub fn is_up(&self, broker: impl Into<BrokerId>) -> bool {
        let broker = broker.into();
        self.outlets.at(broker).subscriber.is_open()
    }

    /// A topic of a request as it would be called without `topic-replace`; `None` where it is the same.
    pub fn original(&self, broker: impl Into<BrokerId>, topic: &str) -> Option<String> {
        let broker = broker.into();
        let outlet = self.outlets.at(broker);
        let (_, rest) = topic::parse_any(topic)?;
        let head = topic.strip_suffix(rest)?;
        if let Some(slot) = outlet.fit.find(rest) {
            let item = self.store.items.get(slot)?;
            return Some(format!("{head}{}", self.store.items.topic(item)));
        }
        let (key, path) = topic::split_item(rest)?;
        let item = self.store.items.get(outlet.fit.find_device(key)?)?;
        Some([head, self.store.items.device_key(item.device), path].concat())
    }

    /// Counts a message that is not an item; items are counted where it is decided to publish them.
    fn has_published(&mut self, broker: BrokerId) -> bool {
        self.outlets.at_mut(broker).tally.published += 1;
        true
    }

    /// One broker knows that an item is gone.
    pub(super) fn told(&mut self, slot: SlotId) {
        if self.store.items.told(slot) {
            self.on_bus().charge();
            for outlet in self.outlets.iter_mut() {
                outlet.released(slot);
            }
        }
    }

    pub(super) fn publish_control(
        &self,
        now: Now,
        control: &Control,
        broker: BrokerId,
        sink: &mut impl PublishSink,
    ) {
        let outlet = self.outlets.at(broker);
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
                    text_payload(out, self.portal_id.as_str());
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
                    let gate = outlet.subscriber.gate();
                    response::render(&self.store, &self.portal_id, gate, &response.body, out);
                });
            }
            // Published above, as the item that it is, or by `discovery`.
            Control::Stats
            | Control::Batch
            | Control::Answer(_)
            | Control::Describe(_)
            | Control::Forget(_)
            | Control::Republish(..) => {}
        }
    }
}

/// Publishes a part of a batch, compressed if that makes the message shorter: then it is no longer than the broker
/// takes either.
fn publish_compressed(
    sink: &mut impl PublishSink,
    topic: &[&[u8]; 3],
    write: impl FnOnce(&mut Vec<u8>),
) {
    let mut plain = Vec::new();
    write(&mut plain);
    let compressed = gzip::compress(&plain);
    let compressed = compressed.filter(|bytes| bytes.len() + COMPRESSED_BYTES < plain.len());
    match compressed {
        Some(bytes) => sink.publish_as(gzip::CONTENT_TYPE, topic, &bytes),
        None => sink.publish(false, topic, |out| out.extend_from_slice(&plain)),
    }
}
