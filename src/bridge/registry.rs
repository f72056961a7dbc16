//! The services on the bus: who owns them, and how far their scans are (§2).
//!
//! ```text
//!  owned     ┌──────── fails ────────┐
//! ───────▶ Scanning ◀── time is up ── Retry
//!            │ done        ▲
//!            ├──────▶ Live ┤ a new owner, another device instance
//!            │         ▼   │
//!            └──────▶ Clash┘ the other service of that type and instance is gone, or has the
//!                            lesser claim (`super::claim`)
//!
//!  (from every state: the owner is lost, and the service is gone)
//! ```

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use super::bits::Bits;
use super::cache::Update;
use super::hash;
use super::items::{DeviceId, ServiceId};
use super::kept::{Keeping, Kept};
use super::rights::Says;
use crate::model::access::Access;
use crate::model::name::{DeviceInstance, ServiceName};
use crate::model::value::Value;
use crate::schema::rule::Role;

/// The wait before a failed scan is repeated, doubled each time up to a minute.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);

/// How far a service is.
#[derive(Debug)]
pub enum State {
    /// Its items are being asked for.
    Scanning(Scan),
    /// The scan failed, and is repeated then.
    Retry {
        /// When.
        at: Instant,
    },
    /// Its items are known.
    Live,
    /// Another service of its type and instance has the better claim to the topics (§2.7), or its
    /// identifier can be in no topic (§4.7).
    Clash,
}

/// How far a scan is (§2.2).
#[derive(Debug)]
pub enum Scan {
    /// `GetItems` is awaited.
    Items,
    /// `GetValue` on `/` is awaited.
    Tree,
    /// The tree is walked.
    Walk(Walk),
}

/// A walk through a service's tree, some nodes at a time.
#[derive(Debug, Default)]
pub struct Walk {
    /// Nodes that are not asked yet.
    pub todo: VecDeque<Box<str>>,
    /// Calls that are not answered.
    pub in_flight: usize,
    /// How many nodes were found.
    pub nodes: usize,
    /// How many items were found.
    pub given: usize,
    /// How many nodes and items were left out, and what was wrong with the first of them.
    pub left_out: usize,
    /// Its path and the reason.
    pub first_left_out: Option<(Box<str>, Box<str>)>,
    /// Whether it stopped answering, so that the rest is not known.
    pub stopped: bool,
}

/// One service.
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is something else that is known of it"
)]
#[derive(Debug)]
pub struct Service {
    /// Its name.
    pub name: ServiceName,
    /// The unique name of its owner.
    pub owner: Box<str>,
    /// How far it is.
    pub state: State,
    /// The number of its last scan: answers to earlier ones are ignored.
    pub scan: u32,
    /// How many scans failed in a row.
    pub failures: u32,
    /// What its owner answered to `GetItems`, where that was an error that says more than that it has
    /// no such method.
    pub refusal: Option<Box<str>>,
    /// Whether that was reported.
    pub refusal_reported: bool,
    /// How many items were reported to be left out.
    pub left_out_reported: usize,
    /// The device that topics call it.
    pub device: Option<DeviceId>,
    /// How many services came to the bus before it.
    pub came: u64,
    /// Which device it does not get, as topics call it, and when that is reported again (§2.7).
    pub denied: Option<(Box<str>, Instant)>,
    /// What `/DeviceInstance` says.
    pub instance: Option<DeviceInstance>,
    /// What `/Identifier` says.
    pub identifier: Option<DeviceInstance>,
    /// What it says that VRM may do, until that was looked at.
    pub vrm_access: Option<Says>,
    /// What came early before this is not for it.
    early_since: u64,
    /// What was seen of a bound device since its scan began.
    pub seen: Bits,
    /// Whether what is not seen yet is of an owner before this one.
    pub replaced: bool,
    /// Whether the schema blocks something of it.
    pub has_blocked: bool,
    /// Whether something of it was left out for want of room.
    pub left_out: bool,
    /// Whether a value of it is longer than one may be.
    pub too_long: bool,
    /// Whether malformed data was reported.
    pub malformed_reported: bool,
}

/// All services.
#[derive(Debug, Default)]
pub struct Registry {
    services: Vec<Option<Service>>,
    by_name: HashMap<Box<str>, ServiceId>,
    /// Asked for every signal.
    by_owner: HashMap<Box<str>, SmallVec<[ServiceId; 1]>, hash::OfNames>,
    /// What is kept of each connection.
    pub kept: Kept,
    /// How many services ever came.
    came: u64,
    /// Whether the names on the bus are known.
    pub listed: bool,
    /// No retry is due before this.
    pub next_retry: Option<Instant>,
}

