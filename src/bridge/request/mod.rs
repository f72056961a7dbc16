//! What clients ask for: checked, carried out and answered (§5, §8).
//!
//! A request's kind is settled when it comes, and kept to its answer. Each kind has its whole way in one
//! file, check → call → reply → answer: [`read`], [`mod@write`], [`keep_alive`]. What all have in common is
//! here: who asks ([`Origin`]), the bounds, and what follows from any request (§5.1).

mod address;
mod convert;
mod keep_alive;
mod read;
mod refusals;
pub mod response;
mod validate;
mod write;

use std::time::Duration;

use super::bus::calls::{ClientCall, Outcome};
use super::bus::{Bus, BusContext};
use super::discovery::{AllReaders, Discovery};
use super::store::Store;
use super::store::cache::SlotId;
use super::store::ids::BrokerId;
use super::store::items::{DeviceId, ServiceId};
use super::subscriber::answers::Requester;
use super::subscriber::rate::RequestRate;
use super::subscriber::remote::Outlets;
use crate::model::name::PortalId;
use crate::model::request::{
    ItemAddress, KeepAlive, Rejection, Request, RequestKind, ResponseAddress,
};
use crate::model::time::Now;
use crate::model::topic;

/// What of requests is bounded, and how strictly they are checked.
#[derive(Debug, Clone, Copy)]
pub struct RequestLimits {
    /// How many writes may wait for their answers (§5.6).
    pub writes_in_flight_max: usize,
    /// How many clients' reads may wait for their answers.
    pub calls_in_flight_max: usize,
    /// How long a read may take.
    pub read_timeout: Duration,
    /// How many requests each reader's clients have in a second, keep-alives apart.
    pub rate: RequestRate,
    /// Whether a write is refused that the schema speaks against (§5.6).
    pub strict_writes: bool,
}

/// What a request is carried out with.
#[derive(Debug)]
pub struct RequestContext<'a> {
    /// The portal id in all topics.
    pub portal_id: &'a PortalId,
    /// Items and their values.
    pub store: &'a mut Store,
    /// Services and calls.
    pub bus: &'a mut Bus,
    /// The brokers.
    pub outlets: &'a mut Outlets,
    /// What describes devices to them.
    pub discovery: &'a mut Discovery,
    /// The bounds.
    pub limits: &'a RequestLimits,
}

/// Who asks, and for what kind of thing.
#[derive(Debug)]
pub struct Origin<'a> {
    /// Whose client it is.
    pub broker: BrokerId,
    /// Which one, where it is connected to the bridge itself (§9).
    pub client: Option<u64>,
    /// The request's topic, for the log.
    pub topic: &'a str,
    /// What kind of request it is.
    pub kind: RequestKind,
    /// Where its client wants to be told how it ended (§5.8).
    pub respond_to: Option<ResponseAddress>,
}

impl Origin<'_> {
    /// Whose line among the requests it stands in.
    fn requester(&self) -> Requester {
        match self.client {
            Some(client) => Requester::Client(client),
            None => Requester::of(self.respond_to.as_ref()),
        }
    }
}

/// What has been done about a request at once.
#[derive(Debug)]
struct Done {
    result: Result<(), Rejection>,
    /// Whether it asks for a full publish itself, so that what it wakes needs none.
    republishes: bool,
}

