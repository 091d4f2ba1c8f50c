use mainstay::policy::Throttle;
use mainstay::policy::ThrottleConfig;

fn throttle(max_tokens: u32, token_ratio: f64) -> Throttle {
    Throttle::new(ThrottleConfig { max_tokens, token_ratio }).unwrap()
}

#[test]
fn resilience_u5_half_of_the_tokens_are_not_enough() {
    let mut throttle = throttle(10, 0.1);
    (0..4).for_each(|_| throttle.fail());
    assert!(throttle.allows());
    throttle.fail();
    assert!(!throttle.allows());
    throttle.succeed();
    assert!(throttle.allows());
}

#[test]
fn grpc_rt_17_four_calls_that_fail_make_two_one_one_and_one_attempts() {
    let mut throttle = throttle(4, 1.0);
    let attempts: Vec<u32> = (0..4)
        .map(|_| {
            throttle.fail();
            if !throttle.allows() {
                return 1;
            }
            throttle.fail();
            2
        })
        .collect();
    assert_eq!(attempts, [2, 1, 1, 1]);
}

#[test]
fn grpc_rt_18_successes_bring_retries_back() {
    let mut throttle = throttle(10, 0.1);
    (0..9).for_each(|_| throttle.fail());
    let needed = (1..=100).find(|_| {
        throttle.succeed();
        throttle.allows()
    });
    assert_eq!(needed, Some(41));
}

#[test]
fn tokens_neither_overflow_nor_run_into_debt() {
    let mut throttle = throttle(1, 1000.0);
    (0..1000).for_each(|_| throttle.succeed());
    throttle.fail();
    assert!(!throttle.allows());
    (0..1000).for_each(|_| throttle.fail());
    throttle.succeed();
    assert!(throttle.allows());
}

#[test]
fn decimals_beyond_the_third_are_ignored() {
    assert_eq!(throttle(10, 0.2999), throttle(10, 0.299));
    assert_eq!(throttle(10, 0.29), throttle(10, 0.290_9));
    assert_ne!(throttle(10, 0.29), throttle(10, 0.289));
}

#[test]
fn settings_out_of_range_are_named() {
    for (max_tokens, token_ratio, field) in [
        (0, 0.1, "max_tokens"),
        (1001, 0.1, "max_tokens"),
        (10, 0.0, "token_ratio"),
        (10, 1000.1, "token_ratio"),
        (10, f64::NAN, "token_ratio"),
    ] {
        let error = Throttle::new(ThrottleConfig { max_tokens, token_ratio }).unwrap_err();
        assert_eq!(error.field(), field);
    }
}
