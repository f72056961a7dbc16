//! Who we are to a broker behind TLS (§6): keys in all their forms, and access control lists, which
//! deny without a word.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::bridge::Bridge;
use crate::support::broker::Broker;
use crate::support::bus::Bus;
use crate::support::certificates::{Authority, encrypted, exclusive, trusted, write};
use crate::support::process::find;
use crate::support::program::{program, run};
use crate::support::rig::{PORTAL, Rig, n, value};
use crate::support::service::battery;
use crate::support::{PATIENCE, in_parallel, poll};

/// Has `openssl` make a file in this folder.
fn openssl(folder: &Path, line: &str) {
    let status = Command::new(find("openssl").unwrap())
        .args(line.split_whitespace())
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "openssl {line}");
}

#[test]
fn s6_a_key_is_taken_in_whatever_form_openssl_wrote_it() {
    // RSA, ECDSA and Ed25519; PKCS#8 and the older forms of each; with what stands beside it, and with
    // the line ends of Windows. And each form of an encrypted key is told apart.
    if find("openssl").is_none() {
        return;
    }
    let (Some(mut broker), Some(bus)) = (Broker::absent(), Bus::start()) else {
        return;
    };
    let folder = broker.folder().to_owned();
    let (authority, clients) = (Authority::new("boat"), Authority::new("crew"));
    let ca = trusted(&folder, "ca.crt", &authority);
    let lines = exclusive(
        &folder,
        "closed",
        &authority.server(&["127.0.0.1"]),
        &clients,
    );
    let port = broker.listen("127.0.0.1", &lines);
    broker.restart();

    let kinds = [
        ("rsa", "-algorithm RSA -pkeyopt rsa_keygen_bits:2048"),
        ("ec", "-algorithm EC -pkeyopt ec_paramgen_curve:P-256"),
        ("ec384", "-algorithm EC -pkeyopt ec_paramgen_curve:P-384"),
        ("ed", "-algorithm ED25519"),
    ];
    for (kind, how) in kinds {
        openssl(&folder, &format!("genpkey {how} -out {kind}.pem"));
        let to_der = "pkcs8 -topk8 -nocrypt -outform DER";
        openssl(&folder, &format!("{to_der} -in {kind}.pem -out {kind}.der"));
        let key = std::fs::read(folder.join(format!("{kind}.der"))).unwrap();
        write(&folder, &format!("{kind}.crt"), &clients.client_with(&key));
    }
    let locked = "-aes128 -passout pass:secret";
    for line in [
        "rsa -traditional -in rsa.pem -out rsa.old".to_owned(),
        "ec -in ec.pem -out ec.old".to_owned(),
        format!("rsa -traditional {locked} -in rsa.pem -out rsa.locked.old"),
        format!("ec {locked} -in ec.pem -out ec.locked.old"),
        "pkcs8 -topk8 -passout pass:secret -in rsa.pem -out rsa.locked".to_owned(),
        "pkcs8 -topk8 -passout pass:secret -in ed.pem -out ed.locked".to_owned(),
        "ecparam -name prime256v1 -out ec.parameters".to_owned(),
    ] {
        openssl(&folder, &line);
    }
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    // The forms are what their names say.
    for (name, section) in [
        ("rsa.pem", "BEGIN PRIVATE KEY"),
        ("rsa.old", "BEGIN RSA PRIVATE KEY"),
        ("ec.old", "BEGIN EC PRIVATE KEY"),
        ("rsa.locked", "BEGIN ENCRYPTED PRIVATE KEY"),
        ("rsa.locked.old", "Proc-Type: 4,ENCRYPTED"),
        ("ec.locked.old", "Proc-Type: 4,ENCRYPTED"),
    ] {
        assert!(read(name).contains(section), "{name}");
    }
    write(
        &folder,
        "ec.with",
        &(read("ec.parameters") + &read("ec.old")),
    );
    write(&folder, "rsa.dos", &read("rsa.old").replace('\n', "\r\n"));

    let taken = ": connected";
    let refused = "the key in it is encrypted: keep it without a password";
    let cases = [
        ("rsa", "rsa.pem", taken),
        ("rsa", "rsa.old", taken),
        ("rsa", "rsa.dos", taken),
        ("ec", "ec.pem", taken),
        ("ec", "ec.old", taken),
        ("ec", "ec.with", taken),
        ("ec384", "ec384.pem", taken),
        ("ed", "ed.pem", taken),
        ("rsa", "rsa.locked", refused),
        ("rsa", "rsa.locked.old", refused),
        ("ec", "ec.locked.old", refused),
        ("ed", "ed.locked", refused),
    ];
    in_parallel(&cases, |(certificate, key, says)| {
        let (address, server) = (bus.address(), format!("mqtts://127.0.0.1:{port}"));
        let portal = key.replace('.', "");
        let certificate = folder.join(format!("{certificate}.crt"));
        let bridge = Bridge::spawn(&[
            "--dbus",
            &address,
            "-q",
            &server,
            "-c",
            &ca,
            "--portal-id",
            &portal,
            "--mqtt-client-certificate",
            &certificate.display().to_string(),
            "--mqtt-client-key",
            &folder.join(key).display().to_string(),
        ]);
        let line = bridge.wait_log(&[says]);
        assert!(*says == taken || line.contains(key), "{line}");
        assert!(bridge.log_with(&["secret"]).is_empty());
    });
}

