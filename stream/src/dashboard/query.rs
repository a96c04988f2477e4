//! Bodies of `_search` requests, and numbers out of their answers.

use serde_json::{Value as Json, json};

use super::{Criterion, Filter, ReadError, Source};

/// Whole numbers up to here are exact as the double that a server's sums are: 2^53.
const EXACT: f64 = 9_007_199_254_740_992.0;
/// Up to so many distinct values a server counts without approximation that anyone has seen; the most that it takes.
const PRECISION: u64 = 40_000;

/// A body that asks for aggregations only.
pub(super) fn search(filter: &Filter, criteria: &[Criterion], aggregations: &Json) -> Json {
    json!({
        "size": 0,
        "track_total_hits": true,
        "query": {"bool": {"filter": filter.clauses(criteria)}},
        "aggs": aggregations,
    })
}

/// A body that asks for the first and the last moment of what the filter chooses.
pub(super) fn bounds(source: &Source, filter: &Filter) -> Json {
    search(filter, source.criteria, &json!({"first": {"min": {"field": "ts"}}, "last": {"max": {"field": "ts"}}}))
}

/// The number of distinct values of a field.
pub(super) fn distinct(field: &str) -> Json {
    json!({"cardinality": {"field": field, "precision_threshold": PRECISION}})
}

/// The sum of a field.
pub(super) fn sum(field: &str) -> Json {
    json!({"sum": {"field": field}})
}

/// The number of documents that have a field.
pub(super) fn present(field: &str) -> Json {
    json!({"value_count": {"field": field}})
}

/// Refuses an answer of which a part is missing.
pub(super) fn complete(answer: &Json) -> Result<(), ReadError> {
    let partial = |reason: String| Err(ReadError::Partial { reason });
    match (&answer["timed_out"], answer["_shards"]["failed"].as_u64()) {
        (Json::Bool(true), _) => partial("the search took too long".into()),
        (_, Some(failed)) if failed > 0 => partial(format!("{failed} of its shards failed")),
        _ => Ok(()),
    }
}

/// The documents that the filter chose.
pub(super) fn total(answer: &Json) -> Result<i64, ReadError> {
    whole(&answer["hits"]["total"]["value"], "hits.total.value")
}

/// An aggregation of an answer or of a bucket: its `value`, which is a whole number.
pub(super) fn value(of: &Json, name: &str) -> Result<i64, ReadError> {
    whole(&of[name]["value"], name)
}

/// A whole number, written as one or as a double.
pub(super) fn whole(number: &Json, place: &str) -> Result<i64, ReadError> {
    if let Some(number) = number.as_i64() {
        return Ok(number);
    }
    match number.as_f64() {
        Some(found) if found.fract() == 0.0 && found.abs() <= EXACT => Ok(found as i64),
        Some(found) => Err(ReadError::Inexact { place: place.to_owned(), found: found.to_string() }),
        None => Err(ReadError::Shape { place: place.to_owned() }),
    }
}

/// The buckets of an aggregation.
pub(super) fn buckets<'a>(of: &'a Json, name: &str) -> Result<&'a [Json], ReadError> {
    let buckets = of[name]["buckets"].as_array();
    buckets.map(Vec::as_slice).ok_or_else(|| ReadError::Shape { place: format!("{name}.buckets") })
}

/// The text of a bucket's key.
pub(super) fn key(bucket: &Json) -> String {
    bucket["key"].as_str().map_or_else(|| bucket["key"].to_string(), str::to_owned)
}

/// The documents of a bucket.
pub(super) fn count(bucket: &Json) -> Result<i64, ReadError> {
    whole(&bucket["doc_count"], "doc_count")
}
