//! The program: arguments, log, signals, exit status. What it does is in the library.
#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::pin::pin;
use std::process::ExitCode;

#[cfg(feature = "client")]
use dbus_mqtt::cli::pages;
use dbus_mqtt::cli::{Args, Command};
use dbus_mqtt::config::{Config, Layers, Machine, PortalId, PortalSource, RawConfig};
use dbus_mqtt::error::{Fatal, one_line, print};
use dbus_mqtt::logging::{self, Log};
use dbus_mqtt::shell::supervisor::Supervisor;
use dbus_mqtt::{shell, tools};
use rustix::process::DumpableBehavior;
use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

fn main() -> ExitCode {
    logging::hush_panics();
    start().unwrap_or_else(|fatal| {
        // Where nobody reads stderr, the exit status still tells.
        let _ = writeln!(std::io::stderr(), "dbus-mqtt: {}", one_line(&fatal));
        ExitCode::from(fatal.exit_status())
    })
}

fn start() -> Result<ExitCode, Fatal> {
    let Some(args) = Args::parse_from_command_line(std::env::args_os())? else {
        return Ok(ExitCode::SUCCESS);
    };
    let machine = Machine::this();
    let layers = Layers::read(args.settings(), &machine)?;
    let usual = match args.command {
        // What it prints is not to drown in the log of what goes well.
        Some(Command::Demo(_) | Command::Config(_) | Command::Doctor(_)) => "warn",
        // A thousand bridges warn a thousand times; what went wrong is counted.
        Some(Command::Fleet(_)) => "error",
        #[cfg(feature = "client")]
        Some(Command::Client(_)) => "warn",
        _ => "warn,dbus_mqtt=info",
    };
    let log = logging::start(layers.debug(), usual, &machine)?;

    for sentence in &layers.unknown {
        tracing::warn!("{}", one_line(sentence));
    }
    probe_descriptors()?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let status = runtime.block_on(async {
        let signals = Signals::listen(&args)?;
        let (stop, stopped) = oneshot::channel();
        let shutdown = async {
            let _ = stopped.await;
        };
        tokio::select! {
            status = second_signal(signals, stop) => Ok(status),
            result = program(args, &layers, &machine, &log, shutdown) => result.map(|()| ExitCode::SUCCESS),
        }
    });
    // A name server that does not answer must not keep the process.
    runtime.shutdown_background();
    status
}

/// Fails where the system does not give as many descriptors as the runtime takes for itself: that would
/// panic, instead of saying so.
fn probe_descriptors() -> io::Result<()> {
    let _six = [
        UnixStream::pair()?,
        UnixStream::pair()?,
        UnixStream::pair()?,
    ];
    Ok(())
}

/// Passwords are in the memory of the bridge: no core shows it, not even one that the kernel pipes to a crash
/// logger, which a limit of 0 does not stop (core(5)), and `/proc` shows it to root alone. A debug build may be
/// looked into.
fn hide_memory() -> io::Result<()> {
    if !cfg!(debug_assertions) {
        rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    }
    Ok(())
}

