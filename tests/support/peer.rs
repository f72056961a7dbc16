//! A connection to the bus that can own services: a fake Venus service, as well or as badly behaved
//! as a test wants it.
//!
//! Left alone it answers like a real one, from its table of items. [`Peer::on`] puts a test in
//! between: it sees each call first, and may answer wrongly, late or never.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Weak};
use std::time::{Duration, Instant};

use super::PATIENCE;
use super::service::{
    BUS_ITEM, Call, Item, Reply, Service, items_changed, properties_changed, serve,
};
use super::wire::{ERROR, METHOD_CALL, METHOD_RETURN, Message, V, read_message, s, vardict};

const DRIVER: &str = "org.freedesktop.DBus";

type Handler = Box<dyn FnMut(&Call) -> Reply + Send>;

#[derive(Default)]
struct State {
    services: Vec<Service>,
    calls: Vec<Call>,
    /// So many of the calls, from the first, have been dealt with.
    answered: usize,
    held: Vec<Call>,
    replies: HashMap<u32, Message>,
    handler: Option<Handler>,
    /// Whether the handler leaves scans alone.
    scanned_normally: bool,
    owned: Vec<String>,
    closed: bool,
}

impl State {
    /// The calls that have been dealt with.
    fn done(&self) -> impl Iterator<Item = &Call> {
        self.calls.iter().take(self.answered)
    }
}

struct Shared {
    unique: String,
    write: Mutex<UnixStream>,
    serial: AtomicU32,
    state: Mutex<State>,
    changed: Condvar,
    /// Held from a change of the table until it is told: in what goes out, no answer is older than a
    /// signal before it. Real services have one thread.
    order: Mutex<()>,
}

/// A connection to the bus. Gone, with all its names, when the guard goes.
pub struct Peer {
    shared: Arc<Shared>,
    /// The same connection, to end it: a writer may hold the lock, or hang on a bus that is stopped.
    line: UnixStream,
}

impl Peer {
    pub fn try_connect(address: &str) -> io::Result<Peer> {
        let path = address
            .strip_prefix("unix:path=")
            .expect("a unix:path= address");
        let mut stream = UnixStream::connect(path)?;
        authenticate(&mut stream)?;
        let hello = Message::call(DRIVER, "/org/freedesktop/DBus", DRIVER, "Hello");
        stream.write_all(&Message { serial: 1, ..hello }.encode())?;
        let reply = read_message(&mut stream)?;
        let args = reply.args();
        let [V::S(unique)] = args.as_slice() else {
            return Err(io::Error::other("no name in the reply to Hello"));
        };
        let unique = unique.clone();
        let (reader, line) = (stream.try_clone()?, stream.try_clone()?);
        let shared = Arc::new(Shared {
            unique,
            write: Mutex::new(stream),
            serial: AtomicU32::new(2),
            state: Mutex::default(),
            changed: Condvar::new(),
            order: Mutex::default(),
        });
        let theirs = Arc::clone(&shared);
        std::thread::spawn(move || theirs.read(reader));
        Ok(Peer { shared, line })
    }

    pub fn unique(&self) -> &str {
        &self.shared.unique
    }

    /// Adds a service to the table and takes its name.
    pub fn serve(&self, service: Service) {
        let name = service.name.clone();
        self.prepare(service);
        self.own(&name);
    }

    /// Adds a service to the table without taking its name.
    pub fn prepare(&self, service: Service) {
        let mut state = self.shared.lock();
        state.services.retain(|other| other.name != service.name);
        state.services.push(service);
    }

    /// Takes a name: may be replaced, replaces, does not queue.
    pub fn own(&self, name: &str) {
        let reply = self.driver("RequestName", &[s(name), V::U(1 | 2 | 4)]);
        assert_eq!(reply.args(), [V::U(1)], "to own {name}");
        self.shared.lock().owned.push(name.to_owned());
    }

    /// Gives a name back; its table stays.
    pub fn release_name(&self, name: &str) {
        self.driver("ReleaseName", &[s(name)]);
        self.shared.lock().owned.retain(|other| other != name);
    }

    /// A look at this connection from outside, that does not keep it alive.
    pub fn watch(&self) -> Watch {
        Watch(Arc::downgrade(&self.shared))
    }

    /// A round trip: the bus has read all that was sent before.
    pub fn sync(&self) {
        self.driver("GetId", &[]);
    }

