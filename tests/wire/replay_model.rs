//! Sequences of operations on a replayed body, against a model that keeps the whole history.

use bytes::Bytes;
use http_body::Body;
use mainstay::protocol::Replay;
use proptest::prelude::*;

use crate::bodies::Broken;
use crate::bodies::Script;
use crate::bodies::Seen;
use crate::bodies::Step;
use crate::bodies::poll;
use crate::bodies::trailers;

#[derive(Clone, Debug)]
enum Op {
    /// Polls the attempt with this index, if it still exists.
    Poll(usize),
    Again,
    Commit,
    Drop(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0usize..5).prop_map(|len| Step::Data(Bytes::from(vec![0; len]))),
        2 => Just(Step::Pending),
        1 => Just(Step::Trailers),
        1 => Just(Step::Error),
    ];
    proptest::collection::vec(step, 0..10).prop_map(|mut steps| {
        // Every byte has its own value, so that no frame can stand in for another.
        let mut next = 0;
        for step in &mut steps {
            if let Step::Data(data) = step {
                *data = data
                    .iter()
                    .map(|_| {
                        next += 1;
                        next
                    })
                    .collect();
            }
        }
        steps
    })
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        // Mostly the latest attempts.
        12 => (0usize..3).prop_map(Op::Poll),
        4 => Just(Op::Again),
        1 => Just(Op::Commit),
        2 => (0usize..3).prop_map(Op::Drop),
    ];
    proptest::collection::vec(op, 0..60)
}

/// Everything that ever happened, from which each answer is worked out anew.
struct Model {
    script: Vec<Step>,
    /// How many steps of the script were taken.
    taken: usize,
    /// What attempts have to send: all frames but empty ones, from the first on.
    history: Vec<Seen>,
    limit: usize,
    committed: bool,
    attempts: Vec<Attempt>,
}

#[derive(Clone, Copy)]
struct Attempt {
    position: usize,
    over: bool,
    dropped: bool,
}

impl Model {
    fn bytes(frames: &[Seen]) -> usize {
        frames.iter().map(|frame| if let Seen::Data(data) = frame { data.len() } else { 0 }).sum()
    }

    fn poll(&mut self, index: usize) -> Option<Seen> {
        let latest = index + 1 == self.attempts.len();
        let attempt = &mut self.attempts[index];
        if attempt.over {
            return Some(Seen::End);
        }
        if !latest {
            attempt.over = true;
            return Some(Seen::Error("another attempt has taken over the request body".to_owned()));
        }
        if let Some(frame) = self.history.get(attempt.position) {
            attempt.position += 1;
            return Some(frame.clone());
        }
        let step = self.script.get(self.taken).cloned();
        self.taken += 1;
        let frame = match step {
            None => return Some(Seen::End),
            Some(Step::Pending) => return None,
            Some(Step::Error) => {
                (attempt.over, self.committed) = (true, true);
                self.taken = self.script.len();
                return Some(Seen::Error(Broken.to_string()));
            }
            Some(Step::Trailers) => {
                self.taken = self.script.len();
                Seen::Trailers(trailers())
            }
            Some(Step::Data(data)) if data.is_empty() => return Some(Seen::Data(data)),
            Some(Step::Data(data)) => Seen::Data(data),
        };
        self.history.push(frame.clone());
        attempt.position += 1;
        if Self::bytes(&self.history) > self.limit {
            self.committed = true;
        }
        Some(frame)
    }

    fn buffered(&self) -> usize {
        let latest = self.attempts.last().expect("there is a first");
        if !self.committed {
            return Self::bytes(&self.history);
        }
        if latest.dropped { 0 } else { Self::bytes(&self.history[latest.position..]) }
    }

    /// The bytes that an attempt that is not replaced will still send.
    fn left(&self, attempt: Attempt) -> usize {
        let rest = &self.script[self.taken.min(self.script.len())..];
        let ahead: usize = rest.iter().map(|step| if let Step::Data(data) = step { data.len() } else { 0 }).sum();
        Self::bytes(&self.history[attempt.position..]) + ahead
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn every_sequence_of_operations_agrees_with_the_whole_history(
        script in steps(), says_end in any::<bool>(), limit in 0usize..20, ops in ops(),
    ) {
        // A body that is empty from the start is kept by nobody, and tested elsewhere.
        prop_assume!(!(says_end && script.is_empty()));
        let source = Script::new(script.clone());
        let source = if says_end { source.saying_end() } else { source };
        let (first, replayer) = Replay::new(source, limit);
        let mut bodies = vec![Some(first)];
        let attempt = Attempt { position: 0, over: false, dropped: false };
        let mut model = Model { script, taken: 0, history: Vec::new(), limit, committed: false, attempts: vec![attempt] };
        // The naive count of what is left holds where nothing cuts the script short.
        let whole = !model.script.iter().any(|step| matches!(step, Step::Error | Step::Trailers));

        for op in ops {
            match op {
                Op::Poll(back) => {
                    let Some(index) = bodies.len().checked_sub(back + 1) else { continue };
                    let Some(body) = &mut bodies[index] else { continue };
                    let expected = model.poll(index);
                    prop_assert_eq!(poll(body), expected);
                }
                Op::Again => {
                    let again = replayer.again();
                    prop_assert_eq!(again.is_some(), !model.committed);
                    if again.is_some() {
                        bodies.push(again);
                        model.attempts.push(attempt);
                    }
                }
                Op::Commit => {
                    replayer.commit();
                    model.committed = true;
                }
                Op::Drop(back) => {
                    let Some(index) = bodies.len().checked_sub(back + 1) else { continue };
                    bodies[index] = None;
                    model.attempts[index].dropped = true;
                }
            }
            prop_assert_eq!(replayer.can_replay(), !model.committed);
            prop_assert_eq!(replayer.buffered(), model.buffered());
            let latest = *model.attempts.last().expect("there is a first");
            if let Some(Some(body)) = bodies.last() && !latest.over && whole {
                let left = model.left(latest) as u64;
                let hint = body.size_hint();
                prop_assert!(hint.lower() <= left && hint.upper().is_none_or(|upper| left <= upper));
                prop_assert!(!says_end || hint.exact() == Some(left));
                prop_assert!(!body.is_end_stream() || left == 0);
            }
        }
    }
}
