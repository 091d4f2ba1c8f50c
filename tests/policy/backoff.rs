use std::time::Duration;

use mainstay::policy::Backoff;
use mainstay::policy::BackoffConfig;
use mainstay::policy::Jitter;
use mainstay::policy::Schedule;
use proptest::prelude::*;

use crate::ms;
use crate::random;
use crate::secs;

fn delays(config: &BackoffConfig, fractions: &[f64]) -> Vec<Duration> {
    let mut backoff = Backoff::default();
    fractions.iter().map(|u| backoff.next(config, random(*u))).collect()
}

fn plain(schedule: Schedule) -> BackoffConfig {
    BackoffConfig { schedule, jitter: Jitter::None }
}

fn millis(delays: &[Duration]) -> Vec<u128> {
    delays.iter().map(Duration::as_millis).collect()
}

#[test]
fn envoy_5_3_the_default_windows_are_25_50_100_200_250_250() {
    let config = BackoffConfig::default();
    let longest = delays(&config, &[0.999_999; 6]);
    assert_eq!(millis(&longest), [24, 49, 99, 199, 249, 249]);
    assert_eq!(delays(&config, &[0.0; 6]), [Duration::ZERO; 6]);
}

#[test]
fn resilience_r12_decorrelated_v2_gives_the_golden_delays() {
    let config = plain(Schedule::DecorrelatedV2 { base: secs(1.0), max: secs(1e6) });
    for (u, golden) in [
        (0.0, [0.0, 1.3772, 1.4601, 2.8658, 5.7178, 11.4303]),
        (0.5, [0.8974, 1.0930, 2.0357, 4.0460, 8.0836, 16.1637]),
    ] {
        for (delay, golden) in delays(&config, &[u; 6]).iter().zip(golden) {
            assert!((delay.as_secs_f64() - golden).abs() < 0.000_05, "u = {u}: {delay:?}, not {golden} s");
        }
    }
}

#[test]
fn each_schedule_grows_in_its_own_way_up_to_its_longest() {
    let (base, max) = (ms(100), ms(500));
    for (schedule, expected) in [
        (Schedule::Constant { delay: base }, [100, 100, 100, 100, 100]),
        (Schedule::Linear { base, max }, [100, 200, 300, 400, 500]),
        (Schedule::Exponential { base, factor: 2.0, max }, [100, 200, 400, 500, 500]),
        // previous + half of the way from base to three times it: 200, 350, then 575 is too long
        (Schedule::Decorrelated { base, max }, [200, 350, 500, 500, 500]),
    ] {
        assert_eq!(millis(&delays(&plain(schedule), &[0.5; 5])), expected, "{schedule:?}");
    }
}

#[test]
fn each_jitter_spreads_in_its_own_way() {
    let schedule = Schedule::Constant { delay: ms(100) };
    for (jitter, expected) in [
        (Jitter::None, [100, 100, 100]),
        (Jitter::Full, [0, 50, 75]),
        (Jitter::Equal, [50, 75, 87]),
        (Jitter::Proportional(0.2), [80, 100, 110]),
    ] {
        let config = BackoffConfig { schedule, jitter };
        assert_eq!(millis(&delays(&config, &[0.0, 0.5, 0.75])), expected, "{jitter:?}");
    }
}

#[test]
fn grpc_5_1_bands_are_within_a_fifth_and_may_exceed_the_longest() {
    let schedule = Schedule::Exponential { base: ms(100), factor: 2.0, max: secs(1.0) };
    let config = BackoffConfig { schedule, jitter: Jitter::Proportional(0.2) };
    assert_eq!(millis(&delays(&config, &[0.0; 5])), [80, 160, 320, 640, 800]);
    let high = delays(&config, &[1.0 - 1e-9; 5]);
    for (delay, bound) in high.iter().zip([120, 240, 480, 960, 1200]) {
        assert!(*delay <= ms(bound) && *delay > ms(bound - 1), "{delay:?} is not just below {bound} ms");
    }
}

