//! Names and figures as plain text.

/// A name that cannot disturb a terminal or a line: control characters, line ends and what changes the direction of
/// writing are shown as a replacement character.
#[must_use]
pub fn name(text: &str) -> String {
    text.chars().map(|c| if is_harmless(c) { c } else { '\u{fffd}' }).collect()
}

fn is_harmless(c: char) -> bool {
    let invisible =
        matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
    !c.is_control() && !invisible
}

/// A duration of seconds for people.
pub(super) fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 1e-3 => format!("{:.0} µs", s * 1e6),
        s if s < 1e-2 => format!("{:.1} ms", s * 1e3),
        s if s < 1.0 => format!("{:.0} ms", s * 1e3),
        s => format!("{s:.1} s"),
    }
}

/// How often something happened: per second where the window says so, else how many times.
pub(super) fn rate(count: u64, window: f64) -> String {
    if window < 1.0 {
        return format!("{count} calls");
    }
    match count as f64 / window {
        rate if rate < 0.1 => format!("{count} calls"),
        rate if rate < 100.0 => format!("{rate:.1}/s"),
        rate => format!("{rate:.0}/s"),
    }
}

/// A number of bytes for people.
pub(super) fn bytes(count: u64) -> String {
    match count as f64 {
        n if n >= 1e9 => format!("{:.1} GB", n / 1e9),
        n if n >= 1e6 => format!("{:.1} MB", n / 1e6),
        n if n >= 1e3 => format!("{:.1} kB", n / 1e3),
        _ => format!("{count} B"),
    }
}

/// A share of 0 to 1 as percent.
pub(super) fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}
