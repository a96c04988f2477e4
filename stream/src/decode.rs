//! Bytes into rows: JSON objects by column name. Pure.
//!
//! What cannot be read is a value, [`Content::Rejected`], with the column, what was found and what was expected. A field
//! that is missing or `null` is NULL; one that the table does not declare is ignored and counted.

use std::fmt;
use std::sync::Arc;

use lockstep_shared::functions::cast;
use lockstep_shared::history::Content;
use lockstep_shared::plan::{Column, Table};
use lockstep_shared::text;
use lockstep_shared::types::DataType;
use lockstep_shared::value::{Row, Value};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value as Json;

use crate::record::RawRecord;

/// Most characters of a found value in a reason.
const FOUND_SHOWN: usize = 60;

/// The largest value that is read. A larger one is archived like any other and rejected: it would not fit into a request to
/// the index beside others.
const LARGEST_VALUE_BYTES: usize = 8 * 1024 * 1024;

/// Decodes the records of one table.
#[derive(Clone, Debug)]
pub struct Decoder {
    table: Table,
    json_key: bool,
}

/// What a record says, and how many of its fields the table does not declare.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// What it says.
    pub content: Content,
    /// Fields without a column.
    pub unknown_fields: u64,
}

impl Decoder {
    /// A decoder of the table's records.
    #[must_use]
    pub fn new(table: &Table) -> Self {
        Self { table: table.clone(), json_key: table.option("key.format") == Some("json") }
    }

    /// What the record says.
    #[must_use]
    pub fn decode(&self, record: &RawRecord) -> Decoded {
        self.read(record)
            .unwrap_or_else(|reason| Decoded { content: Content::Rejected(reason.into()), unknown_fields: 0 })
    }

    fn read(&self, record: &RawRecord) -> Result<Decoded, String> {
        let key = record.key.as_deref();
        let Some(value) = record.value.as_deref() else {
            return if self.table.is_keyed() {
                let row =
                    self.key_row(key.ok_or("a record without value and without key deletes nothing; expected a key")?)?;
                Ok(Decoded { content: Content::Delete(row.into()), unknown_fields: 0 })
            } else {
                Err("the value is empty; an append table takes JSON objects only".into())
            };
        };
        if value.len() > LARGEST_VALUE_BYTES {
            return Err(format!("the value has {} bytes; expected at most {LARGEST_VALUE_BYTES}", value.len()));
        }
        let text =
            std::str::from_utf8(value).map_err(|e| format!("the value is not UTF-8 at byte {}", e.valid_up_to()))?;
        let Fields { found, unknown } = self.fields(text)?;
        let columns = self.table.columns.iter().zip(found);
        let mut row = columns.map(|(column, json)| field(column, json)).collect::<Result<Vec<Value>, String>>()?;
        self.check_key(&mut row, key)?;
        if let Some(column) =
            self.table.columns.iter().zip(&row).find(|(c, v)| !c.nullable && v.is_null()).map(|(c, _)| c)
        {
            return Err(format!("column {} is missing; expected {} NOT NULL", column.name, column.data_type));
        }
        Ok(Decoded { content: Content::Row(Row::from(row)), unknown_fields: unknown })
    }

    /// The fields of a JSON object, in one pass and without those that the table does not declare.
    fn fields(&self, text: &str) -> Result<Fields, String> {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let fields = FieldsOf(&self.table).deserialize(&mut deserializer);
        fields.and_then(|fields| deserializer.end().map(|()| fields)).map_err(|error| {
            match serde_json::from_str::<Json>(text) {
                Ok(json) => format!("the value is {}; expected a JSON object", shown(&json)),
                Err(_) => format!("the value is not JSON: {error}"),
            }
        })
    }

