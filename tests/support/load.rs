//! Load: changes that go on while something else is done to the bridge.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::bus::Bus;
use super::peer::Peer;
use super::service::{Service, properties_changed};
use super::wire::V;

/// Changes without end, from a thread: the items of a tank, twenty times a second.
pub struct Load {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(Peer, Service)>,
}

impl Load {
    /// A thousand changes a second.
    pub fn start(bus: &Bus) -> Load {
        Load::of(bus, 50)
    }

    /// Twenty times as many changes a second as there are items.
    pub fn of(bus: &Bus, items: u32) -> Load {
        let mut service = Service::device("tank", "load", 1);
        let paths: Vec<String> = (0..items).map(|item| format!("/Load/{item}")).collect();
        for path in &paths {
            service = service.item(path, V::I(-1));
        }
        let peer = bus.serve(service.clone());
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            for round in 0.. {
                for path in &paths {
                    peer.set(&service.name, path, V::I(round));
                    service.items.get_mut(path).unwrap().value = V::I(round);
                }
                let signals = paths
                    .iter()
                    .map(|path| properties_changed(path, V::I(round)));
                let gone = peer.try_burst(signals).is_err();
                if gone || stopped.load(Ordering::Relaxed) {
                    break;
                }
                std::thread::sleep(Duration::from_millis(50)); // the rate
            }
            (peer, service)
        });
        Load { stop, thread }
    }

    /// Waits until the bus has gone.
    pub fn bereft(self) {
        self.thread.join().unwrap();
    }

    /// Stops; gives the owner, to be kept, and the service as it is in the end.
    pub fn finish(self) -> (Peer, Service) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}
