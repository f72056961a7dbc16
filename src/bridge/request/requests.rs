//! The bridge towards its clients: what they ask for, and what becomes of it (§5).

use tracing::warn;

use super::convert;
use super::responses::{self, Response, Told, Writer};
use super::validate;
use crate::bridge::Bridge;
use crate::bridge::bus::calls::{Method, Missing, Purpose};
use crate::bridge::bus::scans::UNKNOWN;
use crate::bridge::store::cache::{PresentType, SlotId};
use crate::bridge::store::items::{DeviceId, Life, ServiceId};
use crate::bridge::subscriber::answers::{Echo, Requester, WAITING_MAX};
use crate::bridge::subscriber::remote::Outlet;
use crate::codec::bus_item::{self, Changes};
use crate::codec::frame::Frame;
use crate::model::item::ItemChange;
use crate::model::name::is_topic_path;
use crate::model::request::{ItemAddress, KeepAlive, Rejection, Request, ResponseAddress};
use crate::model::time::Now;
use crate::model::topic;
use crate::model::value::Json;
use crate::schema::rule::{Publish, Role};

/// What came of a call.
#[derive(Debug, Clone, Copy)]
pub(in crate::bridge) enum Outcome<'a> {
    /// A reply.
    Reply(&'a Frame<'a>),
    /// A D-Bus error.
    Error(&'a Frame<'a>),
    /// Nothing.
    Lost(Missing),
}

impl Outcome<'_> {
    /// The outcome as a reason, where it is no reply.
    pub(in crate::bridge) fn rejection(self) -> Rejection {
        match self {
            Outcome::Reply(_) => Rejection::Answer,
            Outcome::Error(frame) => Rejection::BusError {
                name: frame.error_name.into(),
                message: bus_item::error_message(frame).into_boxed_str(),
            },
            Outcome::Lost(Missing::Silent) => Rejection::Silent,
            Outcome::Lost(Missing::NoTurn) => Rejection::NoTurn,
            Outcome::Lost(Missing::TimedOut | Missing::BusGone) => Rejection::NoAnswer,
        }
    }
}

impl Bridge {
    /// A client of a broker asks for something, or tried to: `topic` is for the log. `retained`
    /// where the broker had the message in store (§5.7).
    pub fn request(
        &mut self,
        now: Now,
        broker: usize,
        topic: &str,
        request: Result<Request<'_>, Rejection>,
        retained: bool,
    ) {
        self.request_from(now, broker, topic, request, retained, None);
    }

