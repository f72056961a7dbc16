//! What a client is told that gave a response topic with its request (§5.8).
//!
//! `{"status": "ok", "value": …}` or `{"status": "error", "error": "<code>", "message": "…"}`, with
//! the correlation data as it came. Answers to reads and keep-alives take their turn among the
//! requests; the answer to a write comes when the service has answered, and waits for no other.
//!
//! A response topic is the word of a stranger. Where it would make the bridge speak to itself, or ask
//! another one in its own name, the request is refused.

use super::requests::Outcome;
use crate::bridge::Bridge;
use crate::bridge::bus::calls::{Method, Purpose};
use crate::bridge::store::cache::SlotId;
use crate::bridge::store::items::{ItemRef, Items, ServiceId};
use crate::bridge::subscriber::gate::Gate;
use crate::bridge::subscriber::remote::OutletConfig;
use crate::codec::payload;
use crate::model::name::{TOPIC_LEVELS_MAX, is_topic_char};
use crate::model::outside::Outside;
use crate::model::request::{Rejection, ResponseAddress};
use crate::model::time::Now;
use crate::model::topic;
use crate::schema::rule::Publish;

/// The longest response topic, and the longest correlation data, in bytes.
const ADDRESS_BYTES_MAX: usize = 512;
/// How many items the answer to a read of an inner node may have.
const NODE_ITEMS_MAX: usize = 5_000;

/// What a client is told, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// Where.
    pub to: ResponseAddress,
    /// What.
    pub told: Told,
}

/// How a request ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// Well; the value is that of this item when the answer is sent.
    Item(ItemRef),
    /// Well; the values are those of all items below this node, of the device that has this item.
    Node(ItemRef, Box<str>),
    /// Well; the value is the portal id.
    PortalId,
    /// Well; the value is for how many seconds the interest lives, 0 for ever.
    Alive(u64),
    /// Well, and there is no value.
    Nothing,
    /// Badly.
    Error {
        /// A word for programs.
        code: &'static str,
        /// A sentence for people.
        message: Box<str>,
    },
}

impl Told {
    /// Why a request was not carried out.
    pub fn rejection(rejection: &Rejection) -> Told {
        Told::Error {
            code: rejection.code(),
            message: Outside::error(&rejection.to_string()).to_string().into(),
        }
    }
}

/// A write whose client wants to be told how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Writer {
    /// Where.
    pub to: ResponseAddress,
    /// To which service the write went.
    pub service: ServiceId,
    /// To which path.
    pub path: Box<str>,
}

/// Refuses addresses that are none, and those where the answer would be taken for something else than
/// an answer (§5.8): a notification or a request, of this bridge or of another one behind whatever
/// prefix, a configuration for Home Assistant, or what the broker says itself.
pub fn check(to: &ResponseAddress, outlet: &OutletConfig) -> Result<(), Rejection> {
    let topic = &*to.topic;
    let below = |prefix: &str| topic::is_at_or_below(topic, prefix);
    let discovery = outlet.discovery.as_ref();
    let mut allowed = outlet.lists.respond.iter();
    let without_prefix = topic.strip_prefix(&*outlet.prefix).unwrap_or(topic);
    let why = if topic.is_empty() {
        "it is empty"
    } else if topic.len() > ADDRESS_BYTES_MAX {
        "it is too long"
    } else if to.correlation.len() > ADDRESS_BYTES_MAX {
        "its correlation data is too long"
    } else if topic.contains(['+', '#', '\0']) {
        "it has wildcards"
    } else if !topic.chars().all(is_topic_char) {
        // The broker would end the connection for it (§4.7).
        "it has a control character"
    } else if topic.split('/').count() > TOPIC_LEVELS_MAX {
        "it has too many levels"
    } else if topic.split('/').any(|level| level.starts_with('$')) {
        "a level of it begins with $"
    } else if topic::is_reserved(topic) || topic::is_reserved(without_prefix) {
        "it is a topic of notifications or requests"
    } else if below(topic::DISCOVERY_PREFIX)
        || discovery.is_some_and(|home| below(home.names.prefix()))
    {
        "it is below the discovery prefix of Home Assistant"
    } else if !allowed.any(|filter| filter.matches(topic)) {
        "no filter of response-allow matches it"
    } else {
        return Ok(());
    };
    Err(Rejection::ResponseTopic {
        topic: Outside::new(topic).at_most(100).to_string().into(),
        why,
    })
}

impl Bridge {
    /// Tells a client how its request ended, at once.
    pub(in crate::bridge) fn respond(
        &mut self,
        now: Now,
        broker: usize,
        to: ResponseAddress,
        told: Told,
    ) {
        let Some(outlet) = self.outlets.get_mut(broker) else {
            return;
        };
        if let Err((response, rejection)) = outlet.subscriber.respond(Response { to, told }) {
            self.reject(now, broker, &response.to.topic, &rejection);
        }
    }

