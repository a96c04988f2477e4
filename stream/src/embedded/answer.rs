//! Requests to answers, in Elasticsearch's shapes.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value as Json, json};

use super::search::{self, Unknown};
use super::store::{Document, Guard, Index, Outcome, Store};
use lockstep_shared::text;

/// Moments kept at a time; the oldest goes first.
const MOMENTS: usize = 16;
/// Hits of a search that names no size.
const DEFAULT_SIZE: u64 = 10;
/// The version that clients are told.
const VERSION: &str = "8.19.0";

/// A request, as far as answers depend on it.
pub(super) struct Request<'a> {
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    pub(super) query: &'a str,
    pub(super) body: &'a [u8],
}

impl Request<'_> {
    pub(super) fn has(&self, name: &str) -> bool {
        self.query
            .split('&')
            .any(|pair| pair == name || pair.strip_prefix(name).is_some_and(|rest| rest == "=true" || rest == "="))
    }

    fn value(&self, name: &str) -> Option<String> {
        let value = self.query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))?;
        Some(decoded(&value.replace('+', " ")))
    }
}

/// `%20` and the like.
fn decoded(text: &str) -> String {
    let (bytes, mut out, mut at) = (text.as_bytes(), Vec::new(), 0);
    while at < bytes.len() {
        let hex = (bytes[at] == b'%')
            .then(|| text.get(at + 1..at + 3))
            .flatten()
            .and_then(|h| u8::from_str_radix(h, 16).ok());
        out.push(hex.unwrap_or(bytes[at]));
        at += if hex.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// An answer and its status.
pub(super) enum Answer {
    Json(u16, Json),
    Text(u16, String),
}

impl Answer {
    pub(super) fn status(&self) -> u16 {
        match self {
            Self::Json(status, _) | Self::Text(status, _) => *status,
        }
    }
}

/// An error in Elasticsearch's shape.
fn error(status: u16, kind: &str, reason: impl Into<String>) -> Answer {
    let reason: String = reason.into();
    let cause = json!({"type": kind, "reason": reason});
    Answer::Json(status, json!({"error": {"root_cause": [cause], "type": kind, "reason": reason}, "status": status}))
}

type Answered = Result<Answer, Answer>;
type Moment = (String, String, Arc<Vec<(String, Document)>>);

impl From<Unknown> for Answer {
    fn from(Unknown(reason): Unknown) -> Self {
        error(400, "parsing_exception", reason)
    }
}

impl From<io::Error> for Answer {
    fn from(disk: io::Error) -> Self {
        error(503, "io_exception", format!("the embedded index cannot write its log: {disk}"))
    }
}

/// The whole server without its sockets.
pub(super) struct Node {
    store: Mutex<Store>,
    moments: Mutex<VecDeque<Moment>>,
}

impl Node {
    pub(super) fn open(directory: &Path) -> io::Result<Self> {
        Ok(Self { store: Mutex::new(Store::open(directory)?), moments: Mutex::default() })
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn moments(&self) -> MutexGuard<'_, VecDeque<Moment>> {
        self.moments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn answer(&self, request: &Request<'_>) -> Answer {
        let path = decoded(request.path);
        let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty()).collect();
        self.route(request, &parts).unwrap_or_else(|refused| refused)
    }

    fn route(&self, request: &Request<'_>, parts: &[&str]) -> Answered {
        match (request.method, parts) {
            ("GET" | "HEAD", []) => Ok(Answer::Json(200, json!({
                "name": "lockstep", "cluster_name": "lockstep-embedded", "tagline": "the embedded index of Lockstep",
                "version": {"number": VERSION, "build_flavor": "default", "minimum_wire_compatibility_version": "7.17.0"},
            }))),
            ("GET", ["_cat", "indices"]) => Ok(self.listing()),
            ("GET", ["_cluster", "health"]) => Ok(Answer::Json(200, json!({"cluster_name": "lockstep-embedded", "status": "green", "number_of_nodes": 1}))),
            ("POST" | "PUT", ["_bulk"]) => self.bulk(request, None),
            ("POST" | "PUT", [index, "_bulk"]) => self.bulk(request, Some(index)),
            ("DELETE", ["_pit"]) => self.close_moment(request),
            ("POST" | "GET", ["_search"]) => self.search(request, None),
            ("POST" | "GET", [index, "_search"]) => self.search(request, Some(index)),
            ("POST" | "GET", [index, "_count"]) => self.count(request, index),
            ("POST", [index, "_pit"]) => self.open_moment(index),
            ("POST" | "GET", ["_refresh"] | [_, "_refresh"]) => {
                if let [index, _] = parts {
                    self.with_index(index, |_| ())?;
                }
                Ok(Answer::Json(200, json!({"_shards": {"total": 1, "successful": 1, "failed": 0}})))
            }
            ("GET", [index, "_mapping"]) => {
                self.with_index(index, |i| Answer::Json(200, json!({*index: {"mappings": i.creation["mappings"]}})))
            }
            ("GET" | "HEAD", [index]) => {
                self.with_index(index, |i| Answer::Json(200, json!({*index: {"mappings": i.creation["mappings"], "settings": i.creation["settings"], "aliases": {}}})))
            }
            ("PUT", [index]) => self.create(request, index),
            ("DELETE", [index]) => self.drop_index(index),
            ("GET" | "HEAD", [index, "_doc", id]) => self.get(index, id),
            ("PUT" | "POST", [index, "_doc", id]) => self.put(request, index, id, false),
            ("PUT" | "POST", [index, "_create", id]) => self.put(request, index, id, true),
            ("POST", [index, "_doc"]) => self.put(request, index, &uuid::Uuid::new_v4().simple().to_string(), true),
            ("DELETE", [index, "_doc", id]) => self.delete(request, index, id),
            (method, _) => Err(error(400, "illegal_argument_exception", format!("the embedded index has no {method} {}; use a real Elasticsearch for it", request.path))),
        }
    }

    fn with_index<T>(&self, name: &str, use_it: impl FnOnce(&Index) -> T) -> Result<T, Answer> {
        match self.store().indexes.get(name) {
            Some(index) => Ok(use_it(index)),
            None => Err(missing_index(name)),
        }
    }

    fn listing(&self) -> Answer {
        let store = self.store();
        let lines = store.indexes.iter().map(|(name, index)| format!("green open {name} {}\n", index.documents.len()));
        Answer::Text(200, lines.collect())
    }

    fn create(&self, request: &Request<'_>, name: &str) -> Answered {
        let body = body_of(request)?;
        let mut store = self.store();
        if store.indexes.contains_key(name) {
            return Err(error(400, "resource_already_exists_exception", format!("index [{name}] already exists")));
        }
        store.create(name, body)?;
        store.sync()?;
        Ok(Answer::Json(200, json!({"acknowledged": true, "shards_acknowledged": true, "index": name})))
    }

    fn drop_index(&self, name: &str) -> Answered {
        self.with_index(name, |_| ())?;
        let mut store = self.store();
        store.drop_index(name)?;
        store.sync()?;
        Ok(Answer::Json(200, json!({"acknowledged": true})))
    }

    fn get(&self, name: &str, id: &str) -> Answered {
        self.with_index(name, |index| match index.documents.get(id) {
            Some(d) => Answer::Json(200, json!({"_index": name, "_id": id, "_version": d.version, "_seq_no": d.seq_no, "_primary_term": 1, "found": true, "_source": *d.source})),
            None => Answer::Json(404, json!({"_index": name, "_id": id, "found": false})),
        })
    }

    fn put(&self, request: &Request<'_>, name: &str, id: &str, create: bool) -> Answered {
        let source = body_of(request)?;
        let guard = if create { Guard::Create } else { guard_of(&|name| request.value(name)) };
        let mut store = self.store();
        let (status, item) = write(&mut store, name, id, Some(source), guard)?;
        store.sync()?;
        Ok(Answer::Json(status, single(item, status)))
    }

    fn delete(&self, request: &Request<'_>, name: &str, id: &str) -> Answered {
        self.with_index(name, |_| ())?;
        let guard = guard_of(&|name| request.value(name));
        let mut store = self.store();
        let (status, item) = write(&mut store, name, id, None, guard)?;
        store.sync()?;
        Ok(Answer::Json(status, single(item, status)))
    }

    fn bulk(&self, request: &Request<'_>, index: Option<&str>) -> Answered {
        let mut lines = request.body.split(|b| *b == b'\n').filter(|line| !line.is_empty());
        let (mut items, mut errors) = (Vec::new(), false);
        let mut store = self.store();
        while let Some(line) = lines.next() {
            let action: Json = parsed(line)?;
            let Some((verb, options)) = action.as_object().and_then(|fields| fields.iter().next()) else {
                return Err(error(400, "illegal_argument_exception", "malformed action line"));
            };
            let text = |name: &str| match &options[name] {
                Json::Null => None,
                Json::String(text) => Some(text.clone()),
                other => Some(other.to_string()),
            };
            let name = text("_index").or(index.map(str::to_owned)).unwrap_or_default();
            let id = text("_id").unwrap_or_else(|| uuid::Uuid::new_v4().simple().to_string());
            let (source, guard) = match verb.as_str() {
                "index" => (Some(parsed(lines.next().unwrap_or_default())?), guard_of(&text)),
                "create" => (Some(parsed(lines.next().unwrap_or_default())?), Guard::Create),
                "delete" => (None, guard_of(&text)),
                other => {
                    return Err(error(
                        400,
                        "illegal_argument_exception",
                        format!("the embedded index has no bulk action [{other}]"),
                    ));
                }
            };
            let (status, mut item) = write(&mut store, &name, &id, source, guard)?;
            errors |= status >= 300 && status != 404;
            item["status"] = json!(status);
            items.push(json!({verb: item}));
        }
        store.sync()?;
        Ok(Answer::Json(200, json!({"took": 0, "errors": errors, "items": items})))
    }

    fn open_moment(&self, name: &str) -> Answered {
        let documents =
            self.with_index(name, |i| i.documents.iter().map(|(id, d)| (id.clone(), d.clone())).collect())?;
        let id = uuid::Uuid::new_v4().simple().to_string();
        let mut moments = self.moments();
        if moments.len() == MOMENTS {
            moments.pop_front();
        }
        moments.push_back((id.clone(), name.to_owned(), Arc::new(documents)));
        Ok(Answer::Json(200, json!({"id": id})))
    }

    fn close_moment(&self, request: &Request<'_>) -> Answered {
        let body = body_of(request)?;
        let mut moments = self.moments();
        let before = moments.len();
        moments.retain(|(id, ..)| body["id"].as_str() != Some(id));
        Ok(Answer::Json(200, json!({"succeeded": true, "num_freed": before - moments.len()})))
    }

    fn count(&self, request: &Request<'_>, name: &str) -> Answered {
        let query = query_of(request, &body_of(request)?);
        let documents = self.documents(name)?;
        let count = matching(&query, &documents)?.len();
        Ok(Answer::Json(
            200,
            json!({"count": count, "_shards": {"total": 1, "successful": 1, "skipped": 0, "failed": 0}}),
        ))
    }

    fn documents(&self, name: &str) -> Result<Arc<Vec<(String, Document)>>, Answer> {
        self.with_index(name, |i| Arc::new(i.documents.iter().map(|(id, d)| (id.clone(), d.clone())).collect()))
    }

    fn search(&self, request: &Request<'_>, index: Option<&str>) -> Answered {
        let body = body_of(request)?;
        let moment = body["pit"]["id"].as_str();
        let (name, documents) = match (moment, index) {
            (Some(id), _) => {
                let moments = self.moments();
                let found = moments.iter().find(|(known, ..)| known == id);
                let Some((_, name, documents)) = found else {
                    return Err(error(
                        404,
                        "search_context_missing_exception",
                        format!("No search context found for id [{id}]"),
                    ));
                };
                (name.clone(), documents.clone())
            }
            (None, Some(name)) => (name.to_owned(), self.documents(name)?),
            (None, None) => return Err(error(400, "illegal_argument_exception", "name the index: /INDEX/_search")),
        };
        let mut found = matching(&query_of(request, &body), &documents)?;
        let total = found.len();
        let by_place = body["sort"][0].get("_shard_doc").is_some();
        if !by_place {
            found.sort_by(|a, b| search::order(&body["sort"], (&a.1.0, &a.1.1.source), (&b.1.0, &b.1.1.source)));
        }
        let number = |name: &str, otherwise: u64| {
            body[name].as_u64().or_else(|| request.value(name)?.parse().ok()).unwrap_or(otherwise)
        };
        let after = body["search_after"][0].as_u64().filter(|_| by_place);
        let (from, size) = (number("from", 0), number("size", DEFAULT_SIZE));
        let hits: Vec<Json> = found
            .iter()
            .filter(|(place, _)| after.is_none_or(|after| *place as u64 > after))
            .skip(usize::try_from(from).unwrap_or(usize::MAX))
            .take(usize::try_from(size).unwrap_or(usize::MAX))
            .map(|(place, (id, d))| hit(&name, id, d, &body, by_place.then_some(*place)))
            .collect();
        let mut answer = json!({
            "took": 0, "timed_out": false, "_shards": {"total": 1, "successful": 1, "skipped": 0, "failed": 0},
            "hits": {"total": {"value": total, "relation": "eq"}, "max_score": null, "hits": hits},
        });
        if let Some(id) = moment {
            answer["pit_id"] = json!(id);
        }
        if let Some(aggregations) = body.get("aggs").or_else(|| body.get("aggregations")) {
            let sources: Vec<&Json> = found.iter().map(|(_, (_, d))| &*d.source).collect();
            answer["aggregations"] = search::aggregate(aggregations, &sources)?;
        }
        Ok(Answer::Json(200, answer))
    }
}

fn missing_index(name: &str) -> Answer {
    error(404, "index_not_found_exception", format!("no such index [{name}]"))
}

fn parsed(text: &[u8]) -> Result<Json, Answer> {
    serde_json::from_slice(text).map_err(|e| error(400, "parsing_exception", format!("no JSON: {e}")))
}

fn body_of(request: &Request<'_>) -> Result<Json, Answer> {
    if request.body.trim_ascii().is_empty() { Ok(json!({})) } else { parsed(request.body) }
}

fn query_of(request: &Request<'_>, body: &Json) -> Json {
    match (request.value("q"), body.get("query")) {
        (Some(text), _) => json!({"query_string": {"query": text}}),
        (None, Some(query)) => query.clone(),
        (None, None) => json!({"match_all": {}}),
    }
}

type Placed<'a> = (usize, &'a (String, Document));

fn matching<'a>(query: &Json, documents: &'a [(String, Document)]) -> Result<Vec<Placed<'a>>, Answer> {
    let mut found = Vec::new();
    for placed in documents.iter().enumerate() {
        if search::matches(query, &placed.1.0, &placed.1.1.source)? {
            found.push(placed);
        }
    }
    Ok(found)
}

