//! The bodies of `com.victronenergy.BusItem` and of the bus's own messages that we read (§2.1).
//!
//! A body is walked once, item by item, and nothing is put into maps: see [`Changes`].

use std::cmp::Ordering;

use super::cursor::{Cursor, Malformed, alignment, one_type};
use super::frame::{Frame, PROPERTIES_CHANGED};
use crate::model::item::ItemChange;
use crate::model::outside::Outside;
use crate::model::value::{IntType, Value};

/// The items that one message speaks of, read one after the other.
///
/// An error ends the iteration: what follows malformed bytes cannot be found.
#[derive(Debug, Clone)]
pub struct Changes<'a> {
    cursor: Cursor<'a>,
    end: usize,
    form: Form<'a>,
}

#[derive(Debug, Clone, Copy)]
enum Form<'a> {
    /// `a{sv}` of the properties of this one path.
    Properties(&'a [u8]),
    /// `a{sa{sv}}` of paths and properties.
    Items,
    /// A dict of paths, relative to the node that was asked, and values.
    Tree {
        /// The signature of the dict's values.
        value: &'a [u8],
    },
    /// The value of this one path.
    Value(&'a [u8], Value<'a>),
    /// Nothing more.
    Done,
}

impl<'a> Changes<'a> {
    /// The items of a signal, or `None` where the frame is not a signal of an item.
    #[inline]
    pub fn of_signal(frame: &Frame<'a>) -> Option<Result<Changes<'a>, Malformed>> {
        match frame.member {
            PROPERTIES_CHANGED => Some(match frame.signature {
                b"a{sv}" => Changes::dict(frame, Form::Properties(frame.path)),
                _ => Err(Malformed),
            }),
            "ItemsChanged" => Some(match frame.signature {
                b"a{sa{sv}}" => Changes::dict(frame, Form::Items),
                _ => Err(Malformed),
            }),
            _ => None,
        }
    }

    /// The items of a reply to `GetItems`.
    pub fn of_items(frame: &Frame<'a>) -> Result<Changes<'a>, Malformed> {
        match frame.signature {
            b"a{sa{sv}}" => Changes::dict(frame, Form::Items),
            _ => Err(Malformed),
        }
    }

    /// The items of a reply to `GetValue` on `path`: the value of that path itself.
    pub fn of_value(frame: &Frame<'a>, path: &'a str) -> Result<Changes<'a>, Malformed> {
        let value = reply_value(frame)?;
        Ok(Changes {
            cursor: body(frame),
            end: 0,
            form: Form::Value(path.as_bytes(), value),
        })
    }

    /// The items of a reply to `GetValue` on an inner node: its dict of relative paths. `None`
    /// where the reply is not a dict with text keys.
    pub fn of_tree(frame: &Frame<'a>) -> Result<Option<Changes<'a>>, Malformed> {
        // All of it is checked first; then the dict is found again, since an empty one is a value
        // like any empty array.
        reply_value(frame)?;
        let mut cursor = body(frame);
        let mut signature = frame.signature;
        while signature == b"v" {
            signature = cursor.signature()?;
        }
        let Some(value) = signature
            .strip_prefix(b"a{s")
            .and_then(|rest| rest.strip_suffix(b"}"))
        else {
            return Ok(None);
        };
        let end = cursor.array(8)?;
        Ok(Some(Changes {
            cursor,
            end,
            form: Form::Tree { value },
        }))
    }

    /// Whether there is an item in it, and all of it can be read.
    pub fn has_items(&self) -> bool {
        let mut changes = self.clone().peekable();
        changes.peek().is_some() && changes.all(|change| change.is_ok())
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.clone().next().is_none()
    }

    #[inline]
    fn dict(frame: &Frame<'a>, form: Form<'a>) -> Result<Changes<'a>, Malformed> {
        let mut cursor = body(frame);
        let end = cursor.array(8)?;
        Ok(Changes { cursor, end, form })
    }

    /// Reads what is said of the next item into `change`, but for its path, which it gives as it
    /// stands in the message: most paths are known, and what is known need not be checked again.
    /// `None` after the last item.
    #[inline]
    pub fn next_into(
        &mut self,
        change: &mut ItemChange<'a>,
    ) -> Result<Option<&'a [u8]>, Malformed> {
        (change.value, change.min, change.max) = (None, None, None);
        match self.form {
            Form::Properties(path) => {
                self.form = Form::Done;
                self.properties(change, self.end)?;
                Ok(Some(path))
            }
            Form::Items => {
                if self.is_over()? {
                    return Ok(None);
                }
                self.cursor.align(8)?;
                let path = self.cursor.string_bytes()?;
                let end = self.cursor.array(8)?;
                self.properties(change, end)?;
                Ok(Some(path))
            }
            Form::Tree { value } => {
                if self.is_over()? {
                    return Ok(None);
                }
                self.cursor.align(8)?;
                let path = self.cursor.string_bytes()?;
                self.cursor
                    .align(alignment(*value.first().ok_or(Malformed)?)?)?;
                change.value = Some(self.cursor.value(value, 0)?);
                Ok(Some(path))
            }
            Form::Value(path, value) => {
                self.form = Form::Done;
                change.value = Some(value);
                Ok(Some(path))
            }
            Form::Done => Ok(None),
        }
    }

