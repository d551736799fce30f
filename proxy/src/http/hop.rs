//! Header fields that belong to one hop (RFC 9110, section 7.6.1) and must not pass.

use http::HeaderMap;
use http::header::{self, HeaderName};

/// Fields that are hop-by-hop whether `Connection` lists them or not.
const ALWAYS: [HeaderName; 7] = [
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// Fields that `Connection` may name without effect: without them a message would mean something else.
const NEVER: [HeaderName; 3] = [header::HOST, header::CONTENT_LENGTH, HeaderName::from_static("traceparent")];

/// Whether the message asks to change the protocol of its connection, and to which: the value of `Upgrade`.
pub(crate) fn wants_upgrade(headers: &HeaderMap) -> Option<http::HeaderValue> {
    let asked = listed(headers).any(|name| name.eq_ignore_ascii_case("upgrade"));
    headers.get(header::UPGRADE).filter(|_| asked).cloned()
}

/// Removes every hop-by-hop field. `TE: trailers` stays: trailers are forwarded.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(header::CONNECTION) {
        let named: Vec<HeaderName> = listed(headers).filter_map(|name| name.parse().ok()).collect();
        for name in named.iter().filter(|name| !NEVER.contains(name)) {
            headers.remove(name);
        }
    }
    for name in &ALWAYS {
        headers.remove(name);
    }
    if let Some(te) = headers.get(header::TE)
        && !te.as_bytes().eq_ignore_ascii_case(b"trailers")
    {
        headers.remove(header::TE);
    }
}

fn listed(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    fn names(headers: &HeaderMap) -> Vec<&str> {
        headers.keys().map(HeaderName::as_str).collect()
    }

    #[test]
    fn what_connection_lists_goes_and_the_rest_stays() {
        let mut headers = headers(&[
            ("host", "a"),
            ("connection", "close, X-Secret, Host"),
            ("x-secret", "1"),
            ("x-kept", "2"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("te", "trailers"),
        ]);
        strip_hop_by_hop(&mut headers);
        assert_eq!(names(&headers), ["host", "x-kept", "te"]);
    }

    #[test]
    fn te_with_anything_but_trailers_goes() {
        let mut headers = headers(&[("te", "gzip, trailers")]);
        strip_hop_by_hop(&mut headers);
        assert!(headers.is_empty());
    }

    #[test]
    fn an_upgrade_needs_both_fields() {
        assert!(wants_upgrade(&headers(&[("upgrade", "websocket")])).is_none());
        assert!(wants_upgrade(&headers(&[("connection", "upgrade")])).is_none());
        assert!(wants_upgrade(&headers(&[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")])).is_some());
    }
}
