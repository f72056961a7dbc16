//! A listener, as a client on this device sees it: reach it, log in, and see whether the bridge answers and has
//! values in store. What needs a password or a certificate that only clients have is not looked into.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Write};
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;

use super::broker::Doctor;
use super::report::{Finding, Report};
use crate::config::{Auth, BrokerConfig, ListenConfig, ListenTransport, Transport};
use crate::error::plain;
use crate::model::access::{Access, AccessRule};
use crate::model::name::PortalId;
use crate::tools::ToolError;

/// Checks one listener. `quick` asks for no values.
pub async fn check(
    report: &mut Report<impl Write>,
    portal_id: &PortalId,
    listener: &ListenConfig,
    devices: Option<&BTreeSet<String>>,
    quick: bool,
    time: Duration,
) -> Result<(), ToolError> {
    // One that only the page leads to is for browsers alone.
    let Some(address) = listener.reached() else {
        return Ok(());
    };
    let (name, word) = (&listener.name, listener.transport.word());
    let place = format!("{name} ({word}://{address})");
    if listener.access == AccessRule::Always(Access::Off) {
        let says = format!("{place} is switched off in the settings");
        return report.add(&Finding::note("listener", says, ""));
    }
    let hidden = match listener.auth {
        Auth::Anonymous if !listener.transport.is_encrypted() => None,
        Auth::Anonymous => Some("it is encrypted"),
        Auth::Users(_) | Auth::Venus { .. } => Some("it asks for a password"),
        Auth::Certificate => Some("it asks for a certificate"),
    };
    if let Some(why) = hidden {
        let says = match reach(address, time).await {
            Ok(()) => {
                format!("{place} takes connections; {why}, so what clients see is not checked")
            }
            Err(says) => return report.add(&absent(&place, &says)),
        };
        return report.add(&Finding::fine("listener", says));
    }
    let client = BrokerConfig {
        name: name.clone(),
        host: address.ip().to_string(),
        port: address.port(),
        transport: match listener.transport {
            ListenTransport::Ws | ListenTransport::Wss => Transport::Ws {
                path: "/mqtt".to_owned(),
            },
            ListenTransport::Tcp | ListenTransport::Tls => Transport::Tcp,
        },
        ..BrokerConfig::default()
    };
    let mut doctor = match Doctor::at(&client, portal_id, time).await {
        Ok(doctor) => doctor,
        Err(finding) => return report.add(&absent(&place, &finding.says)),
    };
    if quick {
        report.add(&doctor.status().await)?;
    } else {
        let says = format!("{place} lets clients in ({})", doctor.version());
        report.add(&Finding::fine("listener", says))?;
        report.add(&doctor.bridge().await)?;
        for finding in doctor.findings(devices) {
            report.add(&finding)?;
        }
        report.add(&in_store(&place, listener.retain, doctor.stored()))?;
    }
    doctor.close().await;
    Ok(())
}

/// Whether a new client finds something.
fn in_store(place: &str, retains: bool, (serial, devices): (bool, usize)) -> Finding {
    if !serial {
        let says = format!("{place}: a new subscription does not get the portal id");
        let remedy = "another program has that port: choose another one for the listener";
        return Finding::fault("values", says, remedy);
    }
    let says = format!("{place}: {devices} devices have values");
    if devices == 0 && retains {
        return Finding::note(
            "values",
            says,
            "is a device on the bus, and does access let it through?",
        );
    }
    Finding::fine("values", says)
}

async fn reach(address: SocketAddr, time: Duration) -> Result<(), String> {
    match tokio::time::timeout(time, TcpStream::connect(address)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => {
            Err("connection refused".to_owned())
        }
        Ok(Err(error)) => Err(plain(&error)),
        Err(_) => Err(format!("no connection within {} s", time.as_secs_f64())),
    }
}

fn absent(place: &str, says: &str) -> Finding {
    let says = says.strip_prefix(place).unwrap_or(says);
    let says = says.trim_start_matches([':', ' ']);
    Finding::fault(
        "listener",
        format!("{place}: {says}"),
        "is the bridge running, with the same settings?",
    )
}
