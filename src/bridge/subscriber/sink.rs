//! Where messages for a broker go, and the payloads of the bridge's own.

use crate::bridge::store::items::ItemRef;
use crate::codec::payload;
use crate::model::request::ResponseAddress;

/// Takes what a broker is to be sent.
pub trait PublishSink {
    /// One message: its topic in parts, and what writes its payload.
    fn publish(&mut self, retain: bool, topic: &[&[u8]; 3], payload: impl FnOnce(&mut Vec<u8>));

    /// The value of an item. Unlike other messages it comes again, and so its topic may be
    /// abbreviated and its value expire.
    #[inline]
    fn notify(
        &mut self,
        item: ItemRef,
        retain: bool,
        topic: &[&[u8]; 3],
        payload: impl FnOnce(&mut Vec<u8>),
    ) {
        let _ = item;
        self.publish(retain, topic, payload);
    }

    /// How much memory the program has, in bytes, where that is known.
    fn memory_bytes(&self) -> Option<u64> {
        None
    }

    /// How long a packet may be, where the broker says so.
    fn packet_bytes_max(&self) -> Option<usize> {
        None
    }

    /// Whether a message can say what its payload is (MQTT 5).
    fn takes_content_types(&self) -> bool {
        false
    }

    /// One message that is not retained, and says what its payload is. Only where
    /// [`PublishSink::takes_content_types`] says so.
    fn publish_as(&mut self, content_type: &str, topic: &[&[u8]; 3], payload: &[u8]) {
        let _ = (content_type, topic, payload);
    }

    /// The answer to a request (§5.8). Only those that gave such an address are answered so.
    fn respond(&mut self, to: &ResponseAddress, payload: impl FnOnce(&mut Vec<u8>)) {
        let _ = (to, payload);
    }
}

/// `{"value": "text"}`: what the bridge says of itself, and what it uses as last will (§4.10).
pub fn text_payload(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(payload::HEAD);
    payload::write_text(out, text);
    out.push(b'}');
}

/// `{"value": number}`.
pub(in crate::bridge) fn number_payload(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(payload::HEAD);
    payload::write_uint(out, number);
    out.push(b'}');
}
