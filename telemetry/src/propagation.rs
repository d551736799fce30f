//! What a service passes on: headers that name a request, by how often they come, leave and link; and with which HTTP
//! client it calls.

use std::collections::BTreeMap;

use crate::outcome::Links;

/// Most headers of one service.
pub const MAX_HEADERS: usize = 64;
/// Longest name of a header that is kept; one that arrives and leaves under two names has both.
pub const MAX_HEADER_BYTES: usize = 140;

/// How often a header came, left and linked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HeaderUse {
    /// Inbound requests that had it.
    pub inbound: u64,
    /// Calls that had it.
    pub outbound: u64,
    /// Calls that it linked to the request that made them.
    pub linked: u64,
}

/// What a service passes on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Propagation {
    /// By header.
    pub headers: BTreeMap<String, HeaderUse>,
    /// Calls by the HTTP client that made them, and how they were linked.
    pub clients: BTreeMap<Client, Links>,
}

impl Propagation {
    /// Whether nothing was seen.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.headers.is_empty() && self.clients.is_empty()
    }

    /// What is counted of a header; none when there are too many, or its name is too long.
    pub fn header(&mut self, name: &str) -> Option<&mut HeaderUse> {
        let room = self.headers.len() < MAX_HEADERS && (1..=MAX_HEADER_BYTES).contains(&name.len());
        if !self.headers.contains_key(name) && (!room || name.chars().any(char::is_control)) {
            return None;
        }
        Some(self.headers.entry(name.to_owned()).or_default())
    }

    /// Adds all of `other` for which there is room.
    pub fn merge(&mut self, other: &Self) {
        for (name, used) in &other.headers {
            if let Some(slot) = self.header(name) {
                slot.inbound = slot.inbound.saturating_add(used.inbound);
                slot.outbound = slot.outbound.saturating_add(used.outbound);
                slot.linked = slot.linked.saturating_add(used.linked);
            }
        }
        for (client, links) in &other.clients {
            self.clients.entry(*client).or_default().merge(links);
        }
    }
}

/// An HTTP client, by what it calls itself in `User-Agent`. A closed list: what to do about one that passes nothing on
/// depends on it, and nothing else does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names are those of the libraries")]
pub enum Client {
    Aiohttp,
    ApacheHttp,
    Axios,
    Curl,
    DotNet,
    Faraday,
    Go,
    GrpcC,
    GrpcDotNet,
    GrpcGo,
    GrpcJava,
    GrpcNode,
    GrpcPython,
    Guzzle,
    HttpX,
    Java,
    NodeFetch,
    Okhttp,
    ReactorNetty,
    Requests,
    Reqwest,
    Ruby,
    Undici,
    Urllib,
    /// It says nothing, as .NET's `HttpClient` and Node's `http` do.
    Silent,
    /// One that is not in the list.
    Other,
}

/// What the `User-Agent` of each begins with, in lower case; and its word.
const CLIENTS: [(Client, &str, &str); 26] = [
    (Client::Aiohttp, "python/", "aiohttp"),
    (Client::ApacheHttp, "apache-httpclient", "apache-httpclient"),
    (Client::Axios, "axios", "axios"),
    (Client::Curl, "curl", "curl"),
    (Client::DotNet, ".net", "dotnet"),
    (Client::Faraday, "faraday", "faraday"),
    (Client::Go, "go-http-client", "go"),
    (Client::GrpcC, "grpc-c", "grpc-c++"),
    (Client::GrpcDotNet, "grpc-dotnet", "grpc-dotnet"),
    (Client::GrpcGo, "grpc-go", "grpc-go"),
    (Client::GrpcJava, "grpc-java", "grpc-java"),
    (Client::GrpcNode, "grpc-node", "grpc-node"),
    (Client::GrpcPython, "grpc-python", "grpc-python"),
    (Client::Guzzle, "guzzle", "guzzle"),
    (Client::HttpX, "python-httpx", "httpx"),
    (Client::Java, "java", "java"),
    (Client::NodeFetch, "node-fetch", "node-fetch"),
    (Client::Okhttp, "okhttp", "okhttp"),
    (Client::ReactorNetty, "reactornetty", "reactor-netty"),
    (Client::Requests, "python-requests", "requests"),
    (Client::Reqwest, "reqwest", "reqwest"),
    (Client::Ruby, "ruby", "ruby"),
    (Client::Undici, "undici", "undici"),
    (Client::Urllib, "python-urllib", "urllib"),
    (Client::Silent, "", "silent"),
    (Client::Other, "\0", "other"),
];

