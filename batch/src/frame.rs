//! Types and values in Polars' terms, and back.

use lockstep_shared::types::DataType;
use lockstep_shared::value::Value;
use polars::prelude::{self as pl, AnyValue, PolarsResult, Scalar, Series, TimeUnit};

/// The Polars type of a column.
pub(crate) fn polars_type(data_type: DataType) -> pl::DataType {
    match data_type {
        DataType::String => pl::DataType::String,
        DataType::Boolean => pl::DataType::Boolean,
        DataType::TinyInt => pl::DataType::Int8,
        DataType::SmallInt => pl::DataType::Int16,
        DataType::Int => pl::DataType::Int32,
        DataType::BigInt => pl::DataType::Int64,
        DataType::Float => pl::DataType::Float32,
        DataType::Double => pl::DataType::Float64,
        DataType::Decimal { precision, scale } => pl::DataType::Decimal(precision.into(), scale.into()),
        DataType::Date => pl::DataType::Date,
        DataType::Timestamp { .. } | DataType::TimestampLtz { .. } => {
            pl::DataType::Datetime(TimeUnit::Microseconds, None)
        }
    }
}

fn any_value(value: &Value, data_type: DataType) -> AnyValue<'static> {
    match (value, data_type) {
        (Value::Null, _) => AnyValue::Null,
        (Value::Boolean(v), _) => AnyValue::Boolean(*v),
        (Value::Integer(v), DataType::TinyInt) => AnyValue::Int8(*v as i8),
        (Value::Integer(v), DataType::SmallInt) => AnyValue::Int16(*v as i16),
        (Value::Integer(v), DataType::Int) => AnyValue::Int32(*v as i32),
        (Value::Integer(v), _) => AnyValue::Int64(*v),
        (Value::Float(v), _) => AnyValue::Float32(*v),
        (Value::Double(v), _) => AnyValue::Float64(*v),
        (Value::Decimal(v), DataType::Decimal { precision, scale }) => {
            AnyValue::Decimal(*v, precision.into(), scale.into())
        }
        (Value::Decimal(_), _) => unreachable!("a decimal value has a decimal type"),
        (Value::String(v), _) => AnyValue::StringOwned(v.as_ref().into()),
        (Value::Date(v), _) => AnyValue::Date(*v),
        (Value::Timestamp(v), _) => AnyValue::Datetime(*v, TimeUnit::Microseconds, None),
    }
}

/// A constant.
pub(crate) fn literal(value: &Value, data_type: DataType) -> pl::Expr {
    pl::lit(Scalar::new(polars_type(data_type), any_value(value, data_type)))
}

/// Values as a column.
pub(crate) fn series(name: &str, values: &[Value], data_type: DataType) -> PolarsResult<Series> {
    let values: Vec<AnyValue<'_>> = values.iter().map(|v| any_value(v, data_type)).collect();
    Series::from_any_values_and_dtype(name.into(), &values, &polars_type(data_type), true)
}

/// A column as values.
pub(crate) fn values(column: &pl::Column) -> Vec<Value> {
    column.as_materialized_series().iter().map(|v| value(&v)).collect()
}

fn value(any: &AnyValue<'_>) -> Value {
    match any {
        AnyValue::Null => Value::Null,
        AnyValue::Boolean(v) => Value::Boolean(*v),
        AnyValue::Int8(v) => Value::Integer((*v).into()),
        AnyValue::Int16(v) => Value::Integer((*v).into()),
        AnyValue::Int32(v) => Value::Integer((*v).into()),
        AnyValue::Int64(v) => Value::Integer(*v),
        AnyValue::UInt32(v) => Value::Integer((*v).into()),
        AnyValue::Float32(v) => Value::Float(*v),
        AnyValue::Float64(v) => Value::Double(*v),
        AnyValue::Decimal(v, ..) => Value::Decimal(*v),
        AnyValue::String(v) => Value::string(v),
        AnyValue::StringOwned(v) => Value::string(v),
        AnyValue::Date(v) => Value::Date(*v),
        AnyValue::Datetime(v, ..) | AnyValue::DatetimeOwned(v, ..) => Value::Timestamp(*v),
        other => unreachable!("no expression of a plan gives {other:?}"),
    }
}
