//! Header fields that belong to one hop (RFC 9110, section 7.6.1) and must not pass; and those between two proxies.

use couplet_telemetry::names::{CONTEXT_HEADER, REJECT_HEADER, SUMMARY_HEADER};
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Uri};

const CONTEXT: HeaderName = HeaderName::from_static(CONTEXT_HEADER);
const SUMMARY: HeaderName = HeaderName::from_static(SUMMARY_HEADER);
const REJECT: HeaderName = HeaderName::from_static(REJECT_HEADER);

/// Fields that are hop-by-hop whether `Connection` lists them or not. Nobody but a proxy may say what the last two
/// say, and only to the next one.
const ALWAYS: [HeaderName; 11] = [
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("http2-settings"),
    CONTEXT,
    SUMMARY,
    REJECT,
];

/// Whether a field belongs to one hop by its name alone, or says what is to pass beyond it.
fn is_hop_by_hop(name: &HeaderName) -> bool {
    // Names of other lengths are most names.
    matches!(name.as_str().len(), 2 | 7 | 10 | 14..=19) && (*name == header::TE || ALWAYS.contains(name))
}

/// Fields that `Connection` may name without effect: without them a message would mean something else. `TE` is cut
/// down to what is true of the next hop as well.
const NEVER: [HeaderName; 4] =
    [header::HOST, header::CONTENT_LENGTH, header::TE, HeaderName::from_static("traceparent")];

/// Whether the message asks to change the protocol of its connection. HTTP/2 is not offered by that way (RFC 9113
/// took it back): the request is answered as what it is, HTTP/1.1.
pub(crate) fn wants_upgrade(headers: &HeaderMap) -> bool {
    if !headers.contains_key(header::CONNECTION) {
        return false;
    }
    let asked = listed(headers).any(|name| name.eq_ignore_ascii_case("upgrade"));
    let to_http2 = |value: &HeaderValue| {
        let protocols = value.as_bytes().split(|byte| *byte == b',');
        protocols.map(<[u8]>::trim_ascii).any(|protocol| protocol.eq_ignore_ascii_case(b"h2c"))
    };
    asked && headers.contains_key(header::UPGRADE) && !headers.get_all(header::UPGRADE).iter().any(to_http2)
}

/// Whether any field is one of a hop, or says what only the next proxy may say: where none is, nobody need look for one.
pub(crate) fn has_hop_by_hop(headers: &HeaderMap) -> bool {
    headers.keys().any(is_hop_by_hop)
}

/// Takes off every hop-by-hop field and leaves the others in their order. `TE: trailers` stays: trailers are
/// forwarded. So does `Transfer-Encoding: chunked`: the next hop's body is chunked as well. For an `upgrade` the two
/// fields that ask for it stay.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap, upgrade: bool) {
    if !has_hop_by_hop(headers) {
        return;
    }
    let named: Vec<HeaderName> = if headers.contains_key(header::CONNECTION) {
        listed(headers).filter_map(|name| name.parse().ok()).filter(|name| !NEVER.contains(name)).collect()
    } else {
        Vec::new()
    };
    let chunked = is_only(headers, &header::TRANSFER_ENCODING, b"chunked");
    let trailers = headers.get_all(header::TE).iter().any(accepts_trailers);
    without(headers, |name| {
        let kept = upgrade && (name == header::CONNECTION || name == header::UPGRADE)
            || chunked && name == header::TRANSFER_ENCODING
            || trailers && name == header::TE;
        !kept && (ALWAYS.contains(name) || named.contains(name) || name == header::TE)
    });
    if upgrade {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    }
    if trailers && !is_only(headers, &header::TE, b"trailers") {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
}

/// Takes fields off and leaves the others in their order, in one pass: [`HeaderMap::remove`] would put the last field
/// in the place of the one that goes.
pub(crate) fn without(headers: &mut HeaderMap, gone: impl Fn(&HeaderName) -> bool) {
    // How many go, and how many of them stand behind all that stay.
    let (mut going, mut last) = (0, 0);
    for name in headers.keys() {
        let goes = gone(name);
        going += usize::from(goes);
        last = if goes { last + 1 } else { 0 };
    }
    if going == 0 {
        return;
    }
    if going == 1 && last == 1 {
        if let Some(name) = headers.keys().last().cloned() {
            headers.remove(name);
        }
        return;
    }
    let all = std::mem::take(headers);
    headers.reserve(all.keys_len());
    let mut last = None;
    for (name, value) in all {
        if let Some(name) = name {
            last = (!gone(&name)).then_some(name);
        }
        if let Some(name) = &last {
            headers.append(name.clone(), value);
        }
    }
}

/// Fields that frame, route or authorise a message mean nothing behind its body (RFC 9110, section 6.5.1), and must
/// not reach anybody who merges them into the head.
pub(crate) fn clean_trailers(trailers: &mut HeaderMap) {
    const NOT_BEHIND: [HeaderName; 7] = [
        header::CONTENT_LENGTH,
        header::HOST,
        header::TE,
        header::TRAILER,
        header::AUTHORIZATION,
        header::CONTENT_ENCODING,
        header::CONTENT_RANGE,
    ];
    without(trailers, |name| ALWAYS.contains(name) || NOT_BEHIND.contains(name));
}