    /// The same, of a client that wants to be told how it ended, if it says where (§5.8).
    pub fn request_from(
        &mut self,
        now: Now,
        broker: usize,
        topic: &str,
        request: Result<Request<'_>, Rejection>,
        retained: bool,
        respond_to: Option<ResponseAddress>,
    ) {
        if !self.wants(broker) {
            return;
        }
        if let Some(outlet) = self.outlets.get_mut(broker) {
            outlet.tally.requests += 1;
        }
        let outlet = self.outlets.get(broker).map(Outlet::config);
        let checked = respond_to.as_ref().zip(outlet);
        let checked = checked.map(|(to, outlet)| responses::check(to, outlet));
        let (request, respond_to) = match checked {
            // Nobody can be told of it, so it is not done.
            Some(Err(rejection)) => (Err(rejection), None),
            Some(Ok(())) | None => (request, respond_to),
        };
        if retained && topic.starts_with("W/") {
            let rejection = Rejection::RetainedWrite;
            self.reject(now, broker, topic, &rejection);
            if let Some(to) = respond_to {
                self.respond(now, broker, to, Told::rejection(&rejection));
            }
            return;
        }
        if self.is_too_fast(now, broker, topic, &request, respond_to.as_ref()) {
            return;
        }
        let Some(outlet) = self.outlets.get_mut(broker) else {
            return;
        };
        let who: Requester = respond_to.as_ref().map(|to| (&*to.topic).into());
        let keep_alive_s = outlet.keep_alive().map_or(0, |time| time.as_secs());
        let mut keep_alive = false;
        let mut republish = false;
        let mut done = Ok(());
        // Still to be told of what is not done; a write, of what is.
        let mut rest = None;
        match request {
            Ok(Request::KeepAlive(KeepAlive::Selective(filters))) => {
                let kept = self.keep_filters_alive(now, broker, topic, filters);
                let told = kept.map_or_else(
                    |rejection| Told::rejection(&rejection),
                    |()| Told::Alive(keep_alive_s),
                );
                return self.respond_in_turn(now, broker, respond_to, told);
            }
            Ok(Request::KeepAlive(KeepAlive::Full {
                echo,
                suppress_republish,
            })) => {
                keep_alive = true;
                // Queued here, so that what this wakes is not published twice.
                republish = !suppress_republish;
                let echo = republish.then_some(echo);
                done = self.keep_all_alive(now, broker, &who, echo, respond_to);
            }
            Ok(Request::Serial) => {
                keep_alive = true;
                if !outlet.subscriber.answers().ask_serial(&who) {
                    done = Err(Rejection::Busy { max: WAITING_MAX });
                }
                let republishes = !outlet.retains();
                self.respond_in_turn(now, broker, respond_to, Told::PortalId);
                if republishes {
                    republish = true;
                    done = self.ask_republish(broker, &who, None);
                }
            }
            Ok(Request::Read(address)) => {
                done = self.read(now, broker, address, respond_to.as_ref());
                rest = respond_to.map(|to| (to, false));
            }
            Ok(Request::Write(address, value)) => {
                done = self.write(now, broker, topic, address, &value, respond_to.as_ref());
                rest = respond_to.map(|to| (to, true));
            }
            Err(rejection) => {
                done = Err(rejection);
                rest = respond_to.map(|to| (to, topic.starts_with("W/")));
            }
        }
        match (&done, rest) {
            (Err(rejection), Some((to, true))) => {
                self.respond(now, broker, to, Told::rejection(rejection));
            }
            (Err(rejection), Some((to, false))) => {
                self.respond_in_turn(now, broker, Some(to), Told::rejection(rejection));
            }
            (Ok(()), _) | (_, None) => {}
        }
        let Some(outlet) = self.outlets.get_mut(broker) else {
            return;
        };
        if outlet.subscriber.renew(now.monotonic, keep_alive) && !republish {
            outlet.subscriber.answers().ask_republish(&None, None);
        }
        outlet.subscriber.advance(now.monotonic, &self.items);
        if let Err(rejection) = done {
            self.reject(now, broker, topic, &rejection);
        }
    }

    /// Tells a client that its interest lives, and queues a full publish where that is asked for, which is
    /// told too where there is no room for it.
    fn keep_all_alive(
        &mut self,
        now: Now,
        broker: usize,
        who: &Requester,
        republish: Option<Echo>,
        respond_to: Option<ResponseAddress>,
    ) -> Result<(), Rejection> {
        let Some(outlet) = self.outlets.get_mut(broker) else {
            return Ok(());
        };
        let seconds = outlet.keep_alive().map_or(0, |time| time.as_secs());
        let room = |echo: &Echo| outlet.subscriber.answers().may_republish(who, echo);
        let told = if republish.as_ref().is_none_or(room) {
            Told::Alive(seconds)
        } else {
            Told::rejection(&Rejection::Completions)
        };
        self.respond_in_turn(now, broker, respond_to, told);
        republish.map_or(Ok(()), |echo| self.ask_republish(broker, who, echo))
    }

    fn ask_republish(
        &mut self,
        broker: usize,
        who: &Requester,
        echo: Echo,
    ) -> Result<(), Rejection> {
        let outlet = self.outlets.get_mut(broker);
        if outlet.is_none_or(|outlet| outlet.subscriber.answers().ask_republish(who, echo)) {
            return Ok(());
        }
        Err(Rejection::Completions)
    }

    /// Tells a client how its request ended, when its turn among the requests has come (§5.5).
    pub(in crate::bridge) fn respond_in_turn(
        &mut self,
        now: Now,
        broker: usize,
        to: Option<ResponseAddress>,
        told: Told,
    ) {
        let (Some(to), Some(outlet)) = (to, self.outlets.get_mut(broker)) else {
            return;
        };
        let topic = to.topic.clone();
        if !outlet
            .subscriber
            .answers()
            .ask_respond(Response { to, told })
        {
            let max = self.config.calls_in_flight_max;
            return self.reject(now, broker, &topic, &Rejection::Busy { max });
        }
        outlet.subscriber.advance(now.monotonic, &self.items);
    }

