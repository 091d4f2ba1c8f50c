use std::time::Duration;

use mainstay::policy::deadline::deadline_after;
use mainstay::policy::deadline::earliest;
use mainstay::policy::deadline::is_past;
use mainstay::policy::deadline::remaining;

use crate::Clock;
use crate::ms;
use crate::secs;

#[test]
fn grpc_dl_15_the_stricter_of_two_deadlines_holds() {
    let at = Clock::new();
    let configured = deadline_after(at.ms(0), secs(1.0));
    assert_eq!(earliest(configured, deadline_after(at.ms(0), secs(5.0))), Some(at.ms(1000)));
    assert_eq!(earliest(configured, deadline_after(at.ms(0), secs(0.5))), Some(at.ms(500)));
    assert_eq!(earliest(configured, None), configured);
    assert_eq!(earliest(None, configured), configured);
    assert_eq!(earliest(None, None), None);
}

#[test]
fn grpc_dl_20_a_deadline_beyond_all_time_is_none() {
    let at = Clock::new();
    assert_eq!(deadline_after(at.ms(0), Duration::MAX), None);
    assert_eq!(deadline_after(at.ms(0), Duration::MAX - Duration::from_nanos(1)), None);
    assert_eq!(deadline_after(at.ms(0), Duration::from_secs(u64::MAX / 2)), None);
    assert_eq!(deadline_after(at.ms(0), Duration::ZERO), Some(at.ms(0)));
}

#[test]
fn a_deadline_has_passed_at_its_own_moment() {
    let at = Clock::new();
    assert!(!is_past(at.ms(9), at.ms(10)));
    assert!(is_past(at.ms(10), at.ms(10)));
    assert_eq!(remaining(at.ms(9), at.ms(10)), ms(1));
    assert_eq!(remaining(at.ms(11), at.ms(10)), Duration::ZERO);
}
