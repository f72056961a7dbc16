//! JSON out: values as clients have seen them since 2018, byte for byte (§3).
//!
//! Numbers look as Python's `json.dumps` writes them, objects have one space after each colon and
//! comma, and text outside ASCII goes as UTF-8. Secrets are masked before they get here, where they
//! enter the cache.

use super::cursor::{Cursor, Malformed, alignment, one_type};
use crate::model::value::Value;

/// What stands in for a secret (§4.7).
pub const MASK: &[u8] = b"\"******\"";

/// What every payload begins with.
pub const HEAD: &[u8] = b"{\"value\": ";

/// Writes any value.
pub fn write_value(out: &mut Vec<u8>, value: &Value<'_>) {
    match *value {
        Value::Invalid => out.extend_from_slice(b"null"),
        Value::Bool(value) => write_bool(out, value),
        Value::Int(_, value) => write_int(out, value),
        Value::Uint(_, value) => write_uint(out, value),
        Value::Double(value) => write_double(out, value),
        Value::Text(_, text) => write_text(out, text),
        Value::Compound(ref compound) => {
            let start = out.len();
            let mut cursor = Cursor::compound(compound);
            // It was checked when it was decoded; what cannot be read nevertheless is not a value.
            if write_wire(out, &mut cursor, compound.signature.as_bytes(), 0).is_err() {
                out.truncate(start);
                out.extend_from_slice(b"null");
            }
        }
    }
}

/// Writes `true` or `false`.
#[inline]
pub fn write_bool(out: &mut Vec<u8>, value: bool) {
    out.extend_from_slice(if value { b"true" } else { b"false" });
}

/// Writes a signed integer.
#[inline]
pub fn write_int(out: &mut Vec<u8>, value: i64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Writes an unsigned integer.
#[inline]
pub fn write_uint(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Writes a double: the shortest text that reads back to the same one, laid out as Python does,
/// always with a point or an exponent; what is not finite is `null` (§3).
#[inline]
pub fn write_double(out: &mut Vec<u8>, value: f64) {
    /// Below this every integral double is one integer, 2^53.
    const INTEGRAL_MAX: f64 = 9_007_199_254_740_992.0;
    let size = value.abs();
    if !value.is_finite() {
        out.extend_from_slice(b"null");
        return;
    }
    // Of what is below 2^53 the integral part, and that as a double again, are exact.
    #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
    let (whole, integral) = {
        let whole = size as i64;
        (
            whole,
            size < INTEGRAL_MAX && (whole as f64).to_bits() == size.to_bits(),
        )
    };
    if integral {
        if value.is_sign_negative() {
            out.push(b'-');
        }
        out.extend_from_slice(itoa::Buffer::new().format(whole).as_bytes());
        out.extend_from_slice(b".0");
    } else {
        let mut buffer = zmij::Buffer::new();
        let text = buffer.format_finite(value);
        // Between these zmij, like Python, uses no exponent; the tests hold it to that.
        if (1e-4..1e16).contains(&size) {
            out.extend_from_slice(text.as_bytes());
        } else {
            write_scientific(out, text);
        }
    }
}

/// Lays shortest digits out as Python does where it uses an exponent, or where the digits came with
/// one and Python uses none.
fn write_scientific(out: &mut Vec<u8>, text: &str) {
    let (negative, text) = text
        .strip_prefix('-')
        .map_or((false, text), |rest| (true, rest));
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    // The digits without point, leading zeros and trailing zeros, and the exponent of the first.
    let mut digits: smallvec::SmallVec<[u8; 24]> = whole.bytes().chain(fraction.bytes()).collect();
    let leading = digits.iter().take_while(|&&digit| digit == b'0').count();
    digits.drain(..leading.min(digits.len().saturating_sub(1)));
    while digits.len() > 1 && digits.last() == Some(&b'0') {
        digits.pop();
    }
    let count = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    let first = count(whole.len()) - count(leading) - 1 + exponent;
    if negative {
        out.push(b'-');
    }
    if (-4..16).contains(&first) {
        write_plain(out, &digits, first);
        return;
    }
    let (head, tail) = digits.split_at_checked(1).unwrap_or((b"0", b""));
    out.extend_from_slice(head);
    if !tail.is_empty() {
        out.push(b'.');
        out.extend_from_slice(tail);
    }
    out.extend_from_slice(if first < 0 { b"e-" } else { b"e+" });
    let size = first.unsigned_abs();
    if size < 10 {
        out.push(b'0');
    }
    out.extend_from_slice(itoa::Buffer::new().format(size).as_bytes());
}

/// Writes digits with a point, where `first` is the exponent of the first digit.
fn write_plain(out: &mut Vec<u8>, digits: &[u8], first: i32) {
    let zeros = |out: &mut Vec<u8>, n: usize| out.resize(out.len() + n, b'0');
    match usize::try_from(first) {
        Err(_) => {
            out.extend_from_slice(b"0.");
            zeros(out, first.unsigned_abs() as usize - 1);
            out.extend_from_slice(digits);
        }
        Ok(first) => match digits.split_at_checked(first + 1) {
            Some((whole, fraction)) if !fraction.is_empty() => {
                out.extend_from_slice(whole);
                out.push(b'.');
                out.extend_from_slice(fraction);
            }
            _ => {
                out.extend_from_slice(digits);
                zeros(out, first + 1 - digits.len());
                out.extend_from_slice(b".0");
            }
        },
    }
}

/// Writes a text as a JSON string.
pub fn write_text(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut written = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(bytes.get(written..at).unwrap_or_default());
        written = at + 1;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0c => out.extend_from_slice(b"\\f"),
            _ => {
                let hex = |nibble: u8| {
                    if nibble < 10 {
                        b'0' + nibble
                    } else {
                        b'a' + nibble - 10
                    }
                };
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', hex(byte >> 4), hex(byte & 15)]);
            }
        }
    }
    out.extend_from_slice(bytes.get(written..).unwrap_or_default());
    out.push(b'"');
}

