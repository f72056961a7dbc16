//! The services on the bus: who owns them, and how far their scans are (§2).
//!
//! ```text
//!  owned     ┌─── fails, or no items ──┐
//! ───────▶ Scanning ◀── time is up ── Failed, Empty
//!            │ done        ▲
//!            ├──────▶ Live ┤ a new owner, another device instance, a refresh, a path that is new
//!            │         ▼   │
//!            └──────▶ Clash┘ the other service of that type and instance is gone, or has the
//!                            lesser claim (`super::claim`)
//!
//!  (from every state: the owner is lost, and the service is gone)
//! ```
//!
//! When a service is scanned without a cause from outside is [`Service::due`]; the rounds through all of
//! them are [`Rounds`].

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use super::device_access::Says;
use super::kept::{Keeping, Kept};
use crate::bridge::store::bits::Bits;
use crate::bridge::store::cache::Update;
use crate::bridge::store::hash;
use crate::bridge::store::items::{DeviceId, Items, ServiceId};
use crate::model::access::Access;
use crate::model::name::{DeviceInstance, ServiceName};
use crate::model::value::Value;
use crate::schema::rule::Role;

/// The wait before a failed scan is repeated, doubled each time up to a minute.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);

/// How far a service is.
#[derive(Debug, Default)]
pub enum State {
    /// Its items are being asked for.
    Scanning(Scan),
    /// The scan failed, and is repeated.
    #[default]
    Failed,
    /// The scan found nothing, and is repeated: after a while, or when a signal brings something.
    Empty,
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
    /// It came a moment ago and has no instance: it is asked again soon, and nothing of it is published
    /// before that.
    Unnamed,
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
    /// The items that were found.
    pub given: Vec<Box<str>>,
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
#[derive(Debug, Default)]
pub struct Service {
    /// Its name.
    pub name: ServiceName,
    /// The unique name of its owner.
    pub owner: Box<str>,
    /// How far it is.
    pub state: State,
    /// Since when its owner has the name; `None` where that was before we looked.
    pub since: Option<Instant>,
    /// When it is scanned next without another cause.
    pub due: Option<Instant>,
    /// The number of its last scan: answers to earlier ones are ignored.
    pub scan: u32,
    /// How many scans failed in a row.
    pub failures: u32,
    /// What its owner answered to `GetItems`, where that was an error that says more than that it has
    /// no such method.
    pub refusal: Option<Box<str>>,
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
    /// What was reported of it.
    pub reported: Reported,
}

/// What was reported of a service, once per owner.
#[derive(Debug, Default)]
pub struct Reported {
    /// Malformed data.
    pub malformed: bool,
    /// An error that it answered to `GetItems`.
    pub refusal: bool,
    /// How many items were left out.
    pub left_out: usize,
    /// An item that has no object.
    pub no_object: bool,
}

/// The rounds of scans that find what was never signalled (§2.2): each service once in the time, one
/// after the other.
#[derive(Debug, Default)]
pub struct Rounds {
    /// How long a round takes; `None`: there are none.
    pub every: Option<Duration>,
    /// When the next service's turn is.
    pub at: Option<Instant>,
    /// Whose turn it was last, and the number of that scan.
    pub last: Option<(ServiceId, u32)>,
}

/// All services.
#[derive(Debug, Default)]
pub struct Registry {
    services: Vec<Option<Service>>,
    /// What a number stands for that no service has: a mistake, which debug builds assert. It has no name, so
    /// that nobody calls it.
    nobody: Service,
    by_name: HashMap<Box<str>, ServiceId>,
    /// Asked for every signal.
    by_owner: HashMap<Box<str>, SmallVec<[ServiceId; 1]>, hash::OfNames>,
    /// What is kept of each connection.
    pub kept: Kept,
    /// How many services ever came.
    came: u64,
    /// Whether the names on the bus are known.
    pub listed: bool,
    /// No service is due before this.
    pub next_due: Option<Instant>,
    /// The rounds through all services.
    pub rounds: Rounds,
}

/// The services that no scan has told of yet.
#[derive(Debug)]
pub struct Unscanned<'a> {
    /// Their types, and the devices that they were before they had another owner; `None` where even the
    /// names on the bus are not known.
    services: Option<Vec<(&'a str, Option<DeviceId>)>>,
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

    /// Whether it is being asked for its items at this moment.
    pub fn is_asked(&self) -> bool {
        matches!(
            self.state,
            State::Scanning(Scan::Items | Scan::Tree | Scan::Walk(_))
        )
    }

    /// Whether nothing says which of several devices of its type it is.
    pub fn is_unnamed(&self) -> bool {
        self.instance.is_none() && self.identifier.is_none()
    }

    /// Whether it has not been scanned yet, and no scan of it failed.
    fn is_unscanned(&self) -> bool {
        matches!(self.state, State::Scanning(_))
            && self.failures == 0
            && (self.device.is_none() || self.replaced)
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

    /// A service that may have left: the number was kept while a call was under way.
    #[inline]
    pub fn get(&self, id: ServiceId) -> Option<&Service> {
        self.services.get(id.0 as usize)?.as_ref()
    }

    /// A service that is there, which is asserted in debug builds.
    #[inline]
    #[track_caller]
    pub fn at(&self, id: ServiceId) -> &Service {
        let found = self.get(id);
        debug_assert!(found.is_some(), "no service has the number {}", id.0);
        found.unwrap_or(&self.nobody)
    }

    /// The same, to be changed.
    #[inline]
    #[track_caller]
    pub fn at_mut(&mut self, id: ServiceId) -> &mut Service {
        let place = self.services.get_mut(id.0 as usize);
        let found = place.and_then(Option::as_mut);
        debug_assert!(found.is_some(), "no service has the number {}", id.0);
        found.unwrap_or(&mut self.nobody)
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
            came: self.came,
            early_since: self.kept.clock(),
            ..Service::default()
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
        let service = self.at_mut(id);
        let old = std::mem::replace(&mut service.owner, owner.into());
        // A new owner starts with nothing of the old one.
        service.early_since = clock;
        service.instance = None;
        service.identifier = None;
        service.replaced = true;
        service.seen = Bits::default();
        service.failures = 0;
        service.reported = Reported::default();
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
        let service = self.at(*services.first()?);
        self.kept.early_at(&service.owner, path)
    }

    /// Whether anything came early.
    pub fn has_any_early(&self, id: ServiceId) -> bool {
        let service = self.at(id);
        service.waits() && (self.kept).has_any_early(&service.owner, service.early_since)
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
    ) -> Keeping {
        let owner = self.at(id).owner.clone();
        self.kept.add_early(&owner, path, update, secret, shares)
    }

    /// What came early for a service that waits no longer.
    pub fn take_early(&mut self, id: ServiceId) -> HashMap<Box<str>, Update> {
        let service = self.at(id);
        let (owner, since) = (service.owner.clone(), service.early_since);
        let last = !self.has_waiting(&owner);
        self.kept.take_early(&owner, since, last)
    }

    /// A service waits no longer, and gets nothing of what came early.
    pub fn forget_early(&mut self, id: ServiceId) {
        let clock = self.kept.clock();
        let service = self.at_mut(id);
        service.early_since = clock;
        let owner = service.owner.clone();
        self.drop_early(&owner);
    }

    fn has_waiting(&self, owner: &str) -> bool {
        let services = self.by_owner.get(owner);
        let mut services = services.into_iter().flatten();
        services.any(|id| self.at(*id).waits())
    }

    fn drop_early(&mut self, owner: &str) {
        if !self.has_waiting(owner) {
            self.kept.drop_early(owner);
        }
    }

    /// Has a service scanned at that time, unless it is sooner.
    pub fn scan_at(&mut self, id: ServiceId, at: Instant) {
        let service = self.at_mut(id);
        service.due = service.due.into_iter().chain([at]).min();
        self.next_due = self.next_due.into_iter().chain([at]).min();
    }

    /// The services that are due now. Those that are being asked already are so again a moment later:
    /// what they are due for may be newer than the question.
    pub fn take_due(&mut self, now: Instant) -> Vec<ServiceId> {
        if self.next_due.is_none_or(|at| at > now) {
            return Vec::new();
        }
        let mut due = Vec::new();
        self.next_due = None;
        for (id, service) in (0..).map(ServiceId).zip(&mut self.services) {
            let Some(service) = service else { continue };
            if service.due.is_some_and(|at| at <= now) {
                service.due = None;
                if service.is_asked() {
                    service.due = Some(now + RETRY_MIN);
                } else {
                    due.push(id);
                }
            }
            self.next_due = self.next_due.into_iter().chain(service.due).min();
        }
        due
    }

    // The rounds.

    /// The length of a round is another one.
    pub fn set_rounds(&mut self, now: Instant, every: Option<Duration>) {
        if self.rounds.every != every {
            self.rounds.every = every;
            self.rounds.at = None;
            self.plan_round(now);
        }
    }

    /// Has the next turn of the rounds come no later than the services there are now ask for.
    pub fn plan_round(&mut self, now: Instant) {
        let at = self.rounds.every.and_then(|every| {
            let count = u32::try_from(self.count()).ok()?;
            now.checked_add(every.checked_div(count)?)
        });
        self.rounds.at = self.rounds.at.into_iter().chain(at).min();
    }

    /// The service whose turn in the rounds has come. There is none while the last one is still asked.
    pub fn take_turn(&mut self, now: Instant) -> Option<ServiceId> {
        self.rounds.at.take_if(|at| *at <= now)?;
        self.plan_round(now);
        let mut after = None;
        if let Some((last, scan)) = self.rounds.last {
            let running = |service: &Service| service.scan == scan && service.is_asked();
            if self.get(last).is_some_and(running) {
                return None;
            }
            after = Some(last);
        }
        let live = |id: &ServiceId| matches!(self.at(*id).state, State::Live);
        let next = self.ids().filter(live).find(|id| Some(*id) > after);
        let next = next.or_else(|| self.ids().find(live))?;
        let scan = self.at(next).scan.wrapping_add(1);
        self.rounds.last = Some((next, scan));
        Some(next)
    }

    // What topics there may be.

    /// Whether every service that is there has been scanned, or failed to be.
    pub fn is_settled(&self) -> bool {
        self.listed && !self.services.iter().flatten().any(Service::is_unscanned)
    }

    /// The services that no scan has told of yet.
    pub fn unscanned(&self) -> Unscanned<'_> {
        let unscanned = self.services.iter().flatten();
        let unscanned = unscanned.filter(|service| service.is_unscanned());
        let services = unscanned.map(|service| (service.name.service_type(), service.device));
        Unscanned {
            services: self.listed.then(|| services.collect()),
        }
    }
}

impl Unscanned<'_> {
    /// Whether the names on the bus are known.
    pub fn is_listed(&self) -> bool {
        self.services.is_some()
    }

    /// Whether the item of this topic, `battery/7/Soc`, may still come: its own device is not scanned yet,
    /// or no service is that device, and one of its type may turn out to be.
    pub fn may_have(&self, items: &Items, topic: &str) -> bool {
        let Some(services) = &self.services else {
            return true;
        };
        let Some((service_type, rest)) = topic.split_once('/') else {
            return false;
        };
        let mut alike = services.iter().filter(|(other, _)| *other == service_type);
        let instance = rest.split('/').next().unwrap_or_default();
        let device = topic.get(..service_type.len() + 1 + instance.len());
        let device = device.and_then(|key| items.find_device(key));
        match device.filter(|device| items.service(*device).is_some()) {
            Some(device) => alike.any(|(_, other)| *other == Some(device)),
            None => alike.next().is_some(),
        }
    }
}
