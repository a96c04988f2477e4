//! A search: which documents match, which of them come first, and what is said of each.

use std::ops::{ControlFlow, Range};

use super::aggregation::Aggregations;
use super::answer::{Answer, Answered, Refusal, shards};
use super::hit::{self, Shown, SourceFilter};
use super::part::Part;
use super::query::Reader;
use super::request::{Request, list, names};
use super::sort::{self, Best, Candidate, Key, Value};
use serde_json::{Value as Json, json};

/// Hits of a search that names no size.
const DEFAULT_SIZE: u64 = 10;
/// Most hits of a search, as Elasticsearch's `index.max_result_window`.
const MOST_HITS: u64 = 10_000;
/// Matches are counted up to here where the search does not say, as in Elasticsearch.
const COUNTED: u64 = 10_000;
/// Most slices of a point in time.
const MOST_SLICES: u64 = 1_024;

/// A search, read.
struct Search {
    query: Json,
    from: usize,
    size: usize,
    keys: Vec<Key>,
    after: Vec<Json>,
    count: Count,
    slice: Option<(u64, u64)>,
    aggregations: Option<Json>,
    shown: Shown,
}

/// How many matches are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Count {
    Nothing,
    UpTo(u64),
    All,
}

/// What a search looks at, and what makes its answer a point in time's.
pub(super) struct Scope {
    pub(super) parts: Vec<Part>,
    pub(super) point_in_time: Option<String>,
}

/// Answers `_search`.
pub(super) fn search(request: &Request<'_>, body: &Json, scope: Scope, now_ms: i64) -> Answered {
    let search = Search::read(request, body, scope.point_in_time.is_some())?;
    let mut aggregations =
        search.aggregations.as_ref().map(|given| Aggregations::new(given, &scope.parts)).transpose()?;
    let found = search.run(&scope.parts, aggregations.as_mut(), now_ms)?;
    let mut head = json!({"took": 0, "timed_out": false, "_shards": shards(scope.parts.len())});
    if let Some(id) = scope.point_in_time {
        head["pit_id"] = json!(id);
    }
    if let Some(aggregations) = aggregations {
        head["aggregations"] = Json::Object(aggregations.answer()?);
    }
    let total = match search.count {
        Count::Nothing => None,
        Count::UpTo(limit) if found.count > limit => Some(json!({"value": limit, "relation": "gte"})),
        Count::UpTo(_) | Count::All => Some(json!({"value": found.count, "relation": "eq"})),
    };
    let sorted = if search.is_sorted() { Some(search.keys.as_slice()) } else { None };
    let text = hit::page(&head, total.as_ref(), &found.candidates, &scope.parts, (sorted, &search.shown))?;
    Ok(Answer::RawJson(text))
}

/// Answers `_count`.
pub(super) fn count(request: &Request<'_>, body: &Json, parts: &[Part], now_ms: i64) -> Answered {
    let only_query = json!({"query": body.get("query").unwrap_or(&Json::Null), "size": 0, "track_total_hits": true});
    let search = Search::read(request, &only_query, false)?;
    let found = search.run(parts, None, now_ms)?;
    Answer::ok(json!({"count": found.count, "_shards": shards(parts.len())}))
}

struct Found {
    count: u64,
    candidates: Vec<Candidate>,
}

impl Found {
    /// The first ones of all segments, without those before `from`.
    fn page(mut self, search: &Search) -> Self {
        self.candidates.sort_by(|a, b| sort::compare(&search.keys, a, b));
        self.candidates.truncate(search.from + search.size);
        self.candidates.drain(..search.from.min(self.candidates.len()));
        self
    }
}

impl Search {
    fn read(request: &Request<'_>, body: &Json, of_moment: bool) -> Result<Self, Refusal> {
        let number = |name: &str, otherwise: u64| match &body[name] {
            Json::Null => Ok(request.number(name)?.unwrap_or(otherwise)),
            given => given.as_u64().ok_or_else(|| Refusal::argument(format!("[{name}] is {given}, and no count"))),
        };
        let (from, size) = (number("from", 0)?, number("size", DEFAULT_SIZE)?);
        if from.saturating_add(size) > MOST_HITS {
            return Err(Refusal::argument(format!(
                "Result window is too large, from + size must be less than or equal to: [{MOST_HITS}] but was [{}]. \
                 Go through a point in time with search_after instead",
                from.saturating_add(size)
            )));
        }
        let mut keys = sort::keys(&sort_of(request, body))?;
        if of_moment && !keys.iter().any(|key| key.by == sort::By::Place) {
            keys.push(sort::by_place());
        }
        let after: Vec<Json> = list(&body["search_after"]).into_iter().cloned().collect();
        if !after.is_empty() && after.len() != keys.len() {
            return Err(Refusal::argument(format!(
                "search_after has {} value(s) but sort has {}.",
                after.len(),
                keys.len()
            )));
        }
        Ok(Self {
            query: query_of(request, body),
            from: usize::try_from(from).unwrap_or(usize::MAX),
            size: usize::try_from(size).unwrap_or(usize::MAX),
            keys,
            after,
            count: count_of(request, body)?,
            slice: slice_of(body)?,
            aggregations: body.get("aggs").or_else(|| body.get("aggregations")).cloned(),
            shown: Shown {
                source: SourceFilter::read(request, body)?,
                version: body["version"] == json!(true) || request.has("version"),
                seq_no: body["seq_no_primary_term"] == json!(true) || request.has("seq_no_primary_term"),
            },
        })
    }

