//! A WebSocket server before a broker, frame by frame [RFC 6455]: it keeps what it sees, and behaves as
//! badly as a test wants. Shares nothing with the bridge's own WebSocket.

use std::io::{self, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};

use sha1::{Digest, Sha1};

use super::certificates::base64;
use super::front::Front;

pub const CONTINUATION: u8 = 0;
pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

/// How it treats those who connect.
#[derive(Clone, Debug, Default)]
pub struct Manner {
    /// Sent instead of the upgrade; then it closes.
    pub answer: Option<String>,
    /// The subprotocol that it names; without it the one that is asked for.
    pub subprotocol: Option<&'static str>,
    /// What the broker sends is cut into frames of so many bytes; 0: as it comes.
    pub frame_bytes: usize,
    /// Every message is in two frames, with a ping in between.
    pub fragments: bool,
    /// All that the broker sends is one message, which does not end.
    pub endless: bool,
    /// Sent right after the upgrade.
    pub first: Vec<u8>,
}

/// A frame as it came.
#[derive(Clone, Debug)]
pub struct Frame {
    pub connection: usize,
    pub last: bool,
    pub opcode: u8,
    pub masked: bool,
    pub payload: Vec<u8>,
}

pub struct Gateway {
    front: Front,
    shared: Arc<Shared>,
}

struct Shared {
    manner: Mutex<Manner>,
    /// The heads of the requests.
    requests: Mutex<Vec<String>>,
    frames: Mutex<Vec<Frame>>,
    behind: SocketAddr,
}

impl Gateway {
    pub fn start(behind: SocketAddr, manner: Manner) -> Gateway {
        let shared = Arc::new(Shared {
            manner: Mutex::new(manner),
            requests: Mutex::default(),
            frames: Mutex::default(),
            behind,
        });
        let theirs = Arc::clone(&shared);
        let front = Front::start(move |stream, connection| {
            theirs.serve(stream, connection).ok(); // ends with either end
        });
        Gateway { front, shared }
    }

    pub fn address(&self) -> SocketAddr {
        self.front.address
    }

    /// The address to connect to.
    pub fn url(&self, path: &str) -> String {
        format!("ws://{}{path}", self.address())
    }

    pub fn connections(&self) -> usize {
        self.front.connections()
    }

    /// From the next connection on.
    pub fn behave(&self, manner: Manner) {
        *self.shared.manner.lock().unwrap() = manner;
    }

    pub fn requests(&self) -> Vec<String> {
        self.shared.requests.lock().unwrap().clone()
    }

    pub fn frames(&self) -> Vec<Frame> {
        self.shared.frames.lock().unwrap().clone()
    }
}

impl Shared {
    fn serve(&self, stream: TcpStream, connection: usize) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let manner = self.manner.lock().unwrap().clone();
        let mut from_client = BufReader::new(stream.try_clone()?);
        let mut to_client = stream;
        let head = head(&mut from_client)?;
        self.requests.lock().unwrap().push(head.clone());
        if let Some(answer) = manner.answer {
            to_client.write_all(answer.as_bytes())?;
            return to_client.shutdown(Shutdown::Write);
        }
        let mut to_broker = TcpStream::connect(self.behind)?;
        to_broker.set_nodelay(true)?;
        to_client.write_all(accept(&head, manner.subprotocol).as_bytes())?;
        to_client.write_all(&manner.first)?;
        let mut from_broker = to_broker.try_clone()?;
        let out = Mutex::new(to_client);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                pass_on(&mut from_broker, &out, &manner).ok();
                // The client may still say goodbye.
                out.lock().unwrap().shutdown(Shutdown::Write).ok();
            });
            let ended = self.take(&mut from_client, &mut to_broker, &out, connection);
            to_broker.shutdown(Shutdown::Both).ok();
            ended
        })
    }

    /// Passes on what the client sends.
    fn take(
        &self,
        from: &mut impl Read,
        to_broker: &mut TcpStream,
        out: &Mutex<TcpStream>,
        connection: usize,
    ) -> io::Result<()> {
        loop {
            let frame = read_frame(from, connection)?;
            self.frames.lock().unwrap().push(frame.clone());
            match frame.opcode {
                BINARY | CONTINUATION => to_broker.write_all(&frame.payload)?,
                PING => send(out, &write_frame(true, PONG, &frame.payload))?,
                CLOSE => {
                    send(out, &write_frame(true, CLOSE, &frame.payload)).ok();
                    return Ok(());
                }
                _ => {}
            }
        }
    }
}

