//! Damage that makes something new: changed fields, other ids, other writers' documents.

use lockstep_shared::coordinates::{Step, Version};
use lockstep_shared::document::differences;
use lockstep_shared::identity::{DocumentId, IdentifiedRow, document_id};
use lockstep_shared::plan::JoinKind;
use lockstep_shared::text::{TimestampStyle, format_timestamp};
use lockstep_shared::types::DataType;
use lockstep_shared::value::Value;
use rand::RngExt;
use serde_json::{Value as Json, json};

use super::class::Class;
use super::inject::{Damage, evaluate};
use super::world::{Known, Turn};

/// Steps that no stream runs ahead of its archive.
const FAR_AHEAD: u64 = 2_000_000;

impl Damage<'_, '_> {
    /// A live document that nothing else has happened to.
    fn live(&mut self) -> Option<(String, Vec<Turn>, Known)> {
        let (id, turns) =
            self.pick(|damage, _, turns| damage.is_settled(turns) && matches!(turns.last(), Some((_, Some(_)))))?;
        let known = turns.last()?.1.clone()?;
        Some((id, turns, known))
    }

    fn object(&self, values: &[Value]) -> Json {
        serde_json::from_slice(&self.world.json(values)).unwrap_or_default()
    }

    pub(super) fn change_field(&mut self, class: Class) -> Option<()> {
        let (id, turns, known) = self.live()?;
        let columns = &self.world.sink.columns;
        let number = match class {
            Class::IgnoredField => self.ignored?,
            _ => {
                let fit: Vec<usize> = (0..columns.len()).filter(|n| fits(class, columns[*n].data_type)).collect();
                *fit.get(self.rng.random_range(0..fit.len().max(1)))?
            }
        };
        let (name, data_type) = (columns[number].name.clone(), columns[number].data_type);
        if known.values[number].is_null() || self.world.sink.key.contains(&number) {
            return None;
        }
        let mut source = self.object(&known.values);
        match class {
            Class::IgnoredField => drop(source.as_object_mut()?.remove(&name)),
            Class::OtherType => source[&name] = as_text(&source[&name])?,
            Class::FewerDigits => source[&name] = self.fewer_digits(&source[&name], data_type)?,
            Class::CoarserTime => source[&name] = self.coarser(&known.values[number])?,
            _ => source[&name] = self.something_else(&source[&name], data_type)?,
        }
        if differences(columns, &known.values, &source).is_empty() {
            return None;
        }
        let version = turns.last()?.0.version();
        let by_hand = u64::from(class == Class::ChangedByHand);
        self.put(&id, Version(version.0 + by_hand), source.to_string().into_bytes());
        self.note(class, &id, None)
    }

    /// A value that no row of the log has, and that no conversion makes of the right one.
    fn something_else(&mut self, right: &Json, data_type: DataType) -> Option<Json> {
        let more = self.rng.random_range(1_000_000..9_000_000_i64);
        Some(match (data_type, right) {
            (DataType::String, _) => json!(format!("nobody wrote {more}")),
            (DataType::Double | DataType::Decimal { .. }, number) => json!(number.as_f64()? + more as f64 / 4.0),
            (data_type, number) if data_type.is_integer() => json!(number.as_i64()? + more),
            (DataType::Date, _) => json!("1999-12-31"),
            (data_type, _) if data_type.is_timestamp() => json!("1999-12-31T23:59:59.123Z"),
            _ => return None,
        })
    }

    fn fewer_digits(&mut self, right: &Json, data_type: DataType) -> Option<Json> {
        if !matches!(data_type, DataType::Double | DataType::Decimal { .. }) {
            return None;
        }
        let right = right.as_f64()?;
        Some(match self.rng.random_range(0..4) {
            0 => json!(f64::from(right as f32)),
            1 => json!((right * 100.0).round() / 100.0),
            2 => json!((right * 10.0).trunc() / 10.0),
            _ => json!(right.trunc() as i64),
        })
    }

    fn coarser(&mut self, right: &Value) -> Option<Json> {
        let Value::Timestamp(micros) = right else { return None };
        let cut = |unit: i64| format_timestamp(micros.div_euclid(unit) * unit, 3, TimestampStyle::Iso8601);
        Some(match self.rng.random_range(0..4) {
            0 => json!(cut(1_000_000)?),
            1 => json!(cut(60_000_000)?),
            2 => json!(cut(86_400_000_000)?[..10]),
            _ => json!(micros / 1_000_000),
        })
    }

    /// A version of a step that nobody has reached.
    pub(super) fn too_high(&mut self) -> Version {
        Step(self.world.last.0 + FAR_AHEAD + self.rng.random_range(1..1000)).version()
    }

    pub(super) fn version_too_high(&mut self) -> Option<()> {
        let (id, _, known) = self.live()?;
        let version = self.too_high();
        let source = self.world.json(&known.values);
        self.put(&id, version, source);
        self.note(Class::VersionTooHigh, &id, None)
    }

