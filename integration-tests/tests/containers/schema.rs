//! As much of JSON Schema as `fixtures/certificate.schema.json` uses; a schema with more is refused, so that nothing in it goes
//! unchecked.

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

const KNOWN: [&str; 12] = [
    "$schema",
    "$defs",
    "$ref",
    "title",
    "description",
    "type",
    "required",
    "properties",
    "additionalProperties",
    "items",
    "enum",
    "const",
];

/// Checks a document against a schema.
pub fn validate(root: &Value, document: &Value) -> Result<()> {
    check(root, root, document).with_context(|| format!("{document:#}"))
}

fn check(root: &Value, schema: &Value, value: &Value) -> Result<()> {
    let keywords = schema.as_object().context("a schema is an object")?;
    if let Some(unknown) = keywords.keys().find(|keyword| !KNOWN.contains(&keyword.as_str())) {
        bail!("the schema has {unknown}, which this check does not know");
    }
    if let Some(reference) = keywords.get("$ref").and_then(Value::as_str) {
        let target = root.pointer(reference.trim_start_matches('#')).with_context(|| format!("no {reference}"))?;
        return check(root, target, value);
    }
    if let Some(wanted) = keywords.get("type") {
        let types: Vec<&str> = wanted
            .as_str()
            .into_iter()
            .chain(wanted.as_array().into_iter().flatten().filter_map(Value::as_str))
            .collect();
        ensure!(types.iter().any(|wanted| is(wanted, value)), "{value} is no {types:?}");
    }
    if let Some(allowed) = keywords.get("enum").and_then(Value::as_array) {
        ensure!(allowed.contains(value), "{value} is none of {allowed:?}");
    }
    if let Some(only) = keywords.get("const") {
        ensure!(only == value, "{value} is not {only}");
    }
    if let Value::Object(fields) = value {
        for required in keywords.get("required").and_then(Value::as_array).into_iter().flatten() {
            let name = required.as_str().context("a name")?;
            ensure!(fields.contains_key(name), "{name} is missing in {value}");
        }
        for (name, field) in fields {
            match (&schema["properties"][name], &schema["additionalProperties"]) {
                (Value::Null, Value::Bool(false)) => bail!("{name} is not allowed in {value}"),
                (Value::Null, Value::Object(_)) => check(root, &schema["additionalProperties"], field)?,
                (Value::Null, _) => {}
                (known, _) => check(root, known, field).with_context(|| format!("in {name}"))?,
            }
        }
    }
    if let (Value::Array(items), Some(schema)) = (value, keywords.get("items")) {
        items.iter().try_for_each(|item| check(root, schema, item))?;
    }
    Ok(())
}

fn is(wanted: &str, value: &Value) -> bool {
    match wanted {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        _ => false,
    }
}
