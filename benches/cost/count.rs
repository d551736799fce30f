//! Runs a proxy under a tool that counts, for few requests and for many.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use crate::rig::backend::Backend;
use crate::rig::peers::{Layout, Peer, Stage};
use crate::rig::program::Core;
use crate::rig::requests::{Request, context};
use crate::rig::{Control, Load, Way, http1, http2};

/// What is asked of which proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scene {
    /// A request for the application that comes from a caller with a sidecar.
    Inbound,
    /// The same while telemetry is switched off.
    InboundQuiet,
    /// One request through the caller's sidecar and the callee's: context there, summary back.
    Hop,
    HopQuiet,
    /// A request for the application, which calls a service with a sidecar before it answers: the call is linked.
    Linked,
    /// The same, linked by nothing.
    Unlinked,
    /// The hop with a request that has nothing but what it must have.
    BareHop,
    /// The hop over HTTP/2.
    Http2Hop,
    Http2HopQuiet,
    /// Bare requests for the application over HTTP/2, eight at once: what one turn of a connection takes is shared.
    Http2Many,
    Http2ManyQuiet,
    Haproxy,
    HaproxyBare,
    HaproxyHttp2,
    HaproxyHttp2Many,
}

impl Scene {
    pub(crate) const ALL: [Self; 15] = [
        Self::Inbound,
        Self::InboundQuiet,
        Self::Hop,
        Self::HopQuiet,
        Self::Linked,
        Self::Unlinked,
        Self::BareHop,
        Self::Http2Hop,
        Self::Http2HopQuiet,
        Self::Http2Many,
        Self::Http2ManyQuiet,
        Self::Haproxy,
        Self::HaproxyBare,
        Self::HaproxyHttp2,
        Self::HaproxyHttp2Many,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Scene::Inbound => "inbound",
            Scene::InboundQuiet => "inbound, telemetry off",
            Scene::Hop => "outbound and inbound",
            Scene::HopQuiet => "outbound and inbound, telemetry off",
            Scene::Linked => "inbound, linked call, inbound",
            Scene::Unlinked => "inbound, call, inbound, linking off",
            Scene::BareHop => "outbound and inbound, bare request",
            Scene::Http2Hop => "HTTP/2 outbound and inbound",
            Scene::Http2HopQuiet => "HTTP/2 outbound and inbound, telemetry off",
            Scene::Http2Many => "HTTP/2 inbound, eight at once",
            Scene::Http2ManyQuiet => "HTTP/2 inbound, eight at once, telemetry off",
            Scene::Haproxy => "HAProxy",
            Scene::HaproxyBare => "HAProxy, bare request",
            Scene::HaproxyHttp2 => "HAProxy HTTP/2",
            Scene::HaproxyHttp2Many => "HAProxy HTTP/2, eight at once",
        }
    }

    /// Whether it is another proxy, which has no budget.
    pub(crate) fn is_peer(self) -> bool {
        self.peer() == Peer::Haproxy
    }

    fn peer(self) -> Peer {
        match self {
            Scene::InboundQuiet | Scene::HopQuiet | Scene::Http2HopQuiet | Scene::Http2ManyQuiet => Peer::CoupletQuiet,
            Scene::Inbound | Scene::Hop | Scene::BareHop | Scene::Http2Hop | Scene::Http2Many => Peer::Couplet,
            Scene::Linked | Scene::Unlinked => Peer::Couplet,
            Scene::Haproxy | Scene::HaproxyBare | Scene::HaproxyHttp2 | Scene::HaproxyHttp2Many => Peer::Haproxy,
        }
    }

    fn layout(self) -> Layout {
        let alone = self.streams() > 1 || matches!(self, Scene::Inbound | Scene::InboundQuiet);
        Layout { chain: !alone && !self.is_peer(), http2: self.streams() > 0, linked: self.calls() }
    }

    /// Requests at once on one connection of HTTP/2; none over HTTP/1.
    fn streams(self) -> usize {
        match self {
            Scene::Http2Hop | Scene::Http2HopQuiet | Scene::HaproxyHttp2 => 1,
            Scene::Http2Many | Scene::Http2ManyQuiet | Scene::HaproxyHttp2Many => 8,
            _ => 0,
        }
    }

    /// Whether the application calls a service before it answers.
    fn calls(self) -> bool {
        matches!(self, Scene::Linked | Scene::Unlinked)
    }

    /// What of the configuration is not as by default.
    fn settings(self) -> Vec<String> {
        match self {
            Scene::Unlinked => {
                let ignored = format!("link.ignore=[{}]", KNOWN.join(","));
                vec![ignored, "link.learn=false".to_owned(), "telemetry.timing=false".to_owned()]
            }
            // A caller without requests of its own: its calls are nobody's. Learning whose they are is a thread's work, by
            // the clock and not by the request.
            Scene::Hop | Scene::BareHop | Scene::Http2Hop => vec!["telemetry.timing=false".to_owned()],
            _ => Vec::new(),
        }
    }

    fn load(self, connections: usize) -> Load {
        let request = match self {
            Scene::Linked | Scene::Unlinked => vec![Request::get("/call")],
            Scene::BareHop | Scene::HaproxyBare => vec![Request::bare("/")],
            _ if self.streams() > 1 => vec![Request::bare("/")],
            Scene::Inbound | Scene::InboundQuiet => vec![Request::get("/").with("couplet-context", context(0))],
            _ => vec![Request::get("/")],
        };
        let way = match self.streams() {
            0 => Way::KeepAlive,
            streams => Way::Http2 { streams },
        };
        Load { requests: request, connections, way }
    }
}

