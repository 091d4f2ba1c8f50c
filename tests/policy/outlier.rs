use std::time::Duration;

use mainstay::Failure;
use mainstay::Outcome;
use mainstay::policy::Ejection;
use mainstay::policy::OutlierConfig;
use mainstay::policy::outlier::may_eject;

use crate::Clock;
use crate::ms;
use crate::random;
use crate::secs;

const OK: Outcome = Outcome::Success;
const FAIL: Outcome = Outcome::Failure(Failure::Server);

fn config() -> OutlierConfig {
    OutlierConfig { ejection_jitter: 0.0, ..OutlierConfig::default() }
}

/// Settles the outcomes in turn, all at one moment, and tells which of them reached the threshold.
fn settle(ejection: &mut Ejection, now: mainstay::time::Instant, outcomes: &[Outcome]) -> Vec<usize> {
    let config = config();
    (0..outcomes.len()).filter(|n| ejection.settle(&config, now, outcomes[*n])).collect()
}

#[test]
fn envoy_od_01_a_success_ends_a_streak() {
    let now = Clock::new().ms(0);
    let outcomes = [FAIL, FAIL, FAIL, FAIL, OK, FAIL, FAIL, FAIL, FAIL, FAIL];
    assert_eq!(settle(&mut Ejection::default(), now, &outcomes), [9]);
}

#[test]
fn the_streak_starts_anew_after_the_threshold_whether_ejected_or_not() {
    let now = Clock::new().ms(0);
    assert_eq!(settle(&mut Ejection::default(), now, &[FAIL; 12]), [4, 9]);
}

#[test]
fn envoy_od_02_od_03_od_17_how_many_may_be_ejected() {
    for (percent, total, allowed) in [
        (10, 0, 0),
        (10, 1, 0),
        (10, 2, 1),
        (10, 3, 1),
        (10, 10, 1),
        (10, 19, 1),
        (10, 20, 2),
        (34, 3, 1),
        (50, 5, 2),
        (100, 1, 0),
        (100, 2, 1),
        (100, 10, 9),
        (100, usize::MAX, usize::MAX - 1),
    ] {
        let config = OutlierConfig { max_ejection_percent: percent, ..config() };
        if let Some(ejected) = usize::checked_sub(allowed, 1) {
            assert!(may_eject(&config, total, ejected), "{percent} % of {total}, {ejected} are out");
        }
        assert!(!may_eject(&config, total, allowed), "{percent} % of {total}, {allowed} are out");
    }
}

#[test]
fn envoy_od_04_od_05_ejections_grow_and_shrink_again() {
    let config =
        OutlierConfig { interval: ms(100), base_ejection_time: ms(1000), max_ejection_time: ms(3000), ..config() };
    let mut ejection = Ejection::default();
    let mut now = Clock::new().ms(0);
    for expected in [1000, 2000, 3000, 3000, 3000] {
        let length = ejection.eject(&config, now, 0);
        assert_eq!(length, ms(expected));
        now += length;
        assert!(ejection.release(&config, now));
        now += ms(99);
    }
    assert_eq!(ejection.eject(&config, now + ms(201 + 1), 0), ms(1000), "three whole intervals in service");
}

#[test]
fn each_interval_in_service_makes_the_next_ejection_one_step_shorter() {
    let config = config();
    for (idle, expected) in [(0, 90), (9, 90), (10, 60), (19, 60), (20, 30), (1_000_000, 30)] {
        let mut ejection = Ejection::default();
        let mut now = Clock::new().ms(0);
        for _ in 0..2 {
            now += ejection.eject(&config, now, 0);
        }
        assert_eq!(ejection.eject(&config, now + secs(f64::from(idle)), 0), secs(f64::from(expected)), "{idle} s");
    }
}

#[test]
fn envoy_od_07_od_12_od_13_od_14_every_kind_of_failure_counts() {
    let now = Clock::new().ms(0);
    for failure in
        [Failure::Connect, Failure::Overload, Failure::Protocol, Failure::Reset, Failure::Server, Failure::Timeout]
    {
        assert_eq!(settle(&mut Ejection::default(), now, &[Outcome::Failure(failure); 5]), [4], "{failure:?}");
    }
}

#[test]
fn envoy_od_15_od_22_what_is_not_the_endpoint_s_fault_does_not() {
    let now = Clock::new().ms(0);
    for outcome in [Outcome::Success, Outcome::Cancelled, Outcome::Rejected] {
        assert!(settle(&mut Ejection::default(), now, &[outcome; 100]).is_empty());
    }
    let mixed = [FAIL, Outcome::Cancelled, FAIL, Outcome::Rejected, FAIL, FAIL, Outcome::Cancelled, FAIL];
    assert_eq!(settle(&mut Ejection::default(), now, &mixed), [7], "and does not end a streak either");
}

