//! `dbus-mqtt devices | get | watch | set | forget`: a client of the broker for people.
//!
//! ```text
//!  arguments ─▶ wants, value ─▶ Find ─▶ Collect | Watch | Write ─▶ screen
//!                                  └── tasks on one Connection ──┘
//! ```
//!
//! It knows the topics of the wire contract and nothing of the bridge in this program, so it works
//! with any bridge of either generation. A question is a [`task::Task`]: it decides, without sockets
//! and clocks, and [`task::Connection`] carries it out. Read on in [`collect`].

use std::io::{self, Write as _};
use std::pin::{Pin, pin};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};

use self::collect::{Collect, Collected, Found};
pub use self::error::ClientError;
use self::find::Find;
use self::forget::{Clear, Stored};
use self::hint::likely;
use self::portal::Portal;
use self::reading::{Reading, words};
use self::screen::{Form, Screen};
use self::task::{Connection, Show};
use self::want::Want;
use self::watch::Watch;
use self::write::{Outcome, Write};
use crate::cli::ClientCommand;
use crate::cli::client::{ForgetArgs, SetArgs, WatchArgs};
use crate::config::{BrokerConfig, ClientConfig, Machine};
use crate::error::{plain, unless_unread};
use crate::link::session::LinkError;
use crate::model::name::PortalId;
use crate::schema::rule::{Access, Rule};
use crate::shell::transport::{self, Endpoint, Stream};
use crate::tools::session::PACKET_BYTES_MAX;

pub mod collect;
pub mod devices;
mod error;
mod find;
pub mod forget;
pub mod hint;
pub mod portal;
pub mod reading;
pub mod screen;
pub mod task;
#[cfg(test)]
mod tests;
pub mod value;
pub mod want;
pub mod watch;
pub mod write;

/// How long an answer is waited for from a bridge that has said that it is off: another one may be there
/// under its name that has no status.
const OFFLINE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a broker may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Carries out a command, until it is answered or `shutdown`.
pub async fn run(
    command: ClientCommand,
    config: ClientConfig,
    machine: &Machine,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ClientError> {
    let address = config.broker.address();
    let outcome = quietly(ask(command, config, machine, shutdown).await);
    let reason = match &outcome {
        Err(ClientError::Link(error)) => plain(error),
        Err(ClientError::Transport(error)) => plain(error),
        Ok(()) | Err(_) => return outcome,
    };
    Err(ClientError::Broker { address, reason })
}

/// That nobody reads on is not a failure.
fn quietly(outcome: Result<(), ClientError>) -> Result<(), ClientError> {
    match outcome {
        Err(ClientError::Output(error)) => unless_unread(Err(error)).map_err(ClientError::Output),
        other => other,
    }
}

async fn ask(
    command: ClientCommand,
    config: ClientConfig,
    machine: &Machine,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ClientError> {
    let timeout = duration(command.broker().timeout);
    let ClientConfig { broker, portal_id } = config;
    let (wants, form) = match &command {
        ClientCommand::Devices(args) if args.json => (vec![Want::parse("#")?], Form::Json),
        ClientCommand::Devices(_) => (vec![Want::parse("#")?], Form::Text),
        ClientCommand::Get(args) => (parse_wants(&args.topics)?, args.form.into()),
        ClientCommand::Watch(args) => (parse_wants(&args.topics)?, args.form.into()),
        ClientCommand::Forget(args) => {
            let all = format!("N/{}/#", args.installation);
            (vec![Want::parse(&all)?], Form::Text)
        }
        ClientCommand::Set(args) => {
            let want = Want::parse(&args.topic)?;
            if !want.can_be_read() {
                let given = args.topic.clone();
                return Err(ClientError::Topic { given });
            }
            // A value that cannot be meant is not worth a connection.
            value::parse(&want.topic, &args.value, &reading::rule(&want.topic))?;
            (vec![want], args.form.into())
        }
    };
    let portal_id = portal_of(&wants, portal_id)?;
    let mut screen = Screen::stdout(form, machine);

    let mut stop = pin!(shutdown);
    if let ClientCommand::Forget(args) = &command {
        return forget(args, &broker, timeout, stop, &mut screen).await;
    }
    let connection = connect(&broker, timeout, stop.as_mut()).await?;
    let asked = Asked {
        connection,
        portal_id,
        timeout,
        echo: broker.client_id,
    };
    match command {
        ClientCommand::Devices(_) => asked.devices(wants, &mut screen).await,
        ClientCommand::Get(_) => asked.get(wants, &mut screen).await,
        ClientCommand::Watch(args) => asked.watch(wants, &args, &mut screen).await,
        ClientCommand::Set(args) => asked.set(wants, &args, &mut screen).await,
        ClientCommand::Forget(_) => Ok(()),
    }
}

/// Opens a connection to the broker.
async fn connect<'a>(
    broker: &BrokerConfig,
    timeout: Duration,
    stop: Pin<&'a mut dyn Future<Output = ()>>,
) -> Result<Connection<'a, Stream>, ClientError> {
    let endpoints = Endpoint::all_of(broker, PACKET_BYTES_MAX);
    let silent = CONNECT_TIMEOUT.min(timeout);
    let stream = tokio::time::timeout(silent, transport::connect_any(&endpoints)).await;
    let stream = stream.map_err(|_| LinkError::Silent { silent })??;
    Ok(Connection::new(stream, broker, stop))
}

