//! A request body is sent again, whole and in order, as long as that is possible.

use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;

use bytes::Bytes;
use http_body::Body;
use http_body::Frame;
use mainstay::protocol::Replay;
use mainstay::protocol::Replayer;

use crate::bodies::Bell;
use crate::bodies::Broken;
use crate::bodies::Script;
use crate::bodies::Seen;
use crate::bodies::Step;
use crate::bodies::bytes_of;
use crate::bodies::data;
use crate::bodies::poll;
use crate::bodies::poll_with;
use crate::bodies::read;
use crate::bodies::trailers;

const KIB: usize = 1024;

fn seen(text: &'static str) -> Seen {
    Seen::Data(Bytes::from_static(text.as_bytes()))
}

fn block(len: usize) -> Step {
    Step::Data((0..len).map(|index| (index % 251) as u8).collect())
}

#[test]
fn resilience_r11_chunks_and_trailers_are_sent_again_as_they_were() {
    let script = [data("one"), Step::Pending, data("two"), data("three"), Step::Trailers];
    let (mut first, replayer) = Replay::new(Script::new(script), KIB);
    let expected = [seen("one"), seen("two"), seen("three"), Seen::Trailers(trailers()), Seen::End];
    assert_eq!(read(&mut first), expected);
    drop(first);
    for _ in 0..2 {
        let mut again = replayer.again().expect("all of it is kept");
        assert_eq!(read(&mut again), expected);
        assert_eq!(poll(&mut again), Some(Seen::End));
    }
    assert_eq!(replayer.buffered(), 11);
}

#[test]
fn resilience_r10_one_byte_too_many_and_the_body_is_sent_once() {
    let (mut body, replayer) = Replay::new(Script::new([block(64 * KIB)]), 64 * KIB);
    assert_eq!(bytes_of(&read(&mut body)).len(), 64 * KIB);
    assert!(replayer.can_replay());

    let (mut body, replayer) = Replay::new(Script::new([block(64 * KIB), block(1), block(5)]), 64 * KIB);
    assert!(poll(&mut body).is_some());
    assert_eq!((replayer.can_replay(), replayer.buffered()), (true, 64 * KIB));
    assert!(poll(&mut body).is_some());
    assert_eq!((replayer.can_replay(), replayer.buffered()), (false, 0));
    assert!(replayer.again().is_none());
    assert_eq!(bytes_of(&read(&mut body)).len(), 5, "the running attempt streams on");
}

#[test]
fn grpc_rt_19_a_message_over_the_limit_is_passed_on_and_not_kept() {
    let (mut body, replayer) = Replay::new(Script::new([block(300 * KIB)]), 256 * KIB);
    assert_eq!(bytes_of(&read(&mut body)).len(), 300 * KIB);
    assert!(replayer.again().is_none());
}

#[test]
fn grpc_rt_20_three_attempts_send_the_same_bytes_without_a_copy() {
    let script = [block(100 * KIB), block(100 * KIB)];
    let (mut first, replayer) = Replay::new(Script::new(script), 256 * KIB);
    let sent = read(&mut first);
    for _ in 0..2 {
        let again = read(&mut replayer.again().expect("all of it is kept"));
        assert_eq!(again, sent);
        let place = |seen: &Seen| if let Seen::Data(data) = seen { data.as_ptr() as usize } else { 0 };
        assert!(again.iter().map(place).eq(sent.iter().map(place)));
    }
}

#[test]
fn grpc_rt_21_an_attempt_sees_the_old_messages_and_then_the_new_ones() {
    let script = [data("a"), data("b"), Step::Pending, data("c"), Step::Pending, data("d")];
    let (mut first, replayer) = Replay::new(Script::new(script), KIB);
    assert_eq!([poll(&mut first), poll(&mut first), poll(&mut first)], [Some(seen("a")), Some(seen("b")), None]);
    drop(first);
    let mut second = replayer.again().expect("all of it is kept");
    assert_eq!(read(&mut second), [seen("a"), seen("b"), seen("c"), seen("d"), Seen::End]);
}

