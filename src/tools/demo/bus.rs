//! The D-Bus of the demo: busd, on a thread and a private socket of its own.

use std::fs::DirBuilder;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use busd::bus::Bus;

use super::part::Part;
use crate::tools::ToolError;

/// A fresh directory that only we can enter. It goes when this is dropped.
#[derive(Debug)]
pub(crate) struct PrivateDir {
    path: PathBuf,
}

impl PrivateDir {
    /// Makes one among the system's temporary files.
    pub(crate) fn create() -> Result<PrivateDir, ToolError> {
        let parent = std::env::temp_dir();
        // A socket's path has 107 bytes at most.
        let parent = if parent.as_os_str().len() > PARENT_BYTES_MAX {
            PathBuf::from("/tmp")
        } else {
            parent
        };
        let mut number = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |time| time.subsec_nanos());
        loop {
            let path = parent.join(format!("dbus-mqtt-demo-{}-{number:x}", std::process::id()));
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(PrivateDir { path }),
                Err(reason) if reason.kind() == ErrorKind::AlreadyExists => {
                    number = number.wrapping_add(1);
                }
                Err(reason) => return Err(ToolError::File { path, reason }),
            }
        }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for PrivateDir {
    fn drop(&mut self) {
        // The bus may be taking its socket away just now, which the first try can stumble over.
        // There is nobody left to tell about the second.
        let remove = || std::fs::remove_dir_all(&self.path);
        let _ = remove().or_else(|_| remove());
    }
}

/// Starts the bus; the address that clients use.
pub(crate) async fn start(directory: &PrivateDir) -> Result<(Part, String), ToolError> {
    let address = format!("unix:path={}", directory.path().join("bus").display());
    Part::start("D-Bus", move |ready, stop| {
        zruntime::block_on(async move {
            let bus = Bus::for_address(Some(&address)).await;
            let mut bus = bus.map_err(|error| error.to_string())?;
            // On a busy machine a client may well be late by more than the 0.1 s that busd grants.
            bus.set_send_timeout(SEND_TIMEOUT);
            if ready.send(bus.address().to_string()).is_err() {
                return Ok(());
            }
            let outcome = tokio::select! {
                biased;
                _ = stop => Ok(()),
                outcome = bus.run() => outcome.map_err(|error| error.to_string()),
            };
            // The directory goes with whatever is still in it.
            let _ = bus.cleanup().await;
            outcome
        })
    })
    .await
}

/// How long the bus waits for a client that does not read.
const SEND_TIMEOUT: Duration = Duration::from_secs(20);
/// What is left of a socket's path for the directory of temporary files.
const PARENT_BYTES_MAX: usize = 60;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::bus;

    #[tokio::test]
    async fn the_bus_comes_and_goes() {
        let directory = PrivateDir::create().unwrap();
        let path = directory.path().to_owned();
        let (part, address) = start(&directory).await.unwrap();
        let connection = bus::connect(&address).await.unwrap();
        bus::call(&connection, "ListNames", &()).await.unwrap();
        part.stop().await;
        drop(directory);
        assert!(!path.exists());
        assert!(bus::connect(&address).await.is_err());
    }
}
