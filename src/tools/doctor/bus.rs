//! The bus: whether it can be reached, what is on it, and what its policy lets us do.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Write;
use std::time::Duration;

use tokio::task::JoinSet;
use zbus::{Connection, MessageStream, OwnedVariant, Variant};

use super::report::{Finding, Report};
use crate::bridge::calls::READS_MAX;
use crate::bridge::claim::{Claim, Holders};
use crate::codec::introspect;
use crate::config::BusAddress;
use crate::error::plain;
use crate::model::name::SERVICE_PREFIX;
use crate::model::name::{DeviceInstance, ServiceName};
use crate::model::value::{TextType, Value};
use crate::tools::ToolError;
use crate::tools::bus::{BUS_ITEM, call, connect, next};
use crate::tools::value::{BusValue, as_f64, copy};

/// Checks the bus, and what is on it. Gives the devices that are there, where all of them are known.
pub async fn check(
    report: &mut Report<impl Write>,
    address: &BusAddress,
    time: Duration,
) -> Result<Option<BTreeSet<String>>, ToolError> {
    let fault = |report: &mut Report<_>, finding: &Finding| report.add(finding).map(|()| None);
    let connection = match reach(address, time).await {
        Ok(connection) => connection,
        Err(finding) => return fault(report, &finding),
    };
    let names = match services(&connection, time).await {
        Ok(names) => names,
        Err(error) => {
            let remedy = if matches!(error, ToolError::BusCall { .. }) {
                POLICY
            } else {
                "the bus accepts connections but does not answer: restart it"
            };
            return fault(report, &Finding::fault("bus", error.to_string(), remedy));
        }
    };
    if names.is_empty() {
        let says = format!("{address} is a D-Bus, but no service of Victron is on it");
        let remedy = "is it that of the device? --dbus says which; system is the system bus";
        return fault(report, &Finding::fault("bus", says, remedy));
    }
    let says = format!("{address} has {} services", names.len());
    report.add(&Finding::fine("bus", says))?;
    // While the services are asked, what they send comes in.
    let stream = MessageStream::from(&connection);
    let read = reading(&connection, names, time).await;
    for finding in read.judge(time) {
        report.add(&finding)?;
    }
    report.add(&signals(&connection, stream, time).await)?;
    Ok(read.devices())
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
#[derive(Debug, Clone, PartialEq, Eq)]
enum Answer {
    Given(Device),
    Denied,
    Late,
    /// Why there is nothing to publish.
    Useless(String),
}

/// The device that a service says it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Device {
    /// `<type>/<instance>`, as in topics.
    key: String,
    /// Whether it says so itself, and has not 0 by default (§2.7).
    says_instance: bool,
    /// Whether it says so in a text.
    in_text: bool,
}

/// What was learnt of the services.
struct Read {
    answers: Vec<(String, Answer)>,
}

/// Whether the services let us read them. All are asked at once.
async fn reading(connection: &Connection, names: Vec<String>, time: Duration) -> Read {
    let mut asking = JoinSet::new();
    for name in names {
        let connection = connection.clone();
        asking.spawn(async move {
            let answer = tokio::time::timeout(time, ask(&connection, &name)).await;
            (name, answer.unwrap_or(Answer::Late))
        });
    }
    let mut answers = Vec::new();
    while let Some(answer) = asking.join_next().await {
        answers.extend(answer);
    }
    answers.sort_by(|(a, _), (b, _)| a.cmp(b));
    Read { answers }
}