    /// Whether the dict ends here; it may not have ended before.
    #[inline]
    fn is_over(&self) -> Result<bool, Malformed> {
        match self.cursor.at().cmp(&self.end) {
            Ordering::Less => Ok(false),
            Ordering::Equal => Ok(true),
            Ordering::Greater => Err(Malformed),
        }
    }

    /// Reads the properties of one item, up to `end`; what we have no use for is stepped over.
    #[inline]
    fn properties(&mut self, change: &mut ItemChange<'a>, end: usize) -> Result<(), Malformed> {
        while self.cursor.at() < end {
            self.cursor.align(8)?;
            match self.cursor.string_bytes()? {
                b"Value" => change.value = Some(self.cursor.variant()?),
                b"Min" => change.min = Some(self.cursor.variant()?),
                b"Max" => change.max = Some(self.cursor.variant()?),
                _ => self.cursor.skip_variant()?,
            }
        }
        if self.cursor.at() == end {
            Ok(())
        } else {
            Err(Malformed)
        }
    }
}

impl<'a> Iterator for Changes<'a> {
    type Item = Result<ItemChange<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut change = ItemChange::EMPTY;
        let next = self.next_into(&mut change).and_then(|path| {
            let path = path.map(|path| std::str::from_utf8(path).map_err(|_| Malformed));
            path.transpose()
        });
        match next {
            Ok(path) => path.map(|path| Ok(ItemChange { path, ..change })),
            Err(malformed) => {
                self.form = Form::Done;
                Some(Err(malformed))
            }
        }
    }
}

#[inline]
fn body<'a>(frame: &Frame<'a>) -> Cursor<'a> {
    Cursor::new(frame.body, frame.big_endian)
}

fn reply_value<'a>(frame: &Frame<'a>) -> Result<Value<'a>, Malformed> {
    if one_type(frame.signature, 0).is_ok_and(<[u8]>::is_empty) {
        body(frame).value(frame.signature, 0)
    } else {
        Err(Malformed)
    }
}

/// The code of a reply to `SetValue`; 0 is success.
pub fn set_value_code(frame: &Frame<'_>) -> Result<i32, Malformed> {
    match reply_value(frame)? {
        Value::Int(IntType::I16 | IntType::I32 | IntType::I64, code) => {
            i32::try_from(code).map_err(|_| Malformed)
        }
        Value::Uint(_, code) => i32::try_from(code).map_err(|_| Malformed),
        Value::Invalid
        | Value::Bool(_)
        | Value::Double(_)
        | Value::Text(..)
        | Value::Compound(_) => Err(Malformed),
    }
}

/// The one text in the body, e.g. of a reply to `GetNameOwner` or `Introspect`.
pub fn text<'a>(frame: &Frame<'a>) -> Result<&'a str, Malformed> {
    match frame.signature {
        b"s" => body(frame).string(),
        _ => Err(Malformed),
    }
}

/// The texts in the body of a reply to `ListNames`.
pub fn texts<'a>(frame: &Frame<'a>) -> Result<Vec<&'a str>, Malformed> {
    if frame.signature != b"as" {
        return Err(Malformed);
    }
    let mut cursor = body(frame);
    let end = cursor.array(4)?;
    let mut texts = Vec::new();
    while cursor.at() < end {
        texts.push(cursor.string()?);
    }
    if cursor.at() == end {
        Ok(texts)
    } else {
        Err(Malformed)
    }
}

/// The body of `NameOwnerChanged`: the name, its old and its new owner.
pub fn owner_change<'a>(frame: &Frame<'a>) -> Result<(&'a str, &'a str, &'a str), Malformed> {
    if frame.signature != b"sss" {
        return Err(Malformed);
    }
    let mut cursor = body(frame);
    Ok((cursor.string()?, cursor.string()?, cursor.string()?))
}

/// The text of a D-Bus error, for one line of a log; empty where there is none. Drivers in Python send a
/// whole traceback.
pub fn error_message(frame: &Frame<'_>) -> String {
    match frame.signature.first() {
        Some(b's') => Outside::error(body(frame).string().unwrap_or_default()).to_string(),
        _ => String::new(),
    }
}

/// The path of an item from the root. What `GetValue` on `/` says has no leading slash, and some
/// services leave it out everywhere (§2.2).
pub fn absolute<'a>(path: &'a str, buffer: &'a mut String) -> &'a str {
    if path.starts_with('/') {
        return path;
    }
    buffer.clear();
    buffer.push('/');
    buffer.push_str(path);
    buffer
}
/// Whether D-Bus can have an object of that path.
pub fn is_object_path(text: &str) -> bool {
    let level = |level: &str| {
        !level.is_empty()
            && level
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    text == "/"
        || text
            .strip_prefix('/')
            .is_some_and(|levels| levels.split('/').all(level))
}
