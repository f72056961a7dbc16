//! The lines of a recording as serde sees them; [`super`] says what they mean.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, Write};

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use zbus::{Signature, Variant};

use crate::model::outside;
use crate::tools::item::Item;
use crate::tools::value::{self, BusValue, ValueError};

/// The first line of a file.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Head<'a> {
    #[serde(borrow)]
    pub(super) service: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(super) origin: Cow<'a, str>,
    pub(super) items: BTreeMap<String, Entry>,
}

/// One item in the first line.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) t: String,
    pub(super) v: Json,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) text: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    min: Option<Json>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max: Option<Json>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    default: Option<Json>,
}

/// Any other line.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ChangeLine<'a> {
    pub(super) ts_ms: u64,
    #[serde(borrow)]
    pub(super) path: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) t: Cow<'a, str>,
    pub(super) v: Json,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub(super) text: Option<Cow<'a, str>>,
}

impl Entry {
    pub(super) fn item(self) -> Result<Item, ValueError> {
        let signature = value::signature(&self.t)?;
        let value = value::from_json(&signature, &self.v)?;
        let limit = |json: Option<Json>| json.map(|json| limit_from(&signature, &value, &json));
        Ok(Item {
            min: limit(self.min),
            max: limit(self.max),
            default: limit(self.default),
            text: self.text,
            writable: false,
            value,
        })
    }

    pub(super) fn of(item: &Item) -> Result<Entry, ValueError> {
        let limit =
            |limit: &Option<BusValue>| limit.as_ref().map(|v| value::to_json(v)).transpose();
        Ok(Entry {
            t: item.value.value_signature().to_string(),
            v: value::to_json(&item.value)?,
            text: item.text.clone(),
            min: limit(&item.min)?,
            max: limit(&item.max)?,
            default: limit(&item.default)?,
        })
    }
}

/// A limit is recorded without a type: it has that of the value, where it can.
fn limit_from(signature: &Signature, value: &Variant<'_>, json: &Json) -> BusValue {
    if value::is_invalid(value) {
        return value::untyped(json);
    }
    value::from_json(signature, json).unwrap_or_else(|_| value::untyped(json))
}

/// One line, and its end.
pub(super) fn write_line(out: &mut impl Write, line: &impl Serialize) -> io::Result<()> {
    // People look into recordings, too (§5.9).
    let line = outside::json(&serde_json::to_string(line)?);
    out.write_all(line.as_bytes())?;
    out.write_all(b"\n")
}