const DENIED: &str = "our own status is not echoed; check the broker's access control list for N/";

const RESERVED: &str = "another program publishes N/";

const CLOSED: &str = "the broker closed the connection when we began to publish; check its access control list for N/";

/// A broker with a list of what the bridge may, behind TLS with a password; gives what a bridge needs.
fn restricted(list: &str, queue: usize) -> Option<(Rig, String)> {
    let mut broker = Broker::absent()?.with_login("venus", "s3cret")?;
    broker.add_login("bridge", "br1dge");
    let folder = broker.folder().to_owned();
    let authority = Authority::new("boat");
    let ca = trusted(&folder, "ca.crt", &authority);
    let all = format!("user venus\ntopic readwrite #\nuser bridge\n{list}");
    let file = write(&folder, "acl", &all);
    let lines = encrypted(&folder, "server", &authority.server(&["127.0.0.1"]));
    let limit = format!("max_queued_messages {queue}\n");
    let more = format!("{lines}acl_file {}\n{limit}", file.display());
    let port = broker.listen("127.0.0.1", &more);
    broker.restart();
    let login =
        format!("-u bridge --mqtt-password br1dge --keep-alive 0 -q 127.0.0.1:{port} -c {ca}");
    Some((Rig::with(broker)?, login))
}

#[test]
fn s6_a_list_that_grants_what_is_needed_is_enough() {
    // As docs/brokers.md has it; in both versions, without a complaint.
    in_parallel(&["3", "5"], |version| {
        let list = format!(
            "topic readwrite N/{PORTAL}/#\ntopic read R/{PORTAL}/#\ntopic read W/{PORTAL}/#\n"
        );
        let Some((rig, login)) = restricted(&list, 1000) else {
            return;
        };
        let peer = rig.bus.serve(battery());
        let bridge = rig.bridge(&format!("{login} --mqtt-version {version}"));
        rig.wait_retained("with a list", &battery().topics(258));
        rig.fence_by_read("battery/258/Soc");
        drop(peer);
        rig.wait_retained("without the service", &BTreeMap::new());
        assert!(bridge.log_with(&["access control"]).is_empty());
    });
}

#[test]
fn s6_a_broker_that_drops_what_we_publish_is_noticed() {
    // mosquitto takes a message of QoS 0 that its list forbids, and says nothing in either version.
    in_parallel(&["3", "5"], |version| {
        let list = "topic read N/#\ntopic read R/#\ntopic read W/#\n";
        let Some((rig, login)) = restricted(list, 1000) else {
            return;
        };
        let _battery = rig.bus.serve(battery());
        let args = rig.args(&format!("{login} --mqtt-version {version}"));
        let mut bridge = Bridge::spawn(&args);
        let line = bridge.wait_log(&[DENIED]);
        assert!(line.contains("WARN broker 127.0.0.1:"), "{line}");
        rig.wait_retained("denied", &BTreeMap::new());
        // Once, and the connection stands: a list that is mended needs no restart of ours.
        bridge.terminate();
        assert_eq!(bridge.log_with(&[DENIED]).len(), 1);
        assert_eq!(bridge.log_with(&[": connected"]).len(), 1);
    });
}

