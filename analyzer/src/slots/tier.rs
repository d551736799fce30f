//! How long slots are, and how long slots of each length stay in memory.

use super::SlidingWindow;

/// Length of a slot. Slots begin at multiples of their length since the Unix epoch, so shorter ones nest in longer ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// Ten seconds.
    Seconds,
    /// One minute.
    Minute,
    /// One hour.
    Hour,
}

impl Tier {
    /// All of them, the shortest first.
    pub const ALL: [Tier; 3] = [Tier::Seconds, Tier::Minute, Tier::Hour];

    /// Milliseconds.
    #[must_use]
    pub fn length(self) -> u64 {
        match self {
            Tier::Seconds => 10_000,
            Tier::Minute => 60_000,
            Tier::Hour => 3_600_000,
        }
    }

    /// The start of the slot in which `at` lies; both in milliseconds since the Unix epoch.
    #[must_use]
    pub fn start_of(self, at: u64) -> u64 {
        at - at % self.length()
    }

    /// The slots into which slots of this length are folded.
    #[must_use]
    pub fn longer(self) -> Option<Self> {
        match self {
            Tier::Seconds => Some(Tier::Minute),
            Tier::Minute => Some(Tier::Hour),
            Tier::Hour => None,
        }
    }

    /// How many milliseconds after its end a slot is kept in memory: as long as a sliding window is made of it.
    #[must_use]
    pub fn kept(self) -> u64 {
        let longest = SlidingWindow::ALL.into_iter().filter(|window| window.tier() == self);
        longest.map(SlidingWindow::length).max().unwrap_or(0) + self.length()
    }

    /// The word for files and documents.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Tier::Seconds => "10s",
            Tier::Minute => "1m",
            Tier::Hour => "1h",
        }
    }

    /// The tier that [`Tier::as_str`] prints as `word`.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|tier| tier.as_str() == word)
    }
}
