//! The line between the bridge and its broker, which can be frozen and cut as a bad network is.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

/// A port that hands on to a broker.
pub struct Line {
    pub port: u16,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    frozen: bool,
    ends: Vec<TcpStream>,
}

impl Line {
    pub fn to(broker: u16) -> Line {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                // Where the broker is not there the caller finds the line closed at once.
                if let Ok(far) = TcpStream::connect((Ipv4Addr::LOCALHOST, broker)) {
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

    /// Closes all that is connected, wherever a packet is just then.
    pub fn cut(&self) {
        for end in self.shared.state.lock().unwrap().ends.drain(..) {
            end.shutdown(Shutdown::Both).ok();
        }
    }
}

impl Shared {
    fn join(self: &Arc<Shared>, near: TcpStream, far: TcpStream) {
        let clone = |stream: &TcpStream| stream.try_clone().unwrap();
        near.set_nodelay(true).ok();
        far.set_nodelay(true).ok();
        let mut state = self.state.lock().unwrap();
        // Those that have ended; their other half has been closed with them.
        state.ends.retain(|end| end.peer_addr().is_ok());
        state.ends.extend([clone(&near), clone(&far)]);
        drop(state);
        for (from, to) in [(clone(&near), clone(&far)), (far, near)] {
            let shared = Arc::clone(self);
            thread::spawn(move || shared.copy(from, to));
        }
    }

    fn copy(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut bytes = [0; 16 * 1024];
        loop {
            let read = from.read(&mut bytes).unwrap_or(0);
            let mut state = self.state.lock().unwrap();
            while state.frozen {
                state = self.changed.wait(state).unwrap();
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
