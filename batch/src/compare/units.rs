//! Reads an index at one moment, unit by unit, and notes each document.
//!
//! A unit is a range of sequence numbers, so that a later moment has most of what was read as it was (`unchanged`). Units
//! are read several at a time; parsing has threads of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use lockstep_shared::digest::{hash_of_id, of_source};
use lockstep_shared::index::IndexError;
use lockstep_shared::index::moment::{Moment, Page, Reading, numbered};
use lockstep_shared::plan::{Column, Sink};
use serde_json::{Value as Json, json};
use tokio::task::JoinSet;

use super::CompareError;
use super::record::{Is, IsFile};
use crate::progress::Progress;

/// Units read at a time: more made no server quicker.
const PARALLEL: usize = 4;
/// Documents of a unit, about: one page.
const UNIT_DOCUMENTS: u64 = 9_000;
/// Most documents of a page: the most that servers give.
const PAGE_MOST: usize = 10_000;
/// Least documents of a page.
const PAGE_LEAST: usize = 50;
/// Documents of the first page, when it is not known yet how large they are.
const PAGE_FIRST: usize = 1_000;
/// Bytes of a page, about: a few pages of large documents must not fill the memory.
const PAGE_BYTES: usize = 16 << 20;

/// What is read of an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Documents that the moment has.
    pub documents: u64,
    /// No sequence number is this or above.
    pub end: u64,
    /// Sequence numbers of a unit.
    pub width: u64,
}

impl Extent {
    /// How far the moment reaches; with units as wide as `width`, where one is given.
    ///
    /// # Errors
    /// Where the server does not answer.
    pub async fn of(moment: &Moment, width: Option<u64>) -> Result<Self, IndexError> {
        let documents = moment.count(&json!({"match_all": {}})).await?;
        let above = |from: u64| async move { moment.count(&numbered(from, i64::MAX.unsigned_abs())).await };
        let mut end = documents.max(1).next_power_of_two();
        while above(end).await? > 0 {
            end *= 2;
        }
        // To within a 64th; a unit beyond the last document costs a question. Of several shards each counts for itself, so
        // that the largest number may be far below the number of documents.
        let (mut low, mut step) = (0, end / 2);
        while step > 0 && step >= end / 64 {
            if above(low + step).await? > 0 {
                low += step;
            }
            step /= 2;
        }
        let end = if above(low).await? > 0 { (low + (end / 64).max(1) * 2).min(end) } else { end };
        let fitting = u128::from(UNIT_DOCUMENTS) * u128::from(end) / u128::from(documents.max(1));
        let fitting = u64::try_from(fitting).unwrap_or(u64::MAX).clamp(1, end.max(UNIT_DOCUMENTS));
        Ok(Self { documents, end, width: width.unwrap_or(fitting) })
    }

    /// How many units there are.
    #[must_use]
    pub fn units(&self) -> u64 {
        self.end.div_ceil(self.width)
    }

    /// What finds a unit's documents. The last one has no end, so that nothing is beyond all.
    #[must_use]
    pub fn query(&self, unit: u64) -> Json {
        let to = if unit + 1 >= self.units() { i64::MAX.unsigned_abs() } else { (unit + 1) * self.width };
        numbered(unit * self.width, to)
    }
}

/// Reads every unit that the file does not have; how many documents were read.
///
/// # Errors
/// Where the server does not give them, or the disk does not take the notes. What was read is kept.
pub async fn read(
    moment: &Arc<Moment>,
    sink: &Sink,
    extent: &Extent,
    file: &mut IsFile,
    progress: &Progress,
) -> Result<u64, CompareError> {
    let have: std::collections::BTreeSet<u64> = file.units().map(|(unit, _)| unit).collect();
    progress.advance(file.units().map(|(_, count)| count).sum());
    let mut missing = (0..extent.units()).filter(|unit| !have.contains(unit));
    let (mut running, mut read) = (JoinSet::new(), 0);
    let reader =
        Reader { moment: moment.clone(), columns: sink.columns.clone().into(), size: Arc::new(PAGE_FIRST.into()) };
    loop {
        while running.len() < PARALLEL
            && let Some(unit) = missing.next()
        {
            let (reader, query) = (reader.clone(), extent.query(unit));
            running.spawn(async move { reader.unit(&query).await.map(|found| (unit, found)) });
        }
        let Some(done) = running.join_next().await else { return Ok(read) };
        let (unit, found) = done??;
        file.add(unit, &found)?;
        read += found.len() as u64;
        progress.advance(found.len() as u64);
    }
}

/// Documents that a query finds, noted.
///
/// # Errors
/// Where the server does not give them.
pub async fn note(
    moment: &Arc<Moment>,
    sink: &Sink,
    query: &Json,
    progress: &Progress,
) -> Result<Vec<Is>, CompareError> {
    let (moment, columns) = (moment.clone(), sink.columns.clone().into());
    let found = Reader { moment, columns, size: Arc::new(PAGE_FIRST.into()) }.unit(query).await?;
    progress.advance(found.len() as u64);
    Ok(found)
}

#[derive(Clone)]
struct Reader {
    moment: Arc<Moment>,
    columns: Arc<[Column]>,
    /// Documents of the next page.
    size: Arc<AtomicUsize>,
}

impl Reader {
    async fn unit(&self, query: &Json) -> Result<Vec<Is>, CompareError> {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let size = self.size.load(Ordering::Relaxed);
            let text = self.moment.page(query, Reading::Whole, size, after.as_ref()).await?;
            let bytes = text.len();
            let columns = self.columns.clone();
            let noted = tokio::task::spawn_blocking(move || noted(&text, &columns)).await?;
            let (notes, next) = noted.map_err(|reason| self.moment.client().refused(reason))?;
            let count = notes.len();
            if let Some(each) = bytes.checked_div(count).filter(|each| *each > 0) {
                self.size.store((PAGE_BYTES / each).clamp(PAGE_LEAST, PAGE_MOST), Ordering::Relaxed);
            }
            found.extend(notes);
            if count < size {
                return Ok(found);
            }
            after = next;
        }
    }
}

fn noted(text: &[u8], columns: &[Column]) -> Result<(Vec<Is>, Option<Json>), String> {
    let page = Page::read(text)?;
    let note = |hit: &lockstep_shared::index::moment::Hit<'_>| Is {
        place: hash_of_id(&hit.id),
        digest: of_source(columns, &hit.id, hit.source.map_or("null", |source| source.get()).as_bytes()),
        version: hit.version,
        seq_no: hit.seq_no,
    };
    Ok((page.hits().iter().map(note).collect(), page.after()))
}
