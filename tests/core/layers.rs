//! The shape of the source, checked: imports look down, wire crates stay where they belong, no file is
//! orphaned, no two import each other, no service type or path is spelt out beside the schema, and texts are
//! in plain English.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// What each module at the top may import of the crate. `bridge`, `link` and `serve` never meet; what reads the
/// command line and the files knows words only.
const MAY_IMPORT: [(&str, &[&str]); 14] = [
    ("model", &[]),
    ("schema", &["model"]),
    ("codec", &["model", "schema"]),
    ("homeassistant", &["model", "schema", "codec::payload"]),
    ("bridge", &["model", "schema", "codec", "homeassistant"]),
    ("link", &["model", "codec::packet"]),
    ("serve", &["model", "schema", "codec"]),
    (
        "config",
        &["model", "schema", "config", "cli", "error", "logging"],
    ),
    ("cli", FRONT),
    ("error", FRONT),
    ("logging", FRONT),
    (
        "shell",
        &[
            "model",
            "schema",
            "codec",
            "homeassistant",
            "bridge",
            "link",
            "serve",
            "config",
            "error",
        ],
    ),
    (
        "tools",
        &[
            "model", "schema", "codec", "bridge", "link", "shell", "config", "cli", "error",
            "logging",
        ],
    ),
    (
        "main",
        &["shell", "tools", "config", "cli", "error", "logging"],
    ),
];
const FRONT: &[&str] = &["model", "config", "cli", "error", "logging"];

/// What a layer must not import of one that it may otherwise look into.
const MUST_NOT_IMPORT: [(&str, &str); 1] = [("bridge", "codec::packet")];

/// The only places that may name a crate: folders end in a slash, other entries begin file names.
const ONLY_IN: [(&str, &[&str]); 13] = [
    ("zbus", &["shell/", "tools/"]),
    ("tokio", &["shell/", "tools/", "main.rs"]),
    ("mqttbytes", &["codec/packet"]),
    ("simd_json", &["codec/request.rs"]),
    ("dashmap", &["model/interner.rs"]),
    ("busd", &["tools/"]),
    ("tokio_rustls", TRANSPORT),
    ("rustls_native_certs", TRANSPORT),
    ("webpki", TRANSPORT),
    ("webpki_roots", TRANSPORT),
    ("tokio_tungstenite", TRANSPORT),
    ("hyper", &["shell/http/"]),
    ("hyper_util", &["shell/http/"]),
];

const TRANSPORT: &[&str] = &["shell/transport/"];
/// Words of others that are service types too, and where they mean something else.
const OTHER_WORDS: [(&str, &str); 1] = [("homeassistant/entity.rs", "switch")];

