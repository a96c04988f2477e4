//! Why a document is as it is: its whole life by the log, what it should be, what the index has, and the cause where the
//! two differ.

use std::fmt::{self, Display, Formatter};

use lockstep_shared::coordinates::Step;
use lockstep_shared::document::to_json;
use lockstep_shared::identity::DocumentId;
use lockstep_shared::index::scan::Found;
use lockstep_shared::index::{Client, ClientConfig, index_name};
use lockstep_shared::plan::{Pipeline, Sink};
use lockstep_shared::sql::settings::Settings;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};

use crate::cause::Examined;
use crate::certificate::{Sample, sample};
use crate::cut;
use crate::diff::{Comparison, Younger};
use crate::explain::Surroundings;
use crate::life::{Life, Standing, State, Unknown, lives};
use crate::life::{Store, fetch};
use crate::provenance::Provenance;
use crate::recompute::{self, Documents, RecomputeError};
use crate::reconcile::ReconcileError;

/// Turns of a life that are shown; the last ones of a longer life.
const TURNS_SHOWN: usize = 200;

/// What is known of an id in one sink.
#[derive(Clone, Debug, Serialize)]
pub struct Account {
    /// The sink table.
    pub sink: String,
    /// Its index; absent where it has none.
    pub index: Option<String>,
    /// The document's `_id`.
    pub id: String,
    /// The last step archived and acknowledged: up to it everything is told.
    pub cut: Step,
    /// How often it changed; more than are in `turns` where it did so very often.
    pub changes: usize,
    /// Its life.
    pub turns: Vec<Turn>,
    /// What it should be; absent where it should not be there.
    pub expected: Option<Json>,
    /// What the index has; absent where it is not there.
    pub found: Option<FoundDocument>,
    /// What differs, and why; absent where nothing does.
    pub difference: Option<Sample>,
    /// What keeps the account short, as a sentence.
    pub remark: Option<String>,
}

/// A step that changed the document, or the records behind it.
#[derive(Clone, Debug, Serialize)]
pub struct Turn {
    /// The step.
    pub step: Step,
    /// `written`, `changed`, `same` (other records, the same fields) or `deleted`.
    pub what: &'static str,
    /// The fields that became another value, with it.
    pub fields: Map<String, Json>,
    /// The records behind it, one an input that has a row.
    pub records: Vec<Provenance>,
    /// The records of the step that bear on it.
    pub by: Vec<Provenance>,
}

/// What the index has.
#[derive(Clone, Debug, Serialize)]
pub struct FoundDocument {
    /// The version.
    pub version: u64,
    /// The step that the version is of.
    pub step: Step,
    /// The document.
    pub source: Json,
}

impl Account {
    /// True where neither the log nor the index knows the id.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.turns.is_empty() && self.found.is_none()
    }
}

/// For people.
impl Display for Account {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        writeln!(out, "{} {}", self.index.as_ref().unwrap_or(&self.sink), self.id)?;
        if self.changes > self.turns.len() {
            writeln!(out, "  changed {} times, these are the last", self.changes)?;
        }
        for turn in &self.turns {
            writeln!(out, "  step {} {}", turn.step, turn.what)?;
            for (field, value) in &turn.fields {
                writeln!(out, "    {field}: {value}")?;
            }
            let from = if turn.what == "deleted" { &turn.by } else { &turn.records };
            for record in from {
                writeln!(out, "    {} {record}", if turn.what == "deleted" { "by" } else { "from" })?;
            }
        }
        let expected = self.expected.as_ref().map_or_else(|| "no document".to_owned(), Json::to_string);
        writeln!(out, "  after step {} it should be {expected}", self.cut)?;
        if let Some(remark) = &self.remark {
            writeln!(out, "  {remark}")?;
        }
        if self.index.is_some() {
            match &self.found {
                None => writeln!(out, "  the index does not have it")?,
                Some(found) => {
                    writeln!(out, "  the index has version {} (step {}): {}", found.version, found.step, found.source)?;
                }
            }
            match &self.difference {
                None => writeln!(out, "  in lockstep")?,
                Some(sample) => sample.fmt(out)?,
            }
        }
        Ok(())
    }
}

/// What is known of an id in each sink, or in the one that is named.
///
/// # Errors
/// Where the archive or an index cannot be read.
pub async fn why(pipeline: &Pipeline, id: &str, only: Option<&str>) -> Result<Vec<Account>, ReconcileError> {
    let settings = Settings::of(pipeline)?;
    let acknowledged = cut::acknowledged(&settings).await;
    let (archived, notes) = cut::archived(pipeline, &settings).await?;
    let cut = acknowledged.map_or(archived, |acknowledged| acknowledged.min(archived));
    let surroundings = Surroundings::read(pipeline, &settings, &notes).await?;
    let mut accounts = Vec::new();
    for sink in pipeline.sinks.iter().filter(|sink| only.is_none_or(|only| *only == sink.name)) {
        accounts.push(account(pipeline, sink, id, cut, &settings, &surroundings).await?);
    }
    Ok(accounts)
}