    /// The service took a write. What it made of the value is asked for, and told.
    pub(in crate::bridge) fn confirm(&mut self, now: Now, broker: usize, writer: Writer) {
        let (service, path) = (writer.service, writer.path.clone());
        if self.registry.get(service).is_none() {
            return self.respond(now, broker, writer.to, Told::Nothing);
        }
        let purpose = Purpose::Confirm {
            broker,
            writer: Box::new(writer),
        };
        let (timeout, method) = (self.config.read_timeout, Method::GetValue);
        self.call_service(now, timeout, service, &path, method, purpose);
    }

    /// The service told what it made of a write.
    pub(in crate::bridge) fn confirmed(
        &mut self,
        now: Now,
        broker: usize,
        writer: Writer,
        outcome: Outcome<'_>,
    ) {
        let slot = if let Outcome::Reply(frame) = outcome {
            // For all brokers, this one included: the answer is not a notification.
            let nobody = usize::MAX;
            let found = self.read_leaf(now, (nobody, writer.service), &writer.path, frame);
            found.ok().and_then(|slots| slots.first().copied())
        } else {
            // The write was taken all the same. What its signal brought is the latest that is known.
            let service = self.registry.get(writer.service);
            let device = service.and_then(|service| service.device);
            let slot = device.and_then(|device| self.items.find(device, &writer.path));
            slot.filter(|slot| self.items.is_live(*slot))
        };
        let item = slot.and_then(|slot| self.items.item_ref(slot));
        self.respond(
            now,
            broker,
            writer.to,
            item.map_or(Told::Nothing, Told::Item),
        );
    }

    /// What a read brought, for the client.
    pub(in crate::bridge) fn told_of(&self, slots: &[SlotId], path: &str) -> Told {
        let first = slots.first().and_then(|slot| {
            let item = self.items.get(*slot)?;
            Some((item.at(*slot), self.items.path(item)))
        });
        match first {
            None => Told::Nothing,
            Some((item, found)) if found == path => Told::Item(item),
            Some(_) if slots.len() > NODE_ITEMS_MAX => Told::Error {
                code: "too-large",
                message: format!("{} values are below {path}", slots.len()).into(),
            },
            Some((item, _)) => Told::Node(item, path.into()),
        }
    }

    /// Writes the payload of a response, with nothing that the clients of its broker may not read
    /// (§8): who may write an item may not be one of those that see it.
    pub(in crate::bridge) fn render_response(&self, gate: &Gate, told: &Told, out: &mut Vec<u8>) {
        const OK: &[u8] = b"{\"status\": \"ok\", \"value\": ";
        match told {
            Told::Item(item)
                if self.items.is_there(*item) && may_see(gate, &self.items, item.slot) =>
            {
                out.extend_from_slice(OK);
                self.render_one(item.slot, out);
            }
            Told::Node(item, path) if self.items.is_there(*item) => {
                out.extend_from_slice(OK);
                self.render_node(gate, *item, path, out);
            }
            Told::Item(_) | Told::Node(..) | Told::Nothing => {
                out.extend_from_slice(OK);
                out.extend_from_slice(b"null");
            }
            Told::PortalId => {
                out.extend_from_slice(OK);
                payload::write_text(out, self.config.portal_id.as_str());
            }
            Told::Alive(seconds) => {
                out.extend_from_slice(OK);
                payload::write_uint(out, *seconds);
            }
            Told::Error { code, message } => {
                out.extend_from_slice(b"{\"status\": \"error\", \"error\": ");
                payload::write_text(out, code);
                out.extend_from_slice(b", \"message\": ");
                payload::write_text(out, message);
            }
        }
        out.push(b'}');
    }

    /// One value, as clients may see it.
    fn render_one(&self, slot: SlotId, out: &mut Vec<u8>) {
        let rule = self.items.get(slot).map(|item| item.rule.publish);
        if rule == Some(Publish::PortalId) {
            payload::write_text(out, self.config.portal_id.as_str());
        } else if self.values.has_value(slot) {
            self.values.render_value(slot, out);
        } else {
            out.extend_from_slice(b"null");
        }
    }

    /// An object with a member for each item below a node, by its path from there.
    fn render_node(&self, gate: &Gate, item: ItemRef, node: &str, out: &mut Vec<u8>) {
        let Some(device) = self.items.get(item.slot).map(|item| item.device) else {
            return out.extend_from_slice(b"null");
        };
        out.push(b'{');
        let mut separator: &[u8] = b"";
        let seen = |slot: &SlotId| may_see(gate, &self.items, *slot);
        for slot in below(&self.items, device, node).filter(seen) {
            let Some(item) = self.items.get(slot) else {
                continue;
            };
            let path = self.items.path(item);
            let rest = path
                .strip_prefix(node.trim_end_matches('/'))
                .unwrap_or(path);
            out.extend_from_slice(separator);
            payload::write_text(out, rest.trim_start_matches('/'));
            out.extend_from_slice(b": ");
            self.render_one(slot, out);
            separator = b", ";
        }
        out.push(b'}');
    }
}

