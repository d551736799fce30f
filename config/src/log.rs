//! What a program logs.

use garde::Validate;
use schemars::JsonSchema;
use serde::Serialize;

use crate::{names, overlay::keys};

/// What the program logs to its standard error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema, Validate)]
#[schemars(deny_unknown_fields, default)]
#[garde(allow_unvalidated)]
pub struct Log {
    /// A level (`off`, `error`, `warn`, `info`, `debug`, `trace`), or several filters separated by commas, each a level
    /// or `target=level`: `info,couplet_proxy=debug`.
    #[garde(custom(names::filter))]
    pub level: String,

    /// `text` for people, `json` for machines.
    pub format: LogFormat,
}

keys!(Log { level, format });

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Text }
    }
}

/// The shape of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum LogFormat {
    /// One line of text per event.
    Text,
    /// One JSON object per line.
    Json,
}
