use std::time::Duration;

use mainstay::Failure;
use mainstay::Outcome;
use mainstay::event::BreakerState::Closed;
use mainstay::event::BreakerState::ForcedClosed;
use mainstay::event::BreakerState::ForcedOpen;
use mainstay::event::BreakerState::HalfOpen;
use mainstay::event::BreakerState::Open;
use mainstay::policy::Breaker;
use mainstay::policy::BreakerConfig;
use mainstay::policy::Jitter;
use mainstay::policy::OpenFor;
use mainstay::policy::Ticket;
use mainstay::policy::Transition;
use mainstay::policy::WindowConfig;
use mainstay::time::Instant;

use crate::Clock;
use crate::ms;
use crate::random;
use crate::secs;

const OK: Outcome = Outcome::Success;
const FAIL: Outcome = Outcome::Failure(Failure::Server);
const BUSY: Outcome = Outcome::Failure(Failure::Overload);

/// Open for 5 s each time.
fn config() -> BreakerConfig {
    let open_for = OpenFor { start: secs(5.0), max: secs(5.0), factor: 1.0, jitter: Jitter::None };
    BreakerConfig { open_for, ..BreakerConfig::default() }
}

fn call(breaker: &mut Breaker, now: Instant, outcome: Outcome) -> Option<Transition> {
    let ticket = breaker.admit(now).0.expect("the call is admitted");
    breaker.settle(now, ticket, outcome, 0)
}

fn calls(breaker: &mut Breaker, now: Instant, count: usize, outcome: Outcome) {
    for _ in 0..count {
        call(breaker, now, outcome);
    }
}

/// A breaker that was opened at `now`.
fn opened(config: BreakerConfig, now: Instant) -> Breaker {
    let mut breaker = Breaker::new(config).unwrap();
    calls(&mut breaker, now, 20, FAIL);
    assert_eq!(breaker.state(), Open);
    breaker
}

/// A breaker that was opened at 0 s and is half open at 5 s, and the tickets of its probes.
fn half_open(config: BreakerConfig, at: Clock, probes: usize) -> (Breaker, Vec<Ticket>) {
    let mut breaker = opened(config, at.ms(0));
    let tickets = (0..probes).map(|_| breaker.admit(at.ms(5_000)).0.expect("a probe")).collect();
    (breaker, tickets)
}

#[test]
fn resilience_b1_the_twentieth_failure_opens_it() {
    let at = Clock::new();
    let mut breaker = Breaker::new(config()).unwrap();
    calls(&mut breaker, at.ms(0), 19, FAIL);
    assert_eq!(breaker.state(), Closed);
    assert_eq!(call(&mut breaker, at.ms(0), FAIL), Some(Transition { from: Closed, to: Open }));
}

#[test]
fn resilience_b2_half_of_the_calls_are_enough_whichever_come_first() {
    for order in [[OK, FAIL], [FAIL, OK]] {
        let at = Clock::new();
        let mut breaker = Breaker::new(config()).unwrap();
        calls(&mut breaker, at.ms(0), 10, order[0]);
        calls(&mut breaker, at.ms(0), 9, order[1]);
        assert_eq!(breaker.state(), Closed);
        calls(&mut breaker, at.ms(0), 1, order[1]);
        assert_eq!(breaker.state(), Open);
    }
}

#[test]
fn resilience_b3_less_than_half_is_not() {
    let at = Clock::new();
    let mut breaker = Breaker::new(config()).unwrap();
    calls(&mut breaker, at.ms(0), 11, OK);
    calls(&mut breaker, at.ms(0), 10, FAIL);
    assert_eq!(breaker.state(), Closed);
}

#[test]
fn resilience_b4_failures_that_have_left_the_window_do_not_count() {
    for (last, expected, count) in [(9_900, Open, 20), (10_100, Closed, 18)] {
        let at = Clock::new();
        let mut breaker = Breaker::new(config()).unwrap();
        for n in 0..19 {
            call(&mut breaker, at.ms(n * 500), FAIL);
        }
        assert_eq!(breaker.state(), Closed);
        call(&mut breaker, at.ms(last), FAIL);
        assert_eq!((breaker.state(), breaker.snapshot(at.ms(last)).failures), (expected, count));
    }
}

