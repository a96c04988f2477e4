//! Whatever bytes a record has: a row of the table's shape, a delete of a key, or a reason of a reasonable length.

use std::collections::BTreeMap;

use lockstep_shared::coordinates::{Offset, Partition, Place};
use proptest::prelude::*;

use super::*;

/// Longest reason: what was found is cut, so that a record of megabytes does not come back in every report.
const LONGEST_REASON: usize = 1_500;

fn types() -> [DataType; 12] {
    use DataType as T;
    [
        T::String,
        T::Boolean,
        T::TinyInt,
        T::SmallInt,
        T::Int,
        T::BigInt,
        T::Float,
        T::Double,
        T::Decimal { precision: 38, scale: 10 },
        T::Date,
        T::Timestamp { precision: 3 },
        T::TimestampLtz { precision: 9 },
    ]
}

fn table(key: Vec<usize>, key_format: Option<&str>) -> Table {
    let columns = types().into_iter().enumerate();
    let columns = columns.map(|(n, t)| Column { name: format!("c{n}"), data_type: t, nullable: n % 3 != 1 }).collect();
    let options =
        key_format.map(|format| ("key.format".to_owned(), format.to_owned())).into_iter().collect::<BTreeMap<_, _>>();
    Table { name: "t".into(), columns, key, options }
}

fn json_text() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|b| b.to_string()),
        any::<i64>().prop_map(|n| n.to_string()),
        any::<f64>().prop_map(|n| format!("{n:e}")),
        "-?[0-9]{1,40}(\\.[0-9]{1,40})?([eE][+-]?[0-9]{1,4})?",
        "\"[0-9T:. +Z-]{0,30}\"",
        any::<String>().prop_map(|s| Json::String(s).to_string()),
        Just(Json::String("x".repeat(5_000)).to_string()),
        prop_oneof![
            Just("\"2021-02-29\""),
            Just("\"9999-12-31T23:59:59.999999999Z\""),
            Just("\"+262143-01-01\""),
            Just("1e400"),
            Just("-0")
        ]
        .prop_map(str::to_owned),
    ];
    leaf.prop_recursive(3, 40, 14, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(","))),
            prop::collection::vec(("c[0-9]{1,2}", inner), 0..14).prop_map(|fields| {
                let fields: Vec<String> = fields.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
                format!("{{{}}}", fields.join(","))
            }),
        ]
    })
}

fn bytes() -> impl Strategy<Value = Option<Vec<u8>>> {
    let torn = (json_text(), any::<prop::sample::Index>())
        .prop_map(|(text, end)| text.as_bytes()[..end.index(text.len().max(1))].to_vec());
    prop_oneof![
        1 => Just(None),
        2 => prop::collection::vec(any::<u8>(), 0..80).prop_map(Some),
        6 => json_text().prop_map(|text| Some(text.into_bytes())),
        1 => torn.prop_map(Some),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]
    #[test]
    fn any_bytes_are_a_row_a_delete_or_a_short_reason(key in bytes(), value in bytes(), keyed in 0..4_usize, at in 0..12_usize) {
        let place = Place { partition: Partition(0), offset: Offset(0) };
        let (columns, format) = [(vec![], None), (vec![at], None), (vec![at], Some("json")), (vec![at, (at + 1) % 12], Some("raw"))][keyed].clone();
        let table = table(columns, format);
        let decoded = Decoder::new(&table).decode(&RawRecord { place, timestamp_ms: None, key, value: value.clone() });
        match decoded.content {
            Content::Row(row) => {
                prop_assert!(value.is_some());
                prop_assert_eq!(row.len(), table.columns.len());
                prop_assert!(table.key.iter().all(|column| !row[*column].is_null()), "a row without its key: {:?}", row);
                let missing = table.columns.iter().zip(row.iter()).any(|(c, v)| !c.nullable && v.is_null());
                prop_assert!(!missing, "NULL where there must be none: {:?}", row);
            }
            Content::Delete(row) => {
                prop_assert!(value.is_none() && table.is_keyed());
                prop_assert!(table.key.iter().all(|column| !row[*column].is_null()), "a delete without its key: {:?}", row);
            }
            Content::Rejected(reason) => {
                prop_assert!(!reason.is_empty() && reason.len() <= LONGEST_REASON, "{} bytes: {}", reason.len(), reason);
            }
        }
    }
}
