//! The thread that serves clients which are connected to the bridge itself (§9).
//!
//! It has the listeners, TLS, WebSocket, the sessions and all encoding: a handshake, a login and fifty
//! browsers that come back at once hold up neither the bus nor a broker. What it shares with the bus thread
//! is in [`exchange`], and what clients are to have is decided by [`crate::serve`].

mod accept;
pub(in crate::shell) mod exchange;
mod hub;
mod login;
mod settings;

use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tokio::task::LocalSet;
use tracing::{info, warn};

use self::accept::Door;
#[cfg(feature = "web")]
pub(in crate::shell) use self::accept::Doorway;
pub(in crate::shell) use self::exchange::Exchange;
use self::exchange::FromClients;
use self::hub::Hub;
use self::login::Logins;
use self::settings::{serves, settings};
use super::held::Held;
use super::shared::{Shared, now};
use super::transport::Accepting;
use crate::bridge::{Bridge, OutletConfig, Reader};
use crate::codec::request::RequestReader;
use crate::config::Config;
use crate::error::Fatal;
use crate::model::request::ResponseAddress;
use crate::serve::Server;

/// Enough for a handshake; what is not touched costs nothing.
const STACK_BYTES: usize = 512 * 1024;
/// Threads for hashes of passwords, which take a tenth of a second and more (§9.20).
const HASHING_THREADS: usize = 2;
/// How long clients may take to be told that the bridge ends.
const GOODBYE: Duration = Duration::from_secs(1);
/// How often what is counted is told.
const STATS_EVERY: Duration = Duration::from_secs(1);

/// Listeners that have their addresses, and nobody to answer yet.
pub(in crate::shell) struct Bound {
    /// One for each listener; `None` for one that has no address.
    sockets: Vec<Option<TcpListener>>,
    #[cfg(feature = "web")]
    guests: (accept::Doorway, accept::Guests),
}

/// The serving thread, from outside.
#[derive(Debug)]
pub(in crate::shell) struct Serving {
    exchange: Arc<Exchange>,
    changes: mpsc::UnboundedSender<Config>,
    ended: oneshot::Receiver<()>,
}

/// Takes the addresses of all listeners, and says where they are.
pub(in crate::shell) fn bind(config: &Config, held: &mut Held) -> Result<Option<Bound>, Fatal> {
    if config.listeners.is_empty() {
        return Ok(None);
    }
    let mut sockets = Vec::new();
    for listener in &config.listeners {
        let Some(address) = listener.address else {
            sockets.push(None);
            continue;
        };
        let socket = accept::bind(address, held)?;
        // With port 0 the system chooses one.
        let address = socket.local_addr().unwrap_or(address);
        let word = listener.transport.word();
        let auth = listener.auth.word();
        info!("{}: {word}://{address}, auth {auth}", listener.name);
        sockets.push(Some(socket));
    }
    Ok(Some(Bound {
        sockets,
        #[cfg(feature = "web")]
        guests: accept::doorway(),
    }))
}

#[cfg(feature = "web")]
impl Bound {
    /// Where the web server hands over its WebSockets.
    pub(in crate::shell) fn doorway(&self) -> Doorway {
        self.guests.0.clone()
    }

    /// The port of a listener, as it is.
    pub(in crate::shell) fn port(&self, listener: usize) -> Option<u16> {
        let socket = self.sockets.get(listener)?.as_ref()?;
        Some(socket.local_addr().ok()?.port())
    }
}

/// Starts the thread.
pub(in crate::shell) fn start(
    bound: Bound,
    config: &Config,
    bridge: &mut Bridge,
    outlets: Vec<OutletConfig>,
) -> Result<Serving, Fatal> {
    let first = bridge.brokers();
    let serves: Vec<bool> = config.listeners.iter().map(serves).collect();
    let (marks, values) = bridge.listen(outlets);
    let exchange = Arc::new(Exchange::new(marks, first, serves.into_iter()));
    let (changes, settings) = mpsc::unbounded_channel();
    let (ending, ended) = oneshot::channel();
    let thread = Thread {
        sockets: bound.sockets,
        #[cfg(feature = "web")]
        guests: bound.guests.1,
        config: config.clone(),
        values,
        exchange: Arc::clone(&exchange),
        settings,
    };
    std::thread::Builder::new()
        .name("listeners".to_owned())
        .stack_size(STACK_BYTES)
        .spawn(move || {
            if let Err(error) = thread.run() {
                warn!("the listeners have ended: {error}");
            }
            // Nobody waits for it where the bridge has ended.
            let _ = ending.send(());
        })?;
    Ok(Serving {
        exchange,
        changes,
        ended,
    })
}

impl Serving {
    /// What both threads have.
    pub(in crate::shell) fn exchange(&self) -> &Arc<Exchange> {
        &self.exchange
    }

