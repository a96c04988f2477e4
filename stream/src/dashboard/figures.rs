//! Figures: what a panel shows, as typed numbers with units. Money is whole cents, never a fraction.

use serde::Serialize;

/// What a panel shows.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figures {
    /// The numbers.
    pub chart: Chart,
    /// Sentences that a reader of the numbers should see: what is left out, what a filter does not reach.
    pub notes: Vec<String>,
}

/// The numbers of a panel, as it is drawn.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Chart {
    /// One or two figures.
    Gauge {
        /// In the order in which they are shown.
        gauges: Vec<Gauge>,
    },
    /// One or two charts of bars.
    Bars {
        /// In the order in which they are shown.
        charts: Vec<BarChart>,
    },
    /// Lines over one axis.
    Line {
        /// What `at` counts.
        axis: Axis,
        /// The places on the axis, ascending, without a gap.
        at: Vec<i64>,
        /// The lines, each with one value for each place.
        series: Vec<Series>,
    },
}

/// One figure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Gauge {
    /// What it is.
    pub label: String,
    /// Its value; absent where there is nothing to compute it from.
    pub value: Option<i64>,
    /// What it counts.
    pub unit: Unit,
    /// What it is set beside, where it has that: the catalogue's size. It can be less, where the catalogue lacks products.
    pub of: Option<i64>,
}

/// Bars of one unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BarChart {
    /// What the bars are.
    pub label: String,
    /// What their lengths count.
    pub unit: Unit,
    /// In the order in which they are shown.
    pub bars: Vec<Bar>,
    /// What the bars that are not shown come to, where some are not.
    pub others: Option<Others>,
}

/// One bar.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Bar {
    /// What it is, as the index knows it: an id, or the same as the label.
    pub key: String,
    /// What it is, for people. Two bars may have one label; their keys differ.
    pub label: String,
    /// Its length.
    pub value: i64,
}

/// Bars that are not shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Others {
    /// How many.
    pub bars: i64,
    /// Their lengths together.
    pub value: i64,
}

/// What the places of a line are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "of", rename_all = "snake_case")]
pub enum Axis {
    /// Begins of time buckets, in milliseconds of the epoch.
    Time {
        /// How long a bucket is.
        interval: super::Interval,
    },
    /// Hours of the day in UTC, 0 to 23.
    HourOfDay,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Series {
    /// What it is.
    pub label: String,
    /// What its values count.
    pub unit: Unit,
    /// One for each place; absent where there is nothing to compute it from, which is not zero.
    pub values: Vec<Option<Number>>,
}

/// A count or an amount, or a rate.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Number {
    /// A count, or cents.
    Whole(i64),
    /// A rate.
    Real(f64),
}

/// What a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Products.
    Products,
    /// Customers.
    Customers,
    /// Orders.
    Orders,
    /// Views.
    Views,
    /// Hundredths of the shop's currency.
    Cents,
    /// Views in an hour.
    ViewsPerHour,
}

/// An answer that gives no figures.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Some of it is missing.
    #[error("the index gave only part of an answer: {reason}; ask again")]
    Partial {
        /// Which part.
        reason: String,
    },
    /// It is no answer to the question.
    #[error(
        "the index's answer has no number at {place}; is it Elasticsearch 7 or later, OpenSearch or the embedded index?"
    )]
    Shape {
        /// Where a number was looked for.
        place: String,
    },
    /// It has no exact amount.
    #[error(
        "{place} is {found}, which is no exact number of cents (at most 2^53, and whole); \
         make prices whole cents in the pipeline"
    )]
    Inexact {
        /// Where it stands.
        place: String,
        /// What was found.
        found: String,
    },
}
