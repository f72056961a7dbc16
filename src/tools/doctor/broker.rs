//! A broker, on the way a bridge goes: reach it, log in, subscribe, publish; then whether a bridge
//! answers there, and only one.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::io::{ErrorKind, Write};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::report::{Finding, Report};
use super::talk::Talk;
use crate::codec::packet::Version;
use crate::config::{BrokerConfig, MqttVersion, Secret};
use crate::error::plain;
use crate::link::session::LinkError;
use crate::model::access::Access;
use crate::model::access::AccessRule;
use crate::model::name::PortalId;
use crate::model::topic;
use crate::shell::transport::{self, Endpoint, TransportError};
use crate::tools::ToolError;
use crate::tools::session::{Event, PACKET_BYTES_MAX, usual_version};

/// Checks one broker.
pub async fn check(
    report: &mut Report<impl Write>,
    portal_id: &PortalId,
    broker: &BrokerConfig,
    devices: Option<&BTreeSet<String>>,
    time: Duration,
) -> Result<(), ToolError> {
    let mut doctor = match Doctor::at(broker, portal_id, time).await {
        Ok(doctor) => doctor,
        Err(finding) => return report.add(&finding),
    };
    let (place, version) = (&doctor.place, doctor.version);
    let says = format!("{place} takes the connection ({version})");
    report.add(&Finding::fine("broker", says))?;
    match doctor.rights().await {
        Ok(says) => report.add(&Finding::fine("rights", says))?,
        Err(finding) => return report.add(&finding),
    }
    report.add(&doctor.bridge().await)?;
    for finding in doctor.notes.findings(&doctor.place, devices) {
        report.add(&finding)?;
    }
    doctor.talk.close().await;
    Ok(())
}

/// Checks only whether one broker has it that the bridge is online: nobody is asked for values, which
/// would have them published for the next minute.
pub async fn check_quickly(
    report: &mut Report<impl Write>,
    portal_id: &PortalId,
    broker: &BrokerConfig,
    time: Duration,
) -> Result<(), ToolError> {
    match Doctor::at(broker, portal_id, time).await {
        Err(finding) => report.add(&finding),
        Ok(mut doctor) => {
            report.add(&doctor.status().await)?;
            doctor.talk.close().await;
            Ok(())
        }
    }
}

/// A conversation about one broker, or with a listener of ours.
pub(super) struct Doctor<'a> {
    talk: Talk,
    version: Version,
    place: String,
    prefix: &'a str,
    portal_id: &'a PortalId,
    time: Duration,
    notes: Notes,
}

/// What came by.
#[derive(Debug, Default)]
struct Notes {
    prefix: String,
    /// Requests that the broker keeps, which it must not (§5.7).
    requests: BTreeSet<String>,
    /// The devices that values came of.
    published: BTreeSet<String>,
    /// Whether the serial number was in store.
    serial: bool,
    /// Whether it was, and a subscription with a wildcard did not bring it (§4.9).
    no_wildcards: bool,
}

/// Why there is no conversation.
enum Opening {
    /// The broker does not know this version.
    Version(Finding),
    /// Anything else.
    Failed(Finding),
}

