//! What a setting is: [`Setting`] declares one, and everything else is made of that: its flag, its variable,
//! its key in the settings file, its help, its line in `dbus-mqtt.example.toml` and in
//! `docs/configuration.md`, and what a reload does about it. The declarations are in [`super::settings`].

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser, ValueParser};
use clap::{Arg, ArgAction};

use super::broker::MqttVersion;
use super::error::Problem;
use super::secret::Secret;
use super::text::{paragraphs, quoted, truth, whole};
use crate::model::access::{Access, AccessRule};
use crate::model::filter::{Filter, TopicFilter};
use crate::model::throttle::ThrottleRule;

/// One setting, declared once. The functions of this module make one, such as
/// `seconds("ping").flag("SECONDS").within(1, 65_535).or("30")`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a separate fact")]
pub struct Setting {
    /// Its flag without dashes, and its key at the top of the settings file.
    pub key: &'static str,
    /// What its value looks like.
    pub kind: Kind,
    /// The letter of its short flag.
    pub short: Option<char>,
    /// What stands for the value in help; without one it has no flag, only a key.
    pub value: Option<&'static str>,
    /// The default, as TOML.
    pub default: Option<&'static str>,
    /// What holds without it, in words, where that is not a constant.
    pub without: Option<&'static str>,
    /// A value as TOML, where there is no default to show.
    pub example: Option<&'static str>,
    /// The smallest number that is accepted.
    pub min: u64,
    /// The largest.
    pub max: u64,
    /// Whether SIGHUP takes it over; else it needs a restart.
    pub reload: bool,
    /// Whether `{portal-id}` in it stands for the portal id.
    pub per_portal: bool,
    /// Whether it is also a flag of every command.
    pub global: bool,
    /// Whether a text is a list with commas, to which each further flag adds.
    pub several: bool,
    /// Whether the settings file cannot have it.
    pub no_key: bool,
    /// The heading above it.
    pub section: &'static str,
    /// What it does: the first paragraph is the help of `-h`, all of it that of `--help`.
    pub text: &'static str,
}

/// What the value of a setting looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Truth,
    /// The same; as a flag without a value it is `true`.
    Switch,
    /// A whole number.
    Number,
    /// A whole number of seconds.
    Seconds,
    /// A whole number of milliseconds.
    Milliseconds,
    /// Any text.
    Text,
    /// One of these words; one that is a number may stand without quotes.
    Word(&'static [&'static str]),
    /// A text that is never shown.
    Secret,
    /// The name of a file.
    File,
    /// Names of folders; the flag may be given several times.
    Folders,
    /// A list of topic filters.
    Filters,
    /// Characters, and what each becomes.
    Characters,
    /// Topic filters, each with an interval and a deadband.
    Throttle,
}

/// The value of a setting as it is written somewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// Of [`Kind::Truth`] and [`Kind::Switch`].
    Truth(bool),
    /// Of [`Kind::Number`], [`Kind::Seconds`] and [`Kind::Milliseconds`].
    Number(u64),
    /// Of [`Kind::Text`] and [`Kind::Word`].
    Text(String),
    /// Of [`Kind::Secret`].
    Secret(Secret),
    /// Of [`Kind::File`].
    File(PathBuf),
    /// Of [`Kind::Folders`].
    Folders(Vec<PathBuf>),
    /// Of [`Kind::Filters`].
    List(Vec<String>),
    /// Of [`Kind::Characters`].
    Pairs(BTreeMap<String, String>),
    /// Of [`Kind::Throttle`]: filter, interval and deadband.
    Throttle(Vec<[String; 3]>),
}

/// `true` or `false`.
pub const fn truth_of(key: &'static str) -> Setting {
    Setting::new(key, Kind::Truth)
}

/// The same; as a flag without a value it is `true`.
pub const fn switch(key: &'static str) -> Setting {
    Setting::new(key, Kind::Switch).flag("true|false")
}

