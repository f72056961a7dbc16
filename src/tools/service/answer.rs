//! What a service answers to each method call, and when.
//!
//! Every call that wants an answer gets one, unless
//! the service is told to hang: a value, or one of D-Bus' own errors.

use std::sync::Mutex;
use std::time::Duration;

use zbus::message::{Flags, Header, Type};
use zbus::{Message, Variant};

use super::core::{Core, State, Update, apply, lock};
use crate::tools::bus::BUS_ITEM;
use crate::tools::item::{Item, Refusal};
use crate::tools::tree::Node;
use crate::tools::value::{self, BusValue};

/// When a message is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hold {
    /// Not at all: it is not a call, or the service hangs.
    Never,
    /// After this time.
    Until(Duration),
}

/// Looks at a message as it arrives: counts the call, and says when it is to be answered.
pub(super) fn hold(core: &Mutex<Core>, message: &Message) -> Hold {
    if message.message_type() != Type::MethodCall {
        return Hold::Never;
    }
    let header = message.header();
    let (destination, path, _, member) = target(&header);
    let mut core = lock(core);
    let Some(state) = core.service_mut(destination, path) else {
        return Hold::Until(Duration::ZERO);
    };
    *state.calls.entry(member.to_owned()).or_default() += 1;
    if state.behaviour.hang {
        Hold::Never
    } else {
        Hold::Until(state.behaviour.delay)
    }
}

/// Answers one call. What it changes and what it says about that leave in this order: the signal,
/// then the reply.
pub(super) fn answer(core: &Mutex<Core>, call: &Message) {
    let header = call.header();
    let outcome = if target(&header).3 == "SetValue" {
        set_value(core, call, &header)
    } else {
        query(core, &header)
    };
    let reply = match outcome {
        Ok(reply) => reply,
        Err(fault) => fault.reply(&header),
    };
    if header.primary().flags().contains(Flags::NO_REPLY_EXPECTED) {
        return;
    }
    // A reply that cannot be built, or a bus that is gone: nobody is there to be told.
    if let Ok(reply) = reply {
        let _ = lock(core).send(reply);
    }
}

/// An error reply: the D-Bus name and the sentence.
struct Fault {
    name: &'static str,
    message: String,
}

type Outcome = Result<zbus::Result<Message>, Fault>;

impl Fault {
    fn object(path: &str) -> Fault {
        Fault {
            name: "org.freedesktop.DBus.Error.UnknownObject",
            message: format!("no object at {path}"),
        }
    }

    fn method(path: &str, interface: &str, member: &str) -> Fault {
        Fault {
            name: "org.freedesktop.DBus.Error.UnknownMethod",
            message: format!("{path} has no method {member} in interface {interface}"),
        }
    }

    fn arguments(member: &str, expected: &str) -> Fault {
        Fault {
            name: "org.freedesktop.DBus.Error.InvalidArgs",
            message: format!("{member} takes {expected}"),
        }
    }

    fn service(destination: &str) -> Fault {
        Fault {
            name: "org.freedesktop.DBus.Error.ServiceUnknown",
            message: format!("{destination} is not served here any more"),
        }
    }

    fn reply(&self, call: &Header<'_>) -> zbus::Result<Message> {
        Message::error(call, self.name).build(&self.message)
    }
}

/// Destination, path, interface and member of a call; empty where there is none.
fn target<'a>(header: &'a Header<'_>) -> (&'a str, &'a str, &'a str, &'a str) {
    (
        header.destination().map_or("", |name| name.as_str()),
        header.path().map_or("", |path| path.as_str()),
        header.interface().map_or("", |name| name.as_str()),
        header.member().map_or("", |name| name.as_str()),
    )
}