#[test]
fn grpc_rt_22_the_half_close_is_sent_again_once() {
    let script = [data("a"), data("b"), Step::Pending];
    let (first, replayer) = Replay::new(Script::new(script), KIB);
    drop(first);
    for _ in 0..2 {
        let mut again = replayer.again().expect("all of it is kept");
        assert_eq!(read(&mut again), [seen("a"), seen("b"), Seen::End]);
        assert!(again.is_end_stream());
    }
}

#[test]
fn grpc_rt_31_an_error_of_the_caller_ends_the_attempt_and_all_others() {
    let script = [data("a"), Step::Pending, Step::Error];
    let (mut first, replayer) = Replay::new(Script::new(script), KIB);
    assert_eq!(poll(&mut first), Some(seen("a")));
    let mut second = replayer.again().expect("all of it is kept");
    assert_eq!(read(&mut second), [seen("a"), Seen::Error(Broken.to_string())]);
    assert_eq!(poll(&mut second), Some(Seen::End));
    assert!(!replayer.can_replay() && replayer.again().is_none());
    assert_eq!(replayer.buffered(), 0);
}

#[test]
fn the_error_of_the_caller_is_passed_on_as_it_is() {
    for mut body in [Replay::once(Script::new([Step::Error])), Replay::new(Script::new([Step::Error]), KIB).0] {
        let Poll::Ready(Some(Err(error))) = Pin::new(&mut body).poll_frame(&mut Context::from_waker(Waker::noop()))
        else {
            panic!("the script says so");
        };
        assert!(error.is::<Broken>());
    }
}

/// Memory that counts when it is freed.
struct Counted(Vec<u8>, Arc<AtomicUsize>);

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.1.fetch_add(self.0.len(), Ordering::Relaxed);
    }
}

fn counted(lens: &[usize]) -> (Vec<Step>, Arc<AtomicUsize>) {
    let freed = Arc::new(AtomicUsize::new(0));
    let step = |len: &usize| Step::Data(Bytes::from_owner(Counted(vec![7; *len], Arc::clone(&freed))));
    (lens.iter().map(step).collect(), freed)
}

#[test]
fn grpc_rt_37_a_commit_frees_what_was_sent_and_the_rest_as_it_is_sent() {
    let (script, freed) = counted(&[10, 20, 30]);
    let (mut first, replayer) = Replay::new(Script::new(script), KIB);
    read(&mut first);
    assert_eq!((replayer.buffered(), freed.load(Ordering::Relaxed)), (60, 0));

    let mut second = replayer.again().expect("all of it is kept");
    assert!(poll(&mut second).is_some());
    replayer.commit();
    assert_eq!((replayer.buffered(), freed.load(Ordering::Relaxed)), (50, 10));
    assert!(replayer.again().is_none());
    assert!(poll(&mut second).is_some());
    assert_eq!((replayer.buffered(), freed.load(Ordering::Relaxed)), (30, 30));
    assert_eq!(bytes_of(&read(&mut second)).len(), 30);
    assert_eq!((replayer.buffered(), freed.load(Ordering::Relaxed)), (0, 60));
}

#[test]
fn a_commit_after_the_attempt_is_gone_frees_all() {
    let (script, freed) = counted(&[10, 20, 30]);
    let source = Script::new(script);
    let drops = Arc::clone(&source.drops);
    let (mut body, replayer) = Replay::new(source, KIB);
    assert!(poll(&mut body).is_some());
    drop(body);
    assert_eq!(drops.load(Ordering::Relaxed), 0);
    replayer.commit();
    assert_eq!((freed.load(Ordering::Relaxed), drops.load(Ordering::Relaxed)), (60, 1));
    assert_eq!(replayer.buffered(), 0);
}

#[test]
fn an_attempt_that_goes_after_the_commit_takes_all_with_it() {
    let (script, freed) = counted(&[10, 20]);
    let (mut first, replayer) = Replay::new(Script::new(script), KIB);
    read(&mut first);
    let second = replayer.again().expect("all of it is kept");
    replayer.commit();
    assert_eq!(freed.load(Ordering::Relaxed), 0, "the second attempt has yet to send it");
    drop(second);
    assert_eq!((freed.load(Ordering::Relaxed), replayer.buffered()), (30, 0));
}

