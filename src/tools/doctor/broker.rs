//! A broker, on the way a bridge goes: reach it, log in, subscribe, publish; then whether a bridge
//! answers there, and only one.

use std::hash::{BuildHasher, RandomState};
use std::io::{ErrorKind, Write};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::report::{Finding, Report};
use super::talk::Talk;
use crate::config::{BrokerConfig, Secret};
use crate::error::plain;
use crate::link::session::LinkError;
use crate::model::access::Access;
use crate::model::access::AccessRule;
use crate::model::name::PortalId;
use crate::model::topic;
use crate::shell::transport::{self, Endpoint, TransportError};
use crate::tools::ToolError;
use crate::tools::session::{Event, PACKET_BYTES_MAX};

/// Checks one broker.
pub async fn check(
    report: &mut Report<impl Write>,
    portal_id: &PortalId,
    broker: &BrokerConfig,
    time: Duration,
) -> Result<(), ToolError> {
    let place = format!("{} ({})", broker.name, broker.address());
    if broker.access == AccessRule::Always(Access::Off) {
        let says = format!("{place} is switched off in the settings");
        return report.add(&Finding::note("broker", says, ""));
    }
    let no_password = |password: &Secret| password.expose().is_empty();
    if broker.access == AccessRule::AsDeviceSays
        && broker
            .login
            .as_ref()
            .is_none_or(|login| no_password(&login.password))
    {
        let says = format!("{place}: there is no password yet");
        return report.add(&Finding::note("broker", says, "the first start makes it"));
    }
    let endpoint = Endpoint::of(broker, PACKET_BYTES_MAX);
    let stream = match tokio::time::timeout(time, transport::connect(&endpoint)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            let says = format!("{place}: {}", plain(&error));
            return report.add(&Finding::fault("broker", says, way_remedy(&error)));
        }
        Err(_) => {
            let says = format!("{place}: no connection within {} s", time.as_secs_f64());
            return report.add(&Finding::fault("broker", says, SILENT));
        }
    };
    let mut doctor = Doctor {
        talk: Talk::open(stream, broker),
        place,
        prefix: &broker.prefix,
        portal_id,
        time,
    };
    match doctor.login().await {
        Ok(says) => report.add(&Finding::fine("broker", says))?,
        Err(finding) => return report.add(&finding),
    }
    match doctor.rights().await {
        Ok(says) => report.add(&Finding::fine("rights", says))?,
        Err(finding) => return report.add(&finding),
    }
    report.add(&doctor.bridge().await)?;
    doctor.talk.close().await;
    Ok(())
}

/// A conversation about one broker.
struct Doctor<'a> {
    talk: Talk,
    place: String,
    prefix: &'a str,
    portal_id: &'a PortalId,
    time: Duration,
}

