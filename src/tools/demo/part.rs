//! A part of the demo on a separate thread: started and known to be ready, stopped and known to
//! be gone.

use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::tools::ToolError;

/// A running part. Dropping it asks the thread to end; [`stop`](Part::stop) waits for that, too.
#[derive(Debug)]
pub(crate) struct Part {
    name: &'static str,
    stop: Option<oneshot::Sender<()>>,
    ended: oneshot::Receiver<Result<(), String>>,
    thread: Option<JoinHandle<()>>,
}

/// Ends when the part is to stop.
pub(crate) type Stop = oneshot::Receiver<()>;
/// Takes what the part tells when it is ready.
pub(crate) type Ready<T> = oneshot::Sender<T>;

impl Part {
    /// Starts a thread and waits until it is ready.
    pub(crate) async fn start<T: Send + 'static>(
        name: &'static str,
        run: impl FnOnce(Ready<T>, Stop) -> Result<(), String> + Send + 'static,
    ) -> Result<(Part, T), ToolError> {
        let fault = |reason: String| ToolError::DemoPart { part: name, reason };
        let (ready, is_ready) = oneshot::channel();
        let (stop, stopped) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let thread = Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                // Nobody listens any more where the demo is ending already.
                let _ = end.send(run(ready, stopped));
            })
            .map_err(|error| fault(error.to_string()))?;
        let mut part = Part {
            name,
            stop: Some(stop),
            ended,
            thread: Some(thread),
        };
        match is_ready.await {
            Ok(told) => Ok((part, told)),
            Err(_) => Err(part.failure().await),
        }
    }

    /// Waits for the part to end by itself, which it should not; why it did.
    pub(crate) async fn failure(&mut self) -> ToolError {
        let reason = match (&mut self.ended).await {
            Ok(Ok(())) => String::from("it stopped by itself"),
            Ok(Err(reason)) => reason,
            Err(_) => String::from("its thread panicked"),
        };
        ToolError::DemoPart {
            part: self.name,
            reason,
        }
    }

    /// Stops the part and waits for its thread, though not forever.
    pub(crate) async fn stop(mut self) {
        drop(self.stop.take());
        let ended = tokio::time::timeout(STOP, &mut self.ended).await.is_ok();
        if let Some(thread) = self.thread.take()
            && ended
        {
            // It has said that it is done, so this takes no time. A panic was reported already.
            let _ = thread.join();
        }
    }
}

/// Runs a future to its end on a runtime of this thread.
pub(crate) fn on_runtime(future: impl Future<Output = Result<(), String>>) -> Result<(), String> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?
        .block_on(future)
}

/// How long a part may take to stop.
const STOP: Duration = Duration::from_secs(8);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_part_tells_when_it_is_ready_and_ends_when_told() {
        let (part, told) = Part::start("test", |ready, stop| {
            ready.send(7).map_err(|_| String::from("nobody there"))?;
            on_runtime(async {
                let _ = stop.await;
                Ok(())
            })
        })
        .await
        .unwrap();
        assert_eq!(told, 7);
        part.stop().await;
    }

    #[tokio::test]
    async fn a_part_that_cannot_start_says_why() {
        let run = |_: Ready<()>, _: Stop| Err(String::from("no room"));
        let error = Part::start("test", run).await.unwrap_err();
        assert_eq!(error.to_string(), "the demo cannot start its test: no room");
    }
}
