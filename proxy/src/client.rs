//! The control side's HTTP client: small requests to the analyzer, one after another, on one kept connection.

use std::time::Duration;

use bytes::Bytes;
use couplet_config::AnalyzerLink;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::net::TcpStream;

/// Longest answer that is read.
const MAX_ANSWER: usize = 1024 * 1024;
/// From connecting to the last byte of the answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Talks to one analyzer.
pub(crate) struct Client {
    link: AnalyzerLink,
    connection: Option<SendRequest<Full<Bytes>>>,
}

/// Why there is no answer.
#[derive(Debug, Error)]
pub(crate) enum ClientError {
    #[error("no connection: {0}")]
    Connect(#[from] std::io::Error),
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("the answer is too long or broke off")]
    Answer,
    #[error("no answer within {TIMEOUT:?}")]
    Timeout,
    #[error("the request could not be made: {0}")]
    Request(#[from] http::Error),
}

impl Client {
    pub(crate) fn new(link: AnalyzerLink) -> Self {
        Self { link, connection: None }
    }

    /// Where it talks to.
    pub(crate) fn url(&self) -> String {
        self.link.url.to_string()
    }

    /// Sends one request and reads the whole answer.
    ///
    /// # Errors
    /// Why there is none; the next request begins with a new connection then.
    pub(crate) async fn request(
        &mut self,
        method: Method,
        path: &str,
        content_type: Option<&'static str>,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), ClientError> {
        let result = tokio::time::timeout(TIMEOUT, self.exchange(method, path, content_type, body)).await;
        let result = result.unwrap_or(Err(ClientError::Timeout));
        if result.is_err() {
            self.connection = None;
        }
        result
    }

    async fn exchange(
        &mut self,
        method: Method,
        path: &str,
        content_type: Option<&'static str>,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), ClientError> {
        let url = &self.link.url;
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", url.path.trim_end_matches('/')))
            .header(header::HOST, url.authority.to_string())
            .header(header::USER_AGENT, concat!("couplet/", env!("CARGO_PKG_VERSION")));
        if let Some(content_type) = content_type {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        if let Some(token) = &self.link.token {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose())).map_err(http::Error::from)?;
            value.set_sensitive(true);
            request = request.header(header::AUTHORIZATION, value);
        }
        let request = request.body(Full::new(body))?;
        let mut connection = match self.connection.take().filter(|connection| !connection.is_closed()) {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        connection.ready().await?;
        let response = connection.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await.map_err(|_| ClientError::Answer)?;
        self.connection = Some(connection);
        Ok((status, body.to_bytes()))
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, ClientError> {
        let authority = &self.link.url.authority;
        let stream = TcpStream::connect((authority.host.as_str(), authority.port)).await?;
        let _ = stream.set_nodelay(true); // A socket that refuses still works.
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(sender)
    }
}
