//! How attempts end.

use std::error::Error;
use std::io;
use std::time::Duration;

use http::HeaderMap;
use http::HeaderValue;
use http::Method;
use http::StatusCode;
use http::Uri;
use mainstay::BoxError;
use mainstay::Failure;
use mainstay::Outcome;
use mainstay::Rejection;
use mainstay::RejectionKind;
use mainstay::TransportError;
use mainstay::outcome::Answer;
use mainstay::outcome::Ending;
use mainstay::outcome::Pushback;
use mainstay::outcome::Reach;
use mainstay::protocol::Auto;
use mainstay::protocol::Classify;
use mainstay::protocol::Code;
use mainstay::protocol::End;
use mainstay::protocol::Judge;
use proptest::prelude::*;

const GRPC: (&str, &str) = ("content-type", "application/grpc");
const HTML: (&str, &str) = ("content-type", "text/html");

fn map(lines: &[(&'static str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in lines {
        map.append(*name, HeaderValue::from_str(value).expect("it is a header value"));
    }
    map
}

fn status(http: u16) -> StatusCode {
    StatusCode::from_u16(http).expect("it is a status")
}

/// The head, and if that is not final, the trailers.
fn judge_grpc(
    http: u16,
    head: &[(&'static str, &str)],
    empty: bool,
    trailers: Option<&[(&'static str, &str)]>,
) -> Ending {
    let mut judge = Judge::grpc();
    if let Some(ending) = judge.head(status(http), &map(head), empty) {
        return ending;
    }
    judge.end(End::Eos(trailers.map(map).as_ref()))
}

fn failure(failure: Failure) -> Outcome {
    Outcome::Failure(failure)
}

fn expected_of_code(code: u8) -> Outcome {
    match code {
        0 | 3 | 5 | 6 | 7 | 9 | 10 | 11 | 12 | 16 => Outcome::Success,
        1 => failure(Failure::Reset),
        4 => failure(Failure::Timeout),
        8 => failure(Failure::Overload),
        _ => failure(Failure::Server),
    }
}

fn expected_of_http(http: u16) -> Outcome {
    match http {
        429 | 503 => failure(Failure::Overload),
        504 => failure(Failure::Timeout),
        500 | 502 => failure(Failure::Server),
        501 | 505 | 511 => Outcome::Success,
        506..=599 => failure(Failure::Server),
        600.. => failure(Failure::Protocol),
        _ => Outcome::Success,
    }
}

#[test]
fn every_grpc_status_has_its_outcome_in_the_head_and_in_trailers() {
    for code in 0..=16u8 {
        let line = ("grpc-status", &*code.to_string());
        let endings = [judge_grpc(200, &[GRPC, line], true, None), judge_grpc(200, &[GRPC], false, Some(&[line]))];
        for ending in endings {
            assert_eq!(ending.outcome, expected_of_code(code), "{code}");
            assert_eq!(ending.answer, Answer { http: Some(200), grpc: Some(code) });
            assert_eq!((ending.reach, ending.pushback), (Reach::Processed, None));
        }
    }
}

#[test]
fn every_http_status_has_its_outcome() {
    for http in 100..=999 {
        let expected = expected_of_http(http);
        for empty in [true, false] {
            let mut judge = Judge::http();
            let head = judge.head(status(http), &HeaderMap::new(), empty);
            // A failure is known from the head; a success only when the body is complete.
            assert_eq!(head.is_some(), empty || expected.is_failure(), "{http}");
            let ending = head.unwrap_or_else(|| judge.end(End::Eos(None)));
            assert_eq!(ending.outcome, expected, "{http}");
            assert_eq!(ending.answer, Answer { http: Some(http), grpc: None });
        }
    }
}

#[test]
fn grpc_is_judged_by_the_content_type_of_the_request() {
    let judge = |head: &[(&'static str, &str)]| Auto.judge(&Method::POST, &Uri::from_static("/a.B/C"), &map(head));
    assert!(judge(&[GRPC]).is_grpc());
    assert!(judge(&[("content-type", "APPLICATION/GRPC+proto")]).is_grpc());
    assert!(!judge(&[HTML]).is_grpc());
    assert!(!judge(&[("content-type", "application/grpc-web")]).is_grpc());
    assert!(!judge(&[]).is_grpc());
}

#[test]
fn grpc_st_01_an_answer_without_a_status_is_no_success() {
    for trailers in [None, Some([("x-other", "1")].as_slice())] {
        let ending = judge_grpc(200, &[GRPC], false, trailers);
        assert_eq!(ending.outcome, failure(Failure::Protocol));
        assert_eq!(ending.answer, Answer { http: Some(200), grpc: None });
    }
    let ending = Judge::grpc().head(StatusCode::OK, &map(&[GRPC]), true).expect("there is nothing to wait for");
    assert_eq!(ending.outcome, failure(Failure::Protocol));
}

#[test]
fn grpc_st_02_without_a_status_the_http_status_decides_at_the_head() {
    for http in (100..=999).filter(|http| *http != 200) {
        for empty in [true, false] {
            let ending = Judge::grpc().head(status(http), &map(&[HTML]), empty).expect("it is final");
            let expected = if http < 400 { failure(Failure::Protocol) } else { expected_of_http(http) };
            assert_eq!(ending.outcome, expected, "{http}");
            let code = Code::from_http(status(http)).number();
            assert_eq!(ending.answer, Answer { http: Some(http), grpc: Some(code) }, "{http}");
        }
    }
}

#[test]
fn grpc_st_03_a_status_wins_over_the_http_status_and_the_content_type() {
    for empty in [true, false] {
        // At the head, so that it can be retried before anything is handed on.
        let head = map(&[HTML, ("grpc-status", "5")]);
        let ending = Judge::grpc().head(status(503), &head, empty).expect("it is final");
        assert_eq!(ending.answer, Answer { http: Some(503), grpc: Some(5) });
        assert_eq!(ending.outcome, Outcome::Success);
    }
}

#[test]
fn grpc_st_04_a_status_that_cannot_be_read_is_a_failure() {
    for value in ["", "abc", "-1", "17", "+0", "0x0"] {
        let ending = judge_grpc(200, &[GRPC], false, Some(&[("grpc-status", value)]));
        assert_eq!((ending.outcome, ending.answer.grpc), (failure(Failure::Server), Some(2)), "{value:?}");
    }
}

#[test]
fn grpc_st_06_of_two_statuses_in_trailers_the_last_counts() {
    let ending = judge_grpc(200, &[GRPC], false, Some(&[("grpc-status", "14"), ("grpc-status", "0")]));
    assert_eq!(ending.outcome, Outcome::Success);
}

#[test]
fn grpc_st_21_trailers_win_over_a_status_in_the_head() {
    let ending = judge_grpc(200, &[GRPC, ("grpc-status", "0")], false, Some(&[("grpc-status", "14")]));
    assert_eq!(ending.answer.grpc, Some(14));
    let ending = judge_grpc(200, &[GRPC, ("grpc-status", "14")], false, Some(&[("grpc-status", "0")]));
    assert_eq!(ending.outcome, Outcome::Success);
}

#[test]
fn an_error_in_the_head_counts_if_no_trailers_come_and_an_ok_does_not() {
    let ending = judge_grpc(200, &[GRPC, ("grpc-status", "5")], false, None);
    assert_eq!((ending.outcome, ending.answer.grpc), (Outcome::Success, Some(5)));
    let ending = judge_grpc(200, &[GRPC, ("grpc-status", "0")], false, None);
    assert_eq!((ending.outcome, ending.answer.grpc), (failure(Failure::Protocol), None));
}

#[test]
fn a_page_from_a_middlebox_is_no_answer_to_a_grpc_call() {
    for head in [[HTML].as_slice(), &[]] {
        let ending = Judge::grpc().head(StatusCode::OK, &map(head), false).expect("it is final");
        assert_eq!(ending.outcome, failure(Failure::Protocol));
        assert_eq!(ending.answer.grpc, None);
    }
}

#[test]
fn a_pushback_is_read_where_the_status_is() {
    let pushed = [("grpc-status", "14"), ("grpc-retry-pushback-ms", "20")];
    let after = Some(Pushback::After(Duration::from_millis(20)));
    let mut head = vec![GRPC];
    head.extend(pushed);
    for ending in [judge_grpc(200, &head, true, None), judge_grpc(200, &[GRPC], false, Some(&pushed))] {
        assert_eq!((ending.outcome, ending.pushback), (failure(Failure::Overload), after));
    }
    let stop = judge_grpc(200, &[GRPC], false, Some(&[("grpc-status", "8"), ("grpc-retry-pushback-ms", "-1")]));
    assert_eq!((stop.outcome, stop.pushback), (failure(Failure::Overload), Some(Pushback::Stop)));
    // A head that is not final has no say about pushback.
    let head = [GRPC, ("grpc-retry-pushback-ms", "20")];
    assert_eq!(judge_grpc(200, &head, false, Some(&[("grpc-status", "14")])).pushback, None);
}

#[test]
fn retry_after_is_read_from_http_errors() {
    let head = map(&[("retry-after", "7")]);
    let after = Some(Pushback::After(Duration::from_secs(7)));
    for http in [408, 429, 500, 503] {
        assert_eq!(Judge::http().head(status(http), &head, true).expect("it is final").pushback, after, "{http}");
        assert_eq!(Judge::grpc().head(status(http), &head, true).expect("it is final").pushback, after, "{http}");
    }
    assert_eq!(Judge::http().head(status(200), &head, true).expect("it is final").pushback, None);
}

#[test]
fn resilience_a_dropped_call_is_nobodys_fault() {
    for mut judge in [Judge::grpc(), Judge::http()] {
        assert_eq!(judge.end(End::Dropped), Ending::new(Outcome::Cancelled));
        assert_eq!(judge.head(status(200), &map(&[GRPC]), false), None);
        let ending = judge.end(End::Dropped);
        assert_eq!((ending.outcome, ending.answer.http), (Outcome::Cancelled, Some(200)));
    }
}

#[test]
fn rejections_of_ours_say_nothing_about_the_peer_but_a_deadline_does() {
    for kind in [
        RejectionKind::BreakerOpen,
        RejectionKind::DeadlineMalformed,
        RejectionKind::NoEndpoint,
        RejectionKind::Overloaded,
        RejectionKind::RateLimited,
        RejectionKind::ShuttingDown,
    ] {
        // The cause of a rejection is not what ended the call.
        let cause = TransportError::new(Failure::Connect, Reach::NotSent, io::Error::other("refused"));
        let error: BoxError = Rejection::new(kind, "orders".into()).with_cause(std::sync::Arc::new(cause)).into();
        let ending = Judge::grpc().error(&*error);
        assert_eq!((ending.outcome, ending.reach), (Outcome::Rejected, Reach::NotSent), "{kind:?}");
    }
    let error: BoxError = Rejection::new(RejectionKind::DeadlineExceeded, "timeout".into()).into();
    let ending = Judge::http().error(&*error);
    assert_eq!((ending.outcome, ending.reach), (failure(Failure::Timeout), Reach::Processed));
}

#[test]
fn errors_of_the_transport_say_how_far_the_request_came() {
    for (kind, reach) in [
        (Failure::Connect, Reach::NotSent),
        (Failure::Reset, Reach::Unprocessed),
        (Failure::Protocol, Reach::Processed),
    ] {
        let error = io::Error::other(TransportError::new(kind, reach, io::Error::other("broken")));
        let ending = Judge::grpc().error(&error);
        assert_eq!((ending.outcome, ending.reach), (failure(kind), reach));
        assert_eq!(ending.answer, Answer::default());

        // After a head, no error makes the request unseen.
        let mut judge = Judge::grpc();
        assert_eq!(judge.head(status(200), &map(&[GRPC]), false), None);
        let ending = judge.end(End::Error(&error));
        assert_eq!((ending.outcome, ending.reach), (failure(kind), Reach::Processed));
        assert_eq!(ending.answer, Answer { http: Some(200), grpc: None });
    }
}

#[test]
fn an_error_that_nobody_knows_is_a_reset_of_a_request_that_was_seen() {
    let error: &(dyn Error + 'static) = &io::Error::other("who knows");
    let ending = Judge::http().error(error);
    assert_eq!(ending, Ending::new(failure(Failure::Reset)));
}

#[test]
fn a_judge_is_a_small_value() {
    assert!(size_of::<Judge>() <= 8);
}

proptest! {
    #[test]
    fn the_judge_is_total_and_never_calls_an_answer_without_status_a_success(
        http in 100u16..=999,
        empty in any::<bool>(),
        content_type in proptest::option::of("(application/grpc|text/html)[+;a-z]{0,4}"),
        bytes in proptest::collection::vec(any::<u8>(), 0..6),
        in_head in any::<bool>(),
    ) {
        let mut head = HeaderMap::new();
        if let Some(value) = &content_type {
            head.insert("content-type", HeaderValue::from_str(value).expect("it is a header value"));
        }
        let mut trailers = HeaderMap::new();
        let place = if in_head { &mut head } else { &mut trailers };
        let digits = HeaderValue::from_bytes(&bytes);
        if let Ok(value) = &digits {
            place.insert("grpc-status", value.clone());
        }
        let mut judge = Judge::grpc();
        let ending = judge.head(status(http), &head, empty).unwrap_or_else(|| judge.end(End::Eos(Some(&trailers))));
        prop_assert_eq!(ending.answer.http, Some(http));
        if digits.is_err() && http < 400 {
            prop_assert_eq!(ending.outcome, failure(Failure::Protocol));
        }
        let mut judge = Judge::http();
        let _ = judge.head(status(http), &head, empty);
    }
}
