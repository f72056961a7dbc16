//! Texts of the operator's: a settings file and schema files. Whatever is in them, there is a value or
//! a sentence, and no secret in either.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use dbus_mqtt::config::{ConfigError, Layers, Machine, PortalId, RawConfig};
use dbus_mqtt::schema::{Schema, Source};

/// One text: a settings file, and a schema file. With lines such as `#!battery.toml` in it, the schema
/// file ends where such a line begins another one, of that name; what is behind `#!over` lies over
/// what is before it.
pub fn config_schema(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    settings(text);
    schema(text);
}

/// A settings file, of bytes of any kind: it says how the program is set, or where the mistake is.
pub fn config_file(data: &[u8]) {
    let here = Here::new();
    let error = match here.read(data) {
        Ok((dump, secrets)) => {
            if secrets.is_empty() {
                // What is printed is a settings file, and means the same.
                let (again, _) = here.read(dump.as_bytes()).expect("what was printed");
                assert_eq!(values(&again), values(&dump));
            }
            return;
        }
        Err(error) => error.to_string(),
    };
    sentence(&error);
    let file = here.folder.join("settings.toml").display().to_string();
    let unreadable = error.starts_with("--config: cannot read ");
    let line = error.strip_prefix(&format!("{file}:"));
    let line = line.and_then(|rest| rest.split_once(": ")?.0.parse::<usize>().ok());
    let lines = data.split(|byte| *byte == b'\n').count();
    let is_in_file = line.is_some_and(|line| (1..=lines).contains(&line));
    // Other files that it names have lines of their own.
    let elsewhere = data.windows(6).any(|word| word == b"schema");
    assert!(unreadable || is_in_file || elsewhere, "{error:?}");
}

/// The settings as printed, without where each is from.
fn values(dump: &str) -> Vec<&str> {
    let lines = dump.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| line.rsplit_once("  # ").map_or(line, |(value, _)| value))
        .collect()
}

// Settings.

fn settings(text: &str) {
    let here = Here::new();
    match here.read(text.as_bytes()) {
        Err(error) => sentence(&error.to_string()),
        Ok((dump, secrets)) => {
            for secret in secrets {
                // Another secret in its place makes no difference to what is shown.
                let other = "?".repeat(secret.chars().count());
                if secret.len() >= 4 && text.matches(&*secret).count() == 1 {
                    let (again, _) = here
                        .read(text.replace(&*secret, &other).as_bytes())
                        .expect("what differs in a password");
                    assert_eq!(dump, again);
                }
            }
        }
    }
}

/// A machine of its own, which has nothing but its name and the settings file.
struct Here {
    folder: PathBuf,
}

impl Here {
    fn new() -> Here {
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() {
            memory.to_owned()
        } else {
            std::env::temp_dir()
        };
        let thread = format!("{:?}", std::thread::current().id());
        let folder = folder.join(format!("dbus-mqtt-fuzz-{}-{thread}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("unique-id"), crate::frames::PORTAL).unwrap();
        Here { folder }
    }

    /// What `dbus-mqtt config` shows, and the secrets that it must not.
    fn read(&self, text: &[u8]) -> Result<(String, Vec<Box<str>>), ConfigError> {
        let nothing = self.folder.join("nothing");
        let machine = Machine {
            environment: BTreeMap::new(),
            venus: vec![self.folder.clone()],
            unique_id_file: self.folder.join("unique-id"),
            unique_id_command: nothing.clone(),
            interfaces: nothing.clone(),
            vrm_certificate: nothing.clone(),
            vrm_password_file: nothing.clone(),
            version_file: nothing,
        };
        let file = self.folder.join("settings.toml");
        fs::write(&file, text).unwrap();
        let arguments = RawConfig::default().with("config", file);
        let layers = Layers::read(arguments, &machine)?;
        let _ = layers.debug();
        let source = layers.portal_id(&machine)?;
        let portal_id = source.id().cloned().unwrap_or_else(PortalId::unknown);
        let config = layers.resolve(&machine, &portal_id)?;
        // What can be run can be shown.
        let dump = layers.dump(&machine)?;
        let logins = config
            .brokers
            .iter()
            .filter_map(|broker| broker.login.as_ref());
        let secrets = logins.map(|login| Box::from(login.password.expose()));
        let secrets: Vec<Box<str>> = secrets.collect();
        let shown = format!("{config:?}");
        for secret in &secrets {
            let found = text.windows(secret.len().max(1));
            let count = found.filter(|word| *word == secret.as_bytes()).count();
            let once = secret.len() >= 8 && count == 1;
            assert!(!once || !shown.contains(&**secret));
        }
        Ok((dump, secrets))
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

// Schema.

fn schema(text: &str) {
    let mut schema = Schema::default();
    let mut files = vec![Source {
        name: "schema/battery.toml".into(),
        text: String::new(),
    }];
    for line in text.lines() {
        match line.strip_prefix("#!") {
            Some("over") => {
                add(&mut schema, &files);
                files.clear();
            }
            Some(name) => {
                let name = format!("schema/{name}");
                let text = String::new();
                files.push(Source { name, text });
            }
            None => {
                if let Some(file) = files.last_mut() {
                    file.text.push_str(line);
                    file.text.push('\n');
                }
            }
        }
    }
    add(&mut schema, &files);
}

/// Lays the files over the schema, or says all that is wrong with them; nothing is done by halves.
fn add(schema: &mut Schema, files: &[Source]) {
    let before = schema.clone();
    match schema.add(files) {
        Err(mistakes) => {
            assert!(!mistakes.is_empty());
            assert!(*schema == before);
            for mistake in mistakes {
                let mistake = mistake.to_string();
                sentence(&mistake);
                let named = files.iter().any(|file| mistake.starts_with(&*file.name));
                assert!(named, "{mistake:?}");
            }
        }
        Ok(count) => {
            for file in files {
                let name = file.name.rsplit('/').next().unwrap_or_default();
                let name = name.trim_end_matches(".toml");
                let _ = schema.describe(name);
                let rows = schema.rows(name);
                assert!(rows.len() < 200_000);
                for (path, rule) in rows {
                    // What names a path is what a lookup finds.
                    if !path.contains('{') {
                        let row = schema.lookup(name, &path);
                        assert!(row.known && *row.rule == *rule, "{name} {path}");
                    }
                }
            }
            assert!(count <= files.iter().map(|file| file.text.len()).sum::<usize>() * 1_000);
        }
    }
}

/// Something that can be shown to people, in one line.
fn sentence(text: &str) {
    assert!(text.len() > 10 && text.len() < 10_000, "{text:?}");
}
