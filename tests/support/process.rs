//! A child process that does not outlive its test, and where to find programs.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// A child that is killed when the guard goes.
pub struct Process {
    child: Child,
}

impl Process {
    pub fn new(child: Child) -> Process {
        Process { child }
    }

    /// Starts a server and waits until it is ready. What it complains of goes into a file, and into
    /// the failure where it ends instead.
    pub fn serve(
        mut command: Command,
        complaints: &Path,
        mut ready: impl FnMut() -> bool,
    ) -> Process {
        let program = command.get_program().to_string_lossy().into_owned();
        let file = File::create(complaints).unwrap();
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file);
        let mut process = Process::new(command.spawn().unwrap());
        super::poll(
            &format!("{program} to take connections"),
            super::PATIENCE,
            || {
                if let Some(status) = process.exited() {
                    let said = std::fs::read_to_string(complaints).unwrap_or_default();
                    panic!("{program} ended with {status}: {said}");
                }
                ready().then_some(())
            },
        );
        process
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// The processor time that it has used so far.
    pub fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id())).unwrap();
        let after_name = stat.rsplit_once(')').unwrap().1;
        let ticks = after_name
            .split_whitespace()
            .skip(11)
            .take(2)
            .map(|n| n.parse::<u64>().unwrap());
        Duration::from_millis(ticks.sum::<u64>() * 10) // Linux counts in hundredths, whatever its own tick
    }

    /// A number of its status, such as `VmRSS:`, which is in KiB.
    pub fn status(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// Ends it for good, at once.
    pub fn kill(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }

    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits for it to end by itself.
    pub fn wait_exit(&mut self, patience: Duration) -> ExitStatus {
        super::poll("the process to end", patience, || self.exited())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill(); // SIGKILL ends a stopped process as well
    }
}

/// Where a program is; `None`, said aloud, where it is not installed. With `REQUIRE_LIVE=1` that is a
/// failure: there the machine is meant to have everything.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    folders.extend(["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from));
    let found = folders
        .into_iter()
        .map(|folder| folder.join(program))
        .find(|file| file.is_file());
    if found.is_none() {
        assert!(
            std::env::var_os("REQUIRE_LIVE").is_none_or(|value| value != "1"),
            "{program} is not installed, and REQUIRE_LIVE=1 says that it must be"
        );
        let test = std::thread::current().name().unwrap_or("a test").to_owned();
        // Past the harness, which would swallow what a green test prints.
        writeln!(
            std::io::stderr(),
            "SKIPPED {test}: {program} is not installed"
        )
        .ok();
    }
    found
}
