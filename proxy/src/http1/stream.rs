//! The messages of one direction of a connection, one after another: which of the next bytes may pass.

use http::Response;

use super::fields::is_token_byte;
use super::framing::{Framing, Taken};
use super::head::{self, Asked, ResponseHead};
use super::interim;
use super::{Bounds, Violation};

/// Interim answers (1xx) that one exchange may have.
const MAX_INTERIM: u32 = 16;

/// One direction of a connection. It is shown bytes, and shown again those that it did not let pass, with more behind
/// them; what it has looked at it does not look at again.
pub(crate) struct Stream {
    side: Side,
    bounds: Bounds,
    next: Next,
    /// How much of a head that is not whole was looked at, and where its last line begins.
    scanned: usize,
    line: usize,
}

enum Side {
    Requests {
        /// Heads that passed.
        begun: u64,
        /// Whether the message under way may be the last one in HTTP/1.
        switches: bool,
        /// Whether an empty line stood before the head (RFC 9112, section 2.2, bears with one).
        led: bool,
    },
    Responses {
        asked: Option<Asked>,
        interim: u32,
        /// Interim answers that passed and that nobody was told of.
        told: Vec<Response<()>>,
    },
}

/// What the next bytes are.
enum Next {
    Head,
    Content(Framing),
    /// The answer decides.
    Held,
    /// Another protocol.
    Raw,
    Refused {
        violation: Violation,
        /// Whether the head before it has passed.
        within: bool,
    },
}

impl Stream {
    pub(crate) fn requests(bounds: Bounds) -> Self {
        Self::new(Side::Requests { begun: 0, switches: false, led: false }, bounds)
    }

    pub(crate) fn responses(bounds: Bounds) -> Self {
        Self::new(Side::Responses { asked: None, interim: 0, told: Vec::new() }, bounds)
    }

    fn new(side: Side, bounds: Bounds) -> Self {
        Self { side, bounds, next: Next::Head, scanned: 0, line: 0 }
    }

    /// How many of these bytes may pass, from the first on.
    pub(crate) fn pass(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        // Where the message under way begins, if its head is among these bytes: what is wrong behind it then stops
        // all of it.
        let mut begin = None;
        loop {
            let rest = bytes.get(at..).unwrap_or_default();
            let taken = match &mut self.next {
                Next::Head => {
                    let Some(end) = self.head(rest) else { return at };
                    begin = begin.or(Some(at)).filter(|_| end.is_ok()).map(|_| at);
                    end.map(|end| at += end).map_err(|violation| (0, violation))
                }
                Next::Content(framing) => match framing.take(rest, self.bounds) {
                    Taken::All => return bytes.len(),
                    Taken::Ended(count) => {
                        at += count;
                        begin = None;
                        self.end();
                        Ok(())
                    }
                    Taken::Refused(count, violation) => Err((count, violation)),
                },
                Next::Raw => return bytes.len(),
                Next::Held | Next::Refused { .. } => return at,
            };
            if let Err((count, violation)) = taken {
                return self.refuse(violation, begin, at, count);
            }
        }
    }

    /// The end of the head that begins here, once it is there.
    fn head(&mut self, rest: &[u8]) -> Option<Result<usize, Violation>> {
        let first = *rest.first()?;
        match &mut self.side {
            Side::Responses { asked: None, .. } => return Some(Err(Violation::Surplus)),
            Side::Responses { .. } if first != b'H' => return Some(Err(Violation::StartLine)),
            Side::Requests { led, .. } if first == b'\r' && !*led => {
                match rest.get(1) {
                    None => return None,
                    Some(b'\n') => *led = true,
                    Some(_) => return Some(Err(Violation::LineEnd)),
                }
                return Some(Ok(2));
            }
            Side::Requests { .. } if !is_token_byte(first) => return Some(Err(Violation::StartLine)),
            _ => {}
        }
        let end = match self.scan(rest)? {
            Ok(end) => end,
            Err(violation) => return Some(Err(violation)),
        };
        let head = rest.get(..end)?;
        Some(self.read(head).map(|()| end))
    }

