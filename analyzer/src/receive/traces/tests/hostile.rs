//! Broken, lying and oversized files: a clear error or a counted repair, never a panic, a hang or an invented edge.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;

use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::{SetAside, TraceLimits, read, read_within};
use super::story::{Telling, see, see_file, server, span, zipkin};

fn gzip(contents: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(contents).unwrap();
    encoder.finish().unwrap()
}

fn error(contents: &[u8]) -> String {
    let text = see_file(contents).unwrap_err().to_string();
    text.split_once(": ").unwrap().1.to_owned() // without the file's name, which comes first
}

#[test]
fn gzip_is_recognised_by_its_first_bytes_and_may_have_several_members() {
    let document = zipkin(&[server("shop", 1), server("shop", 2)]).to_string();
    let (first, second) = document.as_bytes().split_at(50);
    let seen = see_file(&[gzip(first), gzip(second)].concat()).unwrap();
    assert_eq!(seen.handlings("shop"), 2);
}

#[test]
fn a_truncated_or_damaged_gzip_file_is_told_from_one_with_broken_json() {
    let whole = gzip(zipkin(&[server("shop", 1)]).to_string().as_bytes());
    for end in [whole.len() / 2, whole.len() - 4] {
        assert!(error(&whole[..end]).contains("truncated"), "{end}: {}", error(&whole[..end]));
    }
    let mut damaged = whole.clone();
    let end = damaged.len() - 6;
    damaged[end] ^= 0xff; // in the checksum
    assert!(error(&damaged).contains("damaged"), "{}", error(&damaged));
    assert!(error(&gzip(b"[{]")).starts_with("not Zipkin v2 or Jaeger JSON: "), "{}", error(&gzip(b"[{]")));
}

#[test]
fn a_file_that_is_something_else_is_told_what_it_looks_like() {
    let span = server("shop", 1).value().to_string();
    for (contents, why) in [
        ("", "it is empty"),
        ("<html></html>", "looks like XML or HTML"),
        ("PK\u{3}\u{4}....", "zip archive"),
        ("time,service\n", "line 1 column"),
        ("[\n  {\"traceId\": \"1\",\n  nonsense}\n]", "line 3 column 3"),
        ("[{\"traceId\": \"1\", \"id\": \"2\"", "EOF while parsing"),
        ("[1, 2]", "expected a Zipkin span"),
        ("{\"services\": []}", "an object without `data`"),
        ("[{\"name\": \"x\"}]", "no entry has a trace id"),
        ("[{\"traceId\": \"1\", \"id\": \"2\", \"binaryAnnotations\": []}]", "Zipkin version 1"),
        ("[[[]]]", "lists within lists"),
        ("[] []", "trailing characters"),
        (&span, "one Zipkin span"),
        (&format!("[{span}]\n[{span}]"), "trailing characters"),
    ] {
        let text = error(contents.as_bytes());
        assert!(text.starts_with("not Zipkin v2 or Jaeger JSON: ") && text.contains(why), "{contents}: {text}");
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let text = read(&[PathBuf::from("/no/such/traces.json")]).unwrap_err().to_string();
    assert!(text.starts_with("/no/such/traces.json: cannot be opened: "), "{text}");
}

#[test]
fn a_list_without_spans_is_a_warning() {
    for contents in ["[]", "[[]]", "\u{feff} [ ]", "{\"data\": []}", "{\"data\": null, \"errors\": [{\"code\": 404}]}"]
    {
        let seen = see_file(contents.as_bytes()).unwrap();
        assert!(seen.reports.is_empty());
        assert!(seen.summary.warnings[0].ends_with("holds no spans"), "{:?}", seen.summary.warnings);
    }
}

#[test]
fn a_list_of_traces_reads_like_a_list_of_their_spans() {
    let (one, two) = (server("shop", 1).value(), server("shop", 2).with("traceId", "b2").value());
    let seen = see_file(json!([[one], [two], []]).to_string().as_bytes()).unwrap();
    assert_eq!((seen.summary.traces, seen.handlings("shop")), (2, 2));
}

#[test]
fn a_gzip_bomb_stops_at_the_limit() {
    let bomb = gzip(&[b"[".as_slice(), &vec![b' '; 10_000_000]].concat());
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&bomb).unwrap();
    let limits = TraceLimits { bytes: 100_000, ..TraceLimits::default() };
    let text = read_within(&[file.path()], limits).unwrap_err().to_string();
    assert!(text.contains("larger than the limit of 100000 bytes"), "{text}");
}

#[test]
fn spans_beyond_the_limit_are_an_error_that_names_it() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(zipkin(&[server("a", 1), server("a", 2), server("a", 3)]).to_string().as_bytes()).unwrap();
    let limits = |spans| TraceLimits { spans, ..TraceLimits::default() };
    assert!(read_within(&[file.path()], limits(3)).is_ok());
    let text = read_within(&[file.path()], limits(2)).unwrap_err().to_string();
    assert!(text.contains("more than the limit of 2 spans"), "{text}");
}

