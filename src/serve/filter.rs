//! Topic filters of clients, over whole topics [MQTT-4.7].

/// A filter, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    text: Box<str>,
    levels: Box<[Level]>,
    /// From which level on it is held against what stands below `N/<portal id>/`; `None` where it
    /// matches nothing there.
    ours: Option<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Level {
    Text(Box<str>),
    /// `+`
    Any,
    /// `#`
    Rest,
}

impl Filter {
    /// Takes a filter apart; `None` where MQTT has no such one, or it has too many levels.
    pub fn parse(text: &str, portal: &str, levels_max: usize) -> Option<Filter> {
        if text.is_empty() || text.contains('\0') {
            return None;
        }
        if text.bytes().filter(|byte| *byte == b'/').count() >= levels_max {
            return None;
        }
        let mut levels = Vec::new();
        for level in text.split('/') {
            if levels.last() == Some(&Level::Rest) {
                return None;
            }
            levels.push(match level {
                "#" => Level::Rest,
                "+" => Level::Any,
                text if text.contains(['+', '#']) => return None,
                text => Level::Text(text.into()),
            });
        }
        let ours = below(&levels, ["N", portal]);
        Some(Filter {
            text: text.into(),
            levels: levels.into(),
            ours,
        })
    }

    /// The filter as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it matches a topic.
    pub fn matches(&self, topic: &str) -> bool {
        // [MQTT-4.7.2-1]
        if topic.starts_with('$') && !matches!(self.levels.first(), Some(Level::Text(_))) {
            return false;
        }
        matches(&self.levels, topic)
    }

    /// Whether it can match anything below `N/<portal id>/`.
    pub fn is_ours(&self) -> bool {
        self.ours.is_some()
    }

    /// Whether it matches `N/<portal id>/` with that behind it.
    pub fn matches_ours(&self, rest: &str) -> bool {
        self.ours
            .and_then(|from| self.levels.get(from..))
            .is_some_and(|levels| matches(levels, rest))
    }

    /// Without wildcards: the one topic that it matches.
    pub fn only(&self) -> Option<&str> {
        let plain = |level: &Level| matches!(level, Level::Text(_));
        self.levels.iter().all(plain).then_some(&*self.text)
    }

    /// Whether it may be the topic of one value.
    pub fn is_topic(&self) -> bool {
        self.only()
            .is_some_and(|only| only.len() <= TOPIC_BYTES_MAX)
    }

    /// Whether it can match something below `N/<portal id>/`, requests for that portal id,
    /// or below the discovery prefix: with `relay = false` others are refused (§9.19).
    pub fn may_be_ours(&self, portal: &str, discovery_prefix: Option<&str>) -> bool {
        if let (Some(Level::Text(first)), Some(prefix)) = (self.levels.first(), discovery_prefix)
            && prefix.split('/').next() == Some(&**first)
        {
            return true;
        }
        let fits = |kind: &str| match (self.levels.first(), self.levels.get(1)) {
            (Some(Level::Rest), _) => true,
            (Some(level), second) => {
                let first = match level {
                    Level::Text(text) => **text == *kind,
                    Level::Any | Level::Rest => true,
                };
                let second = match second {
                    Some(Level::Text(text)) => **text == *portal,
                    Some(Level::Any | Level::Rest) => true,
                    None => false,
                };
                first && second
            }
            (None, _) => false,
        };
        ["N", "R", "W"].into_iter().any(fits)
    }
}

/// From which level on a filter goes below these two; a `#` stays where it is.
fn below(levels: &[Level], prefix: [&str; 2]) -> Option<usize> {
    for (at, wanted) in prefix.into_iter().enumerate() {
        match levels.get(at)? {
            Level::Rest => return Some(at),
            Level::Any => {}
            Level::Text(text) if **text == *wanted => {}
            Level::Text(_) => return None,
        }
    }
    // `N/<portal id>` alone has nothing below it.
    (levels.len() > 2).then_some(2)
}

fn matches(levels: &[Level], topic: &str) -> bool {
    let mut parts = topic.split('/');
    for level in levels {
        match (level, parts.next()) {
            // Also the level before it [MQTT-4.7.1-2].
            (Level::Rest, _) => return true,
            (Level::Any, Some(_)) => {}
            (Level::Text(text), Some(part)) if **text == *part => {}
            (Level::Any | Level::Text(_), _) => return false,
        }
    }
    parts.next().is_none()
}

/// The longest topic that counts as one of a value, in bytes.
const TOPIC_BYTES_MAX: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<Filter> {
        Filter::parse(text, "abc", 128)
    }

    #[test]
    fn filters_match_as_the_standard_says() {
        for (filter, topic, expected) in [
            ("#", "a/b", true),
            ("#", "$SYS/x", false),
            ("+/x", "$SYS/x", false),
            ("$SYS/#", "$SYS/x", true),
            ("a/#", "a", true),
            ("a/#", "a/b/c", true),
            ("a/#", "ab", false),
            ("a/+", "a", false),
            ("a/+", "a/", true),
            ("a/+/c", "a//c", true),
            ("+", "a/b", false),
            ("/+", "/a", true),
            ("+/+", "/a", true),
            ("a", "a/b", false),
        ] {
            assert_eq!(
                parse(filter).unwrap().matches(topic),
                expected,
                "{filter} {topic}"
            );
        }
        for bad in ["", "a/#/b", "a#", "a+/b", "#/", "a\0"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        assert!(Filter::parse("a/b/c", "abc", 3).is_some());
        assert!(Filter::parse("a/b/c/d", "abc", 3).is_none());
    }

    #[test]
    fn what_is_ours_is_held_against_the_rest_of_the_topic() {
        for (filter, rest, expected) in [
            ("#", "battery/0/Soc", true),
            ("N/#", "battery/0/Soc", true),
            ("+/#", "battery/0/Soc", true),
            ("N/abc/#", "battery/0/Soc", true),
            ("N/+/battery/+/Soc", "battery/0/Soc", true),
            ("N/abc/battery/0/Soc", "battery/0/Soc", true),
            ("N/abc/battery/0/Soc", "battery/1/Soc", false),
            ("N/abd/#", "battery/0/Soc", false),
            ("N/abc", "battery/0/Soc", false),
            ("N/+", "battery/0/Soc", false),
            ("R/abc/#", "battery/0/Soc", false),
        ] {
            assert_eq!(
                parse(filter).unwrap().matches_ours(rest),
                expected,
                "{filter}"
            );
            let whole = format!("N/abc/{rest}");
            assert_eq!(parse(filter).unwrap().matches(&whole), expected, "{filter}");
        }
    }

    #[test]
    fn s9_19_without_relay_only_our_topics_may_be_subscribed_to() {
        for (filter, expected) in [
            ("#", true),
            ("N/#", true),
            ("N/abc/x/#", true),
            ("+/abc/#", true),
            ("N/+/system/0/Serial", true),
            ("R/abc/#", true),
            ("N/other/#", false),
            ("a/b", false),
            ("+", false),
            ("homeassistant/#", true),
        ] {
            assert_eq!(
                parse(filter)
                    .unwrap()
                    .may_be_ours("abc", Some("homeassistant")),
                expected,
                "{filter}"
            );
        }
    }
}
