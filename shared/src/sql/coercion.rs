//! Implicit conversion: which type stands for another without a CAST, and how arguments are brought to one type.

use crate::functions::{CastRule, Function, cast_rule};
use crate::plan::{Expression, ExpressionKind};
use crate::types::DataType;
use crate::value::Value;

/// The expression in another type.
pub(super) fn converted(inner: Expression, to: DataType) -> Expression {
    if inner.data_type == to {
        return inner;
    }
    Expression { nullable: inner.nullable, data_type: to, kind: ExpressionKind::Cast(Box::new(inner)) }
}

/// True where a value becomes the other type without being asked: to a wider number or a finer instant.
pub(super) fn is_implicit(from: DataType, to: DataType) -> bool {
    let number = |t: DataType| t.is_integer() || t.is_floating() || matches!(t, DataType::Decimal { .. });
    let same_kind = match (from, to) {
        (DataType::Date, to) => to.is_timestamp(),
        (from, to) if number(from) && number(to) => true,
        (from, to) => std::mem::discriminant(&from) == std::mem::discriminant(&to),
    };
    from == to || (same_kind && cast_rule(from, to) == CastRule::Always)
}

/// Brings the arguments that must agree to one type, where one of them can hold them all.
pub(super) fn widen(function: Function, arguments: &mut [Expression]) {
    use Function as F;
    let values: Vec<usize> = match function {
        F::Equal | F::NotEqual | F::Less | F::LessOrEqual | F::Greater | F::GreaterOrEqual if matches!(&*arguments, [a, b] if a.data_type.comparable_with(b.data_type)) =>
        {
            return;
        }
        F::Equal
        | F::NotEqual
        | F::Less
        | F::LessOrEqual
        | F::Greater
        | F::GreaterOrEqual
        | F::Add
        | F::Subtract
        | F::Multiply
        | F::Coalesce
        | F::NullIf => (0..arguments.len()).collect(),
        F::Case => (0..arguments.len()).filter(|n| n % 2 == 1 || n + 1 == arguments.len()).collect(),
        _ => return,
    };
    let Some(first) = values.first().map(|n| arguments[*n].data_type) else { return };
    let widest = values.iter().map(|n| arguments[*n].data_type).fold(first, |widest, other| {
        if is_implicit(widest, other) && !is_implicit(other, widest) { other } else { finer(widest, other) }
    });
    if values.iter().all(|n| is_implicit(arguments[*n].data_type, widest)) {
        for n in values {
            let argument = std::mem::replace(&mut arguments[n], untyped_null());
            arguments[n] = converted(argument, widest);
        }
    }
}

/// Of two timestamps of one kind the one with more digits; else the first.
fn finer(a: DataType, b: DataType) -> DataType {
    match (a, b) {
        (DataType::Timestamp { precision: p }, DataType::Timestamp { precision: q })
        | (DataType::TimestampLtz { precision: p }, DataType::TimestampLtz { precision: q })
            if q > p =>
        {
            b
        }
        _ => a,
    }
}

/// A NULL whose type its surroundings give.
pub(super) fn untyped_null() -> Expression {
    Expression { kind: ExpressionKind::Literal(Value::Null), data_type: DataType::String, nullable: true }
}
