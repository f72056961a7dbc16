//! What a client is told that gave a response topic with its request (§5.8), until it is sent.

use crate::bridge::store::items::ItemRef;
use crate::model::outside::Outside;
use crate::model::request::{Rejection, ResponseAddress};

/// What a client is told, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    pub to: ResponseAddress,
    pub body: ResponseBody,
}

/// How a request ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResponseBody {
    /// Well; the value is that of this item when the answer is sent.
    Item(ItemRef),
    /// Well; the values are those of all items below this node, of the device that has this item.
    Node(ItemRef, Box<str>),
    /// Well; the value is the portal id.
    PortalId,
    /// Well; the value is for how many seconds the interest lives, 0: no limit.
    Alive(u64),
    /// Well, and there is no value.
    Nothing,
    /// Badly.
    Error {
        /// A word for programs.
        code: &'static str,
        /// A sentence for people.
        message: Box<str>,
    },
}

impl ResponseBody {
    /// Why a request was not carried out.
    pub fn rejection(rejection: &Rejection) -> ResponseBody {
        ResponseBody::Error {
            code: rejection.code(),
            message: Outside::error(&rejection.to_string()).to_string().into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_message_is_cut() {
        let rejection = Rejection::BusError {
            name: "com.example.Error".into(),
            message: "ü".repeat(100_000).into(),
        };
        let ResponseBody::Error { code, message } = ResponseBody::rejection(&rejection) else {
            panic!()
        };
        assert_eq!((code, message.chars().count()), ("refused", 200));
    }
}
