use proptest::prelude::*;

use super::*;

const BOUNDS: Bounds = Bounds { bytes: 200, fields: 3 };

fn chunked(bytes: &str) -> Taken {
    Framing::chunked().take(bytes.as_bytes(), BOUNDS)
}

#[test]
fn content_of_a_length_ends_after_it() {
    let mut framing = Framing::length(5);
    assert_eq!(framing.take(b"abc", BOUNDS), Taken::All);
    assert_eq!(framing.take(b"defg", BOUNDS), Taken::Ended(2));
    assert_eq!(Framing::length(0).take(b"a", BOUNDS), Taken::Ended(0));
}

#[test]
fn chunks_end_with_the_trailers() {
    for whole in [
        "0\r\n\r\n",
        "5\r\nhello\r\n0\r\n\r\n",
        "A\r\n0123456789\r\n00\r\n\r\n",
        "1;a\r\nx\r\n0;a;b=c;d=\"e \\\" f\"\r\n\r\n",
        "0\r\nX-Sum: 1\r\nempty:\r\n\r\n",
        "0\r\ngrpc-status: 0\r\n\r\n",
    ] {
        assert_eq!(chunked(&format!("{whole}GET")), Taken::Ended(whole.len()), "{whole:?}");
        assert_eq!(chunked(&whole[..whole.len() - 1]), Taken::All, "{whole:?}");
    }
}

#[test]
fn the_first_byte_that_is_wrong_is_named() {
    for (bytes, at, violation) in [
        ("\r\n", 0, Violation::Chunk),
        (" 5\r\n", 0, Violation::Chunk),
        ("0x5\r\n", 1, Violation::Chunk),
        ("-1\r\n", 0, Violation::Chunk),
        ("5 \r\n", 1, Violation::Chunk),
        ("5\n", 1, Violation::Chunk),
        ("5\r\r\n", 2, Violation::Chunk),
        ("5;\r\n", 2, Violation::Chunk),
        ("5;a=\r\n", 4, Violation::Chunk),
        ("5;a=\"b\r\n", 6, Violation::Chunk),
        ("5; a\r\n", 2, Violation::Chunk),
        ("5;a\nb\r\n", 3, Violation::Chunk),
        ("1\r\nxx\r\n", 4, Violation::Chunk),
        ("1\r\nx\n", 4, Violation::Chunk),
        ("FFFFFFFFFFFFFFFF\r\n", 15, Violation::Chunk),
        ("00000000000000001\r\n", 16, Violation::Chunk),
        ("0\r\n folded\r\n", 3, Violation::Trailer),
        ("0\r\na : b\r\n", 4, Violation::Trailer),
        ("0\r\na: b\0\r\n", 7, Violation::Trailer),
        ("0\r\na: b\n\r\n", 7, Violation::Trailer),
        ("0\r\nContent-Length: 5\r\n\r\n", 17, Violation::Trailer),
        ("0\r\nHOST: a\r\n\r\n", 7, Violation::Trailer),
        ("0\r\nauthorization: a\r\n\r\n", 16, Violation::Trailer),
        ("0\r\na:\r\nb:\r\nc:\r\nd:\r\n\r\n", 15, Violation::TooLarge),
    ] {
        assert_eq!(chunked(bytes), Taken::Refused(at, violation), "{bytes:?}");
    }
}

#[test]
fn extensions_and_trailers_are_bounded() {
    assert!(matches!(chunked(&format!("5;{}", "a".repeat(2000))), Taken::Refused(_, Violation::Chunk)));
    assert!(matches!(chunked(&format!("0\r\na: {}", "b".repeat(300))), Taken::Refused(_, Violation::TooLarge)));
}

#[test]
fn no_forbidden_name_is_longer_than_what_is_kept() {
    assert!(FORBIDDEN.iter().all(|name| name.len() <= NAME_BYTES));
}

/// Chunked content that is often in order, and often nearly so.
fn content() -> impl Strategy<Value = Vec<u8>> {
    let pieces = [
        "0\r\n\r\n",
        "1\r\nx\r\n",
        "A\r\n0123456789\r\n",
        "0\r\nX: y\r\n\r\n",
        "3;a=\"b\"\r\nabc\r\n",
        "5",
        ";a",
        "\r\n",
        "\n",
        "0\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\n",
        "FFFFFFFFFFFFFFFF\r\n",
        " ",
    ];
    proptest::collection::vec(proptest::sample::select(pieces.to_vec()), 0..8)
        .prop_map(|pieces| pieces.concat().into_bytes())
}

/// What comes of taking `bytes` cut at these places.
fn in_pieces(mut framing: Framing, bytes: &[u8], cuts: &[usize]) -> Taken {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).chain([bytes.len()]).collect();
    cuts.sort_unstable();
    let mut from = 0;
    for to in cuts {
        match framing.take(&bytes[from..to], BOUNDS) {
            Taken::All => from = to,
            Taken::Ended(count) => return Taken::Ended(from + count),
            Taken::Refused(count, violation) => return Taken::Refused(from + count, violation),
        }
    }
    Taken::All
}

proptest! {
    #[test]
    fn it_does_not_matter_where_the_bytes_are_cut(
        bytes in content(),
        cuts in proptest::collection::vec(any::<usize>(), 0..12),
        length in 0_u64..40,
    ) {
        for framing in [Framing::chunked(), Framing::length(length), Framing::UntilClose] {
            if framing == Framing::Empty {
                continue;
            }
            let whole = framing.clone().take(&bytes, BOUNDS);
            prop_assert_eq!(in_pieces(framing.clone(), &bytes, &cuts), whole);
            let every: Vec<usize> = (0..bytes.len()).collect();
            prop_assert_eq!(in_pieces(framing, &bytes, &every), whole);
        }
    }
}
