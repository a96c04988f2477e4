//! Requests that read and write documents by id.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value as Json, json};

use super::answer::{Answer, Answered, Refusal};
use super::bulk::{self, Operation, Ordering, Verb};
use super::engine::{Done, Engine, Write};
use super::hit::{self, SourceFilter};
use super::node::{Node, now_ms};
use super::order::PRIMARY_TERM;
use super::part::Part;
use super::request::Request;

/// The writes of a body that go to one index, and the places of their items.
#[derive(Default)]
struct Batch {
    items: Vec<usize>,
    writes: Vec<Write>,
}

/// An item under way: the index and id that it is answered with, and what became of it.
struct Item {
    index: String,
    id: String,
    verb: Verb,
    outcome: Option<Result<Done, Refusal>>,
}

impl Node {
    pub(super) fn bulk(&self, request: &Request<'_>, index: Option<&str>) -> Answered {
        let items = self.write(bulk::read(request.body, index)?)?;
        let (mut answers, mut errors) = (Vec::with_capacity(items.len()), false);
        for item in items {
            let outcome = item.outcome.unwrap_or_else(|| Err(Refusal::no_index(&item.index)));
            errors |= outcome.is_err();
            answers.push(json!({item.verb.name(): bulk::item(&item.index, &item.id, &outcome).1}));
        }
        Answer::ok(json!({"took": 0, "errors": errors, "items": answers}))
    }

    /// Does operations, index by index; those of one index in order.
    fn write(&self, operations: Vec<Operation<'_>>) -> Result<Vec<Item>, Refusal> {
        let mut targets: BTreeMap<String, Result<(String, Arc<Engine>), Refusal>> = BTreeMap::new();
        let mut batches: BTreeMap<String, Batch> = BTreeMap::new();
        let mut items = Vec::with_capacity(operations.len());
        for Operation { verb, target, id, guard, source } in operations {
            let found = targets.entry(target.clone()).or_insert_with(|| self.written(&target));
            let (index, prepared) = match found {
                Err(refusal) => (target, Err(refusal.clone())),
                Ok((index, engine)) => {
                    let put = source.map(|source| Ok((source.to_vec(), engine.mapping.document(&id, source)?)));
                    (index.clone(), put.transpose())
                }
            };
            let outcome = match prepared {
                Err(refusal) => Some(Err(refusal)),
                Ok(put) => {
                    let batch = batches.entry(index.clone()).or_default();
                    batch.items.push(items.len());
                    batch.writes.push(Write { id: id.clone(), guard, put });
                    None
                }
            };
            items.push(Item { index, id, verb, outcome });
        }
        for (index, engine) in targets.into_values().flatten() {
            let Some(batch) = batches.remove(&index) else { continue };
            for (place, outcome) in batch.items.into_iter().zip(engine.write(batch.writes, now_ms())?) {
                items[place].outcome = Some(outcome);
            }
        }
        Ok(items)
    }

    fn written(&self, target: &str) -> Result<(String, Arc<Engine>), Refusal> {
        let catalog = self.catalog();
        let index = catalog.written(target)?;
        let engine = catalog.engine(&index)?;
        Ok((index, engine))
    }

    pub(super) fn put(&self, request: &Request<'_>, index: &str, id: Option<&str>) -> Answered {
        let verb = if request.value("op_type").as_deref() == Some("create") { Verb::Create } else { Verb::Index };
        self.one(request, verb, index, id)
    }

    pub(super) fn create(&self, request: &Request<'_>, index: &str, id: &str) -> Answered {
        self.one(request, Verb::Create, index, Some(id))
    }

    pub(super) fn delete(&self, request: &Request<'_>, index: &str, id: &str) -> Answered {
        self.one(request, Verb::Delete, index, Some(id))
    }

    /// One write that is a request of its own: an error stands in the answer, not in an item.
    fn one(&self, request: &Request<'_>, verb: Verb, target: &str, id: Option<&str>) -> Answered {
        let id = id.map_or_else(bulk::new_id, str::to_owned);
        bulk::check_id(&id)?;
        let given = |name: &str| request.value(name);
        let ordering = Ordering {
            version: given("version").map(Json::from),
            version_type: given("version_type"),
            if_seq_no: given("if_seq_no").map(Json::from),
            if_primary_term: given("if_primary_term").map(Json::from),
            op_type: None,
        };
        let source = match verb {
            Verb::Delete => None,
            _ if request.body.trim_ascii().is_empty() => return Err(Refusal::parsing("request body is required")),
            _ => Some(request.body),
        };
        let operation = Operation { verb, target: target.to_owned(), id, guard: ordering.guard(verb)?, source };
        let item = self.write(vec![operation])?.pop();
        let Some(Item { index, id, outcome: Some(outcome), .. }) = item else {
            return Err(Refusal::no_index(target));
        };
        let (status, mut answer) = bulk::item(&index, &id, &outcome);
        outcome?;
        if let Some(fields) = answer.as_object_mut() {
            fields.remove("status");
        }
        Ok(Answer::Json(status, answer))
    }

    pub(super) fn get(&self, request: &Request<'_>, target: &str, id: &str) -> Answered {
        let filter = SourceFilter::read(request, &json!({}))?;
        let (index, engine) = self.read(target)?;
        let Some((known, address, searcher)) = engine.find(id, now_ms())? else {
            return Ok(Answer::Json(404, json!({"_index": index, "_id": id, "found": false})));
        };
        let mut answer = json!({
            "_index": index, "_id": id, "_version": known.version, "_seq_no": known.seq_no,
            "_primary_term": PRIMARY_TERM, "found": true,
        });
        let kept = hit::kept(&Part { name: index, engine, searcher }, address)?;
        if let Some(source) = filter.apply(kept.source) {
            answer["_source"] = super::request::parsed(&source)?;
        }
        Answer::ok(answer)
    }

    pub(super) fn source(&self, target: &str, id: &str) -> Answered {
        let (index, engine) = self.read(target)?;
        match engine.find(id, now_ms())? {
            None => {
                Err(Refusal::new(404, "resource_not_found_exception", format!("Document not found [{index}]/[{id}]")))
            }
            Some((_, address, searcher)) => {
                let kept = hit::kept(&Part { name: index, engine, searcher }, address)?;
                Ok(Answer::RawJson(kept.source))
            }
        }
    }

    /// The one index that a name or alias stands for.
    fn read(&self, target: &str) -> Result<(String, Arc<Engine>), Refusal> {
        let catalog = self.catalog();
        let mut found = catalog.resolve(target)?;
        match (found.pop(), found.is_empty()) {
            (Some(index), true) => {
                let engine = catalog.engine(&index)?;
                Ok((index, engine))
            }
            (Some(_), false) => Err(Refusal::argument(format!(
                "alias [{target}] has more than one index associated with it, can't execute a single index op"
            ))),
            (None, _) => Err(Refusal::no_index(target)),
        }
    }
}
