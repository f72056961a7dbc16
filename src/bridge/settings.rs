//! What the bridge can be told anew while it runs.

use std::sync::Arc;
use std::time::Duration;

use super::store::sizes::Sizes;
use super::subscriber::gate::Admission;
use super::subscriber::rate::RequestRate;
use crate::model::log_rate::LogRate;
use crate::schema::Schema;

/// The settings that need no restart.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What is known of services and their items.
    pub schema: Arc<Schema>,
    /// Whether a write is refused that the schema speaks against (§5.6).
    pub strict_writes: bool,
    /// For each broker, how long a request keeps data flowing; `None`: always (§5.1).
    pub keep_alive: Vec<Option<Duration>>,
    /// For each listener, what its clients may do; they follow the brokers.
    pub listeners: Vec<Admission>,
    /// How many services are followed.
    pub services_max: usize,
    /// How many writes may wait for their answers (§5.6).
    pub writes_in_flight_max: usize,
    /// How many clients' reads may wait for their answers.
    pub calls_in_flight_max: usize,
    /// How long a scan's call, or a write, may take.
    pub call_timeout: Duration,
    /// How long a read may take.
    pub read_timeout: Duration,
    /// The bounds on what clients and services can do at will.
    pub bounds: Bounds,
    /// How often the bridge tells of itself; `None`: never.
    pub stats: Option<Duration>,
    /// How often each service is scanned anew (§2.2); `None`: never.
    pub refresh: Option<Duration>,
}

/// The bounds on what clients and services can do at will.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// How many requests each broker's clients have in a second, keep-alives apart.
    pub request_rate_max: usize,
    /// How many they have at once.
    pub request_burst_max: usize,
    /// The longest values that are kept.
    pub sizes: Sizes,
    /// How much of one kind is logged.
    pub log: LogRate,
}

impl Default for Bounds {
    /// None but that of the log.
    fn default() -> Bounds {
        Bounds {
            request_rate_max: usize::MAX,
            request_burst_max: usize::MAX,
            sizes: Sizes::default(),
            log: LogRate::default(),
        }
    }
}

impl Bounds {
    /// How many requests there may be.
    pub(super) fn request_rate(&self) -> RequestRate {
        RequestRate {
            per_second_max: self.request_rate_max,
            burst_max: self.request_burst_max,
        }
    }
}
