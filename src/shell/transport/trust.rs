//! Whom we trust: the CAs of a file, else those of the system, else those that Mozilla trusts.

use std::path::Path;
use std::sync::Arc;

use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::client::verify_server_name;
use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::{DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::pem;
use super::tls_error::{FileProblem, TlsError, is_own_authority};

/// Checks the broker's certificate.
pub(super) fn verifier(
    ca: Option<&Path>,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, TlsError> {
    let (roots, trusted) = match ca {
        Some(path) => from_file(path)?,
        None => (of_the_system(), Vec::new()),
    };
    let web = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
    let web = web.map_err(|_| TlsError::NobodyToTrust)?;
    Ok(Arc::new(Verifier { web, trusted }))
}

fn from_file(path: &Path) -> Result<(RootCertStore, Vec<CertificateDer<'static>>), TlsError> {
    let trusted = pem::certificates(path)?;
    let mut roots = RootCertStore::empty();
    for certificate in &trusted {
        let added = roots.add(certificate.clone());
        added.map_err(|_| pem::at(path, FileProblem::BadCertificate))?;
    }
    Ok((roots, trusted))
}

fn of_the_system() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    // Some systems have none, some have broken ones among good ones.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    roots
}

/// As the web checks certificates, and beyond that takes a certificate that stands in the CA file
/// itself.
///
/// `openssl req -x509` makes a certificate that is its own CA, and so many a home broker has just that
/// one. The web's rules refuse a CA that acts as a server; OpenSSL, and so every client before us,
/// takes it.
#[derive(Debug)]
struct Verifier {
    web: Arc<WebPkiServerVerifier>,
    trusted: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let checked =
            self.web
                .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match checked {
            // That it is a CA comes up after its dates were found right, and before its name is looked at.
            // INVARIANT: a_certificate_that_is_its_own_ca_still_needs_its_dates_and_its_name
            Err(error) if is_ca_as_server(&error) && self.trusted.contains(end_entity) => {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.web
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.web
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.web.supported_verify_schemes()
    }
}

fn is_ca_as_server(error: &Error) -> bool {
    matches!(error, Error::InvalidCertificate(problem) if is_own_authority(problem))
}
