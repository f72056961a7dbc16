//! `dbus-mqtt doctor`: finds out why values do not flow, and says in plain words what to do.
//!
//! Each check is one line, takes a bounded time and changes nothing. They follow the way of a value:
//! the settings ([`settings`]), the bus ([`bus`]), each broker ([`broker`]) and listener ([`listener`]) and, seen through it, the
//! running bridge. What they find is a [`report::Finding`].

pub mod broker;
pub mod bus;
pub mod listener;
pub mod report;
pub mod settings;
mod talk;

use std::io::IsTerminal;
use std::time::Duration;

use self::report::{Finding, Report};
use super::ToolError;
use crate::cli::DoctorArgs;
use crate::config::{BrokerConfig, Layers, Machine, PortalSource};
use crate::error::one_line;
use crate::model::name::PortalId;
use crate::shell;

/// Checks everything, until it has or `shutdown`.
pub async fn run(
    args: &DoctorArgs,
    layers: &Layers,
    machine: &Machine,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ToolError> {
    let colours = machine.colours(std::io::stdout().is_terminal());
    let mut report = Report::new(std::io::stdout(), args.json, colours);
    let time = Duration::try_from_secs_f64(args.timeout).unwrap_or(TIME_MAX);
    tokio::select! {
        checked = check(&mut report, layers, machine, args.quick, time.min(TIME_MAX)) => checked?,
        () = shutdown => {}
    }
    report.finish()
}

/// `time` is for each check. `quick` leaves out what a running bridge shows by answering.
async fn check(
    report: &mut Report<impl std::io::Write>,
    layers: &Layers,
    machine: &Machine,
    quick: bool,
    time: Duration,
) -> Result<(), ToolError> {
    if !quick {
        report.add(&settings::clock())?;
    }
    let resolve = |portal_id: &PortalId| layers.resolve(machine, portal_id);
    let source = layers.portal_id(machine);
    let found = source.and_then(|source| {
        let unknown = PortalId::unknown();
        Ok((resolve(source.id().unwrap_or(&unknown))?, source))
    });
    let (mut config, source) = match found {
        Ok(found) => found,
        Err(error) => {
            let says = one_line(&error);
            return report.add(&Finding::fault("settings", says, "fix that setting first"));
        }
    };
    let mut devices = None;
    if !quick {
        report.add(&settings::summary(&config, &source))?;
        report.add(&settings::secrets(&layers.secret_files(&config, machine)))?;
        if let Some(doubt) = config.vrm.as_ref().and_then(|vrm| vrm.doubt(machine)) {
            report.add(&Finding::note("vrm", doubt, ""))?;
        }
        devices = bus::check(report, &config.bus, time).await?;
    }
    if source == PortalSource::Bus {
        let asked = tokio::time::timeout(time, shell::portal::ask_once(&config.bus)).await;
        let asked = asked.unwrap_or_else(|_| Err("no answer".to_owned()));
        match asked.and_then(|id| resolve(&id).map_err(|error| one_line(&error))) {
            Ok(resolved) => config = resolved,
            Err(reason) => {
                let says = format!("the portal id is not known: {reason}");
                let remedy =
                    "the bridge waits for it; --portal-id sets it. The brokers are not checked";
                return report.add(&Finding::fault("portal id", says, remedy));
            }
        }
        let says = format!("portal id {}, from the bus", config.portal_id);
        report.add(&Finding::fine("portal id", says))?;
    }
    let brokers = config.brokers.iter().flat_map(BrokerConfig::at_each);
    for broker in &brokers.collect::<Vec<_>>() {
        let portal_id = &config.portal_id;
        if quick {
            broker::check_quickly(report, portal_id, broker, time).await?;
        } else {
            broker::check(report, portal_id, broker, devices.as_ref(), time).await?;
        }
    }
    for listener in &config.listeners {
        let portal_id = &config.portal_id;
        listener::check(report, portal_id, listener, devices.as_ref(), quick, time).await?;
    }
    Ok(())
}

/// Longer than anybody waits.
const TIME_MAX: Duration = Duration::from_secs(600);
