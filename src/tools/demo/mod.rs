//! `dbus-mqtt demo`: a simulated installation, a bus and the very same bridge with a listener, in one
//! process that needs nothing installed and leaves nothing behind.
//!
//! ```text
//!   plant ── installation ── serve ──▶ bus ──▶ the bridge ──▶ listeners ──▶ your client
//!   └─ pure, no clocks ─┘    thread    thread   this thread    thread
//! ```
//!
//! The bridge runs on the thread that calls [`run`], with a configuration like any other; nothing
//! in it knows that this is a demo. What stops first is the bridge.

mod bus;
mod device;
mod installation;
mod part;
mod plant;
mod ports;
mod serve;
mod status;

use std::io::IsTerminal;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, interval_at};

use self::bus::PrivateDir;
use self::installation::{DEVICES_MIN, Installation};
use self::part::Part;
use self::serve::Shared;
use self::status::Status;
use super::recording::{Change, Recording};
use super::{ToolError, say};
use crate::cli::DemoArgs;
use crate::config::{
    BusAddress, Config, HomeAssistant, ListenConfig, ListenTransport, Machine, reached,
};
use crate::error::Fatal;
use crate::model::name::PortalId;
use crate::model::topic::DISCOVERY_PREFIX;
use crate::schema::Schema;
use crate::shell::address::outward;
use crate::shell::held::Held;
use crate::shell::run::{Stats, run_with};
use crate::shell::supervisor::Supervisor;

