//! The sliding windows that can be asked for.

use std::fmt;
use std::str::FromStr;

use super::Tier;

/// The latest stretch of time, of one of four lengths. Its beginning moves in steps of the slots that it is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SlidingWindow {
    /// One minute, in steps of ten seconds.
    Minute,
    /// A quarter of an hour, in steps of a minute.
    QuarterHour,
    /// An hour, in steps of a minute.
    Hour,
    /// A day, in steps of an hour.
    Day,
}

impl SlidingWindow {
    /// All of them, the shortest first.
    pub const ALL: [SlidingWindow; 4] =
        [SlidingWindow::Minute, SlidingWindow::QuarterHour, SlidingWindow::Hour, SlidingWindow::Day];

    /// Milliseconds.
    #[must_use]
    pub fn length(self) -> u64 {
        match self {
            SlidingWindow::Minute => 60_000,
            SlidingWindow::QuarterHour => 15 * 60_000,
            SlidingWindow::Hour => 3_600_000,
            SlidingWindow::Day => 24 * 3_600_000,
        }
    }

    /// The longest slots that it is made of.
    #[must_use]
    pub fn tier(self) -> Tier {
        match self {
            SlidingWindow::Minute => Tier::Seconds,
            SlidingWindow::QuarterHour | SlidingWindow::Hour => Tier::Minute,
            SlidingWindow::Day => Tier::Hour,
        }
    }

    /// The word for flags, queries and documents.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            SlidingWindow::Minute => "1m",
            SlidingWindow::QuarterHour => "15m",
            SlidingWindow::Hour => "1h",
            SlidingWindow::Day => "24h",
        }
    }
}

impl fmt::Display for SlidingWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for SlidingWindow {
    type Err = &'static str;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|window| window.as_str() == word);
        found.ok_or("there are windows of 1m, 15m, 1h and 24h")
    }
}
