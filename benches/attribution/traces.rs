//! Traces from Zipkin JSON, and the traffic they become when whole traces are started at a given rate.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Read;
use std::path::Path;

use flate2::read::GzDecoder;
use serde::Deserialize;

use crate::random::Random;

/// One span as Zipkin writes it; times in microseconds.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    trace_id: String,
    id: String,
    parent_id: Option<String>,
    #[serde(default)]
    name: String,
    timestamp: i64,
    duration: i64,
    local_endpoint: Place,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Place {
    service_name: String,
}

/// One span of a trace: its parent is a position in the trace, times are nanoseconds.
pub(crate) struct Span {
    /// The last span with the same id: some traces hold a span twice.
    same: usize,
    parent: Option<usize>,
    service: String,
    name: String,
    start: i64,
    end: i64,
}

/// One trace, in the order of the file.
pub(crate) type Trace = Vec<Span>;

/// An inbound request.
pub(crate) struct Handler {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) endpoint: u32,
    /// Alike where a trace holds the same span twice.
    pub(crate) identity: (usize, usize),
}

/// An outbound call and the handler that truly made it.
pub(crate) struct Call {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) callee: u32,
    pub(crate) handler: (usize, usize),
    /// Endpoint of that handler.
    pub(crate) endpoint: u32,
}

/// What one service receives and sends; both in order of their start.
#[derive(Default)]
pub(crate) struct Traffic {
    pub(crate) handlers: Vec<Handler>,
    pub(crate) calls: Vec<Call>,
}

/// The traces of a file, at most `most` of them.
pub(crate) fn read(path: &Path, most: usize) -> Result<Vec<Trace>, Box<dyn std::error::Error>> {
    let mut text = String::new();
    let mut file = File::open(path)?;
    if path.extension().is_some_and(|extension| extension == "gz") {
        GzDecoder::new(file).read_to_string(&mut text)?;
    } else {
        file.read_to_string(&mut text)?;
    }
    let mut order: HashMap<String, usize> = HashMap::new();
    let mut traces: Vec<Vec<Written>> = Vec::new();
    for span in serde_json::from_str::<Vec<Written>>(&text)? {
        let next = traces.len();
        let at = *order.entry(span.trace_id.clone()).or_insert(next);
        if at == next {
            traces.push(Vec::new());
        }
        traces[at].push(span);
    }
    Ok(traces.into_iter().take(most).map(resolved).collect())
}

fn resolved(written: Vec<Written>) -> Trace {
    let by_id: HashMap<String, usize> = written.iter().enumerate().map(|(n, span)| (span.id.clone(), n)).collect();
    let parent = |span: &Written| span.parent_id.as_ref().and_then(|id| by_id.get(id)).copied();
    let parents: Vec<Option<usize>> = written.iter().map(parent).collect();
    let same: Vec<usize> = written.iter().map(|span| by_id[&span.id]).collect();
    let spans = written.into_iter().zip(parents).zip(same).map(|((span, parent), same)| Span {
        same,
        parent,
        service: span.local_endpoint.service_name,
        name: span.name,
        start: span.timestamp * 1_000,
        end: (span.timestamp + span.duration) * 1_000,
    });
    spans.collect()
}

/// The traffic of every service when traces start as a Poisson process of `rate` per second, each as many `times`. What
/// happens inside a trace keeps its timing; the order of traces and their starts follow from `seed` alone.
pub(crate) fn retimed(traces: &[Trace], rate: f64, seed: u32, times: usize) -> BTreeMap<String, Traffic> {
    let mut random = Random::new(seed);
    let mut order: Vec<usize> = (0..traces.len()).cycle().take(times * traces.len()).collect();
    random.shuffle(&mut order);
    let mut names: HashMap<String, u32> = HashMap::new();
    let mut traffic: BTreeMap<String, Traffic> = BTreeMap::new();
    let mut now = 0.0;
    for (nth, number_of_trace) in order.into_iter().enumerate() {
        let trace = &traces[number_of_trace];
        now += random.exponential(rate) * 1e9;
        let shift = now as i64 - trace.iter().map(|span| span.start).min().unwrap_or(0);
        let at = |time: i64| u64::try_from(time + shift).unwrap_or(0);
        let mut number = |name: String| {
            let next = names.len() as u32;
            *names.entry(name).or_insert(next)
        };
        for span in trace {
            if is_entry(trace, span) {
                let of = traffic.entry(span.service.clone()).or_default();
                let endpoint = number(span.name.clone());
                of.handlers.push(Handler {
                    start: at(span.start),
                    end: at(span.end),
                    endpoint,
                    identity: (nth, span.same),
                });
            }
        }
        for span in trace {
            let Some(parent) = span.parent else { continue };
            if trace[parent].service == span.service {
                continue;
            }
            let own = entry(trace, parent);
            // The caller's own span of the call where there is one, else the callee's.
            let side = if own == parent { span } else { &trace[parent] };
            let callee = number(format!("{} {}", span.service, span.name));
            let (handler, endpoint) = ((nth, trace[own].same), number(trace[own].name.clone()));
            let call = Call { start: at(side.start), end: at(side.end), callee, handler, endpoint };
            traffic.entry(trace[parent].service.clone()).or_default().calls.push(call);
        }
    }
    traffic.values_mut().for_each(Traffic::sort);
    traffic
}

fn is_entry(trace: &Trace, span: &Span) -> bool {
    span.parent.is_none_or(|parent| trace[parent].service != span.service)
}

fn entry(trace: &Trace, mut at: usize) -> usize {
    while let Some(parent) = trace[at].parent
        && !is_entry(trace, &trace[at])
    {
        at = parent;
    }
    at
}

impl Traffic {
    fn sort(&mut self) {
        self.handlers.sort_by_key(|handler| handler.start);
        self.calls.sort_by_key(|call| (call.start, call.end));
    }

    /// Mean number of handlers that are open when a call is made.
    pub(crate) fn in_flight(&self) -> f64 {
        let mut ends: Vec<u64> = self.handlers.iter().map(|handler| handler.end).collect();
        ends.sort_unstable();
        let open = |at: u64| {
            let started = self.handlers.partition_point(|handler| handler.start <= at);
            started as f64 - ends.partition_point(|&end| end <= at) as f64
        };
        self.calls.iter().map(|call| open(call.start)).sum::<f64>() / self.calls.len().max(1) as f64
    }
}
