use mainstay::Failure;
use mainstay::Outcome;
use mainstay::outcome::Answer;
use mainstay::outcome::Ending;
use mainstay::outcome::Reach;
use mainstay::policy::Condition;
use mainstay::policy::Conditions;

fn http(status: u16) -> Ending {
    let outcome = if status >= 500 { Outcome::Failure(Failure::Server) } else { Outcome::Success };
    Ending { answer: Answer { http: Some(status), grpc: None }, ..Ending::new(outcome) }
}

fn grpc(code: u8) -> Ending {
    Ending { answer: Answer { http: Some(200), grpc: Some(code) }, ..Ending::new(Outcome::Failure(Failure::Server)) }
}

fn none(failure: Failure) -> Ending {
    Ending::new(Outcome::Failure(failure))
}

fn matching(ending: &Ending) -> Vec<String> {
    let statuses = [408, 409, 429, 500, 503, 504].map(|status| Condition::Status(status).to_string());
    words().into_iter().chain(statuses).filter(|word| word.parse::<Condition>().unwrap().matches(ending)).collect()
}

fn words() -> Vec<String> {
    let error = "no such word".parse::<Condition>().unwrap_err();
    let list = error.allowed().strip_prefix("one of ").unwrap();
    list.split(", ").filter(|word| !word.starts_with("or ")).map(str::to_owned).collect()
}

#[test]
fn envoy_5_1_each_ending_is_matched_by_these_words_and_no_others() {
    let refused = Ending { reach: Reach::Unprocessed, ..none(Failure::Reset) };
    let never_sent = Ending { reach: Reach::NotSent, ..none(Failure::Timeout) };
    let half = Ending { answer: Answer { http: Some(200), grpc: None }, ..none(Failure::Reset) };
    let slow_body = Ending { answer: Answer { http: Some(200), grpc: None }, ..none(Failure::Timeout) };
    let no_status = Ending { answer: Answer { http: Some(200), grpc: None }, ..none(Failure::Protocol) };
    for (ending, expected) in [
        (http(200), ""),
        (http(404), ""),
        (http(408), "408"),
        (http(409), "retriable-4xx 409"),
        (http(500), "5xx unknown 500"),
        (http(501), "5xx unknown"),
        (http(503), "5xx gateway-error unavailable 503"),
        (http(504), "5xx gateway-error unavailable 504"),
        (http(599), "5xx unknown"),
        // The peer ran out of patience, not we.
        (Ending { outcome: Outcome::Failure(Failure::Timeout), ..http(504) }, "5xx gateway-error unavailable 504"),
        (none(Failure::Reset), "5xx gateway-error reset unavailable"),
        (none(Failure::Protocol), "5xx gateway-error reset unavailable"),
        (none(Failure::Connect), "5xx gateway-error reset connect-failure unavailable"),
        (none(Failure::Timeout), "5xx gateway-error reset timeout deadline-exceeded"),
        (refused, "5xx gateway-error reset refused-stream unavailable"),
        (never_sent, "5xx gateway-error reset connect-failure timeout deadline-exceeded"),
        (half, "unavailable"),
        (slow_body, "timeout deadline-exceeded"),
        (no_status, "unknown"),
        (Ending::new(Outcome::Success), ""),
        (Ending::new(Outcome::Cancelled), ""),
        (Ending::new(Outcome::Rejected), ""),
    ] {
        assert_eq!(matching(&ending).join(" "), expected, "{ending:?}");
    }
}

#[test]
fn a_grpc_answer_is_matched_by_the_word_for_its_status_only() {
    assert!(matching(&grpc(0)).is_empty());
    for (code, word) in (1..=16).zip(&words()[7..]) {
        assert_eq!(matching(&grpc(code)), [word.as_str()], "gRPC {code}");
        assert_eq!(Condition::from_grpc(code).unwrap().to_string(), *word);
        // A middlebox may put a 503 around it.
        let dressed = Ending { answer: Answer { http: Some(503), grpc: Some(code) }, ..grpc(code) };
        assert_eq!(matching(&dressed), [word.as_str()]);
    }
    assert_eq!(Condition::from_grpc(0), None);
    assert_eq!(Condition::from_grpc(17), None);
}

#[test]
fn grpc_rt_29_an_answer_of_http_503_without_a_grpc_status_is_unavailable() {
    assert!(Condition::Unavailable.matches(&http(503)));
    let too_many = Ending { outcome: Outcome::Failure(Failure::Overload), ..http(429) };
    assert!(Condition::Unavailable.matches(&too_many) && Condition::Status(429).matches(&too_many));
}

#[test]
fn a_word_is_read_as_it_is_printed() {
    assert_eq!(words().len(), 23);
    for word in words() {
        let condition: Condition = word.parse().unwrap();
        assert_eq!((condition.to_string(), condition.as_str()), (word.clone(), Some(word.as_str())));
        assert!(Conditions::from([condition]).contains(condition), "{word} is not kept");
    }
    assert_eq!("418".parse(), Ok(Condition::Status(418)));
    assert_eq!(Condition::Status(418).to_string(), "418");
}

#[test]
fn a_word_that_is_none_is_refused_with_all_that_are() {
    for word in ["5XX", "", "99", "600", "-1", "retry", "+500", "0500"] {
        let error = word.parse::<Condition>().unwrap_err();
        assert_eq!((error.field(), error.value()), ("on", word));
        assert!(error.allowed().contains("unavailable") && error.allowed().contains("100 to 599"));
    }
}

#[test]
fn a_set_keeps_each_condition_once() {
    let set = Conditions::from([
        Condition::Status(503),
        Condition::Reset,
        Condition::Status(408),
        Condition::Status(503),
        Condition::Reset,
    ]);
    let listed: Vec<_> = set.iter().collect();
    assert_eq!(listed, [Condition::Reset, Condition::Status(408), Condition::Status(503)]);
    assert!(set.matches(&http(408)) && set.matches(&none(Failure::Reset)) && !set.matches(&http(500)));
    assert!(Conditions::default().is_empty() && !set.is_empty());
    assert!(!Conditions::default().matches(&http(503)));
    assert_eq!(Conditions::from([Condition::Status(700)]).validate().unwrap_err().value(), "700");
}
