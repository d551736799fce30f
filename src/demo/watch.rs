//! What the demo learns from the analyzer, over the same HTTP API that everybody uses.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use couplet_analyzer::{
    breakers::{BreakerEdge, BreakerPage},
    findings::{Finding, Severity},
    view::document::Document,
};
use http::{HeaderMap, Method};
use serde::Deserialize;
use tokio::time::Instant;

use super::http::Upstream;

/// A reader of the analyzer's API that remembers which findings it has seen.
#[derive(Debug)]
pub(crate) struct Watch {
    analyzer: Upstream,
    seen: BTreeMap<String, Severity>,
}

impl Watch {
    /// Watches the analyzer at `address`.
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { analyzer: Upstream::new(address), seen: BTreeMap::new() }
    }

    /// The findings that are new, or graver than before.
    ///
    /// # Errors
    /// The analyzer does not answer, or not with findings.
    pub(crate) async fn news(&mut self) -> anyhow::Result<Vec<Finding>> {
        #[derive(Deserialize)]
        struct Answer {
            findings: Vec<Finding>,
        }
        let body = self.get("/api/v1/findings").await?;
        let answer: Answer = serde_json::from_slice(&body).context("the analyzer's findings cannot be read")?;
        Ok(answer.findings.into_iter().filter(|finding| self.is_news(finding)).collect())
    }

    /// Whether a finding is new, or graver than before; it no longer is from here on.
    pub(crate) fn is_news(&mut self, finding: &Finding) -> bool {
        let known = self.seen.insert(finding.id.clone(), finding.severity);
        known.is_none_or(|known| finding.severity > known)
    }

    /// The document, once it shows every report that the analyzer has acknowledged. That two of them are the same does not
    /// say so: a machine that is busy may take long for the next one.
    ///
    /// # Errors
    /// The analyzer does not answer, not with a document, or not in time.
    pub(crate) async fn settled_document(&self, look_every: Duration) -> anyhow::Result<Document> {
        #[derive(Deserialize)]
        struct Status {
            lag_seconds: f64,
        }
        let deadline = Instant::now() + SETTLES_WITHIN;
        loop {
            let status: Status = serde_json::from_slice(&self.get("/api/v1/status").await?)
                .context("the analyzer's status cannot be read")?;
            if status.lag_seconds <= 0.0 {
                let document = self.get("/api/v1/document").await?;
                return serde_json::from_slice(&document).context("the analyzer's document cannot be read");
            }
            let late = status.lag_seconds;
            ensure!(Instant::now() < deadline, "the analyzer has not shown all reports after {late:.0} s");
            tokio::time::sleep(look_every).await;
        }
    }

    /// The breakers that opened, or would have.
    ///
    /// # Errors
    /// The analyzer does not answer, or not with breakers.
    pub(crate) async fn breakers(&self) -> anyhow::Result<Vec<BreakerEdge>> {
        let body = self.get("/api/v1/breakers").await?;
        let page: BreakerPage = serde_json::from_slice(&body).context("the analyzer's breakers cannot be read")?;
        Ok(page.edges.into_iter().filter(|edge| edge.opened > 0).collect())
    }

    async fn get(&self, path: &str) -> anyhow::Result<Bytes> {
        let reply = self.analyzer.send(&Method::GET, path, HeaderMap::new(), PATIENCE).await?;
        ensure!(reply.status == 200, "the analyzer answers {} to GET {path}", reply.status);
        Ok(reply.body)
    }
}

/// How long the analyzer may take for one answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long the last snapshot is waited for.
const SETTLES_WITHIN: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;

    /// An analyzer that shows all reports once it was asked about that often enough; and what it was asked for.
    fn analyzer(lags: &'static [f64]) -> (SocketAddr, std::thread::JoinHandle<Vec<String>>) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let serve = move || {
            let (mut lags, mut asked) = (lags.iter(), Vec::new());
            loop {
                let (mut stream, _) = listener.accept().unwrap();
                let mut head = [0; 1024];
                let length = stream.read(&mut head).unwrap();
                let target = String::from_utf8_lossy(&head[..length]).split(' ').nth(1).unwrap().to_owned();
                let shown = lags.as_slice().is_empty();
                let body = match target.as_str() {
                    "/api/v1/status" => format!("{{\"lag_seconds\":{:?}}}", lags.next().unwrap_or(&0.0)),
                    _ => DOCUMENT.replace("\"requests\":0", if shown { "\"requests\":100" } else { "\"requests\":98" }),
                };
                let length = body.len();
                write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
                    .unwrap();
                asked.push(target);
                if asked.last().unwrap().ends_with("document") {
                    return asked;
                }
            }
        };
        (address, std::thread::spawn(serve))
    }

    const DOCUMENT: &str = r#"{"version":1,"name":"","window":{"start":0.0,"end":1.0},"requests":0,
        "links":{"exact":0,"inferred":0,"unknown":0,"coverage":null},"services":[],"edges":[],"entries":[],"findings":[],"losses":{}}"#;

    #[tokio::test]
    async fn the_document_is_the_one_that_shows_every_report_however_long_that_takes() {
        let (address, asked) = analyzer(&[0.3, 0.8, 1.3, 1.8, 2.3]);
        let document = Watch::new(address).settled_document(Duration::from_millis(1)).await.unwrap();
        assert_eq!(document.requests, 100);
        assert_eq!(asked.join().unwrap(), [&["/api/v1/status"; 6][..], &["/api/v1/document"]].concat());
    }
}
