//! The documentation: links lead somewhere, and files that are named are there.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The pages: what stands at the top, and the folders that have some.
fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = [
        "",
        "docs",
        "packaging",
        "schema",
        "tests/fixtures/recordings",
    ];
    let mut pages = Vec::new();
    for folder in folders {
        for entry in root.join(folder).read_dir().unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "md") {
                pages.push(path);
            }
        }
    }
    pages
}

/// What a heading is called in a link: lower case, dashes for spaces, nothing but letters and digits.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    let kept = kept.chars().filter_map(|c| match c {
        ' ' => Some('-'),
        c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c),
        _ => None,
    });
    kept.collect()
}

fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter_map(|line| {
        let rest = line.trim_start_matches('#');
        (rest.len() < line.len()).then(|| rest.strip_prefix(' '))?
    });
    headings.map(anchor).collect()
}

#[test]
fn every_link_leads_somewhere() {
    let mut wrong = Vec::new();
    let mut links = 0;
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap();
        for link in text.split("](").skip(1) {
            let link = link.split(')').next().unwrap();
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            links += 1;
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => page.clone(),
                _ => page.parent().unwrap().join(file),
            };
            let found = match heading {
                "" => target.exists(),
                _ => std::fs::read_to_string(&target)
                    .is_ok_and(|text| anchors(&text).contains(heading)),
            };
            if !found {
                wrong.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(links > 40, "{links} links: are the pages still found?");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The names of files and folders that a text has in backticks, or at the start of a line of a diagram.
fn names(text: &str) -> BTreeSet<&str> {
    let quoted = text.split('`').skip(1).step_by(2);
    let drawn = text.lines().filter_map(|line| line.split("  ").next());
    let is_name = |name: &&str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "./_-".contains(c);
        let is_path = name.contains('/') || name.contains(".rs") || name.contains(".md");
        is_path && name.chars().all(plain)
    };
    quoted.chain(drawn).filter(is_name).collect()
}

#[test]
fn the_architecture_names_what_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap();
    // Diagrams first: their fences would be taken for backticks.
    let text = text.replace("```", "");
    let names = names(&text);
    assert!(names.len() > 40, "{names:?}");
    let missing: Vec<_> = names
        .into_iter()
        .filter(|name| {
            let places = [
                "",
                "src",
                "src/bridge",
                "src/bridge/request",
                "src/bridge/subscriber",
            ];
            let more = ["src/model", "src/shell", "src/serve", "src/shell/serve"];
            let mut places = places.iter().chain(&more);
            !places.any(|place| root.join(place).join(name).exists())
        })
        .collect();
    assert!(missing.is_empty(), "not there: {missing:?}");
    let lines = text.lines().count();
    assert!(
        lines <= 150,
        "{lines} lines: say less, or say it in the code"
    );
}
