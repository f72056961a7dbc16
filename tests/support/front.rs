//! What stands before a broker: servers that misbehave in any way a test can write down, and one that
//! takes TLS off what comes.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;
use tokio_rustls::rustls::version::TLS12;
use tokio_rustls::rustls::{ALL_VERSIONS, ServerConfig, SupportedProtocolVersion};

use super::certificates::Identity;

/// A server that treats each connection, in a thread of its own, as its test says.
pub struct Front {
    pub address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Front {
    /// `serve` has the stream and the number of the connection, from 0.
    pub fn start(serve: impl Fn(TcpStream, usize) + Send + Sync + 'static) -> Front {
        Front::on("127.0.0.1:0".parse().unwrap(), serve)
    }

    pub fn on(
        address: SocketAddr,
        serve: impl Fn(TcpStream, usize) + Send + Sync + 'static,
    ) -> Front {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        let serve = Arc::new(serve);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { break };
                let number = count.fetch_add(1, Ordering::SeqCst);
                let serve = Arc::clone(&serve);
                std::thread::spawn(move || serve(stream, number));
            }
        });
        Front {
            address,
            connections,
        }
    }

    /// Takes TLS off, and passes on what was in it.
    pub fn tls(identity: &Identity, behind: SocketAddr) -> Front {
        Front::tls_by(server_config(identity), behind)
    }

    /// The same, for clients alone that offer this protocol (ALPN), as AWS IoT Core does at port 443.
    pub fn tls_for(alpn: &str, identity: &Identity, behind: SocketAddr) -> Front {
        let mut config = Arc::unwrap_or_clone(server_config(identity));
        config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
        Front::tls_by(Arc::new(config), behind)
    }

    fn tls_by(config: Arc<ServerConfig>, behind: SocketAddr) -> Front {
        Front::start(move |stream, _| {
            let config = Arc::clone(&config);
            on_runtime(async move {
                stream.set_nonblocking(true).unwrap();
                let stream = tokio::net::TcpStream::from_std(stream).unwrap();
                let wants_protocol = !config.alpn_protocols.is_empty();
                let Ok(mut front) = TlsAcceptor::from(config).accept(stream).await else {
                    return;
                };
                if wants_protocol && front.get_ref().1.alpn_protocol().is_none() {
                    return;
                }
                let Ok(mut back) = tokio::net::TcpStream::connect(behind).await else {
                    return;
                };
                back.set_nodelay(true).unwrap();
                tokio::io::copy_bidirectional(&mut front, &mut back)
                    .await
                    .ok();
            });
        })
    }

    /// How many have connected so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// How a server with this certificate speaks TLS.
pub fn server_config(identity: &Identity) -> Arc<ServerConfig> {
    server_config_of(identity, ALL_VERSIONS)
}

/// The same, with TLS 1.2 only.
pub fn server_config_up_to_1_2(identity: &Identity) -> Arc<ServerConfig> {
    server_config_of(identity, &[&TLS12])
}

fn server_config_of(
    identity: &Identity,
    versions: &[&'static SupportedProtocolVersion],
) -> Arc<ServerConfig> {
    let key = PrivatePkcs8KeyDer::from(identity.key.clone());
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![identity.certificate.clone().into()], key.into())
        .unwrap();
    Arc::new(config)
}

pub fn on_runtime(future: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future);
}
