//! Damages an index: each time another document, in a way that its class says, with what must be found out about it.
//!
//! A class that the drawn sink or history has no document for gives nothing; the caller takes another one.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_batch::cause::Letter;
use lockstep_batch::life::RecordAt;
use lockstep_shared::coordinates::{Step, Version};
use lockstep_shared::document::differences;
use lockstep_shared::identity::{DocumentId, IdentifiedRow};
use lockstep_shared::plan::{ColumnRef, Expression, Sink};
use lockstep_shared::value::Value;
use rand::RngExt;
use rand::rngs::StdRng;
use serde_json::Value as Json;

use super::class::Class;
use super::world::{Known, Turn, World};
use crate::simulation::index::Held;

/// Sequence numbers from here on are the suite's own.
const OWN_SEQ_NO: u64 = 1 << 40;

/// What was done to a document, and what must be found.
#[derive(Clone, Debug)]
pub struct Injected {
    /// How it was damaged.
    pub class: Class,
    /// The records of what it should be; `None` where it should not be there.
    pub records: Option<Vec<RecordAt>>,
    /// The records of what was put there, where it is a document of the log.
    pub found_from: Option<Vec<RecordAt>>,
}

/// Damage under way.
pub struct Damage<'w, 'a> {
    /// What is damaged.
    pub world: &'w mut World<'a>,
    /// Everything is drawn from it.
    pub rng: &'w mut StdRng,
    /// The last step that the index has acknowledged.
    pub acknowledged: Step,
    /// The sink of the program before this one, and the first step of this one.
    pub earlier: Option<(&'w Sink, Step)>,
    /// The column that the live mapping lacks.
    pub ignored: Option<usize>,
    /// The dead letters.
    pub letters: BTreeMap<String, Letter>,
    /// What was done, by id.
    pub injected: BTreeMap<String, Injected>,
}

impl Damage<'_, '_> {
    /// Does one damage of the class; `None` where there is nothing to do it to.
    pub fn inject(&mut self, class: Class) -> Option<()> {
        match class {
            Class::Deleted | Class::NotYetWritten | Class::RefusedNew | Class::EarlierFilter => self.take_away(class),
            Class::NotYetChanged | Class::NotYetDeleted | Class::RefusedChange => self.leave_behind(class),
            Class::OlderState | Class::PaddedLookup | Class::OtherRow => self.other_state(class),
            Class::PaddedDocument | Class::CameBack | Class::PutBackByHand | Class::ExtraVersionTooHigh => {
                self.bring_back(class)
            }
            Class::DoubleWithMadeUpId | Class::DoubleWithSimilarId => self.double(class),
            Class::RowsThatDoNotMeet => self.rows_that_do_not_meet(),
            Class::ChangedAtSameVersion | Class::ChangedByHand | Class::OtherType => self.change_field(class),
            Class::FewerDigits | Class::CoarserTime | Class::IgnoredField => self.change_field(class),
            Class::VersionTooHigh => self.version_too_high(),
            Class::SomebodyElses | Class::IdOfNothing => self.somebody_elses(class),
            Class::EarlierProgram => self.earlier_program(),
        }
    }

    /// A document that is whole, and for which `is` holds.
    pub(super) fn pick(&mut self, is: impl Fn(&Self, &str, &[Turn]) -> bool) -> Option<(String, Vec<Turn>)> {
        let free = self.world.turns.iter().filter(|(id, _)| !self.injected.contains_key(*id));
        let fit: Vec<&String> = free.filter(|(id, turns)| is(self, id, turns)).map(|(id, _)| id).collect();
        let id = fit.get(self.rng.random_range(0..fit.len().max(1)))?.to_string();
        let turns = self.world.turns[&id].clone();
        Some((id, turns))
    }

    pub(super) fn is_settled(&self, turns: &[Turn]) -> bool {
        turns.last().is_some_and(|(step, _)| *step <= self.acknowledged)
    }

    pub(super) fn put(&mut self, id: &str, version: Version, source: Vec<u8>) {
        let seq_no = OWN_SEQ_NO + self.rng.random_range(0..OWN_SEQ_NO);
        self.world.index.held.insert(DocumentId(id.into()), Held { version, seq_no, source: Some(source) });
    }

    pub(super) fn note(&mut self, class: Class, id: &str, found_from: Option<Vec<RecordAt>>) -> Option<()> {
        let expected = self.world.turns.get(id).and_then(|turns| turns.last()?.1.clone());
        let records = expected.map(|known| self.world.records_of(&known));
        self.injected.insert(id.to_owned(), Injected { class, records, found_from });
        Some(())
    }

