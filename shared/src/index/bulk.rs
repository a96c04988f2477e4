//! Operations on documents, and the bodies of `_bulk` that carry them. Pure.
//!
//! Every write carries its step as external version (`external_gte`), so that an older step never wins and a repeated
//! one succeeds. Only [`Action::DeleteIf`] carries none: it is guarded by the document's sequence number instead,
//! since a server takes either a version or a sequence number.

use std::io::Write;

use crate::coordinates::Version;
use crate::identity::DocumentId;

/// Longest `_id`, in bytes. Elasticsearch and OpenSearch refuse a whole bulk for one longer id, so it is checked here.
pub const MAX_ID_BYTES: usize = 512;

/// Room for an action line and the two line ends, in bytes beyond the index's name and the id.
const ACTION_LINE_BYTES: usize = 112;

/// One write of one document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// The document's `_id`.
    pub id: DocumentId,
    /// The document's external version.
    pub version: Version,
    /// What is done.
    pub action: Action,
}

/// What is done with a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// The document becomes this JSON object, which stands on one line.
    Index(Vec<u8>),
    /// The document goes; the server remembers the version for `index.gc_deletes`.
    Delete,
    /// The document goes, if it is still as it was seen.
    DeleteIf {
        /// The sequence number seen.
        seq_no: u64,
        /// The primary term seen.
        primary_term: u64,
    },
}

impl Operation {
    /// Why no server takes this operation; `None` where it can be sent.
    #[must_use]
    pub fn defect(&self) -> Option<String> {
        match self.id.0.len() {
            0 => Some("the document id is empty, which the index does not take; make the key column non-empty".into()),
            length if length > MAX_ID_BYTES => Some(format!(
                "the document id has {length} bytes and the index takes at most {MAX_ID_BYTES}; use a shorter key"
            )),
            _ => None,
        }
    }

    /// Upper bound of what the operation adds to a body, in bytes.
    fn size_bytes(&self, index: &str) -> usize {
        // A control character of an id becomes six bytes of JSON, a quote two.
        let id: usize =
            self.id.0.bytes().map(|b| if b < b' ' { 6 } else { 1 + usize::from(b == b'"' || b == b'\\') }).sum();
        let document = match &self.action {
            Action::Index(json) => json.len(),
            Action::Delete | Action::DeleteIf { .. } => 0,
        };
        ACTION_LINE_BYTES + index.len() + id + document
    }
}

/// How large a body gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyLimits {
    /// Most operations in one body.
    pub actions: usize,
    /// Most bytes in one body. A single operation that is larger travels alone.
    pub size_bytes: usize,
}

impl Default for BodyLimits {
    /// 2,000 operations and 5 MiB: what other sinks settled on, and small enough that a retried body is cheap.
    fn default() -> Self {
        Self { actions: 2_000, size_bytes: 5 * 1024 * 1024 }
    }
}

/// Cuts operations into the bodies that carry them, in order, each within the limits.
#[must_use]
pub fn split(index: &str, operations: Vec<Operation>, limits: BodyLimits) -> Vec<Vec<Operation>> {
    let mut bodies: Vec<Vec<Operation>> = Vec::new();
    let mut size_bytes = 0;
    for operation in operations {
        let more = operation.size_bytes(index);
        match bodies.last_mut() {
            Some(body) if body.len() < limits.actions && size_bytes + more <= limits.size_bytes => {
                size_bytes += more;
                body.push(operation);
            }
            _ => {
                size_bytes = more;
                bodies.push(vec![operation]);
            }
        }
    }
    bodies
}

/// The body of `POST /_bulk` for these operations: an action line each, and the document's line after an index action.
#[must_use]
pub fn encode(index: &str, operations: &[Operation]) -> Vec<u8> {
    let mut body = Vec::with_capacity(operations.iter().map(|o| o.size_bytes(index)).sum());
    let index = json_string(index);
    for operation in operations {
        let written = write_operation(&mut body, &index, operation);
        assert!(written.is_ok(), "writing into memory does not fail");
    }
    body
}

