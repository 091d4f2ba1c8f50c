//! Watches what HTTP/1 peers send, for what hyper lets through and a proxy must not pass on.
//!
//! A request that can be read in two ways is how another request is hidden in it (RFC 9112, 11.2). hyper drops a
//! Content-Length that stands beside a Transfer-Encoding, takes two lengths that are equal, any coding before
//! `chunked`, line feeds without a carriage return, and a fragment in the target; none of this is to be seen in the
//! request that it hands on. So the bytes are followed on their way to hyper, and where one of these comes, a byte is
//! broken, such that hyper itself answers 400 and closes.
//!
//! Followed is only as much as it takes to find the next head: bodies are skipped by their length. What hyper refuses
//! by itself is not looked for. A connection that begins as HTTP/2 does is left alone.
//!
//! Rejected: to parse heads a second time, which costs as much as the first; and to answer from here, since an answer
//! may be under way for the request before.

use std::mem;

/// Where in the stream of requests we are.
#[derive(Debug)]
pub(crate) struct Inspector {
    state: State,
    /// The byte before was a carriage return.
    cr: bool,
    /// The name of the header that is being read, in lower case, and its length.
    name: [u8; TRANSFER_ENCODING.len()],
    name_len: usize,
    /// The number that is being read.
    number: Option<u64>,
    /// How much of `chunked` has been read.
    coding: usize,
    /// White space has followed the value.
    ended: bool,
    /// What the head says of its body.
    length: Option<u64>,
    chunked: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    /// So many bytes are what HTTP/2 begins with.
    Preface(usize),
    /// It is HTTP/2, or what hyper refuses.
    Aside,
    /// Before a head, where empty lines are allowed (RFC 9112, 2.2).
    Start,
    /// In the request line.
    Line,
    /// In the name of a header.
    Name,
    /// In the value of a Content-Length.
    Length,
    /// In the value of a Transfer-Encoding.
    Coding,
    /// In the value of any other header.
    Value,
    /// So many bytes of a body are to come.
    Body(u64),
    /// In the size of a chunk.
    Size,
    /// So far in a chunk's extension.
    Extension(u16),
    /// At the line feed after a chunk's size.
    SizeEnd,
    /// So many bytes of a chunk and of the line break after it are to come.
    Chunk(u64),
    /// At the start of a line after the last chunk.
    Trailer,
    /// Inside of such a line.
    TrailerRest,
    /// At the line feed of such a line.
    TrailerEnd,
    /// At the last line feed.
    LastEnd,
}

const PREFACE: [u8; 24] = *b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const CONTENT_LENGTH: &[u8] = b"content-length";
const TRANSFER_ENCODING: &[u8] = b"transfer-encoding";
const CHUNKED: &[u8] = b"chunked";

/// Nobody has a use for chunk extensions; long ones are there to be a burden.
const MAX_EXTENSION: u16 = 256;

/// A byte that may stand nowhere in a head or in trailers.
const BROKEN: u8 = 0;
/// The one byte that hyper takes nowhere in a chunk's extension.
const BROKEN_EXTENSION: u8 = b'\n';

impl Default for Inspector {
    fn default() -> Self {
        Self {
            state: State::Preface(0),
            cr: false,
            name: [0; TRANSFER_ENCODING.len()],
            name_len: 0,
            number: None,
            coding: 0,
            ended: false,
            length: None,
            chunked: false,
        }
    }
}

impl Inspector {
    /// Looks at what was received. Breaks a byte of what may not pass, and says which.
    pub(crate) fn inspect(&mut self, bytes: &mut [u8]) -> Option<usize> {
        if let State::Preface(seen) = self.state
            && self.preface(seen, bytes)
        {
            return None;
        }
        let mut at = 0;
        while self.state != State::Aside {
            at += self.skip(&bytes[at..]);
            let byte = bytes.get_mut(at)?;
            match self.step(*byte) {
                Ok(next) => self.state = next,
                Err(broken) => {
                    *byte = broken;
                    self.state = State::Aside;
                    return Some(at);
                }
            }
            at += 1;
        }
        None
    }

    /// Tells HTTP/2 from HTTP/1. True if these bytes need no closer look.
    fn preface(&mut self, seen: usize, bytes: &[u8]) -> bool {
        let same = bytes.iter().zip(&PREFACE[seen..]).take_while(|(byte, expected)| byte == expected).count();
        if seen + same == PREFACE.len() {
            self.state = State::Aside;
            return true;
        }
        if same == bytes.len() {
            self.state = State::Preface(seen + same);
            return true;
        }
        self.state = State::Start;
        // It has passed already, and there is nothing to break in it.
        let mut before = PREFACE;
        self.inspect(&mut before[..seen]);
        false
    }