impl Client {
    /// How many there are.
    pub const COUNT: usize = CLIENTS.len();

    /// All of them, in the order of their index.
    pub fn all() -> impl Iterator<Item = Self> {
        CLIENTS.iter().map(|(client, ..)| *client)
    }

    /// The client that calls itself so; `None` where a request does not say.
    #[must_use]
    pub fn of(user_agent: Option<&[u8]>) -> Self {
        let Some(agent) = user_agent.filter(|agent| !agent.is_empty()) else { return Client::Silent };
        // The first letter tells most of them apart.
        let first = agent.first().map(u8::to_ascii_lowercase);
        let begins = |with: &str| {
            let same = with.as_bytes().first().copied() == first;
            same && agent.get(..with.len()).is_some_and(|head| head.eq_ignore_ascii_case(with.as_bytes()))
        };
        // Node's own fetch says `node` and nothing else.
        if agent.eq_ignore_ascii_case(b"node") {
            return Client::Undici;
        }
        let found = CLIENTS.iter().find(|(_, begin, _)| !begin.is_empty() && begins(begin));
        found.map_or(Client::Other, |(client, ..)| *client)
    }

    /// The word for labels and the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        CLIENTS.get(self as usize).map_or("other", |(_, _, word)| word)
    }

    /// The client that [`Client::as_str`] prints as `word`; one that this release does not know is another one.
    #[must_use]
    pub fn parse(word: &str) -> Self {
        CLIENTS.iter().find(|(_, _, known)| *known == word).map_or(Client::Other, |(client, ..)| *client)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_client_stands_at_its_own_place_and_reads_back() {
        for (index, client) in Client::all().enumerate() {
            assert_eq!(client as usize, index, "{client:?}");
            assert_eq!(Client::parse(client.as_str()), client);
        }
        assert_eq!(Client::parse("of a later release"), Client::Other);
    }

    #[test]
    fn clients_are_told_by_what_they_call_themselves() {
        for (agent, client) in [
            ("python-requests/2.32.3", Client::Requests),
            ("Python/3.13 aiohttp/3.11.11", Client::Aiohttp),
            ("Python-urllib/3.13", Client::Urllib),
            ("Java-http-client/21.0.5", Client::Java),
            ("node", Client::Undici),
            ("node-fetch", Client::NodeFetch),
            ("Go-http-client/2.0", Client::Go),
            ("grpc-c++/1.66.0 grpc-c/43.0.0 (linux; chttp2)", Client::GrpcC),
            ("grpc-java-netty/1.68.1", Client::GrpcJava),
            ("Mozilla/5.0", Client::Other),
            ("\u{0}", Client::Other),
        ] {
            assert_eq!(Client::of(Some(agent.as_bytes())), client, "{agent}");
        }
        assert_eq!((Client::of(None), Client::of(Some(b""))), (Client::Silent, Client::Silent));
    }

    #[test]
    fn headers_beyond_the_limit_and_names_that_are_none_are_not_kept() {
        let mut propagation = Propagation::default();
        for n in 0..2 * MAX_HEADERS {
            if let Some(used) = propagation.header(&format!("x-{n}")) {
                used.inbound += 1;
            }
        }
        assert_eq!(propagation.headers.len(), MAX_HEADERS);
        for wrong in ["", "x\u{1b}[2J", &"x".repeat(MAX_HEADER_BYTES + 1)] {
            assert!(Propagation::default().header(wrong).is_none());
        }
    }
}
