//! The SQL types: what they hold, how they are spelled, and which may be compared.

use std::fmt;

/// Most digits a DECIMAL can have.
pub const MAX_DECIMAL_PRECISION: u8 = 38;
/// Most fractional digits of a second that a TIMESTAMP can have: values are kept in microseconds.
pub const MAX_TIMESTAMP_PRECISION: u8 = 6;
/// Most digits of a DECIMAL that a JSON number, which readers take for a double, carries without loss.
/// A longer one is written as a string.
pub const MAX_DECIMAL_PRECISION_AS_NUMBER: u8 = 15;

/// The type of a column or expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DataType {
    /// STRING, VARCHAR(n), CHAR(n). Lengths are not enforced, as in Flink's default.
    String,
    /// BOOLEAN.
    Boolean,
    /// TINYINT: 8 bits, signed.
    TinyInt,
    /// SMALLINT: 16 bits, signed.
    SmallInt,
    /// INT: 32 bits, signed.
    Int,
    /// BIGINT: 64 bits, signed.
    BigInt,
    /// FLOAT: IEEE 754, 32 bits.
    Float,
    /// DOUBLE: IEEE 754, 64 bits.
    Double,
    /// DECIMAL(precision, scale): exact.
    Decimal {
        /// Digits in all, 1 to 38.
        precision: u8,
        /// Digits after the point, at most `precision`.
        scale: u8,
    },
    /// DATE: days.
    Date,
    /// TIMESTAMP(precision): date and time without a zone, read and written as UTC.
    Timestamp {
        /// Fractional digits of a second, 0 to 6.
        precision: u8,
    },
    /// TIMESTAMP_LTZ(precision): an instant.
    TimestampLtz {
        /// Fractional digits of a second, 0 to 6.
        precision: u8,
    },
}

impl DataType {
    /// True for TINYINT, SMALLINT, INT and BIGINT.
    #[must_use]
    pub fn is_integer(self) -> bool {
        matches!(self, Self::TinyInt | Self::SmallInt | Self::Int | Self::BigInt)
    }

    /// True for FLOAT and DOUBLE, which cannot be keys: equality of rounded numbers is not an identity.
    #[must_use]
    pub fn is_floating(self) -> bool {
        matches!(self, Self::Float | Self::Double)
    }

    /// True for both kinds of timestamp.
    #[must_use]
    pub fn is_timestamp(self) -> bool {
        matches!(self, Self::Timestamp { .. } | Self::TimestampLtz { .. })
    }

    /// Least and greatest value of an integer type; of BIGINT for any other.
    #[must_use]
    pub fn integer_range(self) -> (i64, i64) {
        match self {
            Self::TinyInt => (i8::MIN.into(), i8::MAX.into()),
            Self::SmallInt => (i16::MIN.into(), i16::MAX.into()),
            Self::Int => (i32::MIN.into(), i32::MAX.into()),
            _ => (i64::MIN, i64::MAX),
        }
    }

    /// True where values of the two types can be compared and joined as they are: the same type (lengths and
    /// precisions of timestamps aside) or two integers.
    #[must_use]
    pub fn comparable_with(self, other: Self) -> bool {
        match (self, other) {
            (Self::Timestamp { .. }, Self::Timestamp { .. })
            | (Self::TimestampLtz { .. }, Self::TimestampLtz { .. }) => true,
            (a, b) => a == b || (a.is_integer() && b.is_integer()) || (a.is_floating() && b.is_floating()),
        }
    }
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::String => f.write_str("STRING"),
            Self::Boolean => f.write_str("BOOLEAN"),
            Self::TinyInt => f.write_str("TINYINT"),
            Self::SmallInt => f.write_str("SMALLINT"),
            Self::Int => f.write_str("INT"),
            Self::BigInt => f.write_str("BIGINT"),
            Self::Float => f.write_str("FLOAT"),
            Self::Double => f.write_str("DOUBLE"),
            Self::Decimal { precision, scale } => write!(f, "DECIMAL({precision}, {scale})"),
            Self::Date => f.write_str("DATE"),
            Self::Timestamp { precision } => write!(f, "TIMESTAMP({precision})"),
            Self::TimestampLtz { precision } => write!(f, "TIMESTAMP_LTZ({precision})"),
        }
    }
}