/// Writes the value of the one complete type that `signature` begins with, from the wire, and gives
/// the rest of the signature.
fn write_wire<'s>(
    out: &mut Vec<u8>,
    cursor: &mut Cursor<'_>,
    signature: &'s [u8],
    depth: u8,
) -> Result<&'s [u8], Malformed> {
    if depth > super::cursor::DEPTH_MAX {
        return Err(Malformed);
    }
    let (&code, rest) = signature.split_first().ok_or(Malformed)?;
    match code {
        b'a' => {
            let (&element, inner) = rest.split_first().ok_or(Malformed)?;
            let after = one_type(rest, depth + 1)?;
            let end = cursor.array(alignment(element)?)?;
            if cursor.at() == end {
                out.extend_from_slice(b"null");
                return Ok(after);
            }
            let dict = element == b'{';
            out.push(if dict { b'{' } else { b'[' });
            let mut first = true;
            while cursor.at() < end {
                if !std::mem::take(&mut first) {
                    out.extend_from_slice(b", ");
                }
                if dict {
                    cursor.align(8)?;
                    let value = write_key(out, cursor, inner, depth + 1)?;
                    out.extend_from_slice(b": ");
                    write_wire(out, cursor, value, depth + 1)?;
                } else {
                    write_wire(out, cursor, rest, depth + 1)?;
                }
            }
            out.push(if dict { b'}' } else { b']' });
            Ok(after)
        }
        b'(' => {
            cursor.align(8)?;
            out.push(b'[');
            let mut rest = rest;
            let mut first = true;
            while rest.first() != Some(&b')') {
                if !std::mem::take(&mut first) {
                    out.extend_from_slice(b", ");
                }
                rest = write_wire(out, cursor, rest, depth + 1)?;
            }
            out.push(b']');
            Ok(rest.get(1..).unwrap_or_default())
        }
        b'v' => {
            let inner = cursor.signature()?;
            write_wire(out, cursor, inner, depth + 1)?;
            Ok(rest)
        }
        b'h' => {
            cursor.u32()?;
            out.extend_from_slice(b"null");
            Ok(rest)
        }
        _ => {
            let one = signature.get(..1).ok_or(Malformed)?;
            write_scalar(out, cursor, one)?;
            Ok(rest)
        }
    }
}

