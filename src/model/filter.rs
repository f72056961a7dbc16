//! Topic filters, relative to the portal id: `battery/+/Soc`. Those of selective keep-alives (§5.4),
//! and the lists of what a broker may have (§8).

use std::fmt;

use smallvec::SmallVec;

/// Longest filter taken, in bytes.
const FILTER_BYTES_MAX: usize = 1024;

/// A topic filter, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    service_type: Level,
    instance: Level,
    path: Path,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Level {
    Any,
    Text(Box<str>),
    /// `#` stood here or before: everything below matches.
    Rest,
}

/// What a filter wants of the path of a device that it matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Path {
    /// All paths.
    All,
    /// This one; it can be looked up.
    One(Box<str>),
    /// Those that match level by level.
    Levels {
        /// The levels before `#`, or all of them.
        levels: SmallVec<[Option<Box<str>>; 4]>,
        /// Whether `#` follows.
        rest: bool,
    },
}

impl Filter {
    /// Takes `text` apart; `None` where MQTT has no such filter, or no item can match it.
    pub fn parse(text: &str) -> Option<Filter> {
        if text.is_empty() || text.len() > FILTER_BYTES_MAX || text.contains('\0') {
            return None;
        }
        let mut levels: SmallVec<[&str; 8]> = text.split('/').collect();
        let rest = levels.last() == Some(&"#");
        if rest {
            levels.pop();
        }
        if levels
            .iter()
            .any(|level| *level != "+" && level.contains(['+', '#']))
        {
            return None;
        }
        let level = |at: usize| match levels.get(at) {
            Some(&"+") => Some(Level::Any),
            Some(text) => Some(Level::Text((*text).into())),
            None => rest.then_some(Level::Rest),
        };
        let (service_type, instance) = (level(0)?, level(1)?);
        let below = levels.get(2..).unwrap_or_default();
        let path = if below.is_empty() {
            if !rest {
                return None;
            }
            Path::All
        } else if !rest && !below.contains(&"+") {
            Path::One(below.iter().flat_map(|level| ["/", level]).collect())
        } else {
            let text = |level: &&str| (*level != "+").then(|| (*level).into());
            Path::Levels {
                levels: below.iter().map(text).collect(),
                rest,
            }
        };
        Some(Filter {
            service_type,
            instance,
            path,
        })
    }

    /// `#`
    pub fn all() -> Filter {
        Filter {
            service_type: Level::Rest,
            instance: Level::Rest,
            path: Path::All,
        }
    }

    /// What the filter wants of the device `<type>/<instance>`; `None` where it wants nothing.
    pub fn of_device(&self, key: &str) -> Option<&Path> {
        let (service_type, instance) = key.split_once('/')?;
        let wants = |level: &Level, text: &str| match level {
            Level::Any | Level::Rest => true,
            Level::Text(wanted) => **wanted == *text,
        };
        (wants(&self.service_type, service_type) && wants(&self.instance, instance))
            .then_some(&self.path)
    }

    /// Whether the filter matches the item.
    pub fn matches(&self, key: &str, path: &str) -> bool {
        self.of_device(key)
            .is_some_and(|wanted| wanted.matches(path))
    }
}

impl Path {
    /// Whether the D-Bus path `path` is wanted.
    pub fn matches(&self, path: &str) -> bool {
        match self {
            Path::All => true,
            Path::One(wanted) => **wanted == *path,
            Path::Levels { levels, rest } => {
                let mut found = path.split('/').skip(1);
                let all = levels.iter().all(|wanted| match (wanted, found.next()) {
                    (_, None) => false,
                    (None, Some(_)) => true,
                    (Some(wanted), Some(level)) => **wanted == *level,
                });
                // `#` stands for the level before it as well [MQTT-4.7.1-2].
                all && (*rest || found.next().is_none())
            }
        }
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (level, between) in [(&self.service_type, ""), (&self.instance, "/")] {
            match level {
                Level::Any => write!(f, "{between}+")?,
                Level::Text(text) => write!(f, "{between}{text}")?,
                Level::Rest => return write!(f, "{between}#"),
            }
        }
        match &self.path {
            Path::All => f.write_str("/#"),
            Path::One(path) => f.write_str(path),
            Path::Levels { levels, rest } => {
                for level in levels {
                    write!(f, "/{}", level.as_deref().unwrap_or("+"))?;
                }
                f.write_str(if *rest { "/#" } else { "" })
            }
        }
    }
}

/// What is let through: what some filter of `allow` matches and none of `deny`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List {
    /// `#` alone where nothing is said.
    pub allow: Vec<Filter>,
    /// Goes before `allow`.
    pub deny: Vec<Filter>,
}

impl List {
    /// Whether it lets everything through.
    pub fn is_open(&self) -> bool {
        self.deny.is_empty() && self.allow.contains(&Filter::all())
    }

    /// Whether it lets the item through.
    pub fn admits(&self, key: &str, path: &str) -> bool {
        let matches = |filter: &Filter| filter.matches(key, path);
        self.allow.iter().any(matches) && !self.deny.iter().any(matches)
    }
}

impl Default for List {
    fn default() -> List {
        List {
            allow: vec![Filter::all()],
            deny: Vec::new(),
        }
    }
}

/// The lists of one broker (§8).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lists {
    /// What is published there.
    pub publish: List,
    /// What its clients may ask for.
    pub read: List,
    /// What its clients may write.
    pub write: List,
    /// Where answers may go, as whole topics (§5.8).
    pub respond: Vec<TopicFilter>,
}

