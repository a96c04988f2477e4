//! Reads an index at one moment, unit by unit, and notes each document.
//!
//! A unit is a range of sequence numbers, so that a later moment has most of what was read as it was (`unchanged`). Many that
//! lie side by side are read by one query, page by page in the order in which the server keeps documents: those of one
//! unit lie scattered, and a server that gives a few out of each block unpacks every block for them. Queries are read
//! several at a time; parsing has threads of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use lockstep_shared::digest::{Digest, Fields, ReadFields, hash_of_id, of_source};
use lockstep_shared::index::IndexError;
use lockstep_shared::index::moment::{Moment, Reading, numbered};
use lockstep_shared::index::page::{Hit, Page};
use lockstep_shared::plan::{Column, Sink};
use serde_json::{Value as Json, json};
use tokio::task::JoinSet;

use super::CompareError;
use super::record::{Is, IsFile};
use crate::progress::Progress;

/// Queries read at a time: more made no server quicker.
const PARALLEL: usize = 4;
/// Documents of a unit, about: one page.
const UNIT_DOCUMENTS: u64 = 9_000;
/// Most units of a query. Those of queries that were not read to their end are read again by whoever takes the pass up.
const UNITS_AT_ONCE: u64 = 32;
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

    /// What finds the documents of units. The last one has no end, so that nothing is beyond all.
    #[must_use]
    pub fn query(&self, units: &Range<u64>) -> Json {
        let to = if units.end >= self.units() { i64::MAX.unsigned_abs() } else { units.end * self.width };
        numbered(units.start * self.width, to)
    }

    /// The unit of a sequence number.
    fn unit(&self, seq_no: u64) -> u64 {
        (seq_no / self.width).min(self.units().saturating_sub(1))
    }

    /// The units that are not among those, in runs that are read by one query each.
    fn runs(&self, have: &BTreeSet<u64>) -> Vec<Range<u64>> {
        // Some for each of those that read, also of few documents.
        let most = (self.units() / (4 * PARALLEL as u64)).clamp(1, UNITS_AT_ONCE);
        let mut runs: Vec<Range<u64>> = Vec::new();
        for unit in (0..self.units()).filter(|unit| !have.contains(unit)) {
            match runs.last_mut() {
                Some(run) if run.end == unit && run.end - run.start < most => run.end += 1,
                _ => runs.push(unit..unit + 1),
            }
        }
        runs
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
    progress: &Arc<Progress>,
) -> Result<u64, CompareError> {
    progress.advance(file.units().map(|(_, count)| count).sum());
    let mut missing = extent.runs(&file.units().map(|(unit, _)| unit).collect()).into_iter();
    let (mut running, mut read) = (JoinSet::new(), 0);
    let reader = Reader::new(moment, sink);
    loop {
        while running.len() < PARALLEL
            && let Some(run) = missing.next()
        {
            let (reader, query, progress) = (reader.clone(), extent.query(&run), progress.clone());
            running.spawn(async move { reader.read(&query, &progress).await.map(|found| (run, found)) });
        }
        let Some(done) = running.join_next().await else { return Ok(read) };
        let (run, found) = done??;
        read += found.len() as u64;
        let mut units: BTreeMap<u64, Vec<Is>> = run.map(|unit| (unit, Vec::new())).collect();
        for is in found {
            units.entry(extent.unit(is.seq_no)).or_default().push(is);
        }
        units.into_iter().try_for_each(|(unit, found)| file.add(unit, &found))?;
    }
}

/// Documents that queries find, noted: those that carry a digest that is wanted, or none.
///
/// # Errors
/// Where the server does not give them.
pub async fn note(
    moment: &Arc<Moment>,
    sink: &Sink,
    queries: Vec<Json>,
    is_wanted: impl Fn(u64) -> bool + Send + Sync + 'static,
    progress: &Arc<Progress>,
) -> Result<Vec<Is>, CompareError> {
    let (mut queries, mut reader) = (queries.into_iter(), Reader::new(moment, sink));
    reader.wanted = Some(Arc::new(is_wanted));
    let (mut running, mut notes) = (JoinSet::new(), Vec::new());
    loop {
        while running.len() < PARALLEL
            && let Some(query) = queries.next()
        {
            let (reader, progress) = (reader.clone(), progress.clone());
            running.spawn(async move { reader.read(&query, &progress).await });
        }
        let Some(done) = running.join_next().await else { return Ok(notes) };
        notes.extend(done??);
    }
}

#[derive(Clone)]
struct Reader {
    moment: Arc<Moment>,
    columns: Arc<[Column]>,
    /// Documents of the next page.
    size: Arc<AtomicUsize>,
    /// Which of the digests that documents carry are wanted, where not all are.
    wanted: Option<Arc<Wanted>>,
}

type Wanted = dyn Fn(u64) -> bool + Send + Sync;

impl Reader {
    fn new(moment: &Arc<Moment>, sink: &Sink) -> Self {
        let (moment, columns) = (moment.clone(), sink.columns.clone().into());
        Self { moment, columns, size: Arc::new(PAGE_FIRST.into()), wanted: None }
    }

