//! One buffer for all writes, and what it was filled with last: the next client for which the same has
//! changed takes the same bytes.

use super::outgoing::WRITE_BYTES;
use super::set::Waiting;
use crate::codec::packet::Version;

/// The buffer.
#[derive(Debug, Default)]
pub struct Scratch {
    /// What is written.
    pub bytes: Vec<u8>,
    /// Whether `bytes` are just what `key` and `words` say, of this moment.
    valid: bool,
    key: Option<Key>,
    words: Vec<(u32, u32)>,
    /// How many messages they are.
    sent: u64,
}

/// What besides the items decides about the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// The form of packets.
    pub version: Version,
    /// The retain flag; `None` where it is not the same for all.
    pub flag: Option<bool>,
    /// The longest packet.
    pub packet_bytes_max: usize,
}

impl Scratch {
    /// Something has changed: what was written before is of yesterday.
    #[inline]
    pub fn forget(&mut self) {
        self.valid = false;
    }

    /// Whether the bytes are just what waits, which is taken then.
    pub fn recall(&mut self, key: Key, pending: &mut Waiting, sent: &mut u64) -> bool {
        let same = self.valid && self.key == Some(key) && {
            let waiting = pending.words();
            waiting.len() == self.words.len() && waiting.eq(self.words.iter().copied())
        };
        if same {
            pending.clear();
            *sent += self.sent;
        }
        same
    }

    /// The buffer is filled anew; `shared`: with what waits, and nothing else.
    pub fn begin(&mut self, shared: bool, key: Key, pending: &Waiting) {
        self.bytes.clear();
        self.valid = false;
        self.words.clear();
        self.key = Some(key).filter(|key| shared && key.flag.is_some());
        if self.key.is_some() {
            self.words.extend(pending.words());
        }
    }

    /// It is filled, with so many messages; `whole`: with all that waited.
    pub fn end(&mut self, whole: bool, sent: u64) {
        self.valid = whole && self.key.is_some();
        self.sent = sent;
    }

    /// Gives memory back that one long value has taken.
    pub fn slim(&mut self) {
        if self.bytes.capacity() > 2 * WRITE_BYTES {
            self.bytes = Vec::new();
            self.valid = false;
        }
    }
}
