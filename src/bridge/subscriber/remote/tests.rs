#![allow(clippy::disallowed_methods)] // any moment will do

use super::*;
use crate::bridge::bus::registry::Registry;
use crate::bridge::store::items::ServiceId;
use crate::bridge::store::items::topics::LOOKS;
use crate::model::access::AccessRule;
use crate::model::filter::{Filter, Lists};
use crate::model::name::{DeviceInstance, ServiceName};
use crate::schema::Row;

const MINUTE: Duration = Duration::from_secs(60);
const TYPES: [&str; 4] = ["battery", "solarcharger", "tank", "vebus"];
const ITEMS_EACH: u32 = 1_000;

fn outlet() -> Outlet {
    let config = OutletConfig {
        name: "broker".into(),
        retain: true,
        keep_alive: Some(MINUTE),
        filters_max: 10_000,
        prefix: "boat/".into(),
        access: AccessRule::Always(Access::Full),
        lists: Lists::default(),
        topics: crate::model::topic::TopicRules::default(),
        discovery: None,
        answers_first: false,
        throttle: Vec::new(),
        batch: None,
    };
    let mut outlet = Outlet::new(config, "N/c0619ab12345/");
    outlet.connected();
    outlet
}

/// Twenty devices, with twenty thousand items.
fn items(outlet: &mut Outlet) -> Items {
    let mut items = Items::new(0);
    for number in 0..20_u32 {
        let service_type = TYPES[number as usize % 4];
        let name =
            ServiceName::new(&format!("com.victronenergy.{service_type}.a{number}")).unwrap();
        let instance = DeviceInstance::number(number.into());
        let device = items.bind(ServiceId(number), &name, &instance).unwrap();
        for path in 0..ITEMS_EACH {
            let path = format!("/Group/{}/P{path}", path % 50);
            let (slot, _) = items.add(device, &path, Row::UNKNOWN);
            outlet.added(slot, items.device_key(device), &path);
        }
    }
    items
}

/// What any of the live filters matches is covered, and nothing else: looks at one item of so many.
fn assert_covered(outlet: &Outlet, items: &Items, of: usize) {
    let filters: Vec<&Filter> = outlet.subscriber.interest().filters().collect();
    for slot in items.all().step_by(of) {
        let item = items.get(slot).unwrap();
        let (key, path) = (items.device_key(item.device), items.path(item));
        let expected = filters.iter().any(|filter| filter.matches(key, path));
        assert_eq!(outlet.subscriber.covers(slot), expected, "{key}{path}");
    }
}

#[test]
fn s5_4_a_hundred_filters_a_second_cost_next_to_nothing() {
    let mut outlet = outlet();
    let items = items(&mut outlet);
    let start = Instant::now();
    outlet.ready(start, &items, &Registry::default().unscanned());
    let before = LOOKS.get();
    let seconds = 80;
    for step in 0..seconds * 100_u32 {
        let now = start + Duration::from_millis(10) * step;
        let service_type = TYPES[step as usize % 4];
        let filter = match step % 10 {
            0 => format!("{service_type}/{}/Group/{}/+", step % 20, step % 50),
            kind => format!("{service_type}/+/Group/{kind}/P{step}"),
        };
        // Each is new; most match nothing at all.
        let filter = if step % 20 == 0 {
            format!("{filter}/{step}/#")
        } else {
            filter
        };
        assert_eq!(
            outlet
                .renew_selective(now, vec![filter.into()], &items)
                .refused,
            0
        );
        outlet.tick(now, &items);
        while outlet.next().is_some() {}
    }
    // A filter without a path is held against the items of its devices when it comes, and when it goes.
    let looks = LOOKS.get() - before;
    let filters = seconds as usize * 100;
    assert!(
        looks <= filters / 10 * 2 * ITEMS_EACH as usize,
        "{looks} looks for {filters} filters"
    );
    assert_covered(&outlet, &items, 199);
    outlet.tick(start + 3 * MINUTE, &items);
    assert!(items.all().all(|slot| !outlet.subscriber.covers(slot)));
}

#[test]
fn s5_4_what_another_filter_matches_stays() {
    let mut outlet = outlet();
    let items = items(&mut outlet);
    let start = Instant::now();
    let texts = |all: &[&str]| all.iter().map(|text| (*text).into()).collect::<Vec<_>>();
    outlet.ready(start, &items, &Registry::default().unscanned());
    outlet.renew_selective(
        start,
        texts(&["battery/#", "+/+/Group/7/+", "tank/2/Group/7/P7"]),
        &items,
    );
    assert_covered(&outlet, &items, 1);
    outlet.renew_selective(
        start + MINUTE / 2,
        texts(&["battery/0/Group/7/#", "tank/2/Group/7/P7"]),
        &items,
    );
    outlet.tick(start + MINUTE, &items);
    assert_eq!(outlet.subscriber.interest().filters().count(), 2);
    assert_covered(&outlet, &items, 1);
    assert_eq!(
        items
            .all()
            .filter(|slot| outlet.subscriber.covers(*slot))
            .count(),
        20 + 1
    );
    // An item that comes is covered as often as filters match it, and no longer than they live.
    outlet.renew_selective(start + MINUTE, texts(&["battery/0/#"]), &items);
    let device = items.find_device("battery/0").unwrap();
    let slot = items.find(device, "/Group/7/P7").unwrap();
    outlet.released(slot);
    assert!(!outlet.subscriber.covers(slot));
    outlet.added(slot, "battery/0", "/Group/7/P7");
    outlet.tick(start + MINUTE * 3 / 2, &items);
    assert!(outlet.subscriber.covers(slot));
    assert_covered(&outlet, &items, 1);
    outlet.tick(start + 2 * MINUTE, &items);
    assert!(!outlet.subscriber.covers(slot));
}

#[test]
fn s5_4_a_filter_may_begin_with_what_topics_begin_with() {
    let mut outlet = outlet();
    let items = items(&mut outlet);
    let start = Instant::now();
    let same = [
        "tank/2/Group/7/P7",
        "/tank/2/Group/7/P7",
        "N/c0619ab12345/tank/2/Group/7/P7",
        "/N/c0619ab12345/tank/2/Group/7/P7",
    ];
    for text in same {
        let renewed = outlet.renew_selective(start, vec![text.into()], &items);
        assert!(renewed.invalid.is_empty());
        assert_eq!(outlet.subscriber.interest().filters().count(), 1, "{text}");
    }
    let other = outlet.renew_selective(start, vec!["N/another/tank/2/#".into()], &items);
    assert_eq!(other.new, [Filter::parse("N/another/tank/2/#").unwrap()]);
    outlet.renew_live(start + MINUTE / 2, &["/tank/2/Group/7/P7".into()]);
    outlet.tick(start + MINUTE, &items);
    assert_eq!(outlet.subscriber.interest().filters().count(), 1);
    assert_covered(&outlet, &items, 1);
}
