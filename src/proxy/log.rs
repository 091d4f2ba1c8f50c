//! Where access log lines go: through a bounded queue to a thread that writes, so that a slow disk delays no call.

use std::convert::Infallible;
use std::fs::OpenOptions;
use std::io;
use std::io::Write;
use std::mem;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::SyncSender;
use std::sync::mpsc::TryRecvError;
use std::sync::mpsc::TrySendError;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::thread::JoinHandle;
use std::time::Duration;

use metrics::Counter;

use crate::config::AccessLog;
use crate::error::BoxError;
use crate::sync::Arc;
use crate::sync::Mutex;
use crate::sync::lock;

/// The access log as one worker writes it: into a buffer of its own.
#[derive(Clone)]
pub(crate) struct Log {
    lines: Arc<Mutex<String>>,
    shared: Arc<Shared>,
}

struct Shared {
    /// The buffers of all workers.
    buffers: Mutex<Vec<Arc<Mutex<String>>>>,
    queue: SyncSender<String>,
    dropped: Counter,
}

/// Owns the thread that writes. Dropping it writes what there is, and ends the thread.
pub(crate) struct Writer {
    stop: Option<SyncSender<Infallible>>,
    thread: Option<JoinHandle<()>>,
}

/// Lines are handed over when there are this many bytes of them, or else at the next tick: seldom, since waking another
/// thread costs as much as a call.
const BATCH: usize = 256 * 1024;
const TICK: Duration = Duration::from_millis(200);
/// Batches that may wait for the disk: 16 MiB. Beyond that lines are dropped, and counted.
const QUEUE: usize = 64;

impl Log {
    /// Opens the log.
    pub(crate) fn open(config: &AccessLog, dropped: Counter) -> Result<(Self, Writer), BoxError> {
        let sink: Box<dyn Write + Send> = match config {
            AccessLog::Stdout => Box::new(io::stdout()),
            AccessLog::File(path) => {
                let file = OpenOptions::new().create(true).append(true).open(path);
                Box::new(file.map_err(|error| format!("cannot write the access log {}: {error}", path.display()))?)
            }
        };
        let (queue, batches) = sync_channel(QUEUE);
        let (stop, stopped) = sync_channel(0);
        let shared = Arc::new(Shared { buffers: Mutex::default(), queue, dropped });
        let writing = shared.clone();
        let thread = thread::Builder::new().name("access-log".into());
        let thread = thread.spawn(move || writing.write(sink, &batches, &stopped))?;
        Ok((Self::joining(shared), Writer { stop: Some(stop), thread: Some(thread) }))
    }

    /// The same log with another buffer.
    pub(crate) fn for_worker(&self) -> Self {
        Self::joining(self.shared.clone())
    }

    fn joining(shared: Arc<Shared>) -> Self {
        let lines = Arc::new(Mutex::default());
        lock(&shared.buffers).push(Arc::clone(&lines));
        Self { lines, shared }
    }

    /// Adds a line.
    pub(crate) fn line(&self, write: impl FnOnce(&mut String)) {
        let mut lines = lock(&self.lines);
        write(&mut lines);
        if lines.len() < BATCH {
            return;
        }
        let batch = mem::replace(&mut *lines, String::with_capacity(BATCH + BATCH / 4));
        drop(lines);
        if let Err(TrySendError::Full(lost) | TrySendError::Disconnected(lost)) = self.shared.queue.try_send(batch) {
            self.shared.lost(&lost);
        }
    }
}

impl Shared {
    fn write(&self, mut sink: Box<dyn Write + Send>, batches: &Receiver<String>, stopped: &Receiver<Infallible>) {
        loop {
            let running = stopped.try_recv() == Err(TryRecvError::Empty);
            match batches.recv_timeout(TICK) {
                Ok(lines) => self.put(&mut *sink, &lines),
                Err(_) => {
                    let buffers = lock(&self.buffers).clone();
                    for buffer in buffers {
                        let lines = mem::take(&mut *lock(&buffer));
                        self.put(&mut *sink, &lines);
                    }
                    if !running {
                        return;
                    }
                }
            }
        }
    }

    fn put(&self, sink: &mut dyn Write, lines: &str) {
        if !lines.is_empty() && sink.write_all(lines.as_bytes()).and_then(|()| sink.flush()).is_err() {
            self.lost(lines);
        }
    }

    fn lost(&self, lines: &str) {
        self.dropped.increment(lines.lines().count() as u64);
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