    /// Looks for the empty line.
    fn scan(&mut self, rest: &[u8]) -> Option<Result<usize, Violation>> {
        while let Some(found) = rest.get(self.scanned..).and_then(|new| memchr::memchr(b'\n', new)) {
            let lf = self.scanned + found;
            let line = rest.get(self.line..lf)?;
            self.scanned = lf + 1;
            self.line = lf + 1;
            if self.scanned > self.bounds.bytes {
                return Some(Err(Violation::TooLarge));
            }
            match line {
                b"\r" => {
                    (self.scanned, self.line) = (0, 0);
                    return Some(Ok(lf + 1));
                }
                [.., b'\r'] => {}
                _ => return Some(Err(Violation::LineEnd)),
            }
        }
        self.scanned = rest.len();
        (rest.len() >= self.bounds.bytes).then_some(Err(Violation::TooLarge))
    }

    /// Reads a whole head.
    fn read(&mut self, head: &[u8]) -> Result<(), Violation> {
        self.next = match &mut self.side {
            Side::Requests { begun, switches, led } => {
                let read = head::request(head, self.bounds)?;
                *begun += 1;
                *switches = read.switches;
                *led = false;
                Next::Content(read.framing)
            }
            Side::Responses { asked, interim, told } => {
                let question = asked.ok_or(Violation::Surplus)?;
                match head::response(head, question, self.bounds)? {
                    ResponseHead::Interim if *interim == MAX_INTERIM => return Err(Violation::Interim),
                    ResponseHead::Interim => {
                        *interim += 1;
                        told.extend(interim::read(head, self.bounds));
                        Next::Head
                    }
                    ResponseHead::Final(framing) => {
                        *interim = 0;
                        Next::Content(framing)
                    }
                    ResponseHead::Switched => Next::Raw,
                }
            }
        };
        Ok(())
    }

    /// A message is whole.
    fn end(&mut self) {
        self.next = match &mut self.side {
            Side::Requests { switches: true, .. } => Next::Held,
            Side::Requests { .. } => Next::Head,
            Side::Responses { asked, .. } => {
                *asked = None;
                Next::Head
            }
        };
    }

    fn refuse(&mut self, violation: Violation, begin: Option<usize>, at: usize, count: usize) -> usize {
        let within = matches!(self.next, Next::Content(_)) && begin.is_none();
        if let (Side::Requests { begun, .. }, true) = (&mut self.side, begin.is_some()) {
            *begun -= 1;
        }
        self.next = Next::Refused { violation, within };
        begin.unwrap_or(at + count)
    }

    /// Requests of which the head passed.
    pub(crate) fn begun(&self) -> u64 {
        match self.side {
            Side::Requests { begun, .. } => begun,
            Side::Responses { .. } => 0,
        }
    }

    /// A request is about to be sent, and one answer to it may come.
    pub(crate) fn ask(&mut self, question: Asked) {
        if let Side::Responses { asked, .. } = &mut self.side {
            *asked = Some(question);
        }
    }

    /// Interim answers that passed, but for 100.
    pub(crate) fn told(&mut self) -> Vec<Response<()>> {
        match &mut self.side {
            Side::Responses { told, .. } => std::mem::take(told),
            Side::Requests { .. } => Vec::new(),
        }
    }

    /// Whether the answer must be known before another byte may pass.
    pub(crate) fn is_held(&self) -> bool {
        matches!(self.next, Next::Held)
    }

    /// The answer to the request is known: whether the connection becomes something else with it.
    pub(crate) fn answered(&mut self, switched: bool) {
        if switched {
            self.next = Next::Raw;
        } else if self.is_held() {
            self.next = Next::Head;
        }
    }

    /// What was wrong, and whether the head of that message had passed before.
    pub(crate) fn refused(&self) -> Option<(Violation, bool)> {
        match self.next {
            Next::Refused { violation, within } => Some((violation, within)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
