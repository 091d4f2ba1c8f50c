//! The peers: upstreams, Python's gRPC client, curl. And what happens where they are missing.

use std::env;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::process::Process;

/// An upstream in a process of its own.
pub(crate) struct Upstream {
    pub(crate) process: Process,
    pub(crate) address: String,
}

impl Upstream {
    fn start(name: &str, command: &mut Command) -> Self {
        let mut process = Process::start(name, command);
        let address = process.wait_for("its address", |line| line.contains(':').then(|| line.to_owned()));
        Self { process, address }
    }

    /// Starts the example server, which cargo builds along with the tests.
    pub(crate) fn greeter(name: &str, delay_ms: u32) -> Self {
        let test = env::current_exe().expect("a test knows where it is");
        let example = test.parent().and_then(Path::parent).expect("it is in target/PROFILE/deps");
        let example = example.join("examples").join("greeter_upstream");
        assert!(example.exists(), "{} is missing: cargo build --features proxy --examples", example.display());
        let mut command = Command::new(example);
        command.args(["--name", name, "--delay", &delay_ms.to_string(), "--until-stdin-closes"]);
        Self::start(name, &mut command)
    }

    /// Starts an HTTP/1.1 server of Python's standard library.
    pub(crate) fn http(python: &Python, name: &str, delay_ms: u32) -> Self {
        Self::start(name, python.command("http_upstream.py").args([name, &delay_ms.to_string()]))
    }
}

/// Python with what `install.sh` put into its environment.
pub(crate) struct Python {
    directory: PathBuf,
}

impl Python {
    /// Finds it, or says loudly that it is missing.
    pub(crate) fn find() -> Option<Self> {
        let directory = env::var_os("MAINSTAY_INTEROP_DIR")
            .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/interop"), PathBuf::from);
        if !directory.join("stamp").exists() {
            missing(&format!("Python's gRPC is not in {}", directory.display()), "run tests/interop/install.sh");
            return None;
        }
        Some(Self { directory })
    }

    fn command(&self, script: &str) -> Command {
        let mut command = Command::new(self.directory.join("venv/bin/python"));
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop").join(script));
        command.env("PYTHONPATH", self.directory.join("stubs")).env("PYTHONDONTWRITEBYTECODE", "1");
        command
    }

    /// Starts a case of `client.py`.
    pub(crate) fn start(&self, target: &str, arguments: &[&str]) -> Process {
        Process::start("client.py", self.command("client.py").arg(target).args(arguments))
    }

    /// Runs a case of `client.py` to its end, and takes what it saw.
    pub(crate) fn run(&self, target: &str, arguments: &[&str]) -> Value {
        seen(self.start(target, arguments))
    }
}

/// Waits for the end of a case, and takes what it saw.
pub(crate) fn seen(mut client: Process) -> Value {
    let (status, said) = client.finish();
    assert!(status.success(), "client.py ended with {status}: {said:#?}");
    let last = said.iter().rev().find_map(|line| serde_json::from_str(line).ok());
    last.unwrap_or_else(|| panic!("client.py printed no JSON: {said:#?}"))
}

/// Starts curl with these arguments, bounded in time and quiet unless something goes wrong. None if there is no curl.
pub(crate) fn curl(arguments: &[&str]) -> Option<Process> {
    if Command::new("curl").arg("--version").output().is_err() {
        missing("there is no curl", "install it");
        return None;
    }
    // No configuration file and no proxy of the machine may have a say.
    let mut command = Command::new("curl");
    command.args(["-q", "-sS", "--noproxy", "*", "--max-time", "40"]).args(arguments);
    Some(Process::start("curl", &mut command))
}

/// What curl's `-i` shows.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

/// Makes one request with curl and reads the whole answer, which must be text in lines. None if there is no curl.
pub(crate) fn fetch(arguments: &[&str]) -> Option<Answer> {
    let mut curl = curl(&[&["-i", "--http1.1"], arguments].concat())?;
    let (status, lines) = curl.finish();
    assert!(status.success(), "curl {arguments:?} ended with {status}: {lines:#?}");
    let mut lines = lines.iter().map(|line| line.trim_end_matches('\r'));
    let mut head: Vec<&str> = Vec::new();
    loop {
        head.extend(lines.by_ref().take_while(|line| !line.is_empty()));
        // "100 Continue" comes before the answer proper.
        if head.first().is_none_or(|line| !line.starts_with("HTTP/1.1 100")) {
            break;
        }
        head.clear();
    }
    let status = head.first().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok());
    let headers = head.iter().skip(1).filter_map(|line| line.split_once(": "));
    Some(Answer {
        status: status.unwrap_or_else(|| panic!("no status line in {head:?}")),
        headers: headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect(),
        body: lines.collect::<Vec<_>>().join("\n"),
    })
}

impl Answer {
    /// All values of a header.
    pub(crate) fn header(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str()).collect()
    }
}

/// Fails where peers are required; elsewhere says what is not being tested, past the test harness, which would hide it.
fn missing(what: &str, remedy: &str) {
    let required = env::var("MAINSTAY_INTEROP").is_ok_and(|value| value == "required");
    assert!(!required, "{what}, and MAINSTAY_INTEROP=required: {remedy}");
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let _ = writeln!(std::io::stderr(), "\n!!!! SKIPPED {test}: {what}; {remedy}\n");
}
