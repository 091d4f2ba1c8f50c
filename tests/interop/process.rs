//! Child processes that are read line by line, waited for with a bound, and never left behind.

use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::process::Child;
use std::process::ChildStdin;
use std::process::Command;
use std::process::ExitStatus;
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use mainstay::time::now;

/// How long anything may take: a multiple of what it does take on a loaded machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A running child. Dropping it kills it; if a test is failing, it first prints what the child said.
pub(crate) struct Process {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    lines: mpsc::Receiver<String>,
    said: Vec<String>,
}

impl Process {
    /// Starts a child whose two outputs are read as one.
    pub(crate) fn start(name: impl Into<String>, command: &mut Command) -> Self {
        let name = name.into();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{name}: {command:?} does not start: {error}"));
        let (sender, lines) = mpsc::channel();
        forward(child.stdout.take().expect("it is piped"), sender.clone());
        forward(child.stderr.take().expect("it is piped"), sender);
        let stdin = child.stdin.take();
        Self { name, child, stdin, lines, said: Vec::new() }
    }

    /// Waits for a line of which `find` makes something. Lines before it are skipped.
    pub(crate) fn wait_for<T>(&mut self, what: &str, mut find: impl FnMut(&str) -> Option<T>) -> T {
        let end = now() + PATIENCE;
        loop {
            let left = end.saturating_duration_since(now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    let found = find(&line);
                    self.said.push(line);
                    if let Some(found) = found {
                        return found;
                    }
                }
                Err(gone) => panic!("{} never said {what}: {gone}", self.name),
            }
        }
    }

    /// Writes a line to the child's stdin.
    pub(crate) fn tell(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("it stays open as long as this");
        writeln!(stdin, "{line}").and_then(|()| stdin.flush()).expect("the child listens");
    }

    /// Sends SIGTERM.
    pub(crate) fn terminate(&self) {
        let status = Command::new("kill").arg("-TERM").arg(self.child.id().to_string()).status();
        assert!(status.expect("there is a kill").success(), "{} is there to be signalled", self.name);
    }

    /// Sends SIGKILL and waits until the process is gone.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it is there to be killed");
        self.child.wait().expect("it can be waited for");
    }

    /// Tells whether it still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("it can be asked").is_none()
    }

    /// Waits until it ends by itself.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        until(&format!("the end of {}", self.name), || self.child.try_wait().expect("it can be asked"))
    }

    /// Waits until it ends by itself, and takes all that it has said since the last [`wait_for`](Self::wait_for).
    pub(crate) fn finish(&mut self) -> (ExitStatus, Vec<String>) {
        let status = self.wait();
        // The readers hang up when the pipes close, which the end of the child does.
        let rest: Vec<String> = self.lines.iter().collect();
        self.said.extend(rest.iter().cloned());
        (status, rest)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            self.said.extend(self.lines.try_iter());
            eprintln!("---- {} said:\n{}", self.name, self.said.join("\n"));
        }
    }
}

/// Asks again and again until there is an answer.
pub(crate) fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(now() < end, "waited {PATIENCE:?} for {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

fn forward(output: impl Read + Send + 'static, lines: mpsc::Sender<String>) {
    thread::spawn(move || {
        for line in BufReader::new(output).lines() {
            let Ok(line) = line else { return };
            if lines.send(line).is_err() {
                return;
            }
        }
    });
}
