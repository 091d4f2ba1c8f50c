//! Who may import whom, and what a room must not contain: read out of the source, not out of good intentions.
//!
//! A failure names the file, the line and the rule.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The shared vocabulary, which every room may use.
const CORE: [&str; 8] = ["context", "error", "event", "host_port", "outcome", "rng", "sync", "time"];

/// A room, the rooms that it may import beside the core and itself, and the words that it must not contain.
struct Room {
    name: &'static str,
    imports: &'static [&'static str],
    forbidden: &'static [&'static str],
}

const EVERYTHING_BUT_PROXY: &[&str] = &[
    "policy",
    "protocol",
    "guard",
    "layer",
    "balance",
    "telemetry",
    "lifecycle",
    "config",
    "client",
    "server",
    "proto",
    "status",
    "command",
    "simulate",
];

const ROOMS: &[Room] = &[
    Room {
        name: "policy",
        imports: &[],
        forbidden: &[
            "tokio::",
            "http::",
            "http_body",
            "hyper",
            "Arc",
            "Mutex",
            "RwLock",
            "Atomic",
            "Instant::now",
            "now()",
            "dyn Fn",
            "crate::sync",
        ],
    },
    Room {
        name: "protocol",
        imports: &[],
        // The one lock of this room is in the body that several attempts share: see LOCK_OF_REPLAY.
        forbidden: &["tokio::", "hyper", "Mutex", "RwLock", "Atomic", "Instant", "SystemTime::now", "crate::time"],
    },
    Room {
        name: "guard",
        imports: &["policy"],
        forbidden: &["tokio::", "http::", "http_body", "hyper", "Service", "spawn"],
    },
    Room {
        name: "layer",
        imports: &["policy", "protocol", "guard"],
        forbidden: &["spawn", "hyper", "Mutex", "RwLock", "Atomic", "static mut", "thread_local!", "OnceLock"],
    },
    Room { name: "balance", imports: &["policy", "protocol", "guard", "layer"], forbidden: &["crate::proxy"] },
    Room { name: "command", imports: &["policy", "guard"], forbidden: &["http::", "hyper"] },
    Room { name: "status", imports: &["protocol"], forbidden: &[] },
    Room { name: "lifecycle", imports: &[], forbidden: &[] },
    Room { name: "telemetry", imports: &["protocol"], forbidden: &[] },
    // Reading the document's file is `Config::from_path`'s business, and nobody else's.
    Room { name: "config", imports: &["policy", "protocol"], forbidden: &["tokio::", "std::net::Tcp", "hyper"] },
    Room { name: "simulate", imports: &["policy", "config"], forbidden: &["tokio::", "Instant::now", "now()"] },
    Room { name: "client", imports: EVERYTHING_BUT_PROXY, forbidden: &["crate::proxy"] },
    Room { name: "server", imports: EVERYTHING_BUT_PROXY, forbidden: &["crate::proxy"] },
    Room { name: "proto", imports: &[], forbidden: &[] },
];

/// Rooms that may import everything.
const FREE: [&str; 4] = ["proxy", "testing", "main", "lib"];

/// `protocol/replay`: the body of an attempt lives in a connection's task, the one who decides in the caller's.
const LOCK_OF_REPLAY: &str = "src/protocol/replay";

#[derive(Debug, PartialEq)]
struct Line {
    file: String,
    number: usize,
    /// Without comments and string literals.
    code: String,
}

/// What a source file says, line by line, without its comments and its inline tests.
fn lines(file: &str, text: &str) -> Vec<Line> {
    let mut lines = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim() == "#[cfg(test)]" {
            break;
        }
        lines.push(Line { file: file.to_owned(), number: index + 1, code: code(line) });
    }
    lines
}

fn code(line: &str) -> String {
    let mut code = String::new();
    let (mut quoted, mut escaped) = (false, false);
    let mut rest = line.chars().peekable();
    while let Some(char) = rest.next() {
        match char {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if quoted => {}
            '/' if rest.peek() == Some(&'/') => break,
            _ => code.push(char),
        }
    }
    code
}

