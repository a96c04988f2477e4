//! One file of Flink SQL to a [`Pipeline`], or everything that is wrong with it by line and column.
//!
//! `statements` reads text, `query` and `expression` bind it, `options` and `settings` check what is around it.

mod coercion;
mod error;
mod explain;
mod expression;
mod identity;
mod options;
mod query;
pub mod settings;
mod statements;
mod types;

use std::collections::{BTreeMap, BTreeSet};

pub use error::SqlError;
pub use explain::explain;
use options::Role;
use query::{Bound, Catalog};
use settings::SETTINGS;
use sqlparser::ast;
use statements::{ColumnStatement, Name, Statement, TableStatement};

use crate::coordinates::TableId;
use crate::plan::{Column, Expression, ExpressionKind, Pipeline, Sink, Table};
use crate::value::Value;
use error::suggestion;

/// Prefixes of Flink's own settings, which are taken and have no effect here.
const FLINK_SETTINGS: [&str; 9] = [
    "execution.",
    "table.",
    "pipeline.",
    "parallelism.",
    "sql-client.",
    "state.",
    "restart-strategy",
    "taskmanager.",
    "jobmanager.",
];

/// What `--set` changes: settings, and options of tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    settings: BTreeMap<String, String>,
    options: BTreeMap<String, BTreeMap<String, String>>,
}

impl Overrides {
    /// Reads `lockstep.setting=value` and `TABLE.option=value`.
    ///
    /// # Errors
    /// Where one is neither.
    pub fn parse(given: &[String]) -> Result<Self, SqlError> {
        let mut overrides = Self::default();
        for text in given.iter().filter(|text| !text.is_empty()) {
            let wrong =
                || SqlError::whole(format!("--set {text}: write KEY=VALUE, where KEY is a setting or TABLE.option"));
            let (key, value) = text.split_once('=').ok_or_else(wrong)?;
            if key.starts_with("lockstep.") {
                overrides.settings.insert(key.to_owned(), value.to_owned());
            } else {
                let (table, option) =
                    key.split_once('.').filter(|(t, o)| !t.is_empty() && !o.is_empty()).ok_or_else(wrong)?;
                overrides.options.entry(table.to_owned()).or_default().insert(option.to_owned(), value.to_owned());
            }
        }
        Ok(overrides)
    }
}

