//! The judges: what was seen, and whether it keeps the laws.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use lockstep_shared::archive::ArchivedRecord;
use lockstep_shared::coordinates::{Channel, Offset, Step};
use lockstep_shared::document::write_json;
use lockstep_shared::history::{Content, HistoryRecord, contents};
use lockstep_shared::identity::DocumentId;
use lockstep_shared::index::delivery::Rejected;
use lockstep_shared::plan::{Pipeline, Sink};
use lockstep_shared::semantics::documents;
use lockstep_shared::value::Value;
use lockstep_stream::commit;
use lockstep_stream::group::Work;
use lockstep_stream::join::Change;
use lockstep_stream::recovery::in_history;

use super::reconcile;
use super::world::{Sent, World};

/// A law that is broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Which.
    pub law: &'static str,
    /// What was seen.
    pub what: String,
}

impl Failure {
    /// This law is broken, as this shows.
    #[must_use]
    pub fn new(law: &'static str, what: String) -> Self {
        Self { law, what }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.law, self.what)
    }
}

type Json = Vec<u8>;

/// The documents of a sink.
pub type Documents = BTreeMap<DocumentId, Vec<Value>>;

/// What was seen.
#[derive(Debug, Default)]
pub struct Witness {
    /// What each step wrote; a step that is written again must write the same.
    steps: BTreeMap<Step, Vec<Change>>,
    /// The fold of all changes, by document with its history: what indexes without faults would hold.
    fold: BTreeMap<(usize, DocumentId), BTreeMap<Step, Option<Json>>>,
    /// The records of each step.
    history: BTreeMap<Step, Vec<HistoryRecord>>,
    letters: BTreeSet<(usize, DocumentId)>,
    /// The journal was lost at least once: steps may have been cut anew.
    lost: bool,
    /// Exact cuts at which everything was compared.
    cuts: u64,
}

impl Witness {
    /// The journal is lost: steps after this one will be cut anew.
    pub fn journal_lost(&mut self, kept: Step) {
        self.lost = true;
        self.steps.clear();
        self.history.split_off(&kept.next());
        for history in self.fold.values_mut() {
            history.split_off(&kept.next());
        }
        self.fold.retain(|_, history| !history.is_empty());
    }

    /// A step goes to the sink.
    ///
    /// # Errors
    /// L3, where the same step wrote other changes before.
    pub fn written(&mut self, pipeline: &Pipeline, work: &Work) -> Result<(), Failure> {
        if let Some(before) = self.steps.insert(work.step, work.changes.clone())
            && !is_repeated(work.step, &before, &work.changes)
        {
            let (step, after) = (work.step, &work.changes);
            return Err(Failure::new("L3", format!("step {step} wrote {before:?} and now writes {after:?}")));
        }
        for change in &work.changes {
            let document = change.document.as_ref().map(|values| json(&pipeline.sinks[change.sink], values));
            self.fold.entry((change.sink, change.id.clone())).or_default().insert(work.step, document);
        }
        Ok(())
    }

    /// A step goes to the archive.
    pub fn archived(&mut self, work: &commit::Work) {
        let records = work.records.iter().map(|(table, record)| in_history(*table, record.clone()));
        self.history.insert(work.step, records.collect());
    }

    /// Dead letters.
    ///
    /// # Errors
    /// Where the index never refused the document.
    pub fn letters(&mut self, sink: usize, rejected: Vec<Rejected>, world: &World) -> Result<(), Failure> {
        for Rejected { id, reason, .. } in rejected {
            if !world.indexes[sink].refused.contains(&id) {
                return Err(Failure::new("L1", format!("{id} is a dead letter and was never refused: {reason}")));
            }
            self.letters.insert((sink, id));
        }
        Ok(())
    }

