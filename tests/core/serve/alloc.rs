//! An update costs no allocation, however many clients there are; and an idle client little.

use std::time::Duration;

use allocation_counter::measure;

use super::bench::*;

#[test]
fn an_update_for_fifty_clients_allocates_nothing() {
    let mut bench = Bench::new();
    for slot in 10..300 {
        bench.item(slot, &format!("battery/1/Cell/{slot}/Voltage"), "3.3");
    }
    for number in 0..50_u8 {
        let client = bench.client(&format!("c{number}"), [3, 4, 5][usize::from(number % 3)]);
        let options = if number % 6 == 5 { 8 } else { 0 };
        bench.subscribe(client, "N/#", options);
    }
    let mut bytes = 0;
    let mut round = |bench: &mut Bench, round: u32| {
        bench.now = bench.now.later(Duration::from_millis(100));
        for word in 0..8 {
            bench.server.mark(word, round.wrapping_mul(0x9e37_79b9) | 2);
        }
        bench.server.advance(bench.now);
        while let Some(id) = bench.server.poll_ready() {
            let written = bench.server.write(bench.now, id, &bench.cache, |batch| {
                bytes += batch.len();
                Ok(batch.len())
            });
            assert!(written);
        }
    };
    // Buffers grow; and a heartbeat is not an update.
    for number in 0..40 {
        round(&mut bench, number);
    }
    bench.now = bench.now.later(Duration::from_secs(3));
    round(&mut bench, 0);
    let counted = measure(|| {
        for number in 0..20 {
            round(&mut bench, number);
        }
    });
    assert_eq!(counted.count_total, 0);
    assert!(bytes > 100_000);
}

#[test]
fn two_hundred_and_fifty_idle_clients_cost_less_than_2_mb() {
    let mut bench = Bench::new();
    for slot in 10..3_000 {
        bench.item(slot, &format!("battery/1/Cell/{slot}/Voltage"), "3.3");
    }
    bench.pass(1_000);
    let counted = measure(|| {
        for number in 0..250 {
            let client = bench.client(&format!("c{number}"), 4 + number % 2);
            bench.send(client, &subscribe(number % 2 == 1, 1, &[("N/#", 0)]));
            // What the test has got of it is not the server's.
            *bench.clients.get_mut(&client.0).unwrap() = Socket::default();
            bench.pass(10);
        }
    });
    let each = counted.bytes_current / 250;
    println!("{each} bytes each");
    assert!(each < 6 * 1024, "{each} bytes each");
}