/// Compiles a program. `environment` gives the variables that `${NAME}` in option values stands for.
///
/// # Errors
/// Everything that is wrong, in the order of the text.
pub fn compile(
    text: &str,
    overrides: &Overrides,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Pipeline, Vec<SqlError>> {
    let (statements, errors) = statements::parse(text);
    let mut compiler = Compiler {
        text: text.to_owned(),
        catalog: Catalog::default(),
        sinks: BTreeMap::new(),
        settings: BTreeMap::new(),
        filled: Vec::new(),
        errors,
    };
    let filled: BTreeSet<String> = statements
        .iter()
        .filter_map(|s| if let Statement::Insert { into, .. } = s { Some(into.text.clone()) } else { None })
        .collect();
    for statement in statements {
        compiler.statement(statement, &filled, overrides, environment);
    }
    compiler.finish(overrides)
}

/// Compiles a file, with the variables of the process's environment.
///
/// # Errors
/// Everything that is wrong, as text that names the file.
#[expect(clippy::disallowed_methods, reason = "the one place where ${NAME} of option values is read")]
pub fn compile_file(path: &std::path::Path, overrides: &Overrides) -> Result<Pipeline, String> {
    let name = path.display();
    let text = std::fs::read_to_string(path).map_err(|e| format!("cannot read {name}: {e}"))?;
    compile(&text, overrides, &|variable| std::env::var(variable).ok())
        .map_err(|errors| errors.iter().map(|e| format!("{name}:{}", e.render(&text))).collect::<Vec<_>>().join("\n"))
}

/// A sink table before it is filled.
struct SinkTable {
    columns: Vec<Column>,
    explicitly_not_null: Vec<bool>,
    key: Vec<usize>,
    options: BTreeMap<String, String>,
}

struct Compiler {
    text: String,
    catalog: Catalog,
    sinks: BTreeMap<String, SinkTable>,
    settings: BTreeMap<String, String>,
    filled: Vec<Sink>,
    errors: Vec<SqlError>,
}

impl Compiler {
    fn statement(
        &mut self,
        statement: Statement,
        filled: &BTreeSet<String>,
        overrides: &Overrides,
        environment: &dyn Fn(&str) -> Option<String>,
    ) {
        let result = match statement {
            Statement::Set { key, value } => self.set(&key, value.text),
            Statement::View { name, columns, query } => self.view(&name, &columns, &query),
            Statement::Insert { into, columns, query } => self.insert(&into, &columns, &query),
            Statement::Table(table) => {
                let own = overrides.options.get(&table.name.text).cloned().unwrap_or_default();
                match options::check(&table, &own, environment) {
                    Ok((role, options)) => self.table(&table, role, options, filled),
                    Err(errors) => {
                        self.errors.extend(errors);
                        Ok(())
                    }
                }
            }
        };
        self.errors.extend(result.err());
    }

    fn set(&mut self, key: &Name, value: String) -> Result<(), SqlError> {
        if !FLINK_SETTINGS.iter().any(|prefix| key.text.starts_with(prefix)) {
            known_setting(&key.text).map_err(|message| SqlError::at(key.at, message))?;
        }
        self.settings.insert(key.text.clone(), value);
        Ok(())
    }

    fn new_name(&self, name: &Name) -> Result<(), SqlError> {
        let taken = self.catalog.tables.iter().any(|t| t.name == name.text)
            || self.catalog.views.contains_key(&name.text)
            || self.sinks.contains_key(&name.text);
        if taken {
            Err(SqlError::at(name.at, format!("there is already a table or view {}", name.text)))
        } else {
            Ok(())
        }
    }

    fn table(
        &mut self,
        table: &TableStatement,
        role: Role,
        options: BTreeMap<String, String>,
        filled: &BTreeSet<String>,
    ) -> Result<(), SqlError> {
        self.new_name(&table.name)?;
        let key = key(table)?;
        unique(table.columns.iter().map(|c| &c.name))?;
        if table.columns.is_empty() {
            return Err(SqlError::at(table.name.at, format!("table {} has no columns", table.name.text)));
        }
        if let Some(column) = table.columns.iter().find(|c| c.name.text.starts_with('_')) {
            return Err(SqlError::at(
                column.name.at,
                format!("column {}: names that begin with _ are the archive's and the index's own", column.name.text),
            ));
        }
        let column = |(number, c): (usize, &ColumnStatement)| Column {
            name: c.name.text.clone(),
            data_type: c.data_type,
            nullable: !c.not_null && !key.contains(&number),
        };
        let columns: Vec<Column> = table.columns.iter().enumerate().map(column).collect();
        let name = table.name.text.clone();
        if role == Role::Sink || (role == Role::Either && filled.contains(&name)) {
            let explicitly_not_null = table.columns.iter().map(|c| c.not_null).collect();
            self.catalog.sinks.push(name.clone());
            self.sinks.insert(name, SinkTable { columns, explicitly_not_null, key, options });
        } else {
            self.catalog.tables.push(Table { name, columns, key, options });
        }
        Ok(())
    }

    fn view(&mut self, name: &Name, columns: &[Name], query: &ast::Query) -> Result<(), SqlError> {
        self.new_name(name)?;
        let mut bound = query::bind(&self.catalog, query, name.at)?;
        if !columns.is_empty() {
            if columns.len() != bound.names.len() {
                return Err(SqlError::at(
                    name.at,
                    format!(
                        "view {} names {} columns, and its query has {}",
                        name.text,
                        columns.len(),
                        bound.names.len()
                    ),
                ));
            }
            bound.names = columns.iter().map(|c| c.text.clone()).collect();
        }
        let names: Vec<Name> = bound.names.iter().map(|text| Name { text: text.clone(), at: name.at }).collect();
        unique(names.iter())?;
        self.catalog.views.insert(name.text.clone(), bound);
        Ok(())
    }

    fn insert(&mut self, into: &Name, columns: &[Name], query: &ast::Query) -> Result<(), SqlError> {
        let Some(sink) = self.sinks.get(&into.text) else {
            let message = if self.catalog.tables.iter().any(|t| t.name == into.text) {
                format!("table {} is a source; an INSERT fills a table of a sink's connector", into.text)
            } else {
                format!(
                    "there is no sink table {}{}",
                    into.text,
                    suggestion(&into.text, self.sinks.keys().map(String::as_str))
                )
            };
            return Err(SqlError::at(into.at, message));
        };
        if self.filled.iter().any(|filled| filled.name == into.text) {
            return Err(SqlError::at(
                into.at,
                format!("{} is filled twice; write one table for each INSERT", into.text),
            ));
        }
        let bound = query::bind(&self.catalog, query, into.at)?;
        let Bound { mut query, names } = bound;
        query.projection = fill(into, sink, columns, &names, query.projection)?;
        let identity = identity::identity(&self.catalog.tables, &query);
        if !sink.key.is_empty()
            && let Some(reason) = identity::undetermined(&self.catalog.tables, &query, &identity, &sink.key)
        {
            return Err(SqlError::at(
                into.at,
                format!("the primary key of {} does not tell its documents apart: {reason}", into.text),
            ));
        }
        let (columns, key, options) = (sink.columns.clone(), sink.key.clone(), sink.options.clone());
        self.filled.push(Sink { name: into.text.clone(), columns, key, options, query, identity });
        Ok(())
    }

    fn finish(mut self, overrides: &Overrides) -> Result<Pipeline, Vec<SqlError>> {
        for (key, value) in &overrides.settings {
            match known_setting(key) {
                Ok(()) => drop(self.settings.insert(key.clone(), value.clone())),
                Err(message) => self.errors.push(SqlError::whole(format!("--set {key}: {message}"))),
            }
        }
        let known = || self.catalog.tables.iter().map(|t| t.name.as_str()).chain(self.sinks.keys().map(String::as_str));
        let unknown: Vec<SqlError> = overrides
            .options
            .keys()
            .filter(|table| self.errors.is_empty() && !known().any(|k| k == *table))
            .map(|table| {
                SqlError::whole(format!("--set {table}.…: there is no table {table}{}", suggestion(table, known())))
            })
            .collect();
        self.errors.extend(unknown);
        if self.errors.is_empty() && self.filled.is_empty() {
            self.errors.push(SqlError::whole("the program fills no sink; write INSERT INTO … SELECT …"));
        }
        if !self.errors.is_empty() {
            self.errors.sort_by_key(|e| (e.line == 0, e.line, e.column));
            return Err(self.errors);
        }
        let pipeline =
            Pipeline { text: self.text, settings: self.settings, tables: self.catalog.tables, sinks: self.filled };
        let pipeline = only_what_is_read(pipeline);
        settings::Settings::of(&pipeline).map_err(|e| vec![SqlError::whole(e.to_string())])?;
        Ok(pipeline)
    }
}

fn known_setting(name: &str) -> Result<(), String> {
    if SETTINGS.iter().any(|s| s.name == name) {
        return Ok(());
    }
    Err(format!("there is no setting '{name}'{}", suggestion(name, SETTINGS.iter().map(|s| s.name))))
}

fn unique<'a>(names: impl Iterator<Item = &'a Name>) -> Result<(), SqlError> {
    let mut seen = BTreeSet::new();
    for name in names {
        if !seen.insert(&name.text) {
            return Err(SqlError::at(name.at, format!("column {} is there twice", name.text)));
        }
    }
    Ok(())
}