    pub fn driver(&self, member: &str, args: &[V]) -> Message {
        let reply =
            self.call(Message::call(DRIVER, "/org/freedesktop/DBus", DRIVER, member).with(args));
        assert_eq!(reply.kind, METHOD_RETURN, "{member}: {reply:?}");
        reply
    }

    /// Calls, and waits for the reply, be it a return or an error.
    pub fn call(&self, message: Message) -> Message {
        let serial = self.send(message);
        self.shared
            .wait("a reply", PATIENCE, |state| state.replies.remove(&serial))
    }

    /// Sends a message with the next serial number, which is given back.
    pub fn send(&self, message: Message) -> u32 {
        self.shared.send(message)
    }

    /// Sends many messages in one write.
    pub fn burst(&self, messages: impl IntoIterator<Item = Message>) {
        self.try_burst(messages).unwrap();
    }

    /// The same on a bus that may have gone.
    pub fn try_burst(&self, messages: impl IntoIterator<Item = Message>) -> io::Result<()> {
        let mut bytes = Vec::new();
        for message in messages {
            bytes.extend(
                Message {
                    serial: self.shared.next_serial(),
                    ..message
                }
                .encode(),
            );
        }
        self.shared.write.lock().unwrap().write_all(&bytes)
    }

    /// Changes an item in the table and says nothing.
    pub fn set(&self, name: &str, path: &str, value: V) {
        let mut state = self.shared.lock();
        let service = state
            .services
            .iter_mut()
            .find(|service| service.name == name)
            .unwrap();
        let item = service.items.entry(path.to_owned());
        item.and_modify(|item| item.value = value.clone())
            .or_insert(Item {
                value,
                min: None,
                max: None,
                text: None,
            });
    }

    pub fn remove(&self, name: &str, path: &str) {
        let mut state = self.shared.lock();
        let service = state
            .services
            .iter_mut()
            .find(|service| service.name == name)
            .unwrap();
        service.items.remove(path).unwrap();
    }

    /// Changes an item in the table and says so, as services do.
    pub fn update(&self, name: &str, path: &str, value: V) {
        let _order = self.shared.order.lock().unwrap();
        self.set(name, path, value.clone());
        self.changed(path, value);
    }

    /// Changes items in the table and says so by this signal, on a bus that may have gone.
    pub fn try_update(
        &self,
        name: &str,
        changes: &[(String, V)],
        signal: Message,
    ) -> io::Result<()> {
        let _order = self.shared.order.lock().unwrap();
        for (path, value) in changes {
            self.set(name, path, value.clone());
        }
        self.try_burst([signal])
    }

    /// The services as they are now.
    pub fn services(&self) -> Vec<Service> {
        self.shared.lock().services.clone()
    }

    /// The calls that have been answered since this was last asked.
    pub fn take_calls(&self) -> Vec<Call> {
        let mut state = self.shared.lock();
        let answered = std::mem::take(&mut state.answered);
        state.calls.drain(..answered).collect()
    }

    /// Leaves the bus; all that came until then has been dealt with on return.
    pub fn leave(&self) {
        let stream = self.shared.write.lock().unwrap();
        stream.shutdown(std::net::Shutdown::Both).ok();
        drop(stream);
        self.wait_closed();
    }

    /// Sends calls to others all at once; gives their replies, without those that do not come in time.
    pub fn try_calls(
        &self,
        calls: Vec<Message>,
        patience: Duration,
    ) -> io::Result<Vec<Option<Message>>> {
        let first = self.shared.serial.load(Ordering::Relaxed);
        let count = u32::try_from(calls.len()).unwrap();
        self.try_burst(calls)?;
        let deadline = Instant::now() + patience;
        let mut state = self.shared.lock();
        let wanted = first..first + count;
        loop {
            let come = wanted.clone().all(|at| state.replies.contains_key(&at));
            let left = deadline.saturating_duration_since(Instant::now());
            if come || left.is_zero() || state.closed {
                return Ok(wanted.map(|at| state.replies.remove(&at)).collect());
            }
            state = self.shared.changed.wait_timeout(state, left).unwrap().0;
        }
    }

    /// `PropertiesChanged` with a value and its text.
    pub fn changed(&self, path: &str, value: V) {
        self.send(properties_changed(path, value));
    }

