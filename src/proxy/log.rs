//! Where access log lines go: through a bounded queue to a thread that writes, so that a slow disk delays no call.

use std::fs::OpenOptions;
use std::io;
use std::io::Write;
use std::mem;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::mpsc::SyncSender;
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

/// The access log of the process. A clone is the same one.
#[derive(Clone)]
pub(crate) struct Log(Arc<Shared>);

struct Shared {
    lines: Mutex<String>,
    queue: SyncSender<Message>,
    dropped: Counter,
}

enum Message {
    Lines(String),
    Flush,
}

/// Ends the writing thread when it is dropped, after it has written what there is.
pub(crate) struct Writer {
    log: Log,
    thread: Option<JoinHandle<()>>,
    stop: Arc<std::sync::atomic::AtomicBool>,
}

/// Lines are handed over when there are this many bytes of them, or at the next tick.
const BATCH: usize = 16 * 1024;
const TICK: Duration = Duration::from_millis(200);
/// Batches that may wait for the disk: 16 MiB. Beyond that lines are dropped, and counted.
const QUEUE: usize = 1024;

impl Log {
    /// Opens the log.
    pub(crate) fn open(config: &AccessLog, dropped: Counter) -> Result<(Self, Writer), BoxError> {
        let mut sink: Box<dyn Write + Send> = match config {
            AccessLog::Stdout => Box::new(io::stdout()),
            AccessLog::File(path) => {
                let file = OpenOptions::new().create(true).append(true).open(path);
                Box::new(file.map_err(|error| format!("cannot write the access log {}: {error}", path.display()))?)
            }
        };
        let (queue, batches) = sync_channel(QUEUE);
        let log = Self(Arc::new(Shared { lines: Mutex::new(String::new()), queue, dropped }));
        let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let (ticking, stopped) = (log.clone(), stop.clone());
        let thread = thread::Builder::new().name("access-log".into()).spawn(move || {
            loop {
                let lines = match batches.recv_timeout(TICK) {
                    Ok(Message::Lines(lines)) => lines,
                    Ok(Message::Flush) | Err(RecvTimeoutError::Timeout) => mem::take(&mut *lock(&ticking.0.lines)),
                    Err(RecvTimeoutError::Disconnected) => return,
                };
                let written = sink.write_all(lines.as_bytes()).and_then(|()| sink.flush());
                if written.is_err() {
                    ticking.0.dropped.increment(lines.lines().count() as u64);
                }
                if lines.is_empty() && stopped.load(std::sync::atomic::Ordering::Acquire) {
                    return;
                }
            }
        })?;
        Ok((log.clone(), Writer { log, thread: Some(thread), stop }))
    }

    /// Adds a line.
    pub(crate) fn line(&self, write: impl FnOnce(&mut String)) {
        let mut lines = lock(&self.0.lines);
        write(&mut lines);
        if lines.len() < BATCH {
            return;
        }
        let batch = mem::replace(&mut *lines, String::with_capacity(BATCH + BATCH / 4));
        drop(lines);
        if let Err(full) = self.0.queue.try_send(Message::Lines(batch)) {
            let (std::sync::mpsc::TrySendError::Full(message) | std::sync::mpsc::TrySendError::Disconnected(message)) =
                full;
            if let Message::Lines(lines) = message {
                self.0.dropped.increment(lines.lines().count() as u64);
            }
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop.store(true, std::sync::atomic::Ordering::Release);
        let _ = self.log.0.queue.try_send(Message::Flush);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