fn key(table: &TableStatement) -> Result<Vec<usize>, SqlError> {
    unique(table.key.iter())?;
    let number = |name: &Name| {
        let number = table.columns.iter().position(|c| c.name.text == name.text).ok_or_else(|| {
            let near = suggestion(&name.text, table.columns.iter().map(|c| c.name.text.as_str()));
            SqlError::at(
                name.at,
                format!("the primary key names {}, which is no column of {}{near}", name.text, table.name.text),
            )
        })?;
        match table.columns[number].data_type {
            floating if floating.is_floating() => Err(SqlError::at(
                name.at,
                format!(
                    "column {} is a {floating}, which cannot be a key: equality of rounded numbers is no identity",
                    name.text
                ),
            )),
            _ => Ok(number),
        }
    };
    table.key.iter().map(number).collect()
}

/// The query's expressions in the order and the types of the sink's columns.
fn fill(
    into: &Name,
    sink: &SinkTable,
    columns: &[Name],
    names: &[String],
    projection: Vec<Expression>,
) -> Result<Vec<Expression>, SqlError> {
    let mut given: Vec<Option<(&str, Expression)>> = sink.columns.iter().map(|_| None).collect();
    let wanted = if columns.is_empty() { sink.columns.len() } else { columns.len() };
    if projection.len() != wanted {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        return Err(SqlError::at(
            into.at,
            format!(
                "the query has {} columns ({}), and {} takes {wanted}",
                projection.len(),
                names.join(", "),
                into.text
            ),
        ));
    }
    unique(columns.iter())?;
    for (number, (name, expression)) in names.iter().zip(projection).enumerate() {
        let place = match columns.get(number) {
            None => number,
            Some(column) => sink.columns.iter().position(|c| c.name == column.text).ok_or_else(|| {
                let near = suggestion(&column.text, sink.columns.iter().map(|c| c.name.as_str()));
                SqlError::at(column.at, format!("{} has no column {}{near}", into.text, column.text))
            })?,
        };
        given[place] = Some((name, expression));
    }
    let fit = |(number, given): (usize, Option<(&str, Expression)>)| {
        let column = &sink.columns[number];
        let null =
            Expression { kind: ExpressionKind::Literal(Value::Null), data_type: column.data_type, nullable: true };
        let (name, expression) = given.unwrap_or(("NULL", null));
        if !coercion::is_implicit(expression.data_type, column.data_type) {
            return Err(SqlError::at(
                into.at,
                format!(
                    "column {} of {} is a {}, and the query gives it {name}, a {}; write CAST({name} AS {}) or declare the other type",
                    column.name, into.text, column.data_type, expression.data_type, column.data_type
                ),
            ));
        }
        if sink.explicitly_not_null[number] && expression.nullable {
            return Err(SqlError::at(
                into.at,
                format!(
                    "column {} of {} is NOT NULL, and {name} can be NULL; write COALESCE, or drop NOT NULL",
                    column.name, into.text
                ),
            ));
        }
        Ok(coercion::converted(expression, column.data_type))
    };
    given.into_iter().enumerate().map(fit).collect()
}

/// The pipeline without the tables that no sink reads, the others numbered anew.
fn only_what_is_read(mut pipeline: Pipeline) -> Pipeline {
    let read: BTreeSet<TableId> = pipeline.sinks.iter().flat_map(|s| s.query.inputs.iter().map(|i| i.table)).collect();
    let numbers: BTreeMap<TableId, TableId> = read.iter().enumerate().map(|(new, old)| (*old, TableId(new))).collect();
    let inputs = pipeline.sinks.iter_mut().flat_map(|s| s.query.inputs.iter_mut());
    inputs.for_each(|input| input.table = numbers[&input.table]);
    let mut number = 0;
    pipeline.tables.retain(|_| {
        number += 1;
        read.contains(&TableId(number - 1))
    });
    pipeline
}

#[cfg(test)]
mod tests;
