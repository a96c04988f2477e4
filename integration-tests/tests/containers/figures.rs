//! What every panel should show, by an engine that shares nothing with the panels: Polars' SQL over the archived Parquet.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use lockstep_batch::recompute;
use polars::prelude::{
    AnyValue, DataFrame, DataType, IntoLazy, LazyFrame, PlRefPath, ScanArgsParquet, SortMultipleOptions, all, col, lit,
};
use polars::sql::SQLContext;
use serde_json::{Value, json};

use crate::shop::{Shop, TABLES};

const HOUR_MS: i64 = 3_600_000;
/// Bars that a chart shows.
const BARS: usize = 50;

/// What is looked at, as the addresses of panels say it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Choice {
    pub from_ms: Option<i64>,
    pub to_ms: Option<i64>,
    pub state: Option<&'static str>,
    pub brand: Option<&'static str>,
}

impl Choice {
    /// The end of a panel's address.
    pub fn query(&self) -> String {
        let texts = [("state", self.state), ("brand", self.brand)];
        let times = [("from", self.from_ms), ("to", self.to_ms)];
        let texts = texts.iter().filter_map(|(name, value)| {
            Some(format!("{name}={}", value.as_ref()?.replace(' ', "%20").replace('&', "%26")))
        });
        let times = times.iter().filter_map(|(name, value)| Some(format!("{name}={}", value.as_ref()?)));
        format!("?{}", times.chain(texts).collect::<Vec<_>>().join("&"))
    }

    /// As a condition, of those of its parts that are named.
    fn condition(&self, parts: &[&str]) -> String {
        let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
        let conditions = [
            ("time", self.from_ms.map(|ms| format!("ts >= {ms}"))),
            ("time", self.to_ms.map(|ms| format!("ts < {ms}"))),
            ("state", self.state.map(|state| format!("state = {}", quoted(state)))),
            ("brand", self.brand.map(|brand| format!("brand = {}", quoted(brand)))),
        ];
        let chosen = conditions.into_iter().filter(|(part, _)| parts.contains(part)).filter_map(|(_, c)| c);
        std::iter::once("TRUE".to_owned()).chain(chosen).collect::<Vec<_>>().join(" AND ")
    }
}

const EVENT: &[&str] = &["time", "state", "brand"];

/// The archive's rows, and orders and views with their partners.
pub struct Archived {
    frames: BTreeMap<String, DataFrame>,
}

impl Archived {
    /// Reads the archive of a shop.
    pub async fn of(shop: &Shop) -> Result<Self> {
        let pipeline = shop.pipeline()?;
        let files = recompute::files(&pipeline, &shop.archive()).await?;
        let mut frames = BTreeMap::new();
        for (table, files) in pipeline.tables.iter().zip(files) {
            let key = TABLES.iter().find(|(name, _)| *name == table.name).and_then(|(_, key)| *key);
            frames.insert(table.name.clone(), off_thread(|| Ok(rows(&files, key)?.collect()?))?);
        }
        let mut archived = Self { frames };
        let orders = archived.query(
            "SELECT s.order_id, s.customer_id, s.product_id, s.ts, u.state, u.first_name || ' ' || u.last_name AS buyer, \
             p.brand, p.name, TRY_CAST(p.sale_price AS BIGINT) AS price FROM sales s \
             LEFT JOIN users u ON s.customer_id = u.id LEFT JOIN products p ON s.product_id = p.id",
        )?;
        let views = archived.query(
            "SELECT v.product_id, v.user_id, v.ts, u.state, p.brand FROM views v \
             LEFT JOIN users u ON v.user_id = u.id LEFT JOIN products p ON v.product_id = p.id",
        )?;
        archived.frames.extend([("orders".to_owned(), orders), ("seen".to_owned(), views)]);
        Ok(archived)
    }

    fn query(&self, sql: &str) -> Result<DataFrame> {
        let mut context = SQLContext::new();
        for (name, frame) in &self.frames {
            context.register(name, frame.clone().lazy());
        }
        off_thread(|| Ok(context.execute(sql)?.collect()?)).with_context(|| sql.to_owned())
    }

