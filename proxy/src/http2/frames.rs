//! Frames as they come in: which are of use, which only cost, and whether one that must end in time has not.
//!
//! Every kind of frame that carries no request and no body has a budget, refilled by time and by frames that are of
//! use: a client that pings with every message is served, one that only pings is not. Cheap to send and dear to
//! handle is what floods are made of (CVE-2019-9511 to 9518, CVE-2023-44487, CVE-2024-27316, CVE-2025-8671).

use std::time::Duration;

use tokio::time::Instant;

use crate::error::Abuse;

/// The client's preface.
const PREFACE_BYTES: u8 = 24;
/// What one frame costs of its budget.
const COST: u32 = 2;
/// What a budget holds at most: 400 frames in one go. With half a refund for each request, resetting every request
/// ends after 800.
const CAPACITY: u32 = 400 * COST;
/// What time adds to each budget, per second: 50 frames.
const PER_SECOND: u64 = 50 * COST as u64;
/// Written bytes that pay for one window update or ping, or for a head that ends nothing: an update for every message of
/// 7 bytes is in order, and no request is smaller.
const BYTES_PER_ANSWER: i64 = 16;
/// Frames that one header block may go on in. The whole block is bounded in bytes besides.
const CONTINUATIONS: u32 = 100;
/// Padded data up to this size may be nothing but padding. Data below it costs more to keep than it is worth.
const PADDING: u32 = 256;
/// What is handed on in one go: 256 small frames, 32 of them pieces of a body, eight heads, or 64 KiB.
const TURN: u32 = 256;
/// Of what a server sends, twice as much: an answer is a head, often one more behind its body, and pieces.
const ANSWERS: u32 = 2 * TURN;
/// What a head counts for besides its bytes: it may be many times as large as what was sent of it.
const HEAD: u32 = 31;
/// What data that end nothing count for besides their bytes: a frame of one byte goes all the way to the other side, and
/// whoever sends many keeps both sides busy with one another.
const PIECE: u32 = 7;
/// Bytes that count for as much as a frame.
const BYTES: u32 = 256;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;

/// Reads along, frame by frame.
pub(crate) struct Frames {
    /// Whether these are a server's: a head that ends nothing may then be followed by another one.
    answers: bool,
    /// Of the preface, what is still to come.
    preface: u8,
    /// The head of the frame that is coming in, and how much of it is here.
    head: [u8; 9],
    filled: u8,
    /// Of its payload, what is still to come.
    payload: u32,
    /// Frames in which the open header block went on; none is open where there is none.
    block: Option<u32>,
    /// Since when a frame that is not data, or a header block, has been incomplete.
    incomplete: Option<Instant>,
    budgets: [u32; Abuse::BUDGETS],
    refilled: Instant,
    /// Bytes written that nothing was counted against yet.
    credit: i64,
    /// What was handed on since the last turn.
    handed: u32,
}

