//! Connecting to a bus, and reading its messages in order.
//!
//! The bridge has its own socket under zbus (`shell`); the tools use a stock connection, whose
//! queue they make long and empty at once.

use std::future::poll_fn;
use std::num::NonZeroUsize;
use std::pin::Pin;

use zbus::connection::Builder;
use zbus::export::futures_core::Stream;
use zbus::{Connection, Message, MessageStream};

use super::ToolError;
use crate::error::plain;

/// Connects to the bus at an address.
pub async fn connect(address: &str) -> Result<Connection, ToolError> {
    let built = Builder::address(address).build().await;
    let mut connection = built.map_err(|error| ToolError::Connect {
        address: address.to_owned(),
        // zbus would say the address again.
        reason: if let zbus::Error::Connection(reason, _) = error {
            plain(&reason)
        } else {
            error.to_string()
        },
    })?;
    // A full queue that nobody polls would stall the connection, replies included.
    connection.set_max_queued(QUEUE_MESSAGES);
    Ok(connection)
}

/// The next message of a connection, in the order of the bus. `None` once it is closed.
pub async fn next(stream: &mut MessageStream) -> Option<Message> {
    // An error on the stream is an error of the socket, and the last thing it says.
    poll_fn(|context| Pin::new(&mut *stream).poll_next(context))
        .await
        .and_then(Result::ok)
}

/// A call to the bus itself.
pub async fn call<B>(
    connection: &Connection,
    method: &'static str,
    body: &B,
) -> Result<Message, ToolError>
where
    B: serde::Serialize + zbus::DynamicType,
{
    connection
        .call_method(Some(BUS), BUS_PATH, Some(BUS), method, body)
        .await
        .map_err(|reason| ToolError::BusCall {
            call: method,
            reason: Box::new(reason),
        })
}

/// The name, and the interface, of the bus itself.
pub const BUS: &str = "org.freedesktop.DBus";
/// The path of the bus itself.
pub const BUS_PATH: &str = "/org/freedesktop/DBus";
/// The interface of all items.
pub const BUS_ITEM: &str = "com.victronenergy.BusItem";

/// How many messages a connection keeps for us while we are busy.
const QUEUE_MESSAGES: NonZeroUsize = NonZeroUsize::MIN.saturating_add(65_535);
