//! The part of Elasticsearch's query language that the embedded index speaks, evaluated document by document.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use lockstep_shared::text;
use serde_json::{Map, Value as Json, json};

/// Buckets of a `terms` aggregation that names no size.
const DEFAULT_BUCKETS: u64 = 10;
const MICROS_OF_A_MILLI: i64 = 1_000;

/// What is not understood, for the caller.
pub(super) struct Unknown(pub(super) String);

type Result<T> = std::result::Result<T, Unknown>;

fn unknown<T>(what: impl Into<String>) -> Result<T> {
    Err(Unknown(what.into()))
}

/// The only field of an object, as name and value.
fn only(object: &Json, what: &str) -> Result<(String, Json)> {
    match object.as_object().and_then(|fields| fields.iter().next()) {
        Some((name, value)) => Ok((name.clone(), value.clone())),
        None => unknown(format!("{what} must be an object with one field")),
    }
}

/// Whether the document is one that the query asks for.
pub(super) fn matches(query: &Json, id: &str, source: &Json) -> Result<bool> {
    let (kind, body) = only(query, "a query")?;
    match kind.as_str() {
        "match_all" => Ok(true),
        "match_none" => Ok(false),
        "bool" => matches_bool(&body, id, source),
        "exists" => Ok(body["field"].as_str().is_some_and(|field| !source[field].is_null())),
        "ids" => Ok(body["values"].as_array().is_some_and(|ids| ids.iter().any(|i| i.as_str() == Some(id)))),
        "query_string" | "simple_query_string" => {
            let text = body["query"].as_str().unwrap_or_default();
            let default = body["default_operator"].as_str().is_some_and(|o| o.eq_ignore_ascii_case("and"));
            Ok(query_string(text, default, source))
        }
        "term" | "match" | "match_phrase" | "prefix" | "terms" | "range" | "wildcard" => {
            let (field, wanted) = only(&body, &kind)?;
            field_matches(&kind, &wanted, &source[&field])
        }
        other => unknown(format!("unknown query [{other}]")),
    }
}

fn matches_bool(body: &Json, id: &str, source: &Json) -> Result<bool> {
    let clauses = |name: &str| match &body[name] {
        Json::Null => Vec::new(),
        Json::Array(clauses) => clauses.clone(),
        one => vec![one.clone()],
    };
    for clause in clauses("must").iter().chain(&clauses("filter")) {
        if !matches(clause, id, source)? {
            return Ok(false);
        }
    }
    for clause in &clauses("must_not") {
        if matches(clause, id, source)? {
            return Ok(false);
        }
    }
    let should = clauses("should");
    let optional = !clauses("must").is_empty() || !clauses("filter").is_empty() || should.is_empty();
    let needed = body["minimum_should_match"].as_u64().unwrap_or(u64::from(!optional));
    let mut held = 0;
    for clause in &should {
        held += u64::from(matches(clause, id, source)?);
    }
    Ok(held >= needed)
}

fn field_matches(kind: &str, wanted: &Json, found: &Json) -> Result<bool> {
    let value = if wanted.is_object() { &wanted["value"] } else { wanted };
    let value = if value.is_null() { &wanted["query"] } else { value };
    match kind {
        "terms" => Ok(wanted
            .as_array()
            .is_some_and(|values| values.iter().any(|v| compare(found, v) == Some(Ordering::Equal)))),
        "range" => range(wanted, found),
        "prefix" => Ok(found.as_str().zip(value.as_str()).is_some_and(|(f, v)| f.starts_with(v))),
        "wildcard" => Ok(found.as_str().zip(value.as_str()).is_some_and(|(f, v)| wildcard(v, f))),
        _ => Ok(compare(found, value) == Some(Ordering::Equal)),
    }
}