/// A whole number.
pub const fn number(key: &'static str) -> Setting {
    Setting::new(key, Kind::Number)
}

/// A number of things that cannot be none.
pub const fn count(key: &'static str) -> Setting {
    Setting::new(key, Kind::Number).within(1, usize::MAX as u64)
}

/// A whole number of seconds.
pub const fn seconds(key: &'static str) -> Setting {
    Setting::new(key, Kind::Seconds)
}

/// A whole number of milliseconds.
pub const fn milliseconds(key: &'static str) -> Setting {
    Setting::new(key, Kind::Milliseconds)
}

/// Any text.
pub const fn text(key: &'static str) -> Setting {
    Setting::new(key, Kind::Text)
}

/// One of these words.
pub const fn word(key: &'static str, words: &'static [&'static str]) -> Setting {
    Setting::new(key, Kind::Word(words))
}

/// A text that is never shown.
pub const fn secret(key: &'static str) -> Setting {
    Setting::new(key, Kind::Secret)
}

/// The name of a file.
pub const fn file(key: &'static str) -> Setting {
    Setting::new(key, Kind::File)
}

/// Names of folders.
pub const fn folders(key: &'static str) -> Setting {
    Setting::new(key, Kind::Folders)
}

/// A list of topic filters.
pub const fn filters(key: &'static str) -> Setting {
    Setting::new(key, Kind::Filters)
}

/// Characters, and what each becomes.
pub const fn characters(key: &'static str) -> Setting {
    Setting::new(key, Kind::Characters)
}

/// Topic filters, each with an interval and a deadband.
pub const fn throttles(key: &'static str) -> Setting {
    Setting::new(key, Kind::Throttle)
}

impl Setting {
    const fn new(key: &'static str, kind: Kind) -> Setting {
        Setting {
            key,
            kind,
            short: None,
            value: None,
            default: None,
            without: None,
            example: None,
            min: 0,
            max: U32_MAX,
            reload: false,
            per_portal: false,
            global: false,
            several: false,
            no_key: false,
            section: "",
            text: "",
        }
    }

    /// It has a flag and a variable too; `value` stands for its value in help.
    #[must_use]
    pub const fn flag(mut self, value: &'static str) -> Setting {
        self.value = Some(value);
        self
    }

    /// Its flag has a short form.
    #[must_use]
    pub const fn short(mut self, letter: char) -> Setting {
        self.short = Some(letter);
        self
    }

    /// What holds without it, as TOML.
    #[must_use]
    pub const fn or(mut self, default: &'static str) -> Setting {
        self.default = Some(default);
        self
    }

    /// What holds without it, in words.
    #[must_use]
    pub const fn without(mut self, words: &'static str) -> Setting {
        self.without = Some(words);
        self
    }

    /// What it may look like, as TOML.
    #[must_use]
    pub const fn example(mut self, value: &'static str) -> Setting {
        self.example = Some(value);
        self
    }

    /// Which numbers are accepted.
    #[must_use]
    pub const fn within(mut self, min: u64, max: u64) -> Setting {
        self.min = min;
        self.max = max;
        self
    }

    /// SIGHUP takes it over.
    #[must_use]
    pub const fn reload(mut self) -> Setting {
        self.reload = true;
        self
    }

    /// `{portal-id}` in it stands for the portal id.
    #[must_use]
    pub const fn per_portal(mut self) -> Setting {
        self.per_portal = true;
        self
    }

    /// The flag may be given several times: what it says is joined by commas.
    #[must_use]
    pub const fn several(mut self) -> Setting {
        self.several = true;
        self
    }

    /// Every command has the flag.
    #[must_use]
    pub const fn global(mut self) -> Setting {
        self.global = true;
        self
    }

    /// The settings file cannot have it.
    #[must_use]
    pub const fn no_key(mut self) -> Setting {
        self.no_key = true;
        self
    }

    /// Under this heading, with this text.
    #[must_use]
    pub const fn told(mut self, section: &'static str, text: &'static str) -> Setting {
        self.section = section;
        self.text = text;
        self
    }

    /// What it is called in a table of a broker.
    pub fn table_key(&self) -> &'static str {
        match self.key {
            "mqtt-version" => self.key,
            key => key.strip_prefix("mqtt-").unwrap_or(key),
        }
    }

    /// The variable: `keep-alive` is `DBUS_MQTT_KEEP_ALIVE`, `mqtt-server` is `DBUS_MQTT_SERVER`.
    pub fn variable(&self) -> String {
        let short = self.key.strip_prefix("mqtt-").unwrap_or(self.key);
        let capitals = short.replace('-', "_").to_ascii_uppercase();
        format!("{VARIABLE_PREFIX}{capitals}")
    }

    /// What holds where it is not set, in words.
    pub fn default_words(&self) -> Option<String> {
        match (self.without, self.default) {
            (Some(words), _) => Some(words.to_owned()),
            (None, Some("\"\"" | "[]")) => Some("none".to_owned()),
            (None, Some(toml)) => Some(toml.trim_matches('"').to_owned()),
            (None, None) => None,
        }
    }

    /// What it does, paragraph by paragraph; the first is a short sentence without a full stop.
    pub fn prose(&self) -> Vec<String> {
        paragraphs(self.text)
    }

    /// The same as help: with the default.
    pub fn help(&self) -> Vec<String> {
        let mut paragraphs = self.prose();
        if let (Some(first), Some(default)) = (paragraphs.first_mut(), self.default_words()) {
            first.extend([" (default: ", default.as_str(), ")"]);
        }
        paragraphs
    }

    /// Its flag, for the parser of arguments.
    pub fn arg(&self) -> Option<Arg> {
        let paragraphs = self.help();
        let is_repeated = self.several || self.kind == Kind::Folders;
        let action = if is_repeated {
            ArgAction::Append
        } else {
            ArgAction::Set
        };
        let mut arg = Arg::new(self.key)
            .long(self.key)
            .value_name(self.value?)
            .value_parser(self.parser())
            .action(action)
            .global(self.global)
            .allow_negative_numbers(true)
            .help(paragraphs.first().cloned().unwrap_or_default());
        if paragraphs.len() > 1 {
            arg = arg.long_help(paragraphs.join("\n\n"));
        }
        if let Some(short) = self.short {
            arg = arg.short(short);
        }
        if !self.section.is_empty() {
            arg = arg.help_heading(self.section);
        }
        if self.kind == Kind::Switch {
            arg = arg.num_args(0..=1).require_equals(true);
            arg = arg.default_missing_value("true");
        }
        Some(arg)
    }

    fn parser(&self) -> ValueParser {
        let kind = self.kind;
        let path = OsStringValueParser::new();
        if kind == Kind::File {
            path.map(|name: OsString| Written::File(name.into())).into()
        } else if kind == Kind::Folders {
            path.map(|name: OsString| Written::Folders(vec![name.into()]))
                .into()
        } else {
            ValueParser::from(move |text: &str| kind.parse(text))
        }
    }

    /// The number, if it is within the bounds.
    fn bounded(&self, written: &Written) -> Result<u64, Problem> {
        let Written::Number(value) = *written else {
            return Err(self.mistaken());
        };
        let (min, max) = (self.min, self.max);
        if value < min {
            Err(Problem::TooSmall { value, min })
        } else if value > max {
            Err(Problem::TooLarge { value, max })
        } else {
            Ok(value)
        }
    }

    /// The program asks for another kind of value than is declared.
    fn mistaken(&self) -> Problem {
        debug_assert!(false, "{} is of another kind", self.key);
        Problem::Value("the value is of another kind".to_owned())
    }
}