fn hit(index: &str, id: &str, d: &Document, body: &Json, place: Option<usize>) -> Json {
    let mut hit = json!({"_index": index, "_id": id, "_score": null});
    if body["_source"] != json!(false) {
        hit["_source"] = (*d.source).clone();
    }
    if body["version"] == json!(true) {
        hit["_version"] = json!(d.version);
    }
    if body["seq_no_primary_term"] == json!(true) {
        hit["_seq_no"] = json!(d.seq_no);
        hit["_primary_term"] = json!(1);
    }
    if let Some(place) = place {
        hit["sort"] = json!([place]);
    }
    hit
}

fn guard_of(option: &dyn Fn(&str) -> Option<String>) -> Guard {
    let number = |name| option(name).and_then(|text| text.parse().ok());
    match (number("version"), number("if_seq_no")) {
        (Some(version), _) => Guard::External(version),
        (None, Some(seen)) => Guard::SeqNo(seen),
        (None, None) if option("op_type").as_deref() == Some("create") => Guard::Create,
        (None, None) => Guard::None,
    }
}

/// Writes one document; the status and the item of the answer.
fn write(store: &mut Store, name: &str, id: &str, source: Option<Json>, guard: Guard) -> Result<(u16, Json), Answer> {
    let failed = |status: u16, kind: &str, reason: String| {
        Ok((status, json!({"_index": name, "_id": id, "error": {"type": kind, "reason": reason}})))
    };
    let Some(index) = store.indexes.get(name) else {
        return failed(404, "index_not_found_exception", format!("no such index [{name}]"));
    };
    if let Some(source) = &source
        && let Err((kind, reason)) = fits(&index.creation["mappings"], source)
    {
        return failed(400, kind, reason);
    }
    let done = |result: &str, version: u64, seq_no: u64| json!({"_index": name, "_id": id, "_version": version, "result": result, "_seq_no": seq_no, "_primary_term": 1});
    Ok(match store.write(name, id, source, guard)? {
        Outcome::Created(d) => (201, done("created", d.version, d.seq_no)),
        Outcome::Updated(d) => (200, done("updated", d.version, d.seq_no)),
        Outcome::Deleted { version, seq_no } => (200, done("deleted", version, seq_no)),
        Outcome::NotFound { version, seq_no } => (404, done("not_found", version, seq_no)),
        Outcome::Conflict(reason) => return failed(409, "version_conflict_engine_exception", reason),
    })
}

