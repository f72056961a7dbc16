//! D-Bus messages out of a byte stream: where one ends, and what its header says.
//!
//! The format is that of the D-Bus specification, "Message Format". Bodies are read in
//! [`super::bus_item`].

use super::cursor::{Cursor, Malformed};

/// The interface of all items.
pub const INTERFACE: &str = "com.victronenergy.BusItem";
/// The signal of a single item.
pub const PROPERTIES_CHANGED: &str = "PropertiesChanged";

/// The part of a message that tells how long it is.
pub const FIXED_BYTES: usize = 16;

/// Longest message that D-Bus allows.
const FRAME_BYTES_MAX: u64 = 1 << 27;

/// The four types of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A call, to us.
    MethodCall,
    /// The answer to a call of ours.
    MethodReturn,
    /// The refusal of a call of ours.
    Error,
    /// A signal.
    Signal,
    /// A type of some later version of D-Bus, to be ignored.
    Unknown,
}

/// What a message says before its body. Absent texts are empty.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// Its type.
    pub kind: Kind,
    /// The object path as it stands in the message: most are known, and need not be checked.
    pub path: &'a [u8],
    /// The interface.
    pub interface: &'a str,
    /// The member: of which method or signal.
    pub member: &'a str,
    /// The error name.
    pub error_name: &'a str,
    /// The unique name of who sent it.
    pub sender: &'a str,
    /// The signature of the body.
    pub signature: &'a [u8],
    /// Which call of ours it answers; 0 where it answers none.
    pub reply_serial: u32,
    /// The body, aligned to eight.
    pub body: &'a [u8],
    /// Whether it is big-endian.
    pub big_endian: bool,
}

/// The length of the message that `bytes` begin with, or `None` where too few bytes are there to
/// tell.
#[inline]
pub fn frame_len(bytes: &[u8]) -> Result<Option<usize>, Malformed> {
    Ok(lengths(bytes)?.map(|(head, body)| head + body))
}

/// The lengths of the message's head and body. They are added in 64 bits: two of 32 bits can wrap
/// the `usize` of a 32-bit machine.
#[inline]
fn lengths(bytes: &[u8]) -> Result<Option<(usize, usize)>, Malformed> {
    let Some(&fixed) = bytes.first_chunk::<FIXED_BYTES>() else {
        return Ok(None);
    };
    #[rustfmt::skip]
    let [endian, _, _, version, b0, b1, b2, b3, _, _, _, _, f0, f1, f2, f3] = fixed;
    if version != 1 {
        return Err(Malformed);
    }
    let number = |bytes| match endian {
        b'l' => Ok(u64::from(u32::from_le_bytes(bytes))),
        b'B' => Ok(u64::from(u32::from_be_bytes(bytes))),
        _ => Err(Malformed),
    };
    let body = number([b0, b1, b2, b3])?;
    let fields = number([f0, f1, f2, f3])?;
    let head = FIXED_BYTES as u64 + ((fields + 7) & !7);
    if head + body > FRAME_BYTES_MAX {
        return Err(Malformed);
    }
    let size = |len| usize::try_from(len).map_err(|_| Malformed);
    Ok(Some((size(head)?, size(body)?)))
}

/// Reads the header of the whole message in `bytes`.
#[inline]
pub fn parse(bytes: &[u8]) -> Result<Frame<'_>, Malformed> {
    let (head, body) = lengths(bytes)?.ok_or(Malformed)?;
    let mut frame = parse_header(bytes)?;
    let rest = bytes.get(head..).ok_or(Malformed)?;
    frame.body = rest.get(..body).ok_or(Malformed)?;
    Ok(frame)
}

/// Takes a text that is mostly `known`: comparing is cheaper than looking at its letters.
#[inline]
fn mostly<'a>(cursor: &mut Cursor<'a>, known: &'static str) -> Result<&'a str, Malformed> {
    let bytes = cursor.string_bytes()?;
    if bytes == known.as_bytes() {
        return Ok(known);
    }
    std::str::from_utf8(bytes).map_err(|_| Malformed)
}

/// Reads the header of a message of which perhaps not all of the body is there; `body` is empty.
pub fn parse_header(bytes: &[u8]) -> Result<Frame<'_>, Malformed> {
    let &[endian, kind, _, _, ..] = bytes else {
        return Err(Malformed);
    };
    let big_endian = endian == b'B';
    let mut frame = Frame {
        kind: match kind {
            1 => Kind::MethodCall,
            2 => Kind::MethodReturn,
            3 => Kind::Error,
            4 => Kind::Signal,
            0 => return Err(Malformed),
            _ => Kind::Unknown,
        },
        path: b"",
        interface: "",
        member: "",
        error_name: "",
        sender: "",
        signature: b"",
        reply_serial: 0,
        body: b"",
        big_endian,
    };
    let mut cursor = Cursor::new(bytes, big_endian);
    cursor.u64()?;
    cursor.u32()?;
    let end = cursor.array(8)?;
    while cursor.at() < end {
        cursor.align(8)?;
        let field = cursor;
        // A code, and the signature of one type: its length, itself, and a NUL.
        match cursor.four()? {
            [1, 1, b'o', 0] => frame.path = cursor.string_bytes()?,
            [2, 1, b's', 0] => frame.interface = mostly(&mut cursor, INTERFACE)?,
            [3, 1, b's', 0] => frame.member = mostly(&mut cursor, PROPERTIES_CHANGED)?,
            [4, 1, b's', 0] => frame.error_name = cursor.string()?,
            [5, 1, b'u', 0] => frame.reply_serial = cursor.u32()?,
            [7, 1, b's', 0] => frame.sender = cursor.string()?,
            [8, 1, b'g', 0] => frame.signature = cursor.signature()?,
            _ => {
                cursor = field;
                cursor.u8()?;
                cursor.skip_variant()?;
            }
        }
    }
    if cursor.at() > end {
        return Err(Malformed);
    }
    Ok(frame)
}
