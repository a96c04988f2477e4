//! The second look, at whole documents: those whose notes are not equal.

use std::path::PathBuf;
use std::sync::Arc;

use lockstep_shared::coordinates::Step;
use lockstep_shared::digest::hash_of_id;
use lockstep_shared::index::moment::{Moment, Reading};
use lockstep_shared::index::page::Page;
use lockstep_shared::index::scan::Found;
use lockstep_shared::plan::{Pipeline, Sink};
use rustc_hash::FxHashSet;
use serde_json::{Value as Json, json};

use super::CompareError;
use crate::batch::Batch;
use crate::recompute::{Documents, RecomputeError, Rows, each_batch, each_batch_of};

/// Documents that are asked for at a time.
const ASKED: usize = 1_000;

/// The documents that should be after the cut, in these places: of all, or only of these rows of the leftmost table.
///
/// # Errors
/// Where the archive cannot be read, or two documents have one id.
pub fn expected(
    pipeline: &Pipeline,
    sink: &Sink,
    files: &[Vec<PathBuf>],
    cut: Step,
    places: &FxHashSet<u64>,
    rows: Option<&Rows>,
) -> Result<Documents, RecomputeError> {
    let (mut documents, mut id) = (Documents::default(), String::new());
    let take = |batch: &Batch<'_>| {
        for row in 0..batch.rows() {
            id.clear();
            batch.write_id(row, &mut id);
            if places.contains(&hash_of_id(&id)) && documents.insert(batch.id(row), batch.values(row)).is_some() {
                return Err(RecomputeError::SameId { sink: sink.name.clone(), id: batch.id(row) });
            }
        }
        Ok(())
    };
    match rows {
        None => each_batch(pipeline, sink, files, cut, take)?,
        Some(rows) => each_batch_of(pipeline, sink, files, cut, rows, take)?,
    }
    Ok(documents)
}

/// What is there in these places: the expected documents by their ids, the others by their sequence numbers.
///
/// # Errors
/// Where the server does not give them.
pub async fn found(
    moment: &Arc<Moment>,
    expected: &Documents,
    places: &FxHashSet<u64>,
    seq_nos: &[(u64, u64)],
) -> Result<Vec<Found>, CompareError> {
    let ids: Vec<&str> = expected.keys().map(|id| &*id.0).collect();
    let known: FxHashSet<u64> = ids.iter().map(|id| hash_of_id(id)).collect();
    let unknown: Vec<u64> = seq_nos.iter().filter(|(place, _)| !known.contains(place)).map(|(_, n)| *n).collect();
    let by_id = ids.chunks(ASKED).map(|some| json!({"ids": {"values": some}}));
    let by_number = unknown.chunks(ASKED).map(|some| json!({"terms": {"_seq_no": some}}));
    let mut documents = Vec::new();
    for query in by_id.chain(by_number) {
        whole(moment, &query, &mut documents).await?;
    }
    // A sequence number of one shard may be another document's in another shard. Two ids may have one place, and one of
    // them is expected: then the other one is not found by its number, and has to be looked for.
    documents.retain(|found: &Found| places.contains(&hash_of_id(&found.id)));
    let have: FxHashSet<u64> = documents.iter().map(|found| found.seq_no).collect();
    let shared: Vec<u64> =
        seq_nos.iter().filter(|(place, n)| known.contains(place) && !have.contains(n)).map(|(_, n)| *n).collect();
    let ids: FxHashSet<String> = documents.iter().map(|found| found.id.clone()).collect();
    for some in shared.chunks(ASKED) {
        let mut more = Vec::new();
        whole(moment, &json!({"terms": {"_seq_no": some}}), &mut more).await?;
        more.retain(|found| places.contains(&hash_of_id(&found.id)) && !ids.contains(&found.id));
        documents.append(&mut more);
    }
    Ok(documents)
}

async fn whole(moment: &Arc<Moment>, query: &Json, documents: &mut Vec<Found>) -> Result<(), CompareError> {
    let mut after = None;
    loop {
        let text = moment.page(query, Reading::Whole, ASKED, after.as_ref()).await?;
        let page = Page::read(&text).map_err(|reason| moment.client().refused(reason))?;
        documents.extend(page.hits().iter().map(|hit| hit.found()));
        if page.hits().len() < ASKED {
            return Ok(());
        }
        after = page.after();
    }
}
