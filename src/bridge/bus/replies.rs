//! The bridge's own calls: whose answer is whose (§2, §5).

use std::time::Duration;

use tracing::{info, warn};

use super::calls::{CallId, Callee, ClientCall, Method, Missing, Outcome, Purpose, Unanswered};
use super::registry::State;
use super::{BusContext, Readers};
use crate::bridge::store::items::ServiceId;
use crate::codec::bus_item;
use crate::codec::frame::{Frame, Kind};
use crate::model::name::ServiceName;
use crate::model::time::Now;

impl<R: Readers> BusContext<'_, R> {
    /// Calls the connection that owns a service now. By its unique name, so that no other owner of the
    /// name takes a call that was not for it; by the service's name where the connection has several,
    /// which it may tell apart by that.
    pub fn call_service(
        &mut self,
        now: Now,
        timeout: Duration,
        id: ServiceId,
        path: &str,
        method: Method,
        purpose: Purpose,
    ) {
        let service = self.bus.registry.at(id);
        let owner = &*service.owner;
        let several = self
            .bus
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
        self.bus
            .calls
            .call(now.monotonic, timeout, callee, path, method, purpose);
    }

    /// A call has its answer. One to a client's call comes back.
    pub fn reply<'f>(
        &mut self,
        now: Now,
        id: CallId,
        frame: &'f Frame<'f>,
    ) -> Option<(ClientCall, Outcome<'f>)> {
        let error = (frame.kind == Kind::Error).then_some(frame.error_name);
        let has_name = |name: &str| {
            let service = self.bus.registry.find(name);
            service.is_some_and(|id| *self.bus.registry.at(id).owner == *frame.sender)
        };
        let sender = frame.sender;
        let answered = self
            .bus
            .calls
            .answer(now.monotonic, id, sender, error, has_name);
        if answered.again {
            self.answers_again(now, frame.sender);
        }
        let purpose = answered.purpose?;
        let outcome = match error {
            _ if answered.another => Outcome::Lost(Missing::TimedOut),
            Some(_) => Outcome::Error(frame),
            // Who was asked has left, and the number of its service may be another's by now.
            None if self.has_left(&purpose, frame.sender) => Outcome::Lost(Missing::TimedOut),
            None => Outcome::Reply(frame),
        };
        self.answered(now, purpose, outcome)
    }

    fn has_left(&self, purpose: &Purpose, owner: &str) -> bool {
        let service = match purpose {
            Purpose::Client(ClientCall::Read { service, .. }) | Purpose::Scan { service, .. } => {
                *service
            }
            Purpose::Client(ClientCall::Confirm { writer, .. }) => writer.service,
            Purpose::Match(_)
            | Purpose::Names
            | Purpose::Owner(_)
            | Purpose::Client(ClientCall::Write { .. }) => return false,
        };
        self.bus
            .registry
            .get(service)
            .is_none_or(|service| *service.owner != *owner)
    }

    /// A call has no answer.
    pub fn unanswered(
        &mut self,
        now: Now,
        call: Unanswered,
    ) -> Option<(ClientCall, Outcome<'static>)> {
        if let Some(owner) = &call.silenced {
            self.does_not_answer(now, owner);
        }
        self.answered(now, call.purpose, Outcome::Lost(call.why))
    }

    /// A connection is asked nothing more.
    fn does_not_answer(&mut self, now: Now, owner: &str) {
        let Some(id) = self
            .bus
            .registry
            .owned_by(owner)
            .and_then(|all| all.first().copied())
        else {
            return;
        };
        if self.may_warn(now) {
            let name = &self.bus.registry.at(id).name;
            warn!("{name}: does not answer its calls; not called again until it does");
        }
    }

    /// A connection that owed answers gave one: what it could not be asked meanwhile is asked now.
    fn answers_again(&mut self, now: Now, owner: &str) {
        let ids: Vec<ServiceId> = self
            .bus
            .registry
            .owned_by(owner)
            .into_iter()
            .flatten()
            .copied()
            .collect();
        for id in ids {
            let service = self.bus.registry.at(id);
            let name = service.name.clone();
            if matches!(service.state, State::Failed) {
                self.bus.registry.scan_at(id, now.monotonic);
            }
            if self.may_warn(now) {
                info!("{name}: answers again");
            }
        }
    }

    /// Takes an answer to a call of the bridge's own. One to a client's call comes back.
    fn answered<'f>(
        &mut self,
        now: Now,
        purpose: Purpose,
        outcome: Outcome<'f>,
    ) -> Option<(ClientCall, Outcome<'f>)> {
        match (purpose, outcome) {
            (Purpose::Match(_), Outcome::Reply(_)) => {}
            (Purpose::Match(Some(instead)), _) => {
                self.call_bus(now, Method::AddMatch(instead.into()), Purpose::Match(None));
            }
            (Purpose::Match(None), _) => {
                warn!("the bus refused to send signals: {}", outcome.rejection());
            }
            (Purpose::Names, Outcome::Reply(frame)) => self.names_listed(now, frame),
            (Purpose::Names, _) => {
                warn!("cannot list the names on the bus: {}", outcome.rejection());
            }
            (Purpose::Owner(name), outcome) => {
                // Before the names are known, the last one too: it was there when the bus was connected.
                if let Outcome::Reply(frame) = outcome
                    && let Ok(owner) = bus_item::text(frame)
                {
                    self.owner_changed(now, &name, owner);
                }
                self.bus.owners_pending = self.bus.owners_pending.saturating_sub(1);
                self.bus.registry.listed |= self.bus.owners_pending == 0;
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
                    .bus
                    .registry
                    .get(service)
                    .is_some_and(|service| service.scan == scan);
                if current {
                    self.scanned(now, service, step, outcome);
                }
            }
            (Purpose::Client(call), outcome) => return Some((call, outcome)),
        }
        None
    }

    fn names_listed(&mut self, now: Now, frame: &Frame<'_>) {
        let Ok(names) = bus_item::texts(frame) else {
            return warn!("the bus sent a malformed list of names");
        };
        // Of those that are too many, one is asked for, which is reported.
        let room = self
            .bus
            .limits
            .services_max
            .saturating_sub(self.bus.registry.count());
        let new = |name: &&str| {
            ServiceName::new(name).is_some() && self.bus.registry.find(name).is_none()
        };
        let new: Vec<_> = names
            .into_iter()
            .filter(new)
            .take(room.saturating_add(1))
            .collect();
        for name in new {
            self.bus.owners_pending += 1;
            self.call_bus(
                now,
                Method::GetNameOwner(name.into()),
                Purpose::Owner(name.into()),
            );
        }
        if self.bus.owners_pending == 0 && !self.bus.registry.listed {
            self.bus.registry.listed = true;
            if self.bus.registry.count() == 0 {
                warn!("no Victron service is on this bus yet; is it the right bus?");
            }
        }
        self.settle(now);
    }
}