/// The rooms that a line names: after `crate::`, and after `super::` in a file right below `src`.
fn imported(line: &Line) -> Vec<String> {
    let depth = line.file.matches('/').count() - 1;
    let mut found = Vec::new();
    for (at, prefix) in line.code.match_indices("crate::").chain(line.code.match_indices("super::")) {
        // `super::super::` and the like lead out of the room when there are as many as the file lies deep.
        let supers = line.code[..at].chars().rev().collect::<String>();
        let above = supers.matches("::repus").count() + 1;
        if prefix == "super::" && (above <= depth || line.code[at + prefix.len()..].starts_with("super::")) {
            continue;
        }
        let rest = &line.code[at + prefix.len()..];
        let name: String = rest.chars().take_while(|char| char.is_ascii_alphanumeric() || *char == '_').collect();
        if name.starts_with(|char: char| char.is_ascii_lowercase()) {
            found.push(name);
        }
    }
    found
}

fn contains_word(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        let joins = |char: Option<char>| char.is_some_and(|char| char.is_ascii_alphanumeric() || char == '_');
        let starts = !word.starts_with(|char: char| char.is_ascii_alphanumeric()) || !joins(before);
        // `Atomic` stands for all of its kind.
        starts && (word == "Atomic" || !word.ends_with(|char: char| char.is_ascii_alphanumeric()) || !joins(after))
    })
}

fn room(file: &str) -> &str {
    let path = file.strip_prefix("src/").unwrap_or(file);
    path.split_once('/').map_or(path.trim_end_matches(".rs"), |(room, _)| room)
}

/// What is wrong with one file.
fn check(file: &str, text: &str) -> Vec<String> {
    let name = room(file);
    let lines = lines(file, text);
    let mut wrong = Vec::new();
    let mut say = |line: &Line, rule: String| wrong.push(format!("{}:{}: {rule}", line.file, line.number));
    for line in &lines {
        let clock = ["Instant::now", "SystemTime::now"].iter().any(|clock| contains_word(&line.code, clock));
        if clock && !clock_may_be_read(file, &line.code) {
            say(line, "only `time::now` reads the clock".to_owned());
        }
    }
    if FREE.contains(&name) {
        return wrong;
    }
    let core = Room { name: "core", imports: &[], forbidden: &["http::", "hyper", "RwLock"] };
    let rules = match ROOMS.iter().find(|room| room.name == name) {
        Some(rules) => rules,
        None if CORE.contains(&name) => &core,
        None => {
            wrong.push(format!("{file}:1: `{name}` is a room without rules: give it some"));
            return wrong;
        }
    };
    for line in &lines {
        for import in imported(line) {
            let known = ROOMS.iter().any(|room| room.name == import) || FREE.contains(&import.as_str());
            if known && import != name && !rules.imports.contains(&import.as_str()) {
                say(line, format!("`{}` must not import `{import}`", rules.name));
            }
        }
        for word in rules.forbidden {
            let excepted = file.starts_with(LOCK_OF_REPLAY) && matches!(*word, "Mutex" | "Arc");
            if !excepted && contains_word(&line.code, word) {
                say(line, format!("`{}` must not contain `{word}`", rules.name));
            }
        }
        if rules.name == "core" && file != "src/time.rs" && contains_word(&line.code, "tokio::") {
            say(line, "of the core, only `time` may use tokio".to_owned());
        }
    }
    wrong
}

/// `time.rs` reads the clock of tokio; telemetry stamps wall-clock time, in one place.
fn clock_may_be_read(file: &str, code: &str) -> bool {
    file == "src/time.rs" || file.starts_with("src/telemetry/") && contains_word(code, "SystemTime::now")
}

fn sources(folder: &str) -> Vec<(String, String)> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        for entry in entries {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&Path::new(ROOT).join(folder), &mut found);
    found.sort();
    let name = |path: &Path| path.strip_prefix(ROOT).expect("below the root").to_string_lossy().replace('\\', "/");
    found.iter().map(|path| (name(path), fs::read_to_string(path).expect("text"))).collect()
}

