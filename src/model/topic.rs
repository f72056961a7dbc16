//! Topics: the grammar of `N/…`, `R/…` and `W/…`, in both directions (§1, §4, §5).
//!
//! Only this file splits or joins a topic. Filters of selective keep-alives are in `filter`.

use super::name::{PortalId, is_topic_level};
use super::request::{ItemAddress, Rejection, RequestKind};

/// What Home Assistant's discovery topics begin with where nobody has changed it (its MQTT integration,
/// "Discovery topic").
pub const DISCOVERY_PREFIX: &str = "homeassistant";
/// `<type>/<instance><path>` of the system's serial, which every bridge publishes (§4.2).
pub const SERIAL: &str = "system/0/Serial";
/// The topic, below the portal id, that tells clients that keep-alives work (§4.2), and on which
/// they ask for them (§5.3).
pub const KEEPALIVE: &str = "keepalive";
/// The topic, below the portal id, of the heartbeat (§4.8).
pub const HEARTBEAT: &str = "heartbeat";
/// The topic, below the portal id, of what changed in some seconds. No item has it, as with `STATS`.
pub const BATCH: &str = "batch";
/// The topic, below the portal id, that ends a full republish (§5.3).
pub const COMPLETED: &str = "full_publish_completed";
/// The topic, below the portal id, of the bridge's presence (§4.10).
pub const STATUS: &str = "bridge/status";
/// The topic, below the portal id, of what the bridge tells of itself. No item has it: those have a
/// path behind the second level.
pub const STATS: &str = "bridge/stats";

/// The topic, below the portal id, on which the doctor talks to itself. Never retained.
pub const DOCTOR: &str = "bridge/doctor";

/// What every topic of ours begins with: `N/<portal id>/`.
pub fn notification_prefix(portal: &PortalId) -> Box<str> {
    format!("N/{portal}/").into()
}

/// What every topic of a write request begins with: `W/<portal id>/`.
pub fn write_prefix(portal: &PortalId) -> Box<str> {
    format!("W/{portal}/").into()
}

/// The filter of all our notifications (§4.9).
pub fn notification_filter(portal: &PortalId) -> String {
    format!("N/{portal}/#")
}

/// The filters of the requests for us (§5).
pub fn request_filters(portal: &PortalId) -> [String; 2] {
    [format!("R/{portal}/#"), format!("W/{portal}/#")]
}

/// The notification topic, or filter, of what a client names below a portal id; `+` as the portal id
/// stands for all of them.
pub fn notification(portal: &str, rest: &str) -> String {
    format!("N/{portal}/{rest}")
}

/// The topic on which a client asks for what it names below a portal id (§5.3, §5.5).
pub fn read_request(portal: &PortalId, rest: &str) -> String {
    format!("R/{portal}/{rest}")
}

/// The topic on which a client writes what it names below a portal id (§5.6).
pub fn write_request(portal: &PortalId, rest: &str) -> String {
    format!("W/{portal}/{rest}")
}

/// Reads a notification topic: the portal id, and what stands below it.
pub fn parse_notification(topic: &str) -> Option<(&str, &str)> {
    topic.strip_prefix("N/")?.split_once('/')
}

/// Reads a topic of any kind, as somebody may have copied it: the portal id, and what stands below it.
pub fn parse_any(topic: &str) -> Option<(&str, &str)> {
    let kinds = ["N/", "R/", "W/"];
    let rest = kinds
        .into_iter()
        .find_map(|kind| topic.strip_prefix(kind))?;
    rest.split_once('/')
}

/// What kind of request a topic is of whose request cannot be read: a write, or any that is answered in
/// its turn.
pub fn request_kind(topic: &str) -> RequestKind {
    if topic.starts_with("W/") {
        RequestKind::Write
    } else {
        RequestKind::Read
    }
}

