//! Why a document is there that should not be.

use lockstep_shared::coordinates::Step;
use lockstep_shared::document::differences;
use lockstep_shared::index::scan::Found;
use lockstep_shared::value::Value;

use super::lookalike::{Unmet, padded_extra, unmet_partner};
use super::{
    Case, Cause, Evidence, Named, Was, beyond, changed_program, distinct, earlier_state, edited, is_edited,
    never_written,
};
use crate::life::{Life, State};

pub(super) fn name(evidence: &Evidence<'_>, case: &Case<'_>, life: &Life, found: &Found) -> Named {
    if found.version.step() > evidence.cut {
        return beyond(found, evidence.known);
    }
    let ever = life.states.iter().any(|state| state.document.is_some() && state.step <= evidence.cut);
    if ever { once_there(evidence, life, found) } else { never_there(evidence, case, life, found) }
}

/// The log had the document, and it has ended.
fn once_there(evidence: &Evidence<'_>, life: &Life, found: &Found) -> Named {
    let ended = life.last_change(evidence.cut).unwrap_or_default();
    if ended > evidence.acknowledged {
        return never_written("its end:", ended, evidence.acknowledged);
    }
    if is_edited(found.version) {
        return edited(found);
    }
    let Some(Was { state, from, .. }) = earlier_state(evidence.sink, life, evidence.cut, found) else {
        let sentence = format!("it ended in step {ended} and was never like this before");
        return Named::new(Cause::Tampered, sentence, Vec::new());
    };
    let records = distinct(state.document.iter().flat_map(|d| d.rows.iter().flatten().copied()));
    let partners = padded_extra(evidence.pipeline, evidence.sink, life, ended, &found.id);
    if let (Some((input, _)), true) = (partners.first(), is_last_life(life, state, ended)) {
        return padding(evidence, *input, ended, records);
    }
    let sentence =
        format!("it is as step {from} made it, and ended in step {ended}: it came back, or its delete was lost");
    Named::new(Cause::ResurrectedAfterDelete, sentence, records)
}

/// Whether the state is the one that ended last: an earlier one may have ended for another reason.
fn is_last_life(life: &Life, state: &State, ended: Step) -> bool {
    let after = life.states.iter().find(|other| other.step > state.step && other.document != state.document);
    after.is_some_and(|after| after.step == ended)
}

fn padding(evidence: &Evidence<'_>, input: usize, since: Step, from: Vec<super::RecordAt>) -> Named {
    let alias = &evidence.sink.query.inputs[input].alias;
    let sentence = format!(
        "its id has none for {alias}, which has a partner since step {since}: the padded document was not taken back"
    );
    Named::new(Cause::PaddingNotRetracted, sentence, from)
}

/// The log never had a document of this id.
fn never_there(evidence: &Evidence<'_>, case: &Case<'_>, life: &Life, found: &Found) -> Named {
    let Evidence { pipeline, sink, cut, .. } = evidence;
    let is_found = |values: &Vec<Value>| differences(&sink.columns, values, &found.source).is_empty();
    let partners = padded_extra(pipeline, sink, life, *cut, &found.id);
    if let Some((input, _)) = partners.iter().find(|(_, values)| is_found(values)) {
        return padding(evidence, *input, life.records.iter().map(|r| r.step).max().unwrap_or_default(), Vec::new());
    }
    if let Some(Unmet { input, record }) = unmet_partner(pipeline, sink, life, *cut, found) {
        let alias = &sink.query.inputs[input].alias;
        let sentence = format!(
            "its id joins with the row of {alias} at {} of step {}, which does not meet the others",
            record.place, record.step
        );
        return Named::new(Cause::WrongPartner, sentence, vec![record]);
    }
    if let Some(twin) = &case.twin {
        let sentence = format!("it is the document {}, under another id", twin.id);
        return Named::new(Cause::DuplicateIdentity, sentence, twin.records.clone());
    }
    let as_before = case.earlier.iter().find(|earlier| earlier.document.as_ref().is_some_and(is_found));
    if let Some(earlier) = as_before {
        return changed_program(earlier);
    }
    let sentence = "no record of the log makes a document of this id, and its content is no other document's: another writer put it there";
    Named::new(Cause::Foreign, sentence.into(), Vec::new())
}
