//! The canonical document of the latest snapshot: written once when somebody asks for it, however many ask.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Mutex;

use super::document::Document;
use crate::board::{Board, Published};

/// A snapshot and its document.
#[derive(Debug)]
pub(super) struct Written {
    /// The snapshot.
    pub(super) published: Arc<Published>,
    /// Its document.
    pub(super) document: Document,
    /// The same as JSON.
    pub(super) json: Bytes,
}

/// Writes documents and keeps the last one.
#[derive(Debug)]
pub(super) struct Writer {
    board: Arc<Board>,
    last: Mutex<Option<Arc<Written>>>,
}

impl Writer {
    pub(super) fn new(board: Arc<Board>) -> Self {
        Self { board, last: Mutex::new(None) }
    }

    /// The document of the latest snapshot. A large one takes a while, so it is written where it holds nobody up;
    /// who asks meanwhile waits for the same one. None only where writing failed by a defect.
    pub(super) async fn latest(&self) -> Option<Arc<Written>> {
        let mut last = self.last.lock().await;
        let published = self.board.latest();
        match &*last {
            Some(written) if Arc::ptr_eq(&written.published, &published) => return Some(Arc::clone(written)),
            _ => {}
        }
        let board = Arc::clone(&self.board);
        let written = tokio::task::spawn_blocking(move || write(published, &board.name)).await.ok()?.map(Arc::new)?;
        *last = Some(Arc::clone(&written));
        Some(written)
    }
}

pub(super) fn write(published: Arc<Published>, name: &str) -> Option<Written> {
    let document = Document::new(&published.snapshot, &published.findings, name).with_score(published.score.clone());
    let document = document.with_roles(&published.roles);
    let json = document.to_json().map(Bytes::from).ok()?;
    Some(Written { published, document, json })
}
