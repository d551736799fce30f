//! Asks a live analyzer, or one that shows a recording. One connection per question: the commands ask once and end.

use std::borrow::Cow;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use couplet_analyzer::Running;
use couplet_analyzer::slots::SlidingWindow;
use couplet_config::{AnalyzerConfig, HttpUrl, Target};
use couplet_telemetry::names::ports;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::header::{ACCEPT, HOST, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::exit::{Failure, Fault};

/// Which analyzer to ask.
#[derive(Debug, clap::Args)]
pub(crate) struct LiveArgs {
    /// The analyzer to ask
    #[arg(long, value_name = "URL", env = "COUPLET_ANALYZER", default_value_t = default_analyzer())]
    analyzer: HttpUrl,
}

/// Which analyzer to ask, or which recording.
#[derive(Debug, clap::Args)]
pub(crate) struct AnalyzerArgs {
    #[command(flatten)]
    live: LiveArgs,

    /// A recording to look into, instead of asking a live analyzer: a file of `couplet record`, or a history
    #[arg(long, value_name = "FILE")]
    recording: Option<PathBuf>,
}

/// Which analyzer to ask, or which recording, and about which time.
#[derive(Debug, clap::Args)]
pub(crate) struct WindowArgs {
    #[command(flatten)]
    analyzer: AnalyzerArgs,

    /// Look at the latest stretch of time only: 1m, 15m, 1h or 24h
    #[arg(long, value_name = "LENGTH")]
    window: Option<SlidingWindow>,
}

impl LiveArgs {
    /// A client of that analyzer.
    pub(crate) fn client(&self) -> Client {
        Client::new(self.analyzer.clone())
    }
}

impl AnalyzerArgs {
    /// A client of that analyzer, or of one that shows the recording.
    pub(crate) fn client(&self) -> Client {
        match &self.recording {
            Some(file) => Client::of_recording(file),
            None => self.live.client(),
        }
    }
}

impl WindowArgs {
    /// A client of that analyzer, or of one that shows the recording, whose questions are about that time.
    pub(crate) fn client(&self) -> Client {
        Client { window: self.window, ..self.analyzer.client() }
    }
}

/// The analyzer on this machine, at its usual port.
pub(crate) fn default_analyzer() -> HttpUrl {
    let authority = Target { host: Ipv4Addr::LOCALHOST.to_string(), port: ports::ANALYZER };
    HttpUrl::http(authority)
}

/// What an analyzer says about a question that it cannot answer.
#[derive(Debug, serde::Deserialize)]
struct Problem {
    error: String,
}

/// A live analyzer.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    url: HttpUrl,
    /// The analyzer that shows a recording to this command alone, or why there is none.
    shown: Option<Result<Arc<Running>, String>>,
    /// The time that every question is about.
    window: Option<SlidingWindow>,
}

impl Client {
    /// The analyzer at `url`.
    pub(crate) fn new(url: HttpUrl) -> Self {
        Self { url, shown: None, window: None }
    }

    /// An analyzer of one's own that shows a recording: so every question can be asked of one.
    fn of_recording(file: &Path) -> Self {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let config = AnalyzerConfig { listen, recording: Some(file.to_owned()), ..AnalyzerConfig::default() };
        let shown = couplet_analyzer::start(config).map(Arc::new).map_err(|error| error.to_string());
        let port = shown.as_ref().map_or(0, |running| running.address().port());
        let authority = Target { host: Ipv4Addr::LOCALHOST.to_string(), port };
        Self { url: HttpUrl { https: false, authority, path: String::new() }, shown: Some(shown), window: None }
    }