/// Asks for all values, in the ways that the bridge does (§2.2).
async fn ask(connection: &Connection, name: &str) -> Answer {
    let call = |method| connection.call_method(Some(name), "/", Some(BUS_ITEM), method, &());
    let mut why = match call("GetItems").await {
        Err(error) if is_denied(&error) => return Answer::Denied,
        Err(error) => error.to_string(),
        Ok(reply) => {
            let body = reply.body();
            let items: HashMap<String, HashMap<String, OwnedVariant>> =
                body.deserialize().unwrap_or_default();
            if !items.is_empty() {
                let value = |path: &str| {
                    let items = items.iter();
                    let mut found = items.filter(|(own, _)| own.trim_start_matches('/') == path);
                    found.next()?.1.get("Value").map(|value| copy(value))
                };
                return Answer::Given(device(name, value));
            }
            "it has no values".to_owned()
        }
    };
    if let Ok(reply) = call("GetValue").await {
        let body = reply.body();
        let all = body.deserialize::<HashMap<String, OwnedVariant>>().ok();
        let all = all.or_else(|| {
            let Variant::Dict(dict) = body.deserialize::<Variant<'_>>().ok()? else {
                return None;
            };
            dict.try_into().ok()
        });
        match all {
            Some(all) if !all.is_empty() => {
                let value = |path: &str| all.get(path).map(|value| copy(value));
                return Answer::Given(device(name, value));
            }
            Some(_) | None => "it has no values".clone_into(&mut why),
        }
    }
    match walk(connection, name).await {
        Some(values) => Answer::Given(device(name, |path| values.get(path).map(copy))),
        None => Answer::Useless(why),
    }
}

/// What a service is, asked item by item. `None` where none of its items has a value.
async fn walk(connection: &Connection, name: &str) -> Option<HashMap<String, BusValue>> {
    let call = |path: String, interface, method| async move {
        let reply = connection.call_method(Some(name), &*path, Some(interface), method, &());
        reply.await.ok()
    };
    let value = |path: String| async move {
        let reply = call(path, BUS_ITEM, "GetValue").await?;
        reply
            .body()
            .deserialize::<Variant<'_>>()
            .ok()
            .map(|value| copy(&value))
    };
    let mut found = HashMap::new();
    for path in ["DeviceInstance", "Identifier"] {
        if let Some(value) = value(format!("/{path}")).await {
            found.insert(path.to_owned(), value);
        }
    }
    let mut todo = vec!["/".to_owned()];
    while found.is_empty() {
        let path = todo.pop()?;
        let Some(reply) = call(path.clone(), INTROSPECTABLE, "Introspect").await else {
            continue;
        };
        let body = reply.body();
        let node = body.deserialize::<&str>().ok().map(introspect::parse);
        let Some(Ok(node)) = node else { continue };
        if node.is_item
            && path != "/"
            && let Some(value) = value(path.clone()).await
        {
            found.insert(path.clone(), value);
        }
        let parent = path.trim_end_matches('/');
        let below = node
            .children
            .iter()
            .map(|child| format!("{parent}/{child}"));
        todo.extend(below.take(STEPS_MAX.saturating_sub(todo.len())));
    }
    Some(found)
}

/// The device that a service is (§1), from its values.
fn device(name: &str, value: impl Fn(&str) -> Option<BusValue>) -> Device {
    let service_type = name.split('.').nth(2).unwrap_or_default();
    let given = value("DeviceInstance");
    let text = match &given {
        Some(Variant::Str(text)) => Some(text.to_string()),
        Some(_) | None => None,
    };
    let number = match (&given, &text) {
        (_, Some(text)) => Value::Text(TextType::String, text),
        (Some(Variant::Bool(value)), _) => Value::Bool(*value),
        (Some(other), _) => as_f64(other).map_or(Value::Invalid, Value::Double),
        (None, _) => Value::Invalid,
    };
    let number = DeviceInstance::of_value(&number);
    let in_text = text.is_some() && number.is_some();
    let identifier = || {
        let Some(Variant::Str(text)) = value("Identifier") else {
            return None;
        };
        DeviceInstance::identifier(&text)
    };
    let said = number.or_else(identifier);
    Device {
        says_instance: said.is_some(),
        in_text,
        key: format!(
            "{service_type}/{}",
            said.unwrap_or_else(DeviceInstance::absent).as_str()
        ),
    }
}

/// Whether it is the policy of the bus that says no.
fn is_denied(error: &zbus::Error) -> bool {
    matches!(error, zbus::Error::FDO(error) if matches!(**error, zbus::fdo::Error::AccessDenied(_)))
}