/// Runs the demo until `shutdown` or the given time.
pub async fn run(
    args: DemoArgs,
    schema: Arc<Schema>,
    machine: &Machine,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ToolError> {
    raise_file_limit();
    let time = args.seconds.map(Duration::from_secs);
    let stop = super::until(shutdown, time);
    let (places, held) = Places::take(&args)?;
    let devices = usize::try_from(args.devices).unwrap_or(DEVICES_MAX);
    let devices = devices.clamp(DEVICES_MIN, DEVICES_MAX);
    let mut installation = Installation::new(PORTAL_ID, devices, args.rate, SEED);
    installation.tell_story(args.fast);

    let directory = PrivateDir::create()?;
    let (bus, address) = bus::start(&directory).await?;
    let installation: Shared = Arc::new(Mutex::new(installation));
    let (services, count) = serve::start(Arc::clone(&installation), address.clone()).await?;
    if u32::try_from(count) != Ok(args.devices) {
        say(&format!(
            "--devices takes {DEVICES_MIN} to {DEVICES_MAX}, so there are {count}"
        ))?;
    }
    greet(places, &args, count)?;

    let mut around = Parts { bus, services };
    let config = config(&address, &args, places, schema)?;
    let renew = machine.renews_lines(std::io::stdout().is_terminal());
    let outcome = bridge(config, held, &installation, renew, stop, &mut around).await;
    around.stop().await;
    outcome
}

/// A separate bus for a test of the tools; it goes when this is dropped.
#[cfg(test)]
#[derive(Debug)]
pub(crate) struct PrivateBus {
    address: String,
    _part: Part,
    _directory: PrivateDir,
}

#[cfg(test)]
impl PrivateBus {
    /// Where it is.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }
}

/// Starts a bus for a test.
#[cfg(test)]
pub(crate) async fn private_bus() -> Result<PrivateBus, ToolError> {
    let directory = PrivateDir::create()?;
    let (part, address) = bus::start(&directory).await?;
    Ok(PrivateBus {
        address,
        _part: part,
        _directory: directory,
    })
}

/// Everything around the bridge.
struct Parts {
    bus: Part,
    services: Part,
}

impl Parts {
    /// Waits for a part that ends by itself.
    async fn failure(&mut self) -> ToolError {
        tokio::select! {
            fault = self.bus.failure() => fault,
            fault = self.services.failure() => fault,
        }
    }

    /// Stops what depends on others first.
    async fn stop(self) {
        self.services.stop().await;
        self.bus.stop().await;
    }
}

/// Runs the bridge with its status line until `stop`, or until a part fails.
async fn bridge(
    config: Config,
    held: Held,
    installation: &Shared,
    renew: bool,
    stop: impl Future<Output = ()>,
    around: &mut Parts,
) -> Result<(), ToolError> {
    let stats = Arc::new(Stats::default());
    let (end, ended) = oneshot::channel::<()>();
    let (_, no_changes) = mpsc::unbounded_channel();
    let ending = async { drop(ended.await) };
    let bridge = run_with(
        config,
        no_changes,
        ending,
        held,
        Arc::clone(&stats),
        Supervisor::default(),
    );
    tokio::pin!(bridge, stop);
    let mut line = Status::new(&stats, renew);
    let mut tick = interval_at(Instant::now() + line.period(), line.period());
    let outcome = loop {
        tokio::select! {
            biased;
            () = &mut stop => break Ok(()),
            fault = around.failure() => break Err(fault),
            outcome = &mut bridge => {
                line.end();
                return Ok(outcome?);
            }
            _ = tick.tick() => {
                let shown = line.show(&stats, serve::lock(installation).plant());
                if shown.is_err() {
                    break shown;
                }
            }
        }
    };
    line.end();
    let outcome = outcome.and(say("stopping"));
    drop(end);
    let outcome_of_bridge: Result<(), Fatal> = bridge.await;
    outcome.and(outcome_of_bridge.map_err(ToolError::from))
}

/// The configuration of the bridge: the defaults, but for where it finds bus and broker.
fn config(
    bus: &str,
    args: &DemoArgs,
    places: Places,
    schema: Arc<Schema>,
) -> Result<Config, ToolError> {
    let fault = |reason: String| ToolError::DemoPart {
        part: "bridge",
        reason,
    };
    Ok(Config {
        portal_id: PortalId::new(PORTAL_ID).map_err(|error| fault(error.to_string()))?,
        bus: BusAddress::parse(bus).map_err(|error| fault(error.to_string()))?,
        brokers: Vec::new(),
        listeners: [
            ("MQTT", places.mqtt, ListenTransport::Tcp),
            ("WebSocket", places.websocket, ListenTransport::Ws),
        ]
        .map(|(name, address, transport)| {
            let mut listener = ListenConfig::open(name, address, transport);
            let keep_alive = Duration::from_secs(args.keep_alive.into());
            listener.keep_alive = Some(keep_alive).filter(|time| !time.is_zero());
            listener.home_assistant = args.home_assistant.then(|| HomeAssistant {
                enabled: true,
                prefix: DISCOVERY_PREFIX.to_owned(),
                keep: None,
            });
            listener
        })
        .into(),
        // The page shows it.
        stats: places.page.map(|_| STATS),
        web: places.page,
        schema,
        ..Config::default()
    })
}

/// Where clients connect.
#[derive(Debug, Clone, Copy)]
struct Places {
    /// MQTT 3.1, 3.1.1 and 5.
    mqtt: SocketAddr,
    /// MQTT in WebSocket, at any path.
    websocket: SocketAddr,
    /// The page; nowhere in a build without it.
    page: Option<SocketAddr>,
}

impl Places {
    /// Takes the ports that were asked for, and else the first that are free. The sockets are held until
    /// the bridge has them, or another demo might take their ports.
    fn take(args: &DemoArgs) -> Result<(Places, Held), ToolError> {
        let mut sockets = Vec::new();
        let mut take = |asked: Option<u16>, usual: u16| {
            let (socket, address) = match asked {
                Some(port) => ports::listen_on(args.bind, port)?,
                None => ports::listen(args.bind, usual)?,
            };
            sockets.push(socket);
            Ok::<_, ToolError>(address)
        };
        let places = Places {
            mqtt: take(args.port, MQTT_PORT)?,
            websocket: take(None, WEBSOCKET_PORT)?,
            page: if cfg!(feature = "web") {
                Some(take(args.web, PAGE_PORT)?)
            } else {
                None
            },
        };
        Ok((places, Held::new(sockets)))
    }
}

fn greet(places: Places, args: &DemoArgs, services: usize) -> Result<(), ToolError> {
    let here = |address: SocketAddr| SocketAddr::new(reached(address.ip()), address.port());
    if let Some(page) = places.page {
        say(&format!("Look at http://{}", here(page)))?;
        if page.ip().is_unspecified()
            && let Some(address) = outward(page.ip())
        {
            let there = SocketAddr::new(address, page.port());
            say(&format!("On a phone in the same network: http://{there}"))?;
        }
        say("")?;
    }
    let (mqtt, websocket) = (here(places.mqtt), here(places.websocket));
    for (usual, got, what) in [
        (args.port.unwrap_or(MQTT_PORT), mqtt, "MQTT"),
        (WEBSOCKET_PORT, websocket, "WebSocket"),
    ] {
        if usual != got.port() {
            say(&format!(
                "port {usual} is taken, so {what} is on port {}",
                got.port()
            ))?;
        }
    }
    let minutes = 1440.0 / args.fast;
    let (host, port) = (mqtt.ip(), mqtt.port());
    let there = if port == MQTT_PORT && host == Ipv4Addr::LOCALHOST {
        String::new()
    } else {
        format!(" -q {mqtt}")
    };
    let words = format!(
        "\
A simulated installation of {services} devices; a day passes in {minutes:.0} minutes, with a cloud at 10:30, a
kettle at 12:30 and a grid failure at 15:00. Ctrl-C ends it.

  portal id   {PORTAL_ID}
  MQTT        {mqtt} (3.1, 3.1.1 and 5)
  WebSocket   ws://{websocket}/ (any path)

In a second window, see values as they change, switch the inverter/charger off, and on again:

  dbus-mqtt watch{there} 'system/0/Dc/#'
  dbus-mqtt set{there} vebus/276/Mode off
  dbus-mqtt set{there} vebus/276/Mode on

Or with any other client; there is no broker in between, and nothing to keep alive:

  mosquitto_sub -h {host} -p {port} -v -t 'N/{PORTAL_ID}/#'
"
    );
    words.split('\n').try_for_each(say)
}

/// The simulated installation as recordings: what its devices sent in this time.
pub(crate) fn recordings(time: Duration) -> Vec<Recording> {
    let mut installation = Installation::new(PORTAL_ID, DEVICES_MIN, None, SEED);
    let names: Vec<String> = installation.names().map(str::to_owned).collect();
    let mut recordings: Vec<Recording> = names
        .into_iter()
        .enumerate()
        .map(|(device, service)| Recording {
            service,
            items: installation.items(device).into_iter().collect(),
            ..Recording::default()
        })
        .collect();
    let mut passed = Duration::ZERO;
    while passed < time {
        passed += RECORDED_EVERY;
        for burst in installation.advance(RECORDED_EVERY) {
            let Some(recording) = recordings.get_mut(burst.device) else {
                continue;
            };
            let changes = burst.updates.into_iter().map(|update| Change {
                ts_ms: u64::try_from(passed.as_millis()).unwrap_or(u64::MAX),
                path: update.path,
                value: update.value,
                text: update.text,
            });
            recording.changes.extend(changes);
        }
    }
    recordings
}

/// Every device has a connection, with a socket at either end. A limit that cannot be raised shows
/// when they connect.
pub(crate) fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(FILES, |maximum| maximum.min(FILES));
    if limit.current.is_some_and(|current| current < wanted) {
        let raised = Rlimit {
            current: Some(wanted),
            ..limit
        };
        let _ = setrlimit(Resource::Nofile, raised);
    }
}

/// The portal id of the demo.
const PORTAL_ID: &str = "demo00c0ffee";
const MQTT_PORT: u16 = 1883;
const PAGE_PORT: u16 = 8080;
/// How often the bridge tells of itself, for the page.
const STATS: Duration = Duration::from_secs(3);
const WEBSOCKET_PORT: u16 = 9001;
/// As many devices as file descriptors and patience allow.
const DEVICES_MAX: usize = 1000;
/// How many open files that takes.
const FILES: u64 = 8192;
/// How exact the times of its recordings are.
const RECORDED_EVERY: Duration = Duration::from_millis(100);
/// Each demo has the same weather.
const SEED: u64 = 2018;
