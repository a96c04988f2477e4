//! The dashboard: every figure of every panel equals what Polars' SQL gives over the archive, on the embedded index and on
//! Elasticsearch, after updates, tombstones and duplicates.

use anyhow::{Context as _, Result, ensure};
use lockstep_integration_tests::containers;
use lockstep_integration_tests::kafka::Record;
use serde_json::{Value, json};

use crate::figures::{Archived, Choice};
use crate::shop::{SINKS, SOON, Shop, TABLES, Text};

/// 2021-01-01T00:00:00Z, when the generator's orders begin; its views begin half an hour before.
const NEW_YEAR_MS: i64 = 1_609_459_200_000;
const MINUTE_MS: i64 = 60_000;

/// The panels, by their ids.
pub const PANELS: [&str; 8] = [
    "unique-products",
    "average-price",
    "customer-states",
    "top-brands",
    "sales-over-time",
    "views-by-hour",
    "order-frequency",
    "revenue-by-product",
];

/// What is looked at: everything, and by each criterion alone and all together.
const CHOICES: [Choice; 6] = [
    Choice { from_ms: None, to_ms: None, state: None, brand: None },
    Choice {
        from_ms: Some(NEW_YEAR_MS + 10 * MINUTE_MS),
        to_ms: Some(NEW_YEAR_MS + 427 * MINUTE_MS),
        state: None,
        brand: None,
    },
    Choice { from_ms: Some(NEW_YEAR_MS - 20 * MINUTE_MS), to_ms: None, state: Some("California"), brand: None },
    Choice { from_ms: None, to_ms: None, state: None, brand: Some("Ankunding and Sons") },
    Choice {
        from_ms: Some(NEW_YEAR_MS),
        to_ms: Some(NEW_YEAR_MS + 100 * MINUTE_MS),
        state: Some("Texas"),
        brand: Some("Kestrel & Sons"),
    },
    Choice { from_ms: Some(4_000_000_000_000), to_ms: Some(4_000_000_100_000), state: None, brand: None },
];

/// The row of a record with a change.
fn changed(record: &Record, change: impl FnOnce(&mut Value)) -> Result<Value> {
    let mut row: Value = serde_json::from_slice(record.value.as_deref().context("a row")?)?;
    change(&mut row);
    Ok(row)
}

/// A shop whose records were updated, deleted and sent twice, with views and orders of things that nobody knows.
async fn fill(shop: &mut Shop) -> Result<()> {
    for (table, _) in TABLES {
        let records = shop.generated(table, 51, 500)?;
        shop.send(table, records).await?;
    }
    // Every third product gets another price and brand, every seventh goes, one has no price, one a price that no index
    // can count; every fifth user moves, every eleventh goes; every tenth order is cancelled; orders and views come twice.
    let (products, users) = (shop.generated("products", 51, 500)?, shop.generated("users", 51, 500)?);
    let (sales, views) = (shop.generated("sales", 51, 500)?, shop.generated("views", 51, 500)?);
    for record in products.iter().step_by(3) {
        let row = changed(record, |product| {
            product["sale_price"] = json!(product["sale_price"].as_i64().unwrap_or(0) + 101);
            product["brand"] = json!("Ankunding and Sons");
        })?;
        shop.send("products", vec![shop.record("products", &row)]).await?;
    }
    for (record, price) in products[1..].iter().zip([Value::Null, json!(1e300)]) {
        let row = changed(record, |product| product["sale_price"] = price)?;
        shop.send("products", vec![shop.record("products", &row)]).await?;
    }
    let gone = |records: &[Record], step| -> Vec<Record> {
        records.iter().step_by(step).map(|r| Record::tombstone(r.key.clone().unwrap_or_default())).collect()
    };
    shop.send("products", gone(&products, 7)).await?;
    for (number, record) in users.iter().step_by(5).enumerate() {
        let state = if number == 1 { Value::Null } else { json!("California") };
        let row = changed(record, |user| user["state"] = state)?;
        shop.send("users", vec![shop.record("users", &row)]).await?;
    }
    shop.send("users", gone(&users, 11)).await?;
    shop.send("sales", sales[..200].to_vec()).await?;
    shop.send("sales", gone(&sales, 10)).await?;
    shop.send("views", views[..50].to_vec()).await?;
    // Days later, so that there are empty buckets and hours that several days cover.
    const DAY_MS: i64 = 24 * 60 * MINUTE_MS;
    for (table, days) in [("views", 2), ("sales", 3)] {
        for record in shop.generated(table, 52, 120)? {
            let row = changed(&record, |row| {
                row["ts"] = json!(row["ts"].as_i64().unwrap_or(0) + days * DAY_MS);
                // Orders of their own; a view has no such field.
                if let Some(order) = row["order_id"].as_i64() {
                    row["order_id"] = json!(order + 10_000);
                }
            })?;
            shop.send(table, vec![shop.record(table, &row)]).await?;
        }
    }
    Ok(())
}

