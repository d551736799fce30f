use super::*;

const BOUNDS: Bounds = Bounds { bytes: 1000, fields: 8 };
const GET: Asked = Asked { method: Method::Other, upgrade: false };
const HEAD: Asked = Asked { method: Method::Head, upgrade: false };
const CONNECT: Asked = Asked { method: Method::Connect, upgrade: false };
const UPGRADE: Asked = Asked { method: Method::Other, upgrade: true };

fn framing(head: &str) -> Result<Framing, Violation> {
    request(format!("{head}\r\n\r\n").as_bytes(), BOUNDS).map(|head| head.framing)
}

/// A request with a Host and these fields.
fn with(fields: &str) -> Result<Framing, Violation> {
    framing(&format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}"))
}

fn answer(head: &str, asked: Asked) -> Result<ResponseHead, Violation> {
    response(format!("{head}\r\n\r\n").as_bytes(), asked, BOUNDS)
}

#[test]
fn a_request_line_has_three_words_with_one_space_between_them() {
    for line in ["GET / HTTP/1.1", "get /a?b=c|d{e} HTTP/1.1", "X-Y!~ /%zz HTTP/1.1", "GET //a HTTP/1.1"] {
        assert_eq!(framing(&format!("{line}\r\nHost: a")), Ok(Framing::Empty), "{line}");
    }
    for (line, violation) in [
        ("GET  / HTTP/1.1", Violation::StartLine),
        ("GET /  HTTP/1.1", Violation::StartLine),
        ("GET / HTTP/1.1 ", Violation::StartLine),
        (" GET / HTTP/1.1", Violation::StartLine),
        ("GET\t/ HTTP/1.1", Violation::StartLine),
        ("GET /", Violation::StartLine),
        ("GET HTTP/1.1", Violation::StartLine),
        ("G(T / HTTP/1.1", Violation::StartLine),
        ("GET / HTTP/1.1x", Violation::StartLine),
        ("GET / http/1.1", Violation::StartLine),
        ("GET / HTTP/01.1", Violation::StartLine),
        ("GET / HTTP/1", Violation::StartLine),
        ("GET / HTTP/2.0", Violation::Version),
        ("GET / HTTP/1.2", Violation::Version),
        ("GET / HTTP/0.9", Violation::Version),
        ("GET /\r HTTP/1.1", Violation::LineEnd),
    ] {
        assert_eq!(framing(&format!("{line}\r\nHost: a")), Err(violation), "{line:?}");
    }
}

#[test]
fn a_target_has_the_form_that_its_method_has() {
    for (method, target) in [
        ("GET", "/"),
        ("GET", "http://a"),
        ("GET", "HTTP://A:80/b"),
        ("GET", "http://a?b"),
        ("OPTIONS", "*"),
        ("OPTIONS", "/"),
        ("CONNECT", "a:443"),
    ] {
        assert!(framing(&format!("{method} {target} HTTP/1.1\r\nHost: a")).is_ok(), "{method} {target}");
    }
    for (method, target) in [
        ("GET", "*"),
        ("GET", "a"),
        ("GET", "a:80"),
        ("GET", "http:/a"),
        ("GET", "http://"),
        ("GET", "http://u@a/"),
        ("GET", "ftp://a/"),
        ("GET", "/#b"),
        ("GET", "/\u{e4}"),
        ("GET", "/\0"),
        ("GET", "/\x7f"),
        ("OPTIONS", "**"),
        ("CONNECT", "a"),
        ("CONNECT", "/"),
        ("CONNECT", "http://a:80"),
    ] {
        let read = framing(&format!("{method} {target} HTTP/1.1\r\nHost: a"));
        assert_eq!(read, Err(Violation::Target), "{method} {target}");
    }
}

#[test]
fn there_is_one_host_and_it_is_what_the_target_says() {
    assert!(framing("GET / HTTP/1.0").is_ok());
    assert!(framing("GET / HTTP/1.0\r\nHost: a").is_ok());
    assert!(framing("GET http://a:80/ HTTP/1.1\r\nHost: b").is_ok());
    assert!(framing("CONNECT a:443 HTTP/1.1\r\nHost: a").is_ok());
    for head in [
        "GET / HTTP/1.1",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: a",
        "GET / HTTP/1.0\r\nHost: a\r\nHost: b",
        "GET / HTTP/1.1\r\nHost:",
        "GET / HTTP/1.1\r\nHost: a, b",
        "GET / HTTP/1.1\r\nHost: a/b",
        "GET / HTTP/1.1\r\nHost: u@a",
        "CONNECT a:443 HTTP/1.1\r\nHost: b:443",
    ] {
        assert_eq!(framing(head), Err(Violation::Host), "{head:?}");
    }
}

