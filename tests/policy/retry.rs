use std::time::Duration;

use mainstay::Failure;
use mainstay::Outcome;
use mainstay::event::Stop;
use mainstay::outcome::Answer;
use mainstay::outcome::Ending;
use mainstay::outcome::Pushback;
use mainstay::outcome::Reach;
use mainstay::policy::Attempt;
use mainstay::policy::BackoffConfig;
use mainstay::policy::Condition;
use mainstay::policy::Conditions;
use mainstay::policy::Decision;
use mainstay::policy::Jitter;
use mainstay::policy::RetryConfig;
use mainstay::policy::RetryState;
use mainstay::policy::Schedule;
use proptest::prelude::*;

use crate::Clock;
use crate::ms;
use crate::secs;

/// Waits of 10 ms, 20 ms, 40 ms and so on; conditions as gRPC and HTTP routes have them.
fn config() -> RetryConfig {
    RetryConfig {
        on: Conditions::from([Condition::Unavailable, Condition::Http5xx, Condition::Retriable4xx]),
        backoff: BackoffConfig {
            schedule: Schedule::Exponential { base: ms(10), factor: 2.0, max: secs(1.0) },
            jitter: Jitter::None,
        },
        ..RetryConfig::default()
    }
}

fn attempt(ending: Ending) -> Attempt {
    Attempt { ending, committed: false, replayable: true, idempotent: true }
}

fn grpc(code: u8) -> Attempt {
    let outcome = if code == 0 { Outcome::Success } else { Outcome::Failure(Failure::Server) };
    attempt(Ending { answer: Answer { http: Some(200), grpc: Some(code) }, ..Ending::new(outcome) })
}

fn http(status: u16) -> Attempt {
    let outcome = if status >= 500 { Outcome::Failure(Failure::Server) } else { Outcome::Success };
    attempt(Ending { answer: Answer { http: Some(status), grpc: None }, ..Ending::new(outcome) })
}

fn unsent(reach: Reach) -> Attempt {
    attempt(Ending { reach, ..Ending::new(Outcome::Failure(Failure::Reset)) })
}

fn pushed(after: Pushback) -> Attempt {
    let mut attempt = grpc(14);
    attempt.ending.pushback = Some(after);
    attempt
}

fn again(millis: u64) -> Decision {
    Decision::Again { after: ms(millis), transparent: false }
}

fn transparent(millis: u64) -> Decision {
    Decision::Again { after: ms(millis), transparent: true }
}

/// Decides about each attempt in turn, all at one moment and without a deadline.
fn decide(config: &RetryConfig, attempts: &[Attempt]) -> Vec<Decision> {
    let now = Clock::new().ms(0);
    let mut state = RetryState::default();
    attempts.iter().map(|attempt| state.decide(config, now, None, 0, attempt)).collect()
}

fn once(config: &RetryConfig, attempt: Attempt) -> Decision {
    decide(config, &[attempt])[0]
}

#[test]
fn resilience_r1_grpc_rt_01_two_failures_and_a_success_make_three_attempts() {
    let decisions = decide(&config(), &[grpc(14), grpc(14), grpc(0)]);
    assert_eq!(decisions, [again(10), again(20), Decision::Done(Stop::Succeeded)]);
}

#[test]
fn grpc_rt_01_attempts_are_numbered_in_the_header() {
    let (config, now) = (config(), Clock::new().ms(0));
    let mut state = RetryState::default();
    assert_eq!((state.attempts(), state.previous_attempts()), (1, None));
    for number in 1..3 {
        assert_eq!(state.decide(&config, now, None, 0, &grpc(14)), again(10 * u64::from(number)));
        assert_eq!((state.attempts(), state.previous_attempts()), (number + 1, Some(number)));
    }
}

#[test]
fn grpc_rt_02_the_last_attempt_is_not_repeated() {
    let config = RetryConfig { max_attempts: 4, ..config() };
    let decisions = decide(&config, &[grpc(14); 4]);
    assert_eq!(decisions, [again(10), again(20), again(40), Decision::Done(Stop::AttemptsSpent)]);
}

#[test]
fn resilience_r20_one_attempt_never_waits() {
    let config = RetryConfig { max_attempts: 1, ..config() };
    assert_eq!(once(&config, grpc(14)), Decision::Done(Stop::AttemptsSpent));
}

#[test]
fn resilience_r2_a_request_that_may_not_be_worked_on_twice_is_not_repeated() {
    let post = Attempt { idempotent: false, ..http(503) };
    assert_eq!(once(&config(), post), Decision::Done(Stop::NotIdempotent));
}

