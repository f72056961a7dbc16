//! Services that come, change and go (§2, §4.6).

use crate::frames::wire::V;
use crate::scene::Scene;

const TANK: &str = "com.victronenergy.tank.one";

#[test]
fn s4_6_a_service_that_leaves_is_unpublished() {
    let mut scene = Scene::new();
    scene.own(
        TANK,
        ":1.5",
        &[("/DeviceInstance", V::I(4)), ("/Level", V::D(0.5))],
    );
    scene.settle();
    assert_eq!(scene.value("tank/4/Level"), Some(r#"{"value": 0.5}"#));
    scene.change(TANK, "/Level", V::D(0.75));
    scene.settle();
    assert_eq!(scene.value("tank/4/Level"), Some(r#"{"value": 0.75}"#));
    scene.leave(TANK);
    scene.settle();
    assert!(scene.topics().is_empty(), "{:?}", scene.topics());
}