    /// A row of the table's width with the key's columns.
    fn key_row(&self, key: &[u8]) -> Result<Vec<Value>, String> {
        let text = std::str::from_utf8(key).map_err(|e| format!("the key is not UTF-8 at byte {}", e.valid_up_to()))?;
        let mut row = vec![Value::Null; self.table.columns.len()];
        if self.json_key || self.table.key.len() > 1 {
            let json: Json = serde_json::from_str(text).map_err(|e| format!("the key is not JSON: {e}"))?;
            let Json::Object(fields) = json else {
                return Err(format!("the key is {}; expected a JSON object with the key columns", shown(&json)));
            };
            for column in &self.table.key {
                let declared = &self.table.columns[*column];
                row[*column] = field(declared, fields.get(&declared.name).cloned().unwrap_or_default())?;
            }
        } else {
            let column = &self.table.columns[self.table.key[0]];
            row[self.table.key[0]] = match column.data_type {
                DataType::String => Value::string(text),
                data_type => cast(&Value::string(text), DataType::String, data_type),
            };
        }
        match self.table.key.iter().find(|column| row[**column].is_null()) {
            Some(column) => {
                let column = &self.table.columns[*column];
                Err(format!("the key {:?} has no {}; expected {}", shorten(text), column.name, column.data_type))
            }
            None => Ok(row),
        }
    }

    /// Fills key columns that the value lacks from the record's key, and refuses a key that says another thing.
    fn check_key(&self, row: &mut [Value], key: Option<&[u8]>) -> Result<(), String> {
        if !self.table.is_keyed() {
            return Ok(());
        }
        let missing: Vec<usize> = self.table.key.iter().copied().filter(|column| row[*column].is_null()).collect();
        let Some(key) = key else {
            return match missing.first() {
                Some(column) => Err(format!(
                    "key column {} is missing, and the record has no key",
                    self.table.columns[*column].name
                )),
                None => Ok(()),
            };
        };
        if missing.is_empty() && self.table.option("key.format").is_none() {
            return Ok(());
        }
        let from_key = self.key_row(key)?;
        for column in &self.table.key {
            if row[*column].is_null() {
                row[*column] = from_key[*column].clone();
            } else if row[*column] != from_key[*column] {
                let Column { name, data_type, .. } = &self.table.columns[*column];
                let said = |value: &Value| shorten(&text::display(value, *data_type));
                let (value, key) = (said(&row[*column]), said(&from_key[*column]));
                return Err(format!("key column {name} is {value:?} in the value and {key:?} in the record's key"));
            }
        }
        Ok(())
    }
}

/// The fields of an object, by the table's columns; what is missing is `null`.
struct Fields {
    found: Vec<Json>,
    /// How many the table does not declare.
    unknown: u64,
}

struct FieldsOf<'t>(&'t Table);

impl<'de> DeserializeSeed<'de> for FieldsOf<'_> {
    type Value = Fields;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Fields, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for FieldsOf<'_> {
    type Value = Fields;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
        let mut fields = Fields { found: vec![Json::Null; self.0.columns.len()], unknown: 0 };
        while let Some(column) = map.next_key_seed(ColumnNamed(self.0))? {
            match column {
                Some(column) => fields.found[column] = map.next_value()?,
                None => {
                    map.next_value::<IgnoredAny>()?;
                    fields.unknown += 1;
                }
            }
        }
        Ok(fields)
    }
}

/// A field's name as the column of that name.
struct ColumnNamed<'t>(&'t Table);

impl<'de> DeserializeSeed<'de> for ColumnNamed<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<usize>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for ColumnNamed<'_> {
    type Value = Option<usize>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a field's name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Option<usize>, E> {
        Ok(self.0.columns.iter().position(|column| column.name == name))
    }
}

fn field(column: &Column, json: Json) -> Result<Value, String> {
    if json.is_null() {
        return Ok(Value::Null);
    }
    read(column.data_type, &json)
        .ok_or_else(|| format!("column {} is {}; expected {}", column.name, shown(&json), column.data_type))
}

fn read(data_type: DataType, json: &Json) -> Option<Value> {
    use DataType as T;
    Some(match (data_type, json) {
        (T::String, Json::String(v)) => Value::string(v),
        // As Flink does: a number or a boolean is taken as its JSON text.
        (T::String, Json::Number(_) | Json::Bool(_)) => Value::String(Arc::from(json.to_string())),
        (T::Boolean, Json::Bool(v)) => Value::Boolean(*v),
        (T::Float, Json::Number(v)) => Value::Float(Some(v.as_f64()? as f32).filter(|v| v.is_finite())?),
        (T::Double, Json::Number(v)) => Value::Double(v.as_f64()?),
        (T::Decimal { precision, scale }, Json::Number(v)) => {
            Value::Decimal(text::parse_decimal(&v.to_string(), precision, scale)?)
        }
        (T::Decimal { precision, scale }, Json::String(v)) => Value::Decimal(text::parse_decimal(v, precision, scale)?),
        (T::Date, Json::String(v)) => Value::Date(text::parse_date(v)?),
        (T::Timestamp { precision } | T::TimestampLtz { precision }, v) => {
            let micros = match v {
                Json::Number(millis) => millis.as_i64()?.checked_mul(1_000)?,
                Json::String(text) => text::parse_timestamp(text)?,
                _ => return None,
            };
            text::date_time(micros)?;
            Value::Timestamp(text::truncate_timestamp(micros, precision))
        }
        (integer, Json::Number(v)) if integer.is_integer() => {
            let (least, greatest) = integer.integer_range();
            Value::Integer(v.as_i64().filter(|v| (least..=greatest).contains(v))?)
        }
        _ => return None,
    })
}