    /// `PropertiesChanged` with just these facets.
    pub fn facets<'a>(&self, path: &str, facets: impl IntoIterator<Item = (&'a str, V)>) {
        self.send(Message::signal(path, BUS_ITEM, "PropertiesChanged").with(&[vardict(facets)]));
    }

    /// `ItemsChanged` with the values of several items.
    pub fn items_changed<'a>(&self, items: impl IntoIterator<Item = (&'a str, V)>) {
        self.send(items_changed(items));
    }

    /// Puts a test between the calls and the answers.
    pub fn on(&self, handler: impl FnMut(&Call) -> Reply + Send + 'static) {
        let mut state = self.shared.lock();
        state.handler = Some(Box::new(handler));
        state.scanned_normally = false;
    }

    /// The same for all calls but those by which a bridge scans a service, which are answered normally:
    /// a bridge that starts then counts as ready when it has made them.
    pub fn on_items(&self, mut handler: impl FnMut(&Call) -> Reply + Send + 'static) {
        self.on(move |call| match call.member.as_str() {
            "GetItems" => Reply::Normal,
            _ => handler(call),
        });
        self.shared.lock().scanned_normally = true;
    }

    /// Answers normally from here on; what was held stays held.
    pub fn behave(&self) {
        self.shared.lock().handler = None;
    }

    /// Answers a call that was held.
    pub fn answer(&self, call: &Call, reply: &Reply) {
        self.shared
            .lock()
            .held
            .retain(|held| held.serial != call.serial);
        self.shared.reply(call, reply);
    }

    /// Answers all that was held, in order and normally, and goes on normally.
    pub fn release(&self) {
        let held = {
            let mut state = self.shared.lock();
            state.handler = None;
            std::mem::take(&mut state.held)
        };
        for call in held {
            self.shared.reply(&call, &Reply::Normal);
        }
    }

    /// Waits until this many such calls have come, since the beginning or since [`Peer::forget`].
    pub fn wait_calls(&self, what: &str, count: usize, such: impl Fn(&Call) -> bool) -> Vec<Call> {
        self.wait_calls_for(what, count, PATIENCE, such)
    }

    pub fn wait_calls_for(
        &self,
        what: &str,
        count: usize,
        patience: Duration,
        such: impl Fn(&Call) -> bool,
    ) -> Vec<Call> {
        self.shared.wait(what, patience, |state| {
            let calls: Vec<Call> = state.done().filter(|call| such(call)).cloned().collect();
            (calls.len() >= count).then_some(calls)
        })
    }

    /// The calls that have come so far, answered or just being so.
    pub fn calls(&self) -> Vec<Call> {
        self.shared.lock().calls.clone()
    }

    pub fn forget(&self) {
        let mut state = self.shared.lock();
        let answered = std::mem::take(&mut state.answered);
        state.calls.drain(..answered);
    }

    /// The values that were written to an item so far.
    pub fn writes(&self, path: &str) -> Vec<V> {
        let calls = self.calls();
        calls
            .iter()
            .filter(|call| call.is("SetValue", path))
            .map(Call::written)
            .collect()
    }

    /// Waits until the bus has dropped this connection.
    pub fn wait_closed(&self) {
        self.shared.wait("the bus to close", PATIENCE, |state| {
            state.closed.then_some(())
        });
    }
}

/// Who owns services that answer, and how often each was scanned.
pub struct Watch(Weak<Shared>);

impl Watch {
    /// How many scans there will have been when a bridge that starts now has scanned all of it; `None`
    /// where a test answers in its own way, or the connection has gone.
    pub fn scans_due(&self) -> Option<usize> {
        let shared = self.0.upgrade()?;
        let state = shared.lock();
        let services = state
            .owned
            .iter()
            .filter(|name| name.starts_with("com.victronenergy."));
        let due = scans(&state) + services.count();
        let normally = state.handler.is_none() || state.scanned_normally;
        (normally && !state.closed).then_some(due)
    }

    pub fn wait_scans(&self, due: usize) {
        if let Some(shared) = self.0.upgrade() {
            let what = format!("{due} scans of {:?}", shared.lock().owned);
            shared.wait(&what, PATIENCE, |state| (scans(state) >= due).then_some(()));
        }
    }
}

