//! The value of a function, and of an expression over a joined row.

use std::cmp::Ordering;

use chrono::{Datelike, NaiveDateTime, NaiveTime, Timelike};

use super::{Function, cast};
use crate::plan::{ColumnRef, Expression, ExpressionKind};
use crate::text;
use crate::types::DataType;
use crate::value::Value;

impl Expression {
    /// Its value over a joined row; `column` gives the row's values, NULL for a null-padded input.
    pub fn evaluate<'a>(&self, column: &impl Fn(ColumnRef) -> &'a Value) -> Value {
        match &self.kind {
            ExpressionKind::Column(c) => column(*c).clone(),
            ExpressionKind::Literal(value) => value.clone(),
            ExpressionKind::Cast(inner) => cast(&inner.evaluate(column), inner.data_type, self.data_type),
            ExpressionKind::Call(function, arguments) => {
                let values: Vec<Value> = arguments.iter().map(|a| a.evaluate(column)).collect();
                function.evaluate(&values, self.data_type)
            }
        }
    }

    /// True where it is TRUE: neither FALSE nor NULL.
    pub fn holds<'a>(&self, column: &impl Fn(ColumnRef) -> &'a Value) -> bool {
        matches!(self.evaluate(column), Value::Boolean(true))
    }
}

impl Function {
    /// Its value for arguments of the types that [`Function::result_type`] accepted, where `result` is what that gave.
    #[must_use]
    pub fn evaluate(self, arguments: &[Value], result: DataType) -> Value {
        match self {
            Self::And => logical(arguments, false),
            Self::Or => logical(arguments, true),
            Self::IsNull => Value::Boolean(arguments[0].is_null()),
            Self::IsNotNull => Value::Boolean(!arguments[0].is_null()),
            Self::Coalesce => arguments.iter().find(|a| !a.is_null()).cloned().unwrap_or(Value::Null),
            Self::NullIf if arguments.iter().any(Value::is_null) => arguments[0].clone(),
            Self::NullIf => {
                if arguments[0] == arguments[1] {
                    Value::Null
                } else {
                    arguments[0].clone()
                }
            }
            Self::Case => case(arguments),
            _ if arguments.iter().any(Value::is_null) => Value::Null,
            _ => self.of_values(arguments, result),
        }
    }

    fn of_values(self, arguments: &[Value], result: DataType) -> Value {
        match (self, arguments) {
            (
                Self::Equal | Self::NotEqual | Self::Less | Self::LessOrEqual | Self::Greater | Self::GreaterOrEqual,
                [a, b],
            ) => Value::Boolean(self.holds_for(compare(a, b))),
            (Self::Not, [Value::Boolean(a)]) => Value::Boolean(!a),
            (Self::Add | Self::Subtract | Self::Multiply, [a, b]) => self.arithmetic(a, b, result),
            (Self::Negate, [a]) => Self::Subtract.arithmetic(&negative_zero(a), a, result),
            (Self::Abs, [Value::Integer(a)]) => Value::Integer(wrap(a.wrapping_abs(), result)),
            (Self::Abs, [Value::Float(a)]) => Value::Float(a.abs()),
            (Self::Abs, [Value::Double(a)]) => Value::Double(a.abs()),
            (Self::Year | Self::Month | Self::Day | Self::Hour | Self::Minute | Self::Second, [a]) => {
                self.part_of_date(a)
            }
            _ => self.of_strings(arguments),
        }
    }

    fn holds_for(self, order: Ordering) -> bool {
        match self {
            Self::Equal => order.is_eq(),
            Self::NotEqual => order.is_ne(),
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
            Self::Greater => order.is_gt(),
            _ => order.is_ge(),
        }
    }

    fn arithmetic(self, a: &Value, b: &Value, result: DataType) -> Value {
        match (self, a, b) {
            (Self::Add, Value::Integer(a), Value::Integer(b)) => Value::Integer(wrap(a.wrapping_add(*b), result)),
            (Self::Subtract, Value::Integer(a), Value::Integer(b)) => Value::Integer(wrap(a.wrapping_sub(*b), result)),
            (_, Value::Integer(a), Value::Integer(b)) => Value::Integer(wrap(a.wrapping_mul(*b), result)),
            (Self::Add, Value::Float(a), Value::Float(b)) => Value::Float(a + b),
            (Self::Subtract, Value::Float(a), Value::Float(b)) => Value::Float(a - b),
            (_, Value::Float(a), Value::Float(b)) => Value::Float(a * b),
            (Self::Add, Value::Double(a), Value::Double(b)) => Value::Double(a + b),
            (Self::Subtract, Value::Double(a), Value::Double(b)) => Value::Double(a - b),
            (_, Value::Double(a), Value::Double(b)) => Value::Double(a * b),
            _ => unreachable!("the binder lets only two numbers of one type pass, found {a:?} and {b:?}"),
        }
    }