#[test]
fn resilience_r3_one_that_may_is_repeated() {
    assert_eq!(once(&config(), http(503)), again(10));
}

#[test]
fn resilience_r4_a_server_s_wait_replaces_ours() {
    let mut attempt = http(503);
    attempt.ending.pushback = Some(Pushback::After(secs(1.0)));
    assert_eq!(once(&config(), attempt), again(1000));
    assert_eq!(once(&config(), pushed(Pushback::After(ms(0)))), again(0));
}

#[test]
fn resilience_r5_grpc_rt_09_a_server_that_says_no_is_left_alone() {
    assert_eq!(once(&config(), pushed(Pushback::Stop)), Decision::Done(Stop::PushedBack));
    assert_eq!(once(&config(), pushed(Pushback::After(ms(5_000)))), again(5_000));
    assert_eq!(once(&config(), pushed(Pushback::After(ms(5_001)))), Decision::Done(Stop::PushedBack));
}

#[test]
fn grpc_rt_11_a_server_s_wait_makes_no_other_status_retryable() {
    let mut attempt = grpc(13);
    attempt.ending.pushback = Some(Pushback::After(ms(10)));
    assert_eq!(once(&config(), attempt), Decision::Done(Stop::NotRetryable));
}

#[test]
fn grpc_rt_08_the_schedule_starts_anew_after_a_server_s_wait() {
    let config = RetryConfig { max_attempts: 10, ..config() };
    let decisions = decide(&config, &[grpc(14), grpc(14), pushed(Pushback::After(ms(50))), grpc(14), grpc(14)]);
    assert_eq!(decisions, [again(10), again(20), again(50), again(10), again(20)]);
}

#[test]
fn resilience_r6_a_wait_that_would_outlast_the_deadline_does_not_begin() {
    let (config, at) = (config(), Clock::new());
    for (deadline, expected) in [
        (11, again(10)),
        (10, Decision::Done(Stop::DeadlineTooNear)),
        (5, Decision::Done(Stop::DeadlineTooNear)),
        (0, Decision::Done(Stop::DeadlineTooNear)),
    ] {
        let decision = RetryState::default().decide(&config, at.ms(0), Some(at.ms(deadline)), 0, &grpc(14));
        assert_eq!(decision, expected, "deadline in {deadline} ms");
    }
}

#[test]
fn grpc_rt_23_under_a_service_config_it_begins() {
    let (config, at) = (RetryConfig { wait_past_deadline: true, ..config() }, Clock::new());
    assert_eq!(RetryState::default().decide(&config, at.ms(0), Some(at.ms(5)), 0, &grpc(14)), again(10));
}

#[test]
fn a_transparent_retry_too_ends_at_the_deadline() {
    let at = Clock::new();
    let decision = RetryState::default().decide(&config(), at.ms(5), Some(at.ms(5)), 0, &unsent(Reach::NotSent));
    assert_eq!(decision, Decision::Done(Stop::DeadlineTooNear));
}

#[test]
fn grpc_rt_04_resilience_r19_a_status_that_is_not_listed_is_not_repeated() {
    assert_eq!(once(&config(), grpc(13)), Decision::Done(Stop::NotRetryable));
    assert_eq!(once(&config(), grpc(10)), Decision::Done(Stop::NotRetryable));
}

#[test]
fn grpc_rt_05_an_answer_that_has_begun_is_final() {
    let begun = Attempt { committed: true, ..grpc(14) };
    assert_eq!(once(&config(), begun), Decision::Done(Stop::Committed));
    let begun = Attempt { committed: true, ..grpc(13) };
    assert_eq!(once(&config(), begun), Decision::Done(Stop::NotRetryable));
    let begun = Attempt { committed: true, ..grpc(0) };
    assert_eq!(once(&config(), begun), Decision::Done(Stop::Succeeded));
}

#[test]
fn grpc_rt_12_a_refused_stream_is_repeated_at_once_without_a_policy() {
    let refused = Attempt { idempotent: false, ..unsent(Reach::Unprocessed) };
    assert_eq!(once(&RetryConfig::default(), refused), transparent(0));
}

#[test]
fn grpc_rt_13_but_once_only() {
    let decisions = decide(&RetryConfig::default(), &[unsent(Reach::Unprocessed); 2]);
    assert_eq!(decisions, [transparent(0), Decision::Done(Stop::NotRetryable)]);
}