    /// The JSON document at `path`, which begins with `/`. Blocks for [`ANSWER_WITHIN`] at most.
    pub(crate) fn read<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let body = runtime.block_on(self.get(path))?;
        Ok(serde_json::from_slice(&body)
            .map_err(|error| self.no_analyzer(path, &format!("unreadable JSON: {error}")))?)
    }

    /// The JSON answer to a question that may be put wrongly: the analyzer's own words about what is wrong with it are
    /// the failure then.
    pub(crate) fn ask<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (status, body) = runtime.block_on(self.exchange(path))?;
        if status == StatusCode::OK {
            return Ok(serde_json::from_slice(&body)
                .map_err(|error| self.no_analyzer(path, &format!("unreadable JSON: {error}")))?);
        }
        let problem: Option<Problem> = serde_json::from_slice(&body).ok();
        Err(match problem {
            Some(problem) if status.is_client_error() => {
                Fault::Input.because(problem.error.chars().filter(|c| !c.is_control()).take(300).collect::<String>())
            }
            _ => self.no_analyzer(path, &format!("{status} {}", first_line(&body))),
        }
        .into())
    }

    /// The body of the answer 200 at `path`; every other answer is a failure.
    pub(crate) async fn get(&self, path: &str) -> Result<Bytes, Failure> {
        match self.exchange(path).await? {
            (StatusCode::OK, body) => Ok(body),
            (status, body) => Err(self.no_analyzer(path, &format!("{status} {}", first_line(&body)))),
        }
    }

    async fn exchange(&self, path: &str) -> Result<(StatusCode, Bytes), Failure> {
        if self.url.https {
            return Err(self.unreachable("this command speaks http:// alone"));
        }
        if let Some(Err(problem)) = &self.shown {
            return Err(Fault::Input.because(problem));
        }
        let stream = match timeout(CONNECT_WITHIN, self.connect()).await {
            Err(_) => return Err(self.unreachable(&format!("no connection within {CONNECT_WITHIN:?}"))),
            Ok(Err(error)) => return Err(self.unreachable(&cause(&error))),
            Ok(Ok(stream)) => stream,
        };
        let path_and_query = format!("{}{}", self.url.path, self.within(path));
        match timeout(ANSWER_WITHIN, exchange(stream, &self.url.authority, &path_and_query)).await {
            Err(_) => Err(self.unreachable(&format!("no answer within {ANSWER_WITHIN:?}"))),
            Ok(Err(error)) => Err(self.no_analyzer(path, &error.to_string())),
            Ok(Ok(answer)) => Ok(answer),
        }
    }

    /// `path` with the time that the question is about.
    fn within<'a>(&self, path: &'a str) -> Cow<'a, str> {
        let Some(window) = self.window else { return path.into() };
        let separator = if path.contains('?') { '&' } else { '?' };
        format!("{path}{separator}window={window}").into()
    }

    async fn connect(&self) -> std::io::Result<TcpStream> {
        TcpStream::connect((self.url.authority.host.as_str(), self.url.authority.port)).await
    }

    fn unreachable(&self, why: &str) -> Failure {
        Fault::Analyzer.because(format_args!(
            "no analyzer at {}: {why}\n  \
             start one with `couplet analyzer`, or name another with --analyzer URL or the variable COUPLET_ANALYZER",
            self.url
        ))
    }

    fn no_analyzer(&self, path: &str, why: &str) -> Failure {
        Fault::Analyzer.because(format_args!(
            "{}{path} does not answer like a Couplet analyzer: {why}\n  \
             name the right one with --analyzer URL or the variable COUPLET_ANALYZER",
            self.url
        ))
    }
}

/// Asks `host`, to which `stream` leads, for `path`.
pub(crate) async fn exchange(stream: TcpStream, host: &Target, path: &str) -> Result<(StatusCode, Bytes), BoxError> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get(path)
        .header(HOST, host.to_string())
        .header(ACCEPT, "application/json")
        .header(USER_AGENT, concat!("couplet/", env!("CARGO_PKG_VERSION")))
        .body(Empty::<Bytes>::new())?;
    let answer = async {
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, MAX_BODY_BYTES).collect().await?.to_bytes();
        Ok::<_, BoxError>((head.status, body))
    };
    let mut connection = std::pin::pin!(connection);
    let mut answer = std::pin::pin!(answer);
    tokio::select! {
        answer = &mut answer => answer,
        // The connection may end first, with the answer in hand already.
        ended = &mut connection => { ended?; answer.await }
    }
}

pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A text as part of a path or query: everything but letters, digits and a few signs is escaped.
pub(crate) fn query(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => escaped.push(byte.into()),
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

/// What the operating system says, without its number.
pub(crate) fn cause(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

/// As much of an answer as helps to see who gave it.
pub(crate) fn first_line(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body.get(..body.len().min(400)).unwrap_or_default());
    text.lines().next().unwrap_or_default().chars().filter(|c| !c.is_control()).take(100).collect()
}

const CONNECT_WITHIN: Duration = Duration::from_secs(3);
/// Longest time an analyzer may take to answer one question.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(15);
/// A document with every service, edge and finding that an analyzer keeps at most fits in this.
const MAX_BODY_BYTES: usize = 512 * 1024 * 1024;
