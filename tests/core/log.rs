//! What the bridge logs while a test runs, in the thread of that test.

use std::io;
use std::sync::{Arc, Mutex, OnceLock};

use tracing::Dispatch;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;

/// The lines that were logged since this was made, or last asked.
pub struct Log {
    bytes: Arc<Mutex<Vec<u8>>>,
    _guard: tracing::subscriber::DefaultGuard,
}

#[derive(Clone)]
struct Writer(Arc<Mutex<Vec<u8>>>);

impl io::Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Writer {
    type Writer = Writer;

    fn make_writer(&self) -> Writer {
        self.clone()
    }
}

impl Log {
    /// Listens from now on, until it is dropped.
    pub fn new() -> Log {
        // Where there is one dispatcher only, a line that a thread without it comes by first is never
        // logged by anybody. Two are asked, whoever comes first.
        static SECOND: OnceLock<Dispatch> = OnceLock::new();
        SECOND.get_or_init(|| Dispatch::new(tracing_subscriber::registry()));
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let layer = tracing_subscriber::fmt::layer()
            .with_writer(Writer(Arc::clone(&bytes)))
            .with_ansi(false)
            .without_time();
        let guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
        Log {
            bytes,
            _guard: guard,
        }
    }

    /// The lines since this was last asked that have `part` in them.
    pub fn take(&self, part: &str) -> Vec<String> {
        let bytes = std::mem::take(&mut *self.bytes.lock().unwrap());
        let text = String::from_utf8(bytes).unwrap();
        let lines = text.lines().filter(|line| line.contains(part));
        lines.map(str::to_owned).collect()
    }
}
