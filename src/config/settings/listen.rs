//! The table `[[listen]]`: where MQTT clients connect to the program itself. A listener has some settings of a
//! broker too: see [`SHARED`].

use crate::config::setting::{file, filters, text, truth_of, word};

settings! {
    /// What only a listener has.
    pub struct ListenSettings from LISTEN;

    made {}

    in LISTENER by_hand {
        /// A port of this device, or ADDRESS:PORT; ws://, mqtts:// or wss:// in front says what is spoken there
        = text("address").example("\"0.0.0.0:1883\"");
        /// What is spoken there
        = word("transport", &["tcp", "tls", "ws", "wss"]).or("\"tcp\"");
        /// Who may connect: anybody, the users of a file, whoever knows the password of this GX device, or whoever
        /// has a certificate
        ///
        /// An address that other computers can reach needs it.
        = word("auth", &["anonymous", "users", "venus", "certificate"]).without("anybody, on this device only").example("\"venus\"").reload();
        /// The file of users, with a line name:bcrypt-hash for each
        = file("users").example("\"/data/conf/dbus-mqtt-users\"").reload();
        /// Certificate that clients are shown (PEM); without one a pair is made, and its fingerprint logged
        = file("certificate").example("\"/data/conf/listener.pem\"");
        /// The key of that certificate (PEM)
        = file("key").without("it is in the same file").example("\"/data/conf/listener-key.pem\"");
        /// CA certificates of clients (PEM)
        = file("client-ca").example("\"/data/conf/clients.pem\"");
        /// Web pages of these origins may connect by WebSocket
        = filters("origins").without("all").example("[\"https://panel.example.com\"]");
    } {
        /// Whether clients may talk to each other by other topics
        relay: bool = truth_of("relay").or("true").reload();
    }
}

/// The keys of a broker that a listener has too.
pub const SHARED: [&str; 14] = [
    "name",
    "access",
    "retain",
    "keep-alive",
    "publish-allow",
    "publish-deny",
    "read-allow",
    "read-deny",
    "write-allow",
    "write-deny",
    "response-allow",
    "home-assistant",
    "home-assistant-prefix",
    "home-assistant-keep",
];

const LISTENER: &str = "Listeners";