    /// Fails with the last of what is wrong; all of it is in the log.
    fn keep_filters_alive(
        &mut self,
        now: Now,
        broker: usize,
        topic: &str,
        filters: Vec<Box<str>>,
    ) -> Result<(), Rejection> {
        let mut kept = Ok(());
        let Some(outlet) = self.outlets.get_mut(broker) else {
            return kept;
        };
        let renewed = outlet.renew_selective(now.monotonic, filters, &self.items);
        for filter in renewed.invalid {
            let rejection = Rejection::Filter { filter };
            self.reject(now, broker, topic, &rejection);
            kept = Err(rejection);
        }
        if renewed.refused > 0 {
            let max = self
                .config
                .outlets
                .get(broker)
                .map_or(0, |outlet| outlet.filters_max);
            let rejection = Rejection::Filters { max };
            self.reject(now, broker, topic, &rejection);
            kept = Err(rejection);
        }
        kept
    }

    /// The device and service that a request is about.
    fn addressed(&self, address: &ItemAddress<'_>) -> Result<(DeviceId, ServiceId), Rejection> {
        let key = topic::device(address.service_type, address.instance);
        let found = self
            .items
            .find_device(&key)
            .and_then(|id| Some((id, self.items.service(id)?)));
        found.ok_or_else(|| Rejection::UnknownService {
            service_type: address.service_type.into(),
            instance: address.instance.into(),
        })
    }

    /// The live items at and below a node.
    pub(in crate::bridge) fn below(&self, device: DeviceId, node: &str) -> Vec<SlotId> {
        responses::below(&self.items, device, node).collect()
    }

    fn read(
        &mut self,
        now: Now,
        broker: usize,
        address: ItemAddress<'_>,
        respond_to: Option<&ResponseAddress>,
    ) -> Result<(), Rejection> {
        let (device, service_id) = self.addressed(&address)?;
        let Some(service) = self.registry.get(service_id) else {
            return Ok(());
        };
        let unknown = || Rejection::UnknownPath {
            service: service.name.as_str().into(),
            path: address.path.into(),
        };
        let slot = self
            .items
            .find(device, address.path)
            .filter(|slot| self.items.is_live(*slot));
        let below = self.below(device, address.path);
        let leaf = slot.is_some() || below.is_empty();
        if !self.reads_any(broker, device, address.path, &below) {
            return Err(Rejection::NotAllowed { what: "read" });
        }
        if slot.is_none() {
            // What the scan did not bring may be there all the same; the service is asked, unless
            // the answer could not be published.
            let rule = self.schema.lookup(address.service_type, address.path).rule;
            let publishable = is_topic_path(address.path) && rule.publish != Publish::Blocked;
            if !convert::is_object_path(address.path) || (leaf && !publishable) {
                return Err(unknown());
            }
        }
        let max = self.config.calls_in_flight_max;
        let who: Requester = respond_to.map(|to| (&*to.topic).into());
        let Some(outlet) = self.outlets.get_mut(broker) else {
            return Ok(());
        };
        if self.calls.reads() >= max {
            return Err(Rejection::Busy { max });
        }
        if self.calls.owes(&service.owner) {
            return Err(Rejection::Silent);
        }
        let ticket = outlet
            .subscriber
            .answers()
            .ask_read(&who)
            .ok_or(Rejection::Busy { max })?;
        if !convert::is_object_path(address.path) {
            // It came in an ItemsChanged, and no call can name it: what is known is all there is.
            let gate = outlet.subscriber.gate();
            let known = slot
                .filter(|_| gate.reads(self.items.device_key(device), address.path))
                .and_then(|slot| self.items.item_ref(slot));
            if let Some(to) = respond_to.cloned() {
                let told = known.map_or(Told::Nothing, Told::Item);
                outlet
                    .subscriber
                    .answers()
                    .respond_after(ticket, Response { to, told });
            }
            outlet
                .subscriber
                .answers()
                .answer(ticket, known.into_iter().collect());
            return Ok(());
        }
        let purpose = Purpose::Read {
            broker,
            ticket,
            service: service_id,
            path: address.path.into(),
            leaf,
            respond_to: respond_to.cloned().map(Box::new),
        };
        let (timeout, method) = (self.config.read_timeout, Method::GetValue);
        self.call_service(now, timeout, service_id, address.path, method, purpose);
        Ok(())
    }

