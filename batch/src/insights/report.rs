//! The report of the insights, for people and for machines.

use std::fmt::{self, Display, Formatter};

use lockstep_shared::coordinates::Step;
use serde::Serialize;

use super::statistics::{Test, Trend};

/// All findings at a cut.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Insights {
    /// When it was made (RFC 3339, UTC).
    pub made_at: String,
    /// Everything up to this step is in.
    pub cut: Step,
    /// Products in the catalogue.
    pub products: u64,
    /// Customers.
    pub customers: u64,
    /// Orders.
    pub orders: u64,
    /// Views.
    pub views: u64,
    /// The four groups.
    pub groups: Vec<Group>,
}

/// Some findings.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Group {
    /// Its name for machines.
    pub id: &'static str,
    /// Its name for people.
    pub title: &'static str,
    /// What was found.
    pub findings: Vec<Finding>,
}

/// One finding, with the numbers behind it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// Its name for machines.
    pub id: &'static str,
    /// Its name for people.
    pub title: &'static str,
    /// Whether the data shows something.
    pub verdict: Verdict,
    /// What the data shows, in a sentence.
    pub sentence: String,
    /// The test of whether it is more than chance, where there was enough for one.
    pub test: Option<Test>,
    /// The trend, where the finding is about one.
    pub trend: Option<Trend>,
    /// The first of the list.
    pub rows: Vec<Row>,
}

/// Whether the data shows something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// More than chance would.
    Something,
    /// No more than chance would: a list still has a first place, and it means nothing.
    Nothing,
    /// There is too little to tell.
    TooLittle,
}

/// A line of a list.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// An id, or the same as the label.
    pub key: String,
    /// For people.
    pub label: String,
    /// Its numbers.
    pub numbers: Vec<Number>,
}

/// A number with its name.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Number {
    /// What it is.
    pub name: &'static str,
    /// Its value.
    pub value: i64,
    /// What it counts.
    pub unit: Unit,
}

/// What a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Things.
    Count,
    /// Hundredths of the shop's currency.
    Cents,
    /// A place in an order, from 1.
    Rank,
}

/// The report for people.
impl Display for Insights {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let Self { cut, products, customers, orders, views, .. } = self;
        writeln!(out, "at step {cut}: {products} products, {customers} customers, {orders} orders, {views} views")?;
        for group in &self.groups {
            writeln!(out, "\n{}", group.title)?;
            for finding in &group.findings {
                finding.fmt(out)?;
            }
        }
        Ok(())
    }
}

impl Display for Finding {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        writeln!(out, "  {}: {}", self.title, self.sentence)?;
        if let Some(test) = &self.test {
            let Test { method, statistic, degrees, p } = test;
            writeln!(out, "    {method} {statistic:.4}, {degrees} degrees of freedom, p = {p:.4}")?;
        }
        if let Some(Trend { mean, slope, low, high, p, buckets }) = &self.trend {
            writeln!(
                out,
                "    least squares over {buckets} buckets: mean {mean:.2}, slope {slope:+.4} \
                 (95 % interval {low:+.4} to {high:+.4}), p = {p:.4}"
            )?;
        }
        for row in &self.rows {
            let numbers = row.numbers.iter().map(Number::to_string).collect::<Vec<_>>().join(", ");
            writeln!(out, "    {}: {numbers}", row.label)?;
        }
        Ok(())
    }
}

impl Display for Number {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let Self { name, value, unit } = self;
        match unit {
            Unit::Count => write!(out, "{value} {name}"),
            Unit::Rank => write!(out, "{name} {value}"),
            Unit::Cents => {
                let (sign, cents) = (if *value < 0 { "-" } else { "" }, value.unsigned_abs());
                write!(out, "{sign}{}.{:02} {name}", cents / 100, cents % 100)
            }
        }
    }
}
