//! Compiles `schema/*.toml` into static tables. The compiler is in `build/`.

use std::path::Path;
use std::{env, fs, io};

use compile::Source;

#[path = "build/compile.rs"]
mod compile;

fn main() -> io::Result<()> {
    // Of a directory, cargo watches every file in it, and what is added and removed.
    println!("cargo::rerun-if-changed=schema");
    let sources = sources(Path::new("schema"))?;
    match compile::compile(&sources) {
        Ok(tables) => {
            let out = env::var_os("OUT_DIR").ok_or(io::ErrorKind::NotFound)?;
            fs::write(Path::new(&out).join("schema.rs"), tables)
        }
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
