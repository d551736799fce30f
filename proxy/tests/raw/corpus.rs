//! Messages that others wrote, from a folder beside the checkout.

use std::path::PathBuf;

/// One message.
pub(crate) struct Message {
    pub(crate) name: String,
    pub(crate) expect: Expect,
    pub(crate) bytes: Vec<u8>,
}

/// What is expected of a proxy with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expect {
    Reject,
    Accept,
    /// Either is right, as long as what passes is well-formed.
    Either,
}

/// The requests, or the responses. None where the folder is not there.
pub(crate) fn load(responses: bool) -> Vec<Message> {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data/http1"));
    let Ok(index) = std::fs::read_to_string(folder.join("index.jsonl")) else {
        eprintln!("SKIPPED: no messages of others at {}", folder.display());
        return Vec::new();
    };
    let rows = index.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let of_kind = rows.filter(|row| (row["source"] == "llhttp-response") == responses);
    let message = |row: serde_json::Value| {
        let file = PathBuf::from(row["file"].as_str().unwrap());
        let path =
            if responses { folder.join("responses").join(file.file_name().unwrap()) } else { folder.join(&file) };
        let expect = match row["expect"].as_str().unwrap() {
            "reject" => Expect::Reject,
            "accept" => Expect::Accept,
            _ => Expect::Either,
        };
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        Message { name, expect, bytes: std::fs::read(path).unwrap() }
    };
    of_kind.map(message).collect()
}
