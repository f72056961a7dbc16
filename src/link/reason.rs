//! What a broker's codes mean, in plain words, and whether they can heal by themselves (§6).

use crate::codec::packet::{Farewell, Version};

/// How much of a broker's own words is repeated.
const WORDS_CHARS_MAX: usize = 200;

/// Why a broker did not take the connection.
pub fn refusal(version: Version, code: u8) -> &'static str {
    match (version, code) {
        (Version::V3, 1) | (Version::V5, 0x84) => "the broker does not take our protocol version",
        (Version::V3, 2) | (Version::V5, 0x85) => "the broker does not like the client id",
        (Version::V3, 3) | (Version::V5, 0x88) => "the broker is not available right now",
        (Version::V3, 4) | (Version::V5, 0x86) => "the broker refused user name and password",
        (Version::V3, 5) | (Version::V5, 0x87) => {
            "the broker says that we are not authorized (check user name and password)"
        }
        (Version::V5, 0x81 | 0x82) => {
            "the broker could not understand our CONNECT (try --mqtt-version 3)"
        }
        (Version::V5, 0x83) => "the broker refused the connection for reasons of its own",
        (Version::V5, 0x89) => "the broker is too busy right now",
        (Version::V5, 0x8a) => "the broker has banned this client",
        (Version::V5, 0x8c) => "the broker wants another method of authentication than a password",
        (Version::V5, 0x90) => "the broker does not take the topic of our last will",
        (Version::V5, 0x95) => "the broker takes no packet as long as our CONNECT",
        (Version::V5, 0x97) => "the broker has no room for us: a quota is used up",
        (Version::V5, 0x99) => "the broker does not take the payload of our last will",
        (Version::V5, 0x9a) => "the broker does not retain messages, not even the last will",
        (Version::V5, 0x9b) => "the broker does not take the last will with QoS 1",
        (Version::V5, 0x9c) => "the broker wants us to use another broker for now",
        (Version::V5, 0x9d) => "the broker has moved to another address",
        (Version::V5, 0x9f) => "the broker takes no more connections just now: too many at a time",
        _ => "the broker refused the connection",
    }
}

/// Whether a refusal stays until somebody changes something.
pub fn refusal_needs_operator(version: Version, code: u8) -> bool {
    match version {
        Version::V3 => matches!(code, 1 | 2 | 4 | 5),
        Version::V5 => matches!(
            code,
            0x81 | 0x82
                | 0x84
                | 0x85
                | 0x86
                | 0x87
                | 0x8a
                | 0x8c
                | 0x90
                | 0x95
                | 0x99
                | 0x9a
                | 0x9b
                | 0x9c
                | 0x9d
        ),
    }
}

/// Why a broker ended the session.
pub fn dismissal(code: u8) -> &'static str {
    match code {
        0x00 => "it is done",
        0x81 => "it found a packet of ours malformed",
        0x82 => "it found a packet of ours out of place",
        0x83 => "for reasons of its own",
        0x87 => "we are not authorized (check its access control list)",
        0x89 => "it is too busy",
        0x8b => "it is shutting down",
        0x8d => "it has heard nothing of us for too long",
        0x8e => "another client has taken our client id (is a second bridge running?)",
        0x8f => "it does not take our topic filter",
        0x90 => "it does not take one of our topics",
        0x93 => "we sent too many messages at once",
        0x94 => "it does not know a topic alias of ours",
        0x95 => "a packet of ours was too large",
        0x96 => "we send too much for it",
        0x97 => "a quota is used up",
        0x98 => "somebody who runs it has ended the connection",
        0x99 => "it does not take the format of our payloads",
        0x9a => "it does not retain messages",
        0x9b => "it does not take the QoS of our messages",
        0x9c => "it wants us to use another broker for now",
        0x9d => "it has moved to another address",
        0x9e => "it has no shared subscriptions",
        0x9f => "we connect too often",
        0xa0 => "the longest time that it allows a connection is over",
        0xa1 => "it has no subscription identifiers",
        0xa2 => "it does not take filters with wildcards",
        _ => "it gave no reason",
    }
}

/// Whether the same is to be expected again until somebody changes something. Two clients with one
/// client id would throw each other out as fast as they can connect.
pub fn dismissal_needs_operator(code: u8) -> bool {
    matches!(
        code,
        0x87 | 0x8e
            | 0x8f
            | 0x90
            | 0x95
            | 0x98
            | 0x99
            | 0x9a
            | 0x9b
            | 0x9c
            | 0x9d
            | 0x9e
            | 0xa1
            | 0xa2
    )
}

/// Why a broker did not take a subscription.
pub fn subscription(code: u8) -> &'static str {
    match code {
        0x83 => "for reasons of its own",
        0x87 => "not authorized: check its access control list",
        0x8f => "it does not take the filter",
        0x91 => "it thinks that the packet identifier is in use",
        0x97 => "a quota is used up",
        0xa2 => "it does not take filters with wildcards",
        _ => "check its access control list",
    }
}

/// What the broker itself says, and where it sends us, fit for a log line; empty where it says
/// nothing.
pub fn words(farewell: &Farewell<'_>) -> Box<str> {
    let clean = |text: &str| -> String {
        let visible = |c: &char| !c.is_control();
        text.chars().filter(visible).take(WORDS_CHARS_MAX).collect()
    };
    let mut words = String::new();
    if !farewell.reason.is_empty() {
        words = format!("; it says: {}", clean(farewell.reason));
    }
    if !farewell.server.is_empty() {
        words.push_str("; it names ");
        words.push_str(&clean(farewell.server));
    }
    words.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every code that a broker may send has words of its own [MQTT-2.4].
    #[test]
    fn s6_every_code_has_its_words() {
        let of_connack = [
            0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x8c, 0x90, 0x95, 0x97,
            0x99, 0x9a, 0x9b, 0x9c, 0x9d, 0x9f,
        ];
        for code in of_connack {
            let text = refusal(Version::V5, code);
            assert_ne!(text, refusal(Version::V5, 0x80), "0x{code:02x}");
        }
        for code in 1..=5 {
            assert_ne!(refusal(Version::V3, code), refusal(Version::V3, 6));
        }
        let of_disconnect = [
            0x00, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8b, 0x8d, 0x8e, 0x8f, 0x90, 0x93, 0x94, 0x95,
            0x96, 0x97, 0x98, 0x99, 0x9a, 0x9b, 0x9c, 0x9d, 0x9e, 0x9f, 0xa0, 0xa1, 0xa2,
        ];
        for code in of_disconnect {
            assert_ne!(dismissal(code), dismissal(0x80), "0x{code:02x}");
        }
    }

    #[test]
    fn a_brokers_words_are_fit_for_a_log_line() {
        let farewell = Farewell {
            code: 0,
            reason: "no\n\u{1b}[31mway",
            server: "other.example:1883",
        };
        assert_eq!(
            &*words(&farewell),
            "; it says: no[31mway; it names other.example:1883"
        );
        let long = "x".repeat(10_000);
        let farewell = Farewell {
            reason: &long,
            ..Farewell::default()
        };
        assert!(words(&farewell).len() < 300);
        assert_eq!(&*words(&Farewell::default()), "");
    }
}
