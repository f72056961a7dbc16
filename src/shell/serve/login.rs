//! Who may connect (§9.20, §9.21): users with hashed passwords, and how often somebody may try.
//!
//! A hash takes a tenth of a second and more, so it is computed on one of two threads beside; a good login is
//! remembered, by a keyed digest, until the file changes. A wrong one is answered after a random wait, and
//! counts against its address.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use tracing::{info, warn};

use crate::config::{Auth, ListenConfig, open_regular};
use crate::model::log_rate::{LogRate, Throttle};
use crate::model::outside::Outside;
use crate::serve::{LoginCheck, Verdict};
use crate::shell::shared::random;

/// A failed login is answered after a random wait between this and as much more.
const DELAY_MIN: Duration = Duration::from_secs(1);
const DELAY_SPREAD_MS: u64 = 5_000;
/// How many attempts an address has at once; one more each second.
const ATTEMPTS_MAX: u32 = 20;
const ATTEMPT_EVERY: Duration = Duration::from_secs(1);
/// How many in a day.
const ATTEMPTS_DAY_MAX: u32 = 150;
const DAY: Duration = Duration::from_secs(86_400);
/// How many addresses and good logins are remembered; beyond that all are forgotten.
const REMEMBERED_MAX: usize = 1_000;
/// The longest file of users.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Looks at logins.
pub(super) struct Logins {
    listeners: RefCell<Vec<ListenConfig>>,
    keys: [RandomState; 2],
    files: RefCell<HashMap<PathBuf, File>>,
    addresses: RefCell<HashMap<IpAddr, Attempts>>,
    /// How long a failed login waits for its answer.
    wait: fn() -> Duration,
    /// What was logged about the clients of each listener: who guesses passwords must not fill the log.
    lines: RefCell<Vec<Lines>>,
    rate: Cell<LogRate>,
}

/// Each kind of line has its budget.
#[derive(Default)]
struct Lines {
    refused: Throttle,
    busy: Throttle,
    invalid: Throttle,
}

/// Reports the listeners to which nobody can log in.
fn report(listeners: &[ListenConfig]) {
    for listener in listeners {
        if let Some(file) = missing_password(listener) {
            warn!(
                "{}: there is no {}: nobody can log in until a password is set on the device",
                listener.name,
                file.display()
            );
        }
    }
}

/// The file with the password of the device, where a listener needs it and it is not there (§9.20).
fn missing_password(listener: &ListenConfig) -> Option<&Path> {
    match &listener.auth {
        Auth::Venus { password, .. } if !password.exists() => Some(password),
        Auth::Venus { .. } | Auth::Anonymous | Auth::Users(_) | Auth::Certificate => None,
    }
}

/// A random time, so that it tells nothing.
fn random_wait() -> Duration {
    DELAY_MIN + Duration::from_millis(random() % DELAY_SPREAD_MS)
}

/// A file of users, as it was read.
#[derive(Default)]
struct File {
    age: Option<(SystemTime, u64)>,
    /// Its text; `None` where it cannot be read.
    text: Option<String>,
    /// Digests of logins that it let in.
    good: HashSet<[u64; 2]>,
}

/// What an address has tried.
#[derive(Debug, Clone, Default)]
struct Attempts {
    full_at: Option<Instant>,
    today: u32,
    since: Option<Instant>,
    /// The last wrong login: the same again is not another attempt.
    last: Option<[u64; 2]>,
}

impl Attempts {
    /// Counts one. `false` where it is one too many.
    fn take(&mut self, now: Instant) -> bool {
        let since = *self.since.get_or_insert(now);
        if now.saturating_duration_since(since) >= DAY {
            (self.since, self.today) = (Some(now), 0);
        }
        let full_at = self.full_at.map_or(now, |at| at.max(now)) + ATTEMPT_EVERY;
        let within = full_at.saturating_duration_since(now) <= ATTEMPT_EVERY * ATTEMPTS_MAX;
        if !within || self.today >= ATTEMPTS_DAY_MAX {
            return false;
        }
        self.full_at = Some(full_at);
        self.today += 1;
        true
    }
}

