//! A bus that lets through what no real one would: `dbus-daemon` checks every message and drops the
//! peer that sends nonsense, so what the bridge makes of nonsense is seen only here.
//!
//! It owns all names on one connection, `:1.7`, and answers calls to them as [`Peer`] does.
//!
//! [`Peer`]: super::peer::Peer

use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

use tempfile::TempDir;

use super::PATIENCE;
use super::service::{Call, Service, serve};
use super::wire::{ERROR, METHOD_CALL, METHOD_RETURN, Message, SIGNAL, V, array, read_message, s};

/// The unique name of all services here.
pub const OWNER: &str = ":1.7";
const DRIVER: &str = "org.freedesktop.DBus";

#[derive(Default)]
struct State {
    services: Vec<Service>,
    calls: Vec<Message>,
    /// Replies of the test's own, by member: bytes under a signature.
    raw: Vec<(String, String, Vec<u8>)>,
    current: Option<UnixStream>,
    /// Whether the newest connection has said Hello; no real bus sends anything before.
    greeted: bool,
    connections: usize,
    matches: usize,
    serial: u32,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

pub struct FakeBus {
    shared: Arc<Shared>,
    folder: TempDir,
}

impl FakeBus {
    pub fn start(services: Vec<Service>) -> FakeBus {
        let folder = tempfile::Builder::new()
            .prefix("fakebus")
            .tempdir()
            .unwrap();
        let bus = FakeBus {
            shared: Arc::default(),
            folder,
        };
        bus.shared.state.lock().unwrap().services = services;
        let listener = UnixListener::bind(bus.socket()).unwrap();
        let shared = Arc::clone(&bus.shared);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { break };
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || shared.converse(stream));
            }
        });
        bus
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("bus")
    }

    pub fn address(&self) -> String {
        format!("unix:path={}", self.socket().display())
    }

    /// Answers calls of this member with these bytes under this signature.
    pub fn reply_raw(&self, member: &str, signature: &str, body: &[u8]) {
        let mut state = self.shared.state.lock().unwrap();
        state
            .raw
            .push((member.to_owned(), signature.to_owned(), body.to_vec()));
    }

    /// Sends bytes as they are to the newest connection.
    pub fn send_bytes(&self, bytes: &[u8]) {
        if self.shared.state.lock().unwrap().greeted {
            self.shared.write(bytes);
        }
    }

    /// Sends a signal of the services' connection.
    pub fn send(&self, message: Message) {
        self.send_bytes(&self.bytes_of(message));
    }

    /// The bytes of a signal of the services' connection, to be spoilt.
    pub fn bytes_of(&self, message: Message) -> Vec<u8> {
        let serial = self.shared.next_serial();
        Message {
            sender: OWNER.to_owned(),
            serial,
            ..message
        }
        .encode()
    }

    /// Waits for this many connections, those before included.
    pub fn wait_connections(&self, count: usize) {
        self.shared.wait(&format!("{count} connections"), |state| {
            (state.connections >= count).then_some(())
        });
    }

    pub fn connections(&self) -> usize {
        self.shared.state.lock().unwrap().connections
    }

    /// Waits until a call of this member has come this many times.
    pub fn wait_calls(&self, member: &str, count: usize) {
        self.shared
            .wait(&format!("{count} calls of {member}"), |state| {
                let calls = state.calls.iter().filter(|call| call.member == member);
                (calls.count() >= count).then_some(())
            });
    }
}

