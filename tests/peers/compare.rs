//! What a client saw, and whether it saw the same twice.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::Value;

use crate::harness::Program;
use crate::place::{command, has, installed, say};
use crate::tls;
use crate::topology::{Origin, Sidecars};

/// Fields that belong to one hop (RFC 9110, section 7.6.1) or to the moment. They may differ.
const MAY_DIFFER: [&str; 7] =
    ["connection", "keep-alive", "proxy-connection", "upgrade", "http2-settings", "date", "transfer-encoding"];

/// Fields that a sidecar adds to what the origin gets.
const ADDED: [&str; 2] = ["traceparent", "tracestate"];

/// Cases that are known to differ: client, case, and why. The table counts them, and no test fails for them.
const KNOWN: [(&str, &str, &str); 1] = [(
    "curl HTTP/1.1 → haproxy",
    "100-continue refused",
    "directly, HAProxy answers once more on the connection, with 400",
)];

/// Claims that the client sees the same through sidecars before each of the `origins` that are installed, where the client
/// itself is.
#[track_caller]
pub(crate) fn same_before(origins: fn(&str) -> Vec<Origin>, client: &str, is_there: &[&str], words: &[&str]) {
    if has(client, is_there) {
        same_through_sidecars(client, words, &origins(client));
    }
}