impl Logins {
    pub(super) fn new(listeners: &[ListenConfig], rate: LogRate) -> Logins {
        report(listeners);
        Logins {
            listeners: RefCell::new(listeners.to_vec()),
            keys: [RandomState::new(), RandomState::new()],
            files: RefCell::default(),
            addresses: RefCell::default(),
            wait: random_wait,
            lines: RefCell::new(listeners.iter().map(|_| Lines::default()).collect()),
            rate: Cell::new(rate),
        }
    }

    /// Other settings: who logs in from now on is held against them.
    pub(super) fn reload(&self, listeners: &[ListenConfig], rate: LogRate) {
        report(listeners);
        self.rate.set(rate);
        *self.listeners.borrow_mut() = listeners.to_vec();
    }

    /// Whether a line of one kind about a client of this listener may be logged: how many were not since the last.
    fn allow(&self, listener: usize, kind: fn(&mut Lines) -> &mut Throttle) -> Option<u64> {
        let mut lines = self.lines.borrow_mut();
        kind(lines.get_mut(listener)?).allow(Instant::now(), self.rate.get())
    }

    /// What comes of a login.
    pub(super) async fn check(&self, check: LoginCheck) -> Verdict {
        let listener = self.listeners.borrow().get(check.peer.listener).cloned();
        let Some(listener) = listener else {
            return Verdict::NotAuthorized;
        };
        let user = check.user.as_deref().unwrap_or_default();
        let password = check.password.as_deref().unwrap_or_default();
        let verdict = match &listener.auth {
            Auth::Anonymous => return Verdict::Welcome,
            Auth::Certificate if check.peer.certificate.is_some() => return Verdict::Welcome,
            Auth::Certificate => Verdict::NotAuthorized,
            Auth::Users(file) => {
                let hash = |text: &str| of_user(text, user);
                self.password(file, (user, password), &check, hash).await
            }
            Auth::Venus { tokens, .. } if user.starts_with("token/") => {
                let hash = |text: &str| of_token(text, user);
                self.password(tokens, (user, password), &check, hash).await
            }
            Auth::Venus { password: file, .. } => {
                let hash = |text: &str| Some(text.trim().to_owned());
                // The user name does not matter.
                self.password(file, ("", password), &check, hash).await
            }
        };
        if verdict != Verdict::Welcome {
            self.log_refused(&listener.name, &check, verdict);
            tokio::time::sleep((self.wait)()).await;
        }
        verdict
    }

    fn log_refused(&self, name: &str, check: &LoginCheck, verdict: Verdict) {
        let (number, address) = (check.peer.listener, check.peer.address);
        if verdict == Verdict::Busy {
            let Some(hidden) = self.allow(number, |lines| &mut lines.busy) else {
                return;
            };
            if hidden > 0 {
                info!("{name}: {hidden} more connections with too many attempts are not shown");
            }
            return info!("{name}: too many attempts to log in from {address}");
        }
        let Some(hidden) = self.allow(number, |lines| &mut lines.refused) else {
            return;
        };
        if hidden > 0 {
            info!("{name}: {hidden} more refused logins are not shown");
        }
        let user = Outside::new(check.user.as_deref().unwrap_or_default()).at_most(64);
        let why = if verdict == Verdict::BadCredentials {
            ": wrong user name or password"
        } else {
            ""
        };
        info!("{name}: \"{user}\" from {address} may not connect{why}");
    }