#[test]
fn a_trace_may_be_spread_over_files_and_a_file_given_twice_counts_once() {
    let write = |spans: &[Telling]| {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(zipkin(spans).to_string().as_bytes()).unwrap();
        file
    };
    let (shop, stock) = (write(&[span("shop", 1)]), write(&[span("stock", 2).below(1)]));
    let (reports, summary) = read(&[stock.path(), shop.path(), stock.path()]).unwrap();
    assert_eq!((reports.len(), summary.calls, summary.handlings), (2, 1, 2));
    assert_eq!(summary.set_aside.get(&SetAside::Duplicate), Some(&1));
}

#[test]
fn a_chain_of_a_hundred_thousand_hops_is_counted_to_its_end() {
    const DEPTH: u64 = 100_000;
    let chain = |id: u64| span(["a", "b", "c"][(id % 3) as usize], id).below(id - 1);
    let mut spans: Vec<_> = (2..=DEPTH).map(chain).collect();
    spans.push(span("root", 1));
    let seen = see(&spans);
    let root = seen.path("root");
    assert_eq!(u64::from(root.stats.depth_below.max()), DEPTH - 1);
    assert_eq!(root.stats.services_below.max(), 3);
    assert_eq!(seen.edges().values().sum::<u64>(), DEPTH - 1);
    assert!(seen.reports.iter().all(|report| report.paths.len() < 200), "deep paths share the overflow path");

    spans.pop();
    spans.push(span("root", 1).below(DEPTH));
    assert_eq!(see(&spans).edges().values().sum::<u64>(), DEPTH - 1, "as a loop, too");
}

/// Spans with few distinct ids, so that they meet: parents, copies, halves, loops.
fn lying_span() -> impl Strategy<Value = Value> {
    let kinds =
        prop::sample::select(vec![None, Some("CLIENT"), Some("SERVER"), Some("PRODUCER"), Some("CONSUMER"), Some("?")]);
    let names = prop::sample::select(vec!["x", "HTTP GET", "q send", "q process", "/a/1", ""]);
    let remotes = prop::sample::select(vec![None, Some("a"), Some("kafka")]);
    let services = prop::sample::select(vec!["a", "b", "c", "d"]);
    let times = (prop::option::of(any::<u32>()), prop::option::of(any::<u32>()));
    (0..8_u64, 0..8_u64, services, kinds, names, remotes, any::<bool>(), times).prop_map(
        |(id, parent, service, kind, name, remote, shared, (start, duration))| {
            json!({"traceId": "1", "id": format!("{id:x}"), "parentId": format!("{parent:x}"), "name": name, "kind": kind,
                "shared": shared, "timestamp": start, "duration": duration, "localEndpoint": {"serviceName": service},
                "remoteEndpoint": remote.map(|name| json!({"serviceName": name}))})
        },
    )
}

/// Pairs of services that talked, if everything is believed that spans of one id say together.
fn claims(spans: &[Value]) -> BTreeSet<String> {
    let service = |span: &Value| span["localEndpoint"]["serviceName"].as_str().unwrap().to_owned();
    let peers = |span: &Value| [Some(service(span)), span["remoteEndpoint"]["serviceName"].as_str().map(str::to_owned)];
    let mut claims = BTreeSet::new();
    for (caller, child, callee) in spans
        .iter()
        .flat_map(|caller| spans.iter().flat_map(move |child| spans.iter().map(move |callee| (caller, child, callee))))
    {
        let linked = child["id"] == caller["id"] || child["parentId"] == caller["id"];
        if linked && child["id"] == callee["id"] {
            claims.extend(peers(callee).into_iter().flatten().map(|peer| format!("{}>{peer}", service(caller))));
        }
    }
    claims
}

proptest! {
    #[test]
    fn garbage_never_panics(contents in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = see_file(&contents);
        let _ = see_file(&[b"\x1f\x8b".as_slice(), &contents].concat());
    }

    #[test]
    fn changed_bytes_never_panic(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5)) {
        let mut document = zipkin(&[server("a", 1), span("b", 2).below(1).tag("error", "x"), span("c", 3).below(2)]).to_string().into_bytes();
        for (at, byte) in changes {
            let at = at.index(document.len());
            document[at] = byte;
        }
        let _ = see_file(&document);
        let _ = see_file(&gzip(&document)[..document.len().min(40)]);
    }

    #[test]
    fn spans_that_contradict_each_other_make_no_edge_that_none_of_them_claims(spans in prop::collection::vec(lying_span(), 0..14)) {
        let seen = see_file(Value::Array(spans.clone()).to_string().as_bytes());
        if let Ok(seen) = seen {
            let claims = claims(&spans);
            for edge in seen.edges().keys() {
                prop_assert!(claims.contains(edge), "{edge} is not among {claims:?}");
                let (from, to) = edge.split_once('>').unwrap();
                prop_assert_ne!(from, to);
            }
            let counted: u64 = seen.reports.iter().flat_map(|report| &report.paths).map(|path| path.stats.outcomes.total()).sum();
            prop_assert_eq!(counted, seen.summary.handlings);
            prop_assert_eq!(seen.edges().values().sum::<u64>(), seen.summary.calls);
        }
    }
}
