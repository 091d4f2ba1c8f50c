//! A body tells once how it ended, whatever it does and whenever its reader leaves.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use http_body::Body;
use mainstay::protocol::End;
use mainstay::protocol::OnEnd;
use mainstay::protocol::Tracked;

use crate::bodies::Broken;
use crate::bodies::Script;
use crate::bodies::Seen;
use crate::bodies::Step;
use crate::bodies::data;
use crate::bodies::poll;
use crate::bodies::trailers;

#[derive(Clone, Debug, Default)]
struct Log(Rc<RefCell<Vec<String>>>);

impl Log {
    fn take(&self) -> Vec<String> {
        self.0.take()
    }
}

impl OnEnd for Log {
    fn on_data(&mut self, bytes: usize) {
        self.0.borrow_mut().push(format!("data {bytes}"));
    }

    fn on_end(self, end: End<'_>) {
        let line = match end {
            End::Eos(None) => "end".to_owned(),
            End::Eos(Some(map)) => format!("trailers {}", map.len()),
            End::Error(error) => format!("error {}", error.is::<Broken>()),
            End::Dropped => "dropped".to_owned(),
        };
        self.0.borrow_mut().push(line);
    }
}

/// The whole of what must be told, worked out from the script alone.
fn expected(script: &[Step], says_end: bool, polls: usize) -> Vec<String> {
    let mut told = Vec::new();
    if says_end && script.is_empty() {
        return vec!["end".to_owned()];
    }
    for index in 0..polls {
        match script.get(index) {
            None => told.push("end".to_owned()),
            Some(Step::Trailers) => told.push("trailers 1".to_owned()),
            Some(Step::Error) => told.push("error true".to_owned()),
            Some(Step::Pending) => continue,
            Some(Step::Data(data)) => {
                told.push(format!("data {}", data.len()));
                if !(says_end && index + 1 == script.len()) {
                    continue;
                }
                told.push("end".to_owned());
            }
        }
        return told;
    }
    told.push("dropped".to_owned());
    told
}

#[test]
fn every_script_of_up_to_four_frames_is_told_once_wherever_it_is_dropped() {
    let steps = [data("ab"), Step::Trailers, Step::Pending, Step::Error];
    let mut scripts: Vec<Vec<Step>> = vec![Vec::new()];
    let mut shorter = scripts.clone();
    for _ in 0..4 {
        let longer = |script: &Vec<Step>| steps.clone().map(|step| script.iter().cloned().chain([step]).collect());
        shorter = shorter.iter().flat_map(longer).collect();
        scripts.extend_from_slice(&shorter);
    }
    assert_eq!(scripts.len(), 1 + 4 + 16 + 64 + 256);

    for script in &scripts {
        for says_end in [false, true] {
            // Two polls more than there are frames: some readers ask again after the end.
            for polls in 0..=script.len() + 2 {
                let make = || {
                    let body = Script::new(script.clone());
                    if says_end { body.saying_end() } else { body }
                };
                let (log, mut plain) = (Log::default(), make());
                let mut body = Tracked::new(make(), log.clone());
                for _ in 0..polls {
                    assert_eq!(poll(&mut body), poll(&mut plain));
                    assert_eq!(body.is_end_stream(), plain.is_end_stream());
                    assert_eq!(body.size_hint().exact(), plain.size_hint().exact());
                }
                drop(body);
                assert_eq!(log.take(), expected(script, says_end, polls), "{script:?} {says_end} {polls}");
            }
        }
    }
}

#[test]
fn a_body_that_is_empty_from_the_start_is_told_of_at_once() {
    let log = Log::default();
    let mut body = Tracked::new(Script::new([]).saying_end(), log.clone());
    assert_eq!(log.take(), ["end"]);
    assert!(body.on_end_mut().is_none());
    assert_eq!(poll(&mut body), Some(Seen::End));
    drop(body);
    assert!(log.take().is_empty());
}

#[test]
fn trailers_are_told_before_they_are_passed_on_and_not_again_at_the_drop() {
    let log = Log::default();
    let mut body = Tracked::new(Script::new([Step::Data(Bytes::from_static(b"abc")), Step::Trailers]), log.clone());
    assert!(body.on_end_mut().is_some());
    assert_eq!(poll(&mut body), Some(Seen::Data(Bytes::from_static(b"abc"))));
    assert_eq!(log.take(), ["data 3"]);
    assert_eq!(poll(&mut body), Some(Seen::Trailers(trailers())));
    assert_eq!(log.take(), ["trailers 1"]);
    drop(body);
    assert!(log.take().is_empty());
}

#[test]
fn an_untracked_body_tells_nobody() {
    let mut body: Tracked<_, Log> = Tracked::untracked(Script::new([data("a")]));
    assert!(body.on_end_mut().is_none());
    assert_eq!(poll(&mut body), Some(Seen::Data(Bytes::from_static(b"a"))));
    assert_eq!(poll(&mut body), Some(Seen::End));
}
