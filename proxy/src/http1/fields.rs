//! Field lines: names are tokens, values are visible characters with spaces and tabs between them, nothing is folded.

use super::{Bounds, Violation};

/// One field line, as it came; the value without the white space around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Field<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) value: &'a [u8],
}

impl Field<'_> {
    /// Whether its name is `name`, in any case.
    pub(crate) fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }
}

/// Whether a name is one of those that frame a message but for the characters between its letters, such as
/// `Transfer_Encoding`. It is a legal name; a server that makes variables of names may take it for framing all the same.
pub(crate) fn resembles_framing(name: &[u8]) -> bool {
    // Most names are too short, or begin otherwise.
    let first = name.iter().find(|byte| byte.is_ascii_alphabetic());
    if name.len() < SHORTEST || !matches!(first, Some(b'c' | b'C' | b't' | b'T')) {
        return false;
    }
    FRAMING.into_iter().any(|framing| !name.eq_ignore_ascii_case(framing) && letters(name).eq(letters(framing)))
}

const FRAMING: [&[u8]; 2] = [b"content-length", b"transfer-encoding"];
/// The letters of the shorter one.
const SHORTEST: usize = 13;

fn letters(name: &[u8]) -> impl Iterator<Item = u8> {
    name.iter().filter(|byte| byte.is_ascii_alphabetic()).map(u8::to_ascii_lowercase)
}

/// The lines of a head, without their CR LF, up to the empty one.
#[derive(Clone)]
pub(crate) struct Lines<'a>(&'a [u8]);

impl<'a> Lines<'a> {
    /// `head` ends with an empty line.
    pub(crate) fn new(head: &'a [u8]) -> Self {
        Self(head)
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = Result<&'a [u8], Violation>;

    fn next(&mut self) -> Option<Self::Item> {
        let at = memchr::memchr(b'\n', self.0)?;
        let (line, rest) = self.0.split_at_checked(at + 1)?;
        self.0 = rest;
        match line.strip_suffix(b"\r\n") {
            Some([]) => None,
            Some(line) => Some(Ok(line)),
            None => Some(Err(Violation::LineEnd)),
        }
    }
}

/// Reads the field lines of a head, one after another.
///
/// # Errors
/// The first violation, and then nothing more that means anything.
pub(crate) fn fields<'a>(lines: Lines<'a>, bounds: Bounds) -> impl Iterator<Item = Result<Field<'a>, Violation>> {
    lines.enumerate().map(move |(at, line)| if at < bounds.fields { field(line?) } else { Err(Violation::TooLarge) })
}

fn field(line: &[u8]) -> Result<Field<'_>, Violation> {
    let colon = memchr::memchr(b':', line).ok_or_else(|| kind(line))?;
    let (name, value) = line.split_at_checked(colon).ok_or(Violation::Field)?;
    let value = value.get(1..).unwrap_or_default();
    if !is_token(name) || !are_values(value) {
        return Err(kind(line));
    }
    Ok(Field { name, value: trim(value) })
}

/// A CR within a line is the more telling violation.
fn kind(line: &[u8]) -> Violation {
    if line.contains(&b'\r') { Violation::LineEnd } else { Violation::Field }
}

/// RFC 9110, section 5.6.2.
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().fold(true, |all, byte| all & is_token_byte(*byte))
}

pub(crate) fn is_token_byte(byte: u8) -> bool {
    TOKEN.get(usize::from(byte)).copied().unwrap_or(false)
}

/// A look into a table is cheaper than a comparison with each range.
const TOKEN: [bool; 256] = {
    let mut token = [false; 256];
    let mut byte = 0;
    while byte < token.len() {
        #[expect(clippy::indexing_slicing, reason = "checked when this is compiled")]
        {
            token[byte] = matches!(byte as u8,
                b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|'
                | b'~' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z');
        }
        byte += 1;
    }
    token
};

/// Whether all of these bytes may stand in a field's value. Looked at to the end, since many are looked at at a time.
pub(crate) fn are_values(bytes: &[u8]) -> bool {
    bytes.iter().fold(true, |all, byte| all & is_value(*byte))
}

/// What may stand in a field's value: RFC 9110, section 5.5, with `obs-text` (other bytes than ASCII are in use).
pub(crate) fn is_value(byte: u8) -> bool {
    matches!(byte, b'\t' | 0x20..=0x7e | 0x80..)
}

fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// The names in a comma-separated list, such as the value of `Connection`.
pub(crate) fn listed(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(trim).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { bytes: 1000, fields: 3 };

    fn read(head: &str) -> Result<Vec<(&str, &str)>, Violation> {
        let text = |bytes| std::str::from_utf8(bytes).unwrap();
        let pair = |field: Field<'static>| (text(field.name), text(field.value));
        let head: &'static str = head.to_owned().leak();
        fields(Lines::new(head.as_bytes()), BOUNDS).map(|field| field.map(pair)).collect()
    }

    #[test]
    fn names_and_values_keep_their_case_and_order() {
        let fields = read("Host: a\r\nX-Two:\t b c \t\r\nempty:\r\n\r\nnot: this\r\n");
        assert_eq!(fields, Ok(vec![("Host", "a"), ("X-Two", "b c"), ("empty", "")]));
    }

    #[test]
    fn a_name_resembles_framing_when_only_the_characters_between_its_letters_differ() {
        for name in ["Transfer_Encoding", "transfer-encoding_", "ContentLength", "Content--Length", "content.length1"] {
            assert!(resembles_framing(name.as_bytes()), "{name}");
        }
        for name in ["Transfer-Encoding", "content-length", "Content-Lengths", "x-content-length", "Length", "_"] {
            assert!(!resembles_framing(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn what_is_not_exactly_a_field_line_is_refused() {
        for (line, violation) in [
            ("a : b", Violation::Field),
            (" a: b", Violation::Field),
            ("\ta: b", Violation::Field),
            (": b", Violation::Field),
            ("no colon", Violation::Field),
            ("a\0: b", Violation::Field),
            ("a: b\0", Violation::Field),
            ("a: b\x7f", Violation::Field),
            ("ä: b", Violation::Field),
            ("a(b): c", Violation::Field),
            ("a: b\rc", Violation::LineEnd),
            ("a\r: b", Violation::LineEnd),
        ] {
            assert_eq!(read(&format!("{line}\r\n\r\n")), Err(violation), "{line:?}");
        }
        assert_eq!(read("a: b\n\r\n"), Err(Violation::LineEnd));
        assert_eq!(read("a: 1\r\na: 2\r\na: 3\r\na: 4\r\n\r\n"), Err(Violation::TooLarge));
    }
}