#[test]
fn grpc_rt_28_a_thousand_draws_stay_in_their_band_around_the_base() {
    let config = BackoffConfig { schedule: Schedule::Constant { delay: ms(100) }, jitter: Jitter::Proportional(0.2) };
    let rng = mainstay::rng::Rng::with_seed(28);
    let draws: Vec<_> = (0..1000).map(|_| Backoff::default().next(&config, rng.next())).collect();
    assert!(draws.iter().all(|delay| (ms(80)..ms(120)).contains(delay)));
    let mean = draws.iter().sum::<Duration>() / 1000;
    assert!((ms(98)..ms(102)).contains(&mean), "{mean:?}");
}

#[test]
fn resilience_r16_any_number_of_attempts_stays_at_the_longest_wait() {
    let (base, max) = (ms(1), secs(2.0));
    for schedule in [
        Schedule::Linear { base, max },
        Schedule::Exponential { base, factor: 100.0, max },
        Schedule::DecorrelatedV2 { base, max },
    ] {
        let mut backoff = Backoff::default();
        for _ in 0..3_000 {
            let _ = backoff.next(&plain(schedule), random(0.5));
        }
        assert_eq!(backoff.next(&plain(schedule), random(0.5)), max, "{schedule:?}");
    }
}

#[test]
fn a_base_of_zero_never_waits() {
    let (base, max) = (Duration::ZERO, Duration::MAX);
    for schedule in [
        Schedule::Linear { base, max },
        Schedule::Exponential { base, factor: 100.0, max },
        Schedule::Decorrelated { base, max },
        Schedule::DecorrelatedV2 { base, max },
    ] {
        assert!(delays(&plain(schedule), &[0.9; 2000]).iter().all(Duration::is_zero), "{schedule:?}");
    }
}

#[test]
fn reset_starts_the_schedule_anew() {
    let config = plain(Schedule::Decorrelated { base: ms(100), max: secs(60.0) });
    let mut backoff = Backoff::default();
    let first = backoff.next(&config, random(0.5));
    assert_ne!(backoff.next(&config, random(0.5)), first);
    backoff.reset();
    assert_eq!(backoff.next(&config, random(0.5)), first);
}

#[test]
fn settings_out_of_range_are_named() {
    let (base, max) = (ms(100), ms(50));
    let constant = Schedule::Constant { delay: base };
    let decorrelated = Schedule::Decorrelated { base, max: base };
    for (schedule, jitter, field) in [
        (Schedule::Linear { base, max }, Jitter::None, "max"),
        (Schedule::Exponential { base, factor: 2.0, max }, Jitter::None, "max"),
        (Schedule::Exponential { base, factor: 0.5, max: base }, Jitter::None, "factor"),
        (Schedule::Exponential { base, factor: f64::NAN, max: base }, Jitter::None, "factor"),
        (Schedule::Exponential { base, factor: f64::INFINITY, max: base }, Jitter::None, "factor"),
        (Schedule::DecorrelatedV2 { base, max }, Jitter::None, "max"),
        (decorrelated, Jitter::Full, "jitter"),
        (constant, Jitter::Proportional(1.1), "jitter"),
        (constant, Jitter::Proportional(-0.1), "jitter"),
        (constant, Jitter::Proportional(f64::NAN), "jitter"),
    ] {
        assert_eq!(
            BackoffConfig { schedule, jitter }.validate().unwrap_err().field(),
            field,
            "{schedule:?} {jitter:?}"
        );
    }
}

