//! A broker: where it is, how it is reached, what it may have (§6, §8). These settings stand at the top of the
//! settings file, or in `[[broker]]` and `[vrm]`, there without the `mqtt-` in front of their names.

use std::time::Duration;

use crate::config::broker::{Address, HomeAssistant, Login, MqttVersion, TlsConfig, Transport};
use crate::config::server::Server;
use crate::config::setting::{
    U32_MAX, characters, file, filters, number, seconds, secret, switch, text, throttles, truth_of,
    word,
};
use crate::model::access::AccessRule;
use crate::model::filter::Lists;
use crate::model::throttle::ThrottleRule;
use crate::model::topic::TopicRules;

settings! {
    /// One broker, as resolved.
    pub struct BrokerConfig from BROKER;

    made {
        /// For logs; no other broker has it.
        name: String = String::from("broker"), "name";
        /// A name or an address; an IPv6 address without brackets.
        host: String = String::from("127.0.0.1"), "mqtt-server";
        /// Its TCP port.
        port: u16 = 1883, "mqtt-server";
        /// What carries MQTT to it.
        transport: Transport = Transport::Tcp, "the way to a broker";
        /// Where else it is: the other nodes of a cluster.
        others: Vec<Address> = Vec::new(), "mqtt-server";
        /// How it is encrypted. Always there for [`Transport::Tls`] and [`Transport::Wss`], never for the others.
        tls: Option<TlsConfig> = None, "the way to a broker";
        /// Contains none of `+ # /`.
        client_id: String = String::from("dbus-mqtt"), "client-id";
        /// User and password, where the broker wants them.
        login: Option<Login> = None, "the user or password";
        /// Stands before every topic; empty, or ends in `/`.
        prefix: String = String::new(), "prefix";
        /// What may be published there, read and written from there.
        lists: Lists = Lists::default(), "the allow and deny lists";
        /// What topics it takes (§4.12).
        topics: TopicRules = TopicRules::default(), "topic-levels-max, topic-bytes-max or topic-replace";
        /// Home Assistant, where the settings say anything of it.
        home_assistant: Option<HomeAssistant> = None, "home-assistant";
    }

    in BROKER_SECTION by_hand {
        /// The broker to connect to: HOST, HOST:PORT or an address
        ///
        /// An address says how the broker is reached: mqtt://HOST is plain MQTT (port 1883 unless given),
        /// mqtts://HOST encrypted (8883), ws://HOST/PATH WebSocket (80), wss://HOST/PATH encrypted WebSocket
        /// (443). Without a path it is /mqtt. An IPv6 address with a port is written "[::1]:1883". The default
        /// is a broker on this device.
        ///
        /// Several addresses of one broker, the nodes of a cluster, are separated by commas. They are tried in random
        /// order, each one with the name in its address for TLS.
        = text("mqtt-server").flag("HOST[:PORT]").short('q').or("\"127.0.0.1:1883\"");
        /// User name, if the broker wants one
        ///
        /// In the user, the client id, the prefix and the names of certificates and password files, {portal-id}
        /// stands for the portal id: one settings file serves a whole fleet.
        = text("mqtt-user").flag("NAME").short('u').example("\"boat\"").per_portal();
        /// Password; other users of this device can see it in the process list: prefer --mqtt-password-file
        ///
        /// Keep it out of the command line and of files that others can read.
        = secret("mqtt-password").flag("PASSWORD").short('P').example("\"secret\"");
        /// File with the password in its first line, readable by nobody else (chmod 600)
        ///
        /// A file that other users can read is refused, unless allow-readable-secrets is true.
        = file("mqtt-password-file").flag("FILE").example("\"/data/conf/mqtt-password\"").per_portal();
        /// Name under which the broker knows this program
        ///
        /// Two programs with the same client id disconnect each other.
        = text("client-id").flag("NAME").without("dbus-mqtt- and the portal id").example("\"dbus-mqtt-e0ff50a097c0\"").per_portal();
        /// Kind of broker: sets what suits it, unless you set it yourself
        ///
        /// rabbitmq, nats, aws-iot (AWS IoT Core), event-grid (Azure Event Grid) or emqx-serverless. Other brokers
        /// need none. "dbus-mqtt config" shows what it sets, docs/brokers.md says why.
        = word("engine", ENGINES).flag("KIND").example("\"rabbitmq\"");
        /// What the log calls this broker
        = text("name").without("broker").example("\"home\"");
    } {
        /// Whether the broker keeps the last value of every topic for clients that come later
        ///
        /// true is the way of dbus-mqtt (Venus OS before 3.20), false that of dbus-flashmq (since 3.20).
        retain: bool = truth_of("retain").flag("true|false").or("true");
        /// Version of MQTT: 3, 5 or auto
        ///
        /// auto tries 5, and takes 3.1.1 from a broker that does not know it.
        version: MqttVersion = word("mqtt-version", &["3", "5", "auto", "3.1.1"]).flag("3|5|auto").or("\"auto\"");
        /// With MQTT 5: after how many seconds the broker forgets a retained value that is not renewed; 0 is never
        ///
        /// So the broker clears what a dead device left behind.
        expire: Option<Duration> = seconds("expire").flag("SECONDS").or("0");
        /// With MQTT 5: whether topics are abbreviated, if the broker allows it
        ///
        /// It saves traffic on a metered connection.
        topic_aliases: bool = truth_of("topic-aliases").flag("true|false").or("false");
    }
    in BROKER_SECTION by_hand {
        /// Text in front of every topic, such as venus/
        ///
        /// Requests have it too: with "venus/" the topics are venus/N/… and venus/R/….
        = text("mqtt-prefix").flag("TEXT").or("\"\"").per_portal();
    } {
        /// After how many seconds without traffic the broker is pinged
        ///
        /// One that does not answer for one and a half times as long is disconnected, and connected again.
        ping: Duration = seconds("ping").flag("SECONDS").within(1, 65_535).or("30");
        /// The longest wait in seconds before connecting again after a failure
        ///
        /// Each wait is a random one of up to 1, 2, 4, … seconds, so that many devices do not come back at the
        /// same moment.
        reconnect_max: Duration = seconds("reconnect-max").flag("SECONDS").within(1, 86_400).or("30");
        /// After a reconnect, publish everything after a random wait of up to this many seconds
        ///
        /// Or as soon as a client asks. For fleets whose broker serves many devices.
        republish_jitter: Duration = seconds("republish-jitter").flag("SECONDS").within(0, 86_400).or("0");
        /// With MQTT 5: after how many seconds without this program the broker says that it is offline; 0: at once
        ///
        /// Whoever watches bridge/status does not see each short loss of the connection then. Requests that come
        /// meanwhile are not carried out later.
        will_delay: Duration = seconds("will-delay").flag("SECONDS").within(0, 86_400).or("0");
        /// The QoS that requests are subscribed to with, 0 or 1
        ///
        /// With 1 a busy broker keeps the requests that it cannot send yet; with 0 it may drop them. Clusters of
        /// NATS and RabbitMQ refuse 1 while a node is away.
        subscribe_qos: u32 = number("subscribe-qos").flag("0|1").within(0, 1).or("1");
        /// With MQTT 5: go to the server that the broker names when it says "use another server" or "server moved"
        ///
        /// User and password go there too, and it is encrypted if the broker is. Without it the log names the
        /// server.
        follow_redirect: bool = truth_of("follow-redirect").flag("true|false").or("false");
        /// Send the broker at most this many messages a second; 0: no limit
        ///
        /// For a broker that drops what is beyond its limit (AWS IoT Core takes 100). Nothing is dropped here:
        /// what waits is replaced by later values of the same topic, and answers to requests go first.
        publish_rate_max: u32 = number("publish-rate-max").flag("MESSAGES").or("0");
        /// Values that go out less often than they change: filters, each with an interval and a deadband
        ///
        /// For metered connections. throttle = [["battery/+/Dc/0/#", "10s", 0.5]] sends each of these values at most
        /// every 10 seconds, and not while it differs by no more than 0.5 from the one sent before. The first entry that
        /// matches applies. The first value goes out at once, and the last one always arrives: at the
        /// end of the interval, or, within the deadband, when it has not changed for a minute. Requests are
        /// answered at once.
        throttle: Vec<ThrottleRule> = throttles("throttle").or("[]");
        /// Every so many seconds send what changed in one message, under the topic batch; 0: no batches
        ///
        /// For brokers that bill or limit messages. What is in a batch: docs/topics.md.
        batch: Option<Duration> = seconds("batch").within(0, 86_400).or("0");
        /// Every so many seconds a batch has all values; 0: only the first one, and one for each full publish
        batch_full: Option<Duration> = seconds("batch-full").within(0, 86_400).or("300");
        /// With MQTT 5: compress batches (gzip)
        ///
        /// The content type of such a message is application/gzip. A batch that would get no shorter goes out as it
        /// is, and so do all with MQTT 3.1.1.
        batch_compress: bool = truth_of("batch-compress").or("false");
        /// Whether each value has a topic; with batches this can be false
        ///
        /// With false there is no heartbeat either. Reads are answered on their topics all the same, not retained.
        topics_of_values: bool = truth_of("topics").or("true");
        /// What clients of the broker may do: full, read-only, off or vrm
        ///
        /// With read-only, write requests are refused. With off nothing is published and every request is
        /// refused. vrm is what this device's setting for VRM says at any time (Settings -> VRM online portal).
        access: AccessRule = word("access", &["full", "read-only", "off", "vrm"]).flag("ACCESS").or("\"full\"");
    }
    in BROKER_SECTION by_hand {
        /// What is published there: topic filters without N/<portal id>/ in front, with + and # as in MQTT
        ///
        /// A value is published, and may be read or written, if a filter of -allow matches it and none of -deny
        /// does. Upper and lower case differ, as in topics.
        = filters("publish-allow").or("[\"#\"]");
        /// Exceptions: what is not published
        = filters("publish-deny").or("[]");
        /// What its clients may read
        = filters("read-allow").or("[\"#\"]");
        /// Exceptions: what they may not read
        = filters("read-deny").or("[]");
        /// What its clients may write
        = filters("write-allow").or("[\"#\"]");
        /// Exceptions: what they may not write
        = filters("write-deny").or("[]");
        /// With MQTT 5: where clients may have answers to their requests sent, as filters of whole topics
        ///
        /// Topics of requests, of notifications and of Home Assistant's discovery are never taken.
        = filters("response-allow").or("[\"#\"]");
        /// The most levels a topic may have, for a broker that does not take all topics
        ///
        /// See its documentation. A longer topic is left out; the levels and bytes of N/<portal id>/ and the
        /// prefix count. AWS IoT takes 8 levels and 256 bytes.
        = number("topic-levels-max").within(5, U32_MAX).example("8");
        /// The most bytes a topic may have
        = number("topic-bytes-max").within(64, U32_MAX).example("256");
        /// Characters that the broker does not take in topics: each becomes _, or what is given
        ///
        /// NATS takes no space, * and >. With others in their place: topic-replace = { " " = "_", "." = "-" }
        = characters("topic-replace").example("\" *>\"");
    }
    in ENCRYPTION by_hand {
        /// CA certificate of the broker (PEM); with any of these settings the connection is encrypted
        ///
        /// On port 8883 unless the address has one. Without a CA certificate those of the system are used.
        = file("mqtt-certificate").flag("CA.pem").short('c').example("\"/data/conf/ca.pem\"").per_portal();
        /// Client certificate, if the broker wants one (PEM)
        = file("mqtt-client-certificate").flag("FILE").example("\"/data/conf/client.pem\"").per_portal();
        /// Key of the client certificate (PEM)
        = file("mqtt-client-key").flag("FILE").without("in the file of the certificate").example("\"/data/conf/client-key.pem\"").per_portal();
        /// Name that the broker's certificate must have
        = text("mqtt-server-name").flag("NAME").without("the broker's host").example("\"broker.example.com\"");
        /// Protocol name that TLS offers (ALPN), for a broker that serves several protocols on one port
        ///
        /// AWS IoT Core wants x-amzn-mqtt-ca on port 443. An empty name offers none.
        = text("alpn").flag("NAME").without("nothing").example("\"x-amzn-mqtt-ca\"");
    }
    in FLOW {
        /// For how many seconds values keep coming after a client asked for them; 0 is always
        ///
        /// With 0 values always flow.
        keep_alive: Option<Duration> = seconds("keep-alive").flag("SECONDS").short('k').or("60").reload();
    }
    in HOME_ASSISTANT by_hand {
        /// Set up all devices and values in Home Assistant
        ///
        /// They show up there by themselves; its MQTT integration must use the same broker. Values flow all the
        /// time then, whatever keep-alive says. Without this setting Home Assistant is left alone; false removes
        /// what an earlier run has set up there.
        = switch("home-assistant").without("leave it alone").example("true");
        /// What Home Assistant's discovery topics begin with: the discovery prefix of its MQTT integration
        = text("home-assistant-prefix").flag("PREFIX").or("\"homeassistant\"");
        /// For how many seconds Home Assistant keeps a device that is gone; 0 removes it at once
        ///
        /// It may only be asleep. Removing it also removes what was made of it in Home Assistant. 4294967295 keeps it
        /// without limit.
        = seconds("home-assistant-keep").flag("SECONDS").or("86400");
    }
}

