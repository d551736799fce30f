//! One span in the form that both file formats share, and the collection of all of them.

use std::hash::{DefaultHasher, Hash, Hasher};

use couplet_telemetry::outcome::Outcome;

use super::naming::{HttpWords, Name, Names};
use super::summary::{Repair, SetAside, TraceSummary};

/// One span. Times in nanoseconds; zero where the file says nothing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Span {
    pub(super) trace: u128,
    /// Whether that is how the trace is called, and no hash of it.
    pub(super) named: bool,
    pub(super) id: u64,
    /// Zero for none.
    pub(super) parent: u64,
    pub(super) service: Option<Name>,
    pub(super) endpoint: Name,
    pub(super) kind: Option<Kind>,
    /// The server's half of a span that carries the id of the client's half.
    pub(super) shared: bool,
    /// Nobody waits for it: it follows from its parent, but is no part of it.
    pub(super) follows: bool,
    pub(super) start: u64,
    pub(super) duration: u64,
    pub(super) remote: Option<Name>,
    pub(super) outcome: Outcome,
}

/// What a span stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Client,
    Server,
    Producer,
    Consumer,
}

impl Kind {
    /// The kind of that name, in any case; `None` for internal and unknown ones.
    pub(super) fn parse(word: &str) -> Option<Self> {
        let named = |name: &&(&str, Kind)| name.0.eq_ignore_ascii_case(word);
        let kinds = [
            ("client", Kind::Client),
            ("server", Kind::Server),
            ("producer", Kind::Producer),
            ("consumer", Kind::Consumer),
        ];
        kinds.iter().find(named).map(|(_, kind)| *kind)
    }
}

impl Span {
    /// Whether this is the called side: what has the id of another span is then no copy of it, but its other half.
    pub(super) fn is_called_side(&self) -> bool {
        self.shared || matches!(self.kind, Some(Kind::Server | Kind::Consumer))
    }

    pub(super) fn end(&self) -> u64 {
        self.start.saturating_add(self.duration)
    }
}

/// A span as a file tells it, before its words are kept.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) trace: Option<String>,
    pub(super) id: Option<String>,
    pub(super) parent: Option<String>,
    pub(super) service: Option<String>,
    pub(super) name: Option<String>,
    pub(super) kind: Option<Kind>,
    pub(super) shared: bool,
    pub(super) follows: bool,
    /// Microseconds.
    pub(super) start: Option<u64>,
    /// Microseconds.
    pub(super) duration: Option<u64>,
    pub(super) remote: Option<String>,
    pub(super) words: Words,
}

impl Told {
    /// Bytes of its text, about.
    pub(super) fn text_bytes(&self) -> usize {
        let own = [&self.trace, &self.id, &self.parent, &self.service, &self.name, &self.remote];
        own.into_iter().flatten().map(String::len).sum::<usize>() + self.words.text_bytes()
    }
}

/// What the tags of a span say that matters here. All others are skipped while reading.
#[derive(Debug, Default)]
pub(super) struct Words {
    http: HttpWords,
    status: Option<u16>,
    error: bool,
    pub(super) kind: Option<Kind>,
    pub(super) peer: Option<String>,
}

impl Words {
    /// Whether a tag of this name matters.
    pub(super) fn wants(key: &str) -> bool {
        key == "error"
            || key == "span.kind"
            || key == "peer.service"
            || key.starts_with("http.")
            || key.starts_with("url.")
    }

    /// Takes in one tag.
    pub(super) fn take(&mut self, key: &str, value: String) {
        match key {
            "error" => self.error = value != "false",
            "span.kind" => self.kind = Kind::parse(&value),
            "peer.service" => self.peer = Some(value),
            "http.method" | "http.request.method" => self.http.method = Some(value),
            "http.route" => self.http.route = Some(value),
            "http.path" | "url.path" => self.http.target = Some(value),
            "http.target" | "http.url" | "url.full" => {
                self.http.target.get_or_insert(value);
            }
            "http.status_code" | "http.response.status_code" => self.status = value.trim().parse().ok(),
            _ => {}
        }
    }

    fn text_bytes(&self) -> usize {
        let own = [&self.http.method, &self.http.route, &self.http.target, &self.peer];
        own.into_iter().flatten().map(String::len).sum()
    }

    /// A status says more than an error flag: tracers flag what they like, and a 4xx is the caller's mistake.
    fn outcome(&self) -> Outcome {
        match self.status.map(Outcome::from_status) {
            Some(outcome @ (Outcome::ServerError | Outcome::ClientError)) => outcome,
            _ if self.error => Outcome::ServerError,
            _ => Outcome::Ok,
        }
    }
}

/// All spans of all files.
#[derive(Debug)]
pub(super) struct Spans {
    pub(super) names: Names,
    pub(super) summary: TraceSummary,
    spans: Vec<Span>,
    limit: usize,
}

/// There is no room for another span.
#[derive(Debug)]
pub(super) struct Full;

impl Spans {
    pub(super) fn new(limit: usize) -> Self {
        Self { names: Names::default(), summary: TraceSummary::default(), spans: Vec::new(), limit }
    }

    /// How many were kept.
    pub(super) fn len(&self) -> usize {
        self.spans.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.spans.len() >= self.limit
    }

    /// Keeps a span.
    pub(super) fn add(&mut self, told: &Told) -> Result<(), Full> {
        let of = |id: &Option<String>| id.as_deref().map_or(0, number);
        let (trace, id, parent) = (of(&told.trace), fold(of(&told.id)), fold(of(&told.parent)));
        if self.is_full() {
            return Err(Full);
        }
        self.summary.spans += 1;
        if trace == 0 || id == 0 {
            self.summary.set_aside(SetAside::NoId, 1);
            return Ok(());
        }
        let nanos = |micros: Option<u64>| micros.unwrap_or(0).saturating_mul(1_000);
        let span = Span {
            trace,
            named: told.trace.as_deref().is_some_and(is_number),
            id,
            parent,
            service: told.service.as_deref().and_then(|name| self.names.service(name)),
            endpoint: self.names.endpoint(told.name.as_deref().unwrap_or(""), &told.words.http),
            kind: told.kind,
            shared: told.shared,
            follows: told.follows,
            start: nanos(told.start),
            duration: nanos(told.duration),
            remote: told.remote.as_deref().and_then(|name| self.names.service(name)),
            outcome: told.words.outcome(),
        };
        self.spans.push(span);
        Ok(())
    }

    /// Everything, ordered so that spans of one trace stand together whatever file they came from.
    pub(super) fn into_parts(self) -> (Names, TraceSummary, Vec<Span>) {
        let Self { names, mut summary, mut spans, .. } = self;
        summary.repair(Repair::Renamed, names.renamed());
        spans.sort_by_key(|span| {
            (span.trace, span.id, span.is_called_side(), span.start == 0, span.start, span.duration)
        });
        (names, summary, spans)
    }
}

/// An id as a number: hexadecimal as it should be, so that leading zeros make no difference; else a hash of the text.
fn number(id: &str) -> u128 {
    if is_number(id) {
        return u128::from_str_radix(id, 16).unwrap_or(0);
    }
    let mut hash = DefaultHasher::new();
    id.hash(&mut hash);
    u128::from(hash.finish()).max(1)
}

fn is_number(id: &str) -> bool {
    id.len() <= 32 && id.bytes().all(|b| b.is_ascii_hexdigit())
}

fn fold(id: u128) -> u64 {
    let [high, low] = [(id >> 64) as u64, id as u64];
    high.rotate_left(1) ^ low
}
