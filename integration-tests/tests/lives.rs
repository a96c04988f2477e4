//! A document's life equals the definition over the whole archive, at every step, for every document that ever was: in
//! content and in the records behind it.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_batch::life::{By, Life, RecordAt, Store, Unknown, fetch, lives};
use lockstep_batch::recompute;
use lockstep_integration_tests::archived::archive;
use lockstep_integration_tests::corruption::history;
use lockstep_shared::coordinates::{Place, Step, TableId};
use lockstep_shared::history::{HistoryRecord, contents};
use lockstep_shared::plan::{Pipeline, Sink};
use lockstep_shared::semantics::made;
use lockstep_shared::value::Value;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// A document by the definition: its values, and the records of its rows.
type Document = (Vec<Value>, Vec<Option<RecordAt>>);

/// Every document of a sink after each step, by the definition over everything.
fn documents(pipeline: &Pipeline, sink: &Sink, records: &[HistoryRecord]) -> Vec<(Step, BTreeMap<String, Document>)> {
    let steps: BTreeSet<Step> = records.iter().map(|r| r.step).collect();
    let at: BTreeMap<(TableId, Place), Step> = records.iter().map(|r| ((r.table, r.place), r.step)).collect();
    let after = |step: Step| {
        let contents = contents(&pipeline.tables, records, step);
        let made = made(pipeline, sink, &contents).into_iter().map(|made| {
            let rows = made.rows.iter().enumerate().map(|(input, row)| {
                let (table, place) = (sink.query.inputs[input].table, (*row)?.place);
                Some(RecordAt { table, place, step: at[&(table, place)] })
            });
            (made.id.to_string(), (made.values.clone(), rows.collect()))
        });
        (step, made.collect())
    };
    steps.into_iter().map(after).collect()
}

/// Compares lives with the definition; how many states were compared.
fn check(
    seed: u64,
    sink: &Sink,
    ids: &[&str],
    lives: &[Result<Life, Unknown>],
    by_step: &[(Step, BTreeMap<String, Document>)],
) -> usize {
    let mut compared = 0;
    for (id, life) in ids.iter().zip(lives) {
        let ever = by_step.iter().any(|(_, documents)| documents.contains_key(*id));
        let life = match life {
            Ok(life) => life,
            Err(unknown) => {
                assert!(!ever, "seed {seed}: {id} of {} was there, and its life is {unknown:?}", sink.name);
                continue;
            }
        };
        for (step, documents) in by_step {
            let found = life.at(*step).map(|standing| (standing.values.clone(), standing.rows.clone()));
            assert_eq!(found.as_ref(), documents.get(*id), "seed {seed}: {id} of {} after step {step}", sink.name);
            compared += 1;
        }
    }
    compared
}

/// All ids that ever were, and some that never were.
fn ids(rng: &mut StdRng, by_step: &[(Step, BTreeMap<String, Document>)]) -> Vec<String> {
    let mut ids: BTreeSet<String> = by_step.iter().flat_map(|(_, documents)| documents.keys().cloned()).collect();
    let strange = ["", "~", "0-99|~", "k3_7", "99", "nonsense|~|", "0-07", "1-1|3", "5", "~|~", "0-0|~|~"];
    ids.extend(strange.map(str::to_owned));
    ids.extend(
        (0..10).map(|_| format!("{}-{}|{}", rng.random_range(0..2), rng.random_range(0..9), rng.random_range(0..12))),
    );
    ids.into_iter().collect()
}

#[test]
fn a_life_equals_the_definition_at_every_step() {
    let mut compared = 0;
    for seed in 0..600 {
        let mut rng = StdRng::seed_from_u64(seed);
        let pipeline = history::pipeline(&mut rng);
        let records = history::draw(&mut rng, &pipeline, 60);
        for sink in &pipeline.sinks {
            let by_step = documents(&pipeline, sink, &records);
            let ids = ids(&mut rng, &by_step);
            let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
            let mut store = Store::complete(&pipeline, &records);
            let nothing = &mut |_: &_| Ok::<_, std::convert::Infallible>(Vec::new());
            let Ok(lives) = lives(&pipeline, sink, &ids, Step(u64::MAX), &mut store, nothing);
            compared += check(seed, sink, &ids, &lives, &by_step);
        }
    }
    assert!(compared > 100_000, "{compared} states are few");
}

/// Steps of a commit: some, so that one has several records of a document.
const STEPS_IN_A_COMMIT: u64 = 8;

#[test]
fn a_life_read_from_the_archive_is_the_same() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut compared = 0;
    for seed in 0..12 {
        let mut rng = StdRng::seed_from_u64(seed);
        let pipeline = history::pipeline(&mut rng);
        let records = history::draw(&mut rng, &pipeline, 60);
        let root = tempfile::tempdir().expect("a folder");
        runtime.block_on(archive(&pipeline, &records, root.path(), STEPS_IN_A_COMMIT)).expect("the archive is written");
        let files = runtime.block_on(recompute::files(&pipeline, root.path())).expect("the archive has files");
        for sink in &pipeline.sinks {
            let by_step = documents(&pipeline, sink, &records);
            let ids = ids(&mut rng, &by_step);
            let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
            let mut asked = 0;
            let ask = &mut |ask: &_| {
                asked += 1;
                fetch(&pipeline, &files, Step(u64::MAX), ask)
            };
            let lives = lives(&pipeline, sink, &ids, Step(u64::MAX), &mut Store::new(&pipeline), ask);
            compared += check(seed, sink, &ids, &lives.expect("Polars reads the archive"), &by_step);
            // Every document at once: a few questions an input, not one a document.
            assert!(asked <= 6 * sink.query.inputs.len(), "{asked} questions for {} documents", ids.len());
        }
    }
    assert!(compared > 5_000, "{compared} states are few");
    assert_ne!(By::Place, By::Columns(vec![]));
}
