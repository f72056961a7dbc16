//! gzip (RFC 1952): how batches are compressed, and what the page reads at once.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

/// What MQTT 5 calls such a payload.
pub const CONTENT_TYPE: &str = "application/gzip";

/// The bytes, compressed. What this takes meanwhile, some 350 KiB, is free again at the end; kept, it would be
/// idle nearly all the time.
pub fn compress(plain: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(plain).ok()?;
    encoder.finish().ok()
}
