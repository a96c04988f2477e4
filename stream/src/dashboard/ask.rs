//! Asks the indexes of a pipeline's own sinks for the figures of a panel.

use std::collections::BTreeMap;
use std::time::Duration;

use lockstep_shared::index::{Client, ClientConfig, IndexError, index_name};
use lockstep_shared::plan::{Pipeline, Sink};
use serde::Serialize;
use serde_json::{Value as Json, json};

use super::{CATALOGUE, CUSTOMERS, Figures, Filter, ORDERS, Panel, ReadError, VIEWS, query};

/// Most states and brands that are offered to choose from.
const CHOICES: usize = 1_000;
/// How long an index may take to answer one request; who looks at a page waits no longer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The pipeline has no such sink.
    #[error(
        "the pipeline has no sink {sink} that writes an index, from which this is computed; \
         fixtures/pipeline.sql shows how it is filled"
    )]
    NoSink {
        /// The sink table.
        sink: &'static str,
    },
    /// The index.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// It takes too long.
    #[error("index {index} did not answer within {seconds} s; choose a shorter range of time, or ask again")]
    Slow {
        /// The index.
        index: String,
        /// How long it was waited for.
        seconds: u64,
    },
    /// Its answer.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// The connections to the indexes that panels read.
#[derive(Default)]
pub struct Dashboard {
    indexes: BTreeMap<&'static str, (Client, String)>,
}

/// A panel's figures, with the range of time that they are of.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Shown {
    /// The filter, its range of time closed where the panel's buckets depend on it.
    pub filter: Filter,
    /// The figures.
    pub figures: Figures,
}

/// What a filter can be set to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Choices {
    /// The first moment of any order or view, in milliseconds of the epoch.
    pub first_ms: Option<i64>,
    /// The last one.
    pub last_ms: Option<i64>,
    /// The states of customers.
    pub states: Vec<String>,
    /// The brands of the catalogue.
    pub brands: Vec<String>,
}

impl Dashboard {
    /// Finds the sinks by their names. Nothing is asked yet.
    ///
    /// # Errors
    /// Where the options of a sink are wrong.
    pub fn new(pipeline: &Pipeline) -> Result<Self, IndexError> {
        let mut indexes = BTreeMap::new();
        for name in [ORDERS, VIEWS, CATALOGUE, CUSTOMERS] {
            let is_it = |sink: &&Sink| sink.name == name && sink.option("hosts").is_some();
            if let Some(sink) = pipeline.sinks.iter().find(is_it) {
                indexes.insert(name, (Client::new(&ClientConfig::of_sink(sink)?)?, index_name(sink).to_owned()));
            }
        }
        Ok(Self { indexes })
    }

    /// Whether the pipeline has every index that the panel reads.
    #[must_use]
    pub fn has(&self, panel: &Panel) -> bool {
        panel.sources.iter().all(|source| self.indexes.contains_key(source.sink))
    }

    /// The figures of a panel, now.
    ///
    /// # Errors
    /// Where an index is not there or does not answer.
    pub async fn figures(&self, panel: &Panel, filter: &Filter) -> Result<Shown, AskError> {
        let mut filter = filter.clone();
        if let (Some(bounds), Some(source)) = (panel.bounds_request(&filter), panel.sources.first()) {
            filter = filter.within(&self.search(source.sink, &bounds).await?);
        }
        let mut answers = Vec::with_capacity(panel.sources.len());
        for (source, body) in panel.sources.iter().zip(panel.requests(&filter)) {
            answers.push(self.search(source.sink, &body).await?);
        }
        let figures = panel.read(&filter, &answers)?;
        Ok(Shown { filter, figures })
    }

    /// What there is to choose from, now; at most 1,000 states and brands.
    ///
    /// # Errors
    /// Where an index is not there or does not answer.
    pub async fn choices(&self) -> Result<Choices, AskError> {
        let (mut first, mut last) = (Vec::new(), Vec::new());
        for sink in [ORDERS, VIEWS] {
            let bounds = json!({"first": {"min": {"field": "ts"}}, "last": {"max": {"field": "ts"}}});
            let answer = self.search(sink, &json!({"size": 0, "aggs": bounds})).await?;
            let at = |name: &str| answer["aggregations"][name]["value"].as_f64().map(|ms| ms as i64);
            first.extend(at("first"));
            last.extend(at("last"));
        }
        Ok(Choices {
            first_ms: first.into_iter().min(),
            last_ms: last.into_iter().max(),
            states: self.values(CUSTOMERS, "state").await?,
            brands: self.values(CATALOGUE, "brand").await?,
        })
    }

    async fn values(&self, sink: &'static str, field: &str) -> Result<Vec<String>, AskError> {
        let terms = json!({"field": field, "size": CHOICES, "order": {"_key": "asc"}});
        let answer = self.search(sink, &json!({"size": 0, "aggs": {"groups": {"terms": terms}}})).await?;
        Ok(query::buckets(&answer["aggregations"], "groups")?.iter().map(query::key).collect())
    }

    async fn search(&self, sink: &'static str, body: &Json) -> Result<Json, AskError> {
        let (client, index) = self.indexes.get(sink).ok_or(AskError::NoSink { sink })?;
        let answer = tokio::time::timeout(PATIENCE, client.search(index, body)).await;
        Ok(answer.map_err(|_| AskError::Slow { index: index.clone(), seconds: PATIENCE.as_secs() })??)
    }
}
