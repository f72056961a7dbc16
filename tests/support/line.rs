//! The line between the bridge and its broker, which can be frozen and cut as a bad network is; or, to several
//! nodes, what balances their load.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Instant;

/// A port that hands on to a broker, or to one after the other of several.
pub struct Line {
    pub port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    start: Instant,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    frozen: bool,
    closed: bool,
    ends: Vec<TcpStream>,
    /// How many bytes went to the brokers in each tenth of a second.
    traffic: Vec<usize>,
}

#[derive(Clone, Copy, PartialEq)]
enum Way {
    ToBroker,
    FromBroker,
}

impl Line {
    pub fn to(broker: u16) -> Line {
        Line::over(vec![broker])
    }

    /// Each connection goes to the next of these that takes it.
    pub fn over(brokers: Vec<u16>) -> Line {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            start: Instant::now(),
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let theirs = Arc::clone(&shared);
        thread::spawn(move || {
            for (turn, near) in listener.incoming().flatten().enumerate() {
                // Where no broker is there the caller finds the line closed at once.
                let mut order = brokers.iter().cycle().skip(turn % brokers.len());
                let mut there = order.by_ref().take(brokers.len());
                let far = there
                    .find_map(|broker| TcpStream::connect((Ipv4Addr::LOCALHOST, *broker)).ok());
                if let Some(far) = far {
                    theirs.join(near, far);
                }
            }
        });
        Line { port, shared }
    }

    /// Hands nothing on, and closes nothing: neither end learns of it.
    pub fn freeze(&self) {
        self.shared.state.lock().unwrap().frozen = true;
    }

    pub fn thaw(&self) {
        self.shared.state.lock().unwrap().frozen = false;
        self.shared.changed.notify_all();
    }

    /// Closes all that is connected, and takes nobody any more.
    pub fn close(&self) {
        self.shared.state.lock().unwrap().closed = true;
        self.cut();
    }

    pub fn open(&self) {
        self.shared.state.lock().unwrap().closed = false;
    }

    /// How many bytes went to the brokers in each tenth of a second since then.
    pub fn traffic(&self, since: Instant) -> Vec<usize> {
        let state = self.shared.state.lock().unwrap();
        let from = self.shared.tenth(since).min(state.traffic.len());
        state.traffic[from..].to_vec()
    }

    /// Closes all that is connected, wherever a packet is just then.
    pub fn cut(&self) {
        for end in self.shared.state.lock().unwrap().ends.drain(..) {
            end.shutdown(Shutdown::Both).ok();
        }
    }
}

impl Shared {
    fn tenth(&self, at: Instant) -> usize {
        usize::try_from(at.duration_since(self.start).as_millis() / 100).unwrap()
    }

    fn join(self: &Arc<Shared>, near: TcpStream, far: TcpStream) {
        let clone = |stream: &TcpStream| stream.try_clone().unwrap();
        near.set_nodelay(true).ok();
        far.set_nodelay(true).ok();
        let mut state = self.state.lock().unwrap();
        if state.closed {
            return;
        }
        // Those that have ended; their other half has been closed with them.
        state.ends.retain(|end| end.peer_addr().is_ok());
        state.ends.extend([clone(&near), clone(&far)]);
        drop(state);
        let there = (clone(&near), clone(&far), Way::ToBroker);
        for (from, to, way) in [there, (far, near, Way::FromBroker)] {
            let shared = Arc::clone(self);
            thread::spawn(move || shared.copy(from, to, way));
        }
    }

    fn copy(&self, mut from: TcpStream, mut to: TcpStream, way: Way) {
        let mut bytes = [0; 16 * 1024];
        loop {
            let read = from.read(&mut bytes).unwrap_or(0);
            let mut state = self.state.lock().unwrap();
            while state.frozen {
                state = self.changed.wait(state).unwrap();
            }
            if way == Way::ToBroker {
                let now = self.tenth(Instant::now());
                let length = state.traffic.len().max(now + 1);
                state.traffic.resize(length, 0);
                state.traffic[now] += read;
            }
            drop(state);
            if read == 0 {
                // Only this half: what the other end still has to say must not reset what it reads.
                to.shutdown(Shutdown::Write).ok();
                return;
            }
            if to.write_all(&bytes[..read]).is_err() {
                break;
            }
        }
        from.shutdown(Shutdown::Both).ok();
        to.shutdown(Shutdown::Both).ok();
    }
}
