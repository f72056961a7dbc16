//! The bridge's own calls: whose answer is whose (§2, §5).

use tracing::warn;

use super::Bridge;
use super::calls::{Method, Purpose};
use super::requests::Outcome;
use crate::codec::bus_item;
use crate::codec::frame::{Frame, Kind};
use crate::model::name::ServiceName;
use crate::model::time::Now;

impl Bridge {
    pub(super) fn reply(&mut self, now: Now, frame: &Frame<'_>) {
        let Some(purpose) = self.calls.end(frame.reply_serial) else {
            return;
        };
        let outcome = if frame.kind == Kind::Error {
            Outcome::Error(frame)
        } else {
            Outcome::Reply(frame)
        };
        self.answered(now, purpose, outcome);
    }

    /// A call has no answer.
    pub(super) fn unanswered(&mut self, now: Now, purpose: Purpose) {
        self.answered(now, purpose, Outcome::Lost);
    }

    fn answered(&mut self, now: Now, purpose: Purpose, outcome: Outcome<'_>) {
        match (purpose, outcome) {
            (Purpose::Match(_), Outcome::Reply(_)) => {}
            (Purpose::Match(Some(instead)), _) => {
                self.call_bus(now, Method::AddMatch(instead.into()), Purpose::Match(None));
            }
            (Purpose::Match(None), _) => {
                warn!("the bus lets nobody listen: {}", outcome.rejection());
            }
            (Purpose::Names, Outcome::Reply(frame)) => self.names_listed(now, frame),
            (Purpose::Names, _) => warn!(
                "the bus does not tell who is there: {}",
                outcome.rejection()
            ),
            (Purpose::Owner(name), outcome) => {
                self.owners_pending = self.owners_pending.saturating_sub(1);
                self.registry.listed |= self.owners_pending == 0;
                if let Outcome::Reply(frame) = outcome
                    && let Ok(owner) = bus_item::text(frame)
                {
                    self.owner_changed(now, &name, owner);
                }
                self.settle();
            }
            (
                Purpose::Scan {
                    service,
                    scan,
                    step,
                },
                outcome,
            ) => {
                let current = self
                    .registry
                    .get(service)
                    .is_some_and(|service| service.scan == scan);
                if current {
                    self.scanned(now, service, step, outcome);
                }
            }
            (
                Purpose::Read {
                    broker,
                    ticket,
                    service,
                    path,
                    leaf,
                    respond_to,
                },
                outcome,
            ) => {
                let read = (broker, ticket, service, &*path, leaf);
                self.has_read(now, read, respond_to, outcome);
            }
            (
                Purpose::Write {
                    broker,
                    topic,
                    writer,
                    secret,
                },
                outcome,
            ) => {
                self.written(now, (broker, &topic, secret), writer, outcome);
            }
            (Purpose::Confirm { broker, writer }, outcome) => {
                self.confirmed(now, broker, *writer, outcome);
            }
        }
    }

    fn names_listed(&mut self, now: Now, frame: &Frame<'_>) {
        let Ok(names) = bus_item::texts(frame) else {
            return warn!("the bus's list of names cannot be read");
        };
        for name in names
            .into_iter()
            .filter(|name| ServiceName::new(name).is_some())
        {
            self.owners_pending += 1;
            self.call_bus(
                now,
                Method::GetNameOwner(name.into()),
                Purpose::Owner(name.into()),
            );
        }
        self.registry.listed = self.owners_pending == 0;
        self.settle();
    }
}