impl Shared {
    fn wait<T>(&self, what: &str, look: impl Fn(&State) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.state.lock().unwrap();
        loop {
            if let Some(found) = look(&state) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let calls: Vec<String> =
                    state.calls.iter().map(|call| call.member.clone()).collect();
                drop(state);
                panic!("the fake bus waited {PATIENCE:?} in vain for {what}; calls: {calls:?}");
            }
            state = self.changed.wait_timeout(state, left).unwrap().0;
        }
    }

    fn next_serial(&self) -> u32 {
        let mut state = self.state.lock().unwrap();
        state.serial += 1;
        state.serial
    }

    fn send(&self, message: Message) {
        let serial = self.next_serial();
        let destination = if message.kind == SIGNAL { "" } else { ":1.1" }.to_owned();
        let message = Message {
            serial,
            destination,
            ..message
        };
        self.write(&message.encode());
    }

    fn write(&self, bytes: &[u8]) {
        if let Some(stream) = self.state.lock().unwrap().current.as_mut() {
            stream.write_all(bytes).ok(); // the bridge may have had enough
        }
    }

    fn converse(&self, mut stream: UnixStream) {
        if handshake(&mut stream).is_err() {
            return;
        }
        {
            let mut state = self.state.lock().unwrap();
            state.connections += 1;
            state.current = Some(stream.try_clone().unwrap());
            state.greeted = false;
        }
        self.changed.notify_all();
        while let Ok(call) = read_message(&mut stream) {
            if call.kind == METHOD_CALL {
                let reply = self.answer(&call);
                self.send(reply);
                let mut state = self.state.lock().unwrap();
                state.greeted = true;
                state.calls.push(call);
                drop(state);
                self.changed.notify_all();
            }
        }
    }

    fn answer(&self, call: &Message) -> Message {
        let mut state = self.state.lock().unwrap();
        let from_driver = call.destination == DRIVER;
        let head = Message {
            kind: METHOD_RETURN,
            flags: 1,
            reply_serial: call.serial,
            sender: if from_driver { DRIVER } else { OWNER }.to_owned(),
            ..Message::default()
        };
        let refuse = |head: Message, name: &str| {
            Message {
                kind: ERROR,
                error: name.to_owned(),
                ..head
            }
            .with(&[s("no")])
        };
        if !from_driver {
            if let Some((_, signature, body)) = state.raw.iter().find(|raw| raw.0 == call.member) {
                return head.with_raw(signature, body);
            }
            let call = Call {
                serial: call.serial,
                sender: call.sender.clone(),
                destination: call.destination.clone(),
                path: call.path.clone(),
                interface: call.interface.clone(),
                member: call.member.clone(),
                args: call.args(),
            };
            return match serve(&mut state.services, &call) {
                Ok((args, _)) => head.with(&args),
                Err(name) => refuse(head, name),
            };
        }
        let names = || state.services.iter().map(|service| service.name.clone());
        let owned = |args: &[V]| match args {
            [V::S(name)] => names().any(|other| other == *name),
            _ => false,
        };
        match call.member.as_str() {
            "Hello" => head.with(&[s(":1.1")]),
            "AddMatch" => {
                state.matches += 1;
                head
            }
            "RemoveMatch" => head,
            "RequestName" => head.with(&[V::U(1)]),
            "ListNames" => {
                let all = [DRIVER.to_owned(), ":1.1".to_owned(), OWNER.to_owned()]
                    .into_iter()
                    .chain(names());
                head.with(&[array("s", all.map(V::S))])
            }
            "ListActivatableNames" => head.with(&[array("s", [])]),
            "NameHasOwner" => {
                let owned = owned(&call.args());
                head.with(&[V::B(owned)])
            }
            "GetNameOwner" if owned(&call.args()) => head.with(&[s(OWNER)]),
            "GetNameOwner" => refuse(head, "org.freedesktop.DBus.Error.NameHasNoOwner"),
            "GetId" => head.with(&[s("0123456789abcdef0123456789abcdef")]),
            _ => refuse(head, "org.freedesktop.DBus.Error.UnknownMethod"),
        }
    }
}

/// The server's half of the SASL handshake: takes anybody.
fn handshake(stream: &mut UnixStream) -> io::Result<()> {
    let guid = "0123456789abcdef0123456789abcdef";
    loop {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            line.push(byte[0]);
        }
        let line = String::from_utf8_lossy(&line)
            .trim_start_matches('\0')
            .trim_end()
            .to_owned();
        let answer = match line.as_str() {
            "BEGIN" => return Ok(()),
            "AUTH EXTERNAL" => "DATA".to_owned(),
            "NEGOTIATE_UNIX_FD" => "AGREE_UNIX_FD".to_owned(),
            line if line.starts_with("AUTH EXTERNAL ") || line.starts_with("DATA") => {
                format!("OK {guid}")
            }
            line if line.starts_with("AUTH") => "REJECTED EXTERNAL".to_owned(),
            _ => "ERROR".to_owned(),
        };
        stream.write_all(format!("{answer}\r\n").as_bytes())?;
    }
}
