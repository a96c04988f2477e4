//! The corruption suite on a real server: damage that the running stream knows nothing of is found, named, and repaired by
//! the program itself, and nothing else is.

use std::collections::BTreeMap;
use std::io::Write as _;

use anyhow::{Context as _, Result, ensure};
use lockstep_batch::cause::Cause;
use lockstep_batch::life::RecordAt;
use lockstep_integration_tests::corruption::class::Class;
use lockstep_integration_tests::corruption::confusion;
use lockstep_integration_tests::corruption::inject::{Damage, Injected};
use lockstep_integration_tests::corruption::suite::Tally;
use lockstep_integration_tests::corruption::world::World;
use lockstep_integration_tests::index::{Index, Write};
use lockstep_integration_tests::{containers, eventually, variable};
use lockstep_shared::archive::Archive;
use lockstep_shared::coordinates::{Step, TableId};
use lockstep_shared::history::HistoryRecord;
use lockstep_shared::identity::DocumentId;
use lockstep_shared::plan::Pipeline;
use rand::RngExt;
use reqwest::Method;
use serde_json::{Value, json};

use crate::shop::{SOON, Shop, Text};
use crate::traffic::{Traffic, seed};

/// Damages of every run; `integration-tests/soak` says more.
const INJECTIONS: u64 = 300;
/// Damages tried at a time in one index.
const TRIES: usize = 150;
/// The sinks that are damaged in turn.
const DAMAGED: [&str; 3] = ["product_dashboard", "orders_enriched", "views_enriched"];

/// What a running stream with a strict mapping rules out: it acknowledges everything, and its program did not change.
const LEFT_OUT: [Class; 6] = [
    Class::NotYetWritten,
    Class::NotYetChanged,
    Class::NotYetDeleted,
    Class::IgnoredField,
    Class::EarlierProgram,
    Class::EarlierFilter,
];

/// Everything that the archive has.
async fn history(shop: &Shop, pipeline: &Pipeline) -> Result<Vec<HistoryRecord>> {
    let mut records = Vec::new();
    for (number, table) in pipeline.tables.iter().enumerate() {
        let archive = Archive::new(shop.archive()).open_existing(table).await?.context("it has an archive")?;
        for record in archive.read(Step::ZERO, Step(i64::MAX.cast_unsigned())).await? {
            let (step, place, content) = (record.step, record.place, record.content);
            records.push(HistoryRecord { step, table: TableId(number), place, content });
        }
    }
    records.sort_by_key(HistoryRecord::order);
    Ok(records)
}

/// How long the server keeps the versions of deletes; nothing to put an old version where a newer one was.
async fn keep_deletes(index: &Index, name: &str, time: &str) -> Result<()> {
    let settings = json!({"index": {"gc_deletes": time}});
    index.call(Method::PUT, &format!("/{name}/_settings"), Some(&settings)).await.map(drop)
}

/// Puts what was done in memory into the server.
async fn carry_out(index: &Index, name: &str, world: &World<'_>, injected: &BTreeMap<String, Injected>) -> Result<()> {
    keep_deletes(index, name, "0s").await?;
    let deletes: String =
        injected.keys().map(|id| format!("{}\n", json!({"delete": {"_index": name, "_id": id}}))).collect();
    index.bulk_raw(deletes).await?.error_for_status()?;
    index.refresh(name).await?;
    let mut writes = Vec::new();
    for id in injected.keys() {
        let held = world.index.held.get(&DocumentId(id.as_str().into()));
        let Some((held, source)) = held.and_then(|held| Some((held, held.source.as_ref()?))) else { continue };
        let document = serde_json::from_slice(source)?;
        writes.push(Write::Index { id: id.clone(), version: held.version.0, document });
    }
    // The server forgets a delete some refreshes after it is allowed to.
    eventually("the server takes the damage", SOON, async || {
        index.refresh(name).await.map_err(|error| format!("{error:#}"))?;
        let verdicts = index.bulk(name, &writes).await.map_err(|error| format!("{error:#}"))?;
        match verdicts.iter().find(|verdict| verdict.status >= 300) {
            None => Ok(()),
            Some(refused) => Err(format!("{refused:?}")),
        }
    })
    .await?;
    index.refresh(name).await
}

/// The records as the certificate names them, by table, partition, offset and step, ascending.
fn places(records: &Value) -> Vec<String> {
    let place = |r: &Value| {
        format!("{} {} {} {}", r["table"].as_str().unwrap_or_default(), r["partition"], r["offset"], r["step"])
    };
    let mut places: Vec<String> = records.as_array().into_iter().flatten().map(place).collect();
    places.sort();
    places
}

fn places_of(pipeline: &Pipeline, records: &[RecordAt]) -> Vec<String> {
    let place = |r: &RecordAt| {
        format!("{} {} {} {}", pipeline.tables[r.table.0].name, r.place.partition, r.place.offset, r.step.0)
    };
    let mut places: Vec<String> = records.iter().map(place).collect();
    places.sort();
    places
}

fn cause_of(name: &Value) -> Result<Cause> {
    let all = Class::ALL.map(Class::cause);
    let others = [Cause::NotFollowed];
    let found = all.iter().chain(&others).find(|cause| name == cause.name());
    found.copied().with_context(|| format!("{name} is the name of a cause"))
}

