//! §8, VRM: registration at a real HTTPS server, and the broker behind it.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex};

use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::support::PATIENCE;
use crate::support::bridge::Bridge;
use crate::support::broker::Broker;
use crate::support::bus::Bus;
use crate::support::certificates::Authority;
use crate::support::rig::{ONLINE, PORTAL, n, value};
use crate::support::service::{Service, battery};
use crate::support::wire::V;

const PASSWORD: &str = "0123456789abcdef0123456789abcdef";

/// How the server treats a request.
#[derive(Clone, Debug)]
enum Manner {
    Answer(&'static str),
    /// Takes the request and says nothing.
    Mute,
    /// Closes before the handshake.
    Close,
}

/// An HTTPS server with a CA of its own.
struct Web {
    authority: Authority,
    folder: tempfile::TempDir,
    port: u16,
    state: Arc<(Mutex<State>, Condvar)>,
}

#[derive(Default)]
struct State {
    /// How the next are treated; the last of them holds for all that follow.
    manners: VecDeque<Manner>,
    requests: Vec<String>,
    /// Connections whose request was not understood, or that brought none.
    failed: usize,
}

impl Web {
    fn start(manners: &[Manner]) -> Web {
        let authority = Authority::new("the CA of VRM");
        let server = authority.server(&["127.0.0.1"]);
        let private = PrivatePkcs8KeyDer::from(server.key.clone());
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(
                vec![CertificateDer::from(server.certificate.clone())],
                PrivateKeyDer::from(private),
            )
            .unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state: Arc<(Mutex<State>, Condvar)> = Arc::default();
        state.0.lock().unwrap().manners = manners.iter().cloned().collect();
        let (theirs, config) = (Arc::clone(&state), Arc::new(config));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (state, config) = (Arc::clone(&theirs), Arc::clone(&config));
                std::thread::spawn(move || serve(stream.unwrap(), config, &state));
            }
        });
        Web {
            authority,
            folder,
            port,
            state,
        }
    }

    fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Waits until this many requests have come.
    fn wait(&self, count: usize) -> Vec<String> {
        self.wait_for(|state| (state.requests.len() >= count).then(|| state.requests.clone()))
    }

    fn wait_for<T>(&self, look: impl Fn(&State) -> Option<T>) -> T {
        let (state, changed) = &*self.state;
        let mut state = state.lock().unwrap();
        loop {
            if let Some(found) = look(&state) {
                return found;
            }
            let (next, waited) = changed.wait_timeout(state, PATIENCE).unwrap();
            assert!(!waited.timed_out(), "{:?}", next.requests);
            state = next;
        }
    }

    fn requests(&self) -> usize {
        self.state.0.lock().unwrap().requests.len()
    }
}

fn serve(stream: TcpStream, config: Arc<ServerConfig>, state: &(Mutex<State>, Condvar)) {
    let manner = {
        let mut state = state.0.lock().unwrap();
        let next = state.manners.front().cloned().unwrap();
        if state.manners.len() > 1 {
            state.manners.pop_front();
        }
        next
    };
    let fail = || {
        state.0.lock().unwrap().failed += 1;
        state.1.notify_all();
    };
    if matches!(manner, Manner::Close) {
        drop(stream);
        return fail();
    }
    let mut stream = StreamOwned::new(ServerConnection::new(config).unwrap(), stream);
    let mut text = String::new();
    let mut chunk = [0; 4096];
    let whole = |text: &str| {
        let (head, body) = text.split_once("\r\n\r\n")?;
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("Content-Length: "))?;
        (body.len() == length.parse::<usize>().unwrap()).then_some(())
    };
    while whole(&text).is_none() {
        match stream.read(&mut chunk) {
            Ok(read) if read > 0 => text.push_str(std::str::from_utf8(&chunk[..read]).unwrap()),
            _ => return fail(),
        }
    }
    if let Manner::Answer(answer) = manner {
        let _ = stream.write_all(answer.as_bytes());
        stream.conn.send_close_notify();
        let _ = stream.flush();
    }
    state.0.lock().unwrap().requests.push(text);
    state.1.notify_all();
    if matches!(manner, Manner::Mute) {
        // Until the other end gives up.
        let _ = stream.read(&mut chunk);
    }
}

