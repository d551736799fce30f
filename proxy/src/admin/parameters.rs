//! What somebody writes behind the question mark to have something done: with a name, a reason and an end.

use std::time::Duration;

/// The parameters of an order, all of which are known ones.
pub(super) struct Parameters<'a> {
    given: &'a [(String, String)],
    /// How the order is written.
    form: &'a str,
}

/// Nothing is ordered for longer.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
const MAX_TEXT: usize = 200;

impl<'a> Parameters<'a> {
    /// # Errors
    /// Where there is one that is not known, or one twice.
    pub(super) fn of(given: &'a [(String, String)], known: &[&str], form: &'a str) -> Result<Self, String> {
        for (at, (key, _)) in given.iter().enumerate() {
            if !known.contains(&key.as_str()) {
                return Err(format!("`{key}` means nothing here; {form}"));
            }
            if given.iter().take(at).any(|(before, _)| before == key) {
                return Err(format!("`{key}` stands there twice; {form}"));
            }
        }
        Ok(Self { given, form })
    }

    pub(super) fn find(&self, key: &str) -> Option<&'a str> {
        self.given.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
    }

    /// A short text.
    ///
    /// # Errors
    /// Where it is missing, `what` being what it says; or empty, or long.
    pub(super) fn text(&self, key: &str, what: &str) -> Result<String, String> {
        match self.find(key).map(str::trim) {
            Some(text) if (1..=MAX_TEXT).contains(&text.len()) => Ok(text.to_owned()),
            Some(_) => Err(format!("`{key}` must have 1 to {MAX_TEXT} characters; {}", self.form)),
            None => Err(format!("`{key}` is missing: {what}; {}", self.form)),
        }
    }

    /// How long it lasts.
    ///
    /// # Errors
    /// Where that is missing, or no sensible time.
    pub(super) fn lasts(&self) -> Result<Duration, String> {
        let lasts =
            self.find("for").ok_or_else(|| format!("`for` is missing: nothing lasts for ever; {}", self.form))?;
        let lasts = couplet_config::parse_duration(lasts).map_err(|error| format!("`for`: {error}"))?;
        if !(Duration::from_secs(1)..=LONGEST).contains(&lasts) {
            return Err("`for` must be between 1s and 24h".to_owned());
        }
        Ok(lasts)
    }
}
