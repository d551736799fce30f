//! What holds for every request: names that pages of strangers could have made up are refused, and every answer tells
//! the browser how little it may do with it.

use std::net::IpAddr;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode, header, uri::Authority};

/// Headers of every answer. No inline script or style, nothing from elsewhere, no frame around it, no guessing of types.
const HEADERS: [(HeaderName, HeaderValue); 4] = [
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"),
    ),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
];

/// Puts the guard around `routes`, which are served on `address`.
pub(super) fn around(routes: Router, address: IpAddr) -> Router {
    let on_loopback = address.is_loopback();
    routes.layer(middleware::from_fn(move |request, next| pass(on_loopback, request, next)))
}

async fn pass(on_loopback: bool, request: Request, next: Next) -> Response {
    let mut response = if on_loopback && names_a_stranger(&request) { misdirected() } else { next.run(request).await };
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, value);
    }
    response
}

/// Whether a request that reached a loopback address was meant for another name.
///
/// A page of a stranger can let its own name point to 127.0.0.1 and then read what a browser takes for its own origin
/// ("DNS rebinding"); the name in the request gives it away. Tools that send no name are no browsers.
fn names_a_stranger(request: &Request) -> bool {
    let named = request.headers().get_all(header::HOST).iter().map(|value| Authority::try_from(value.as_bytes()).ok());
    let absolute = request.uri().authority().cloned().map(Some);
    named.chain(absolute).any(|authority| !authority.is_some_and(|authority| is_local(authority.host())))
}

fn is_local(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    name == "localhost"
        || name.ends_with(".localhost")
        || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

fn misdirected() -> Response {
    let text = "This analyzer listens on a loopback address and answers to localhost only. \
                To reach it under another name, let it listen on another address (--listen).\n";
    (StatusCode::MISDIRECTED_REQUEST, text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;

    fn stranger(uri: &str, host: Option<&str>) -> bool {
        let mut request = Request::builder().uri(uri);
        if let Some(host) = host {
            request = request.header(header::HOST, host);
        }
        names_a_stranger(&request.body(Body::empty()).unwrap())
    }

    #[test]
    fn only_names_of_this_machine_pass() {
        for host in [
            "localhost",
            "localhost:15400",
            "LOCALHOST.",
            "shop.localhost:1",
            "127.0.0.1:15400",
            "127.9.9.9",
            "[::1]:15400",
        ] {
            assert!(!stranger("/", Some(host)), "{host}");
        }
        for host in [
            "evil.example",
            "127.0.0.1.evil.example:15400",
            "localhost.evil.example",
            "10.0.0.1",
            "notlocalhost",
            "",
            "a b",
        ] {
            assert!(stranger("/", Some(host)), "{host}");
        }
    }

    #[test]
    fn the_name_in_the_target_counts_as_well_and_no_name_passes() {
        assert!(stranger("http://evil.example/", Some("localhost")));
        assert!(!stranger("http://localhost/", None));
        assert!(!stranger("/", None));
    }
}