    fn of_strings(self, arguments: &[Value]) -> Value {
        let text = |at: usize| match &arguments[at] {
            Value::String(text) => text.as_ref(),
            other => unreachable!("{self:?} takes strings, found {other:?}"),
        };
        match self {
            Self::Concat => Value::string(&(0..arguments.len()).map(text).collect::<String>()),
            Self::Upper => Value::string(&text(0).to_uppercase()),
            Self::Lower => Value::string(&text(0).to_lowercase()),
            Self::Trim => Value::string(text(0).trim_matches(' ')),
            Self::CharLength => Value::Integer(text(0).chars().count() as i64),
            Self::Substring => Value::string(&substring(text(0), &arguments[1..])),
            _ => unreachable!("{self:?} is no function of strings"),
        }
    }

    fn part_of_date(self, argument: &Value) -> Value {
        let at: Option<NaiveDateTime> = match argument {
            Value::Date(days) => text::date(*days).map(|d| d.and_time(NaiveTime::MIN)),
            Value::Timestamp(micros) => text::date_time(*micros),
            other => unreachable!("{self:?} takes a date or a timestamp, found {other:?}"),
        };
        at.map_or(Value::Null, |at| {
            Value::Integer(match self {
                Self::Year => at.year().into(),
                Self::Month => at.month().into(),
                Self::Day => at.day().into(),
                Self::Hour => at.hour().into(),
                Self::Minute => at.minute().into(),
                _ => at.second().into(),
            })
        })
    }
}

/// The order of two values that are comparable: of one type, or a FLOAT and a DOUBLE.
fn compare(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Float(a), Value::Double(_)) => Value::Double((*a).into()).cmp(b),
        (Value::Double(_), Value::Float(b)) => a.cmp(&Value::Double((*b).into())),
        _ => a.cmp(b),
    }
}

/// AND (`decisive` false) or OR (`decisive` true) in three-valued logic.
fn logical(arguments: &[Value], decisive: bool) -> Value {
    if arguments.contains(&Value::Boolean(decisive)) {
        return Value::Boolean(decisive);
    }
    if arguments.iter().any(Value::is_null) { Value::Null } else { Value::Boolean(!decisive) }
}

fn case(arguments: &[Value]) -> Value {
    let (branches, otherwise) = arguments.split_at(arguments.len() - 1);
    let chosen = branches.chunks_exact(2).find(|branch| branch[0] == Value::Boolean(true));
    chosen.map_or(&otherwise[0], |branch| &branch[1]).clone()
}

/// The lowest bits of an integer as its type has them.
fn wrap(value: i64, data_type: DataType) -> i64 {
    match data_type {
        DataType::TinyInt => (value as i8).into(),
        DataType::SmallInt => (value as i16).into(),
        DataType::Int => (value as i32).into(),
        _ => value,
    }
}

/// The zero from which subtracting negates: -0 - 0 is -0.
fn negative_zero(like: &Value) -> Value {
    match like {
        Value::Float(_) => Value::Float(-0.0),
        Value::Double(_) => Value::Double(-0.0),
        _ => Value::Integer(0),
    }
}

/// From code point `bounds[0]`, counted from 1; the binder lets only literal bounds of at least 1 and 0 pass.
fn substring(text: &str, bounds: &[Value]) -> String {
    let bound = |at: usize| match bounds.get(at) {
        Some(Value::Integer(v)) => usize::try_from(*v).unwrap_or(0),
        _ => usize::MAX,
    };
    text.chars().skip(bound(0).saturating_sub(1)).take(bound(1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logic_has_three_values() {
        let (t, f, n) = (Value::Boolean(true), Value::Boolean(false), Value::Null);
        assert_eq!(Function::And.evaluate(&[f.clone(), n.clone()], DataType::Boolean), f);
        assert_eq!(Function::And.evaluate(&[t.clone(), n.clone()], DataType::Boolean), n);
        assert_eq!(Function::Or.evaluate(&[t.clone(), n.clone()], DataType::Boolean), t);
        assert_eq!(Function::Equal.evaluate(&[n.clone(), n.clone()], DataType::Boolean), n);
    }

    #[test]
    fn integers_wrap_at_the_width_of_their_type() {
        let max = Value::Integer(i32::MAX.into());
        assert_eq!(Function::Add.evaluate(&[max, Value::Integer(1)], DataType::Int), Value::Integer(i32::MIN.into()));
    }

    #[test]
    fn substring_counts_code_points_from_one() {
        let arguments = [Value::string("äöü"), Value::Integer(2), Value::Integer(1)];
        assert_eq!(Function::Substring.evaluate(&arguments, DataType::String), Value::string("ö"));
    }
}