    fn write(
        &mut self,
        now: Now,
        broker: usize,
        topic: &str,
        address: ItemAddress<'_>,
        value: &Json,
        respond_to: Option<&ResponseAddress>,
    ) -> Result<(), Rejection> {
        let (device, service_id) = self.addressed(&address)?;
        let Some(service) = self.registry.get(service_id) else {
            return Ok(());
        };
        if !convert::is_object_path(address.path) {
            return Err(Rejection::UnknownPath {
                service: service.name.as_str().into(),
                path: address.path.into(),
            });
        }
        self.may_write(broker, device, address.path)?;
        let max = self.config.writes_in_flight_max;
        if self.calls.writes() >= max {
            return Err(Rejection::Busy { max });
        }
        if self.calls.owes(&service.owner) {
            return Err(Rejection::Silent);
        }
        // What MQTT does not show it does not change either: nobody could see what came of it. A
        // service may take a write to a node as one to all that is below.
        if address.path == "/" || self.schema.guards(address.service_type, address.path) {
            return Err(Rejection::Guarded);
        }
        let rule = self.schema.lookup(address.service_type, address.path).rule;
        let present = match self.items.find(device, address.path) {
            Some(slot) if self.items.is_live(slot) => self.cache.present_type(slot),
            _ => PresentType::None,
        };
        let value = validate::without_label(value, &present, rule)?;
        let doubt = validate::doubt(&value, rule);
        let value = convert::to_bus(&value, &present, rule)?;
        self.fits(&value)?;
        let doubt = match doubt {
            Some(doubt) if self.strict_writes => return Err(doubt),
            doubt => doubt,
        };
        let writer = respond_to.map(|to| {
            Box::new(Writer {
                to: to.clone(),
                service: service_id,
                path: address.path.into(),
            })
        });
        let purpose = Purpose::Write {
            broker,
            topic: topic.into(),
            writer,
            secret: rule.secret,
        };
        let timeout = self.config.call_timeout;
        let method = Method::SetValue(value);
        self.call_service(now, timeout, service_id, address.path, method, purpose);
        if let Some(doubt) = doubt {
            self.doubt(now, broker, topic, &doubt);
        }
        Ok(())
    }

    /// A write has its answer (§5.6).
    pub(in crate::bridge) fn written(
        &mut self,
        now: Now,
        (broker, topic, secret): (usize, &str, bool),
        writer: Option<Box<Writer>>,
        outcome: Outcome<'_>,
    ) {
        let code = match outcome {
            Outcome::Reply(frame) => bus_item::set_value_code(frame).map_err(|_| Rejection::Answer),
            Outcome::Error(_) | Outcome::Lost(_) => Err(outcome.rejection()),
        };
        let rejection = match code {
            // The change came as a signal, before this answer.
            Ok(0) => {
                if let Some(writer) = writer {
                    self.confirm(now, broker, *writer);
                }
                return;
            }
            Ok(code) => Rejection::Refused { code },
            Err(Rejection::BusError { name, .. }) if secret => {
                let message = "what it says is not shown, for the value is a secret".into();
                Rejection::BusError { name, message }
            }
            Err(rejection) => rejection,
        };
        self.reject(now, broker, topic, &rejection);
        if let Some(writer) = writer {
            self.respond(now, broker, writer.to, Told::rejection(&rejection));
        }
    }

    /// A read has its answer (§5.5).
    pub(in crate::bridge) fn has_read(
        &mut self,
        now: Now,
        (broker, ticket, service, path, leaf): (usize, u64, ServiceId, &str, bool),
        respond_to: Option<Box<ResponseAddress>>,
        outcome: Outcome<'_>,
    ) {
        let slots = match outcome {
            Outcome::Reply(frame) if leaf => self.read_leaf(now, (broker, service), path, frame),
            Outcome::Reply(frame) => Ok(self.read_node(now, (broker, service), path, frame)),
            Outcome::Error(frame) if UNKNOWN.contains(&frame.error_name) => self
                .read_unknown(now, service, path, leaf)
                .ok_or_else(|| outcome.rejection()),
            Outcome::Error(_) | Outcome::Lost(_) => Err(outcome.rejection()),
        };
        let slots = slots.map(|slots| self.readable(broker, slots));
        let told = respond_to.map(|to| Response {
            to: *to,
            told: match &slots {
                Ok(slots) => self.told_of(slots, path),
                Err(rejection) => Told::rejection(rejection),
            },
        });
        let slots = slots.unwrap_or_else(|rejection| {
            let device = self
                .registry
                .get(service)
                .and_then(|service| service.device);
            let key = device.map_or("", |device| self.items.device_key(device));
            let topic = format!("R/{}/{key}{path}", self.config.portal_id);
            self.reject(now, broker, &topic, &rejection);
            Vec::new()
        });
        if let Some(outlet) = self.outlets.get_mut(broker) {
            let found = slots
                .into_iter()
                .filter_map(|slot| self.items.item_ref(slot));
            let found = found.collect();
            if let Some(response) = told {
                outlet.subscriber.answers().respond_after(ticket, response);
            }
            outlet.subscriber.answers().answer(ticket, found);
            outlet.subscriber.advance(now.monotonic, &self.items);
        }
    }