impl BrokerConfig {
    /// The same broker at each of its addresses, as the settings have them.
    pub fn at_each(&self) -> Vec<BrokerConfig> {
        let others = self.others.iter().map(|other| self.at(other));
        std::iter::once(self.clone()).chain(others).collect()
    }

    /// The same broker where it sends us: `host` or `host:port`, the first of several that can be one
    /// [MQTT-4.11]. What carries MQTT stays, so that what is encrypted remains so, and the port where none is
    /// said.
    pub fn referred(&self, reference: &str) -> Option<BrokerConfig> {
        let texts = reference.split_whitespace();
        let mut texts = texts.filter(|text| !text.contains("://"));
        let server = texts.find_map(|text| Server::parse(text).ok())?;
        Some(self.at(&Address {
            host: server.host,
            port: server.port.unwrap_or(self.port),
            transport: self.transport.clone(),
        }))
    }

    /// The same broker at another address.
    fn at(&self, address: &Address) -> BrokerConfig {
        let Address {
            host,
            port,
            transport,
        } = address.clone();
        BrokerConfig {
            host,
            port,
            transport,
            ..self.clone()
        }
    }

    /// Its addresses as the settings have them.
    pub(in crate::config) fn urls(&self) -> String {
        let url = |broker: &BrokerConfig| {
            let (scheme, path) = (broker.transport.scheme(), broker.transport.path());
            format!("{scheme}://{}{path}", broker.address())
        };
        let urls: Vec<String> = self.at_each().iter().map(url).collect();
        urls.join(",")
    }

    /// `host:port` as people write it, an IPv6 address in brackets.
    pub fn address(&self) -> String {
        let BrokerConfig { host, port, .. } = self;
        if host.contains(':') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        }
    }
}

const BROKER_SECTION: &str = "MQTT broker";
const ENCRYPTION: &str = "Encryption";
const HOME_ASSISTANT: &str = "Home Assistant";
const FLOW: &str = "Flow of values";
/// The kinds of broker that `engine` knows. The settings of each are in `config/engines.rs`.
pub const ENGINES: &[&str] = &[
    "rabbitmq",
    "nats",
    "aws-iot",
    "event-grid",
    "emqx-serverless",
];