    /// Offsets of a partition are committed up to this one, which stands for every step that took one below it.
    ///
    /// # Errors
    /// L5, where archive or index lack something below it.
    pub fn committed(&self, channel: Channel, offset: Offset, world: &World) -> Result<(), Failure> {
        let is_below = |r: &HistoryRecord| {
            r.table == channel.table && r.place.partition == channel.partition && r.place.offset < offset
        };
        let steps = self.history.iter().rev();
        let step = steps.filter(|(_, records)| records.iter().any(is_below)).map(|(step, _)| *step).next();
        let step = step.unwrap_or_default();
        let sent: Vec<Offset> = match world.logs.get(&channel) {
            None => Vec::new(),
            Some(log) => log.sent.iter().map(|sent| sent.raw.place.offset).filter(|o| *o < offset).collect(),
        };
        let archived: BTreeSet<Offset> = self.archive_of(channel, world).filter(|o| *o < offset).collect();
        if let Some(lacking) = sent.iter().find(|o| !archived.contains(o)) {
            let what = format!("{channel:?} is committed up to {offset}, and offset {lacking} is not in the archive");
            return Err(Failure::new("L5", what));
        }
        for (document, history) in &self.fold {
            let (sink, id) = document;
            let Some((written, fields)) = history.range(..=step).next_back() else { continue };
            let lacks = match world.indexes[*sink].held.get(id) {
                Some(held) => held.version < written.version(),
                // The versions of deletes are forgotten at times, also of those that came later.
                None => fields.is_some() && history.range(step.next()..).all(|(_, later)| later.is_some()),
            };
            if lacks && !self.letters.contains(document) {
                let what =
                    format!("offsets up to step {step} are committed, and the index lacks {id} of step {written}");
                return Err(Failure::new("L5", what));
            }
        }
        Ok(())
    }

    /// Nothing is under way after this step: the index is what the definition says of the records up to it.
    ///
    /// # Errors
    /// L1.
    pub fn check(&self, pipeline: &Pipeline, step: Step, world: &World) -> Result<(), Failure> {
        // After a lost journal the index may hold what the new steps have not come to yet.
        if self.lost {
            return Ok(());
        }
        let records: Vec<HistoryRecord> = self.history.values().flatten().cloned().collect();
        self.compare(pipeline, "L1", &definition(pipeline, &records, step), world)
    }

    /// The sinks are held after this step, whatever else is under way: an exact cut. The index is what the definition
    /// says of the records up to it, and knows no later step; and a reconcile finds nothing.
    ///
    /// # Errors
    /// L1 or L7.
    pub fn held(&mut self, pipeline: &Pipeline, step: Step, world: &World) -> Result<(), Failure> {
        for (sink, index) in pipeline.sinks.iter().zip(&world.indexes) {
            if let Some((id, held)) = index.held.iter().find(|(_, held)| held.version > step.version()) {
                let what =
                    format!("{}: at the cut {step} {id} has the version of step {}", sink.name, held.version.step());
                return Err(Failure::new("L1", what));
            }
        }
        self.cuts += 1;
        let records: Vec<HistoryRecord> = self.history.values().flatten().cloned().collect();
        let expected = definition(pipeline, &records, step);
        self.compare(pipeline, "L1", &expected, world)?;
        reconcile::finds_dead_letters_only(pipeline, &expected, self, (step, world))
    }

    /// Exact cuts at which everything was compared.
    #[must_use]
    pub fn cuts(&self) -> u64 {
        self.cuts
    }

    /// Everything has come to rest: every law holds. Gives what the definition says.
    ///
    /// # Errors
    /// The law that does not.
    pub fn rest(&self, pipeline: &Pipeline, world: &World) -> Result<Vec<Documents>, Failure> {
        self.archive_is_whole(world)?;
        let records: Vec<HistoryRecord> =
            world.archived().map(|(table, record)| in_history(table, record.clone())).collect();
        let expected = definition(pipeline, &records, Step(u64::MAX));
        for (number, (sink, expected)) in pipeline.sinks.iter().zip(&expected).enumerate() {
            let fold = self.fold.iter().filter(|((of, _), _)| *of == number);
            let fold =
                fold.filter_map(|((_, id), history)| Some((id, history.values().next_back()?.as_ref()?))).collect();
            if let Some(what) = difference(&json_of(sink, expected), &fold, &BTreeSet::new()) {
                return Err(Failure::new("L1", format!("the fold of all changes to {}: {what}", sink.name)));
            }
        }
        self.compare(pipeline, "L1", &expected, world)?;
        Ok(expected)
    }

    /// The indexes are as expected, but for dead letters.
    ///
    /// # Errors
    /// With this law, where they are not.
    pub fn compare(
        &self,
        pipeline: &Pipeline,
        law: &'static str,
        expected: &[Documents],
        world: &World,
    ) -> Result<(), Failure> {
        for (number, (sink, expected)) in pipeline.sinks.iter().zip(expected).enumerate() {
            let letters = self.letters.iter().filter(|(of, _)| *of == number).map(|(_, id)| id).collect();
            let found = world.indexes[number].documents().collect();
            if let Some(what) = difference(&json_of(sink, expected), &found, &letters) {
                return Err(Failure::new(law, format!("{}: {what}", sink.name)));
            }
        }
        Ok(())
    }

