//! Carries a plan out: everything that still holds, and says what does not.

use std::collections::{BTreeMap, HashMap};
use std::fmt::{self, Display, Formatter};
use std::path::Path;

use lockstep_shared::coordinates::Step;
use lockstep_shared::identity::DocumentId;
use lockstep_shared::index::scan::{Found, lookup};
use lockstep_shared::index::{Client, ClientConfig};
use lockstep_shared::plan::{Pipeline, Sink};
use lockstep_shared::sql::settings::Settings;
use serde::Serialize;

use super::{Entry, Header, PlanError, fingerprint, identities, read, uuid};
use crate::certificate::Repaired;
use crate::cut;
use crate::repair::execute::{RepairError, Target, execute};
use crate::repair::{Fault, HeldBack, Limit, Seen, stages};

/// What became of a plan, by sink.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Applied {
    /// By sink.
    pub sinks: BTreeMap<String, AppliedSink>,
}

/// What became of a sink's entries.
#[derive(Clone, Debug, Default, Serialize)]
pub struct AppliedSink {
    /// What was done.
    pub repair: Repaired,
    /// Documents that have changed since the plan was made: left as they are.
    pub left_out: Vec<String>,
    /// Documents that differed besides those of the plan when it was made, and stay as they are.
    pub unexamined: u64,
    /// Why nothing was done.
    pub held_back: Option<HeldBack>,
}

impl AppliedSink {
    fn is_whole(&self) -> bool {
        self.left_out.is_empty() && self.unexamined == 0 && self.held_back.is_none() && self.repair.refused.is_empty()
    }
}

impl Applied {
    /// True where every entry was carried out, and there was one for each difference.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.sinks.values().all(AppliedSink::is_whole)
    }
}

/// For people.
impl Display for Applied {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        for (name, AppliedSink { repair, left_out, unexamined, held_back }) in &self.sinks {
            let (refused, left) = (repair.refused.len(), left_out.len());
            let (done, overtaken) = (repair.done, repair.overtaken);
            writeln!(
                out,
                "{name}: repaired {done}, overtaken by the stream {overtaken}, refused {refused}, changed since the plan and left out {left}"
            )?;
            for (id, reason) in &repair.refused {
                writeln!(out, "  refused {id}: {reason}")?;
            }
            for id in left_out {
                writeln!(out, "  left out {id}")?;
            }
            if *unexamined > 0 {
                writeln!(out, "  {unexamined} more differed, too many for one plan; make another one")?;
            }
            if let Some(held_back) = held_back {
                writeln!(out, "  {}", held_back.text())?;
            }
        }
        Ok(())
    }
}

/// Carries the plan of a file out.
///
/// # Errors
/// Where the file is no plan, the world has moved on, or the index refuses.
pub async fn apply(pipeline: &Pipeline, settings: &Settings, path: &Path, limit: Limit) -> Result<Applied, PlanError> {
    let (header, entries) = read(path)?;
    let sinks = check(pipeline, settings, &header).await?;
    let mut by_sink: HashMap<String, Vec<Entry>> = HashMap::new();
    for entry in entries {
        by_sink.entry(entry.sink.clone()).or_default().push(entry);
    }
    let mut applied = Applied::default();
    for (sink, _) in &sinks {
        let planned = &header.indexes[&sink.name];
        let touched = by_sink.get(&sink.name).map_or(0, Vec::len) as u64 + planned.unexamined;
        let (held_back, unexamined) = (limit.holds_back(touched, planned.documents), planned.unexamined);
        applied.sinks.insert(sink.name.clone(), AppliedSink { held_back, unexamined, ..AppliedSink::default() });
    }
    if applied.sinks.values().any(|sink| sink.held_back.is_some()) {
        return Ok(applied);
    }
    for (sink, client) in sinks {
        let entries = by_sink.remove(&sink.name).unwrap_or_default();
        let target = Target::of(pipeline, settings, sink);
        let (repair, left_out) = apply_to(&target, &client, header.cut, entries).await?;
        let sink = applied.sinks.entry(sink.name.clone()).or_default();
        (sink.repair, sink.left_out) = (repair, left_out);
    }
    match by_sink.into_keys().next() {
        Some(unknown) => Err(PlanError::MovedOn(format!("it has entries of {unknown}, for which it names no index"))),
        None => Ok(applied),
    }
}

/// The sinks of the plan, where it was made for this world.
async fn check<'a>(
    pipeline: &'a Pipeline,
    settings: &Settings,
    header: &Header,
) -> Result<Vec<(&'a Sink, Client)>, PlanError> {
    let moved = |what: String| Err(PlanError::MovedOn(what));
    if header.program != fingerprint(pipeline) {
        return moved("it was made for another program".into());
    }
    let now = identities(pipeline, settings).await?;
    if let Some((table, _)) = header.archive.iter().find(|(table, identity)| now.get(*table) != Some(identity)) {
        return moved(format!("the archive of table {table} is another one"));
    }
    let (archived, _) = cut::archived(pipeline, settings).await.map_err(RepairError::from)?;
    if archived < header.cut {
        return moved(format!(
            "its cut is step {}, and the archive ends with step {archived}: it is an older one",
            header.cut
        ));
    }
    let mut sinks = Vec::new();
    for (name, planned) in &header.indexes {
        let Some(sink) = pipeline.sinks.iter().find(|sink| sink.name == *name) else {
            return moved(format!("the program has no sink {name}"));
        };
        let client = Client::new(&ClientConfig::of_sink(sink)?)?;
        let target = Target::of(pipeline, settings, sink);
        let uuid = uuid(&client, target.index).await?;
        if target.index != planned.name || uuid != planned.uuid {
            return moved(format!(
                "{name} has another index: {} ({uuid}), and not {} ({})",
                target.index, planned.name, planned.uuid
            ));
        }
        sinks.push((sink, client));
    }
    Ok(sinks)
}

/// Carries out what still holds of a sink's entries; the ids of what does not.
async fn apply_to(
    target: &Target<'_>,
    client: &Client,
    cut: Step,
    entries: Vec<Entry>,
) -> Result<(Repaired, Vec<String>), PlanError> {
    let ids: Vec<&str> = entries.iter().map(|entry| entry.id.as_str()).collect();
    let found = lookup(client, target.index, &ids).await?;
    let (holds, changed): (Vec<Entry>, Vec<Entry>) = entries.into_iter().partition(|entry| still_holds(entry, &found));
    let repair = execute(target, client, stages(cut, holds.into_iter().map(fault).collect())).await?;
    Ok((repair, changed.into_iter().map(|entry| entry.id).collect()))
}

fn still_holds(entry: &Entry, found: &HashMap<String, Found>) -> bool {
    entry.seen == found.get(&entry.id).map(Seen::of)
}

fn fault(entry: Entry) -> Fault {
    let document = entry.document.map(|json| json.get().as_bytes().to_vec());
    Fault { id: DocumentId(entry.id.into()), seen: entry.seen, document }
}