/// The answer to a single write: an error stands in the answer, not in an item.
fn single(mut item: Json, status: u16) -> Json {
    if item["error"].is_null() {
        return item;
    }
    json!({"error": item["error"].take(), "status": status})
}

/// Whether the mapping takes the document: `dynamic: strict` refuses unknown fields, and every field has its type.
fn fits(mappings: &Json, source: &Json) -> Result<(), (&'static str, String)> {
    let Some(fields) = source.as_object() else {
        return Err(("document_parsing_exception", "a document must be an object".into()));
    };
    for (name, value) in fields {
        match mappings["properties"][name]["type"].as_str() {
            None if mappings["dynamic"] == json!("strict") => {
                return Err((
                    "strict_dynamic_mapping_exception",
                    format!("mapping set to strict, dynamic introduction of [{name}] within [_doc] is not allowed"),
                ));
            }
            Some(kind) if !value.is_null() && !is_of(kind, value) => {
                return Err((
                    "document_parsing_exception",
                    format!("failed to parse field [{name}] of type [{kind}]: {value}"),
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

fn is_of(kind: &str, value: &Json) -> bool {
    let number = match value {
        Json::Number(n) => n.as_f64(),
        Json::String(text) => text.parse().ok(),
        _ => None,
    };
    let within = |bits: i32| number.is_some_and(|n| n >= -(2_f64.powi(bits)) && n < 2_f64.powi(bits));
    match kind {
        "byte" => within(7),
        "short" => within(15),
        "integer" => within(31),
        "long" => within(63),
        "float" | "double" => number.is_some_and(f64::is_finite),
        "boolean" => value.is_boolean() || matches!(value.as_str(), Some("true" | "false" | "")),
        "date" => {
            value.is_i64()
                || value.as_str().is_some_and(|t| text::parse_timestamp(t).is_some() || text::parse_date(t).is_some())
        }
        _ => !value.is_object() && !value.is_array(),
    }
}
