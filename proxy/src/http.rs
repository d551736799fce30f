//! What the forwarding core knows of HTTP: a borrowed view of a message head, never a codec's own types.

mod body;
mod expectation;
mod grpc;
mod hop;
mod hygiene;
mod lent;
mod spare;

pub(crate) use body::{Broken, Failed, Frames, Incoming, RequestBody};
use expectation::Waiting;
pub(crate) use expectation::{Asking, Expectation};
pub(crate) use grpc::{Verdict, code_of, is_grpc, message, status_of};
use hop::clean_trailers;
pub(crate) use hop::{has_hop_by_hop, origin_form, strip_hop_by_hop, wants_upgrade, without};
pub(crate) use hygiene::{check_interim, check_request, check_response};
pub(crate) use lent::{Lender, Lent, lend};
pub(crate) use spare::Spare;

use couplet_telemetry::endpoint::Asked;
use http::{HeaderName, header};

/// What is spoken on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

impl Protocol {
    /// What a request of this version is sent as.
    pub(crate) fn of(version: http::Version) -> Self {
        if version == http::Version::HTTP_2 { Self::Http2 } else { Self::Http1 }
    }
}

/// Looks up header fields by name. The codecs implement it for their own forms.
pub(crate) trait Fields {
    /// The first value of a field. Names are constants: a text would be read anew for every request.
    fn first(&self, name: &HeaderName) -> Option<&[u8]>;
    /// Calls `each` with the lower-case name and the value of every field.
    fn all<'a>(&'a self, each: impl FnMut(&'a str, &'a [u8]));
    /// Every value of a field, in order.
    fn values<'a>(&'a self, name: &HeaderName) -> impl Iterator<Item = &'a [u8]>;
}

/// The head of a request.
pub(crate) struct Head<'a, F> {
    /// As it came, such as `GET`.
    pub(crate) method: &'a str,
    /// Path and query, `*`, or empty for CONNECT.
    pub(crate) target: &'a str,
    /// The header fields.
    pub(crate) fields: &'a F,
}

impl<F: Fields> Head<'_, F> {
    /// What of the request says which endpoint it asks for.
    pub(crate) fn asked(&self) -> Asked<'_> {
        let kind = self.fields.first(&header::CONTENT_TYPE).unwrap_or_default();
        Asked { method: self.method, target: self.target, grpc: kind.starts_with(b"application/grpc") }
    }
}

impl Fields for http::HeaderMap {
    fn first(&self, name: &HeaderName) -> Option<&[u8]> {
        self.get(name).map(http::HeaderValue::as_bytes)
    }

    fn all<'a>(&'a self, mut each: impl FnMut(&'a str, &'a [u8])) {
        self.iter().for_each(|(name, value)| each(name.as_str(), value.as_bytes()));
    }

    fn values<'a>(&'a self, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
        self.get_all(name).iter().map(http::HeaderValue::as_bytes)
    }
}

/// The view of a request that hyper has read.
pub(crate) fn head(parts: &http::request::Parts) -> Head<'_, http::HeaderMap> {
    Head {
        method: parts.method.as_str(),
        target: parts.uri.path_and_query().map_or("", |target| target.as_str()),
        fields: &parts.headers,
    }
}