#[test]
fn every_room_keeps_to_its_rules() {
    let wrong: Vec<_> = sources("src").iter().flat_map(|(file, text)| check(file, text)).collect();
    assert!(wrong.is_empty(), "{} lines break a rule:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn no_file_is_longer_than_600_lines() {
    let files: Vec<_> = ["src", "tests"].into_iter().flat_map(sources).collect();
    assert!(files.len() > 50, "the files were found");
    for (file, text) in files {
        let length = text.lines().count();
        assert!(length <= 600, "{file}:600: it has {length} lines; 600 is the most");
    }
}

#[test]
fn clocks_are_read_in_one_place() {
    let readers: Vec<_> = sources("src")
        .iter()
        .flat_map(|(file, text)| lines(file, text))
        .filter(|line| contains_word(&line.code, "Instant::now"))
        .map(|line| line.file)
        .collect();
    assert_eq!(readers, ["src/time.rs"]);
    let stamps: Vec<_> = sources("src")
        .iter()
        .flat_map(|(file, text)| lines(file, text))
        .filter(|line| contains_word(&line.code, "SystemTime::now"))
        .map(|line| format!("{}:{}", line.file, line.number))
        .collect();
    assert!(stamps.len() <= 1, "wall-clock time is read in more than one place: {stamps:?}");
}

/// The checker itself: each kind of breach is found at its line, and what only looks like one is not.
#[test]
fn the_checker_finds_what_it_looks_for() {
    let breaches = [
        ("src/policy/x.rs", "use std::sync::Arc;", "src/policy/x.rs:1: `policy` must not contain `Arc`"),
        ("src/policy/x.rs", "\nuse crate::guard::Breaker;", "src/policy/x.rs:2: `policy` must not import `guard`"),
        ("src/policy/x.rs", "use super::super::layer::X;", "src/policy/x.rs:1: `policy` must not import `layer`"),
        ("src/protocol/x.rs", "let x: Mutex<u8>;", "src/protocol/x.rs:1: `protocol` must not contain `Mutex`"),
        (
            "src/guard/x.rs",
            "let n = AtomicU8::new(tokio::now);",
            "src/guard/x.rs:1: `guard` must not contain `tokio::`",
        ),
        ("src/layer/x.rs", "tokio::spawn(f)", "src/layer/x.rs:1: `layer` must not contain `spawn`"),
        ("src/layer/x.rs", "crate::balance::Balance", "src/layer/x.rs:1: `layer` must not import `balance`"),
        ("src/balance/x.rs", "let t = Instant::now();", "src/balance/x.rs:1: only `time::now` reads the clock"),
        ("src/proxy/x.rs", "let t = Instant::now();", "src/proxy/x.rs:1: only `time::now` reads the clock"),
        ("src/event.rs", "use crate::policy::Stop;", "src/event.rs:1: `core` must not import `policy`"),
        ("src/event.rs", "use tokio::time::sleep;", "src/event.rs:1: of the core, only `time` may use tokio"),
        ("src/kitchen/x.rs", "", "src/kitchen/x.rs:1: `kitchen` is a room without rules: give it some"),
    ];
    for (file, text, expected) in breaches {
        assert_eq!(check(file, text), [expected], "{file}: {text}");
    }
    let fine = [
        ("src/policy/x.rs", "// Arc, Mutex and tokio::spawn\nlet text = \"Arc \\\" Mutex\";\nstruct Archive;"),
        ("src/policy/x.rs", "use super::backoff::seconds;\nuse crate::time::Instant;"),
        ("src/protocol/replay.rs", "use crate::sync::Mutex;"),
        ("src/layer/x.rs", "use crate::guard::Breaker;\n#[cfg(test)]\nmod tests { use crate::balance::X; }"),
        ("src/proxy/x.rs", "use crate::client::Channel;"),
    ];
    for (file, text) in fine {
        assert_eq!(check(file, text), Vec::<String>::new(), "{file}: {text}");
    }
}
