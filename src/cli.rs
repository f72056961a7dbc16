//! The command line: the flags of [`RawConfig`], and the programs around the bridge (§7).
//!
//! Nothing is judged here that could also stand in the environment or in a file: that is
//! [`crate::config`]'s.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

#[cfg(feature = "client")]
pub use self::client::ClientCommand;
use crate::config::{ConfigError, RawConfig, arguments_error, whole};
use crate::error::{Fatal, print, unless_unread};

#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "client")]
pub mod pages;

/// The arguments.
#[derive(Debug, Parser)]
#[command(
    name = "dbus-mqtt",
    version,
    about = ABOUT,
    long_about = None,
    after_help = after_help(),
    max_term_width = 100,
    args_override_self = true,
    override_usage = "dbus-mqtt [OPTIONS]\n       dbus-mqtt <COMMAND> [OPTIONS]"
)]
pub struct Args {
    /// The settings of the bridge.
    #[command(flatten)]
    pub settings: RawConfig,
    /// What to do instead of running the bridge.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// The programs around the bridge.
#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant, reason = "there is only one of it")]
pub enum Command {
    /// Try it on this computer: a simulated installation, and the bridge to which your clients connect
    #[cfg_attr(not(feature = "demo"), command(hide = true))]
    Demo(DemoArgs),
    /// Simulate many installations, to see how many a broker or a cluster carries
    #[cfg_attr(not(feature = "demo"), command(hide = true))]
    #[command(after_help = FLEET_HELP)]
    Fleet(Box<FleetArgs>),
    /// The client for people.
    #[cfg(feature = "client")]
    #[command(flatten)]
    Client(ClientCommand),
    /// Record the services of a bus into files, for a bug report or a test
    Record(RecordArgs),
    /// Play recordings on a bus, as if the devices were there
    Replay(ReplayArgs),
    /// Print the effective settings and where each comes from; passwords are not shown
    Config(Box<ConfigArgs>),
    /// Find out why values do not flow: checks settings, bus, brokers and the running bridge, and says
    /// what to do
    #[command(after_help = DOCTOR_HELP)]
    Doctor(Box<DoctorArgs>),
    /// Show what values there are: types, units, ranges, and what their numbers mean
    Schema(SchemaArgs),
    /// Print a script with which a shell completes these commands and flags
    #[cfg(feature = "client")]
    #[command(after_help = COMPLETIONS_HELP)]
    Completions(CompletionsArgs),
    /// Print the manual page of the program or of a command: dbus-mqtt man get | man -l -
    #[cfg(feature = "client")]
    Man(ManArgs),
    /// Not in this build.
    #[cfg(not(feature = "client"))]
    #[command(name = "get", aliases = ["set", "watch", "devices", "forget", "completions", "man"], hide = true)]
    LeftOut(LeftOutArgs),
}

/// The settings to print.
#[derive(Debug, Clone, PartialEq, clap::Args)]
pub struct ConfigArgs {
    /// The settings of the bridge.
    #[command(flatten)]
    pub settings: RawConfig,
}

/// What to check.
#[derive(Debug, Clone, PartialEq, clap::Args)]
pub struct DoctorArgs {
    /// The settings of the bridge.
    #[command(flatten)]
    pub settings: RawConfig,
    /// Print a line of JSON for each check
    #[arg(long)]
    pub json: bool,
    /// Check only whether the bridge answers at each broker, as a health check does every minute
    #[arg(long)]
    pub quick: bool,
    /// How long each check may take
    #[arg(long, value_name = "SECONDS", value_parser = positive, default_value_t = 10.0, allow_negative_numbers = true)]
    pub timeout: f64,
}

/// What the demo is to be.
#[derive(Debug, Clone, PartialEq, clap::Args)]
pub struct DemoArgs {
    /// How many devices to simulate: the usual 12, or more
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = whole::<u32>)]
    pub devices: u32,
    /// How many values a second change, over all devices (default: as a real installation does)
    #[arg(long, value_name = "UPDATES_PER_S", value_parser = positive, allow_negative_numbers = true)]
    pub rate: Option<f64>,
    /// TCP port for MQTT clients (default: 1883, or the next one that is free)
    #[arg(long, value_name = "PORT", value_parser = port)]
    pub port: Option<u16>,
    /// How many seconds pass in one: with 60, a day takes 24 minutes. Each day has a cloud at 10:30, a
    /// kettle at 12:30, and a grid failure at 15:00
    #[arg(long, value_name = "X", default_value_t = 360.0, value_parser = positive, allow_negative_numbers = true)]
    pub fast: f64,
    /// Set up the devices in Home Assistant, which must use the demo's broker
    #[arg(long)]
    pub home_assistant: bool,
    /// What clients that ask for it are told of the keep-alive, in seconds. Values flow for as long as somebody
    /// subscribes to them
    #[arg(short = 'k', long, value_name = "SECONDS", default_value_t = 0, value_parser = whole::<u32>)]
    pub keep_alive: u32,
    /// Port of the page (default: 8080, or the next one that is free)
    #[arg(long, value_name = "PORT", value_parser = port)]
    pub web: Option<u16>,
    /// Address of the page and of MQTT, such as 0.0.0.0 to look from a phone
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub bind: IpAddr,
    /// Stop after so many seconds (default: run until Ctrl-C)
    #[arg(long, value_name = "N", value_parser = whole::<u64>)]
    pub seconds: Option<u64>,
    /// What else there is to know of values.
    #[command(flatten)]
    pub overlays: Overlays,
}

