//! The options of connectors: which there are, which are needed, and `${NAME}`.

use std::collections::BTreeMap;

use super::error::{SqlError, suggestion};
use super::statements::{Name, TableStatement};

/// What a table is for, by its connector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Source,
    Sink,
    /// `filesystem`: what an INSERT fills is a sink.
    Either,
}

struct Connector {
    name: &'static str,
    role: Role,
    required: &'static [&'static str],
    optional: &'static [&'static str],
}

const KAFKA_OPTIONAL: [&str; 9] = [
    "format",
    "value.format",
    "key.format",
    "key.fields",
    "value.fields-include",
    "scan.startup.mode",
    "json.ignore-parse-errors",
    "json.fail-on-missing-field",
    "json.timestamp-format.standard",
];

/// Those of Flink that say how it batches and retries are taken and have no effect: Lockstep batches and retries by itself.
const INDEX_OPTIONAL: [&str; 14] = [
    "format",
    "username",
    "password",
    "document-id.key-delimiter",
    "sink.bulk-flush.max-actions",
    "sink.bulk-flush.max-size",
    "sink.bulk-flush.interval",
    "sink.bulk-flush.backoff.strategy",
    "sink.bulk-flush.backoff.max-retries",
    "sink.bulk-flush.backoff.delay",
    "sink.flush-on-checkpoint",
    "sink.delivery-guarantee",
    "connection.request-timeout",
    "sink.parallelism",
];

const CONNECTORS: [Connector; 8] = [
    Connector {
        name: "kafka",
        role: Role::Source,
        required: &["topic", "properties.bootstrap.servers"],
        optional: &KAFKA_OPTIONAL,
    },
    Connector {
        name: "upsert-kafka",
        role: Role::Source,
        required: &["topic", "properties.bootstrap.servers", "key.format"],
        optional: &KAFKA_OPTIONAL,
    },
    Connector { name: "filesystem", role: Role::Either, required: &["path"], optional: &["format", "key.format"] },
    Connector { name: "elasticsearch-7", role: Role::Sink, required: &["hosts", "index"], optional: &INDEX_OPTIONAL },
    Connector { name: "elasticsearch-8", role: Role::Sink, required: &["hosts", "index"], optional: &INDEX_OPTIONAL },
    Connector { name: "opensearch", role: Role::Sink, required: &["hosts", "index"], optional: &INDEX_OPTIONAL },
    Connector { name: "print", role: Role::Sink, required: &[], optional: &[] },
    Connector { name: "blackhole", role: Role::Sink, required: &[], optional: &[] },
];

/// Options that take one of a few values.
const CHOICES: [(&str, &[&str]); 8] = [
    ("format", &["json"]),
    ("value.format", &["json"]),
    ("key.format", &["raw", "json"]),
    ("value.fields-include", &["ALL", "EXCEPT_KEY"]),
    ("scan.startup.mode", &["earliest-offset", "group-offsets"]),
    ("json.ignore-parse-errors", &["true", "false"]),
    ("json.fail-on-missing-field", &["false"]),
    ("json.timestamp-format.standard", &["SQL", "ISO-8601"]),
];

/// The checked options of a table, overrides applied and `${NAME}` replaced, and what the table is for.
pub(super) fn check(
    table: &TableStatement,
    overrides: &BTreeMap<String, String>,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<(Role, BTreeMap<String, String>), Vec<SqlError>> {
    let mut errors = Vec::new();
    let mut written: Vec<(Name, String)> =
        table.options.iter().map(|(name, value)| (name.clone(), value.text.clone())).collect();
    for (name, value) in overrides {
        match written.iter_mut().find(|(known, _)| known.text == *name) {
            Some((_, old)) => old.clone_from(value),
            None => written.push((Name { text: name.clone(), at: table.name.at }, value.clone())),
        }
    }
    // An override without a value takes the option away, as another connector may need.
    written.retain(|(name, _)| overrides.get(&name.text).is_none_or(|value| !value.is_empty()));
    let mut options = BTreeMap::new();
    for (name, value) in &written {
        match replaced(value, environment) {
            Ok(value) => {
                options.insert(name.text.clone(), value);
            }
            Err(message) => errors.push(SqlError::at(name.at, format!("option '{}': {message}", name.text))),
        }
    }
    let at = table.name.at;
    let Some(connector) = options.get("connector") else {
        errors.push(SqlError::at(at, format!("table {} has no 'connector'", table.name.text)));
        return Err(errors);
    };
    let Some(connector) = CONNECTORS.iter().find(|c| c.name == connector) else {
        let near = suggestion(connector, CONNECTORS.iter().map(|c| c.name));
        errors.push(SqlError::at(
            at,
            format!("table {}: connector '{connector}' is not supported{near}", table.name.text),
        ));
        return Err(errors);
    };
    errors.extend(written.iter().filter_map(|(name, _)| refused(connector, name, &options)));
    for required in connector.required.iter().filter(|required| !options.contains_key(**required)) {
        errors.push(SqlError::at(
            at,
            format!("table {}: connector '{}' needs option '{required}'", table.name.text, connector.name),
        ));
    }
    if connector.name == "upsert-kafka" && table.key.is_empty() {
        errors
            .push(SqlError::at(at, format!("table {}: connector 'upsert-kafka' needs a PRIMARY KEY", table.name.text)));
    }
    if errors.is_empty() { Ok((connector.role, options)) } else { Err(errors) }
}

fn refused(connector: &Connector, name: &Name, options: &BTreeMap<String, String>) -> Option<SqlError> {
    let is_kafka = connector.name.ends_with("kafka");
    let mut known = connector.required.iter().chain(connector.optional).copied().chain(["connector"]);
    let is_property = is_kafka && name.text.starts_with("properties.");
    if !is_property && !known.any(|k| k == name.text) {
        let near = suggestion(&name.text, connector.required.iter().chain(connector.optional).copied());
        return Some(SqlError::at(
            name.at,
            format!("connector '{}' has no option '{}'{near}", connector.name, name.text),
        ));
    }
    let value = options.get(&name.text)?;
    let (_, choices) = CHOICES.iter().find(|(option, _)| *option == name.text)?;
    if choices.contains(&value.as_str()) {
        return None;
    }
    let choices: Vec<String> = choices.iter().map(|c| format!("'{c}'")).collect();
    Some(SqlError::at(
        name.at,
        format!("option '{}' cannot be '{value}'; it can be {}", name.text, choices.join(" or ")),
    ))
}

/// `${NAME}` becomes the variable's value.
fn replaced(value: &str, environment: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let (mut out, mut rest) = (String::new(), value);
    while let Some((before, after)) = rest.split_once("${") {
        let (name, after) = after.split_once('}').ok_or("`${` without `}`")?;
        out.push_str(before);
        out.push_str(&environment(name).ok_or_else(|| format!("environment variable {name} is not set"))?);
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}
