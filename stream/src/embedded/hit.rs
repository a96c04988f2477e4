//! The hits of a page: each document with what is asked of it, as text.
//!
//! A document that is shown whole is copied as it came and never read: that is what makes a scan quick.

use serde_json::{Value as Json, json};
use tantivy::columnar::Column;
use tantivy::schema::Value as _;
use tantivy::{DocAddress, TantivyDocument};

use super::answer::Refusal;
use super::mapping::{SEQ_NO, VERSION};
use super::order::PRIMARY_TERM;
use super::part::Part;
use super::request::{Request, names, wildcard};
use super::sort::{Candidate, Key};

/// What is shown of a hit.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) source: SourceFilter,
    pub(super) version: bool,
    pub(super) seq_no: bool,
}

/// Which part of a document is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SourceFilter {
    Whole,
    Nothing,
    Fields { includes: Vec<String>, excludes: Vec<String> },
}

impl SourceFilter {
    /// Reads `_source`, `_source_includes` and `_source_excludes`.
    pub(super) fn read(request: &Request<'_>, body: &Json) -> Result<Self, Refusal> {
        let parameter = |name: &str| request.value(name).map(|text| names(&json!(text)));
        let (includes, excludes) = (parameter("_source_includes"), parameter("_source_excludes"));
        if includes.is_some() || excludes.is_some() {
            return Ok(Self::Fields { includes: includes.unwrap_or_default(), excludes: excludes.unwrap_or_default() });
        }
        let given = match request.value("_source") {
            None => body["_source"].clone(),
            Some(text) => serde_json::from_str(&text).unwrap_or(json!(text)),
        };
        match &given {
            Json::Null | Json::Bool(true) => Ok(Self::Whole),
            Json::Bool(false) => Ok(Self::Nothing),
            Json::String(_) | Json::Array(_) => Ok(Self::Fields { includes: names(&given), excludes: Vec::new() }),
            Json::Object(_) => {
                let list = |both: [&str; 2]| both.iter().flat_map(|name| names(&given[*name])).collect();
                Ok(Self::Fields { includes: list(["includes", "include"]), excludes: list(["excludes", "exclude"]) })
            }
            Json::Number(_) => Err(Refusal::parsing("[_source] is a number; write true, false or fields")),
        }
    }

    /// What is shown of a document; `None` for nothing.
    pub(super) fn apply(&self, source: Vec<u8>) -> Option<Vec<u8>> {
        let Self::Fields { includes, excludes } = self else {
            return (*self == Self::Whole).then_some(source);
        };
        let Ok(Json::Object(mut fields)) = serde_json::from_slice(&source) else { return Some(source) };
        let among = |patterns: &[String], name: &str| patterns.iter().any(|pattern| wildcard(pattern, name));
        fields.retain(|name, _| (includes.is_empty() || among(includes, name)) && !among(excludes, name));
        Some(Json::Object(fields).to_string().into_bytes())
    }
}

/// A document as it is kept.
pub(super) struct Kept {
    pub(super) id: String,
    pub(super) source: Vec<u8>,
}

/// Reads a document.
pub(super) fn kept(part: &Part, address: DocAddress) -> Result<Kept, Refusal> {
    let own = part.engine.mapping.own;
    let document: TantivyDocument = part.searcher.doc(address)?;
    let bytes = |field| document.get_first(field).and_then(|value| value.as_bytes().map(<[u8]>::to_vec));
    Ok(Kept {
        id: String::from_utf8_lossy(&bytes(own.id).unwrap_or_default()).into_owned(),
        source: bytes(own.source).unwrap_or_else(|| b"{}".to_vec()),
    })
}

/// The columns of a segment that order writes.
struct Columns {
    place: (usize, u32),
    version: Column<u64>,
    seq_no: Column<u64>,
}

impl Columns {
    fn open(parts: &[Part], (part, segment): (usize, u32)) -> Result<Self, Refusal> {
        let columns = parts[part].searcher.segment_reader(segment).fast_fields();
        Ok(Self { place: (part, segment), version: columns.u64(VERSION)?, seq_no: columns.u64(SEQ_NO)? })
    }
}

/// The text of an answer: its head, and these hits.
pub(super) fn page(
    head: &Json,
    total: Option<&Json>,
    candidates: &[Candidate],
    parts: &[Part],
    (sorted, shown): (Option<&[Key]>, &Shown),
) -> Result<Vec<u8>, Refusal> {
    let mut text = head.to_string().into_bytes();
    // The head's closing brace comes after the hits.
    text.pop();
    text.extend_from_slice(b",\"hits\":{");
    if let Some(total) = total {
        text.extend_from_slice(format!("\"total\":{total},").as_bytes());
    }
    let score = if sorted.is_some() || candidates.is_empty() { Json::Null } else { json!(1.0) };
    text.extend_from_slice(format!("\"max_score\":{score},\"hits\":[").as_bytes());
    let mut columns: Option<Columns> = None;
    for (number, candidate) in candidates.iter().enumerate() {
        if number > 0 {
            text.push(b',');
        }
        let place = (candidate.part, candidate.segment);
        let opened = match columns.take().filter(|columns| columns.place == place) {
            Some(opened) => opened,
            None => Columns::open(parts, place)?,
        };
        hit(&mut text, candidate, &parts[candidate.part], &opened, (sorted, shown))?;
        columns = Some(opened);
    }
    text.extend_from_slice(b"]}}");
    Ok(text)
}

fn hit(
    text: &mut Vec<u8>,
    candidate: &Candidate,
    part: &Part,
    columns: &Columns,
    (sorted, shown): (Option<&[Key]>, &Shown),
) -> Result<(), Refusal> {
    let kept = kept(part, DocAddress::new(candidate.segment, candidate.doc))?;
    let (name, id) = (json!(part.name), json!(kept.id));
    text.extend_from_slice(format!("{{\"_index\":{name},\"_id\":{id}").as_bytes());
    if shown.version {
        let version = columns.version.first(candidate.doc).unwrap_or(0);
        text.extend_from_slice(format!(",\"_version\":{version}").as_bytes());
    }
    if shown.seq_no {
        let seq_no = columns.seq_no.first(candidate.doc).unwrap_or(0);
        text.extend_from_slice(format!(",\"_seq_no\":{seq_no},\"_primary_term\":{PRIMARY_TERM}").as_bytes());
    }
    text.extend_from_slice(if sorted.is_some() { b",\"_score\":null" } else { b",\"_score\":1.0" });
    if let Some(source) = shown.source.apply(kept.source) {
        text.extend_from_slice(b",\"_source\":");
        text.extend_from_slice(&source);
    }
    if let Some(keys) = sorted {
        let values: Vec<Json> = keys.iter().zip(&candidate.values).map(|(key, value)| value.json(key)).collect();
        text.extend_from_slice(format!(",\"sort\":{}", Json::Array(values)).as_bytes());
    }
    text.push(b'}');
    Ok(())
}
