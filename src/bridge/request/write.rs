//! A write: checked, sent to its service, and answered when that has taken it and has told what it made
//! of the value (§5.6, §5.8).
//!
//! ```text
//! check ──▶ SetValue ──▶ 0 ──▶ GetValue ──▶ answer: the value    without a response topic it ends at 0
//!   │ refused    │ another code, an error, nothing
//!   └────────────┴─────────▶ answer: the reason
//! ```
//!
//! Before that the schema says whether the item takes writes and this value (`validate`), and the JSON
//! becomes a D-Bus value (`convert`).

use super::{Origin, RequestContext, convert, validate};
use crate::bridge::bus::calls::{ClientCall, Method, Outcome, Purpose, Writer};
use crate::bridge::store::cache::PresentType;
use crate::bridge::store::ids::BrokerId;
use crate::bridge::store::items::DeviceId;
use crate::bridge::subscriber::response::ResponseBody;
use crate::codec::bus_item::{self, is_object_path};
use crate::model::access::Access;
use crate::model::request::{ItemAddress, Rejection};
use crate::model::time::Now;
use crate::model::value::{BusValue, Json};

impl RequestContext<'_> {
    /// Checks a write, and sends it to its service (§5.6).
    pub(super) fn write(
        &mut self,
        now: Now,
        origin: &Origin<'_>,
        address: &ItemAddress<'_>,
        value: &Json,
    ) -> Result<(), Rejection> {
        let (device, service_id) = self.addressed(address)?;
        let service = self.bus.registry.at(service_id);
        if !is_object_path(address.path) {
            return Err(Rejection::UnknownPath {
                service: service.name.as_str().into(),
                path: address.path.into(),
            });
        }
        self.may_write(origin.broker, device, address.path)?;
        let max = self.limits.writes_in_flight_max;
        if self.bus.calls.writes() >= max {
            return Err(Rejection::Busy { max });
        }
        if self.bus.calls.owes(&service.owner) {
            return Err(Rejection::Silent);
        }
        // What MQTT does not show it does not change either: nobody could see what came of it. A
        // service may take a write to a node as one to all that is below.
        if address.path == "/" || self.store.schema.guards(address.service_type, address.path) {
            return Err(Rejection::Guarded);
        }
        let rule = self
            .store
            .schema
            .lookup(address.service_type, address.path)
            .rule;
        let present = match self.store.items.find(device, address.path) {
            Some(slot) if self.store.items.is_live(slot) => self.store.cache.present_type(slot),
            _ => PresentType::None,
        };
        let value = validate::without_label(value, &present, rule)?;
        let doubt = validate::doubt(&value, rule);
        let value = convert::to_bus(&value, &present, rule)?;
        self.fits(&value)?;
        let doubt = match doubt {
            Some(doubt) if self.limits.strict_writes => return Err(doubt),
            doubt => doubt,
        };
        let writer = origin.respond_to.as_ref().map(|to| {
            Box::new(Writer {
                to: to.clone(),
                topic: origin.topic.into(),
                service: service_id,
                path: address.path.into(),
            })
        });
        let purpose = ClientCall::Write {
            broker: origin.broker,
            topic: origin.topic.into(),
            writer,
            secret: rule.secret,
        };
        let timeout = self.bus.limits.call_timeout;
        let method = Method::SetValue(value);
        self.on_bus().call_service(
            now,
            timeout,
            service_id,
            address.path,
            method,
            Purpose::Client(purpose),
        );
        if let Some(doubt) = doubt {
            self.doubt(now, origin.broker, origin.topic, &doubt);
        }
        Ok(())
    }

    /// Refuses a write that a broker's clients may not make (§8). Who may not write an item may not
    /// write a node above it either.
    fn may_write(&self, broker: BrokerId, device: DeviceId, path: &str) -> Result<(), Rejection> {
        let outlet = self.outlets.at(broker);
        if outlet.subscriber.gate().access() != Access::Full {
            return Err(Rejection::ReadOnly);
        }
        let writes = |path: &str| {
            outlet
                .subscriber
                .gate()
                .writes(self.store.items.device_key(device), path)
        };
        let below = self.below(device, path);
        let mut items = below.iter().map(|slot| self.store.items.at(*slot));
        if writes(path) && items.all(|item| writes(self.store.items.path(item))) {
            Ok(())
        } else {
            Err(Rejection::NotAllowed { what: "write" })
        }
    }

    /// Refuses a write of a value that would not be taken from the bus either.
    fn fits(&self, value: &BusValue) -> Result<(), Rejection> {
        let found = value.bytes();
        let max = match value {
            BusValue::Text(_) | BusValue::ObjectPath(_) => self.bus.limits.sizes.text_bytes_max,
            BusValue::Array(..) | BusValue::Dict(_) | BusValue::Variant(_) => {
                self.bus.limits.sizes.array_bytes_max
            }
            BusValue::Bool(_)
            | BusValue::U8(_)
            | BusValue::I16(_)
            | BusValue::U16(_)
            | BusValue::I32(_)
            | BusValue::U32(_)
            | BusValue::I64(_)
            | BusValue::U64(_)
            | BusValue::Double(_) => return Ok(()),
        };
        if found <= max {
            Ok(())
        } else {
            Err(Rejection::ValueTooLarge { found, max })
        }
    }

    /// A write has its answer (§5.6).
    pub(super) fn written(
        &mut self,
        now: Now,
        (broker, topic, secret): (BrokerId, &str, bool),
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
            self.respond(
                now,
                broker,
                topic,
                writer.to,
                ResponseBody::rejection(&rejection),
            );
        }
    }

    /// The service took a write. What it made of the value is asked for, and told.
    fn confirm(&mut self, now: Now, broker: BrokerId, writer: Writer) {
        let (service, path) = (writer.service, writer.path.clone());
        if self.bus.registry.get(service).is_none() {
            return self.respond(now, broker, &writer.topic, writer.to, ResponseBody::Nothing);
        }
        let purpose = ClientCall::Confirm {
            broker,
            writer: Box::new(writer),
        };
        let (timeout, method) = (self.limits.read_timeout, Method::GetValue);
        self.on_bus().call_service(
            now,
            timeout,
            service,
            &path,
            method,
            Purpose::Client(purpose),
        );
    }

    /// The service told what it made of a write.
    pub(super) fn confirmed(
        &mut self,
        now: Now,
        broker: BrokerId,
        writer: Writer,
        outcome: Outcome<'_>,
    ) {
        let slot = if let Outcome::Reply(frame) = outcome {
            // For all brokers, this one included: the answer is not a notification.
            let found = self.read_leaf(now, (None, writer.service), &writer.path, frame);
            found.ok().and_then(|slots| slots.first().copied())
        } else {
            // The write was taken all the same. What its signal brought is the latest that is known.
            let service = self.bus.registry.get(writer.service);
            let device = service.and_then(|service| service.device);
            let slot = device.and_then(|device| self.store.items.find(device, &writer.path));
            slot.filter(|slot| self.store.items.is_live(*slot))
        };
        let item = slot.and_then(|slot| self.store.items.item_ref(slot));
        self.respond(
            now,
            broker,
            &writer.topic,
            writer.to,
            item.map_or(ResponseBody::Nothing, ResponseBody::Item),
        );
    }
}
