//! TLS with whoever stands before the analyzer: an ordinary server.

use std::sync::Arc;

use couplet_config::AnalyzerLink;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::credentials::Files;
use super::settings::{ordinary, system_roots};
use super::{Failure, HTTP1};
use crate::stream::Stream;

/// Shakes hands on a new connection to the analyzer. There is seldom a new one, so the roots are read anew for each: a
/// file that has changed needs nobody to look at it.
///
/// # Errors
/// Why there is no TLS.
pub(crate) async fn https(link: &AnalyzerLink, stream: TcpStream) -> Result<Stream, String> {
    let (config, name) = (config(link)?, name(link)?);
    let connected = TlsConnector::from(Arc::new(config)).connect(name, Stream::from(stream)).await;
    connected.map(Stream::client).map_err(|error| Failure::of_io(&error).text)
}

/// Claims that the link can be used, as far as its files and its name go.
///
/// # Errors
/// Why it cannot.
pub(super) fn check(link: &AnalyzerLink) -> Result<(), String> {
    config(link)?;
    name(link).map(drop)
}

fn config(link: &AnalyzerLink) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let roots = match &link.roots {
        Some(path) => Files::one(path).roots(path)?,
        None => system_roots(),
    };
    let mut config = ordinary(Arc::new(roots), &provider).map_err(|problems| problems.join("; "))?;
    config.alpn_protocols = vec![HTTP1.to_vec()];
    Ok(config)
}

fn name(link: &AnalyzerLink) -> Result<ServerName<'static>, String> {
    let host = &link.url.authority.host;
    ServerName::try_from(host.clone()).map_err(|_| format!("no certificate can have the name {host}"))
}
