//! The shop's dashboard as values: eight panels, each a definition, one aggregation request for every index that it reads
//! (two gauges set two grains side by side and read two), and the reading of the answer into figures.
//!
//! Requests and readings are pure; a [`Dashboard`] asks the indexes of the pipeline's own sinks, and [`routes`] serves it. The
//! requests are plain `_search` bodies that Elasticsearch 7, 8 and 9, OpenSearch and the embedded index answer alike. How
//! figures look is not here.

mod filter;
mod figures;
mod query;
mod gauges;
mod bars;
mod lines;
mod panels;
mod ask;
pub mod routes;
pub mod kibana;
pub mod export;

pub use ask::{AskError, Choices, Dashboard, Shown};
pub use figures::{Axis, Bar, BarChart, Chart, Figures, Gauge, Number, Others, ReadError, Series, Unit};
pub use filter::{Criterion, Filter, FilterError, Interval};
pub use panels::panels;

use serde::Serialize;
use serde_json::Value as Json;

/// One document an order, with buyer, state, brand and price.
pub const ORDERS: &str = "orders_enriched";
/// One document a view, with viewer, state, brand and hour of day.
pub const VIEWS: &str = "views_enriched";
/// One document a product.
pub const CATALOGUE: &str = "catalogue";
/// One document a customer.
pub const CUSTOMERS: &str = "customers";

/// How a panel is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// One or two figures, each against the end of its scale where it has one.
    Gauge,
    /// Bars with labels, longest first (or in the order of their keys, where these are numbers).
    Bars,
    /// Lines over time, or over the hours of the day.
    Line,
}

/// One panel.
#[derive(Clone, Copy, Debug)]
pub struct Panel {
    /// Its name in addresses.
    pub id: &'static str,
    /// Its name for people.
    pub title: &'static str,
    /// How it is drawn.
    pub kind: Kind,
    /// What its figures mean, for a tooltip.
    pub definition: &'static str,
    /// What one document of its index is, and so what is counted once; for a tooltip.
    pub grain: &'static str,
    /// The indexes that it reads: one, or two.
    pub sources: &'static [Source],
    read: fn(&Filter, &[Json]) -> Result<Figures, ReadError>,
}

/// What a panel asks of one index.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    /// The sink table that fills the index.
    pub sink: &'static str,
    /// The parts of a filter that its documents can be chosen by; the others have no effect on it, and the figures' notes
    /// say so.
    pub criteria: &'static [Criterion],
    aggregations: fn(&Filter) -> Json,
    /// True where the request's length depends on the range of time: it should be known before.
    bucketed_by_time: bool,
}

impl Panel {
    /// The panel of that id.
    #[must_use]
    pub fn by_id(id: &str) -> Option<&'static Self> {
        panels().iter().find(|panel| panel.id == id)
    }

    /// The `_search` bodies, one for each of its [`Panel::sources`], in their order.
    #[must_use]
    pub fn requests(&self, filter: &Filter) -> Vec<Json> {
        self.sources.iter().map(|source| source.request(filter)).collect()
    }

    /// The figures in the answers to [`Panel::requests`] with the same filter.
    ///
    /// # Errors
    /// Where an answer is not complete or not of the shape that was asked for.
    pub fn read(&self, filter: &Filter, answers: &[Json]) -> Result<Figures, ReadError> {
        answers.iter().try_for_each(query::complete)?;
        let mut figures = (self.read)(filter, answers)?;
        figures.notes.extend(self.sources.iter().filter_map(|source| source.without_effect(filter)));
        Ok(figures)
    }

    /// Where the lengths of its time buckets follow the range of time and the filter leaves that open: the `_search` body
    /// for the first source that finds the range. Its answer goes to [`Filter::within`].
    #[must_use]
    pub fn bounds_request(&self, filter: &Filter) -> Option<Json> {
        let is_open = filter.from_ms.is_none() || filter.to_ms.is_none();
        let source = self.sources.first().filter(|source| source.bucketed_by_time && is_open)?;
        Some(query::bounds(source, filter))
    }
}

impl Source {
    /// The `_search` body: one aggregation request, no hits.
    #[must_use]
    pub fn request(&self, filter: &Filter) -> Json {
        (self.aggregations)(filter)
    }

    /// A sentence on the parts of the filter that this source's documents do not have.
    fn without_effect(&self, filter: &Filter) -> Option<String> {
        let set = filter.criteria();
        let lacking: Vec<&str> =
            set.iter().filter(|c| !self.criteria.contains(c)).map(|criterion| criterion.name()).collect();
        if lacking.is_empty() {
            return None;
        }
        Some(format!("documents of {} are not chosen by {}: they have no such field", self.sink, lacking.join(", ")))
    }
}
