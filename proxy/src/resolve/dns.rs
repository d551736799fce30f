//! Asking DNS: addresses of hosts, `SRV` records of services. The hosts file has the first word.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use hickory_resolver::config::{LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::rr::RData;
use hickory_resolver::{Resolver as Hickory, TokioResolver};

use super::{Addresses, Found, NotFound, Question, Resolver, Resolving};

/// How long one name server may take before the next one is asked.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Targets of one service that are looked up.
const MAX_TARGETS: usize = 32;

/// The name servers that are asked; absent where the system names none and none were configured.
pub(crate) struct Dns(Option<TokioResolver>);

impl Dns {
    /// Asks `servers`, or those of the system where there are none. A system without any still has its hosts file.
    pub(crate) fn new(servers: &[SocketAddr]) -> Self {
        let provider = TokioRuntimeProvider::default();
        let builder = if servers.is_empty() {
            Hickory::builder(provider.clone()).unwrap_or_else(|error| {
                // Says nothing yet: most proxies need no names.
                tracing::debug!(%error, "the name servers of this system are not known; only its hosts file is asked");
                Hickory::builder_with_config(ResolverConfig::from_name_servers(Vec::new()), provider)
            })
        } else {
            let servers = servers.iter().copied().map(server).collect();
            Hickory::builder_with_config(ResolverConfig::from_name_servers(servers), provider)
        };
        let mut builder = builder;
        let options = builder.options_mut();
        options.timeout = TIMEOUT;
        options.attempts = 2;
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        options.use_hosts_file = ResolveHosts::Always;
        // Answers are kept for as long as they hold, and beyond where nobody answers, by who asks.
        options.cache_size = 0;
        let resolver = builder.build();
        if let Err(error) = &resolver {
            tracing::warn!(%error, "names cannot be resolved");
        }
        Self(resolver.ok())
    }

    async fn host(&self, name: &str, port: u16) -> Result<Addresses, NotFound> {
        // RFC 6761, section 6.3: not a matter for name servers.
        if name == "localhost" || name.ends_with(".localhost") {
            let both = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
            return Ok(Addresses { found: found(both.into_iter(), port), ttl: Duration::MAX });
        }
        let Some(resolver) = &self.0 else { return Err(NotFound::Unanswered("no resolver".to_owned())) };
        let answer = resolver.lookup_ip(name).await.map_err(not_found)?;
        let ttl = answer.valid_until().saturating_duration_since(Instant::now());
        Ok(Addresses { found: found(answer.iter(), port), ttl })
    }

    async fn service(&self, name: &str) -> Result<Addresses, NotFound> {
        let Some(resolver) = &self.0 else { return Err(NotFound::Unanswered("no resolver".to_owned())) };
        let answer = resolver.srv_lookup(name).await.map_err(not_found)?;
        let mut ttl = answer.valid_until().saturating_duration_since(Instant::now());
        let mut all = Vec::new();
        let mut failed = None;
        let targets = answer.answers().iter().filter_map(|record| match &record.data {
            RData::SRV(srv) => Some(srv),
            _ => None,
        });
        for srv in targets.take(MAX_TARGETS) {
            match self.host(&srv.target.to_ascii(), srv.port).await {
                Ok(addresses) => {
                    ttl = ttl.min(addresses.ttl);
                    let ranked = |found: Found| Found { priority: srv.priority, weight: srv.weight, ..found };
                    all.extend(addresses.found.into_iter().map(ranked));
                }
                Err(reason) => failed = Some(reason),
            }
        }
        match failed {
            Some(reason) if all.is_empty() => Err(reason),
            _ => Ok(Addresses { found: all, ttl }),
        }
    }
}

impl Resolver for Dns {
    fn resolve<'a>(&'a self, question: &'a Question) -> Resolving<'a> {
        match question {
            Question::Host { name, port } => Box::pin(self.host(name, *port)),
            Question::Service(name) => Box::pin(self.service(name)),
        }
    }
}

fn server(address: SocketAddr) -> NameServerConfig {
    let mut server = NameServerConfig::udp_and_tcp(address.ip());
    for connection in &mut server.connections {
        connection.port = address.port();
    }
    server
}

/// IPv6 comes second where a host has both: that a host has such an address does not say that we have a way to it.
fn found(addresses: impl Iterator<Item = IpAddr>, port: u16) -> Vec<Found> {
    let found = |ip: IpAddr| Found { priority: u16::from(ip.is_ipv6()), address: SocketAddr::new(ip, port), weight: 1 };
    addresses.map(found).collect()
}

fn not_found(error: NetError) -> NotFound {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) => {
            NotFound::Absent(none.negative_ttl.map(|seconds| Duration::from_secs(u64::from(seconds))))
        }
        error => NotFound::Unanswered(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resolver_can_be_made_before_there_is_a_runtime() {
        let dns = Dns::new(&["127.0.0.1:9".parse().unwrap()]);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let question = Question::Host { name: "localhost".to_owned(), port: 80 };
        let addresses = runtime.block_on(dns.resolve(&question)).unwrap();
        let addresses: Vec<_> =
            addresses.found.iter().map(|found| (found.priority, found.address.to_string())).collect();
        assert_eq!(addresses, [(0, "127.0.0.1:80".to_owned()), (1, "[::1]:80".to_owned())]);
    }
}