/// Everything by which requests are linked without being told.
const KNOWN: [&str; 11] = [
    "traceparent",
    "b3",
    "x-b3-traceid",
    "uber-trace-id",
    "x-datadog-trace-id",
    "x-cloud-trace-context",
    "x-amzn-trace-id",
    "grpc-trace-bin",
    "sw8",
    "x-request-id",
    "baggage",
];

/// What is counted.
pub(crate) enum Counter {
    /// In user mode, by callgrind. The profile is kept there.
    Instructions { keep: Option<PathBuf> },
    /// By strace, of all threads.
    SystemCalls,
}

/// What one request takes.
///
/// # Errors
/// Where the tool, the proxy or a request fails.
pub(crate) fn count(
    couplet: &Path,
    cores: (Core, Core),
    backend: &Backend,
    scene: Scene,
    counter: &Counter,
    connections: usize,
) -> Result<f64> {
    let (few, many) = match counter {
        // A debug build takes ten times as many.
        Counter::Instructions { .. } if cfg!(debug_assertions) => (100, 400),
        Counter::Instructions { .. } => (300, 1_300),
        Counter::SystemCalls => (300, 2_300),
    };
    let less = once(couplet, cores, backend, scene, counter, connections, few)?;
    let more = once(couplet, cores, backend, scene, counter, connections, many)?;
    ensure!(more > less, "more requests took less");
    Ok((more - less) as f64 / (many - few) as f64)
}

/// What a whole life with so many requests takes.
fn once(
    couplet: &Path,
    (core, other): (Core, Core),
    backend: &Backend,
    scene: Scene,
    counter: &Counter,
    connections: usize,
    requests: u64,
) -> Result<u64> {
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("counted");
    let name = out.display();
    let under: Vec<String> = match counter {
        Counter::Instructions { .. } => {
            ["valgrind", "--tool=callgrind", "-q", &format!("--callgrind-out-file={name}{{n}}")]
                .map(str::to_owned)
                .into()
        }
        Counter::SystemCalls => ["strace", "-f", "-c", "-o", &format!("{name}{{n}}")].map(str::to_owned).into(),
    };
    let settings = scene.settings();
    let stage = Stage { couplet, folder: folder.path(), core, other, under, settings: &settings, reports: false };
    let layout = scene.layout();
    let to = if layout.http2 { backend.http2 } else { backend.http1 };
    let mut running = scene.peer().start(&stage, layout, to)?;
    let mut address = running.address;
    if scene.calls() {
        backend.calls(address);
        address = running.inbound.context("there is no way in")?;
    }
    let (load, control) = (scene.load(connections), Control::exactly(requests));
    match load.way {
        Way::Http2 { streams } => http2::ask(address, &load, streams, &control)?,
        _ => http1::ask(address, &load, &control)?,
    };
    running.proxies.iter_mut().for_each(crate::rig::program::Program::end);
    let mut sum = 0;
    for n in 0..=usize::from(layout.chain) {
        let out = folder.path().join(format!("counted{n}"));
        let text = fs::read_to_string(&out).context("the tool has counted nothing")?;
        sum += total(&text, counter).context("the tool says no total")?;
        if let Counter::Instructions { keep: Some(keep) } = counter {
            fs::copy(&out, format!("{}.{n}", keep.display()))?;
        }
    }
    Ok(sum)
}

fn total(text: &str, counter: &Counter) -> Option<u64> {
    match counter {
        Counter::Instructions { .. } => text
            .lines()
            .find_map(|line| line.strip_prefix("totals: ").or(line.strip_prefix("summary: ")))?
            .trim()
            .parse()
            .ok(),
        // Columns: share, seconds, microseconds for each, calls, errors where there are any, name.
        Counter::SystemCalls => {
            let line = text.lines().find(|line| line.ends_with(" total"))?;
            line.split_whitespace().nth(3)?.parse().ok()
        }
    }
}
