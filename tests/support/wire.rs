//! The little of the D-Bus wire format that a test needs: values both ways, messages both ways, in
//! either byte order. It never checks what it writes, so that a test can write nonsense.

use std::io::{self, Read};

/// A D-Bus value, named by its signature.
#[derive(Clone, Debug, PartialEq)]
pub enum V {
    Y(u8),
    B(bool),
    N(i16),
    Q(u16),
    I(i32),
    U(u32),
    X(i64),
    T(u64),
    D(f64),
    S(String),
    O(String),
    G(String),
    H(u32),
    /// An array: its element signature and its elements. A dict is an array of [`V::Entry`].
    Array(String, Vec<V>),
    Entry(Box<(V, V)>),
    Struct(Vec<V>),
    Variant(Box<V>),
}

/// A text.
pub fn s(text: &str) -> V {
    V::S(text.to_owned())
}

/// What Victron services send for "no value": an empty array of integers.
pub fn invalid() -> V {
    array("i", [])
}

/// An array of elements that have this signature.
pub fn array(element: &str, elements: impl IntoIterator<Item = V>) -> V {
    V::Array(element.to_owned(), elements.into_iter().collect())
}

/// A value in a variant.
pub fn variant(inner: V) -> V {
    V::Variant(Box::new(inner))
}

/// A dict with any keys and values, as `a{kv}`.
pub fn dict(key: &str, value: &str, entries: impl IntoIterator<Item = (V, V)>) -> V {
    let entries = entries.into_iter().map(|entry| V::Entry(Box::new(entry)));
    V::Array(format!("{{{key}{value}}}"), entries.collect())
}

/// The commonest dict: `a{sv}`, each value wrapped into a variant.
pub fn vardict<'a>(entries: impl IntoIterator<Item = (&'a str, V)>) -> V {
    dict(
        "s",
        "v",
        entries
            .into_iter()
            .map(|(key, value)| (s(key), variant(value))),
    )
}

impl V {
    pub fn signature(&self) -> String {
        match self {
            V::Y(_) => "y".into(),
            V::B(_) => "b".into(),
            V::N(_) => "n".into(),
            V::Q(_) => "q".into(),
            V::I(_) => "i".into(),
            V::U(_) => "u".into(),
            V::X(_) => "x".into(),
            V::T(_) => "t".into(),
            V::D(_) => "d".into(),
            V::S(_) => "s".into(),
            V::O(_) => "o".into(),
            V::G(_) => "g".into(),
            V::H(_) => "h".into(),
            V::Array(element, _) => format!("a{element}"),
            V::Entry(entry) => format!("{{{}{}}}", entry.0.signature(), entry.1.signature()),
            V::Struct(fields) => {
                format!("({})", fields.iter().map(V::signature).collect::<String>())
            }
            V::Variant(_) => "v".into(),
        }
    }
}

fn alignment(signature: &str) -> usize {
    match signature.as_bytes().first() {
        Some(b'y' | b'g' | b'v') => 1,
        Some(b'n' | b'q') => 2,
        Some(b'x' | b't' | b'd' | b'(' | b'{') => 8,
        _ => 4,
    }
}

/// Writes values; alignment counts from the start of the buffer.
#[derive(Default)]
pub struct Writer {
    pub bytes: Vec<u8>,
    pub big_endian: bool,
}

impl Writer {
    pub fn align(&mut self, to: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(to), 0);
    }

    fn number<const N: usize>(&mut self, little: [u8; N]) {
        self.align(N);
        let mut bytes = little;
        if self.big_endian {
            bytes.reverse();
        }
        self.bytes.extend_from_slice(&bytes);
    }

    pub fn u32(&mut self, value: u32) {
        self.number(value.to_le_bytes());
    }

    pub fn string(&mut self, text: &str) {
        self.u32(u32::try_from(text.len()).unwrap());
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.push(0);
    }

    pub fn signature(&mut self, text: &str) {
        self.bytes.push(u8::try_from(text.len()).unwrap());
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.push(0);
    }

    pub fn value(&mut self, value: &V) {
        match value {
            V::Y(v) => self.bytes.push(*v),
            V::B(v) => self.u32(u32::from(*v)),
            V::N(v) => self.number(v.to_le_bytes()),
            V::Q(v) => self.number(v.to_le_bytes()),
            V::I(v) => self.number(v.to_le_bytes()),
            V::U(v) | V::H(v) => self.number(v.to_le_bytes()),
            V::X(v) => self.number(v.to_le_bytes()),
            V::T(v) => self.number(v.to_le_bytes()),
            V::D(v) => self.number(v.to_le_bytes()),
            V::S(v) | V::O(v) => self.string(v),
            V::G(v) => self.signature(v),
            V::Array(element, elements) => {
                self.u32(0);
                let length_at = self.bytes.len() - 4;
                self.align(alignment(element));
                let start = self.bytes.len();
                for element in elements {
                    self.value(element);
                }
                let length = u32::try_from(self.bytes.len() - start).unwrap();
                let length = if self.big_endian {
                    length.to_be_bytes()
                } else {
                    length.to_le_bytes()
                };
                self.bytes[length_at..length_at + 4].copy_from_slice(&length);
            }
            V::Entry(entry) => {
                self.align(8);
                self.value(&entry.0);
                self.value(&entry.1);
            }
            V::Struct(fields) => {
                self.align(8);
                for field in fields {
                    self.value(field);
                }
            }
            V::Variant(inner) => {
                self.signature(&inner.signature());
                self.value(inner);
            }
        }
    }
}

