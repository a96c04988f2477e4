//! The four panels of bars. Servers give the groups, ordered; the order is made once more here, so that bars of one length
//! stand in the order of their keys whichever server answered.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use super::gauges::EVENT;
use super::query::{buckets, count, distinct, key, search, sum, value};
use super::{Bar, BarChart, Chart, Criterion, Figures, Filter, Others, ReadError, Unit};

/// Most bars of a chart: more are not read.
const BARS: usize = 50;
/// Most groups asked of a server. An index of one shard (the default) gives the first of them exactly.
const GROUPS: usize = 1_000;
/// Most customers whose orders are counted. A server refuses more than 65,536 buckets, and each has one below it.
const COUNTED_CUSTOMERS: usize = 10_000;

/// A customer has a state, and neither time nor brand.
pub(super) const CUSTOMER: &[Criterion] = &[Criterion::State];

pub(super) fn states_of_customers(filter: &Filter) -> Json {
    let states = json!({"field": "state", "size": GROUPS, "order": [{"_count": "desc"}, {"_key": "asc"}]});
    search(
        filter,
        CUSTOMER,
        &json!({"groups": {"terms": states}, "all": distinct("state"), "without": {"missing": {"field": "state"}}}),
    )
}

pub(super) fn customer_states(_: &Filter, answers: &[Json]) -> Result<Figures, ReadError> {
    let answer = &answers.first().unwrap_or(&Json::Null)["aggregations"];
    let bars = bars_of(answer, |bucket| Ok((key(bucket), count(bucket)?)))?;
    let customers: i64 = bars.iter().map(|bar| bar.value).sum::<i64>() + beyond(answer)?;
    let chart = chart("customers by state", Unit::Customers, bars, value(answer, "all")?, customers);
    let without = count(&answer["without"])?;
    let note = (without > 0).then(|| format!("{without} customers have no state"));
    Ok(Figures { chart: Chart::Bars { charts: vec![chart] }, notes: note.into_iter().collect() })
}

/// Revenue by a field, with what is needed for the rest that no bar shows.
fn revenue(filter: &Filter, field: &str, label: Option<&str>) -> Json {
    let mut inner = json!({"cents": sum("price")});
    if let Some(label) = label {
        inner["label"] = json!({"terms": {"field": label, "size": 1}});
    }
    let groups = json!({"field": field, "size": GROUPS, "order": [{"cents": "desc"}, {"_key": "asc"}]});
    search(
        filter,
        EVENT,
        &json!({
            "groups": {"terms": groups, "aggs": inner},
            "all": distinct(field),
            "cents": sum("price"),
            "without": {"missing": {"field": "price"}},
        }),
    )
}

pub(super) fn revenue_of_brands(filter: &Filter) -> Json {
    revenue(filter, "brand", None)
}

pub(super) fn top_brands(_: &Filter, answers: &[Json]) -> Result<Figures, ReadError> {
    revenue_bars("revenue by brand", answers)
}

pub(super) fn revenue_of_products(filter: &Filter) -> Json {
    revenue(filter, "product_id", Some("product_name"))
}

pub(super) fn revenue_by_product(_: &Filter, answers: &[Json]) -> Result<Figures, ReadError> {
    revenue_bars("revenue by product", answers)
}

fn revenue_bars(label: &str, answers: &[Json]) -> Result<Figures, ReadError> {
    let answer = &answers.first().unwrap_or(&Json::Null)["aggregations"];
    let bars = bars_of(answer, |bucket| Ok((label_of(bucket), value(bucket, "cents")?)))?;
    let chart = chart(label, Unit::Cents, bars, value(answer, "all")?, value(answer, "cents")?);
    let without = count(&answer["without"])?;
    let note = (without > 0).then(|| format!("{without} orders are of products without a price: they add nothing"));
    Ok(Figures { chart: Chart::Bars { charts: vec![chart] }, notes: note.into_iter().collect() })
}

pub(super) fn orders_of_customers(filter: &Filter) -> Json {
    let label = json!({"label": {"terms": {"field": "customer_name", "size": 1}}});
    let order = json!([{"_count": "desc"}, {"_key": "asc"}]);
    let customers = json!({"field": "customer_id", "size": COUNTED_CUSTOMERS, "order": order});
    search(filter, EVENT, &json!({"groups": {"terms": customers, "aggs": label}, "all": distinct("customer_id")}))
}

pub(super) fn order_frequency(_: &Filter, answers: &[Json]) -> Result<Figures, ReadError> {
    let answer = &answers.first().unwrap_or(&Json::Null)["aggregations"];
    let top = bars_of(answer, |bucket| Ok((label_of(bucket), count(bucket)?)))?;
    let mut customers: BTreeMap<i64, i64> = BTreeMap::new();
    for bar in &top {
        *customers.entry(bar.value).or_default() += 1;
    }
    let bar = |(orders, customers): (i64, i64)| {
        let label = if orders == 1 { "1 order".to_owned() } else { format!("{orders} orders") };
        Bar { key: orders.to_string(), label, value: customers }
    };
    let bars = customers.into_iter().map(bar).collect();
    let frequency =
        BarChart { label: "customers by number of orders".into(), unit: Unit::Customers, bars, others: None };
    let (left_out, orders): (i64, i64) = (beyond(answer)?, top.iter().map(|bar| bar.value).sum());
    let note = (left_out > 0).then(|| {
        format!(
            "only the {COUNTED_CUSTOMERS} customers with most orders are counted; the others made {left_out} orders"
        )
    });
    let top = chart("orders of the top customers", Unit::Orders, top, value(answer, "all")?, orders + left_out);
    Ok(Figures { chart: Chart::Bars { charts: vec![frequency, top] }, notes: note.into_iter().collect() })
}

/// The documents of groups that the server did not give.
fn beyond(answer: &Json) -> Result<i64, ReadError> {
    super::query::whole(&answer["groups"]["sum_other_doc_count"], "groups.sum_other_doc_count")
}

/// All groups that the server gave, longest first.
fn bars_of(answer: &Json, of: impl Fn(&Json) -> Result<(String, i64), ReadError>) -> Result<Vec<Bar>, ReadError> {
    let mut bars = Vec::new();
    for bucket in buckets(answer, "groups")? {
        let (label, value) = of(bucket)?;
        bars.push(Bar { key: key(bucket), label, value });
    }
    bars.sort_by(|a, b| b.value.cmp(&a.value).then_with(|| a.key.cmp(&b.key)));
    Ok(bars)
}

/// The name beside an id: the one that its documents have, or the id where they have none.
fn label_of(bucket: &Json) -> String {
    let name = bucket["label"]["buckets"][0]["key"].as_str();
    name.map_or_else(|| key(bucket), str::to_owned)
}

/// The first bars, and what all the others come to, of so many groups and such a total.
fn chart(label: &str, unit: Unit, mut bars: Vec<Bar>, groups: i64, total: i64) -> BarChart {
    bars.truncate(BARS);
    let shown: i64 = bars.iter().map(|bar| bar.value).sum();
    let others = Others { bars: (groups - bars.len() as i64).max(0), value: total - shown };
    BarChart { label: label.to_owned(), unit, bars, others: (others.bars > 0).then_some(others) }
}
