//! What other clients publish below our topics, and how it is put right (§4.11).
//!
//! A broker bridge that brings back what it once took, an old program, a client that spoofs: whoever
//! subscribes would take it for the device's own word. The value that is right is published again; what
//! no item has is cleared.

use tracing::warn;

use super::corrections::Correction;
use super::outbox::Control;
use super::publishing::{number_payload, text_payload};
use super::remote::Outlet;
use crate::bridge::Bridge;
use crate::bridge::store::items::Items;
use crate::model::time::Now;
use crate::model::topic;
use crate::schema::rule::Publish;

/// How a topic is put right.
enum Right {
    /// By a message of the bridge's own.
    Own(Control),
    /// By the value of its item, or by none where nobody is to see it.
    Item(crate::bridge::store::cache::SlotId),
    /// By nothing: it is no topic of ours.
    Empty,
}

impl Bridge {
    /// What others publish below our topics comes to us from now on, or does not.
    pub fn broker_watched(&mut self, now: Now, broker: usize, watched: bool) {
        if let Some(outlet) = self.outlets.get_mut(broker) {
            outlet.watched(now.monotonic, watched);
        }
    }

    /// A broker was found to give no retained messages to subscriptions with wildcards (§4.9).
    pub fn broker_hides_retained(&mut self, broker: usize) {
        if let Some(outlet) = self.outlets.get_mut(broker) {
            outlet.tally.hides_retained = true;
        }
    }

    /// Another client published this below our topics; `retained` where the broker keeps it.
    pub fn broker_foreign(
        &mut self,
        now: Now,
        broker: usize,
        topic: &str,
        payload: &[u8],
        retained: bool,
    ) {
        let portal = self.config.portal_id.as_str();
        let Some(outlet) = self.outlets.get_mut(broker) else {
            return;
        };
        let Some(rest) = topic.strip_prefix(outlet.prefix()) else {
            return;
        };
        // What is never retained is over when it was said; the doctor talks to itself.
        let passing = matches!(rest, topic::HEARTBEAT | topic::COMPLETED | topic::STATS);
        if outlet.subscriber.is_leaving() || rest == topic::DOCTOR {
            return;
        }
        if passing && !retained {
            if rest != topic::STATS
                && outlet.subscriber.is_open()
                && outlet.corrections.rival(now.monotonic)
            {
                warn!(
                    "{}: another bridge for this device publishes {topic} there, as the broker of a GX device does: set `mqtt-server` to another broker, or `mqtt-prefix = \"venus/\"` for this one (or a bridge between brokers brings N/# back)",
                    outlet.name()
                );
            }
            return;
        }
        if !outlet.subscriber.is_open() {
            // As what was read back before.
            if !payload.is_empty() {
                outlet.retained(rest, &self.items);
            }
            return;
        }
        let mut present = Vec::new();
        let right = match rest {
            topic::STATUS => {
                text_payload(&mut present, "online");
                Right::Own(Control::Online)
            }
            topic::SERIAL => {
                text_payload(&mut present, portal);
                Right::Own(Control::Serial)
            }
            topic::KEEPALIVE => {
                number_payload(&mut present, 1);
                Right::Own(Control::KeepAlive)
            }
            _ => match outlet.find(rest, &self.items) {
                Some(slot) => {
                    if outlet.subscriber.covers(slot) {
                        let item = self.items.get(slot);
                        if item.is_some_and(|item| item.rule.publish == Publish::PortalId) {
                            text_payload(&mut present, portal);
                        } else if self.values.has_value(slot) {
                            self.values.render(slot, &mut present);
                        }
                    }
                    Right::Item(slot)
                }
                None => Right::Empty,
            },
        };
        if payload == present {
            return;
        }
        outlet.tally.foreign += 1;
        let verdict = outlet.corrections.wanted(now.monotonic, rest);
        let name = outlet.name();
        let shown = topic.escape_debug().take(200).collect::<String>();
        match verdict {
            Correction::LeaveAlone => return,
            Correction::TopicDisputed => {
                return warn!(
                    "{name}: another client keeps publishing {shown}; not corrected for a minute"
                );
            }
            Correction::AllDisputed => {
                return warn!(
                    "{name}: another client keeps publishing our topics, {shown} and others; none is corrected for a minute"
                );
            }
            Correction::First => warn!(
                "{name}: another client published {shown}, which only this bridge should; corrected, as further ones are (does a bridge between brokers bring N/# back?)"
            ),
            Correction::Correct => {}
        }
        let settled = !self.registry.unscanned().may_have(&self.items, rest);
        outlet.correct(rest, right, retained, settled, &self.items);
        outlet.tally.corrected += 1;
    }
}

impl Outlet {
    fn correct(&mut self, rest: &str, right: Right, retained: bool, settled: bool, items: &Items) {
        // With `retain = false` a broker is to keep nothing of items, and to be told what holds.
        let clears = retained && !self.retains();
        match right {
            Right::Own(control) => self.subscriber.hurry(control),
            Right::Item(slot) if self.subscriber.covers(slot) => {
                if clears {
                    self.subscriber.queue(Control::Clear(rest.into()));
                    if let Some(item) = items.item_ref(slot) {
                        self.subscriber.queue(Control::Answer(item));
                    }
                } else {
                    self.put_right(slot);
                }
            }
            Right::Item(slot) if self.retains() => self.put_right(slot),
            // Perhaps it is of a device that was not scanned yet.
            Right::Empty if !settled && self.retains() => self.retained(rest, items),
            Right::Empty => self.subscriber.queue(Control::Clear(rest.into())),
            Right::Item(_) if clears => self.subscriber.queue(Control::Clear(rest.into())),
            Right::Item(_) => {}
        }
    }
}