/// The only places that write to a terminal or a log: they escape what comes from outside (§5.9), or print
/// nothing of it.
const PRINTS: [&str; 9] = [
    "main.rs",    // errors, as one line
    "logging.rs", // each event through `model::outside`
    "error.rs",   // `print`: what `tools::say` has escaped, and what is ours
    "tools/client/screen.rs",
    "tools/client/mod.rs",  // a question with a portal id, which is plain
    "tools/demo/mod.rs",    // it only asks what stdout is
    "tools/doctor/mod.rs",  // by its `Report`
    "tools/demo/status.rs", // a bar of numbers
    "tools/replay.rs",      // the same
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below a folder, sorted.
fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let Ok(entries) = std::fs::read_dir(folder) else {
        return files;
    };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// A source file, taken apart: code without comments and texts, and the texts.
#[derive(Default)]
struct Source {
    /// Below `src`, with slashes.
    name: String,
    code: String,
    texts: Vec<String>,
    /// The same of what is not test code.
    product_code: String,
    product_texts: Vec<String>,
}

impl Source {
    fn read(file: &Path) -> Source {
        let text = std::fs::read_to_string(file).unwrap();
        let name = file
            .strip_prefix(root().join("src"))
            .unwrap()
            .to_string_lossy()
            .replace('\\', "/");
        let is_test = name.ends_with("tests.rs");
        let product = match text.find("#[cfg(test)]\nmod tests {") {
            _ if is_test => "",
            Some(at) => &text[..at],
            None => &text,
        };
        let (code, texts) = lex(&text);
        let (product_code, product_texts) = lex(product);
        Source {
            name,
            code,
            texts,
            product_code,
            product_texts,
        }
    }

    fn all() -> Vec<Source> {
        rust_files(&root().join("src"))
            .iter()
            .map(|file| Source::read(file))
            .collect()
    }

    /// The module at the top that it belongs to; `None` for the map itself.
    fn layer(&self) -> Option<&str> {
        let first = self.name.split('/').next().unwrap();
        let layer = first.strip_suffix(".rs").unwrap_or(first);
        (layer != "lib").then_some(layer)
    }

    /// How many modules deep it is: `model/mod.rs` is 1, `model/name.rs` 2.
    fn depth(&self) -> usize {
        self.name.split('/').count() - usize::from(self.name.ends_with("/mod.rs"))
    }

    /// The paths that it uses, from the root of the crate.
    fn imports(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for start in ["crate::", "dbus_mqtt::"] {
            for (at, _) in self.code.match_indices(start) {
                let before = self.code[..at].chars().next_back();
                if !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '$') {
                    paths(&self.code[at + start.len()..], "", &mut found);
                }
            }
        }
        // As many `super::` as the file is deep lead to the root. In test modules one more does, which
        // is why only the product's code is looked at here.
        let up = "super::".repeat(self.depth());
        for (at, _) in self.product_code.match_indices(&up) {
            if !self.product_code[..at].ends_with("::") {
                paths(&self.product_code[at + up.len()..], "", &mut found);
            }
        }
        found
    }

    fn names_crate(&self, name: &str) -> bool {
        self.code.match_indices(name).any(|(at, _)| {
            let before = self.code[..at].trim_end();
            let after = &self.code[at + name.len()..];
            let word = |c: char| c.is_alphanumeric() || c == '_';
            let whole = !self.code[..at].ends_with(word) && !after.starts_with(word);
            let is_use =
                before.ends_with("use") && (after.starts_with("::") || after.starts_with(';'));
            // `::zbus` names it too; `some::zbus`, `Some<T>::zbus` and `some.zbus` do not.
            let outer = before.strip_suffix("::").unwrap_or(before);
            let inside =
                outer.len() < before.len() && outer.ends_with(|c: char| word(c) || c == '>');
            let is_path = !inside && !before.ends_with('.') && after.starts_with("::");
            whole && (is_use || is_path)
        })
    }
}

/// Splits source text into code, with texts and comments blanked, and the texts.
fn lex(text: &str) -> (String, Vec<String>) {
    let mut code = String::new();
    let mut texts = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let skip = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |at| at + 2)
        } else if let Some((length, inner)) = raw_text(rest, code.chars().next_back()) {
            texts.push(inner.to_owned());
            length
        } else if c == '"' {
            let length = text_length(rest);
            texts.push(rest[1..length - 1].to_owned());
            length
        } else if c == '\'' {
            char_length(rest)
        } else {
            0
        };
        if skip == 0 {
            code.push(c);
            rest = &rest[c.len_utf8()..];
        } else {
            code.push(' ');
            rest = &rest[skip..];
        }
    }
    (code, texts)
}

/// The length of a text in quotes at the start, quotes included.
fn text_length(rest: &str) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    panic!("a text without an end")
}

/// A raw text at the start: its length and what is in it.
fn raw_text(rest: &str, before: Option<char>) -> Option<(usize, &str)> {
    let after = rest.strip_prefix('r').or_else(|| rest.strip_prefix("br"))?;
    if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
        return None;
    }
    let hashes = after.len() - after.trim_start_matches('#').len();
    let inner = after[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let length = inner.find(&end)?;
    let head = rest.len() - inner.len();
    Some((head + length + end.len(), &inner[..length]))
}

/// The length of a character at the start; 0 where the quote is that of a lifetime.
fn char_length(rest: &str) -> usize {
    let mut chars = rest.char_indices().skip(1);
    match (chars.next(), chars.next()) {
        (Some((_, '\\')), Some((at, c))) => {
            let after = at + c.len_utf8();
            after + rest[after..].find('\'').unwrap() + 1
        }
        (Some(_), Some((at, '\''))) => at + 1,
        _ => 0,
    }
}

