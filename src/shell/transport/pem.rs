//! Certificates and keys from files: bounded, and each fault with the name of its file.
//!
//! What is in a key file is never part of an error.

use std::io::Read;
use std::path::{Path, PathBuf};

use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::tls_error::{FILE_BYTES_MAX, FileProblem, TlsError};
use crate::config::open_regular;

/// All certificates of a file: at least one.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match found {
        Ok(list) if list.is_empty() => Err(at(path, FileProblem::NoCertificate)),
        Ok(list) => Ok(list),
        Err(_) => Err(at(path, FileProblem::Malformed)),
    }
}

/// The first private key of a file: PKCS#8, PKCS#1 or SEC1.
pub(super) fn key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let bytes = read(path)?;
    // PKCS#8 says it in the name of the section, the older forms in a line below it.
    if contains(&bytes, b"ENCRYPTED") {
        return Err(at(path, FileProblem::EncryptedKey));
    }
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| {
        let is_missing = matches!(error, pem::Error::NoItemsFound);
        let problem = if is_missing {
            FileProblem::NoKey
        } else {
            FileProblem::Malformed
        };
        at(path, problem)
    })
}

pub(super) fn at(path: &Path, problem: FileProblem) -> TlsError {
    TlsError::File {
        path: PathBuf::from(path),
        problem,
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let unreadable = |error| at(path, FileProblem::Unreadable(error));
    let file = open_regular(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    let length = file
        .take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if length as u64 > FILE_BYTES_MAX {
        return Err(at(path, FileProblem::TooLarge));
    }
    Ok(bytes)
}

fn contains(bytes: &[u8], word: &[u8]) -> bool {
    bytes.windows(word.len()).any(|window| window == word)
}