    /// Whether a file has this password for the user; `hash` finds its hash in the text. An empty hash lets
    /// anybody in, a file that is not there nobody.
    async fn password(
        &self,
        path: &Path,
        (user, password): (&str, &[u8]),
        check: &LoginCheck,
        hash: impl Fn(&str) -> Option<String>,
    ) -> Verdict {
        let digest = self
            .keys
            .each_ref()
            .map(|key| key.hash_one((path, user, password)));
        let (hash, is_good) = {
            let mut files = self.files.borrow_mut();
            let file = files.entry(path.to_owned()).or_default();
            file.refresh(path);
            let hash = file.text.as_deref().and_then(hash);
            (hash, file.good.contains(&digest))
        };
        if is_good {
            return Verdict::Welcome;
        }
        if hash.as_ref().is_some_and(String::is_empty) && user.is_empty() {
            return Verdict::Welcome;
        }
        if !self.may_try(check.peer.address, digest) {
            return Verdict::Busy;
        }
        let Some(hash) = hash else {
            return Verdict::BadCredentials;
        };
        let password = password.to_vec();
        let verified = tokio::task::spawn_blocking(move || bcrypt::verify(password, &hash)).await;
        let is_right = matches!(verified, Ok(Ok(true)));
        if let Ok(Err(error)) = verified
            && self
                .allow(check.peer.listener, |lines| &mut lines.invalid)
                .is_some()
        {
            warn!(
                "{}: the hash of {user:?} is not valid: {error}",
                path.display()
            );
        }
        if !is_right {
            return Verdict::BadCredentials;
        }
        if let Some(attempts) = self.addresses.borrow_mut().get_mut(&check.peer.address) {
            *attempts = Attempts::default();
        }
        if let Some(file) = self.files.borrow_mut().get_mut(path) {
            if file.good.len() >= REMEMBERED_MAX {
                file.good.clear();
            }
            file.good.insert(digest);
        }
        Verdict::Welcome
    }

    /// Whether an address may try this login now.
    fn may_try(&self, address: IpAddr, digest: [u64; 2]) -> bool {
        let mut addresses = self.addresses.borrow_mut();
        if addresses.len() >= REMEMBERED_MAX && !addresses.contains_key(&address) {
            addresses.clear();
        }
        let attempts = addresses.entry(address).or_default();
        if attempts.last == Some(digest) {
            return true;
        }
        attempts.last = Some(digest);
        attempts.take(Instant::now())
    }
}

impl File {
    /// Reads it again where it has changed.
    fn refresh(&mut self, path: &Path) {
        let data = std::fs::metadata(path).ok();
        let age = data.and_then(|data| Some((data.modified().ok()?, data.len())));
        if age.is_some() && age == self.age {
            return;
        }
        *self = File {
            age,
            text: read(path),
            good: HashSet::new(),
        };
    }
}

fn read(path: &Path) -> Option<String> {
    use std::io::Read;
    let mut text = String::new();
    let file = open_regular(path).ok()?;
    file.take(FILE_BYTES_MAX).read_to_string(&mut text).ok()?;
    Some(text)
}

/// The hash of a user in a file of `name:hash` lines; a line that begins with `#` says nothing.
fn of_user(text: &str, user: &str) -> Option<String> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let mut users = lines.filter_map(|line| line.split_once(':'));
    let (_, hash) = users.find(|(name, _)| *name == user && !user.is_empty())?;
    Some(hash.trim().to_owned())
}