#[test]
fn resilience_b5_an_idle_gap_clears_the_window() {
    let at = Clock::new();
    let mut breaker = Breaker::new(config()).unwrap();
    calls(&mut breaker, at.ms(0), 19, FAIL);
    calls(&mut breaker, at.ms(25_000), 19, FAIL);
    assert_eq!(breaker.state(), Closed);
}

#[test]
fn resilience_b6_a_window_over_four_calls() {
    let at = Clock::new();
    let mut breaker = Breaker::new(BreakerConfig { window: WindowConfig::Count(4), min_calls: 4, ..config() }).unwrap();
    for outcome in [FAIL, OK, OK] {
        assert_eq!(call(&mut breaker, at.ms(0), outcome), None);
    }
    call(&mut breaker, at.ms(0), FAIL);
    assert_eq!(breaker.state(), Open);
}

#[test]
fn resilience_b7_a_success_ends_a_run_of_failures() {
    let at = Clock::new();
    let mut breaker = Breaker::new(BreakerConfig { failure_rate: None, consecutive: Some(5), ..config() }).unwrap();
    for outcome in [FAIL, FAIL, FAIL, FAIL, OK, FAIL, FAIL, FAIL, FAIL] {
        assert_eq!(call(&mut breaker, at.ms(0), outcome), None);
    }
    call(&mut breaker, at.ms(0), FAIL);
    assert_eq!(breaker.state(), Open);
}

#[test]
fn an_overload_counts_in_the_rate_and_not_in_the_run() {
    let at = Clock::new();
    let mut by_run = Breaker::new(BreakerConfig { failure_rate: None, consecutive: Some(2), ..config() }).unwrap();
    calls(&mut by_run, at.ms(0), 1, FAIL);
    calls(&mut by_run, at.ms(0), 50, BUSY);
    assert_eq!((by_run.state(), by_run.snapshot(at.ms(0)).consecutive), (Closed, 1));
    calls(&mut by_run, at.ms(0), 1, FAIL);
    assert_eq!(by_run.state(), Open);
    let mut by_rate = Breaker::new(config()).unwrap();
    calls(&mut by_rate, at.ms(0), 20, BUSY);
    assert_eq!(by_rate.state(), Open);
}

#[test]
fn resilience_b9_it_is_open_for_exactly_its_time() {
    let at = Clock::new();
    let mut breaker = opened(config(), at.ms(0));
    assert_eq!(breaker.open_until(), Some(at.ms(5_000)));
    assert_eq!(breaker.admit(at.ms(4_999)), (Err(ms(1)), None));
    let (admitted, transition) = breaker.admit(at.ms(5_000));
    assert!(admitted.is_ok());
    assert_eq!(transition, Some(Transition { from: Open, to: HalfOpen }));
    assert_eq!(breaker.open_until(), None);
}

#[test]
fn resilience_b10_probes_decide_as_soon_as_they_can() {
    for (outcomes, decided_at, expected) in [
        (vec![FAIL, FAIL, FAIL], 3, Open),
        (vec![FAIL, FAIL, OK, OK, OK], 5, Closed),
        (vec![OK, OK, OK], 3, Closed),
        (vec![OK, OK, FAIL, FAIL, BUSY], 5, Open),
    ] {
        let at = Clock::new();
        let (mut breaker, tickets) = half_open(config(), at, 5);
        for (number, (ticket, outcome)) in tickets.into_iter().zip(&outcomes).enumerate() {
            let transition = breaker.settle(at.ms(5_000), ticket, *outcome, 0);
            let expected = (number + 1 == decided_at).then_some(Transition { from: HalfOpen, to: expected });
            assert_eq!(transition, expected, "{outcomes:?}, probe {number}");
        }
    }
}

