//! What clients ask for.

use std::fmt::Write as _;

/// A request in both forms: its bytes in HTTP/1, and what HTTP/2 makes of it.
#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) method: &'static str,
    pub(crate) path: String,
    pub(crate) fields: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// A request with nothing but what it must have.
    pub(crate) fn bare(path: impl Into<String>) -> Self {
        let fields = vec![("host", "shop.example:8080".to_owned())];
        Self { method: "GET", path: path.into(), fields, body: Vec::new() }
    }

    /// A request as services send it to one another: seven fields, and no trace.
    pub(crate) fn get(path: impl Into<String>) -> Self {
        let fields = [
            ("host", "shop.example:8080"),
            ("user-agent", "bench/1.0"),
            ("accept", "application/json"),
            ("accept-encoding", "gzip, deflate"),
            ("x-request-id", "6f1c2a52-8f5e-4d0c-9d2a-0f3c7a1b2c3d"),
            ("authorization", "Bearer 0123456789abcdef0123456789abcdef"),
            ("cache-control", "no-cache"),
        ];
        let fields = fields.map(|(name, value)| (name, value.to_owned())).to_vec();
        Self { method: "GET", path: path.into(), fields, body: Vec::new() }
    }

    pub(crate) fn post(path: impl Into<String>, bytes: usize) -> Self {
        let mut request = Self::bare(path);
        request.method = "POST";
        request.fields.push(("content-length", bytes.to_string()));
        request.body = vec![b'x'; bytes];
        request
    }

    /// With a field more.
    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    /// Its bytes in HTTP/1.
    pub(crate) fn http1(&self, close: bool) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.path);
        for (name, value) in &self.fields {
            // Writing to a string cannot fail.
            let _ = write!(head, "{name}: {value}\r\n");
        }
        if close {
            head.push_str("connection: close\r\n");
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

/// As many endpoints, in two segments of few values each: nothing there looks like an id.
pub(crate) fn endpoints(count: usize) -> Vec<Request> {
    let word = |n: usize| {
        let letter = |n: usize| char::from(b'a' + u8::try_from(n % 26).unwrap_or(0));
        format!("{}{}", letter(n / 26), letter(n))
    };
    (0..count).map(|n| Request::bare(format!("/{}/{}", word(n / 32), word(n % 32)))).collect()
}

/// As many callers' paths, as their proxies tell of them: each is an edge into the service that is asked.
pub(crate) fn edges(count: usize) -> Vec<Request> {
    (0..count as u64).map(|n| Request::bare("/").with("couplet-context", context(n))).collect()
}

/// What a caller's proxy tells of its path.
pub(crate) fn context(n: u64) -> String {
    let spread = |n: u64| (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    format!("1;{0:016x};{0:016x};0;{1:016x};e;caller-{n}", spread(n), spread(n ^ 0xffff))
}
