//! What a broker's reason codes mean: who must act, and so when to try again (§6).
//!
//! `TABLE` has every code that a broker may send in CONNACK, SUBACK and DISCONNECT of MQTT 5
//! [MQTT-2.4]. 3.1.1 has five codes in CONNACK and one in SUBACK, each with the same meaning as one
//! of MQTT 5.

use crate::codec::packet::{Reason, Version};
use crate::model::outside::Outside;

/// Which packet a code came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum In {
    /// The answer to CONNECT.
    ConnAck,
    /// The answer to SUBSCRIBE.
    SubAck,
    /// The end of a session.
    Disconnect,
}

/// What has to happen before it can work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cure {
    /// Nothing: it heals by itself. Tried again as after a lost connection.
    Time,
    /// Somebody must change something, here or at the broker. Tried again slowly.
    Person,
}

/// What a code means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meaning {
    /// What cures it.
    pub cure: Cure,
    /// What it says: a sentence in CONNACK; what stands behind one in SUBACK and DISCONNECT.
    pub text: &'static str,
}

/// Each code: where it comes, what cures it, and what it means. In CONNACK that is a sentence; in SUBACK
/// and DISCONNECT it stands behind one.
#[rustfmt::skip]
const TABLE: &[(In, u8, Cure, &str)] = {
    use Cure::{Person, Time};
    use In::{ConnAck, Disconnect, SubAck};
    &[
        (ConnAck, 0x80, Time, "the broker refused the connection and gave no reason"),
        (ConnAck, 0x81, Person, "the broker could not read our CONNECT (try --mqtt-version 3)"),
        (ConnAck, 0x82, Person, "the broker found an error in our CONNECT (try --mqtt-version 3)"),
        (ConnAck, 0x83, Time, "the broker refused the connection with an implementation-specific error (its log may say more)"),
        (ConnAck, 0x84, Person, "the broker does not support our version of MQTT (try --mqtt-version auto)"),
        (ConnAck, 0x85, Person, "the broker rejected the client id (set another with --client-id)"),
        (ConnAck, 0x86, Person, "the broker rejected the user name or password"),
        (ConnAck, 0x87, Person, "not authorized to connect (check the user name and password)"),
        (ConnAck, 0x88, Time, "the broker is unavailable"),
        (ConnAck, 0x89, Time, "the broker is busy"),
        (ConnAck, 0x8a, Person, "the broker has banned this client"),
        (ConnAck, 0x8c, Person, "the broker wants an authentication method other than a password"),
        (ConnAck, 0x90, Person, "the broker rejected the topic of our last will (check its access control list)"),
        (ConnAck, 0x95, Person, "the broker says that our CONNECT is too large"),
        (ConnAck, 0x97, Time, "the broker has reached a quota"),
        (ConnAck, 0x99, Person, "the broker rejected the payload of our last will"),
        (ConnAck, 0x9a, Person, "the broker does not retain messages, not even the last will"),
        (ConnAck, 0x9b, Person, "the broker does not take a last will with QoS 1"),
        (ConnAck, 0x9c, Time, "the broker asks us to use another server for now"),
        (ConnAck, 0x9d, Person, "the broker has moved to another address"),
        (ConnAck, 0x9f, Time, "the broker takes no more connections at the moment"),

        (SubAck, 0x80, Time, "no reason given; if this lasts, check its access control list"),
        (SubAck, 0x83, Time, "implementation-specific error; its log may say more"),
        (SubAck, 0x87, Person, "not authorized; check its access control list"),
        (SubAck, 0x8f, Person, "bad topic filter"),
        (SubAck, 0x91, Time, "packet identifier in use"),
        (SubAck, 0x97, Time, "quota reached"),
        (SubAck, 0x9e, Person, "no shared subscriptions"),
        (SubAck, 0xa1, Person, "no subscription identifiers"),
        (SubAck, 0xa2, Person, "no wildcards in topic filters"),

        (Disconnect, 0x00, Time, "it is done"),
        (Disconnect, 0x80, Time, "no reason given"),
        (Disconnect, 0x81, Time, "malformed packet"),
        (Disconnect, 0x82, Time, "protocol error"),
        (Disconnect, 0x83, Time, "implementation-specific error; its log may say more"),
        (Disconnect, 0x87, Person, "not authorized; check its access control list"),
        (Disconnect, 0x89, Time, "it is busy"),
        (Disconnect, 0x8b, Time, "it is shutting down"),
        (Disconnect, 0x8d, Time, "it has not heard from us for too long"),
        (Disconnect, 0x8e, Person, "another client connected with the same client id"),
        (Disconnect, 0x8f, Person, "bad topic filter"),
        (Disconnect, 0x90, Person, "bad topic"),
        (Disconnect, 0x93, Time, "too many messages at once"),
        (Disconnect, 0x94, Time, "unknown topic alias"),
        (Disconnect, 0x95, Person, "packet too large"),
        (Disconnect, 0x96, Time, "message rate too high"),
        (Disconnect, 0x97, Time, "quota reached"),
        (Disconnect, 0x98, Person, "ended by its administrator"),
        (Disconnect, 0x99, Person, "bad payload format"),
        (Disconnect, 0x9a, Person, "it does not retain messages"),
        (Disconnect, 0x9b, Person, "QoS not supported"),
        (Disconnect, 0x9c, Time, "it asks us to use another server for now"),
        (Disconnect, 0x9d, Person, "it has moved to another address"),
        (Disconnect, 0x9e, Person, "no shared subscriptions"),
        (Disconnect, 0x9f, Time, "too many connections at the moment"),
        (Disconnect, 0xa0, Time, "the maximum time for a connection is over"),
        (Disconnect, 0xa1, Person, "no subscription identifiers"),
        (Disconnect, 0xa2, Person, "no wildcards in topic filters"),
    ]
};

