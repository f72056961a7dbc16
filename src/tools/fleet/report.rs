//! What a fleet has to say of itself: connections, how they came back, and errors.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::shell::run::LinkNews;

/// What is known of the connections of a fleet.
#[derive(Debug)]
pub(super) struct Report {
    links: Vec<Link>,
    /// What the portal ids begin with.
    name: String,
    pub(super) connects: u64,
    reconnects: Vec<Duration>,
    /// Each error, and how often it came.
    pub(super) reasons: BTreeMap<String, u64>,
}

/// Which installation, when, and what happened to its connection.
pub(super) type News = (usize, Instant, LinkNews);

#[derive(Debug, Clone, Copy, Default)]
struct Link {
    connected: bool,
    /// Since when it is lost.
    lost: Option<Instant>,
}

impl Report {
    /// A fleet of this many that has no connection yet.
    pub(super) fn new(count: usize, name: &str) -> Report {
        Report {
            name: name.to_owned(),
            links: vec![Link::default(); count],
            connects: 0,
            reconnects: Vec::new(),
            reasons: BTreeMap::new(),
        }
    }

    /// What happened to a connection, for other programs.
    pub(super) fn event(&self, (bridge, at, news): &News) -> Value {
        let portal_id = portal_id(&self.name, *bridge);
        let ts = unix_ms(*at);
        match news {
            LinkNews::Connected => json!({"ts": ts, "portal_id": portal_id, "connected": true}),
            LinkNews::Failed {
                was_connected,
                reason,
            } => json!({
                "ts": ts,
                "portal_id": portal_id,
                "connected": false,
                "was_connected": was_connected,
                "error": reason,
            }),
        }
    }

    /// Takes what happened to a connection.
    pub(super) fn take(&mut self, (bridge, at, news): News) {
        let Some(link) = self.links.get_mut(bridge) else {
            return;
        };
        match news {
            LinkNews::Connected => {
                self.connects += 1;
                link.connected = true;
                if let Some(lost) = link.lost.take() {
                    self.reconnects.push(at.duration_since(lost));
                }
            }
            LinkNews::Failed {
                was_connected,
                reason,
            } => {
                link.connected = false;
                if was_connected {
                    link.lost = Some(at);
                }
                // The same error of all of them is one.
                let id = portal_id(&self.name, bridge);
                let reason = reason.replace(&id, "{portal-id}");
                if self.reasons.len() < REASONS_MAX || self.reasons.contains_key(&reason) {
                    *self.reasons.entry(reason).or_default() += 1;
                }
            }
        }
    }

    /// How many are connected.
    pub(super) fn connected(&self) -> usize {
        self.links.iter().filter(|link| link.connected).count()
    }

    /// How often connections failed or were lost.
    pub(super) fn errors(&self) -> u64 {
        self.reasons.values().sum()
    }

    /// The most frequent error.
    pub(super) fn reason(&self) -> Option<String> {
        let most = self.reasons.iter().max_by_key(|(_, count)| **count);
        most.map(|(reason, _)| reason.clone())
    }

    /// How long connections that were lost took to be back, in seconds.
    pub(super) fn reconnect_seconds(&self) -> Vec<f64> {
        self.reconnects.iter().map(Duration::as_secs_f64).collect()
    }

    /// When connections came back after they were lost, and all errors: a line each.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if !self.reconnects.is_empty() {
            let mut sorted = self.reconnects.clone();
            sorted.sort_unstable();
            let part = |hundredths: usize| {
                let at = (sorted.len() - 1) * hundredths / 100;
                sorted.get(at).map_or(0.0, Duration::as_secs_f64)
            };
            lines.push(format!(
                "{} reconnects: half within {:.1} s of the loss, 95 % within {:.1} s, the last after {:.1} s",
                sorted.len(),
                part(50),
                part(95),
                part(100)
            ));
            let mut from = Duration::ZERO;
            for to in BOUNDS {
                let count = sorted.iter().filter(|time| **time >= from && **time < to);
                lines.extend(row(from, Some(to), count.count(), sorted.len()));
                from = to;
            }
            let more = sorted.iter().filter(|time| **time >= from).count();
            lines.extend(row(from, None, more, sorted.len()));
        }
        let reasons = self.reasons.iter();
        lines.extend(reasons.map(|(reason, count)| format!("{count} × {reason}")));
        lines
    }
}

/// A moment in milliseconds since 1970, by the clock as it is now.
pub(super) fn unix_ms(at: Instant) -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let since = since.unwrap_or_default().saturating_sub(at.elapsed());
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The portal id of an installation.
pub(super) fn portal_id(name: &str, number: usize) -> String {
    format!("{name}{number:06}")
}

/// A bar of the histogram; none where it would be empty.
fn row(from: Duration, to: Option<Duration>, count: usize, of: usize) -> Option<String> {
    let from = from.as_secs_f64();
    let to = to.map_or_else(String::new, |to| format!("{:.2}", to.as_secs_f64()));
    let bar = "#".repeat((count * BAR).div_ceil(of));
    (count > 0).then(|| format!("{from:>6.2} – {to:>5} s {count:>6}  {bar}"))
}

/// Where the bars of the histogram end.
const BOUNDS: [Duration; 10] = [
    Duration::from_millis(125),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
    Duration::from_secs(16),
    Duration::from_secs(30),
    Duration::from_secs(60),
];
/// How long the longest bar can be.
const BAR: usize = 40;
/// How many different errors are counted.
const REASONS_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happens_to_a_connection_is_told_to_programs() {
        let report = Report::new(2, "fleet");
        let told = |news| {
            let mut event = report.event(&(1, Instant::now(), news));
            // 2020 and later, in milliseconds.
            let ts = event.as_object_mut().unwrap().remove("ts");
            assert!(ts.unwrap().as_u64().unwrap() > 1_577_836_800_000);
            event
        };
        assert_eq!(
            told(LinkNews::Connected),
            json!({"portal_id": "fleet000001", "connected": true})
        );
        let failed = LinkNews::Failed {
            was_connected: true,
            reason: String::from("the end"),
        };
        assert_eq!(
            told(failed),
            json!({"portal_id": "fleet000001", "connected": false, "was_connected": true, "error": "the end"})
        );
    }

    #[test]
    fn a_reconnect_is_counted_from_the_loss() {
        let mut report = Report::new(2, "fleet");
        let start = Instant::now();
        let failed = |was_connected| LinkNews::Failed {
            was_connected,
            reason: String::from("fleet000001 is closed"),
        };
        report.take((0, start, LinkNews::Connected));
        report.take((1, start, LinkNews::Connected));
        assert_eq!((report.connected(), report.connects), (2, 2));
        report.take((1, start, failed(true)));
        let later = start + Duration::from_secs(1);
        report.take((1, later, failed(false)));
        assert_eq!((report.connected(), report.errors()), (1, 2));
        let back = start + Duration::from_secs(3);
        report.take((1, back, LinkNews::Connected));
        assert_eq!(report.connected(), 2);
        let lines = report.lines();
        assert!(
            lines[0].starts_with("1 reconnects: half within 3.0 s"),
            "{lines:?}"
        );
        assert!(
            lines[1].starts_with("  2.00 –  4.00 s      1  ###"),
            "{lines:?}"
        );
        assert_eq!(lines[2..], ["2 × {portal-id} is closed"]);
        assert_eq!(report.reason().as_deref(), Some("{portal-id} is closed"));
    }
}