/// The n-th wait in whole nanoseconds, by repeated addition or multiplication, and jitter by integer arithmetic.
fn naive(config: &BackoffConfig, n: usize, u: f64) -> u128 {
    let delay = match config.schedule {
        Schedule::Constant { delay } => delay.as_nanos(),
        Schedule::Linear { base, max } => {
            (0..n).fold(base.as_nanos(), |sum, _| sum + base.as_nanos()).min(max.as_nanos())
        }
        Schedule::Exponential { base, factor, max } => (0..n)
            .fold(base.as_nanos(), |product, _| (product * factor as u128).min(max.as_nanos()))
            .min(max.as_nanos()),
        Schedule::Decorrelated { .. } | Schedule::DecorrelatedV2 { .. } => unreachable!("not generated"),
    };
    let millionths = (u * 1e6).round() as u128;
    match config.jitter {
        Jitter::None => delay,
        Jitter::Full => delay * millionths / 1_000_000,
        Jitter::Equal => delay / 2 + delay * millionths / 2_000_000,
        Jitter::Proportional(p) => {
            let p = (p * 1000.0).round() as u128;
            (delay * (1000 - p) + delay * 2 * p * millionths / 1_000_000) / 1000
        }
    }
}

fn config() -> impl Strategy<Value = BackoffConfig> {
    let times = (0..2_000_000_000_u64, 0..100_000_000_000_u64)
        .prop_map(|(base, more)| (Duration::from_nanos(base), Duration::from_nanos(base + more)));
    let schedule = (times, 0..3, 1..10_u32).prop_map(|((base, max), kind, factor)| match kind {
        0 => Schedule::Constant { delay: base },
        1 => Schedule::Linear { base, max },
        _ => Schedule::Exponential { base, factor: f64::from(factor), max },
    });
    let jitter = prop_oneof![
        Just(Jitter::None),
        Just(Jitter::Full),
        Just(Jitter::Equal),
        (0..=1000_u32).prop_map(|p| Jitter::Proportional(f64::from(p) / 1000.0)),
    ];
    (schedule, jitter).prop_map(|(schedule, jitter)| BackoffConfig { schedule, jitter })
}

proptest! {
    #[test]
    fn a_wait_is_what_repeated_integer_arithmetic_gives(
        config in config(),
        millionths in prop::collection::vec(0..1_000_000_u32, 1..60),
    ) {
        prop_assert!(config.validate().is_ok());
        let mut backoff = Backoff::default();
        for (n, millionths) in millionths.into_iter().enumerate() {
            let u = f64::from(millionths) / 1e6;
            let delay = backoff.next(&config, random(u)).as_nanos();
            prop_assert!(delay.abs_diff(naive(&config, n, u)) <= 3, "wait {n}: {delay} ns");
        }
    }

    #[test]
    fn a_decorrelated_wait_is_between_its_base_and_three_times_the_last(
        base in 0..10_000_u64, more in 0..100_000_u64, randoms in prop::collection::vec(any::<u64>(), 1..50),
    ) {
        let (base, max) = (ms(base), ms(base + more));
        let config = plain(Schedule::Decorrelated { base, max });
        let mut backoff = Backoff::default();
        let mut previous = base;
        for random in randoms {
            let delay = backoff.next(&config, random);
            prop_assert!(delay >= base && delay <= max && delay <= previous * 3 + Duration::from_nanos(2));
            previous = delay;
        }
    }

    #[test]
    fn no_configuration_makes_a_wait_panic(
        base in any::<u64>(), max in any::<u64>(), nanos in 0..1_000_000_000_u32, factor in any::<f64>(),
        p in any::<f64>(), kind in 0..5, randoms in prop::collection::vec(any::<u64>(), 1..20),
    ) {
        let (base, max) = (Duration::new(base, nanos), Duration::new(max, nanos));
        let schedule = match kind {
            0 => Schedule::Constant { delay: base },
            1 => Schedule::Linear { base, max },
            2 => Schedule::Exponential { base, factor, max },
            3 => Schedule::Decorrelated { base, max },
            _ => Schedule::DecorrelatedV2 { base, max },
        };
        for jitter in [Jitter::None, Jitter::Full, Jitter::Equal, Jitter::Proportional(p)] {
            let mut backoff = Backoff::default();
            for random in &randoms {
                let _ = backoff.next(&BackoffConfig { schedule, jitter }, *random);
            }
        }
    }
}
