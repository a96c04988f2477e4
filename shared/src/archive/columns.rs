//! Records as Arrow columns, and back.

use std::sync::Arc;

use arrow_array::builder::{
    BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, PrimitiveBuilder, StringBuilder,
};
use arrow_array::cast::AsArray;
use arrow_array::types as arrow;
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{DataType as ArrowType, Field, Schema, SchemaRef, TimeUnit};

use super::{ArchivedRecord, Placed, Reading};
use crate::coordinates::{Offset, Partition, Place, Step};
use crate::history::Content;
use crate::plan::Table;
use crate::types::DataType;
use crate::value::{Row, Value};

/// The columns that every archive has after the table's own.
const OWN_COLUMNS: usize = 7;

/// The Arrow type of a column.
pub fn arrow_type(data_type: DataType) -> ArrowType {
    match data_type {
        DataType::String => ArrowType::Utf8,
        DataType::Boolean => ArrowType::Boolean,
        DataType::TinyInt => ArrowType::Int8,
        DataType::SmallInt => ArrowType::Int16,
        DataType::Int => ArrowType::Int32,
        DataType::BigInt => ArrowType::Int64,
        DataType::Float => ArrowType::Float32,
        DataType::Double => ArrowType::Float64,
        DataType::Decimal { precision, scale } => ArrowType::Decimal128(precision, scale.cast_signed()),
        DataType::Date => ArrowType::Date32,
        DataType::Timestamp { .. } | DataType::TimestampLtz { .. } => {
            ArrowType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
        }
    }
}

/// The Arrow schema of a table's archive.
pub fn schema(table: &Table) -> SchemaRef {
    let typed = table.columns.iter().map(|c| Field::new(&c.name, arrow_type(c.data_type), true));
    let own = [
        ("_partition", ArrowType::Int32),
        ("_offset", ArrowType::Int64),
        ("_timestamp", ArrowType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))),
        ("_step", ArrowType::Int64),
        ("_key", ArrowType::Binary),
        ("_value", ArrowType::Binary),
        ("_error", ArrowType::Utf8),
    ];
    let own = own.into_iter().map(|(name, data_type)| Field::new(name, data_type, true));
    Arc::new(Schema::new(typed.chain(own).collect::<Vec<_>>()))
}

/// The records as one batch.
pub fn batch(table: &Table, records: &[ArchivedRecord]) -> Result<RecordBatch, arrow_schema::ArrowError> {
    let value = |record: &ArchivedRecord, column: usize| match &record.content {
        Content::Row(row) | Content::Delete(row) => row[column].clone(),
        Content::Rejected(_) => Value::Null,
    };
    let mut columns: Vec<ArrayRef> = (0..table.columns.len())
        .map(|number| array(table.columns[number].data_type, records.iter().map(|record| value(record, number))))
        .collect();
    let error = |r: &ArchivedRecord| match &r.content {
        Content::Rejected(reason) => Value::String(reason.clone()),
        Content::Row(_) | Content::Delete(_) => Value::Null,
    };
    columns.push(array(DataType::Int, records.iter().map(|r| Value::Integer(r.place.partition.0.into()))));
    columns.push(array(DataType::BigInt, records.iter().map(|r| Value::Integer(r.place.offset.0))));
    let time =
        |r: &ArchivedRecord| r.timestamp_ms.and_then(|ms| ms.checked_mul(1_000)).map_or(Value::Null, Value::Timestamp);
    columns.push(array(DataType::TimestampLtz { precision: 6 }, records.iter().map(time)));
    columns.push(array(DataType::BigInt, records.iter().map(|r| Value::Integer(r.step.0.cast_signed()))));
    columns.push(bytes(records.iter().map(|r| r.key.as_deref())));
    columns.push(bytes(records.iter().map(|r| r.value.as_deref())));
    columns.push(array(DataType::String, records.iter().map(error)));
    RecordBatch::try_new(schema(table), columns)
}

fn bytes<'a>(values: impl Iterator<Item = Option<&'a [u8]>>) -> ArrayRef {
    let mut builder = BinaryBuilder::new();
    values.for_each(|value| builder.append_option(value));
    Arc::new(builder.finish())
}

fn array(data_type: DataType, values: impl Iterator<Item = Value>) -> ArrayRef {
    match data_type {
        DataType::String => {
            let mut builder = StringBuilder::new();
            values.for_each(|v| builder.append_option(if let Value::String(v) = v { Some(v) } else { None }));
            Arc::new(builder.finish())
        }
        DataType::Boolean => {
            let mut builder = BooleanBuilder::new();
            values.for_each(|v| builder.append_option(if let Value::Boolean(v) = v { Some(v) } else { None }));
            Arc::new(builder.finish())
        }
        DataType::TinyInt => integers::<arrow::Int8Type>(values),
        DataType::SmallInt => integers::<arrow::Int16Type>(values),
        DataType::Int => integers::<arrow::Int32Type>(values),
        DataType::BigInt => integers::<arrow::Int64Type>(values),
        DataType::Float => {
            primitives::<arrow::Float32Type>(values, |v| if let Value::Float(v) = v { Some(v) } else { None })
        }
        DataType::Double => {
            primitives::<arrow::Float64Type>(values, |v| if let Value::Double(v) = v { Some(v) } else { None })
        }
        DataType::Decimal { .. } => {
            let mut builder = Decimal128Builder::new().with_data_type(arrow_type(data_type));
            values.for_each(|v| builder.append_option(if let Value::Decimal(v) = v { Some(v) } else { None }));
            Arc::new(builder.finish())
        }
        DataType::Date => {
            let mut builder = Date32Builder::new();
            values.for_each(|v| builder.append_option(if let Value::Date(v) = v { Some(v) } else { None }));
            Arc::new(builder.finish())
        }
        DataType::Timestamp { .. } | DataType::TimestampLtz { .. } => {
            let mut builder = PrimitiveBuilder::<arrow::TimestampMicrosecondType>::new().with_timezone("UTC");
            values.for_each(|v| builder.append_option(if let Value::Timestamp(v) = v { Some(v) } else { None }));
            Arc::new(builder.finish())
        }
    }
}