impl Read {
    /// The devices, where every service says which it is.
    fn devices(&self) -> Option<BTreeSet<String>> {
        let key = |(_, answer): &(String, Answer)| match answer {
            Answer::Given(device) => Some(device.key.clone()),
            Answer::Denied | Answer::Late | Answer::Useless(_) => None,
        };
        self.answers.iter().map(key).collect()
    }

    /// What is to be said of them.
    fn judge(&self, time: Duration) -> Vec<Finding> {
        let mut findings = vec![self.answering(time)];
        findings.extend(self.clashes());
        findings.extend(self.texts());
        findings
    }

    fn answering(&self, time: Duration) -> Finding {
        let of = |wanted: fn(&Answer) -> bool| -> Vec<&str> {
            let names = self.answers.iter().filter(|(_, answer)| wanted(answer));
            names.map(|(name, _)| name.as_str()).collect()
        };
        let denied = of(|answer| *answer == Answer::Denied);
        let late = of(|answer| *answer == Answer::Late);
        let count = self.answers.len();
        if !denied.is_empty() {
            let says = format!(
                "the bus does not allow reading {} of {count} services: {}",
                denied.len(),
                few(&denied)
            );
            return Finding::fault("reading", says, POLICY);
        }
        if late.len() == count {
            let says = format!("no service answers within {} s", time.as_secs_f64());
            let remedy = "does the bus policy allow replies, or does the whole device hang?";
            return Finding::fault("reading", says, remedy);
        }
        if !late.is_empty() {
            let says = format!(
                "{} of {count} services give no answer within {} s: {}",
                late.len(),
                time.as_secs_f64(),
                few(&late)
            );
            let remedy = if late.len() < READS_MAX {
                "their values are missing until they answer; other services are not affected"
            } else {
                "restart them: their values are missing until they answer, and so many delay services that come later, because a bus limits the open calls of a program"
            };
            return Finding::note("reading", says, remedy);
        }
        let mut useless = self
            .answers
            .iter()
            .filter_map(|(name, answer)| match answer {
                Answer::Useless(why) => Some((name, why)),
                Answer::Given(_) | Answer::Denied | Answer::Late => None,
            });
        if let Some((name, why)) = useless.next() {
            let why: String = why.chars().take(REASON_CHARS_MAX).collect();
            let says = format!(
                "{} of {count} services give no values: {name} ({why})",
                1 + useless.count()
            );
            let remedy =
                "their driver is at fault, or still starting; other services are not affected";
            return Finding::note("reading", says, remedy);
        }
        Finding::fine("reading", format!("all {count} services answer"))
    }

    /// Devices that more than one service claims (§2.7).
    fn clashes(&self) -> Vec<Finding> {
        let holders = Holders::default();
        let mut claims: BTreeMap<&str, Vec<(Claim, &str)>> = BTreeMap::new();
        for (name, answer) in &self.answers {
            if let (Answer::Given(device), Some(service)) = (answer, ServiceName::new(name)) {
                // Who came first, and who had them before, only the bridge knows.
                let claim = holders.claim(&device.key, &service, device.says_instance, 0);
                claims.entry(&device.key).or_default().push((claim, name));
            }
        }
        let mut findings = Vec::new();
        for (key, mut claimed) in claims {
            claimed.sort_by(|(a, first), (b, second)| b.cmp(a).then(first.cmp(second)));
            let names: Vec<&str> = claimed.iter().map(|(_, name)| *name).collect();
            let (Some((first, rest)), [(best, _), (next, _), ..]) =
                (names.split_first(), &*claimed)
            else {
                continue;
            };
            let holder = if best > next {
                format!("{first} has its topics, and not {}", few(rest))
            } else {
                format!("only one of them has its topics: {}", few(&names))
            };
            let says = format!("{} services are {key}: {holder}", names.len());
            let remedy = "give each device a different instance";
            findings.push(Finding::fault("devices", says, remedy));
        }
        findings
    }

