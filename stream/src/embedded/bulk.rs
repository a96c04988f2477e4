//! The body of `_bulk`: an action line each, and a document's line after an action that has one. Pure.
//!
//! An action line that cannot be read refuses the whole body, as in Elasticsearch; a document that cannot be read is one item's
//! fault.

use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::answer::Refusal;
use super::engine::{Done, Effect};
use super::order::{Guard, PRIMARY_TERM};

/// Longest `_id`, as in Elasticsearch.
const LONGEST_ID_BYTES: usize = 512;

/// What an action does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Index,
    Create,
    Delete,
}

impl Verb {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "index" => Self::Index,
            "create" => Self::Create,
            "delete" => Self::Delete,
            _ => return None,
        })
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Index => "index",
            Self::Create => "create",
            Self::Delete => "delete",
        }
    }
}

/// One operation.
#[derive(Debug)]
pub(super) struct Operation<'a> {
    pub(super) verb: Verb,
    /// The index or alias that it names.
    pub(super) target: String,
    pub(super) id: String,
    pub(super) guard: Guard,
    /// The document, as it came.
    pub(super) source: Option<&'a [u8]>,
}

/// What orders a write, as it is written in an action line or a request's parameters.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Ordering {
    pub(super) version: Option<Json>,
    pub(super) version_type: Option<String>,
    pub(super) if_seq_no: Option<Json>,
    pub(super) if_primary_term: Option<Json>,
    pub(super) op_type: Option<String>,
}

/// What an action line may say. There are no types, shards or pipelines to choose.
const KNOWN: [&str; 11] = [
    "_index",
    "_id",
    "_type",
    "routing",
    "require_alias",
    "pipeline",
    "version",
    "version_type",
    "if_seq_no",
    "if_primary_term",
    "op_type",
];

fn invalid(reason: &str) -> Refusal {
    Refusal::new(400, "action_request_validation_exception", format!("Validation Failed: 1: {reason};"))
}

impl Ordering {
    /// The guard that they ask for.
    pub(super) fn guard(&self, verb: Verb) -> Result<Guard, Refusal> {
        let number = |value: &Option<Json>| match value {
            None => Ok(None),
            Some(value) => value
                .as_u64()
                .or_else(|| value.as_str()?.parse().ok())
                .filter(|number| i64::try_from(*number).is_ok())
                .map(Some)
                .ok_or_else(|| Refusal::argument(format!("Failed to parse [{value}] as a version or sequence number"))),
        };
        let (version, seq_no, term) =
            (number(&self.version)?, number(&self.if_seq_no)?, number(&self.if_primary_term)?);
        let create = verb == Verb::Create || self.op_type.as_deref() == Some("create");
        match (version, self.version_type.as_deref().unwrap_or("internal"), seq_no, term) {
            (Some(_), _, _, _) if create => {
                Err(invalid("create operations only support internal versioning. use index instead"))
            }
            (Some(_), _, Some(_), _) => Err(invalid("compare and write operations can not use versioning")),
            (Some(version), "external" | "external_gt", ..) => Ok(Guard::External(version)),
            (Some(version), "external_gte", ..) => Ok(Guard::ExternalGte(version)),
            (Some(_), "internal", ..) => Err(invalid(
                "internal versioning can not be used for optimistic concurrency control. Please use `if_seq_no` and \
                 `if_primary_term` instead",
            )),
            (_, "external" | "external_gt" | "external_gte", ..) => {
                Err(invalid("illegal version value [-3] for version type [external]"))
            }
            (_, "internal", Some(seq_no), Some(primary_term)) => Ok(Guard::Seen { seq_no, primary_term }),
            (_, "internal", Some(_), None) => Err(invalid("ifSeqNo is set, but primary term is [0]")),
            (_, "internal", None, Some(_)) => Err(invalid("ifSeqNo is unassigned, but primary term is set")),
            (_, "internal", None, None) => Ok(if create { Guard::Create } else { Guard::None }),
            (_, other, ..) => Err(Refusal::argument(format!("No version type match [{other}]"))),
        }
    }
}

/// Refuses an `_id` that no index takes.
pub(super) fn check_id(id: &str) -> Result<(), Refusal> {
    match id.len() {
        0 => Err(invalid("if _id is specified it must not be empty")),
        length if length > LONGEST_ID_BYTES => Err(invalid(&format!(
            "id [{id}] is too long, must be no longer than {LONGEST_ID_BYTES} bytes but was: {length}"
        ))),
        _ => Ok(()),
    }
}

/// An id for a document that came without one.
pub(super) fn new_id() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

