//! What a payload has to be, worked out from §3 a second time and in another way than the bridge does.

use super::wire::V;

/// The payload of an item: value first, then min and max where there are any.
pub fn payload(value: &V, min: Option<&V>, max: Option<&V>) -> String {
    let mut text = format!("{{\"value\": {}", json(value));
    for (key, bound) in [("min", min), ("max", max)] {
        if let Some(bound) = bound {
            text += &format!(", \"{key}\": {}", json(bound));
        }
    }
    text + "}"
}

/// A value as Python's `json.dumps` writes it, but for text outside ASCII, which stays as it is.
pub fn json(value: &V) -> String {
    match value {
        V::Y(v) => v.to_string(),
        V::B(v) => v.to_string(),
        V::N(v) => v.to_string(),
        V::Q(v) => v.to_string(),
        V::I(v) => v.to_string(),
        V::U(v) => v.to_string(),
        V::X(v) => v.to_string(),
        V::T(v) => v.to_string(),
        V::D(v) => double(*v),
        V::S(v) | V::O(v) | V::G(v) => quoted(v),
        V::H(_) => "null".to_owned(),
        V::Variant(inner) => json(inner),
        V::Array(_, elements) if elements.is_empty() => "null".to_owned(),
        V::Array(element, elements) if element.starts_with('{') => {
            let entries: Vec<String> = elements
                .iter()
                .map(|entry| match entry {
                    V::Entry(entry) => match &entry.0 {
                        V::S(key) => format!("{}: {}", quoted(key), json(&entry.1)),
                        key => format!("\"{}\": {}", json(key), json(&entry.1)),
                    },
                    other => panic!("{other:?} in a dict"),
                })
                .collect();
            format!("{{{}}}", entries.join(", "))
        }
        V::Array(_, elements) | V::Struct(elements) => {
            let elements: Vec<String> = elements.iter().map(json).collect();
            format!("[{}]", elements.join(", "))
        }
        V::Entry(_) => panic!("a dict entry alone"),
    }
}

/// The fewest digits that read back, laid out as Python's `repr` does: plain from 1e-4 to below 1e16,
/// with an exponent of at least two digits elsewhere.
pub fn double(value: f64) -> String {
    if !value.is_finite() {
        return "null".to_owned();
    }
    // Not `{:e}`: of two shortest texts equally near it takes the upper, Python the even one.
    let scientific = (0..17)
        .map(|decimals| format!("{value:.decimals$e}"))
        .find(|text| text.parse::<f64>().unwrap().to_bits() == value.to_bits())
        .unwrap();
    let (mantissa, exponent) = scientific.split_once('e').unwrap();
    let exponent: i32 = exponent.parse().unwrap();
    if !(-4..16).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:02}", exponent.abs());
    }
    let sign = if value.is_sign_negative() { "-" } else { "" };
    let digits = mantissa.replace(['-', '.'], "");
    if exponent < 0 {
        let zeros = "0".repeat(exponent.unsigned_abs() as usize - 1);
        return format!("{sign}0.{zeros}{digits}");
    }
    let whole = exponent.unsigned_abs() as usize + 1;
    let digits = format!("{digits:0<width$}", width = whole + 1);
    format!("{sign}{}.{}", &digits[..whole], &digits[whole..])
}

fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' => out += "\\\"",
            '\\' => out += "\\\\",
            '\n' => out += "\\n",
            '\r' => out += "\\r",
            '\t' => out += "\\t",
            '\u{8}' => out += "\\b",
            '\u{c}' => out += "\\f",
            c if c < ' ' => out += &format!("\\u{:04x}", u32::from(c)),
            c => out.push(c),
        }
    }
    out + "\""
}
