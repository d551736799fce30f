//! Example requests behind the rows of a report.
//!
//! ```text
//! examples := count (path count example*)*   the path as its distance from the one before
//! example  := id-high id-low at duration calls outcome-and-sampled
//! ```
//!
//! Most paths of most systems have none, so rows do not speak of them.

use couplet_telemetry::example::{Example, Examples, Kind, Trace};
use couplet_telemetry::outcome::Outcome;
use couplet_telemetry::path::PathId;

use super::Handled;
use crate::packed::{Reader, Writer};

/// Set beside the outcome.
const SAMPLED: u8 = 1 << 7;

pub(super) fn write(out: &mut Writer, paths: &[impl Handled]) {
    let all = || paths.iter().enumerate().filter_map(|(at, row)| Some((at, row.examples()?)));
    out.number(all().count() as u64);
    let mut before = 0;
    for (at, examples) in all() {
        out.number((at - before) as u64);
        before = at;
        out.number(examples.distinct().count() as u64);
        examples.distinct().for_each(|example| one(out, &example));
    }
}

fn one(out: &mut Writer, example: &Example) {
    let Example { trace: Trace { id, sampled, at }, duration, outcome, calls } = *example;
    out.fixed64((id >> 64) as u64);
    out.fixed64(id as u64);
    [at, duration, calls.into()].into_iter().for_each(|number| out.number(number));
    let outcome = Outcome::ALL.iter().position(|other| *other == outcome).unwrap_or_default() as u8;
    out.byte(outcome | if sampled { SAMPLED } else { 0 });
}

/// Hands on the examples of every path that has some; none where the bytes are something else.
pub(super) fn each(reader: &mut Reader<'_>, paths: &[PathId], mut on: impl FnMut(PathId, Examples)) -> Option<()> {
    let count = reader.number();
    if count > paths.len() as u64 {
        return None;
    }
    let mut at = 0_usize;
    for _ in 0..count {
        at = at.checked_add(usize::try_from(reader.number()).ok()?)?;
        let path = *paths.get(at)?;
        let several = reader.number();
        if several > Kind::ALL.len() as u64 {
            return None;
        }
        let mut examples = Examples::default();
        for _ in 0..several {
            examples.add(&read(reader)?);
        }
        on(path, examples);
    }
    Some(())
}

fn read(reader: &mut Reader<'_>) -> Option<Example> {
    let id = u128::from(reader.fixed64()?) << 64 | u128::from(reader.fixed64()?);
    let [at, duration, calls] = std::array::from_fn(|_| reader.number());
    let last = reader.byte()?;
    let outcome = *Outcome::ALL.get(usize::from(last & !SAMPLED))?;
    let trace = Trace { id, sampled: last & SAMPLED != 0, at };
    Some(Example { trace, duration, outcome, calls: u32::try_from(calls).ok()? })
}