impl Frames {
    /// What a server sends.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            answers: true,
            preface: 0,
            head: [0; 9],
            filled: 0,
            payload: 0,
            block: None,
            incomplete: Some(now),
            budgets: [CAPACITY; Abuse::BUDGETS],
            refilled: now,
            credit: 0,
            handed: 0,
        }
    }

    /// What a client sends, its preface first.
    pub(crate) fn after_preface(now: Instant) -> Self {
        Self { answers: false, preface: PREFACE_BYTES, ..Self::new(now) }
    }

    /// Since when a frame that must end in time has been incomplete. Data may take as long as it likes.
    pub(crate) fn incomplete(&self) -> Option<Instant> {
        self.incomplete
    }

    fn turn(&self) -> u32 {
        if self.answers { ANSWERS } else { TURN }
    }

    /// Whether so much was handed on that somebody else should have a turn; asked once, it is theirs.
    pub(crate) fn take_turn(&mut self) -> bool {
        let enough = self.handed >= self.turn();
        if enough {
            self.handed = 0;
        }
        enough
    }

    /// There is nothing to hand on: others have their turn.
    pub(crate) fn rest(&mut self) {
        self.handed = 0;
    }

    /// Bytes went out.
    pub(crate) fn wrote(&mut self, bytes: usize) {
        self.credit = self.credit.saturating_add(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Bytes came in: how many of them belong to this turn. The rest is to be read in the next one.
    ///
    /// # Errors
    /// What there is too much of.
    pub(crate) fn read(&mut self, mut bytes: &[u8], now: Instant) -> Result<usize, Abuse> {
        let all = bytes.len();
        self.refill(now);
        while !bytes.is_empty() {
            if self.preface > 0 {
                let skip = bytes.len().min(usize::from(self.preface));
                self.preface -= u8::try_from(skip).unwrap_or(PREFACE_BYTES);
                bytes = bytes.get(skip..).unwrap_or_default();
            } else if self.payload > 0 {
                let skip = bytes.len().min(self.payload as usize);
                self.payload -= u32::try_from(skip).unwrap_or(self.payload);
                bytes = bytes.get(skip..).unwrap_or_default();
                self.settle();
            } else {
                if self.filled == 0 && self.handed >= self.turn() {
                    break;
                }
                if self.filled == 0 && self.incomplete.is_none() {
                    self.incomplete = Some(now);
                }
                let Some((byte, rest)) = bytes.split_first() else { break };
                if let Some(slot) = self.head.get_mut(usize::from(self.filled)) {
                    *slot = *byte;
                }
                self.filled += 1;
                bytes = rest;
                if usize::from(self.filled) == self.head.len() {
                    self.filled = 0;
                    self.begin()?;
                    self.settle();
                }
            }
        }
        Ok(all - bytes.len())
    }

    /// The head of a frame is here.
    fn begin(&mut self) -> Result<(), Abuse> {
        let [high, middle, low, kind, flags, ..] = self.head;
        let length = u32::from_be_bytes([0, high, middle, low]);
        self.payload = length;
        self.handed += 1
            + length / BYTES
            + match kind {
                HEADERS => HEAD,
                DATA if flags & END_STREAM == 0 => PIECE,
                _ => 0,
            };
        match kind {
            DATA if length == 0 && flags & END_STREAM == 0 => self.spend(Abuse::EmptyData)?,
            DATA if flags & PADDED != 0 && length <= PADDING && flags & END_STREAM == 0 => {
                self.spend(Abuse::EmptyData)?;
            }
            DATA => {
                if flags & END_STREAM != 0 {
                    self.earn(Abuse::Interim, COST);
                }
                self.earn(Abuse::EmptyData, COST);
                self.earn(Abuse::Ping, COST);
            }
            HEADERS => {
                self.block = (flags & END_HEADERS == 0).then_some(0);
                // Half a frame: whoever resets every request is found out, whoever resets every other one is not.
                self.earn(Abuse::Reset, COST / 2);
                self.earn(Abuse::Ping, COST);
                self.earn(Abuse::Priority, COST);
                self.earn(Abuse::WindowUpdate, 2 * COST);
                self.earn(Abuse::Unknown, COST);
                if flags & END_STREAM != 0 {
                    self.earn(Abuse::Interim, COST);
                } else if self.answers {
                    self.spend(Abuse::Interim)?;
                }
            }
            CONTINUATION => {
                // One that continues nothing is the end of the connection: the library's to tell.
                if let Some(frames) = self.block {
                    if frames + 1 >= CONTINUATIONS {
                        return Err(Abuse::Continuation);
                    }
                    self.block = (flags & END_HEADERS == 0).then_some(frames + 1);
                }
            }
            RST_STREAM => self.spend(Abuse::Reset)?,
            PRIORITY => self.spend(Abuse::Priority)?,
            SETTINGS => {
                self.credit -= 9; // The answer to it is nothing that was asked for.
                self.spend(Abuse::Settings)?;
            }
            PING => {
                self.credit -= 17;
                self.spend(Abuse::Ping)?;
            }
            WINDOW_UPDATE => self.spend(Abuse::WindowUpdate)?,
            _ => self.spend(Abuse::Unknown)?,
        }
        if kind == DATA {
            self.incomplete = None;
        }
        Ok(())
    }

    /// A frame may have ended.
    fn settle(&mut self) {
        if self.payload == 0 && self.block.is_none() {
            self.incomplete = None;
        }
    }

    fn spend(&mut self, abuse: Abuse) -> Result<(), Abuse> {
        let answers = matches!(abuse, Abuse::Ping | Abuse::WindowUpdate | Abuse::Interim);
        match self.budgets.get_mut(abuse as usize) {
            Some(budget) if *budget >= COST => *budget -= COST,
            _ if answers && self.credit >= BYTES_PER_ANSWER => self.credit -= BYTES_PER_ANSWER,
            _ => return Err(abuse),
        }
        Ok(())
    }

    fn earn(&mut self, abuse: Abuse, units: u32) {
        if let Some(budget) = self.budgets.get_mut(abuse as usize) {
            *budget = (*budget + units).min(CAPACITY);
        }
    }

    fn refill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.refilled);
        if elapsed < Duration::from_millis(100) {
            return;
        }
        self.refilled = now;
        let units = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).saturating_mul(PER_SECOND) / 1_000;
        let units = u32::try_from(units).unwrap_or(CAPACITY).min(CAPACITY);
        for budget in &mut self.budgets {
            *budget = (*budget + units).min(CAPACITY);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, flags, 0, 0, 0, 1];
        frame.extend_from_slice(payload);
        frame
    }

    impl Frames {
        /// Bytes came in, and are read in as many turns as it takes.
        fn read_all(&mut self, mut bytes: &[u8], now: Instant) -> Result<(), Abuse> {
            while !bytes.is_empty() {
                self.take_turn();
                bytes = &bytes[self.read(bytes, now)?..];
            }
            Ok(())
        }
    }

    /// How many of these frames of a client in a row are let through.
    fn let_through(frames: &[Vec<u8>]) -> usize {
        let now = Instant::now();
        let mut reader = Frames { preface: 0, ..Frames::after_preface(now) };
        let all = frames.concat();
        (0..5_000).take_while(|_| reader.read_all(&all, now).is_ok()).count()
    }

    #[test]
    fn floods_end_within_a_thousand_frames() {
        let floods = [
            vec![frame(PING, 0, &[0; 8])],
            vec![frame(SETTINGS, 0, &[])],
            vec![frame(PRIORITY, 0, &[0; 5])],
            vec![frame(WINDOW_UPDATE, 0, &[0; 4])],
            vec![frame(DATA, 0, &[])],
            vec![frame(DATA, PADDED, &[3, 0, 0, 0])],
            vec![frame(0xee, 0, &[1])],
            vec![frame(HEADERS, END_HEADERS, &[1]), frame(RST_STREAM, 0, &[0; 4])],
        ];
        for flood in floods {
            let count = let_through(&flood);
            assert!((100..1_000).contains(&count), "{count} of {flood:?}");
        }
        let endless = frame(CONTINUATION, 0, &[1]);
        let mut reader = Frames::new(Instant::now());
        reader.read_all(&frame(HEADERS, 0, &[1]), Instant::now()).unwrap();
        assert_eq!((0..).take_while(|_| reader.read_all(&endless, Instant::now()).is_ok()).count(), 99);
    }

    #[test]
    fn so_much_is_handed_on_in_one_turn_and_the_rest_in_the_next() {
        let of = |answers: bool, frame: Vec<u8>, count: usize| {
            let now = Instant::now();
            let mut reader = Frames { answers, ..Frames::new(now) };
            let (all, mut at) = (frame.repeat(count), 0);
            let mut turns = Vec::new();
            while at < all.len() {
                reader.take_turn();
                let read = reader.read(&all[at..], now).unwrap();
                turns.push(read / frame.len());
                at += read;
            }
            turns
        };
        let turns = |frame, count| of(false, frame, count);
        assert_eq!(turns(frame(HEADERS, END_HEADERS, &[1]), 20), [8, 8, 4]);
        assert_eq!(turns(frame(PING, 0, &[0; 8]), 300), [256, 44]);
        assert_eq!(turns(frame(DATA, 0, b"x"), 70), [32, 32, 6]);
        assert_eq!(turns(frame(DATA, END_STREAM, b"x"), 300), [256, 44], "one for each head");
        assert_eq!(turns(frame(DATA, 0, &[0; 16_384]), 9), [4, 4, 1]);
        assert_eq!(turns(frame(DATA, 0, &[0; 300_000]), 2), [1, 1], "a frame is not parted");
        let answer = [frame(HEADERS, END_HEADERS, &[1]), frame(DATA, END_STREAM, b"ok")].concat();
        assert_eq!(of(true, answer, 8), [8], "the answers to a turn of requests are one turn");
    }

    #[test]
    fn frames_that_come_with_requests_and_bodies_are_no_flood() {
        let calls = [
            vec![frame(HEADERS, END_HEADERS, &[1]), frame(WINDOW_UPDATE, 0, &[0; 4]), frame(PING, 0, &[0; 8])],
            vec![frame(HEADERS, END_HEADERS, &[1]), frame(HEADERS, END_HEADERS, &[1]), frame(RST_STREAM, 0, &[0; 4])],
            vec![frame(DATA, 0, b"x"), frame(DATA, 0, b""), frame(PING, 0, &[0; 8])],
        ];
        for call in calls {
            assert_eq!(let_through(&call), 5_000, "{call:?}");
        }
    }

    #[test]
    fn a_server_answers_each_request_with_one_last_head_and_few_others() {
        let now = Instant::now();
        let mut reader = Frames::new(now);
        let (head, end) = (frame(HEADERS, END_HEADERS, &[1]), frame(HEADERS, END_HEADERS | END_STREAM, &[1]));
        let answer = [head.as_slice(), &end].concat();
        assert!((0..5_000).all(|_| reader.read_all(&answer, now).is_ok()));
        let streams = (0..5_000).take_while(|_| {
            reader.wrote(19); // the smallest request
            reader.read_all(&head, now).is_ok()
        });
        assert_eq!(streams.count(), 5_000, "answers that go on for long");
        let mut reader = Frames::new(now);
        assert_eq!(
            (0..5_000).take_while(|_| reader.read_all(&head, now).is_ok()).count(),
            400,
            "100 Continue for ever"
        );
    }

    #[test]
    fn what_was_written_pays_for_window_updates() {
        let now = Instant::now();
        let mut reader = Frames::new(now);
        for _ in 0..10_000 {
            reader.wrote(16);
            reader.read_all(&frame(WINDOW_UPDATE, 0, &[0; 4]), now).unwrap();
        }
    }

    #[test]
    fn a_frame_or_header_block_is_incomplete_from_its_first_byte_to_its_last() {
        let start = Instant::now();
        let later = |seconds| start + Duration::from_secs(seconds);
        let mut reader = Frames::new(start);
        assert_eq!(reader.incomplete(), Some(start), "the first frame is due from the beginning");
        reader.read_all(&frame(SETTINGS, 0, &[]), later(1)).unwrap();
        assert_eq!(reader.incomplete(), None);
        reader.read_all(&frame(HEADERS, 0, &[1])[..4], later(2)).unwrap();
        reader.read_all(&frame(HEADERS, 0, &[1])[4..], later(3)).unwrap();
        assert_eq!(reader.incomplete(), Some(later(2)), "the block goes on");
        reader.read_all(&frame(CONTINUATION, END_HEADERS, &[1]), later(4)).unwrap();
        assert_eq!(reader.incomplete(), None);
        reader.read_all(&frame(DATA, 0, b"body")[..10], later(5)).unwrap();
        assert_eq!(reader.incomplete(), None, "data may take its time");
    }

    proptest! {
        #[test]
        fn it_does_not_matter_how_the_bytes_are_split(
            frames in prop::collection::vec((0u8..12, any::<u8>(), prop::collection::vec(any::<u8>(), 0..40)), 0..20),
            cuts in prop::collection::vec(1usize..30, 1..50),
        ) {
            let bytes = frames.iter().flat_map(|(kind, flags, payload)| frame(*kind, *flags, payload)).collect::<Vec<_>>();
            let now = Instant::now();
            let (mut whole, mut split) = (Frames::after_preface(now), Frames::after_preface(now));
            let bytes = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &bytes].concat();
            let at_once = whole.read_all(&bytes, now);
            let mut rest = bytes.as_slice();
            let mut in_pieces = Ok(());
            for cut in cuts.iter().cycle() {
                if rest.is_empty() || in_pieces.is_err() {
                    break;
                }
                let (piece, after) = rest.split_at((*cut).min(rest.len()));
                in_pieces = split.read_all(piece, now);
                rest = after;
            }
            prop_assert_eq!(at_once, in_pieces);
            if at_once.is_ok() {
                prop_assert_eq!(whole.incomplete(), split.incomplete());
                prop_assert_eq!(whole.budgets, split.budgets);
            }
        }
    }
}