impl<'a> Doctor<'a> {
    /// Reaches the broker in the version that it has. What is found where that fails may be in order.
    pub(super) async fn at(
        broker: &'a BrokerConfig,
        portal_id: &'a PortalId,
        time: Duration,
    ) -> Result<Doctor<'a>, Finding> {
        let place = format!("{} ({})", broker.name, broker.address());
        if broker.access == AccessRule::Always(Access::Off) {
            let says = format!("{place} is switched off in the settings");
            return Err(Finding::note("broker", says, ""));
        }
        let no_password = |password: &Secret| password.expose().is_empty();
        if broker.access == AccessRule::AsDeviceSays
            && broker
                .login
                .as_ref()
                .is_none_or(|login| no_password(&login.password))
        {
            let says = format!("{place}: there is no password yet");
            return Err(Finding::note("broker", says, "the first start makes it"));
        }
        let version = usual_version(broker);
        let mut opened = Doctor::open(broker, portal_id, &place, version, time).await;
        if matches!(opened, Err(Opening::Version(_))) && broker.version == MqttVersion::Auto {
            opened = Doctor::open(broker, portal_id, &place, Version::V5, time).await;
        }
        opened.map_err(|opening| match opening {
            Opening::Version(finding) | Opening::Failed(finding) => finding,
        })
    }

    /// Reaches the broker and logs in.
    async fn open(
        broker: &'a BrokerConfig,
        portal_id: &'a PortalId,
        place: &str,
        version: Version,
        time: Duration,
    ) -> Result<Doctor<'a>, Opening> {
        let endpoint = Endpoint::of(broker, PACKET_BYTES_MAX);
        let stream = match tokio::time::timeout(time, transport::connect(&endpoint)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                let says = format!("{place}: {}", plain(&error));
                let finding = Finding::fault("broker", says, way_remedy(&error));
                return Err(Opening::Failed(finding));
            }
            Err(_) => {
                let says = format!("{place}: no connection within {} s", time.as_secs_f64());
                return Err(Opening::Failed(Finding::fault("broker", says, SILENT)));
            }
        };
        let mut doctor = Doctor {
            talk: Talk::open(stream, broker, version),
            version,
            place: place.to_owned(),
            prefix: &broker.prefix,
            portal_id,
            time,
            notes: Notes {
                prefix: broker.prefix.clone(),
                ..Notes::default()
            },
        };
        let connected = |event: &Event<'_>| matches!(event, Event::Connected);
        match doctor.talk.until(time, connected).await {
            Ok(true) => Ok(doctor),
            Ok(false) => Err(Opening::Failed(doctor.silent("broker"))),
            Err(error) => {
                let is_version = matches!(error, LinkError::Version { .. });
                let remedy = if matches!(error, LinkError::Refused { .. }) {
                    "check --mqtt-user and its password, and who may connect there"
                } else if is_version {
                    "--mqtt-version auto takes the version that the broker has"
                } else {
                    "is that an MQTT broker, and is that its port? 8883 mostly wants a certificate (-c)"
                };
                let finding = doctor.failed("broker", &error, remedy);
                Err(if is_version {
                    Opening::Version(finding)
                } else {
                    Opening::Failed(finding)
                })
            }
        }
    }

    /// The version that is spoken.
    pub(super) fn version(&self) -> Version {
        self.version
    }

    /// What is wrong with what came by.
    pub(super) fn findings(&self, devices: Option<&BTreeSet<String>>) -> Vec<Finding> {
        self.notes.findings(&self.place, devices)
    }

    /// Whether the serial number was in store, and how many devices have values.
    pub(super) fn stored(&self) -> (bool, usize) {
        (self.notes.serial, self.notes.published.len())
    }

    /// Ends the conversation.
    pub(super) async fn close(self) {
        self.talk.close().await;
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
            "is that an MQTT broker, and is it still running?",
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
        let notes = &mut self.notes;
        let told = |event: &Event<'_>| {
            notes.take(event);
            matches!(event, Event::Fenced)
        };
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
            Ok(false) if self.others().await => Err(self.reserved()),
            Ok(false) => {
                let says = format!(
                    "{}: a message to ourselves on {own} did not arrive",
                    self.place
                );
                Err(Finding::fault("rights", says, remedy))
            }
            Err(error) => Err(self.failed("rights", &error, &remedy)),
        }
    }

    /// Whether another program publishes for this device, where nobody else may.
    async fn others(&mut self) -> bool {
        self.talk.subscribe(self.notification("#"));
        let any = self.notification("");
        let status = self.notification(topic::STATUS);
        let mut is_ours = false;
        let foreign = |event: &Event<'_>| {
            let Event::Message(message) = event else {
                return false;
            };
            is_ours |= message.topic == status;
            is_ours || message.topic.starts_with(&any)
        };
        let found = self.talk.until(SECOND_TIME.min(self.time), foreign).await;
        matches!(found, Ok(true)) && !is_ours
    }

    /// What is to be said of the broker of a GX device.
    fn reserved(&self) -> Finding {
        let says = format!(
            "{}: another program publishes {} there, and nobody else may, as in the broker of a GX device \
             (dbus-flashmq)",
            self.place,
            self.notification("#")
        );
        let remedy = "set mqtt-server to another broker, or mqtt-prefix = \"venus/\" for this one";
        Finding::fault("rights", says, remedy)
    }

    /// Whether the bridge is online, as the broker knows it from its status and its last will (§4.10).
    pub(super) async fn status(&mut self) -> Finding {
        let status = self.notification(topic::STATUS);
        let mut seen = Seen::default();
        self.talk.subscribe(status.clone());
        let told = |event: &Event<'_>| {
            if let Event::Message(message) = event
                && message.topic == status
            {
                seen.note_status(message.payload);
            }
            seen.online.is_some()
        };
        let found = self.talk.until(SECOND_TIME.min(self.time), told).await;
        let says = |what: &str| format!("{}: the bridge for {} {what}", self.place, self.portal_id);
        match (found, seen.online) {
            (Err(error), _) => self.failed("bridge", &error, "run this again"),
            (Ok(_), Some(true)) => Finding::fine("bridge", says("is online")),
            (Ok(_), Some(false)) => Finding::fault("bridge", says("is offline"), STOPPED),
            (Ok(_), None) => Finding::fault("bridge", says("has no status there"), STOPPED),
        }
    }

    /// Whether a subscription with wildcards brings what is in store.
    async fn wildcards(&mut self) -> Result<(), LinkError> {
        let serial = self.notification(topic::SERIAL);
        let any = match topic::parse_address(topic::SERIAL) {
            Some(address) => format!("{}/+{}", address.service_type, address.path),
            None => return Ok(()),
        };
        let mut found = [false, false];
        for (filter, found) in [self.notification(&any), serial]
            .into_iter()
            .zip(&mut found)
        {
            self.notes.serial = false;
            self.talk.subscribe(filter);
            self.talk.fence();
            let notes = &mut self.notes;
            let told = |event: &Event<'_>| {
                notes.take(event);
                matches!(event, Event::Fenced)
            };
            self.talk.until(self.time, told).await?;
            // Not every broker keeps the order.
            if !self.notes.serial {
                let notes = &mut self.notes;
                let late = |event: &Event<'_>| {
                    notes.take(event);
                    notes.serial
                };
                self.talk.until(QUIET.min(self.time), late).await?;
            }
            *found = self.notes.serial;
        }
        self.notes.no_wildcards = found == [false, true];
        Ok(())
    }

    /// Whether a bridge answers, and only one: each sends our word back, after all its values.
    pub(super) async fn bridge(&mut self) -> Finding {
        let word = format!(
            "doctor-{:016x}",
            RandomState::new().hash_one(Instant::now())
        );
        let (status, completed) = (
            self.notification(topic::STATUS),
            self.notification(topic::COMPLETED),
        );
        let mut seen = Seen::default();
        if let Err(error) = self.wildcards().await {
            return self.failed("bridge", &error, "run this again");
        }
        // By name too, for a broker that gives nothing in store to a wildcard.
        self.talk.subscribe(status.clone());
        self.talk.subscribe(self.notification("#"));
        self.talk.fence();
        let notes = &mut self.notes;
        let stored = |event: &Event<'_>| {
            notes.take(event);
            if let Event::Message(message) = event
                && message.topic == status
            {
                seen.note_status(message.payload);
            }
            matches!(event, Event::Fenced)
        };
        if let Err(error) = self.talk.until(self.time, stored).await {
            return self.failed("bridge", &error, "run this again");
        }
        let notes = &mut self.notes;
        self.talk.publish(
            &format!(
                "{}{}",
                self.prefix,
                topic::read_request(self.portal_id, topic::KEEPALIVE)
            ),
            &format!(r#"{{"keepalive-options": [{{"full-publish-completed-echo": "{word}"}}]}}"#),
        );
        let mut look = |event: &Event<'_>| {
            notes.take(event);
            let Event::Message(message) = event else {
                return false;
            };
            let payload: serde_json::Value =
                serde_json::from_slice(message.payload).unwrap_or_default();
            let value = payload.get("value");
            if message.topic == status {
                seen.note_status(message.payload);
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

impl Notes {
    fn take(&mut self, event: &Event<'_>) {
        let Event::Message(message) = event else {
            return;
        };
        let Some(topic) = message.topic.strip_prefix(&*self.prefix) else {
            return;
        };
        if message.payload.is_empty() {
            return;
        }
        let Some((_, rest)) = topic::parse_notification(topic) else {
            if message.retain && topic::parse_any(topic).is_some() {
                self.requests.insert(message.topic.to_owned());
            }
            return;
        };
        self.serial |= rest == topic::SERIAL && message.retain;
        // What a bridge says of itself has no path of an item.
        if let Some(address) = topic::parse_address(rest).filter(|_| rest != topic::SERIAL) {
            let device = format!("{}/{}", address.service_type, address.instance);
            self.published.insert(device);
        }
    }

    /// What is wrong with it. `devices` are on the bus.
    fn findings(&self, place: &str, devices: Option<&BTreeSet<String>>) -> Vec<Finding> {
        let mut findings = Vec::new();
        if let Some(first) = self.requests.first() {
            let says = format!(
                "{place} keeps {} requests that were sent with the retain flag, such as {first}",
                self.requests.len()
            );
            let remedy = format!("clear each of them: mosquitto_pub -r -n -t {first}");
            findings.push(Finding::fault("requests", says, remedy));
        }
        if self.no_wildcards {
            let says =
                format!("{place} gives no retained messages to subscriptions with wildcards");
            let remedy = "clients see a value only when it is published again, and stale ones cannot be cleared: \
                          take another broker, or --retain false";
            findings.push(Finding::note("retained", says, remedy));
        }
        let known = devices.map(|devices| self.published.difference(devices));
        let foreign: Vec<&str> = known.into_iter().flatten().map(String::as_str).collect();
        if !foreign.is_empty() {
            let says = format!(
                "{place} has values of devices that are not on the bus: {}",
                foreign.join(", ")
            );
            let remedy =
                "another bridge publishes them, or a broker that brings back what it had in store";
            findings.push(Finding::fault("foreign", says, remedy));
        }
        findings
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
    fn note_status(&mut self, payload: &[u8]) {
        let payload: serde_json::Value = serde_json::from_slice(payload).unwrap_or_default();
        let value = payload.get("value");
        self.online = value
            .and_then(|value| value.as_str())
            .map(|text| text == ONLINE);
    }

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
                "stop all but one; the broker of a GX device has its own: set mqtt-server to another broker, or \
                 mqtt-prefix = \"venus/\" for this one",
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
        TransportError::NotBuilt { .. } => "use a build of dbus-mqtt that includes it",
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
const STOPPED: &str = "is it running? dbus-mqtt doctor, without --quick, finds out more";
const ONLINE: &str = "online";
/// How long what is in store may come after the broker has said that it has told all.
const QUIET: Duration = Duration::from_secs(1);
/// How long a second bridge may take longer than the first.
const SECOND_TIME: Duration = Duration::from_secs(3);
/// As far as clocks that nobody sets may be apart.
const CLOCKS_DIFFER_S: u64 = 60;

#[cfg(test)]
mod tests {
    use super::super::report::Verdict;
    use super::*;
    use crate::codec::packet::InPublish;

    #[test]
    fn what_came_by() {
        let mut notes = Notes {
            prefix: "venus/".to_owned(),
            ..Notes::default()
        };
        let mut take = |topic: &str, payload: &str, retain| {
            let mut payload = payload.as_bytes().to_vec();
            let message = InPublish {
                topic,
                payload: &mut payload,
                retain,
                id: None,
                respond_to: None,
            };
            notes.take(&Event::Message(message));
        };
        take("venus/N/a/battery/1/Soc", "1", true);
        take("venus/N/a/tank/9/Level", "1", false);
        take("venus/N/a/tank/8/Level", "", true);
        take("venus/N/a/system/0/Serial", "1", true);
        take("venus/N/a/bridge/status", "1", true);
        take("venus/W/a/vebus/1/Mode", "4", true);
        take("venus/R/a/keepalive", "", true);
        take("venus/W/a/vebus/2/Mode", "4", false);
        take("W/a/vebus/3/Mode", "4", true);
        let devices = ["battery/1", "vebus/1"].map(str::to_owned).into();
        let says = |notes: &Notes, devices: Option<&BTreeSet<String>>| -> Vec<String> {
            let found = notes.findings("home", devices);
            found.into_iter().map(|finding| finding.says).collect()
        };
        let request = "home keeps 1 requests that were sent with the retain flag, such as \
                       venus/W/a/vebus/1/Mode";
        let foreign = "home has values of devices that are not on the bus: tank/9";
        assert_eq!(says(&notes, Some(&devices)), [request, foreign]);
        notes.requests.clear();
        notes.no_wildcards = true;
        assert_eq!(
            says(&notes, None),
            ["home gives no retained messages to subscriptions with wildcards"]
        );
    }

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
