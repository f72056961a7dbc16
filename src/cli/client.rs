//! The arguments of the client for people: `get`, `set`, `watch`, `devices` and `forget`.

use std::path::PathBuf;

use clap::Subcommand;

use super::positive;
use crate::config::{PortalId, RawBroker, RawConfig, Secret, whole};

/// What a client of the broker does.
#[derive(Debug, Clone, PartialEq, Subcommand)]
pub enum ClientCommand {
    /// List the devices that a bridge publishes
    Devices(DevicesArgs),
    /// Print values: dbus-mqtt get system/0/Dc/Battery/Soc
    Get(GetArgs),
    /// Print values as they change: dbus-mqtt watch 'battery/+/Dc/0/#'
    Watch(WatchArgs),
    /// Change a value, and tell what the device made of it: dbus-mqtt set vebus/276/Mode 3
    Set(SetArgs),
    /// Clear all that a broker retains of an installation that is gone, such as after a trial
    Forget(ForgetArgs),
}

/// Where the values are. The flags, their variables and their file are those of the bridge.
#[derive(Debug, Clone, PartialEq, clap::Args)]
pub struct BrokerArgs {
    /// The MQTT broker (default: 127.0.0.1:1883)
    #[arg(short = 'q', long, value_name = "HOST[:PORT]", help_heading = BROKER)]
    pub mqtt_server: Option<String>,
    /// User name, if the broker wants one
    #[arg(short = 'u', long, value_name = "NAME", help_heading = BROKER)]
    pub mqtt_user: Option<String>,
    /// Password. Other users of this computer can see it in the process list: better use
    /// --mqtt-password-file
    #[arg(short = 'P', long, value_name = "PASSWORD", help_heading = BROKER)]
    pub mqtt_password: Option<Secret>,
    /// File with the password in its first line
    #[arg(long, value_name = "FILE", help_heading = BROKER)]
    pub mqtt_password_file: Option<PathBuf>,
    /// Take the password from a file that other users can read too
    #[arg(long, help_heading = BROKER)]
    pub allow_readable_secrets: bool,
    /// Certificate of the broker, for an encrypted connection
    #[arg(short = 'c', long, value_name = "CA.pem", help_heading = BROKER)]
    pub mqtt_certificate: Option<PathBuf>,
    /// Our own certificate, where the broker wants one
    #[arg(long, value_name = "CERT.pem", help_heading = BROKER)]
    pub mqtt_client_certificate: Option<PathBuf>,
    /// The key of our own certificate
    #[arg(long, value_name = "KEY.pem", help_heading = BROKER)]
    pub mqtt_client_key: Option<PathBuf>,
    /// The name in the broker's certificate, where that is not its host
    #[arg(long, value_name = "NAME", help_heading = BROKER)]
    pub mqtt_server_name: Option<String>,
    /// Text in front of every topic, such as venus/, where the bridge puts one there (default: none)
    #[arg(long, value_name = "TEXT", help_heading = BROKER)]
    pub mqtt_prefix: Option<String>,
    /// VRM portal id of the installation (default: the one that is on the broker)
    #[arg(long, value_name = "ID", help_heading = BROKER)]
    pub portal_id: Option<String>,
    /// Read the settings of the broker from this file of the bridge
    #[arg(long, value_name = "FILE", help_heading = BROKER)]
    pub config: Option<PathBuf>,
    /// How long to wait for an answer
    #[arg(long, value_name = "SECONDS", value_parser = positive, default_value_t = 10.0, allow_negative_numbers = true, help_heading = BROKER)]
    pub timeout: f64,
}

/// How values are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::Args)]
pub struct FormArgs {
    /// Print a line of JSON for each value
    #[arg(long)]
    pub json: bool,
    /// Print only the value, without topic, unit and meaning
    #[arg(long, conflicts_with = "json")]
    pub raw: bool,
}

/// What to list.
#[derive(Debug, Clone, PartialEq, clap::Args)]
pub struct DevicesArgs {
    /// Print a line of JSON for each device
    #[arg(long)]
    pub json: bool,
    /// Where.
    #[command(flatten)]
    pub broker: BrokerArgs,
}

