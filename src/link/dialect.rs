//! Which version of MQTT a broker is spoken to in, and what it was found not to take (§6).
//!
//! ```text
//!            refused as a version, or answered in the form of 3.1.1: at once
//!        ┌──────────────────────────────────────────────────────────────────▶ 3.1.1 for an hour,
//!   5 ───┤                                                                     then 5 at the next
//!        │ no answer at all,      answered: it is a broker of 3.1.1            connection
//!        │ nor for an hour
//!        └───────────────▶ 3.1.1 once ──────────────────────────────────────▶
//!                             │ no answer either: something else is wrong
//!        5 ◀──────────────────┘
//! ```

use std::time::{Duration, Instant};

use super::session::LinkError;
use crate::codec::packet::Version;

/// For how long a broker is taken for one that knows 3.1.1 only: it may have been replaced.
const REMEMBERED: Duration = Duration::from_secs(3600);

/// How far an attempt had come when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reached {
    /// There was no connection.
    Nothing,
    /// CONNECT was sent, and no connection came of it.
    Asked,
    /// The broker had taken the connection.
    Taken,
}

/// What one broker was found to understand.
#[derive(Debug)]
pub struct Dialect {
    /// `None`: whatever the broker understands.
    wanted: Option<Version>,
    /// Until when it is taken for a broker of 3.1.1.
    old_until: Option<Instant>,
    /// Until when it is taken for a broker of MQTT 5, and silence for that of a broker that is down:
    /// what stands before it, a proxy or its own socket, may take connections and close them.
    modern_until: Option<Instant>,
    /// MQTT 5 was not answered at all: 3.1.1 is tried once.
    doubted: bool,
    plain_will: bool,
}

impl Dialect {
    /// Nothing is known yet. `wanted` is the only version to try; `None`: what the broker takes.
    pub fn new(wanted: Option<Version>) -> Dialect {
        Dialect {
            wanted,
            old_until: None,
            modern_until: None,
            doubted: false,
            plain_will: false,
        }
    }

    /// The version to try next.
    pub fn version(&self, now: Instant) -> Version {
        let old = self.doubted || self.old_until.is_some_and(|until| now < until);
        match self.wanted {
            Some(version) => version,
            None if old => Version::V3,
            None => Version::V5,
        }
    }

    /// Whether the last will must be neither retained nor of QoS 1.
    pub fn plain_will(&self) -> bool {
        self.plain_will
    }

    /// The broker took a connection in this version.
    pub fn taken(&mut self, now: Instant, version: Version) {
        match version {
            Version::V3 if self.wanted.is_none() && self.doubted => {
                self.old_until = Some(now + REMEMBERED);
            }
            Version::V3 => {}
            Version::V5 => self.modern_until = Some(now + REMEMBERED),
        }
        self.doubted = false;
    }

    /// An attempt in this version failed, or a session ended. `true` where another attempt makes
    /// sense at once, because it will be a different one; never twice for the same reason.
    pub fn failed(
        &mut self,
        now: Instant,
        version: Version,
        reached: Reached,
        error: &LinkError,
    ) -> bool {
        // INVARIANT: a_refused_will_is_made_plain_once
        if let LinkError::Refused {
            version: Version::V5,
            code: 0x9a | 0x9b,
            ..
        } = error
        {
            return !std::mem::replace(&mut self.plain_will, true);
        }
        if self.wanted.is_some() {
            return false;
        }
        if (reached, version) == (Reached::Taken, Version::V5) {
            self.modern_until = Some(now + REMEMBERED);
        }
        let doubted = std::mem::take(&mut self.doubted);
        match (error, reached, version) {
            (LinkError::Version { .. }, _, Version::V5) => {
                self.old_until = Some(now + REMEMBERED);
                self.modern_until = None;
                true
            }
            (LinkError::Version { .. }, _, Version::V3) => {
                self.old_until = None;
                false
            }
            (LinkError::Refused { .. } | LinkError::Dismissed { .. }, ..) => false,
            (_, Reached::Asked, Version::V5) => {
                // INVARIANT: s6_a_broker_that_took_mqtt_5_is_not_doubted_because_it_is_silent
                self.doubted = self.modern_until.is_none_or(|until| now >= until);
                false
            }
            (_, Reached::Nothing, _) => {
                self.doubted = doubted;
                false
            }
            (_, Reached::Asked | Reached::Taken, _) => false,
        }
    }

    /// What its user might change, behind the words of an error that [`Dialect::failed`] has seen.
    pub fn hint(&self, version: Version, error: &LinkError) -> &'static str {
        let unanswered = matches!(error, LinkError::NoAnswer { what: "CONNECT" });
        match (version, self.wanted) {
            (Version::V5, Some(_)) if unanswered => {
                "; some brokers never answer MQTT 5: try --mqtt-version 3"
            }
            (Version::V5, None) if unanswered && self.doubted => {
                "; next with MQTT 3.1.1, which --mqtt-version 3 does at once"
            }
            (_, Some(_)) if matches!(error, LinkError::Version { .. }) => {
                "; try --mqtt-version auto"
            }
            (Version::V3 | Version::V5, _) => "",
        }
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // any moment will do
mod tests {
    use super::*;

    const REFUSED: LinkError = LinkError::Version {
        version: Version::V5,
    };

