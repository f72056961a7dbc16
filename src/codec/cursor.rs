//! A cursor over the bytes of a D-Bus message.
//!
//! It knows the wire format of the D-Bus specification ("Marshaling"): alignment, lengths,
//! signatures, nesting. What the values mean is known one floor up, in [`super::bus_item`].

use crate::model::value::{Compound, IntType, TextType, UintType, Value};

/// Bytes that are not what the D-Bus specification allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed D-Bus data")]
pub struct Malformed;

/// Deepest nesting of containers that D-Bus allows: 32 arrays and 32 structs.
pub const DEPTH_MAX: u8 = 64;

/// Deepest nesting of variants that is unwrapped (§3).
pub const VARIANT_DEPTH_MAX: u8 = 32;

/// Longest array that D-Bus allows.
const ARRAY_BYTES_MAX: u32 = 1 << 26;

/// A place in a message. The first byte is aligned to eight in the message.
#[derive(Debug, Clone, Copy)]
pub struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    big_endian: bool,
}

impl<'a> Cursor<'a> {
    /// A cursor at the start of `bytes`, whose first byte must be aligned to eight in the message.
    pub fn new(bytes: &'a [u8], big_endian: bool) -> Cursor<'a> {
        Cursor {
            bytes,
            at: 0,
            big_endian,
        }
    }

    /// A cursor at the start of a value that was checked before.
    pub fn compound(value: &Compound<'a>) -> Cursor<'a> {
        Cursor {
            bytes: value.bytes,
            at: value.at,
            big_endian: value.big_endian,
        }
    }

    /// How many bytes from the start the cursor is.
    #[inline]
    pub fn at(&self) -> usize {
        self.at
    }

    /// The bytes behind the cursor.
    pub fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    /// Steps over padding to a multiple of `to`, which is a power of two.
    #[inline]
    pub fn align(&mut self, to: usize) -> Result<(), Malformed> {
        let at = (self.at + to - 1) & !(to - 1);
        if at > self.bytes.len() {
            return Err(Malformed);
        }
        self.at = at;
        Ok(())
    }

    /// Takes one byte.
    #[inline]
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        let byte = *self.bytes.get(self.at).ok_or(Malformed)?;
        self.at += 1;
        Ok(byte)
    }

    /// Takes a number's bytes, which are aligned to their size.
    #[inline]
    fn take<const N: usize>(&mut self) -> Result<&'a [u8; N], Malformed> {
        let at = (self.at + N - 1) & !(N - 1);
        let rest = self.bytes.get(at..).ok_or(Malformed)?;
        let bytes = rest.first_chunk().ok_or(Malformed)?;
        self.at = at + N;
        Ok(bytes)
    }

    /// Takes four aligned bytes.
    #[inline]
    pub fn four(&mut self) -> Result<[u8; 4], Malformed> {
        self.take().copied()
    }

    /// Takes an aligned 16-bit number.
    #[inline]
    pub fn u16(&mut self) -> Result<u16, Malformed> {
        let bytes = *self.take()?;
        Ok(if self.big_endian {
            u16::from_be_bytes(bytes)
        } else {
            u16::from_le_bytes(bytes)
        })
    }

