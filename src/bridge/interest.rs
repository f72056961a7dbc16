//! Who asked for data, until when (§5.1, §5.4), and the heartbeat (§4.8).
//!
//! ```text
//!              a request                  a request or keep-alive: general
//! (not alive) ──────────▶ general ◀─────────────────────────────────── selective only
//!      ▲                     │ expires                                       │ last filter
//!      └─────────────────────┴───────────────────────────────────────────────┘ expires
//! ```

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::model::filter::Filter;

/// How often a broker with any interest gets a heartbeat (§4.8).
pub const HEARTBEAT: Duration = Duration::from_secs(3);

/// The interest of one broker's clients.
#[derive(Debug)]
pub struct Interest {
    /// How long a request keeps data flowing; `None`: always.
    keep_alive: Option<Duration>,
    general_until: Option<Instant>,
    selective: HashMap<Box<str>, (Filter, Instant)>,
    filters_max: usize,
    /// Nothing expires before this; renewals leave it early, and looking then sets it right.
    next_expiry: Option<Instant>,
}

/// What a selective keep-alive changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Renewed {
    /// The filters that were not live before.
    pub new: Vec<Filter>,
    /// Texts that are no filters.
    pub invalid: Vec<Box<str>>,
    /// How many were refused because too many are live.
    pub refused: usize,
}

/// What expiry took away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Expired {
    /// The general interest.
    pub general: bool,
    /// Some selective interest.
    pub selective: bool,
}

impl Interest {
    /// No interest, or always interest where `keep_alive` is `None`.
    pub fn new(keep_alive: Option<Duration>, filters_max: usize) -> Interest {
        Interest {
            keep_alive,
            general_until: None,
            selective: HashMap::new(),
            filters_max,
            next_expiry: None,
        }
    }

    /// Whether everything is wanted.
    #[inline]
    pub fn is_general(&self) -> bool {
        self.keep_alive.is_none() || self.general_until.is_some()
    }

    /// Whether some filters want something.
    #[inline]
    pub fn is_selective(&self) -> bool {
        !self.selective.is_empty()
    }

    /// Whether anything is wanted (§1: alive).
    pub fn is_alive(&self) -> bool {
        self.is_general() || self.is_selective()
    }

    /// Renews the general interest. `true` where that woke it.
    pub fn renew(&mut self, now: Instant) -> bool {
        let Some(keep_alive) = self.keep_alive else {
            return false;
        };
        let woke = self.general_until.is_none();
        self.general_until = Some(now + keep_alive);
        self.next_expiry = self.next_expiry.or(self.general_until);
        woke
    }

    /// Changes how long a request keeps data flowing. `true` where that woke the general interest.
    pub fn set_keep_alive(&mut self, now: Instant, keep_alive: Option<Duration>) -> bool {
        let woke = keep_alive.is_none() && !self.is_general();
        if self.keep_alive.is_none()
            && let Some(keep_alive) = keep_alive
        {
            // Nobody had to ask so far; whoever listens has one interval to begin with it.
            self.general_until = Some(now + keep_alive);
            self.next_expiry = self.next_expiry.or(self.general_until);
        }
        self.keep_alive = keep_alive;
        woke
    }

    /// Renews a selective interest for each filter. With an endless general one there is nothing to
    /// keep alive, but what is new is still published once.
    pub fn renew_selective(&mut self, now: Instant, filters: Vec<Box<str>>) -> Renewed {
        let until = now + self.keep_alive.unwrap_or(Duration::from_secs(60));
        let mut renewed = Renewed::default();
        for text in filters {
            if let Some((_, live_until)) = self.selective.get_mut(&text) {
                *live_until = until;
            } else if self.selective.len() >= self.filters_max {
                renewed.refused += 1;
            } else if let Some(filter) = Filter::parse(&text) {
                renewed.new.push(filter.clone());
                self.selective.insert(text, (filter, until));
            } else {
                renewed.invalid.push(text);
            }
        }
        if !self.selective.is_empty() {
            self.next_expiry = self.next_expiry.or(Some(until));
        }
        renewed
    }

    /// Renews the selective interest for those of the filters that are live.
    pub fn renew_live(&mut self, now: Instant, filters: &[Box<str>]) {
        let until = now + self.keep_alive.unwrap_or(Duration::from_secs(60));
        for text in filters {
            if let Some((_, live_until)) = self.selective.get_mut(text) {
                *live_until = until;
            }
        }
    }

    /// Ends what has expired.
    pub fn expire(&mut self, now: Instant) -> Expired {
        let general = self.general_until.is_some_and(|until| until <= now);
        if general {
            self.general_until = None;
        }
        let before = self.selective.len();
        self.selective.retain(|_, (_, until)| *until > now);
        let all = self.selective.values().map(|(_, until)| *until);
        self.next_expiry = all.chain(self.general_until).min();
        Expired {
            general,
            selective: self.selective.len() < before,
        }
    }

    /// When to look for what has expired.
    pub fn deadline(&self) -> Option<Instant> {
        self.next_expiry
    }

    /// The live filters.
    pub fn filters(&self) -> impl Iterator<Item = &Filter> {
        self.selective.values().map(|(filter, _)| filter)
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // any moment will do
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn s5_1_a_request_keeps_alive_for_the_interval() {
        let start = Instant::now();
        let mut interest = Interest::new(Some(MINUTE), 10);
        assert!(!interest.is_alive());
        assert!(interest.renew(start));
        assert!(!interest.renew(start + MINUTE / 2));
        assert_eq!(interest.expire(start + MINUTE), Expired::default());
        assert_eq!(interest.deadline(), Some(start + MINUTE * 3 / 2));
        assert_eq!(
            interest.expire(start + MINUTE * 3 / 2),
            Expired {
                general: true,
                selective: false
            }
        );
        assert!(!interest.is_alive());
        let mut always = Interest::new(None, 10);
        assert!(always.is_general() && !always.renew(start) && always.deadline().is_none());
    }

    #[test]
    fn s5_4_each_filter_has_its_own_interval() {
        let start = Instant::now();
        let mut interest = Interest::new(Some(MINUTE), 2);
        let texts = |all: &[&str]| all.iter().map(|text| (*text).into()).collect::<Vec<_>>();
        let renewed = interest.renew_selective(start, texts(&["system/#", "a#"]));
        assert_eq!((renewed.new.len(), renewed.invalid), (1, texts(&["a#"])));
        let later = start + MINUTE / 2;
        let renewed =
            interest.renew_selective(later, texts(&["battery/+/Soc", "system/#", "tank/#"]));
        assert_eq!((renewed.new.len(), renewed.refused), (1, 1));
        let renewed = interest.renew_selective(later + MINUTE / 4, texts(&["system/#"]));
        assert_eq!(renewed, Renewed::default());
        assert_eq!(
            interest.expire(later + MINUTE),
            Expired {
                general: false,
                selective: true
            }
        );
        assert_eq!(interest.filters().count(), 1);
        assert!(interest.is_alive() && !interest.is_general());
    }
}
