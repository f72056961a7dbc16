//! What a listener shows to clients that connect by TLS: its certificate, read anew when the files change; a
//! pair that is made where there is none (§9.23).

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use tokio_rustls::rustls::{ALL_VERSIONS, RootCertStore, ServerConfig};
use tokio_rustls::server::TlsStream;
use tracing::{error, info};

use super::error::TransportError;
use super::pem;
use super::tcp::Tcp;
use super::tls_error::{FileProblem, TlsError};
use crate::config::ListenTls;

/// How old the files were, and what was in them.
type Built = (Vec<Option<SystemTime>>, Arc<ServerConfig>);

/// A listener's certificate, key, and the CA of clients.
pub(super) struct Identity {
    name: String,
    settings: ListenTls,
    /// Whether a client without a certificate is turned away.
    needs_client: bool,
    shown: Mutex<Shown>,
}

#[derive(Default)]
struct Shown {
    /// What was read last, and how old the files were.
    built: Option<Built>,
    /// Why nothing can be shown, as it was said last.
    problem: String,
}

impl Identity {
    pub(super) fn new(name: String, settings: ListenTls, needs_client: bool) -> Identity {
        Identity {
            name,
            settings,
            needs_client,
            shown: Mutex::default(),
        }
    }

    /// Makes the pair where there is none, and says what is wrong with the files, before the first client comes.
    pub(super) fn prepare(&self) {
        // It was said.
        let _ = self.config();
    }

    /// Speaks TLS with a client. Gives the name in its certificate too, where it has shown one.
    pub(super) async fn accept(
        self: &Arc<Self>,
        stream: Tcp,
    ) -> Result<(TlsStream<Tcp>, Option<Box<str>>), TransportError> {
        let identity = Arc::clone(self);
        // Files, off the thread that must not wait for a disk.
        let built = tokio::task::spawn_blocking(move || identity.config()).await;
        let config = built.map_err(io::Error::from)??;
        let stream = TlsAcceptor::from(config).accept(stream).await?;
        let (_, session) = stream.get_ref();
        let first = session.peer_certificates().and_then(<[_]>::first);
        let name = first.map(|certificate| common_name(certificate).unwrap_or("client").into());
        Ok((stream, name))
    }

    /// What is shown now. Where the files cannot be read any more, what they held last. What is wrong is said once,
    /// not for each client.
    fn config(&self) -> Result<Arc<ServerConfig>, TransportError> {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let found = self.look(&mut shown.built);
        let problem = found.as_ref().err().map(ToString::to_string);
        let problem = problem.unwrap_or_default();
        if !problem.is_empty() && problem != shown.problem {
            error!("{}: no client can connect: {problem}", self.name);
        }
        shown.problem = problem;
        found
    }

    fn look(&self, built: &mut Option<Built>) -> Result<Arc<ServerConfig>, TransportError> {
        let (certificate, key) = if let Some(pair) = &self.settings.pair {
            pair.clone()
        } else {
            let folder = &self.settings.made_in;
            let failed = |error: io::Error| {
                let text = format!("cannot make a certificate in {}: {error}", folder.display());
                io::Error::new(error.kind(), text)
            };
            made(&self.name, folder).map_err(failed)?
        };
        let files = [
            Some(&certificate),
            Some(&key),
            self.settings.client_ca.as_ref(),
        ];
        let age = |path: &PathBuf| {
            std::fs::metadata(path)
                .and_then(|data| data.modified())
                .ok()
        };
        let ages: Vec<_> = files.into_iter().flatten().map(age).collect();
        if let Some((before, config)) = &*built
            && *before == ages
        {
            return Ok(Arc::clone(config));
        }
        match self.read(&certificate, &key) {
            Ok(config) => {
                let config = Arc::new(config);
                *built = Some((ages, Arc::clone(&config)));
                Ok(config)
            }
            Err(problem) => match built {
                None => Err(problem.into()),
                Some((before, config)) => {
                    error!("{}: the certificate stays as it was: {problem}", self.name);
                    *before = ages;
                    Ok(Arc::clone(config))
                }
            },
        }
    }

