//! The server: MQTT clients that connect to the bridge itself, served from its cache (§9).
//!
//! One thread owns a [`Server`]. It never blocks, never fails and reads no clock: bytes of clients,
//! marks of changed items, and what the bridge's rules say go in; bytes, requests and questions come
//! out. What passes in and out is in [`interface`].
//!
//! ```text
//!            receive ──▶ session ──▶ poll_request, poll_login        to the bridge's rules
//! sockets                   │
//!            write ◀── subscriber ◀── mark, directory, answer        from the bridge and its cache
//! ```

use std::io;
use std::time::Instant;

pub mod interface;

pub use self::interface::{
    Answer, ClientId, ClientRequest, Close, DirectoryChange, Limits, ListenerSettings, LoginCheck,
    Peer, Response, Settings, Slot, Stats, Values, Verdict,
};
use crate::model::time::Now;

/// All clients of all listeners.
#[derive(Debug)]
pub struct Server {
    settings: Settings,
}

impl Server {
    /// A server without clients, which knows of no items yet.
    pub fn new(settings: Settings) -> Server {
        Server { settings }
    }

    /// Somebody has connected: TCP, TLS and WebSocket are through.
    pub fn connect(&mut self, _now: Now, _peer: Peer) -> ClientId {
        let _ = &self.settings;
        ClientId {
            index: 0,
            generation: 0,
        }
    }

    /// Bytes of a client, split anywhere.
    pub fn receive(&mut self, _now: Now, _client: ClientId, _bytes: &[u8]) {}

    /// Whether more of a client's bytes are to be read: not while it takes nothing of what it asked
    /// for, nor while its login is looked at. Asked again after each `write` and `login`.
    pub fn wants(&self, _client: ClientId) -> bool {
        true
    }

    /// The client's socket is gone. One that `poll_close` has named is forgotten already.
    pub fn disconnected(&mut self, _now: Now, _client: ClientId) {}

    /// What came of a login.
    pub fn login(&mut self, _now: Now, _client: ClientId, _verdict: Verdict) {}

    /// What items there are. To be told before the marks that concern them.
    pub fn directory(&mut self, _now: Now, _change: DirectoryChange) {}

    /// Items that have changed: one word of the marks, as it was taken with `swap`. After the last
    /// one of a batch, `advance` is to be called.
    pub fn mark(&mut self, _word: usize, _bits: u32) {}

    /// What the bridge's rules say.
    pub fn answer(&mut self, _now: Now, _answer: Answer) {}

    /// Other settings of one listener, or others in all.
    pub fn reload(&mut self, _now: Now, settings: Settings) {
        self.settings = settings;
    }

    /// The bridge ends: every client is told (0x8B) and closed.
    pub fn shut_down(&mut self, _now: Now) {}

    /// Time has passed, or marks have come: what is due is done. To be called at `poll_timeout` at
    /// the latest, and after each batch of inputs, before `poll_ready`.
    pub fn advance(&mut self, _now: Now) {}

    /// A request for the rules of §5.
    pub fn poll_request(&mut self) -> Option<ClientRequest> {
        None
    }

    /// A login to look at.
    pub fn poll_login(&mut self) -> Option<LoginCheck> {
        None
    }

    /// A connection to close, once what is left to write has been offered; the server has forgotten it.
    pub fn poll_close(&mut self) -> Option<(ClientId, Close)> {
        None
    }

    /// A client that has something to write, and whose last write was taken whole. Each is named once
    /// until it is written to.
    pub fn poll_ready(&mut self) -> Option<ClientId> {
        None
    }

    /// Writes what the client is to have, until there is no more or `sink` takes no more (it says how
    /// much it took; `WouldBlock`: nothing now). `true`: it has all; otherwise call again when the
    /// socket can be written to. Any other error of `sink` is for the shell: it says `disconnected`.
    pub fn write(
        &mut self,
        _now: Now,
        _client: ClientId,
        _values: &impl Values,
        _sink: impl FnMut(&[u8]) -> io::Result<usize>,
    ) -> bool {
        true
    }

    /// When `advance` is to be called at the latest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// What is counted.
    pub fn stats(&self) -> Stats {
        Stats::default()
    }
}
