//! A wall clock that jumps, as that of a GX device does when it finds the network or loses its battery:
//! keep-alives, pings and heartbeats go by another one.
//!
//! The jump is that of one process, by a library that is compiled here and loaded before all others.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::support::bridge::Bridge;
use crate::support::client::Message;
use crate::support::in_parallel;
use crate::support::process::find;
use crate::support::rig::{Rig, n, value};
use crate::support::service::{BATTERY, battery};
use crate::support::wire::V;

const KEEP_ALIVE: Duration = Duration::from_secs(8);
const DAY_S: i64 = 24 * 3600;

/// Compiles the library that moves the clock; `None`, said aloud, where there is no compiler.
fn library(folder: &Path) -> Option<PathBuf> {
    let library = folder.join("wall_clock.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/wall_clock.c");
    let status = Command::new(find("cc")?)
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(&library)
        .arg(source)
        .status()
        .unwrap();
    assert!(status.success());
    Some(library)
}

/// A bridge whose wall clock is so many seconds off as a file says.
struct Clocked {
    rig: Rig,
    bridge: Bridge,
    offset: PathBuf,
}

impl Clocked {
    fn start(library: &Path, offset: PathBuf) -> Option<Clocked> {
        let rig = Rig::start()?;
        std::fs::write(&offset, "0").unwrap();
        let args = format!("--retain true --keep-alive {}", KEEP_ALIVE.as_secs());
        let environment = [
            ("LD_PRELOAD", library.to_str().unwrap()),
            ("WALL_CLOCK", offset.to_str().unwrap()),
        ];
        let bridge = Bridge::spawn_with(&rig.args(&args), &environment);
        rig.online(0);
        Some(Clocked {
            rig,
            bridge,
            offset,
        })
    }

    /// Jumps; in one step, as seen from the bridge.
    fn jump(&self, offset_s: i64) {
        let next = self.offset.with_extension("next");
        std::fs::write(&next, offset_s.to_string()).unwrap();
        std::fs::rename(next, &self.offset).unwrap();
    }

    /// Waits for a heartbeat that says the time that it should after such a jump.
    fn heartbeat(&self, mark: usize, offset_s: i64) -> Message {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let expected = (i64::try_from(unix.as_secs()).unwrap() + offset_s).max(0);
        let (_, message) = self.rig.client.wait(mark, "a heartbeat of that time", |m| {
            let said = m.text().trim_start_matches("{\"value\": ");
            let said = said.trim_end_matches('}').parse::<i64>();
            m.topic == n("heartbeat") && said.is_ok_and(|said| (said - expected).abs() < 120)
        });
        message
    }
}

#[test]
fn s5_1_a_wall_clock_that_jumps_does_not_touch_the_keep_alive() {
    // Forward by a year, back by a year, and to before there was time: values flow, the heart beats in
    // its rhythm, the connection stands, and the interest ends when it should, neither sooner nor later.
    let folder = tempfile::tempdir().unwrap();
    let Some(library) = library(folder.path()) else {
        return;
    };
    let jumps = [
        ("forward", 400 * DAY_S),
        ("back", -400 * DAY_S),
        ("far", -40_000 * DAY_S),
    ];
    in_parallel(&jumps, |(name, offset_s)| {
        let Some(clocked) = Clocked::start(&library, folder.path().join(name)) else {
            return;
        };
        let rig = &clocked.rig;
        let peer = rig.bus.serve(battery());
        rig.bus.fence(&[&peer]);
        let mark = rig.wake();
        clocked.heartbeat(mark, 0);

        let mark = rig.wake();
        clocked.jump(*offset_s);
        let first = clocked.heartbeat(mark, *offset_s);
        peer.update(BATTERY, "/Soc", V::D(1.0));
        rig.client
            .expect(mark, &n("battery/258/Soc"), &value("1.0"));
        assert!(
            rig.emptied(mark).is_empty(),
            "{name}: {:?}",
            rig.emptied(mark)
        );

        // From here on nobody asks.
        let mark = rig.wake();
        let asked = Instant::now();
        let second = clocked.heartbeat(mark, *offset_s);
        let beat = second.at - first.at;
        assert!(
            beat > Duration::from_secs(2),
            "{name}: {beat:?} between two heartbeats"
        );
        rig.wait_retained("nobody asks", &BTreeMap::new());
        let lasted = asked.elapsed();
        assert!(
            lasted + Duration::from_secs(1) > KEEP_ALIVE,
            "{name}: {lasted:?}"
        );

        // And back: the jump of a device that learns the time after all.
        clocked.jump(0);
        let mark = rig.wake();
        clocked.heartbeat(mark, 0);
        rig.wait_retained("awake", &battery().item("/Soc", V::D(1.0)).topics(258));
        assert_eq!(
            clocked.bridge.log_with(&["trying again"]),
            Vec::<String>::new()
        );
    });
}
