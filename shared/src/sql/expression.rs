//! Scalar expressions: names to columns, types checked, everything that the function table lacks refused by name.

use sqlparser::ast::{self, BinaryOperator, CastKind, Expr, Spanned, UnaryOperator};
use sqlparser::tokenizer::Location;

use super::coercion::{converted, untyped_null, widen};
use super::error::{SqlError, suggestion};
use super::query::Scope;
use super::types;
use crate::functions::{CastRule, Function, cast_rule};
use crate::plan::{Expression, ExpressionKind};
use crate::text;
use crate::types::DataType;
use crate::value::Value;

/// Deepest nesting of an expression: `a + b + c` is two deep.
const MAX_DEPTH: usize = 200;

/// Binds expressions in a scope. `at` is the place of what has none of its own.
pub(super) struct Binder<'a> {
    scope: &'a Scope,
    at: Location,
    depth: usize,
}

impl<'a> Binder<'a> {
    pub(super) fn new(scope: &'a Scope, at: Location) -> Self {
        Self { scope, at, depth: 0 }
    }

    fn place(&self, expression: &Expr) -> Location {
        match expression.span().start {
            Location { line: 0, .. } => self.at,
            place => place,
        }
    }

    fn error<T>(&self, expression: &Expr, message: impl Into<String>) -> Result<T, SqlError> {
        Err(SqlError::at(self.place(expression), message))
    }

    /// A condition.
    pub(super) fn boolean(&mut self, expression: &Expr, what: &str) -> Result<Expression, SqlError> {
        let bound = self.bind(expression)?;
        if bound.data_type == DataType::Boolean {
            return Ok(bound);
        }
        self.error(expression, format!("{what} is a {}; expected a condition", bound.data_type))
    }