fn shown(json: &Json) -> String {
    shorten(&json.to_string())
}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(FOUND_SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use lockstep_shared::coordinates::{Offset, Partition, Place};

    use super::*;

    fn table(key: Vec<usize>) -> Table {
        let column = |name: &str, data_type| Column { name: name.into(), data_type, nullable: true };
        let columns = vec![
            column("id", DataType::String),
            column("small", DataType::TinyInt),
            column("at", DataType::Timestamp { precision: 3 }),
            column("price", DataType::Decimal { precision: 5, scale: 2 }),
        ];
        Table { name: "t".into(), columns, key, options: BTreeMap::new() }
    }

    fn decode(key: Vec<usize>, record: (Option<&[u8]>, Option<&[u8]>)) -> Decoded {
        let place = Place { partition: Partition(0), offset: Offset(0) };
        let (key_bytes, value) = (record.0.map(<[u8]>::to_vec), record.1.map(<[u8]>::to_vec));
        Decoder::new(&table(key)).decode(&RawRecord { place, timestamp_ms: None, key: key_bytes, value })
    }

    #[test]
    fn missing_fields_are_null_and_unknown_ones_are_counted() {
        let decoded = decode(vec![], (None, Some(br#"{"id":"a","at":"2021-01-01T00:00:00Z","x":1,"y":{}}"#)));
        let row = [Value::string("a"), Value::Null, Value::Timestamp(1_609_459_200_000_000), Value::Null];
        assert_eq!(decoded, Decoded { content: Content::Row(Row::from(row.to_vec())), unknown_fields: 2 });
        assert_eq!(decode(vec![], (None, Some(br#"{"id":"a","at":1609459200000}"#))).content, decoded.content);
    }

    #[test]
    fn every_kind_of_bad_input_is_rejected_with_its_reason() {
        let cases: [(&[u8], &str); 8] = [
            (b"{", "the value is not JSON"),
            (b"\xff\xfe", "not UTF-8 at byte 0"),
            (b"[1]", "the value is [1]; expected a JSON object"),
            (b"", "the value is not JSON"),
            (br#"{"small":300}"#, "column small is 300; expected TINYINT"),
            (br#"{"small":"1"}"#, "column small is \"1\"; expected TINYINT"),
            (br#"{"at":"yesterday"}"#, "column at is \"yesterday\"; expected TIMESTAMP(3)"),
            (br#"{"price":12345.6}"#, "column price is 12345.6; expected DECIMAL(5, 2)"),
        ];
        for (value, reason) in cases {
            match decode(vec![], (None, Some(value))).content {
                Content::Rejected(found) => assert!(found.contains(reason), "{found} should say {reason}"),
                other => panic!("{} was taken: {other:?}", String::from_utf8_lossy(value)),
            }
        }
        assert!(matches!(decode(vec![], (None, None)).content, Content::Rejected(_)), "an append table has no deletes");
        assert!(matches!(decode(vec![0], (None, None)).content, Content::Rejected(_)), "a delete needs a key");
        assert!(
            matches!(decode(vec![0], (None, Some(b"{}"))).content, Content::Rejected(_)),
            "a keyed row needs a key"
        );
    }

    #[test]
    fn a_tombstone_deletes_its_key_and_a_value_may_lack_it() {
        let row = |id: &str| Row::from(vec![Value::string(id), Value::Null, Value::Null, Value::Null]);
        assert_eq!(decode(vec![0], (Some(b"a"), None)).content, Content::Delete(row("a")));
        assert_eq!(decode(vec![0], (Some(b"a"), Some(b"{}"))).content, Content::Row(row("a")));
    }
}