/// Collects the paths that begin here: names joined by `::`, or a group of such in braces.
fn paths(code: &str, prefix: &str, found: &mut BTreeSet<String>) {
    let code = code.trim_start();
    if let Some(group) = code.strip_prefix('{') {
        let mut depth = 0;
        let mut start = 0;
        for (at, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth > 0 => depth -= 1,
                ',' | '}' if depth == 0 => {
                    paths(&group[start..at], prefix, found);
                    start = at + 1;
                    if c == '}' {
                        return;
                    }
                }
                _ => {}
            }
        }
        return;
    }
    let length = code
        .find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(code.len());
    let (name, rest) = code.split_at(length);
    if name.is_empty() {
        return;
    }
    let path = if prefix.is_empty() {
        name.to_owned()
    } else {
        format!("{prefix}::{name}")
    };
    match rest.strip_prefix("::") {
        Some(rest)
            if rest
                .trim_start()
                .starts_with(|c: char| c == '{' || c.is_alphanumeric()) =>
        {
            paths(rest, &path, found);
        }
        _ => {
            found.insert(path);
        }
    }
}

/// Whether a path is the other, or lies in it, or begins with it as a file name does.
fn is_in(path: &str, other: &str) -> bool {
    let rest = path.strip_prefix(other);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::") || rest.starts_with('_'))
}

/// Fails with all complaints at once.
fn report(complaints: &[String]) {
    let mut text = String::new();
    for complaint in complaints {
        writeln!(text, "  {complaint}").unwrap();
    }
    assert!(complaints.is_empty(), "\n{text}");
}

#[test]
fn s5_9_only_what_escapes_prints() {
    for source in Source::all() {
        let prints = ["stdout()", "stderr()", "println!", "print!"];
        let prints = prints.iter().any(|word| {
            let mut found = source.product_code.match_indices(word);
            found.any(|(at, _)| !source.product_code[..at].ends_with('_'))
        });
        let may = PRINTS.contains(&&*source.name);
        assert!(
            may || !prints,
            "{} prints: let `tools::say`, a `Screen` or the log do it",
            source.name
        );
        assert!(prints || !may, "{} does not print any more", source.name);
    }
}

#[test]
fn imports_look_down() {
    let mut complaints = Vec::new();
    for source in Source::all() {
        let Some(layer) = source.layer() else {
            continue;
        };
        let Some((_, may)) = MAY_IMPORT.iter().find(|(name, _)| *name == layer) else {
            complaints.push(format!(
                "src/{}: the layer `{layer}` is not in MAY_IMPORT",
                source.name
            ));
            continue;
        };
        for import in source.imports() {
            let own = is_in(&import, layer);
            let allowed = may.iter().any(|other| is_in(&import, other));
            let forbidden = MUST_NOT_IMPORT
                .iter()
                .any(|(name, other)| *name == layer && is_in(&import, other));
            // `crate::Name` and `crate::macro!` are not modules; modules are in small letters.
            let module = MAY_IMPORT.iter().any(|(name, _)| is_in(&import, name));
            if module && !own && (!allowed || forbidden) {
                complaints.push(format!("src/{} uses crate::{import}", source.name));
            }
        }
    }
    report(&complaints);
}

#[test]
fn wire_crates_stay_where_they_belong() {
    let mut complaints = Vec::new();
    for source in Source::all() {
        for (name, places) in ONLY_IN {
            let allowed = places.iter().any(|place| source.name.starts_with(place));
            if source.names_crate(name) && !allowed {
                complaints.push(format!(
                    "src/{} names {name}, which only {places:?} may",
                    source.name
                ));
            }
        }
    }
    report(&complaints);
}

#[test]
fn no_file_is_orphaned() {
    let src = root().join("src");
    let mut reached = BTreeSet::new();
    let mut open = vec![src.join("lib.rs"), src.join("main.rs")];
    while let Some(file) = open.pop() {
        if !reached.insert(file.clone()) {
            continue;
        }
        let source = Source::read(&file);
        let stem = file.file_stem().unwrap().to_string_lossy().into_owned();
        let folder = match stem.as_str() {
            "lib" | "main" | "mod" => file.parent().unwrap().to_owned(),
            _ => file.with_extension(""),
        };
        for part in source.code.split("mod ").skip(1) {
            let end = part
                .find(|c: char| !c.is_alphanumeric() && c != '_')
                .unwrap_or(part.len());
            let (name, rest) = part.split_at(end);
            if rest.starts_with(';') {
                let file = folder.join(format!("{name}.rs"));
                open.push(if file.is_file() {
                    file
                } else {
                    folder.join(name).join("mod.rs")
                });
            }
        }
    }
    let all: BTreeSet<PathBuf> = rust_files(&src).into_iter().collect();
    let orphans = all
        .difference(&reached)
        .map(|file| format!("{}: no `mod` leads to it", file.display()));
    report(&orphans.collect::<Vec<_>>());
}

