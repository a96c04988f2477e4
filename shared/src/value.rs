//! A value of a column, and rows of them.
//!
//! Equality, order and hash are those of keys: NULL equals NULL here (a map of rows needs that). Where SQL asks, NULL
//! never equals anything; that rule lives in [`crate::functions`] and in the joins, which leave NULL keys out.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// A row: one value a column.
pub type Row = Arc<[Value]>;

/// One value. Which variant it is follows from the column's type; the value does not repeat it.
#[derive(Clone, Debug)]
pub enum Value {
    /// NULL, of any type.
    Null,
    /// BOOLEAN.
    Boolean(bool),
    /// TINYINT, SMALLINT, INT and BIGINT.
    Integer(i64),
    /// FLOAT.
    Float(f32),
    /// DOUBLE.
    Double(f64),
    /// DECIMAL: the unscaled number; the scale is the type's.
    Decimal(i128),
    /// STRING.
    String(Arc<str>),
    /// DATE: days since 1970-01-01.
    Date(i32),
    /// TIMESTAMP and TIMESTAMP_LTZ: microseconds since 1970-01-01T00:00:00Z.
    Timestamp(i64),
}

impl Value {
    /// A STRING.
    #[must_use]
    pub fn string(text: &str) -> Self {
        Self::String(Arc::from(text))
    }

    /// True for NULL.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Null => 0,
            Self::Boolean(_) => 1,
            Self::Integer(_) => 2,
            Self::Float(_) => 3,
            Self::Double(_) => 4,
            Self::Decimal(_) => 5,
            Self::String(_) => 6,
            Self::Date(_) => 7,
            Self::Timestamp(_) => 8,
        }
    }
}

/// A value that owns nothing, as columns and parsers give it.
#[derive(Clone, Copy, Debug)]
pub enum Scalar<'a> {
    /// See [`Value::Null`].
    Null,
    /// See [`Value::Boolean`].
    Boolean(bool),
    /// See [`Value::Integer`].
    Integer(i64),
    /// See [`Value::Float`].
    Float(f32),
    /// See [`Value::Double`].
    Double(f64),
    /// See [`Value::Decimal`].
    Decimal(i128),
    /// See [`Value::String`].
    String(&'a str),
    /// See [`Value::Date`].
    Date(i32),
    /// See [`Value::Timestamp`].
    Timestamp(i64),
}

impl From<Scalar<'_>> for Value {
    fn from(scalar: Scalar<'_>) -> Self {
        match scalar {
            Scalar::Null => Self::Null,
            Scalar::Boolean(v) => Self::Boolean(v),
            Scalar::Integer(v) => Self::Integer(v),
            Scalar::Float(v) => Self::Float(v),
            Scalar::Double(v) => Self::Double(v),
            Scalar::Decimal(v) => Self::Decimal(v),
            Scalar::String(v) => Self::string(v),
            Scalar::Date(v) => Self::Date(v),
            Scalar::Timestamp(v) => Self::Timestamp(v),
        }
    }
}

impl<'a> From<&'a Value> for Scalar<'a> {
    fn from(value: &'a Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Boolean(v) => Self::Boolean(*v),
            Value::Integer(v) => Self::Integer(*v),
            Value::Float(v) => Self::Float(*v),
            Value::Double(v) => Self::Double(*v),
            Value::Decimal(v) => Self::Decimal(*v),
            Value::String(v) => Self::String(v),
            Value::Date(v) => Self::Date(*v),
            Value::Timestamp(v) => Self::Timestamp(*v),
        }
    }
}

/// Floats by value with -0 equal to 0, and NaN equal to itself and greater than the rest.
fn compare_floats(a: f64, b: f64) -> Ordering {
    (a + 0.0).total_cmp(&(b + 0.0))
}

impl Ord for Value {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Null, Self::Null) => Ordering::Equal,
            (Self::Boolean(a), Self::Boolean(b)) => a.cmp(b),
            (Self::Integer(a), Self::Integer(b)) => a.cmp(b),
            (Self::Float(a), Self::Float(b)) => compare_floats((*a).into(), (*b).into()),
            (Self::Double(a), Self::Double(b)) => compare_floats(*a, *b),
            (Self::Decimal(a), Self::Decimal(b)) => a.cmp(b),
            (Self::String(a), Self::String(b)) => a.cmp(b),
            (Self::Date(a), Self::Date(b)) => a.cmp(b),
            (Self::Timestamp(a), Self::Timestamp(b)) => a.cmp(b),
            (a, b) => a.rank().cmp(&b.rank()),
        }
    }
}

impl PartialOrd for Value {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Value {}

impl Hash for Value {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.rank().hash(state);
        match self {
            Self::Null => {}
            Self::Boolean(v) => v.hash(state),
            Self::Integer(v) => v.hash(state),
            Self::Float(v) => (f64::from(*v) + 0.0).to_bits().hash(state),
            Self::Double(v) => (v + 0.0).to_bits().hash(state),
            Self::Decimal(v) => v.hash(state),
            Self::String(v) => v.hash(state),
            Self::Date(v) => v.hash(state),
            Self::Timestamp(v) => v.hash(state),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minus_zero_is_zero() {
        assert_eq!(Value::Double(-0.0), Value::Double(0.0));
        assert_ne!(Value::Double(f64::NAN), Value::Double(0.0));
    }
}