#[test]
fn dropping_the_replayer_is_a_commit() {
    let (script, freed) = counted(&[10, 20]);
    let (mut body, replayer) = Replay::new(Script::new(script), KIB);
    assert!(poll(&mut body).is_some());
    drop(replayer);
    assert_eq!(freed.load(Ordering::Relaxed), 10);
    assert_eq!(bytes_of(&read(&mut body)).len(), 20);
}

#[test]
fn an_empty_body_can_always_be_sent_again() {
    let source = Script::new([]).saying_end();
    let drops = Arc::clone(&source.drops);
    let (mut body, replayer) = Replay::new(source, 0);
    assert_eq!(drops.load(Ordering::Relaxed), 1);
    assert_eq!((body.is_end_stream(), body.size_hint().exact()), (true, Some(0)));
    assert_eq!(read(&mut body), [Seen::End]);
    replayer.commit();
    assert_eq!(read(&mut replayer.again().expect("there is nothing to keep")), [Seen::End]);
}

#[test]
fn a_limit_of_zero_keeps_nothing_but_an_end_and_trailers() {
    let (mut body, replayer) = Replay::new(Script::new([data(""), Step::Trailers]), 0);
    assert_eq!(read(&mut body), [seen(""), Seen::Trailers(trailers()), Seen::End]);
    let mut again = replayer.again().expect("there was no data");
    assert_eq!(read(&mut again), [Seen::Trailers(trailers()), Seen::End]);
    let (mut body, replayer) = Replay::new(Script::new([data("a")]), 0);
    assert_eq!(poll(&mut body), Some(seen("a")));
    assert!(!replayer.can_replay());
}

#[test]
fn the_size_and_the_end_are_the_same_for_every_attempt() {
    let (mut body, replayer) = Replay::new(Script::new([data("abc"), data("de")]).saying_end(), KIB);
    for _ in 0..2 {
        for (len, frame) in [(5, "abc"), (2, "de")] {
            assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(len), false));
            assert_eq!(poll(&mut body), Some(seen(frame)));
        }
        assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(0), true));
        body = replayer.again().expect("all of it is kept");
    }
}

#[test]
fn a_body_that_is_sent_once_passes_through() {
    let script = [data("a"), Step::Trailers];
    let mut body = Replay::once(Script::new(script));
    assert_eq!(read(&mut body), [seen("a"), Seen::Trailers(trailers()), Seen::End]);
}

#[test]
fn an_attempt_that_is_replaced_is_woken_and_fails() {
    let (mut first, replayer) = Replay::new(Script::new([data("a"), Step::Pending, data("b")]), KIB);
    let bell = Arc::new(Bell::default());
    let waker = Waker::from(Arc::clone(&bell));
    assert_eq!(poll_with(&mut first, &waker), Some(seen("a")));
    assert_eq!(poll_with(&mut first, &waker), None);
    let rings = bell.rings();
    let mut second = replayer.again().expect("all of it is kept");
    assert_eq!(bell.rings(), rings + 1);
    assert!(matches!(poll(&mut first), Some(Seen::Error(text)) if text.contains("another attempt")));
    assert_eq!(poll(&mut first), Some(Seen::End));
    drop(first);
    assert_eq!(read(&mut second), [seen("a"), seen("b"), Seen::End]);
}

/// A body in whose poll somebody else makes the next attempt, as another thread might.
struct Raced {
    script: Script,
    replayer: Arc<Mutex<Option<Replayer<Raced>>>>,
    next: Arc<Mutex<Option<Replay<Raced>>>>,
    bell: Arc<Bell>,
    then: Then,
}

/// What happens after the next attempt was made.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Then {
    GoesOn,
    Panics,
    /// The replayer commits, and the next attempt is dropped.
    Commits,
}

