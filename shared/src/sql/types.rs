//! The spelling of types.

use super::error::suggestion;
use crate::types::{DataType, MAX_DECIMAL_PRECISION, MAX_TIMESTAMP_PRECISION};

/// Precision of a TIMESTAMP that names none, as in Flink.
const DEFAULT_TIMESTAMP_PRECISION: u8 = 6;
/// Precision of a DECIMAL that names none, as in Flink.
const DEFAULT_DECIMAL_PRECISION: u8 = 10;

const NAMES: [&str; 15] = [
    "STRING",
    "VARCHAR",
    "CHAR",
    "BOOLEAN",
    "TINYINT",
    "SMALLINT",
    "INT",
    "INTEGER",
    "BIGINT",
    "FLOAT",
    "DOUBLE",
    "DECIMAL",
    "DATE",
    "TIMESTAMP",
    "TIMESTAMP_LTZ",
];

/// The type that is written like this; else why there is none.
pub(super) fn data_type(text: &str) -> Result<DataType, String> {
    let upper = text.to_ascii_uppercase();
    let (name, numbers) = arguments(&upper)?;
    let none =
        |t: DataType| if numbers.is_empty() { Ok(t) } else { Err(format!("{name} takes no length or precision")) };
    match name.as_str() {
        "STRING" => none(DataType::String),
        "VARCHAR" | "CHAR" | "CHARACTER" | "CHARACTER VARYING" | "CHAR VARYING" if numbers.len() <= 1 => {
            Ok(DataType::String)
        }
        "BOOLEAN" => none(DataType::Boolean),
        "TINYINT" => none(DataType::TinyInt),
        "SMALLINT" => none(DataType::SmallInt),
        "INT" | "INTEGER" => none(DataType::Int),
        "BIGINT" => none(DataType::BigInt),
        "FLOAT" => none(DataType::Float),
        "DOUBLE" | "DOUBLE PRECISION" => none(DataType::Double),
        "DECIMAL" | "DEC" | "NUMERIC" => decimal(&numbers),
        "DATE" => none(DataType::Date),
        "TIMESTAMP" | "TIMESTAMP WITHOUT TIME ZONE" => {
            precision(&numbers).map(|precision| DataType::Timestamp { precision })
        }
        "TIMESTAMP_LTZ" | "TIMESTAMP WITH LOCAL TIME ZONE" => {
            precision(&numbers).map(|precision| DataType::TimestampLtz { precision })
        }
        other => Err(format!("type {other} is not supported{}", suggestion(other, NAMES))),
    }
}

/// `NAME(1, 2) MORE` as the name without the numbers, and the numbers.
fn arguments(text: &str) -> Result<(String, Vec<u32>), String> {
    let Some((before, rest)) = text.split_once('(') else {
        return Ok((text.trim().to_owned(), Vec::new()));
    };
    let (inside, after) = rest.split_once(')').ok_or_else(|| format!("type {text} lacks a closing parenthesis"))?;
    let name = format!("{} {}", before.trim(), after.trim()).trim().to_owned();
    let numbers: Result<Vec<u32>, _> = inside.split(',').map(|n| n.trim().parse()).collect();
    numbers.map(|numbers| (name, numbers)).map_err(|_| format!("`{inside}` is no length or precision"))
}

fn decimal(numbers: &[u32]) -> Result<DataType, String> {
    let (precision, scale) = match *numbers {
        [] => (u32::from(DEFAULT_DECIMAL_PRECISION), 0),
        [precision] => (precision, 0),
        [precision, scale] => (precision, scale),
        _ => return Err("DECIMAL takes a precision and a scale".into()),
    };
    match (u8::try_from(precision), u8::try_from(scale)) {
        (Ok(precision), Ok(scale)) if (1..=MAX_DECIMAL_PRECISION).contains(&precision) && scale <= precision => {
            Ok(DataType::Decimal { precision, scale })
        }
        _ => Err(format!(
            "DECIMAL({precision}, {scale}) is out of range: precision 1 to {MAX_DECIMAL_PRECISION}, scale at most the precision"
        )),
    }
}

fn precision(numbers: &[u32]) -> Result<u8, String> {
    match *numbers {
        [] => Ok(DEFAULT_TIMESTAMP_PRECISION),
        [n] => u8::try_from(n).ok().filter(|n| *n <= MAX_TIMESTAMP_PRECISION).ok_or_else(|| {
            format!("TIMESTAMP({n}) is out of range: values are kept in microseconds; write at most {MAX_TIMESTAMP_PRECISION}")
        }),
        _ => Err("TIMESTAMP takes one precision".into()),
    }
}
