//! The schema compiler as the build uses it: `schema/*.toml` in, one Rust file of static tables out.
//!
//! What a schema file may say is read and checked by `src/schema/source/`, which the program has as
//! well, for the directories that it is given when it runs: both must take and refuse the same.
//! Here is only what the build adds, `emit.rs`. Included by path from `build.rs` and from
//! `tests/core/schema.rs`, since build scripts are not tested otherwise.

mod emit;
#[path = "../src/schema/layout.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "the crate uses all of it, the build only some"
)]
mod layout;
#[path = "../src/schema/rule.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "the crate uses all of it, the build only some"
)]
mod rule;
#[path = "../src/schema/source/mod.rs"]
#[allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    reason = "the crate uses all of it, the build only some"
)]
mod source;

use source::Base;
pub(crate) use source::Source;

/// Compiles the schema into the text of the tables, or says all that is wrong with it, a line each.
pub(crate) fn compile(sources: &[Source]) -> Result<String, Vec<String>> {
    let line = |error: &source::SchemaError| error.to_string();
    let compiled = source::compile(sources, &Base::default());
    let compiled = compiled.map_err(|errors| errors.iter().map(line).collect::<Vec<_>>())?;
    emit::emit(&compiled).map_err(|error| vec![format!("schema: {error}")])
}