const OK: Manner = Manner::Answer("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
const FORBIDDEN: Manner = Manner::Answer("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");

/// A bus with a device that allows VRM everything, a broker on the LAN, and a bridge that registers.
struct Scene {
    bridge: Bridge,
    broker: Broker,
    _peers: Vec<crate::support::peer::Peer>,
    _bus: Bus,
    folder: tempfile::TempDir,
}

fn scene(web: &Web, ca: &str, access: i32, uplink: u16) -> Option<Scene> {
    let (bus, broker) = (Bus::start()?, Broker::start()?);
    let portal = Service::new("com.victronenergy.settings")
        .item("/Settings/Network/VrmPortal", V::I(access));
    let peers = vec![bus.serve(battery()), bus.serve(portal)];
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(path("password"), PASSWORD).unwrap();
    std::fs::set_permissions(path("password"), std::fs::Permissions::from_mode(0o600)).unwrap();
    let settings = format!(
        "dbus = '{}'\nportal-id = '{PORTAL}'\ninit-broker = true\n\
         [[broker]]\nserver = '127.0.0.1:{}'\nkeep-alive = 0\n\
         [vrm]\nserver = '127.0.0.1:{uplink}'\ncertificate = '{ca}'\npassword-file = '{}'\n\
         register-url = 'https://127.0.0.1:{}/log/storemqttpassword.php'\n\
         register-certificate = '{ca}'\nregister-retry-s = 1\nregister-again-s = 0\n",
        bus.address(),
        broker.port,
        path("password"),
        web.port,
    );
    std::fs::write(path("settings.toml"), settings).unwrap();
    let bridge = bus.scanned_by(|| Bridge::spawn(&["--config", &path("settings.toml")]));
    Some(Scene {
        bridge,
        broker,
        _peers: peers,
        _bus: bus,
        folder,
    })
}

impl Scene {
    /// The LAN is served, whatever becomes of VRM.
    fn serves_the_lan(&self) {
        let client = self.broker.listener();
        client.expect(0, &n("bridge/status"), ONLINE);
        client.expect(0, &n("battery/258/Soc"), &value("87.5"));
    }

    fn never_showed_the_password(&self) {
        assert_eq!(self.bridge.log_with(&[PASSWORD]), Vec::<String>::new());
    }
}

fn ca(web: &Web) -> String {
    web.ca().display().to_string()
}

/// A port that nobody listens on.
fn nobody() -> u16 {
    crate::support::broker::free_port()
}

#[test]
fn s8_registration_posts_a_form() {
    let web = Web::start(&[OK]);
    let Some(scene) = scene(&web, &ca(&web), 2, nobody()) else {
        return;
    };
    let request = web.wait(1).remove(0);
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    assert!(
        head.starts_with("POST /log/storemqttpassword.php HTTP/1.1\r\n"),
        "{head}"
    );
    assert!(
        head.contains(&format!("\r\nHost: 127.0.0.1:{}\r\n", web.port)),
        "{head}"
    );
    assert!(
        head.contains("\r\nContent-Type: application/x-www-form-urlencoded\r\n"),
        "{head}"
    );
    assert_eq!(
        body,
        format!("identifier=ccgxapikey_{PORTAL}&mqttPassword={PASSWORD}")
    );
    scene.bridge.wait_log(&["registered at VRM, at 127.0.0.1"]);
    scene.serves_the_lan();
    // Registered is registered: the broker that is not there is no reason to do it again.
    scene.bridge.wait_log(&["vrm", "trying again"]);
    assert_eq!(web.requests(), 1);
    scene.never_showed_the_password();
    drop(scene.folder);
}

#[test]
fn s8_a_failed_registration_is_repeated_and_delays_nobody() {
    let web = Web::start(&[
        FORBIDDEN,
        Manner::Close,
        Manner::Answer("SSH-2.0-x\r\n"),
        OK,
    ]);
    let Some(scene) = scene(&web, &ca(&web), 2, nobody()) else {
        return;
    };
    scene.serves_the_lan();
    scene
        .bridge
        .wait_log(&["cannot register at VRM", "status 403", "again every 1 s"]);
    scene
        .bridge
        .wait_log(&["cannot register at VRM", "did not answer with HTTP"]);
    scene.bridge.wait_log(&["registered at VRM, at"]);
    assert_eq!(web.requests(), 3);
    assert_eq!(web.wait_for(|state| Some(state.failed)), 1);
    scene.never_showed_the_password();
}

#[test]
fn s8_a_server_that_says_nothing_delays_nobody() {
    let web = Web::start(&[Manner::Mute, OK]);
    let Some(scene) = scene(&web, &ca(&web), 2, nobody()) else {
        return;
    };
    web.wait(1);
    scene.serves_the_lan();
    crate::support::poll("the time-out", PATIENCE * 3, || {
        let lines = scene
            .bridge
            .log_with(&["cannot register at VRM", "no answer within 30 s"]);
        (!lines.is_empty()).then_some(())
    });
    scene.bridge.wait_log(&["registered at VRM, at"]);
}

#[test]
fn s8_the_server_must_be_vouched_for() {
    let (web, other) = (Web::start(&[OK]), Web::start(&[OK]));
    let Some(scene) = scene(&web, &ca(&other), 2, nobody()) else {
        return;
    };
    scene.bridge.wait_log(&["cannot register at VRM"]);
    scene.serves_the_lan();
    assert_eq!(web.requests(), 0);
}

#[test]
fn s8_a_device_that_wants_nothing_of_vrm_is_not_registered() {
    let web = Web::start(&[OK]);
    let Some(scene) = scene(&web, &ca(&web), 0, nobody()) else {
        return;
    };
    scene.serves_the_lan();
    assert_eq!(
        (web.requests(), scene.bridge.log_with(&["VRM"])),
        (0, Vec::new())
    );
}

#[test]
fn s8_registration_is_repeated_after_the_broker_was_lost() {
    let web = Web::start(&[OK]);
    let Some(mut uplink) = Broker::absent() else {
        return;
    };
    let identity = web.authority.server(&["127.0.0.1"]);
    let (certificate, key) = identity.write(uplink.folder(), "server");
    let port = uplink.listen(
        "127.0.0.1",
        &format!(
            "certfile {}\nkeyfile {}\n",
            certificate.display(),
            key.display()
        ),
    );
    uplink.restart();
    let Some(scene) = scene(&web, &ca(&web), 2, port) else {
        return;
    };
    // Registered first, then connected; the uplink has clients of its own.
    let client = uplink.listener();
    client.expect(0, &n("bridge/status"), ONLINE);
    assert_eq!(web.requests(), 1);
    assert_eq!(
        client.payloads(0, &n("battery/258/Soc")),
        Vec::<String>::new()
    );
    uplink.kill();
    scene.bridge.wait_log(&["vrm", "trying again"]);
    web.wait(2);
    uplink.restart();
    uplink.listener().expect(0, &n("bridge/status"), ONLINE);
    scene.serves_the_lan();
    scene.never_showed_the_password();
}
