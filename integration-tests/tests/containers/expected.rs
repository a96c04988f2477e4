//! What the index should hold, by an engine that shares nothing with Lockstep: Polars' SQL runs the program's own SELECT
//! over the rows that the test sent.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use lockstep_integration_tests::index::Document;
use lockstep_integration_tests::kafka::Record;
use polars::prelude::{AnyValue, Column, DataFrame, IntoLazy};
use polars::sql::SQLContext;
use serde_json::{Map, Value};

/// The type of a column, as far as this engine is concerned; an instant is its milliseconds.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Whole,
    Real,
}

type Declared = &'static [(&'static str, Kind)];

const TABLES: [(&str, Declared); 4] = {
    use Kind::{Real, Text, Whole};
    [
        ("products", &[("id", Text), ("brand", Text), ("name", Text), ("sale_price", Real), ("rating", Real)]),
        ("sales", &[("order_id", Whole), ("product_id", Text), ("customer_id", Text), ("ts", Whole)]),
        ("users", &[("id", Text), ("first_name", Text), ("last_name", Text), ("email", Text), ("state", Text)]),
        ("views", &[("product_id", Text), ("user_id", Text), ("view_time", Whole), ("page_url", Text), ("ts", Whole)]),
    ]
};

/// The fields of the documents that hold an instant.
const INSTANTS: [&str; 1] = ["order_date"];

/// The rows of each table.
pub type Rows = BTreeMap<String, Vec<Value>>;

/// The rows that records leave: the last of each key, or every one where the table is keyed by nothing.
pub fn rows(records: &[Record], keyed: bool) -> Result<Vec<Value>> {
    let parsed = |value: &[u8]| serde_json::from_slice(value).context("a test sends JSON as rows");
    if !keyed {
        return records.iter().filter_map(|r| r.value.as_deref()).map(parsed).collect();
    }
    let mut last = BTreeMap::new();
    for record in records {
        last.insert(record.key.clone().context("a keyed record has a key")?, record.value.clone());
    }
    last.into_values().flatten().map(|value| parsed(&value)).collect()
}

/// The documents of the program's view over these rows, as a bag: each written down, sorted.
pub fn documents(program: &Path, rows: &Rows) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(program)?;
    let (_, view) = text.split_once("CREATE VIEW enriched_data AS").context("the program has the view")?;
    let (select, _) = view.split_once(';').context("the view ends")?;
    let mut context = SQLContext::new();
    for (table, columns) in TABLES {
        let none = Vec::new();
        context.register(table, frame(columns, rows.get(table).unwrap_or(&none))?.lazy());
    }
    // Polars does not run on a thread that drives a test.
    let joined = std::thread::scope(|scope| scope.spawn(|| context.execute(select)?.collect()).join());
    let joined = joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    let mut documents = Vec::with_capacity(joined.height());
    for row in 0..joined.height() {
        let mut document = Map::new();
        for column in joined.columns() {
            document.insert(column.name().to_string(), json(&column.get(row)?)?);
        }
        documents.push(Value::Object(document).to_string());
    }
    documents.sort();
    Ok(documents)
}

fn frame(columns: Declared, rows: &[Value]) -> Result<DataFrame> {
    let column = |(name, kind): &(&str, Kind)| {
        let fields = rows.iter().map(|row| &row[*name]);
        match kind {
            Kind::Text => Column::new((*name).into(), fields.map(Value::as_str).collect::<Vec<_>>()),
            Kind::Whole => Column::new((*name).into(), fields.map(Value::as_i64).collect::<Vec<_>>()),
            Kind::Real => Column::new((*name).into(), fields.map(Value::as_f64).collect::<Vec<_>>()),
        }
    };
    Ok(DataFrame::new(rows.len(), columns.iter().map(column).collect())?)
}

fn json(value: &AnyValue<'_>) -> Result<Value> {
    Ok(match value {
        AnyValue::Null => Value::Null,
        AnyValue::String(text) => Value::from(*text),
        AnyValue::StringOwned(text) => Value::from(text.as_str()),
        AnyValue::Int64(number) => Value::from(*number),
        AnyValue::Float64(number) => Value::from(*number),
        other => bail!("no test has a {other:?}"),
    })
}

/// The documents of an index in the same form.
pub fn bag(found: &[Document]) -> Result<Vec<String>> {
    let mut documents = Vec::with_capacity(found.len());
    for document in found {
        let mut source = document.source.clone();
        for field in INSTANTS {
            if let Some(text) = source[field].as_str() {
                source[field] = chrono::DateTime::parse_from_rfc3339(text)?.timestamp_millis().into();
            }
        }
        documents.push(source.to_string());
    }
    documents.sort();
    Ok(documents)
}

/// Fails with the first documents that are missing or too many.
pub fn assert_equal(expected: &[String], found: &[String]) {
    if expected == found {
        return;
    }
    let count = |all: &[String]| {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        all.iter().for_each(|document| *counts.entry(document.clone()).or_default() += 1);
        counts
    };
    let (wanted, there) = (count(expected), count(found));
    let beyond = |a: &BTreeMap<String, usize>, b: &BTreeMap<String, usize>| -> Vec<String> {
        a.iter().filter(|(d, n)| b.get(*d).unwrap_or(&0) < n).map(|(d, _)| d.clone()).take(3).collect()
    };
    panic!(
        "{} documents expected, {} found\nmissing, among others: {:#?}\nextra, among others: {:#?}",
        expected.len(),
        found.len(),
        beyond(&wanted, &there),
        beyond(&there, &wanted)
    );
}