    pub(super) fn bind(&mut self, expression: &Expr) -> Result<Expression, SqlError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return self.error(expression, format!("the expression is nested more than {MAX_DEPTH} deep"));
        }
        let bound = self.bind_inner(expression);
        self.depth -= 1;
        bound
    }

    fn bind_inner(&mut self, expression: &Expr) -> Result<Expression, SqlError> {
        use Function as F;
        match expression {
            Expr::Identifier(name) => self.scope.column(None, name),
            Expr::CompoundIdentifier(parts) => match parts.as_slice() {
                [relation, name] => self.scope.column(Some(relation), name),
                _ => self.error(expression, "write a column as alias.column"),
            },
            Expr::Nested(inner) => self.bind(inner),
            Expr::Value(value) => self.literal(expression, &value.value),
            Expr::TypedString(typed) => self.typed_literal(expression, typed),
            Expr::IsNull(inner) => self.call(expression, F::IsNull, "IS NULL", &[inner]),
            Expr::IsNotNull(inner) => self.call(expression, F::IsNotNull, "IS NOT NULL", &[inner]),
            Expr::UnaryOp { op: UnaryOperator::Not, expr } => self.call(expression, F::Not, "NOT", &[expr]),
            Expr::UnaryOp { op: UnaryOperator::Minus, expr } => self.negative(expression, expr),
            Expr::UnaryOp { op: UnaryOperator::Plus, expr } => self.bind(expr),
            Expr::BinaryOp { left, op, right } => {
                let function = operator(op);
                match function {
                    Some(function) => self.call(expression, function, &op.to_string(), &[left, right]),
                    None => self.error(expression, format!("the operator {op} is not supported{}", instead_of(op))),
                }
            }
            Expr::Between { expr, negated, low, high } => self.between(expression, expr, *negated, [low, high]),
            Expr::In { expr, target: ast::InTarget::List(list), negated, global: false } => {
                self.in_list(expression, expr, list, *negated)
            }
            Expr::Case { operand, conditions, else_result, .. } => {
                self.case(expression, operand.as_deref(), conditions, else_result.as_deref())
            }
            Expr::Cast { kind, expr, data_type, .. } => self.cast(expression, kind, expr, data_type),
            Expr::Extract { field, expr, .. } => self.extract(expression, &field.to_string(), expr),
            Expr::Substring { expr, substring_from: Some(from), substring_for, .. } => match substring_for {
                Some(length) => self.substring(expression, &[expr, from, length]),
                None => self.substring(expression, &[expr, from]),
            },
            Expr::Trim { trim_where: None, trim_what: None, trim_characters: None, expr } => {
                self.call(expression, F::Trim, "TRIM", &[expr])
            }
            Expr::Trim { .. } => self.error(expression, "TRIM takes the text alone, and removes spaces at both ends"),
            Expr::Function(function) => self.function(expression, function),
            Expr::Subquery(_) | Expr::Exists { .. } | Expr::In { .. } => {
                self.error(expression, "subqueries in expressions are not supported; write a join")
            }
            Expr::Like { .. } | Expr::ILike { .. } | Expr::SimilarTo { .. } => {
                self.error(expression, "LIKE is not supported; compare with SUBSTRING(text, start, length)")
            }
            other => self.error(expression, format!("`{}` is not supported", shortened(&other.to_string()))),
        }
    }

    fn extract(&mut self, whole: &Expr, field: &str, inner: &Expr) -> Result<Expression, SqlError> {
        use Function as F;
        let name = field.to_ascii_uppercase();
        let function = match name.as_str() {
            "YEAR" => F::Year,
            "MONTH" => F::Month,
            "DAY" => F::Day,
            "HOUR" => F::Hour,
            "MINUTE" => F::Minute,
            "SECOND" => F::Second,
            other => {
                return self.error(
                    whole,
                    format!("EXTRACT({other} …) is not supported; there are YEAR, MONTH, DAY, HOUR, MINUTE and SECOND"),
                );
            }
        };
        self.call(whole, function, "EXTRACT", &[inner])
    }

    fn literal(&self, expression: &Expr, value: &ast::Value) -> Result<Expression, SqlError> {
        match value {
            ast::Value::Number(digits, _) => number(digits)
                .ok_or_else(|| SqlError::at(self.place(expression), format!("the number {digits} fits no type"))),
            ast::Value::SingleQuotedString(text) => Ok(constant(Value::string(text), DataType::String)),
            ast::Value::Boolean(value) => Ok(constant(Value::Boolean(*value), DataType::Boolean)),
            ast::Value::Null => {
                self.error(expression, "NULL has no type here; write CAST(NULL AS type), or IS NULL to ask for it")
            }
            other => {
                self.error(expression, format!("the literal {other} is not supported; text stands in single quotes"))
            }
        }
    }

    fn typed_literal(&self, expression: &Expr, typed: &ast::TypedString) -> Result<Expression, SqlError> {
        let ast::Value::SingleQuotedString(content) = &typed.value.value else {
            return self.error(expression, "expected a text in single quotes");
        };
        let name = typed.data_type.to_string();
        let value = match name.as_str() {
            "DATE" => text::parse_date(content).map(|days| (Value::Date(days), DataType::Date)),
            "TIMESTAMP" => {
                let digits = content.rsplit_once('.').map_or(0, |(_, fraction)| fraction.len()).min(6);
                let data_type = DataType::Timestamp { precision: u8::try_from(digits).unwrap_or(6) };
                text::parse_timestamp(content).map(|micros| (Value::Timestamp(micros), data_type))
            }
            _ => {
                return self.error(
                    expression,
                    format!("literals of type {name} are not supported; there are DATE '…' and TIMESTAMP '…'"),
                );
            }
        };
        match value {
            Some((value, data_type)) => Ok(constant(value, data_type)),
            None => self.error(expression, format!("'{content}' is no {name}")),
        }
    }

    fn negative(&mut self, whole: &Expr, inner: &Expr) -> Result<Expression, SqlError> {
        if let Expr::Value(value) = inner
            && let ast::Value::Number(digits, _) = &value.value
            && let Some(literal) = number(&format!("-{digits}"))
        {
            return Ok(literal);
        }
        self.call(whole, Function::Negate, "-", &[inner])
    }

    fn call(
        &mut self,
        whole: &Expr,
        function: Function,
        name: &str,
        arguments: &[&Expr],
    ) -> Result<Expression, SqlError> {
        let bound: Result<Vec<_>, _> = arguments.iter().map(|a| self.bind(a)).collect();
        self.apply(whole, function, name, bound?)
    }

    fn apply(
        &self,
        whole: &Expr,
        function: Function,
        name: &str,
        mut arguments: Vec<Expression>,
    ) -> Result<Expression, SqlError> {
        widen(function, &mut arguments);
        let data_types: Vec<DataType> = arguments.iter().map(|a| a.data_type).collect();
        match function.result_type(&data_types) {
            Ok(data_type) => Ok(Expression {
                nullable: nullable(function, &arguments),
                data_type,
                kind: ExpressionKind::Call(function, arguments),
            }),
            Err(unsuitable) => self.error(whole, format!("{name} {}", unsuitable.0)),
        }
    }

    /// Start and length are literals: both forms of the function need them so.
    fn substring(&mut self, whole: &Expr, arguments: &[&Expr]) -> Result<Expression, SqlError> {
        let bound: Vec<Expression> = arguments.iter().map(|a| self.bind(a)).collect::<Result<_, _>>()?;
        let place = |e: &Expression| match e.kind {
            ExpressionKind::Literal(Value::Integer(n)) => Some(n),
            _ => None,
        };
        match bound.get(1..) {
            Some([start]) if place(start).is_some_and(|n| n >= 1) => {}
            Some([start, length]) if place(start).is_some_and(|n| n >= 1) && place(length).is_some_and(|n| n >= 0) => {}
            _ => {
                return self.error(
                    whole,
                    "SUBSTRING takes a STRING, a start from 1 on and, if wanted, a length, both integer literals",
                );
            }
        }
        self.apply(whole, Function::Substring, "SUBSTRING", bound)
    }

    fn between(
        &mut self,
        whole: &Expr,
        inner: &Expr,
        negated: bool,
        [low, high]: [&Expr; 2],
    ) -> Result<Expression, SqlError> {
        let above = self.call(whole, Function::GreaterOrEqual, "BETWEEN", &[inner, low])?;
        let below = self.call(whole, Function::LessOrEqual, "BETWEEN", &[inner, high])?;
        let both = self.apply(whole, Function::And, "BETWEEN", vec![above, below])?;
        self.negated(whole, negated, both)
    }

    fn negated(&self, whole: &Expr, negated: bool, inner: Expression) -> Result<Expression, SqlError> {
        if negated { self.apply(whole, Function::Not, "NOT", vec![inner]) } else { Ok(inner) }
    }

    fn in_list(&mut self, whole: &Expr, inner: &Expr, list: &[Expr], negated: bool) -> Result<Expression, SqlError> {
        let mut any: Option<Expression> = None;
        if list.len() > MAX_DEPTH {
            return self.error(whole, format!("IN takes at most {MAX_DEPTH} values"));
        }
        for item in list {
            let equal = self.call(whole, Function::Equal, "IN", &[inner, item])?;
            any = Some(match any {
                None => equal,
                Some(before) => self.apply(whole, Function::Or, "IN", vec![before, equal])?,
            });
        }
        match any {
            Some(any) => self.negated(whole, negated, any),
            None => self.error(whole, "IN takes at least one value"),
        }
    }

    fn case(
        &mut self,
        whole: &Expr,
        operand: Option<&Expr>,
        branches: &[ast::CaseWhen],
        otherwise: Option<&Expr>,
    ) -> Result<Expression, SqlError> {
        let mut arguments = Vec::with_capacity(branches.len() * 2 + 1);
        for branch in branches {
            arguments.push(match operand {
                Some(operand) => self.call(whole, Function::Equal, "CASE", &[operand, &branch.condition])?,
                None => self.boolean(&branch.condition, "the condition of WHEN")?,
            });
            arguments.push(self.bind_or_null(&branch.result)?);
        }
        arguments.push(match otherwise {
            Some(otherwise) => self.bind_or_null(otherwise)?,
            None => untyped_null(),
        });
        let typed =
            arguments.iter().skip(1).step_by(2).chain(arguments.last()).find(|a| !is_null(a)).map(|a| a.data_type);
        let Some(data_type) = typed else {
            return self.error(whole, "every branch of CASE is NULL; write CAST(NULL AS type) in one");
        };
        arguments.iter_mut().filter(|a| is_null(a)).for_each(|a| a.data_type = data_type);
        self.apply(whole, Function::Case, "CASE", arguments)
    }

    /// A bare NULL is typed by the other branches.
    fn bind_or_null(&mut self, expression: &Expr) -> Result<Expression, SqlError> {
        match expression {
            Expr::Value(value) if value.value == ast::Value::Null => Ok(untyped_null()),
            other => self.bind(other),
        }
    }

    fn cast(
        &mut self,
        whole: &Expr,
        kind: &CastKind,
        inner: &Expr,
        to: &ast::DataType,
    ) -> Result<Expression, SqlError> {
        let to = types::data_type(&to.to_string()).map_err(|message| SqlError::at(self.place(whole), message))?;
        if matches!(inner, Expr::Value(value) if value.value == ast::Value::Null) {
            return Ok(Expression { kind: ExpressionKind::Literal(Value::Null), data_type: to, nullable: true });
        }
        let inner = self.bind(inner)?;
        let from = inner.data_type;
        match (kind, cast_rule(from, to)) {
            (CastKind::DoubleColon | CastKind::SafeCast, _) => self.error(whole, format!("write CAST(… AS {to})")),
            (_, CastRule::Never) => self.error(whole, format!("{from} cannot be converted to {to}")),
            (CastKind::Cast, CastRule::Fallible) => {
                self.error(whole, format!("CAST from {from} to {to} can fail, and a failure would stop the pipeline; write TRY_CAST, which gives NULL"))
            }
            (_, rule) => {
                let mut cast = converted(inner, to);
                cast.nullable |= rule == CastRule::Fallible;
                Ok(cast)
            }
        }
    }

    fn function(&mut self, whole: &Expr, function: &ast::Function) -> Result<Expression, SqlError> {
        let name = function.name.to_string().to_ascii_uppercase();
        if function.over.is_some() {
            return self.error(whole, "OVER windows are not supported");
        }
        if matches!(name.as_str(), "COUNT" | "SUM" | "MIN" | "MAX" | "AVG" | "LISTAGG" | "COLLECT") {
            return self.error(
                whole,
                format!("{name} is an aggregate, which is not supported; aggregate in the dashboard's query"),
            );
        }
        if matches!(
            name.as_str(),
            "NOW" | "CURRENT_TIMESTAMP" | "PROCTIME" | "RAND" | "UUID" | "LOCALTIMESTAMP" | "CURRENT_DATE"
        ) {
            return self.error(whole, format!("{name} gives another value each time, so that a recompute could not agree; take a column of the record"));
        }
        let Some(known) = Function::by_name(&name) else {
            return self
                .error(whole, format!("function {name} is not supported{}", suggestion(&name, Function::NAMES)));
        };
        let ast::FunctionArguments::List(list) = &function.args else {
            return self.error(whole, format!("{name} takes its arguments in parentheses"));
        };
        let mut arguments = Vec::with_capacity(list.args.len());
        for argument in &list.args {
            match argument {
                ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(expression)) => arguments.push(expression),
                other => return self.error(whole, format!("{name} does not take `{other}`")),
            }
        }
        if list.duplicate_treatment.is_some() || !list.clauses.is_empty() {
            return self.error(whole, format!("{name} takes nothing but its arguments"));
        }
        match known {
            Function::Substring => self.substring(whole, &arguments),
            known => self.call(whole, known, &name, &arguments),
        }
    }
}

