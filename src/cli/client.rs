//! The arguments of the client for people: `get`, `set`, `watch`, `devices` and `forget`.

use clap::Subcommand;

use super::positive;
use crate::config::setting::Setting;
use crate::config::{PortalId, RawConfig, whole};

/// What a client of the broker does.
#[derive(Debug, Clone, PartialEq, Subcommand)]
pub enum ClientCommand {
    /// List the devices that a bridge publishes
    Devices(DevicesArgs),
    /// Print values: dbus-mqtt get system/0/Dc/Battery/Soc
    Get(GetArgs),
    /// Print values as they change: dbus-mqtt watch 'battery/+/Dc/0/#'
    Watch(WatchArgs),
    /// Change a value, and print what the device made of it: dbus-mqtt set vebus/276/Mode 3
    Set(SetArgs),
    /// Clear all that a broker retains of an installation that is gone, such as after a trial
    Forget(ForgetArgs),
}

/// Where the values are. The flags, their variables and their file are those of the bridge.
#[derive(Debug, Clone, PartialEq, clap::Args)]
pub struct BrokerArgs {
    /// The settings of the bridge that a client has.
    #[command(flatten)]
    pub settings: ClientSettings,
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

/// Those settings of the bridge that say how to reach the broker, and whose values are meant.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ClientSettings(pub RawConfig);

impl ClientSettings {
    fn all() -> impl Iterator<Item = &'static Setting> {
        RawConfig::settings().filter(|setting| CLIENT_KEYS.contains(&setting.key))
    }
}

impl clap::Args for ClientSettings {
    fn augment_args(command: clap::Command) -> clap::Command {
        let arguments = ClientSettings::all().filter_map(Setting::arg);
        let arguments = arguments.map(|argument| argument.help_heading(BROKER));
        let help = "VRM portal id of the installation (default: the one that is on the broker)";
        let config = "Read the settings of the broker from this file of the bridge";
        command
            .args(arguments)
            .mut_arg("portal-id", |argument| argument.help(help).long_help(help))
            .mut_arg("config", |argument| argument.help(config).long_help(config))
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        ClientSettings::augment_args(command)
    }
}

impl clap::FromArgMatches for ClientSettings {
    fn from_arg_matches(matches: &clap::ArgMatches) -> Result<ClientSettings, clap::Error> {
        let raw = RawConfig::from_matches(ClientSettings::all(), matches);
        Ok(ClientSettings(raw))
    }

    fn update_from_arg_matches(&mut self, matches: &clap::ArgMatches) -> Result<(), clap::Error> {
        *self = ClientSettings::from_arg_matches(matches)?;
        Ok(())
    }
}

/// What a client has of the bridge's settings.
const CLIENT_KEYS: [&str; 12] = [
    "mqtt-server",
    "mqtt-user",
    "mqtt-password",
    "mqtt-password-file",
    "allow-readable-secrets",
    "mqtt-certificate",
    "mqtt-client-certificate",
    "mqtt-client-key",
    "mqtt-server-name",
    "mqtt-prefix",
    "portal-id",
    "config",
];
const BROKER: &str = "Where the values are";
