//! What somebody probably meant when they wrote a word that does not exist.

/// The candidate that `word` was probably meant to be: the nearest one, if about a third of its letters at most differ.
/// Letter case and `-` for `_` do not count as differences.
///
/// ```
/// let keys = ["window", "max_paths"];
/// assert_eq!(couplet_config::did_you_mean("max-path", keys), Some("max_paths"));
/// assert_eq!(couplet_config::did_you_mean("colour", keys), None);
/// ```
pub fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Comparing is quadratic in the length; no key of ours is nearly as long.
    if word.len() > 64 {
        return None;
    }
    let word = normal(word);
    let distances = candidates.into_iter().map(|candidate| {
        let distance = strsim::damerau_levenshtein(&word, &normal(candidate));
        (distance, distance <= (candidate.len().max(word.len()) / 3).max(1), candidate)
    });
    let (_, near, candidate) = distances.min_by_key(|(distance, ..)| *distance)?;
    near.then_some(candidate)
}

fn normal(word: &str) -> String {
    word.to_ascii_lowercase().replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_error_is_understood_and_another_word_is_not() {
        let keys = ["service", "inbound", "outbound", "log"];
        for (word, meant) in [
            ("sevrice", Some("service")),
            ("Inbound", Some("inbound")),
            ("outbounds", Some("outbound")),
            ("lgo", Some("log")),
            ("timeouts", None),
            ("", None),
        ] {
            assert_eq!(did_you_mean(word, keys), meant, "{word}");
        }
        assert_eq!(did_you_mean("anything", []), None);
    }
}
