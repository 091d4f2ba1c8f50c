//! Times, allocations, and instructions by valgrind.

use std::alloc::System;
use std::process::Command;
use std::time::Duration;

use mainstay::time::now;
use stats_alloc::INSTRUMENTED_SYSTEM;
use stats_alloc::Region;
use stats_alloc::StatsAlloc;

use crate::harness::Case;
use crate::harness::Run;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// What one call costs.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    /// The low decile of batches: what else the machine does can only add.
    pub nanos: f64,
    pub allocations: f64,
    pub bytes: f64,
    pub instructions: Option<f64>,
}

/// Enough for buffers to reach their size.
const WARM_UP: u64 = 64;
const BATCH: Duration = Duration::from_micros(200);
const BATCHES: usize = 200;

pub fn native(case: &Case) -> Figures {
    let mut run = (case.make)();
    run(WARM_UP);
    let batch = batch(&mut run);

    let region = Region::new(ALLOCATOR);
    run(batch);
    let change = region.change();
    let mut nanos: Vec<_> = (0..BATCHES).map(|_| time(&mut run, batch).as_nanos() as f64 / batch as f64).collect();
    nanos.sort_by(f64::total_cmp);
    Figures {
        nanos: nanos[BATCHES / 10],
        allocations: (change.allocations + change.reallocations) as f64 / batch as f64,
        bytes: change.bytes_allocated as f64 / batch as f64,
        instructions: None,
    }
}

/// How many calls fill a batch.
fn batch(run: &mut Run) -> u64 {
    let mut calls = 1;
    while time(run, calls) < BATCH {
        calls *= 2;
    }
    calls
}

fn time(run: &mut Run, calls: u64) -> Duration {
    let started = now();
    run(calls);
    now().saturating_duration_since(started)
}

/// Makes so many calls and nothing else: what valgrind looks at.
pub fn only(case: &Case, calls: u64) {
    let mut run = (case.make)();
    run(WARM_UP);
    run(calls);
}

pub fn has_valgrind() -> bool {
    Command::new("valgrind").arg("--version").output().is_ok_and(|output| output.status.success())
}

/// The instructions of one call: those of 2N calls, less those of N, by N. So what the set-up takes does not count.
pub fn instructions(case: &Case, nanos: f64) -> Option<f64> {
    let calls = if nanos > 10_000.0 { 50 } else { 2_000 };
    let (once, twice) = (collected(case, calls)?, collected(case, 2 * calls)?);
    Some((twice as f64 - once as f64) / calls as f64)
}

fn collected(case: &Case, calls: u64) -> Option<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe().ok()?)
        .args(["--only", &case.id(), &calls.to_string()])
        .output()
        .ok()?;
    let report = String::from_utf8_lossy(&output.stderr).into_owned();
    let (_, count) = report.split_once("Collected : ")?;
    count.split_whitespace().next()?.parse().ok()
}
