//! A service as its callers see it, on a separate bus.
#![cfg(feature = "demo")] // the bus is the one of the demo

use std::collections::HashMap;
use std::time::Duration;

use zbus::message::Type;
use zbus::{Connection, Message, MessageStream, OwnedVariant, Variant};

use super::*;
use crate::tools::demo::{PrivateBus, private_bus};
use crate::tools::value;

const NAME: &str = "com.victronenergy.vebus.ttyO1";

/// A bus with a caller on it, who hears all signals.
struct Caller {
    connection: Connection,
    stream: MessageStream,
    bus: PrivateBus,
}

impl Caller {
    async fn new() -> Caller {
        let bus = private_bus().await.unwrap();
        let connection = bus::connect(bus.address()).await.unwrap();
        let rule = "type='signal',interface='com.victronenergy.BusItem'";
        bus::call(&connection, "AddMatch", &rule).await.unwrap();
        let stream = MessageStream::from(&connection);
        Caller {
            connection,
            stream,
            bus,
        }
    }

    async fn serve(&self, behaviour: Behaviour) -> Service {
        let items = [
            (
                "/Mode",
                Item::new(3_u32).text("on").range(1_u32, 4_u32).writable(),
            ),
            ("/Ac/Out/P", Item::new(100_i32).text("100W")),
            ("/Name", Item::new("x").writable()),
        ];
        let items = items.map(|(path, item)| (path.to_owned(), item));
        let peer = Peer::connect(self.bus.address()).await.unwrap();
        peer.add(NAME, items, behaviour, None).await.unwrap()
    }

    /// Sends a call; its reply comes by in the stream.
    async fn send(&self, path: &str, member: &str, argument: Option<Variant<'_>>) -> Message {
        let call = Message::method_call(path, member)
            .destination(NAME)
            .interface(BUS_ITEM);
        let call = match argument {
            Some(argument) => call.build(&argument).unwrap(),
            None => call.build(&()).unwrap(),
        };
        self.connection.send(&call).await.unwrap();
        call
    }

    async fn call(
        &self,
        path: &str,
        member: &str,
        argument: Option<Variant<'_>>,
    ) -> Result<Message, String> {
        let reply = match argument {
            Some(argument) => {
                let body = &argument;
                self.connection
                    .call_method(Some(NAME), path, Some(BUS_ITEM), member, body)
                    .await
            }
            None => {
                self.connection
                    .call_method(Some(NAME), path, Some(BUS_ITEM), member, &())
                    .await
            }
        };
        reply.map_err(|error| error.to_string())
    }

    async fn set(&self, path: &str, value: impl Into<BusValue>) -> i32 {
        let reply = self
            .call(path, "SetValue", Some(value.into()))
            .await
            .unwrap();
        reply.body().deserialize().unwrap()
    }

