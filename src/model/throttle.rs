//! How often the values of some topics go out, as the settings say: `["battery/+/Dc/0/#", "10s", 0.5]`.

use std::time::Duration;

use super::filter::Filter;

/// How often the values that a filter matches are published.
#[derive(Debug, Clone, PartialEq)]
pub struct ThrottleRule {
    /// The topics, without `N/<portal id>/`.
    pub filter: Filter,
    /// The shortest time between two values of one topic.
    pub interval: Duration,
    /// A number that differs from the one before by no more than this is held back; 0: only equal ones are.
    pub deadband: f64,
}

impl ThrottleRule {
    /// Reads one entry: a filter, an interval such as `10s`, and a deadband.
    pub fn parse(filter: &str, interval: &str, deadband: &str) -> Option<ThrottleRule> {
        let deadband: f64 = deadband.parse().ok()?;
        Some(ThrottleRule {
            filter: Filter::parse(filter)?,
            interval: interval_of(interval)?,
            deadband: Some(deadband).filter(|band| band.is_finite() && *band >= 0.0)?,
        })
    }
}

/// A number with a unit: `500ms`, `10s`, `5m` or `1h`, at most a day.
fn interval_of(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let factor_ms: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    let interval_ms = number.parse::<u64>().ok()?.checked_mul(factor_ms)?;
    Some(Duration::from_millis(interval_ms)).filter(|interval| *interval <= INTERVAL_MAX)
}

const INTERVAL_MAX: Duration = Duration::from_secs(86_400);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_a_filter_an_interval_and_a_deadband() {
        let rule = ThrottleRule::parse("battery/+/Dc/0/#", "10s", "0.5").unwrap();
        assert_eq!(rule.interval, Duration::from_secs(10));
        for (text, ms) in [
            ("0s", 0),
            ("250ms", 250),
            ("2m", 120_000),
            ("24h", 86_400_000),
        ] {
            let rule = ThrottleRule::parse("#", text, "0").unwrap();
            assert_eq!(rule.interval, Duration::from_millis(ms), "{text}");
        }
        for text in [
            "",
            "10",
            "s",
            "10 s",
            "-1s",
            "1.5s",
            "25h",
            "99999999999999999999s",
        ] {
            assert_eq!(ThrottleRule::parse("#", text, "0"), None, "{text}");
        }
        for band in ["-0.1", "nan", "inf", "x", ""] {
            assert_eq!(ThrottleRule::parse("#", "1s", band), None, "{band}");
        }
        assert_eq!(ThrottleRule::parse("a#", "1s", "0"), None);
    }
}