#[test]
fn a_probe_decides_alone_where_a_run_of_failures_opens() {
    let config = BreakerConfig { failure_rate: None, consecutive: Some(20), half_open_permits: 2, ..config() };
    for (outcomes, expected) in [(vec![FAIL], Open), (vec![OK, FAIL], Open), (vec![OK, OK], Closed)] {
        let at = Clock::new();
        let (mut breaker, tickets) = half_open(config, at, 2);
        for (ticket, outcome) in tickets.into_iter().zip(&outcomes) {
            breaker.settle(at.ms(5_000), ticket, *outcome, 0);
        }
        assert_eq!(breaker.state(), expected, "{outcomes:?}");
    }
}

#[test]
fn a_rate_that_floats_do_not_hold_exactly_needs_no_probe_more() {
    let at = Clock::new();
    let config = BreakerConfig { failure_rate: Some(0.1), half_open_permits: 30, ..config() };
    let (mut breaker, tickets) = half_open(config, at, 30);
    let failures = tickets.into_iter().take_while(|ticket| breaker.settle(at.ms(5_000), *ticket, FAIL, 0).is_none());
    assert_eq!(failures.count() + 1, 3);
}

#[test]
fn resilience_b11_a_crowd_gets_no_more_than_the_permits() {
    let at = Clock::new();
    let mut breaker = opened(config(), at.ms(0));
    assert_eq!((0..1000).filter(|_| breaker.admit(at.ms(5_000)).0.is_ok()).count(), 5);
    assert_eq!(breaker.admit(at.ms(5_000)).0, Err(secs(1.0)), "a probe may end at any moment");
    assert_eq!(breaker.admit(at.ms(34_600)).0, Err(ms(400)), "the first lease ends");
}

#[test]
fn resilience_b12_b22_a_dropped_or_refused_probe_gives_its_permit_back() {
    for outcome in [Outcome::Cancelled, Outcome::Rejected] {
        let at = Clock::new();
        let (mut breaker, tickets) = half_open(config(), at, 5);
        assert!(breaker.admit(at.ms(5_000)).0.is_err());
        assert_eq!(breaker.settle(at.ms(5_000), tickets[2], outcome, 0), None);
        assert!(breaker.admit(at.ms(5_000)).0.is_ok());
        assert!(breaker.admit(at.ms(5_000)).0.is_err());
    }
}

#[test]
fn resilience_b13_a_probe_that_hangs_loses_its_place_and_its_say() {
    let at = Clock::new();
    let config = BreakerConfig { half_open_permits: 1, ..config() };
    let (mut breaker, tickets) = half_open(config, at, 1);
    assert!(breaker.admit(at.ms(34_999)).0.is_err());
    let second = breaker.admit(at.ms(35_000)).0.expect("the lease is over");
    assert_eq!(breaker.settle(at.ms(35_001), tickets[0], OK, 0), None);
    assert_eq!((breaker.state(), breaker.snapshot(at.ms(35_001)).late_results), (HalfOpen, 1));
    breaker.settle(at.ms(35_002), second, OK, 0);
    assert_eq!(breaker.state(), Closed);
}

#[test]
fn a_probe_settles_once() {
    let at = Clock::new();
    let (mut breaker, tickets) = half_open(config(), at, 5);
    for _ in 0..10 {
        assert_eq!(breaker.settle(at.ms(5_000), tickets[0], OK, 0), None);
    }
    assert_eq!(breaker.snapshot(at.ms(5_000)).late_results, 9);
}

#[test]
fn resilience_b14_a_call_from_before_the_trip_decides_nothing() {
    let at = Clock::new();
    let mut breaker = Breaker::new(BreakerConfig { half_open_permits: 1, ..config() }).unwrap();
    let slow: Vec<_> = (0..4).map(|_| breaker.admit(at.ms(0)).0.unwrap()).collect();
    calls(&mut breaker, at.ms(0), 20, FAIL);
    assert_eq!(breaker.settle(at.ms(1), slow[0], OK, 0), None);
    assert_eq!(breaker.state(), Open);
    let probe = breaker.admit(at.ms(5_000)).0.unwrap();
    assert_eq!(breaker.settle(at.ms(5_000), slow[1], OK, 0), None);
    assert_eq!(breaker.settle(at.ms(5_000), slow[2], Outcome::Cancelled, 0), None);
    assert_eq!(breaker.state(), HalfOpen);
    breaker.settle(at.ms(5_001), probe, OK, 0);
    breaker.settle(at.ms(5_002), slow[3], FAIL, 0);
    let snapshot = breaker.snapshot(at.ms(5_002));
    assert_eq!((snapshot.state, snapshot.calls, snapshot.late_results), (Closed, 0, 3));
}

