//! Queries: views inlined, names to inputs and columns, joins to equalities.

use std::collections::BTreeMap;

use sqlparser::ast::{self, Expr, Ident, JoinConstraint, JoinOperator, SelectItem, SetExpr, Spanned, TableFactor};
use sqlparser::tokenizer::{Location, Span};

use super::error::{SqlError, suggestion};
use super::expression::Binder;
use crate::coordinates::TableId;
use crate::functions::Function;
use crate::plan::{ColumnRef, Expression, ExpressionKind, Input, Join, JoinKey, JoinKind, Query, Table};
use crate::types::DataType;

/// Deepest nesting of views and derived tables.
const MAX_VIEW_DEPTH: usize = 32;
/// Most inputs of one query, after views are inlined.
const MAX_INPUTS: usize = 32;

/// A query with the names of its columns.
#[derive(Clone, Debug)]
pub(super) struct Bound {
    pub(super) query: Query,
    pub(super) names: Vec<String>,
}

/// What a query can read.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    pub(super) tables: Vec<Table>,
    pub(super) views: BTreeMap<String, Bound>,
    /// Tables of a sink's connector, for a clear refusal.
    pub(super) sinks: Vec<String>,
}

/// What stands in FROM under one alias.
#[derive(Debug)]
struct Relation {
    alias: String,
    columns: Vec<(String, Expression)>,
}

/// The relations that a name can mean.
#[derive(Debug, Default)]
pub(super) struct Scope {
    relations: Vec<Relation>,
}

impl Scope {
    /// The column of this name.
    pub(super) fn column(&self, alias: Option<&Ident>, name: &Ident) -> Result<Expression, SqlError> {
        let relations: Vec<&Relation> = match alias {
            None => self.relations.iter().collect(),
            Some(alias) => vec![self.relation(alias)?],
        };
        let mut found =
            relations.iter().flat_map(|r| r.columns.iter().filter(|(n, _)| *n == name.value).map(move |(_, e)| (r, e)));
        match (found.next(), found.next()) {
            (Some((_, column)), None) => Ok(column.clone()),
            (Some((one, _)), Some((other, _))) => Err(SqlError::of(
                name.span,
                format!(
                    "column {} is in {} and in {}; write {}.{}",
                    name.value, one.alias, other.alias, one.alias, name.value
                ),
            )),
            (None, _) => {
                let known = relations.iter().flat_map(|r| r.columns.iter().map(|(n, _)| n.as_str()));
                let of = alias.map(|a| format!("{} has no column {}", a.value, name.value));
                let message = of.unwrap_or_else(|| format!("there is no column {}", name.value));
                Err(SqlError::of(name.span, message + &suggestion(&name.value, known)))
            }
        }
    }

    fn relation(&self, alias: &Ident) -> Result<&Relation, SqlError> {
        self.relations.iter().find(|r| r.alias == alias.value).ok_or_else(|| {
            let known = suggestion(&alias.value, self.relations.iter().map(|r| r.alias.as_str()));
            SqlError::of(alias.span, format!("there is no table or alias {} in this query{known}", alias.value))
        })
    }
}

/// Binds a query.
pub(super) fn bind(catalog: &Catalog, query: &ast::Query, at: Location) -> Result<Bound, SqlError> {
    bind_nested(catalog, query, at, 0)
}

fn bind_nested(catalog: &Catalog, query: &ast::Query, at: Location, depth: usize) -> Result<Bound, SqlError> {
    let select = plain_select(query, at)?;
    let [from] = select.from.as_slice() else {
        let message = match select.from.len() {
            0 => "a SELECT without FROM is not supported",
            _ => "a comma between tables is a cross join, which is not supported; write JOIN … ON …",
        };
        return Err(SqlError::at(place(select.span(), at), message));
    };
    let mut under_way = Joining { catalog, scope: Scope::default(), inputs: Vec::new(), filter: None, depth };
    under_way.leftmost(&from.relation, at)?;
    for join in &from.joins {
        under_way.join(join, at)?;
    }
    let Joining { scope, inputs, mut filter, .. } = under_way;
    if let Some(condition) = &select.selection {
        let bound = Binder::new(&scope, place(condition.span(), at)).boolean(condition, "the condition of WHERE")?;
        filter = Some(and(filter, bound));
    }
    let (names, projection) = projection(&scope, select, at)?;
    Ok(Bound { query: Query { inputs, filter, projection }, names })
}