/// The rooms of the bridge, from the top to the bottom: each may import those below it.
const ROOMS: [&str; 5] = ["request", "discovery", "subscriber", "bus", "store"];

/// Folders in which no files may import each other in a circle.
const WITHOUT_CIRCLES: [&str; 10] = [
    "bridge/",
    "codec/",
    "config/",
    "homeassistant/",
    "link/",
    "model/",
    "schema/",
    "serve/",
    "shell/",
    "tools/",
];

impl Source {
    /// The path of its module: `bridge/bus/calls.rs` is `bridge::bus::calls`.
    fn module(&self) -> String {
        let name = self.name.strip_suffix(".rs").unwrap_or(&self.name);
        name.strip_suffix("/mod").unwrap_or(name).replace('/', "::")
    }

    /// The modules of `all` that its product code imports, as the paths of their files.
    fn imported<'a>(&self, all: &'a [Source]) -> BTreeSet<&'a str> {
        let mut found = BTreeSet::new();
        let own = self.module();
        for start in ["crate::", "super::", "self::"] {
            for (at, _) in self.product_code.match_indices(start) {
                let before = &self.product_code[..at];
                // `pub(in crate::…)` imports nothing.
                if before.ends_with("::")
                    || before.ends_with("(in ")
                    || before.ends_with(|c: char| c.is_alphanumeric() || c == '_')
                {
                    continue;
                }
                let mut code = &self.product_code[at..];
                let mut from = own.as_str();
                if let Some(rest) = code.strip_prefix("crate::") {
                    (code, from) = (rest, "");
                } else if let Some(rest) = code.strip_prefix("self::") {
                    code = rest;
                }
                while let Some(rest) = code.strip_prefix("super::") {
                    code = rest;
                    from = from.rsplit_once("::").map_or("", |(parent, _)| parent);
                }
                paths(code, from, &mut found);
            }
        }
        // `mod child;` imports nothing, `child::name` does.
        for part in self.product_code.split("mod ").skip(1) {
            let Some((child, _)) = part.split_once(';') else {
                continue;
            };
            if !child.chars().all(|c| c.is_alphanumeric() || c == '_') {
                continue;
            }
            let start = format!("{child}::");
            for (at, _) in self.product_code.match_indices(&start) {
                let before = self.product_code[..at].chars().next_back();
                if !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
                    paths(&self.product_code[at..], &own, &mut found);
                }
            }
        }
        let module_of = |path: &String| {
            let holds = |source: &&Source| {
                let module = source.module();
                let rest = path.strip_prefix(&module);
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
            };
            let deepest = all.iter().filter(holds);
            deepest.max_by_key(|source| source.module().len())
        };
        let found = found.iter().filter_map(module_of);
        let found = found.map(|source| source.name.as_str());
        found.filter(|name| *name != self.name).collect()
    }
}

#[test]
fn rooms_look_only_down() {
    let all = Source::all();
    let mut complaints = Vec::new();
    let room = |name: &str| {
        let rest = name.strip_prefix("bridge/")?;
        let (room, _) = rest.split_once('/')?;
        Some(
            ROOMS
                .iter()
                .position(|other| *other == room)
                .unwrap_or_else(|| panic!("{room}")),
        )
    };
    for source in &all {
        let Some(own) = room(&source.name) else {
            continue;
        };
        for import in source.imported(&all) {
            let up = room(import).is_none_or(|other| other < own);
            if import.starts_with("bridge/") && up {
                complaints.push(format!("src/{} imports src/{import}", source.name));
            }
        }
    }
    report(&complaints);
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let all = Source::all();
    let mut complaints = Vec::new();
    for folder in WITHOUT_CIRCLES {
        let mut left: Vec<(&str, BTreeSet<&str>)> = all
            .iter()
            .filter(|source| source.name.starts_with(folder))
            .map(|source| (source.name.as_str(), source.imported(&all)))
            .collect();
        // What imports nothing that is left is in no circle.
        loop {
            let names: BTreeSet<&str> = left.iter().map(|(name, _)| *name).collect();
            let before = left.len();
            left.retain(|(_, imports)| imports.iter().any(|import| names.contains(import)));
            if left.len() == before {
                break;
            }
        }
        let names: BTreeSet<&str> = left.iter().map(|(name, _)| *name).collect();
        for (name, imports) in &left {
            let imports: Vec<_> = imports.intersection(&names).collect();
            complaints.push(format!("src/{name} imports {imports:?}"));
        }
    }
    report(&complaints);
}

