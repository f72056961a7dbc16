//! TLS 1.2 and 1.3, by rustls with ring.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsConnector;
use tokio_rustls::client;
use tokio_rustls::rustls::client::{Resumption, danger::ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ALL_VERSIONS, ClientConfig, Error, InconsistentKeys};

use super::error::TransportError;
use super::layer::Layer;
use super::tcp::Tcp;
use super::tls_error::{FileProblem, Settings, TlsError};
use super::{pem, trust};
use crate::config::TlsConfig;

/// All that a handshake needs, read and checked.
pub(super) struct Prepared {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    settings: Settings,
}

/// An encrypted connection.
#[derive(Debug)]
pub(super) struct TlsStream {
    stream: client::TlsStream<Tcp>,
    settings: Settings,
    /// A write failed because the broker is gone, and its last words were not there to be read yet.
    is_broken: bool,
}

/// Reads the files, off the one thread that must not wait for a disk.
pub(super) async fn prepare(host: &str, config: TlsConfig) -> Result<Prepared, TransportError> {
    let name = server_name(config.server_name.as_deref().unwrap_or(host))?;
    let settings = Settings {
        ca: config.ca.clone(),
        has_client: config.client.is_some(),
    };
    let built = tokio::task::spawn_blocking(move || client_config(&config)).await;
    let config = built.map_err(io::Error::from)??;
    Ok(Prepared {
        config: Arc::new(config),
        name,
        settings,
    })
}

impl Prepared {
    pub(super) async fn handshake(self, stream: Tcp) -> Result<TlsStream, TransportError> {
        let Prepared {
            config,
            name,
            settings,
        } = self;
        match TlsConnector::from(config).connect(name, stream).await {
            Ok(stream) => Ok(TlsStream {
                stream,
                settings,
                is_broken: false,
            }),
            Err(error) => Err(match tls_error(&error) {
                Some(reason) => TlsError::from_handshake(reason.clone(), &settings).into(),
                None if is_gone(&error) => TransportError::HandshakeClosed { layer: Layer::Tls },
                None => error.into(),
            }),
        }
    }
}

/// The name or address that the certificate has to have. The zone of an address is ours alone.
fn server_name(text: &str) -> Result<ServerName<'static>, TlsError> {
    let bare = text.split_once('%').map_or(text, |(address, _)| address);
    ServerName::try_from(bare.to_owned()).map_err(|_| TlsError::ServerName(text.to_owned()))
}

fn client_config(settings: &TlsConfig) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let verifier = trust::verifier(settings.ca.as_deref(), Arc::clone(&provider))?;
    let mut config = with_identity(settings, provider, verifier)?;
    // Each connection has a separate configuration, so that renewed certificates are taken.
    config.resumption = Resumption::disabled();
    let offered = settings.alpn.iter().map(|name| name.as_bytes().to_vec());
    config.alpn_protocols = offered.collect();
    Ok(config)
}

fn with_identity(
    settings: &TlsConfig,
    provider: Arc<CryptoProvider>,
    verifier: Arc<dyn ServerCertVerifier>,
) -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(ALL_VERSIONS) // 1.2 and 1.3: rustls knows no older ones
        .map_err(TlsError::Tls)?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let Some((certificate, key)) = &settings.client else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = pem::certificates(certificate)?;
    let private = pem::key(key)?;
    builder
        .with_client_auth_cert(chain, private)
        .map_err(|error| {
            if error == Error::InconsistentKeys(InconsistentKeys::KeyMismatch) {
                TlsError::KeyMismatch {
                    certificate: certificate.clone(),
                    key: key.clone(),
                }
            } else if matches!(error, Error::InvalidCertificate(_)) {
                pem::at(certificate, FileProblem::BadCertificate)
            } else {
                // rustls says it in words only: the key is none that ring can use.
                pem::at(key, FileProblem::BadKey)
            }
        })
}

impl TlsStream {
    pub(super) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        // What of a write is still on its way, and what TLS itself has to answer to what was read: new
        // keys, a renegotiation that is declined. Nobody else may write for a long time.
        if self.stream.get_ref().1.wants_write() {
            // An error of it shows in the reading too, and there with its reason.
            let _ = Pin::new(&mut self.stream).poll_flush(context);
        }
        match ready!(polled) {
            // A broker that dies says no goodbye; MQTT sees by itself where a packet is cut off.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(self.fault(error))),
            Ok(()) => Poll::Ready(Ok(())),
        }
    }

    pub(super) fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        // One batch at a time: what rustls holds is stale by the time that the network takes it.
        if self.stream.get_ref().1.wants_write() {
            match ready!(Pin::new(&mut self.stream).poll_flush(context)) {
                Ok(()) => {}
                Err(error) => return self.last_words(context, error).map(Err),
            }
        }
        match ready!(Pin::new(&mut self.stream).poll_write(context, bytes)) {
            Ok(written) => Poll::Ready(Ok(written)),
            Err(error) => self.last_words(context, error).map(Err),
        }
    }

    pub(super) fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match ready!(Pin::new(&mut self.stream).poll_flush(context)) {
            Ok(()) => Poll::Ready(Ok(())),
            Err(error) => self.last_words(context, error).map(Err),
        }
    }

    pub(super) fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    /// Why the broker took no more: with TLS 1.3 it refuses our certificate when the handshake is over
    /// for us, and closes. Our write fails then, and the reason is still to be read.
    fn last_words(&mut self, context: &mut Context<'_>, error: io::Error) -> Poll<io::Error> {
        if !is_gone(&error) {
            return Poll::Ready(self.fault(error));
        }
        let mut space = [0; 512];
        let mut buffer = ReadBuf::new(&mut space);
        match Pin::new(&mut self.stream).poll_read(context, &mut buffer) {
            Poll::Ready(Err(reason)) if tls_error(&reason).is_some() => {
                Poll::Ready(self.fault(reason))
            }
            Poll::Ready(_) => Poll::Ready(error),
            Poll::Pending if self.is_broken => Poll::Ready(error),
            Poll::Pending => {
                self.is_broken = true;
                context.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }

    fn fault(&self, error: io::Error) -> io::Error {
        match tls_error(&error) {
            Some(reason) => {
                let version = self.stream.get_ref().1.protocol_version();
                let error = TlsError::from_connection(reason.clone(), &self.settings, version);
                TransportError::from(error).into()
            }
            None => error,
        }
    }
}

/// What rustls says, where it is rustls that says it.
fn tls_error(error: &io::Error) -> Option<&Error> {
    error.get_ref().and_then(|inner| inner.downcast_ref())
}

/// Whether the other end has closed.
fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses() {
        for (text, name) in [
            ("venus.local", "venus.local"),
            ("my_broker", "my_broker"),
            ("192.168.1.5", "192.168.1.5"),
            ("::1", "::1"),
            ("fe80::1%eth0", "fe80::1"),
        ] {
            assert_eq!(server_name(text).unwrap().to_str(), name, "{text}");
        }
        for text in ["", "two words", "a..b", "-"] {
            let error = server_name(text).unwrap_err();
            assert!(error.needs_operator());
            assert_eq!(
                error.to_string(),
                format!("{text:?} cannot be a name in a certificate")
            );
        }
    }
}