fn place(span: Span, otherwise: Location) -> Location {
    if span.start.line == 0 { otherwise } else { span.start }
}

fn and(before: Option<Expression>, condition: Expression) -> Expression {
    match before {
        None => condition,
        Some(before) => Expression {
            data_type: DataType::Boolean,
            nullable: before.nullable || condition.nullable,
            kind: ExpressionKind::Call(Function::And, vec![before, condition]),
        },
    }
}

/// The SELECT of a query that is nothing else.
fn plain_select(query: &ast::Query, at: Location) -> Result<&ast::Select, SqlError> {
    let refused = |span: Span, what: &str| Err(SqlError::at(place(span, at), what.to_owned()));
    if let Some(with) = &query.with {
        return refused(with.span(), "WITH is not supported; write CREATE VIEW");
    }
    if let Some(order) = &query.order_by {
        return refused(order.span(), "ORDER BY is not supported: an index has no order");
    }
    if query.limit_clause.is_some() || query.fetch.is_some() {
        return refused(query.span(), "LIMIT is not supported: an index holds every row");
    }
    let select = match query.body.as_ref() {
        SetExpr::Select(select) => select.as_ref(),
        SetExpr::Query(inner) => plain_select(inner, at)?,
        SetExpr::SetOperation { op, .. } => {
            return refused(
                query.body.span(),
                &format!("{op} is not supported; write one sink table and one INSERT for each SELECT"),
            );
        }
        SetExpr::Values(_) => return refused(query.body.span(), "VALUES is not supported"),
        other => return refused(other.span(), "this query is not supported; write SELECT"),
    };
    if select.distinct.is_some() {
        return refused(select.span(), "SELECT DISTINCT is not supported; declare the sink's PRIMARY KEY instead");
    }
    let grouped = match &select.group_by {
        ast::GroupByExpr::Expressions(expressions, modifiers) => !expressions.is_empty() || !modifiers.is_empty(),
        ast::GroupByExpr::All(_) => true,
    };
    if grouped {
        return refused(select.group_by.span(), "GROUP BY is not supported; aggregate in the dashboard's query");
    }
    if let Some(having) = &select.having {
        return refused(having.span(), "HAVING is not supported");
    }
    let others = select.top.is_some()
        || select.into.is_some()
        || select.prewhere.is_some()
        || select.qualify.is_some()
        || select.exclude.is_some()
        || select.value_table_mode.is_some()
        || select.select_modifiers.is_some()
        || !(select.lateral_views.is_empty()
            && select.connect_by.is_empty()
            && select.cluster_by.is_empty()
            && select.distribute_by.is_empty()
            && select.sort_by.is_empty()
            && select.named_window.is_empty());
    let query_others = !query.locks.is_empty()
        || query.for_clause.is_some()
        || query.settings.is_some()
        || query.format_clause.is_some()
        || !query.pipe_operators.is_empty();
    if others || query_others {
        return refused(
            select.span(),
            "this clause of the SELECT is not supported; there are FROM, JOIN … ON and WHERE",
        );
    }
    Ok(select)
}

