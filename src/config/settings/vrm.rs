//! The table `[vrm]`: the broker of VRM, Victron's portal, and where to register (§6, §8). It has the settings
//! of a broker too.

use std::time::Duration;

use crate::config::setting::{U32_MAX, file, seconds, text, truth_of, word};

settings! {
    /// What is set for VRM, besides its broker.
    pub struct VrmSettings from VRM;

    made {}

    in VRM_SECTION by_hand {
        /// Whether to connect to VRM
        ///
        /// It is with init-broker = true; this does it without registering. What VRM may do is up to the device's
        /// own setting (Settings -> VRM online portal: off, read-only or full), also while the program runs.
        = truth_of("enabled").or("false");
        /// What carries MQTT there: tls (port 8883) or wss (port 443)
        = word("transport", &["tls", "wss"]).or("\"tls\"");
        /// Where to register
        = text("register-url").or("\"https://ccgxlogging.victronenergy.com/log/storemqttpassword.php\"");
        /// CA certificate of that address (PEM)
        = file("register-certificate").example("\"/etc/ssl/certs/ccgx-ca.pem\"");
    } {
        /// How many seconds to wait after a registration that failed
        register_retry: Duration = seconds("register-retry-s").within(1, U32_MAX).or("60");
        /// How many seconds at most to wait until registering again, after VRM was connected and lost
        register_again: Duration = seconds("register-again-s").or("600");
    }
}

const VRM_SECTION: &str = "VRM";