    /// Instances that are texts, which not every program takes.
    fn texts(&self) -> Option<Finding> {
        let named = self
            .answers
            .iter()
            .filter_map(|(name, answer)| match answer {
                Answer::Given(device) if device.in_text => Some(name.as_str()),
                Answer::Given(_) | Answer::Denied | Answer::Late | Answer::Useless(_) => None,
            });
        let named: Vec<&str> = named.collect();
        let says = format!(
            "the device instance is a text, not a number: {}",
            few(&named)
        );
        let remedy = "it is taken as the number; other programs may not do that";
        (!named.is_empty()).then(|| Finding::note("devices", says, remedy))
    }
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
            "the bus policy must allow this user to receive signals: see packaging/dbus-mqtt.conf";
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
            let remedy = "on a running device some do; if so, the bus policy blocks them, see packaging/dbus-mqtt.conf";
            Finding::note("signals", says, remedy)
        }
    }
}

/// What to do where the bus forbids something.
const POLICY: &str =
    "install packaging/dbus-mqtt.conf in /etc/dbus-1/system.d for the user of the bridge";
const INTROSPECTABLE: &str = "org.freedesktop.DBus.Introspectable";
/// More nodes than any service has.
const STEPS_MAX: usize = 100_000;
/// As many services as the bridge follows by default.
const SERVICES_MAX: usize = 2_000;
/// How much of a driver's own words is shown.
const REASON_CHARS_MAX: usize = 200;
/// How many names a line has at most.
const SHOWN: usize = 3;
/// A device says something several times a second.
const SIGNALS_TIME: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    #![allow(clippy::wildcard_enum_match_arm)] // whatever else it is, it is wrong

    use super::super::report::Verdict;
    use super::Answer::{Denied, Given, Late, Useless};
    use super::*;

    fn read(answers: &[(&str, Answer)]) -> Read {
        let named = answers.iter();
        let answers = named.map(|(name, answer)| ((*name).to_owned(), answer.clone()));
        Read {
            answers: answers.collect(),
        }
    }

    /// A device with these values.
    fn given(name: &str, values: &[(&str, BusValue)]) -> Answer {
        let value = |path: &str| {
            let mut found = values.iter().filter(|(own, _)| *own == path);
            found.next().map(|(_, value)| copy(value))
        };
        Given(device(name, value))
    }

    fn plain() -> Answer {
        given(
            "com.victronenergy.a.b",
            &[("DeviceInstance", Variant::I32(7))],
        )
    }

    #[test]
    fn what_the_answers_say() {
        let judged = |answers: &[Answer]| {
            let named: Vec<String> = (0..answers.len()).map(|at| format!("s{at}")).collect();
            let named: Vec<(&str, Answer)> = named
                .iter()
                .map(String::as_str)
                .zip(answers.iter().cloned())
                .collect();
            let found = read(&named).answering(Duration::from_secs(10));
            (found.verdict, found.says)
        };
        let all = judged(&[plain(), plain()]);
        assert_eq!(all, (Verdict::Fine, "all 2 services answer".to_owned()));
        let (verdict, says) = judged(&[plain(), Denied, Late, Denied]);
        assert_eq!(verdict, Verdict::Fault);
        assert_eq!(
            says,
            "the bus does not allow reading 2 of 4 services: s1, s3"
        );
        let (verdict, says) = judged(&[Late, plain(), Late, Late, Late]);
        assert_eq!(verdict, Verdict::Note);
        let expected = "4 of 5 services give no answer within 10 s: s0, s2, s3, …";
        assert_eq!(says, expected);
        assert_eq!(judged(&[Late, Late]).0, Verdict::Fault);
        let remedy = |late: usize| {
            let mut answers = vec![Late; late];
            answers.push(plain());
            let named = answers.iter().map(|answer| ("s", answer.clone()));
            let named: Vec<_> = named.collect();
            read(&named).answering(Duration::from_secs(10)).remedy
        };
        assert!(remedy(31).contains("other services are not affected"));
        assert!(remedy(32).contains("delay services that come later"));
        let (verdict, says) = judged(&[plain(), Useless("x".repeat(9_000))]);
        assert_eq!(verdict, Verdict::Note);
        assert!(
            says.starts_with("1 of 2 services give no values: s1 (xxx"),
            "{says}"
        );
        assert!(says.len() < 300, "{says}");
    }

    #[cfg(feature = "demo")] // the bus is the one of the demo
    #[tokio::test]
    async fn s2_2_a_service_that_only_introspects_is_a_device_too() {
        use crate::tools::item::Item;
        use crate::tools::service::{Behaviour, Peer};
        let oldest = || Behaviour {
            get_items: false,
            get_value_root: false,
            ..Behaviour::default()
        };
        let bus = crate::tools::demo::private_bus().await.unwrap();
        let peer = Peer::connect(bus.address()).await.unwrap();
        let connection = connect(bus.address()).await.unwrap();
        let mut services = Vec::new();
        for (name, items, key) in [
            ("a", &[("/DeviceInstance", 4), ("/Soc", 5)][..], "battery/4"),
            ("b", &[("/Dc/0/Power", 5)][..], "battery/0"),
            ("c", &[][..], ""),
        ] {
            let name = format!("com.victronenergy.battery.{name}");
            let items = items.iter();
            let items = items.map(|(path, value)| ((*path).to_owned(), Item::new(*value)));
            services.push(peer.add(&name, items, oldest(), None).await.unwrap());
            match ask(&connection, &name).await {
                Given(device) => assert_eq!(device.key, key),
                other => assert!(key.is_empty() && matches!(other, Useless(_)), "{other:?}"),
            }
        }
    }

    #[test]
    fn s2_7_two_services_that_are_one_device() {
        let clashes = |services: &[(&str, &[(&str, BusValue)])]| -> Vec<String> {
            let answers: Vec<(&str, Answer)> = services
                .iter()
                .map(|(name, values)| (*name, given(name, values)))
                .collect();
            let found = read(&answers).clashes();
            found.into_iter().map(|finding| finding.says).collect()
        };
        let number = |number| ("DeviceInstance", Variant::I32(number));
        let text = |text: &str| ("DeviceInstance", Variant::from(text.to_owned()));
        let (a, b) = ("com.victronenergy.tank.a", "com.victronenergy.tank.b");
        assert_eq!(clashes(&[(a, &[number(1)]), (b, &[number(2)])]), [""; 0]);
        assert_eq!(clashes(&[(a, &[text("4")]), (b, &[text("5")])]), [""; 0]);
        assert_eq!(
            clashes(&[(a, &[number(4)]), (b, &[text(" 4 ")])]),
            [format!(
                "2 services are tank/4: only one of them has its topics: {a}, {b}"
            )]
        );
        assert_eq!(
            clashes(&[(a, &[]), (b, &[number(0)])]),
            [format!(
                "2 services are tank/0: {b} has its topics, and not {a}"
            )]
        );
        let (real, extra) = (
            "com.victronenergy.settings",
            "com.victronenergy.settings.dummy",
        );
        assert_eq!(
            clashes(&[(real, &[]), (extra, &[])]),
            [format!(
                "2 services are settings/0: {real} has its topics, and not {extra}"
            )]
        );
        let identifier = ("Identifier", Variant::from("a/b".to_owned()));
        let vecan = given("com.victronenergy.vecan.x", &[identifier]);
        let Given(vecan) = vecan else { panic!() };
        assert_eq!(
            (vecan.key.as_str(), vecan.says_instance),
            ("vecan/a_b", true)
        );
    }

    #[test]
    fn an_instance_that_is_a_text_is_told() {
        let text = ("DeviceInstance", Variant::from("4".to_owned()));
        let name = "com.victronenergy.tank.a";
        let found = read(&[(name, given(name, &[text]))]).texts().unwrap();
        assert_eq!(found.verdict, Verdict::Note);
        assert!(found.says.ends_with(name), "{}", found.says);
        assert_eq!(read(&[("s", plain())]).texts(), None);
    }
}
