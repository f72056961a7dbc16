//! The bus: whether it can be reached, what is on it, and what its policy lets us do.

use std::io::Write;
use std::time::Duration;

use tokio::task::JoinSet;
use zbus::{Connection, MessageStream};

use super::report::{Finding, Report};
use crate::config::BusAddress;
use crate::error::plain;
use crate::tools::ToolError;
use crate::tools::bus::{BUS_ITEM, SERVICE_PREFIX, call, connect, next};

/// Checks the bus, and what is on it.
pub async fn check(
    report: &mut Report<impl Write>,
    address: &BusAddress,
    time: Duration,
) -> Result<(), ToolError> {
    let connection = match reach(address, time).await {
        Ok(connection) => connection,
        Err(finding) => return report.add(&finding),
    };
    let names = match services(&connection, time).await {
        Ok(names) => names,
        Err(error) => {
            let remedy = if matches!(error, ToolError::BusCall { .. }) {
                POLICY
            } else {
                "the bus takes connections and answers nothing: start it again"
            };
            return report.add(&Finding::fault("bus", error.to_string(), remedy));
        }
    };
    if names.is_empty() {
        let says = format!("{address} is a D-Bus, but no service of Victron is on it");
        let remedy = "is it that of the device? --dbus says which; system is the system bus";
        return report.add(&Finding::fault("bus", says, remedy));
    }
    let says = format!("{address} has {} services", names.len());
    report.add(&Finding::fine("bus", says))?;
    // While the services are asked, what they send comes in.
    let stream = MessageStream::from(&connection);
    report.add(&reading(&connection, names, time).await)?;
    report.add(&signals(&connection, stream, time).await)
}

async fn reach(address: &BusAddress, time: Duration) -> Result<Connection, Finding> {
    let mut says = format!("{address}: no answer within {} s", time.as_secs_f64());
    for one in address.as_str().split(';').filter(|one| !one.is_empty()) {
        match tokio::time::timeout(time, connect(one)).await {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(error)) => says = plain(&error),
            Err(_) => {}
        }
    }
    let remedy =
        "is there a D-Bus daemon at this address (--dbus), and may this user open its socket?";
    Err(Finding::fault("bus", says, remedy))
}

/// The services of Victron.
async fn services(connection: &Connection, time: Duration) -> Result<Vec<String>, ToolError> {
    let asked = tokio::time::timeout(time, call(connection, "ListNames", &())).await;
    let message = asked.map_err(|_| ToolError::BusGone)??;
    let names: Vec<String> = message.body().deserialize().unwrap_or_default();
    let ours = names
        .into_iter()
        .filter(|name| name.starts_with(SERVICE_PREFIX));
    Ok(ours.take(SERVICES_MAX).collect())
}

/// What became of asking a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Answer {
    Given,
    Denied,
    Late,
}

/// Whether the services let us read them. All are asked at once.
async fn reading(connection: &Connection, names: Vec<String>, time: Duration) -> Finding {
    let mut asking = JoinSet::new();
    for name in names {
        let connection = connection.clone();
        asking.spawn(async move {
            let items = connection.call_method(Some(&*name), "/", Some(BUS_ITEM), "GetItems", &());
            let answer = match tokio::time::timeout(time, items).await {
                Err(_) => Answer::Late,
                Ok(Err(error)) if is_denied(&error) => Answer::Denied,
                // Older services know no such method, and are read in another way (§2.2).
                Ok(_) => Answer::Given,
            };
            (name, answer)
        });
    }
    let mut answers = Vec::new();
    while let Some(answer) = asking.join_next().await {
        answers.extend(answer);
    }
    judge(answers, time)
}

/// Whether it is the policy of the bus that says no.
fn is_denied(error: &zbus::Error) -> bool {
    matches!(error, zbus::Error::FDO(error) if matches!(**error, zbus::fdo::Error::AccessDenied(_)))
}