    #[test]
    fn s6_auto_falls_back_at_once_where_the_version_is_refused() {
        let now = Instant::now();
        let mut dialect = Dialect::new(None);
        assert_eq!(dialect.version(now), Version::V5);
        assert!(dialect.failed(now, Version::V5, Reached::Taken, &REFUSED));
        assert_eq!(dialect.version(now), Version::V3);
        dialect.taken(now, Version::V3);
        let later = now + REMEMBERED / 2;
        assert!(!dialect.failed(later, Version::V3, Reached::Taken, &LinkError::Closed));
        assert_eq!(dialect.version(later), Version::V3);
        assert_eq!(dialect.version(now + REMEMBERED), Version::V5);
    }

    #[test]
    fn s6_a_broker_that_refuses_both_versions_is_not_asked_in_a_loop() {
        let now = Instant::now();
        let mut dialect = Dialect::new(None);
        let mut at_once = 0;
        for _ in 0..10 {
            let version = dialect.version(now);
            let error = LinkError::Version { version };
            at_once += u32::from(dialect.failed(now, version, Reached::Taken, &error));
        }
        assert_eq!(at_once, 5);
    }

    #[test]
    fn s6_a_broker_that_closes_without_an_answer_is_tried_once_in_3_1_1() {
        let now = Instant::now();
        let mut dialect = Dialect::new(None);
        let closed = LinkError::Closed;
        let mut tried = Vec::new();
        for _ in 0..4 {
            tried.push(dialect.version(now));
            assert!(!dialect.failed(now, dialect.version(now), Reached::Asked, &closed));
        }
        assert_eq!(tried, [Version::V5, Version::V3, Version::V5, Version::V3]);
        // In between nobody may have listened.
        assert!(!dialect.failed(now, Version::V5, Reached::Asked, &closed));
        assert!(!dialect.failed(now, Version::V3, Reached::Nothing, &closed));
        assert_eq!(dialect.version(now), Version::V3);
        dialect.taken(now, Version::V3);
        assert_eq!(dialect.version(now), Version::V3);
        assert_eq!(dialect.version(now + REMEMBERED), Version::V5);
    }

    #[test]
    fn s6_a_broker_that_took_mqtt_5_is_not_doubted_because_it_is_silent() {
        let now = Instant::now();
        let mut dialect = Dialect::new(None);
        let closed = LinkError::Closed;
        dialect.taken(now, Version::V5);
        assert!(!dialect.failed(now, Version::V5, Reached::Taken, &closed));
        for _ in 0..4 {
            assert!(!dialect.failed(now, Version::V5, Reached::Asked, &closed));
            assert_eq!(dialect.version(now), Version::V5);
        }
        // One that says no, or is silent for very long, is another broker.
        let later = now + REMEMBERED;
        assert!(!dialect.failed(later, Version::V5, Reached::Asked, &closed));
        assert_eq!(dialect.version(later), Version::V3);
        let mut dialect = Dialect::new(None);
        dialect.taken(now, Version::V5);
        assert!(dialect.failed(now, Version::V5, Reached::Taken, &REFUSED));
        assert_eq!(dialect.version(now), Version::V3);
    }

    #[test]
    fn s6_a_version_that_is_set_stays() {
        let now = Instant::now();
        for wanted in [Version::V3, Version::V5] {
            let mut dialect = Dialect::new(Some(wanted));
            assert!(!dialect.failed(now, wanted, Reached::Taken, &REFUSED));
            assert!(!dialect.failed(now, wanted, Reached::Asked, &LinkError::Closed));
            assert_eq!(dialect.version(now), wanted);
        }
    }

    #[test]
    fn s6_a_version_that_is_not_answered_or_refused_hints_at_the_other() {
        let now = Instant::now();
        let silent = LinkError::NoAnswer { what: "CONNECT" };
        let hint = |wanted, error| {
            let mut dialect = Dialect::new(wanted);
            let version = dialect.version(now);
            dialect.failed(now, version, Reached::Asked, error);
            dialect.hint(version, error)
        };
        assert!(hint(Some(Version::V5), &silent).contains("--mqtt-version 3"));
        assert!(hint(None, &silent).contains("--mqtt-version 3"));
        assert!(hint(Some(Version::V5), &REFUSED).contains("--mqtt-version auto"));
        let refused = LinkError::Version {
            version: Version::V3,
        };
        assert!(hint(Some(Version::V3), &refused).contains("--mqtt-version auto"));
        assert_eq!(hint(Some(Version::V3), &silent), "");
        assert_eq!(hint(Some(Version::V5), &LinkError::Closed), "");
        // A broker that took MQTT 5 before is down, not old.
        let mut dialect = Dialect::new(None);
        dialect.taken(now, Version::V5);
        dialect.failed(now, Version::V5, Reached::Asked, &silent);
        assert_eq!(dialect.hint(Version::V5, &silent), "");
    }

    #[test]
    fn a_refused_will_is_made_plain_once() {
        let now = Instant::now();
        let mut dialect = Dialect::new(Some(Version::V5));
        let error = LinkError::Refused {
            version: Version::V5,
            code: 0x9a,
            said: "".into(),
        };
        assert!(!dialect.plain_will());
        assert!(dialect.failed(now, Version::V5, Reached::Taken, &error));
        assert!(dialect.plain_will());
        assert!(!dialect.failed(now, Version::V5, Reached::Taken, &error));
    }
}
