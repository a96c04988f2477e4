//! The plan: a program after parsing, binding and type checking. Stream, batch and the definition all read this.
//!
//! Views are inlined, names are numbers, every expression has its type. A query is a left-deep chain of equality joins:
//! input 0 is the leftmost table, every further input is joined to the ones before it.

use std::collections::BTreeMap;

use crate::coordinates::TableId;
use crate::functions::Function;
use crate::types::DataType;
use crate::value::Value;

/// A whole program.
#[derive(Clone, Debug)]
pub struct Pipeline {
    /// The program as written, for people; secrets stand in it only where somebody wrote them there.
    pub text: String,
    /// The settings given by `SET`, with overrides applied.
    pub settings: BTreeMap<String, String>,
    /// The source tables that some sink reads, in the order of their declaration. [`TableId`] counts them.
    pub tables: Vec<Table>,
    /// One for every `INSERT`.
    pub sinks: Vec<Sink>,
}

/// A source table.
#[derive(Clone, Debug)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// Its columns, in the order of their declaration.
    pub columns: Vec<Column>,
    /// The columns of the primary key, by number; empty for an append table.
    pub key: Vec<usize>,
    /// The options of its connector, as written, overrides applied and `${NAME}` replaced.
    pub options: BTreeMap<String, String>,
}

impl Table {
    /// True where the last record of a key wins and a null value deletes; false for a bag of rows.
    #[must_use]
    pub fn is_keyed(&self) -> bool {
        !self.key.is_empty()
    }

    /// The option's value.
    #[must_use]
    pub fn option(&self, name: &str) -> Option<&str> {
        self.options.get(name).map(String::as_str)
    }
}

/// A column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name, as written.
    pub name: String,
    /// Its type.
    pub data_type: DataType,
    /// False only where declared NOT NULL or part of a primary key.
    pub nullable: bool,
}

/// A sink table with the query that fills it.
#[derive(Clone, Debug)]
pub struct Sink {
    /// The sink table's name.
    pub name: String,
    /// The columns of its documents; as many as the query has expressions, and of the same types.
    pub columns: Vec<Column>,
    /// The columns of the sink's primary key, by number; empty where it declares none.
    pub key: Vec<usize>,
    /// The options of its connector, like [`Table::options`].
    pub options: BTreeMap<String, String>,
    /// What fills it.
    pub query: Query,
    /// What makes a document one: the inputs whose rows tell two documents apart, in input order. Input 0 is always
    /// among them. An input joined on its whole primary key adds nothing and is not.
    pub identity: Vec<usize>,
}

impl Sink {
    /// The option's value.
    #[must_use]
    pub fn option(&self, name: &str) -> Option<&str> {
        self.options.get(name).map(String::as_str)
    }
}

/// `SELECT projection FROM inputs[0] JOIN inputs[1] ON … WHERE filter`.
#[derive(Clone, Debug)]
pub struct Query {
    /// The tables read, leftmost first. One table may stand here more than once.
    pub inputs: Vec<Input>,
    /// Over the joined row: a joined row stays only where this is TRUE.
    pub filter: Option<Expression>,
    /// The columns of the result.
    pub projection: Vec<Expression>,
}

/// One table in a query.
#[derive(Clone, Debug)]
pub struct Input {
    /// Which table.
    pub table: TableId,
    /// The name it goes by in the query, for messages.
    pub alias: String,
    /// How it is joined to the inputs before it; `None` for input 0 only.
    pub join: Option<Join>,
    /// Over this input's columns alone, applied before the join: a row for which it is not TRUE does not exist here.
    pub filter: Option<Expression>,
}

/// How an input is joined.
#[derive(Clone, Debug)]
pub struct Join {
    /// LEFT or INNER.
    pub kind: JoinKind,
    /// The equalities, all of which must hold; never empty. NULL never equals anything.
    pub on: Vec<JoinKey>,
}

/// The kind of a join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinKind {
    /// A left row without a partner stays, padded with NULLs.
    Left,
    /// A left row without a partner goes.
    Inner,
}

/// `left = right`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JoinKey {
    /// A column of an earlier input.
    pub left: ColumnRef,
    /// A column of the joined input.
    pub right: usize,
}

/// A column of an input of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ColumnRef {
    /// The input.
    pub input: usize,
    /// The column of its table.
    pub column: usize,
}

/// A typed scalar expression over the joined row.
#[derive(Clone, Debug, PartialEq)]
pub struct Expression {
    /// What it is.
    pub kind: ExpressionKind,
    /// The type of its value.
    pub data_type: DataType,
    /// True where its value can be NULL.
    pub nullable: bool,
}

/// The kinds of expressions.
#[derive(Clone, Debug, PartialEq)]
pub enum ExpressionKind {
    /// A column; NULL where its input is null-padded.
    Column(ColumnRef),
    /// A constant.
    Literal(Value),
    /// A function or operator of the function table, over its arguments.
    Call(Function, Vec<Expression>),
    /// `CAST` or `TRY_CAST` to this expression's type. The binder lets `CAST` pass only where it cannot fail;
    /// `TRY_CAST` gives NULL where it fails. So one rule serves both: what cannot be converted is NULL.
    Cast(Box<Expression>),
}

impl Expression {
    /// Calls `visit` for every column that the expression reads.
    pub fn for_each_column(&self, visit: &mut impl FnMut(ColumnRef)) {
        match &self.kind {
            ExpressionKind::Column(column) => visit(*column),
            ExpressionKind::Literal(_) => {}
            ExpressionKind::Call(_, arguments) => arguments.iter().for_each(|a| a.for_each_column(visit)),
            ExpressionKind::Cast(inner) => inner.for_each_column(visit),
        }
    }
}

impl Query {
    /// The columns of each input that the query reads anywhere (joins, filters, projection), ascending and without
    /// repetition; one list an input.
    #[must_use]
    pub fn columns_read(&self) -> Vec<Vec<usize>> {
        let mut read = vec![std::collections::BTreeSet::new(); self.inputs.len()];
        let mut visit = |c: ColumnRef| {
            read[c.input].insert(c.column);
        };
        for (number, input) in self.inputs.iter().enumerate() {
            for key in input.join.iter().flat_map(|join| &join.on) {
                visit(key.left);
                visit(ColumnRef { input: number, column: key.right });
            }
            input.filter.iter().for_each(|f| f.for_each_column(&mut visit));
        }
        self.filter.iter().chain(&self.projection).for_each(|e| e.for_each_column(&mut visit));
        read.into_iter().map(|columns| columns.into_iter().collect()).collect()
    }
}
