//! §2.9 on a bus with the limits that dbus-daemon has by default: services that answer nothing stop
//! no other.

use crate::support::rig::{Rig, n, r, value, w};
use crate::support::service::{Reply, Service, battery, vebus};
use crate::support::wire::V;

#[test]
fn s2_9_a_service_that_hangs_stops_no_write_and_no_scan() {
    let Some(rig) = Rig::start() else { return };
    let hung = rig.bus.serve(battery());
    let inverter = rig.bus.serve(vebus());
    let bridge = rig.bridge("--retain true --keep-alive 0");
    hung.on(|_| Reply::Later);
    // More than the 128 replies that a connection may wait for.
    for _ in 0..135 {
        rig.client.publish(&r("battery/258/Soc"), "");
    }
    // Read calls give up after 5 s, and the bus goes on counting them.
    bridge.wait_log(&["battery", "does not answer its calls"]);
    let asked = hung.calls().len();
    for number in 0..135 {
        rig.client.publish(&r("battery/258/Soc"), "");
        rig.client
            .publish(&w("battery/258/Soc"), value(&number.to_string()));
    }
    let mark = rig.client.mark();
    rig.client.publish(&w("vebus/257/Mode"), value("2"));
    rig.client.expect(mark, &n("vebus/257/Mode"), &value("2"));
    assert_eq!(inverter.writes("/Mode"), [V::U(2)]);
    let new = Service::new("com.victronenergy.tank.new").item("/Level", V::D(0.5));
    let _new = rig.bus.serve(new);
    rig.client.expect(mark, &n("tank/0/Level"), &value("0.5"));
    let log = bridge.log().join("\n");
    assert!(!log.contains("LimitsExceeded"), "{log}");
    assert_eq!(hung.calls().len(), asked, "it is asked nothing more");
    // As soon as it answers, it is as any other.
    hung.release();
    bridge.wait_log(&["battery", "answers again"]);
    let mark = rig.client.mark();
    rig.client.publish(&w("battery/258/Soc"), value("17"));
    rig.client
        .expect(mark, &n("battery/258/Soc"), &value("17.0"));
}
