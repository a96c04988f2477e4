//! The mapping of a sink's index, and how a live one differs. Pure.

use serde_json::{Value as Json, json};

use super::carried;
use crate::plan::Column;
use crate::types::{DataType, MAX_DECIMAL_PRECISION_AS_NUMBER};

/// Longest text that can be searched, in characters; a longer one is kept and not indexed. Lucene takes 32,766 bytes.
const LONGEST_TERM_CHARS: u32 = 8_191;
/// How long the server remembers the version of a deleted document: longer than any replay.
pub(super) const KEEP_DELETES: &str = "1h";

/// The body that creates the index.
#[must_use]
pub fn creation(columns: &[Column]) -> Json {
    let mut properties: serde_json::Map<String, Json> =
        columns.iter().map(|c| (c.name.clone(), field(c.data_type))).collect();
    properties.insert(carried::FIELD.into(), carried::field());
    json!({
        "settings": {"index": {"gc_deletes": KEEP_DELETES}},
        "mappings": {
            "dynamic": "strict",
            "_source": {"excludes": [carried::FIELD]},
            "properties": properties,
        },
    })
}

fn field(data_type: DataType) -> Json {
    match kind(data_type) {
        "keyword" => json!({"type": "keyword", "ignore_above": LONGEST_TERM_CHARS}),
        kind => json!({"type": kind}),
    }
}

fn kind(data_type: DataType) -> &'static str {
    match data_type {
        DataType::String => "keyword",
        DataType::Boolean => "boolean",
        DataType::TinyInt => "byte",
        DataType::SmallInt => "short",
        DataType::Int => "integer",
        DataType::BigInt => "long",
        DataType::Float => "float",
        DataType::Decimal { precision, .. } if precision > MAX_DECIMAL_PRECISION_AS_NUMBER => "keyword",
        DataType::Double | DataType::Decimal { .. } => "double",
        DataType::Date | DataType::Timestamp { .. } | DataType::TimestampLtz { .. } => "date",
    }
}

/// Where a live mapping (`{"properties": …}`) cannot hold the columns, a sentence for each.
#[must_use]
pub fn differences(columns: &[Column], live: &Json) -> Vec<String> {
    let differs = |column: &Column| {
        let wanted = kind(column.data_type);
        match live["properties"][&column.name]["type"].as_str() {
            Some(found) if found == wanted => None,
            Some(found) => Some(format!("field {} is {found}, and {} needs {wanted}", column.name, column.data_type)),
            None => Some(format!("field {} is not there, and {} needs {wanted}", column.name, column.data_type)),
        }
    };
    columns.iter().filter_map(differs).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_creation_makes_fits_and_another_type_does_not() {
        let column = |name: &str, data_type| Column { name: name.into(), data_type, nullable: true };
        let columns = [column("a", DataType::String), column("b", DataType::Timestamp { precision: 3 })];
        let created = creation(&columns);
        assert_eq!(differences(&columns, &created["mappings"]), Vec::<String>::new());
        let other = [column("a", DataType::Int), column("c", DataType::Double)];
        assert_eq!(
            differences(&other, &created["mappings"]),
            ["field a is keyword, and INT needs integer", "field c is not there, and DOUBLE needs double"]
        );
    }
}
