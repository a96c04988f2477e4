//! Exact cuts: reconcile after reconcile while the stream writes at full load, with updates and deletes, and never a
//! difference that is none, never a document left out.
//!
//! `LOCKSTEP_CUTS` says how many; `LOCKSTEP_CUT_SEED` with which seed.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lockstep_integration_tests::kafka::{Kafka, Record};
use lockstep_integration_tests::{containers, variable};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::shop::{SOON, Shop, TABLES, Text};
use crate::traffic::{Traffic, seed};

/// Reconciles of a run; a soak has more.
const CUTS: usize = 20;
/// Pause between two bursts of the load.
const PAUSE: Duration = Duration::from_millis(20);
/// Views of a burst; of the other tables there is one record, which touches every document that it is joined to.
const VIEWS: usize = 800;
/// Bursts between two records of the other tables.
const BURSTS_BETWEEN: usize = 2;

type Sent = BTreeMap<&'static str, Vec<Record>>;

/// Sends records until it is told to end.
async fn load(kafka: Kafka, topics: BTreeMap<&'static str, String>, seed: u64, end: Arc<AtomicBool>) -> Result<Sent> {
    let mut traffic = Traffic::new(seed);
    let mut sent = Sent::new();
    for burst in 0.. {
        for (table, _) in TABLES {
            let count = match table {
                "views" => VIEWS,
                _ => usize::from(burst % BURSTS_BETWEEN == 0),
            };
            let records: Vec<Record> = (0..count).map(|_| traffic.good(table)).collect();
            if !records.is_empty() {
                kafka.produce(&topics[table], &records).await?;
                sent.entry(table).or_default().extend(records);
            }
        }
        if end.load(Ordering::Relaxed) {
            break;
        }
        sleep(PAUSE).await;
    }
    Ok(sent)
}

fn assert_exact(certificate: &Value) -> Result<f64> {
    ensure!(certificate["precision"]["exact"] == json!(true), "the cut is not exact: {certificate:#}");
    for sink in certificate["sinks"].as_array().context("there are sinks")? {
        let numbers = ["younger", "missing", "different", "extra"].map(|name| &sink[name]);
        ensure!(numbers.iter().all(|number| **number == json!(0)), "a false difference: {certificate:#}");
        ensure!(sink["equal"] == sink["found"] && sink["found"] == sink["expected"], "{sink:#}");
    }
    certificate["precision"]["held_ms"].as_f64().context("it says how long the sinks were held")
}

#[tokio::test(flavor = "multi_thread")]
async fn l7_reconciles_of_a_live_index_at_full_load_find_no_false_difference() -> Result<()> {
    let Some(servers) = containers::shared().await? else { return Ok(()) };
    let (cuts, seed) = (variable("LOCKSTEP_CUTS").map_or(Ok(CUTS), |given| given.parse())?, seed("LOCKSTEP_CUT_SEED")?);
    let mut shop = Shop::on_servers(Text::Keyed, &servers.kafka, &servers.index, 3).await?;
    let mut stream = shop.start_live().await?;
    let topics = TABLES.iter().map(|(table, _)| Ok((*table, shop.topic(table)?.to_owned())));
    let topics: BTreeMap<&str, String> = topics.collect::<Result<_>>()?;
    let end = Arc::new(AtomicBool::new(false));
    let sending = tokio::spawn(load(servers.kafka.clone(), topics, seed, end.clone()));
    let (begin, mut held) = (Instant::now(), Vec::new());
    for number in 0..cuts {
        let certificate =
            shop.reconcile(&[], 0).await.with_context(|| format!("reconcile {number}, LOCKSTEP_CUT_SEED={seed}"))?;
        held.push(assert_exact(&certificate)?);
    }
    let written = shop.status().await?["written"].as_f64().context("documents were written")?;
    let rate = written / begin.elapsed().as_secs_f64();
    end.store(true, Ordering::Relaxed);
    for (table, records) in sending.await?? {
        shop.was_sent(table, records);
    }
    held.sort_by(f64::total_cmp);
    let at = |percent: usize| held[(held.len() - 1) * percent / 100];
    // Not `println!`: the test runner swallows that for a test that passes.
    writeln!(
        std::io::stderr(),
        "{cuts} exact cuts while {rate:.0} documents a second were written: sinks held for {:.0} ms (median), {:.0} ms (99 of 100)",
        at(50),
        at(99)
    )?;
    shop.caught_up_and_archived().await?;
    shop.assert_index_is_as_expected().await?;
    let metrics = shop.page("/metrics").await?;
    ensure!(metrics.contains(&format!("lockstep_cuts_total {cuts}")), "{metrics}");
    stream.terminate(SOON).await
}

#[tokio::test]
async fn cuts_are_made_one_at_a_time_and_not_for_pages_of_other_sites() -> Result<()> {
    let mut shop = Shop::on_files()?;
    for (table, _) in TABLES {
        let records = shop.generated(table, 7, 200)?;
        shop.send(table, records).await?;
    }
    let mut stream = shop.start_live().await?;
    shop.caught_up().await?;
    let http = reqwest::Client::builder().no_proxy().timeout(SOON).build()?;
    let url = format!("{}/v1/cuts", shop.address());
    let mut asked = JoinSet::new();
    (0..20).for_each(|_| drop(asked.spawn(http.post(&url).send())));
    let answers: Result<Vec<_>, _> = asked.join_all().await.into_iter().collect();
    let mut statuses: Vec<u16> = answers?.iter().map(|answer| answer.status().as_u16()).collect();
    statuses.sort_unstable();
    statuses.dedup();
    ensure!(
        statuses.first() == Some(&200) && statuses.iter().all(|status| [200, 429].contains(status)),
        "{statuses:?}"
    );
    let cut: Value = http.post(&url).send().await?.json().await?;
    ensure!(cut["step"] == shop.status().await?["archived"], "the archive has the cut at once: {cut}");
    ensure!(cut["sinks"].as_object().map(|sinks| sinks.len()) == Some(5), "{cut}");
    let page = http.post(&url).header("Origin", "http://elsewhere.example").send().await?;
    assert_eq!(page.status().as_u16(), 403);
    stream.terminate(SOON).await?;
    let certificate = shop.reconcile(&[], 0).await.err();
    // The embedded index went with the stream: nothing can be compared, and that is what is said.
    ensure!(certificate.is_some(), "an index that does not answer is no success");
    Ok(())
}