fn scans(state: &State) -> usize {
    state
        .done()
        .filter(|call| call.member == "GetItems")
        .count()
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.line.shutdown(std::net::Shutdown::Both).ok();
    }
}

/// The client's half of the SASL handshake, as this user.
fn authenticate(stream: &mut UnixStream) -> io::Result<()> {
    let uid = rustix::process::getuid().as_raw().to_string();
    let hex: String = uid.bytes().map(|byte| format!("{byte:02x}")).collect();
    stream.write_all(format!("\0AUTH EXTERNAL {hex}\r\n").as_bytes())?;
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        line.push(byte[0]);
    }
    if !line.starts_with(b"OK ") {
        return Err(io::Error::other("the bus refused the handshake"));
    }
    stream.write_all(b"BEGIN\r\n")
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn next_serial(&self) -> u32 {
        self.serial.fetch_add(1, Ordering::Relaxed)
    }

    fn send(&self, message: Message) -> u32 {
        let serial = self.next_serial();
        let bytes = Message { serial, ..message }.encode();
        self.write.lock().unwrap().write_all(&bytes).unwrap();
        serial
    }

    fn wait<T>(
        &self,
        what: &str,
        patience: Duration,
        mut look: impl FnMut(&mut State) -> Option<T>,
    ) -> T {
        let deadline = Instant::now() + patience;
        let mut state = self.lock();
        loop {
            if let Some(found) = look(&mut state) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let calls: Vec<String> = state
                    .calls
                    .iter()
                    .map(|call| format!("{} {}", call.member, call.path))
                    .collect();
                drop(state); // the reader goes on while this thread unwinds
                panic!("waited {patience:?} in vain for {what}; calls so far: {calls:?}");
            }
            state = self.changed.wait_timeout(state, left).unwrap().0;
        }
    }

    /// The reader's thread: until the bus closes.
    fn read(&self, mut stream: UnixStream) {
        while let Ok(message) = read_message(&mut stream) {
            if message.kind == METHOD_RETURN || message.kind == ERROR {
                self.lock().replies.insert(message.reply_serial, message);
            } else if message.kind == METHOD_CALL {
                let call = Call {
                    serial: message.serial,
                    args: message.args(),
                    sender: message.sender,
                    destination: message.destination,
                    path: message.path,
                    interface: message.interface,
                    member: message.member,
                };
                let mut state = self.lock();
                // Before the answer: who sees its effect on the broker may look for the call at once.
                state.calls.push(call.clone());
                let reply = state
                    .handler
                    .as_mut()
                    .map_or(Reply::Normal, |handler| handler(&call));
                if matches!(reply, Reply::Later) {
                    state.held.push(call.clone());
                }
                drop(state);
                self.reply(&call, &reply);
                self.lock().answered += 1; // who waits for the call may count on the reply
            }
            self.changed.notify_all();
        }
        self.lock().closed = true;
        self.changed.notify_all();
    }

    fn reply(&self, call: &Call, reply: &Reply) {
        let head = Message {
            kind: METHOD_RETURN,
            flags: 1,
            reply_serial: call.serial,
            destination: call.sender.clone(),
            ..Message::default()
        };
        let message = match reply {
            Reply::Later => return,
            Reply::Return(args) => head.with(args),
            Reply::Raw(signature, body) => head.with_raw(signature, body),
            Reply::Error(name) => refuse(head, name, "as the test wants it"),
            Reply::Says(name, words) => refuse(head, name, words),
            Reply::Normal => {
                let _order = self.order.lock().unwrap();
                let served = serve(&mut self.lock().services, call);
                match served {
                    Ok((args, signal)) => {
                        // The change goes out before the reply, as velib_python does it.
                        if let Some(signal) = signal {
                            self.try_send(signal);
                        }
                        self.try_send(head.with(&args));
                    }
                    Err(name) => self.try_send(refuse(head, name, "as the test wants it")),
                }
                return;
            }
        };
        self.try_send(message);
    }

    /// Sends on a bus that may have gone.
    fn try_send(&self, message: Message) {
        let serial = self.next_serial();
        let bytes = Message { serial, ..message }.encode();
        self.write.lock().unwrap().write_all(&bytes).ok();
    }
}

fn refuse(head: Message, name: &str, words: &str) -> Message {
    Message {
        kind: ERROR,
        error: name.to_owned(),
        ..head
    }
    .with(&[s(words)])
}