#[test]
fn resilience_b15_after_its_longest_time_half_open_it_decides_with_what_it_has() {
    for (finished, expected) in [(vec![OK, OK], Closed), (vec![], Open), (vec![OK, FAIL], Open)] {
        let at = Clock::new();
        let (mut breaker, tickets) = half_open(config(), at, 5);
        for (ticket, outcome) in tickets.iter().zip(&finished) {
            breaker.settle(at.ms(6_000), *ticket, *outcome, 0);
        }
        let (admitted, transition) = breaker.admit(at.ms(65_000));
        assert_eq!(transition, Some(Transition { from: HalfOpen, to: expected }), "{finished:?}");
        assert_eq!(admitted.is_ok(), expected == Closed);
    }
}

#[test]
fn resilience_b16_calls_that_say_nothing_are_not_counted() {
    let at = Clock::new();
    let mut breaker = Breaker::new(config()).unwrap();
    calls(&mut breaker, at.ms(0), 100, Outcome::Cancelled);
    calls(&mut breaker, at.ms(0), 100, Outcome::Rejected);
    assert_eq!(breaker.snapshot(at.ms(0)).calls, 0);
}

#[test]
fn resilience_b17_open_times_grow_and_start_anew_after_a_close() {
    let default = BreakerConfig { half_open_permits: 1, ..BreakerConfig::default() };
    for (u, expected) in [(0.0, [2.5, 5.0, 10.0, 20.0, 30.0, 30.0]), (0.5, [3.75, 7.5, 15.0, 30.0, 45.0, 45.0])] {
        let at = Clock::new();
        let mut breaker = Breaker::new(default).unwrap();
        let mut now = at.ms(0);
        for _ in 0..2 {
            calls(&mut breaker, now, 19, FAIL);
            for expected in expected {
                let ticket = breaker.admit(now).0.unwrap();
                breaker.settle(now, ticket, FAIL, random(u));
                assert_eq!(breaker.admit(now).0, Err(secs(expected)), "u = {u}");
                now += secs(expected);
            }
            call(&mut breaker, now, OK);
            assert_eq!(breaker.state(), Closed);
        }
    }
}

#[test]
fn openings_that_no_call_brings_about_are_spread_too() {
    let at = Clock::new();
    let mut breaker = Breaker::new(BreakerConfig { half_open_permits: 1, ..BreakerConfig::default() }).unwrap();
    calls(&mut breaker, at.ms(0), 20, FAIL);
    let mut fractions = Vec::new();
    let mut now = at.secs(60.0);
    for longest in [10.0, 20.0, 40.0, 60.0] {
        assert!(breaker.admit(now).0.is_ok());
        now += secs(60.0);
        let wait = breaker.admit(now).0.expect_err("no probe has ended").as_secs_f64();
        assert!((longest / 2.0..=longest).contains(&wait));
        fractions.push((wait / longest * 1e6) as u64);
        now += secs(60.0);
    }
    fractions.dedup();
    assert_eq!(fractions.len(), 4);
}

#[test]
fn resilience_b19_a_forced_state_stays_until_a_reset() {
    let at = Clock::new();
    let mut breaker = Breaker::new(config()).unwrap();
    assert_eq!(breaker.force_open(at.ms(0)), Some(Transition { from: Closed, to: ForcedOpen }));
    assert_eq!(breaker.force_open(at.ms(0)), None);
    assert_eq!(breaker.admit(at.secs(1e6)), (Err(Duration::MAX), None));
    assert_eq!(breaker.force_close(at.ms(1)), Some(Transition { from: ForcedOpen, to: ForcedClosed }));
    calls(&mut breaker, at.ms(1), 100, FAIL);
    assert_eq!((breaker.state(), breaker.snapshot(at.ms(1)).calls), (ForcedClosed, 0));
    assert_eq!(breaker.reset(at.ms(2)), Some(Transition { from: ForcedClosed, to: Closed }));
    calls(&mut breaker, at.ms(2), 20, FAIL);
    assert_eq!(breaker.state(), Open);
}