    fn read(&self, certificate: &Path, key: &Path) -> Result<ServerConfig, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(ALL_VERSIONS) // 1.2 and 1.3: rustls knows no older ones
            .map_err(TlsError::Tls)?;
        let builder = match &self.settings.client_ca {
            None => builder.with_no_client_auth(),
            Some(ca) => {
                let mut roots = RootCertStore::empty();
                for root in pem::certificates(ca)? {
                    let bad = |_| pem::at(ca, FileProblem::BadCertificate);
                    roots.add(root).map_err(bad)?;
                }
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                let verifier = if self.needs_client {
                    verifier
                } else {
                    verifier.allow_unauthenticated()
                };
                let bad = |_| pem::at(ca, FileProblem::BadCertificate);
                builder.with_client_cert_verifier(verifier.build().map_err(bad)?)
            }
        };
        let mut config = builder
            .with_single_cert(pem::certificates(certificate)?, pem::key(key)?)
            .map_err(|_| TlsError::KeyMismatch {
                certificate: certificate.to_owned(),
                key: key.to_owned(),
            })?;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(config)
    }
}

/// Certificate and key of this listener, made where there are none.
fn made(listener: &str, folder: &Path) -> io::Result<(PathBuf, PathBuf)> {
    let (certificate, key) = (folder.join("listener.pem"), folder.join("listener-key.pem"));
    if !(certificate.exists() && key.exists()) {
        std::fs::create_dir_all(folder)?;
        let names = ["venus.local".to_owned(), "localhost".to_owned()];
        let pair = make(&names)?;
        write_private(&key, pair.1.as_bytes())?;
        write_private(&certificate, pair.0.as_bytes())?;
        info!(
            "{listener}: made a certificate, {}, SHA-256 fingerprint {}",
            certificate.display(),
            pair.2
        );
    }
    Ok((certificate, key))
}

/// Certificate, key and fingerprint.
fn make(names: &[String]) -> io::Result<(String, String, String)> {
    let failed = |error: rcgen::Error| io::Error::other(error.to_string());
    let mut parameters = rcgen::CertificateParams::new(names.to_vec()).map_err(failed)?;
    let mut name = rcgen::DistinguishedName::new();
    name.push(rcgen::DnType::CommonName, "venus.local");
    parameters.distinguished_name = name;
    let key = rcgen::KeyPair::generate().map_err(failed)?;
    let certificate = parameters.self_signed(&key).map_err(failed)?;
    let digest = fingerprint(certificate.der());
    Ok((certificate.pem(), key.serialize_pem(), digest))
}

/// The SHA-256 of a certificate, as people compare it.
fn fingerprint(der: &[u8]) -> String {
    let hash = ring::default_provider()
        .cipher_suites
        .iter()
        .filter_map(tokio_rustls::rustls::SupportedCipherSuite::tls13)
        .map(|suite| suite.common.hash_provider)
        .find(|hash| hash.output_len() == SHA256_BYTES)
        .map(|hash| hash.hash(der));
    let bytes = hash.as_ref().map(AsRef::as_ref).unwrap_or_default();
    let pairs: Vec<String> = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
    pairs.join(":")
}

/// The length of a SHA-256.
const SHA256_BYTES: usize = 32;

fn write_private(path: &Path, text: &[u8]) -> io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text)
}

/// The common name of a certificate's subject.
fn common_name(der: &[u8]) -> Option<&str> {
    let certificate = element(der)?.1;
    let mut rest = element(certificate)?.1; // what is signed
    let (tag, _, after) = element(rest)?;
    if tag == 0xa0 {
        rest = after; // the version
    }
    for _ in 0..4 {
        rest = element(rest)?.2; // number, algorithm, issuer, validity
    }
    let mut names = element(rest)?.1;
    while let Some((_, set, after)) = element(names) {
        names = after;
        let (_, pair, _) = element(set)?;
        let (_, kind, value) = element(pair)?;
        if kind == [0x55, 0x04, 0x03] {
            return std::str::from_utf8(element(value)?.1).ok();
        }
    }
    None
}

/// The first element of some DER: its tag, what is in it, and what follows.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let mut length = usize::from(first);
    if first & 0x80 != 0 {
        length = 0;
        for _ in 0..first & 0x7f {
            let (&byte, after) = rest.split_first()?;
            length = length.checked_mul(256)?.checked_add(byte.into())?;
            rest = after;
        }
    }
    let (content, after) = rest.split_at_checked(length)?;
    Some((tag, content, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s9_23_a_pair_is_made_and_its_name_is_found() {
        let (certificate, key, digest) = make(&["venus.local".to_owned()]).unwrap();
        assert!(key.contains("PRIVATE KEY"));
        assert_eq!(digest.len(), SHA256_BYTES * 3 - 1);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cert.pem");
        write_private(&path, certificate.as_bytes()).unwrap();
        let der = pem::certificates(&path).unwrap();
        assert_eq!(common_name(&der[0]), Some("venus.local"));
        assert_eq!(common_name(&der[0][..40]), None);
    }
}
