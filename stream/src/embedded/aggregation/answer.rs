//! What was found, in Elasticsearch's shapes.

use std::cmp::Ordering;

use rustc_hash::FxHashMap;
use serde_json::{Map, Value as Json, json};

use super::super::answer::Refusal;
use super::super::dates::{self, Interval};
use super::super::value::Kind as FieldKind;
use super::collect::{Bucket, Numbers, State, too_many_buckets};
use super::column::Key;
use super::request::{Aggregation, Axis, By, Keyed, Kind, Metric, Order, Piece, Shared};

/// Most buckets of one histogram, as Elasticsearch's `search.max_buckets`.
const MOST_BUCKETS: usize = 65_536;

type Answer = Result<Json, Refusal>;

/// The answers of a tree.
pub(super) fn answers(tree: &[Aggregation], states: &[State], shared: &Shared) -> Result<Map<String, Json>, Refusal> {
    let mut answers = Map::new();
    for (aggregation, state) in tree.iter().zip(states) {
        let mut answer = one(aggregation, state, shared)?;
        if let Some(meta) = &aggregation.meta {
            answer["meta"] = meta.clone();
        }
        answers.insert(aggregation.name.clone(), answer);
    }
    Ok(answers)
}

fn one(aggregation: &Aggregation, state: &State, shared: &Shared) -> Answer {
    match (&aggregation.kind, state) {
        (Kind::Metric { field, metric }, State::Numbers(numbers)) => Ok(number(*metric, numbers, shared.kind(*field))),
        (Kind::Cardinality { .. }, State::Distinct(values)) => Ok(json!({"value": values.len()})),
        (Kind::Terms { .. }, State::ByKey(buckets)) => terms(aggregation, buckets, shared),
        (Kind::DateHistogram { interval, range, .. }, State::ByKey(buckets)) => {
            date_histogram(aggregation, (*interval, range), buckets, shared)
        }
        (Kind::Histogram { interval, offset, range, .. }, State::ByKey(buckets)) => {
            histogram(aggregation, (*interval, *offset, range), buckets, shared)
        }
        (Kind::Range { ranges, keyed, .. }, State::Fixed(buckets)) => {
            pieces(aggregation, (ranges, *keyed), buckets, shared)
        }
        (Kind::Filters { queries, other, keyed }, State::Fixed(buckets)) => {
            let keys = queries.iter().map(|(key, _)| key).chain(other);
            let buckets: Result<Vec<(String, Json)>, Refusal> = keys
                .zip(buckets)
                .map(|(key, found)| Ok((key.clone(), bucket(aggregation, found, json!({}), shared)?)))
                .collect();
            Ok(json!({"buckets": keyed_by(*keyed, buckets?)}))
        }
        (_, State::Fixed(buckets)) => {
            buckets.first().map_or(Ok(Json::Null), |found| bucket(aggregation, found, json!({}), shared))
        }
        _ => Ok(Json::Null),
    }
}

/// A bucket: what it is called, its count, and what is within.
fn bucket(aggregation: &Aggregation, found: &Bucket, mut answer: Json, shared: &Shared) -> Answer {
    answer["doc_count"] = json!(found.doc_count);
    let inner = answers(&aggregation.inner, &found.inner, shared)?;
    if let Some(fields) = answer.as_object_mut() {
        fields.extend(inner);
    }
    Ok(answer)
}

fn keyed_by(keyed: Keyed, buckets: Vec<(String, Json)>) -> Json {
    match keyed {
        Keyed::Object => Json::Object(buckets.into_iter().collect()),
        Keyed::List => Json::Array(buckets.into_iter().map(|(_, bucket)| bucket).collect()),
    }
}