    async fn value(&self, path: &str) -> String {
        let reply = self.call(path, "GetValue", None).await.unwrap();
        let body = reply.body();
        value::to_json(&body.deserialize::<Variant<'_>>().unwrap())
            .unwrap()
            .to_string()
    }

    /// Waits until a name has no owner. (busd does not answer calls to such a name.)
    async fn gone(&self, name: &str) {
        loop {
            let owned = bus::call(&self.connection, "NameHasOwner", &name)
                .await
                .unwrap();
            if !owned.body().deserialize::<bool>().unwrap() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The next signals and replies, one line each.
    async fn heard(&mut self, count: usize) -> Vec<String> {
        let mut heard = Vec::new();
        while heard.len() < count {
            let message = bus::next(&mut self.stream).await.unwrap();
            let header = message.header();
            let body = message.body();
            match message.message_type() {
                Type::Signal if header.interface().is_some_and(|name| name == BUS_ITEM) => {
                    let fields = if header.member().unwrap() == "ItemsChanged" {
                        let items: HashMap<String, HashMap<String, OwnedVariant>> =
                            body.deserialize().unwrap();
                        let mut paths: Vec<_> = items.into_keys().collect();
                        paths.sort();
                        paths
                    } else {
                        let fields: HashMap<String, OwnedVariant> = body.deserialize().unwrap();
                        let mut fields: Vec<_> = fields
                            .iter()
                            .map(|(name, value)| format!("{name}={}", value::plain_text(value)))
                            .collect();
                        fields.sort();
                        fields
                    };
                    let fields = fields.join(" ");
                    heard.push(format!("{} {fields}", header.path().unwrap()));
                }
                Type::MethodReturn if body.signature() == "i" => {
                    heard.push(format!("reply {}", body.deserialize::<i32>().unwrap()));
                }
                Type::MethodCall | Type::MethodReturn | Type::Error | Type::Signal => {}
            }
        }
        heard
    }
}

#[tokio::test]
async fn every_method_answers() {
    let caller = Caller::new().await;
    let _service = caller.serve(Behaviour::default()).await;
    assert_eq!(caller.value("/Ac/Out/P").await, "100");
    assert_eq!(caller.value("/Ac").await, r#"{"Out/P":100}"#);
    assert_eq!(
        caller.value("/").await,
        r#"{"Ac/Out/P":100,"Mode":3,"Name":"x"}"#
    );
    let text = caller.call("/Mode", "GetText", None).await.unwrap();
    assert_eq!(text.body().deserialize::<&str>().unwrap(), "on");
    let max = caller.call("/Mode", "GetMax", None).await.unwrap();
    assert!(value::same(
        &max.body().deserialize().unwrap(),
        &Variant::U32(4)
    ));
    let items = caller.call("/", "GetItems", None).await.unwrap();
    let body = items.body();
    let items: HashMap<&str, HashMap<&str, Variant<'_>>> = body.deserialize().unwrap();
    assert_eq!(items.len(), 3);
    assert!(value::same(&items["/Mode"]["Value"], &Variant::U32(3)));

    let faults = [
        ("/Nope", "GetValue", "UnknownObject"),
        ("/Mode", "Nope", "UnknownMethod"),
        ("/Mode", "GetItems", "UnknownMethod"),
        ("/Mode", "SetValue", "InvalidArgs"),
    ];
    for (path, member, expected) in faults {
        let error = caller.call(path, member, None).await.unwrap_err();
        assert!(error.contains(expected), "{path} {member}: {error}");
    }
}

#[tokio::test]
async fn a_write_is_told_before_it_is_answered() {
    let mut caller = Caller::new().await;
    let _service = caller.serve(Behaviour::default()).await;
    caller
        .send("/Mode", "SetValue", Some(Variant::I32(4)))
        .await;
    assert_eq!(caller.heard(2).await, ["/Mode Text=4 Value=4", "reply 0"]);
    // The same again is not a change, so no signal comes before this reply.
    caller
        .send("/Mode", "SetValue", Some(Variant::I32(4)))
        .await;
    assert_eq!(caller.heard(1).await, ["reply 0"]);
    assert_eq!(caller.set("/Mode", 5).await, 2);
    assert_eq!(caller.set("/Mode", "on").await, 2);
    assert_eq!(caller.set("/Ac/Out/P", 1).await, 1);
    assert_eq!(caller.set("/Name", "y").await, 0);
    assert_eq!(caller.value("/Name").await, "\"y\"");
}

#[tokio::test]
async fn changes_are_told_in_order() {
    let mut caller = Caller::new().await;
    let service = caller.serve(Behaviour::default()).await;
    service.set("/Ac/Out/P", 7).unwrap();
    service
        .set_many([Update::new("/Mode", 1_u32), Update::new("/New", 2.5)])
        .unwrap();
    service.set_max("/Mode", 9_u32).unwrap();
    service.remove_item("/New");
    service
        .emit(
            "/Mode",
            "PropertiesChanged",
            &HashMap::from([("Odd", Variant::U8(1))]),
        )
        .unwrap();
    let heard = caller.heard(4).await;
    assert_eq!(
        heard,
        [
            "/Ac/Out/P Text=7W Value=7",
            "/ /Mode /New",
            "/Mode Max=9",
            "/Mode Odd=1"
        ]
    );
    assert_eq!(caller.set("/Mode", 9).await, 0);
    assert!(service.item("/New").is_none());

    service.behave(|behaviour| behaviour.signals = false);
    service.set("/Ac/Out/P", 8).unwrap();
    assert_eq!(caller.value("/Ac/Out/P").await, "8");
}

#[tokio::test]
async fn services_can_be_old_slow_and_broken() {
    let caller = Caller::new().await;
    let service = caller
        .serve(Behaviour {
            get_items: false,
            ..Behaviour::default()
        })
        .await;
    assert!(caller.call("/", "GetItems", None).await.is_err());
    assert_eq!(service.calls("GetItems"), 1);
    assert_eq!(caller.value("/Ac").await, r#"{"Out/P":100}"#);

    service.behave(|behaviour| behaviour.get_value_root = false);
    assert!(caller.call("/", "GetValue", None).await.is_err());
    service.behave(|behaviour| behaviour.refuse_writes = Some(7));
    assert_eq!(caller.set("/Mode", 4).await, 7);
    service.behave(|behaviour| behaviour.delay = Duration::from_millis(80));
    let asked = tokio::time::Instant::now();
    caller.value("/Mode").await;
    assert!(asked.elapsed() >= Duration::from_millis(80));
    service.behave(|behaviour| behaviour.hang = true);
    let asked = caller.value("/Mode");
    assert!(
        tokio::time::timeout(Duration::from_millis(50), asked)
            .await
            .is_err()
    );
    service.stop().await;
    caller.gone(NAME).await;
}

#[tokio::test]
async fn one_connection_has_many_services() {
    let caller = Caller::new().await;
    let peer = Peer::connect(caller.bus.address()).await.unwrap();
    let item = |path: &str, value: i32| [(path.to_owned(), Item::new(value))];
    let plain = Behaviour::default;
    let one = peer.add(NAME, item("/a", 1), plain(), None).await.unwrap();
    let two = peer
        .add("com.victronenergy.x", item("/a", 2), plain(), None)
        .await
        .unwrap();
    assert_eq!(caller.value("/a").await, "1");
    one.stop().await;
    caller.gone(NAME).await;
    assert_eq!(two.len(), 1);

    let taken = Service::start(caller.bus.address(), "com.victronenergy.x", item("/a", 3)).await;
    assert!(matches!(taken, Err(ToolError::NameTaken { .. })));
}

#[tokio::test]
async fn a_name_can_change_hands_without_a_gap() {
    let caller = Caller::new().await;
    let replaceable = Behaviour {
        replaceable: true,
        ..Behaviour::default()
    };
    let old = caller.serve(replaceable).await;
    let peer = Peer::connect(caller.bus.address()).await.unwrap();
    let replaces = Behaviour {
        replaces: true,
        ..Behaviour::default()
    };
    let items = [(String::from("/Mode"), Item::new(9_u32))];
    let new = peer.add(NAME, items, replaces, None).await.unwrap();
    assert_eq!(caller.value("/Mode").await, "9");
    assert_ne!(old.peer().unique_name(), new.peer().unique_name());
}
