//! The broker of VRM, as registration sees it: whether it may be connected, and when it was lost.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use tokio::sync::Notify;

use crate::bridge::Bridge;
use crate::config::VrmConfig;

/// What registration and the task of the broker share.
#[derive(Debug)]
pub struct Uplink {
    broker: usize,
    /// The first attempt to register is not over: the broker would refuse us.
    held: AtomicBool,
    wanted: AtomicBool,
    connected: AtomicBool,
    losses: AtomicU32,
    changed: Notify,
}

impl Uplink {
    /// The broker, where this device is to be registered first.
    pub fn new(vrm: &VrmConfig) -> Option<Uplink> {
        vrm.registration.as_ref().map(|_| Uplink {
            broker: vrm.broker,
            held: AtomicBool::new(true),
            wanted: AtomicBool::new(false),
            connected: AtomicBool::new(false),
            losses: AtomicU32::new(0),
            changed: Notify::new(),
        })
    }

    /// Takes note of what the bridge knows of the broker.
    pub fn note(&self, bridge: &Bridge) {
        let connected = bridge.is_connected(self.broker);
        let lost = self.connected.swap(connected, Ordering::Relaxed) && !connected;
        if lost {
            self.losses.fetch_add(1, Ordering::Relaxed);
        }
        let wanted = bridge.wants(self.broker);
        if self.wanted.swap(wanted, Ordering::Relaxed) != wanted || lost {
            self.changed.notify_one();
        }
    }

    /// Whether this broker must wait.
    pub fn holds(&self, broker: usize) -> bool {
        self.broker == broker && self.held.load(Ordering::Relaxed)
    }

    /// Lets the broker be connected. `true` where it had to wait until now.
    pub fn release(&self) -> bool {
        self.held.swap(false, Ordering::Relaxed)
    }

    /// How often the broker was connected and lost; the number wraps.
    pub fn losses(&self) -> u32 {
        self.losses.load(Ordering::Relaxed)
    }

    /// Waits until it is lost, or wanted, or not wanted any more.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }
}
