//! The bridge towards clients that are connected to it without a broker (§9).

use std::sync::Arc;

use super::Bridge;
use super::discovery::{AllReaders, Discovery};
use super::store::cache::Reader;
use super::store::ids::BrokerId;
use super::store::marks::Marks;
use super::subscriber::answers::Requester;
use super::subscriber::client::{ClientAnswer, Direct, Directory};
use super::subscriber::outbox::{Control, Entry};
use super::subscriber::remote::OutletConfig;
use super::subscriber::sink::PublishSink;
use crate::model::access::Access;
use crate::model::counts::ClientCounts;
use crate::model::request::{Rejection, Request, ResponseAddress};
use crate::model::time::Now;
use crate::model::topic;

/// Takes down what would be published.
#[derive(Default)]
struct Said {
    answer: Option<ClientAnswer>,
    memory_bytes: Option<u64>,
}

impl PublishSink for Said {
    fn publish(&mut self, retain: bool, topic: &[&[u8]; 3], payload: impl FnOnce(&mut Vec<u8>)) {
        let mut out = Vec::new();
        payload(&mut out);
        // Topics are texts in three parts.
        let topic = String::from_utf8(topic.concat()).unwrap_or_default();
        self.answer = Some(ClientAnswer::Say {
            topic: topic.into(),
            payload: out.into(),
            retain,
        });
    }

    fn respond(&mut self, to: &ResponseAddress, payload: impl FnOnce(&mut Vec<u8>)) {
        let mut out = Vec::new();
        payload(&mut out);
        self.answer = Some(ClientAnswer::Respond {
            to: to.clone(),
            payload: out.into(),
        });
    }

    fn memory_bytes(&self) -> Option<u64> {
        self.memory_bytes
    }
}

impl Bridge {
    /// Clients connect to the bridge itself, by these listeners; they follow the brokers as outlets. Gives
    /// the marks of what changes, and a reader of the values, for the thread that serves them. Called
    /// once, before the bus is there.
    pub fn listen(&mut self, listeners: Vec<OutletConfig>) -> (Arc<Marks>, Reader) {
        let marks = Arc::new(Marks::new(self.bus.limits.items_max));
        let prefix = topic::notification_prefix(&self.portal_id);
        self.outlets.listen(listeners, &prefix, Arc::clone(&marks));
        let configs: Vec<_> = self
            .outlets
            .iter()
            .map(|outlet| outlet.config().clone())
            .collect();
        self.discovery = Discovery::new(&configs);
        (marks, self.store.values.clone())
    }

    /// Clients of this listener are there that subscribe to something, or none is any more: only then is
    /// there a heartbeat (§4.8).
    pub fn clients_listen(&mut self, now: Now, listener: usize, listens: bool) {
        let outlet = self.outlets.at_mut(listener.into());
        outlet.subscriber.listens(now.monotonic, listens);
    }

    /// Whether the clients of this listener get anything of ours (§8).
    pub fn serves(&self, listener: usize) -> bool {
        self.outlets.at(listener.into()).subscriber.gate().access() != Access::Off
    }

    /// What was counted of the clients of this listener.
    pub fn clients_counted(&mut self, listener: usize, counts: ClientCounts) {
        self.outlets.at_mut(listener.into()).tally.clients = Some(counts);
    }

    /// A client is gone.
    pub fn client_gone(&mut self, client: u64) {
        if let Some(direct) = &mut self.outlets.direct {
            direct.client_gone(client);
        }
    }

    /// Whether items have come or gone that the serving thread is to know of.
    #[inline]
    pub fn has_directory(&self) -> bool {
        let direct = self.outlets.direct.as_ref();
        direct.is_some_and(Direct::has_changes)
    }

    /// What has come and gone since the last time. To be handed over before anything that
    /// [`Bridge::poll_client`] gives afterwards.
    pub fn take_directory(&mut self) -> Directory {
        let direct = self.outlets.direct.as_mut();
        direct.map(Direct::take).unwrap_or_default()
    }

    /// The serving thread has handled all batches up to this one: slots of items that are gone may be used
    /// again.
    pub fn directory_handled(&mut self, batch: u32) {
        let direct = self.outlets.direct.as_mut();
        let done = direct.map(|direct| direct.handled(batch));
        for slot in done.unwrap_or_default() {
            self.told(slot);
        }
    }

    /// Whether slots wait for [`Bridge::directory_handled`].
    pub fn awaits_directory(&self) -> bool {
        self.outlets.direct.as_ref().is_some_and(Direct::awaits)
    }

    /// A client of a listener asks for something, or tried to; see [`Bridge::request_from`].
    pub fn request_of_client(
        &mut self,
        now: Now,
        (listener, client): (usize, u64),
        topic: &str,
        request: Result<Request<'_>, Rejection>,
        retained: bool,
        respond_to: Option<ResponseAddress>,
    ) {
        let from = (listener.into(), Some(client));
        self.requests()
            .take(now, from, topic, request, retained, respond_to);
    }

    /// Gives one thing that clients of this listener are to be told.
    pub fn poll_client(
        &mut self,
        now: Now,
        listener: usize,
        memory_bytes: impl Fn() -> Option<u64>,
    ) -> Option<ClientAnswer> {
        let listener = BrokerId::from(listener);
        loop {
            let outlet = self.outlets.at_mut(listener);
            let Entry::Control(control) = outlet.next()? else {
                continue;
            };
            let mut said = Said::default();
            match control {
                Control::Answer(item) if self.store.items.is_there(item) => {
                    let hidden = outlet.subscriber.gate().hides(item.slot);
                    said.answer = (!hidden).then_some(ClientAnswer::Read(item.slot));
                }
                // Clients of a listener have no batches.
                Control::Answer(_) | Control::Batch => {}
                Control::Republish(who, echo) => {
                    let client = match who {
                        Requester::Client(client) => Some(client),
                        Requester::Anybody | Requester::Topic(_) => None,
                    };
                    said.answer = Some(ClientAnswer::Republish { client, echo });
                }
                Control::Describe(device) => {
                    self.publish_config(now, listener, device, &mut said);
                }
                Control::Forget(object) => {
                    let mut readers = AllReaders::new(&mut self.outlets, &mut self.discovery);
                    readers.publish_no_config(&self.store.items, listener, &object, &mut said);
                }
                control @ (Control::Online
                | Control::Offline
                | Control::Serial
                | Control::KeepAlive
                | Control::NoKeepAlive
                | Control::Heartbeat
                | Control::Stats
                | Control::Completed(_)
                | Control::Respond(_)
                | Control::Clear(_)) => {
                    if control == Control::Stats {
                        said.memory_bytes = memory_bytes();
                    }
                    self.publish_control(now, &control, listener, &mut said);
                }
            }
            let outlet = self.outlets.at_mut(listener);
            outlet.tally.published += u64::from(said.answer.is_some());
            // There is room again for what waited behind it.
            outlet.subscriber.advance(now.monotonic, &self.store.items);
            if said.answer.is_some() {
                return said.answer;
            }
        }
    }
}
