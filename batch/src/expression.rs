//! The function table in Polars' terms (law L8: it agrees with [`Function::evaluate`]).
//!
//! Text is the exception: what a value looks like as text and how text is read is one treaty, in `shared::text`, and
//! conversions from and to STRING, DECIMAL and fractions of a second apply it to the column.

use lockstep_shared::functions::{Function, cast};
use lockstep_shared::plan::{ColumnRef, Expression, ExpressionKind};
use lockstep_shared::types::DataType;
use lockstep_shared::value::Value;
use polars::prelude::{self as pl, Expr, Field, coalesce, concat_str, lit, when};

use crate::frame::{literal, polars_type, series, values};

/// The expression, its columns named by `name`.
pub(crate) fn polars(expression: &Expression, name: &impl Fn(ColumnRef) -> String) -> Expr {
    match &expression.kind {
        ExpressionKind::Column(c) => pl::col(name(*c)),
        ExpressionKind::Literal(value) => literal(value, expression.data_type),
        ExpressionKind::Cast(inner) => converted(polars(inner, name), inner.data_type, expression.data_type),
        ExpressionKind::Call(function, arguments) => {
            let forms: Vec<Expr> = arguments.iter().map(|a| polars(a, name)).collect();
            call(*function, &forms, expression.data_type, arguments)
        }
    }
}

fn call(function: Function, a: &[Expr], result: DataType, arguments: &[Expression]) -> Expr {
    use Function as F;
    let first = || a[0].clone();
    let second = || a[1].clone();
    let minus = |x: Expr| x * lit(-1).cast(polars_type(result));
    match function {
        F::Equal => first().eq(second()),
        F::NotEqual => first().neq(second()),
        F::Less => first().lt(second()),
        F::LessOrEqual => first().lt_eq(second()),
        F::Greater => first().gt(second()),
        F::GreaterOrEqual => first().gt_eq(second()),
        F::And => first().and(second()),
        F::Or => first().or(second()),
        F::Not => first().not(),
        F::IsNull => first().is_null(),
        F::IsNotNull => first().is_not_null(),
        F::Add => first() + second(),
        F::Subtract => first() - second(),
        F::Multiply => first() * second(),
        F::Negate => minus(first()),
        // Adding zero makes a floating minus zero a zero, as ABS does.
        F::Abs => when(first().lt(lit(0).cast(polars_type(result))))
            .then(minus(first()))
            .otherwise(first() + lit(0).cast(polars_type(result))),
        F::Concat => concat_str(a, "", false),
        F::Upper => first().str().to_uppercase(),
        F::Lower => first().str().to_lowercase(),
        F::Trim => first().str().strip_chars(lit(" ")),
        F::CharLength => first().str().len_chars().cast(pl::DataType::Int32),
        F::Substring => {
            let number = |n: usize| match arguments.get(n).map(|a| &a.kind) {
                Some(ExpressionKind::Literal(Value::Integer(v))) => Some(*v),
                _ => None,
            };
            let length = number(2).map_or_else(|| lit(u64::MAX), |length| lit(length.cast_unsigned()));
            first().str().slice(lit(number(1).unwrap_or(1) - 1), length)
        }
        F::Coalesce => coalesce(a),
        F::NullIf => when(first().eq(second())).then(literal(&Value::Null, result)).otherwise(first()),
        F::Case => {
            let (otherwise, branches) = (a[a.len() - 1].clone(), &a[..a.len() - 1]);
            branches.chunks_exact(2).rev().fold(otherwise, |otherwise, branch| {
                when(branch[0].clone()).then(branch[1].clone()).otherwise(otherwise)
            })
        }
        F::Year => first().dt().year().cast(pl::DataType::Int64),
        F::Month => first().dt().month().cast(pl::DataType::Int64),
        F::Day => first().dt().day().cast(pl::DataType::Int64),
        F::Hour => first().dt().hour().cast(pl::DataType::Int64),
        F::Minute => first().dt().minute().cast(pl::DataType::Int64),
        F::Second => first().dt().second().cast(pl::DataType::Int64),
    }
}

fn converted(inner: Expr, from: DataType, to: DataType) -> Expr {
    let plain = |t: DataType| t.is_integer() || t.is_floating() || t == DataType::Date;
    if (plain(from) && plain(to))
        || (from == DataType::Date && to.is_timestamp())
        || (from.is_timestamp() && to == DataType::Date)
    {
        return inner.cast(polars_type(to));
    }
    let convert = move |column: pl::Column| {
        let converted: Vec<Value> = values(&column).iter().map(|v| cast(v, from, to)).collect();
        series(column.name(), &converted, to).map(Into::into)
    };
    inner.map(convert, move |_, field| Ok(Field::new(field.name().clone(), polars_type(to))))
}

#[cfg(test)]
mod tests;
