//! Compiles `schema/*.toml` into static tables (the compiler is in `build/`), and compresses the page.

use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hasher};
use std::io::Write as _;
use std::path::Path;
use std::{env, fs, io};

use flate2::Compression;
use flate2::write::GzEncoder;

use compile::Source;

#[path = "build/compile.rs"]
mod compile;

fn main() -> io::Result<()> {
    // Of a directory, cargo watches every file in it, and what is added and removed.
    println!("cargo::rerun-if-changed=schema");
    println!("cargo::rerun-if-changed={ASSETS}");
    let out = env::var_os("OUT_DIR").ok_or(io::ErrorKind::NotFound)?;
    if env::var_os("CARGO_FEATURE_WEB").is_some() {
        assets(Path::new(ASSETS), Path::new(&out))?;
    }
    let sources = sources(Path::new("schema"))?;
    match compile::compile(&sources) {
        Ok(tables) => fs::write(Path::new(&out).join("schema.rs"), tables),
        Err(errors) => {
            // Cargo shows each of these and fails the build.
            for error in errors {
                println!("cargo::error={error}");
            }
            Ok(())
        }
    }
}

/// The schema files, in the order of their names.
fn sources(folder: &Path) -> io::Result<Vec<Source>> {
    let mut sources = vec![];
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "toml")
        {
            let text = fs::read_to_string(&path)?;
            sources.push(Source {
                name: path.display().to_string(),
                text,
            });
        }
    }
    sources.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(sources)
}

/// The files of the page, compressed, and a table of them: path, kind, tag and bytes.
fn assets(folder: &Path, out: &Path) -> io::Result<()> {
    let mut paths = vec![];
    for entry in fs::read_dir(folder)? {
        paths.push(entry?.path());
    }
    paths.sort();
    let mut table = String::from("static ASSETS: &[Asset] = &[\n");
    for path in paths {
        let name = path.file_name().and_then(|name| name.to_str());
        let extension = path.extension().and_then(|extension| extension.to_str());
        let kind = match extension {
            Some("html") => "text/html; charset=utf-8",
            Some("js") => "text/javascript; charset=utf-8",
            Some("css") => "text/css; charset=utf-8",
            Some("svg") => "image/svg+xml",
            Some("webmanifest") => "application/manifest+json",
            _ => continue,
        };
        let Some(name) = name else { continue };
        let content = fs::read(&path)?;
        let mut hash = DefaultHasher::new();
        hash.write(&content);
        let tag = format!("{:016x}", hash.finish());
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(&content)?;
        fs::write(out.join(format!("{name}.gz")), encoder.finish()?)?;
        let bytes = format!("include_bytes!(concat!(env!(\"OUT_DIR\"), \"/{name}.gz\"))");
        let row = format!(
            "    Asset {{ path: \"/{name}\", kind: {kind:?}, tag: \"\\\"{tag}\\\"\", bytes: {bytes} }},\n"
        );
        table.write_str(&row).map_err(io::Error::other)?;
    }
    table.push_str("];\n");
    fs::write(out.join("assets.rs"), table)
}

/// Where the files of the page are.
const ASSETS: &str = "src/shell/http/assets";