/// Clears what the broker retains of an installation, once somebody has said yes to it.
async fn forget<W: io::Write>(
    args: &ForgetArgs,
    broker: &BrokerConfig,
    timeout: Duration,
    mut stop: Pin<&mut dyn Future<Output = ()>>,
    screen: &mut Screen<W>,
) -> Result<(), ClientError> {
    let portal_id = &args.installation;
    let discovery = broker.home_assistant.as_ref();
    let discovery = discovery.map_or(HOME_ASSISTANT_PREFIX, |home| home.prefix.as_str());
    let mut connection = connect(broker, timeout, stop.as_mut()).await?;
    connection.connected().await?;
    let mut stored = Stored::new(portal_id, discovery, timeout);
    connection.perform(&mut stored, screen).await?;
    connection.close().await;
    let (topics, online) = stored.finish();
    if online && !args.online {
        let portal = portal_id.clone();
        return Err(ClientError::Online { portal });
    }
    let (count, address) = (topics.len(), broker.address());
    if count == 0 {
        let line = format!("{address} retains nothing of {portal_id}");
        return screen.line(&line).map_err(ClientError::Output);
    }
    let question = format!("{address} retains {count} topics of {portal_id}. Clear them? [y/N] ");
    if !args.yes && !confirmed(&question, stop.as_mut()).await? {
        return Err(ClientError::NotConfirmed);
    }
    // Nobody knows how long that took: the connection is a new one.
    let mut connection = connect(broker, timeout, stop).await?;
    connection.connected().await?;
    let mut clear = Clear::new(topics, timeout);
    connection.perform(&mut clear, screen).await?;
    connection.close().await;
    if !clear.finish() {
        let what = "PINGREQ";
        return Err(ClientError::Link(LinkError::NoAnswer { what }));
    }
    let line = format!("cleared {count} topics of {portal_id}");
    screen.line(&line).map_err(ClientError::Output)
}

/// Asks on the terminal, and waits for the line that answers.
async fn confirmed(
    question: &str,
    stop: Pin<&mut dyn Future<Output = ()>>,
) -> Result<bool, ClientError> {
    // Where it cannot be seen, nobody will say yes.
    let _ = write!(io::stderr(), "{question}");
    let answer = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        io::stdin().read_line(&mut line).map(|_| line)
    });
    tokio::select! {
        () = stop => Err(ClientError::Interrupted),
        answer = answer => {
            let line = answer.ok().and_then(Result::ok).unwrap_or_default();
            let line = line.trim().to_lowercase();
            Ok(line == "y" || line == "yes")
        }
    }
}

fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds)
        .unwrap_or(TIME_MAX)
        .min(TIME_MAX)
}

fn parse_wants(topics: &[String]) -> Result<Vec<Want>, ClientError> {
    topics.iter().map(|topic| Want::parse(topic)).collect()
}

/// The one installation that is meant, where a setting or a whole topic names one.
fn portal_of(wants: &[Want], set: Option<PortalId>) -> Result<Option<PortalId>, ClientError> {
    let mut meant = set;
    for given in wants.iter().filter_map(|want| want.portal.clone()) {
        match &meant {
            Some(portal) if *portal != given => {
                let portal = portal.clone();
                return Err(ClientError::OtherPortal { given, portal });
            }
            Some(_) | None => meant = Some(given),
        }
    }
    Ok(meant)
}