    /// Passes over what holds nothing of interest.
    fn skip(&mut self, bytes: &[u8]) -> usize {
        let interesting = match self.state {
            State::Body(left) => {
                let (skipped, left) = pass(bytes, left);
                self.state = if left == 0 { State::Start } else { State::Body(left) };
                return skipped;
            }
            State::Chunk(left) => {
                let (skipped, left) = pass(bytes, left);
                self.state = if left == 0 { self.size() } else { State::Chunk(left) };
                return skipped;
            }
            State::Line => bytes.iter().position(|byte| matches!(byte, b'\n' | b'#')),
            State::Value => bytes.iter().position(|byte| *byte == b'\n'),
            _ => return 0,
        };
        let skipped = interesting.unwrap_or(bytes.len());
        if let Some(last) = bytes[..skipped].last() {
            self.cr = *last == b'\r';
        }
        skipped
    }

    /// Takes a byte: what comes next, or what to put in its place.
    fn step(&mut self, byte: u8) -> Result<State, u8> {
        use State::*;
        let after_cr = mem::replace(&mut self.cr, byte == b'\r');
        Ok(match (self.state, byte) {
            (Start | Line | Name | Length | Coding | Value, b'\n') if !after_cr => return Err(BROKEN),
            (Name | Length | Coding, byte) if after_cr && byte != b'\n' => return Err(BROKEN),

            (Start, b'\r' | b'\n') => Start,
            (Line, b'\n') | (Value, b'\n') => self.name(),
            (Start | Line, b'#') => return Err(BROKEN),
            (Start, _) => Line,

            (Name, b'\n') if self.name_len == 0 => self.body(),
            (Name, b'\r') => Name,
            // "A server MUST reject ... any received request message that contains whitespace between a header field
            // name and colon" (RFC 9112, 5.1); at the start of a line it is an obsolete line folding (5.2).
            (Name, b'\n' | b' ' | b'\t') => return Err(BROKEN),
            (Name, b':') => self.value()?,
            (Name, byte) => self.letter(byte),

            (Length, b'\n') if self.number.is_some() => {
                self.length = self.number;
                self.name()
            }
            (Coding, b'\n') if self.coding == CHUNKED.len() => {
                self.chunked = true;
                self.name()
            }
            (Length | Coding, b'\r') => self.state,
            (Length | Coding, b' ' | b'\t') => {
                self.ended = self.number.is_some() || self.coding > 0;
                self.state
            }
            (Length, b'0'..=b'9') if !self.ended => self.digit(byte, 10).ok_or(BROKEN)?,
            (Coding, byte) if !self.ended && CHUNKED.get(self.coding) == Some(&byte.to_ascii_lowercase()) => {
                self.coding += 1;
                Coding
            }
            (Length | Coding, _) => return Err(BROKEN),

            (Size, b' ' | b'\t') => Size,
            (Size, b';') => Extension(0),
            (Size | Extension(_), b'\r') => SizeEnd,
            (Size, byte) => self.digit(byte, 16).unwrap_or(Aside),
            (Extension(MAX_EXTENSION), _) => return Err(BROKEN_EXTENSION),
            (Extension(before), _) => Extension(before + 1),
            (SizeEnd, b'\n') => match self.number {
                Some(0) | None => Trailer,
                Some(size) => Chunk(size.saturating_add(2)),
            },

            (Trailer, b'\r') => LastEnd,
            (TrailerRest, b'\r') => TrailerEnd,
            (Trailer | TrailerRest, b'\n') => return Err(BROKEN),
            (Trailer | TrailerRest, _) => TrailerRest,
            (TrailerEnd, b'\n') => Trailer,
            (LastEnd, b'\n') => Start,
            (SizeEnd | TrailerEnd | LastEnd, _) => Aside,

            (state @ (Preface(_) | Aside | Line | Value | Body(_) | Chunk(_)), _) => state,
        })
    }

    fn name(&mut self) -> State {
        self.name_len = 0;
        State::Name
    }

    fn letter(&mut self, byte: u8) -> State {
        if let Some(place) = self.name.get_mut(self.name_len) {
            *place = byte.to_ascii_lowercase();
        }
        // One more than fits is a name that nobody looks for.
        self.name_len = (self.name_len + 1).min(self.name.len() + 1);
        State::Name
    }

    fn value(&mut self) -> Result<State, u8> {
        (self.number, self.coding, self.ended) = (None, 0, false);
        let next = match self.name.get(..self.name_len) {
            Some(CONTENT_LENGTH) => State::Length,
            Some(TRANSFER_ENCODING) => State::Coding,
            _ => return Ok(State::Value),
        };
        // "might indicate an attempt to perform request smuggling ... and ought to be handled as an error" (RFC 9112,
        // 6.1); the same with two lengths, or with codings in several lines.
        if self.length.is_some() || self.chunked { Err(BROKEN) } else { Ok(next) }
    }