/// Reads a body; `index` is what the path names.
pub(super) fn read<'a>(body: &'a [u8], index: Option<&str>) -> Result<Vec<Operation<'a>>, Refusal> {
    if !body.is_empty() && body.last() != Some(&b'\n') {
        return Err(Refusal::argument("The bulk request must be terminated by a newline [\\n]"));
    }
    let mut lines = (1..).zip(body.split(|b| *b == b'\n')).filter(|(_, line)| !line.trim_ascii().is_empty());
    let mut operations = Vec::new();
    while let Some((number, line)) = lines.next() {
        let (verb, options) = action(line, number)?;
        let id = match &options["_id"] {
            Json::Null if verb == Verb::Delete => {
                return Err(invalid("an id must be provided if version type or value are set"));
            }
            Json::Null => new_id(),
            id => super::value::plain_text(id),
        };
        check_id(&id)?;
        let Some(target) = options["_index"].as_str().or(index).map(str::to_owned) else {
            return Err(invalid("index is missing"));
        };
        let source = match verb {
            Verb::Delete => None,
            Verb::Index | Verb::Create => match lines.next() {
                Some((_, line)) => Some(line),
                None => {
                    return Err(Refusal::argument(
                        "Malformed content, found extra data after parsing: END_OBJECT expected",
                    ));
                }
            },
        };
        let ordering: Ordering = serde_json::from_value(options)
            .map_err(|error| Refusal::argument(format!("Malformed action/metadata line [{number}], {error}")))?;
        let guard = ordering.guard(verb)?;
        operations.push(Operation { verb, target, id, guard, source });
    }
    if operations.is_empty() { Err(invalid("no requests added")) } else { Ok(operations) }
}

fn action(line: &[u8], number: usize) -> Result<(Verb, Json), Refusal> {
    let malformed = |reason: String| Refusal::argument(format!("Malformed action/metadata line [{number}], {reason}"));
    let action: Json = serde_json::from_slice(line).map_err(|error| malformed(error.to_string()))?;
    let Json::Object(fields) = action else { return Err(malformed("expected START_OBJECT".into())) };
    let mut fields = fields.into_iter();
    let (Some((name, options)), None) = (fields.next(), fields.next()) else {
        return Err(malformed("expected one action".into()));
    };
    let Some(verb) = Verb::of(&name) else {
        return Err(malformed(format!(
            "expected field [create], [delete] or [index] but found [{name}] (the embedded index has no updates)"
        )));
    };
    let Some(given) = options.as_object() else { return Err(malformed("expected START_OBJECT".into())) };
    match given.keys().find(|name| !KNOWN.contains(&name.as_str())) {
        Some(unknown) => {
            Err(Refusal::argument(format!("Action/metadata line [{number}] contains an unknown parameter [{unknown}]")))
        }
        None => Ok((verb, options)),
    }
}

/// The item of an answer, and its status.
pub(super) fn item(index: &str, id: &str, outcome: &Result<Done, Refusal>) -> (u16, Json) {
    match outcome {
        Err(refusal) => {
            (refusal.status, json!({"_index": index, "_id": id, "status": refusal.status, "error": refusal.error()}))
        }
        Ok(done) => {
            let (status, result) = match done.effect {
                Effect::Created => (201, "created"),
                Effect::Updated => (200, "updated"),
                Effect::Deleted => (200, "deleted"),
                Effect::NotFound => (404, "not_found"),
            };
            let item = json!({
                "_index": index, "_id": id, "_version": done.version, "result": result, "status": status,
                "_shards": {"total": 1, "successful": 1, "failed": 0},
                "_seq_no": done.seq_no, "_primary_term": PRIMARY_TERM,
            });
            (status, item)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(body: &str) -> String {
        read(body.as_bytes(), Some("i")).map(|o| format!("{o:?}")).unwrap_err().reason
    }

    #[test]
    fn a_body_is_read_line_by_line() {
        let body = "{\"index\":{\"_id\":7}}\n{\"a\":1}\n\n{\"delete\":{\"_index\":\"j\",\"_id\":\"x\",\"version\":3,\"version_type\":\"external_gte\"}}\n";
        let read = read(body.as_bytes(), Some("i")).unwrap();
        let seen: Vec<_> = read.iter().map(|o| (o.verb, o.target.as_str(), o.id.as_str(), o.guard, o.source)).collect();
        assert_eq!(
            seen,
            [
                (Verb::Index, "i", "7", Guard::None, Some(&b"{\"a\":1}"[..])),
                (Verb::Delete, "j", "x", Guard::ExternalGte(3), None),
            ]
        );
    }

    #[test]
    fn a_body_that_cannot_be_read_is_refused_as_a_whole() {
        assert!(refused("").contains("no requests added"));
        assert!(refused("{\"index\":{}}\n{}").contains("terminated by a newline"));
        assert!(refused("{\"index\":{}}\n").contains("Malformed content"));
        assert!(refused("{\"update\":{}}\n{}\n").contains("found [update]"));
        assert!(refused("[]\n").contains("line [1], expected START_OBJECT"));
        assert!(refused("{\"delete\":{\"_id\":\"a\",\"versoin\":1}}\n").contains("versoin"));
        assert!(refused("{\"delete\":{\"_id\":\"a\",\"version\":1}}\n").contains("internal versioning"));
        assert!(refused("{\"delete\":{\"_id\":\"\"}}\n").contains("must not be empty"));
        assert!(refused("{\"delete\":{\"_id\":\"a\",\"if_seq_no\":1}}\n").contains("primary term"));
        assert!(refused(&format!("{{\"delete\":{{\"_id\":\"{}\"}}}}\n", "x".repeat(513))).contains("513"));
    }
}