/// Reads values. Panics on what is malformed: the other end is a bus that has checked it.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    big_endian: bool,
}

impl Reader<'_> {
    fn take(&mut self, count: usize) -> &[u8] {
        self.at += count;
        &self.bytes[self.at - count..self.at]
    }

    fn number<const N: usize>(&mut self) -> [u8; N] {
        self.at = self.at.next_multiple_of(N);
        let big_endian = self.big_endian;
        let mut bytes: [u8; N] = self.take(N).try_into().unwrap();
        if big_endian {
            bytes.reverse();
        }
        bytes
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.number())
    }

    fn text(&mut self, length: usize) -> String {
        let text = String::from_utf8(self.take(length).to_vec()).unwrap();
        self.take(1);
        text
    }

    fn string(&mut self) -> String {
        let length = self.u32() as usize;
        self.text(length)
    }

    fn signature(&mut self) -> String {
        let length = usize::from(self.take(1)[0]);
        self.text(length)
    }

    fn value(&mut self, signature: &str) -> V {
        match signature.as_bytes()[0] {
            b'y' => V::Y(self.take(1)[0]),
            b'b' => V::B(self.u32() != 0),
            b'n' => V::N(i16::from_le_bytes(self.number())),
            b'q' => V::Q(u16::from_le_bytes(self.number())),
            b'i' => V::I(i32::from_le_bytes(self.number())),
            b'u' => V::U(self.u32()),
            b'h' => V::H(self.u32()),
            b'x' => V::X(i64::from_le_bytes(self.number())),
            b't' => V::T(u64::from_le_bytes(self.number())),
            b'd' => V::D(f64::from_le_bytes(self.number())),
            b's' => V::S(self.string()),
            b'o' => V::O(self.string()),
            b'g' => V::G(self.signature()),
            b'v' => {
                let inner = self.signature();
                V::Variant(Box::new(self.value(&inner)))
            }
            b'a' => {
                let element = &signature[1..];
                let length = self.u32() as usize;
                self.at = self.at.next_multiple_of(alignment(element));
                let end = self.at + length;
                let mut elements = Vec::new();
                while self.at < end {
                    elements.push(self.value(element));
                }
                V::Array(element.to_owned(), elements)
            }
            b'(' => {
                self.at = self.at.next_multiple_of(8);
                let fields = split(&signature[1..signature.len() - 1]);
                V::Struct(fields.into_iter().map(|field| self.value(field)).collect())
            }
            b'{' => {
                self.at = self.at.next_multiple_of(8);
                let parts = split(&signature[1..signature.len() - 1]);
                let key = self.value(parts[0]);
                V::Entry(Box::new((key, self.value(parts[1]))))
            }
            other => panic!("unknown D-Bus type {:?}", char::from(other)),
        }
    }
}

/// Splits a signature into its complete types.
fn split(signature: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut depth) = (0, 0);
    for (at, c) in signature.char_indices() {
        match c {
            '(' | '{' => depth += 1,
            ')' | '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 && c != 'a' {
            parts.push(&signature[start..=at]);
            start = at + 1;
        }
    }
    parts
}

pub const METHOD_CALL: u8 = 1;
pub const METHOD_RETURN: u8 = 2;
pub const ERROR: u8 = 3;
pub const SIGNAL: u8 = 4;

/// A message, header and body.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Message {
    pub kind: u8,
    pub flags: u8,
    pub serial: u32,
    pub path: String,
    pub interface: String,
    pub member: String,
    pub error: String,
    pub reply_serial: u32,
    pub destination: String,
    pub sender: String,
    pub signature: String,
    pub body: Vec<u8>,
    pub big_endian: bool,
}

