//! The bridge itself, as a process: its log, its exit status, its memory.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::process::Process;
use super::{PATIENCE, poll};

/// A running bridge. What it logged is printed when the test fails.
pub struct Bridge {
    process: Process,
    log: Arc<Mutex<Vec<String>>>,
    /// Those who read its output, until that ends.
    followers: Vec<JoinHandle<()>>,
}

impl Bridge {
    pub fn spawn<S: AsRef<str>>(args: &[S]) -> Bridge {
        Bridge::spawn_with(args, &[])
    }

    /// Spawns it with these additions to an environment that says nothing else about buses, brokers or
    /// logs.
    pub fn spawn_with<S: AsRef<str>>(args: &[S], environment: &[(&str, &str)]) -> Bridge {
        Bridge::spawn_by(Command::new(super::program::path()), args, environment)
    }

    /// The same by another program, which is given this one behind its own arguments.
    pub fn spawn_under<S: AsRef<str>>(mut by: Command, args: &[S]) -> Bridge {
        by.arg(super::program::path());
        Bridge::spawn_by(by, args, &[])
    }

    /// The same, by a command that runs it in another way.
    pub fn spawn_by<S: AsRef<str>>(
        mut command: Command,
        args: &[S],
        environment: &[(&str, &str)],
    ) -> Bridge {
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if name.starts_with("DBUS_") || name.starts_with("RUST_LOG") || name.starts_with("VRM_")
            {
                command.env_remove(name.as_ref());
            }
        }
        let mut child = command
            .args(args.iter().map(AsRef::as_ref))
            .env("NO_COLOR", "1")
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::default();
        let followers = vec![
            follow(child.stdout.take().unwrap(), &log),
            follow(child.stderr.take().unwrap(), &log),
        ];
        Bridge {
            process: Process::new(child),
            log,
            followers,
        }
    }

    pub fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// The lines of the log that hold all of these texts.
    pub fn log_with(&self, texts: &[&str]) -> Vec<String> {
        self.log()
            .into_iter()
            .filter(|line| texts.iter().all(|text| line.contains(text)))
            .collect()
    }

    /// Waits for a line of the log that holds all of these texts.
    pub fn wait_log(&self, texts: &[&str]) -> String {
        poll(&format!("a log line with {texts:?}"), PATIENCE, || {
            self.log_with(texts).into_iter().next()
        })
    }

    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Ends it at once, as a power cut would.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Waits for it to end by itself, and for all that it said to be in the log.
    pub fn wait_exit(&mut self, patience: Duration) -> ExitStatus {
        let status = self.process.wait_exit(patience);
        poll("the end of its output", PATIENCE, || {
            self.followers
                .iter()
                .all(JoinHandle::is_finished)
                .then_some(())
        });
        status
    }

    /// Ends it as the supervisor does, and checks that it ended well.
    pub fn terminate(&mut self) {
        self.signal(Signal::TERM);
        let status = self.wait_exit(Duration::from_secs(10));
        assert_eq!(status.code(), Some(0), "after SIGTERM");
    }

    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.process.exited()
    }

    pub fn assert_alive(&mut self) {
        assert!(self.process.exited().is_none(), "the bridge has ended");
    }

    /// The processor time that it has used so far.
    pub fn cpu(&self) -> Duration {
        self.process.cpu()
    }

    /// The most memory that it has had so far.
    pub fn peak_kib(&self) -> u64 {
        self.process.status("VmHWM:")
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// What it holds just now.
    pub fn vitals(&self) -> Vitals {
        let descriptors = std::fs::read_dir(format!("/proc/{}/fd", self.id())).unwrap();
        Vitals {
            descriptors: descriptors.count(),
            threads: self.process.status("Threads:"),
            rss_kib: self.process.status("VmRSS:"),
        }
    }

    /// Waits until it holds no more descriptors and threads than then, and hardly more memory.
    pub fn wait_vitals(&self, what: &str, before: &Vitals) {
        self.wait_vitals_within(what, before, 16 * 1024);
    }

    /// The same, with this much more memory.
    pub fn wait_vitals_within(&self, what: &str, before: &Vitals, more_kib: u64) {
        let start = Instant::now();
        loop {
            let now = self.vitals();
            if now.descriptors <= before.descriptors
                && now.threads <= before.threads
                && now.rss_kib <= before.rss_kib + more_kib
            {
                println!(
                    "{what}: {before:?}, then {now:?}, {} KiB at most",
                    self.peak_kib()
                );
                return;
            }
            assert!(
                start.elapsed() < PATIENCE,
                "{what}: {before:?} has become {now:?}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// What a process holds.
#[derive(Clone, Debug)]
pub struct Vitals {
    pub descriptors: usize,
    pub threads: u64,
    pub rss_kib: u64,
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.process.kill();
        if std::thread::panicking() {
            let log = self.log();
            let tail = log.len().saturating_sub(100);
            eprintln!("--- the bridge's log, {} lines ---", log.len());
            for line in &log[tail..] {
                eprintln!("{line}");
            }
            eprintln!("---");
        }
    }
}

fn follow(stream: impl Read + Send + 'static, log: &Arc<Mutex<Vec<String>>>) -> JoinHandle<()> {
    let log = Arc::clone(log);
    std::thread::spawn(move || {
        for line in BufReader::new(stream).split(b'\n') {
            let Ok(line) = line else { break };
            log.lock()
                .unwrap()
                .push(String::from_utf8_lossy(&line).into_owned());
        }
    })
}
