//! A body is looked at without losing a frame.

use std::pin::Pin;
use std::task::Context;
use std::task::Waker;

use bytes::Bytes;
use http_body::Body;
use mainstay::protocol::Peek;
use mainstay::protocol::Peeked;

use crate::bodies::Broken;
use crate::bodies::Script;
use crate::bodies::Seen;
use crate::bodies::Step;
use crate::bodies::data;
use crate::bodies::poll;
use crate::bodies::read;

fn peek(body: &mut Peek<Script>) -> String {
    match Pin::new(body).peek(&mut Context::from_waker(Waker::noop())) {
        Peeked::Pending => "pending".to_owned(),
        Peeked::Data => "data".to_owned(),
        Peeked::Trailers(map) => format!("trailers {}", map.len()),
        Peeked::End => "end".to_owned(),
        Peeked::Error(error) => format!("error {}", error.is::<Broken>()),
    }
}

#[test]
fn what_was_looked_at_is_handed_on_in_its_place() {
    let scripts = [
        (vec![data("ab"), data("c"), Step::Trailers], "data"),
        (vec![Step::Trailers], "trailers 1"),
        (vec![Step::Error], "error true"),
        (vec![], "end"),
    ];
    for (script, first) in scripts {
        let plain = read(&mut Script::new(script.clone()));
        let mut body = Peek::new(Script::new(script));
        assert_eq!(peek(&mut body), first);
        assert_eq!(peek(&mut body), first);
        assert_eq!(read(&mut body), plain);
    }
}

#[test]
fn looking_does_not_wait() {
    let mut body = Peek::new(Script::new([Step::Pending, data("ab"), Step::Pending, Step::Trailers]));
    assert_eq!(peek(&mut body), "pending");
    assert_eq!(peek(&mut body), "data");
    assert_eq!(poll(&mut body), Some(Seen::Data(Bytes::from_static(b"ab"))));
    assert_eq!(peek(&mut body), "pending");
    assert_eq!(peek(&mut body), "trailers 1");
}

#[test]
fn the_size_counts_what_was_looked_at() {
    let mut body = Peek::new(Script::new([data("abc"), data("de")]).saying_end());
    for _ in 0..2 {
        assert_eq!(body.size_hint().exact(), Some(5));
        assert_eq!(peek(&mut body), "data");
    }
    assert_eq!(poll(&mut body), Some(Seen::Data(Bytes::from_static(b"abc"))));
    assert_eq!(peek(&mut body), "data");
    // The body inside has ended, but a frame of it is still here.
    assert!(!body.is_end_stream());
    assert_eq!(body.size_hint().exact(), Some(2));
    assert_eq!(poll(&mut body), Some(Seen::Data(Bytes::from_static(b"de"))));
    assert!(body.is_end_stream());
    assert_eq!(body.size_hint().exact(), Some(0));
}

#[test]
fn empty_data_frames_at_the_front_say_nothing() {
    let mut body = Peek::new(Script::new([data(""), data(""), Step::Trailers]));
    assert_eq!(peek(&mut body), "trailers 1");
    let mut body = Peek::new(Script::new([data("")]).saying_end());
    assert_eq!(peek(&mut body), "end");
    assert!(body.is_end_stream());
    assert_eq!(read(&mut body), [Seen::End]);
    let mut body = Peek::new(Script::new([data(""), data("a")]));
    assert_eq!(peek(&mut body), "data");
}

#[test]
fn a_flood_of_empty_frames_ends_the_look() {
    let mut body = Peek::new(Script::new((0..1000).map(|_| data(""))));
    assert_eq!(peek(&mut body), "data");
}

#[test]
fn an_end_that_was_seen_stays_an_end() {
    let mut body = Peek::new(Script::new([]));
    assert_eq!(peek(&mut body), "end");
    assert_eq!(poll(&mut body), Some(Seen::End));
    assert_eq!(poll(&mut body), Some(Seen::End));
    assert!(body.is_end_stream());
}