    /// The rows of an answer.
    pub fn rows(&self, sql: &str) -> Result<Vec<Vec<Value>>> {
        let frame = self.query(sql)?;
        let row = |row: usize| frame.columns().iter().map(|column| cell(&column.get(row)?)).collect::<Result<_>>();
        (0..frame.height()).map(row).collect()
    }

    fn one(&self, sql: &str) -> Result<i64> {
        Ok(self.rows(sql)?.first().and_then(|row| row[0].as_i64()).unwrap_or(0))
    }

    /// The `chart` of a panel.
    pub fn chart(&self, panel: &str, choice: &Choice) -> Result<Value> {
        match panel {
            "unique-products" => self.unique_products(choice),
            "average-price" => self.average_price(choice),
            "customer-states" => self.customer_states(choice),
            "top-brands" => self.revenue("revenue by brand", "brand", "MAX(brand)", choice),
            "revenue-by-product" => self.revenue("revenue by product", "product_id", "MAX(name)", choice),
            "sales-over-time" => self.sales_over_time(choice),
            "views-by-hour" => self.views_by_hour(choice),
            "order-frequency" => self.order_frequency(choice),
            other => anyhow::bail!("nobody knows what {other} should show"),
        }
    }

    fn unique_products(&self, choice: &Choice) -> Result<Value> {
        let (seen, listed) = (choice.condition(EVENT), choice.condition(&["brand"]));
        let viewed = self.one(&format!("SELECT COUNT(DISTINCT product_id) AS n FROM seen WHERE {seen}"))?;
        let listed = self.one(&format!("SELECT COUNT(*) AS n FROM products WHERE {listed}"))?;
        let gauge = |label, value, of| json!({"label": label, "value": value, "unit": "products", "of": of});
        let gauges = [gauge("products viewed", viewed, Some(listed)), gauge("products in the catalogue", listed, None)];
        Ok(json!({"kind": "gauge", "gauges": gauges}))
    }

    fn average_price(&self, choice: &Choice) -> Result<Value> {
        let mut gauges = Vec::new();
        for (label, price, table, parts) in [
            ("over catalogue products", "TRY_CAST(sale_price AS BIGINT)", "products", &["brand"][..]),
            ("weighted by orders", "price", "orders", EVENT),
        ] {
            let condition = choice.condition(parts);
            let found =
                self.rows(&format!("SELECT SUM({price}) AS s, COUNT({price}) AS n FROM {table} WHERE {condition}"))?;
            let (sum, count) = (found[0][0].as_i64().unwrap_or(0), found[0][1].as_i64().unwrap_or(0));
            let value = (count > 0).then(|| (2 * sum + count).div_euclid(2 * count));
            gauges.push(json!({"label": label, "value": value, "unit": "cents", "of": null}));
        }
        Ok(json!({"kind": "gauge", "gauges": gauges}))
    }

    fn customer_states(&self, choice: &Choice) -> Result<Value> {
        let condition = choice.condition(&["state"]);
        let groups = self.rows(&format!(
            "SELECT state, MAX(state) AS label, COUNT(*) AS n FROM users WHERE state IS NOT NULL AND {condition} GROUP BY state"
        ))?;
        Ok(json!({"kind": "bars", "charts": [bars("customers by state", "customers", groups)]}))
    }

    fn revenue(&self, title: &str, key: &str, label: &str, choice: &Choice) -> Result<Value> {
        let condition = choice.condition(EVENT);
        let groups = self.rows(&format!(
            "SELECT {key}, {label} AS label, SUM(price) AS n FROM orders WHERE {key} IS NOT NULL AND {condition} GROUP BY {key}"
        ))?;
        Ok(json!({"kind": "bars", "charts": [bars(title, "cents", groups)]}))
    }

