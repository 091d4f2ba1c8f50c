//! `grpc-retry-pushback-ms` and `Retry-After`.

use std::time::Duration;
use std::time::SystemTime;

use http::HeaderMap;
use http::HeaderValue;
use mainstay::outcome::Pushback;
use mainstay::protocol::pushback;
use proptest::prelude::*;

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

#[test]
fn grpc_rt_10_a_pushback_is_digits_or_an_order_to_stop() {
    let after = |millis| Pushback::After(Duration::from_millis(millis));
    let cases = [
        ("0", after(0)),
        ("50", after(50)),
        ("050", after(50)),
        ("2147483647", after(2_147_483_647)),
        ("+5", Pushback::Stop),
        (" 5", Pushback::Stop),
        ("-1", Pushback::Stop),
        ("abc", Pushback::Stop),
        ("", Pushback::Stop),
        ("1.5", Pushback::Stop),
        ("2147483648", Pushback::Stop),
        ("99999999999999999999999", Pushback::Stop),
    ];
    for (text, expected) in cases {
        assert_eq!(pushback::parse_grpc(text.as_bytes()), expected, "{text:?}");
    }
}

#[test]
fn more_than_one_pushback_is_an_order_to_stop() {
    let mut trailers = HeaderMap::new();
    assert_eq!(pushback::grpc(&trailers), None);
    trailers.append("grpc-retry-pushback-ms", HeaderValue::from_static("5"));
    assert_eq!(pushback::grpc(&trailers), Some(Pushback::After(Duration::from_millis(5))));
    trailers.append("grpc-retry-pushback-ms", HeaderValue::from_static("5"));
    assert_eq!(pushback::grpc(&trailers), Some(Pushback::Stop));
}

#[test]
fn retry_after_is_seconds_or_a_date() {
    // The example of RFC 9110, 5.6.7.
    const EXAMPLE: u64 = 784_111_777;
    let cases: [(&str, u64, Option<u64>); 19] = [
        ("120", 0, Some(120)),
        ("0", 0, Some(0)),
        ("99999999999999999999", 0, Some(1 << 31)),
        ("Sun, 06 Nov 1994 08:49:37 GMT", EXAMPLE - 5, Some(5)),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0, Some(0)),
        ("Thu, 29 Feb 2024 12:00:00 GMT", 1_709_208_000 - 1, Some(1)),
        ("Fri, 01 Mar 2024 00:00:00 GMT", 1_709_251_200 - 1, Some(1)),
        ("Tue, 01 Mar 2101 00:00:00 GMT", 4_139_078_400 - 1, Some(1)),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 253_402_300_799 - 1, Some(1)),
        ("Thu, 29 Feb 2023 12:00:00 GMT", 0, None),
        ("Sun, 06 Nov 1994 24:49:37 GMT", 0, None),
        ("Sun, 00 Nov 1994 08:49:37 GMT", 0, None),
        ("Sun, 06 nov 1994 08:49:37 GMT", 0, None),
        ("Sun, 06 Nov 1994 08:49:37 UTC", 0, None),
        ("Sun, 06 Nov 1969 08:49:37 GMT", 0, None),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 0, None),
        ("-1", 0, None),
        ("1.5", 0, None),
        ("", 0, None),
    ];
    for (text, now, expected) in cases {
        let after = pushback::retry_after(text.as_bytes(), at(now));
        assert_eq!(after, expected.map(Duration::from_secs), "{text:?}");
    }
}

#[test]
fn resilience_r17_a_date_that_has_passed_is_no_wait() {
    let now = at(4_000_000_000);
    assert_eq!(pushback::retry_after(b"Sun, 06 Nov 1994 08:49:37 GMT", now), Some(Duration::ZERO));
}

#[test]
fn without_a_clock_a_date_is_no_pushback() {
    let mut head = HeaderMap::new();
    assert_eq!(pushback::http(&head), None);
    head.insert("retry-after", HeaderValue::from_static("Sun, 06 Nov 1994 08:49:37 GMT"));
    assert_eq!(pushback::http(&head), None);
    head.insert("retry-after", HeaderValue::from_static("3"));
    assert_eq!(pushback::http(&head), Some(Pushback::After(Duration::from_secs(3))));
}

proptest! {
    #[test]
    fn parsers_are_total(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
        let _ = pushback::parse_grpc(&bytes);
        let _ = pushback::retry_after(&bytes, SystemTime::UNIX_EPOCH);
    }

    #[test]
    fn dates_of_any_shape_are_total(text in "(Sun|Mon|Xyz), [0-9]{2} (Jan|Feb|Dec|Foo) [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT") {
        let _ = pushback::retry_after(text.as_bytes(), SystemTime::UNIX_EPOCH);
    }

    /// Counts the days one by one.
    #[test]
    fn dates_agree_with_a_walk_through_the_calendar(days in 0u64..80_000, second in 0u64..86_400) {
        let is_leap = |year: u64| matches!((year % 4, year % 100, year % 400), (0, 1.., _) | (_, _, 0));
        let length = |year, month| match month { 2 => 28 + u64::from(is_leap(year)), 4 | 6 | 9 | 11 => 30, _ => 31 };
        let (mut year, mut month, mut day) = (1970, 1, 1);
        for _ in 0..days {
            day += 1;
            if day > length(year, month) {
                (day, month) = (1, month + 1);
            }
            if month > 12 {
                (month, year) = (1, year + 1);
            }
        }
        let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let name = months[usize::try_from(month - 1).expect("it is at most 11")];
        let (hour, minute, rest) = (second / 3600, second / 60 % 60, second % 60);
        let text = format!("Mon, {day:02} {name} {year} {hour:02}:{minute:02}:{rest:02} GMT");
        let after = pushback::retry_after(text.as_bytes(), SystemTime::UNIX_EPOCH);
        prop_assert_eq!(after, Some(Duration::from_secs(days * 86_400 + second)), "{}", text);
    }
}
