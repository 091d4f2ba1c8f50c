use mainstay::policy::Budget;
use mainstay::policy::BudgetConfig;
use proptest::prelude::*;

use crate::Clock;
use crate::ms;

fn budget(ratio: f64, min_per_second: u32) -> Budget {
    Budget::new(BudgetConfig { ratio, min_per_second, ..BudgetConfig::default() }).unwrap()
}

#[test]
fn resilience_u1_a_fresh_budget_holds_a_hundred_retries() {
    let at = Clock::new();
    let mut budget = budget(0.2, 10);
    assert_eq!(budget.balance(at.ms(0)), 100);
    assert_eq!((0..200).filter(|_| budget.withdraw(at.ms(0))).count(), 100);
    assert_eq!(budget.balance(at.ms(0)), 0);
}

#[test]
fn resilience_u2_ten_successes_pay_for_two_retries() {
    let at = Clock::new();
    let mut budget = budget(0.2, 0);
    (0..10).for_each(|_| budget.deposit(at.ms(0)));
    assert_eq!((0..10).filter(|_| budget.withdraw(at.ms(0))).count(), 2);
}

#[test]
fn resilience_u3_successes_are_forgotten() {
    let at = Clock::new();
    let mut budget = budget(0.2, 0);
    (0..50).for_each(|_| budget.deposit(at.ms(0)));
    assert_eq!(budget.balance(at.ms(9_999)), 10);
    assert_eq!(budget.balance(at.ms(10_100)), 0);
    assert!(!budget.withdraw(at.ms(10_100)));
}

#[test]
fn an_idle_client_gets_its_reserve_back() {
    let at = Clock::new();
    let mut budget = budget(0.2, 10);
    assert_eq!((0..200).filter(|_| budget.withdraw(at.ms(0))).count(), 100);
    assert!(!budget.withdraw(at.ms(9_999)));
    assert_eq!(budget.balance(at.ms(10_000)), 100);
}

#[test]
fn resilience_u6_when_everything_fails_there_are_a_hundred_retries_in_ten_seconds() {
    let at = Clock::new();
    let mut budget = budget(0.2, 10);
    let retries: Vec<u64> = (0..60_000).filter(|millis| budget.withdraw(at.ms(*millis))).collect();
    for start in 0..50_000 {
        let in_ten_seconds =
            retries.partition_point(|at| *at < start + 10_000) - retries.partition_point(|at| *at < start);
        assert!(in_ten_seconds <= 100, "{in_ten_seconds} retries from {start} ms on");
    }
    assert_eq!(retries.len(), 600);
}

#[test]
fn resilience_u7_retries_are_a_fifth_of_the_successes_and_ten_a_second() {
    let at = Clock::new();
    let mut budget = budget(0.2, 10);
    let (mut successes, mut retries) = (0, 0);
    for call in 0..60_000 {
        if call % 2 == 0 {
            budget.deposit(at.ms(call));
            successes += 1;
        } else {
            retries += u64::from(budget.withdraw(at.ms(call)));
        }
    }
    assert!(retries <= successes / 5 + 10 * 60, "{retries} retries for {successes} successes");
    assert!(retries >= successes / 5, "{retries} retries for {successes} successes");
}

#[test]
fn a_ratio_of_zero_leaves_the_reserve() {
    let at = Clock::new();
    let mut budget = budget(0.0, 1);
    (0..1000).for_each(|_| budget.deposit(at.ms(0)));
    assert_eq!((0..100).filter(|_| budget.withdraw(at.ms(0))).count(), 10);
}

#[test]
fn a_ratio_that_is_no_divisor_of_a_thousand_pays_in_full() {
    let at = Clock::new();
    let mut budget = budget(0.3, 0);
    (0..10).for_each(|_| budget.deposit(at.ms(0)));
    assert_eq!(budget.balance(at.ms(0)), 3);
}

#[test]
fn settings_out_of_range_are_named() {
    let default = BudgetConfig::default();
    for (config, field) in [
        (BudgetConfig { ratio: -0.1, ..default }, "ratio"),
        (BudgetConfig { ratio: 0.0001, ..default }, "ratio"),
        (BudgetConfig { ratio: 1000.5, ..default }, "ratio"),
        (BudgetConfig { ratio: f64::NAN, ..default }, "ratio"),
        (BudgetConfig { ttl: ms(999), ..default }, "ttl"),
        (BudgetConfig { ttl: ms(60_001), ..default }, "ttl"),
    ] {
        assert_eq!(Budget::new(config).unwrap_err().field(), field, "{config:?}");
    }
}

/// Every deposit and withdrawal that was ever made: the number of its slot, and its amount.
struct Naive {
    entries: Vec<(i64, i128)>,
    slot: i64,
    price: i128,
    reserve: i128,
}

impl Naive {
    fn funds(&self) -> i128 {
        let live = self.entries.iter().filter(|(slot, _)| *slot > self.slot - 10);
        self.reserve + live.map(|(_, amount)| amount).sum::<i128>()
    }

    fn withdraw(&mut self) -> bool {
        let enough = self.funds() >= self.price;
        if enough {
            self.entries.push((self.slot, -self.price));
        }
        enough
    }
}

proptest! {
    #[test]
    fn a_budget_grants_what_a_recount_of_its_history_grants(
        // As a divisor, so that the model needs no floats: a retry costs `divisor` successes.
        divisor in 1..20_u32, min_per_second in 0..5_u32, ttl in 1..30_u64,
        steps in prop::collection::vec((prop_oneof![8 => 0..300_i64, 1 => -2_000..0_i64, 1 => 0..40_000_i64], 0..3), 1..300),
    ) {
        let at = Clock::new();
        let config = BudgetConfig { ratio: 1.0 / f64::from(divisor), min_per_second, ttl: ms(ttl * 1000) };
        let mut budget = Budget::new(config).unwrap();
        let price = i128::from(divisor) * 1000;
        let reserve = i128::from(min_per_second) * i128::from(ttl) * price;
        let mut naive = Naive { entries: Vec::new(), slot: 0, price, reserve };
        let (mut now, mut origin) = (100_000_i64, None);
        for (delta, step) in steps {
            now = (now + delta).max(0);
            if let Some(origin) = origin {
                naive.slot = naive.slot.max((now - origin) / (ttl as i64 * 100));
            }
            let time = at.ms(now as u64);
            match step {
                0 => {
                    budget.deposit(time);
                    naive.entries.push((naive.slot, 1000));
                }
                1 => prop_assert_eq!(budget.withdraw(time), naive.withdraw()),
                _ => prop_assert_eq!(i128::from(budget.balance(time)), (naive.funds() / price).max(0)),
            }
            if !naive.entries.is_empty() {
                origin.get_or_insert(now);
            }
        }
    }
}
