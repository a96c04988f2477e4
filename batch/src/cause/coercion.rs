//! Whether a found value is the expected one after another mapping, a narrower type or a clumsy client had it.

use lockstep_shared::document::{FieldDifference, to_json};
use lockstep_shared::plan::Column;
use lockstep_shared::text::{MICROS_PER_DAY, TimestampStyle, date_time, format_timestamp, parse_date, parse_timestamp};
use lockstep_shared::types::DataType;
use lockstep_shared::value::Value;
use serde_json::Value as Json;

/// What became of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coercion {
    /// The same, as another type.
    Type,
    /// Fewer digits.
    Precision,
    /// A date with less of it, or in a form that does not say it.
    Date,
    /// The mapping has no such field.
    Ignored,
}

impl Coercion {
    pub(super) fn sentence(self) -> &'static str {
        match self {
            Self::Type => "has another type",
            Self::Precision => "lost digits",
            Self::Date => "lost a part of its time",
            Self::Ignored => "is ignored by the live mapping",
        }
    }

    /// An absent field that the live mapping does not have.
    pub(super) fn ignored(mapping: Option<&Json>, column: &Column, field: &FieldDifference) -> Option<Self> {
        let has = mapping?.get(&column.name).is_some();
        (field.found.is_none() && !has).then_some(Self::Ignored)
    }
}

/// What turns the expected value into the found one; `None` where nothing known does.
pub(super) fn coerced(expected: &Value, data_type: DataType, found: Option<&Json>) -> Option<Coercion> {
    let found = found.filter(|json| !json.is_null())?;
    if expected.is_null() {
        return None;
    }
    if let Value::Timestamp(micros) = expected {
        return coerced_time(*micros, found);
    }
    let written = to_json(expected, data_type);
    let text = |json: &Json| json.as_str().map_or_else(|| json.to_string(), str::to_owned);
    if text(&written) == text(found) && written != *found {
        return Some(Coercion::Type);
    }
    let (was, is) = (number(&written)?, number(found)?);
    if was == is {
        return Some(Coercion::Type);
    }
    is_rounded(was, is).then_some(Coercion::Precision)
}

fn number(json: &Json) -> Option<f64> {
    json.as_f64().or_else(|| json.as_str()?.parse().ok())
}

/// Most fractional digits to which a value is tried to be rounded.
const FEWER_DIGITS: i32 = 9;

fn is_rounded(was: f64, is: f64) -> bool {
    if f64::from(was as f32) == is {
        return true;
    }
    (0..=FEWER_DIGITS).any(|digits| {
        let unit = 10_f64.powi(digits);
        [(was * unit).round() / unit, (was * unit).trunc() / unit].contains(&is)
    })
}

/// A time that was cut to a coarser unit, or written without its zone or as another count.
fn coerced_time(micros: i64, found: &Json) -> Option<Coercion> {
    let coarser = [1_000, 1_000_000, 60_000_000, 3_600_000_000, MICROS_PER_DAY];
    let is_cut = |other: i64| other != micros && coarser.iter().any(|unit| micros.div_euclid(*unit) * unit == other);
    let seen = match found {
        Json::String(text) => {
            let written = format_timestamp(micros, 6, TimestampStyle::Sql)?;
            let day = parse_date(text).map(|days| i64::from(days) * MICROS_PER_DAY);
            if day.or_else(|| parse_timestamp(text)).is_none() {
                // The same moment as another count in text, or another country's spelling of its day.
                let counts = [micros / 1_000_000, micros / 1_000, micros].map(|count| count.to_string());
                let day = date_time(micros)?.format("%d.%m.%Y").to_string();
                return (counts.contains(text) || text.starts_with(&day) || written == *text).then_some(Coercion::Date);
            }
            day.or_else(|| parse_timestamp(text))?
        }
        // Milliseconds are read as the moment that they are; seconds and microseconds are not.
        Json::Number(count) => {
            let count = count.as_i64()?;
            if count == micros / 1_000_000 || count == micros {
                return Some(Coercion::Date);
            }
            count.checked_mul(1_000)?
        }
        _ => return None,
    };
    is_cut(seen).then_some(Coercion::Date)
}
