//! Requests: what an MQTT client can ask for (§5), and why it may not get it (§5.8).

use super::outside::Outside;
use super::value::Json;

/// Which item, or inner node, a request is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ItemAddress<'a> {
    /// The service type.
    pub service_type: &'a str,
    /// The device instance.
    pub instance: &'a str,
    /// The D-Bus path, with its leading slash; `/` alone is the whole device.
    pub path: &'a str,
}

/// One request of an MQTT client.
#[derive(Debug, Clone, PartialEq)]
pub enum Request<'a> {
    /// `R/<portal>/keepalive`, or `R/<portal>/system/0/Serial` with a payload (§5.2, §5.3, §5.4).
    KeepAlive(KeepAlive),
    /// `R/<portal>/system/0/Serial` without a payload (§5.2).
    Serial,
    /// `R/<portal>/…` (§5.5).
    Read(ItemAddress<'a>),
    /// `W/<portal>/…` (§5.6).
    Write(ItemAddress<'a>, Json),
}

/// What kind of request it is: settled when it comes, and kept to its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestKind {
    /// Answered with what the service says, in its turn among the requests.
    Read,
    /// Answered when the service has taken it, waiting for no other.
    Write,
    /// Renews an interest (the request for the serial does so too).
    KeepAlive,
}

impl Request<'_> {
    /// What kind of request it is.
    pub fn kind(&self) -> RequestKind {
        match self {
            Request::KeepAlive(_) | Request::Serial => RequestKind::KeepAlive,
            Request::Read(_) => RequestKind::Read,
            Request::Write(..) => RequestKind::Write,
        }
    }
}

/// What a keep-alive asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum KeepAlive {
    /// Everything (§5.3).
    Full {
        /// What the completion message carries back: a JSON text, to be written as it stands.
        echo: Option<Box<str>>,
        /// Renew only: no values, no completion.
        suppress_republish: bool,
    },
    /// What these topic filters match, relative to the portal id (§5.4).
    Selective(Vec<Box<str>>),
}

/// Where, and with what, a client wants to be told how its request ended (§5.8).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResponseAddress {
    /// The topic.
    pub topic: Box<str>,
    /// What tells the client which of its requests it was.
    pub correlation: Box<[u8]>,
    /// The client, where it is connected to the bridge itself (§9).
    pub client: Option<u64>,
}

