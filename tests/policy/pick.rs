use std::time::Duration;

use mainstay::policy::Load;
use mainstay::policy::PeakEwma;
use mainstay::policy::RoundRobin;
use mainstay::policy::pick::less_loaded;
use mainstay::policy::pick::p2c;
use mainstay::rng::Rng;
use proptest::prelude::*;

use crate::Clock;
use crate::ms;
use crate::secs;

#[test]
fn round_robin_takes_each_in_turn() {
    let picks: Vec<_> = (0..7).map(|counter| RoundRobin::index(counter, 3)).collect();
    assert_eq!(picks, [0, 1, 2, 0, 1, 2, 0].map(Some));
    assert_eq!(RoundRobin::index(u64::MAX, 10), Some(5));
    assert_eq!(RoundRobin::index(7, 0), None);
}

#[test]
fn two_choices_of_none_and_of_one() {
    assert_eq!(p2c(0, 7), None);
    assert_eq!(p2c(1, 7), Some((0, 0)));
}

#[test]
fn two_choices_take_every_pair_equally_often() {
    const LEN: usize = 5;
    const DRAWS: u32 = 200_000;
    for seed in 0..5 {
        let rng = Rng::with_seed(seed);
        let mut counts = [[0_u32; LEN]; LEN];
        for _ in 0..DRAWS {
            let (a, b) = p2c(LEN, rng.next()).unwrap();
            counts[a][b] += 1;
        }
        // 20 ordered pairs; six standard deviations of a binomial with p = 1/20.
        let (mean, tolerance) = (DRAWS / 20, 6 * 98);
        for (a, row) in counts.iter().enumerate() {
            for (b, count) in row.iter().enumerate() {
                let expected = if a == b { 0 } else { mean };
                assert!(
                    count.abs_diff(expected) <= if a == b { 0 } else { tolerance },
                    "{a},{b}: {count}, seed {seed}"
                );
            }
        }
    }
}

#[test]
fn the_better_pick_has_less_work_ahead() {
    let load = |in_flight, millis| Load { in_flight, latency: ms(millis) };
    for (a, b, expected) in [
        (load(0, 10), load(1, 10), true),
        (load(1, 10), load(0, 10), false),
        (load(0, 10), load(0, 10), false),
        // 2 * 10 ms against 1 * 30 ms
        (load(1, 10), load(0, 30), true),
        (load(3, 10), load(0, 30), false),
        // 3 * 20 ms are 2 * 30 ms: fewer calls win
        (load(1, 30), load(2, 20), true),
        (load(2, 20), load(1, 30), false),
        // a latency that is not known
        (load(1, 0), load(2, 1), true),
        (load(3, 1), load(2, 0), false),
        (load(0, 0), load(0, 0), false),
    ] {
        assert_eq!(less_loaded(a, b), expected, "{a:?} {b:?}");
    }
    let worst = Load { in_flight: u32::MAX, latency: Duration::MAX };
    assert!(less_loaded(load(0, 1), worst) && !less_loaded(worst, worst));
}

#[test]
fn an_average_knows_nothing_at_first() {
    assert_eq!(PeakEwma::default().value(Clock::new().ms(0)), Duration::ZERO);
}

#[test]
fn an_average_takes_a_peak_at_once() {
    let at = Clock::new();
    let mut average = PeakEwma::default();
    average.observe(at.ms(0), ms(10));
    average.observe(at.ms(1), ms(500));
    assert_eq!(average.value(at.ms(1)), ms(500));
}

#[test]
fn an_average_falls_to_a_lower_step_as_the_closed_form_says() {
    let at = Clock::new();
    for samples in [1_u64, 10, 1000] {
        let mut average = PeakEwma::default();
        average.observe(at.ms(0), ms(1000));
        // However many samples of 100 ms come within a decay, 1/e of the distance is left after it.
        for sample in 1..=samples {
            average.observe(at.secs(10.0 * sample as f64 / samples as f64), ms(100));
        }
        let expected = 0.1 + 0.9 / std::f64::consts::E;
        let value = average.value(at.secs(10.0)).as_secs_f64();
        assert!((value - expected).abs() < 1e-6, "{samples} samples: {value} s, not {expected} s");
    }
}

#[test]
fn an_average_decays_without_samples() {
    let at = Clock::new();
    let mut average = PeakEwma::new(secs(2.0)).unwrap();
    average.observe(at.ms(0), ms(1000));
    for (seconds, left) in [(0.0, 1.0), (2.0, 1.0 / std::f64::consts::E), (4.0, (-2.0_f64).exp())] {
        let value = average.value(at.secs(seconds)).as_secs_f64();
        assert!((value - left).abs() < 1e-6, "{value} s after {seconds} s");
    }
    assert_eq!(average.value(at.secs(1e6)), Duration::ZERO);
}

#[test]
fn a_decay_out_of_range_is_named() {
    assert_eq!(PeakEwma::new(Duration::ZERO).unwrap_err().field(), "decay");
    assert_eq!(PeakEwma::new(Duration::MAX).unwrap_err().field(), "decay");
}

proptest! {
    #[test]
    fn two_choices_are_different_and_below_the_length(len in 2..usize::MAX, random in any::<u64>()) {
        let (a, b) = p2c(len, random).unwrap();
        prop_assert!(a != b && a < len && b < len);
    }

    #[test]
    fn an_average_is_between_its_lowest_and_its_highest_sample_when_one_comes(
        samples in prop::collection::vec((-2_000..20_000_i64, 0..10_000_u64), 1..50),
    ) {
        let at = Clock::new();
        let mut average = PeakEwma::default();
        let mut now = 100_000_i64;
        let (mut lowest, mut highest) = (u64::MAX, 0);
        for (delta, rtt) in samples {
            now += delta;
            average.observe(at.ms(now as u64), ms(rtt));
            (lowest, highest) = (lowest.min(rtt), highest.max(rtt));
            let value = average.value(at.ms(now as u64));
            prop_assert!(value <= ms(highest) + Duration::from_nanos(1));
            prop_assert!(delta < 0 || value + Duration::from_nanos(1) >= ms(lowest));
        }
    }
}
