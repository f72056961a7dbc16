//! A conversation with a broker, one question at a time: the doctor's use of [`Session`].

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::codec::packet::Version;
use crate::config::BrokerConfig;
use crate::link::session::LinkError;
use crate::shell::transport::Stream;
use crate::tools::session::{Event, Session, client_id};

/// What one read takes at most.
const READ_BYTES: usize = 16 * 1024;
/// How long a broker may take to close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// An open connection, and what is on its way.
pub(super) struct Talk {
    stream: Stream,
    session: Session,
    input: Vec<u8>,
    pub(super) out: Vec<u8>,
}

impl Talk {
    /// Logs in, under a separate name: that of the bridge would throw it off the broker.
    pub(super) fn open(stream: Stream, broker: &BrokerConfig, version: Version) -> Talk {
        let mut out = Vec::new();
        let login = broker.login.as_ref();
        let session = Session::open(version, &client_id(), login, Instant::now(), &mut out);
        Talk {
            stream,
            session,
            input: Vec::new(),
            out,
        }
    }

    pub(super) fn subscribe(&mut self, filter: String) {
        self.session
            .subscribe(&[filter], Instant::now(), &mut self.out);
    }

    pub(super) fn publish(&mut self, topic: &str, payload: &str) {
        self.session
            .publish(topic, payload.as_bytes(), &mut self.out);
    }

    pub(super) fn fence(&mut self) {
        self.session.fence(&mut self.out);
    }

    /// Talks until `enough` says so of what has come, or the time is over. Tells which.
    pub(super) async fn until(
        &mut self,
        time: Duration,
        mut enough: impl FnMut(&Event<'_>) -> bool,
    ) -> Result<bool, LinkError> {
        let end = Instant::now() + time;
        loop {
            while let Some((length, event)) =
                self.session
                    .receive(Instant::now(), &mut self.input, &mut self.out)?
            {
                let done = enough(&event);
                self.input.drain(..length);
                if done {
                    return Ok(true);
                }
            }
            let left = end.saturating_duration_since(Instant::now());
            match tokio::time::timeout(left, self.exchange()).await {
                Ok(exchanged) => exchanged?,
                Err(_) => return Ok(false),
            }
        }
    }

    async fn exchange(&mut self) -> Result<(), LinkError> {
        while !self.out.is_empty() {
            let written = self.stream.write(&self.out).await?;
            if written == 0 {
                return Err(LinkError::Closed);
            }
            self.out.drain(..written);
        }
        self.input.reserve(READ_BYTES);
        match self.stream.read_buf(&mut self.input).await? {
            0 => Err(LinkError::Closed),
            _ => Ok(()),
        }
    }

    /// Ends it in order.
    pub(super) async fn close(mut self) {
        self.session.close(&mut self.out);
        let ended = async {
            self.stream.write_all(&self.out).await?;
            self.stream.shutdown().await
        };
        // It has said all that matters.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, ended).await;
    }
}
