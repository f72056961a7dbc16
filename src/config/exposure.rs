//! Whether others can get at a file with a secret.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

/// How others can get at a file with a secret, where `others` are the permissions by which they could
/// read it.
pub(crate) fn exposure(file: &Metadata, others: u32) -> Option<Exposure> {
    let (mode, owner) = (file.mode(), file.uid());
    let us = rustix::process::geteuid().as_raw();
    // The permission to write is the next lower bit.
    let (how, remedy) = if mode & others != 0 {
        ("other users can read", "chmod 600")
    } else if mode & (others >> 1) != 0 {
        ("other users can change", "chmod 600")
    } else if owner != us && owner != 0 {
        ("another user owns", "chown")
    } else {
        return None;
    };
    Some(Exposure { how, remedy })
}

/// How others can get at a file with a secret, and the command that mends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exposure {
    /// `other users can read`
    pub how: &'static str,
    /// `chmod 600`
    pub remedy: &'static str,
}