fn number(metric: Metric, numbers: &Numbers, kind: Option<FieldKind>) -> Json {
    let some = |value: f64| if numbers.count == 0 { Json::Null } else { json!(value) };
    let average = || numbers.sum() / numbers.count as f64;
    let value = match metric {
        Metric::ValueCount => return json!({"value": numbers.count}),
        Metric::Stats => {
            return json!({
                "count": numbers.count, "min": some(numbers.min), "max": some(numbers.max), "avg": some(average()),
                "sum": numbers.sum(),
            });
        }
        Metric::Sum => json!(numbers.sum()),
        Metric::Avg => some(average()),
        Metric::Min => some(numbers.min),
        Metric::Max => some(numbers.max),
    };
    match (kind, value.as_f64()) {
        (Some(FieldKind::Date), Some(ms)) => json!({"value": value, "value_as_string": dates::iso(ms as i64)}),
        _ => json!({"value": value}),
    }
}

/// A number of an aggregation within, to order by.
fn measured(aggregation: &Aggregation, found: &Bucket, name: &str, what: &str) -> Option<f64> {
    let at = aggregation.inner.iter().position(|inner| inner.name == name)?;
    let (inner, state) = (&aggregation.inner[at], found.inner.get(at)?);
    match (&inner.kind, state) {
        (Kind::Metric { metric: Metric::Stats, .. }, State::Numbers(numbers)) => {
            number(Metric::Stats, numbers, None)[what].as_f64()
        }
        (Kind::Metric { metric, .. }, State::Numbers(numbers)) => number(*metric, numbers, None)["value"].as_f64(),
        (_, State::Distinct(values)) => Some(values.len() as f64),
        (_, State::Fixed(buckets)) => buckets.first().map(|bucket| bucket.doc_count as f64),
        _ => None,
    }
}

fn compare(aggregation: &Aggregation, order: &[Order], a: (&Key, &Bucket), b: (&Key, &Bucket)) -> Ordering {
    for order in order {
        let found = match &order.by {
            By::Key => a.0.cmp(b.0),
            By::Count => a.1.doc_count.cmp(&b.1.doc_count),
            By::Metric { name, number } => {
                let of = |bucket| measured(aggregation, bucket, name, number);
                match (of(a.1), of(b.1)) {
                    (Some(a), Some(b)) => a.total_cmp(&b),
                    // A bucket without the number comes last, whatever the direction.
                    (None, Some(_)) => return Ordering::Greater,
                    (Some(_), None) => return Ordering::Less,
                    (None, None) => Ordering::Equal,
                }
            }
        };
        if found.is_ne() {
            return if order.descending { found.reverse() } else { found };
        }
    }
    a.0.cmp(b.0)
}

fn terms(aggregation: &Aggregation, buckets: &FxHashMap<Key, Bucket>, shared: &Shared) -> Answer {
    let Kind::Terms { field, size, min_doc_count, order, .. } = &aggregation.kind else { return Ok(Json::Null) };
    let mut found: Vec<(&Key, &Bucket)> = buckets.iter().collect();
    found.retain(|(_, bucket)| bucket.doc_count >= *min_doc_count);
    found.sort_by(|a, b| compare(aggregation, order, *a, *b));
    let others: u64 = found.iter().skip(*size).map(|(_, bucket)| bucket.doc_count).sum();
    let answers: Result<Vec<Json>, Refusal> = found
        .iter()
        .take(*size)
        .map(|(key, found)| bucket(aggregation, found, key_json(key, shared.kind(*field)), shared))
        .collect();
    Ok(json!({"doc_count_error_upper_bound": 0, "sum_other_doc_count": others, "buckets": answers?}))
}

fn key_json(key: &Key, kind: Option<FieldKind>) -> Json {
    match (key, kind) {
        (Key::Text(text), _) => json!({"key": **text}),
        (Key::Whole(number), Some(FieldKind::Boolean)) => {
            json!({"key": number, "key_as_string": if *number == 0 { "false" } else { "true" }})
        }
        (Key::Whole(ms), Some(FieldKind::Date)) => json!({"key": ms, "key_as_string": dates::iso(*ms)}),
        (Key::Whole(number), _) => json!({"key": number}),
        (Key::Float(bits), _) => json!({"key": tantivy::u64_to_f64(*bits)}),
    }
}