async fn refresh(shop: &Shop) -> Result<()> {
    for sink in SINKS {
        shop.index().refresh(shop.index_of(sink)).await?;
    }
    Ok(())
}

/// The answer of a panel.
async fn panel(shop: &Shop, panel: &str, choice: &Choice) -> Result<Value> {
    let answer = shop.page(&format!("/v1/panels/{panel}{}", choice.query())).await?;
    serde_json::from_str(&answer).with_context(|| answer)
}

/// Sums and counts are compared as they are; only a rate may differ in its last bits.
fn rounded(value: &Value) -> Value {
    match value {
        Value::Number(number) if number.is_f64() => json!((number.as_f64().unwrap_or(0.0) * 1e6).round()),
        Value::Array(all) => all.iter().map(rounded).collect(),
        Value::Object(all) => all.iter().map(|(name, value)| (name.clone(), rounded(value))).collect(),
        other => other.clone(),
    }
}

async fn every_figure_is_polars(shop: &Shop) -> Result<()> {
    refresh(shop).await?;
    let archived = Archived::of(shop).await?;
    for choice in CHOICES {
        for name in PANELS {
            let found = panel(shop, name, &choice).await?;
            let expected = archived.chart(name, &choice)?;
            ensure!(
                rounded(&found["figures"]["chart"]) == rounded(&expected),
                "{name} of {choice:?} shows\n{found:#}\nand should show\n{expected:#}"
            );
        }
    }
    // A comparison of nothing with nothing would pass too.
    let revenue =
        archived.rows("SELECT SUM(price) AS s, COUNT(*) AS n, COUNT(price) AS p, COUNT(state) AS c FROM orders")?;
    let [sum, orders, priced, placed] = revenue[0].iter().map(|n| n.as_i64().unwrap_or(0)).collect::<Vec<_>>()[..]
    else {
        unreachable!("four numbers were asked for")
    };
    ensure!(sum > 1_000_000 && orders > 500 && priced < orders && placed < orders, "{revenue:?}");
    Ok(())
}

/// Fills a shop, compares, changes it while it runs, compares again.
async fn compared_live(shop: &mut Shop) -> Result<()> {
    fill(shop).await?;
    let mut stream = shop.start_live().await?;
    shop.caught_up_and_archived().await?;
    every_figure_is_polars(shop).await?;
    let (products, users) = (shop.generated("products", 53, 100)?, shop.generated("users", 53, 100)?);
    shop.send("products", products).await?;
    shop.send("users", users).await?;
    shop.caught_up_and_archived().await?;
    every_figure_is_polars(shop).await?;
    what_can_be_chosen_is_what_there_is(shop).await?;
    stream.terminate(SOON).await
}

