//! Where a client may want to be told how its request ended (§5.8).
//!
//! A response topic is the word of a stranger. Where it would make the bridge speak to itself, or ask
//! another one in its own name, the request is refused.

use crate::bridge::subscriber::remote::OutletConfig;
use crate::model::name::{TOPIC_LEVELS_MAX, is_topic_char};
use crate::model::outside::Outside;
use crate::model::request::{Rejection, ResponseAddress};
use crate::model::topic;

/// The longest response topic, and the longest correlation data, in bytes.
const ADDRESS_BYTES_MAX: usize = 512;

/// Refuses addresses that are none, and those where the answer would be taken for something else than
/// an answer (§5.8): a notification or a request, of this bridge or of another one behind whatever
/// prefix, a configuration for Home Assistant, or what the broker says itself.
pub fn check(to: &ResponseAddress, outlet: &OutletConfig) -> Result<(), Rejection> {
    let topic = &*to.topic;
    let below = |prefix: &str| topic::is_at_or_below(topic, prefix);
    let discovery = outlet.discovery.as_ref();
    let mut allowed = outlet.lists.respond.iter();
    let without_prefix = topic.strip_prefix(&*outlet.prefix).unwrap_or(topic);
    let why = if topic.is_empty() {
        "it is empty"
    } else if topic.len() > ADDRESS_BYTES_MAX {
        "it is too long"
    } else if to.correlation.len() > ADDRESS_BYTES_MAX {
        "its correlation data is too long"
    } else if topic.contains(['+', '#', '\0']) {
        "it has wildcards"
    } else if !topic.chars().all(is_topic_char) {
        // The broker would end the connection for it (§4.7).
        "it has a control character"
    } else if topic.split('/').count() > TOPIC_LEVELS_MAX {
        "it has too many levels"
    } else if topic.split('/').any(|level| level.starts_with('$')) {
        "a level of it begins with $"
    } else if topic::is_reserved(topic) || topic::is_reserved(without_prefix) {
        "it is a topic of notifications or requests"
    } else if below(topic::DISCOVERY_PREFIX)
        || discovery.is_some_and(|home| below(home.names.prefix()))
    {
        "it is below the discovery prefix of Home Assistant"
    } else if !allowed.any(|filter| filter.matches(topic)) {
        "no filter of response-allow matches it"
    } else {
        return Ok(());
    };
    Err(Rejection::ResponseTopic {
        topic: Outside::new(topic).at_most(100).to_string().into(),
        why,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bridge::subscriber::discovery_state::DiscoveryConfig;
    use crate::homeassistant::Names;
    use crate::model::access::{Access, AccessRule};
    use crate::model::filter::{Lists, TopicFilter};
    use crate::model::name::PortalId;

    fn address(topic: &str, correlation: usize) -> ResponseAddress {
        ResponseAddress {
            topic: topic.into(),
            correlation: vec![0; correlation].into(),
            client: None,
        }
    }

    fn outlet(discovery: Option<&str>, respond: &[&str]) -> OutletConfig {
        let id = PortalId::new("c0619ab12345").unwrap();
        let filter = |text: &&str| TopicFilter::parse(text).unwrap();
        OutletConfig {
            name: "broker".into(),
            retain: true,
            keep_alive: None,
            filters_max: 1,
            prefix: "home/gx/".into(),
            access: AccessRule::Always(Access::Full),
            topics: crate::model::topic::TopicRules::default(),
            lists: Lists {
                respond: respond.iter().map(filter).collect(),
                ..Lists::default()
            },
            answers_first: false,
            throttle: Vec::new(),
            batch: None,
            discovery: discovery.map(|prefix| DiscoveryConfig {
                names: Names::new(prefix, &id),
                enabled: true,
                keep: None,
                page: "".into(),
            }),
        }
    }

    #[test]
    fn s5_8_a_hostile_response_topic_is_refused() {
        let portal = "c0619ab12345";
        let outlet = outlet(Some("ha/discovery"), &["#"]);
        for topic in [
            "",
            "#",
            "a/+/b",
            "a/#",
            "a\0b",
            "$SYS/broker",
            "$share/x/y",
            "x/$SYS/y",
            "a/b/$c",
            "N",
            &format!("N/{portal}/battery/0/Soc"),
            &format!("R/{portal}/keepalive"),
            &format!("W/{portal}/vebus/257/Mode"),
            &format!("venus/W/{portal}/vebus/257/Mode"),
            "W/another/vebus/257/Mode",
            "boat/W/d0ff50a097c1/vebus/257/Mode",
            "a/b/c/d/R/d0ff50a097c1/keepalive",
            "home/gx/W/another/vebus/257/Mode",
            "home/gx/N",
            "home/gx/N/what ever",
            "homeassistant",
            "homeassistant/status",
            "homeassistant/sensor/x/config",
            "ha/discovery",
            "ha/discovery/status",
            &"x".repeat(ADDRESS_BYTES_MAX + 1),
        ] {
            let found = check(&address(topic, 0), &outlet);
            assert!(
                matches!(found, Err(Rejection::ResponseTopic { .. })),
                "{topic:?}"
            );
        }
        assert!(check(&address("a", ADDRESS_BYTES_MAX + 1), &outlet).is_err());
        for topic in [
            "answers/1",
            "Nobody",
            "x/N",
            "x/N/no portal id/y",
            "x/n/abc",
            "a$b/c",
            "home/gx/answers/1",
            "homeassistants/1",
            "ha/discoveryx",
            &"x".repeat(ADDRESS_BYTES_MAX),
        ] {
            assert_eq!(
                check(&address(topic, ADDRESS_BYTES_MAX), &outlet),
                Ok(()),
                "{topic}"
            );
        }
    }

    #[test]
    fn s5_8_response_allow_narrows_further() {
        let outlet = outlet(None, &["answers/#", "+/reply", "W/#"]);
        for (topic, expected) in [
            ("answers", true),
            ("answers/a/b", true),
            ("panel/reply", true),
            ("panel/reply/1", false),
            ("other", false),
            ("W/another/vebus/257/Mode", false),
        ] {
            let found = check(&address(topic, 0), &outlet);
            assert_eq!(found.is_ok(), expected, "{topic}");
        }
    }
}
