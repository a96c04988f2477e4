//! What the archive holds: whether it is whole, and the records that could not be read.
//!
//! Whole means that the ranges that the commits note tile each partition without gap or overlap, that every commit has
//! as many records as it says, each within its range of offsets and steps, and that no offset is there twice. Offsets
//! inside a range may be absent where the log has none (transactions, compaction, bytes of a line); how many is
//! reported. It needs no running stream, and may run beside one.

use std::collections::BTreeMap;

use lockstep_shared::archive::{Archive, ArchiveError, Commit, Note, Placed, Reading, TableArchive};
use lockstep_shared::coordinates::{Offset, OffsetRange, Partition, Place, Step};
use lockstep_shared::history::Content;
use lockstep_shared::plan::{Pipeline, Table};

/// Most faults of one table that are spelled out; one cause often has thousands.
const FAULTS_SHOWN: usize = 20;

/// What the archive of one table holds.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct TableReport {
    /// The table.
    pub table: String,
    /// Its last step.
    pub step: Step,
    /// Its records.
    pub records: u64,
    /// Those that could not be read.
    pub rejected: u64,
    /// By partition.
    pub partitions: Vec<PartitionReport>,
    /// What is wrong.
    pub faults: Faults,
}

/// What the archive holds of one partition.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct PartitionReport {
    /// The partition.
    pub partition: Partition,
    /// From its first record to the position that the last commit notes.
    pub range: OffsetRange,
    /// Its records.
    pub records: u64,
}

/// What is wrong, as sentences with the place.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Faults {
    /// How many.
    pub count: u64,
    /// The first ones.
    pub shown: Vec<String>,
}

impl Faults {
    fn add(&mut self, fault: String) {
        self.count += 1;
        if self.shown.len() < FAULTS_SHOWN {
            self.shown.push(fault);
        }
    }
}

impl TableReport {
    /// True where every offset is there once, and none is unaccounted for.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.faults.count == 0
    }

    /// For people. `table` is the plan's.
    #[must_use]
    pub fn text(&self, table: &Table) -> String {
        let Self { table: name, step, records, rejected, faults, .. } = self;
        let verdict = if self.is_whole() { "whole".to_owned() } else { format!("NOT WHOLE, {} faults", faults.count) };
        let mut text = format!("{name}: {records} records up to step {step}, {rejected} rejected, {verdict}\n");
        for PartitionReport { partition, range, records } in &self.partitions {
            text += &format!("  partition {partition}: {range}, {records} records");
            // A file's offsets are bytes; a topic's count records, transactions' marks, and what compaction took away.
            let absent = range.to.0.saturating_sub(range.from.0).saturating_sub_unsigned(*records);
            if table.option("connector") != Some("filesystem") && absent > 0 {
                text += &format!(", {absent} offsets without a record");
            }
            text.push('\n');
        }
        for fault in &faults.shown {
            text += &format!("  {fault}\n");
        }
        if faults.count > faults.shown.len() as u64 {
            text += &format!("  and {} more\n", faults.count - faults.shown.len() as u64);
        }
        text
    }
}

/// Reads the archive of every table.
///
/// # Errors
/// Where one cannot be read.
pub async fn verify(pipeline: &Pipeline, archive: &Archive) -> Result<Vec<TableReport>, ArchiveError> {
    let mut reports = Vec::new();
    for table in &pipeline.tables {
        if let Some(archive) = archive.open_existing(table).await? {
            reports.push(report(&table.name, &archive).await?);
        }
    }
    Ok(reports)
}

async fn report(table: &str, archive: &TableArchive) -> Result<TableReport, ArchiveError> {
    let note = archive.last().cloned().unwrap_or_default();
    let commits = archive.commits().await?;
    let places = archive.places()?;
    Ok(TableReport {
        table: table.to_owned(),
        step: note.step,
        records: places.len() as u64,
        rejected: places.iter().filter(|p| p.reading == Reading::Rejected).count() as u64,
        partitions: partitions(&note, &places),
        faults: faults(&note, &commits, &places),
    })
}

fn partitions(note: &Note, places: &[Placed]) -> Vec<PartitionReport> {
    let mut found: BTreeMap<Partition, PartitionReport> = BTreeMap::new();
    for (partition, to) in &note.positions {
        let range = OffsetRange { from: *to, to: *to };
        found.insert(*partition, PartitionReport { partition: *partition, range, records: 0 });
    }
    for Placed { place, .. } in places {
        let range = OffsetRange { from: place.offset, to: place.offset };
        let new = PartitionReport { partition: place.partition, range, records: 0 };
        let report = found.entry(place.partition).or_insert(new);
        report.records += 1;
        report.range.from = report.range.from.min(place.offset);
    }
    found.into_values().collect()
}

