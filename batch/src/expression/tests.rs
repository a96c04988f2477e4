//! Law L8: every function and conversion in Polars against the definition, over random values.

use lockstep_shared::functions::{CastRule, cast_rule};
use polars::prelude::{DataFrame, IntoLazy};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;

const TYPES: [DataType; 12] = [
    DataType::String,
    DataType::Boolean,
    DataType::TinyInt,
    DataType::SmallInt,
    DataType::Int,
    DataType::BigInt,
    DataType::Float,
    DataType::Double,
    DataType::Decimal { precision: 12, scale: 3 },
    DataType::Date,
    DataType::Timestamp { precision: 3 },
    DataType::TimestampLtz { precision: 6 },
];

fn value(data_type: DataType) -> BoxedStrategy<Value> {
    let some = match data_type {
        DataType::String => {
            prop_oneof!["[ a-cÄß0-9.-]{0,6}", "-?[0-9]{1,4}", "20[0-9]{2}-0[1-9]-[12][0-9]", Just("true".to_owned())]
                .prop_map(|t: String| Value::string(&t))
                .boxed()
        }
        DataType::Boolean => any::<bool>().prop_map(Value::Boolean).boxed(),
        DataType::Float => prop_oneof![-9.0_f32..9.0, Just(1e30)].prop_map(Value::Float).boxed(),
        DataType::Double => prop_oneof![-9.0..9.0, Just(0.0), Just(1e300), Just(3e9)].prop_map(Value::Double).boxed(),
        DataType::Decimal { .. } => (-999_999_i128..999_999).prop_map(Value::Decimal).boxed(),
        DataType::Date => (-40_000..40_000).prop_map(Value::Date).boxed(),
        DataType::Timestamp { .. } | DataType::TimestampLtz { .. } => {
            (-4_000_000_000_000_i64..4_000_000_000_000).prop_map(|ms| Value::Timestamp(ms * 1_000)).boxed()
        }
        integer => {
            let (least, greatest) = integer.integer_range();
            prop_oneof![4 => -3_i64..4, 1 => Just(least), 1 => Just(greatest)].prop_map(Value::Integer).boxed()
        }
    };
    prop_oneof![4 => some, 1 => Just(Value::Null)].boxed()
}

/// Every list of up to three types that the function takes.
fn signatures(function: Function) -> Vec<Vec<DataType>> {
    let mut lists: Vec<Vec<DataType>> = TYPES.iter().map(|t| vec![*t]).collect();
    let pairs: Vec<Vec<DataType>> = TYPES.iter().flat_map(|a| TYPES.iter().map(|b| vec![*a, *b])).collect();
    let triples = TYPES.iter().map(|t| match function {
        Function::Case => vec![DataType::Boolean, *t, *t],
        _ => vec![*t, *t, *t],
    });
    lists.extend(pairs);
    lists.extend(triples);
    lists.retain(|list| function != Function::Substring && function.result_type(list).is_ok());
    lists
}

fn column(number: usize, data_type: DataType) -> Expression {
    Expression { kind: ExpressionKind::Column(ColumnRef { input: 0, column: number }), data_type, nullable: true }
}

/// Both forms over the same rows.
fn agree(expression: &Expression, types: &[DataType], rows: &[Vec<Value>]) -> Result<(), TestCaseError> {
    let columns: Vec<pl::Column> = types
        .iter()
        .enumerate()
        .map(|(n, t)| {
            let column: Vec<Value> = rows.iter().map(|row| row[n].clone()).collect();
            series(&format!("c{n}"), &column, *t).unwrap().into()
        })
        .collect();
    let frame = DataFrame::new(rows.len(), columns).unwrap();
    let form = polars(expression, &|c| format!("c{}", c.column)).alias("result");
    let result = frame.lazy().select([form]).collect().unwrap();
    let column = result.column("result").unwrap();
    prop_assert_eq!(column.dtype(), &polars_type(expression.data_type), "{:?}", expression);
    let expected: Vec<Value> = rows.iter().map(|row| expression.evaluate(&|c| &row[c.column])).collect();
    prop_assert_eq!(values(column), expected, "{:?} over {:?}", expression, rows);
    Ok(())
}

fn law(expression: &Expression, types: &[DataType]) {
    let row: Vec<BoxedStrategy<Value>> = types.iter().map(|t| value(*t)).collect();
    let rows = prop::collection::vec(row, 1..12);
    let mut runner = TestRunner::new(Config { cases: 24, failure_persistence: None, ..Config::default() });
    runner.run(&rows, |rows| agree(expression, types, &rows)).unwrap();
}

#[test]
fn l8_every_function_means_the_same_in_polars_and_in_the_definition() {
    for function in Function::ALL {
        let signatures = signatures(function);
        assert!(function == Function::Substring || !signatures.is_empty(), "{function:?} is never tried");
        for types in signatures {
            let data_type = function.result_type(&types).unwrap();
            let arguments = types.iter().enumerate().map(|(n, t)| column(n, *t)).collect();
            law(&Expression { kind: ExpressionKind::Call(function, arguments), data_type, nullable: true }, &types);
        }
    }
}

#[test]
fn l8_substring_means_the_same_in_polars_and_in_the_definition() {
    let number = |n: i64| Expression {
        kind: ExpressionKind::Literal(Value::Integer(n)),
        data_type: DataType::Int,
        nullable: false,
    };
    for (start, length) in [(1, None), (2, Some(2)), (9, Some(1)), (1, Some(0)), (3, None)] {
        let mut arguments = vec![column(0, DataType::String), number(start)];
        arguments.extend(length.map(number));
        let kind = ExpressionKind::Call(Function::Substring, arguments);
        law(&Expression { kind, data_type: DataType::String, nullable: true }, &[DataType::String]);
    }
}

#[test]
fn l8_every_conversion_means_the_same_in_polars_and_in_the_definition() {
    for from in TYPES {
        for to in TYPES.into_iter().filter(|to| cast_rule(from, *to) != CastRule::Never) {
            let kind = ExpressionKind::Cast(Box::new(column(0, from)));
            law(&Expression { kind, data_type: to, nullable: true }, &[from]);
        }
    }
}
