//! `why` tells a document's life, and a changed program is told from a damaged index.

use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use lockstep_integration_tests::containers::free_port;
use lockstep_integration_tests::processes::Program;
use reqwest::Method;
use serde_json::{Value, json};

use crate::shop::{SOON, Shop};

async fn told(shop: &Shop, id: &str, code: i32) -> Result<Value> {
    let output = shop.why(id, &["--output", "json", "--sink", "orders_enriched"], code).await?;
    serde_json::from_str(&output).with_context(|| format!("JSON: {output}"))
}

#[tokio::test]
async fn why_tells_the_records_behind_a_document_and_what_became_of_it() -> Result<()> {
    let mut shop = Shop::on_files()?;
    let row = |table: &str, row: Value| (table.to_owned(), shop.record(table, &row));
    let rows = [
        row("users", json!({"id": "u1", "first_name": "Ann", "last_name": "Lee", "email": "e", "state": "Ohio"})),
        row("sales", json!({"order_id": 7, "product_id": "p1", "customer_id": "u1", "ts": 1_600_000_000_000_u64})),
        row("products", json!({"id": "p1", "brand": "Nike", "name": "Air", "sale_price": 9.0, "rating": 4.5})),
    ];
    let mut stream = shop.start_live().await?;
    for (table, record) in rows {
        shop.send(&table, vec![record]).await?;
        shop.caught_up_and_archived().await?;
    }
    let accounts = told(&shop, "7", 0).await?;
    let account = &accounts[0];
    let turns = account["turns"].as_array().context("a life")?;
    assert_eq!(
        turns.iter().map(|t| t["what"].as_str()).collect::<Vec<_>>(),
        [Some("written"), Some("changed")],
        "{account:#}"
    );
    assert_eq!(turns[1]["fields"], json!({"product_name": "Air", "brand": "Nike", "price": 9}), "{account:#}");
    let tables: Vec<&str> =
        turns[1]["records"].as_array().into_iter().flatten().filter_map(|r| r["table"].as_str()).collect();
    assert_eq!(tables, ["sales", "users", "products"], "{account:#}");
    assert_eq!(account["difference"], Value::Null);

    let path = format!("/{}/_doc/7", shop.index_of("orders_enriched"));
    shop.index().call(Method::DELETE, &path, None).await?;
    let accounts = told(&shop, "7", 3).await?;
    let difference = &accounts[0]["difference"];
    assert_eq!(difference["cause"], "write-lost", "{accounts:#}");
    assert_eq!(difference["explanation"]["records"].as_array().map(Vec::len), Some(3), "{accounts:#}");
    let text = shop.why("7", &[], 3).await?;
    for said in [
        "step ",
        "written",
        "customer_name: \"Ann Lee\"",
        "users.jsonl partition 0 offset 0",
        "the index does not have it",
        ": write-lost",
    ] {
        ensure!(text.contains(said), "expected '{said}' in\n{text}");
    }
    let text = shop.why("99", &[], 1).await?;
    ensure!(text.contains("nothing is known of 99"), "{text}");
    let text = shop.why("7", &["--sink", "nobody"], 2).await?;
    ensure!(text.contains("the pipeline has no such sink, but product_dashboard"), "{text}");
    shop.reconcile(&["--repair"], 0).await?;
    told(&shop, "7", 0).await?;
    stream.terminate(SOON).await
}

/// A program of one table whose names are shown so.
fn program(folder: &Path, shown: &str, port: u16, http: u16) -> Result<String> {
    let (log, path) = (folder.join("people.jsonl"), folder.join("people.sql"));
    let text = format!(
        "SET 'lockstep.archive.path' = '{0}/archive'; SET 'lockstep.state.path' = '{0}/state';
         SET 'lockstep.archive.commit.max-delay' = '300 ms'; SET 'lockstep.http.address' = '127.0.0.1:{http}';
         SET 'lockstep.index.embedded.address' = '127.0.0.1:{port}';
         CREATE TABLE people (id STRING, name STRING, PRIMARY KEY (id) NOT ENFORCED)
           WITH ('connector' = 'filesystem', 'path' = '{1}', 'format' = 'json', 'key.format' = 'raw');
         CREATE TABLE shown (id STRING, name STRING, PRIMARY KEY (id) NOT ENFORCED)
           WITH ('connector' = 'elasticsearch-8', 'hosts' = 'http://127.0.0.1:{port}', 'index' = 'shown');
         INSERT INTO shown SELECT id, {shown} FROM people;",
        folder.display(),
        log.display()
    );
    std::fs::write(&path, text)?;
    Ok(path.display().to_string())
}

#[tokio::test]
async fn a_document_of_an_earlier_program_is_told_from_a_damaged_one() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (port, http) = (free_port()?, free_port()?);
    let person = |id: &str| {
        let line = json!({"key": id, "value": {"id": id, "name": format!("name of {id}")}});
        let mut log = std::fs::OpenOptions::new().append(true).create(true).open(folder.path().join("people.jsonl"))?;
        writeln!(log, "{line}").map_err(anyhow::Error::from)
    };
    ["a", "b", "c"].iter().try_for_each(|id| person(id))?;
    for (shown, more) in [("name", None), ("UPPER(name)", Some("d"))] {
        more.map_or(Ok(()), person)?;
        let path = program(folder.path(), shown, port, http)?;
        let mut stream = Program::start("lockstep-stream", &["run", &path], folder.path())?;
        stream.wait_for_health(&format!("http://127.0.0.1:{http}/readyz"), SOON).await?;
        let count = if more.is_some() { 4 } else { 3 };
        let index = lockstep_integration_tests::index::Index::new(&format!("http://127.0.0.1:{port}"))?;
        lockstep_integration_tests::eventually("everybody is shown", SOON, async || match index.count("shown").await {
            Ok(found) if found == count => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await?;
        if more.is_none() {
            stream.terminate(SOON).await?;
            continue;
        }
        index.call(Method::DELETE, "/shown/_doc/c", None).await?;
        let arguments = ["reconcile", &path, "--output", "json"];
        // The archive has the last record a moment later.
        let certificate = lockstep_integration_tests::eventually("the cut has everything", SOON, async || {
            let mut batch = Program::start("lockstep-batch", &arguments, folder.path()).map_err(|e| e.to_string())?;
            batch.expect_exit(3, SOON).await.map_err(|e| e.to_string())?;
            let certificate: Value = serde_json::from_str(&batch.output()).map_err(|e| e.to_string())?;
            if certificate["sinks"][0]["equal"] == 1 { Ok(certificate) } else { Err(certificate.to_string()) }
        })
        .await?;
        let causes = &certificate["sinks"][0]["by_cause"];
        assert_eq!(*causes, json!({"pipeline-changed": 2, "write-lost": 1}), "{certificate:#}");
        stream.terminate(SOON).await?;
    }
    Ok(())
}
