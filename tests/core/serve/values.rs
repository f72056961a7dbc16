//! Values: the latest always arrives, each waits once, no client delays another (§9.9, §9.11, §9.12).

use super::bench::*;
use dbus_mqtt::serve::{DirectoryChange, Slot};

fn all() -> String {
    format!("N/{PORTAL}/battery/#")
}

#[test]
fn s9_9_a_subscription_keeps_values_coming() {
    let mut bench = Bench::new();
    let client = bench.client("c", 4);
    bench.subscribe(client, &all(), 0);
    for _ in 0..100 {
        bench.pass(40_000);
        bench.send(client, PING);
        bench.set(1, "51");
        bench.pass(1_000);
        let got = bench.get(client);
        assert_eq!(got, ["PINGRESP", r#"N/P/battery/0/Soc {"value": 51}"#]);
    }
}

#[test]
fn s9_11_a_slow_client_gets_the_latest_value_of_each_item_once() {
    let mut bench = Bench::new();
    let (slow, other) = (bench.client("slow", 4), bench.client("other", 4));
    bench.subscribe(slow, &all(), 0);
    bench.subscribe(other, &all(), 0);
    bench.open(slow, Some(10));
    for value in 0..200 {
        bench.set(1, &value.to_string());
        bench.set(2, &value.to_string());
        bench.pass(10);
    }
    assert_eq!(bench.get(other).len(), 400, "the other is not delayed");
    bench.open(slow, None);
    let got = bench.get(slow);
    // What was begun when it stopped, then the latest of each.
    assert_eq!(
        got,
        [
            r#"N/P/battery/0/Soc {"value": 0}"#,
            r#"N/P/battery/0/Dc/0/Voltage {"value": 0}"#,
            r#"N/P/battery/0/Soc {"value": 199}"#,
            r#"N/P/battery/0/Dc/0/Voltage {"value": 199}"#,
        ]
    );
}

#[test]
fn s9_11_a_client_that_does_not_read_costs_64_kib() {
    let mut bench = Bench::new();
    for slot in 10..5_000 {
        bench.item(slot, &format!("battery/1/Cell/{slot}/Voltage"), "3.3");
    }
    bench.pass(100);
    let client = bench.client("c", 4);
    bench.open(client, Some(0));
    bench.send(client, &subscribe(false, 1, &[("#", 0)]));
    for round in 0..20 {
        for slot in 10..5_000 {
            bench.set(slot, &round.to_string());
        }
        bench.pass(10);
    }
    assert!(bench.server.held_bytes(client.0) <= 80 * 1024);
    bench.open(client, None);
    let got = bench.get(client);
    assert!(got.len() < 10_500, "{}", got.len());
    assert_eq!(bench.get(client), Vec::<String>::new());
    let latest = r#"N/P/battery/1/Cell/4999/Voltage {"value": 19}"#;
    let last = got
        .iter()
        .rev()
        .find(|line| line.contains("/4999/"))
        .unwrap();
    assert_eq!(last.trim_start_matches("retain "), latest);
}

#[test]
fn s9_12_values_are_gathered() {
    let mut bench = Bench::with(|settings| settings.gather = std::time::Duration::from_millis(50));
    let client = bench.client("c", 4);
    bench.subscribe(client, &all(), 0);
    bench.pass(1_000);
    bench.get(client);
    let writes = |bench: &Bench| bench.clients[&client.0].writes;
    let before = writes(&bench);
    for value in 0..100 {
        bench.set(1, &value.to_string());
        bench.set(2, &value.to_string());
        bench.pass(1);
    }
    bench.pass(100);
    assert!(
        (2..=4).contains(&(writes(&bench) - before)),
        "{}",
        writes(&bench) - before
    );
    assert!(bench.get(client).last().unwrap().contains("99"));
    // Acknowledgements are not held back.
    bench.set(1, "1");
    bench.send(client, PING);
    assert_eq!(bench.get(client)[0], "PINGRESP");
}

#[test]
fn s9_12_many_clients_share_the_writes_of_a_second() {
    let mut bench = Bench::with(|settings| settings.client_writes_max = 100);
    let clients: Vec<Client> = (0..20)
        .map(|number| bench.client(&format!("c{number}"), 4 + number % 2))
        .collect();
    for client in &clients {
        bench.subscribe(*client, &all(), 0);
    }
    bench.pass(5_000);
    let writes = |bench: &Bench| {
        bench
            .clients
            .values()
            .map(|socket| socket.writes)
            .sum::<usize>()
    };
    let before = writes(&bench);
    for value in 0..2_000 {
        bench.set(1, &value.to_string());
        bench.pass(1);
    }
    bench.pass(1_000);
    let found = writes(&bench) - before;
    assert!((180..=260).contains(&found), "{found} writes in 2 s");
    for client in clients {
        assert!(bench.get(client).last().unwrap().contains("1999"));
    }
}

#[test]
fn s4_6_an_item_that_goes_is_cleared_for_all_the_slow_ones_too() {
    let mut bench = Bench::new();
    let (slow, other) = (bench.client("slow", 4), bench.client("other", 5));
    for client in [slow, other] {
        bench.subscribe(client, &all(), 0);
    }
    bench.open(slow, Some(0));
    bench.set(1, "51");
    bench.pass(100);
    bench
        .server
        .directory(bench.now, DirectoryChange::Gone { slot: Slot(1) });
    bench.cache.0.remove(&1);
    // Its slot goes to another one, then its topic comes back in another slot.
    bench.item(1, "tank/0/Level", "1");
    bench.pass(100);
    bench.item(7, "battery/0/Soc", "99");
    bench.pass(100);
    assert_eq!(
        bench.get(other),
        [
            r#"N/P/battery/0/Soc {"value": 51}"#,
            "N/P/battery/0/Soc ",
            r#"N/P/battery/0/Soc {"value": 99}"#
        ]
    );
    // To the slow one the latest counts: it never went, as it has not seen it go.
    bench.open(slow, None);
    assert_eq!(
        bench.get(slow),
        [
            r#"N/P/battery/0/Soc {"value": 51}"#,
            r#"N/P/battery/0/Soc {"value": 99}"#
        ]
    );
    bench.open(slow, Some(0));
    bench.set(7, "100");
    bench.pass(100);
    bench
        .server
        .directory(bench.now, DirectoryChange::Gone { slot: Slot(7) });
    bench.pass(100);
    bench.open(slow, None);
    assert_eq!(
        bench.get(slow),
        [r#"N/P/battery/0/Soc {"value": 100}"#, "N/P/battery/0/Soc "]
    );
}

#[test]
fn a_directory_that_is_read_anew_clears_what_is_no_longer_there() {
    let mut bench = Bench::new();
    let client = bench.client("c", 4);
    bench.subscribe(client, &all(), 0);
    bench.server.directory(bench.now, DirectoryChange::Anew);
    bench.item(1, "battery/0/Soc", "50");
    bench.item(3, "battery/0/Serial", "\"x\"");
    bench.item(5, "battery/0/New", "1");
    bench.server.directory(bench.now, DirectoryChange::Complete);
    bench.pass(100);
    let mut got = bench.get(client);
    got.retain(|line| !line.contains("Soc") && !line.contains("Serial"));
    assert_eq!(
        got,
        [
            "N/P/battery/0/Dc/0/Voltage ",
            r#"N/P/battery/0/New {"value": 1}"#
        ]
    );
}

#[test]
fn what_a_client_of_mqtt_5_does_not_take_is_left_out() {
    let mut bench = Bench::new();
    let client = bench.socket();
    bench.greet(client, &connect_with("c", 5, 2, &[39, 0, 0, 0, 60], &[]), 5);
    let got = bench.subscribe(client, &all(), 0);
    assert_eq!(got.len(), 3);
    bench.set(1, &"1".repeat(40));
    bench.set(2, "13");
    bench.pass(100);
    assert_eq!(
        bench.get(client),
        [r#"N/P/battery/0/Dc/0/Voltage {"value": 13}"#]
    );
}

#[test]
fn clients_with_the_same_filters_get_the_same_bytes() {
    let mut bench = Bench::new();
    let clients: Vec<Client> = (0..6)
        .map(|number| bench.client(&format!("c{number}"), [3, 4, 5][number % 3]))
        .collect();
    for client in &clients {
        bench.subscribe(*client, &all(), 0);
    }
    for round in 0..50 {
        bench.set(1, &round.to_string());
        if round % 3 == 0 {
            bench.set(2, &round.to_string());
        }
        bench.pass(10);
        for client in &clients {
            let got = bench.get(*client);
            assert_eq!(got.len(), if round % 3 == 0 { 2 } else { 1 }, "{got:?}");
            assert!(
                got.iter()
                    .all(|line| line.ends_with(&format!(" {round}}}"))),
                "{got:?}"
            );
        }
    }
}
