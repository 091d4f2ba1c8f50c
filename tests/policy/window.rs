use mainstay::policy::Totals;
use mainstay::policy::Window;
use mainstay::policy::WindowConfig;
use proptest::prelude::*;

use crate::Clock;
use crate::ms;

fn time(period: u64, buckets: u32) -> WindowConfig {
    WindowConfig::Time { period: ms(period), buckets }
}

fn totals(calls: u64, failures: u64) -> Totals {
    Totals { calls, failures }
}

#[test]
fn a_bucket_expires_when_its_slice_is_over() {
    let at = Clock::new();
    let mut window = Window::new(WindowConfig::default()).unwrap();
    window.record(at.ms(0), true);
    window.record(at.ms(999), false);
    window.record(at.ms(1000), true);
    assert_eq!(window.totals(at.ms(9_999)), totals(3, 2));
    assert_eq!(window.totals(at.ms(10_000)), totals(1, 1));
    assert_eq!(window.totals(at.ms(11_000)), totals(0, 0));
}

#[test]
fn resilience_b5_a_long_idle_gap_clears_everything() {
    let at = Clock::new();
    let mut window = Window::new(WindowConfig::default()).unwrap();
    for millis in 0..19 {
        window.record(at.ms(millis * 500), true);
    }
    window.record(at.ms(9_000 + 25_000), true);
    assert_eq!(window.totals(at.ms(34_000)), totals(1, 1));
}

#[test]
fn a_window_over_a_number_of_calls_forgets_the_oldest() {
    let at = Clock::new();
    let mut window = Window::new(WindowConfig::Count(3)).unwrap();
    for (failed, expected) in [(true, (1, 1)), (false, (2, 1)), (true, (3, 2)), (false, (3, 1)), (false, (3, 1))] {
        window.record(at.ms(0), failed);
        assert_eq!(window.totals(at.ms(1_000_000)), totals(expected.0, expected.1));
    }
}

#[test]
fn a_clock_that_goes_backwards_stands_still() {
    let at = Clock::new();
    let mut window = Window::new(WindowConfig::default()).unwrap();
    window.record(at.ms(50_000), true);
    window.record(at.ms(0), true);
    assert_eq!(window.totals(at.ms(59_999)), totals(2, 2));
    assert_eq!(window.totals(at.ms(60_000)), totals(0, 0));
}

#[test]
fn looking_at_an_unused_window_does_not_place_its_buckets() {
    let at = Clock::new();
    let mut window = Window::new(WindowConfig::default()).unwrap();
    assert_eq!(window.totals(at.ms(0)), totals(0, 0));
    window.record(at.ms(500), true);
    assert_eq!(window.totals(at.ms(10_499)), totals(1, 1));
}

#[test]
fn settings_out_of_range_are_named() {
    for (config, field) in [
        (time(0, 10), "period"),
        (time(86_400_001, 10), "period"),
        (time(10, 0), "buckets"),
        (time(10, 1001), "buckets"),
        (WindowConfig::Count(0), "count"),
        (WindowConfig::Count(1_000_001), "count"),
    ] {
        assert_eq!(Window::new(config).unwrap_err().field(), field, "{config:?}");
    }
}

/// Every call that was ever recorded, and the last time that was seen.
#[derive(Default)]
struct Naive {
    calls: Vec<(i64, bool)>,
    origin: Option<i64>,
    latest: i64,
}

impl Naive {
    fn see(&mut self, now: i64) {
        self.latest = if self.origin.is_some() { self.latest.max(now) } else { now };
    }

    fn totals(&self, config: WindowConfig) -> Totals {
        let mut live = self.calls.clone();
        match config {
            WindowConfig::Count(size) => live = live.split_off(live.len().saturating_sub(size as usize)),
            WindowConfig::Time { period, buckets } => {
                let length = period.as_millis() as i64 / i64::from(buckets);
                let origin = self.origin.unwrap_or(0);
                let bucket = |time: i64| (time - origin).div_euclid(length);
                live.retain(|(time, _)| bucket(*time) > bucket(self.latest) - i64::from(buckets));
            }
        }
        totals(live.len() as u64, live.iter().filter(|(_, failed)| *failed).count() as u64)
    }
}

#[derive(Clone, Debug)]
enum Step {
    Record(bool),
    Totals,
    Clear,
}

fn steps() -> impl Strategy<Value = Vec<(i64, Step)>> {
    let time = prop_oneof![8 => 0..40_i64, 2 => 0..700_i64, 1 => -300..0_i64, 1 => Just(5_000_i64)];
    let step = prop_oneof![8 => any::<bool>().prop_map(Step::Record), 4 => Just(Step::Totals), 1 => Just(Step::Clear)];
    prop::collection::vec((time, step), 0..300)
}

fn config() -> impl Strategy<Value = WindowConfig> {
    prop_oneof![
        (1..30_u64, 1..12_u32).prop_map(|(length, buckets)| time(length * u64::from(buckets), buckets)),
        (1..130_u32).prop_map(WindowConfig::Count),
    ]
}

proptest! {
    #[test]
    fn a_window_counts_what_a_list_of_all_calls_counts(config in config(), steps in steps()) {
        let at = Clock::new();
        let mut window = Window::new(config).unwrap();
        let mut naive = Naive::default();
        let mut now = 10_000_i64;
        for (delta, step) in steps {
            now = (now + delta).max(0);
            naive.see(now);
            match step {
                Step::Record(failed) => {
                    naive.origin.get_or_insert(now);
                    naive.calls.push((naive.latest, failed));
                    window.record(at.ms(now as u64), failed);
                }
                Step::Totals => {}
                Step::Clear => {
                    naive.calls.clear();
                    window.clear();
                }
            }
            prop_assert_eq!(window.totals(at.ms(now as u64)), naive.totals(config));
        }
    }
}
