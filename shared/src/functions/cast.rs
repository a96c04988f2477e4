//! Conversions between types.

use crate::text::{self, TimestampStyle};
use crate::types::DataType;
use crate::value::Value;

/// Whether a type can be converted into another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CastRule {
    /// Every value can: `CAST` and implicit conversion.
    Always,
    /// Some values cannot: `TRY_CAST` only, which gives NULL for those.
    Fallible,
    /// There is no conversion.
    Never,
}

/// Whether `from` can be converted into `to`. Binary floating point never becomes text or a decimal: how many digits that
/// means is nobody's agreement.
#[must_use]
pub fn cast_rule(from: DataType, to: DataType) -> CastRule {
    use CastRule::{Always, Fallible, Never};
    use DataType as T;
    match (from, to) {
        (a, b) if a == b => Always,
        (T::String, T::Decimal { .. }) => Never,
        (T::String, _) => Fallible,
        (T::Float | T::Double, T::String | T::Decimal { .. }) => Never,
        (T::Float, T::Double) => Always,
        (T::Float | T::Double, b) if b.is_integer() => Fallible,
        (_, T::String) => Always,
        (a, b) if a.is_integer() && b.is_integer() => {
            if b.integer_range().1 >= a.integer_range().1 {
                Always
            } else {
                Fallible
            }
        }
        (a, T::Float | T::Double) if a.is_integer() => Always,
        (a, T::Decimal { precision, scale }) if a.is_integer() => {
            if precision - scale >= integer_digits(a) {
                Always
            } else {
                Fallible
            }
        }
        (T::Decimal { .. }, T::Double) => Always,
        (T::Decimal { precision: p, scale: s }, T::Decimal { precision, scale })
            if scale >= s && precision - scale >= p - s =>
        {
            Always
        }
        (T::Date, b) if b.is_timestamp() => Always,
        (a, T::Date) if a.is_timestamp() => Always,
        (a, b) if a.is_timestamp() && b.is_timestamp() => Always,
        _ => Never,
    }
}

fn integer_digits(integer: DataType) -> u8 {
    match integer {
        DataType::TinyInt => 3,
        DataType::SmallInt => 5,
        DataType::Int => 10,
        _ => 19,
    }
}

/// Converts a value of type `from` into type `to`; NULL where it cannot be.
#[must_use]
pub fn cast(value: &Value, from: DataType, to: DataType) -> Value {
    if value.is_null() || cast_rule(from, to) == CastRule::Never {
        return Value::Null;
    }
    convert(value, from, to).unwrap_or(Value::Null)
}

fn convert(value: &Value, from: DataType, to: DataType) -> Option<Value> {
    use DataType as T;
    Some(match (value, to) {
        (_, to) if from == to => value.clone(),
        (Value::String(text), _) => parse(text, to)?,
        (_, T::String) => Value::string(&write(value, from)),
        (Value::Integer(v), T::Float) => Value::Float(*v as f32),
        (Value::Integer(v), T::Double) => Value::Double(*v as f64),
        (Value::Integer(v), T::Decimal { precision, scale }) => decimal((*v).into(), 0, precision, scale)?,
        (Value::Integer(v), _) => integer_in(*v, to)?,
        (Value::Float(v), T::Double) => Value::Double((*v).into()),
        (Value::Float(v), _) => truncated((*v).into(), to)?,
        (Value::Double(v), _) => truncated(*v, to)?,
        (Value::Decimal(v), T::Double) => Value::Double(*v as f64 / 10_f64.powi(scale_of(from).into())),
        (Value::Decimal(v), T::Decimal { precision, scale }) => decimal(*v, scale_of(from), precision, scale)?,
        (Value::Date(days), T::Timestamp { .. } | T::TimestampLtz { .. }) => {
            Value::Timestamp(i64::from(*days) * text::MICROS_PER_DAY)
        }
        (Value::Timestamp(micros), T::Date) => {
            Value::Date(i32::try_from(micros.div_euclid(text::MICROS_PER_DAY)).ok()?)
        }
        (Value::Timestamp(micros), T::Timestamp { precision } | T::TimestampLtz { precision }) => {
            Value::Timestamp(text::truncate_timestamp(*micros, precision))
        }
        _ => return None,
    })
}

fn scale_of(data_type: DataType) -> u8 {
    if let DataType::Decimal { scale, .. } = data_type { scale } else { 0 }
}

fn integer_in(value: i64, to: DataType) -> Option<Value> {
    let (least, greatest) = to.integer_range();
    (least..=greatest).contains(&value).then_some(Value::Integer(value))
}

/// A floating number without its fraction.
fn truncated(value: f64, to: DataType) -> Option<Value> {
    let whole = value.trunc();
    // 2^63 itself is out of range; every double below it fits.
    let fits = (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&whole);
    if fits { integer_in(whole as i64, to) } else { None }
}

fn decimal(unscaled: i128, from_scale: u8, precision: u8, scale: u8) -> Option<Value> {
    let value = unscaled.checked_mul(10_i128.pow(u32::from(scale - from_scale)))?;
    (value.abs() < 10_i128.pow(u32::from(precision))).then_some(Value::Decimal(value))
}

/// Text into any other type but DECIMAL. Spaces around it do not count.
fn parse(text: &str, to: DataType) -> Option<Value> {
    let text = text.trim_matches(' ');
    Some(match to {
        DataType::Boolean if text.eq_ignore_ascii_case("true") => Value::Boolean(true),
        DataType::Boolean if text.eq_ignore_ascii_case("false") => Value::Boolean(false),
        DataType::Float => Value::Float(finite(text)? as f32).into_finite()?,
        DataType::Double => Value::Double(finite(text)?),
        DataType::Date => Value::Date(text::parse_date(text)?),
        DataType::Timestamp { precision } | DataType::TimestampLtz { precision } => {
            Value::Timestamp(text::truncate_timestamp(text::parse_timestamp(text)?, precision))
        }
        to if to.is_integer() => integer_in(text.parse().ok()?, to)?,
        _ => return None,
    })
}

impl Value {
    fn into_finite(self) -> Option<Self> {
        if matches!(self, Self::Float(v) if !v.is_finite()) { None } else { Some(self) }
    }
}

/// A finite number in digits, point and exponent: Rust would also read `inf` and `NaN`.
fn finite(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
    plain.then(|| text.parse().ok())?.filter(|v: &f64| v.is_finite())
}

fn write(value: &Value, from: DataType) -> String {
    match (value, from) {
        (Value::Boolean(v), _) => {
            if *v {
                "TRUE".into()
            } else {
                "FALSE".into()
            }
        }
        (Value::Timestamp(v), DataType::Timestamp { precision } | DataType::TimestampLtz { precision }) => {
            text::format_timestamp(*v, precision, TimestampStyle::Sql).unwrap_or_default()
        }
        _ => text::display(value, from),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_converted_is_null() {
        let int = DataType::Int;
        assert_eq!(cast(&Value::string(" 42 "), DataType::String, int), Value::Integer(42));
        assert_eq!(cast(&Value::string("4x"), DataType::String, int), Value::Null);
        assert_eq!(cast(&Value::Integer(1 << 40), DataType::BigInt, int), Value::Null);
        assert_eq!(cast(&Value::Double(9.3e18), DataType::Double, DataType::BigInt), Value::Null);
        assert_eq!(cast(&Value::Double(-2.9), DataType::Double, int), Value::Integer(-2));
        assert_eq!(cast(&Value::Boolean(true), DataType::Boolean, DataType::String), Value::string("TRUE"));
    }
}