#[test]
fn grpc_5_4_at_once_even_after_others() {
    let attempts = [Reach::NotSent, Reach::NotSent, Reach::Unprocessed].map(unsent);
    assert_eq!(decide(&config(), &attempts), [transparent(0), transparent(10), transparent(0)]);
}

#[test]
fn grpc_rt_14_a_refused_stream_counts_as_no_attempt() {
    let (config, now) = (RetryConfig { max_attempts: 2, ..config() }, Clock::new().ms(0));
    let mut state = RetryState::default();
    assert_eq!(state.decide(&config, now, None, 0, &unsent(Reach::Unprocessed)), transparent(0));
    assert_eq!((state.attempts(), state.previous_attempts()), (1, None));
    assert_eq!(state.decide(&config, now, None, 0, &grpc(14)), again(10));
    assert_eq!(state.previous_attempts(), Some(1));
    assert_eq!(state.decide(&config, now, None, 0, &grpc(14)), Decision::Done(Stop::AttemptsSpent));
}

#[test]
fn resilience_r9_what_was_never_sent_is_repeated_three_times_the_second_after_a_wait() {
    let config = RetryConfig { on: Conditions::default(), ..config() };
    let post = Attempt { idempotent: false, ..unsent(Reach::NotSent) };
    let decisions = decide(&config, &[post; 4]);
    assert_eq!(decisions, [transparent(0), transparent(10), transparent(20), Decision::Done(Stop::NotRetryable)]);
}

#[test]
fn after_that_the_policy_decides_with_a_schedule_of_its_own() {
    let post = Attempt { idempotent: false, ..unsent(Reach::NotSent) };
    let decisions = decide(&config(), &[post; 6]);
    assert_eq!(decisions[3..], [again(10), again(20), Decision::Done(Stop::AttemptsSpent)]);
}

#[test]
fn no_transparent_retries_are_made_where_none_are_allowed() {
    let config = RetryConfig { max_transparent: 0, ..RetryConfig::default() };
    for reach in [Reach::NotSent, Reach::Unprocessed] {
        assert_eq!(once(&config, unsent(reach)), Decision::Done(Stop::NotRetryable));
    }
}

#[test]
fn grpc_rt_16_a_reset_is_repeated_by_policy_only() {
    assert_eq!(once(&config(), unsent(Reach::Processed)), again(10));
    assert_eq!(once(&RetryConfig::default(), unsent(Reach::Processed)), Decision::Done(Stop::NotRetryable));
}

#[test]
fn resilience_r10_a_body_is_blamed_only_if_nothing_else_is() {
    let gone = |attempt: Attempt| Attempt { replayable: false, ..attempt };
    let config = config();
    for (attempt, stop) in [
        (gone(grpc(14)), Stop::BodyTooLarge),
        (gone(unsent(Reach::Unprocessed)), Stop::BodyTooLarge),
        (gone(grpc(13)), Stop::NotRetryable),
        (gone(grpc(0)), Stop::Succeeded),
        (gone(pushed(Pushback::Stop)), Stop::PushedBack),
        (Attempt { idempotent: false, ..gone(grpc(14)) }, Stop::NotIdempotent),
        (Attempt { committed: true, ..gone(grpc(14)) }, Stop::Committed),
    ] {
        assert_eq!(once(&config, attempt), Decision::Done(stop), "{attempt:?}");
    }
    let single = RetryConfig { max_attempts: 1, ..config };
    assert_eq!(once(&single, gone(grpc(14))), Decision::Done(Stop::AttemptsSpent));
}

#[test]
fn a_dropped_call_and_one_refused_by_ourselves_are_not_repeated() {
    for (outcome, stop) in [(Outcome::Cancelled, Stop::NotRetryable), (Outcome::Rejected, Stop::Rejected)] {
        for reach in [Reach::NotSent, Reach::Unprocessed, Reach::Processed] {
            let ending = Ending { reach, ..Ending::new(outcome) };
            assert_eq!(once(&config(), attempt(ending)), Decision::Done(stop));
        }
    }
}

#[test]
fn a_success_may_be_worth_another_attempt() {
    assert_eq!(once(&config(), http(409)), again(10));
    assert_eq!(once(&config(), http(408)), Decision::Done(Stop::Succeeded));
    let config = RetryConfig { on: Conditions::from([Condition::Status(408)]), ..config() };
    assert_eq!(once(&config, http(408)), again(10));
}

#[test]
fn with_nothing_configured_no_answer_is_repeated() {
    for attempt in [http(503), http(409), grpc(14), unsent(Reach::Processed)] {
        assert!(matches!(once(&RetryConfig::default(), attempt), Decision::Done(_)));
    }
}