#[test]
fn s6_the_broker_of_a_gx_device_itself_is_recognised_and_a_prefix_helps() {
    // It takes N/ from its own plugin alone, and says nothing to others: dbus-flashmq 10 and later.
    in_parallel(&["3", "5"], |version| {
        let list =
            "topic read N/#\ntopic readwrite R/#\ntopic readwrite W/#\ntopic readwrite venus/#\n";
        let Some((rig, login)) = restricted(list, 1000) else {
            return;
        };
        rig.client
            .publish_retained(&n("system/0/Serial"), value(&format!("{PORTAL:?}")));
        let _battery = rig.bus.serve(battery());
        let login = format!("{login} --mqtt-version {version}");
        let mut bridge = Bridge::spawn(&rig.args(&login));
        let line = bridge.wait_log(&[RESERVED]);
        assert!(line.contains("`mqtt-prefix = \"venus/\"`"), "{line}");
        let mut args = vec!["doctor".to_owned()];
        args.extend(rig.args(&format!("{login} --timeout 3")));
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let said = run(&mut program(rig.broker.port, &args));
        let found = said.out.lines().find(|line| line.contains(RESERVED));
        let found = found.unwrap_or_else(|| panic!("{}", said.out));
        assert!(found.starts_with("FAULT  rights"), "{found}");
        assert!(found.contains("mqtt-prefix = \"venus/\""), "{found}");
        // Its values are its own: nothing of them is corrected.
        rig.client
            .publish_retained(&n("battery/258/Soc"), value("1"));
        rig.client.fence();
        bridge.terminate();
        assert_eq!(bridge.log_with(&[RESERVED]).len(), 1);
        assert!(bridge.log_with(&["corrected"]).is_empty());

        let beside = rig.args(&format!("{login} --mqtt-prefix venus/"));
        let bridge = Bridge::spawn(&beside);
        let topic = format!("venus/{}", n("battery/258/Soc"));
        poll("a value with the prefix", PATIENCE, || {
            (!rig.client.payloads(0, &topic).is_empty()).then_some(())
        });
        assert!(bridge.log_with(&[RESERVED]).is_empty());
    });
}

#[test]
fn s6_a_broker_that_gives_nothing_back_is_noticed_and_gets_everything() {
    // It may not be read, so that nothing stale can be found there; values go out all the same.
    in_parallel(&["3", "5"], |version| {
        let list = "topic write N/#\n";
        let Some((rig, login)) = restricted(list, 1000) else {
            return;
        };
        let _battery = rig.bus.serve(battery());
        let bridge = rig.bridge(&format!("{login} --mqtt-version {version}"));
        bridge.wait_log(&[DENIED]);
        rig.wait_retained("unread", &battery().topics(258));
    });
}

#[test]
fn s6_a_broker_that_closes_on_what_it_denies_is_told_apart() {
    // As several do; mosquitto 2.0.11 does where its queue has no limit. Not in a busy loop.
    in_parallel(&["3", "5"], |version| {
        let list = "topic read N/#\ntopic read R/#\ntopic read W/#\n";
        let Some((rig, login)) = restricted(list, 0) else {
            return;
        };
        let args = rig.args(&format!("{login} --mqtt-version {version}"));
        let mut bridge = Bridge::spawn(&args);
        bridge.wait_log(&[CLOSED]);
        std::thread::sleep(Duration::from_secs(3)); // the rate is what is tested
        let attempts = bridge.log_with(&[": connected"]).len();
        assert!(attempts <= 5, "{attempts} attempts in some seconds");
        bridge.assert_alive();
    });
}
