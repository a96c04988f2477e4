//! Values as a field's type reads them, in documents and in queries.

use std::borrow::Cow;

use serde_json::Value as Json;

use super::dates::{self, Rounding};

/// The type of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Keyword,
    Text,
    Boolean,
    Byte,
    Short,
    Integer,
    Long,
    Float,
    Double,
    Date,
}

impl Kind {
    const ALL: [Self; 10] = [
        Self::Keyword,
        Self::Text,
        Self::Boolean,
        Self::Byte,
        Self::Short,
        Self::Integer,
        Self::Long,
        Self::Float,
        Self::Double,
        Self::Date,
    ];

    /// The type of this name.
    pub(super) fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Its name in a mapping.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Keyword => "keyword",
            Self::Text => "text",
            Self::Boolean => "boolean",
            Self::Byte => "byte",
            Self::Short => "short",
            Self::Integer => "integer",
            Self::Long => "long",
            Self::Float => "float",
            Self::Double => "double",
            Self::Date => "date",
        }
    }

    /// Least and greatest whole number.
    fn bounds(self) -> (i64, i64) {
        match self {
            Self::Byte => (i8::MIN.into(), i8::MAX.into()),
            Self::Short => (i16::MIN.into(), i16::MAX.into()),
            Self::Integer => (i32::MIN.into(), i32::MAX.into()),
            _ => (i64::MIN, i64::MAX),
        }
    }

    /// Whether values are numbers (not instants, booleans or texts).
    pub(super) fn is_number(self) -> bool {
        !matches!(self, Self::Keyword | Self::Text | Self::Boolean | Self::Date)
    }

    /// Whether values are numbers without a fraction.
    pub(super) fn is_whole(self) -> bool {
        self.is_number() && !matches!(self, Self::Float | Self::Double)
    }

    /// Whether values are texts.
    pub(super) fn is_text(self) -> bool {
        matches!(self, Self::Keyword | Self::Text)
    }
}

/// A value as a column holds it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Scalar<'a> {
    Text(Cow<'a, str>),
    Whole(i64),
    Float(f64),
}

/// Reads one value of a document; `None` for null. Numbers may be written as text, and a whole number's fraction is cut
/// off, as Elasticsearch's `coerce` does.
pub(super) fn scalar(kind: Kind, value: &Json) -> Result<Option<Scalar<'_>>, String> {
    if value.is_null() || (kind.is_number() && value.as_str().is_some_and(str::is_empty)) {
        return Ok(None);
    }
    if value.is_object() || value.is_array() {
        return Err(format!("a {} is no object and no nested list", kind.name()));
    }
    let read = match kind {
        Kind::Keyword | Kind::Text => Scalar::Text(match value {
            Json::String(text) => Cow::Borrowed(text),
            other => Cow::Owned(other.to_string()),
        }),
        Kind::Boolean => Scalar::Whole(boolean(value)?.into()),
        Kind::Date => Scalar::Whole(match value {
            Json::Number(number) => number.as_i64().ok_or_else(|| format!("{number} is no count of milliseconds"))?,
            Json::String(text) => dates::plain(text, Rounding::Down).ok_or_else(|| {
                format!("failed to parse date field [{text}] with format [strict_date_optional_time||epoch_millis]")
            })?,
            other => return Err(format!("{other} is no date")),
        }),
        Kind::Float | Kind::Double => Scalar::Float(float(kind, value)?),
        Kind::Byte | Kind::Short | Kind::Integer | Kind::Long => Scalar::Whole(whole(kind, value)?),
    };
    Ok(Some(read))
}

fn boolean(value: &Json) -> Result<bool, String> {
    match value {
        Json::Bool(value) => Ok(*value),
        Json::String(text) if text == "true" => Ok(true),
        Json::String(text) if text == "false" || text.is_empty() => Ok(false),
        other => Err(format!("Failed to parse value [{}] as only [true] or [false] are allowed.", plain_text(other))),
    }
}

/// A number as a floating one.
pub(super) fn number(value: &Json) -> Option<f64> {
    let number = match value {
        Json::Number(number) => number.as_f64(),
        Json::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    number.filter(|number: &f64| number.is_finite())
}

fn float(kind: Kind, value: &Json) -> Result<f64, String> {
    let number = number(value).ok_or_else(|| not_a_number(value))?;
    if kind == Kind::Double {
        return Ok(number);
    }
    let single = number as f32;
    if single.is_finite() {
        Ok(single.into())
    } else {
        Err(format!("[float] supports only finite values, but got [{number}]"))
    }
}

fn whole(kind: Kind, value: &Json) -> Result<i64, String> {
    let exact = match value {
        Json::Number(number) => number.as_i64(),
        Json::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    let (least, greatest) = kind.bounds();
    let out_of_range = || format!("Value [{}] is out of range for a {}", plain_text(value), kind.name());
    let number = match exact {
        Some(number) => number,
        None => {
            let number = number(value).ok_or_else(|| not_a_number(value))?.trunc();
            if number < -(2_f64.powi(63)) || number >= 2_f64.powi(63) {
                return Err(out_of_range());
            }
            number as i64
        }
    };
    if (least..=greatest).contains(&number) { Ok(number) } else { Err(out_of_range()) }
}

fn not_a_number(value: &Json) -> String {
    format!("For input string: \"{}\"", plain_text(value))
}

/// A value as text without quotes.
pub(super) fn plain_text(value: &Json) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_are_read_as_elasticsearch_coerces_them() {
        let read = |kind, value: Json| scalar(kind, &value).map(|read| format!("{read:?}"));
        assert_eq!(read(Kind::Long, json!(5.7)).unwrap(), "Some(Whole(5))");
        assert_eq!(read(Kind::Long, json!("9223372036854775807")).unwrap(), "Some(Whole(9223372036854775807))");
        assert_eq!(read(Kind::Byte, json!("")).unwrap(), "None");
        assert_eq!(read(Kind::Float, json!(0.1)).unwrap(), format!("Some(Float({:?}))", f64::from(0.1_f32)));
        assert_eq!(read(Kind::Byte, json!(128)).unwrap_err(), "Value [128] is out of range for a byte");
        assert_eq!(read(Kind::Long, json!(1e19)).unwrap_err(), "Value [1e+19] is out of range for a long");
        assert_eq!(read(Kind::Integer, json!("x")).unwrap_err(), "For input string: \"x\"");
        assert!(read(Kind::Float, json!(1e39)).is_err());
        assert!(read(Kind::Boolean, json!("yes")).is_err());
        assert!(read(Kind::Date, json!("yesterday")).is_err());
        assert!(read(Kind::Keyword, json!({"a": 1})).is_err());
    }
}