impl Message {
    pub fn call(destination: &str, path: &str, interface: &str, member: &str) -> Message {
        Message {
            kind: METHOD_CALL,
            destination: destination.into(),
            path: path.into(),
            interface: interface.into(),
            member: member.into(),
            ..Message::default()
        }
    }

    pub fn signal(path: &str, interface: &str, member: &str) -> Message {
        Message {
            kind: SIGNAL,
            flags: 1,
            path: path.into(),
            interface: interface.into(),
            member: member.into(),
            ..Message::default()
        }
    }

    /// The body: these values, with the signature that they have.
    pub fn with(mut self, args: &[V]) -> Message {
        self.signature = args.iter().map(V::signature).collect();
        let mut writer = Writer {
            big_endian: self.big_endian,
            ..Writer::default()
        };
        for arg in args {
            writer.value(arg);
        }
        self.body = writer.bytes;
        self
    }

    /// The body: these bytes under this signature, whether they fit or not.
    pub fn with_raw(mut self, signature: &str, body: &[u8]) -> Message {
        signature.clone_into(&mut self.signature);
        self.body = body.to_vec();
        self
    }

    /// The values in the body.
    pub fn args(&self) -> Vec<V> {
        let mut reader = Reader {
            bytes: &self.body,
            at: 0,
            big_endian: self.big_endian,
        };
        split(&self.signature)
            .into_iter()
            .map(|part| reader.value(part))
            .collect()
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer {
            big_endian: self.big_endian,
            ..Writer::default()
        };
        out.bytes.extend_from_slice(&[
            if self.big_endian { b'B' } else { b'l' },
            self.kind,
            self.flags,
            1,
        ]);
        out.u32(u32::try_from(self.body.len()).unwrap());
        out.u32(self.serial);
        let texts = [
            (1, 'o', &self.path),
            (2, 's', &self.interface),
            (3, 's', &self.member),
            (4, 's', &self.error),
            (6, 's', &self.destination),
            (7, 's', &self.sender),
            (8, 'g', &self.signature),
        ];
        let mut fields = Vec::new();
        for (code, kind, text) in texts {
            if !text.is_empty() {
                let text = match kind {
                    'o' => V::O(text.clone()),
                    'g' => V::G(text.clone()),
                    _ => V::S(text.clone()),
                };
                fields.push(V::Struct(vec![V::Y(code), variant(text)]));
            }
        }
        if self.reply_serial != 0 {
            fields.push(V::Struct(vec![V::Y(5), variant(V::U(self.reply_serial))]));
        }
        out.value(&array("(yv)", fields));
        out.align(8);
        out.bytes.extend_from_slice(&self.body);
        out.bytes
    }

    /// One whole message, as [`read_message`] delimits it.
    pub fn decode(bytes: &[u8]) -> Message {
        let mut message = Message {
            kind: bytes[1],
            flags: bytes[2],
            big_endian: bytes[0] == b'B',
            ..Message::default()
        };
        let mut reader = Reader {
            bytes,
            at: 4,
            big_endian: message.big_endian,
        };
        let body_bytes = reader.u32() as usize;
        message.serial = reader.u32();
        let V::Array(_, fields) = reader.value("a(yv)") else {
            unreachable!()
        };
        for field in fields {
            let V::Struct(parts) = field else {
                unreachable!()
            };
            match (&parts[0], &parts[1]) {
                (V::Y(code), V::Variant(value)) => match (code, value.as_ref()) {
                    (1, V::O(text)) => message.path.clone_from(text),
                    (2, V::S(text)) => message.interface.clone_from(text),
                    (3, V::S(text)) => message.member.clone_from(text),
                    (4, V::S(text)) => message.error.clone_from(text),
                    (5, V::U(serial)) => message.reply_serial = *serial,
                    (6, V::S(text)) => message.destination.clone_from(text),
                    (7, V::S(text)) => message.sender.clone_from(text),
                    (8, V::G(text)) => message.signature.clone_from(text),
                    _ => {}
                },
                _ => unreachable!(),
            }
        }
        message.body = bytes[bytes.len() - body_bytes..].to_vec();
        message
    }
}

/// Reads one message off a stream.
pub fn read_message(stream: &mut impl Read) -> io::Result<Message> {
    let mut bytes = vec![0; 16];
    stream.read_exact(&mut bytes)?;
    let mut head = Reader {
        bytes: &bytes,
        at: 4,
        big_endian: bytes[0] == b'B',
    };
    let body = head.u32() as usize;
    head.u32();
    let fields = head.u32() as usize;
    bytes.resize(16 + fields.next_multiple_of(8) + body, 0);
    stream.read_exact(&mut bytes[16..])?;
    Ok(Message::decode(&bytes))
}