/// What to print.
#[derive(Debug, Clone, PartialEq, clap::Args)]
pub struct GetArgs {
    /// Topics after the portal id, such as system/0/Dc/Battery/Soc. One with others below it, such
    /// as battery/288/Dc, stands for all of them; + and # are those of MQTT
    #[arg(value_name = "TOPIC", required = true)]
    pub topics: Vec<String>,
    /// How.
    #[command(flatten)]
    pub form: FormArgs,
    /// Where.
    #[command(flatten)]
    pub broker: BrokerArgs,
}

/// What to watch.
#[derive(Debug, Clone, PartialEq, clap::Args)]
pub struct WatchArgs {
    /// Topics after the portal id, such as battery/+/Soc; + and # are those of MQTT, and a topic
    /// without them stands for all below it, too
    #[arg(value_name = "TOPIC", required = true)]
    pub topics: Vec<String>,
    /// Stop after so many lines (default: run until Ctrl-C)
    #[arg(long, value_name = "N", value_parser = whole::<u64>)]
    pub count: Option<u64>,
    /// Stop after so many seconds
    #[arg(long = "for", value_name = "SECONDS", value_parser = positive, allow_negative_numbers = true)]
    pub seconds: Option<f64>,
    /// How.
    #[command(flatten)]
    pub form: FormArgs,
    /// Where.
    #[command(flatten)]
    pub broker: BrokerArgs,
}

/// What to write.
#[derive(Debug, Clone, PartialEq, clap::Args)]
pub struct SetArgs {
    /// The topic after the portal id, such as vebus/276/Mode
    #[arg(value_name = "TOPIC")]
    pub topic: String,
    /// The value: a number, a word, or JSON. Where a value has names for its numbers, they are
    /// taken too
    #[arg(value_name = "VALUE", allow_negative_numbers = true)]
    pub value: String,
    /// How.
    #[command(flatten)]
    pub form: FormArgs,
    /// Where.
    #[command(flatten)]
    pub broker: BrokerArgs,
}

/// What to clear.
#[derive(Debug, Clone, PartialEq, clap::Args)]
pub struct ForgetArgs {
    /// VRM portal id of the installation, such as e0ff50a097c0
    #[arg(value_name = "PORTAL-ID", value_parser = portal_id)]
    pub installation: PortalId,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
    /// Clear it although a bridge is online that will publish it again
    #[arg(long)]
    pub online: bool,
    /// Where.
    #[command(flatten)]
    pub broker: BrokerArgs,
}

fn portal_id(text: &str) -> Result<PortalId, String> {
    PortalId::new(text).map_err(|error| error.to_string())
}

impl ClientCommand {
    /// Where the values are.
    pub fn broker(&self) -> &BrokerArgs {
        match self {
            ClientCommand::Devices(args) => &args.broker,
            ClientCommand::Get(args) => &args.broker,
            ClientCommand::Watch(args) => &args.broker,
            ClientCommand::Set(args) => &args.broker,
            ClientCommand::Forget(args) => &args.broker,
        }
    }
}

impl BrokerArgs {
    /// The settings of the bridge that these are.
    pub fn settings(&self) -> RawConfig {
        let args = self.clone();
        RawConfig {
            first: RawBroker {
                server: args.mqtt_server,
                user: args.mqtt_user,
                password: args.mqtt_password,
                password_file: args.mqtt_password_file,
                certificate: args.mqtt_certificate,
                client_certificate: args.mqtt_client_certificate,
                client_key: args.mqtt_client_key,
                server_name: args.mqtt_server_name,
                prefix: args.mqtt_prefix,
                ..RawBroker::default()
            },
            allow_readable_secrets: args.allow_readable_secrets.then_some(true),
            portal_id: args.portal_id,
            config: args.config,
            ..RawConfig::default()
        }
    }
}

const BROKER: &str = "Where the values are";
