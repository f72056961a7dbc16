//! A pause, cheaper and finer than the runtime's own: its timer counts in milliseconds, and setting
//! it wakes the runtime once more.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::intercept::register;

/// One timer of the kernel.
pub(super) struct Timer(AsyncFd<OwnedFd>);

impl Timer {
    /// Fails where there are no descriptors left.
    pub(super) fn new() -> io::Result<Timer> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        Ok(Timer(register(timer, Interest::READABLE)?))
    }

    /// Waits. One that is dropped halfway does not shorten the next.
    pub(super) async fn pause(&self, length: Duration) -> io::Result<()> {
        let end = Instant::now() + length;
        let spec = Itimerspec {
            it_interval: Timespec::default(),
            it_value: Timespec {
                tv_sec: length.as_secs().try_into().unwrap_or_default(),
                tv_nsec: length.subsec_nanos().into(),
            },
        };
        timerfd_settime(self.0.get_ref(), TimerfdTimerFlags::empty(), &spec)?;
        // Setting the timer takes back what it has said; what the runtime still holds of that is
        // told by the clock.
        loop {
            self.0.readable().await?.clear_ready();
            if Instant::now() >= end {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_pause_lasts_as_long_as_it_should() {
        let timer = Timer::new().unwrap();
        let long = Duration::from_millis(30);
        tokio::select! {
            biased;
            () = std::future::ready(()) => {}
            result = timer.pause(Duration::from_micros(1)) => result.unwrap(),
        }
        for length in [Duration::from_micros(200), long, Duration::from_micros(1)] {
            let before = Instant::now();
            timer.pause(length).await.unwrap();
            assert!(before.elapsed() >= length);
        }
    }

    #[tokio::test]
    async fn one_that_was_dropped_does_not_shorten_the_next() {
        let timer = Timer::new().unwrap();
        let short = Duration::from_millis(1);
        tokio::select! {
            biased;
            result = timer.pause(short) => result.unwrap(),
            () = tokio::task::yield_now() => {}
        }
        tokio::time::sleep(short * 5).await; // what it says now is nobody's
        let before = Instant::now();
        timer.pause(short * 20).await.unwrap();
        assert!(before.elapsed() >= short * 20);
    }
}
