//! What a device is described by: its live items, from the cache, for [`crate::homeassistant`].
//!
//! Rendered when its turn comes, and never kept. When that is, is decided in [`super`].

use crate::bridge::bus::registry::Registry;
use crate::bridge::store::Store;
use crate::bridge::store::cache::SlotId;
use crate::bridge::store::items::{DeviceId, Items};
use crate::bridge::subscriber::discovery_state::DiscoveryState;
use crate::bridge::subscriber::gate::Gate;
use crate::bridge::subscriber::remote::Outlet;
use crate::homeassistant::entity::{Entity, Item, Kind};
use crate::homeassistant::payload::{self, About, Device, Written};
use crate::homeassistant::words::Words;
use crate::homeassistant::{LOCATION, Names, Published};
use crate::model::access::Access;
use crate::model::name::PortalId;
use crate::model::topic;
use crate::schema::rule::{Kind as Entities, Role};

/// One configuration.
#[derive(Debug)]
pub struct Described {
    /// The object id of the device, or of a part of one.
    pub object: Box<str>,
    /// The configuration.
    pub payload: Vec<u8>,
    /// What is in it.
    pub written: Written,
    /// How many entities there are, with those that found no room.
    pub all: usize,
    /// Where the device is, as JSON, if it has an entity for that.
    pub location: Option<Vec<u8>>,
}

/// What a configuration is rendered from.
#[derive(Debug)]
pub struct Known<'a> {
    /// Items and their values.
    pub store: &'a Store,
    /// Services.
    pub registry: &'a Registry,
    /// The portal id in all topics.
    pub portal_id: &'a PortalId,
}

/// The devices that a service has.
pub(super) fn devices_there(items: &Items) -> impl Iterator<Item = DeviceId> + '_ {
    let there = |device: &DeviceId| items.service(*device).is_some();
    items.devices().filter(there)
}