/// Whether a topic is of the grammar of §1, whosever it is, under whatever prefix: at its beginning
/// or anywhere in it, a level `N`, `R` or `W` before one that could be a portal id (§5.8).
pub fn is_reserved(topic: &str) -> bool {
    let is_kind = |level: &str| matches!(level, "N" | "R" | "W");
    let ids = topic.split('/').skip(1);
    let mut pairs = topic.split('/').zip(ids);
    topic.split('/').next().is_some_and(is_kind)
        || pairs.any(|(kind, id)| is_kind(kind) && PortalId::new(id).is_ok())
}

/// Whether a topic is another one, or lies below it.
pub fn is_at_or_below(topic: &str, other: &str) -> bool {
    let rest = topic.strip_prefix(other);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// `<type>/<instance>`: what stands between the portal id and the path.
pub fn device(service_type: &str, instance: &str) -> Box<str> {
    format!("{service_type}/{instance}").into()
}

/// What topics one broker takes, where it does not take all (§4.12).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopicRules {
    /// The most levels, those of prefix and portal id included.
    pub levels_max: Option<usize>,
    /// The most bytes.
    pub bytes_max: Option<usize>,
    /// Characters that it does not take below the portal id, and what stands in their place.
    pub replace: Vec<(char, Box<str>)>,
}

impl TopicRules {
    /// Whether it takes all.
    pub fn are_none(&self) -> bool {
        self.levels_max.is_none() && self.bytes_max.is_none() && self.replace.is_empty()
    }

    /// What is published below the portal id in place of `rest`; `None` where it is the same.
    pub fn replaced(&self, rest: &str) -> Option<String> {
        let other = |c: char| self.replace.iter().find(|(from, _)| *from == c);
        if !rest.chars().any(|c| other(c).is_some()) {
            return None;
        }
        let mut text = String::with_capacity(rest.len());
        for c in rest.chars() {
            match other(c) {
                Some((_, to)) => text.push_str(to),
                None => text.push(c),
            }
        }
        Some(text)
    }

    /// Why the topic of these two parts is left out.
    pub fn misfit(&self, prefix: &str, rest: &str) -> Option<Misfit> {
        let levels = prefix.matches('/').count() + rest.matches('/').count() + 1;
        if let Some(max) = self.levels_max.filter(|max| levels > *max) {
            return Some(Misfit::Levels { levels, max });
        }
        let bytes = prefix.len() + rest.len();
        let max = self.bytes_max.filter(|max| bytes > *max)?;
        Some(Misfit::Bytes { bytes, max })
    }
}

/// Why a topic is left out at a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the sentences say what the fields are")]
pub enum Misfit {
    /// It has too many levels.
    #[error("it has {levels} levels, more than topic-levels-max = {max}")]
    Levels { levels: usize, max: usize },
    /// It is too long.
    #[error("it has {bytes} bytes, more than topic-bytes-max = {max}")]
    Bytes { bytes: usize, max: usize },
    /// Another item has the topic already, since characters were replaced.
    #[error("with its characters replaced it is the topic of another value")]
    Taken,
}

/// What a request topic asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestTopic<'a> {
    /// `R/<portal>/keepalive`
    KeepAlive,
    /// `R/<portal>/system/0/Serial`
    Serial,
    /// `R/<portal>/<type>/<instance><path>`
    Read(ItemAddress<'a>),
    /// `W/<portal>/<type>/<instance><path>`
    Write(ItemAddress<'a>),
}

/// Reads a request topic. `None` where it is not a request, or one for another portal id (§5).
pub fn parse_request<'a>(
    topic: &'a str,
    portal: &PortalId,
) -> Option<Result<RequestTopic<'a>, Rejection>> {
    let (kind, rest) = topic.split_once('/')?;
    let write = match kind {
        "R" => false,
        "W" => true,
        _ => return None,
    };
    let rest = match rest.strip_prefix(portal.as_str())? {
        "" => return Some(Err(Rejection::Topic)),
        rest => rest.strip_prefix('/')?,
    };
    if !write && rest == KEEPALIVE {
        return Some(Ok(RequestTopic::KeepAlive));
    }
    if !write && rest == SERIAL {
        return Some(Ok(RequestTopic::Serial));
    }
    let address = parse_address(rest).ok_or(Rejection::Topic);
    Some(address.map(if write {
        RequestTopic::Write
    } else {
        RequestTopic::Read
    }))
}