    /// Whether the document became a dead letter at least once.
    #[must_use]
    pub fn is_letter(&self, sink: usize, id: &DocumentId) -> bool {
        self.letters.contains(&(sink, id.clone()))
    }

    /// L5: every record is in the archive once, as it was sent and as it was meant, and no step goes back.
    fn archive_is_whole(&self, world: &World) -> Result<(), Failure> {
        for (channel, log) in &world.logs {
            let archived = &world.archive[channel.table.0].records;
            let mut archived: Vec<&ArchivedRecord> =
                archived.iter().filter(|r| r.place.partition == channel.partition).collect();
            archived.sort_by_key(|r| r.place.offset);
            let offsets = || archived.iter().map(|r| r.place.offset);
            if !offsets().eq(log.sent.iter().map(|sent| sent.raw.place.offset)) {
                let (found, sent) = (offsets().collect::<Vec<_>>(), log.sent.len());
                return Err(Failure::new(
                    "L5",
                    format!("the archive of {channel:?} has the offsets {found:?} of {sent}"),
                ));
            }
            for (record, sent) in archived.iter().zip(&log.sent) {
                if record.key != sent.raw.key || record.value != sent.raw.value || !is_meant(&record.content, sent) {
                    return Err(Failure::new("L5", format!("{record:?} was archived, and {sent:?} was sent")));
                }
            }
            if let Some(pair) = archived.windows(2).find(|pair| pair[0].step > pair[1].step) {
                return Err(Failure::new("L5", format!("steps go back: {:?}, then {:?}", pair[0], pair[1])));
            }
        }
        Ok(())
    }

    fn archive_of<'a>(&self, channel: Channel, world: &'a World) -> impl Iterator<Item = Offset> + use<'a> {
        let records = world.archive[channel.table.0].records.iter();
        records.map(|r| r.place).filter(move |place| place.partition == channel.partition).map(|place| place.offset)
    }
}

/// Whether a step says the same as before. In a later epoch steps also say what they leave as it is, at one time more of
/// it than at another; what they say of one document is the same all the same.
fn is_repeated(step: Step, before: &[Change], after: &[Change]) -> bool {
    if step.epoch() == 0 {
        return before == after;
    }
    let before: BTreeMap<_, _> = before.iter().map(|change| ((change.sink, &change.id), change)).collect();
    after.iter().all(|change| before.get(&(change.sink, &change.id)).is_none_or(|before| *before == change))
}

/// Whether the record says what its producer meant.
fn is_meant(content: &Content, sent: &Sent) -> bool {
    match (content, &sent.content) {
        (Content::Rejected(_), Content::Rejected(_)) => true,
        (content, meant) => content == meant,
    }
}

fn json(sink: &Sink, values: &[Value]) -> Json {
    let mut json = Json::new();
    write_json(&sink.columns, values, &mut json);
    json
}

fn json_of(sink: &Sink, documents: &Documents) -> BTreeMap<DocumentId, Json> {
    documents.iter().map(|(id, values)| (id.clone(), json(sink, values))).collect()
}

/// What the SQL means, by sink.
fn definition(pipeline: &Pipeline, records: &[HistoryRecord], cut: Step) -> Vec<Documents> {
    let contents = contents(&pipeline.tables, records, cut);
    pipeline.sinks.iter().map(|sink| documents(pipeline, sink, &contents)).collect()
}

/// The first document that is not as expected. What was refused for good, and said so, may be anything.
fn difference(
    expected: &BTreeMap<DocumentId, Json>,
    found: &BTreeMap<&DocumentId, &Json>,
    letters: &BTreeSet<&DocumentId>,
) -> Option<String> {
    let ids: BTreeSet<&DocumentId> = expected.keys().chain(found.keys().copied()).collect();
    let differs = |id: &&&DocumentId| expected.get(**id) != found.get(**id).copied() && !letters.contains(**id);
    let id = ids.iter().find(differs)?;
    let show = |json: Option<&Json>| json.map_or("nothing".into(), |json| String::from_utf8_lossy(json).into_owned());
    let (should, is) = (show(expected.get(*id)), show(found.get(*id).copied()));
    Some(format!("{id} should be {should} and is {is}"))
}