fn write_operation(body: &mut Vec<u8>, index: &str, operation: &Operation) -> std::io::Result<()> {
    let verb = match operation.action {
        Action::Index(_) => "index",
        Action::Delete | Action::DeleteIf { .. } => "delete",
    };
    write!(body, "{{\"{verb}\":{{\"_index\":{index},\"_id\":")?;
    serde_json::to_writer(&mut *body, &operation.id.0)?;
    match &operation.action {
        Action::DeleteIf { seq_no, primary_term } => {
            writeln!(body, ",\"if_seq_no\":{seq_no},\"if_primary_term\":{primary_term}}}}}")
        }
        Action::Delete => writeln!(body, ",\"version\":{},\"version_type\":\"external_gte\"}}}}", operation.version.0),
        Action::Index(document) => {
            assert!(!document.contains(&b'\n'), "a document of a bulk body stands on one line");
            writeln!(body, ",\"version\":{},\"version_type\":\"external_gte\"}}}}", operation.version.0)?;
            body.extend_from_slice(document);
            body.push(b'\n');
            Ok(())
        }
    }
}

fn json_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn index(id: &str, version: u64, json: &str) -> Operation {
        Operation { id: DocumentId(id.into()), version: Version(version), action: Action::Index(json.into()) }
    }

    #[test]
    fn a_body_is_an_action_line_and_a_document_line() {
        let operations = [
            index("a\"b", 7, "{}"),
            Operation { id: DocumentId("c".into()), version: Version(8), action: Action::Delete },
            Operation {
                id: DocumentId("d".into()),
                version: Version(9),
                action: Action::DeleteIf { seq_no: 3, primary_term: 1 },
            },
        ];
        let expected = concat!(
            "{\"index\":{\"_index\":\"i\",\"_id\":\"a\\\"b\",\"version\":7,\"version_type\":\"external_gte\"}}\n{}\n",
            "{\"delete\":{\"_index\":\"i\",\"_id\":\"c\",\"version\":8,\"version_type\":\"external_gte\"}}\n",
            "{\"delete\":{\"_index\":\"i\",\"_id\":\"d\",\"if_seq_no\":3,\"if_primary_term\":1}}\n",
        );
        assert_eq!(String::from_utf8(encode("i", &operations)).unwrap(), expected);
    }

    #[test]
    fn a_document_over_the_limit_travels_alone() {
        let large = format!("{{\"t\":\"{}\"}}", "x".repeat(1000));
        let bodies = split(
            "i",
            vec![index("1", 1, "{}"), index("2", 1, &large), index("3", 1, "{}")],
            BodyLimits { actions: 10, size_bytes: 500 },
        );
        assert_eq!(bodies.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1, 1]);
    }

    #[test]
    fn an_empty_and_a_long_id_are_refused_before_they_spoil_a_bulk() {
        assert!(index("", 1, "{}").defect().is_some());
        assert!(index(&"x".repeat(512), 1, "{}").defect().is_none());
        assert!(index(&"x".repeat(513), 1, "{}").defect().unwrap().contains("513"));
    }

    proptest! {
        #[test]
        fn every_operation_is_in_exactly_one_body_in_order_and_bodies_keep_the_limits(
            documents in prop::collection::vec(("[a-z\"\\\\\\x01]{1,9}", 0_usize..300), 0..60),
            actions in 1_usize..9,
            size_bytes in 1_usize..2000,
        ) {
            let operations: Vec<Operation> =
                documents.iter().map(|(id, length)| index(id, u64::MAX >> 1, &"x".repeat(*length))).collect();
            let bodies = split("name", operations.clone(), BodyLimits { actions, size_bytes });
            for body in &bodies {
                prop_assert!(body.len() <= actions);
                prop_assert!(body.len() == 1 || encode("name", body).len() <= size_bytes);
            }
            prop_assert_eq!(bodies.concat(), operations);
        }
    }
}
