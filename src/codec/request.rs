//! Requests in: a topic and a payload of anybody's making become a request, or a rejection (§5).
//!
//! Total over bytes: whatever comes, the answer is one of the two, never a panic. The JSON parser
//! rewrites its input, so the payload must be ours alone. Sole user of simd-json.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "what is not understood is one case"
)]

use std::str::from_utf8;

use simd_json::{Buffers, ErrorType, Node, StaticNode};

use super::payload;
use crate::model::name::PortalId;
use crate::model::request::{KeepAlive, Rejection, Request};
use crate::model::topic::{RequestTopic, parse_request};
use crate::model::value::Json;

/// Deepest nesting of a payload (§5.8).
pub const JSON_DEPTH_MAX: usize = 32;

/// Key of the options of a keep-alive (§5.3).
const OPTIONS: &str = "keepalive-options";
/// The option that asks for a completion message that carries a value back (§5.3).
pub const ECHO: &str = "full-publish-completed-echo";
/// The option that asks for nothing but the renewal (§5.3).
const SUPPRESS: &str = "suppress-republish";

/// Reads requests; keeps the JSON parser's buffers between them.
pub struct RequestReader {
    buffers: Buffers,
    payload_bytes_max: usize,
}

impl RequestReader {
    /// A reader that refuses payloads longer than `payload_bytes_max`.
    pub fn new(payload_bytes_max: usize) -> RequestReader {
        RequestReader {
            buffers: Buffers::with_max_depth(256, JSON_DEPTH_MAX),
            payload_bytes_max,
        }
    }

    /// Reads one message. `None` where the topic is not a request, or one for another portal id.
    pub fn read<'a>(
        &mut self,
        topic: &'a str,
        payload: &mut [u8],
        portal: &PortalId,
    ) -> Option<Result<Request<'a>, Rejection>> {
        let topic = match parse_request(topic, portal)? {
            Ok(topic) => topic,
            Err(rejection) => return Some(Err(rejection)),
        };
        let payload = trimmed(payload);
        Some(match topic {
            RequestTopic::Serial if payload.is_empty() => Ok(Request::Serial),
            RequestTopic::Serial | RequestTopic::KeepAlive => {
                Ok(Request::KeepAlive(self.keep_alive(payload)))
            }
            RequestTopic::Read(address) => Ok(Request::Read(address)),
            RequestTopic::Write(address) => self
                .write(payload)
                .map(|value| Request::Write(address, value)),
        })
    }

    /// What a keep-alive asks for; whatever is not understood asks for everything (§5.3).
    fn keep_alive(&mut self, payload: &mut [u8]) -> KeepAlive {
        const PLAIN: KeepAlive = KeepAlive::Full {
            echo: None,
            suppress_republish: false,
        };
        match self.parse(payload) {
            Ok(Json::Array(filters)) => {
                let filters: Vec<Box<str>> = filters
                    .into_iter()
                    .filter_map(|filter| {
                        if let Json::Text(text) = filter {
                            Some(text)
                        } else {
                            None
                        }
                    })
                    .collect();
                if filters.is_empty() {
                    PLAIN
                } else {
                    KeepAlive::Selective(filters)
                }
            }
            Ok(Json::Object(members)) => match last(members, OPTIONS) {
                Some(Json::Array(options)) => full_options(options),
                _ => PLAIN,
            },
            _ => PLAIN,
        }
    }

    fn write(&mut self, payload: &mut [u8]) -> Result<Json, Rejection> {
        if payload.len() <= self.payload_bytes_max
            && let Some(value) = plain_write(payload)
        {
            return Ok(value);
        }
        match self.parse(payload)? {
            Json::Object(members) => last(members, "value").ok_or(Rejection::NoValue),
            _ => Err(Rejection::NoObject),
        }
    }

    fn parse(&mut self, payload: &mut [u8]) -> Result<Json, Rejection> {
        if payload.len() > self.payload_bytes_max {
            return Err(Rejection::TooLarge {
                found: payload.len(),
                max: self.payload_bytes_max,
            });
        }
        if payload.is_empty() {
            return Err(Rejection::NoJson);
        }
        // Said apart: who sends another encoding looks in vain for a mistake in his JSON.
        if from_utf8(payload).is_err() {
            return Err(Rejection::NotUtf8);
        }
        let tape =
            simd_json::to_tape_with_buffers(payload, &mut self.buffers).map_err(|error| {
                if matches!(error.error(), ErrorType::DepthLimitExceeded) {
                    Rejection::TooDeep {
                        max: JSON_DEPTH_MAX,
                    }
                } else {
                    Rejection::NoJson
                }
            })?;
        read_node(&mut tape.0.iter().copied())
    }
}