#[test]
fn content_has_one_length_of_digits_or_is_chunked() {
    assert_eq!(with("Content-Length: 5"), Ok(Framing::Length(5)));
    assert_eq!(with("content-length:\t007 "), Ok(Framing::Length(7)));
    assert_eq!(with("Content-Length: 0"), Ok(Framing::Empty));
    assert_eq!(with("Content-Length: 9223372036854775807"), Ok(Framing::Length(MAX_LENGTH)));
    assert_eq!(with("Transfer-Encoding: Chunked"), Ok(Framing::chunked()));
    for (fields, violation) in [
        ("Content-Length: 5\r\nContent-Length: 5", Violation::Length),
        ("Content-Length: 5, 5", Violation::Length),
        ("Content-Length:", Violation::Length),
        ("Content-Length: +5", Violation::Length),
        ("Content-Length: -0", Violation::Length),
        ("Content-Length: 0x5", Violation::Length),
        ("Content-Length: 5 5", Violation::Length),
        ("Content-Length: 1_0", Violation::Length),
        ("Content-Length: 9223372036854775808", Violation::Length),
        ("Content-Length: 00000000000000000001", Violation::Length),
        ("Content-Length: 5\r\nTransfer-Encoding: chunked", Violation::Length),
        ("Transfer-Encoding: chunked\r\nContent-Length: 0", Violation::Length),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", Violation::Coding),
        ("Transfer-Encoding: chunked, chunked", Violation::Coding),
        ("Transfer-Encoding: gzip, chunked", Violation::Coding),
        ("Transfer-Encoding: \"chunked\"", Violation::Coding),
        ("Transfer-Encoding: chunked;q=1", Violation::Coding),
        ("Transfer-Encoding:", Violation::Coding),
        ("Transfer-Encoding: gzip", Violation::UnknownCoding),
        ("Transfer-Encoding: identity", Violation::UnknownCoding),
        ("Transfer-Encoding: xchunked", Violation::UnknownCoding),
    ] {
        assert_eq!(with(fields), Err(violation), "{fields:?}");
    }
    assert_eq!(framing("POST / HTTP/1.0\r\nTransfer-Encoding: chunked"), Err(Violation::Coding));
    assert_eq!(framing("CONNECT a:1 HTTP/1.1\r\nHost: a\r\nContent-Length: 1"), Err(Violation::Length));
}

#[test]
fn fields_are_counted() {
    assert!(with("a: b\r\n".repeat(7).trim_end()).is_ok());
    assert_eq!(with("a: b\r\n".repeat(8).trim_end()), Err(Violation::TooLarge));
}

#[test]
fn an_upgrade_and_connect_may_end_http() {
    let switches = |head: &str| request(format!("{head}\r\n\r\n").as_bytes(), BOUNDS).unwrap().switches;
    assert!(switches("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x"));
    assert!(switches("CONNECT a:1 HTTP/1.1\r\nHost: a:1"));
    assert!(!switches("GET / HTTP/1.1\r\nHost: a"));
}

#[test]
fn a_status_line_has_a_status_from_100_to_599() {
    for line in ["HTTP/1.1 200 OK", "HTTP/1.0 200 ", "HTTP/1.1 200", "HTTP/1.1 599 Ori\u{eb}nt", "HTTP/1.1 200  a\tb"] {
        assert_eq!(answer(line, GET), Ok(ResponseHead::Final(Framing::UntilClose)), "{line}");
    }
    for (line, violation) in [
        ("HTTP/1.1 20 OK", Violation::StartLine),
        ("HTTP/1.1 2000 OK", Violation::StartLine),
        ("HTTP/1.1  200 OK", Violation::StartLine),
        ("HTTP/1.1\t200 OK", Violation::StartLine),
        ("HTTP/1.1 600 X", Violation::StartLine),
        ("HTTP/1.1 099 X", Violation::StartLine),
        ("HTTP/1.1 200OK", Violation::StartLine),
        ("HTTP/1.1 200 O\0K", Violation::StartLine),
        ("HTP/1.1 200 OK", Violation::StartLine),
        ("HTTP/2.0 200 OK", Violation::Version),
        ("HTTP/0.9 200 OK", Violation::Version),
        ("HTTP/1.1 200 O\rK", Violation::LineEnd),
    ] {
        assert_eq!(answer(line, GET), Err(violation), "{line:?}");
    }
}

#[test]
fn what_follows_an_answer_depends_on_the_question() {
    let length = "HTTP/1.1 200 OK\r\nContent-Length: 5";
    let chunked = "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked";
    let empty = Ok(ResponseHead::Final(Framing::Empty));
    assert_eq!(answer(length, GET), Ok(ResponseHead::Final(Framing::Length(5))));
    assert_eq!(answer(length, HEAD), empty);
    assert_eq!(answer(length, CONNECT), Err(Violation::Length));
    assert_eq!(answer(chunked, GET), empty);
    assert_eq!(answer("HTTP/1.1 204 No Content", GET), empty);
    assert_eq!(answer("HTTP/1.1 204 No Content\r\nContent-Length: 0", GET), empty);
    assert_eq!(answer("HTTP/1.1 204 No Content\r\nContent-Length: 1", GET), Err(Violation::Length));
    assert_eq!(answer("HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked", GET), Err(Violation::Coding));
    assert_eq!(answer("HTTP/1.1 100 Continue", GET), Ok(ResponseHead::Interim));
    assert_eq!(answer("HTTP/1.1 103 Early Hints\r\nContent-Length: 0", GET), Err(Violation::Length));
    assert_eq!(answer("HTTP/1.1 200 OK", CONNECT), Ok(ResponseHead::Switched));
    assert_eq!(answer("HTTP/1.1 407 No\r\nContent-Length: 5", CONNECT), Ok(ResponseHead::Final(Framing::Length(5))));
    assert_eq!(answer("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked", GET), Err(Violation::Coding));
    assert_eq!(answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip", HEAD), Err(Violation::UnknownCoding));
}

#[test]
fn the_protocol_changes_only_where_that_was_asked_for() {
    let switch = "HTTP/1.1 101 Switching Protocols\r\nConnection: keep-alive, Upgrade\r\nUpgrade: x";
    assert_eq!(answer(switch, UPGRADE), Ok(ResponseHead::Switched));
    assert_eq!(answer(switch, GET), Err(Violation::Switch));
    assert_eq!(answer("HTTP/1.1 101 Switching Protocols", UPGRADE), Err(Violation::Switch));
    assert_eq!(answer(&format!("{switch}\r\nContent-Length: 1"), UPGRADE), Err(Violation::Length));
}
