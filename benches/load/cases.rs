//! What is asked, and through what.

use anyhow::{Result, bail};

use crate::rig::peers::{Layout, Peer};
use crate::rig::requests::{Request, edges, endpoints};
use crate::rig::{Load, Way};

/// Keep-alive connections of a client.
const CONNECTIONS: usize = 32;

/// One thing to measure.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) layout: Layout,
    pub(crate) kind: Kind,
    /// Of Couplet alone: no other proxy knows what is varied here.
    own: bool,
}

pub(crate) enum Kind {
    /// Processor time and latency under load.
    Load(Load),
    /// Memory that so many idle connections take, each of which has carried one request.
    Idle { load: Load, connections: usize },
    /// Memory that stays once a burst of so many connections, all of them asking, is over.
    Burst { before: Load, burst: Load },
}

impl Case {
    pub(crate) fn is_for(&self, peer: Peer) -> bool {
        peer.can(self.layout) && (!self.own || peer == Peer::Couplet)
    }
}

/// The cases of these names; all of them where there are none.
///
/// # Errors
/// Where a name is none of a case.
pub(crate) fn chosen(names: &[String]) -> Result<Vec<Case>> {
    let mut cases = all();
    if let Some(name) = names.iter().find(|name| cases.iter().all(|case| case.name != **name)) {
        let known: Vec<_> = cases.iter().map(|case| case.name).collect();
        bail!("there is no case {name:?}; there are {}", known.join(", "));
    }
    cases.retain(|case| names.is_empty() || names.iter().any(|name| name == case.name));
    Ok(cases)
}

fn all() -> Vec<Case> {
    let http1 = Layout { chain: false, http2: false, linked: false };
    let one = |name, layout, load, own| Case { name, layout, kind: Kind::Load(load), own };
    let plain = |name, request, way| one(name, http1, load(vec![request], CONNECTIONS, way), false);
    let varied = |name, requests| one(name, http1, load(requests, CONNECTIONS, Way::KeepAlive), true);
    let get = || vec![Request::bare("/")];
    let http2 = load(get(), 8, Way::Http2 { streams: 8 });
    vec![
        plain("small", Request::bare("/"), Way::KeepAlive),
        plain("fields", Request::get("/"), Way::KeepAlive),
        plain("1KiB", Request::bare("/bytes/1024"), Way::KeepAlive),
        plain("64KiB", Request::bare("/bytes/65536"), Way::KeepAlive),
        plain("post", Request::post("/", 1024), Way::KeepAlive),
        plain("close", Request::bare("/"), Way::Close),
        one("http2", Layout { http2: true, ..http1 }, http2, false),
        plain("rate", Request::bare("/"), Way::Rate(2_000)),
        one("chain", Layout { chain: true, ..http1 }, load(get(), CONNECTIONS, Way::KeepAlive), false),
        varied("edges-1", edges(1)),
        varied("edges-100", edges(100)),
        varied("edges-1000", edges(1_000)),
        varied("endpoints-10", endpoints(10)),
        varied("endpoints-1000", endpoints(1_000)),
        Case {
            name: "idle",
            layout: http1,
            kind: Kind::Idle { load: load(get(), 1, Way::KeepAlive), connections: 1_000 },
            own: false,
        },
        Case {
            name: "idle-edges-100",
            layout: http1,
            kind: Kind::Idle { load: load(edges(100), 1, Way::KeepAlive), connections: 1_000 },
            own: true,
        },
        Case {
            name: "burst",
            layout: http1,
            kind: Kind::Burst {
                before: load(get(), 50, Way::KeepAlive),
                burst: load(vec![Request::bare("/bytes/65536")], 500, Way::KeepAlive),
            },
            own: false,
        },
    ]
}

fn load(requests: Vec<Request>, connections: usize, way: Way) -> Load {
    Load { requests, connections, way }
}