#[test]
fn envoy_od_16_attempts_that_a_retry_hides_count() {
    let now = Clock::new().ms(0);
    let (mut a, mut b) = (Ejection::default(), Ejection::default());
    for call in 1..=5 {
        assert_eq!(a.settle(&config(), now, FAIL), call == 5);
        assert!(!b.settle(&config(), now, OK));
    }
}

#[test]
fn an_ejection_ends_at_its_exact_time_and_is_told_once() {
    let (config, at) = (config(), Clock::new());
    let mut ejection = Ejection::default();
    assert!(!ejection.release(&config, at.ms(0)));
    assert_eq!(ejection.eject(&config, at.ms(0), 0), secs(30.0));
    assert_eq!(ejection.ejected_until(), Some(at.ms(30_000)));
    assert!(ejection.is_ejected(at.ms(29_999)) && !ejection.release(&config, at.ms(29_999)));
    assert!(!ejection.is_ejected(at.ms(30_000)));
    assert!(ejection.release(&config, at.ms(30_000)));
    assert!(!ejection.release(&config, at.ms(30_000)) && !ejection.release(&config, at.ms(99_000)));
    assert_eq!(ejection.ejected_until(), None);
}

#[test]
fn a_return_is_told_even_if_a_late_call_settles_first() {
    let (config, at) = (config(), Clock::new());
    let mut ejection = Ejection::default();
    ejection.eject(&config, at.ms(0), 0);
    assert!(!ejection.settle(&config, at.ms(31_000), FAIL));
    assert!(ejection.release(&config, at.ms(32_000)));
    assert_eq!(ejection.consecutive_failures(), 1);
}

#[test]
fn what_is_left_of_an_ejected_endpoint_s_calls_is_not_counted() {
    let (config, at) = (config(), Clock::new());
    let mut ejection = Ejection::default();
    ejection.eject(&config, at.ms(0), 0);
    assert!(settle(&mut ejection, at.ms(1), &[FAIL; 20]).is_empty());
    assert_eq!(ejection.eject(&config, at.ms(10_000), 0), secs(20.0), "ejected already: what is left of it");
}

#[test]
fn envoy_od_19_on_probation_half_as_many_failures_eject_for_longer() {
    let (config, at) = (config(), Clock::new());
    let mut ejection = Ejection::default();
    ejection.eject(&config, at.ms(0), 0);
    assert!(ejection.is_on_probation(&config, at.ms(30_000)));
    assert_eq!(settle(&mut ejection, at.ms(30_000), &[FAIL; 3]), [2]);
    assert_eq!(ejection.eject(&config, at.ms(30_000), 0), secs(60.0));
}

#[test]
fn probation_lasts_as_long_as_the_first_ejection() {
    let (config, at) = (config(), Clock::new());
    for (second, expected) in [(59_999, vec![2]), (60_000, vec![4])] {
        let mut ejection = Ejection::default();
        ejection.eject(&config, at.ms(0), 0);
        assert_eq!(ejection.is_on_probation(&config, at.ms(second)), second < 60_000);
        assert_eq!(settle(&mut ejection, at.ms(second), &[FAIL; 5]), expected);
    }
}

#[test]
fn jitter_only_lengthens() {
    let (config, at) = (OutlierConfig::default(), Clock::new());
    for (u, expected) in [(0.0, 30.0), (0.5, 31.5)] {
        assert_eq!(Ejection::default().eject(&config, at.ms(0), random(u)), secs(expected));
    }
    assert!(Ejection::default().eject(&config, at.ms(0), u64::MAX) <= secs(33.0));
}

#[test]
fn a_cleared_endpoint_is_fresh() {
    let (config, at) = (config(), Clock::new());
    let mut ejection = Ejection::default();
    ejection.eject(&config, at.ms(0), 0);
    ejection.clear();
    assert_eq!(ejection, Ejection::default());
    assert!(!ejection.is_ejected(at.ms(1)));
}

#[test]
fn settings_out_of_range_are_named() {
    let base = config();
    for (config, field) in [
        (OutlierConfig { consecutive_failures: 0, ..base }, "consecutive_failures"),
        (OutlierConfig { interval: Duration::ZERO, ..base }, "interval"),
        (OutlierConfig { base_ejection_time: Duration::ZERO, ..base }, "base_ejection_time"),
        (OutlierConfig { max_ejection_time: secs(29.0), ..base }, "max_ejection_time"),
        (OutlierConfig { max_ejection_percent: 0, ..base }, "max_ejection_percent"),
        (OutlierConfig { max_ejection_percent: 101, ..base }, "max_ejection_percent"),
        (OutlierConfig { ejection_jitter: f64::NAN, ..base }, "ejection_jitter"),
        (OutlierConfig { ejection_jitter: 1.1, ..base }, "ejection_jitter"),
    ] {
        assert_eq!(config.validate().unwrap_err().field(), field);
    }
    assert!(OutlierConfig::default().validate().is_ok());
}
