//! Some recomputed documents, column by column: values and ids without a value of ours a cell.

use lockstep_shared::coordinates::{Offset, Partition, Place};
use lockstep_shared::identity::{DocumentId, write_id};
use lockstep_shared::plan::{Pipeline, Sink};
use lockstep_shared::types::DataType;
use lockstep_shared::value::{Scalar, Value};
use polars::prelude::{
    self as pl, BooleanChunked, DataFrame, Float32Chunked, Float64Chunked, Int8Chunked, Int16Chunked, Int32Chunked,
    Int64Chunked, Int128Chunked, PolarsResult, StringChunked,
};

use crate::frame::polars_type;
use crate::recompute::name;

/// Documents of one sink.
pub struct Batch<'a> {
    pipeline: &'a Pipeline,
    sink: &'a Sink,
    rows: usize,
    values: Vec<Cells>,
    /// The rows of the leftmost input.
    leftmost: Origin,
    /// By input; `None` for one that adds nothing to the identity.
    identities: Vec<Option<Identity>>,
}

/// Where rows of an input came from.
struct Origin {
    partition: Cells,
    offset: Cells,
}

/// What makes a row of an input one.
struct Identity {
    origin: Origin,
    /// The key columns of its table, with their numbers there.
    key: Vec<(usize, Cells)>,
}

impl<'a> Batch<'a> {
    pub(crate) fn new(pipeline: &'a Pipeline, sink: &'a Sink, frame: &DataFrame) -> PolarsResult<Self> {
        let cells = |name: &str, data_type| Cells::new(frame.column(name)?, data_type);
        let values = sink.query.projection.iter().enumerate().map(|(n, e)| cells(&format!("d{n}"), e.data_type));
        let values = values.collect::<PolarsResult<_>>()?;
        let origin = |input: usize| -> PolarsResult<Origin> {
            let cells = |own: &str, data_type| cells(&format!("i{input}_{own}"), data_type);
            Ok(Origin { partition: cells("partition", DataType::Int)?, offset: cells("offset", DataType::BigInt)? })
        };
        let mut identities: Vec<Option<Identity>> = sink.query.inputs.iter().map(|_| None).collect();
        for input in &sink.identity {
            let table = &pipeline.tables[sink.query.inputs[*input].table.0];
            let key = table.key.iter().map(|c| Ok((*c, cells(&name(*input, *c), table.columns[*c].data_type)?)));
            identities[*input] = Some(Identity { origin: origin(*input)?, key: key.collect::<PolarsResult<_>>()? });
        }
        Ok(Self { pipeline, sink, rows: frame.height(), values, leftmost: origin(0)?, identities })
    }

    /// How many documents.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// A document's fields, in the order of the sink's columns.
    pub fn scalars(&self, row: usize) -> impl Iterator<Item = Scalar<'_>> {
        self.values.iter().map(move |cells| cells.get(row))
    }

    /// The same, owned.
    #[must_use]
    pub fn values(&self, row: usize) -> Vec<Value> {
        self.scalars(row).map(Value::from).collect()
    }

    /// The record that a document's row of the leftmost input is of.
    #[must_use]
    pub fn leftmost(&self, row: usize) -> Place {
        self.leftmost.place(row).unwrap_or_else(|| unreachable!("only joined inputs are padded with NULL"))
    }

    /// Appends a document's id.
    pub fn write_id(&self, row: usize, id: &mut String) {
        let identity = |input: usize| self.identities[input].as_ref();
        let key = |input: usize, column: usize| {
            let mut cells = identity(input).into_iter().flat_map(|i| &i.key).filter(|(number, _)| *number == column);
            cells.next().map_or(Scalar::Null, |(_, cells)| cells.get(row))
        };
        let place = |input: usize| identity(input).and_then(|identity| identity.origin.place(row));
        write_id(self.pipeline, self.sink, place, key, |column| self.values[column].get(row), id);
    }

    /// A document's id.
    #[must_use]
    pub fn id(&self, row: usize) -> DocumentId {
        let mut id = String::with_capacity(40);
        self.write_id(row, &mut id);
        DocumentId(id.into())
    }
}

impl Origin {
    /// Where the row came from; `None` where the input is null-padded.
    fn place(&self, row: usize) -> Option<Place> {
        let (Scalar::Integer(partition), Scalar::Integer(offset)) = (self.partition.get(row), self.offset.get(row))
        else {
            return None;
        };
        Some(Place { partition: Partition(i32::try_from(partition).ok()?), offset: Offset(offset) })
    }
}

/// A column, by its type.
pub(crate) enum Cells {
    Boolean(BooleanChunked),
    TinyInt(Int8Chunked),
    SmallInt(Int16Chunked),
    Int(Int32Chunked),
    BigInt(Int64Chunked),
    Float(Float32Chunked),
    Double(Float64Chunked),
    Decimal(Int128Chunked),
    String(StringChunked),
    Date(Int32Chunked),
    Timestamp(Int64Chunked),
}

impl Cells {
    /// A column that lies in one piece.
    pub(crate) fn new(column: &pl::Column, data_type: DataType) -> PolarsResult<Self> {
        let wanted = polars_type(data_type);
        let series = column.as_materialized_series();
        let series = if *series.dtype() == wanted { series.clone() } else { series.strict_cast(&wanted)? };
        Ok(match data_type {
            DataType::Boolean => Self::Boolean(series.bool()?.clone()),
            DataType::TinyInt => Self::TinyInt(series.i8()?.clone()),
            DataType::SmallInt => Self::SmallInt(series.i16()?.clone()),
            DataType::Int => Self::Int(series.i32()?.clone()),
            DataType::BigInt => Self::BigInt(series.i64()?.clone()),
            DataType::Float => Self::Float(series.f32()?.clone()),
            DataType::Double => Self::Double(series.f64()?.clone()),
            DataType::Decimal { .. } => Self::Decimal(series.decimal()?.physical().clone()),
            DataType::String => Self::String(series.str()?.clone()),
            DataType::Date => Self::Date(series.date()?.physical().clone()),
            DataType::Timestamp { .. } | DataType::TimestampLtz { .. } => {
                Self::Timestamp(series.datetime()?.physical().clone())
            }
        })
    }

    /// A cell.
    pub(crate) fn get(&self, row: usize) -> Scalar<'_> {
        let whole = |v: Option<i64>| v.map_or(Scalar::Null, Scalar::Integer);
        match self {
            Self::Boolean(cells) => cells.get(row).map_or(Scalar::Null, Scalar::Boolean),
            Self::TinyInt(cells) => whole(cells.get(row).map(i64::from)),
            Self::SmallInt(cells) => whole(cells.get(row).map(i64::from)),
            Self::Int(cells) => whole(cells.get(row).map(i64::from)),
            Self::BigInt(cells) => whole(cells.get(row)),
            Self::Float(cells) => cells.get(row).map_or(Scalar::Null, Scalar::Float),
            Self::Double(cells) => cells.get(row).map_or(Scalar::Null, Scalar::Double),
            Self::Decimal(cells) => cells.get(row).map_or(Scalar::Null, Scalar::Decimal),
            Self::String(cells) => cells.get(row).map_or(Scalar::Null, Scalar::String),
            Self::Date(cells) => cells.get(row).map_or(Scalar::Null, Scalar::Date),
            Self::Timestamp(cells) => cells.get(row).map_or(Scalar::Null, Scalar::Timestamp),
        }
    }
}