    pub(super) fn double(&mut self, class: Class) -> Option<()> {
        let (id, turns, known) = self.live()?;
        let shows = self.world.sink.query.projection.iter().enumerate().any(|(n, e)| {
            let of_root = matches!(e.kind, lockstep_shared::plan::ExpressionKind::Column(c) if c.input == 0);
            of_root && !known.values[n].is_null()
        });
        let other = match (class, self.rng.random_range(0..3)) {
            (Class::DoubleWithMadeUpId, _) => format!("AZ{:016x}_w", self.rng.random_range(0..u64::MAX)),
            (_, 0) => format!("{id} "),
            (_, 1) => format!("0{id}"),
            _ => format!("{id}#2"),
        };
        if !shows || self.world.turns.contains_key(&other) || self.injected.contains_key(&other) {
            return None;
        }
        let from = self.world.records_of(&known);
        let version = if class == Class::DoubleWithMadeUpId { Version(1) } else { turns.last()?.0.version() };
        let source = self.world.json(&known.values);
        self.put(&other, version, source);
        self.note(class, &other, Some(from))
    }

    pub(super) fn rows_that_do_not_meet(&mut self) -> Option<()> {
        let sink = self.world.sink;
        let inner = sink.query.inputs.iter().flat_map(|i| &i.join).any(|join| join.kind == JoinKind::Inner);
        let input = *sink.identity.last().filter(|input| **input > 0 && !inner && sink.key.is_empty())?;
        let hangs = |join: &lockstep_shared::plan::Join| join.on.iter().any(|pair| pair.left.input == input);
        if sink.query.inputs.iter().flat_map(|i| &i.join).any(hangs) || sink.query.filter.is_some() {
            return None;
        }
        let (_, _, known) = self.live()?;
        let table = sink.query.inputs[input].table;
        let rows = &self.world.contents()[table.0];
        let other = rows.get(self.rng.random_range(0..rows.len().max(1)))?.clone();
        let mut joined = known.rows.clone();
        joined[input] = Some(other.clone());
        let values: Vec<Value> = sink.query.projection.iter().map(|e| evaluate(e, &joined)).collect();
        let rows: Vec<Option<&IdentifiedRow>> = joined.iter().map(Option::as_ref).collect();
        let id: DocumentId = document_id(self.world.pipeline, sink, &rows, &values);
        if self.world.turns.contains_key(&*id.0) || self.injected.contains_key(&*id.0) {
            return None;
        }
        let record = self.world.record(table, other.place);
        let source = self.world.json(&values);
        self.put(&id.0, self.world.last.version(), source);
        self.note(Class::RowsThatDoNotMeet, &id.0, Some(vec![record]))
    }

    pub(super) fn somebody_elses(&mut self, class: Class) -> Option<()> {
        let (id, _, known) = self.live()?;
        let number = self.rng.random_range(0..u64::MAX);
        let (other, source) = if class == Class::SomebodyElses {
            let text = self.world.sink.columns.iter().find(|c| c.data_type == DataType::String);
            let name = text.map_or("title", |column| column.name.as_str());
            (format!("doc-{number:x}"), json!({name: format!("note {number}")}))
        } else {
            let digits =
                |text: &str| text.chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).collect::<String>();
            let mut source = self.object(&known.values);
            let fields = source.as_object_mut()?;
            for column in &self.world.sink.columns {
                let is_text = column.data_type == DataType::String;
                let value = if is_text { json!(format!("x{number}")) } else { Json::Null };
                fields.insert(column.name.clone(), value);
            }
            (format!("9{}", digits(&id)), source)
        };
        if self.world.turns.contains_key(&other) || self.injected.contains_key(&other) {
            return None;
        }
        self.put(&other, Version(1), source.to_string().into_bytes());
        self.note(class, &other, None)
    }

    pub(super) fn earlier_program(&mut self) -> Option<()> {
        let (sink, changed_at) = self.earlier?;
        let (id, turns, known) = self.live()?;
        let (step, _) = turns.last()?;
        let values: Vec<Value> = sink.query.projection.iter().map(|e| evaluate(e, &known.rows)).collect();
        if *step >= changed_at || !self.earlier_had(&known, *step) || !self.differs(&known, &values) {
            return None;
        }
        let source = self.world.json(&values);
        self.put(&id, step.version(), source);
        self.note(Class::EarlierProgram, &id, None)
    }
}

/// Whether a field of the type can be damaged so.
fn fits(class: Class, data_type: DataType) -> bool {
    match class {
        Class::FewerDigits => matches!(data_type, DataType::Double | DataType::Decimal { .. }),
        Class::CoarserTime => data_type.is_timestamp(),
        _ => true,
    }
}

fn as_text(value: &Json) -> Option<Json> {
    match value {
        Json::Number(_) | Json::Bool(_) => Some(json!(value.to_string())),
        _ => None,
    }
}
