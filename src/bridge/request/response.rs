//! What a client is told that gave a response topic with its request (§5.8).
//!
//! `{"status": "ok", "value": …}` or `{"status": "error", "error": "<code>", "message": "…"}`, with
//! the correlation data as it came. Answers to reads and keep-alives take their turn among the
//! requests; the answer to a write comes when the service has answered, and waits for no other.

use super::{Origin, RequestContext};
use crate::bridge::store::Store;
use crate::bridge::store::cache::SlotId;
use crate::bridge::store::ids::BrokerId;
use crate::bridge::store::items::{ItemRef, Items};
use crate::bridge::subscriber::answers::WAITING_MAX;
use crate::bridge::subscriber::gate::Gate;
use crate::bridge::subscriber::response::{Response, ResponseBody};
use crate::codec::payload;
use crate::model::name::PortalId;
use crate::model::request::{Rejection, RequestKind, ResponseAddress};
use crate::model::time::Now;
use crate::schema::rule::Publish;

/// How many items the answer to a read of an inner node may have.
const NODE_ITEMS_MAX: usize = 5_000;

impl RequestContext<'_> {
    /// Tells a client how its request ended, at once. `topic` is that of the request, for the log.
    pub(super) fn respond(
        &mut self,
        now: Now,
        broker: BrokerId,
        topic: &str,
        to: ResponseAddress,
        body: ResponseBody,
    ) {
        let outlet = self.outlets.at_mut(broker);
        if let Err((_, rejection)) = outlet.subscriber.respond(Response { to, body }) {
            self.reject(now, broker, topic, &rejection);
        }
    }

    /// Tells a client how its request ended, when its turn among the requests has come (§5.5).
    pub(super) fn respond_in_turn(&mut self, now: Now, origin: Origin<'_>, body: ResponseBody) {
        let Some(to) = origin.respond_to else { return };
        let subscriber = &mut self.outlets.at_mut(origin.broker).subscriber;
        if subscriber.answers().ask_respond(Response { to, body }) {
            subscriber.advance(now.monotonic, &self.store.items);
        } else {
            let rejection = Rejection::Busy { max: WAITING_MAX };
            self.reject(now, origin.broker, origin.topic, &rejection);
        }
    }

    /// Tells a client that its request is not done: of a write at once, of others in turn.
    pub(super) fn respond_rejected(&mut self, now: Now, origin: Origin<'_>, why: &Rejection) {
        let body = ResponseBody::rejection(why);
        match origin.kind {
            RequestKind::Write => {
                if let Some(to) = origin.respond_to {
                    self.respond(now, origin.broker, origin.topic, to, body);
                }
            }
            RequestKind::Read | RequestKind::KeepAlive => self.respond_in_turn(now, origin, body),
        }
    }

    /// What a read brought, for the client.
    pub fn told_of(&self, slots: &[SlotId], path: &str) -> ResponseBody {
        let first = slots.first().map(|slot| {
            let item = self.store.items.at(*slot);
            (item.at(*slot), self.store.items.path(item))
        });
        match first {
            None => ResponseBody::Nothing,
            Some((item, found)) if found == path => ResponseBody::Item(item),
            Some(_) if slots.len() > NODE_ITEMS_MAX => ResponseBody::Error {
                code: "too-large",
                message: format!("{} values are below {path}", slots.len()).into(),
            },
            Some((item, _)) => ResponseBody::Node(item, path.into()),
        }
    }
}

/// Writes the payload of a response, with nothing that the clients of its broker may not read
/// (§8): who may write an item may not be one of those that see it.
pub fn render(
    store: &Store,
    portal_id: &PortalId,
    gate: &Gate,
    body: &ResponseBody,
    out: &mut Vec<u8>,
) {
    const OK: &[u8] = b"{\"status\": \"ok\", \"value\": ";
    match body {
        ResponseBody::Item(item)
            if store.items.is_there(*item) && may_see(gate, &store.items, item.slot) =>
        {
            out.extend_from_slice(OK);
            render_one(store, portal_id, item.slot, out);
        }
        ResponseBody::Node(item, path) if store.items.is_there(*item) => {
            out.extend_from_slice(OK);
            render_node(store, portal_id, gate, *item, path, out);
        }
        ResponseBody::Item(_) | ResponseBody::Node(..) | ResponseBody::Nothing => {
            out.extend_from_slice(OK);
            out.extend_from_slice(b"null");
        }
        ResponseBody::PortalId => {
            out.extend_from_slice(OK);
            payload::write_text(out, portal_id.as_str());
        }
        ResponseBody::Alive(seconds) => {
            out.extend_from_slice(OK);
            payload::write_uint(out, *seconds);
        }
        ResponseBody::Error { code, message } => {
            out.extend_from_slice(b"{\"status\": \"error\", \"error\": ");
            payload::write_text(out, code);
            out.extend_from_slice(b", \"message\": ");
            payload::write_text(out, message);
        }
    }
    out.push(b'}');
}

/// One value, as clients may see it.
fn render_one(store: &Store, portal_id: &PortalId, slot: SlotId, out: &mut Vec<u8>) {
    if store.items.at(slot).rule.publish == Publish::PortalId {
        payload::write_text(out, portal_id.as_str());
    } else if store.values.has_value(slot) {
        store.values.render_value(slot, out);
    } else {
        out.extend_from_slice(b"null");
    }
}

/// An object with a member for each item below a node, by its path from there.
fn render_node(
    store: &Store,
    portal_id: &PortalId,
    gate: &Gate,
    item: ItemRef,
    node: &str,
    out: &mut Vec<u8>,
) {
    let device = store.items.at(item.slot).device;
    out.push(b'{');
    let mut separator: &[u8] = b"";
    let seen = |slot: &SlotId| may_see(gate, &store.items, *slot);
    for slot in store.items.below(device, node).filter(seen) {
        let path = store.items.path(store.items.at(slot));
        let rest = path
            .strip_prefix(node.trim_end_matches('/'))
            .unwrap_or(path);
        out.extend_from_slice(separator);
        payload::write_text(out, rest.trim_start_matches('/'));
        out.extend_from_slice(b": ");
        render_one(store, portal_id, slot, out);
        separator = b", ";
    }
    out.push(b'}');
}

/// Whether clients may have the value of an item (§8).
pub fn may_see(gate: &Gate, items: &Items, slot: SlotId) -> bool {
    let item = items.at(slot);
    gate.reads(items.device_key(item.device), items.path(item))
}
