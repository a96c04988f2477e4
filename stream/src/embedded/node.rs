//! The whole server without its sockets: a request in, an answer out.

use std::io;
use std::path::Path;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value as Json, json};

use super::answer::{Answer, Answered, Refusal, shards};
use super::catalog::Catalog;
use super::moments::{Moments, keep_alive};
use super::part::Part;
use super::request::Request;
use super::routes::{Route, route};
use super::search::{self, Scope};

/// The version that clients are told.
const VERSION: &str = "8.19.0";

/// The indexes, and the points in time that are open.
pub(super) struct Node {
    catalog: RwLock<Catalog>,
    pub(super) moments: Moments,
}

/// Milliseconds since 1970.
pub(super) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

impl Node {
    pub(super) fn open(directory: &Path) -> io::Result<Self> {
        Ok(Self { catalog: RwLock::new(Catalog::open(directory)?), moments: Moments::default() })
    }

    /// Brings what is in the logs into Tantivy's files, so that the next start has nothing to do again.
    pub(super) fn settle(&self) {
        for engine in self.catalog().engines() {
            if let Err(refusal) = engine.searcher(now_ms()) {
                tracing::warn!("the embedded index is stopped with its log: {}", refusal.reason);
            }
        }
    }

    pub(super) fn catalog(&self) -> RwLockReadGuard<'_, Catalog> {
        self.catalog.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn catalog_to_change(&self) -> RwLockWriteGuard<'_, Catalog> {
        self.catalog.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers a request.
    pub(super) fn answer(&self, request: &Request<'_>) -> Answer {
        let parts = request.parts();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let (method, path) = (request.method, request.path);
        match route(&parts) {
            None => {
                let reason = format!("no handler found for uri [{path}] and method [{method}]");
                Answer::Json(400, json!({"error": reason, "status": 400}))
            }
            Some((_, methods)) if !methods.contains(&method) => {
                let allowed = methods.join(", ");
                let reason =
                    format!("Incorrect HTTP method for uri [{path}] and method [{method}], allowed: [{allowed}]");
                Answer::Json(405, json!({"error": reason, "status": 405}))
            }
            Some((route, _)) => self.of_route(request, route).unwrap_or_else(|refusal| refusal.answer()),
        }
    }

    fn of_route(&self, request: &Request<'_>, route: Route<'_>) -> Answered {
        match route {
            Route::Info => Answer::ok(json!({
                "name": "lockstep", "cluster_name": "lockstep-embedded", "tagline": "the embedded index of Lockstep",
                "version": {
                    "number": VERSION, "build_flavor": "default", "minimum_wire_compatibility_version": "7.17.0",
                },
            })),
            Route::Health => Answer::ok(json!({
                "cluster_name": "lockstep-embedded", "status": "green", "timed_out": false, "number_of_nodes": 1,
            })),
            Route::CatIndices(indexes) => self.cat_indices(request, indexes),
            Route::CatAliases => self.cat_aliases(request),
            Route::Bulk(index) => self.bulk(request, index),
            Route::Search(indexes) => self.search(request, indexes),
            Route::Count(indexes) => search::count(request, &request.json()?, &self.parts(indexes)?, now_ms()),
            Route::OpenMoment(indexes) => self.open_moment(request, indexes),
            Route::CloseMoment => self.close_moment(request),
            Route::Refresh(indexes) => {
                let parts = self.parts(indexes)?;
                Answer::ok(json!({"_shards": shards(parts.len())}))
            }
            Route::Mapping(indexes) => self.mapping(indexes),
            Route::Settings(indexes) if request.method == "PUT" => self.set_settings(request, indexes),
            Route::Settings(indexes) => self.settings(indexes),
            Route::Aliases(indexes, aliases) => self.aliases(request, indexes, aliases),
            Route::AliasActions if request.method == "GET" => self.aliases(request, "*", "*"),
            Route::AliasActions => self.alias_actions(request),
            Route::Index(name) => match request.method {
                "PUT" => self.create_index(request, name),
                "DELETE" => self.delete_index(name),
                _ => self.index(name),
            },
            Route::NewDocument(index) => self.put(request, index, None),
            Route::Create(index, id) => self.create(request, index, id),
            Route::Source(index, id) => self.source(index, id),
            Route::Document(index, id) => match request.method {
                "PUT" | "POST" => self.put(request, index, Some(id)),
                "DELETE" => self.delete(request, index, id),
                _ => self.get(request, index, id),
            },
        }
    }

    /// What a search over these indexes sees now.
    pub(super) fn parts(&self, indexes: &str) -> Result<Vec<Part>, Refusal> {
        let engines: Result<Vec<_>, Refusal> = {
            let catalog = self.catalog();
            let names = catalog.resolve(indexes)?;
            names.into_iter().map(|name| Ok((catalog.engine(&name)?, name))).collect()
        };
        let part = |(engine, name): (std::sync::Arc<super::engine::Engine>, String)| {
            let searcher = engine.searcher(now_ms())?;
            Ok(Part { name, engine, searcher })
        };
        engines?.into_iter().map(part).collect()
    }

    fn search(&self, request: &Request<'_>, indexes: Option<&str>) -> Answered {
        let body = request.json()?;
        let scope = match (&body["pit"], indexes) {
            (Json::Null, indexes) => Scope { parts: self.parts(indexes.unwrap_or("*"))?, point_in_time: None },
            (_, Some(_)) => {
                return Err(Refusal::argument(
                    "[indices] cannot be used with point in time. Do not specify any index with point in time.",
                ));
            }
            (pit, None) => {
                let (id, parts) = self.moments.get(pit)?;
                Scope { parts, point_in_time: Some(id) }
            }
        };
        search::search(request, &body, scope, now_ms())
    }

    fn open_moment(&self, request: &Request<'_>, indexes: &str) -> Answered {
        let keep = keep_alive(request.value("keep_alive").as_deref())?;
        let parts = self.parts(indexes)?;
        let shards = shards(parts.len());
        Answer::ok(json!({"id": self.moments.add(parts, keep)?, "_shards": shards}))
    }

    fn close_moment(&self, request: &Request<'_>) -> Answered {
        let body = request.json()?;
        let id = body["id"].as_str().ok_or_else(|| Refusal::argument("the [id] of a point in time is needed"))?;
        self.moments.close(id)?;
        Answer::ok(json!({"succeeded": true, "num_freed": 1}))
    }
}
