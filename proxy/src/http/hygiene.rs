//! What a head that came over HTTP/2 must be like before anything is decided on it (RFC 9113, section 8). The library
//! refuses upper-case names, fields of one connection, pseudo-headers that are unknown, repeated or out of place;
//! this is what it lets pass.

use http::uri::Authority;
use http::{HeaderMap, Method, StatusCode, header, request, response};

use crate::error::Fault;
use crate::http1::resembles_framing;

/// Checks a request.
///
/// # Errors
/// The fault to answer with, and what is wrong.
pub(crate) fn check_request(parts: &request::Parts, max_fields: usize) -> Result<(), (Fault, &'static str)> {
    if parts.headers.len() > max_fields {
        return Err((Fault::HeaderFields, ""));
    }
    if parts.method == Method::CONNECT {
        return Err((Fault::BadRequest, "CONNECT is taken over HTTP/1.1 by the explicit listener only"));
    }
    target(parts)
        .and_then(|()| authority(parts))
        .and_then(|()| fields(&parts.headers))
        .and_then(|()| names(&parts.headers))
        .map_err(|why| (Fault::Malformed, why))
}

/// Checks a response.
///
/// # Errors
/// What is wrong.
pub(crate) fn check_response(parts: &response::Parts, max_fields: usize) -> Result<(), &'static str> {
    if parts.headers.len() > max_fields {
        return Err("more header fields than limits.header_fields allows");
    }
    if !(200..=599).contains(&parts.status.as_u16()) {
        return Err("no status that ends a response");
    }
    fields(&parts.headers)
}

/// Checks an interim response. It switches nothing (RFC 9113, section 8.6).
///
/// # Errors
/// What is wrong.
pub(crate) fn check_interim(parts: &response::Parts, max_fields: usize) -> Result<(), &'static str> {
    if parts.headers.len() > max_fields {
        return Err("more header fields than limits.header_fields allows");
    }
    if !parts.status.is_informational() || parts.status == StatusCode::SWITCHING_PROTOCOLS {
        return Err("no status that another response follows");
    }
    if parts.headers.contains_key(header::CONTENT_LENGTH) {
        return Err("a Content-Length where there is no content");
    }
    fields(&parts.headers)
}

fn target(parts: &request::Parts) -> Result<(), &'static str> {
    let target = parts.uri.path_and_query().map_or("", |target| target.as_str());
    if target == "*" && parts.method == Method::OPTIONS {
        return Ok(());
    }
    if !target.starts_with('/') {
        return Err("the path does not begin with a slash");
    }
    let graphic = target.bytes().all(|byte| byte.is_ascii_graphic());
    graphic.then_some(()).ok_or("the path has bytes that a path may not have")
}

fn authority(parts: &request::Parts) -> Result<(), &'static str> {
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err("more than one Host");
    }
    let named = match host {
        None => None,
        Some(host) => Some(Authority::try_from(host.as_bytes()).map_err(|_| "Host is no authority")?),
    };
    match (parts.uri.authority(), &named) {
        (None, None) => Err("neither :authority nor Host"),
        (Some(authority), Some(host)) if authority != host => Err(":authority and Host differ"),
        (Some(authority), _) | (None, Some(authority)) if authority.as_str().contains('@') => {
            Err("user information has no place in an authority")
        }
        _ => Ok(()),
    }
}

fn fields(headers: &HeaderMap) -> Result<(), &'static str> {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    if let Some(length) = lengths.next() {
        let digits = length.as_bytes().iter().all(u8::is_ascii_digit);
        let length = length.to_str().ok().and_then(|length| length.parse::<u64>().ok());
        if !digits || length.is_none_or(|length| length > i64::MAX as u64) {
            return Err("Content-Length is no number");
        }
    }
    if lengths.next().is_some() {
        return Err("more than one Content-Length");
    }
    let padded = |value: &http::HeaderValue| {
        let bytes = value.as_bytes();
        [bytes.first(), bytes.last()].into_iter().flatten().any(|byte| matches!(byte, b' ' | b'\t'))
    };
    if headers.values().any(padded) {
        return Err("a field value begins or ends with white space");
    }
    Ok(())
}

/// Of requests alone: what a service answers is read by clients, and few of them make variables of names.
fn names(headers: &HeaderMap) -> Result<(), &'static str> {
    let resembling = headers.keys().any(|name| resembles_framing(name.as_str().as_bytes()));
    if resembling { Err("a field name that could be taken for one of framing") } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use http::{Request, Response};

    use super::*;

    fn verdict(uri: &str, fields: &[(&'static str, &'static str)]) -> Result<(), (Fault, &'static str)> {
        let mut request = Request::get(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        check_request(&request.body(()).unwrap().into_parts().0, 5)
    }

    #[test]
    fn a_plain_request_is_in_order() {
        assert_eq!(verdict("http://shop/", &[("content-length", "5")]), Ok(()));
        assert_eq!(verdict("/", &[("host", "shop:80")]), Ok(()));
        assert_eq!(verdict("http://Shop/", &[("host", "shop")]), Ok(()));
    }

    #[test]
    fn whoever_could_read_another_request_gets_none() {
        let cases: [(&str, &[(&str, &str)]); 10] = [
            ("/", &[]),
            ("http://shop/", &[("host", "other")]),
            ("/", &[("host", "a"), ("host", "a")]),
            ("/", &[("host", "a/b")]),
            ("http://user@shop/", &[]),
            ("http://shop/", &[("content-length", "5"), ("content-length", "5")]),
            ("http://shop/", &[("content-length", "+5")]),
            ("http://shop/", &[("content-length", "9223372036854775808")]),
            ("http://shop/", &[("x", " padded")]),
            ("http://shop/", &[("content_length", "5")]),
        ];
        for (uri, fields) in cases {
            assert_eq!(verdict(uri, fields).unwrap_err().0, Fault::Malformed, "{uri} {fields:?}");
        }
        let many = [("a", "1"), ("b", "1"), ("c", "1"), ("d", "1"), ("e", "1"), ("f", "1")];
        assert_eq!(verdict("http://shop/", &many).unwrap_err().0, Fault::HeaderFields);
    }

    #[test]
    fn an_interim_response_announces_another_one_and_has_no_content() {
        let check = |status, fields: &[(&'static str, &'static str)]| {
            let mut response = Response::builder().status(status);
            for (name, value) in fields {
                response = response.header(*name, *value);
            }
            check_interim(&response.body(()).unwrap().into_parts().0, 5).is_ok()
        };
        assert!(check(100, &[]) && check(103, &[("link", "</style.css>; rel=preload")]));
        assert!(!check(101, &[]) && !check(200, &[]));
        assert!(!check(103, &[("content-length", "0")]) && !check(103, &[("x", " padded")]));
    }

    #[test]
    fn a_response_must_end_the_exchange() {
        let check = |status| {
            let response = Response::builder().status(status).body(()).unwrap();
            check_response(&response.into_parts().0, 5).is_ok()
        };
        assert!([200, 304, 599].into_iter().all(check));
        assert!(![101, 199, 600, 999].into_iter().any(check));
    }
}