impl Known<'_> {
    /// The configurations of a device as a broker is told them: its own first, then those of its parts
    /// that are separate devices. Nothing where it would have no entity.
    /// What the broker's clients may not have is not in it, and what they may not write is shown
    /// only (§8).
    pub(super) fn render_configs(
        &self,
        words: &Words,
        outlet: &Outlet,
        device: DeviceId,
        object: &str,
    ) -> Vec<Described> {
        self.try_render(words, outlet, device, object)
            .unwrap_or_default()
    }

    #[allow(clippy::too_many_lines, reason = "facts of one device, gathered once")]
    fn try_render(
        &self,
        words: &Words,
        outlet: &Outlet,
        device: DeviceId,
        object: &str,
    ) -> Option<Vec<Described>> {
        let gate = outlet.subscriber.gate();
        let board = outlet.board.as_ref()?;
        let names = &board.config.names;
        let key = self.store.items.device_key(device);
        let service = self.registry.at(self.store.items.service(device)?);
        let service_type = service.name.service_type();
        let all: Vec<Entity<'_>> = self.entities(gate, device, service_type, words).collect();
        let any = all.iter().map(|entity| entity.item.path).min()?;
        let open = self
            .store
            .items
            .slots(device)
            .filter(|slot| !gate.hides(*slot));
        let mut items = open.map(|slot| self.store.items.at(slot));
        let role = items.find(|item| item.rule.role != Role::None);
        let role = role.map(|item| self.store.items.path(item));
        let live = |path: &str| {
            let slot = self.store.items.find(device, path)?;
            (self.store.items.is_live(slot) && !gate.hides(slot)).then_some(slot)
        };
        let look = |path: &str| {
            let mut out = Vec::new();
            self.store.values.render(live(path)?, &mut out);
            Some(Published::read(&out))
        };
        let kind = self.store.schema.device(service_type);
        let alone = !self.store.schema.has_instance(service_type);
        let mut about = About::read(key, (kind, alone), words, look);
        if self.shares_name(device, &about.name, gate, words)
            && let Some((_, instance)) = key.split_once('/')
        {
            about.name = format!("{} ({instance})", about.name);
        }
        let gateway = &words.device.gateway;
        let page = &board.config.page;
        if !page.is_empty() {
            about.url = if *key == **gateway {
                format!("{page}/")
            } else {
                format!("{page}/#/devices/{key}")
            };
        }
        let via = (*key != **gateway && self.describes_gateway(gate, words))
            .then(|| names.identifier(&Names::object(gateway)));
        let connected = &*words.device.connected;
        // Where nothing is meant to tell, any item does: it is gone with the device.
        let presence = live(connected)
            .map(|_| (connected, true))
            .or(role.or(Some(any)).map(|path| (path, false)));
        let prefix = &*outlet.config().prefix;
        let writes = [prefix, &topic::write_prefix(self.portal_id)].concat();
        let identifier = names.identifier(object);
        let location = [names.head(), object, LOCATION].concat();
        let whole = Device {
            notifications: outlet.prefix(),
            writes: &writes,
            status: topic::STATUS,
            key,
            identifier: &identifier,
            whole: &identifier,
            via: via.as_deref(),
            about: &about,
            presence,
            location: &location,
        };
        let before = |object: &str| board.held.get(object).map_or("", |held| &*held.keys);
        let mut parts: Vec<&str> = Vec::new();
        for entity in &all {
            if let Some((_, head)) = words.part(entity.item.path)
                && !parts.contains(&head)
            {
                parts.push(head);
            }
        }
        let of = |part: Option<&str>| -> Vec<Entity<'_>> {
            let own =
                |entity: &&Entity<'_>| words.part(entity.item.path).map(|(_, head)| head) == part;
            all.iter().filter(own).cloned().collect()
        };
        let mut described = Vec::new();
        let entities = of(None);
        if !entities.is_empty() || !parts.is_empty() {
            let mut payload = Vec::new();
            let written = payload::write(&mut payload, &whole, &entities, before(object));
            let mut trackers = entities.iter().filter_map(|entity| {
                let is_tracker = entity.item.row.rule.look.entity == Entities::Tracker;
                is_tracker.then_some(entity.item)
            });
            let location = trackers.next().map(|item| location_of(item, look));
            described.push(Described {
                object: object.into(),
                payload,
                written,
                all: entities.len(),
                location,
            });
        }
        for head in parts {
            let part =
                Self::render_part(words, &whole, head, &of(Some(head)), (names, board), look);
            described.extend(part);
        }
        Some(described)
    }

    /// The configuration of a part of a device, whose paths begin with `head`.
    fn render_part(
        words: &Words,
        whole: &Device<'_>,
        head: &str,
        entities: &[Entity<'_>],
        (names, board): (&Names, &DiscoveryState),
        look: impl Fn(&str) -> Option<Published>,
    ) -> Option<Described> {
        let (part, _) = words.part(&[head, "/"].concat())?;
        let text = |path: &str| look(&[head, path].concat())?.text();
        let own = head.rsplit('/').next().unwrap_or(head);
        let name = part.name.iter().find_map(|path| text(path));
        let about = About {
            name: name.unwrap_or_else(|| format!("{} {own}", part.model)),
            manufacturer: whole.about.manufacturer.clone(),
            model: part.model.to_string(),
            area: text(&part.area).unwrap_or_default(),
            ..About::default()
        };
        let object = Names::object(&[whole.key, head].concat());
        let identifier = names.identifier(&object);
        let device = Device {
            identifier: &identifier,
            via: Some(whole.identifier),
            about: &about,
            ..*whole
        };
        let before = board.held.get(&object).map_or("", |held| &*held.keys);
        let mut payload = Vec::new();
        let written = payload::write(&mut payload, &device, entities, before);
        Some(Described {
            object,
            payload,
            written,
            all: entities.len(),
            location: None,
        })
    }

    /// What of a device is an entity to the clients of a broker.
    fn entities<'a>(
        &'a self,
        gate: &'a Gate,
        device: DeviceId,
        service_type: &'a str,
        words: &'a Words,
    ) -> impl Iterator<Item = Entity<'a>> {
        let key = self.store.items.device_key(device);
        let open = self
            .store
            .items
            .slots(device)
            .filter(|slot| !gate.hides(*slot));
        let described = open.filter_map(move |slot| {
            if !self.store.items.at(slot).shown {
                return None;
            }
            let item = as_entity(self.store, slot, service_type);
            let may = |path: &str| gate.writes(key, path);
            let with = &item.row.rule.look.with;
            let may_all = may(item.path) && with.iter().all(|path| may(path));
            let commands = gate.access() == Access::Full && may_all;
            Some([item.entity(words, commands), item.toggle(words, commands)])
        });
        described.flatten().flatten()
    }

    /// Whether another device of the same type has the same name.
    fn shares_name(&self, device: DeviceId, name: &str, gate: &Gate, words: &Words) -> bool {
        let own = self.store.items.device_key(device);
        let kind = own.split('/').next().unwrap_or(own);
        let mut others = devices_there(&self.store.items).filter(|other| {
            let key = self.store.items.device_key(*other);
            *other != device && key.split('/').next() == Some(kind)
        });
        others.any(|other| {
            let text = |path: &str| {
                let slot = self.store.items.find(other, path)?;
                let live = self.store.items.is_live(slot) && !gate.hides(slot);
                let mut out = Vec::new();
                self.store.values.render(live.then_some(slot)?, &mut out);
                Published::read(&out).text()
            };
            let named = words.device.name.iter().find_map(|path| text(path));
            named.as_deref() == Some(name)
        })
    }

    /// Whether this broker is told of the device that the others are reached through. Its lists may
    /// hide it, and Home Assistant complains of one that it does not know.
    fn describes_gateway(&self, gate: &Gate, words: &Words) -> bool {
        let device = self.store.items.find_device(&words.device.gateway);
        let service = device.and_then(|device| self.store.items.service(device));
        device.zip(service).is_some_and(|(device, service)| {
            let service_type = self.registry.at(service).name.service_type();
            let mut entities = self.entities(gate, device, service_type, words);
            entities.next().is_some()
        })
    }
}

/// An item as an entity is decided from.
pub(super) fn as_entity<'a>(store: &'a Store, slot: SlotId, service_type: &str) -> Item<'a> {
    let path = store.items.path(store.items.at(slot));
    let mut buffer = Vec::new();
    store.values.render(slot, &mut buffer);
    let published = Published::read(&buffer);
    Item {
        path,
        row: store.schema.lookup(service_type, path),
        value: published.kind(),
        limits: published.limits(),
    }
}

/// Where a device is, as Home Assistant reads it; nothing of it where it is not self.
fn location_of(item: Item<'_>, look: impl Fn(&str) -> Option<Published>) -> Vec<u8> {
    let degrees = |path: &str| match look(path)?.kind() {
        Kind::Integer(value) | Kind::Number(value) => Some(value),
        Kind::Nothing | Kind::Bool | Kind::Text(_) | Kind::Other => None,
    };
    let longitude = item.row.rule.look.with.first();
    let place = degrees(item.path).zip(longitude.and_then(|path| degrees(path)));
    let place = place.map(|(latitude, longitude)| {
        format!("{{\"latitude\":{latitude},\"longitude\":{longitude},\"gps_accuracy\":10}}")
    });
    place.unwrap_or_else(|| "{}".to_owned()).into_bytes()
}
