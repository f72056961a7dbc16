//! D-Bus values with their exact types: copied, compared and converted without loss.

use zbus::{Array, Signature, Variant};

/// A D-Bus value that owns what it holds.
pub type BusValue = Variant<'static>;

/// The value that Victron services use for "no value": an empty array of integers.
pub fn invalid() -> BusValue {
    Variant::Array(Array::new(&Signature::I32))
}

/// Whether a value is invalid: an empty array of any element type (§3).
pub fn is_invalid(value: &Variant<'_>) -> bool {
    matches!(value, Variant::Array(array) if array.is_empty())
}

/// A copy that owns what it holds. A file descriptor, which cannot be copied for sure, becomes
/// invalid.
pub fn copy(value: &Variant<'_>) -> BusValue {
    value.try_to_owned().map_or_else(|_| invalid(), Into::into)
}

/// Whether two values are the same to the bit, type included.
pub fn same(one: &Variant<'_>, other: &Variant<'_>) -> bool {
    match (one, other) {
        (Variant::F64(a), Variant::F64(b)) => a.to_bits() == b.to_bits(),
        (a, b) => a.value_signature() == b.value_signature() && a == b,
    }
}

/// The number in a value, for a comparison with a range.
pub fn as_f64(value: &Variant<'_>) -> Option<f64> {
    if let Variant::F64(number) = value {
        return Some(*number);
    }
    #[allow(clippy::cast_precision_loss)] // a range is compared to within a double
    as_integer(value).map(|number| number as f64)
}

/// The value as another type, where nothing is lost. `None` where something would be.
pub fn convert(value: &Variant<'_>, to: &Signature) -> Option<BusValue> {
    if value.value_signature() == to {
        return Some(copy(value));
    }
    if let Some(number) = as_integer(value) {
        return integer(to, number);
    }
    let Variant::F64(number) = value else {
        return None;
    };
    #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
    // checked by the way back
    let whole = *number as i128;
    #[allow(clippy::cast_precision_loss, clippy::float_cmp)] // exactness is the question
    let exact = whole as f64 == *number;
    // A double is not an integer type, so the way back ends here.
    if exact && *to != Signature::F64 {
        integer(to, whole)
    } else {
        None
    }
}

fn as_integer(value: &Variant<'_>) -> Option<i128> {
    Some(match value {
        Variant::U8(number) => i128::from(*number),
        Variant::I16(number) => i128::from(*number),
        Variant::U16(number) => i128::from(*number),
        Variant::I32(number) => i128::from(*number),
        Variant::U32(number) => i128::from(*number),
        Variant::I64(number) => i128::from(*number),
        Variant::U64(number) => i128::from(*number),
        Variant::Bool(_)
        | Variant::F64(_)
        | Variant::Str(_)
        | Variant::Signature(_)
        | Variant::ObjectPath(_)
        | Variant::Variant(_)
        | Variant::Array(_)
        | Variant::Dict(_)
        | Variant::Structure(_)
        | Variant::Fd(_) => return None,
    })
}

/// An integer as the given type, where it fits exactly.
pub(super) fn integer(signature: &Signature, number: i128) -> Option<BusValue> {
    Some(match signature {
        Signature::U8 => Variant::U8(u8::try_from(number).ok()?),
        Signature::I16 => Variant::I16(i16::try_from(number).ok()?),
        Signature::U16 => Variant::U16(u16::try_from(number).ok()?),
        Signature::I32 => Variant::I32(i32::try_from(number).ok()?),
        Signature::U32 => Variant::U32(u32::try_from(number).ok()?),
        Signature::I64 => Variant::I64(i64::try_from(number).ok()?),
        Signature::U64 => Variant::U64(u64::try_from(number).ok()?),
        Signature::Bool => match number {
            0 => Variant::Bool(false),
            1 => Variant::Bool(true),
            _ => return None,
        },
        Signature::F64 => {
            #[allow(clippy::cast_precision_loss)] // checked by the way back
            let double = number as f64;
            #[allow(clippy::cast_possible_truncation)]
            if double as i128 != number {
                return None;
            }
            Variant::F64(double)
        }
        Signature::Unit
        | Signature::Str
        | Signature::Signature
        | Signature::ObjectPath
        | Signature::Variant
        | Signature::Fd
        | Signature::Array(_)
        | Signature::Dict { .. }
        | Signature::Structure(_) => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use super::*;

    #[test]
    fn conversions_lose_nothing() {
        let check = |from: BusValue, to: &str, expected: Option<BusValue>| {
            let converted = convert(&from, &Signature::from_str(to).unwrap());
            match (&converted, &expected) {
                (Some(a), Some(b)) => assert!(same(a, b), "{from:?} as {to}: {a:?}"),
                (None, None) => {}
                _ => panic!("{from:?} as {to}: {converted:?}"),
            }
        };
        check(Variant::I32(5), "d", Some(Variant::F64(5.0)));
        check(Variant::F64(5.0), "i", Some(Variant::I32(5)));
        check(Variant::F64(5.5), "i", None);
        check(Variant::F64(f64::NAN), "i", None);
        check(Variant::I32(-1), "u", None);
        check(Variant::I32(300), "y", None);
        check(Variant::I32(1), "b", Some(Variant::Bool(true)));
        check(Variant::I32(2), "b", None);
        check(Variant::I64((1 << 53) + 1), "d", None);
        check(Variant::from("5"), "i", None);
        check(Variant::from("x"), "s", Some(Variant::from("x")));
    }

    #[test]
    fn sameness_is_to_the_bit() {
        assert!(same(&Variant::F64(f64::NAN), &Variant::F64(f64::NAN)));
        assert!(!same(&Variant::F64(0.0), &Variant::F64(-0.0)));
        assert!(!same(&Variant::I32(1), &Variant::U32(1)));
        assert!(!same(
            &invalid(),
            &Variant::Array(Array::new(&Signature::U32))
        ));
    }
}
