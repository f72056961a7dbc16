//! Numbers in the text format of Prometheus, version 0.0.4: for each family a line of help, its type,
//! and then all of its samples.

use std::fmt::Write as _;

use crate::bridge::{Bridge, METRICS};
use crate::model::counts::{CLIENT_COUNTS, Kind};
use crate::model::time::Now;

/// What the format is called.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A name that is taken from outside, and its value.
type Label<'a> = (&'static str, &'a str);

#[derive(Default)]
struct Text(String);

/// All that the bridge tells of itself.
pub(super) fn render(bridge: &Bridge, now: Now, memory_bytes: Option<u64>) -> String {
    let all = bridge.stats(now);
    let mut text = Text::default();
    text.family("build_info", "gauge", "The version that runs.");
    text.sample("build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    let of_all = [
        (
            "uptime_seconds",
            "gauge",
            "For how long the bridge runs.",
            Some(all.uptime.as_secs()),
        ),
        (
            "resident_memory_bytes",
            "gauge",
            "The memory that the program has.",
            memory_bytes,
        ),
        (
            "services",
            "gauge",
            "Services on the bus.",
            Some(all.services as u64),
        ),
        (
            "items",
            "gauge",
            "Values that they have.",
            Some(all.items as u64),
        ),
        (
            "changes_total",
            "counter",
            "Changes of values that the bus brought.",
            Some(all.changes),
        ),
        (
            "too_long_total",
            "counter",
            "Values among them that were too long to be kept.",
            Some(all.too_long),
        ),
        (
            "bus_connected",
            "gauge",
            "Whether the bus is connected.",
            Some(all.bus_connected.into()),
        ),
        (
            "bus_reconnects_total",
            "counter",
            "How often the bus was connected again.",
            Some(all.bus_reconnects),
        ),
    ];
    for (name, kind, help, number) in of_all {
        let Some(number) = number else { continue };
        text.family(name, kind, help);
        text.sample(name, &[], number);
    }
    for metric in METRICS {
        let Some((name, kind, help)) = metric.family else {
            continue;
        };
        text.family(name, kind, help);
        for broker in bridge.broker_stats() {
            text.sample(name, &[("broker", broker.name)], (metric.read)(&broker));
        }
    }
    for count in CLIENT_COUNTS {
        let (kind, end) = match count.kind {
            Kind::Gauge => ("gauge", ""),
            Kind::Counter => ("counter", "_total"),
        };
        let name = format!("listener_{}{end}", count.name);
        let listeners = bridge.broker_stats();
        let mut listeners = listeners
            .filter_map(|stats| Some((stats.name, stats.clients?)))
            .peekable();
        if listeners.peek().is_some() {
            text.family(&name, kind, count.help.trim());
        }
        for (listener, counts) in listeners {
            text.sample(&name, &[("listener", listener)], (count.of)(&counts));
        }
    }
    let name = "requests_refused_total";
    text.family(name, "counter", "Requests of clients that were refused.");
    for broker in bridge.broker_stats() {
        for (reason, count) in &broker.refused {
            let labels = [("broker", broker.name), ("reason", *reason)];
            text.sample(name, &labels, *count);
        }
    }
    text.0
}

impl Text {
    // Writing to a text cannot fail.

    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {PREFIX}{name} {help}");
        let _ = writeln!(self.0, "# TYPE {PREFIX}{name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[Label<'_>], number: u64) {
        self.0.push_str(PREFIX);
        self.0.push_str(name);
        for (index, (label, value)) in labels.iter().enumerate() {
            self.0.push(if index == 0 { '{' } else { ',' });
            self.0.push_str(label);
            self.0.push_str("=\"");
            for letter in value.chars() {
                match letter {
                    '\\' => self.0.push_str("\\\\"),
                    '"' => self.0.push_str("\\\""),
                    '\n' => self.0.push_str("\\n"),
                    _ => self.0.push(letter),
                }
            }
            self.0.push('"');
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        let _ = writeln!(self.0, " {number}");
    }
}

/// What all names begin with.
const PREFIX: &str = "dbus_mqtt_";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_values_of_labels_are_escaped() {
        let mut text = Text::default();
        let labels = [("broker", "a \"b\" \\ c\nd ü"), ("reason", "")];
        text.sample("x_total", &labels, u64::MAX);
        let expected = "dbus_mqtt_x_total{broker=\"a \\\"b\\\" \\\\ c\\nd ü\",reason=\"\"} \
                        18446744073709551615\n";
        assert_eq!(text.0, expected);
        text.0.clear();
        text.family("y", "gauge", "What it is.");
        text.sample("y", &[], 0);
        let expected = "# HELP dbus_mqtt_y What it is.\n# TYPE dbus_mqtt_y gauge\ndbus_mqtt_y 0\n";
        assert_eq!(text.0, expected);
    }
}