    fn digit(&mut self, byte: u8, radix: u32) -> Option<State> {
        let digit = char::from(byte).to_digit(radix)?;
        let number = self.number.unwrap_or(0).checked_mul(u64::from(radix))?;
        self.number = Some(number.checked_add(u64::from(digit))?);
        Some(self.state)
    }

    /// The head is over.
    fn body(&mut self) -> State {
        match (mem::take(&mut self.chunked), self.length.take()) {
            (true, _) => self.size(),
            (false, None | Some(0)) => State::Start,
            (false, Some(length)) => State::Body(length),
        }
    }

    fn size(&mut self) -> State {
        self.number = None;
        State::Size
    }
}

/// How many of these bytes belong to what is left, and what is left then.
fn pass(bytes: &[u8], left: u64) -> (usize, u64) {
    let skipped = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
    (skipped, left - skipped as u64)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// What hyper gets to see if the bytes come in these pieces.
    fn received(bytes: &[u8], pieces: &[usize]) -> Vec<u8> {
        let (mut inspector, mut bytes) = (Inspector::default(), bytes.to_vec());
        let mut rest = &mut bytes[..];
        for piece in pieces {
            let (first, others) = rest.split_at_mut((*piece).min(rest.len()));
            inspector.inspect(first);
            rest = others;
        }
        inspector.inspect(rest);
        bytes
    }

    fn requests() -> impl Strategy<Value = Vec<u8>> {
        let head = prop_oneof!["GET /[a-z]{0,9}", "P[A-Z]{0,4} /", "PRI \\*"].prop_map(|line| line + " HTTP/1.1\r\n");
        let field = "[a-z-]{1,20}: ?[ -~\t]{0,20}\r\n".prop_filter("has a meaning", |line| {
            !line.starts_with("content-length:") && !line.starts_with("transfer-encoding:")
        });
        let length = vec(any::<u8>(), 0..40).prop_map(|body| {
            let mut out = format!("Content-LENGTH:\t{} \r\n\r\n", body.len()).into_bytes();
            out.extend(body);
            out
        });
        let chunk = (vec(any::<u8>(), 1..40), "(;[a-z=\n]{0,9})?").prop_map(|(data, extension)| {
            let extension = extension.replace('\n', "");
            [format!("{:X}{extension}\r\n", data.len()).as_bytes(), &data, b"\r\n"].concat()
        });
        let chunked = (vec(chunk, 0..4), "(x: y\r\n)?").prop_map(|(chunks, trailer)| {
            let head = b"Transfer-Encoding: Chunked\r\n\r\n";
            [&head[..], &chunks.concat(), b"0\r\n", trailer.as_bytes(), b"\r\n"].concat()
        });
        let request = (head, vec(field, 0..4), prop_oneof![Just(b"\r\n".to_vec()), length, chunked]);
        vec(
            request.prop_map(|(head, fields, rest)| [head.as_bytes(), fields.concat().as_bytes(), &rest].concat()),
            1..4,
        )
        .prop_map(|requests| requests.concat())
    }

    const BAD: [&str; 12] = [
        "POST / HTTP/1.1\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\nx: y\r\ncontent-length: 5\r\n\r\n",
        "POST / HTTP/1.1\r\ncontent-length: 5\r\ncontent-length: 5\r\n\r\n",
        "POST / HTTP/1.1\r\ncontent-length: +5\r\n\r\n",
        "POST / HTTP/1.1\r\ncontent-length: 5, 5\r\n\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: chunk ed\r\n\r\n",
        "GET / HTTP/1.1\nhost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\n\n",
        "GET /a#b HTTP/1.1\r\n\r\n",
    ];

    proptest! {
        #[test]
        fn nothing_panics_and_pieces_change_nothing(bytes in vec(any::<u8>(), 0..300), pieces in vec(0..40_usize, 0..20)) {
            prop_assert_eq!(received(&bytes, &pieces), received(&bytes, &[]));
        }

        #[test]
        fn sound_requests_pass_as_they_are(bytes in requests(), pieces in vec(0..40_usize, 0..20)) {
            prop_assert_eq!(received(&bytes, &pieces), bytes);
        }

        #[test]
        fn one_byte_of_an_unsound_request_is_broken(
            before in requests(), bad in prop::sample::select(&BAD[..]), pieces in vec(0..40_usize, 0..20),
        ) {
            let bytes = [&before, bad.as_bytes()].concat();
            let seen = received(&bytes, &pieces);
            let broken: Vec<_> = (0..bytes.len()).filter(|at| bytes[*at] != seen[*at]).collect();
            prop_assert!(broken.len() == 1 && broken[0] >= before.len(), "{:?} in {:?}", broken, before.len());
        }

        #[test]
        fn http2_is_left_alone(bytes in vec(any::<u8>(), 0..99), pieces in vec(0..40_usize, 0..20)) {
            let bytes = [&PREFACE[..], &bytes].concat();
            prop_assert_eq!(received(&bytes, &pieces), bytes);
        }
    }
}