/// Compares a sink's report with what was done to it.
fn judge(pipeline: &Pipeline, report: &Value, injected: &BTreeMap<String, Injected>) -> Result<Tally> {
    let mut tally = Tally::default();
    let samples = report["samples"].as_array().context("a list of samples")?;
    ensure!(samples.len() == injected.len(), "{} differ, {} were damaged: {report:#}", samples.len(), injected.len());
    for sample in samples {
        let id = sample["id"].as_str().context("an id")?;
        let done = injected.get(id).with_context(|| format!("{id} differs and was not touched: {sample:#}"))?;
        let explanation = &sample["explanation"];
        *tally.named.entry((done.class, cause_of(&sample["cause"])?)).or_default() += 1;
        if let Some(records) = &done.records {
            let (expected, said) = (places_of(pipeline, records), places(&explanation["records"]));
            ensure!(expected == said, "{id} ({:?}) is made of {expected:?}, said {said:?}", done.class);
        }
    }
    Ok(tally)
}

fn report<'a>(certificate: &'a Value, sink: &str) -> Result<&'a Value> {
    let reports = certificate["sinks"].as_array().into_iter().flatten();
    reports.into_iter().find(|report| report["sink"] == sink).context("the sink has a report")
}

/// Damages one index, has it found and repaired, and looks again.
async fn damage(shop: &Shop, index: &Index, sink: &'static str, traffic: &mut Traffic) -> Result<Tally> {
    let pipeline = shop.pipeline()?;
    let records = history(shop, &pipeline).await?;
    let definition = pipeline.sinks.iter().find(|s| s.name == sink).context("the sink is there")?;
    let mut world = World::new(&pipeline, definition, &records);
    let acknowledged = world.last;
    let mut damage = Damage {
        world: &mut world,
        rng: &mut traffic.rng,
        acknowledged,
        earlier: None,
        ignored: None,
        letters: BTreeMap::new(),
        injected: BTreeMap::new(),
    };
    let classes: Vec<Class> = Class::ALL.into_iter().filter(|class| !LEFT_OUT.contains(class)).collect();
    for _ in 0..TRIES {
        let class = classes[damage.rng.random_range(0..classes.len())];
        // Where there is nothing to do it to, nothing is done.
        let _ = damage.inject(class);
    }
    let (letters, injected) = (damage.letters, damage.injected);
    let letters_file = shop.folder().join("state/dead-letters.jsonl");
    let mut file = std::fs::OpenOptions::new().append(true).create(true).open(&letters_file)?;
    for (id, letter) in letters {
        writeln!(file, "{}", json!({"sink": sink, "id": id, "step": letter.step, "reason": letter.reason}))?;
    }
    let name = if sink == "product_dashboard" { shop.index_name() } else { shop.index_of(sink) };
    carry_out(index, name, &world, &injected).await?;
    let certificate = shop.reconcile(&["--sample", "1000000", "--repair", "--repair-limit", "100%"], 0).await?;
    let tally = judge(&pipeline, report(&certificate, sink)?, &injected)?;
    for other in certificate["sinks"].as_array().into_iter().flatten().filter(|report| report["sink"] != sink) {
        ensure!(other["samples"].as_array().is_some_and(Vec::is_empty), "nobody touched this one: {other:#}");
    }
    // A version that was too high went with its document; the document is written once the delete is forgotten.
    eventually("everything is made good", SOON, async || {
        index.refresh(name).await.map_err(|error| format!("{error:#}"))?;
        shop.reconcile(&["--repair"], 0).await.map_err(|error| format!("{error:#}"))?;
        shop.reconcile(&[], 0).await.map(drop).map_err(|error| format!("{error:#}"))
    })
    .await?;
    keep_deletes(index, name, "1h").await?;
    // A letter speaks of one damage; the next one to the same document is another.
    Ok(std::fs::write(&letters_file, "").map(|()| tally)?)
}

#[tokio::test]
async fn every_damage_to_elasticsearch_is_found_named_and_repaired_and_nothing_else() -> Result<()> {
    let Some(servers) = containers::shared().await? else { return Ok(()) };
    let seed = seed("LOCKSTEP_CORRUPTION_SEED")?;
    println!("LOCKSTEP_CORRUPTION_SEED={seed}");
    let injections = variable("LOCKSTEP_CORRUPTIONS").map_or(Ok(INJECTIONS), |given| given.parse())?;
    let mut shop = Shop::on_servers(Text::Keyed, &servers.kafka, &servers.index, 2).await?;
    shop.set("lockstep.step.max-records", "20");
    let mut traffic = Traffic::new(seed);
    traffic.burst(&mut shop, 150).await?;
    let mut stream = shop.start_live().await?;
    let mut tally = Tally::default();
    for number in 0.. {
        // The log goes on between two damages, a little, so that the index does not grow without end.
        traffic.burst(&mut shop, if number < 3 { 150 } else { 6 }).await?;
        shop.caught_up_and_archived().await?;
        tally.add(damage(&shop, &servers.index, DAMAGED[number % DAMAGED.len()], &mut traffic).await?);
        if tally.injected() >= injections {
            break;
        }
    }
    println!("{}", confusion::table(&tally));
    assert!(tally.right() * 100 >= tally.injected() * 98, "{} of {} are named right", tally.right(), tally.injected());
    assert!(tally.classes() >= 16, "{} classes occurred", tally.classes());
    shop.assert_index_is_as_expected().await?;
    stream.terminate(SOON).await
}
