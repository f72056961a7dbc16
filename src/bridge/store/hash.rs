//! The hash of short texts: for the two tables that every signal asks.
//!
//! Paths differ in their last letters most of all, and a table looks at the lowest bits: what does not
//! carry the one to the other makes neighbours of them, and a look-up a walk.

use std::hash::{BuildHasherDefault, Hasher};

/// Mixes eight bytes at a time; a multiplication and a shift each, which carry every bit up, and the
/// upper half down again.
#[inline]
pub fn of(seed: u64, bytes: &[u8]) -> u32 {
    const K: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |state: u64| {
        let state = state.wrapping_mul(K);
        state ^ state >> 32
    };
    let mut state = mix(seed);
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        state = mix(state ^ u64::from_le_bytes(*word));
    }
    // The last eight bytes, some of them once more, are one load instead of a loop.
    let tail = bytes.last_chunk().map_or_else(
        || {
            rest.iter()
                .fold(0, |tail, byte| tail << 8 | u64::from(*byte))
        },
        |last| u64::from_le_bytes(*last),
    );
    state = mix(state ^ tail ^ (bytes.len() as u64) << 56);
    state = state.wrapping_mul(K);
    #[allow(clippy::cast_possible_truncation)] // the better half of it
    let hash = (state >> 32) as u32;
    hash
}

/// For maps whose keys the bus gives out itself, so that nobody can choose them to collide.
pub type OfNames = BuildHasherDefault<Names>;

/// See [`OfNames`].
#[derive(Debug, Default)]
pub struct Names(u64);

impl Hasher for Names {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        let hash = of(self.0, bytes);
        // A table looks at both ends of a hash.
        self.0 = u64::from(hash) << 32 | u64::from(hash);
    }

    /// The end of a text, which its length has said.
    #[inline]
    fn write_u8(&mut self, _: u8) {}

    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_and_the_length_count() {
        let text = *b"/Ac/Out/L1/Power and more";
        let mut seen = std::collections::HashSet::new();
        for len in 0..text.len() {
            assert!(seen.insert(of(7, &text[..len])), "{len}");
            for at in 0..len {
                let mut other = text;
                other[at] ^= 1;
                assert!(seen.insert(of(7, &other[..len])), "{len}, {at}");
            }
        }
        assert!(!seen.contains(&of(8, b"/Ac")));
        assert!(seen.insert(of(7, b"\0")) && seen.insert(of(7, b"\0\0")));
    }

    /// Each of many similar paths as far from its home in a half-full table as chance would have it.
    #[test]
    fn similar_paths_are_no_neighbours() {
        const PATHS: usize = 4096;
        type Form = fn(usize) -> String;
        let forms: [Form; 4] = [
            |n| format!("/Ac/Out/L{n}/Power"),
            |n| format!("/Settings/Devices/{n:04}"),
            |n| format!("/{n}"),
            |n| format!("/{n}/Made/Up/V"),
        ];
        for form in forms {
            let mut table = vec![false; PATHS * 2];
            let mut steps = 0;
            for n in 0..PATHS {
                let mut at = of(7, form(n).as_bytes()) as usize % table.len();
                while std::mem::replace(&mut table[at], true) {
                    at = (at + 1) % table.len();
                    steps += 1;
                }
            }
            // Half a step each is what linear probing takes at this load.
            assert!(steps < PATHS, "{}: {steps} steps", form(1));
        }
    }
}