    /// Other settings, as far as they can be taken over.
    pub(in crate::shell) fn reload(&self, config: &Config) {
        // The thread ends with the bridge only.
        let _ = self.changes.send(config.clone());
        self.exchange.bell.notify_one();
    }

    /// The bridge ends: clients are told.
    pub(in crate::shell) async fn end(self) {
        self.exchange.end();
        // It takes a second where clients do not listen.
        let _ = tokio::time::timeout(GOODBYE * 3, self.ended).await;
    }
}

/// Carries requests of clients to the bridge, until the bridge ends: the bus thread's side.
pub(in crate::shell) async fn carry(config: Config, exchange: Arc<Exchange>, shared: Arc<Shared>) {
    let mut reader = RequestReader::new(config.limits.request_bytes_max);
    loop {
        exchange.bus_bell.notified().await;
        let requests = exchange.take_requests();
        shared.with(|bridge| {
            for from in requests {
                match from {
                    FromClients::Gone(client) => bridge.client_gone(client),
                    FromClients::Listen(listener, listens) => {
                        bridge.clients_listen(now(), exchange.outlet(listener), listens);
                    }
                    // Home Assistant has started.
                    FromClients::Request(asked) if is_birth(&asked.topic) => {
                        if *asked.payload == *b"online" {
                            let outlet = exchange.outlet(asked.listener);
                            bridge.home_assistant_started(now(), outlet);
                        }
                    }
                    FromClients::Request(mut asked) => {
                        let client = asked.client.number();
                        let request =
                            reader.read(&asked.topic, &mut asked.payload, &config.portal_id);
                        let Some(request) = request else {
                            continue;
                        };
                        let respond_to = asked.response.map(|to| ResponseAddress {
                            topic: to.topic,
                            correlation: to.correlation,
                            client: Some(client),
                        });
                        let from = (exchange.outlet(asked.listener), client);
                        bridge.request_of_client(
                            now(),
                            from,
                            &asked.topic,
                            request,
                            asked.retained,
                            respond_to,
                        );
                    }
                }
            }
        });
    }
}

/// Whether a topic is not a request, but that of Home Assistant's birth message.
fn is_birth(topic: &str) -> bool {
    !(topic.starts_with("R/") || topic.starts_with("W/"))
}

/// What the thread is started with.
struct Thread {
    sockets: Vec<Option<TcpListener>>,
    #[cfg(feature = "web")]
    guests: accept::Guests,
    config: Config,
    values: Reader,
    exchange: Arc<Exchange>,
    settings: mpsc::UnboundedReceiver<Config>,
}

impl Thread {
    fn run(self) -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(HASHING_THREADS)
            .thread_stack_size(STACK_BYTES)
            .build()?;
        let local = LocalSet::new();
        local.block_on(&runtime, self.serve());
        drop(local);
        runtime.shutdown_background();
        Ok(())
    }

    async fn serve(mut self) {
        let logins = Rc::new(Logins::new(
            &self.config.listeners,
            self.config.limits.log(),
        ));
        let server = Server::new(settings(&self.config));
        let exchange = Arc::clone(&self.exchange);
        let hub = Rc::new(Hub::new(server, self.values, Arc::clone(&exchange), logins));
        for ((number, listener), socket) in
            self.config.listeners.iter().enumerate().zip(self.sockets)
        {
            let Some(socket) = socket else { continue };
            let door = Door {
                number,
                name: listener.name.clone(),
                accepting: Accepting::new(listener, &self.config.limits),
                limits: self.config.limits.clone(),
            };
            door.accepting.prepare();
            tokio::task::spawn_local(accept::run(socket, door, Rc::clone(&hub)));
        }
        #[cfg(feature = "web")]
        tokio::task::spawn_local(accept::welcome(
            self.guests,
            self.config.limits.clone(),
            Rc::clone(&hub),
        ));
        let mut noted = Instant::now();
        while !exchange.is_ending() {
            hub.take_in();
            if !hub.is_noted() && noted.elapsed() >= STATS_EVERY {
                noted = Instant::now();
                hub.note_counts();
            }
            let mut deadline = hub.deadline();
            if !hub.is_noted() {
                let soon = noted + STATS_EVERY;
                deadline = Some(deadline.map_or(soon, |at| at.min(soon)));
            }
            // Nobody need wake it for values while it waits for its pace, or for clients.
            let soon = Instant::now() + self.config.gather;
            let is_paced = deadline.is_some_and(|at| at <= soon) && !hub.awaits_change()
                || hub.connections() == 0;
            if !is_paced && !exchange.marks.rest() {
                continue;
            }
            let due = async {
                match deadline {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = due => {}
                () = exchange.bell.notified() => {}
                () = hub.timer.notified() => {}
                Some(config) = self.settings.recv() => hub.reload(&config),
            }
            exchange.marks.awake();
        }
        hub.shut_down();
        let gone = async {
            while hub.connections() > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        // Who does not take it is closed all the same.
        let _ = tokio::time::timeout(GOODBYE, gone).await;
    }
}