impl RequestContext<'_> {
    fn on_bus(&mut self) -> BusContext<'_, AllReaders<'_>> {
        BusContext {
            store: self.store,
            bus: self.bus,
            readers: AllReaders::new(self.outlets, self.discovery),
        }
    }

    fn readers(&mut self) -> AllReaders<'_> {
        AllReaders::new(self.outlets, self.discovery)
    }

    /// Takes a request. `topic` is for the log, `retained` where the broker had the message in store
    /// (§5.7); `respond_to` is where its client wants to be told how it ended (§5.8).
    pub fn take(
        &mut self,
        now: Now,
        (broker, client): (BrokerId, Option<u64>),
        topic: &str,
        request: Result<Request<'_>, Rejection>,
        retained: bool,
        respond_to: Option<ResponseAddress>,
    ) {
        let outlet = self.outlets.at_mut(broker);
        if outlet.subscriber.is_leaving() {
            return;
        }
        outlet.tally.requests += 1;
        let checked = respond_to.as_ref();
        let checked = checked.map(|to| address::check(to, outlet.config()));
        let (request, respond_to) = match checked {
            // Nobody can be told of it, so it is not done.
            Some(Err(rejection)) => (Err(rejection), None),
            Some(Ok(())) | None => (request, respond_to),
        };
        let kind = match &request {
            Ok(request) => request.kind(),
            Err(_) => topic::request_kind(topic),
        };
        let origin = Origin {
            broker,
            client,
            topic,
            kind,
            respond_to,
        };
        if retained && origin.kind == RequestKind::Write {
            let rejection = Rejection::RetainedWrite;
            self.reject(now, broker, topic, &rejection);
            return self.respond_rejected(now, origin, &rejection);
        }
        if self.is_too_fast(now, (broker, client), &request) {
            let max = self.limits.rate.per_second_max;
            let rejection = Rejection::TooFast { max };
            self.reject(now, broker, topic, &rejection);
            return self.respond_rejected(now, origin, &rejection);
        }
        let keeps_alive = origin.kind == RequestKind::KeepAlive;
        let done = match request {
            Ok(Request::KeepAlive(KeepAlive::Selective(filters))) => {
                return self.keep_filters_alive(now, origin, filters);
            }
            Ok(Request::KeepAlive(KeepAlive::Full {
                echo,
                suppress_republish,
            })) => {
                // Queued here, so that what this wakes is not published twice.
                let republish = (!suppress_republish).then_some(echo);
                self.keep_all_alive(now, origin, republish)
            }
            Ok(Request::Serial) => self.tell_serial(now, origin),
            Ok(Request::Read(address)) => {
                let result = self.read(now, &origin, &address);
                self.done(now, origin, result)
            }
            Ok(Request::Write(address, value)) => {
                let result = self.write(now, &origin, &address, &value);
                self.done(now, origin, result)
            }
            Err(rejection) => self.done(now, origin, Err(rejection)),
        };
        let subscriber = &mut self.outlets.at_mut(broker).subscriber;
        if subscriber.renew(now.monotonic, keeps_alive) && !done.republishes {
            subscriber
                .answers()
                .ask_republish(&Requester::Anybody, None);
        }
        subscriber.advance(now.monotonic, &self.store.items);
        if let Err(rejection) = done.result {
            self.reject(now, broker, topic, &rejection);
        }
    }

    /// Tells a client of a read or a write that is not done; it is told of what is when that is.
    fn done(&mut self, now: Now, origin: Origin<'_>, result: Result<(), Rejection>) -> Done {
        if let Err(rejection) = &result {
            self.respond_rejected(now, origin, rejection);
        }
        Done {
            result,
            republishes: false,
        }
    }

    /// Whether the request is one too many (§5.8). Then it is refused, but what its client keeps alive
    /// stays so: a request renews whether it is valid or not (§5.1), and that costs nothing.
    fn is_too_fast(
        &mut self,
        now: Now,
        (broker, client): (BrokerId, Option<u64>),
        request: &Result<Request<'_>, Rejection>,
    ) -> bool {
        let keep_alive = matches!(request, Ok(Request::KeepAlive(_) | Request::Serial));
        let rate = self.limits.rate;
        // Each client of a listener has a separate budget (§9.13).
        let is_within = if let (Some(client), Some(direct)) = (client, &mut self.outlets.direct) {
            let rates = direct.rates(client);
            rates.take(now.monotonic, keep_alive, rate)
        } else {
            let rates = &mut self.outlets.at_mut(broker).subscriber.rates;
            rates.take(now.monotonic, keep_alive, rate)
        };
        if is_within {
            return false;
        }
        let outlet = self.outlets.at_mut(broker);
        if let Ok(Request::KeepAlive(KeepAlive::Selective(filters))) = request {
            outlet.renew_live(now.monotonic, filters);
        } else if outlet.subscriber.renew(now.monotonic, keep_alive) {
            outlet
                .subscriber
                .answers()
                .ask_republish(&Requester::Anybody, None);
            outlet.subscriber.advance(now.monotonic, &self.store.items);
        }
        true
    }

    /// The device and service that a request is about.
    fn addressed(&self, address: &ItemAddress<'_>) -> Result<(DeviceId, ServiceId), Rejection> {
        let key = topic::device(address.service_type, address.instance);
        let found = self
            .store
            .items
            .find_device(&key)
            .and_then(|id| Some((id, self.store.items.service(id)?)));
        found.ok_or_else(|| Rejection::UnknownService {
            service_type: address.service_type.into(),
            instance: address.instance.into(),
        })
    }

    /// The live items at and below a node.
    fn below(&self, device: DeviceId, node: &str) -> Vec<SlotId> {
        self.store.items.below(device, node).collect()
    }

    /// A call that a request made has ended.
    pub fn answered(&mut self, now: Now, call: ClientCall, outcome: Outcome<'_>) {
        match call {
            ClientCall::Read {
                broker,
                ticket,
                service,
                path,
                leaf,
                respond_to,
            } => {
                let read = (broker, ticket, service, &*path, leaf);
                self.has_read(now, read, respond_to, outcome);
            }
            ClientCall::Write {
                broker,
                topic,
                writer,
                secret,
            } => self.written(now, (broker, &topic, secret), writer, outcome),
            ClientCall::Confirm { broker, writer } => {
                self.confirmed(now, broker, *writer, outcome);
            }
        }
    }
}