fn projection(scope: &Scope, select: &ast::Select, at: Location) -> Result<(Vec<String>, Vec<Expression>), SqlError> {
    let (mut names, mut expressions) = (Vec::new(), Vec::new());
    let mut push = |name: String, expression: Expression| {
        names.push(name);
        expressions.push(expression);
    };
    for item in &select.projection {
        match item {
            SelectItem::UnnamedExpr(expression) => {
                let bound = Binder::new(scope, at).bind(expression)?;
                push(name_of(expression).unwrap_or_else(|| format!("EXPR${}", select.projection.len())), bound);
            }
            SelectItem::ExprWithAlias { expr, alias } => {
                push(alias.value.clone(), Binder::new(scope, at).bind(expr)?);
            }
            SelectItem::Wildcard(options) => {
                no_options(options, at)?;
                scope.relations.iter().flat_map(|r| r.columns.clone()).for_each(|(name, e)| push(name, e));
            }
            SelectItem::QualifiedWildcard(ast::SelectItemQualifiedWildcardKind::ObjectName(name), options) => {
                no_options(options, at)?;
                let alias = single(name, at)?;
                scope.relation(alias)?.columns.iter().cloned().for_each(|(name, e)| push(name, e));
            }
            other => return Err(SqlError::at(place(other.span(), at), format!("`{other}` is not supported"))),
        }
    }
    Ok((names, expressions))
}

fn no_options(options: &ast::WildcardAdditionalOptions, at: Location) -> Result<(), SqlError> {
    match options.to_string().trim() {
        "" => Ok(()),
        some => Err(SqlError::at(at, format!("`* {some}` is not supported; name the columns"))),
    }
}

fn name_of(expression: &Expr) -> Option<String> {
    match expression {
        Expr::Identifier(name) => Some(name.value.clone()),
        Expr::CompoundIdentifier(parts) => parts.last().map(|name| name.value.clone()),
        _ => None,
    }
}

fn single(name: &ast::ObjectName, at: Location) -> Result<&Ident, SqlError> {
    match name.0.as_slice() {
        [ast::ObjectNamePart::Identifier(ident)] => Ok(ident),
        _ => Err(SqlError::at(
            place(name.span(), at),
            format!("`{name}`: catalogs and databases are not supported; write the name alone"),
        )),
    }
}

/// A FROM under way, from left to right.
struct Joining<'a> {
    catalog: &'a Catalog,
    scope: Scope,
    inputs: Vec<Input>,
    filter: Option<Expression>,
    depth: usize,
}

/// What a table factor names: a query of its own, under an alias.
struct Named {
    alias: String,
    bound: Bound,
    at: Location,
}