/// What the fleet is to be.
#[derive(Debug, Clone, PartialEq, clap::Args)]
pub struct FleetArgs {
    /// How many installations
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = whole::<u32>)]
    pub count: u32,
    /// The broker, as with --mqtt-server
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "mqtt-server")]
    pub broker: Option<String>,
    /// Recordings, or directories of them, that every installation plays (default: the installation of the demo)
    #[arg(long = "recording", value_name = "FILE|DIR")]
    pub recordings: Vec<PathBuf>,
    /// How many values of each installation change in a second (default: as recorded)
    #[arg(long, value_name = "UPDATES_PER_S", value_parser = positive, allow_negative_numbers = true)]
    pub rate: Option<f64>,
    /// Play each recording once, from its beginning, and keep the last values (default: again and again, each
    /// installation from another moment)
    #[arg(long)]
    pub once: bool,
    /// How many installations start in a second
    #[arg(long, value_name = "N", default_value_t = 100.0, value_parser = positive, allow_negative_numbers = true)]
    pub start_rate: f64,
    /// What the portal ids begin with, before a number of six digits
    #[arg(long, value_name = "NAME", default_value = "fleet")]
    pub name: String,
    /// Stop after so many seconds (default: run until Ctrl-C)
    #[arg(long = "for", value_name = "SECONDS", value_parser = positive, allow_negative_numbers = true)]
    pub seconds: Option<f64>,
    /// Print lines of JSON, for other programs: also one for each connection that is made, lost or refused
    #[arg(long)]
    pub json: bool,
    /// The settings of the bridge.
    #[command(flatten)]
    pub settings: RawConfig,
}

/// What to record.
#[derive(Debug, Clone, PartialEq, clap::Args)]
pub struct RecordArgs {
    /// The D-Bus to record from (default: the one of this device)
    #[arg(short = 'b', long, value_name = "ADDRESS")]
    pub dbus: Option<String>,
    /// Directory for the files, one for each service
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub out: PathBuf,
    /// Stop after so many seconds (default: run until Ctrl-C)
    #[arg(long, value_name = "N", value_parser = whole::<u64>)]
    pub seconds: Option<u64>,
    /// What else there is to know of values: secrets above all.
    #[command(flatten)]
    pub overlays: Overlays,
    /// The services, such as com.victronenergy.battery.ttyO0 (default: all)
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
}

/// What to replay.
#[derive(Debug, Clone, PartialEq, clap::Args)]
pub struct ReplayArgs {
    /// The D-Bus to play on (default: the one of this device)
    #[arg(short = 'b', long, value_name = "ADDRESS")]
    pub dbus: Option<String>,
    /// How fast: 1 is as it was recorded, 10 is ten times as fast, inf is without pauses
    #[arg(long, value_name = "X", value_parser = positive, allow_negative_numbers = true, default_value_t = 1.0)]
    pub speed: f64,
    /// Begin again at the end
    #[arg(long = "loop")]
    pub repeat: bool,
    /// What else there is to know of values.
    #[command(flatten)]
    pub overlays: Overlays,
    /// Recordings, or directories of them
    #[arg(value_name = "FILE|DIR", required = true)]
    pub files: Vec<PathBuf>,
}