/// Why a request is not carried out (§5.8).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the sentences say what the fields are")]
pub enum Rejection {
    /// The topic has too few levels to name an item.
    #[error("the topic names no item")]
    Topic,
    /// The payload is longer than allowed.
    #[error("the payload has {found} bytes, more than {max}")]
    TooLarge { found: usize, max: usize },
    /// The value is longer than allowed, of a write or of what a service answers.
    #[error("the value has {found} bytes, more than {max}")]
    ValueTooLarge { found: usize, max: usize },
    /// A value that a service answers, for which there is no room beside the others.
    #[error("with its value all texts and lists together would have more than {max} bytes")]
    NoRoom { max: usize },
    /// The clients of this broker ask for more than they may.
    #[error("more than {max} requests come in a second")]
    TooFast { max: usize },
    /// The payload nests deeper than allowed.
    #[error("the payload nests deeper than {max} levels")]
    TooDeep { max: usize },
    /// The value nests deeper than a message on the bus may.
    #[error("a D-Bus message has at most {max} levels, and this value would need {found}")]
    TooDeepForBus {
        /// How many levels it would be.
        found: usize,
        max: usize,
    },
    /// The payload is not text.
    #[error("the payload is not valid UTF-8")]
    NotUtf8,
    /// The payload is not JSON.
    #[error("the payload is not valid JSON")]
    NoJson,
    /// The payload is JSON, but no object.
    #[error("the payload is not an object; a write looks like {{\"value\": 1}}")]
    NoObject,
    /// The object has no `value`.
    #[error("the payload has no \"value\"; a write looks like {{\"value\": 1}}")]
    NoValue,
    /// A number beyond what D-Bus can carry.
    #[error("the value is a number out of range")]
    Number,
    /// A retained write (§5.7).
    #[error(
        "it has the retain flag, and would be repeated at every connect; send it without that flag"
    )]
    RetainedWrite,
    /// The clients of this broker may not write (§8).
    #[error("the clients of this broker may only read")]
    ReadOnly,
    /// The clients of this broker may not have, or not write, this one (§8).
    #[error("the clients of this broker may not {what} it")]
    NotAllowed {
        /// `read` or `write`.
        what: &'static str,
    },
    /// A write to a blocked item, to a node above a blocked or secret one, or to `/` (§5.6).
    #[error("it is blocked, or a node above blocked or secret items; write to a single item")]
    Guarded,
    /// No service has this type and instance.
    #[error("there is no service {service_type}/{instance}")]
    UnknownService {
        /// The service type asked for.
        service_type: Box<str>,
        /// The device instance asked for.
        instance: Box<str>,
    },
    /// The service has no such item.
    #[error("{service} has no {path}")]
    UnknownPath { service: Box<str>, path: Box<str> },
    /// A text for an item that is a number: its present value is one, or the schema says so (§3).
    #[error("the value is a text, and the item is a number; write it without quotes")]
    TextForNumber,
    /// A text with a NUL, which D-Bus cannot carry (§5.6).
    #[error("a text in the value contains a NUL character, which D-Bus cannot carry")]
    Nul,
    /// A text for an item whose numbers have labels, but not that one (§5.6).
    #[error("the text is not a label of the item; it has {labels}, and takes numbers")]
    NoLabel {
        /// The labels that it has.
        labels: Box<str>,
    },
    /// A text that is the label of several codes (§5.6).
    #[error("the text is the label of several codes, {codes}; write the number")]
    AmbiguousLabel { codes: Box<str> },
    /// An item that cannot be written, says the schema (§5.6).
    #[error("the schema says that it can only be read")]
    ReadOnlyItem,
    /// A value that the item does not take, says the schema (§5.6).
    #[error("the schema says that it takes {range}")]
    OutOfRange { range: Box<str> },
    /// Too much is waiting for answers already (§5.6).
    #[error("{max} calls wait for their answers already")]
    Busy { max: usize },
    /// Too many full publishes are asked for that have not ended (§5.3).
    #[error("too many keep-alives wait for their full publish already")]
    Completions,
    /// The service answered with a code that is not 0.
    #[error("the service refused it with code {code}")]
    Refused { code: i32 },
    /// The service answered with a D-Bus error.
    #[error("the service answered with {name}: {}", Outside::error(message))]
    BusError {
        /// The D-Bus error name.
        name: Box<str>,
        message: Box<str>,
    },
    /// The service did not answer in time, or left.
    #[error("timed out: the service did not answer, or has left")]
    NoAnswer,
    /// The service owes answers to earlier calls, and is not called (§2.9).
    #[error("the service does not answer its calls")]
    Silent,
    /// The time was up before the call could be made (§2.9).
    #[error("timed out: too many other calls wait for their answers")]
    NoTurn,
    /// The service answered with something else than it should.
    #[error("the service gave an answer of the wrong type")]
    Answer,
    /// A topic filter that is none.
    #[error("{filter:?} is not a topic filter")]
    Filter {
        /// The text in its place.
        filter: Box<str>,
    },
    /// Too many topic filters are live.
    #[error("{max} topic filters are kept alive already")]
    Filters { max: usize },
    /// A response topic that is none, or that the bridge will not speak to.
    #[error("it asks for its answer on {topic:?}: {why}")]
    ResponseTopic {
        /// The topic, or its beginning.
        topic: Box<str>,
        /// What is wrong with it.
        why: &'static str,
    },
}

impl Rejection {
    /// A word for programs: what a client is told that gave a response topic (§5.8). These words
    /// stay as they are.
    pub fn code(&self) -> &'static str {
        match self {
            Rejection::Topic => "bad-topic",
            Rejection::TooLarge { .. }
            | Rejection::ValueTooLarge { .. }
            | Rejection::NoRoom { .. } => "too-large",
            Rejection::TooFast { .. } => "too-fast",
            Rejection::TooDeep { .. } | Rejection::TooDeepForBus { .. } => "too-deep",
            Rejection::NotUtf8 | Rejection::NoJson => "not-json",
            Rejection::NoObject => "not-an-object",
            Rejection::NoValue => "no-value",
            Rejection::Number | Rejection::OutOfRange { .. } => "out-of-range",
            Rejection::RetainedWrite => "retained",
            Rejection::UnknownService { .. } => "unknown-service",
            Rejection::UnknownPath { .. } => "unknown-path",
            Rejection::TextForNumber | Rejection::Nul => "wrong-type",
            Rejection::NoLabel { .. } => "no-label",
            Rejection::AmbiguousLabel { .. } => "ambiguous-label",
            Rejection::ReadOnly | Rejection::ReadOnlyItem => "read-only",
            Rejection::NotAllowed { .. } | Rejection::Guarded => "not-allowed",
            Rejection::Busy { .. } | Rejection::Completions | Rejection::Filters { .. } => {
                "too-many"
            }
            Rejection::BusError { name, .. } => match name.rsplit('.').next() {
                Some("UnknownObject" | "UnknownMethod" | "UnknownInterface") => "unknown-path",
                Some("ServiceUnknown" | "NameHasNoOwner") => "unknown-service",
                Some("NoReply" | "Timeout" | "TimedOut") => "timed-out",
                _ => "refused",
            },
            Rejection::Refused { .. } => "refused",
            Rejection::NoAnswer | Rejection::Silent | Rejection::NoTurn => "timed-out",
            Rejection::Answer => "bad-answer",
            Rejection::Filter { .. } => "bad-filter",
            Rejection::ResponseTopic { .. } => "bad-response-topic",
        }
    }
}
