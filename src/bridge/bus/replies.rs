//! The bridge's own calls: whose answer is whose (§2, §5).

use std::time::Duration;

use tracing::{info, warn};

use super::calls::{Callee, Method, Missing, Purpose, Unanswered};
use super::registry::State;
use crate::bridge::Bridge;
use crate::bridge::request::requests::Outcome;
use crate::bridge::store::items::ServiceId;
use crate::codec::bus_item;
use crate::codec::frame::{Frame, Kind};
use crate::model::name::ServiceName;
use crate::model::time::Now;

impl Bridge {
    /// Calls the connection that owns a service now. By its unique name, so that no other owner of the
    /// name takes a call that was not for it; by the service's name where the connection has several,
    /// which it may tell apart by that.
    pub(in crate::bridge) fn call_service(
        &mut self,
        now: Now,
        timeout: Duration,
        id: ServiceId,
        path: &str,
        method: Method,
        purpose: Purpose,
    ) {
        let Some(service) = self.registry.get(id) else {
            return;
        };
        let owner = &*service.owner;
        let several = self
            .registry
            .owned_by(owner)
            .is_some_and(|all| all.len() > 1);
        // A scan may come before its other names are known.
        let by_name = several || matches!(purpose, Purpose::Scan { .. });
        let callee = Callee {
            owner,
            destination: if by_name {
                service.name.as_str()
            } else {
                owner
            },
        };
        self.calls
            .call(now.monotonic, timeout, callee, path, method, purpose);
    }

    pub(in crate::bridge) fn reply(&mut self, now: Now, frame: &Frame<'_>) {
        let error = (frame.kind == Kind::Error).then_some(frame.error_name);
        let has_name = |name: &str| {
            let service = self
                .registry
                .find(name)
                .and_then(|id| self.registry.get(id));
            service.is_some_and(|service| *service.owner == *frame.sender)
        };
        let (id, sender) = (frame.reply_serial, frame.sender);
        let answered = self
            .calls
            .answer(now.monotonic, id, sender, error, has_name);
        if answered.again {
            self.answers_again(now, frame.sender);
        }
        let Some(purpose) = answered.purpose else {
            return;
        };
        let outcome = match error {
            _ if answered.another => Outcome::Lost(Missing::TimedOut),
            Some(_) => Outcome::Error(frame),
            // Who was asked has left, and the number of its service may be another's by now.
            None if self.has_left(&purpose, frame.sender) => Outcome::Lost(Missing::TimedOut),
            None => Outcome::Reply(frame),
        };
        self.answered(now, purpose, outcome);
    }

    fn has_left(&self, purpose: &Purpose, owner: &str) -> bool {
        let service = match purpose {
            Purpose::Read { service, .. } | Purpose::Scan { service, .. } => *service,
            Purpose::Confirm { writer, .. } => writer.service,
            Purpose::Match(_) | Purpose::Names | Purpose::Owner(_) | Purpose::Write { .. } => {
                return false;
            }
        };
        self.registry
            .get(service)
            .is_none_or(|service| *service.owner != *owner)
    }

    /// A call has no answer.
    pub(in crate::bridge) fn unanswered(&mut self, now: Now, call: Unanswered) {
        if let Some(owner) = &call.silenced {
            self.does_not_answer(now, owner);
        }
        self.answered(now, call.purpose, Outcome::Lost(call.why));
    }

    /// A connection is asked nothing more.
    fn does_not_answer(&mut self, now: Now, owner: &str) {
        let Some(id) = self
            .registry
            .owned_by(owner)
            .and_then(|all| all.first().copied())
        else {
            return;
        };
        if self.may_warn(now)
            && let Some(service) = self.registry.get(id)
        {
            let name = &service.name;
            warn!("{name}: does not answer its calls; not called again until it does");
        }
    }

    /// A connection that owed answers gave one: what it could not be asked meanwhile is asked now.
    fn answers_again(&mut self, now: Now, owner: &str) {
        let ids: Vec<ServiceId> = self
            .registry
            .owned_by(owner)
            .into_iter()
            .flatten()
            .copied()
            .collect();
        for id in ids {
            let Some(service) = self.registry.get(id) else {
                continue;
            };
            let name = service.name.clone();
            if matches!(service.state, State::Failed) {
                self.registry.scan_at(id, now.monotonic);
            }
            if self.may_warn(now) {
                info!("{name}: answers again");
            }
        }
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
                // Before the names are known, the last one too: it was there when the bus was connected.
                if let Outcome::Reply(frame) = outcome
                    && let Ok(owner) = bus_item::text(frame)
                {
                    self.owner_changed(now, &name, owner);
                }
                self.owners_pending = self.owners_pending.saturating_sub(1);
                self.registry.listed |= self.owners_pending == 0;
                self.settle(now);
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
        // Of those that are too many, one is asked for, which is reported.
        let room = self
            .config
            .services_max
            .saturating_sub(self.registry.count());
        let new =
            |name: &&str| ServiceName::new(name).is_some() && self.registry.find(name).is_none();
        let new: Vec<_> = names
            .into_iter()
            .filter(new)
            .take(room.saturating_add(1))
            .collect();
        for name in new {
            self.owners_pending += 1;
            self.call_bus(
                now,
                Method::GetNameOwner(name.into()),
                Purpose::Owner(name.into()),
            );
        }
        if self.owners_pending == 0 && !self.registry.listed {
            self.registry.listed = true;
            if self.registry.count() == 0 {
                warn!("no Victron service is on this bus yet; is it the right bus?");
            }
        }
        self.settle(now);
    }
}