fn write_scalar(out: &mut Vec<u8>, cursor: &mut Cursor<'_>, code: &[u8]) -> Result<(), Malformed> {
    match code {
        b"y" => write_uint(out, u64::from(cursor.u8()?)),
        b"n" => write_int(out, i64::from(cursor.u16()?.cast_signed())),
        b"q" => write_uint(out, u64::from(cursor.u16()?)),
        b"i" => write_int(out, i64::from(cursor.u32()?.cast_signed())),
        b"u" => write_uint(out, u64::from(cursor.u32()?)),
        b"x" => write_int(out, cursor.u64()?.cast_signed()),
        b"t" => write_uint(out, cursor.u64()?),
        b"d" => write_double(out, f64::from_bits(cursor.u64()?)),
        b"b" => write_bool(out, cursor.u32()? != 0),
        b"s" | b"o" => write_text(out, cursor.string()?),
        b"g" => {
            let text = std::str::from_utf8(cursor.signature()?).map_err(|_| Malformed)?;
            write_text(out, text);
        }
        _ => return Err(Malformed),
    }
    Ok(())
}

/// Writes a dict's key: a text as it is, anything else as the text of its JSON (§3).
fn write_key<'s>(
    out: &mut Vec<u8>,
    cursor: &mut Cursor<'_>,
    signature: &'s [u8],
    depth: u8,
) -> Result<&'s [u8], Malformed> {
    if matches!(signature.first(), Some(b's' | b'o' | b'g')) {
        return write_wire(out, cursor, signature, depth);
    }
    let mut key = Vec::new();
    let rest = write_wire(&mut key, cursor, signature, depth)?;
    write_text(out, std::str::from_utf8(&key).map_err(|_| Malformed)?);
    Ok(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_look_as_python_writes_them() {
        let check = |value: f64, expected: &str| {
            let mut out = Vec::new();
            write_double(&mut out, value);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        };
        check(936.0, "936.0");
        check(-0.0, "-0.0");
        check(0.0, "0.0");
        check(1e-7, "1e-07");
        check(1.5e-7, "1.5e-07");
        check(0.0001, "0.0001");
        check(0.00012, "0.00012");
        check(0.000_01, "1e-05");
        check(0.000_099_99, "9.999e-05");
        check(1e15, "1000000000000000.0");
        check(1e16, "1e+16");
        check(9_007_199_254_740_993.0, "9007199254740992.0");
        check(12_345_678_901_234_567_890.0, "1.2345678901234567e+19");
        check(1e22, "1e+22");
        check(1.797_693_134_862_315_7e308, "1.7976931348623157e+308");
        check(5e-324, "5e-324");
        check(-1234.56, "-1234.56");
        check(24.229_999_542_2, "24.2299995422");
        check(0.1 + 0.2, "0.30000000000000004");
        check(f64::NAN, "null");
        check(f64::INFINITY, "null");
        check(f64::NEG_INFINITY, "null");
    }

    #[test]
    fn texts_are_escaped_as_json_wants() {
        let check = |text: &str, expected: &str| {
            let mut out = Vec::new();
            write_text(&mut out, text);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        };
        check("", r#""""#);
        check("Pylontech", r#""Pylontech""#);
        check("a\"b\\c", r#""a\"b\\c""#);
        check("\n\r\t\u{8}\u{c}\u{1}\u{1f}", r#""\n\r\t\b\f\u0001\u001f""#);
        check("Küche °C", r#""Küche °C""#);
        check("\u{7f}", "\"\u{7f}\"");
    }
}
