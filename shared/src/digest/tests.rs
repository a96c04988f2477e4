//! Digests are equal exactly where [`differences`] finds none, for random documents and spellings.

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;
use crate::document::{differences, to_json, write_json};
use crate::value::Value;

const TYPES: [DataType; 10] = [
    DataType::String,
    DataType::Boolean,
    DataType::Int,
    DataType::BigInt,
    DataType::Float,
    DataType::Double,
    DataType::Decimal { precision: 10, scale: 2 },
    DataType::Decimal { precision: 20, scale: 4 },
    DataType::Date,
    DataType::Timestamp { precision: 3 },
];

fn columns() -> Vec<Column> {
    let column = |(number, data_type)| Column { name: format!("c{number}"), data_type, nullable: true };
    TYPES.into_iter().enumerate().map(column).collect()
}

/// Few values of each type, so that two documents are often equal in a field.
fn value(data_type: DataType) -> BoxedStrategy<Value> {
    let small = 0_i64..3;
    let some = match data_type {
        DataType::String => prop::sample::select(vec!["", "a", "1", "ä\"\\\n"]).prop_map(Value::string).boxed(),
        DataType::Boolean => any::<bool>().prop_map(Value::Boolean).boxed(),
        DataType::Int | DataType::BigInt => {
            prop::sample::select(vec![0, 1, -1, 1 << 31, i64::MAX]).prop_map(Value::Integer).boxed()
        }
        DataType::Float => prop::sample::select(vec![0.0, -0.0, 1.0, 0.1, f32::NAN]).prop_map(Value::Float).boxed(),
        DataType::Double => {
            prop::sample::select(vec![0.0, -0.0, 1.0, 0.1, f64::INFINITY]).prop_map(Value::Double).boxed()
        }
        DataType::Decimal { .. } => small.prop_map(|v| Value::Decimal((v * 50).into())).boxed(),
        DataType::Date => small.prop_map(|v| Value::Date(v as i32)).boxed(),
        _ => prop::sample::select(vec![0, 1_000, 86_400_000_000, i64::MAX]).prop_map(Value::Timestamp).boxed(),
    };
    prop_oneof![1 => Just(Value::Null), 4 => some].boxed()
}

fn document() -> impl Strategy<Value = Vec<Value>> {
    TYPES.map(value).to_vec()
}

/// A field's JSON, or another spelling of it, or something else.
fn spelt(value: &Value, data_type: DataType, spelling: u8) -> Option<Json> {
    let plain = to_json(value, data_type);
    match (spelling, &plain) {
        (0, Json::Null) => None,
        (1, Json::Number(n)) => n.as_f64().map(|v| json!(v)).or(Some(plain)),
        (2, Json::Number(n)) if n.as_f64().is_some_and(|v| v.fract() == 0.0 && v.abs() < 1e15) => {
            n.as_f64().map(|v| json!(v as i64))
        }
        (3, Json::String(_)) if data_type.is_timestamp() => match value {
            Value::Timestamp(v) => Some(json!(v / 1000)),
            _ => Some(plain),
        },
        (4, Json::String(text)) if data_type.is_timestamp() => {
            Some(json!(text.replace('T', " ").replace('Z', "+00:00")))
        }
        (5, Json::Number(n)) => Some(json!(n.to_string())),
        (6, _) => Some(json!([plain])),
        (7, _) => Some(json!({"a": 1})),
        _ => Some(plain),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn digests_are_equal_exactly_where_no_field_differs(
        expected in document(),
        other in prop::collection::vec(any::<prop::sample::Index>(), 0..3),
        instead in document(),
        spellings in prop::collection::vec(0_u8..30, TYPES.len()),
        unknown in prop::option::weighted(0.1, Just("x")),
    ) {
        let columns = columns();
        let mut found = expected.clone();
        for index in &other {
            let at = index.index(TYPES.len());
            found[at] = instead[at].clone();
        }
        let mut fields = serde_json::Map::new();
        for ((value, column), spelling) in found.iter().zip(&columns).zip(&spellings) {
            if let Some(json) = spelt(value, column.data_type, *spelling) {
                fields.insert(column.name.clone(), json);
            }
        }
        if let Some(name) = unknown {
            fields.insert(name.into(), json!(1));
        }
        let found = Json::Object(fields);
        let differ = differences(&columns, &expected, &found);
        let should = of_values("id", expected.iter().map(Scalar::from));
        let is = of_source(&columns, "id", &found.to_string());
        prop_assert_eq!(should == is, differ.is_empty(), "{:?} of {}", differ, found);
        prop_assert_ne!(should, of_values("other", expected.iter().map(Scalar::from)));
    }

    #[test]
    fn what_is_written_has_the_digest_of_its_values(expected in document()) {
        let (columns, mut written) = (columns(), Vec::new());
        write_json(&columns, &expected, &mut written);
        prop_assert_eq!(of_source(&columns, "id", std::str::from_utf8(&written).unwrap()), of_values("id", expected.iter().map(Scalar::from)));
    }
}

#[test]
fn a_digest_is_the_same_in_every_version_since_indexes_keep_it() {
    let columns = [
        Column { name: "a".into(), data_type: DataType::String, nullable: true },
        Column { name: "b".into(), data_type: DataType::Double, nullable: true },
    ];
    let digest = of_source(&columns, "id", r#"{"b":1,"a":"x"}"#);
    assert_eq!(digest, of_values("id", [Scalar::String("x"), Scalar::Double(1.0)].into_iter()));
    assert_eq!(digest.carried(), digest.carried() & ((1 << CARRIED_BITS) - 1));
    assert_eq!(digest.0, FIXED, "{:#x}", digest.0);
}

const FIXED: u128 = 0xdd58_965f_d767_6064_05d3_e04b_643f_c9e4;

#[test]
fn what_is_no_object_is_no_document() {
    let empty = of_source(&[], "id", "{}");
    assert_eq!(empty, of_values("id", std::iter::empty()));
    for other in ["null", "[]", "1", "", "{", "{}{}"] {
        assert_ne!(of_source(&[], "id", other), empty, "{other}");
    }
}