/// Reads `{"value": 3}`, which nearly every write is: one integer, or a word. What looks like anything
/// else is left to the parser, which sets up more than this whole payload is long.
fn plain_write(payload: &[u8]) -> Option<Json> {
    /// So many digits that no number of theirs is beyond 64 bits.
    const DIGITS_MAX: usize = 18;
    let value = trim(payload).strip_prefix(b"{\"value\":")?;
    let value = trim(value.strip_suffix(b"}")?);
    match value {
        b"true" => return Some(Json::Bool(true)),
        b"false" => return Some(Json::Bool(false)),
        b"null" => return Some(Json::Null),
        _ => {}
    }
    let (negative, digits) = match value.strip_prefix(b"-") {
        Some(digits) => (true, digits),
        None => (false, value),
    };
    // No JSON number begins with a zero but zero itself; minus zero is a separate case.
    let plain = match digits {
        [b'0'] => !negative,
        [] | [b'0', ..] => false,
        _ => digits.len() <= DIGITS_MAX,
    };
    if !plain || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = digits
        .iter()
        .fold(0, |number, digit| number * 10 + i64::from(digit - b'0'));
    Some(Json::Int(if negative { -number } else { number }))
}

/// Without the white space that JSON allows around it.
fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t' | b'\n' | b'\r', rest @ ..]
    | [rest @ .., b' ' | b'\t' | b'\n' | b'\r'] = bytes
    {
        bytes = rest;
    }
    bytes
}

/// Without what stands around the JSON in the field: a byte order mark (Windows), NULs at the end
/// (firmware in C that sends its terminator), and white space.
fn trimmed(payload: &mut [u8]) -> &mut [u8] {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
    let begin = if payload.starts_with(b"\xef\xbb\xbf") {
        3
    } else {
        0
    };
    let rest = payload.get(begin..).unwrap_or_default();
    let blanks = rest.iter().take_while(|byte| is_blank(byte)).count();
    let ends = rest.iter().rev();
    let end = ends
        .take_while(|byte| is_blank(byte) || **byte == 0)
        .count();
    let length = payload.len();
    // All of it may be blank.
    let begin = begin + blanks;
    payload
        .get_mut(begin..(length - end).max(begin))
        .unwrap_or_default()
}

/// The last member of that name: what Python's parser keeps of duplicates.
fn last(members: Vec<(Box<str>, Json)>, name: &str) -> Option<Json> {
    members
        .into_iter()
        .rev()
        .find(|(key, _)| &**key == name)
        .map(|(_, value)| value)
}

fn full_options(options: Vec<Json>) -> KeepAlive {
    let mut echo = None;
    let mut suppress_republish = false;
    for option in options {
        match option {
            Json::Text(text) if &*text == SUPPRESS => suppress_republish = true,
            Json::Object(members) => {
                if let Some(value) = last(members, ECHO) {
                    echo = json_text(&value).or(echo);
                }
            }
            _ => {}
        }
    }
    KeepAlive::Full {
        echo,
        suppress_republish,
    }
}

/// The JSON text of a scalar.
fn json_text(value: &Json) -> Option<Box<str>> {
    let mut out = Vec::new();
    match value {
        Json::Null => out.extend_from_slice(b"null"),
        Json::Bool(value) => payload::write_bool(&mut out, *value),
        Json::Int(value) => payload::write_int(&mut out, *value),
        Json::Uint(value) => payload::write_uint(&mut out, *value),
        Json::Float(value) => payload::write_double(&mut out, *value),
        Json::Text(text) => payload::write_text(&mut out, text),
        Json::Array(_) | Json::Object(_) => return None,
    }
    from_utf8(&out).ok().map(Into::into)
}

