//! A repair within its limit, as a plan for later, with its certificate; and one at a time.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lockstep_batch::lock;
use reqwest::Method;
use serde_json::{Value, json};

use crate::schema::validate;
use crate::shop::{SOON, Shop, TABLES, fixture};

async fn filled() -> Result<(Shop, lockstep_integration_tests::processes::Program)> {
    let mut shop = Shop::on_files()?;
    for (table, _) in TABLES {
        let records = shop.generated(table, 40, 300)?;
        shop.send(table, records).await?;
    }
    let stream = shop.start_live().await?;
    shop.caught_up_and_archived().await?;
    Ok((shop, stream))
}

fn path(index: &str, id: &str) -> String {
    format!("/{index}/_doc/{}", id.replace('|', "%7C"))
}

/// `apply PIPELINE PLAN`, and what it says.
async fn apply(shop: &Shop, plan: &str, code: i32) -> Result<String> {
    let mut program = shop.begin_batch(&["apply"], &[plan])?;
    program.expect_exit(code, SOON).await?;
    Ok(program.output())
}

async fn delete(shop: &Shop, ids: &[String]) -> Result<()> {
    for id in ids {
        shop.index().call(Method::DELETE, &path(shop.index_name(), id), None).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_repair_above_the_limit_writes_nothing_and_says_what_to_do() -> Result<()> {
    let (shop, mut stream) = filled().await?;
    let ids: Vec<String> = shop.documents().await?.into_iter().map(|d| d.id).collect();
    ensure!(ids.len() > 200, "{} documents", ids.len());
    delete(&shop, &ids[..150]).await?;
    let certificate = shop.reconcile(&["--repair"], 3).await?;
    let sink = &certificate["sinks"][0];
    assert_eq!([&sink["missing"], &sink["repair"]], [&json!(150), &Value::Null]);
    assert_eq!(sink["held_back"], json!({"documents": 150, "of": ids.len(), "limit_percent": 10}));
    assert_eq!(shop.documents().await?.len(), ids.len() - 150);
    let said = shop.batch(&["reconcile", "--repair", "--repair-limit", "20%"], 3).await?;
    ensure!(said.contains("lockstep-batch rebuild") && said.contains("limit of 20 %"), "{said}");
    assert_eq!(shop.documents().await?.len(), ids.len() - 150);
    shop.reconcile(&["--repair", "--repair-limit", "60%"], 0).await?;
    shop.assert_index_is_as_expected().await?;
    stream.terminate(SOON).await
}

#[tokio::test]
async fn a_plan_is_carried_out_later_but_for_what_has_changed_since() -> Result<()> {
    let (shop, mut stream) = filled().await?;
    let documents = shop.documents().await?;
    let ids: Vec<String> = documents.iter().map(|d| d.id.clone()).collect();
    delete(&shop, &ids[..7]).await?;
    for document in &documents[20..25] {
        let mut source = document.source.clone();
        source["view_time"] = json!(-1);
        shop.index().call(Method::PUT, &path(shop.index_name(), &document.id), Some(&source)).await?;
    }
    shop.index().call(Method::PUT, &path(shop.index_name(), "by-hand"), Some(&json!({"product_id": "x"}))).await?;
    let file = shop.folder().join("plan.jsonl").display().to_string();
    shop.reconcile(&["--dry-run", "--plan", &file], 3).await?;
    let plan = std::fs::read_to_string(&file)?;
    let lines: Vec<Value> = plan.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    assert_eq!(lines[0]["counts"], json!({"missing": 7, "different": 5, "extra": 1}), "{plan}");
    assert_eq!(lines.len(), 14);
    let different = lines.iter().find(|line| line["kind"] == "different").context("one that is different")?;
    assert_eq!([&different["fields"][0]["field"], &different["fields"][0]["found"]], [&json!("view_time"), &json!(-1)]);

    // Another program, another index, another archive, and half a plan are refused.
    let refused = async |from: &str, to: &str, reason: &str| -> Result<()> {
        ensure!(plan.contains(from), "{from}");
        std::fs::write(shop.folder().join("other.jsonl"), plan.replacen(from, to, 1))?;
        let other = shop.folder().join("other.jsonl").display().to_string();
        let said = apply(&shop, &other, 1).await?;
        ensure!(said.contains(reason), "{said}");
        Ok(())
    };
    let text = |field: &Value| field.as_str().unwrap_or_default().to_owned();
    refused(&text(&lines[0]["program"]), "0", "it was made for another program").await?;
    let uuid = text(&lines[0]["indexes"]["product_dashboard"]["uuid"]);
    refused(&uuid, "0", "product_dashboard has another index").await?;
    refused(&text(&lines[0]["archive"]["views"]), "0", "the archive of table views is another one").await?;
    let cut = format!("\"cut\":{}", lines[0]["cut"]);
    refused(&cut, "\"cut\":999999999", "it is an older one").await?;
    let last = plan.lines().last().context("a line")?;
    refused(&format!("{last}\n"), "", "13 entries by its header, and 12 are there").await?;

    // One document is written since, and one that was missing is there again.
    let moved = &documents[20];
    shop.index().call(Method::PUT, &path(shop.index_name(), &moved.id), Some(&moved.source)).await?;
    shop.index().call(Method::PUT, &path(shop.index_name(), &ids[0]), Some(&documents[0].source)).await?;
    let said = apply(&shop, &file, 3).await?;
    ensure!(
        said.contains("repaired 11, overtaken by the stream 0, refused 0, changed since the plan and left out 2"),
        "{said}"
    );
    ensure!(said.contains(&format!("left out {}", moved.id)), "{said}");
    shop.reconcile(&[], 0).await?;
    shop.assert_index_is_as_expected().await?;
    stream.terminate(SOON).await
}

#[tokio::test]
async fn certificates_are_as_their_schema_says_and_are_listed_and_shown() -> Result<()> {
    let (shop, mut stream) = filled().await?;
    let schema: Value = serde_json::from_str(&std::fs::read_to_string(fixture("certificate.schema.json"))?)?;
    let ids: Vec<String> = shop.documents().await?.into_iter().map(|d| d.id).collect();
    for (options, code, damage, verdict) in [
        (&[][..], 0, 0, "in-lockstep"),
        (&[], 3, 3, "differs"),
        (&["--repair"], 0, 0, "repaired"),
        (&["--repair"], 3, 150, "differs"),
    ] {
        delete(&shop, &ids[..damage]).await?;
        let certificate = shop.reconcile(options, code).await?;
        validate(&schema, &certificate)?;
        assert_eq!(certificate["verdict"], verdict, "{certificate:#}");
        let mut spoilt = certificate.clone();
        spoilt["sinks"][0]["missing"] = json!("three");
        ensure!(validate(&schema, &spoilt).is_err(), "the schema takes anything");
    }
    let listed: Value = serde_json::from_str(&shop.batch(&["certificates", "--output", "json"], 0).await?)?;
    let verdicts: Vec<&str> = listed.as_array().into_iter().flatten().filter_map(|c| c["verdict"].as_str()).collect();
    assert_eq!(verdicts, ["differs", "repaired", "differs", "in-lockstep"]);
    let name = listed[1]["name"].as_str().context("a name")?;
    let shown = shop.batch(&["certificates", "--show", name], 0).await?;
    ensure!(shown.contains("\"verdict\": \"repaired\""), "{shown}");
    let page = std::fs::read_to_string(shop.archive().join(format!("certificates/{name}.html")))?;
    ensure!(page.contains("repaired") && !page.contains("<script") && !page.contains("http"), "{page}");
    let text = shop.batch(&["certificates"], 0).await?;
    ensure!(text.lines().count() == 4 && text.contains("150 differences"), "{text}");
    let status = shop.status().await?;
    assert_eq!(
        [&status["certificate"]["verdict"], &status["certificate"]["differences"]],
        [&json!("differs"), &json!(150)]
    );
    let metrics = shop.page("/metrics").await?;
    ensure!(metrics.contains("lockstep_certificate_verdict{verdict=\"differs\"} 1"), "{metrics}");
    stream.terminate(SOON).await
}

#[tokio::test]
async fn a_second_reconcile_is_told_who_is_at_work() -> Result<()> {
    let (shop, mut stream) = filled().await?;
    let held = lock::take(&shop.archive(), "a rebuild", Duration::ZERO).await?;
    let said = shop.batch(&["reconcile", "--wait", "0"], 1).await?;
    let name = format!("a rebuild (process {} on host", std::process::id());
    ensure!(said.contains(&name), "{said}");
    drop(held);
    shop.reconcile(&["--wait", "0"], 0).await?;
    stream.terminate(SOON).await
}