impl Doctor<'_> {
    async fn login(&mut self) -> Result<String, Finding> {
        let connected = |event: &Event<'_>| matches!(event, Event::Connected);
        match self.talk.until(self.time, connected).await {
            Ok(true) => Ok(format!("{} takes the connection", self.place)),
            Ok(false) => Err(self.silent("broker")),
            Err(error) => {
                let remedy = if matches!(error, LinkError::Refused { .. }) {
                    "check --mqtt-user and its password, and who may connect there"
                } else if matches!(error, LinkError::Version { .. }) {
                    "doctor asks with MQTT 3.1.1; the bridge may still do with 5"
                } else {
                    "is that an MQTT broker, and is that its port? 8883 mostly wants a certificate (-c)"
                };
                Err(self.failed("broker", &error, remedy))
            }
        }
    }

    fn silent(&self, check: &'static str) -> Finding {
        let says = format!(
            "{}: no answer within {} s",
            self.place,
            self.time.as_secs_f64()
        );
        Finding::fault(
            check,
            says,
            "is that an MQTT broker, and does it still live?",
        )
    }

    fn failed(&self, check: &'static str, error: &LinkError, remedy: &str) -> Finding {
        let says = format!("{}: {}", self.place, plain(error));
        Finding::fault(check, says, remedy)
    }

    fn notification(&self, rest: &str) -> String {
        let topic = topic::notification(self.portal_id.as_str(), rest);
        format!("{}{topic}", self.prefix)
    }

    /// Whether requests can be heard, and values be told: a message to ourselves.
    async fn rights(&mut self) -> Result<String, Finding> {
        let own = self.notification(topic::DOCTOR);
        let word = format!("{:016x}", RandomState::new().hash_one(Instant::now()));
        for filter in topic::request_filters(self.portal_id) {
            self.talk.subscribe(format!("{}{filter}", self.prefix));
        }
        self.talk.subscribe(own.clone());
        self.talk.fence();
        let remedy = format!(
            "the broker must let this user subscribe to {0}R/{1}/# and {0}W/{1}/#, and publish below \
             {0}N/{1}/",
            self.prefix, self.portal_id
        );
        let told = |event: &Event<'_>| matches!(event, Event::Fenced);
        match self.talk.until(self.time, told).await {
            Ok(true) => {}
            Ok(false) => return Err(self.silent("rights")),
            Err(error) => return Err(self.failed("rights", &error, &remedy)),
        }
        self.talk.publish(&own, &word);
        let back = |event: &Event<'_>| {
            matches!(event, Event::Message(message)
                if message.topic == own && *message.payload == *word.as_bytes())
        };
        match self.talk.until(self.time, back).await {
            Ok(true) => Ok(format!("{}: subscribing and publishing work", self.place)),
            Ok(false) => {
                let says = format!("{}: a message to ourselves on {own} is lost", self.place);
                Err(Finding::fault("rights", says, remedy))
            }
            Err(error) => Err(self.failed("rights", &error, &remedy)),
        }
    }

    /// Whether a bridge answers, and only one: each sends our word back, after all its values.
    async fn bridge(&mut self) -> Finding {
        let word = format!(
            "doctor-{:016x}",
            RandomState::new().hash_one(Instant::now())
        );
        let (status, completed) = (
            self.notification(topic::STATUS),
            self.notification(topic::COMPLETED),
        );
        let mut seen = Seen::default();
        self.talk.subscribe(status.clone());
        self.talk.subscribe(completed.clone());
        self.talk.publish(
            &format!(
                "{}{}",
                self.prefix,
                topic::read_request(self.portal_id, topic::KEEPALIVE)
            ),
            &format!(r#"{{"keepalive-options": [{{"full-publish-completed-echo": "{word}"}}]}}"#),
        );
        let mut look = |event: &Event<'_>| {
            let Event::Message(message) = event else {
                return false;
            };
            let payload: serde_json::Value =
                serde_json::from_slice(message.payload).unwrap_or_default();
            let value = payload.get("value");
            if message.topic == status {
                seen.online = value
                    .and_then(|value| value.as_str())
                    .map(|text| text == ONLINE);
            }
            let echo = payload.get("full-publish-completed-echo");
            let ours = echo.and_then(|echo| echo.as_str()) == Some(&word);
            if message.topic == completed && ours {
                seen.answers += 1;
                seen.clock_s = value.and_then(serde_json::Value::as_u64);
            }
            ours
        };
        let first = self.talk.until(self.time, &mut look).await;
        let second = match first {
            Ok(true) => self.talk.until(SECOND_TIME.min(self.time), &mut look).await,
            other => other,
        };
        if let Err(error) = second {
            return self.failed("bridge", &error, "run this again");
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        seen.judge(
            &self.place,
            self.portal_id,
            now.unwrap_or_default().as_secs(),
        )
    }
}

/// What was seen of bridges.
#[derive(Debug, Default)]
struct Seen {
    /// What the retained status says, where there is one.
    online: Option<bool>,
    answers: usize,
    /// What time it is there.
    clock_s: Option<u64>,
}

