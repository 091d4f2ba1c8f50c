//! `grpc-status`, `grpc-message`, `grpc-timeout`, and the tables between codes.

use std::time::Duration;

use http::HeaderMap;
use http::HeaderValue;
use http::StatusCode;
use mainstay::protocol::Code;
use mainstay::protocol::grpc_timeout;
use mainstay::protocol::grpc_timeout::Malformed;
use mainstay::protocol::status;
use proptest::prelude::*;

fn trailers(values: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in values {
        map.append(*name, HeaderValue::from_static(value));
    }
    map
}

#[test]
fn grpc_st_02_every_http_status_has_its_code() {
    for http in 100..=999 {
        let expected = match http {
            400 => "INTERNAL",
            401 => "UNAUTHENTICATED",
            403 => "PERMISSION_DENIED",
            404 => "UNIMPLEMENTED",
            429 => "UNAVAILABLE",
            431 => "INTERNAL",
            502..=504 => "UNAVAILABLE",
            _ => "UNKNOWN",
        };
        let status = StatusCode::from_u16(http).expect("it has three digits");
        assert_eq!(Code::from_http(status).name(), expected, "{http}");
    }
}

#[test]
fn grpc_st_04_a_status_that_is_none_is_unknown() {
    for value in ["", "abc", "-1", "17", "99999999999", "+0", "0x0", " 0", "0 ", "256", "272", "1.0", "\u{661}"] {
        assert_eq!(status::parse_status(value.as_bytes()), Code::Unknown, "{value:?}");
    }
}

#[test]
fn grpc_st_05_a_status_may_have_leading_zeros() {
    assert_eq!(status::parse_status(b"00"), Code::Ok);
    assert_eq!(status::parse_status(b"07"), Code::PermissionDenied);
    assert_eq!(status::parse_status(b"00000000000000000000000000016"), Code::Unauthenticated);
}

#[test]
fn grpc_st_06_of_two_statuses_the_last_counts() {
    let headers = trailers(&[("grpc-status", "14"), ("grpc-status", "0")]);
    assert_eq!(status::find_status(&headers), Some(Code::Ok));
    assert_eq!(status::find_status(&HeaderMap::new()), None);
}

#[test]
fn every_code_is_found_by_its_digits_its_number_and_its_name() {
    for number in 0..=u8::MAX {
        let Some(code) = Code::from_number(number) else {
            assert!(number > 16);
            continue;
        };
        assert_eq!(code.number(), number);
        assert_eq!(code.digits(), number.to_string());
        assert_eq!(status::parse_status(code.digits().as_bytes()), code);
        assert_eq!(Code::from_name(code.name()), Some(code));
        let camel: String = code.camel_name().to_uppercase();
        assert_eq!(camel.replace("CANCELED", "CANCELLED"), code.name().replace('_', ""));
    }
    assert_eq!(Code::from_name("ok"), None);
}

#[test]
fn grpc_st_07_a_bad_message_is_kept_as_far_as_it_goes() {
    let long = "a".repeat(10_000);
    let cases: [(&[u8], &str); 9] = [
        (b"a%2", "a%2"),
        (b"a%zz", "a%zz"),
        (b"100%", "100%"),
        (b"%e2%98%ba", "\u{263a}"),
        (b"a%FFb", "a\u{fffd}b"),
        (b"a\xffb", "a\u{fffd}b"),
        (b"%%41", "%A"),
        (b"", ""),
        (long.as_bytes(), &long),
    ];
    for (encoded, decoded) in cases {
        assert_eq!(status::decode_message(encoded), decoded);
    }
}

#[test]
fn grpc_st_08_a_message_is_encoded_in_capitals() {
    let message = "\t\ntest \u{263a} \u{1f608} %";
    assert_eq!(status::encode_message(message), "%09%0Atest %E2%98%BA %F0%9F%98%88 %25");
    assert!(matches!(status::encode_message("plain ~ text"), std::borrow::Cow::Borrowed(_)));
}

#[test]
fn grpc_st_14_every_reset_has_its_code() {
    for reset in (0..=13).chain([99, u32::MAX]) {
        let expected = match reset {
            7 => Code::Unavailable,
            8 => Code::Cancelled,
            11 => Code::ResourceExhausted,
            12 => Code::PermissionDenied,
            _ => Code::Internal,
        };
        assert_eq!(Code::from_reset(reset), expected, "{reset}");
    }
}

#[test]
fn every_code_has_the_http_status_that_envoy_gives_it() {
    let expected = [200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401];
    assert_eq!(Code::ALL.map(|code| code.http().as_u16()), expected);
}

#[test]
fn grpc_dl_01_timeouts_are_read() {
    let cases = [
        ("1S", Duration::from_secs(1)),
        ("00000001S", Duration::from_secs(1)),
        ("99999999n", Duration::from_nanos(99_999_999)),
        ("5m", Duration::from_millis(5)),
        ("3M", Duration::from_secs(180)),
        ("2H", Duration::from_secs(7200)),
        ("7u", Duration::from_micros(7)),
    ];
    for (text, timeout) in cases {
        // "00000001S" has eight digits and a unit.
        assert_eq!(grpc_timeout::parse(text.as_bytes()), Ok(timeout), "{text}");
    }
}