fn range(bounds: &Json, found: &Json) -> Result<bool> {
    let Some(bounds) = bounds.as_object() else { return unknown("range must be an object") };
    for (name, bound) in bounds {
        let order = compare(found, bound);
        let holds = match name.as_str() {
            "gte" => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
            "gt" => order == Some(Ordering::Greater),
            "lte" => matches!(order, Some(Ordering::Less | Ordering::Equal)),
            "lt" => order == Some(Ordering::Less),
            "format" | "time_zone" | "boost" => true,
            other => return unknown(format!("[range] query does not support [{other}]")),
        };
        if !holds {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Numbers as numbers, instants as instants, anything else as text. `None` where one is absent.
fn compare(found: &Json, wanted: &Json) -> Option<Ordering> {
    match (found, wanted) {
        (Json::Null, _) | (_, Json::Null) => None,
        (Json::Number(a), Json::Number(b)) => a.as_f64()?.partial_cmp(&b.as_f64()?),
        (Json::String(a), Json::String(b)) => match (text::parse_timestamp(a), text::parse_timestamp(b)) {
            (Some(a), Some(b)) => Some(a.cmp(&b)),
            _ => Some(a.cmp(b)),
        },
        (Json::String(a), Json::Number(b)) => Some((text::parse_timestamp(a)? / MICROS_OF_A_MILLI).cmp(&b.as_i64()?)),
        (Json::Number(a), Json::String(b)) => a.as_f64()?.partial_cmp(&b.parse().ok()?),
        (Json::Bool(a), Json::String(b)) => Some(a.to_string().cmp(b)),
        (a, b) => Some(a.to_string().cmp(&b.to_string())),
    }
}

fn wildcard(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// `field:value`, `value`, quotes, AND, OR and NOT, from left to right without parentheses.
fn query_string(text: &str, default_and: bool, source: &Json) -> bool {
    let (mut result, mut and, mut negate) = (None, default_and, false);
    for word in words(text) {
        match word.as_str() {
            "AND" | "&&" => and = true,
            "OR" | "||" => and = false,
            "NOT" | "!" => negate = true,
            term => {
                let holds = term_holds(term, source) != negate;
                result = Some(match result {
                    None => holds,
                    Some(before) if and => before && holds,
                    Some(before) => before || holds,
                });
                (and, negate) = (default_and, false);
            }
        }
    }
    result.unwrap_or(true)
}

fn words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
    for c in text.chars() {
        match c {
            '"' => quoted = !quoted,
            c if c.is_whitespace() && !quoted => {
                words.extend(Some(std::mem::take(&mut word)).filter(|w| !w.is_empty()));
            }
            c => word.push(c),
        }
    }
    words.extend(Some(word).filter(|w| !w.is_empty()));
    words
}

fn term_holds(term: &str, source: &Json) -> bool {
    let is = |found: &Json, wanted: &str| match found {
        Json::Null => false,
        Json::String(found) => wildcard(wanted, found),
        other => wildcard(wanted, &other.to_string()),
    };
    if term == "*" || term == "*:*" {
        return true;
    }
    match term.split_once(':') {
        Some((field, wanted)) if source.get(field).is_some() || field == "_exists_" => {
            if field == "_exists_" {
                !source[wanted].is_null()
            } else {
                is(&source[field], wanted)
            }
        }
        _ => source.as_object().is_some_and(|fields| fields.values().any(|value| is(value, term))),
    }
}

/// Orders by a `sort` of fields; documents without the field come last.
pub(super) fn order(sort: &Json, a: (&str, &Json), b: (&str, &Json)) -> Ordering {
    let keys = match sort {
        Json::Array(keys) => keys.clone(),
        Json::Null => Vec::new(),
        one => vec![one.clone()],
    };
    for key in keys {
        let (field, how) = match &key {
            Json::String(field) => (field.clone(), Json::Null),
            object => match only(object, "sort") {
                Ok(pair) => pair,
                Err(_) => continue,
            },
        };
        let descending = how.as_str().or(how["order"].as_str()) == Some("desc");
        let ordering = match (&a.1[&field], &b.1[&field]) {
            (Json::Null, Json::Null) => Ordering::Equal,
            (Json::Null, _) => return Ordering::Greater,
            (_, Json::Null) => return Ordering::Less,
            (x, y) => compare(x, y).unwrap_or(Ordering::Equal),
        };
        let ordering = if descending { ordering.reverse() } else { ordering };
        if ordering != Ordering::Equal {
            return ordering;
        }
    }
    a.0.cmp(b.0)
}

/// The answers of `aggs` over documents.
pub(super) fn aggregate(aggregations: &Json, documents: &[&Json]) -> Result<Json> {
    let mut answers = Map::new();
    let Some(named) = aggregations.as_object() else { return unknown("aggs must be an object") };
    for (name, body) in named {
        let Some(fields) = body.as_object() else { return unknown(format!("aggregation [{name}] must be an object")) };
        let inner = fields.get("aggs").or_else(|| fields.get("aggregations"));
        let Some((kind, options)) =
            fields.iter().find(|(kind, _)| !matches!(kind.as_str(), "aggs" | "aggregations" | "meta"))
        else {
            return unknown(format!("aggregation [{name}] has no type"));
        };
        answers.insert(name.clone(), one(kind, options, inner, documents)?);
    }
    Ok(Json::Object(answers))
}

fn one(kind: &str, options: &Json, inner: Option<&Json>, documents: &[&Json]) -> Result<Json> {
    let field = options["field"].as_str().unwrap_or_default();
    let present = || documents.iter().map(|d| &d[field]).filter(|v| !v.is_null());
    let numbers: Vec<f64> = match kind {
        "min" | "max" | "sum" | "avg" => present().filter_map(number).collect(),
        _ => Vec::new(),
    };
    match kind {
        "terms" => terms(field, options, inner, documents),
        "date_histogram" => date_histogram(field, options, inner, documents),
        "filter" => {
            let mut kept = Vec::new();
            for document in documents {
                if matches(options, "", document)? {
                    kept.push(*document);
                }
            }
            bucket(json!({}), inner, &kept)
        }
        "missing" => {
            let kept: Vec<&Json> = documents.iter().copied().filter(|d| d[field].is_null()).collect();
            bucket(json!({}), inner, &kept)
        }
        "value_count" => Ok(json!({"value": present().count()})),
        "cardinality" => Ok(json!({"value": present().map(ToString::to_string).collect::<BTreeSet<_>>().len()})),
        "sum" => Ok(json!({"value": numbers.iter().sum::<f64>()})),
        "avg" if numbers.is_empty() => Ok(json!({"value": null})),
        "avg" => Ok(json!({"value": numbers.iter().sum::<f64>() / numbers.len() as f64})),
        "min" => Ok(json!({"value": numbers.iter().copied().reduce(f64::min)})),
        "max" => Ok(json!({"value": numbers.iter().copied().reduce(f64::max)})),
        other => unknown(format!("unknown aggregation type [{other}]")),
    }
}

fn number(value: &Json) -> Option<f64> {
    match value {
        Json::String(text) => text::parse_timestamp(text).map(|micros| (micros / MICROS_OF_A_MILLI) as f64),
        other => other.as_f64(),
    }
}

fn bucket(mut answer: Json, inner: Option<&Json>, documents: &[&Json]) -> Result<Json> {
    answer["doc_count"] = json!(documents.len());
    if let Some(inner) = inner
        && let (Json::Object(answers), Some(fields)) = (aggregate(inner, documents)?, answer.as_object_mut())
    {
        fields.extend(answers);
    }
    Ok(answer)
}

fn terms(field: &str, options: &Json, inner: Option<&Json>, documents: &[&Json]) -> Result<Json> {
    let mut groups: BTreeMap<String, (Json, Vec<&Json>)> = BTreeMap::new();
    for document in documents {
        let value = match &document[field] {
            Json::Null if options["missing"].is_null() => continue,
            Json::Null => &options["missing"],
            value => value,
        };
        groups.entry(value.to_string()).or_insert_with(|| (value.clone(), Vec::new())).1.push(document);
    }
    let mut groups: Vec<(Json, Vec<&Json>)> = groups.into_values().collect();
    let by_key = options["order"]["_key"].as_str();
    groups.sort_by(|a, b| match by_key {
        Some(direction) => {
            let order = compare(&a.0, &b.0).unwrap_or(Ordering::Equal);
            if direction == "desc" { order.reverse() } else { order }
        }
        None => b.1.len().cmp(&a.1.len()).then_with(|| compare(&a.0, &b.0).unwrap_or(Ordering::Equal)),
    });
    let size = usize::try_from(options["size"].as_u64().unwrap_or(DEFAULT_BUCKETS)).unwrap_or(usize::MAX);
    let others: usize = groups.iter().skip(size).map(|g| g.1.len()).sum();
    let buckets: Result<Vec<Json>> =
        groups.into_iter().take(size).map(|(key, members)| bucket(json!({"key": key}), inner, &members)).collect();
    Ok(json!({"doc_count_error_upper_bound": 0, "sum_other_doc_count": others, "buckets": buckets?}))
}

fn date_histogram(field: &str, options: &Json, inner: Option<&Json>, documents: &[&Json]) -> Result<Json> {
    let interval = options["calendar_interval"].as_str().or(options["fixed_interval"].as_str()).unwrap_or_default();
    let length_ms = match interval {
        "1s" | "second" => 1_000,
        "1m" | "minute" => 60_000,
        "1h" | "hour" => 3_600_000,
        "1d" | "day" => 86_400_000,
        "7d" | "1w" | "week" => 7 * 86_400_000,
        other => {
            return unknown(format!(
                "the interval [{other}] is not supported; there are second, minute, hour, day and week"
            ));
        }
    };
    // Weeks begin on Monday; the epoch was a Thursday.
    let shift_ms = if length_ms == 7 * 86_400_000 { 3 * 86_400_000 } else { 0 };
    let mut groups: BTreeMap<i64, Vec<&Json>> = BTreeMap::new();
    for document in documents {
        if let Some(ms) = number(&document[field]) {
            groups
                .entry((ms as i64 + shift_ms).div_euclid(length_ms) * length_ms - shift_ms)
                .or_default()
                .push(document);
        }
    }
    let buckets: Result<Vec<Json>> = groups
        .into_iter()
        .map(|(key, members)| {
            let text = text::format_timestamp(key * MICROS_OF_A_MILLI, 3, text::TimestampStyle::Iso8601);
            bucket(json!({"key_as_string": text, "key": key}), inner, &members)
        })
        .collect();
    Ok(json!({"buckets": buckets?}))
}