/// What is known of values, besides the built-in schema.
#[derive(Debug, Clone, Default, PartialEq, clap::Args)]
pub struct Overlays {
    /// Lay the schema files of this directory over the built-in schema; may be given several times
    #[arg(long = "schema", value_name = "DIR")]
    pub directories: Vec<PathBuf>,
}

impl Overlays {
    /// As a setting: `None` leaves it to the environment.
    fn setting(&self) -> Option<Vec<PathBuf>> {
        let given = !self.directories.is_empty();
        given.then(|| self.directories.clone())
    }
}

/// What to show of the schema.
#[derive(Debug, Clone, PartialEq, clap::Args)]
#[command(arg_required_else_help = true)]
pub struct SchemaArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: SchemaCommand,
    /// Lay the schema files of this directory over the built-in schema; may be given several times
    #[arg(long = "schema", value_name = "DIR", global = true)]
    pub overlays: Vec<PathBuf>,
    /// Print JSON, for other programs
    #[arg(long, global = true)]
    pub json: bool,
}

/// What to do with the schema.
#[derive(Debug, Clone, PartialEq, Subcommand)]
pub enum SchemaCommand {
    /// List all service types
    List,
    /// Show the values of one service type
    Show {
        /// The service type, such as vebus; _default is what every service may have
        #[arg(value_name = "TYPE")]
        service_type: String,
    },
    /// Find the values with a word in their path, description or labels
    Find {
        /// What to search for
        #[arg(value_name = "WORD")]
        word: String,
    },
    /// Check the schema files of a directory for mistakes
    Check {
        /// The directory
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
    /// Print the whole schema as a document
    #[command(hide = true)]
    Docs,
}

/// Which shell.
#[cfg(feature = "client")]
#[derive(Debug, Clone, PartialEq, clap::Args)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub shell: clap_complete::Shell,
}

/// Which manual page.
#[cfg(feature = "client")]
#[derive(Debug, Clone, PartialEq, clap::Args)]
pub struct ManArgs {
    /// The command (default: the program itself)
    #[arg(value_name = "COMMAND", value_parser = pages::page_name)]
    pub command: Option<String>,
    /// Write the pages of the program and of every command into this directory
    #[arg(long, value_name = "DIR", conflicts_with = "command")]
    pub out: Option<PathBuf>,
}

/// The arguments of a command that this build does not have.
#[cfg(not(feature = "client"))]
#[derive(Debug, Clone, PartialEq, clap::Args)]
pub struct LeftOutArgs {
    /// Whatever they are
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub rest: Vec<OsString>,
}

impl Args {
    /// Takes the arguments apart. `None` where they ask for help or version, which is printed.
    pub fn parse_from_command_line(
        arguments: impl IntoIterator<Item = OsString>,
    ) -> Result<Option<Args>, Fatal> {
        match Args::try_parse_from(arguments) {
            Ok(args) if args.mixes_bridge_and_command() => Err(ConfigError::MixedArguments.into()),
            Ok(args) => Ok(Some(args)),
            Err(answer) if !answer.use_stderr() => {
                unless_unread(answer.print()).map_err(Fatal::Output)?;
                Ok(None)
            }
            // A command that has commands of its own was given none: help says which.
            Err(answer) if answer.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
                print(answer.render().to_string().as_bytes())?;
                Ok(None)
            }
            Err(error) => Err(arguments_error(&error).into()),
        }
    }

    /// A setting of the bridge before a command would be without effect.
    fn mixes_bridge_and_command(&self) -> bool {
        self.command.is_some() && self.settings.clone().without("debug") != RawConfig::default()
    }

    /// The settings, with those that were given to a command instead.
    pub fn settings(&self) -> RawConfig {
        let settings = self.settings.clone();
        match &self.command {
            None => settings,
            Some(Command::Demo(demo)) => settings.with_some("schema", demo.overlays.setting()),
            Some(Command::Record(record)) => settings
                .with_some("dbus", record.dbus.clone())
                .with_some("schema", record.overlays.setting()),
            Some(Command::Replay(replay)) => settings
                .with_some("dbus", replay.dbus.clone())
                .with_some("schema", replay.overlays.setting()),
            Some(Command::Config(config)) => config.settings.clone(),
            Some(Command::Doctor(doctor)) => doctor.settings.clone(),
            Some(Command::Fleet(fleet)) => {
                (fleet.settings.clone()).with_some("mqtt-server", fleet.broker.clone())
            }
            Some(Command::Schema(schema)) => {
                let given = !schema.overlays.is_empty();
                settings.with_some("schema", given.then(|| schema.overlays.clone()))
            }
            #[cfg(feature = "client")]
            Some(Command::Client(client)) => {
                let debug = self.settings.get("debug").cloned();
                client.broker().settings.0.clone().with_some("debug", debug)
            }
            #[cfg(feature = "client")]
            Some(Command::Completions(_) | Command::Man(_)) => settings,
            #[cfg(not(feature = "client"))]
            Some(Command::LeftOut(_)) => settings,
        }
    }
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(number) if number > 0.0 => Ok(number),
        _ => Err(format!("{text:?} is not a number greater than 0")),
    }
}

