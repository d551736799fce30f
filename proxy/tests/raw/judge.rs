//! A strict reader of requests and responses that shares no code with the proxy: it reads whole buffers, slowly.

/// What a buffer turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Read {
    /// Whole: its head, its decoded content, and how many bytes it took.
    Whole { head: String, content: Vec<u8>, end: usize },
    /// In order so far.
    Partial,
    /// Not everybody would read it alike.
    Wrong(&'static str),
}

/// Reads the first request.
pub(crate) fn request(bytes: &[u8]) -> Read {
    read(bytes, None, false)
}

/// Reads the first final response to a request with this method; `closed` when no more bytes will come.
pub(crate) fn response(bytes: &[u8], method: &str, closed: bool) -> Read {
    read(bytes, Some(method), closed)
}

/// The status of a response's head.
pub(crate) fn status(head: &str) -> u16 {
    head.get(9..12).and_then(|status| status.parse().ok()).unwrap_or(0)
}

fn read(bytes: &[u8], answer_to: Option<&str>, closed: bool) -> Read {
    let Some(end) = find(bytes, b"\r\n\r\n") else { return Read::Partial };
    let head: String = bytes[..end].iter().map(|byte| char::from(*byte)).collect();
    if head.replace("\r\n", "").contains(['\r', '\n']) {
        return Read::Wrong("bare CR or LF");
    }
    let mut lines = head.split("\r\n");
    let start = lines.next().unwrap_or_default();
    let mut fields = Vec::new();
    for line in lines {
        let Some((name, value)) = line.split_once(':') else { return Read::Wrong("no colon") };
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)) {
            return Read::Wrong("field name");
        }
        if value.chars().any(|c| c != '\t' && (c < ' ' || c == '\x7f')) {
            return Read::Wrong("field value");
        }
        fields.push((name.to_ascii_lowercase(), value.trim_matches([' ', '\t']).to_owned()));
    }
    let all =
        |name: &str| fields.iter().filter(|field| field.0 == name).map(|field| field.1.as_str()).collect::<Vec<_>>();
    let (lengths, codings, hosts) = (all("content-length"), all("transfer-encoding"), all("host"));
    let words: Vec<&str> = start.split(' ').collect();
    let none = match answer_to {
        None => {
            if words.len() != 3 || words[2] != "HTTP/1.1" || words[1].chars().any(|c| !('!'..='~').contains(&c)) {
                return Read::Wrong("request line");
            }
            if hosts.len() != 1 || hosts[0].contains([',', '/', '@', ' ']) {
                return Read::Wrong("Host");
            }
            lengths.is_empty() && codings.is_empty()
        }
        Some(method) => {
            let code = status(start);
            if !start.starts_with("HTTP/1.1 ") && !start.starts_with("HTTP/1.0 ") || !(100..600).contains(&code) {
                return Read::Wrong("status line");
            }
            if code < 200 || code == 204 || code == 304 {
                return Read::Whole { head, content: Vec::new(), end: end + 4 };
            }
            method == "HEAD"
        }
    };
    if lengths.len() + codings.len() > 1 {
        return Read::Wrong("framed twice");
    }
    let body = &bytes[end + 4..];
    if none {
        return Read::Whole { head, content: Vec::new(), end: end + 4 };
    }
    if let Some(length) = lengths.first() {
        let length = if length.bytes().all(|byte| byte.is_ascii_digit()) { length.parse::<u64>() } else { "".parse() };
        let Ok(length) = length else { return Read::Wrong("Content-Length") };
        return match body.get(..usize::try_from(length).unwrap_or(usize::MAX)) {
            Some(content) => Read::Whole { head, content: content.to_vec(), end: end + 4 + content.len() },
            None => Read::Partial,
        };
    }
    match codings.first() {
        Some(coding) if !coding.eq_ignore_ascii_case("chunked") => Read::Wrong("Transfer-Encoding"),
        Some(_) => chunks(body, head, end + 4),
        None if closed => Read::Whole { head, content: body.to_vec(), end: bytes.len() },
        None => Read::Partial,
    }
}

fn chunks(mut body: &[u8], head: String, mut end: usize) -> Read {
    let mut content = Vec::new();
    loop {
        let Some(line) = find(body, b"\r\n") else { return Read::Partial };
        let size = body[..line].split(|byte| *byte == b';').next().unwrap_or_default();
        let size = std::str::from_utf8(size).unwrap_or("x");
        if size.is_empty() || !size.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Read::Wrong("chunk size");
        }
        let Ok(size) = usize::from_str_radix(size, 16) else { return Read::Wrong("chunk size") };
        body = &body[line + 2..];
        end += line + 2;
        if size == 0 {
            break;
        }
        let Some(chunk) = body.get(..size + 2) else { return Read::Partial };
        if !chunk.ends_with(b"\r\n") {
            return Read::Wrong("chunk end");
        }
        content.extend_from_slice(&chunk[..size]);
        body = &body[size + 2..];
        end += size + 2;
    }
    loop {
        let Some(line) = find(body, b"\r\n") else { return Read::Partial };
        end += line + 2;
        if line == 0 {
            return Read::Whole { head, content, end };
        }
        let name = body[..line].split(|byte| *byte == b':').next().unwrap_or_default().to_ascii_lowercase();
        if [&b"content-length"[..], b"transfer-encoding", b"host", b"authorization"].contains(&name.as_slice()) {
            return Read::Wrong("trailer");
        }
        body = &body[line + 2..];
    }
}

pub(crate) fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
