//! Pipelines of every form in a few numbers, so that they can be drawn, shrunk and written down.

use std::collections::BTreeMap;

use lockstep_shared::coordinates::TableId;
use lockstep_shared::functions::Function;
use lockstep_shared::plan::{
    Column, ColumnRef, Expression, ExpressionKind, Input, Join, JoinKey, JoinKind, Pipeline, Query, Sink, Table,
};
use lockstep_shared::types::DataType;
use lockstep_shared::value::Value;
use rand::RngExt;
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};

/// Every table has three INT columns; a keyed one has column 0 as its key, or columns 0 and 1.
pub const COLUMNS: usize = 3;
/// Tables of every pipeline.
pub const TABLES: usize = 4;

/// A pipeline of one sink or two.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// How many columns the key of each table has; an append table has none.
    pub keys: Vec<usize>,
    /// The joins, the first after table 0.
    pub joins: Vec<JoinShape>,
    /// Whether joined rows must have column 1 of input 0 not NULL.
    pub filtered: bool,
    /// How many of the joins a second sink has, which shares the tables; none without one.
    pub second: Option<usize>,
}

/// A join.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinShape {
    /// The right table.
    pub table: usize,
    /// INNER, not LEFT.
    pub inner: bool,
    /// An earlier input, its column, and the own column that equals it.
    pub pairs: Vec<(usize, usize, usize)>,
    /// Whether rows with column 2 equal to 0 are filtered away before the join.
    pub filtered: bool,
}

impl Shape {
    /// A random one.
    pub fn draw(rng: &mut StdRng) -> Self {
        let joins = (0..rng.random_range(0..4_usize)).map(|number| JoinShape {
            table: rng.random_range(0..TABLES),
            inner: rng.random_bool(0.25),
            pairs: (0..rng.random_range(1..3_usize))
                .map(|_| {
                    let column = |rng: &mut StdRng| rng.random_range(0..COLUMNS);
                    (rng.random_range(0..=number), column(rng), column(rng))
                })
                .collect(),
            filtered: rng.random_bool(0.2),
        });
        let joins: Vec<JoinShape> = joins.collect();
        Self {
            keys: (0..TABLES).map(|_| rng.random_range(0..3_usize)).collect(),
            filtered: rng.random_bool(0.2),
            second: rng.random_bool(0.2).then(|| rng.random_range(0..=joins.len())),
            joins,
        }
    }

    /// The pipeline.
    #[must_use]
    pub fn pipeline(&self) -> Pipeline {
        let table = |(n, key): (usize, &usize)| Table {
            name: format!("t{n}"),
            columns: columns("c", COLUMNS),
            key: (0..*key).collect(),
            options: BTreeMap::new(),
        };
        let second = self.second.map(|joins| self.sink("second", joins));
        Pipeline {
            text: String::new(),
            settings: BTreeMap::new(),
            tables: self.keys.iter().enumerate().map(table).collect(),
            sinks: [self.sink("first", self.joins.len())].into_iter().chain(second).collect(),
        }
    }

    /// The sinks of the pipeline.
    #[must_use]
    pub fn sinks(&self) -> usize {
        1 + usize::from(self.second.is_some())
    }

    /// A sink over this many of the joins.
    fn sink(&self, name: &str, joins: usize) -> Sink {
        let mut inputs = vec![Input { table: TableId(0), alias: "i0".into(), join: None, filter: None }];
        let mut identity = vec![0];
        for (number, join) in self.joins.iter().take(joins).enumerate() {
            inputs.push(input(number + 1, join));
            let key = self.keys[join.table];
            let is_whole_key = key > 0 && (0..key).all(|column| join.pairs.iter().any(|(_, _, own)| *own == column));
            if !is_whole_key {
                identity.push(number + 1);
            }
        }
        let projection: Vec<Expression> =
            (0..inputs.len()).flat_map(|input| [column(input, 0), column(input, 1)]).collect();
        Sink {
            name: name.into(),
            columns: columns("d", projection.len()),
            key: vec![],
            options: BTreeMap::new(),
            query: Query {
                inputs,
                filter: self.filtered.then(|| call(Function::IsNotNull, vec![column(0, 1)])),
                projection,
            },
            identity,
        }
    }
}

fn columns(prefix: &str, count: usize) -> Vec<Column> {
    let column = |n| Column { name: format!("{prefix}{n}"), data_type: DataType::Int, nullable: true };
    (0..count).map(column).collect()
}

fn input(number: usize, join: &JoinShape) -> Input {
    let zero =
        || Expression { kind: ExpressionKind::Literal(Value::Integer(0)), data_type: DataType::Int, nullable: false };
    let on =
        join.pairs.iter().map(|(l, c, r)| JoinKey { left: ColumnRef { input: *l, column: *c }, right: *r }).collect();
    Input {
        table: TableId(join.table),
        alias: format!("i{number}"),
        join: Some(Join { kind: if join.inner { JoinKind::Inner } else { JoinKind::Left }, on }),
        filter: join.filtered.then(|| call(Function::NotEqual, vec![column(number, 2), zero()])),
    }
}

fn call(function: Function, arguments: Vec<Expression>) -> Expression {
    Expression { kind: ExpressionKind::Call(function, arguments), data_type: DataType::Boolean, nullable: true }
}

fn column(input: usize, column: usize) -> Expression {
    Expression { kind: ExpressionKind::Column(ColumnRef { input, column }), data_type: DataType::Int, nullable: true }
}