/// The code of MQTT 5 for what a broker of 3.1.1 says in CONNACK [MQTT-3.2.2-3].
fn modern(version: Version, code: u8) -> u8 {
    match (version, code) {
        (Version::V3, 1) => 0x84,
        (Version::V3, 2) => 0x85,
        (Version::V3, 3) => 0x88,
        (Version::V3, 4) => 0x86,
        (Version::V3, 5) => 0x87,
        (Version::V3, _) => 0x80,
        (Version::V5, code) => code,
    }
}

/// What a code means. One that the standard does not know means as much as 0x80.
pub fn meaning(place: In, code: u8) -> Meaning {
    let row = |wanted: u8| {
        let mut rows = TABLE.iter();
        let row = rows.find(|(of, code, ..)| (*of, *code) == (place, wanted))?;
        let (.., cure, text) = *row;
        Some(Meaning { cure, text })
    };
    row(code).or_else(|| row(0x80)).unwrap_or(Meaning {
        cure: Cure::Time,
        text: "no reason given",
    })
}

/// Why a broker did not take the connection.
pub fn refusal(version: Version, code: u8) -> Meaning {
    meaning(In::ConnAck, modern(version, code))
}

/// What the broker itself says, and where it sends us, fit for a log line; empty where it says
/// nothing.
pub fn words(farewell: &Reason<'_>) -> Box<str> {
    let mut words = String::new();
    if !farewell.reason.is_empty() {
        words = format!("; the broker says: {}", Outside::error(farewell.reason));
    }
    if !farewell.server.is_empty() {
        words.push_str("; it names the server ");
        words.push_str(&Outside::error(farewell.server).to_string());
    }
    words.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every code that a broker may send has a separate row [MQTT-2.4].
    #[test]
    fn s6_every_code_is_in_the_table_once() {
        let of_connack = [
            0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x8c, 0x90, 0x95,
            0x97, 0x99, 0x9a, 0x9b, 0x9c, 0x9d, 0x9f,
        ];
        let of_suback = [0x80, 0x83, 0x87, 0x8f, 0x91, 0x97, 0x9e, 0xa1, 0xa2];
        let of_disconnect = [
            0x00, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8b, 0x8d, 0x8e, 0x8f, 0x90, 0x93, 0x94,
            0x95, 0x96, 0x97, 0x98, 0x99, 0x9a, 0x9b, 0x9c, 0x9d, 0x9e, 0x9f, 0xa0, 0xa1, 0xa2,
        ];
        let all = [
            (In::ConnAck, &of_connack[..]),
            (In::SubAck, &of_suback[..]),
            (In::Disconnect, &of_disconnect[..]),
        ];
        for (place, codes) in all {
            let rows = TABLE.iter().filter(|(of, ..)| *of == place);
            let found: Vec<u8> = rows.map(|(_, code, ..)| *code).collect();
            assert_eq!(found, codes, "{place:?}");
        }
        let unknown = meaning(In::Disconnect, 0xff);
        assert_eq!(unknown, meaning(In::Disconnect, 0x80));
    }

    /// Who must act. What a person must mend is not tried again and again in a hurry, and what heals by
    /// itself is not given up for half a minute.
    #[test]
    fn s6_what_heals_by_itself_is_told_from_what_does_not() {
        let cure = |place, code| meaning(place, code).cure;
        for code in [0x80, 0x83, 0x88, 0x89, 0x97, 0x9c, 0x9f] {
            assert_eq!(cure(In::ConnAck, code), Cure::Time, "0x{code:02x}");
        }
        for code in [0x84, 0x85, 0x86, 0x87, 0x8a, 0x8c, 0x9d] {
            assert_eq!(cure(In::ConnAck, code), Cure::Person, "0x{code:02x}");
        }
        for code in [0x80, 0x83, 0x91, 0x97] {
            assert_eq!(cure(In::SubAck, code), Cure::Time, "0x{code:02x}");
        }
        for code in [0x87, 0x8f] {
            assert_eq!(cure(In::SubAck, code), Cure::Person, "0x{code:02x}");
        }
        for code in [0x00, 0x89, 0x8b, 0x8d, 0x96, 0x97, 0x9f, 0xa0] {
            assert_eq!(cure(In::Disconnect, code), Cure::Time, "0x{code:02x}");
        }
        for code in [0x87, 0x8e, 0x9d] {
            assert_eq!(cure(In::Disconnect, code), Cure::Person, "0x{code:02x}");
        }
        // 3.1.1 has one code for what heals by itself, and 0 is none.
        let of_3 = (1..=6).map(|code| refusal(Version::V3, code).cure);
        let time: Vec<bool> = of_3.map(|cure| cure == Cure::Time).collect();
        assert_eq!(time, [false, false, true, false, false, true]);
        let said = refusal(Version::V3, 4).text;
        assert_eq!(said, "the broker rejected the user name or password");
    }

    #[test]
    fn a_brokers_words_are_fit_for_a_log_line() {
        let farewell = Reason {
            code: 0,
            reason: "no\n\u{1b}[31mway",
            server: "other.example:1883",
        };
        assert_eq!(
            &*words(&farewell),
            "; the broker says: no [31mway; it names the server other.example:1883"
        );
        let long = "x".repeat(10_000);
        let farewell = Reason {
            reason: &long,
            ..Reason::default()
        };
        assert!(words(&farewell).len() < 300);
        assert_eq!(&*words(&Reason::default()), "");
    }
}
