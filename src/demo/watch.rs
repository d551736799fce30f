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

    /// The document, once it has settled: all reports have been received, so it stays as it is from the next snapshot on.
    ///
    /// # Errors
    /// The analyzer does not answer, or not with a document.
    pub(crate) async fn settled_document(&self, snapshot_every: Duration) -> anyhow::Result<Document> {
        let deadline = Instant::now() + SETTLES_WITHIN;
        let mut before = self.get("/api/v1/document").await?;
        loop {
            tokio::time::sleep(snapshot_every * 2).await;
            let now = self.get("/api/v1/document").await?;
            if now == before || Instant::now() >= deadline {
                return serde_json::from_slice(&now).context("the analyzer's document cannot be read");
            }
            before = now;
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
const SETTLES_WITHIN: Duration = Duration::from_secs(10);