impl Kind {
    /// Reads what stands in a flag or a variable.
    fn parse(self, text: &str) -> Result<Written, String> {
        match self {
            Kind::Truth | Kind::Switch => truth(text).map(Written::Truth),
            Kind::Number | Kind::Seconds | Kind::Milliseconds => whole(text).map(Written::Number),
            Kind::Word(words) => one_of(words, text).map(Written::Text),
            Kind::Text => Ok(Written::Text(text.to_owned())),
            Kind::Secret => Ok(Written::Secret(Secret::from(text))),
            Kind::File => Ok(Written::File(text.into())),
            Kind::Folders => Ok(Written::Folders(vec![text.into()])),
            Kind::Filters => Ok(Written::List(vec![text.to_owned()])),
            Kind::Characters => Ok(Written::each_to_underscore(text)),
            Kind::Throttle => Err(THROTTLE.to_owned()),
        }
    }
}

/// The word, if it is one of these.
pub(super) fn one_of(words: &[&str], text: &str) -> Result<String, String> {
    if words.contains(&text) {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is not one of {}", words.join(", ")))
    }
}

impl Written {
    /// Each of these characters becomes `_`.
    pub(super) fn each_to_underscore(text: &str) -> Written {
        Written::Pairs(text.chars().map(|c| (c.into(), "_".into())).collect())
    }

