//! The control side's HTTP client: small requests to the analyzer, one after another, on one kept connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use couplet_config::{AnalyzerLink, Target};
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use thiserror::Error;

use crate::resolve::{Answer, Directory, Question};
use crate::stream::connect;
use crate::tls;

/// Longest answer that is read.
const MAX_ANSWER: usize = 1024 * 1024;
/// From connecting to the last byte of the answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Talks to one analyzer.
pub(crate) struct Client {
    link: AnalyzerLink,
    directory: Arc<Directory>,
    /// Mark of its packets, where they need one.
    mark: Option<u32>,
    connection: Option<SendRequest<Full<Bytes>>>,
}

/// Why there is no answer.
#[derive(Debug, Error)]
pub(crate) enum ClientError {
    #[error("the name {0} has no address")]
    Name(String),
    #[error("no connection: {0}")]
    Connect(#[from] std::io::Error),
    #[error("no TLS: {0}")]
    Tls(String),
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
    /// Talks to the analyzer behind `link`, whose name `directory` resolves.
    pub(crate) fn new(link: AnalyzerLink, directory: Arc<Directory>, mark: Option<u32>) -> Self {
        Self { link, directory, mark, connection: None }
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
        let mut stream = Err(std::io::Error::from(std::io::ErrorKind::AddrNotAvailable));
        for address in self.addresses().await? {
            stream = connect(address, self.mark).await;
            if stream.is_ok() {
                break;
            }
        }
        let stream = stream?;
        let _ = stream.set_nodelay(true); // A socket that refuses still works.
        let stream = match self.link.url.https {
            true => tls::https(&self.link, stream).await.map_err(ClientError::Tls)?,
            false => stream.into(),
        };
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(sender)
    }

    /// Where the analyzer is. Its name is asked for as those of upstreams are: the resolver of the C library would need
    /// plug-ins that a static program cannot load.
    async fn addresses(&self) -> Result<Vec<SocketAddr>, ClientError> {
        let Target { host, port } = &self.link.url.authority;
        if let Ok(ip) = host.parse() {
            return Ok(vec![SocketAddr::new(ip, *port)]);
        }
        let unknown = || ClientError::Name(host.clone());
        let question = Question::Host { name: host.clone(), port: *port };
        let mut answer = self.directory.subscribe(&question).ok_or_else(unknown)?;
        match answer.wait_for(|answer| *answer != Answer::Pending).await.as_deref() {
            Ok(Answer::Known(found)) => Ok(found.iter().map(|found| found.address).collect()),
            _ => Err(unknown()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::resolve::{Addresses, Found, NotFound, Scripted};

    fn client(answer: Result<Addresses, NotFound>) -> Client {
        let directory = Directory::new(Scripted::new(vec![answer]), Arc::default());
        tokio::spawn(Arc::clone(&directory).run());
        let authority = Target { host: "analyzer.test".to_owned(), port: 1 };
        Client::new(AnalyzerLink::new(couplet_config::HttpUrl::http(authority)), directory, None)
    }

    fn found(priority: u16, address: SocketAddr) -> Found {
        Found { priority, address, weight: 1 }
    }

    #[tokio::test]
    async fn the_analyzer_is_found_by_its_name_and_every_address_of_it_is_tried() {
        let dead = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let found = vec![found(0, dead), found(1, listener.local_addr().unwrap())];
        let mut client = client(Ok(Addresses { found, ttl: Duration::from_secs(60) }));
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
            String::from_utf8(head).unwrap()
        };
        let (answer, head) = tokio::join!(client.request(Method::GET, "/", None, Bytes::new()), server);
        assert_eq!(answer.unwrap().0, StatusCode::NO_CONTENT);
        assert!(head.contains("host: analyzer.test:1\r\n"), "{head}");
    }

    #[tokio::test]
    async fn an_analyzer_without_an_address_is_named() {
        let answer = client(Err(NotFound::Absent(None))).request(Method::GET, "/", None, Bytes::new()).await;
        assert_eq!(answer.unwrap_err().to_string(), "the name analyzer.test has no address");
    }
}