#[test]
fn a_reset_forgets_the_calls_that_are_running() {
    let at = Clock::new();
    let mut breaker = Breaker::new(config()).unwrap();
    let running = breaker.admit(at.ms(0)).0.unwrap();
    calls(&mut breaker, at.ms(0), 19, FAIL);
    assert_eq!(breaker.reset(at.ms(0)), None);
    assert_eq!(breaker.settle(at.ms(0), running, FAIL, 0), None);
    let snapshot = breaker.snapshot(at.ms(0));
    assert_eq!((snapshot.calls, snapshot.consecutive, snapshot.late_results), (0, 0, 1));
}

#[test]
fn a_snapshot_tells_what_led_to_the_state() {
    let at = Clock::new();
    let mut breaker = Breaker::new(config()).unwrap();
    assert_eq!((breaker.snapshot(at.ms(0)).since, breaker.snapshot(at.ms(0)).era), (None, 0));
    calls(&mut breaker, at.ms(0), 6, OK);
    calls(&mut breaker, at.ms(7), 14, FAIL);
    let snapshot = breaker.snapshot(at.ms(8));
    assert_eq!((snapshot.state, snapshot.era, snapshot.since), (Open, 1, Some(at.ms(7))));
    assert_eq!((snapshot.calls, snapshot.failures, snapshot.consecutive), (20, 14, 14));
    assert_eq!(snapshot.open_until, Some(at.ms(5_007)));
    let tickets: Vec<_> = (0..3).map(|_| breaker.admit(at.ms(5_007)).0.unwrap()).collect();
    breaker.settle(at.ms(5_007), tickets[0], OK, 0);
    breaker.settle(at.ms(5_007), tickets[1], FAIL, 0);
    let snapshot = breaker.snapshot(at.ms(5_007));
    assert_eq!((snapshot.probes_in_flight, snapshot.probes_succeeded, snapshot.probes_failed), (1, 1, 1));
}

#[test]
fn settings_out_of_range_are_named() {
    let (base, open_for) = (config(), config().open_for);
    let rate = |failure_rate| BreakerConfig { failure_rate, ..config() };
    for (config, field) in [
        (BreakerConfig { window: WindowConfig::Count(0), ..base }, "window.count"),
        (BreakerConfig { window: WindowConfig::Count(19), ..base }, "min_calls"),
        (rate(None), "failure_rate"),
        (rate(Some(0.0)), "failure_rate"),
        (rate(Some(1.01)), "failure_rate"),
        (rate(Some(f64::NAN)), "failure_rate"),
        (BreakerConfig { min_calls: 0, ..base }, "min_calls"),
        (BreakerConfig { consecutive: Some(0), ..base }, "consecutive"),
        (BreakerConfig { half_open_permits: 0, ..base }, "half_open_permits"),
        (BreakerConfig { half_open_permits: 1001, ..base }, "half_open_permits"),
        (BreakerConfig { probe_lease: Duration::ZERO, ..base }, "probe_lease"),
        (BreakerConfig { max_half_open: Duration::MAX, ..base }, "max_half_open"),
        (BreakerConfig { open_for: OpenFor { start: Duration::ZERO, ..open_for }, ..base }, "open_for.start"),
        (BreakerConfig { open_for: OpenFor { max: secs(4.9), ..open_for }, ..base }, "open_for.max"),
        (BreakerConfig { open_for: OpenFor { factor: 0.9, ..open_for }, ..base }, "open_for.factor"),
    ] {
        assert_eq!(Breaker::new(config).unwrap_err().field(), field);
    }
    let unused_rate =
        BreakerConfig { window: WindowConfig::Count(5), failure_rate: None, consecutive: Some(3), ..config() };
    assert!(Breaker::new(unused_rate).is_ok());
}
