//! Columns and shapes of Lens, as Kibana 8.7 stores them.

use serde_json::{Value as Json, json};

/// Groups that a chart shows.
const GROUPS: u64 = 10;

/// A column with its id.
pub(super) type Column = (&'static str, Json);

fn metric(label: &str, operation: &str, field: &str) -> Json {
    json!({
        "label": label, "customLabel": true, "dataType": "number", "operationType": operation, "sourceField": field,
        "isBucketed": false, "scale": "ratio", "params": {"emptyAsNull": false},
    })
}

/// Documents.
pub(super) fn count(label: &str) -> Json {
    metric(label, "count", "___records___")
}

/// Distinct values of a field.
pub(super) fn unique_count(label: &str, field: &str) -> Json {
    metric(label, "unique_count", field)
}

/// The sum of a field.
pub(super) fn sum(label: &str, field: &str) -> Json {
    metric(label, "sum", field)
}

/// The mean of a field.
pub(super) fn average(label: &str, field: &str) -> Json {
    metric(label, "average", field)
}

/// The groups of a keyword field with most of a column. Ordered by that column: by name, they would be the head of the
/// alphabet and not the top.
pub(super) fn top(label: &str, field: &str, second: Option<&str>, by: &str) -> Json {
    let mut params = json!({
        "size": GROUPS, "orderBy": {"type": "column", "columnId": by}, "orderDirection": "desc",
        "otherBucket": false, "missingBucket": false, "parentFormat": {"id": "terms"},
    });
    if let Some(second) = second {
        params["secondaryFields"] = json!([second]);
        params["parentFormat"] = json!({"id": "multi_terms"});
    }
    json!({
        "label": label, "customLabel": true, "dataType": "string", "operationType": "terms", "sourceField": field,
        "isBucketed": true, "scale": "ordinal", "params": params,
    })
}

/// The hours of the day, in their order.
pub(super) fn hours(label: &str, field: &str) -> Json {
    json!({
        "label": label, "customLabel": true, "dataType": "number", "operationType": "terms", "sourceField": field,
        "isBucketed": true, "scale": "ordinal",
        "params": {
            "size": 24, "orderBy": {"type": "alphabetical", "fallback": false}, "orderDirection": "asc",
            "otherBucket": false, "missingBucket": false, "parentFormat": {"id": "terms"},
        },
    })
}

/// Time buckets that fit the range.
pub(super) fn over_time(label: &str, field: &str) -> Json {
    json!({
        "label": label, "customLabel": true, "dataType": "date", "operationType": "date_histogram", "sourceField": field,
        "isBucketed": true, "scale": "interval",
        "params": {"interval": "auto", "includeEmptyRows": true, "dropPartials": false},
    })
}

/// `count() / unique_count(field)` as a formula and the columns that it is made of.
pub(super) fn count_per_distinct(id: &'static str, parts: [&'static str; 3], label: &str, field: &str) -> Vec<Column> {
    let [counted, distinct, divided] = parts;
    let formula = format!("count() / unique_count({field})");
    let part = format!("Part of {label}");
    let tree = json!({
        "type": "function", "name": "divide", "args": [counted, distinct],
        "location": {"min": 0, "max": formula.len()}, "text": formula,
    });
    let derived = |label: &str, operation: &str, params: Json, references: Json| {
        json!({
            "label": label, "customLabel": true, "dataType": "number", "operationType": operation,
            "isBucketed": false, "scale": "ratio", "params": params, "references": references,
        })
    };
    let formula = json!({"formula": formula, "isFormulaBroken": false});
    vec![
        (id, derived(label, "formula", formula, json!([divided]))),
        (counted, count(&part)),
        (distinct, unique_count(&part, field)),
        (divided, derived(&part, "math", json!({"tinymathAst": tree}), json!([counted, distinct]))),
    ]
}