/// Whether clients may have the value of an item (§8).
pub(in crate::bridge) fn may_see(gate: &Gate, items: &Items, slot: SlotId) -> bool {
    items
        .get(slot)
        .is_some_and(|item| gate.reads(items.device_key(item.device), items.path(item)))
}

/// The live items at and below a node.
pub(in crate::bridge) fn below<'a>(
    items: &'a Items,
    device: crate::bridge::store::items::DeviceId,
    node: &'a str,
) -> impl Iterator<Item = SlotId> + 'a {
    let node = node.trim_end_matches('/');
    items.slots(device).filter(move |slot| {
        items.get(*slot).is_some_and(|item| {
            let rest = items.path(item).strip_prefix(node);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bridge::discovery::board::DiscoveryConfig;
    use crate::homeassistant::Names;
    use crate::model::access::{Access, AccessRule};
    use crate::model::filter::{Lists, TopicFilter};
    use crate::model::name::PortalId;

    fn address(topic: &str, correlation: usize) -> ResponseAddress {
        ResponseAddress {
            topic: topic.into(),
            correlation: vec![0; correlation].into(),
        }
    }

    fn outlet(discovery: Option<&str>, respond: &[&str]) -> OutletConfig {
        let id = PortalId::new("c0619ab12345").unwrap();
        let filter = |text: &&str| TopicFilter::parse(text).unwrap();
        OutletConfig {
            name: "broker".into(),
            retain: true,
            keep_alive: None,
            filters_max: 1,
            prefix: "home/gx/".into(),
            access: AccessRule::Always(Access::Full),
            topics: crate::model::topic::TopicRules::default(),
            lists: Lists {
                respond: respond.iter().map(filter).collect(),
                ..Lists::default()
            },
            answers_first: false,
            discovery: discovery.map(|prefix| DiscoveryConfig {
                names: Names::new(prefix, &id),
                enabled: true,
                keep: None,
            }),
        }
    }

    #[test]
    fn s5_8_a_hostile_response_topic_is_refused() {
        let portal = "c0619ab12345";
        let outlet = outlet(Some("ha/discovery"), &["#"]);
        for topic in [
            "",
            "#",
            "a/+/b",
            "a/#",
            "a\0b",
            "$SYS/broker",
            "$share/x/y",
            "x/$SYS/y",
            "a/b/$c",
            "N",
            &format!("N/{portal}/battery/0/Soc"),
            &format!("R/{portal}/keepalive"),
            &format!("W/{portal}/vebus/257/Mode"),
            &format!("venus/W/{portal}/vebus/257/Mode"),
            "W/another/vebus/257/Mode",
            "boat/W/d0ff50a097c1/vebus/257/Mode",
            "a/b/c/d/R/d0ff50a097c1/keepalive",
            "home/gx/W/another/vebus/257/Mode",
            "home/gx/N",
            "home/gx/N/what ever",
            "homeassistant",
            "homeassistant/status",
            "homeassistant/sensor/x/config",
            "ha/discovery",
            "ha/discovery/status",
            &"x".repeat(ADDRESS_BYTES_MAX + 1),
        ] {
            let found = check(&address(topic, 0), &outlet);
            assert!(
                matches!(found, Err(Rejection::ResponseTopic { .. })),
                "{topic:?}"
            );
        }
        assert!(check(&address("a", ADDRESS_BYTES_MAX + 1), &outlet).is_err());
        for topic in [
            "answers/1",
            "Nobody",
            "x/N",
            "x/N/no portal id/y",
            "x/n/abc",
            "a$b/c",
            "home/gx/answers/1",
            "homeassistants/1",
            "ha/discoveryx",
            &"x".repeat(ADDRESS_BYTES_MAX),
        ] {
            assert_eq!(
                check(&address(topic, ADDRESS_BYTES_MAX), &outlet),
                Ok(()),
                "{topic}"
            );
        }
    }

    #[test]
    fn s5_8_response_allow_narrows_further() {
        let outlet = outlet(None, &["answers/#", "+/reply", "W/#"]);
        for (topic, expected) in [
            ("answers", true),
            ("answers/a/b", true),
            ("panel/reply", true),
            ("panel/reply/1", false),
            ("other", false),
            ("W/another/vebus/257/Mode", false),
        ] {
            let found = check(&address(topic, 0), &outlet);
            assert_eq!(found.is_ok(), expected, "{topic}");
        }
    }

    #[test]
    fn a_long_message_is_cut() {
        let rejection = Rejection::BusError {
            name: "com.example.Error".into(),
            message: "ü".repeat(100_000).into(),
        };
        let Told::Error { code, message } = Told::rejection(&rejection) else {
            panic!()
        };
        assert_eq!((code, message.chars().count()), ("refused", 200));
    }
}