    /// As the settings file would have it; a secret is shown as `***`.
    pub(super) fn toml(&self, kind: Kind) -> String {
        let list = |all: &mut dyn Iterator<Item = String>| {
            let all: Vec<String> = all.collect();
            format!("[{}]", all.join(", "))
        };
        match self {
            Written::Truth(truth) => truth.to_string(),
            Written::Number(number) => number.to_string(),
            Written::Text(text) if matches!(kind, Kind::Word(_)) && is_number(text) => text.clone(),
            Written::Text(text) => quoted(text),
            Written::Secret(secret) => quoted(&secret.to_string()),
            Written::File(path) => quoted(&path.to_string_lossy()),
            Written::Folders(paths) => {
                list(&mut paths.iter().map(|path| quoted(&path.to_string_lossy())))
            }
            Written::List(texts) => list(&mut texts.iter().map(|text| quoted(text))),
            Written::Pairs(pairs) => {
                let pair =
                    |(from, to): (&String, &String)| format!("{} = {}", quoted(from), quoted(to));
                let pairs: Vec<String> = pairs.iter().map(pair).collect();
                format!("{{ {} }}", pairs.join(", "))
            }
            Written::Throttle(entries) => list(&mut entries.iter().map(|[filter, time, band]| {
                format!("[{}, {}, {band}]", quoted(filter), quoted(time))
            })),
        }
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// What the program reads from a setting.
pub trait FromSetting: Sized {
    /// Reads and checks the value of this setting.
    fn from_setting(setting: &Setting, written: &Written) -> Result<Self, Problem>;
}

/// A table of settings as written, which knows for each what it reads.
pub(super) trait Fields {
    /// What is wrong with one, and where it is.
    type Error;

    /// The value of this setting, or its default.
    fn field<T: FromSetting + Default>(&self, setting: &Setting) -> Result<T, Self::Error>;
}

macro_rules! as_written {
    ($($ty:ty: $variant:ident;)*) => {
        $(impl FromSetting for $ty {
            fn from_setting(setting: &Setting, written: &Written) -> Result<$ty, Problem> {
                if let Written::$variant(value) = written {
                    Ok(value.clone())
                } else {
                    Err(setting.mistaken())
                }
            }
        })*
    };
}

as_written! {
    bool: Truth;
    String: Text;
    Secret: Secret;
    PathBuf: File;
    Vec<PathBuf>: Folders;
    Vec<String>: List;
    BTreeMap<String, String>: Pairs;
}

impl FromSetting for u32 {
    fn from_setting(setting: &Setting, written: &Written) -> Result<u32, Problem> {
        let number = setting.bounded(written)?;
        u32::try_from(number).map_err(|_| setting.mistaken())
    }
}

impl FromSetting for usize {
    fn from_setting(setting: &Setting, written: &Written) -> Result<usize, Problem> {
        let number = setting.bounded(written)?;
        usize::try_from(number).map_err(|_| setting.mistaken())
    }
}

impl FromSetting for Duration {
    fn from_setting(setting: &Setting, written: &Written) -> Result<Duration, Problem> {
        let number = setting.bounded(written)?;
        if setting.kind == Kind::Seconds {
            Ok(Duration::from_secs(number))
        } else if setting.kind == Kind::Milliseconds {
            Ok(Duration::from_millis(number))
        } else {
            Err(setting.mistaken())
        }
    }
}

/// 0 is never.
impl FromSetting for Option<Duration> {
    fn from_setting(setting: &Setting, written: &Written) -> Result<Option<Duration>, Problem> {
        let time = Duration::from_setting(setting, written)?;
        Ok(Some(time).filter(|time| !time.is_zero()))
    }
}

impl FromSetting for Vec<Filter> {
    fn from_setting(setting: &Setting, written: &Written) -> Result<Vec<Filter>, Problem> {
        parsed(setting, written, Filter::parse)
    }
}

impl FromSetting for Vec<ThrottleRule> {
    fn from_setting(setting: &Setting, written: &Written) -> Result<Vec<ThrottleRule>, Problem> {
        let Written::Throttle(entries) = written else {
            return Err(setting.mistaken());
        };
        let parse = |[filter, interval, deadband]: &[String; 3]| {
            let shown = || format!("[{}, {}, {deadband}]", quoted(filter), quoted(interval));
            let rule = ThrottleRule::parse(filter, interval, deadband);
            rule.ok_or_else(|| Problem::Throttle(shown()))
        };
        entries.iter().map(parse).collect()
    }
}

impl FromSetting for Vec<TopicFilter> {
    fn from_setting(setting: &Setting, written: &Written) -> Result<Vec<TopicFilter>, Problem> {
        parsed(setting, written, TopicFilter::parse)
    }
}

fn parsed<T>(
    setting: &Setting,
    written: &Written,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Vec<T>, Problem> {
    let texts = Vec::<String>::from_setting(setting, written)?;
    let parse = |text: String| parse(&text).ok_or(Problem::Filter(text));
    texts.into_iter().map(parse).collect()
}

impl FromSetting for MqttVersion {
    fn from_setting(setting: &Setting, written: &Written) -> Result<MqttVersion, Problem> {
        match String::from_setting(setting, written)?.as_str() {
            "3" | "3.1.1" => Ok(MqttVersion::V3),
            "5" => Ok(MqttVersion::V5),
            "auto" => Ok(MqttVersion::Auto),
            _ => Err(setting.mistaken()),
        }
    }
}

impl FromSetting for AccessRule {
    fn from_setting(setting: &Setting, written: &Written) -> Result<AccessRule, Problem> {
        match String::from_setting(setting, written)?.as_str() {
            "full" => Ok(AccessRule::Always(Access::Full)),
            "read-only" => Ok(AccessRule::Always(Access::ReadOnly)),
            "off" => Ok(AccessRule::Always(Access::Off)),
            "vrm" => Ok(AccessRule::AsDeviceSays),
            _ => Err(setting.mistaken()),
        }
    }
}

/// What an entry of `throttle` looks like.
pub(super) const THROTTLE: &str = "an entry is a filter, an interval and a deadband, such as [\"battery/+/Dc/0/#\", \"10s\", 0.5]";
/// The largest number that most settings take.
pub const U32_MAX: u64 = 0xFFFF_FFFF;
/// What the variables of this program begin with.
pub(super) const VARIABLE_PREFIX: &str = "DBUS_MQTT_";