impl Service {
    /// What the service is called in topics (§1).
    pub fn device_instance(&self) -> DeviceInstance {
        let known = self.instance.as_ref().or(self.identifier.as_ref());
        known.cloned().unwrap_or_else(DeviceInstance::absent)
    }

    /// Whether what comes early is kept for the service (§2.3).
    fn waits(&self) -> bool {
        self.device.is_none() && !matches!(self.state, State::Clash)
    }

    /// Whether what came early at that moment is for the service.
    pub fn has_early(&self, at: Option<u64>) -> bool {
        self.waits() && at.is_some_and(|at| at > self.early_since)
    }

    /// Whether the service says its instance itself, and has not 0 by default (§2.7).
    pub fn says_instance(&self) -> bool {
        self.instance.is_some() || self.identifier.is_some()
    }

    /// Takes what an item with a role says. `true` where it says something new.
    pub fn note_role(&mut self, role: Role, value: Option<&Value<'_>>) -> bool {
        let (place, new) = match (role, value) {
            (Role::None, _) | (_, None) => return false,
            (Role::Instance, Some(value)) => (&mut self.instance, DeviceInstance::of_value(value)),
            (Role::Identifier, Some(value)) => (&mut self.identifier, identifier(value)),
            (Role::VrmAccess, Some(value)) => {
                self.vrm_access = Some(vrm_access(value));
                return false;
            }
        };
        let changed = *place != new;
        *place = new;
        changed
    }

    /// How long to wait after the scans that failed.
    pub fn retry_after(&self) -> Duration {
        RETRY_MIN
            .saturating_mul(1 << self.failures.min(10))
            .min(RETRY_MAX)
    }
}

fn identifier(value: &Value<'_>) -> Option<DeviceInstance> {
    let Value::Text(_, text) = *value else {
        return None;
    };
    DeviceInstance::identifier(text)
}

/// What a value says that VRM may do (§8). A number that nobody knows allows nothing.
#[allow(
    clippy::wildcard_enum_match_arm,
    reason = "any other value says nothing"
)]
fn vrm_access(value: &Value<'_>) -> Says {
    let number = match *value {
        Value::Int(_, number) => Some(number),
        Value::Uint(_, number) => i64::try_from(number).ok(),
        Value::Double(number) if (0.0..=2.0).contains(&number) && number.fract() == 0.0 => {
            #[allow(clippy::cast_possible_truncation)] // 0, 1 or 2
            let number = number as i64;
            Some(number)
        }
        Value::Double(_) => None,
        _ => return Says::Nothing,
    };
    Says::Access(match number {
        Some(1) => Access::ReadOnly,
        Some(2) => Access::Full,
        Some(_) | None => Access::Off,
    })
}

impl Registry {
    /// How many services are owned.
    pub fn count(&self) -> usize {
        self.by_name.len()
    }

    /// The service of that name.
    pub fn find(&self, name: &str) -> Option<ServiceId> {
        self.by_name.get(name).copied()
    }

    /// The services of a connection; mostly one.
    #[inline]
    pub fn owned_by(&self, owner: &str) -> Option<&SmallVec<[ServiceId; 1]>> {
        self.by_owner.get(owner)
    }

    /// A service.
    #[inline]
    pub fn get(&self, id: ServiceId) -> Option<&Service> {
        self.services.get(id.0 as usize)?.as_ref()
    }

    /// A service, to be changed.
    #[inline]
    pub fn get_mut(&mut self, id: ServiceId) -> Option<&mut Service> {
        self.services.get_mut(id.0 as usize)?.as_mut()
    }