    /// The service has no such object. An item that the last scan gave is gone then, and is taken back.
    /// One that only signals have brought never had an object, for all we know: it is answered with what
    /// is known. So are the items below a node that is no object itself, as with services that have
    /// objects for their items only.
    fn read_unknown(
        &mut self,
        now: Now,
        id: ServiceId,
        path: &str,
        leaf: bool,
    ) -> Option<Vec<SlotId>> {
        let service = self.registry.get_mut(id)?;
        let device = service.device?;
        if !leaf {
            let below = self.below(device, path);
            return (!below.is_empty()).then_some(below);
        }
        let slot = self.items.find(device, path)?;
        let item = self
            .items
            .get(slot)
            .filter(|item| item.life == Life::Live)?;
        if item.scanned {
            if item.rule.role == Role::VrmAccess {
                let name = service.name.clone();
                self.access_in_doubt(now, &name);
            }
            self.retire(slot);
            self.describe_soon(now, device);
            return None;
        }
        if !std::mem::replace(&mut service.reported.no_object, true) {
            warn!(
                "{}: has no object {path}, although it signals it; reads of such items are answered with \
                 the last value",
                service.name
            );
        }
        Some(vec![slot])
    }

    /// Those of the slots that a broker's clients may read (§8).
    fn readable(&self, broker: usize, slots: Vec<SlotId>) -> Vec<SlotId> {
        let Some(outlet) = self.outlets.get(broker) else {
            return Vec::new();
        };
        let reads =
            |slot: &SlotId| responses::may_see(outlet.subscriber.gate(), &self.items, *slot);
        slots.into_iter().filter(reads).collect()
    }

    /// Takes over what an item has, or what a node has that turns out to be none.
    pub(in crate::bridge) fn read_leaf(
        &mut self,
        now: Now,
        (broker, service): (usize, ServiceId),
        path: &str,
        frame: &Frame<'_>,
    ) -> Result<Vec<SlotId>, Rejection> {
        let changes = Changes::of_value(frame, path).map_err(|_| Rejection::Answer)?;
        let Some(device) = self
            .registry
            .get(service)
            .and_then(|service| service.device)
        else {
            return Ok(Vec::new());
        };
        let known = self
            .items
            .find(device, path)
            .filter(|slot| self.items.is_live(*slot));
        if known.is_none() && matches!(Changes::of_tree(frame), Ok(Some(_))) {
            return Ok(self.read_node(now, (broker, service), path, frame));
        }
        for change in changes {
            let change = change.map_err(|_| Rejection::Answer)?;
            match known {
                Some(slot) => self.refresh(broker, slot, &change),
                None => {
                    self.change_of(now, service, &change);
                }
            }
            let unkept = || {
                let slot = known.or_else(|| self.items.find(device, path));
                slot.and_then(|slot| self.cache.unkept(slot))
            };
            let exceeded = |value| self.bounds.sizes.exceeded(value);
            if let Some(why) = change.value.as_ref().and_then(exceeded).or_else(unkept) {
                return Err(why.into());
            }
        }
        Ok(self.items.find(device, path).into_iter().collect())
    }

    /// Takes over a value that was asked for. Where it is another one, all brokers hear of it; the
    /// one that asked gets its answer.
    fn refresh(&mut self, broker: usize, slot: SlotId, change: &ItemChange<'_>) {
        let Some(item) = self.items.get(slot) else {
            return;
        };
        if self.cache.apply(slot, change, item.rule) {
            for (index, outlet) in self.outlets.iter_mut().enumerate() {
                if index != broker {
                    outlet.subscriber.changed(slot);
                }
            }
        }
    }

    /// Takes over what an inner node tells of the items below it, and gives them all. A service that
    /// gives no dict is answered for from what is known.
    fn read_node(
        &mut self,
        now: Now,
        (broker, service): (usize, ServiceId),
        path: &str,
        frame: &Frame<'_>,
    ) -> Vec<SlotId> {
        let Some(device) = self
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
                    .items
                    .find(device, &full)
                    .filter(|slot| self.items.is_live(*slot))
                {
                    Some(slot) => self.refresh(broker, slot, &change),
                    None => {
                        self.change_of(now, service, &change);
                    }
                }
            }
        }
        self.below(device, path)
    }
}