fn port(text: &str) -> Result<u16, String> {
    match whole(text)? {
        0 => Err("0 is not a port".to_owned()),
        number => Ok(number),
    }
}

const ABOUT: &str = "\
Publishes the values of a Victron GX device over MQTT, and carries out requests.
Without a command it runs the bridge, until Ctrl-C or until it is told to stop.";

/// What follows the options: where else settings come from, and examples of what this build can do.
fn after_help() -> String {
    let mut help = String::from(SOURCES);
    let mut example = |built: bool, text: &str| {
        if built {
            help.push_str(text);
        }
    };
    example(cfg!(feature = "demo"), DEMO_EXAMPLE);
    example(true, EXAMPLES);
    example(cfg!(feature = "client"), CLIENT_EXAMPLES);
    help
}

const DOCTOR_HELP: &str = "\
Run it as the user that the bridge runs as, with the settings of the bridge. It changes nothing: it
asks the services for their values, sends a message to itself, and asks the running bridge for its
values once, as every client does. The exit status is 0 if nothing is wrong, else 1.

Examples:
  dbus-mqtt doctor --config /data/conf/dbus-mqtt.toml
  dbus-mqtt doctor -q 192.168.1.5 --json
  dbus-mqtt doctor --quick || echo 'the bridge does not answer'";

const FLEET_HELP: &str = "\
Each installation is a bridge as it runs on a device, but for its bus, which is in memory: it has a
portal id, a client id, a session, a last will and waits before it reconnects. The settings are those of
the bridge; {portal-id} in them is the one of each installation. As with every bridge, values flow for
as long as a client asks for them: --keep-alive 0 has them flow always. Writes are refused.

A line every 5 seconds says how things are; the last lines, when connections came back after they were lost, and
why they were. At the end what was published is cleared. The exit status is 0 if all installations
were connected at the end, else 1.

Examples:
  dbus-mqtt fleet --count 1000 --broker 127.0.0.1:1883 --keep-alive 0 --for 120
  dbus-mqtt fleet --count 50 --broker cluster:1883 --recording report --rate 20";

const SOURCES: &str = "\
Where settings come from, the first that says something wins:
  1. the options above
  2. the environment: DBUS_MQTT_ and the option in capitals, without its mqtt-,
     such as DBUS_MQTT_SERVER, DBUS_MQTT_PASSWORD_FILE or DBUS_MQTT_KEEP_ALIVE
  3. the file given with --config: the options without dashes in front, such as keep-alive = 60

Examples:";

const DEMO_EXAMPLE: &str = "
  See it work, nothing else needed:
    dbus-mqtt demo";

const EXAMPLES: &str = "
  On the GX device itself, to the broker on it:
    dbus-mqtt
  To a broker at home that wants a password:
    dbus-mqtt -q 192.168.1.5 -u boat --mqtt-password-file /data/conf/mqtt-password
  With everything in one file:
    dbus-mqtt --config /data/conf/dbus-mqtt.toml
  Ten minutes of all devices, for a bug report:
    dbus-mqtt record --seconds 600 --out report";

const CLIENT_EXAMPLES: &str = "
  List devices, from anywhere that can reach the broker:
    dbus-mqtt devices -q 192.168.1.5
  The charge of all batteries, as it changes:
    dbus-mqtt watch -q 192.168.1.5 'battery/+/Soc'";

#[cfg(feature = "client")]
const COMPLETIONS_HELP: &str = "\
Examples:
  bash:  dbus-mqtt completions bash > ~/.local/share/bash-completion/completions/dbus-mqtt
  zsh:   dbus-mqtt completions zsh > ~/.zfunc/_dbus-mqtt    (a folder of your fpath)
  fish:  dbus-mqtt completions fish > ~/.config/fish/completions/dbus-mqtt.fish";
