//! What other clients publish below our topics, and how it is put right (§4.11).
//!
//! A broker bridge that brings back what it once took, an old program, a client that spoofs: whoever
//! subscribes would take it for the device's own word. The value that is right is published again; what
//! no item has is cleared.

use tracing::warn;

use super::corrections::Correction;
use super::outbox::Control;
use super::remote::Outlet;
use super::sink::{number_payload, text_payload};
use crate::bridge::bus::registry::Unscanned;
use crate::bridge::store::Store;
use crate::bridge::store::cache::SlotId;
use crate::bridge::store::items::Items;
use crate::model::time::Now;
use crate::model::topic;
use crate::schema::rule::Publish;

/// How a topic is put right.
enum Right {
    /// By a message of the bridge's own.
    Own(Control),
    /// By the value of its item, or by none where nobody is to see it.
    Item(SlotId),
    /// By nothing: it is not a topic of ours.
    Empty,
}

/// What another client published.
#[derive(Debug, Clone, Copy)]
pub struct Foreign<'a> {
    /// Its whole topic.
    pub topic: &'a str,
    /// Its payload.
    pub payload: &'a [u8],
    /// Whether the broker keeps it.
    pub retained: bool,
}

impl Outlet {
    /// Another client published this below our topics; `retained` where the broker keeps it.
    pub fn foreign(
        &mut self,
        now: Now,
        store: &Store,
        unscanned: &Unscanned<'_>,
        portal: &str,
        Foreign {
            topic,
            payload,
            retained,
        }: Foreign<'_>,
    ) {
        let Some(rest) = topic.strip_prefix(self.prefix()) else {
            return;
        };
        // What is never retained is over when it was said; the doctor talks to itself.
        let passing = matches!(
            rest,
            topic::HEARTBEAT | topic::BATCH | topic::COMPLETED | topic::STATS
        );
        if self.subscriber.is_leaving() || rest == topic::DOCTOR {
            return;
        }
        if passing && !retained {
            if rest != topic::STATS
                && self.subscriber.is_open()
                && self.corrections.rival(now.monotonic)
            {
                warn!(
                    "{}: another bridge for this device publishes {topic} there, as the broker of a GX device does: set `mqtt-server` to another broker, or `mqtt-prefix = \"venus/\"` for this one (or a bridge between brokers brings N/# back)",
                    self.name()
                );
            }
            return;
        }
        if !self.subscriber.is_open() {
            // As what was read back before.
            if !payload.is_empty() {
                self.retained(rest, &store.items);
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
            _ => match self.find(rest, &store.items) {
                Some(slot) => {
                    if self.subscriber.covers(slot) {
                        if store.items.at(slot).rule.publish == Publish::PortalId {
                            text_payload(&mut present, portal);
                        } else if store.values.has_value(slot) {
                            store.values.render(slot, &mut present);
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
        self.tally.foreign += 1;
        let verdict = self.corrections.wanted(now.monotonic, rest);
        let name = self.name().to_owned();
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
        let settled = !unscanned.may_have(&store.items, rest);
        self.correct(rest, right, retained, settled, &store.items);
        self.tally.corrected += 1;
    }

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
