//! A bridge whose bus is in memory, for those who run many of them: the same [`Bridge`], the
//! same sessions and the same tasks as [`run`](super::run), but for the task of the bus.

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use tokio::task::JoinSet;

use super::run::{bridge_config, keep_time};
use super::shared::{BusTask, Shared, Stats, now};
use super::supervisor::{Supervisor, Watch};
use super::{broker, reload};
use crate::bridge::Bridge;
use crate::bridge::calls::Call;
use crate::codec::frame::Frame;
use crate::config::Config;

/// The bus as whoever simulates it sees it: calls come out, frames go in.
pub struct MemoryBus {
    task: BusTask,
}

impl MemoryBus {
    /// The bridge's next call.
    pub async fn call(&self) -> Call {
        loop {
            let call = self.task.shared.bridge().poll_call();
            match call {
                Some(call) => return call,
                None => self.task.signals.calls.notified().await,
            }
        }
    }

    /// Hands these to the bridge, as if they had come together.
    pub fn send<'a>(&self, frames: impl IntoIterator<Item = Frame<'a>>) {
        let time = now();
        self.task.shared.with(|bridge| {
            for frame in frames {
                bridge.bus_frame(time, &frame);
            }
        });
    }
}

/// Runs a bridge on a bus that `serve` simulates, until `shutdown`; then it clears what it published. `false`
/// where there was not time enough for that.
pub async fn run<F: Future<Output = ()>>(
    config: Config,
    stats: Arc<Stats>,
    serve: impl FnOnce(MemoryBus) -> F,
    shutdown: impl Future<Output = ()>,
) -> bool {
    let bridge = Bridge::new(bridge_config(&config));
    let shared = Arc::new(Shared::new(bridge, None, stats));
    shared.reconfigure(reload::settings(&config));
    let mut others = JoinSet::new();
    let watch = Watch::new(Supervisor::default(), Instant::now());
    others.spawn(keep_time(shared.timer_task(), watch));
    let time = config.limits.shutdown;
    let mut brokers = JoinSet::new();
    for task in shared.broker_tasks() {
        brokers.spawn(broker::run(config.clone(), task));
    }
    drop(config);
    shared.with(|bridge| bridge.bus_connected(now()));
    tokio::select! {
        () = shutdown => {}
        () = serve(MemoryBus { task: shared.bus_task() }) => {}
    }
    shared.end();
    let all = async { while brokers.join_next().await.is_some() {} };
    tokio::time::timeout(time, all).await.is_ok()
}