    fn order_frequency(&self, choice: &Choice) -> Result<Value> {
        let condition = choice.condition(EVENT);
        let each = format!(
            "SELECT customer_id, MAX(buyer) AS label, COUNT(*) AS n FROM orders WHERE {condition} GROUP BY customer_id"
        );
        let frequency =
            self.rows(&format!("SELECT n, COUNT(*) AS customers FROM ({each}) AS each GROUP BY n ORDER BY n"))?;
        let bar = |row: &Vec<Value>| {
            let orders = row[0].as_i64().unwrap_or(0);
            let label = if orders == 1 { "1 order".to_owned() } else { format!("{orders} orders") };
            json!({"key": orders.to_string(), "label": label, "value": row[1]})
        };
        let frequency: Vec<Value> = frequency.iter().map(bar).collect();
        let frequency =
            json!({"label": "customers by number of orders", "unit": "customers", "bars": frequency, "others": null});
        let top = bars("orders of the top customers", "orders", self.rows(&each)?);
        Ok(json!({"kind": "bars", "charts": [frequency, top]}))
    }

    /// The range of time that is looked at, and the length of a bucket that the panel's definition wants for it.
    fn sales_over_time(&self, choice: &Choice) -> Result<Value> {
        let condition = choice.condition(EVENT);
        let range = &self.rows(&format!("SELECT MIN(ts) AS a, MAX(ts) AS b FROM orders WHERE {condition}"))?[0];
        let from = choice.from_ms.or(range[0].as_i64()).unwrap_or(0);
        let to = choice.to_ms.or(range[1].as_i64().map(|last| last + 1)).unwrap_or(0);
        let minutes = |n: i64| n * HOUR_MS / 60;
        let lengths = [
            ("second", 1_000),
            ("minute", minutes(1)),
            ("ten_minutes", minutes(10)),
            ("hour", HOUR_MS),
            ("six_hours", 6 * HOUR_MS),
            ("day", 24 * HOUR_MS),
        ];
        let fits = lengths.iter().find(|(_, length)| (to - from) / length < 120);
        let (interval, length) = *fits.context("no test has a longer range")?;
        // By the remainder: Polars divides by multiplying, which puts an order at a bucket's begin into the one before.
        let found = self.rows(&format!(
            "SELECT t, COUNT(*) AS n, SUM(price) AS s FROM \
             (SELECT ts - ts % {length} AS t, price FROM orders WHERE {condition}) AS placed \
             GROUP BY t ORDER BY t"
        ))?;
        let by_time: BTreeMap<i64, (i64, i64)> = found
            .iter()
            .map(|row| (row[0].as_i64().unwrap_or(0), (row[1].as_i64().unwrap_or(0), row[2].as_i64().unwrap_or(0))))
            .collect();
        let (first, last) = (by_time.keys().min().copied(), by_time.keys().max().copied());
        let at: Vec<i64> = match (first, last) {
            (Some(first), Some(last)) => (first..=last).step_by(usize::try_from(length)?).collect(),
            _ => Vec::new(),
        };
        let of =
            |number: fn(&(i64, i64)) -> i64| at.iter().map(|t| by_time.get(t).map_or(0, number)).collect::<Vec<_>>();
        let series = [
            json!({"label": "orders", "unit": "orders", "values": of(|found| found.0)}),
            json!({"label": "revenue", "unit": "cents", "values": of(|found| found.1)}),
        ];
        Ok(json!({"kind": "line", "axis": {"of": "time", "interval": interval}, "at": at, "series": series}))
    }

