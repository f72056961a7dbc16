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

/// At least so long after filters expired nobody looks for further ones: those that expire meanwhile are
/// taken out together.
const EXPIRY_PAUSE: Duration = Duration::from_millis(250);

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
    /// When filters last expired.
    filters_expired: Option<Instant>,
}

/// What a selective keep-alive changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Renewed {
    /// The filters that were not live before.
    pub new: Vec<Filter>,
    /// Texts that are not filters.
    pub invalid: Vec<Box<str>>,
    /// How many were refused because too many are live.
    pub refused: usize,
}

/// What expiry took away.
#[derive(Debug, PartialEq, Eq, Default)]
pub struct Expired {
    /// Whether the general interest expired.
    pub general: bool,
    /// The filters that expired.
    pub filters: Vec<Filter>,
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
            filters_expired: None,
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
        self.expires_at(now + keep_alive);
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
            self.expires_at(now + keep_alive);
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
            self.expires_at(until);
        }
        renewed
    }

    fn expires_at(&mut self, at: Instant) {
        self.next_expiry = Some(self.next_expiry.map_or(at, |next| next.min(at)));
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
        if self.next_expiry.is_none_or(|at| at > now) {
            return Expired::default();
        }
        let general = self.general_until.take_if(|until| *until <= now).is_some();
        let looked = self.filters_expired.map(|at| at + EXPIRY_PAUSE);
        let mut filters = Vec::new();
        if looked.is_none_or(|at| at <= now) {
            let expired = self.selective.extract_if(|_, (_, until)| *until <= now);
            filters.extend(expired.map(|(_, (filter, _))| filter));
        }
        if !filters.is_empty() {
            self.filters_expired = Some(now);
        }
        let pause = self.filters_expired.map(|at| at + EXPIRY_PAUSE);
        let first = self.selective.values().map(|(_, until)| *until).min();
        let first = first.map(|until| pause.map_or(until, |pause| until.max(pause)));
        self.next_expiry = first.into_iter().chain(self.general_until).min();
        Expired { general, filters }
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
                filters: vec![]
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
                filters: vec![Filter::parse("battery/+/Soc").unwrap()]
            }
        );
        assert_eq!(interest.filters().count(), 1);
        assert!(interest.is_alive() && !interest.is_general());
    }

    #[test]
    fn s5_4_filters_that_expire_one_after_another_are_taken_out_together() {
        let start = Instant::now();
        let mut interest = Interest::new(Some(MINUTE), 1_000);
        let at = |n: u32| start + Duration::from_millis(10) * n;
        for n in 0..500 {
            interest.renew_selective(at(n), vec![format!("tank/{n}/#").into()]);
        }
        let mut looks = 0;
        let mut expired = 0;
        while let Some(due) = interest.deadline() {
            assert!(expired > 0 || due == start + MINUTE, "the first is in time");
            let found = interest.expire(due).filters.len();
            looks += 1;
            expired += found;
            // None before its time, and none much later.
            let live = u32::try_from(expired).unwrap();
            assert!(due >= at(live - 1) + MINUTE && due <= at(live - 1) + MINUTE + EXPIRY_PAUSE);
        }
        assert_eq!(expired, 500);
        assert!(looks <= 25, "{looks} looks");
    }
}
