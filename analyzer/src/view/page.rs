//! The page: static files that are part of the program. They work offline, and nothing of them comes from elsewhere.

use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderMap, StatusCode, header};
use xxhash_rust::xxh3::xxh3_64;

use super::Desk;

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// Lists the files in `ui/` with their media types.
macro_rules! files {
    ($($media_type:ident: $($name:literal)+;)+) => {
        &[$($(File { name: $name, media_type: $media_type, bytes: include_bytes!(concat!("../../ui/", $name)) },)+)+]
    };
}

static FILES: &[File] = files! {
    HTML: "index.html";
    CSS: "style.css";
    SCRIPT: "api.js" "app.js" "chains.js" "details.js" "dom.js" "empty.js" "findings.js" "format.js" "graph.js" "keys.js" "layout.js" "marks.js" "opaque.js" "route.js" "spotlight.js" "state.js" "theme.js" "tip.js" "viewport.js";
    SVG: "favicon.svg";
};

/// The file at `/`.
const INDEX: &str = "index.html";

struct File {
    name: &'static str,
    media_type: &'static str,
    bytes: &'static [u8],
}

/// A tag per file, by which a browser finds out that it already has this very one.
static TAGS: LazyLock<Vec<String>> =
    LazyLock::new(|| FILES.iter().map(|file| format!("\"{:016x}\"", xxh3_64(file.bytes))).collect());

pub(super) fn routes() -> Router<Arc<Desk>> {
    Router::new()
        .route("/", get(|headers: HeaderMap| async move { serve(INDEX, &headers) }))
        .route("/{file}", get(|Path(name): Path<String>, headers: HeaderMap| async move { serve(&name, &headers) }))
}

fn serve(name: &str, headers: &HeaderMap) -> Response {
    let Some((file, tag)) = FILES.iter().zip(TAGS.iter()).find(|(file, _)| file.name == name) else {
        return nothing();
    };
    // A new release must show at once, so the browser asks every time; the answer is mostly "not modified".
    let caching = [(header::CACHE_CONTROL, "no-cache"), (header::ETAG, tag.as_str())];
    let known = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if known.split(',').any(|known| known.trim().trim_start_matches("W/") == tag) {
        return (StatusCode::NOT_MODIFIED, caching).into_response();
    }
    (caching, [(header::CONTENT_TYPE, file.media_type)], file.bytes).into_response()
}

/// The answer for paths that are none.
pub(super) fn nothing() -> Response {
    (StatusCode::NOT_FOUND, "there is nothing here; the page is at /\n").into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_file_of_the_page_is_embedded() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("ui");
        let there: BTreeSet<_> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        let embedded: BTreeSet<_> = FILES.iter().map(|file| file.name.to_owned()).collect();
        assert_eq!(embedded, there);
    }

    #[test]
    fn the_page_names_only_files_of_its_own() {
        for file in FILES {
            let text = String::from_utf8_lossy(file.bytes);
            // Names of namespaces are no addresses, and loopback addresses are examples of how to start a sidecar.
            let text = text.replace("http://www.w3.org/", "").replace("http://127.0.0.1", "");
            for word in ["http://", "https://", "src=\"//", "href=\"//", "<style", "style=\"", "javascript:", "eval("] {
                assert!(!text.contains(word), "{} has {word:?}", file.name);
            }
        }
    }
}