/// The hash of a token of Venus OS: a list of objects with `token_name` and `password_hash`.
fn of_token(text: &str, token: &str) -> Option<String> {
    let all: serde_json::Value = serde_json::from_str(text).ok()?;
    let mut all = all.as_array()?.iter();
    let found = all.find(|one| one.get("token_name").and_then(|name| name.as_str()) == Some(token));
    Some(found?.get("password_hash")?.as_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ListenTransport;

    fn check(user: &str, password: &str) -> LoginCheck {
        LoginCheck {
            client: crate::serve::ClientId::from_number(1),
            peer: crate::serve::Peer {
                listener: 0,
                address: [192, 168, 1, 7].into(),
                certificate: None,
            },
            user: Some(user.into()),
            password: Some(password.as_bytes().into()),
        }
    }

    fn logins(auth: Auth) -> Logins {
        let address = ([127, 0, 0, 1], 1883).into();
        let mut listener = ListenConfig::open("listener", address, ListenTransport::Tcp);
        listener.auth = auth;
        Logins {
            wait: || Duration::ZERO,
            ..Logins::new(&[listener], LogRate::default())
        }
    }

    fn hash(password: &str) -> String {
        bcrypt::hash(password, 4).unwrap()
    }

    #[tokio::test]
    async fn s9_20_users_of_a_file_that_may_change() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users");
        std::fs::write(&path, format!("# people\nme:{}\n", hash("secret"))).unwrap();
        let logins = logins(Auth::Users(path.clone()));
        for _ in 0..2 {
            assert_eq!(logins.check(check("me", "secret")).await, Verdict::Welcome);
        }
        for (user, password) in [
            ("me", "wrong"),
            ("you", "secret"),
            ("", "secret"),
            ("me", ""),
        ] {
            let verdict = logins.check(check(user, password)).await;
            assert_eq!(verdict, Verdict::BadCredentials, "{user} {password}");
        }
        std::fs::write(&path, format!("me:{}\nyou:\n", hash("another one"))).unwrap();
        assert_eq!(
            logins.check(check("me", "secret")).await,
            Verdict::BadCredentials
        );
        assert_eq!(
            logins.check(check("you", "")).await,
            Verdict::BadCredentials
        );
        assert_eq!(
            logins.check(check("me", "another one")).await,
            Verdict::Welcome
        );
        std::fs::remove_file(&path).unwrap();
        assert_eq!(
            logins.check(check("me", "another one")).await,
            Verdict::BadCredentials
        );
    }

    #[tokio::test]
    async fn s9_20_the_password_and_the_tokens_of_venus_os() {
        let folder = tempfile::tempdir().unwrap();
        let password = folder.path().join("vncpassword.txt");
        let tokens = folder.path().join("tokens.json");
        let logins = logins(Auth::Venus {
            password: password.clone(),
            tokens: tokens.clone(),
        });
        let is_missing = || missing_password(&logins.listeners.borrow()[0]).is_some();
        // No file: nobody, which is reported. An empty one: anybody.
        assert!(is_missing());
        assert_eq!(logins.check(check("x", "y")).await, Verdict::BadCredentials);
        std::fs::write(&password, "\n").unwrap();
        assert!(!is_missing());
        assert_eq!(logins.check(check("x", "y")).await, Verdict::Welcome);
        std::fs::write(&password, hash("venus")).unwrap();
        assert_eq!(
            logins.check(check("anybody", "venus")).await,
            Verdict::Welcome
        );
        assert_eq!(logins.check(check("x", "y")).await, Verdict::BadCredentials);
        let token = "token/evcharger/one";
        assert_eq!(
            logins.check(check(token, "venus")).await,
            Verdict::BadCredentials
        );
        let row = format!(
            r#"[{{"token_name": "{token}", "password_hash": "{}"}}]"#,
            hash("t")
        );
        std::fs::write(&tokens, row).unwrap();
        assert_eq!(logins.check(check(token, "t")).await, Verdict::Welcome);
        assert_eq!(
            logins.check(check("token/evcharger/two", "t")).await,
            Verdict::BadCredentials
        );
    }

    #[tokio::test]
    async fn s9_21_an_address_has_so_many_attempts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users");
        std::fs::write(&path, format!("me:{}\n", hash("secret"))).unwrap();
        let logins = logins(Auth::Users(path));
        // The same wrong one again and again is one.
        for _ in 0..100 {
            assert_eq!(
                logins.check(check("me", "old")).await,
                Verdict::BadCredentials
            );
        }
        let now = Instant::now();
        let mut attempts = Attempts::default();
        assert_eq!((0..100).filter(|_| attempts.take(now)).count(), 20);
        let later = now + Duration::from_secs(5);
        assert_eq!((0..100).filter(|_| attempts.take(later)).count(), 5);
        let mut day = Attempts::default();
        let each = |second: u64| now + Duration::from_secs(second);
        assert_eq!((0..1_000).filter(|s| day.take(each(*s))).count(), 150);
        assert!(day.take(now + DAY));
    }
}