/// Passes on what the broker sends.
fn pass_on(from: &mut TcpStream, out: &Mutex<TcpStream>, manner: &Manner) -> io::Result<()> {
    let mut space = vec![0; 64 * 1024];
    let mut opcode = BINARY;
    loop {
        let length = from.read(&mut space)?;
        if length == 0 {
            return Ok(());
        }
        let size = if manner.frame_bytes == 0 {
            length
        } else {
            manner.frame_bytes
        };
        for piece in space[..length].chunks(size) {
            if manner.endless {
                send(out, &write_frame(false, opcode, piece))?;
                opcode = CONTINUATION;
            } else if manner.fragments {
                let (a, b) = piece.split_at(piece.len() / 2);
                send(out, &write_frame(false, BINARY, a))?;
                send(out, &write_frame(true, PING, b"there?"))?;
                send(out, &write_frame(true, CONTINUATION, b))?;
            } else {
                send(out, &write_frame(true, BINARY, piece))?;
            }
        }
    }
}

fn send(out: &Mutex<TcpStream>, bytes: &[u8]) -> io::Result<()> {
    out.lock().unwrap().write_all(bytes)
}

/// The head of a request.
fn head(from: &mut impl Read) -> io::Result<String> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        from.read_exact(&mut byte)?;
        bytes.push(byte[0]);
    }
    Ok(String::from_utf8(bytes).unwrap())
}

/// The value of a header.
pub fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (key, value) = line.split_once(": ")?;
        key.eq_ignore_ascii_case(name).then_some(value)
    })
}

/// The answer to a request in good order.
fn accept(head: &str, subprotocol: Option<&str>) -> String {
    let key = header(head, "Sec-WebSocket-Key").unwrap();
    let joined = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let sum = base64(&Sha1::digest(joined.as_bytes()));
    let wanted = header(head, "Sec-WebSocket-Protocol").unwrap_or_default();
    let protocol = match subprotocol.unwrap_or(wanted) {
        "" => String::new(),
        name => format!("Sec-WebSocket-Protocol: {name}\r\n"),
    };
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {sum}\r\n{protocol}\r\n"
    )
}

/// A frame of a server, which has no mask.
pub fn write_frame(last: bool, opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![opcode | if last { 0x80 } else { 0 }];
    match payload.len() {
        length @ 0..126 => bytes.push(u8::try_from(length).unwrap()),
        length @ 126..0x1_0000 => {
            bytes.push(126);
            bytes.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
        length => {
            bytes.push(127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    bytes.extend_from_slice(payload);
    bytes
}

fn read_frame(from: &mut impl Read, connection: usize) -> io::Result<Frame> {
    let mut head = [0; 2];
    from.read_exact(&mut head)?;
    let length = match head[1] & 0x7F {
        126 => {
            let mut bytes = [0; 2];
            from.read_exact(&mut bytes)?;
            usize::from(u16::from_be_bytes(bytes))
        }
        127 => {
            let mut bytes = [0; 8];
            from.read_exact(&mut bytes)?;
            usize::try_from(u64::from_be_bytes(bytes)).unwrap()
        }
        short => usize::from(short),
    };
    let masked = head[1] & 0x80 != 0;
    let mut mask = [0; 4];
    if masked {
        from.read_exact(&mut mask)?;
    }
    let mut payload = vec![0; length];
    from.read_exact(&mut payload)?;
    for (at, byte) in payload.iter_mut().enumerate() {
        *byte ^= mask[at % 4];
    }
    Ok(Frame {
        connection,
        last: head[0] & 0x80 != 0,
        opcode: head[0] & 0x0F,
        masked,
        payload,
    })
}