/// A question on an open connection.
struct Asked<'a, S> {
    connection: Connection<'a, S>,
    portal_id: Option<PortalId>,
    timeout: Duration,
    echo: String,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Asked<'_, S> {
    async fn portal<W: io::Write>(
        &mut self,
        screen: &mut Screen<W>,
    ) -> Result<Portal, ClientError> {
        let connected = self.connection.connected();
        let connected = tokio::time::timeout(self.timeout, connected).await;
        connected.map_err(|_| LinkError::Silent {
            silent: self.timeout,
        })??;
        let mut find = Find::new(self.portal_id.clone(), self.timeout);
        self.connection.perform(&mut find, screen).await?;
        let portal = find.finish()?;
        if !portal.others.is_empty() {
            let others: Vec<&str> = portal.others.iter().map(PortalId::as_str).collect();
            screen.note(&format!(
                "using {}, the only installation online; offline on this broker: {} (dbus-mqtt forget clears \
                 what an old one left)",
                portal.id,
                others.join(", ")
            ));
        }
        Ok(portal)
    }

    /// Collects values. Where something is missing, it is the error beside them.
    async fn collect<W: io::Write>(
        &mut self,
        portal: &Portal,
        wants: Vec<Want>,
        screen: &mut Screen<W>,
    ) -> Result<(Vec<Found>, Result<(), ClientError>), ClientError> {
        let waited = if portal.offline {
            self.timeout.min(OFFLINE_TIMEOUT)
        } else {
            self.timeout
        };
        let mut collect = Collect::new(portal, wants.clone(), &self.echo, waited);
        self.connection.perform(&mut collect, screen).await?;
        let Collected { found, answered } = collect.finish();
        let missing = found.iter().filter(|found| found.readings.is_empty());
        let missing: Vec<&str> = missing.map(|found| found.topic.as_str()).collect();
        let topics = match missing.as_slice() {
            ["#"] => format!("any value of {}", portal.id),
            _ => missing.join(", "),
        };
        // What only the broker has in store is not an answer.
        if !answered && portal.offline {
            let portal = portal.id.clone();
            return Ok((found, Err(ClientError::Offline { portal })));
        }
        if missing.is_empty() {
            return Ok((found, Ok(())));
        }
        let wants = wants.into_iter();
        let unmet: Vec<Want> = wants
            .filter(|want| missing.contains(&want.topic.as_str()))
            .collect();
        let live = if answered && unmet.iter().any(|want| want.topic != "#") {
            self.all_topics(portal, screen).await?
        } else {
            Vec::new()
        };
        let hint = likely(&unmet, &live);
        let error = if answered {
            ClientError::NotThere { topics, hint }
        } else {
            ClientError::NoAnswer {
                what: topics,
                waited,
                hint,
            }
        };
        Ok((found, Err(error)))
    }

    /// The topics of all values that there are, to find the one that was likely meant.
    async fn all_topics<W: io::Write>(
        &mut self,
        portal: &Portal,
        screen: &mut Screen<W>,
    ) -> Result<Vec<String>, ClientError> {
        let echo = format!("{}-all", self.echo);
        let all = vec![Want::parse("#")?];
        let mut collect = Collect::new(portal, all, &echo, self.timeout);
        self.connection.perform(&mut collect, screen).await?;
        let readings = collect
            .finish()
            .found
            .into_iter()
            .flat_map(|found| found.readings);
        Ok(readings.map(|reading| reading.topic).collect())
    }

    async fn get<W: io::Write>(
        mut self,
        wants: Vec<Want>,
        screen: &mut Screen<W>,
    ) -> Result<(), ClientError> {
        let portal = self.portal(screen).await?;
        let (found, outcome) = self.collect(&portal, wants, screen).await?;
        self.connection.close().await;
        let readings = || found.iter().flat_map(|found| &found.readings);
        screen.make_room(readings());
        for reading in readings() {
            screen.value(reading, "").map_err(ClientError::Output)?;
        }
        outcome
    }

    async fn devices<W: io::Write>(
        mut self,
        wants: Vec<Want>,
        screen: &mut Screen<W>,
    ) -> Result<(), ClientError> {
        let portal = self.portal(screen).await?;
        let (found, outcome) = self.collect(&portal, wants, screen).await?;
        self.connection.close().await;
        let readings = found.iter().flat_map(|found| &found.readings);
        let devices = devices::devices_of(readings);
        outcome?;
        devices::print(&portal, &devices, screen).map_err(ClientError::Output)
    }

    async fn watch<W: io::Write>(
        mut self,
        wants: Vec<Want>,
        args: &WatchArgs,
        screen: &mut Screen<W>,
    ) -> Result<(), ClientError> {
        let outcome = async {
            let portal = self.portal(screen).await?;
            let time = args.seconds.map(duration);
            let mut watch = Watch::new(&portal, wants, args.count, time, self.timeout);
            self.connection.perform(&mut watch, screen).await?;
            watch.finish()
        };
        let outcome = match outcome.await {
            // That is how it ends.
            Err(ClientError::Interrupted) => Ok(()),
            other => other,
        };
        if outcome.is_ok() {
            self.connection.close().await;
        }
        outcome
    }

    async fn set<W: io::Write>(
        mut self,
        wants: Vec<Want>,
        args: &SetArgs,
        screen: &mut Screen<W>,
    ) -> Result<(), ClientError> {
        let portal = self.portal(screen).await?;
        let (found, outcome) = self.collect(&portal, wants, screen).await?;
        outcome?;
        let before = only_one(found)?;
        let rule = before.rule();
        let asked = value::parse(&before.topic, &args.value, &rule)?;
        let mut write = Write::new(&portal, before.clone(), asked.clone(), self.timeout);
        self.connection.perform(&mut write, screen).await?;
        let outcome = write.finish();
        self.connection.close().await;
        tell(&before, &asked, outcome, self.timeout, screen)
    }
}

