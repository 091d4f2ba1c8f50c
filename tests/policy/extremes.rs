//! No order of calls and no time, however far ahead or back, makes a policy panic.

use std::time::Duration;

use mainstay::Failure;
use mainstay::Outcome;
use mainstay::outcome::Ending;
use mainstay::outcome::Pushback;
use mainstay::outcome::Reach;
use mainstay::policy::Attempt;
use mainstay::policy::Breaker;
use mainstay::policy::BreakerConfig;
use mainstay::policy::Budget;
use mainstay::policy::BudgetConfig;
use mainstay::policy::Condition;
use mainstay::policy::Conditions;
use mainstay::policy::Decision;
use mainstay::policy::Ejection;
use mainstay::policy::OutlierConfig;
use mainstay::policy::PeakEwma;
use mainstay::policy::RetryConfig;
use mainstay::policy::RetryState;
use mainstay::policy::Window;
use mainstay::policy::WindowConfig;
use mainstay::policy::deadline;
use mainstay::time::Instant;
use proptest::prelude::*;

use crate::Clock;

/// Far ahead, far back, near, and everything between.
fn time() -> impl Strategy<Value = Instant> {
    let distance = prop_oneof![
        Just(0),
        Just(1),
        0..100_u64,
        0..100_000_000_000_u64,
        any::<u64>(),
        (0..64_u32).prop_map(|bit| 1 << bit),
    ];
    (distance, 0..1_000_000_000_u32, any::<bool>()).prop_map(|(seconds, nanos, back)| {
        let (origin, distance) = (Clock::new().ms(0), Duration::new(seconds, nanos));
        let time = if back { origin.checked_sub(distance) } else { origin.checked_add(distance) };
        time.unwrap_or(origin)
    })
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        Just(Outcome::Success),
        Just(Outcome::Failure(Failure::Reset)),
        Just(Outcome::Failure(Failure::Overload)),
        Just(Outcome::Cancelled),
        Just(Outcome::Rejected),
    ]
}

proptest! {
    #[test]
    fn windows_and_budgets_bear_any_time(
        times in prop::collection::vec((time(), any::<bool>()), 1..60), ratio in 0.001..1000.0_f64, min in any::<u32>(),
    ) {
        let mut windows = [WindowConfig::default(), WindowConfig::Count(7)].map(|config| Window::new(config).unwrap());
        let mut default = Budget::new(BudgetConfig::default()).unwrap();
        let ttl = Duration::from_secs(60);
        let mut large = Budget::new(BudgetConfig { ratio, min_per_second: min, ttl }).unwrap();
        for (now, failed) in times {
            for window in &mut windows {
                window.record(now, failed);
                let totals = window.totals(now);
                prop_assert!(totals.failures <= totals.calls && totals.calls >= 1);
            }
            for budget in [&mut default, &mut large] {
                budget.deposit(now);
                let before = budget.balance(now);
                prop_assert_eq!(budget.withdraw(now), before > 0);
                prop_assert_eq!(budget.balance(now), before.saturating_sub(1));
            }
        }
    }

    #[test]
    fn breakers_bear_any_time_and_any_order(
        steps in prop::collection::vec((time(), 0..8, outcome(), any::<u64>()), 1..100),
    ) {
        let config = BreakerConfig { min_calls: 2, consecutive: Some(2), ..BreakerConfig::default() };
        let mut breaker = Breaker::new(config).unwrap();
        let mut tickets = Vec::new();
        for (now, step, outcome, random) in steps {
            match step {
                0..=2 => tickets.extend(breaker.admit(now).0),
                3..=4 => if let Some(ticket) = tickets.last().copied() {
                    breaker.settle(now, ticket, outcome, random);
                },
                5 => if let Some(ticket) = tickets.pop() {
                    breaker.settle(now, ticket, outcome, random);
                },
                6 => {
                    let transition = match random % 5 {
                        0 => breaker.force_open(now),
                        1 => breaker.force_close(now),
                        _ => breaker.reset(now),
                    };
                    prop_assert!(transition.is_none_or(|transition| transition.from != transition.to));
                }
                _ => {}
            }
            let snapshot = breaker.snapshot(now);
            prop_assert_eq!(snapshot.state, breaker.state());
            prop_assert!(snapshot.probes_in_flight <= config.half_open_permits);
        }
    }

    #[test]
    fn ejections_and_averages_bear_any_time(
        steps in prop::collection::vec((time(), 0..4, outcome(), any::<u64>()), 1..100),
    ) {
        let config = OutlierConfig { consecutive_failures: 2, ..OutlierConfig::default() };
        let mut ejection = Ejection::default();
        let mut average = PeakEwma::default();
        for (now, step, outcome, random) in steps {
            match step {
                0 => drop(ejection.release(&config, now)),
                1 => prop_assert!(ejection.eject(&config, now, random) <= config.max_ejection_time * 11 / 10),
                _ => if ejection.settle(&config, now, outcome) {
                    prop_assert!(!ejection.is_ejected(now));
                },
            }
            let _ = (ejection.is_on_probation(&config, now), ejection.ejected_until());
            average.observe(now, Duration::from_nanos(random));
            let _ = average.value(now);
        }
    }

    #[test]
    fn retries_and_deadlines_bear_any_time(
        now in time(), deadline in prop::option::of(time()), wait in any::<u64>(), random in any::<u64>(), outcome in outcome(),
        wait_past_deadline in any::<bool>(),
    ) {
        let wait = Duration::from_secs(wait);
        let config = RetryConfig {
            on: Conditions::from([Condition::Reset]),
            max_pushback: Duration::MAX,
            wait_past_deadline,
            ..RetryConfig::default()
        };
        let ending = Ending { pushback: Some(Pushback::After(wait)), ..Ending::new(outcome) };
        for reach in [Reach::NotSent, Reach::Processed] {
            let ending = Ending { reach, ..ending };
            let attempt = Attempt { ending, committed: false, replayable: true, idempotent: true };
            let decision = RetryState::default().decide(&config, now, deadline, random, &attempt);
            if let (Decision::Again { after, .. }, Some(deadline), false) = (decision, deadline, wait_past_deadline) {
                prop_assert!(after < deadline::remaining(now, deadline));
            }
        }
        let earliest = deadline::earliest(deadline, deadline::deadline_after(now, wait));
        prop_assert!(earliest.is_none_or(|earliest| deadline.is_none_or(|deadline| earliest <= deadline)));
    }
}