/// Splits `<type>/<instance><path>` before the path, without a look at either.
pub fn split_item(rest: &str) -> Option<(&str, &str)> {
    let (at, _) = rest.match_indices('/').nth(1)?;
    rest.split_at_checked(at)
}

/// Reads `<type>/<instance><path>`, as it follows the portal id.
pub fn parse_address(rest: &str) -> Option<ItemAddress<'_>> {
    let (service_type, rest) = rest.split_once('/')?;
    let (instance, path) = rest.split_at_checked(rest.find('/')?)?;
    (is_topic_level(service_type) && is_topic_level(instance)).then_some(ItemAddress {
        service_type,
        instance,
        path,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn portal() -> PortalId {
        PortalId::new("c0619ab12345").unwrap()
    }

    #[test]
    fn what_a_client_asks_is_what_a_bridge_reads() {
        let portal = portal();
        let topic = read_request(&portal, "battery/257/Soc");
        let address = parse_address("battery/257/Soc").unwrap();
        let read = parse_request(&topic, &portal);
        assert_eq!(read, Some(Ok(RequestTopic::Read(address))));
        let topic = write_request(&portal, "battery/257/Soc");
        let write = parse_request(&topic, &portal);
        assert_eq!(write, Some(Ok(RequestTopic::Write(address))));
        let topic = notification(portal.as_str(), "battery/257/Soc");
        assert_eq!(
            parse_notification(&topic),
            Some(("c0619ab12345", "battery/257/Soc"))
        );
        assert_eq!(parse_any("W/x/a/0/B"), Some(("x", "a/0/B")));
        assert_eq!(parse_any("battery/257/Soc"), None);
        assert_eq!(parse_notification("R/c0619ab12345/keepalive"), None);
        assert_eq!(parse_notification("N/c0619ab12345"), None);
    }

    #[test]
    fn request_topics_are_read() {
        let address = |service_type, instance, path| ItemAddress {
            service_type,
            instance,
            path,
        };
        let check = |topic: &str, expected: Option<Result<RequestTopic<'_>, Rejection>>| {
            assert_eq!(parse_request(topic, &portal()), expected, "{topic}");
        };
        check(
            "R/c0619ab12345/keepalive",
            Some(Ok(RequestTopic::KeepAlive)),
        );
        check(
            "R/c0619ab12345/system/0/Serial",
            Some(Ok(RequestTopic::Serial)),
        );
        check(
            "R/c0619ab12345/battery/257/Dc/0/Voltage",
            Some(Ok(RequestTopic::Read(address(
                "battery",
                "257",
                "/Dc/0/Voltage",
            )))),
        );
        check(
            "R/c0619ab12345/battery/257/",
            Some(Ok(RequestTopic::Read(address("battery", "257", "/")))),
        );
        check("R/c0619ab12345/battery/257", Some(Err(Rejection::Topic)));
        check(
            "W/c0619ab12345/vebus/a b/Mode",
            Some(Ok(RequestTopic::Write(address("vebus", "a b", "/Mode")))),
        );
        check("W/c0619ab12345/keepalive", Some(Err(Rejection::Topic)));
        check("R/c0619ab12345/battery", Some(Err(Rejection::Topic)));
        check("R/c0619ab12345/", Some(Err(Rejection::Topic)));
        check("R/c0619ab12345", Some(Err(Rejection::Topic)));
        check("R/c0619ab12345//0/Soc", Some(Err(Rejection::Topic)));
        check("R/another/battery/257/Soc", None);
        check("R/c0619ab123456/keepalive", None);
        check("N/c0619ab12345/keepalive", None);
        check("keepalive", None);
        check("", None);
    }
}
