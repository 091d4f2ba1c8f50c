//! Every interleaving of what is shared without a lock, or decided under one.
//!
//! ```text
//! RUSTFLAGS="--cfg mainstay_loom" cargo test --release --test loom
//! ```
//!
//! Without that cfg this file is empty. Handles are shared through `std`'s `Arc`, which loom does not look into; what it
//! looks into is the state inside.
#![cfg(mainstay_loom)]

use std::time::Duration;

use loom::thread;
use mainstay::Failure;
use mainstay::Outcome;
use mainstay::event::BreakerState;
use mainstay::guard::Admit;
use mainstay::guard::Breaker;
use mainstay::guard::Bulkhead;
use mainstay::guard::Retrier;
use mainstay::guard::RetrierConfig;
use mainstay::guard::Settle;
use mainstay::outcome::Ending;
use mainstay::policy::Attempt;
use mainstay::policy::BreakerConfig;
use mainstay::policy::Condition;
use mainstay::policy::Decision;
use mainstay::policy::Jitter;
use mainstay::policy::OpenFor;
use mainstay::policy::RetryConfig;
use mainstay::policy::RetryState;
use mainstay::rng::Rng;
use mainstay::time::Instant;
use mainstay::time::now;

const THREADS: usize = 2;

/// Runs `f` in the threads beside this one, and here, at once; what each of them says.
fn at_once<R: 'static>(f: impl Fn(usize) -> R + Clone + Send + 'static) -> Vec<R>
where
    R: Send,
{
    let others: Vec<_> = (0..THREADS)
        .map(|number| {
            let f = f.clone();
            thread::spawn(move || f(number))
        })
        .collect();
    let mut said = vec![f(THREADS)];
    said.extend(others.into_iter().map(|other| other.join().expect("it does not panic")));
    said
}

#[test]
fn a_bulkhead_never_exceeds_its_limit_and_never_leaks() {
    loom::model(|| {
        let bulkhead = Bulkhead::new("loom", 2);
        let shared = bulkhead.clone();
        let start = now();
        let permits = at_once(move |_| {
            let permit = shared.admit(start);
            assert!(shared.in_flight() <= 2);
            permit.ok()
        });
        assert_eq!(permits.iter().flatten().count(), 2, "as many as there are places");
        drop(permits);
        assert_eq!(bulkhead.in_flight(), 0);
    });
}

#[test]
fn a_place_that_is_freed_is_taken_by_one() {
    loom::model(|| {
        let bulkhead = Bulkhead::new("loom", 1);
        let shared = bulkhead.clone();
        let start = now();
        at_once(move |_| drop(shared.admit(start)));
        assert_eq!(bulkhead.in_flight(), 0);
        assert!(bulkhead.admit(start).is_ok(), "the place is not lost");
    });
}

fn failed() -> Attempt {
    let ending = Ending::new(Outcome::Failure(Failure::Reset));
    Attempt { ending, committed: false, replayable: true, idempotent: true }
}

#[test]
fn no_more_retries_run_than_may_and_each_gives_its_place_back() {
    loom::model(|| {
        let retry = RetryConfig { on: [Condition::Reset].into(), ..RetryConfig::default() };
        let config = RetrierConfig { retry, max_retries: 1, ..RetrierConfig::default() };
        let retrier = Retrier::new("loom", config).expect("it is valid");
        let shared = retrier.clone();
        let start = now();
        let permits = at_once(move |_| {
            let (decision, permit) = shared.decide(start, None, &mut RetryState::default(), &failed());
            assert!(shared.running() <= 1);
            assert_eq!(matches!(decision, Decision::Again { .. }), permit.is_some());
            permit
        });
        assert_eq!(permits.iter().flatten().count(), 1);
        drop(permits);
        assert_eq!(retrier.running(), 0);
        assert_eq!(retrier.balance(start), Some(99), "the budget paid for the one that was made");
    });
}

/// A breaker that is half open at the instant that is returned.
fn half_open(permits: u32) -> (Breaker, Instant) {
    let open_for = OpenFor { jitter: Jitter::None, ..OpenFor::default() };
    let config =
        BreakerConfig { consecutive: Some(1), half_open_permits: permits, open_for, ..BreakerConfig::default() };
    let breaker = Breaker::new("loom", config).expect("it is valid");
    let start = now();
    breaker.admit(start).expect("it is closed").settle(start, Outcome::Failure(Failure::Server));
    (breaker, start + Duration::from_secs(5))
}

/// resilience B25.
#[test]
fn no_more_probes_than_permits_and_no_transition_is_lost() {
    loom::model(|| {
        let (breaker, then) = half_open(1);
        let shared = breaker.clone();
        let probes = at_once(move |_| shared.admit(then).ok());
        assert_eq!(probes.iter().flatten().count(), 1, "one probe");
        assert_eq!(breaker.state(), BreakerState::HalfOpen);
        for probe in probes.into_iter().flatten() {
            probe.settle(then, Outcome::Success);
        }
        assert_eq!(breaker.state(), BreakerState::Closed);
    });
}

/// resilience B25: a failure decides, whatever comes beside it.
#[test]
fn probes_that_end_at_once_decide_once() {
    loom::model(|| {
        let (breaker, then) = half_open(3);
        let probes: Vec<_> = (0..3).map(|_| breaker.admit(then).ok()).collect();
        let probes = std::sync::Arc::new(std::sync::Mutex::new(probes));
        at_once(move |number| {
            let probe = probes.lock().expect("nobody panics")[number].take().expect("it was admitted");
            probe.settle(then, Outcome::Failure(Failure::Server));
        });
        let snapshot = breaker.snapshot();
        assert_eq!((snapshot.state, snapshot.era), (BreakerState::Open, 3));
        assert_eq!(snapshot.late_results, 1, "two of three open it; the last comes too late");
    });
}

#[test]
fn two_threads_never_draw_the_same_number() {
    loom::model(|| {
        let rng = std::sync::Arc::new(Rng::with_seed(7));
        let mut drawn: Vec<_> = at_once(move |_| [rng.next(), rng.next()]).into_iter().flatten().collect();
        drawn.sort_unstable();
        drawn.dedup();
        assert_eq!(drawn.len(), 2 * (THREADS + 1));
    });
}