/// Every method but `SetValue`.
fn query(core: &Mutex<Core>, header: &Header<'_>) -> Outcome {
    let (destination, path, interface, member) = target(header);
    let mut core = lock(core);
    let state = core
        .service_mut(destination, path)
        .ok_or_else(|| Fault::service(destination))?;
    let reply = Message::method_return(header);
    match (interface, member) {
        ("org.freedesktop.DBus.Peer" | "", "Ping") => return Ok(reply.build(&())),
        ("org.freedesktop.DBus.Introspectable" | "", "Introspect") => {
            return match state.tree.node(path) {
                Node::Unknown => Err(Fault::object(path)),
                Node::Item(_) | Node::Inner => Ok(reply.build(&state.tree.introspection(path))),
            };
        }
        (BUS_ITEM | "", _) => {}
        _ => {
            return Err(Fault {
                name: "org.freedesktop.DBus.Error.UnknownInterface",
                message: format!("{path} has no interface {interface}"),
            });
        }
    }
    let node = state.tree.node(path);
    if matches!(node, Node::Unknown) {
        return Err(Fault::object(path));
    }
    let unknown_method = || Fault::method(path, interface, member);
    if !is_offered(state, path, member) {
        return Err(unknown_method());
    }
    if state.behaviour.wrong_signature {
        return Ok(reply.build(&WRONG_BODY));
    }
    Ok(match (member, node) {
        ("GetItems", _) if path == "/" => reply.build(&state.tree.announcement()),
        ("GetValue", Node::Item(item)) => reply.build(&item.value),
        ("GetValue", Node::Inner) => reply.build(&state.tree.values(path)),
        ("GetText", Node::Item(item)) => reply.build(&item.shown()),
        ("GetText", Node::Inner) => reply.build(&state.tree.texts(path)),
        ("GetMin", Node::Item(item)) => reply.build(&limit(item.min.as_ref())),
        ("GetMax", Node::Item(item)) => reply.build(&limit(item.max.as_ref())),
        ("GetDefault", Node::Item(item)) => reply.build(&limit(item.default.as_ref())),
        _ => return Err(unknown_method()),
    })
}

fn is_offered(state: &State, path: &str, member: &str) -> bool {
    match member {
        "GetItems" => state.behaviour.get_items,
        "GetValue" | "GetText" if path == "/" => state.behaviour.get_value_root,
        _ => true,
    }
}

fn limit(limit: Option<&BusValue>) -> BusValue {
    limit.map_or_else(value::invalid, |limit| value::copy(limit))
}

/// `SetValue(v) → i`: the signal first, then 0, as velib does; nothing but 0 where the value is
/// the present one.
fn set_value(core: &Mutex<Core>, call: &Message, header: &Header<'_>) -> Outcome {
    let (destination, path, interface, member) = target(header);
    if !matches!(interface, BUS_ITEM | "") {
        return Err(Fault::method(path, interface, member));
    }
    let reply = |code: i32| Ok(Message::method_return(header).build(&code));
    let body = call.body();
    let written: Variant<'_> = body
        .deserialize()
        .map_err(|_| Fault::arguments(member, "one variant"))?;

    let (accepted, on_write) = {
        let mut core = lock(core);
        let state = core
            .service_mut(destination, path)
            .ok_or_else(|| Fault::service(destination))?;
        let item = match state.tree.node(path) {
            Node::Item(item) => item,
            Node::Inner => return Err(Fault::method(path, interface, member)),
            Node::Unknown => return Err(Fault::object(path)),
        };
        if state.behaviour.wrong_signature {
            return Ok(Message::method_return(header).build(&WRONG_BODY));
        }
        if let Some(code) = state.behaviour.refuse_writes {
            return reply(code);
        }
        match decide(item, &written) {
            Ok(Some(accepted)) => (accepted, state.on_write.clone()),
            Ok(None) => return reply(0),
            Err(refusal) => return reply(refusal.0),
        }
    };
    // Outside the lock: what the service does about the write is not ours to know.
    let text = match on_write.map(|ask| ask(path, &accepted)) {
        Some(Err(refusal)) => return reply(refusal.0),
        Some(Ok(text)) => text,
        None => None,
    };
    let mut core = lock(core);
    let state = core
        .service_mut(destination, path)
        .ok_or_else(|| Fault::service(destination))?;
    let told = state.behaviour.signals;
    let update = Update {
        text,
        ..Update::new(path, accepted)
    };
    let changes = apply(&mut state.tree, update);
    if told {
        let signal = Message::signal(path, BUS_ITEM, "PropertiesChanged").build(&changes);
        if let Ok(signal) = signal {
            let _ = core.send(signal);
        }
    }
    reply(0)
}

/// The value to take, `None` where it is the present one already, or why it is refused.
fn decide(item: &Item, written: &Variant<'_>) -> Result<Option<BusValue>, Refusal> {
    let accepted = item.accept(written)?;
    Ok(if value::same(&accepted, &item.value) {
        None
    } else {
        Some(accepted)
    })
}

/// A body that no method of the interface answers with.
const WRONG_BODY: (&str, u8) = ("this is not an answer", 0);