fn date_histogram(
    aggregation: &Aggregation,
    (interval, axis): (Interval, &Axis),
    buckets: &FxHashMap<Key, Bucket>,
    shared: &Shared,
) -> Answer {
    let mut keys: Vec<i64> =
        buckets.keys().filter_map(|k| if let Key::Whole(ms) = k { Some(*ms) } else { None }).collect();
    if axis.min_doc_count == 0 {
        let extended = axis.extended.map(|(from, to)| [interval.floor(from as i64), interval.floor(to as i64)]);
        keys.extend(extended.into_iter().flatten().flatten());
        let (first, last) = (keys.iter().min().copied(), keys.iter().max().copied());
        let mut next = first;
        keys.clear();
        while let (Some(at), Some(last)) = (next, last)
            && at <= last
        {
            keys.push(at);
            within_limit(keys.len())?;
            next = interval.next(at);
        }
    }
    keys.sort_unstable();
    let named = |ms: i64| (Key::Whole(ms), dates::iso(ms), json!({"key_as_string": dates::iso(ms), "key": ms}));
    on_axis(aggregation, axis, keys.into_iter().map(named).collect(), buckets, shared)
}

fn histogram(
    aggregation: &Aggregation,
    (interval, offset, axis): (f64, f64, &Axis),
    buckets: &FxHashMap<Key, Bucket>,
    shared: &Shared,
) -> Answer {
    let number = |key: &Key| if let Key::Float(bits) = key { Some(tantivy::u64_to_f64(*bits)) } else { None };
    let mut keys: Vec<f64> = buckets.keys().filter_map(number).collect();
    if axis.min_doc_count == 0 {
        let steps = |value: f64| ((value - offset) / interval).floor();
        let extended = axis.extended.map(|(from, to)| [steps(from), steps(to)]);
        let filled = keys.iter().map(|key| ((key - offset) / interval).round()).chain(extended.into_iter().flatten());
        let (first, last) = filled.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(v), b.max(v)));
        let mut step = first;
        keys.clear();
        while step <= last {
            keys.push(step * interval + offset + 0.0);
            within_limit(keys.len())?;
            step += 1.0;
        }
    }
    keys.sort_by(f64::total_cmp);
    let named = |key: f64| (Key::Float(tantivy::f64_to_u64(key)), json!(key).to_string(), json!({"key": key}));
    on_axis(aggregation, axis, keys.into_iter().map(named).collect(), buckets, shared)
}

fn within_limit(count: usize) -> Result<(), Refusal> {
    if count > MOST_BUCKETS { Err(too_many_buckets(MOST_BUCKETS)) } else { Ok(()) }
}

/// Buckets along an axis, those that are empty too.
fn on_axis(
    aggregation: &Aggregation,
    axis: &Axis,
    keys: Vec<(Key, String, Json)>,
    buckets: &FxHashMap<Key, Bucket>,
    shared: &Shared,
) -> Answer {
    let empty = Bucket::new(&aggregation.inner);
    let mut answers = Vec::with_capacity(keys.len());
    for (key, name, called) in keys {
        let found = buckets.get(&key).unwrap_or(&empty);
        if found.doc_count >= axis.min_doc_count {
            answers.push((name, bucket(aggregation, found, called, shared)?));
        }
    }
    if axis.descending {
        answers.reverse();
    }
    Ok(json!({"buckets": keyed_by(axis.keyed, answers)}))
}

fn pieces(
    aggregation: &Aggregation,
    (ranges, keyed): (&[Piece], Keyed),
    buckets: &[Bucket],
    shared: &Shared,
) -> Answer {
    let mut answers = Vec::with_capacity(buckets.len());
    for (piece, found) in ranges.iter().zip(buckets) {
        let mut called = if keyed == Keyed::List { json!({"key": piece.key}) } else { json!({}) };
        for (name, bound) in [("from", piece.from), ("to", piece.to)] {
            if let Some(bound) = bound {
                called[name] = json!(bound);
            }
        }
        answers.push((piece.key.clone(), bucket(aggregation, found, called, shared)?));
    }
    Ok(json!({"buckets": keyed_by(keyed, answers)}))
}