#[test]
fn grpc_dl_02_what_the_grammar_does_not_allow_is_malformed() {
    let cases =
        ["", "S", "1", "1s", "1 S", " 1S", "1S ", "+1S", "-1S", "1.5S", "123456789S", "1Sx", "\u{661}S", "1h", "1N"];
    for text in cases {
        assert_eq!(grpc_timeout::parse(text.as_bytes()), Err(Malformed), "{text:?}");
    }
}

#[test]
fn grpc_dl_03_zero_is_a_deadline_that_has_passed() {
    for text in ["0n", "0S", "00000000H"] {
        assert_eq!(grpc_timeout::parse(text.as_bytes()), Ok(Duration::ZERO), "{text}");
    }
    assert_eq!(grpc_timeout::encode(Duration::ZERO), None);
}

#[test]
fn grpc_dl_04_the_longest_timeout_is_accepted() {
    assert_eq!(grpc_timeout::parse(b"99999999H"), Ok(Duration::from_secs(99_999_999 * 3600)));
}

#[test]
fn grpc_dl_05_timeouts_are_written_in_the_finest_unit_rounded_up() {
    let nanos = Duration::from_nanos;
    let cases = [
        (nanos(1), "1n"),
        (nanos(99_999_999), "99999999n"),
        (nanos(100_000_000), "100000u"),
        (nanos(100_000_001), "100001u"),
        (nanos(1_000_000_000), "1000000u"),
        (nanos(99_999_999_001), "100000m"),
        (nanos(100_000_000_001), "100001m"),
        (nanos(99_999_999_000_001), "100000S"),
        (nanos(99_999_999_000_000_001), "1666667M"),
        (nanos(i64::MAX.unsigned_abs()), "2562048H"),
    ];
    for (timeout, text) in cases {
        let encoded = grpc_timeout::encode(timeout).expect("it is not zero");
        assert_eq!(encoded.as_str(), text);
        assert_eq!(HeaderValue::from(encoded), text);
    }
}

#[test]
fn grpc_dl_20_the_longest_durations_are_cut_without_a_panic() {
    for timeout in [Duration::MAX, Duration::from_secs(u64::MAX), Duration::from_secs(99_999_999 * 3600 + 1)] {
        assert_eq!(grpc_timeout::encode(timeout).expect("it is not zero").as_str(), "99999999H");
    }
}

#[test]
fn grpc_dl_21_of_two_timeouts_the_last_counts() {
    let headers = trailers(&[("grpc-timeout", "1S"), ("grpc-timeout", "5S")]);
    assert_eq!(grpc_timeout::from_headers(&headers), Ok(Some(Duration::from_secs(5))));
    let headers = trailers(&[("grpc-timeout", "1S"), ("grpc-timeout", "5s")]);
    assert_eq!(grpc_timeout::from_headers(&headers), Err(Malformed));
    assert_eq!(grpc_timeout::from_headers(&HeaderMap::new()), Ok(None));
}

proptest! {
    #[test]
    fn grpc_dl_06_a_timeout_comes_back_no_shorter_and_less_than_a_unit_longer(nanos in 1u64..=i64::MAX as u64, shift in 0u32..63) {
        let timeout = Duration::from_nanos((nanos >> shift).max(1));
        let encoded = grpc_timeout::encode(timeout).expect("it is not zero");
        let unit = Duration::from_nanos(match encoded.as_str().chars().last() {
            Some('n') => 1,
            Some('u') => 1_000,
            Some('m') => 1_000_000,
            Some('S') => 1_000_000_000,
            Some('M') => 60_000_000_000,
            _ => 3_600_000_000_000,
        });
        let back = grpc_timeout::parse(encoded.as_str().as_bytes()).expect("we wrote it");
        prop_assert!(timeout <= back && back < timeout + unit, "{timeout:?} came back as {back:?}");
    }

    #[test]
    fn every_text_survives_grpc_message(text in any::<String>()) {
        let encoded = status::encode_message(&text);
        prop_assert!(encoded.bytes().all(|byte| matches!(byte, 0x20..=0x7e)));
        prop_assert_eq!(&*status::decode_message(encoded.as_bytes()), &*text);
    }

    #[test]
    fn codecs_are_total(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
        let _ = status::parse_status(&bytes);
        let _ = status::decode_message(&bytes);
        let _ = grpc_timeout::parse(&bytes);
    }

    #[test]
    fn codecs_are_total_on_what_nearly_fits(text in "[-+%0-9a-fA-FHMSmun ]{0,12}") {
        let code = status::parse_status(text.as_bytes());
        // The naive reading: as a number of any size.
        let number = text.parse::<u128>().ok().filter(|_| !text.starts_with('+'));
        let expected = number.and_then(|number| u8::try_from(number).ok()).and_then(Code::from_number);
        prop_assert_eq!(code, expected.unwrap_or(Code::Unknown));
        let _ = grpc_timeout::parse(text.as_bytes());
        let _ = status::decode_message(text.as_bytes());
    }
}