fn judge(mut answers: Vec<(String, Answer)>, time: Duration) -> Finding {
    answers.sort();
    let of = |wanted| -> Vec<&str> {
        let names = answers.iter().filter(|(_, answer)| *answer == wanted);
        names.map(|(name, _)| name.as_str()).collect()
    };
    let (denied, late) = (of(Answer::Denied), of(Answer::Late));
    let count = answers.len();
    if !denied.is_empty() {
        let says = format!(
            "the bus forbids to read {} of {count} services: {}",
            denied.len(),
            few(&denied)
        );
        return Finding::fault("reading", says, POLICY);
    }
    if late.len() == count {
        let says = format!("no service answers within {} s", time.as_secs_f64());
        let remedy = "does the bus let answers through, or does the whole device hang?";
        return Finding::fault("reading", says, remedy);
    }
    if !late.is_empty() {
        let says = format!(
            "{} of {count} services give no answer within {} s: {}",
            late.len(),
            time.as_secs_f64(),
            few(&late)
        );
        let remedy = "their values are missing until they answer; the others are not held up";
        return Finding::note("reading", says, remedy);
    }
    Finding::fine("reading", format!("all {count} services answer"))
}

/// The first of them, for a line that can be read.
fn few(names: &[&str]) -> String {
    let shown: Vec<&str> = names.iter().take(SHOWN).copied().collect();
    let more = if names.len() > SHOWN { ", …" } else { "" };
    format!("{}{more}", shown.join(", "))
}

/// Whether changes reach us. The bus says nothing where its policy holds them back.
async fn signals(connection: &Connection, mut stream: MessageStream, time: Duration) -> Finding {
    let rule = format!("type='signal',interface='{BUS_ITEM}'");
    if let Err(error) = call(connection, "AddMatch", &rule.as_str()).await {
        let remedy =
            "the policy of the bus must let this user listen: see packaging/dbus-mqtt.conf";
        return Finding::fault("signals", error.to_string(), remedy);
    }
    let time = time.min(SIGNALS_TIME);
    let comes = async {
        while let Some(message) = next(&mut stream).await {
            if message
                .header()
                .interface()
                .is_some_and(|name| *name == BUS_ITEM)
            {
                return true;
            }
        }
        false
    };
    match tokio::time::timeout(time, comes).await {
        Ok(true) => Finding::fine("signals", "changes of values reach this program"),
        Ok(false) => Finding::fault("signals", "the bus went away", "run this again"),
        Err(_) => {
            let says = format!("no value has changed within {} s", time.as_secs_f64());
            let remedy = "on a running device some do: if so, the policy of the bus holds them back, \
                          see packaging/dbus-mqtt.conf";
            Finding::note("signals", says, remedy)
        }
    }
}

/// What to do where the bus forbids something.
const POLICY: &str =
    "install packaging/dbus-mqtt.conf in /etc/dbus-1/system.d for the user of the bridge";
/// As many services as the bridge follows by default.
const SERVICES_MAX: usize = 2_000;
/// How many names a line has at most.
const SHOWN: usize = 3;
/// A device says something several times a second.
const SIGNALS_TIME: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::super::report::Verdict;
    use super::Answer::{Denied, Given, Late};
    use super::*;

    #[test]
    fn what_the_answers_say() {
        let judged = |answers: &[Answer]| {
            let answers = answers.iter().enumerate();
            let named = answers
                .map(|(at, answer)| (format!("s{at}"), *answer))
                .collect();
            let found = judge(named, Duration::from_secs(10));
            (found.verdict, found.says)
        };
        let all = judged(&[Given, Given]);
        assert_eq!(all, (Verdict::Fine, "all 2 services answer".to_owned()));
        let (verdict, says) = judged(&[Given, Denied, Late, Denied]);
        assert_eq!(verdict, Verdict::Fault);
        assert_eq!(says, "the bus forbids to read 2 of 4 services: s1, s3");
        let (verdict, says) = judged(&[Late, Given, Late, Late, Late]);
        assert_eq!(verdict, Verdict::Note);
        let expected = "4 of 5 services give no answer within 10 s: s0, s2, s3, …";
        assert_eq!(says, expected);
        assert_eq!(judged(&[Late, Late]).0, Verdict::Fault);
    }
}