    /// Takes an aligned 32-bit number.
    #[inline]
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        let bytes = *self.take()?;
        Ok(if self.big_endian {
            u32::from_be_bytes(bytes)
        } else {
            u32::from_le_bytes(bytes)
        })
    }

    /// Takes an aligned 64-bit number.
    #[inline]
    pub fn u64(&mut self) -> Result<u64, Malformed> {
        let bytes = *self.take()?;
        Ok(if self.big_endian {
            u64::from_be_bytes(bytes)
        } else {
            u64::from_le_bytes(bytes)
        })
    }

    /// Takes `len` bytes and the NUL behind them.
    #[inline]
    fn terminated(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let rest = self.bytes.get(self.at..).ok_or(Malformed)?;
        let (bytes, after) = rest.split_at_checked(len).ok_or(Malformed)?;
        if after.first() != Some(&0) {
            return Err(Malformed);
        }
        self.at += len + 1;
        Ok(bytes)
    }

    /// Takes a string or object path, not looked into.
    #[inline]
    pub fn string_bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let len = self.u32()?;
        self.terminated(usize::try_from(len).map_err(|_| Malformed)?)
    }

    /// Takes a string or object path.
    #[inline]
    pub fn string(&mut self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.string_bytes()?).map_err(|_| Malformed)
    }

    /// Takes a signature.
    #[inline]
    pub fn signature(&mut self) -> Result<&'a [u8], Malformed> {
        let len = self.u8()?;
        self.terminated(usize::from(len))
    }

    /// Takes the head of an array whose elements are aligned to `element_alignment`, and gives
    /// where it ends.
    #[inline]
    pub fn array(&mut self, element_alignment: usize) -> Result<usize, Malformed> {
        let len = self.u32()?;
        if len > ARRAY_BYTES_MAX {
            return Err(Malformed);
        }
        self.align(element_alignment)?;
        let end = self
            .at
            .checked_add(usize::try_from(len).map_err(|_| Malformed)?);
        end.filter(|&end| end <= self.bytes.len()).ok_or(Malformed)
    }

    /// Steps over one complete type and gives the rest of the signature.
    pub fn skip<'s>(&mut self, signature: &'s [u8], depth: u8) -> Result<&'s [u8], Malformed> {
        if depth > DEPTH_MAX {
            return Err(Malformed);
        }
        let (&code, rest) = signature.split_first().ok_or(Malformed)?;
        match code {
            b'y' => self.u8().map(|_| rest),
            b'n' | b'q' => self.u16().map(|_| rest),
            b'b' | b'i' | b'u' | b'h' => self.u32().map(|_| rest),
            b'x' | b't' | b'd' => self.u64().map(|_| rest),
            b's' | b'o' => self.string_bytes().map(|_| rest),
            b'g' => self.signature().map(|_| rest),
            b'v' => {
                let inner = self.signature()?;
                if self.skip(inner, depth + 1)?.is_empty() {
                    Ok(rest)
                } else {
                    Err(Malformed)
                }
            }
            b'a' => {
                let element = rest.first().ok_or(Malformed)?;
                let end = self.array(alignment(*element)?)?;
                let after = one_type(rest, depth + 1)?;
                if let Some(size) = fixed_size(*element) {
                    // Numbers have no lengths inside that could be wrong.
                    if !(end - self.at).is_multiple_of(size) {
                        return Err(Malformed);
                    }
                    self.at = end;
                }
                while self.at < end {
                    self.skip(rest, depth + 1)?;
                }
                if self.at == end {
                    Ok(after)
                } else {
                    Err(Malformed)
                }
            }
            b'(' | b'{' => {
                self.align(8)?;
                let close = if code == b'(' { b')' } else { b'}' };
                // An empty one takes no room: an array of them would have no end.
                if rest.first() == Some(&close) {
                    return Err(Malformed);
                }
                let mut rest = rest;
                loop {
                    rest = match rest.split_first() {
                        Some((&first, after)) if first == close => return Ok(after),
                        _ => self.skip(rest, depth + 1)?,
                    };
                }
            }
            _ => Err(Malformed),
        }
    }

    /// Takes a variant: its signature and its value.
    #[inline]
    pub fn variant(&mut self) -> Result<Value<'a>, Malformed> {
        match self.signature()? {
            // Two changes out of three.
            b"d" => self.u64().map(|bits| Value::Double(f64::from_bits(bits))),
            signature => self.value(signature, 0),
        }
    }

    /// Steps over a variant.
    #[inline]
    pub fn skip_variant(&mut self) -> Result<(), Malformed> {
        let signature = self.signature()?;
        // The text beside nearly every value.
        if signature == b"s" {
            return self.string_bytes().map(drop);
        }
        match self.skip(signature, 0)? {
            [] => Ok(()),
            _ => Err(Malformed),
        }
    }

    /// Takes a value of the one complete type in `signature`, all of it checked.
    pub fn value(&mut self, signature: &'a [u8], depth: u8) -> Result<Value<'a>, Malformed> {
        let Some((&code, [])) = signature.split_first() else {
            return self.compound_value(signature);
        };
        Ok(match code {
            b'd' => Value::Double(f64::from_bits(self.u64()?)),
            b'i' => Value::Int(IntType::I32, i64::from(self.u32()?.cast_signed())),
            b'u' => Value::Uint(UintType::U32, u64::from(self.u32()?)),
            b's' => Value::Text(TextType::String, self.string()?),
            b'b' => Value::Bool(match self.u32()? {
                0 => false,
                1 => true,
                _ => return Err(Malformed),
            }),
            b'n' => Value::Int(IntType::I16, i64::from(self.u16()?.cast_signed())),
            b'q' => Value::Uint(UintType::U16, u64::from(self.u16()?)),
            b'y' => Value::Uint(UintType::U8, u64::from(self.u8()?)),
            b'x' => Value::Int(IntType::I64, self.u64()?.cast_signed()),
            b't' => Value::Uint(UintType::U64, self.u64()?),
            b'o' => Value::Text(TextType::ObjectPath, self.string()?),
            b'g' => {
                let text = std::str::from_utf8(self.signature()?).map_err(|_| Malformed)?;
                Value::Text(TextType::Signature, text)
            }
            b'v' => {
                if depth >= VARIANT_DEPTH_MAX {
                    return Err(Malformed);
                }
                let inner = self.signature()?;
                self.value(inner, depth + 1)?
            }
            _ => return self.compound_value(signature),
        })
    }

    fn compound_value(&mut self, signature: &'a [u8]) -> Result<Value<'a>, Malformed> {
        let start = *self;
        if !self.skip(signature, 0)?.is_empty() {
            return Err(Malformed);
        }
        if signature.first() == Some(&b'a') && start.clone().u32()? == 0 {
            return Ok(Value::Invalid);
        }
        Ok(Value::Compound(Compound {
            signature: std::str::from_utf8(signature).map_err(|_| Malformed)?,
            bytes: self.bytes.get(..self.at).ok_or(Malformed)?,
            at: start.at,
            big_endian: self.big_endian,
        }))
    }
}

/// The alignment of a type that begins with `code`.
pub fn alignment(code: u8) -> Result<usize, Malformed> {
    match code {
        b'y' | b'g' | b'v' => Ok(1),
        b'n' | b'q' => Ok(2),
        b'b' | b'i' | b'u' | b's' | b'o' | b'a' | b'h' => Ok(4),
        b'x' | b't' | b'd' | b'(' | b'{' => Ok(8),
        _ => Err(Malformed),
    }
}

/// The size of a type without lengths inside, in bytes.
fn fixed_size(code: u8) -> Option<usize> {
    match code {
        b'y' => Some(1),
        b'n' | b'q' => Some(2),
        b'b' | b'i' | b'u' | b'h' => Some(4),
        b'x' | b't' | b'd' => Some(8),
        _ => None,
    }
}

/// Steps over the first complete type of a signature.
pub fn one_type(signature: &[u8], depth: u8) -> Result<&[u8], Malformed> {
    if depth > DEPTH_MAX {
        return Err(Malformed);
    }
    let (&code, rest) = signature.split_first().ok_or(Malformed)?;
    match code {
        b'a' => one_type(rest, depth + 1),
        b'(' | b'{' => {
            let close = if code == b'(' { b')' } else { b'}' };
            if rest.first() == Some(&close) {
                return Err(Malformed);
            }
            let mut rest = rest;
            loop {
                rest = match rest.split_first() {
                    Some((&first, after)) if first == close => return Ok(after),
                    _ => one_type(rest, depth + 1)?,
                };
            }
        }
        _ => alignment(code).map(|_| rest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_struct_without_fields_is_malformed() {
        // An array of them would never end: each takes no room.
        let eight_bytes = [8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        for signature in ["a()", "a{}", "a(())", "()"] {
            let mut cursor = Cursor::new(&eight_bytes, false);
            assert!(cursor.skip(signature.as_bytes(), 0).is_err(), "{signature}");
            assert!(one_type(signature.as_bytes(), 0).is_err(), "{signature}");
        }
    }
}