async fn program(
    args: Args,
    layers: &Layers,
    machine: &Machine,
    log: &Log,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Fatal> {
    let settings = args.settings();
    match args.command {
        None => {
            let hangup = signal(SignalKind::hangup())?;
            let (tell, changes) = mpsc::unbounded_channel();
            let supervisor = Supervisor::open(machine.supervision()?);
            hide_memory()?;
            let mut shutdown = pin!(shutdown);
            let config = tokio::select! {
                config = settled(layers, machine, &supervisor) => config?,
                () = &mut shutdown => return Ok(()),
            };
            let portal_id = config.portal_id.clone();
            let bridge = shell::run::run(config, changes, shutdown, supervisor.clone());
            let again = read_again(
                hangup,
                &settings,
                machine,
                &portal_id,
                log,
                tell,
                &supervisor,
            );
            tokio::select! {
                result = bridge => result,
                () = again => Ok(()),
            }
        }
        #[cfg(feature = "demo")]
        Some(Command::Demo(args)) => tools::demo::run(args, layers.schema()?, machine, shutdown)
            .await
            .map_err(Fatal::tool),
        #[cfg(not(feature = "demo"))]
        Some(Command::Demo(_) | Command::Fleet(_)) => Err(Fatal::NoDemo),
        #[cfg(feature = "demo")]
        Some(Command::Fleet(args)) => tools::fleet::run(&args, layers, machine, shutdown)
            .await
            .map_err(Fatal::tool),
        Some(Command::Config(_)) => print(layers.dump(machine)?.as_bytes()),
        Some(Command::Doctor(args)) => tools::doctor::run(&args, layers, machine, shutdown)
            .await
            .map_err(Fatal::tool),
        #[cfg(feature = "client")]
        Some(Command::Client(command)) => {
            let config = layers.client(tools::session::client_id())?;
            Ok(tools::client::run(command, config, machine, shutdown).await?)
        }
        #[cfg(feature = "client")]
        Some(Command::Completions(args)) => print(&pages::completions(args.shell)),
        #[cfg(feature = "client")]
        Some(Command::Man(args)) => match args.out {
            Some(folder) => Ok(pages::write_all(&folder)?),
            None => print(&pages::man(args.command.as_deref())?),
        },
        #[cfg(not(feature = "client"))]
        Some(Command::LeftOut(_)) => Err(Fatal::NoClient),
        Some(Command::Record(args)) => {
            let bus = layers.bus(machine)?;
            tools::record::run(args, &bus, &*layers.schema()?, shutdown)
                .await
                .map_err(Fatal::tool)
        }
        Some(Command::Schema(args)) => tools::schema::run(&args, &*layers.schema()?),
        Some(Command::Replay(args)) => {
            let bus = layers.bus(machine)?;
            tools::replay::run(args, &bus, &*layers.schema()?, machine, shutdown)
                .await
                .map_err(Fatal::tool)
        }
    }
}

/// The configuration, with the portal id that the bus has where nobody else knows it (§6).
async fn settled(
    layers: &Layers,
    machine: &Machine,
    supervisor: &Supervisor,
) -> Result<Config, Fatal> {
    let source = layers.portal_id(machine)?;
    // A mistake is told before anything is waited for, and is the only line it leads to.
    let resolve = |portal_id: &PortalId| layers.resolve(machine, portal_id)?.with_secrets();
    let config = resolve(source.id().unwrap_or(&PortalId::unknown()))?;
    tracing::info!("dbus-mqtt {}", env!("CARGO_PKG_VERSION"));
    if let Some(doubt) = config.vrm.as_ref().and_then(|vrm| vrm.doubt(machine)) {
        tracing::warn!("{doubt}");
    }
    match source {
        PortalSource::Set(_) => Ok(config),
        PortalSource::Device(portal_id, from) => {
            tracing::info!("portal id {portal_id}, from {from}");
            Ok(config)
        }
        PortalSource::Bus => {
            let portal_id = shell::portal::ask(&config.bus, supervisor).await?;
            Ok(resolve(&portal_id)?)
        }
    }
}

/// Reads the settings and the schema again whenever a signal asks for it (SIGHUP). All or nothing: a
/// mistake is told in one line, and everything stays as it was.
async fn read_again(
    mut hangup: Signal,
    settings: &RawConfig,
    machine: &Machine,
    portal_id: &PortalId,
    log: &Log,
    tell: mpsc::UnboundedSender<Config>,
    supervisor: &Supervisor,
) {
    while hangup.recv().await.is_some() {
        supervisor.reloading();
        let (settings, machine_too) = (settings.clone(), machine.clone());
        let running = portal_id.clone();
        // Files, and on old devices a command: the values flow on meanwhile.
        let reading = tokio::task::spawn_blocking(move || {
            let layers = Layers::read(settings, &machine_too)?;
            let source = layers.portal_id(&machine_too)?;
            // What the bus said holds until the next start.
            let portal_id = source.id().unwrap_or(&running);
            Ok((layers.debug(), layers.resolve(&machine_too, portal_id)?))
        });
        // It does not panic, and is not cancelled before the runtime is.
        let Ok(read) = reading.await else { break };
        let read: Result<_, Fatal> = read;
        let applied = read.and_then(|(debug, config)| {
            log.set(debug, machine)?;
            Ok(config)
        });
        match applied {
            // The bridge is ending where it takes none any more.
            Ok(config) => drop(tell.send(config)),
            Err(error) => {
                tracing::error!("settings not reloaded: {}", one_line(&error));
                supervisor.reloaded();
            }
        }
    }
    std::future::pending::<()>().await;
}

/// The signals that end the program.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// Its terminal is gone. For the bridge, which has none, it has another meaning.
    hangup: Option<Signal>,
}

impl Signals {
    fn listen(args: &Args) -> std::io::Result<Signals> {
        let ends = args.command.is_some() && !is_hangup_ignored();
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: ends.then(|| signal(SignalKind::hangup())).transpose()?,
        })
    }

    async fn next(&mut self) -> SignalKind {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.terminate.recv() => SignalKind::terminate(),
            _ = self.interrupt.recv() => SignalKind::interrupt(),
            _ = hangup => SignalKind::hangup(),
        }
    }
}

/// Whether the program is meant to outlive its terminal, as `nohup` has it.
fn is_hangup_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & 1 == 1) // the lowest bit is signal 1, SIGHUP
}

/// Asks for a clean end at the first signal, and demands one at the second: it returns the exit
/// status that shells give to a process ended by that signal.
async fn second_signal(mut signals: Signals, stop: oneshot::Sender<()>) -> ExitCode {
    let mut stop = Some(stop);
    loop {
        let number = signals.next().await.as_raw_value();
        match stop.take() {
            Some(stop) => {
                // The program may be ending by itself just now.
                let _ = stop.send(());
            }
            None => return ExitCode::from(u8::try_from(128 + number).unwrap_or(1)),
        }
    }
}