#[test]
fn a_refusal_changes_nothing() {
    let (config, now) = (config(), Clock::new().ms(0));
    let mut state = RetryState::default();
    for attempt in [grpc(13), pushed(Pushback::Stop), Attempt { replayable: false, ..grpc(14) }] {
        assert!(matches!(state.decide(&config, now, None, 0, &attempt), Decision::Done(_)));
        assert_eq!(state, RetryState::default());
    }
}

#[test]
fn settings_out_of_range_are_named() {
    let backoff = BackoffConfig { jitter: Jitter::Proportional(2.0), ..BackoffConfig::default() };
    for (config, field) in [
        (RetryConfig { max_attempts: 0, ..config() }, "max_attempts"),
        (RetryConfig { max_attempts: 101, ..config() }, "max_attempts"),
        (RetryConfig { max_transparent: 1001, ..config() }, "max_transparent"),
        (RetryConfig { on: Conditions::from([Condition::Status(99)]), ..config() }, "on"),
        (RetryConfig { backoff, ..config() }, "backoff.jitter"),
    ] {
        assert_eq!(config.validate().unwrap_err().field(), field);
    }
    assert!(RetryConfig::default().validate().is_ok() && config().validate().is_ok());
}

fn attempts() -> impl Strategy<Value = Vec<(Attempt, u64, u64)>> {
    let outcome = prop_oneof![
        1 => Just(Outcome::Success),
        1 => Just(Outcome::Cancelled),
        1 => Just(Outcome::Rejected),
        6 => Just(Outcome::Failure(Failure::Server)),
        3 => Just(Outcome::Failure(Failure::Timeout)),
        3 => Just(Outcome::Failure(Failure::Reset)),
    ];
    let reach = prop_oneof![1 => Just(Reach::NotSent), 1 => Just(Reach::Unprocessed), 3 => Just(Reach::Processed)];
    let pushback = prop_oneof![
        6 => Just(None),
        1 => Just(Some(Pushback::Stop)),
        2 => (0..7_000_u64).prop_map(|millis| Some(Pushback::After(ms(millis)))),
        1 => Just(Some(Pushback::After(Duration::MAX))),
    ];
    let answer = (prop::option::of(prop_oneof![Just(200_u16), Just(409), Just(503)]), prop::option::of(0..20_u8));
    let attempt = (outcome, answer, reach, pushback, any::<[bool; 3]>()).prop_map(
        |(outcome, (http, grpc), reach, pushback, [a, b, c])| Attempt {
            ending: Ending { outcome, answer: Answer { http, grpc }, reach, pushback },
            committed: a && b,
            replayable: b || c,
            idempotent: a || c,
        },
    );
    prop::collection::vec((attempt, 0..2_000_u64, any::<u64>()), 1..40)
}

proptest! {
    #[test]
    fn a_call_makes_no_more_attempts_than_it_may_and_none_after_its_deadline(
        attempts in attempts(), max_attempts in 1..6_u32, max_transparent in 0..5_u32, deadline in prop::option::of(0..20_000_u64),
    ) {
        let config = RetryConfig { max_attempts, max_transparent, ..config() };
        let at = Clock::new();
        let mut state = RetryState::default();
        let (mut elapsed, mut policy, mut free, mut refused) = (0_u64, 0, 0, 0);
        for (attempt, takes, random) in attempts {
            elapsed += takes;
            let end = deadline.map(|deadline| at.ms(deadline));
            match state.decide(&config, at.ms(elapsed), end, random, &attempt) {
                Decision::Done(stop) => {
                    prop_assert_eq!(stop == Stop::Rejected, attempt.ending.outcome == Outcome::Rejected);
                    prop_assert!(stop != Stop::Succeeded || attempt.ending.outcome == Outcome::Success);
                }
                Decision::Again { after, transparent } => {
                    prop_assert!(attempt.replayable && !attempt.committed);
                    prop_assert!(attempt.idempotent || attempt.ending.reach != Reach::Processed);
                    elapsed += after.as_millis() as u64;
                    prop_assert!(deadline.is_none_or(|deadline| elapsed < deadline));
                    policy += u32::from(!transparent);
                    free += u32::from(transparent);
                    refused += u32::from(transparent && attempt.ending.reach == Reach::Unprocessed);
                }
            }
            prop_assert!(policy < max_attempts && free <= max_transparent && refused <= 1);
            prop_assert_eq!(state.attempts(), policy + 1);
        }
    }
}