async fn account(
    pipeline: &Pipeline,
    sink: &Sink,
    id: &str,
    cut: Step,
    settings: &Settings,
    surroundings: &Surroundings,
) -> Result<Account, ReconcileError> {
    let life = life(pipeline, sink, id, cut, settings).await?;
    let remark = life.as_ref().err().map(|unknown| remark(*unknown));
    let life = life.unwrap_or_default();
    let changes = life.states.len();
    let expected = life.at(cut).map(|standing| object(sink, standing));
    let mut account = Account {
        sink: sink.name.clone(),
        index: sink.option("hosts").map(|_| index_name(sink).to_owned()),
        id: id.to_owned(),
        cut,
        changes,
        turns: turns(pipeline, sink, &life),
        expected: expected.map(Json::Object),
        found: None,
        difference: None,
        remark,
    };
    if account.index.is_some() {
        compare(pipeline, sink, &life, &mut account, surroundings).await?;
    }
    Ok(account)
}

fn remark(unknown: Unknown) -> String {
    match unknown {
        Unknown::NoSuchId => "the log cannot make a document of this id".into(),
        Unknown::Open => "the id does not say which row it begins with; its life cannot be followed".into(),
        Unknown::TooMany => "more records bear on it than are followed; its life is not told".into(),
    }
}

async fn life(
    pipeline: &Pipeline,
    sink: &Sink,
    id: &str,
    cut: Step,
    settings: &Settings,
) -> Result<Result<Life, Unknown>, ReconcileError> {
    let files = recompute::files(pipeline, &settings.archive_path).await?;
    let ask = &mut |ask: &_| fetch(pipeline, &files, cut, ask);
    let read = || lives(pipeline, sink, &[id], cut, &mut Store::new(pipeline), ask);
    let failed = |source| RecomputeError::Polars { sink: sink.name.clone(), source: Box::new(source) };
    let mut lives = tokio::task::block_in_place(read).map_err(failed)?;
    Ok(lives.pop().unwrap_or(Err(Unknown::NoSuchId)))
}

async fn compare(
    pipeline: &Pipeline,
    sink: &Sink,
    life: &Life,
    account: &mut Account,
    surroundings: &Surroundings,
) -> Result<(), ReconcileError> {
    let client = Client::new(&ClientConfig::of_sink(sink)?)?;
    let found = found(&client, index_name(sink), &account.id).await?;
    account.found = found.as_ref().map(|found| FoundDocument {
        version: found.version.0,
        step: found.version.step(),
        source: found.source.clone(),
    });
    let expected = life.at(account.cut).map(|s| (DocumentId(account.id.as_str().into()), s.values.clone()));
    let expected: Documents = expected.into_iter().collect();
    let is_beyond = found.as_ref().is_some_and(|found| found.version.step() > surroundings.out_of_reach());
    let younger = if is_beyond { Younger::Judged } else { Younger::LeftOut };
    let mut comparison = Comparison::new(sink, account.cut, younger, expected);
    if let Some(found) = found {
        comparison.take(found);
    }
    let compared = comparison.finish();
    if compared.younger > 0 {
        account.remark = Some(format!("it was written after step {}: ask again once that is archived", account.cut));
        return Ok(());
    }
    let evidence = surroundings.evidence(pipeline, sink, account.cut, &client).await;
    let explained: Vec<Examined> =
        tokio::task::block_in_place(|| surroundings.explain(&evidence, &compared.differences))?;
    account.difference = compared.differences.iter().zip(&explained).next().map(|(difference, examined)| {
        let mut sample = sample(sink, difference);
        sample.explain(pipeline, &examined.named);
        sample
    });
    Ok(())
}

/// The document as the index has it now.
async fn found(client: &Client, index: &str, id: &str) -> Result<Option<Found>, ReconcileError> {
    client.refresh(index).await?;
    let question = json!({
        "query": {"ids": {"values": [id]}},
        "size": 1,
        "version": true,
        "seq_no_primary_term": true,
    });
    let answer = client.search(index, &question).await?;
    Ok(answer["hits"]["hits"].get(0).and_then(|hit| Found::deserialize(hit).ok()))
}

fn object(sink: &Sink, standing: &Standing) -> Map<String, Json> {
    let fields = sink.columns.iter().zip(&standing.values);
    fields.map(|(column, value)| (column.name.clone(), to_json(value, column.data_type))).collect()
}

fn turns(pipeline: &Pipeline, sink: &Sink, life: &Life) -> Vec<Turn> {
    let mut before: Map<String, Json> = Map::new();
    let turn = |state: &State| {
        let now = state.document.as_ref().map(|standing| object(sink, standing));
        let fields: Map<String, Json> = now
            .iter()
            .flatten()
            .filter(|(k, v)| before.get(*k) != Some(v))
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect();
        let what = match (&now, before.is_empty(), fields.is_empty()) {
            (None, ..) => "deleted",
            (Some(_), true, _) => "written",
            (Some(_), false, false) => "changed",
            (Some(_), false, true) => "same",
        };
        before = now.unwrap_or_default();
        let records: Vec<_> = state.document.iter().flat_map(|d| d.rows.iter().flatten().copied()).collect();
        Turn {
            step: state.step,
            what,
            fields,
            records: Provenance::of_all(pipeline, &records),
            by: Provenance::of_all(pipeline, &state.by),
        }
    };
    let mut turns: Vec<Turn> = life.states.iter().map(turn).collect();
    turns.drain(..turns.len().saturating_sub(TURNS_SHOWN));
    turns
}
