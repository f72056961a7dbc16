//! A client of MQTT that bears a broker which is stopped, killed or cut off: everything it does can
//! fail, and nothing waits without end.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::support::client::{packet, put_text, take_text};
use crate::support::fake_broker::{publish, take_properties};

/// One connection.
pub struct Tap {
    stream: TcpStream,
    level: u8,
    buffer: Vec<u8>,
    pings: Instant,
}

/// What came: a message, or an acknowledgement.
pub enum Event {
    Message {
        topic: String,
        payload: Vec<u8>,
        retain: bool,
    },
    Other,
}

const PATIENCE: Duration = Duration::from_secs(5);
const PING: Duration = Duration::from_secs(20);

impl Tap {
    /// Connects with MQTT 3.1.1 (4) or 5.
    pub fn connect(port: u16, level: u8, name: &str) -> io::Result<Tap> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut tap = Tap {
            stream,
            level,
            buffer: Vec::new(),
            pings: Instant::now(),
        };
        let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', level, 2, 0, 60];
        if level == 5 {
            body.push(0);
        }
        put_text(&mut body, &format!("soak-{}-{name}", std::process::id()));
        tap.send(&packet(0x10, &body))?;
        tap.wait_ack(0x20)?;
        Ok(tap)
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Another handle, for a thread that only publishes.
    pub fn publisher(&self) -> io::Result<Publisher> {
        Ok(Publisher {
            stream: self.stream.try_clone()?,
            level: self.level,
        })
    }

    /// Subscribes with QoS 0. What the broker retains may come before this returns: it is put into
    /// the list.
    pub fn subscribe(&mut self, filter: &str, come: &mut Vec<Event>) -> io::Result<()> {
        let mut body = vec![0, 1];
        if self.level == 5 {
            body.push(0);
        }
        put_text(&mut body, filter);
        body.push(0);
        self.send(&packet(0x82, &body))?;
        self.wait_until(0x90, come)
    }

    fn wait_ack(&mut self, kind: u8) -> io::Result<()> {
        self.wait_until(kind, &mut Vec::new())
    }

    fn wait_until(&mut self, kind: u8, come: &mut Vec<Event>) -> io::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.next_packet(deadline)? {
                None => return Err(io::ErrorKind::TimedOut.into()),
                Some((head, _)) if head & 0xF0 == kind => return Ok(()),
                Some((head, body)) => come.push(self.event(head, &body)),
            }
        }
    }

    /// The next packet, `None` where there is none until the deadline. An error is the end of the
    /// connection.
    pub fn next(&mut self, deadline: Instant) -> io::Result<Option<Event>> {
        if self.pings.elapsed() > PING {
            self.pings = Instant::now();
            self.send(&packet(0xC0, &[]))?;
        }
        let found = self.next_packet(deadline)?;
        Ok(found.map(|(head, body)| self.event(head, &body)))
    }

    fn next_packet(&mut self, deadline: Instant) -> io::Result<Option<(u8, Vec<u8>)>> {
        loop {
            if let Some(found) = whole_packet(&mut self.buffer) {
                return Ok(Some(found));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.stream.set_read_timeout(Some(left))?;
            let mut bytes = [0; 16 * 1024];
            match self.stream.read(&mut bytes) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.buffer.extend_from_slice(&bytes[..count]),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => return Ok(None),
                    io::ErrorKind::Interrupted => {}
                    _ => return Err(error),
                },
            }
        }
    }

    fn event(&self, head: u8, body: &[u8]) -> Event {
        if head & 0xF0 != 0x30 {
            return Event::Other;
        }
        let (topic, mut payload) = take_text(body);
        if self.level == 5 {
            payload = take_properties(payload).1;
        }
        Event::Message {
            topic,
            payload: payload.to_vec(),
            retain: head & 1 == 1,
        }
    }
}

/// The sending half of a [`Tap`].
pub struct Publisher {
    stream: TcpStream,
    level: u8,
}

impl Publisher {
    /// The broker keeps it; without a payload, nothing any more.
    pub fn publish_retained(&mut self, topic: &str, payload: &[u8]) -> io::Result<()> {
        let mut bytes = publish(self.level, topic, &[], payload);
        bytes[0] |= 1;
        self.stream.write_all(&bytes)
    }

    pub fn publish(&mut self, topic: &str, properties: &[u8], payload: &[u8]) -> io::Result<()> {
        let bytes = publish(self.level, topic, properties, payload);
        self.stream.write_all(&bytes)
    }
}

/// Takes a packet off the front: its first byte and its body.
fn whole_packet(buffer: &mut Vec<u8>) -> Option<(u8, Vec<u8>)> {
    let (mut length, mut at) = (0, 1);
    loop {
        let digit = *buffer.get(at)?;
        length |= usize::from(digit & 0x7F) << (7 * (at - 1));
        at += 1;
        if digit & 0x80 == 0 {
            break;
        }
    }
    let body = buffer.get(at..at + length)?.to_vec();
    let head = buffer[0];
    buffer.drain(..at + length);
    Some((head, body))
}
