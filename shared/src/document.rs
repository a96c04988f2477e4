//! A document as JSON, and what "equal" means.
//!
//! A document is equal to what is expected where each field, read by its column's type, has the same value. So `1` and
//! `1.0` are one DOUBLE, two spellings of an instant are one TIMESTAMP, and an absent field is NULL. A field that the sink
//! does not have, or that cannot be read by its type, is a difference.

use std::io::Write;

use serde_json::Value as Json;

use crate::plan::Column;
use crate::text::{self, TimestampStyle};
use crate::types::{DataType, MAX_DECIMAL_PRECISION_AS_NUMBER};
use crate::value::{Scalar, Value};

/// A field that is not as expected.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldDifference {
    /// The field's name.
    pub field: String,
    /// What it should be; `None` where the sink has no such field.
    pub expected: Option<Json>,
    /// What it is; `None` where it is absent.
    pub found: Option<Json>,
}

/// Appends the document as one line of JSON without the line's end: every column, in order, NULLs as `null`.
pub fn write_json(columns: &[Column], values: &[Value], out: &mut Vec<u8>) {
    out.push(b'{');
    for (number, (column, value)) in columns.iter().zip(values).enumerate() {
        if number > 0 {
            out.push(b',');
        }
        write_string(&column.name, out);
        out.push(b':');
        write_value(value, column.data_type, out);
    }
    out.push(b'}');
}

/// One value as JSON.
#[must_use]
pub fn to_json(value: &Value, data_type: DataType) -> Json {
    let mut text = Vec::new();
    write_value(value, data_type, &mut text);
    serde_json::from_slice(&text).unwrap_or(Json::Null)
}

fn write_value(value: &Value, data_type: DataType, out: &mut Vec<u8>) {
    let written = match (value, data_type) {
        (Value::Null, _) => write!(out, "null"),
        (Value::Boolean(v), _) => write!(out, "{v}"),
        (Value::Integer(v), _) => write!(out, "{v}"),
        (Value::Float(v), _) if !v.is_finite() => write!(out, "null"),
        (Value::Double(v), _) if !v.is_finite() => write!(out, "null"),
        (Value::Float(v), _) => serde_json::to_writer(&mut *out, v).map_err(Into::into),
        (Value::Double(v), _) => serde_json::to_writer(&mut *out, v).map_err(Into::into),
        (Value::Decimal(v), DataType::Decimal { precision, scale }) if precision <= MAX_DECIMAL_PRECISION_AS_NUMBER => {
            write!(out, "{}", text::format_decimal(*v, scale))
        }
        (Value::Timestamp(v), DataType::Timestamp { precision } | DataType::TimestampLtz { precision }) => {
            match text::format_timestamp(*v, precision, TimestampStyle::Iso8601) {
                Some(text) => write!(out, "\"{text}\""),
                None => write!(out, "null"),
            }
        }
        (Value::String(v), _) => {
            write_string(v, out);
            Ok(())
        }
        (v, t) => write!(out, "\"{}\"", text::display(v, t)),
    };
    assert!(written.is_ok(), "writing into memory does not fail");
}

fn write_string(text: &str, out: &mut Vec<u8>) {
    let written = serde_json::to_writer(&mut *out, text);
    assert!(written.is_ok(), "writing a string into memory does not fail");
}

/// Every field in which `found` (the index's `_source`) is not the expected document; empty where they are equal.
#[must_use]
pub fn differences(columns: &[Column], expected: &[Value], found: &Json) -> Vec<FieldDifference> {
    let Json::Object(fields) = found else {
        return vec![FieldDifference { field: "_source".into(), expected: None, found: Some(found.clone()) }];
    };
    let mut different: Vec<FieldDifference> = columns
        .iter()
        .zip(expected)
        .filter(|(column, value)| read(column.data_type, fields.get(&column.name)).as_ref() != Some(&readable(value)))
        .map(|(column, value)| FieldDifference {
            field: column.name.clone(),
            expected: Some(to_json(value, column.data_type)),
            found: fields.get(&column.name).cloned(),
        })
        .collect();
    let unknown = fields.iter().filter(|(name, _)| !columns.iter().any(|c| c.name == **name));
    different.extend(unknown.map(|(name, value)| FieldDifference {
        field: name.clone(),
        expected: None,
        found: Some(value.clone()),
    }));
    different
}

/// A value as it can stand in a document: a number that is not finite has no JSON.
fn readable(value: &Value) -> Value {
    Value::from(standing(Scalar::from(value)))
}