    async fn read(&self, query: &Json, progress: &Progress) -> Result<Vec<Is>, CompareError> {
        let (mut found, mut after) = (Vec::new(), None);
        let reading = if self.wanted.is_some() { Reading::WithDigest } else { Reading::Whole };
        loop {
            let size = self.size.load(Ordering::Relaxed);
            let text = self.moment.page(query, reading, size, after.as_ref()).await?;
            let bytes = text.len();
            let (columns, wanted) = (self.columns.clone(), self.wanted.clone());
            let noted = tokio::task::spawn_blocking(move || noted(&text, &columns, wanted.as_deref())).await?;
            let Noted { notes, count, next } = noted.map_err(|reason| self.moment.client().refused(reason))?;
            if let Some(each) = bytes.checked_div(count).filter(|each| *each > 0) {
                self.size.store((PAGE_BYTES / each).clamp(PAGE_LEAST, PAGE_MOST), Ordering::Relaxed);
            }
            progress.advance(count as u64);
            found.extend(notes);
            if count < size {
                return Ok(found);
            }
            after = next;
        }
    }
}

/// What was read of a page.
struct Noted {
    notes: Vec<Is>,
    /// Documents of the page, those that are not wanted too.
    count: usize,
    next: Option<Json>,
}

fn noted(text: &[u8], columns: &[Column], wanted: Option<&Wanted>) -> Result<Noted, String> {
    match Page::read_by(text, ReadFields(columns)) {
        Ok(page) => {
            Ok(Noted::of(&page, wanted, |hit| hit.source.unwrap_or_else(Fields::of_no_object).with_id(&hit.id)))
        }
        // Perhaps one document cannot be read: that one differs, and the others are what they are.
        Err(_) => {
            let page = Page::read(text)?;
            let digest = |hit: &Hit<'_>| of_source(columns, &hit.id, hit.source.map_or("null", |source| source.get()));
            Ok(Noted::of(&page, wanted, digest))
        }
    }
}

impl Noted {
    fn of<'a, S>(page: &Page<'a, S>, wanted: Option<&Wanted>, digest: impl Fn(&Hit<'a, S>) -> Digest) -> Self {
        let is_wanted = |hit: &&Hit<'a, S>| wanted.is_none_or(|wanted| hit.carried().is_none_or(wanted));
        let note = |hit: &Hit<'a, S>| Is {
            place: hash_of_id(&hit.id),
            digest: digest(hit),
            version: hit.version,
            seq_no: hit.seq_no,
        };
        let notes = page.hits().iter().filter(is_wanted).map(note).collect();
        Self { notes, count: page.hits().len(), next: page.after() }
    }
}

#[cfg(test)]
mod tests {
    use lockstep_shared::types::DataType;

    use super::*;

    #[test]
    fn what_is_missing_is_read_in_runs_that_are_neither_too_long_nor_too_few() {
        let extent = |units: u64| Extent { documents: 1, end: units * 10, width: 10 };
        let all = extent(2_000).runs(&BTreeSet::new());
        assert!(all.iter().all(|run| run.end - run.start <= UNITS_AT_ONCE), "{all:?}");
        assert_eq!(all.iter().map(|run| run.end - run.start).sum::<u64>(), 2_000);
        // Fewer than there are readers stay as they are.
        assert_eq!(extent(3).runs(&[1].into()), [0..1, 2..3]);
        assert_eq!(extent(64).runs(&(0..54).chain([60]).collect()), [54..58, 58..60, 61..64]);
    }

    #[test]
    fn the_last_unit_has_no_end() {
        let extent = Extent { documents: 1, end: 25, width: 10 };
        assert_eq!(extent.query(&(0..2)), numbered(0, 20));
        assert_eq!(extent.query(&(1..3)), numbered(10, i64::MAX.unsigned_abs()));
        assert_eq!([0, 19, 20, 99].map(|seq_no| extent.unit(seq_no)), [0, 1, 2, 2]);
    }

    /// A number beyond all doubles stands in a text that serde_json skips, and does not read.
    #[test]
    fn a_document_that_cannot_be_read_differs_and_those_beside_it_do_not() {
        let columns = [Column { name: "n".into(), data_type: DataType::Double, nullable: true }];
        let page = |source: &str| {
            let hit = |id: &str, source: &str| {
                format!(r#"{{"_id":"{id}","_version":1,"_seq_no":1,"_primary_term":1,"_source":{source},"sort":[7]}}"#)
            };
            format!(r#"{{"hits":{{"hits":[{},{}]}}}}"#, hit("a", r#"{"n":1.0}"#), hit("b", source))
        };
        let digests = |source: &str| {
            let noted = noted(page(source).as_bytes(), &columns, None).unwrap();
            assert_eq!((noted.count, noted.next), (2, Some(json!([7]))));
            noted.notes.iter().map(|note| note.digest).collect::<Vec<_>>()
        };
        let [good, bad] = [r#"{"n":1}"#, r#"{"n":1e999}"#].map(digests);
        assert_eq!((good[0], good[1]), (bad[0], of_source(&columns, "b", r#"{"n":1.0}"#)));
        let no_object = Fields::of_no_object().with_id("b");
        assert_eq!(bad[1], no_object);
        for source in ["null", "[1]", "\"text\"", "7", "-7", "0.5", "true"] {
            assert_eq!((digests(source)[1], of_source(&columns, "b", source)), (no_object, no_object), "{source}");
        }
        assert!(noted(b"{\"hits\":{\"hits\":[{}]}}", &columns, None).is_err());
    }
}
