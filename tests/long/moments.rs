//! SIGTERM at any moment: while it starts, scans, publishes, waits for either side, or ends already.
//! It ends with status 0 and in time, and leaves nothing that it should take back.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::bridge::Bridge;
use crate::support::load::Load;
use crate::support::rig::{OFFLINE, Rig, n, wait_one_retained};
use crate::support::service::{battery, vebus};
use crate::support::wire::V;

/// Moments by chance, and always the same ones.
struct Moments(u64);

impl Moments {
    fn below(&mut self, end: Duration) -> Duration {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        end.mul_f64(f64::from(u32::try_from(self.0 >> 33).unwrap()) / f64::from(1_u32 << 31))
    }
}

/// §4.9 allows it 5 s, and a second to close the connection.
const END: Duration = Duration::from_secs(9);

fn assert_ends(bridge: &mut Bridge, what: &str) {
    let start = Instant::now();
    bridge.signal(Signal::TERM);
    let status = bridge.wait_exit(crate::support::PATIENCE);
    let took = start.elapsed();
    // Before it has anything to take back it may be ended by the signal itself.
    let unborn = status.signal() == Some(15) && bridge.log().is_empty();
    assert!(status.code() == Some(0) || unborn, "{what}: {status}");
    assert!(took < END, "{what}: {took:?} to end");
    assert!(bridge.log_with(&["panicked"]).is_empty(), "{what}");
}

#[test]
fn sigterm_at_any_moment_of_the_start() {
    // Forty moments, from before its first line to after all is published.
    let Some(rig) = Rig::start() else { return };
    let mut service = battery();
    for item in 0..2_000 {
        service = service.item(&format!("/Some/{item}"), V::I(item));
    }
    let _peers = [rig.bus.serve(service), rig.bus.serve(vebus())];
    let mut moments = Moments(1);
    for number in 0..40 {
        let moment = moments.below(Duration::from_millis(150));
        let mut bridge = Bridge::spawn(&rig.args("--retain true --keep-alive 0"));
        std::thread::sleep(moment);
        assert_ends(
            &mut bridge,
            &format!("number {number}, {moment:?} after the start"),
        );
        rig.wait_retained(&format!("{moment:?} after the start"), &BTreeMap::new());
    }
    wait_one_retained(&rig.broker, &n("bridge/status"), Some(OFFLINE));
}

#[test]
fn sigterm_at_any_moment_of_an_outage() {
    // Bus or broker go, stand still or come back around the same time, under load.
    let mut moments = Moments(2);
    for fault in 0..8 {
        let Some(mut rig) = Rig::start() else { return };
        let _battery = rig.bus.serve(battery());
        let mut bridge = rig.bridge("--retain true --keep-alive 0 --ping 2");
        let load = Load::start(&rig.bus);
        std::thread::sleep(moments.below(Duration::from_millis(300)));
        let mut retained = true;
        match fault {
            0 | 1 => {
                rig.broker.kill();
                retained = false;
            }
            2 | 3 => rig.bus.kill(),
            4 => rig.bus.pause(),
            5 => {
                rig.broker.pause();
                retained = false;
            }
            // It comes back and goes within the time that a reconnect takes.
            6 => {
                rig.broker.kill();
                rig.broker.restart();
                retained = false;
            }
            _ => {
                rig.bus.kill();
                rig.bus.restart();
            }
        }
        std::thread::sleep(moments.below(Duration::from_millis(2_500)));
        assert_ends(&mut bridge, &format!("fault {fault}"));
        if fault == 4 {
            rig.bus.resume();
        }
        if retained || fault == 6 {
            rig.wait_retained(&format!("after fault {fault}"), &BTreeMap::new());
        }
        drop(load);
    }
}

#[test]
fn a_second_sigterm_ends_it_at_once() {
    // Even while a broker that stands still is being waited for.
    let Some(rig) = Rig::start() else { return };
    let _battery = rig.bus.serve(battery());
    let mut bridge = rig.bridge("--retain true --keep-alive 0");
    rig.wait_retained("at first", &battery().topics(258));
    rig.broker.pause();
    bridge.signal(Signal::TERM);
    bridge.wait_log(&["a second signal stops at once"]);
    let start = Instant::now();
    bridge.signal(Signal::TERM);
    let status = bridge.wait_exit(crate::support::PATIENCE);
    assert!(
        start.elapsed() < Duration::from_secs(4),
        "{:?}",
        start.elapsed()
    );
    assert!(matches!(status.code(), Some(0 | 143)), "{status}");
}
