//! What a device is described by: its live items, from the cache, for [`crate::homeassistant`].
//!
//! Rendered when its turn comes, and never kept. When that is, is decided in [`super`].

use crate::bridge::Bridge;
use crate::bridge::store::items::DeviceId;
use crate::bridge::subscriber::gate::Gate;
use crate::homeassistant::entity::{Entity, Item};
use crate::homeassistant::payload::{self, About, Device};
use crate::homeassistant::words::Words;
use crate::homeassistant::{Names, Published};
use crate::model::access::Access;
use crate::model::topic;
use crate::schema::rule::Role;

impl Bridge {
    /// The configuration of a device as a broker is told it, and how many of how many values found no
    /// room in it; `None` where it would have no entity.
    /// What the broker's clients may not have is not in it, and what they may not write is shown
    /// only (§8).
    pub(in crate::bridge) fn render_config(
        &self,
        broker: usize,
        device: DeviceId,
        object: &str,
    ) -> Option<(Vec<u8>, (usize, usize))> {
        let words = self.discovery.words.as_deref()?;
        let outlet = self.outlets.get(broker)?;
        let gate = outlet.subscriber.gate();
        let names = &outlet.board.as_ref()?.config.names;
        let key = self.items.device_key(device);
        let service = self.registry.get(self.items.service(device)?)?;
        let service_type = service.name.service_type();
        let entities: Vec<Entity<'_>> = self.entities(gate, device, service_type, words).collect();
        if entities.is_empty() {
            return None;
        }
        let open = self.items.slots(device).filter(|slot| !gate.hides(*slot));
        let mut items = open.filter_map(|slot| self.items.get(slot));
        let role = items.find(|item| item.rule.role != Role::None);
        let role = role.map(|item| self.items.path(item));
        let live = |path: &str| {
            let slot = self.items.find(device, path)?;
            (self.items.is_live(slot) && !gate.hides(slot)).then_some(slot)
        };
        let about = About::read(key, words, |path| {
            let mut out = Vec::new();
            self.values.render(live(path)?, &mut out);
            Some(Published::read(&out))
        });
        let gateway = &words.device.gateway;
        let via = (*key != **gateway && self.describes_gateway(gate, words))
            .then(|| names.identifier(&Names::object(gateway)));
        let connected = &*words.device.connected;
        // Where nothing is meant to tell, any item does: it is gone with the device.
        let any = entities.iter().map(|entity| entity.item.path).min();
        let presence = live(connected)
            .map(|_| (connected, true))
            .or(role.or(any).map(|path| (path, false)));
        let prefix = &*outlet.config().prefix;
        let writes = [prefix, &topic::write_prefix(&self.config.portal_id)].concat();
        let identifier = names.identifier(object);
        let device = Device {
            notifications: outlet.prefix(),
            writes: &writes,
            status: topic::STATUS,
            key,
            identifier: &identifier,
            via: via.as_deref(),
            about: &about,
            presence,
        };
        let mut out = Vec::new();
        let left_out = payload::write(&mut out, &device, &entities, words);
        let left_out = (left_out, entities.len());
        Some((out, left_out))
    }

    /// What of a device is an entity to the clients of a broker.
    fn entities<'a>(
        &'a self,
        gate: &'a Gate,
        device: DeviceId,
        service_type: &'a str,
        words: &'a Words,
    ) -> impl Iterator<Item = Entity<'a>> {
        let key = self.items.device_key(device);
        let open = self.items.slots(device).filter(|slot| !gate.hides(*slot));
        let mut buffer = Vec::new();
        open.filter_map(move |slot| {
            let item = self.items.get(slot).filter(|item| item.shown)?;
            let path = self.items.path(item);
            buffer.clear();
            self.values.render(slot, &mut buffer);
            let published = Published::read(&buffer);
            let row = self.schema.lookup(service_type, path);
            let item = Item {
                path,
                rule: row.rule,
                description: row.description,
                value: published.kind(),
                limits: published.limits(),
            };
            let commands = gate.access() == Access::Full && gate.writes(key, path);
            item.entity(words, commands)
        })
    }

    /// Whether this broker is told of the device that the others are reached through. Its lists may
    /// hide it, and Home Assistant complains of one that it does not know.
    fn describes_gateway(&self, gate: &Gate, words: &Words) -> bool {
        let device = self.items.find_device(&words.device.gateway);
        let service = device.and_then(|device| self.registry.get(self.items.service(device)?));
        device.zip(service).is_some_and(|(device, service)| {
            let service_type = service.name.service_type();
            let mut entities = self.entities(gate, device, service_type, words);
            entities.next().is_some()
        })
    }
}
