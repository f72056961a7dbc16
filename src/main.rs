//! The program: arguments, log, signals, exit status. What it does is in the library.
#![forbid(unsafe_code)]

use std::io::Write;
use std::process::ExitCode;

#[cfg(feature = "client")]
use dbus_mqtt::cli::pages;
use dbus_mqtt::cli::{Args, Command};
use dbus_mqtt::config::{Layers, Machine};
use dbus_mqtt::error::{Fatal, one_line};
use dbus_mqtt::{logging, shell, tools};
use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

fn main() -> ExitCode {
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
        Some(Command::Demo(_)) => "warn",
        #[cfg(feature = "client")]
        Some(Command::Client(_)) => "warn",
        _ => "warn,dbus_mqtt=info",
    };
    logging::start(layers.debug(), usual, &machine)?;

    let runtime = Builder::new_current_thread().enable_all().build()?;
    let status = runtime.block_on(async {
        let (terminate, interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let (stop, stopped) = oneshot::channel();
        let shutdown = async {
            let _ = stopped.await;
        };
        tokio::select! {
            status = second_signal(terminate, interrupt, stop) => Ok(status),
            result = program(args, &layers, &machine, shutdown) => result.map(|()| ExitCode::SUCCESS),
        }
    });
    // A name server that does not answer must not keep the process.
    runtime.shutdown_background();
    status
}

async fn program(
    args: Args,
    layers: &Layers,
    machine: &Machine,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Fatal> {
    match args.command {
        None => shell::run::run(layers.resolve(machine)?, shutdown).await,
        #[cfg(feature = "demo")]
        Some(Command::Demo(args)) => tools::demo::run(args, shutdown).await.map_err(Fatal::tool),
        #[cfg(not(feature = "demo"))]
        Some(Command::Demo(_)) => Err(Fatal::NoDemo),
        #[cfg(feature = "client")]
        Some(Command::Client(command)) => {
            let config = layers.client(tools::client::client_id())?;
            Ok(tools::client::run(command, config, machine, shutdown).await?)
        }
        #[cfg(feature = "client")]
        Some(Command::Completions(args)) => {
            Ok(tools::client::print(&pages::completions(args.shell))?)
        }
        #[cfg(feature = "client")]
        Some(Command::Man) => Ok(tools::client::print(&pages::man()?)?),
        #[cfg(not(feature = "client"))]
        Some(Command::LeftOut(_)) => Err(Fatal::NoClient),
        Some(Command::Record(args)) => {
            let bus = layers.bus(machine)?;
            tools::record::run(args, &bus, shutdown)
                .await
                .map_err(Fatal::tool)
        }
        Some(Command::Replay(args)) => {
            let bus = layers.bus(machine)?;
            tools::replay::run(args, &bus, shutdown)
                .await
                .map_err(Fatal::tool)
        }
    }
}

/// Asks for a clean end at the first signal, and demands one at the second: it returns the exit
/// status that shells give to a process ended by that signal.
async fn second_signal(
    mut terminate: Signal,
    mut interrupt: Signal,
    stop: oneshot::Sender<()>,
) -> ExitCode {
    let mut stop = Some(stop);
    loop {
        let number = tokio::select! {
            _ = terminate.recv() => SignalKind::terminate().as_raw_value(),
            _ = interrupt.recv() => SignalKind::interrupt().as_raw_value(),
        };
        match stop.take() {
            Some(stop) => {
                tracing::info!("stopping; a second signal stops at once");
                // The program may be ending by itself just now.
                let _ = stop.send(());
            }
            None => return ExitCode::from(u8::try_from(128 + number).unwrap_or(1)),
        }
    }
}