fn operator(op: &BinaryOperator) -> Option<Function> {
    Some(match op {
        BinaryOperator::Eq => Function::Equal,
        BinaryOperator::NotEq => Function::NotEqual,
        BinaryOperator::Lt => Function::Less,
        BinaryOperator::LtEq => Function::LessOrEqual,
        BinaryOperator::Gt => Function::Greater,
        BinaryOperator::GtEq => Function::GreaterOrEqual,
        BinaryOperator::And => Function::And,
        BinaryOperator::Or => Function::Or,
        BinaryOperator::Plus => Function::Add,
        BinaryOperator::Minus => Function::Subtract,
        BinaryOperator::Multiply => Function::Multiply,
        BinaryOperator::StringConcat => Function::Concat,
        _ => return None,
    })
}

fn instead_of(op: &BinaryOperator) -> &'static str {
    match op {
        BinaryOperator::Divide | BinaryOperator::Modulo => "; divide in the dashboard's query",
        BinaryOperator::Xor => "; write <>",
        _ => "",
    }
}

fn constant(value: Value, data_type: DataType) -> Expression {
    Expression { nullable: value.is_null(), kind: ExpressionKind::Literal(value), data_type }
}

fn is_null(expression: &Expression) -> bool {
    matches!(expression.kind, ExpressionKind::Literal(Value::Null))
}

