//! The rows of a report: what is said of one path, or of one path and callee, while the points of many metrics add to it.
//!
//! Every metric tells of the rows in the same order, and says with the same bytes which row it means. So a point is not
//! read to find its row: its bytes are compared with those of the next few. Where that fails (somebody on the way has put
//! points or attributes in another order), it is read and looked for.

use std::cmp::Ordering;

use crate::path::PathId;
use crate::report::{CallReport, PathReport};

/// So many rows may be without a point in a metric, one after the other, before a point is read to find its row.
const LOOKED_AT: usize = 8;

/// What is sorted, and merged where it is told twice.
pub(super) trait Row {
    fn order(&self, other: &Self) -> Ordering;
    /// Adds what was said of the same row again. Its definition stays the first.
    fn merge(&mut self, again: &Self);
}

impl Row for PathReport {
    fn order(&self, other: &Self) -> Ordering {
        self.path.id.cmp(&other.path.id)
    }

    fn merge(&mut self, again: &Self) {
        self.stats.merge(&again.stats);
    }
}

impl Row for CallReport {
    fn order(&self, other: &Self) -> Ordering {
        order(self, other.path, other.callee.service(), other.callee.endpoint())
    }

    fn merge(&mut self, again: &Self) {
        self.stats.merge(&again.stats);
    }
}

/// How calls stand to those of this path to this callee.
pub(super) fn order(report: &CallReport, path: PathId, service: &str, endpoint: &str) -> Ordering {
    let own = (report.path, report.callee.service(), report.callee.endpoint());
    own.cmp(&(path, service, endpoint))
}

/// Rows, each named by the bytes of `N` attributes.
#[derive(Debug)]
pub(super) struct Rows<'a, R, const N: usize> {
    limit: usize,
    rows: Vec<R>,
    /// Empty where a row was defined in another form than the usual: no point is compared with it.
    keys: Vec<[&'a [u8]; N]>,
    /// Whether each row stands behind the one before it, and none is there twice.
    sorted: bool,
    /// Where the last point belonged.
    at: usize,
}

impl<'a, R: Row, const N: usize> Rows<'a, R, N> {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, rows: Vec::new(), keys: Vec::new(), sorted: true, at: 0 }
    }

    /// Makes room for so many more.
    pub(super) fn reserve(&mut self, rows: usize) {
        let rows = rows.min(self.limit.saturating_sub(self.rows.len()));
        self.rows.reserve(rows);
        self.keys.reserve(rows);
    }

    /// Adds a row, new or not. False where there are more than the limit.
    #[must_use]
    pub(super) fn define(&mut self, row: R, key: [&'a [u8]; N]) -> bool {
        self.sorted &= self.rows.last().is_none_or(|last| last.order(&row) == Ordering::Less);
        self.rows.push(row);
        self.keys.push(key);
        // One that is told twice is one: but they are counted only now and then.
        if self.rows.len() > self.limit.saturating_mul(2) {
            return self.settle();
        }
        self.rows.len() <= self.limit || !self.sorted
    }

    /// Sorts the rows, and makes those one that are told twice. False where there are more than the limit.
    #[must_use]
    pub(super) fn settle(&mut self) -> bool {
        if !self.sorted {
            let keys = std::mem::take(&mut self.keys);
            let mut all: Vec<_> = std::mem::take(&mut self.rows).into_iter().zip(keys).collect();
            all.sort_by(|(a, _), (b, _)| a.order(b));
            all.dedup_by(|(later, _), (first, _)| {
                let same = first.order(later) == Ordering::Equal;
                if same {
                    first.merge(later);
                }
                same
            });
            (self.rows, self.keys) = all.into_iter().unzip();
            self.sorted = true;
        }
        self.rows.len() <= self.limit
    }

    /// The points of another metric come now.
    pub(super) fn rewind(&mut self) {
        self.at = 0;
    }

    /// The row that the first attributes of a point name, found by their bytes alone.
    #[inline]
    pub(super) fn compare(&mut self, attributes: &[&'a [u8]]) -> Option<usize> {
        let named = attributes.first_chunk::<N>().filter(|named| named.iter().all(|bytes| !bytes.is_empty()))?;
        let keys = self.keys.get(self.at..)?.iter().take(LOOKED_AT);
        // Usually the next one; the same again where a metric has several points for each row.
        let ahead = keys.enumerate().find(|(_, key)| *key == named)?.0;
        self.at += ahead;
        Some(self.at)
    }

    /// The row that `order` finds: how a row stands to what is looked for.
    pub(super) fn search(&mut self, order: impl Fn(&R) -> Ordering) -> Option<usize> {
        self.at = self.rows.binary_search_by(order).ok()?;
        Some(self.at)
    }

    pub(super) fn get_mut(&mut self, at: usize) -> Option<&mut R> {
        self.rows.get_mut(at)
    }

    pub(super) fn into_inner(self) -> Vec<R> {
        self.rows
    }
}