/// Brings an absolute target into the form that a server expects: path and query, with the authority as `Host`,
/// whatever stood there (RFC 9112, section 3.2.2).
pub(crate) fn origin_form(method: &Method, uri: &mut Uri, headers: &mut HeaderMap) {
    let Some(authority) = uri.authority() else {
        return;
    };
    let named = method == Method::CONNECT && headers.contains_key(header::HOST);
    if let Ok(host) = HeaderValue::from_str(authority.as_str())
        && !named
    {
        headers.insert(header::HOST, host);
    }
    if method == Method::CONNECT {
        return;
    }
    let mut parts = http::uri::Parts::default();
    let target = uri.path_and_query().cloned();
    parts.path_and_query = Some(target.unwrap_or_else(|| http::uri::PathAndQuery::from_static("/")));
    if let Ok(origin) = Uri::from_parts(parts) {
        *uri = origin;
    }
}

fn is_only(headers: &HeaderMap, name: &HeaderName, word: &[u8]) -> bool {
    let mut values = headers.get_all(name).iter();
    values.next().is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(word)) && values.next().is_none()
}

fn accepts_trailers(value: &HeaderValue) -> bool {
    value.as_bytes().split(|byte| *byte == b',').any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"))
}

fn listed(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_of_one_hop_is_known_by_the_length_of_its_name_and_the_name() {
        assert!(ALWAYS.iter().chain([&header::TE]).all(is_hop_by_hop));
        assert!(![header::HOST, header::CONTENT_LENGTH, header::USER_AGENT, header::DATE].iter().any(is_hop_by_hop));
    }

    #[test]
    fn the_last_field_goes_and_the_others_stay_where_they_are() {
        for gone in ["a", "b", "c"] {
            let mut fields = headers(&[("a", "1"), ("b", "2"), ("a", "3"), ("c", "4"), ("c", "5")]);
            let kept: Vec<_> = super::tests::fields(&fields)
                .into_iter()
                .filter(|(name, _)| *name != gone)
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect();
            without(&mut fields, |name| name == gone);
            let left: Vec<_> = super::tests::fields(&fields)
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect();
            assert_eq!(left, kept);
        }
    }

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    fn fields(headers: &HeaderMap) -> Vec<(&str, &str)> {
        headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect()
    }

    #[test]
    fn what_connection_lists_goes_and_the_rest_stays_in_its_order() {
        let mut headers = headers(&[
            ("host", "a"),
            ("connection", "close, X-Secret, Host, TE"),
            ("x-secret", "1"),
            ("x-kept", "2"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("couplet-context", "1;2"),
            ("te", "trailers"),
            ("x-last", "3"),
            ("x-kept", "4"),
        ]);
        strip_hop_by_hop(&mut headers, false);
        let kept = [
            ("host", "a"),
            ("x-kept", "2"),
            ("x-kept", "4"),
            ("transfer-encoding", "chunked"),
            ("te", "trailers"),
            ("x-last", "3"),
        ];
        assert_eq!(fields(&headers), kept);
    }

    #[test]
    fn te_says_of_trailers_only() {
        for (sent, kept) in [("gzip, trailers", Some("trailers")), ("gzip", None), ("Trailers", Some("Trailers"))] {
            let mut headers = headers(&[("te", sent)]);
            strip_hop_by_hop(&mut headers, false);
            assert_eq!(headers.get("te").map(|value| value.to_str().unwrap()), kept);
        }
    }

    #[test]
    fn an_upgrade_needs_both_fields_and_keeps_them() {
        assert!(!wants_upgrade(&headers(&[("upgrade", "websocket")])));
        assert!(!wants_upgrade(&headers(&[("connection", "upgrade")])));
        let mut asking = headers(&[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket"), ("x", "1")]);
        assert!(wants_upgrade(&asking));
        strip_hop_by_hop(&mut asking, true);
        assert_eq!(fields(&asking), [("connection", "upgrade"), ("upgrade", "websocket"), ("x", "1")]);
    }

    #[test]
    fn an_upgrade_to_http2_is_not_passed_on() {
        let mut headers = headers(&[
            ("connection", "Upgrade, HTTP2-Settings"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAMAAABkAAQAAP__"),
            ("host", "a"),
        ]);
        assert!(!wants_upgrade(&headers));
        strip_hop_by_hop(&mut headers, false);
        assert_eq!(fields(&headers), [("host", "a")]);
    }

    #[test]
    fn a_transfer_coding_other_than_chunked_goes() {
        let mut headers = headers(&[("transfer-encoding", "gzip, chunked")]);
        strip_hop_by_hop(&mut headers, false);
        assert!(headers.is_empty());
    }

    #[test]
    fn an_absolute_target_becomes_path_and_host() {
        let mut fields = headers(&[("host", "other"), ("x", "1")]);
        let mut uri: Uri = "http://shop:8080/orders?x=1".parse().unwrap();
        origin_form(&Method::GET, &mut uri, &mut fields);
        assert_eq!((uri.to_string().as_str(), &fields["host"]), ("/orders?x=1", &"shop:8080".parse().unwrap()));
        let mut uri: Uri = "shop:443".parse().unwrap();
        origin_form(&Method::CONNECT, &mut uri, &mut fields);
        assert_eq!(uri, "shop:443");
    }

    #[test]
    fn trailers_say_nothing_of_framing_or_routing() {
        let mut trailers = headers(&[("grpc-status", "0"), ("content-length", "5"), ("host", "b"), ("x-sum", "1")]);
        clean_trailers(&mut trailers);
        assert_eq!(fields(&trailers), [("grpc-status", "0"), ("x-sum", "1")]);
    }
}
