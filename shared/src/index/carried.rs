//! The digest that a document carries in the index, for a comparison that does not read documents.
//!
//! It is one number with doc values, which the mapping excludes from `_source`: readers never see it. Where a live index
//! has no such field, documents are written without it, and that comparison says why it cannot be made.

use serde_json::{Value as Json, json};

use super::bulk::{Action, Operation};
use crate::digest::{Digest, of_source};
use crate::plan::Sink;

/// The field. No column has such a name: the plan refuses those that begin with `_`.
pub const FIELD: &str = "_lockstep_digest";

/// Whether documents of an index carry their digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Carried {
    /// They do.
    Digest,
    /// They cannot, and why.
    Nothing(String),
}

/// The field's mapping: it is never searched for by its value, so that doc values are all it costs.
#[must_use]
pub fn field() -> Json {
    json!({"type": "long", "index": false})
}

/// What a live mapping (`{"properties": …}`) says.
#[must_use]
pub fn of_mapping(live: &Json) -> Carried {
    if !is_excluded(live) {
        return Carried::Nothing(format!(
            "its mapping does not exclude {FIELD} from _source, which servers take only when an index is made; delete the \
             index, or write to another one"
        ));
    }
    match live["properties"][FIELD]["type"].as_str() {
        Some("long") => Carried::Digest,
        Some(other) => Carried::Nothing(format!("its field {FIELD} is {other}, and not long")),
        None => Carried::Nothing(format!("its mapping has no field {FIELD}")),
    }
}

/// Whether the field is kept out of `_source`.
#[must_use]
pub fn is_excluded(live: &Json) -> bool {
    live["_source"]["excludes"].as_array().into_iter().flatten().any(|name| name == FIELD)
}

/// Puts a document's digest into its JSON, where the index has a place for it.
pub fn carry(carried: &Carried, digest: Digest, document: &mut Vec<u8>) {
    if *carried != Carried::Digest {
        return;
    }
    let comma = if document.ends_with(b"{}") { "" } else { "," };
    if document.last() == Some(&b'}') {
        document.pop();
        document.extend_from_slice(format!("{comma}\"{FIELD}\":{}}}", digest.carried()).as_bytes());
    }
}

/// The operations, each document with its digest where the index has a place for it.
#[must_use]
pub fn carrying(sink: &Sink, carried: &Carried, mut operations: Vec<Operation>) -> Vec<Operation> {
    for operation in &mut operations {
        if let Action::Index(document) = &mut operation.action {
            let source = std::str::from_utf8(document).unwrap_or("null");
            carry(carried, of_source(&sink.columns, &operation.id.0, source), document);
        }
    }
    operations
}

#[cfg(test)]
mod tests {
    use super::super::mapping::creation;
    use super::*;

    #[test]
    fn a_document_carries_its_digest_and_stays_one_object() {
        for (document, with) in
            [("{}", "{\"_lockstep_digest\":1}"), ("{\"a\":{}}", "{\"a\":{},\"_lockstep_digest\":1}")]
        {
            let mut written = document.as_bytes().to_vec();
            carry(&Carried::Nothing("why".into()), Digest(1 << 88), &mut written);
            assert_eq!(written, document.as_bytes());
            carry(&Carried::Digest, Digest(1 << 88), &mut written);
            assert_eq!(String::from_utf8_lossy(&written), with);
        }
    }

    #[test]
    fn an_index_that_is_made_has_a_place_for_it_and_another_says_why_not() {
        let made = creation(&[])["mappings"].clone();
        assert_eq!(of_mapping(&made), Carried::Digest);
        let reason = |mapping: &Json| match of_mapping(mapping) {
            Carried::Digest => panic!("{mapping}"),
            Carried::Nothing(reason) => reason,
        };
        assert!(reason(&json!({"properties": made["properties"]})).contains("does not exclude"));
        assert!(reason(&json!({"_source": made["_source"], "properties": {}})).contains("no field"));
        let keyword = json!({"_source": made["_source"], "properties": {FIELD: {"type": "keyword"}}});
        assert!(reason(&keyword).contains("is keyword"));
    }
}
