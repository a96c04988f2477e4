//! `lockstep-batch insights`: its numbers equal what Polars' SQL gives over the archive, random data is said to show nothing,
//! and the stream shows the last report.

use anyhow::{Context as _, Result};
use lockstep_integration_tests::containers;
use serde_json::{Value, json};

use crate::figures::Archived;
use crate::shop::{SOON, Shop, TABLES, Text};

fn findings(report: &Value) -> Vec<&Value> {
    let groups = report["groups"].as_array().into_iter().flatten();
    groups.flat_map(|group| group["findings"].as_array().into_iter().flatten()).collect()
}

fn finding<'a>(report: &'a Value, id: &str) -> Result<&'a Value> {
    findings(report).into_iter().find(|finding| finding["id"] == id).with_context(|| format!("a finding {id}"))
}

/// The rows of a finding: the key, then the numbers.
fn rows(report: &Value, id: &str) -> Result<Vec<Vec<Value>>> {
    let row = |row: &Value| {
        let numbers = row["numbers"].as_array().into_iter().flatten().map(|number| number["value"].clone());
        std::iter::once(row["key"].clone()).chain(numbers).collect()
    };
    Ok(finding(report, id)?["rows"].as_array().into_iter().flatten().map(row).collect())
}

async fn fill(shop: &mut Shop) -> Result<()> {
    for (table, _) in TABLES {
        let records = shop.generated(table, 71, 2_000)?;
        shop.send(table, records).await?;
    }
    // Orders that came twice, and users that moved.
    let again = shop.generated("sales", 71, 300)?;
    shop.send("sales", again).await?;
    let users = shop.generated("users", 72, 100)?;
    shop.send("users", users).await
}

#[tokio::test]
async fn the_numbers_behind_the_insights_are_polars_and_random_data_shows_nothing() -> Result<()> {
    let mut shop = Shop::on_files()?;
    fill(&mut shop).await?;
    let mut stream = shop.start_live().await?;
    shop.caught_up_and_archived().await?;
    let report: Value = serde_json::from_str(&shop.batch(&["insights", "--output", "json"], 0).await?)?;
    let archived = Archived::of(&shop).await?;

    let count = |table| archived.rows(&format!("SELECT COUNT(*) AS n FROM {table}"));
    for (field, table) in [("products", "products"), ("customers", "users"), ("orders", "orders"), ("views", "seen")] {
        assert_eq!(report[field], count(table)?[0][0], "{field}");
    }
    let viewed = "SELECT p.id AS id, COUNT(*) AS n FROM seen s JOIN products p ON s.product_id = p.id GROUP BY p.id ORDER BY n DESC, id LIMIT 5";
    assert_eq!(rows(&report, "most-viewed-products")?, archived.rows(viewed)?);
    let bought = "SELECT p.id AS id, COUNT(*) AS n, SUM(o.price) AS s FROM orders o JOIN products p ON o.product_id = p.id GROUP BY p.id ORDER BY n DESC, id LIMIT 5";
    assert_eq!(rows(&report, "most-purchased-products")?, archived.rows(bought)?);
    let loyal = "SELECT u.id AS id, COUNT(*) AS n, SUM(o.price) AS s FROM orders o JOIN users u ON o.customer_id = u.id GROUP BY u.id ORDER BY n DESC, id LIMIT 5";
    assert_eq!(rows(&report, "loyal-customers")?, archived.rows(loyal)?);
    let states = "WITH o AS (SELECT state, COUNT(*) AS n, SUM(price) AS s FROM orders GROUP BY state), \
                  c AS (SELECT state, COUNT(*) AS people FROM users WHERE state IS NOT NULL GROUP BY state) \
                  SELECT c.state AS state, o.n AS n, c.people AS customers, o.s AS s, CAST(FLOOR(o.s / c.people) AS BIGINT) AS each FROM c JOIN o ON c.state = o.state \
                  ORDER BY n DESC, state LIMIT 5";
    assert_eq!(rows(&report, "states-by-orders")?, archived.rows(states)?);

    for finding in findings(&report) {
        assert_eq!(finding["verdict"], json!("nothing"), "{finding:#}");
    }
    // 36 orders an hour, every hour: 2,000 orders are 55 whole hours.
    let trend = &finding(&report, "orders-trend")?["trend"];
    assert_eq!(
        (&trend["mean"], &trend["slope"], &trend["buckets"]),
        (&json!(36.0), &json!(0.0), &json!(55)),
        "{trend}"
    );

    let shown: Value = serde_json::from_str(&shop.page("/v1/insights").await?)?;
    assert_eq!(shown, report, "the stream shows the last report");
    let text = shop.batch(&["insights"], 0).await?;
    assert!(text.contains("Geographic expansion") && text.contains("the data shows no trend"), "{text}");
    stream.terminate(SOON).await
}

#[tokio::test]
async fn insights_of_the_published_program_count_a_product_once_however_often_it_came() -> Result<()> {
    let Some(servers) = containers::shared().await? else { return Ok(()) };
    let mut shop = Shop::on_servers(Text::Seed, &servers.kafka, &servers.index, 1).await?;
    for (table, _) in TABLES {
        let records = shop.generated(table, 73, 500)?;
        shop.send(table, records).await?;
    }
    let mut stream = shop.start_live().await?;
    shop.caught_up_and_archived().await?;
    stream.terminate(SOON).await?;
    let report: Value = serde_json::from_str(&shop.batch(&["insights", "--output", "json"], 0).await?)?;
    let archived = Archived::of(&shop).await?;
    assert_eq!(report["products"], archived.rows("SELECT COUNT(DISTINCT id) AS n FROM products")?[0][0]);
    assert!(report["products"].as_u64() < Some(500), "{}", report["products"]);
    assert_eq!(report["orders"], json!(500));
    Ok(())
}
