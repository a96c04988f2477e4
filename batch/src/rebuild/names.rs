//! What stands behind the sink's name, and how another index comes there. One atomic request each.

use lockstep_shared::index::{Client, IndexError};
use serde_json::{Value as Json, json};

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Behind {
    /// Nothing yet.
    Nothing,
    /// It is an alias of this index.
    Alias(String),
    /// It is an index's own name.
    OwnName,
}

impl Behind {
    pub(super) async fn of(client: &Client, name: &str) -> Result<Self, IndexError> {
        Ok(match client.concrete(name).await? {
            None => Self::Nothing,
            Some(index) if index.name == name => Self::OwnName,
            Some(index) => Self::Alias(index.name),
        })
    }

    /// What makes the name an alias of another index.
    pub(super) fn becomes(&self, name: &str, index: &str) -> Vec<Json> {
        let add = json!({"add": {"index": index, "alias": name}});
        match self {
            Self::Nothing => vec![add],
            Self::Alias(old) => vec![json!({"remove": {"index": old, "alias": name, "must_exist": true}}), add],
            Self::OwnName => vec![json!({"remove_index": {"index": name}}), add],
        }
    }
}

/// A name for the new index, after the moment.
pub(super) fn fresh(name: &str) -> String {
    format!("{name}-{}", chrono::Utc::now().format("%Y%m%d-%H%M%S-%3f"))
}