/// Everything that is wrong with records in the order of their places.
#[must_use]
pub fn faults(last: &Note, commits: &[Commit], places: &[Placed]) -> Faults {
    let mut faults = Faults::default();
    for pair in places.windows(2).filter(|pair| pair[0].place.partition == pair[1].place.partition) {
        let ([before, after], place) = ([pair[0], pair[1]], pair[1].place);
        if before.place == place {
            faults.add(format!("{} is there twice, in step {} and in step {}", at(place), before.step, after.step));
        } else if before.step > after.step {
            let earlier = before.place.offset;
            faults.add(format!(
                "{} is in step {}, and offset {earlier} in step {}",
                at(place),
                after.step,
                before.step
            ));
        }
    }
    for Placed { place, step, .. } in places {
        match last.positions.get(&place.partition) {
            Some(to) if place.offset < *to => {}
            noted => {
                let to = noted.map_or_else(|| "nothing".into(), ToString::to_string);
                faults
                    .add(format!("{} (step {step}) is past the position that the last commit notes, {to}", at(*place)));
            }
        }
    }
    by_commit(commits, places, &mut faults);
    faults
}

fn at(place: Place) -> String {
    format!("partition {} offset {}", place.partition, place.offset)
}

/// The commits' ranges tile, and each has its records.
fn by_commit(commits: &[Commit], places: &[Placed], faults: &mut Faults) {
    let mut by_step: Vec<&Placed> = places.iter().collect();
    by_step.sort_by_key(|p| (p.step, p.place));
    let mut before = Note::default();
    for Commit { note, records } in commits {
        // The first one claims the archive for the beginning, before there is a step.
        if note.step <= before.step && *note != commits[0].note {
            faults.add(format!("the commit of step {} comes after the one of step {}", note.step, before.step));
            continue;
        }
        let steps = format!("({}..{}]", before.step, note.step);
        for (partition, from) in &before.positions {
            let to = note.positions.get(partition);
            if to.is_none_or(|to| to < from) {
                let to = to.map_or_else(|| "nothing".into(), ToString::to_string);
                faults.add(format!(
                    "the commit of steps {steps} goes back from offset {from} of partition {partition} to {to}"
                ));
            }
        }
        let upto = |step: Step| by_step.partition_point(|p| p.step <= step);
        let own = &by_step[upto(before.step)..upto(note.step)];
        if records.is_some_and(|records| records != own.len() as u64) {
            let records = records.unwrap_or_default();
            faults.add(format!("the commit of steps {steps} noted {records} records, and {} are there", own.len()));
        }
        for Placed { place, step, .. } in own {
            let from = before.positions.get(&place.partition).copied().unwrap_or(Offset(0));
            let to = note.positions.get(&place.partition).copied().unwrap_or(Offset(0));
            if place.offset < from || place.offset >= to {
                let range = OffsetRange { from, to };
                faults.add(format!("{} (step {step}) is outside {range}, the range of steps {steps}", at(*place)));
            }
        }
        before = note.clone();
    }
    let last = before.step;
    let later = &by_step[by_step.partition_point(|p| p.step <= last)..];
    for Placed { place, step, .. } in later {
        faults.add(format!("{} is in step {step}, which no commit notes; the last is {last}", at(*place)));
    }
}

/// A record that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct RejectedRecord {
    /// The table.
    pub table: String,
    /// Where it stands in the log.
    pub partition: i32,
    /// Where it stands in the log.
    pub offset: i64,
    /// The step that took it.
    pub step: u64,
    /// Why it could not be read.
    pub reason: String,
    /// How its key begins; bytes that are no UTF-8 are replaced. The archive has it whole.
    pub key: Option<String>,
    /// How its value begins, likewise.
    pub value: Option<String>,
}

/// Most characters of a key or a value that are shown.
const SHOWN: usize = 200;

/// Every record of the archive that could not be read, by table, step and place.
///
/// # Errors
/// Where the archive cannot be read.
pub async fn rejected(pipeline: &Pipeline, archive: &Archive) -> Result<Vec<RejectedRecord>, ArchiveError> {
    let shown = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).chars().take(SHOWN).collect::<String>();
    let mut found = Vec::new();
    for table in &pipeline.tables {
        let Some(archive) = archive.open_existing(table).await? else { continue };
        for record in archive.read(Step::ZERO, Step(i64::MAX.cast_unsigned())).await? {
            let Content::Rejected(reason) = record.content else { continue };
            found.push(RejectedRecord {
                table: table.name.clone(),
                partition: record.place.partition.0,
                offset: record.place.offset.0,
                step: record.step.0,
                reason: reason.to_string(),
                key: record.key.map(shown),
                value: record.value.map(shown),
            });
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