/// Takes one value off the tape. The parser has limited the depth.
fn read_node<'a>(nodes: &mut impl Iterator<Item = Node<'a>>) -> Result<Json, Rejection> {
    Ok(match nodes.next().ok_or(Rejection::NoJson)? {
        Node::Static(StaticNode::Null) => Json::Null,
        Node::Static(StaticNode::Bool(value)) => Json::Bool(value),
        Node::Static(StaticNode::I64(value)) => Json::Int(value),
        Node::Static(StaticNode::U64(value)) => {
            i64::try_from(value).map_or(Json::Uint(value), Json::Int)
        }
        Node::Static(StaticNode::F64(value)) if value.is_finite() => Json::Float(value),
        Node::Static(StaticNode::F64(_)) => return Err(Rejection::Number),
        Node::String(text) => Json::Text(text.into()),
        Node::Array { len, .. } => Json::Array(
            (0..len)
                .map(|_| read_node(nodes))
                .collect::<Result<_, _>>()?,
        ),
        Node::Object { len, .. } => {
            let member = |_| match nodes.next() {
                Some(Node::String(key)) => Ok((key.into(), read_node(nodes)?)),
                _ => Err(Rejection::NoJson),
            };
            Json::Object((0..len).map(member).collect::<Result<_, _>>()?)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::request::ItemAddress;

    fn read<'a>(topic: &'a str, payload: &str) -> Option<Result<Request<'a>, Rejection>> {
        let portal = PortalId::new("c0619ab12345").unwrap();
        RequestReader::new(65_536).read(topic, &mut payload.as_bytes().to_vec(), &portal)
    }

    #[test]
    fn a_plain_write_is_what_the_parser_makes_of_it() {
        let mut reader = RequestReader::new(65_536);
        let values = [
            "0",
            "-0",
            "00",
            "01",
            "-01",
            "-",
            "+1",
            "7",
            "-7",
            "42",
            "1.0",
            "1e3",
            "0x1",
            "--1",
            "true",
            "True",
            "false",
            "null",
            "nul",
            "",
            " ",
            "1 2",
            "1,",
            "1}",
            "[1]",
            "999999999999999999",
            "-999999999999999999",
            "1000000000000000000",
            "9223372036854775807",
            "\u{b}3",
            "\u{c}3",
            "3\u{c}",
            "\u{a0}3",
            "\"3\"",
        ];
        let forms: [fn(&str) -> String; 8] = [
            |v| format!("{{\"value\": {v}}}"),
            |v| format!(" {{\"value\":{v} }}\n"),
            |v| format!("{{\"value\":\t{v}}}}}"),
            |v| format!("{{\"value\": {v}, \"other\": 1}}"),
            |v| format!("{{\"value\" : {v}}}"),
            |v| format!("{{ \"value\": {v}}}"),
            |v| format!("{{\"value\": {v}"),
            |v| format!("\u{c}{{\"value\": {v}}}"),
        ];
        let mut plain = 0;
        for (value, form) in values
            .iter()
            .flat_map(|v| forms.iter().map(move |f| (v, f)))
        {
            let text = form(value);
            let Some(found) = plain_write(text.as_bytes()) else {
                continue;
            };
            plain += 1;
            let parsed = reader.parse(&mut text.clone().into_bytes());
            let expected = Json::Object(vec![("value".into(), found)]);
            assert_eq!(parsed, Ok(expected), "{text:?}");
        }
        assert_eq!(plain, 19, "those that are plain, in the forms that are");
    }

    #[test]
    fn s5_6_writes_are_read() {
        let check = |payload: &str, expected: Result<Json, Rejection>| {
            let address = ItemAddress {
                service_type: "vebus",
                instance: "257",
                path: "/Mode",
            };
            let expected = Some(expected.map(|value| Request::Write(address, value)));
            assert_eq!(
                read("W/c0619ab12345/vebus/257/Mode", payload),
                expected,
                "{payload}"
            );
        };
        check(r#"{"value": -200}"#, Ok(Json::Int(-200)));
        check(r#" {"value":13.75} "#, Ok(Json::Float(13.75)));
        check(r#"{"value": 1e3}"#, Ok(Json::Float(1000.0)));
        check(r#"{"value": true}"#, Ok(Json::Bool(true)));
        check(r#"{"value": null}"#, Ok(Json::Null));
        check(r#"{"value": "a\"b\u00e4"}"#, Ok(Json::Text("a\"bä".into())));
        check(r#"{"value": 9223372036854775807}"#, Ok(Json::Int(i64::MAX)));
        check(
            r#"{"value": 18446744073709551615}"#,
            Ok(Json::Uint(u64::MAX)),
        );
        check(r#"{"value": []}"#, Ok(Json::Array(vec![])));
        check(
            r#"{"value": [1, "a"]}"#,
            Ok(Json::Array(vec![Json::Int(1), Json::Text("a".into())])),
        );
        check(
            r#"{"value": {"a": {}}}"#,
            Ok(Json::Object(vec![("a".into(), Json::Object(vec![]))])),
        );
        check(r#"{"value": 1, "value": 2, "x": 3}"#, Ok(Json::Int(2)));
        for no_json in [
            "",
            " ",
            "{",
            "{\"value\": }",
            "{\"value\": NaN}",
            "{\"value\": 1} x",
            "{'value': 1}",
            "{\"value\": 18446744073709551616}",
            "{\"value\": 01}",
            "{\"value\": 1e400}",
        ] {
            let found = read("W/c0619ab12345/vebus/257/Mode", no_json);
            assert!(
                matches!(found, Some(Err(Rejection::NoJson | Rejection::Number))),
                "{no_json}: {found:?}"
            );
        }
        check("1", Err(Rejection::NoObject));
        check("[1]", Err(Rejection::NoObject));
        check("{}", Err(Rejection::NoValue));
        let deep = format!("{{\"value\": {}{}}}", "[".repeat(32), "]".repeat(32));
        check(&deep, Err(Rejection::TooDeep { max: 32 }));
        let long = format!("{{\"value\": \"{}\"}}", "x".repeat(65_536));
        check(
            &long,
            Err(Rejection::TooLarge {
                found: long.len(),
                max: 65_536,
            }),
        );
    }

    #[test]
    fn s5_6_what_stands_around_the_json_is_no_mistake() {
        let check = |payload: &[u8], expected: Result<i64, Rejection>| {
            let portal = PortalId::new("c0619ab12345").unwrap();
            let topic = "W/c0619ab12345/vebus/257/Mode";
            let mut bytes = payload.to_vec();
            let found = RequestReader::new(65_536).read(topic, &mut bytes, &portal);
            let found = found.unwrap().map(|request| match request {
                Request::Write(_, Json::Int(value)) => value,
                other => panic!("{other:?}"),
            });
            assert_eq!(found, expected, "{}", payload.escape_ascii());
        };
        check(b"\xef\xbb\xbf{\"value\": 3}", Ok(3));
        check(b"{\"value\": 3}\0", Ok(3));
        check(b"{\"value\": 3}\0\0\0\0", Ok(3));
        check(
            b"\xef\xbb\xbf \r\n{\"value\": 3 , \"x\": 1}\r\n\0 \0",
            Ok(3),
        );
        // In any other place they are mistakes.
        check(b"\0{\"value\": 3}", Err(Rejection::NoJson));
        check(b"{\"value\":\0 3}", Err(Rejection::NoJson));
        check(b" \xef\xbb\xbf{\"value\": 3}", Err(Rejection::NoJson));
        for nothing in [
            &b""[..],
            b"\0",
            b"\xef\xbb\xbf",
            b"\xef\xbb\xbf \0\0",
            b" \n",
        ] {
            check(nothing, Err(Rejection::NoJson));
        }
        // "Kühlbox" in Latin-1, and half a byte order mark.
        check(b"{\"value\": \"K\xfchlbox\"}", Err(Rejection::NotUtf8));
        check(b"\xef\xbb{\"value\": 3}", Err(Rejection::NotUtf8));
        assert_eq!(
            Rejection::NotUtf8.to_string(),
            "the payload is not valid UTF-8"
        );
        assert_eq!(
            read("R/c0619ab12345/system/0/Serial", "\0"),
            Some(Ok(Request::Serial))
        );
    }

    #[test]
    fn s5_3_and_5_4_keep_alives_are_read() {
        let full = |echo: Option<&str>, suppress_republish| KeepAlive::Full {
            echo: echo.map(Into::into),
            suppress_republish,
        };
        let check = |payload: &str, expected: KeepAlive| {
            for topic in ["R/c0619ab12345/keepalive", "R/c0619ab12345/system/0/Serial"] {
                if payload.is_empty() && topic.ends_with("Serial") {
                    continue;
                }
                let expected = Some(Ok(Request::KeepAlive(expected.clone())));
                assert_eq!(read(topic, payload), expected, "{payload}");
            }
        };
        for plain in [
            "",
            "1",
            "{",
            "null",
            "[]",
            "[1]",
            "{}",
            r#"{"keepalive-options": []}"#,
            r#"{"keepalive-options": 1}"#,
            r#"{"keepalive-options": ["x", {"y": 1}]}"#,
        ] {
            check(plain, full(None, false));
        }
        check(
            r#"{"keepalive-options": [{"full-publish-completed-echo": "x"}]}"#,
            full(Some(r#""x""#), false),
        );
        check(
            r#"{"keepalive-options": [{"full-publish-completed-echo": 17}]}"#,
            full(Some("17"), false),
        );
        check(
            r#"{"keepalive-options": ["suppress-republish"]}"#,
            full(None, true),
        );
        check(
            r#"["system/#", 1, "battery/+/Soc"]"#,
            KeepAlive::Selective(vec!["system/#".into(), "battery/+/Soc".into()]),
        );
        assert_eq!(
            read("R/c0619ab12345/system/0/Serial", ""),
            Some(Ok(Request::Serial))
        );
    }
}
