//! The settings of the program, which stand at the top of the settings file.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::broker::BrokerConfig;
use super::limits::Limits;
use crate::config::bus_address::BusAddress;
use crate::config::listen::ListenConfig;
use crate::config::setting::{file, folders, milliseconds, seconds, switch, text};
use crate::config::vrm::VrmConfig;
use crate::model::name::PortalId;
use crate::schema::Schema;

settings! {
    /// What the bridge does, with every default filled in and every value checked.
    pub struct Config from TOP;

    made {
        /// The second level of every topic (§1).
        portal_id: PortalId = PortalId::unknown(), "portal-id";
        /// The bus to read from (§2.8).
        bus: BusAddress = BusAddress::system(), "dbus";
        /// The brokers to publish to; that of VRM is the last.
        brokers: Vec<BrokerConfig> = Vec::new();
        /// Where MQTT clients connect to the program itself (§9).
        listeners: Vec<ListenConfig> = Vec::new();
        /// What the broker of VRM needs besides, where it is one of them (§8).
        vrm: Option<VrmConfig> = None, "vrm";
        /// Where the program tells Prometheus what it does, over HTTP.
        metrics: Option<SocketAddr> = None, "metrics";
        /// Where the page is, over HTTP.
        web: Option<SocketAddr> = None, "web";
        /// Under which names besides page and metrics may be asked for.
        web_hosts: Vec<String> = Vec::new(), "web-hosts";
        /// The bounds.
        limits: Limits = Limits::default();
        /// What is known of services and their items.
        schema: Arc<Schema> = Arc::default();
    }

    in VRM_SECTION by_hand {
        /// Also connect to VRM, Victron's portal, and register this device there first
        ///
        /// A registration that fails is tried again; nothing waits for it. The table [vrm] has the details.
        = switch("init-broker").short('i').or("false");
    }
    in LISTENERS by_hand {
        /// Let MQTT clients connect to this program itself: a port of this device, or ADDRESS:PORT; may be given several times
        ///
        /// With a listener and no mqtt-server, no broker is needed. ws:// in front is WebSocket, mqtts:// is
        /// encrypted, wss:// is both. The tables [[listen]] say more about each listener.
        = text("listen").flag("[ADDRESS:]PORT").several().without("nowhere").example("\"1883\"");
        /// Who may connect there: anonymous, venus (whoever knows the password of this GX device), or a file of users
        ///
        /// The file has a line name:bcrypt-hash for each user. An address that other computers can reach needs this.
        /// With web and no listener it applies to the page.
        = text("listen-auth").flag("WORD|FILE").without("anybody, on this device only").example("\"venus\"");
    }
    in DEVICE by_hand {
        /// The D-Bus to read from: an address, or one of the words system and session
        ///
        /// Without it, the session bus where DBUS_SESSION_BUS_ADDRESS is set, else the system bus, which on a GX
        /// device has all the values.
        = text("dbus").flag("ADDRESS").short('b').without("the one of this device").example("\"unix:path=/var/run/dbus/system_bus_socket\"");
        /// VRM portal id, the second word of every topic
        ///
        /// Without it the program asks the GX device that it runs on: first the file /data/venus/unique-id, then
        /// the command /sbin/get-unique-id, then the address of the network interface eth0 (or the one that the
        /// variable VRM_IFACE names). Anywhere else it takes what com.victronenergy.system has at /Serial, and
        /// waits until that is on the bus.
        = text("portal-id").flag("ID").without("ask this GX device, or the bus").example("\"e0ff50a097c0\"");
        /// Directory of schema files to lay over the built-in schema; may be given several times
        ///
        /// They say what a service of yours offers, or override what is built in: which values are secret,
        /// blocked, or can be written. A later directory overrides an earlier one. schema/README.md says what
        /// is in such a file.
        = folders("schema").flag("DIR").example("[\"/data/conf/schema\"]").reload();
    } {
        /// Refuse a write to a read-only value or outside of its range, as far as the schema knows
        ///
        /// Without it the service decides, and the log has a warning.
        strict_writes: bool = switch("strict-writes").or("false").reload();
    }
    in FLOW {
        /// For how many milliseconds changes may be gathered before they are sent together; 0 sends each at once
        ///
        /// That saves power, since the processor wakes up less often.
        gather: Duration = milliseconds("gather-ms").flag("MILLISECONDS").within(0, 1_000).or("20");
        /// After how many seconds all values of a service are read again; 0 is never
        ///
        /// One service after the other. That finds what a service changed, added or removed without a signal. With
        /// 3,000 items the default costs 0.1 s of CPU an hour.
        refresh: Option<Duration> = seconds("refresh-s").flag("SECONDS").or("300").reload();
    }
    in WATCH {
        /// Publish statistics of the program every so many seconds, while values flow; 0 is never
        ///
        /// On the topic bridge/stats below the portal id: how many services and values there are, what was published
        /// and refused, its memory. It is never retained. To keep it from a broker, put bridge/# into its
        /// publish-deny.
        stats: Option<Duration> = seconds("stats").flag("SECONDS").or("0").reload();
    }
    in WATCH by_hand {
        /// Serve metrics to Prometheus on this address, such as 127.0.0.1:9100; the path is /metrics
        ///
        /// Nothing is encrypted there and no password is asked for: an address that other computers can reach
        /// is refused, unless allow-remote-metrics is true.
        = text("metrics").flag("ADDRESS:PORT").or("\"\"");
        /// Allow a metrics address that other computers can reach, without encryption and password
        = switch("allow-remote-metrics").or("false");
        /// Show a live page at this port of this device, such as 8080, or at ADDRESS:PORT
        ///
        /// It gets its values from this program and needs nothing else; listen-auth says who may log in. With a
        /// listener it is a client of that; with an mqtt-server and no listener, of that broker. Nothing is
        /// encrypted: an address that other computers can reach is refused, unless allow-remote-web is
        /// true. /metrics and /health are there too.
        = text("web").flag("[ADDRESS:]PORT").or("\"\"");
        /// Allow a page that other computers can open
        ///
        /// Whoever can open it may do what a program on this device may, where listener or broker ask for no
        /// password.
        = switch("allow-remote-web").or("false");
        /// Another name under which the page may be opened, such as boat.example.org; may be given several times
        ///
        /// Addresses, the name of this device, and names that end in .local, .lan, .home, .home.arpa, .internal,
        /// .localdomain or .localhost are always allowed. Any other name could be one that a web page points at
        /// this device, to write in the name of whoever looks at it.
        = text("web-hosts").flag("NAME").several().without("only those that are always allowed").example("\"boat.example.org\"");
    }
    in OTHER by_hand {
        /// Accept password files that other users of this device can read
        = switch("allow-readable-secrets").or("false");
        /// Settings file; dbus-mqtt.example.toml explains every setting
        = file("config").flag("FILE").no_key();
        /// Log more; for one part of the program only, set RUST_LOG instead
        = switch("debug").short('d').global().or("false").reload();
    }
}

impl Config {
    /// Takes over what can change while the bridge runs, in one step. Gives the keys of what differs and needs
    /// a restart.
    pub fn reload(&mut self, new: Config) -> Vec<&'static str> {
        let mut kept = self.take_over(&new);
        if self.brokers.len() != new.brokers.len() {
            kept.push("the list of brokers");
        }
        for (broker, new) in self.brokers.iter_mut().zip(&new.brokers) {
            kept.extend(broker.take_over(new));
        }
        if self.listeners.len() == new.listeners.len() {
            for (listener, new) in self.listeners.iter_mut().zip(&new.listeners) {
                kept.extend(listener.take_over(new));
            }
        } else {
            kept.push("the number of listeners");
        }
        kept.extend(self.limits.take_over(&new.limits));
        self.schema = new.schema;
        kept
    }
}

const VRM_SECTION: &str = "VRM";
const LISTENERS: &str = "Clients without a broker";
const DEVICE: &str = "Victron device";
const FLOW: &str = "Flow of values";
const WATCH: &str = "Monitoring";
/// Under the parser's own heading, "Options".
const OTHER: &str = "";