async fn what_can_be_chosen_is_what_there_is(shop: &Shop) -> Result<()> {
    let archived = Archived::of(shop).await?;
    let found: Value = serde_json::from_str(&shop.page("/v1/filters").await?)?;
    let column = |sql: &str| -> Result<Vec<Value>> { Ok(archived.rows(sql)?.into_iter().flatten().collect()) };
    let states = column("SELECT DISTINCT state FROM users WHERE state IS NOT NULL ORDER BY state")?;
    let brands = column("SELECT DISTINCT brand FROM products WHERE brand IS NOT NULL ORDER BY brand")?;
    let times = column(
        "SELECT MIN(ts) AS a, MAX(ts) AS b FROM (SELECT ts FROM orders UNION ALL SELECT ts FROM seen) AS all_ts",
    )?;
    let expected = json!({"first_ms": times[0], "last_ms": times[1], "states": states, "brands": brands});
    assert_eq!(found, expected);
    Ok(())
}

#[tokio::test]
async fn every_figure_of_every_panel_equals_polars_on_the_embedded_index() -> Result<()> {
    compared_live(&mut Shop::on_files()?).await
}

#[tokio::test]
async fn every_figure_of_every_panel_equals_polars_on_elasticsearch() -> Result<()> {
    let Some(servers) = containers::shared().await? else { return Ok(()) };
    compared_live(&mut Shop::on_servers(Text::Keyed, &servers.kafka, &servers.index, 3).await?).await
}

#[tokio::test]
async fn a_panel_says_what_is_left_out_and_what_is_asked_wrongly() -> Result<()> {
    let mut shop = Shop::on_files()?;
    fill(&mut shop).await?;
    let mut stream = shop.start_live().await?;
    shop.caught_up().await?;
    let brand = Choice { brand: Some("Ankunding and Sons"), ..Choice::default() };
    let notes = panel(&shop, "customer-states", &brand).await?["figures"]["notes"].to_string();
    assert!(notes.contains("documents of customers are not chosen by brand"), "{notes}");
    let notes = panel(&shop, "top-brands", &Choice::default()).await?["figures"]["notes"].to_string();
    assert!(notes.contains("orders are of products without a price"), "{notes}");
    for (path, sentence) in [
        ("/v1/panels/no-such-panel", "there is no panel 'no-such-panel'; there are unique-products, average-price"),
        ("/v1/panels/top-brands?from=yesterday", "'from' is 'yesterday'; write milliseconds of the epoch"),
        ("/v1/panels/top-brands?from=2021-01-02T00:00:00Z&to=2021-01-01T00:00:00Z", "is not before 'to'"),
        ("/v1/panels/top-brands?brands=x", "a filter has no 'brands'; it has from, to, state, brand"),
        ("/v1/insights", "there are no insights yet; run `lockstep-batch insights PIPELINE`"),
    ] {
        let answer: Value = serde_json::from_str(&shop.page(path).await?)?;
        assert!(answer["error"].as_str().is_some_and(|error| error.contains(sentence)), "{path}: {answer}");
    }
    stream.terminate(SOON).await
}

#[tokio::test]
async fn a_pipeline_without_the_indexes_says_which_one_a_panel_needs() -> Result<()> {
    let Some(servers) = containers::shared().await? else { return Ok(()) };
    let shop = Shop::on_servers(Text::Seed, &servers.kafka, &servers.index, 1).await?;
    let mut stream = shop.start_live().await?;
    let answer = panel(&shop, "top-brands", &Choice::default()).await?;
    let error = answer["error"].as_str().unwrap_or_default();
    assert!(error.contains("no sink orders_enriched") && error.contains("fixtures/pipeline.sql"), "{answer}");
    let listed: Value = serde_json::from_str(&shop.page("/v1/panels").await?)?;
    assert_eq!(listed.as_array().map(Vec::len), Some(8));
    assert!(listed.as_array().into_iter().flatten().all(|panel| panel["available"] == json!(false)), "{listed:#}");
    stream.terminate(SOON).await
}
