//! The MQTT broker of the demo, on a thread of its own: MQTT 3.1.1 and 5 over TCP, and WebSocket.

use std::net::{IpAddr, SocketAddr, TcpListener};

use mqtt5::broker::config::{StorageConfig, WebSocketConfig};
use mqtt5::broker::{BrokerConfig, MqttBroker};

use super::part::{Part, on_runtime};
use crate::tools::ToolError;

/// Where the broker listens, on 127.0.0.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ports {
    /// MQTT 3.1.1 and 5.
    pub tcp: u16,
    /// MQTT in WebSocket, at [`PATH`].
    pub websocket: u16,
}

/// Starts the broker on these ports, or where they are taken on the next free ones.
pub(crate) async fn start(at: IpAddr, wanted: Ports) -> Result<(Part, Ports), ToolError> {
    let mut again = 0..RACES_MAX;
    loop {
        let tcp = free_port(at, wanted.tcp, &[])?;
        let websocket = free_port(at, wanted.websocket, &[tcp])?;
        let ports = Ports { tcp, websocket };
        match start_on(at, ports).await {
            // Somebody took a port after we had looked at it.
            Err(_) if !(is_free(at, tcp) && is_free(at, websocket)) && again.next().is_some() => {}
            outcome => return outcome,
        }
    }
}

async fn start_on(at: IpAddr, ports: Ports) -> Result<(Part, Ports), ToolError> {
    Part::start("MQTT broker", move |ready, stop| {
        on_runtime(async move {
            let broker = MqttBroker::with_config(config(at, ports)).await;
            let mut broker = broker.map_err(|error| error.to_string())?;
            let shutdown = broker.shutdown_handle();
            let mut listening = broker.ready_receiver();
            let run = broker.run();
            tokio::pin!(run);
            // Before it is ready it does not hear a shutdown.
            tokio::select! {
                outcome = &mut run => return outcome.map_err(|error| error.to_string()),
                _ = listening.wait_for(|ready| *ready) => {}
            }
            if ready.send(ports).is_err() {
                return Ok(());
            }
            tokio::select! {
                biased;
                _ = stop => {
                    shutdown.shutdown();
                    run.await
                }
                outcome = &mut run => outcome,
            }
            .map_err(|error| error.to_string())
        })
    })
    .await
}

/// The first free port from `first` on. Port 0 is any free port.
pub(super) fn free_port(at: IpAddr, first: u16, not: &[u16]) -> Result<u16, ToolError> {
    let last = first.saturating_add(PORTS_TRIED);
    (first..=last)
        .filter(|port| !not.contains(port))
        .find_map(|port| {
            let probe = TcpListener::bind((at, port)).ok()?;
            probe.local_addr().ok().map(|address| address.port())
        })
        .ok_or(ToolError::NoPort { first, last })
}

/// Whether nobody listens there.
pub(super) fn is_free(at: IpAddr, port: u16) -> bool {
    TcpListener::bind((at, port)).is_ok()
}

fn config(at: IpAddr, ports: Ports) -> BrokerConfig {
    BrokerConfig {
        bind_addresses: vec![SocketAddr::new(at, ports.tcp)],
        websocket_config: Some(WebSocketConfig {
            bind_addresses: vec![SocketAddr::new(at, ports.websocket)],
            path: PATH.to_owned(),
            ..WebSocketConfig::default()
        }),
        storage_config: StorageConfig {
            enable_persistence: false,
            ..StorageConfig::default()
        },
        max_packet_size: PACKET_BYTES_MAX,
        // A new subscriber gets all retained messages at once, and this broker drops what is over.
        client_channel_capacity: CLIENT_MESSAGES_MAX,
        sys_topics_enabled: false,
        ..BrokerConfig::default()
    }
}

/// The path of the WebSocket.
pub(crate) const PATH: &str = "/mqtt";
/// How many ports after a taken one are tried.
const PORTS_TRIED: u16 = 100;
/// How often a port may be taken between the look at it and the broker's start.
const RACES_MAX: u32 = 10;
/// A client may refuse a broker that allows 2^28 bytes or more.
const PACKET_BYTES_MAX: usize = 16 << 20;
/// How many messages wait for a client.
const CLIENT_MESSAGES_MAX: usize = 200_000;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn local(port: u16) -> SocketAddr {
        SocketAddr::new(HERE, port)
    }

    #[tokio::test]
    async fn a_taken_port_gives_way_to_the_next() {
        let taken = TcpListener::bind(local(0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        assert_ne!(free_port(HERE, port, &[]).unwrap(), port);
        assert_ne!(free_port(HERE, 0, &[]).unwrap(), 0);

        let wanted = Ports {
            tcp: port,
            websocket: port,
        };
        let (broker, ports) = start(HERE, wanted).await.unwrap();
        assert!(ports.tcp != port && ports.websocket != port && ports.tcp != ports.websocket);
        tokio::net::TcpStream::connect(local(ports.tcp))
            .await
            .unwrap();
        tokio::net::TcpStream::connect(local(ports.websocket))
            .await
            .unwrap();
        broker.stop().await;
        assert!(
            tokio::net::TcpStream::connect(local(ports.tcp))
                .await
                .is_err()
        );
    }
}