    fn views_by_hour(&self, choice: &Choice) -> Result<Value> {
        let time = choice.condition(&["time"]);
        let range = &self.rows(&format!("SELECT MIN(ts) AS a, MAX(ts) AS b FROM seen WHERE {time}"))?[0];
        let mut covered = [0_i64; 24];
        if let (Some(first), Some(last)) = (range[0].as_i64(), range[1].as_i64()) {
            // Hour for hour from the first view to the last.
            let mut begin = first.div_euclid(HOUR_MS) * HOUR_MS;
            while begin < last {
                let hour = usize::try_from((begin / HOUR_MS).rem_euclid(24))?;
                covered[hour] += last.min(begin + HOUR_MS) - first.max(begin);
                begin += HOUR_MS;
            }
        }
        let condition = choice.condition(EVENT);
        let found = self.rows(&format!(
            "SELECT h, COUNT(*) AS n FROM \
             (SELECT CAST(ROUND((ts % (24 * {HOUR_MS}) - ts % {HOUR_MS}) / {HOUR_MS}) AS BIGINT) AS h FROM seen WHERE {condition}) AS placed GROUP BY h"
        ))?;
        let views = |hour: i64| found.iter().find(|row| row[0] == hour).and_then(|row| row[1].as_i64()).unwrap_or(0);
        let shown = |hour: i64| covered[hour as usize] >= HOUR_MS / 4;
        let rate = |hour: i64| views(hour) as f64 * HOUR_MS as f64 / covered[hour as usize] as f64;
        let rates: Vec<Value> = (0..24).map(|hour| json!(shown(hour).then(|| rate(hour)))).collect();
        let counts: Vec<Value> = (0..24).map(|hour| json!(shown(hour).then(|| views(hour)))).collect();
        let series = [
            json!({"label": "views per covered hour", "unit": "views_per_hour", "values": rates}),
            json!({"label": "views", "unit": "views", "values": counts}),
        ];
        let at: Vec<i64> = (0..24).collect();
        Ok(json!({"kind": "line", "axis": {"of": "hour_of_day"}, "at": at, "series": series}))
    }
}

/// The rows that stand in a table's archive, instants as milliseconds.
fn rows(files: &[PathBuf], key: Option<&str>) -> Result<LazyFrame> {
    let paths = files.iter().map(|path| PlRefPath::new(path.to_string_lossy())).collect();
    let frame = LazyFrame::scan_parquet_files(paths, ScanArgsParquet::default())?.filter(col("_error").is_null());
    let mut frame = match key {
        None => frame,
        Some(key) => {
            let order = SortMultipleOptions::default().with_maintain_order(true);
            let last = frame
                .sort(["_step", "_partition", "_offset"], order)
                .group_by([col(key)])
                .agg([all().as_expr().last()]);
            last.filter(col("_value").is_not_null())
        }
    };
    if frame.collect_schema()?.contains("ts") {
        frame = frame.with_column((col("ts").cast(DataType::Int64) / lit(1_000_i64)).alias("ts"));
    }
    Ok(frame.drop(polars::prelude::by_name(["_timestamp", "_key", "_value", "_error"], true, false)))
}

fn cell(value: &AnyValue<'_>) -> Result<Value> {
    Ok(match value {
        AnyValue::Null => Value::Null,
        AnyValue::String(text) => json!(text),
        AnyValue::StringOwned(text) => json!(text.as_str()),
        AnyValue::Int32(number) => json!(number),
        AnyValue::Int64(number) => json!(number),
        AnyValue::UInt32(number) => json!(number),
        AnyValue::UInt64(number) => json!(number),
        other => anyhow::bail!("no query of this test gives {other:?}"),
    })
}

/// Polars does not run on a thread that drives a test.
fn off_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let done = std::thread::scope(|scope| scope.spawn(work).join());
    done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// A chart of bars of (key, label, length): the longest, and what the others come to.
fn bars(label: &str, unit: &str, groups: Vec<Vec<Value>>) -> Value {
    let length = |row: &Vec<Value>| row[2].as_i64().unwrap_or(0);
    let key = |row: &Vec<Value>| row[0].as_str().unwrap_or_default().to_owned();
    let mut groups = groups;
    groups.sort_by_key(|row| (std::cmp::Reverse(length(row)), key(row)));
    let name = |row: &Vec<Value>| row[1].as_str().map_or_else(|| key(row), str::to_owned);
    let shown: Vec<Value> = groups
        .iter()
        .take(BARS)
        .map(|row| json!({"key": key(row), "label": name(row), "value": length(row)}))
        .collect();
    let rest = groups.get(BARS..).unwrap_or_default();
    let others = (!rest.is_empty()).then(|| json!({"bars": rest.len(), "value": rest.iter().map(length).sum::<i64>()}));
    json!({"label": label, "unit": unit, "bars": shown, "others": others})
}