/// Flink's types of numbers: INT or BIGINT, DECIMAL with a point, DOUBLE with an exponent.
fn number(digits: &str) -> Option<Expression> {
    if digits.contains(['e', 'E']) {
        return digits
            .parse()
            .ok()
            .filter(|v: &f64| v.is_finite())
            .map(|v| constant(Value::Double(v), DataType::Double));
    }
    let Some((whole, fraction)) = digits.split_once('.') else {
        let value: i64 = digits.parse().ok()?;
        let data_type = if i32::try_from(value).is_ok() { DataType::Int } else { DataType::BigInt };
        return Some(constant(Value::Integer(value), data_type));
    };
    let scale = u8::try_from(fraction.len()).ok()?;
    let precision = u8::try_from(whole.trim_start_matches(['-', '0']).len()).ok()?.checked_add(scale)?.max(1);
    let value = text::parse_decimal(digits, precision, scale)?;
    (precision <= crate::types::MAX_DECIMAL_PRECISION)
        .then(|| constant(Value::Decimal(value), DataType::Decimal { precision, scale }))
}

fn nullable(function: Function, arguments: &[Expression]) -> bool {
    match function {
        Function::IsNull | Function::IsNotNull => false,
        Function::Coalesce => arguments.iter().all(|a| a.nullable),
        Function::NullIf => true,
        Function::Case => arguments.iter().skip(1).step_by(2).chain(arguments.last()).any(|a| a.nullable),
        _ => arguments.iter().any(|a| a.nullable),
    }
}

fn shortened(text: &str) -> String {
    const SHOWN_CHARS: usize = 60;
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