impl Joining<'_> {
    fn named(&self, factor: &TableFactor, at: Location) -> Result<Named, SqlError> {
        let at = place(factor.span(), at);
        match factor {
            TableFactor::Table {
                name,
                alias,
                args: None,
                with_hints,
                version: None,
                with_ordinality: false,
                partitions,
                json_path: None,
                sample: None,
                index_directives,
                ..
            } if with_hints.is_empty() && partitions.is_empty() && index_directives.is_empty() => {
                let ident = single(name, at)?;
                let alias = alias_of(alias.as_ref(), at)?.unwrap_or_else(|| ident.value.clone());
                Ok(Named { bound: self.relation(ident, &alias)?, alias, at })
            }
            TableFactor::Table { version: Some(_), .. } => Err(SqlError::at(
                at,
                "FOR SYSTEM_TIME AS OF is not supported; a plain join to a table with a primary key follows its updates",
            )),
            TableFactor::Derived { lateral: false, subquery, alias, .. } => {
                if self.depth >= MAX_VIEW_DEPTH {
                    return Err(SqlError::at(at, format!("queries are nested more than {MAX_VIEW_DEPTH} deep")));
                }
                let Some(alias) = alias_of(alias.as_ref(), at)? else {
                    return Err(SqlError::at(at, "a query in FROM needs an alias; write (SELECT …) AS name"));
                };
                Ok(Named { bound: bind_nested(self.catalog, subquery, at, self.depth + 1)?, alias, at })
            }
            other => Err(SqlError::at(at, format!("`{other}` is not supported in FROM; name a table or view"))),
        }
    }

    fn relation(&self, name: &Ident, alias: &str) -> Result<Bound, SqlError> {
        if let Some(view) = self.catalog.views.get(&name.value) {
            return Ok(view.clone());
        }
        if let Some(number) = self.catalog.tables.iter().position(|t| t.name == name.value) {
            return Ok(whole_table(TableId(number), &self.catalog.tables[number], alias));
        }
        if self.catalog.sinks.contains(&name.value) {
            return Err(SqlError::of(
                name.span,
                format!("table {} is a sink; a query reads sources and views", name.value),
            ));
        }
        let known =
            self.catalog.tables.iter().map(|t| t.name.as_str()).chain(self.catalog.views.keys().map(String::as_str));
        Err(SqlError::of(
            name.span,
            format!("there is no table or view {}{}", name.value, suggestion(&name.value, known)),
        ))
    }

    fn add(&mut self, alias: String, columns: Vec<(String, Expression)>, at: Location) -> Result<(), SqlError> {
        if self.scope.relations.iter().any(|r| r.alias == alias) {
            return Err(SqlError::at(at, format!("{alias} stands twice in FROM; give one of them another alias")));
        }
        if self.inputs.len() > MAX_INPUTS {
            return Err(SqlError::at(at, format!("the query joins more than {MAX_INPUTS} tables")));
        }
        self.scope.relations.push(Relation { alias, columns });
        Ok(())
    }

    fn leftmost(&mut self, factor: &TableFactor, at: Location) -> Result<(), SqlError> {
        let Named { alias, bound, at } = self.named(factor, at)?;
        self.inputs = bound.query.inputs;
        self.filter = bound.query.filter;
        self.add(alias, bound.names.into_iter().zip(bound.query.projection).collect(), at)
    }

    fn join(&mut self, join: &ast::Join, at: Location) -> Result<(), SqlError> {
        let at = place(join.relation.span(), at);
        let (kind, constraint) = match &join.join_operator {
            JoinOperator::Join(constraint) | JoinOperator::Inner(constraint) => (JoinKind::Inner, constraint),
            JoinOperator::Left(constraint) | JoinOperator::LeftOuter(constraint) => (JoinKind::Left, constraint),
            other => {
                let name = format!("{other:?}").split(['(', ' ']).next().unwrap_or_default().to_owned();
                return Err(SqlError::at(
                    at,
                    format!("a join of kind {name} is not supported; there are INNER JOIN and LEFT JOIN"),
                ));
            }
        };
        let JoinConstraint::On(condition) = constraint else {
            return Err(SqlError::at(at, "a join needs its condition; write ON a.x = b.y"));
        };
        let Named { alias, bound, at } = self.named(&join.relation, at)?;
        let [input] = bound.query.inputs.as_slice() else {
            return Err(SqlError::at(
                at,
                format!("{alias} is itself a join and stands on the right of one; join its tables one after the other"),
            ));
        };
        let number = self.inputs.len();
        let shifted: Vec<Expression> = bound.query.projection.iter().map(|e| shift(e, number, kind)).collect();
        if !shifted.iter().all(|e| matches!(e.kind, ExpressionKind::Column(_))) {
            return Err(SqlError::at(
                at,
                format!(
                    "view {alias} computes columns and stands on the right of a join; compute them in the outer SELECT"
                ),
            ));
        }
        let own_filter = bound.query.filter.map(|f| relocated(&f, number, false));
        self.inputs.push(Input { table: input.table, alias: alias.clone(), join: None, filter: own_filter });
        self.add(alias, bound.names.into_iter().zip(shifted).collect(), at)?;
        let mut on = Vec::new();
        for part in conjuncts(condition) {
            self.condition(part, number, &mut on)?;
        }
        if on.is_empty() {
            return Err(SqlError::at(
                place(condition.span(), at),
                "a join needs at least one equality of two columns; write ON a.x = b.y",
            ));
        }
        self.inputs[number].join = Some(Join { kind, on });
        Ok(())
    }

    /// One part of ON: an equality across, or a condition on the joined table alone.
    fn condition(&mut self, part: &Expr, number: usize, on: &mut Vec<JoinKey>) -> Result<(), SqlError> {
        let at = part.span().start;
        let bound = Binder::new(&self.scope, at).boolean(part, "the condition of ON")?;
        if let ExpressionKind::Call(Function::Equal, sides) = &bound.kind
            && let [ExpressionKind::Column(a), ExpressionKind::Column(b)] = [&sides[0].kind, &sides[1].kind]
            && (a.input == number) != (b.input == number)
        {
            let (left, right) = if b.input == number { (*a, b.column) } else { (*b, a.column) };
            if sides.iter().any(|s| s.data_type.is_floating()) {
                return Err(SqlError::at(
                    at,
                    "FLOAT and DOUBLE cannot be join keys: equality of rounded numbers is no identity",
                ));
            }
            on.push(JoinKey { left, right });
            return Ok(());
        }
        let mut own = true;
        bound.for_each_column(&mut |c| own &= c.input == number);
        if own {
            let before = self.inputs[number].filter.take();
            self.inputs[number].filter = Some(and(before, bound));
            return Ok(());
        }
        Err(SqlError::at(
            at,
            format!(
                "`{part}` is no equality of a column of the joined table with a column before it; write ON a.x = b.y, and the rest in WHERE"
            ),
        ))
    }
}