    /// True where the earlier program had the document too.
    pub(super) fn earlier_had(&self, known: &Known, step: Step) -> bool {
        self.earlier.is_none_or(|(sink, changed_at)| {
            step >= changed_at
                || sink.query.filter.as_ref().is_none_or(|filter| filter.holds(&|c| column(&known.rows, c)))
        })
    }

    fn take_away(&mut self, class: Class) -> Option<()> {
        let (id, turns) = self.pick(|damage, _, turns| {
            let Some((step, Some(known))) = turns.last() else { return false };
            let is_new = turns.iter().rev().nth(1).is_none_or(|(_, before)| before.is_none());
            match class {
                Class::Deleted => damage.is_settled(turns) && damage.earlier_had(known, *step),
                Class::NotYetWritten => is_new && !damage.is_settled(turns) && damage.earlier_had(known, *step),
                Class::EarlierFilter => damage.is_settled(turns) && !damage.earlier_had(known, *step),
                _ => is_new,
            }
        })?;
        if class == Class::RefusedNew {
            self.refuse(&id, turns.last()?.0);
        }
        self.world.index.held.remove(&DocumentId(id.as_str().into()));
        self.note(class, &id, None)
    }

    fn refuse(&mut self, id: &str, step: Step) {
        let letter = Letter { step: Some(step), reason: "drawn so".into() };
        self.letters.insert(id.to_owned(), letter);
    }

    /// The last change is not there: the index has what was before.
    fn leave_behind(&mut self, class: Class) -> Option<()> {
        let (id, turns) = self.pick(|damage, _, turns| {
            let (Some((_, last)), Some((_, Some(_)))) = (turns.last(), turns.iter().rev().nth(1)) else { return false };
            match class {
                Class::NotYetChanged => last.is_some() && !damage.is_settled(turns),
                Class::NotYetDeleted => last.is_none() && !damage.is_settled(turns),
                _ => last.is_some(),
            }
        })?;
        let (step, before) = turns.iter().rev().nth(1)?;
        let source = self.world.json(&before.as_ref()?.values);
        self.put(&id, step.version(), source);
        if class == Class::RefusedChange {
            self.refuse(&id, turns.last()?.0);
        }
        self.note(class, &id, None)
    }

    /// A live document's content becomes that of another state of it, or of other rows.
    fn other_state(&mut self, class: Class) -> Option<()> {
        let (id, turns) = self.pick(|damage, _, turns| {
            damage.is_settled(turns)
                && matches!(turns.last(), Some((_, Some(_))))
                && turns.len() > usize::from(class == Class::OlderState)
        })?;
        let (last_step, last) = turns.last()?;
        let last = last.as_ref()?;
        let padded = self.padded(last);
        let was = |values: &[Value]| turns.iter().find(|(_, k)| k.as_ref().is_some_and(|k| k.values == values));
        let (values, version, from) = match class {
            Class::OlderState => {
                let fits = |turn: &&Turn| {
                    turn.1.as_ref().is_some_and(|k| self.differs(last, &k.values) && !padded.contains(&k.values))
                };
                let older: Vec<&Turn> = turns.iter().filter(fits).collect();
                let (step, known) = older.get(self.rng.random_range(0..older.len().max(1)))?;
                let known = known.as_ref()?;
                (known.values.clone(), step.version(), Some(self.world.records_of(known)))
            }
            Class::PaddedLookup => {
                let values = padded.into_iter().find(|values| self.differs(last, values))?;
                let step = was(&values).map_or(*last_step, |(step, _)| *step);
                (values, step.version(), None)
            }
            _ => {
                let (values, record) = self.other_row(last)?;
                if padded.contains(&values) || was(&values).is_some() {
                    return None;
                }
                (values, last_step.version(), Some(vec![record]))
            }
        };
        let source = self.world.json(&values);
        self.put(&id, version, source);
        self.note(class, &id, from)
    }

    /// What the document would be without the row of each input that has one.
    fn padded(&self, known: &Known) -> Vec<Vec<Value>> {
        let inputs = &self.world.sink.query.inputs;
        let without = |input: usize| {
            let mut rows = known.rows.clone();
            rows[input] = None;
            for later in input + 1..inputs.len() {
                let on = inputs[later].join.iter().flat_map(|join| &join.on);
                if on.map(|pair| pair.left.input).any(|left| rows[left].is_none()) {
                    rows[later] = None;
                }
            }
            self.project(&rows)
        };
        (1..inputs.len()).filter(|input| known.rows[*input].is_some()).map(without).collect()
    }