/// See [`readable`].
#[inline]
pub(crate) fn standing(value: Scalar<'_>) -> Scalar<'_> {
    match value {
        Scalar::Float(v) if !v.is_finite() => Scalar::Null,
        Scalar::Double(v) if !v.is_finite() => Scalar::Null,
        Scalar::Timestamp(v) if !text::is_timestamp(v) => Scalar::Null,
        other => other,
    }
}

/// The field as a value of the type; `None` where it is none.
/// An absent field is NULL.
#[must_use]
pub fn read(data_type: DataType, field: Option<&Json>) -> Option<Value> {
    let field = match field {
        None | Some(Json::Null) => Field::Null,
        Some(Json::Bool(v)) => Field::Boolean(*v),
        Some(Json::Number(v)) => Field::Number(v.clone()),
        Some(Json::String(v)) => Field::Text(v),
        Some(Json::Array(_) | Json::Object(_)) => Field::Nested,
    };
    read_field(data_type, &field).map(Value::from)
}

/// A field of a document as JSON has it.
#[derive(Clone, Debug)]
pub(crate) enum Field<'a> {
    Null,
    Boolean(bool),
    Number(serde_json::Number),
    Text(&'a str),
    /// A list or an object: no value of any type.
    Nested,
}

/// The one rule of what a field says, read by its column's type; `None` where it is no value of that.
pub(crate) fn read_field<'a>(data_type: DataType, field: &Field<'a>) -> Option<Scalar<'a>> {
    use DataType as T;
    Some(match (data_type, field) {
        (_, Field::Null) => Scalar::Null,
        (T::Boolean, Field::Boolean(v)) => Scalar::Boolean(*v),
        (T::String, Field::Text(v)) => Scalar::String(v),
        (T::Float, Field::Number(v)) => Scalar::Float(v.as_f64()? as f32),
        (T::Double, Field::Number(v)) => Scalar::Double(v.as_f64()?),
        (T::Decimal { precision, scale }, Field::Number(v)) => {
            Scalar::Decimal(text::parse_decimal(&v.to_string(), precision, scale)?)
        }
        (T::Decimal { precision, scale }, Field::Text(v)) if precision > MAX_DECIMAL_PRECISION_AS_NUMBER => {
            Scalar::Decimal(text::parse_decimal(v, precision, scale)?)
        }
        (T::Date, Field::Text(v)) => Scalar::Date(text::parse_date(v)?),
        (T::Timestamp { .. } | T::TimestampLtz { .. }, Field::Text(v)) => Scalar::Timestamp(text::parse_timestamp(v)?),
        (T::Timestamp { .. } | T::TimestampLtz { .. }, Field::Number(v)) => {
            Scalar::Timestamp(v.as_i64()?.checked_mul(1000)?)
        }
        (integer, Field::Number(v)) if integer.is_integer() => Scalar::Integer(whole(v)?),
        _ => return None,
    })
}

/// An integer, also where it is written `1.0`.
fn whole(number: &serde_json::Number) -> Option<i64> {
    number
        .as_i64()
        .or_else(|| number.as_f64().filter(|v| v.fract() == 0.0 && v.abs() < 9_007_199_254_740_992.0).map(|v| v as i64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, data_type: DataType) -> Column {
        Column { name: name.into(), data_type, nullable: true }
    }

    #[test]
    fn a_document_equals_what_was_written_and_every_other_spelling_of_it() {
        let columns = [
            column("n", DataType::Double),
            column("t", DataType::Timestamp { precision: 3 }),
            column("s", DataType::String),
        ];
        let values = [Value::Double(1.0), Value::Timestamp(1_609_459_200_000_000), Value::Null];
        let mut written = Vec::new();
        write_json(&columns, &values, &mut written);
        assert_eq!(String::from_utf8_lossy(&written), r#"{"n":1.0,"t":"2021-01-01T00:00:00.000Z","s":null}"#);
        for text in [
            String::from_utf8_lossy(&written).as_ref(),
            r#"{"t":1609459200000,"n":1}"#,
            r#"{"n":1e0,"t":"2021-01-01 00:00:00"}"#,
        ] {
            assert_eq!(differences(&columns, &values, &serde_json::from_str(text).unwrap()), [], "{text}");
        }
    }

    #[test]
    fn a_wrong_an_untyped_and_an_unknown_field_are_differences() {
        let columns = [column("n", DataType::Int), column("s", DataType::String)];
        let found = serde_json::json!({"n": "1", "s": "b", "x": 0});
        let fields: Vec<String> = differences(&columns, &[Value::Integer(1), Value::string("a")], &found)
            .into_iter()
            .map(|d| d.field)
            .collect();
        assert_eq!(fields, ["n", "s", "x"]);
    }
}
