//! Why a document is another than it should be.

use lockstep_shared::coordinates::Step;
use lockstep_shared::document::{FieldDifference, differences};
use lockstep_shared::index::scan::Found;
use lockstep_shared::plan::Sink;

use super::coercion::{Coercion, coerced};
use super::lookalike::padded_input;
use super::{
    Case, Cause, Evidence, Named, Was, beyond, changed_program, distinct, earlier_state, edited, is_edited, letter,
    never_written, rejected,
};
use crate::diff::Difference;
use crate::life::{Life, Standing};

pub(super) fn name(evidence: &Evidence<'_>, case: &Case<'_>, life: &Life) -> Named {
    let Difference::Different { id, fields, found, .. } = case.difference else {
        unreachable!("only what is different is asked for")
    };
    let changed = life.last_change(evidence.cut).unwrap_or_default();
    if found.version.step() > evidence.cut {
        return beyond(found, evidence.known);
    }
    let is_behind = found.version.step() < changed;
    if let Some(letter) = letter(evidence, &id.0, changed).filter(|_| is_behind) {
        return rejected(letter);
    }
    if is_behind && changed > evidence.acknowledged {
        return never_written("it", changed, evidence.acknowledged);
    }
    if is_edited(found.version) {
        return edited(found);
    }
    ignored(evidence, fields)
        .or_else(|| by_content(evidence, life, found))
        .or_else(|| by_fields(evidence, life.at(evidence.cut), fields))
        .or_else(|| case.partner.as_ref().map(|partner| wrong_partner(evidence, partner, life)))
        .or_else(|| by_program(evidence, case, found))
        .unwrap_or_else(|| tampered(found, changed))
}

/// It is as it was once, or would be without a partner.
fn by_content(evidence: &Evidence<'_>, life: &Life, found: &Found) -> Option<Named> {
    let Evidence { pipeline, sink, cut, .. } = evidence;
    if let Some(input) = padded_input(pipeline, sink, life, *cut, found) {
        let alias = &sink.query.inputs[input].alias;
        let since = life.at(*cut).and_then(|s| s.rows[input]).map_or(Step::ZERO, |record| record.step);
        let sentence = format!(
            "it still has NULLs for {alias}, whose row is there since step {since}: the padding was not taken back"
        );
        return Some(Named::new(Cause::PaddingNotRetracted, sentence, Vec::new()));
    }
    let Was { state, from, until } = earlier_state(sink, life, *cut, found)?;
    let version = found.version.step();
    if version < from || version >= until {
        return None;
    }
    let sentence = format!("it is as step {from} made it; step {until} changed it, and that write is not there");
    let records = state.document.iter().flat_map(|d| d.rows.iter().flatten().copied());
    Some(Named::new(Cause::Stale, sentence, distinct(records)))
}

/// Every field that differs is absent, and the live mapping has no such fields.
fn ignored(evidence: &Evidence<'_>, fields: &[FieldDifference]) -> Option<Named> {
    let column = |field: &FieldDifference| evidence.sink.columns.iter().find(|c| c.name == field.field);
    let is_ignored = |field: &FieldDifference| Coercion::ignored(evidence.mapping.as_ref(), column(field)?, field);
    fields.iter().all(|field| is_ignored(field).is_some()).then(|| by_fields(evidence, None, fields)).flatten()
}

/// Every field that differs is the expected value after a conversion, or is ignored by the mapping.
fn by_fields(evidence: &Evidence<'_>, expected: Option<&Standing>, fields: &[FieldDifference]) -> Option<Named> {
    let said: Vec<String> = fields
        .iter()
        .map(|field| {
            let number = evidence.sink.columns.iter().position(|c| c.name == field.field)?;
            let column = &evidence.sink.columns[number];
            let ignored = || Coercion::ignored(evidence.mapping.as_ref(), column, field);
            let value = expected.map(|standing| &standing.values[number]);
            let coercion = value.and_then(|value| coerced(value, column.data_type, field.found.as_ref()));
            let coercion = coercion.or_else(ignored)?;
            Some(format!("{} {}", field.field, coercion.sentence()))
        })
        .collect::<Option<_>>()?;
    if said.is_empty() {
        return None;
    }
    let sentence = format!("what was written was stored as something else: {}", said.join(", "));
    Some(Named::new(Cause::MappingCoercion, sentence, Vec::new()))
}

fn wrong_partner(evidence: &Evidence<'_>, partner: &super::Partner, life: &Life) -> Named {
    let alias = &evidence.sink.query.inputs[partner.input].alias;
    let right = life.at(evidence.cut).and_then(|standing| standing.rows[partner.input]);
    let right = right.map_or_else(|| "none".into(), |record| format!("the one at {}", record.place));
    let sentence = format!(
        "the fields of {alias} are those of another row, the one at {} of step {}; the log says {right}",
        partner.record.place, partner.record.step
    );
    Named::new(Cause::WrongPartner, sentence, vec![partner.record])
}

fn by_program(evidence: &Evidence<'_>, case: &Case<'_>, found: &Found) -> Option<Named> {
    let earlier = case.earlier.as_ref().filter(|earlier| found.version.step() < earlier.changed_at)?;
    let is_found = |sink: &Sink| {
        let document = earlier.document.as_ref()?;
        Some(document.len() == sink.columns.len() && differences(&sink.columns, document, &found.source).is_empty())
    };
    is_found(evidence.sink).unwrap_or(false).then(|| changed_program(earlier))
}

fn tampered(found: &Found, changed: Step) -> Named {
    let version = found.version.step();
    let sentence = if version >= changed {
        format!("its version is of step {version}, which wrote something else: it was changed at the same version")
    } else {
        format!("its version is of step {version}, after which it was never like this")
    };
    Named::new(Cause::Tampered, sentence, Vec::new())
}