fn alias_of(alias: Option<&ast::TableAlias>, at: Location) -> Result<Option<String>, SqlError> {
    match alias {
        Some(alias) if !alias.columns.is_empty() => {
            Err(SqlError::at(at, "column names after an alias are not supported; name them in the SELECT"))
        }
        Some(alias) => Ok(Some(alias.name.value.clone())),
        None => Ok(None),
    }
}

fn whole_table(id: TableId, table: &Table, alias: &str) -> Bound {
    let column = |number: usize| Expression {
        kind: ExpressionKind::Column(ColumnRef { input: 0, column: number }),
        data_type: table.columns[number].data_type,
        nullable: table.columns[number].nullable,
    };
    let projection = (0..table.columns.len()).map(column).collect();
    let input = Input { table: id, alias: alias.to_owned(), join: None, filter: None };
    Bound {
        query: Query { inputs: vec![input], filter: None, projection },
        names: table.columns.iter().map(|c| c.name.clone()).collect(),
    }
}

fn conjuncts(condition: &Expr) -> Vec<&Expr> {
    let (mut waiting, mut parts) = (vec![condition], Vec::new());
    while let Some(next) = waiting.pop() {
        match next {
            Expr::BinaryOp { left, op: ast::BinaryOperator::And, right } => {
                waiting.extend([right.as_ref(), left.as_ref()]);
            }
            Expr::Nested(inner) => waiting.push(inner),
            other => parts.push(other),
        }
    }
    parts
}

/// The expression of a single-input query, as it stands when that input is number `input` of a join.
fn shift(expression: &Expression, input: usize, kind: JoinKind) -> Expression {
    relocated(expression, input, kind == JoinKind::Left)
}

/// The expression with every column in input `input`; nullable where that input can be null-padded.
fn relocated(expression: &Expression, input: usize, padded: bool) -> Expression {
    let kind = match &expression.kind {
        ExpressionKind::Column(c) => ExpressionKind::Column(ColumnRef { input, column: c.column }),
        ExpressionKind::Literal(value) => ExpressionKind::Literal(value.clone()),
        ExpressionKind::Call(function, arguments) => {
            ExpressionKind::Call(*function, arguments.iter().map(|a| relocated(a, input, padded)).collect())
        }
        ExpressionKind::Cast(inner) => ExpressionKind::Cast(Box::new(relocated(inner, input, padded))),
    };
    Expression { kind, data_type: expression.data_type, nullable: expression.nullable || padded }
}