impl Default for Lists {
    fn default() -> Lists {
        Lists {
            publish: List::default(),
            read: List::default(),
            write: List::default(),
            respond: vec![TopicFilter("#".into())],
        }
    }
}

/// A topic filter of MQTT over whole topics, whatever they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicFilter(Box<str>);

impl TopicFilter {
    /// Takes `text` as a filter; `None` where MQTT has no such one [MQTT-4.7.1-1] to [MQTT-4.7.1-3].
    pub fn parse(text: &str) -> Option<TopicFilter> {
        let last = text.split('/').count() - 1;
        let fits = |(at, level): (usize, &str)| match level {
            "+" => true,
            "#" => at == last,
            _ => !level.contains(['+', '#', '\0']),
        };
        let is_filter = !text.is_empty() && text.len() <= FILTER_BYTES_MAX;
        (is_filter && text.split('/').enumerate().all(fits)).then(|| TopicFilter(text.into()))
    }

    /// Whether the filter matches the topic.
    pub fn matches(&self, topic: &str) -> bool {
        let mut levels = topic.split('/');
        for wanted in self.0.split('/') {
            match (wanted, levels.next()) {
                // Also the level before it [MQTT-4.7.1-2].
                ("#", _) => return true,
                ("+", Some(_)) => {}
                (text, Some(level)) if text == level => {}
                (_, _) => return false,
            }
        }
        levels.next().is_none()
    }
}

impl fmt::Display for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s5_4_filters_match_as_in_mqtt() {
        let check = |filter: &str, yes: &[&str], no: &[&str]| {
            let filter = Filter::parse(filter).unwrap_or_else(|| panic!("{filter}"));
            let matches = |topic: &str| {
                let (at, _) = topic.match_indices('/').nth(1).unwrap();
                filter.matches(&topic[..at], &topic[at..])
            };
            for topic in yes {
                assert!(matches(topic), "{filter:?} {topic}");
            }
            for topic in no {
                assert!(!matches(topic), "{filter:?} {topic}");
            }
        };
        check("#", &["battery/0/Soc"], &[]);
        check("system/#", &["system/0/Dc/Battery/Soc"], &["battery/0/Soc"]);
        check("system/0/#", &["system/0/Serial"], &["system/1/Serial"]);
        check(
            "battery/+/Soc",
            &["battery/0/Soc", "battery/x/Soc"],
            &["battery/0/Soc/X", "tank/0/Soc"],
        );
        check(
            "battery/0/Dc/#",
            &["battery/0/Dc", "battery/0/Dc/0/Voltage"],
            &["battery/0/Dcx", "battery/0/Soc"],
        );
        check(
            "+/+/Dc/+/Voltage",
            &["battery/0/Dc/0/Voltage"],
            &["battery/0/Dc/Voltage", "battery/0/Dc/0/V"],
        );
        check("+/+/+", &["battery/0/Soc"], &["battery/0/Dc/0"]);
        for none in [
            "", "a", "a/b", "+/+", "a/#/b", "a/b+/c", "a/b/c#", "a\0/b/c",
        ] {
            assert_eq!(Filter::parse(none), None, "{none}");
        }
    }

    #[test]
    fn a_filter_is_shown_as_it_was_written() {
        for text in [
            "#",
            "system/#",
            "+/#",
            "system/0/#",
            "battery/+/Soc",
            "battery/0/Dc/#",
            "+/+/Dc/+/Voltage",
            "+/+/+/#",
            "a/b//c",
        ] {
            assert_eq!(Filter::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Filter::parse("#"), Some(Filter::all()));
    }

    #[test]
    fn a_filter_over_whole_topics() {
        let check = |filter: &str, topic: &str, expected: bool| {
            let filter = TopicFilter::parse(filter).unwrap();
            assert_eq!(filter.matches(topic), expected, "{filter} {topic}");
        };
        check("#", "a", true);
        check("a", "a", true);
        check("a", "a/b", false);
        check("a/#", "a", true);
        check("a/#", "a/b/c", true);
        check("a/#", "ab", false);
        check("a/+", "a/b", true);
        check("a/+", "a", false);
        check("+/b", "/b", true);
        check("a/+/c", "a/b/c", true);
        check("a/+/c", "a/b/d", false);
        for none in ["", "a/#/b", "a+", "#/a", "a\0", "a/b#"] {
            assert_eq!(TopicFilter::parse(none), None, "{none}");
        }
    }

    #[test]
    fn s8_deny_goes_before_allow() {
        let filters = |texts: &[&str]| {
            texts
                .iter()
                .filter_map(|text| Filter::parse(text))
                .collect()
        };
        let list = List {
            allow: filters(&["battery/#", "system/0/Serial"]),
            deny: filters(&["battery/+/Secret/#"]),
        };
        assert!(!list.is_open() && List::default().is_open());
        assert!(list.admits("battery/0", "/Soc") && list.admits("system/0", "/Serial"));
        assert!(!list.admits("battery/0", "/Secret") && !list.admits("battery/0", "/Secret/Key"));
        assert!(!list.admits("system/0", "/Serial/") && !list.admits("Battery/0", "/Soc"));
        let nothing = List {
            allow: Vec::new(),
            deny: Vec::new(),
        };
        assert!(!nothing.is_open() && !nothing.admits("battery/0", "/Soc"));
    }
}