impl Seen {
    fn judge(&self, place: &str, portal_id: &PortalId, now_s: u64) -> Finding {
        let fault = |says: String, remedy: &str| Finding::fault("bridge", says, remedy);
        match (self.answers, self.online) {
            (0, Some(true)) => fault(
                format!("{place}: a bridge for {portal_id} says it is online, and does not answer"),
                "restart it; if that does not help, the broker keeps requests from it",
            ),
            (0, Some(false) | None) => fault(
                format!("{place}: no bridge answers for {portal_id}"),
                "start it: dbus-mqtt with the same settings, or systemctl start dbus-mqtt",
            ),
            (1, _) => match self.clock_s {
                Some(there) if there.abs_diff(now_s) > CLOCKS_DIFFER_S => Finding::note(
                    "bridge",
                    format!(
                        "{place}: a bridge answers, but its clock differs by {} s",
                        there.abs_diff(now_s)
                    ),
                    "set the clock of the device that is wrong",
                ),
                _ => Finding::fine("bridge", format!("{place}: a bridge answers")),
            },
            (answers, _) => fault(
                format!("{place}: {answers} bridges answer for {portal_id}"),
                "stop all but one; on Venus OS, Settings - Services - MQTT starts one of its own",
            ),
        }
    }
}

/// What to do about a way that leads nowhere.
fn way_remedy(error: &TransportError) -> &'static str {
    match error {
        TransportError::Io(error) if error.kind() == ErrorKind::ConnectionRefused => {
            "nothing listens there: is the broker running, and is that its port?"
        }
        TransportError::Io(error) if is_unreachable(error.kind()) => {
            "is this device in the network, and the broker too?"
        }
        TransportError::Io(_) | TransportError::NoAddress => {
            "check the name of the broker, or write its address instead"
        }
        TransportError::ConnectTimeout => SILENT,
        TransportError::HandshakeTimeout { .. } | TransportError::HandshakeClosed { .. } => {
            "check the port, and whether that port is encrypted or a WebSocket"
        }
        TransportError::NotBuilt { .. } => "take a build of dbus-mqtt that has it",
        #[cfg(feature = "tls")]
        TransportError::Tls(_) => {
            "check the certificates, their names and the clock of this device"
        }
        #[cfg(feature = "websocket")]
        TransportError::WebSocket(_) => "check the path of the address, and the web server there",
    }
}

fn is_unreachable(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable
    )
}

const SILENT: &str = "is the broker on, in the same network, and behind no firewall?";
const ONLINE: &str = "online";
/// How long a second bridge may take longer than the first.
const SECOND_TIME: Duration = Duration::from_secs(3);
/// As far as clocks that nobody sets may be apart.
const CLOCKS_DIFFER_S: u64 = 60;

#[cfg(test)]
mod tests {
    use super::super::report::Verdict;
    use super::*;

    #[test]
    fn what_is_seen_of_bridges() {
        let portal = PortalId::new("e0ff50a097c0").unwrap();
        let judge = |answers, online, clock_s| {
            let seen = Seen {
                online,
                answers,
                clock_s,
            };
            let found = seen.judge("home", &portal, 1_000_000);
            (found.verdict, found.says)
        };
        assert_eq!(judge(1, Some(true), Some(1_000_003)).0, Verdict::Fine);
        assert_eq!(judge(1, None, None).0, Verdict::Fine);
        let (verdict, says) = judge(1, None, Some(999_000));
        assert_eq!(verdict, Verdict::Note);
        assert!(says.ends_with("differs by 1000 s"), "{says}");
        for (answers, online, words) in [
            (0, None, "no bridge answers for e0ff50a097c0"),
            (0, Some(false), "no bridge answers"),
            (0, Some(true), "says it is online, and does not answer"),
            (2, Some(true), "2 bridges answer for e0ff50a097c0"),
        ] {
            let (verdict, says) = judge(answers, online, None);
            assert_eq!(verdict, Verdict::Fault);
            assert!(says.contains(words), "{says}");
        }
    }
}
