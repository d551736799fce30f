//! Figures in the words of a summary.

/// A duration of nanoseconds for people: `840 µs`, `52 ms`, `1.4 s`.
pub(super) fn duration(nanos: f64) -> String {
    match nanos {
        n if n < 1e6 => format!("{:.0} µs", n / 1e3),
        n if n < 1e7 => format!("{:.1} ms", n / 1e6),
        n if n < 1e9 => format!("{:.0} ms", n / 1e6),
        n => format!("{:.1} s", n / 1e9),
    }
}

/// A share of 0 to 1 as percent: `7 %`; small shares keep a digit.
pub(super) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent > 0.0 && percent < 1.0 { format!("{percent:.1} %") } else { format!("{percent:.0} %") }
}

/// `1 service`, `3 services`.
pub(super) fn count(n: u64, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

/// Names on a way: `a → b → a`; of a long way the two ends.
pub(super) fn way<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.into_iter().collect();
    match names.as_slice() {
        [first, second, third, .., last] if names.len() > LONGEST_WAY => {
            format!("{first} → {second} → {third} → … → {last}")
        }
        all => all.join(" → "),
    }
}

/// Names that a title has room for.
const LONGEST_WAY: usize = 8;

/// A figure that is not more exact in a document than it was measured.
pub(super) fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_as_exact_as_anybody_needs() {
        let all = [250e3, 1.25e6, 52.4e6, 1.42e9].map(duration);
        assert_eq!(all, ["250 µs", "1.2 ms", "52 ms", "1.4 s"]);
    }

    #[test]
    fn a_long_way_is_shortened_in_its_middle() {
        assert_eq!(way(["a", "b", "a"]), "a → b → a");
        assert_eq!(way(["a", "b", "c", "d", "e", "f", "g", "h", "a"]), "a → b → c → … → a");
    }
}
