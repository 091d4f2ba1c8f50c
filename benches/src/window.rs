//! What counting a call costs, by the number of calls that the window holds.

use std::hint::black_box;
use std::time::Duration;

use mainstay::guard::Breaker;
use mainstay::policy::BreakerConfig;
use mainstay::policy::WindowConfig;
use mainstay::policy::window::Window;
use mainstay::time::now;
use tower::Layer;

use crate::harness::Case;
use crate::harness::IMMEDIATE;
use crate::harness::Peer;
use crate::harness::Run;
use crate::harness::succeed;
use crate::peers::time_window;

const HOUR: Duration = Duration::from_secs(3600);

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for size in [1_000, 60_000] {
        let policy = |variant, make: fn(u32) -> Run| {
            Case::new("window", "mainstay", variant, None, move || make(size)).sized(size.into())
        };
        cases.push(policy("policy-time", moving));
        cases.push(policy("policy-count", counting));
        let whole = move || filled(breaker_layer(), size);
        cases.push(Case::new("window", "mainstay", "breaker", Some(IMMEDIATE), whole).sized(size.into()));
    }
    // A call costs it as much as there are calls in the window: with 60,000, filling it takes minutes under valgrind.
    for size in [1_000, 10_000] {
        let whole = move || filled(succeed(time_window(HOUR).layer(Peer::Immediate)), size);
        cases.push(Case::new("window", "tower-resilience", "breaker", Some(IMMEDIATE), whole).sized(size.into()));
    }
    cases
}

/// A window over ten seconds in which time goes on, so that as many calls leave it as enter.
fn moving(size: u32) -> Run {
    let period = Duration::from_secs(10);
    let mut window = Window::new(WindowConfig::Time { period, buckets: 10 }).expect("the settings are in range");
    let mut at = now();
    let mut run: Run = Box::new(move |calls| {
        for call in 0..calls {
            at += period / size;
            black_box(window.record(at, call % 8 == 0));
        }
    });
    run(u64::from(size));
    run
}

fn counting(size: u32) -> Run {
    let mut window = Window::new(WindowConfig::Count(size)).expect("the settings are in range");
    let at = now();
    let mut run: Run = Box::new(move |calls| {
        for call in 0..calls {
            black_box(window.record(at, call % 8 == 0));
        }
    });
    run(u64::from(size));
    run
}

/// A breaker whose window is so long that it keeps everything.
fn breaker_layer() -> Run {
    let window = WindowConfig::Time { period: HOUR, buckets: 10 };
    let breaker = Breaker::new("peer", BreakerConfig { window, ..BreakerConfig::default() });
    succeed(breaker.expect("the settings are in range").layer().layer(Peer::Immediate))
}

fn filled(mut run: Run, size: u32) -> Run {
    run(u64::from(size));
    run
}