fn integers<T: arrow::ArrowPrimitiveType<Native: TryFrom<i64>>>(values: impl Iterator<Item = Value>) -> ArrayRef {
    primitives::<T>(values, |v| if let Value::Integer(v) = v { T::Native::try_from(v).ok() } else { None })
}

fn primitives<T: arrow::ArrowPrimitiveType>(
    values: impl Iterator<Item = Value>,
    get: impl Fn(Value) -> Option<T::Native>,
) -> ArrayRef {
    let mut builder = PrimitiveBuilder::<T>::new();
    values.for_each(|v| builder.append_option(get(v)));
    Arc::new(builder.finish())
}

/// The columns that say where a record stands, in the order of the schema.
pub const PLACE: [&str; 4] = ["_partition", "_offset", "_step", "_error"];

/// Where the records of a batch of only these columns stand, or the column that is not as the archive writes it.
pub fn places(batch: &RecordBatch) -> Result<Vec<Placed>, String> {
    let types = [ArrowType::Int32, ArrowType::Int64, ArrowType::Int64, ArrowType::Utf8];
    for (number, (name, data_type)) in PLACE.iter().zip(types).enumerate() {
        let column = batch.columns().get(number).filter(|column| *column.data_type() == data_type);
        // Whoever takes records out of a file by hand leaves no column empty that the archive always fills.
        if column.is_none_or(|column| number < 3 && column.null_count() > 0) {
            return Err((*name).to_owned());
        }
    }
    let partitions = batch.column(0).as_primitive::<arrow::Int32Type>();
    let offsets = batch.column(1).as_primitive::<arrow::Int64Type>();
    let steps = batch.column(2).as_primitive::<arrow::Int64Type>();
    let placed = |row: usize| Placed {
        place: Place { partition: Partition(partitions.value(row)), offset: Offset(offsets.value(row)) },
        step: Step(steps.value(row).cast_unsigned()),
        reading: if batch.column(3).is_valid(row) { Reading::Rejected } else { Reading::Read },
    };
    Ok((0..batch.num_rows()).map(placed).collect())
}

/// The records of a batch, or the column that is not as the archive writes it.
pub fn records(table: &Table, batch: &RecordBatch) -> Result<Vec<ArchivedRecord>, String> {
    let expected = schema(table);
    for (number, field) in expected.fields().iter().enumerate() {
        if batch.num_columns() != expected.fields().len() || batch.column(number).data_type() != field.data_type() {
            return Err(field.name().clone());
        }
    }
    Ok((0..batch.num_rows()).map(|row| record(table, batch, row)).collect())
}

fn record(table: &Table, batch: &RecordBatch, row: usize) -> ArchivedRecord {
    let first = batch.num_columns() - OWN_COLUMNS;
    let own = |number: usize| batch.column(first + number);
    let integer = |number: usize| own(number).as_primitive::<arrow::Int64Type>().value(row);
    let binary = |number: usize| own(number).is_valid(row).then(|| own(number).as_binary::<i32>().value(row).to_vec());
    let time = own(2).as_primitive::<arrow::TimestampMicrosecondType>();
    let value = binary(5);
    let values =
        || Row::from((0..first).map(|c| cell(table.columns[c].data_type, batch.column(c), row)).collect::<Vec<_>>());
    let content = if own(6).is_valid(row) {
        Content::Rejected(own(6).as_string::<i32>().value(row).into())
    } else if value.is_some() {
        Content::Row(values())
    } else {
        Content::Delete(values())
    };
    ArchivedRecord {
        step: Step(integer(3).cast_unsigned()),
        place: Place {
            partition: Partition(own(0).as_primitive::<arrow::Int32Type>().value(row)),
            offset: Offset(integer(1)),
        },
        timestamp_ms: time.is_valid(row).then(|| time.value(row).div_euclid(1_000)),
        key: binary(4),
        value,
        content,
    }
}

fn cell(data_type: DataType, column: &ArrayRef, row: usize) -> Value {
    if column.is_null(row) {
        return Value::Null;
    }
    match data_type {
        DataType::String => Value::string(column.as_string::<i32>().value(row)),
        DataType::Boolean => Value::Boolean(column.as_boolean().value(row)),
        DataType::TinyInt => Value::Integer(column.as_primitive::<arrow::Int8Type>().value(row).into()),
        DataType::SmallInt => Value::Integer(column.as_primitive::<arrow::Int16Type>().value(row).into()),
        DataType::Int => Value::Integer(column.as_primitive::<arrow::Int32Type>().value(row).into()),
        DataType::BigInt => Value::Integer(column.as_primitive::<arrow::Int64Type>().value(row)),
        DataType::Float => Value::Float(column.as_primitive::<arrow::Float32Type>().value(row)),
        DataType::Double => Value::Double(column.as_primitive::<arrow::Float64Type>().value(row)),
        DataType::Decimal { .. } => Value::Decimal(column.as_primitive::<arrow::Decimal128Type>().value(row)),
        DataType::Date => Value::Date(column.as_primitive::<arrow::Date32Type>().value(row)),
        DataType::Timestamp { .. } | DataType::TimestampLtz { .. } => {
            Value::Timestamp(column.as_primitive::<arrow::TimestampMicrosecondType>().value(row))
        }
    }
}