    /// All services.
    pub fn ids(&self) -> impl Iterator<Item = ServiceId> + '_ {
        (0..)
            .zip(&self.services)
            .filter(|(_, service)| service.is_some())
            .map(|(id, _)| ServiceId(id))
    }

    /// Adds a service.
    pub fn add(&mut self, name: ServiceName, owner: &str, state: State) -> ServiceId {
        let free = self
            .services
            .iter()
            .position(Option::is_none)
            .unwrap_or(self.services.len());
        let id = ServiceId(u32::try_from(free).unwrap_or(u32::MAX));
        self.came += 1;
        self.by_name.insert(name.as_str().into(), id);
        self.by_owner.entry(owner.into()).or_default().push(id);
        let service = Service {
            name,
            owner: owner.into(),
            state,
            scan: 0,
            failures: 0,
            refusal: None,
            refusal_reported: false,
            left_out_reported: 0,
            device: None,
            came: self.came,
            denied: None,
            instance: None,
            identifier: None,
            vrm_access: None,
            early_since: self.kept.clock(),
            seen: Bits::default(),
            replaced: false,
            has_blocked: false,
            left_out: false,
            too_long: false,
            malformed_reported: false,
        };
        match self.services.get_mut(free) {
            Some(place) => *place = Some(service),
            None => self.services.push(Some(service)),
        }
        id
    }

    /// Notes that a service has another owner.
    pub fn set_owner(&mut self, id: ServiceId, owner: &str) {
        let clock = self.kept.clock();
        let Some(service) = self.get_mut(id) else {
            return;
        };
        let old = std::mem::replace(&mut service.owner, owner.into());
        // A new owner starts with nothing of the old one.
        service.early_since = clock;
        service.instance = None;
        service.identifier = None;
        service.replaced = true;
        service.refusal_reported = false;
        service.left_out_reported = 0;
        self.forget_owner(&old, id);
        self.by_owner.entry(owner.into()).or_default().push(id);
    }

    /// Removes a service.
    pub fn remove(&mut self, id: ServiceId) -> Option<Service> {
        let service = self.services.get_mut(id.0 as usize)?.take()?;
        self.by_name.remove(service.name.as_str());
        self.forget_owner(&service.owner, id);
        Some(service)
    }

    fn forget_owner(&mut self, owner: &str, id: ServiceId) {
        if let Some(owned) = self.by_owner.get_mut(owner) {
            owned.retain(|other| *other != id);
            if owned.is_empty() {
                self.by_owner.remove(owner);
                self.kept.forget(owner);
            }
        }
        self.drop_early(owner);
    }

    // What comes before it is known which device a service is (§2.3): kept once per connection.

    /// When something of that path came early to these services, which have one owner.
    pub fn early_at(&self, services: &[ServiceId], path: &str) -> Option<u64> {
        let service = self.get(*services.first()?)?;
        self.kept.early_at(&service.owner, path)
    }

    /// Whether anything came early.
    pub fn has_any_early(&self, id: ServiceId) -> bool {
        let service = self.get(id).filter(|service| service.waits());
        service.is_some_and(|service| {
            let since = service.early_since;
            self.kept.has_any_early(&service.owner, since)
        })
    }

    /// Keeps a change of a service of some connection. `shares` are what may be kept for the connection,
    /// and what there is room for.
    pub fn add_early(
        &mut self,
        id: ServiceId,
        path: &str,
        update: Update,
        secret: bool,
        shares: (usize, usize),
    ) -> Option<Keeping> {
        let service = self.services.get(id.0 as usize)?.as_ref()?;
        let owner = &service.owner;
        Some(self.kept.add_early(owner, path, update, secret, shares))
    }

    /// What came early for a service that waits no longer.
    pub fn take_early(&mut self, id: ServiceId) -> HashMap<Box<str>, Update> {
        let Some(service) = self.services.get(id.0 as usize).and_then(Option::as_ref) else {
            return HashMap::new();
        };
        let last = !self.has_waiting(&service.owner);
        self.kept
            .take_early(&service.owner, service.early_since, last)
    }

    /// A service waits no longer, and gets nothing of what came early.
    pub fn forget_early(&mut self, id: ServiceId) {
        let clock = self.kept.clock();
        let Some(service) = self.get_mut(id) else {
            return;
        };
        service.early_since = clock;
        let owner = service.owner.clone();
        self.drop_early(&owner);
    }

    fn has_waiting(&self, owner: &str) -> bool {
        let services = self.by_owner.get(owner);
        let mut services = services.into_iter().flatten();
        services.any(|id| self.get(*id).is_some_and(Service::waits))
    }

    fn drop_early(&mut self, owner: &str) {
        if !self.has_waiting(owner) {
            self.kept.drop_early(owner);
        }
    }

    /// A service in [`State::Retry`] is due then.
    pub fn retry_at(&mut self, at: Instant) {
        self.next_retry = Some(self.next_retry.map_or(at, |next| next.min(at)));
    }

    /// Whether every service that is there has been scanned, or failed to be.
    pub fn is_settled(&self) -> bool {
        let first_scan = |service: &Service| {
            matches!(service.state, State::Scanning(_))
                && service.failures == 0
                && service.device.is_none()
        };
        self.listed && !self.services.iter().flatten().any(first_scan)
    }
}