/// Runs the client against each origin and through sidecars before it, and claims that both times it tells the same, in
/// the same order. `words` start the client; in them `URL` stands for where to
/// ask, and `ORIGIN` for the name of the origin.
#[track_caller]
pub(crate) fn same_through_sidecars(client: &str, words: &[&str], origins: &[Origin]) {
    let mut wrong = String::new();
    for origin in origins {
        let sidecars = Sidecars::before(origin.address);
        let words: Vec<_> = words.iter().map(|word| if *word == "ORIGIN" { &origin.name } else { *word }).collect();
        let direct = Transcript::of(&words, &Way::clear(origin.address));
        if let Some(end) = &direct.1 {
            wrong += &format!("{client} → {} fails without sidecars: {end}\n\n", origin.name);
            continue;
        }
        let through = Transcript::of(&words, &Way::clear(sidecars.outbound));
        wrong += &direct.compared(&through, &format!("{client} → {}", origin.name));
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// Claims that the client tells the same on both ways.
#[track_caller]
pub(crate) fn same(title: &str, words: &[&str], origin: &str, direct: &Way, through: &Way) {
    let words: Vec<_> = words.iter().map(|word| if *word == "ORIGIN" { origin } else { word }).collect();
    let told = Transcript::of(&words, direct);
    if let Some(end) = &told.1 {
        panic!("{title} fails without sidecars: {end}");
    }
    let wrong = told.compared(&Transcript::of(&words, through), title);
    assert!(wrong.is_empty(), "{wrong}");
}

/// Where a client asks, and how.
pub(crate) struct Way {
    address: SocketAddr,
    scheme: &'static str,
    environment: Vec<(&'static str, String)>,
}

impl Way {
    pub(crate) fn clear(address: SocketAddr) -> Self {
        Self { address, scheme: "http", environment: Vec::new() }
    }

    /// Over TLS, with the roots in this folder.
    pub(crate) fn over_tls(address: SocketAddr, roots: &Path) -> Self {
        Self { address, scheme: "https", environment: tls::roots(roots).into() }
    }
}

/// Everything that a client told, one line of JSON for each case.
pub(crate) struct Transcript(Vec<Value>, Option<String>);

impl Transcript {
    /// Runs the client to its end. It ends with 0 where its own claims hold; how else it ended is kept.
    fn of(words: &[&str], way: &Way) -> Self {
        let address = way.address;
        let url = format!("{}://{address}", way.scheme);
        let words: Vec<_> = words.iter().map(|word| if *word == "URL" { url.as_str() } else { word }).collect();
        let mut client = Program::start(command(&words).envs(way.environment.iter().cloned()));
        let code = client.exit_code();
        // What differs is the scheme, and nothing else.
        let said = client.said().replace("https", "http");
        let read = |line: &str| serde_json::from_str::<Value>(line).ok().filter(|value| value["case"].is_string());
        let cases: Vec<_> = said.lines().filter_map(read).map(|case| plain(case, address)).collect();
        let rest: Vec<_> = said.lines().filter(|line| read(line).is_none()).collect();
        let good = code == Some(0) && !cases.is_empty();
        let end =
            (!good).then(|| format!("{words:?} ended with {code:?} after {} cases: {}", cases.len(), rest.join("\n")));
        Self(cases, end)
    }

    /// What `other` tells differently, if anything; the table has a row of it.
    fn compared(&self, other: &Self, title: &str) -> String {
        let pairs = self.0.iter().zip(&other.0);
        let (alike, unlike): (Vec<_>, Vec<_>) = pairs.partition(|(direct, through)| direct == through);
        let why =
            |case: &Value| KNOWN.iter().find(|(client, name, _)| title.starts_with(client) && case["case"] == **name);
        let (known, unlike): (Vec<_>, Vec<_>) = unlike.into_iter().partition(|(direct, _)| why(direct).is_some());
        let mut different: Vec<_> = unlike.iter().map(|(d, t)| format!("direct   {d}\nthrough  {t}")).collect();
        if self.0.len() != other.0.len() {
            different.push(format!("directly it came {} cases far, through {}", self.0.len(), other.0.len()));
        }
        different.extend(other.1.as_ref().map(|end| format!("through sidecars {end}")));
        let all = self.0.len();
        let known: String = known
            .iter()
            .filter_map(|(direct, _)| why(direct))
            .map(|(_, name, why)| format!("; {name}: {why}"))
            .collect();
        note(title, &format!("{} of {all} cases equal to direct{known}", alike.len()));
        if different.is_empty() {
            return String::new();
        }
        format!("{title}: {} of {all} cases differ\n{}\n\n", all - alike.len(), different.join("\n\n"))
    }
}

/// Adds a row to the table that `tests/peers/run` prints, and says it.
pub(crate) fn note(title: &str, result: &str) {
    let table = installed("table");
    std::fs::create_dir_all(&table).unwrap();
    let name: String =
        title.chars().map(|c| if c.is_ascii_alphanumeric() || ".-".contains(c) { c } else { '_' }).collect();
    std::fs::write(table.join(name), format!("{title}\t{result}\n")).unwrap();
    say(&format!("{title}: {result}"));
}

/// A case without what may differ: the address that was asked, fields of one hop, and the fields that sidecars add.
fn plain(case: Value, address: SocketAddr) -> Value {
    match case {
        Value::String(text) => match serde_json::from_str::<Value>(&text) {
            // The origin's own account of a request.
            Ok(told @ Value::Object(_)) => plain(told, address),
            _ => Value::String(text.replace(&address.to_string(), "ORIGIN")),
        },
        Value::Array(items) => Value::Array(items.into_iter().map(|item| plain(item, address)).collect()),
        Value::Object(members) => {
            let plain = |(name, value): (String, Value)| {
                let value = match (name.as_str(), value) {
                    ("fields" | "initial" | "trailing", Value::Array(list)) => Value::Array(fields(list)),
                    // One list of lines for each head.
                    ("heads", Value::Array(heads)) => heads.into_iter().map(head).collect(),
                    ("trailers", trailers) => lower(trailers),
                    (_, value) => value,
                };
                (name, plain(value, address))
            };
            Value::Object(members.into_iter().map(plain).collect())
        }
        other => other,
    }
}

/// Fields without those that may differ, each name with all its values at its first place: how fields of different names
/// are interleaved has no meaning, nor has the order of pseudo-headers. They come as pairs, or as names and values in turn.
fn fields(list: Vec<Value>) -> Vec<Value> {
    let name = |name: &Value| name.as_str().unwrap_or_default().to_ascii_lowercase();
    if list.iter().all(Value::is_array) {
        grouped(list.into_iter().map(|pair| (name(&pair[0]), vec![pair])))
    } else {
        grouped(list.chunks(2).map(|turn| (name(&turn[0]), turn.to_vec())))
    }
}

/// The same for the lines of a head.
fn head(lines: Value) -> Value {
    let Value::Array(lines) = lines else { return lines };
    let name = |line: &Value| line.as_str()?.split_once(": ").map(|(name, _)| name.to_ascii_lowercase());
    Value::Array(grouped(lines.into_iter().map(|line| (name(&line).unwrap_or_default(), vec![line]))))
}

fn grouped(fields: impl Iterator<Item = (String, Vec<Value>)>) -> Vec<Value> {
    let mut groups: Vec<(String, Vec<Value>)> = Vec::new();
    for (name, field) in fields {
        if MAY_DIFFER.contains(&name.as_str()) || ADDED.contains(&name.as_str()) {
            continue;
        }
        match groups.iter_mut().find(|(other, _)| *other == name) {
            Some((_, group)) => group.extend(field),
            None => groups.push((name, field)),
        }
    }
    let pseudo = groups.iter().take_while(|(name, _)| name.starts_with(':')).count();
    groups[..pseudo].sort_by(|a, b| a.0.cmp(&b.0));
    groups.into_iter().flat_map(|(_, group)| group).collect()
}

/// The names of trailers in lower case: hyper keeps the case of no trailer.
fn lower(trailers: Value) -> Value {
    match trailers {
        Value::String(text) => Value::String(text.to_ascii_lowercase()),
        Value::Array(items) => Value::Array(items.into_iter().map(lower).collect()),
        other => other,
    }
}