impl Body for Raced {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let replayer = self.replayer.lock().expect("no panic while it is locked").take();
        if let Some(replayer) = replayer {
            let mut again = replayer.again().expect("all of it is kept");
            // What is kept is there; for the rest it waits until the body is given back.
            assert_eq!(poll(&mut again), Some(seen("old")));
            assert!(!again.is_end_stream() && again.size_hint().exact().is_none());
            assert_eq!(poll_with(&mut again, &Waker::from(Arc::clone(&self.bell))), None);
            if self.then == Then::Commits {
                replayer.commit();
                *self.replayer.lock().expect("no panic while it is locked") = Some(replayer);
            } else {
                *self.next.lock().expect("no panic while it is locked") = Some(again);
            }
            assert!(self.then != Then::Panics, "as the test wants");
            // The replayer goes: with it the limit, but not what the new attempt has yet to send.
        }
        Pin::new(&mut self.script).poll_frame(cx)
    }
}

/// What is left after the race, the second attempt's bell, and how often the caller's body was dropped.
struct Race {
    replayer: Arc<Mutex<Option<Replayer<Raced>>>>,
    second: Option<Replay<Raced>>,
    panicked: bool,
    bell: Arc<Bell>,
    drops: Arc<AtomicUsize>,
}

fn race(step: Step, then: Then) -> Race {
    let bell = Arc::new(Bell::default());
    let (slot, next) = (Arc::new(Mutex::new(None)), Arc::new(Mutex::new(None)));
    let script = Script::new([data("old"), step, data("new")]);
    let drops = Arc::clone(&script.drops);
    let raced = Raced { script, replayer: Arc::clone(&slot), next: Arc::clone(&next), bell: Arc::clone(&bell), then };
    let (mut first, replayer) = Replay::new(raced, 4);
    assert_eq!(poll(&mut first), Some(seen("old")));
    *slot.lock().expect("no panic while it is locked") = Some(replayer);
    let polled = catch_unwind(AssertUnwindSafe(|| poll(&mut first)));
    if let Ok(polled) = &polled {
        assert!(matches!(polled, Some(Seen::Error(text)) if text.contains("another attempt")));
    }
    let second = next.lock().expect("no panic while it is locked").take();
    Race { replayer: slot, second, panicked: polled.is_err(), bell, drops }
}

fn read_second(step: Step, then: Then) -> (Vec<Seen>, usize) {
    let race = race(step, then);
    assert_eq!(race.panicked, then == Then::Panics);
    (read(&mut race.second.expect("it was made")), race.bell.rings())
}

#[test]
fn what_a_replaced_attempt_gets_goes_to_the_one_that_replaced_it() {
    assert_eq!(read_second(data("x"), Then::GoesOn), (vec![seen("x"), seen("new"), Seen::End], 1));
    assert_eq!(
        read_second(data("more than the limit"), Then::GoesOn),
        (vec![seen("more than the limit"), seen("new"), Seen::End], 1)
    );
    assert_eq!(read_second(Step::Pending, Then::GoesOn), (vec![seen("new"), Seen::End], 1));
    assert_eq!(read_second(Step::Trailers, Then::GoesOn), (vec![Seen::Trailers(trailers()), Seen::End], 1));
    assert_eq!(read_second(Step::Error, Then::GoesOn), (vec![Seen::Error(Broken.to_string())], 1));
}

#[test]
fn a_panic_of_the_caller_fails_the_other_attempt_and_does_not_hang_it() {
    assert_eq!(read_second(data("x"), Then::Panics), (vec![Seen::Error("the request body panicked".to_owned())], 1));
}

#[test]
fn a_replaced_attempt_drops_the_callers_body_if_nobody_is_left_to_read_it() {
    let race = race(data("x"), Then::Commits);
    assert!(race.second.is_none());
    assert!(race.replayer.lock().expect("no panic while it is locked").is_some());
    assert_eq!(race.drops.load(Ordering::Relaxed), 1);
}

#[test]
fn attempts_can_be_sent_to_another_thread() {
    fn check<T: Send + 'static>() {}
    check::<Replay<Script>>();
    check::<Replayer<Script>>();
}