    fn project(&self, rows: &[Option<IdentifiedRow>]) -> Vec<Value> {
        self.world.sink.query.projection.iter().map(|e| evaluate(e, rows)).collect()
    }

    pub(super) fn differs(&self, expected: &Known, values: &[Value]) -> bool {
        let found: Json = serde_json::from_slice(&self.world.json(values)).unwrap_or_default();
        !differences(&self.world.sink.columns, &expected.values, &found).is_empty()
    }

    /// What the document would be with another row of a joined table, one that shows in a column of its own.
    fn other_row(&mut self, known: &Known) -> Option<(Vec<Value>, RecordAt)> {
        let joined: Vec<usize> = (1..known.rows.len()).filter(|input| known.rows[*input].is_some()).collect();
        let input = *joined.get(self.rng.random_range(0..joined.len().max(1)))?;
        let table = self.world.sink.query.inputs[input].table;
        let rows = &self.world.contents()[table.0];
        let other = rows.get(self.rng.random_range(0..rows.len().max(1)))?;
        let mut joined = known.rows.clone();
        joined[input] = Some(other.clone());
        let values = self.project(&joined);
        let shows = self.world.sink.query.projection.iter().enumerate().any(|(n, e)| {
            let own = matches!(e.kind, lockstep_shared::plan::ExpressionKind::Column(c) if c.input == input);
            own && values[n] != known.values[n] && !values[n].is_null()
        });
        let record = self.world.record(table, other.place);
        (shows && self.differs(known, &values)).then_some((values, record))
    }

    /// A document that has ended is there.
    fn bring_back(&mut self, class: Class) -> Option<()> {
        let (id, turns) = self.pick(|damage, id, turns| {
            let ended = matches!(turns.last(), Some((_, None))) && damage.is_settled(turns);
            let by_partner = || damage.ended_by_partner(id, turns);
            match class {
                Class::PaddedDocument => ended && by_partner(),
                Class::CameBack => ended && !by_partner(),
                _ => ended,
            }
        })?;
        let ended = turns.last()?.0;
        let there: Vec<&Turn> = turns.iter().filter(|(_, known)| known.is_some()).collect();
        // Only its last state ended by the partner; an earlier one may have ended otherwise.
        let chosen = match class {
            Class::PaddedDocument => there.len().checked_sub(1)?,
            _ => self.rng.random_range(0..there.len()),
        };
        let (step, known) = there[chosen];
        let known = known.as_ref()?;
        let version = match class {
            Class::PutBackByHand => Version(ended.version().0 + self.rng.random_range(1..9)),
            Class::ExtraVersionTooHigh => self.too_high(),
            _ => step.version(),
        };
        let is_known = matches!(class, Class::PaddedDocument | Class::CameBack);
        let from = is_known.then(|| self.world.records_of(known));
        let source = self.world.json(&known.values);
        self.put(&id, version, source);
        self.note(class, &id, from)
    }

    /// Whether a null-padded document ended because a partner came: then there is one with the same other rows.
    fn ended_by_partner(&self, id: &str, turns: &[Turn]) -> bool {
        let Some((ended, _)) = turns.last() else { return false };
        let Some(known) = turns.iter().rev().find_map(|(_, known)| known.as_ref()) else { return false };
        let identity = &self.world.sink.identity;
        let name = |input: usize, row: &Option<IdentifiedRow>| row.as_ref().map(|row| self.world.row_name(input, row));
        let after = |turns: &[Turn]| turns.iter().rev().find(|(step, _)| step <= ended)?.1.clone();
        let others = self.world.turns.iter().filter(|(other, _)| **other != *id).filter_map(|(_, turns)| after(turns));
        others.into_iter().any(|other| {
            let differing: BTreeSet<usize> =
                identity.iter().copied().filter(|i| name(*i, &other.rows[*i]) != name(*i, &known.rows[*i])).collect();
            let first = differing.first().copied();
            first.is_some_and(|i| known.rows[i].is_none() && other.rows[i].is_some())
                && differing.iter().all(|i| known.rows[*i].is_none())
        })
    }
}

/// A column of a joined row.
pub(super) fn column(rows: &[Option<IdentifiedRow>], c: ColumnRef) -> &Value {
    rows[c.input].as_ref().map_or(&Value::Null, |row| &row.row[c.column])
}

/// An expression over a joined row.
pub(super) fn evaluate(expression: &Expression, rows: &[Option<IdentifiedRow>]) -> Value {
    expression.evaluate(&|c| column(rows, c))
}