    fn is_sorted(&self) -> bool {
        !self.keys.is_empty()
    }

    /// Whether nothing but hits is asked for, so that what comes before or after them need not be looked at.
    fn is_page_only(&self) -> bool {
        self.count == Count::Nothing && self.aggregations.is_none()
    }

    fn run(&self, parts: &[Part], mut aggregations: Option<&mut Aggregations>, now_ms: i64) -> Result<Found, Refusal> {
        let ordinals = self.ordinals(parts.iter().map(Part::places).sum());
        let mut found = Found { count: 0, candidates: Vec::new() };
        let mut base = 0;
        for (number, part) in parts.iter().enumerate() {
            let reader = Reader { mapping: &part.engine.mapping, spans: &part.engine.spans, now_ms };
            let weight = part.weight(&*reader.query(&self.query)?)?;
            let after: Result<Vec<Value>, Refusal> =
                self.keys.iter().zip(&self.after).map(|(key, given)| key.after(reader.mapping, given)).collect();
            let after = Some(after?).filter(|values| !values.is_empty());
            let filters = aggregations.as_ref().map(|all| all.filters(part, &reader)).transpose()?;
            for segment in part.segments(base)? {
                let mut best =
                    Best::new(&self.keys, reader.mapping, &segment, after.as_deref(), self.from + self.size)?;
                let mut of_segment = match (aggregations.as_deref_mut(), &filters) {
                    (Some(all), Some(filters)) => Some(all.segment(part, &segment, filters)?),
                    _ => None,
                };
                segment.walk(&*weight, &ordinals, |docs| {
                    best.offer(docs);
                    found.count += docs.len() as u64;
                    of_segment.as_mut().map_or(Ok(()), |of_segment| of_segment.take(docs))?;
                    let done = self.is_done(found.candidates.len() + best.len(), found.count);
                    Ok(if done { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
                })?;
                of_segment.map_or(Ok(()), |mut of_segment| of_segment.finish())?;
                found.candidates.extend(best.candidates(number)?);
                if self.is_done(found.candidates.len(), found.count) {
                    return Ok(found.page(self));
                }
            }
            base += part.places();
        }
        Ok(found.page(self))
    }

    /// Whether nothing that was not looked at can change the answer: the first documents are found, as they lie, and enough
    /// matches are counted.
    fn is_done(&self, found: usize, count: u64) -> bool {
        let counted = match self.count {
            Count::Nothing => true,
            Count::UpTo(limit) => count > limit,
            Count::All => false,
        };
        let in_order = self.keys.iter().all(Key::is_as_they_lie);
        counted && in_order && found >= self.from + self.size && self.aggregations.is_none()
    }

    /// The places that have to be looked at, of so many.
    fn ordinals(&self, places: u64) -> Range<u64> {
        let slice = match self.slice {
            Some((number, of)) => {
                let cut = |n: u64| u64::try_from(u128::from(places) * u128::from(n) / u128::from(of)).unwrap_or(places);
                cut(number)..cut(number + 1)
            }
            None => 0..places,
        };
        let only_key = self.keys.first().filter(|key| self.keys.len() == 1 && key.is_as_they_lie());
        match (only_key, self.after.first().and_then(Json::as_u64)) {
            (Some(_), Some(after)) if self.is_page_only() => slice.start.max(after.saturating_add(1))..slice.end,
            _ => slice,
        }
    }
}

fn query_of(request: &Request<'_>, body: &Json) -> Json {
    match (request.value("q"), &body["query"]) {
        (Some(text), _) => {
            let operator = request.value("default_operator").unwrap_or_else(|| "or".into());
            json!({"query_string": {"query": text, "default_operator": operator}})
        }
        (None, Json::Null) => json!({"match_all": {}}),
        (None, query) => query.clone(),
    }
}

/// `?sort=price:desc,name`, or the body's.
fn sort_of(request: &Request<'_>, body: &Json) -> Json {
    match request.value("sort") {
        None => body["sort"].clone(),
        Some(text) => {
            let key = |key: String| match key.split_once(':') {
                Some((field, order)) => json!({field: order}),
                None => json!(key),
            };
            Json::Array(names(&json!(text)).into_iter().map(key).collect())
        }
    }
}

fn count_of(request: &Request<'_>, body: &Json) -> Result<Count, Refusal> {
    let given = match request.value("track_total_hits") {
        None => body["track_total_hits"].clone(),
        Some(text) => serde_json::from_str(&text).unwrap_or(json!(text)),
    };
    match (&given, given.as_u64()) {
        (Json::Null, _) => Ok(Count::UpTo(COUNTED)),
        (Json::Bool(false), _) => Ok(Count::Nothing),
        (Json::Bool(true), _) => Ok(Count::All),
        (_, Some(limit)) => Ok(Count::UpTo(limit)),
        _ => Err(Refusal::argument(format!("[track_total_hits] is [{given}]; write true, false or a count"))),
    }
}

fn slice_of(body: &Json) -> Result<Option<(u64, u64)>, Refusal> {
    if body["slice"].is_null() {
        return Ok(None);
    }
    match (body["slice"]["id"].as_u64(), body["slice"]["max"].as_u64()) {
        (Some(number), Some(of)) if number < of && of <= MOST_SLICES => Ok(Some((number, of))),
        _ => Err(Refusal::argument(format!("[slice] needs an [id] lower than [max], and [max] up to {MOST_SLICES}"))),
    }
}
