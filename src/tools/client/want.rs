//! What a user asks for: topics below the portal id, with or without the wildcards of MQTT.

use super::error::ClientError;
use crate::model::filter::Filter;
use crate::model::name::PortalId;
use crate::model::topic::{parse_address, parse_any};

/// One topic that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Want {
    /// The topic below the portal id.
    pub topic: String,
    /// The portal id in front of it, where a whole topic was given.
    pub portal: Option<PortalId>,
    /// What belongs to it: itself, and all below it.
    filter: Filter,
    filter_text: String,
    /// Whether it can be read, since it says which device, and which of its values.
    can_be_read: bool,
}

impl Want {
    /// Takes what was given as a topic. One that was copied with its portal id is understood.
    pub fn parse(given: &str) -> Result<Want, ClientError> {
        let wrong = || ClientError::Topic {
            given: given.to_owned(),
        };
        let (portal, topic) = match parse_any(given) {
            Some((portal, rest)) => (Some(PortalId::new(portal).map_err(|_| wrong())?), rest),
            None => (None, given),
        };
        let topic = topic.trim_matches('/');
        let has_wildcard = topic.contains(['+', '#']);
        let filter_text = if has_wildcard {
            topic.to_owned()
        } else {
            format!("{topic}/#")
        };
        let filter = Filter::parse(&filter_text).filter(|_| !topic.is_empty());
        let address = parse_address(topic).filter(|address| address.path != "/");
        Ok(Want {
            topic: topic.to_owned(),
            portal,
            filter: filter.ok_or_else(wrong)?,
            filter_text,
            can_be_read: !has_wildcard && address.is_some(),
        })
    }

    /// Whether a topic below the portal id belongs to it.
    pub fn covers(&self, topic: &str) -> bool {
        let Some(address) = parse_address(topic) else {
            return false;
        };
        let key = topic.strip_suffix(address.path).unwrap_or_default();
        self.filter.matches(key, address.path)
    }

    /// The filter for it below the portal id.
    pub fn filter(&self) -> &str {
        &self.filter_text
    }

    /// Whether a read request can be made of it.
    pub fn can_be_read(&self) -> bool {
        self.can_be_read
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_as_people_write_them() {
        let check = |given: &str, topic: &str, filter: &str, read: bool| {
            let want = Want::parse(given).unwrap();
            assert_eq!(want.topic, topic, "{given}");
            assert_eq!(
                (want.filter(), want.can_be_read()),
                (filter, read),
                "{given}"
            );
        };
        check("battery/1/Soc", "battery/1/Soc", "battery/1/Soc/#", true);
        check("/battery/1/Soc/", "battery/1/Soc", "battery/1/Soc/#", true);
        check("battery/1/Dc/0", "battery/1/Dc/0", "battery/1/Dc/0/#", true);
        check("battery/1", "battery/1", "battery/1/#", false);
        check("battery", "battery", "battery/#", false);
        check("battery/+/Soc", "battery/+/Soc", "battery/+/Soc", false);
        check("#", "#", "#", false);
        let copied = Want::parse("N/e0ff50a097c0/battery/1/Soc").unwrap();
        assert_eq!(copied.topic, "battery/1/Soc");
        assert_eq!(copied.portal.unwrap().as_str(), "e0ff50a097c0");
        for wrong in [
            "",
            "/",
            "+/+",
            "a/#/b",
            "battery/1/So+",
            "N/a+b/battery/1/Soc",
        ] {
            let error = Want::parse(wrong).unwrap_err().to_string();
            assert!(error.contains("system/0/Dc/Battery/Soc"), "{error}");
        }
    }

    #[test]
    fn what_is_below_belongs_to_it() {
        let want = Want::parse("battery/1/Dc/0").unwrap();
        assert!(want.covers("battery/1/Dc/0"));
        assert!(want.covers("battery/1/Dc/0/Voltage"));
        assert!(!want.covers("battery/1/Dc/01"));
        assert!(!want.covers("battery/1"));
        assert!(!want.covers("keepalive"));
        assert!(Want::parse("#").unwrap().covers("a/b/C"));
    }
}
