//! Answers: a status and a text, and what is refused, in Elasticsearch's shapes.

use std::io;

use serde_json::{Value as Json, json};

/// An answer.
#[derive(Debug)]
pub(super) enum Answer {
    /// JSON.
    Json(u16, Json),
    /// The text of JSON that was put together without reading the documents in it.
    RawJson(Vec<u8>),
    /// Lines for people.
    Text(String),
}

/// What is answered, or why not.
pub(super) type Answered = Result<Answer, Refusal>;

impl Answer {
    /// 200 with JSON.
    pub(super) fn ok(body: Json) -> Answered {
        Ok(Self::Json(200, body))
    }

    /// The HTTP status.
    pub(super) fn status(&self) -> u16 {
        match self {
            Self::Json(status, _) => *status,
            Self::RawJson(_) | Self::Text(_) => 200,
        }
    }
}

/// Why a request, or an item of a bulk, is not done.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Refusal {
    /// The HTTP status.
    pub(super) status: u16,
    /// Elasticsearch's name for it.
    pub(super) kind: &'static str,
    /// A sentence.
    pub(super) reason: String,
    /// What it was caused by: name and sentence.
    pub(super) cause: Option<(&'static str, String)>,
}

impl Refusal {
    /// A refusal without a further cause.
    pub(super) fn new(status: u16, kind: &'static str, reason: impl Into<String>) -> Self {
        Self { status, kind, reason: reason.into(), cause: None }
    }

    /// 400 for an argument.
    pub(super) fn argument(reason: impl Into<String>) -> Self {
        Self::new(400, "illegal_argument_exception", reason)
    }

    /// 400 for a body that is not of the expected shape.
    pub(super) fn parsing(reason: impl Into<String>) -> Self {
        Self::new(400, "parsing_exception", reason)
    }

    /// 404 for an index.
    pub(super) fn no_index(name: &str) -> Self {
        Self::new(404, "index_not_found_exception", format!("no such index [{name}]"))
    }

    /// The `error` of an answer or an item.
    pub(super) fn error(&self) -> Json {
        let mut error = json!({"type": self.kind, "reason": self.reason});
        if let Some((kind, reason)) = &self.cause {
            error["caused_by"] = json!({"type": kind, "reason": reason});
        }
        error
    }

    /// The whole answer.
    pub(super) fn answer(&self) -> Answer {
        let cause = self.error();
        let mut error = cause.clone();
        error["root_cause"] = json!([cause]);
        Answer::Json(self.status, json!({"error": error, "status": self.status}))
    }
}

impl From<io::Error> for Refusal {
    fn from(disk: io::Error) -> Self {
        Self::new(503, "io_exception", format!("the embedded index cannot use its disk: {disk}"))
    }
}

impl From<tantivy::TantivyError> for Refusal {
    fn from(error: tantivy::TantivyError) -> Self {
        match error {
            tantivy::TantivyError::InvalidArgument(reason) => Self::argument(reason),
            other => Self::new(503, "io_exception", format!("the embedded index cannot use its files: {other}")),
        }
    }
}

/// The `_shards` of an answer over this many indexes, each of one shard.
pub(super) fn shards(count: usize) -> Json {
    json!({"total": count, "successful": count, "skipped": 0, "failed": 0})
}
