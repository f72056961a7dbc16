//! How much a broker may be behind.
//!
//! A socket takes megabytes that its reader has not looked at: what is in there is late, and cannot
//! be replaced by a newer value any more. A broker works in order, so the answer to a PINGREQ says
//! that everything before it was taken. After every [`FENCE_BYTES`] one goes out, and while
//! [`FENCES_MAX`] wait for their answers nothing is published: values gather in the cache, where
//! the latest one counts (§4.4).

use smallvec::SmallVec;

/// After so many bytes of publishes the broker is asked how far it is. A broker on a small device
/// takes some 20 ms for them.
pub const FENCE_BYTES: usize = 64 * 1024;
/// How many of these questions may be open.
pub const FENCES_MAX: usize = 2;

/// What was published and not yet taken.
#[derive(Debug, Default)]
pub struct Window {
    /// Bytes since the last fence.
    bytes: usize,
    /// How many PINGREQs went out, fences or not, and how many were answered; both wrap.
    asked: u32,
    answered: u32,
    /// Which of the PINGREQs are fences.
    fences: SmallVec<[u32; FENCES_MAX]>,
}

impl Window {
    /// Takes note of `bytes` of publishes. Tells whether a PINGREQ is to follow them, which counts
    /// as sent.
    #[must_use]
    pub fn published(&mut self, bytes: usize) -> bool {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes < FENCE_BYTES {
            return false;
        }
        self.bytes = 0;
        self.fences.push(self.asked);
        self.asked();
        true
    }

    /// A PINGREQ went out for another reason.
    pub fn asked(&mut self) {
        self.asked = self.asked.wrapping_add(1);
    }

    /// A PINGRESP came.
    pub fn answered(&mut self) {
        let answered = self.answered;
        self.answered = self.answered.wrapping_add(1);
        self.fences.retain(|fence| *fence != answered);
    }

    /// How many PINGREQs went out so far.
    pub fn number(&self) -> u32 {
        self.asked
    }

    /// Whether so many PINGREQs were answered.
    pub fn has_answered(&self, number: u32) -> bool {
        self.answered.wrapping_sub(number) < u32::MAX / 2
    }

    /// Whether more may be published.
    pub fn is_open(&self) -> bool {
        self.fences.len() < FENCES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s4_4_a_broker_is_not_sent_more_than_it_takes() {
        let mut window = Window::default();
        assert!(!window.published(FENCE_BYTES - 1));
        assert!(window.published(1));
        assert!(window.is_open());
        assert!(window.published(FENCE_BYTES * 2));
        assert!(!window.is_open());
        window.answered();
        assert!(window.is_open());
        assert!(window.published(FENCE_BYTES));
        assert!(!window.is_open());
    }

    #[test]
    fn only_the_answer_to_a_fence_opens_the_window() {
        let mut window = Window::default();
        window.asked();
        assert!(window.published(FENCE_BYTES));
        window.asked();
        assert!(window.published(FENCE_BYTES));
        window.answered(); // of the ping before
        assert!(!window.is_open());
        window.answered();
        assert!(window.is_open());
        assert!(window.published(FENCE_BYTES));
        window.answered(); // of the ping between
        assert!(!window.is_open());
        window.answered();
        assert!(window.is_open());
    }
}