#[test]
fn no_service_type_or_path_is_spelt_out_beside_the_schema() {
    let mut types: BTreeSet<String> = [
        "vebus",
        "battery",
        "solarcharger",
        "settings",
        "system",
        "tank",
    ]
    .into_iter()
    .map(str::to_owned)
    .collect();
    for entry in std::fs::read_dir(root().join("schema"))
        .into_iter()
        .flatten()
    {
        let file = entry.unwrap().path();
        let stem = file.file_stem().unwrap().to_string_lossy().into_owned();
        if file
            .extension()
            .is_some_and(|extension| extension == "toml")
            && !stem.starts_with('_')
        {
            types.insert(stem);
        }
    }
    // `/Soc`, `/Ac/L1/Power`: items begin with a capital.
    let is_item = |text: &str| {
        let first = text.strip_prefix('/').and_then(|rest| rest.chars().next());
        first.is_some_and(|c| c.is_ascii_uppercase()) && !text.contains([' ', '{', ':'])
    };
    let mut complaints = Vec::new();
    for source in Source::all() {
        // What handles services; settings and programs around the bridge have words of their own.
        let handles = [
            "model",
            "codec",
            "homeassistant",
            "bridge",
            "link",
            "serve",
            "shell",
        ];
        if !source.layer().is_some_and(|layer| handles.contains(&layer)) {
            continue;
        }
        for text in &source.product_texts {
            let other = OTHER_WORDS.contains(&(source.name.as_str(), text.as_str()));
            if (types.contains(text) && !other) || is_item(text) {
                complaints.push(format!(
                    "src/{} spells out {text:?}: a word for the schema?",
                    source.name
                ));
            }
        }
    }
    report(&complaints);
}

/// What a native speaker would not say, or only of something else.
const NOT_PLAIN: [&str; 9] = [
    "can be no ",
    "must be no ",
    " is no ",
    "for ever",
    "vouches",
    "thrown away",
    "lets us ",
    "makes no sense",
    " of their own",
];

#[test]
fn texts_are_plain_english() {
    let mut complaints = Vec::new();
    for source in Source::all() {
        for text in &source.product_texts {
            let plain = text.to_lowercase().replace("there is no ", "");
            let plain = plain.replace("is no longer", "");
            for phrase in NOT_PLAIN.iter().filter(|phrase| plain.contains(**phrase)) {
                complaints.push(format!("src/{}: {phrase:?} in {text:?}", source.name));
            }
        }
    }
    report(&complaints);
}

#[test]
fn the_checks_see_what_they_look_for() {
    let text = concat!(
        "//! crate::shell in a comment\n",
        "use crate::{model::name::{PortalId, self}, codec};\n",
        "use super::super::link::session;\n",
        "fn f<'a>(x: &'a str) -> char { let _ = \"crate::tools\"; let _ = r#\"say \"vebus\"\"#; '\"' }\n",
        "pub(crate) fn g() { crate::shell::run(); not_zbus::y(); a.zbus::<T>(); b::zbus::c() }\n",
    );
    let (code, texts) = lex(text);
    assert_eq!(texts, ["crate::tools", "say \"vebus\""]);
    let source = Source {
        name: "bridge/x.rs".into(),
        product_code: code.clone(),
        product_texts: texts.clone(),
        code,
        texts,
    };
    let imports: Vec<String> = source.imports().into_iter().collect();
    assert_eq!(
        imports,
        [
            "codec",
            "link::session",
            "model::name::PortalId",
            "model::name::self",
            "shell::run"
        ]
    );
    assert!(!source.names_crate("zbus"), "only as a path of its own");
    for code in [
        "use zbus::X;",
        "use zbus;",
        "fn f() { zbus::x() }",
        "fn f() -> ::zbus::X {}",
    ] {
        let source = Source {
            code: code.into(),
            name: "x.rs".into(),
            ..Source::default()
        };
        assert!(source.names_crate("zbus"), "{code}");
    }
    assert!(is_in("codec::packet_v5::Packet", "codec::packet"));
    assert!(!is_in("codecs", "codec"));
    assert_eq!(
        (source.layer(), source.depth(), source.texts.len()),
        (Some("bridge"), 2, 2)
    );
}
