use super::*;

fn name(text: &str) -> ServiceName {
    ServiceName::new(text).unwrap()
}

/// Whatever came after an item the last time, and whatever came before.
fn in_any_order_the_right_item_is_found(items: &mut Items, a: DeviceId, b: DeviceId) {
    let mut before = None;
    for order in [1, 1, 7, 1, 11] {
        for n in 0..100 {
            for device in [a, b] {
                let path = format!("/Path/Number/{}", n * order % 1000);
                let expected = items.find(device, &path);
                let found = items.find_after(before, device, path.as_bytes());
                assert_eq!(found.map(|(slot, _)| slot), expected);
                before = expected;
            }
        }
    }
    assert!(items.find_after(before, a, b"/Path").is_none());
}

#[test]
fn items_are_found_and_come_back_in_the_same_slot() {
    let mut items = Items::new(7);
    let instance = DeviceInstance::absent();
    let a = items
        .bind(
            ServiceId(1),
            &name("com.victronenergy.battery.a"),
            &instance,
        )
        .unwrap();
    let b = items
        .bind(ServiceId(2), &name("com.victronenergy.tank.a"), &instance)
        .unwrap();
    assert_eq!(
        items.bind(ServiceId(3), &name("com.victronenergy.tank.b"), &instance),
        Err(ServiceId(2))
    );
    let mut slots = Vec::new();
    for n in 0..1000 {
        let path = format!("/Path/Number/{n}");
        slots.push((
            items.add(a, &path, Row::UNKNOWN),
            items.add(b, &path, Row::UNKNOWN),
        ));
    }
    for (n, (in_a, in_b)) in slots.iter().enumerate() {
        let path = format!("/Path/Number/{n}");
        assert_eq!(
            (items.find(a, &path), items.find(b, &path)),
            (Some(in_a.0), Some(in_b.0))
        );
    }
    assert_eq!(items.live(), 2000);
    in_any_order_the_right_item_is_found(&mut items, a, b);
    for ((slot, _), _) in &slots {
        items.mark_gone(*slot, u16::from(slot.0 % 2 == 0));
    }
    items.unbind(a);
    assert_eq!(items.live(), 1000);
    // What is gone is not taken for live where it was expected.
    let one = items.find(a, "/Path/Number/1");
    assert!(one.is_some() && items.find_after(None, a, b"/Path/Number/1").is_none());
    let zero = items.find(a, "/Path/Number/0");
    assert!(items.find_after(zero, a, b"/Path/Number/1").is_none());
    assert_eq!(items.all_gone().count(), 1000);
    assert_eq!(
        items.bind(
            ServiceId(4),
            &name("com.victronenergy.battery.b"),
            &instance
        ),
        Ok(a)
    );
    assert_eq!(
        items.add(a, "/Path/Number/1", Row::UNKNOWN),
        (slots[1].0.0, true)
    );
    let rest: Vec<_> = items.all_gone().collect();
    for slot in rest {
        items.told(slot);
    }
    assert_eq!(items.all_gone().count(), 0);
    assert_eq!(items.slots(a).count(), 1);
    assert_eq!(items.in_use(), 1001);
    items.mark_gone(slots[1].0.0, 0);
    items.unbind(a);
    assert_eq!(items.find_device("battery/0"), None);
    assert_eq!(items.slots(b).count(), 1000);
}
