//! A read: checked, asked of its service, and answered in its turn among the requests (§5.5, §5.8).
//!
//! ```text
//! check ──▶ ticket in the answers ──▶ GetValue ──▶ reply: taken over ──▶ answer: an item, or a node's
//!   │ refused                            │ an error, nothing
//!   └────────────────────────────────────┴──────────────────────────────▶ answer: the reason
//! ```

use tracing::warn;

use super::{Origin, RequestContext, response};
use crate::bridge::bus::calls::{ClientCall, Method, Outcome, Purpose};
use crate::bridge::bus::scans::UNKNOWN;
use crate::bridge::store::cache::SlotId;
use crate::bridge::store::ids::BrokerId;
use crate::bridge::store::items::{DeviceId, Life, ServiceId};
use crate::bridge::subscriber::answers::WAITING_MAX;
use crate::bridge::subscriber::response::{Response, ResponseBody};
use crate::codec::bus_item::{Changes, is_object_path};
use crate::codec::frame::Frame;
use crate::model::item::ItemChange;
use crate::model::name::is_topic_path;
use crate::model::request::{ItemAddress, Rejection, ResponseAddress};
use crate::model::time::Now;
use crate::schema::rule::{Publish, Role};

impl RequestContext<'_> {
    /// Checks a read, and asks its service (§5.5).
    pub(super) fn read(
        &mut self,
        now: Now,
        origin: &Origin<'_>,
        address: &ItemAddress<'_>,
    ) -> Result<(), Rejection> {
        let (device, service_id) = self.addressed(address)?;
        let service = self.bus.registry.at(service_id);
        let unknown = || Rejection::UnknownPath {
            service: service.name.as_str().into(),
            path: address.path.into(),
        };
        let slot = self
            .store
            .items
            .find(device, address.path)
            .filter(|slot| self.store.items.is_live(*slot));
        let below = self.below(device, address.path);
        let leaf = slot.is_some() || below.is_empty();
        if !self.reads_any(origin.broker, device, address.path, &below) {
            return Err(Rejection::NotAllowed { what: "read" });
        }
        if slot.is_none() {
            // What the scan did not bring may be there all the same; the service is asked, unless
            // the answer could not be published.
            let rule = self
                .store
                .schema
                .lookup(address.service_type, address.path)
                .rule;
            let publishable = is_topic_path(address.path) && rule.publish != Publish::Blocked;
            if !is_object_path(address.path) || (leaf && !publishable) {
                return Err(unknown());
            }
        }
        let max = self.limits.calls_in_flight_max;
        let who = origin.requester();
        let outlet = self.outlets.at_mut(origin.broker);
        if self.bus.calls.reads() >= max {
            return Err(Rejection::Busy { max });
        }
        if self.bus.calls.owes(&service.owner) {
            return Err(Rejection::Silent);
        }
        let ticket = outlet
            .subscriber
            .answers()
            .ask_read(&who)
            .ok_or(Rejection::Busy { max: WAITING_MAX })?;
        if !is_object_path(address.path) {
            // It came in an ItemsChanged, and no call can name it: what is known is all there is.
            let gate = outlet.subscriber.gate();
            let known = slot
                .filter(|_| gate.reads(self.store.items.device_key(device), address.path))
                .and_then(|slot| self.store.items.item_ref(slot));
            if let Some(to) = origin.respond_to.clone() {
                let told = known.map_or(ResponseBody::Nothing, ResponseBody::Item);
                outlet
                    .subscriber
                    .answers()
                    .respond_after(ticket, Response { to, body: told });
            }
            outlet
                .subscriber
                .answers()
                .answer(ticket, known.into_iter().collect());
            return Ok(());
        }
        let purpose = ClientCall::Read {
            broker: origin.broker,
            ticket,
            service: service_id,
            path: address.path.into(),
            leaf,
            respond_to: origin.respond_to.clone().map(Box::new),
        };
        let (timeout, method) = (self.limits.read_timeout, Method::GetValue);
        self.on_bus().call_service(
            now,
            timeout,
            service_id,
            address.path,
            method,
            Purpose::Client(purpose),
        );
        Ok(())
    }

    /// A read has its answer (§5.5).
    pub fn has_read(
        &mut self,
        now: Now,
        (broker, ticket, service, path, leaf): (BrokerId, u64, ServiceId, &str, bool),
        respond_to: Option<Box<ResponseAddress>>,
        outcome: Outcome<'_>,
    ) {
        let slots = match outcome {
            Outcome::Reply(frame) if leaf => {
                self.read_leaf(now, (Some(broker), service), path, frame)
            }
            Outcome::Reply(frame) => Ok(self.read_node(now, (Some(broker), service), path, frame)),
            Outcome::Error(frame) if UNKNOWN.contains(&frame.error_name) => self
                .read_unknown(now, service, path, leaf)
                .ok_or_else(|| outcome.rejection()),
            Outcome::Error(_) | Outcome::Lost(_) => Err(outcome.rejection()),
        };
        let slots = slots.map(|slots| self.readable(broker, slots));
        let told = respond_to.map(|to| Response {
            to: *to,
            body: match &slots {
                Ok(slots) => self.told_of(slots, path),
                Err(rejection) => ResponseBody::rejection(rejection),
            },
        });
        let slots = slots.unwrap_or_else(|rejection| {
            let device = self
                .bus
                .registry
                .get(service)
                .and_then(|service| service.device);
            let key = device.map_or("", |device| self.store.items.device_key(device));
            let topic = format!("R/{}/{key}{path}", self.portal_id);
            self.reject(now, broker, &topic, &rejection);
            Vec::new()
        });
        let found = slots.into_iter();
        let found = found.filter_map(|slot| self.store.items.item_ref(slot));
        let found = found.collect();
        let subscriber = &mut self.outlets.at_mut(broker).subscriber;
        if let Some(response) = told {
            subscriber.answers().respond_after(ticket, response);
        }
        subscriber.answers().answer(ticket, found);
        subscriber.advance(now.monotonic, &self.store.items);
    }

    /// The service has no such object. An item that the last scan gave is gone then, and is cleared.
    /// One that only signals have brought never had an object, for all we know: it is answered with what
    /// is known. So are the items below a node that is not an object itself, as with services that have
    /// objects for their items only.
    fn read_unknown(
        &mut self,
        now: Now,
        id: ServiceId,
        path: &str,
        leaf: bool,
    ) -> Option<Vec<SlotId>> {
        let device = self.bus.registry.get(id)?.device?;
        if !leaf {
            let below = self.below(device, path);
            return (!below.is_empty()).then_some(below);
        }
        let slot = self.store.items.find(device, path)?;
        let item = self.store.items.at(slot);
        if item.life != Life::Live {
            return None;
        }
        if item.scanned {
            if item.rule.role == Role::VrmAccess {
                let name = self.bus.registry.at(id).name.clone();
                self.on_bus().access_in_doubt(now, &name);
            }
            self.on_bus().retire(slot);
            self.readers().describe_soon(now, device);
            return None;
        }
        let service = self.bus.registry.at_mut(id);
        if !std::mem::replace(&mut service.reported.no_object, true) {
            warn!(
                "{}: has no object {path}, although it signals it; reads of such items are answered with \
                 the last value",
                service.name
            );
        }
        Some(vec![slot])
    }

    /// Whether a broker's clients may have an item, or any of those below a node (§8).
    fn reads_any(&self, broker: BrokerId, device: DeviceId, path: &str, below: &[SlotId]) -> bool {
        let outlet = self.outlets.at(broker);
        let reads = |path: &str| {
            outlet
                .subscriber
                .gate()
                .reads(self.store.items.device_key(device), path)
        };
        reads(path)
            || below
                .iter()
                .map(|slot| self.store.items.at(*slot))
                .any(|item| reads(self.store.items.path(item)))
    }

    /// Those of the slots that a broker's clients may read (§8).
    fn readable(&self, broker: BrokerId, slots: Vec<SlotId>) -> Vec<SlotId> {
        let outlet = self.outlets.at(broker);
        let reads =
            |slot: &SlotId| response::may_see(outlet.subscriber.gate(), &self.store.items, *slot);
        slots.into_iter().filter(reads).collect()
    }

    /// Takes over what an item has, or what a node has that turns out to be none.
    pub fn read_leaf(
        &mut self,
        now: Now,
        (asker, service): (Option<BrokerId>, ServiceId),
        path: &str,
        frame: &Frame<'_>,
    ) -> Result<Vec<SlotId>, Rejection> {
        let changes = Changes::of_value(frame, path).map_err(|_| Rejection::Answer)?;
        let Some(device) = self
            .bus
            .registry
            .get(service)
            .and_then(|service| service.device)
        else {
            return Ok(Vec::new());
        };
        let known = self
            .store
            .items
            .find(device, path)
            .filter(|slot| self.store.items.is_live(*slot));
        if known.is_none() && matches!(Changes::of_tree(frame), Ok(Some(_))) {
            return Ok(self.read_node(now, (asker, service), path, frame));
        }
        for change in changes {
            let change = change.map_err(|_| Rejection::Answer)?;
            match known {
                Some(slot) => self.refresh(asker, slot, &change),
                None => {
                    self.on_bus().change_of(now, service, &change);
                }
            }
            let unkept = || {
                let slot = known.or_else(|| self.store.items.find(device, path));
                slot.and_then(|slot| self.store.cache.unkept(slot))
            };
            let exceeded = |value| self.bus.limits.sizes.exceeded(value);
            if let Some(why) = change.value.as_ref().and_then(exceeded).or_else(unkept) {
                return Err(why.into());
            }
        }
        Ok(self.store.items.find(device, path).into_iter().collect())
    }

    /// Takes over a value that was asked for. Where it is another one, all brokers hear of it; the
    /// one that asked gets its answer.
    fn refresh(&mut self, asker: Option<BrokerId>, slot: SlotId, change: &ItemChange<'_>) {
        let rule = self.store.items.at(slot).rule;
        if self.store.cache.apply(slot, change, rule) {
            let mut asked_directly = false;
            for (id, outlet) in self.outlets.all_mut() {
                if Some(id) == asker {
                    asked_directly = outlet.subscriber.is_direct();
                } else {
                    outlet.subscriber.changed(slot);
                }
            }
            if let Some(direct) = self.outlets.direct.as_ref().filter(|_| !asked_directly) {
                direct.changed(slot);
            }
        }
    }

    /// Takes over what an inner node tells of the items below it, and gives them all. A service that
    /// gives no dict is answered for from what is known.
    fn read_node(
        &mut self,
        now: Now,
        (asker, service): (Option<BrokerId>, ServiceId),
        path: &str,
        frame: &Frame<'_>,
    ) -> Vec<SlotId> {
        let Some(device) = self
            .bus
            .registry
            .get(service)
            .and_then(|service| service.device)
        else {
            return Vec::new();
        };
        if let Ok(Some(changes)) = Changes::of_tree(frame) {
            for change in changes.map_while(Result::ok) {
                let full = format!(
                    "{}/{}",
                    path.trim_end_matches('/'),
                    change.path.trim_start_matches('/')
                );
                let change = ItemChange {
                    path: &full,
                    ..change
                };
                match self
                    .store
                    .items
                    .find(device, &full)
                    .filter(|slot| self.store.items.is_live(*slot))
                {
                    Some(slot) => self.refresh(asker, slot, &change),
                    None => {
                        self.on_bus().change_of(now, service, &change);
                    }
                }
            }
        }
        self.below(device, path)
    }
}