/// The one value that a write is about.
fn only_one(found: Vec<Found>) -> Result<Reading, ClientError> {
    let Some(found) = found.into_iter().next() else {
        return Err(ClientError::Interrupted);
    };
    let (topic, count) = (found.topic, found.readings.len());
    match found.readings.into_iter().next() {
        Some(reading) if found.exact => Ok(reading),
        Some(first) => Err(ClientError::Inner {
            topic,
            count,
            first: first.topic,
        }),
        None => Err(ClientError::NotThere {
            topics: topic,
            hint: None,
        }),
    }
}

/// Tells what came of a write.
fn tell<W: io::Write>(
    before: &Reading,
    asked: &Value,
    outcome: Outcome,
    waited: Duration,
    screen: &mut Screen<W>,
) -> Result<(), ClientError> {
    let topic = before.topic.clone();
    let rule = before.rule();
    let asked_text = words(asked, &rule).line();
    let (word, now) = match outcome {
        Outcome::Silent => {
            return Err(ClientError::Unanswered {
                topic,
                asked: asked_text,
                waited,
            });
        }
        Outcome::Taken(now) => ("taken", now),
        Outcome::Adjusted(now) => ("adjusted", now),
        Outcome::Refused(now) => ("refused", now),
    };
    let was = before.words().line();
    let beside = match word {
        "taken" if now.words() == before.words() => "as before".to_owned(),
        "taken" => format!("was {was}"),
        _ => format!("was {was}, asked for {asked_text}"),
    };
    let printed = match screen.form() {
        Form::Json => {
            let mut object = now.json();
            object.insert(
                "before".to_owned(),
                before.value.clone().unwrap_or_default(),
            );
            object.insert("asked".to_owned(), asked.clone());
            object.insert("outcome".to_owned(), word.into());
            screen.json(&Value::Object(object))
        }
        // The error says it.
        Form::Text | Form::Raw if word == "refused" => Ok(()),
        Form::Text | Form::Raw => screen.value(&now, &beside),
    };
    printed.map_err(ClientError::Output)?;
    if word != "refused" {
        return Ok(());
    }
    Err(ClientError::Refused {
        topic,
        asked: asked_text,
        shown: now.words().line(),
        hint: hint(&now, &rule),
    })
}

/// What a device would take.
fn hint(now: &Reading, rule: &Rule) -> String {
    let range = match (&now.min, &now.max, rule.range) {
        (Some(min), Some(max), _) => Some((min.to_string(), max.to_string())),
        (_, _, Some((min, max))) => Some((min.to_string(), max.to_string())),
        _ => None,
    };
    match range {
        _ if rule.access == Access::Read => "; it is read-only".to_owned(),
        Some((min, max)) => format!("; it takes {min} to {max}"),
        None => String::new(),
    }
}

/// What Home Assistant's topics begin with, where no setting says otherwise.
const HOME_ASSISTANT_PREFIX: &str = "homeassistant";
/// Longer than anybody waits; far enough from what a clock can hold.
const TIME_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
