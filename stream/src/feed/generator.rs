//! Random records for an Avro schema with data-generation annotations (`arg.properties`).
//!
//! Annotations: `options` (inline, or `{"file": …}` of a JSON array), `iteration` (`start`, `restart`, `step`), `range` (`min`, `max`),
//! `regex`, `length` (a number, or `min` and `max`), `prefix`, `suffix`, `odds` (of true), and for maps `keys`.
//! The same schema, seed and settings give the same records; two schemas draw apart even with one seed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Map, Value as Json, json};

/// Longest repetition that `*` and `+` of a regex give.
const MAX_REGEX_REPEAT: u32 = 20;
/// How deep a record may be nested; one that holds itself would never end.
const MAX_DEPTH: usize = 64;
/// Values and letters of one record: a mistaken length ends with a message and not with the machine's memory.
const MAX_PARTS: i64 = 1_000_000;
/// Length of a text or list for which none is given: 8 to 16.
const DEFAULT_LENGTH: (i64, i64) = (8, 16);

/// Why a schema cannot be generated from.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// A file.
    #[error("cannot read {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not Avro, or not JSON.
    #[error("{path} is no Avro schema: {reason}")]
    Schema {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// An annotation.
    #[error("{path}: {field}: {reason}")]
    Annotation {
        /// The file.
        path: PathBuf,
        /// The field, as a path from the record.
        field: String,
        /// What is wrong.
        reason: String,
    },
}

/// What goes for every record of a generator.
#[derive(Clone, Copy, Debug, Default)]
pub struct Variation {
    /// Where iterations over instants start, in milliseconds since 1970, in place of the schema's start.
    pub start_ms: Option<i64>,
    /// Whether a record with options takes each of them once, in order, before it takes any at random.
    pub catalogue_once: bool,
}

/// Generates records.
pub struct Generator {
    path: PathBuf,
    schema: Json,
    named: BTreeMap<String, Json>,
    files: BTreeMap<String, Vec<Json>>,
    patterns: BTreeMap<String, rand_regex::Regex>,
    iterations: BTreeMap<String, i64>,
    variation: Variation,
    rng: StdRng,
    made: usize,
    depth: usize,
    /// What the record that is being made may still have.
    parts: i64,
}

/// What tells the random numbers of one schema from another's. Without it the n-th product of a catalogue and the product of
/// the n-th order would be drawn by the same numbers, and early orders would be of known products more than later ones.
fn own_bits(schema: &Json) -> u64 {
    let name = format!("{}.{}", schema["namespace"], schema["name"]);
    u64::from(crc32fast::hash(name.as_bytes())) << 32
}

impl Generator {
    /// Reads a schema.
    ///
    /// # Errors
    /// Where the file is no Avro schema.
    pub fn open(path: &Path, seed: u64, variation: Variation) -> Result<Self, GenerateError> {
        let text = std::fs::read_to_string(path).map_err(|source| GenerateError::File { path: path.into(), source })?;
        let wrong = |reason: String| GenerateError::Schema { path: path.into(), reason };
        apache_avro::Schema::parse_str(&text).map_err(|e| wrong(e.to_string()))?;
        let schema: Json = serde_json::from_str(&text).map_err(|e| wrong(e.to_string()))?;
        Ok(Self {
            path: path.into(),
            rng: StdRng::seed_from_u64(seed ^ own_bits(&schema)),
            schema,
            named: BTreeMap::new(),
            files: BTreeMap::new(),
            patterns: BTreeMap::new(),
            iterations: BTreeMap::new(),
            variation,
            made: 0,
            depth: 0,
            parts: MAX_PARTS,
        })
    }

    /// The next record.
    ///
    /// # Errors
    /// Where an annotation cannot be followed.
    pub fn record(&mut self) -> Result<Json, GenerateError> {
        let schema = self.schema.clone();
        let once = self.variation.catalogue_once;
        if once
            && let Some(options) = self.options(&schema["arg.properties"], "")?
            && let Some(option) = options.get(self.made)
        {
            self.made += 1;
            return Ok(option.clone());
        }
        self.made += 1;
        (self.depth, self.parts) = (0, MAX_PARTS);
        self.value(&schema, "")
    }

    /// How many records a catalogue has; none for a schema without options.
    ///
    /// # Errors
    /// Where the options cannot be read.
    pub fn catalogue(&mut self) -> Result<Option<usize>, GenerateError> {
        let schema = self.schema.clone();
        Ok(self.options(&schema["arg.properties"], "")?.map(|options| options.len()))
    }

    fn wrong<T>(&self, field: &str, reason: impl Into<String>) -> Result<T, GenerateError> {
        Err(GenerateError::Annotation {
            path: self.path.clone(),
            field: field.trim_start_matches('.').into(),
            reason: reason.into(),
        })
    }

    fn options(&mut self, annotations: &Json, field: &str) -> Result<Option<Vec<Json>>, GenerateError> {
        match &annotations["options"] {
            Json::Null => Ok(None),
            Json::Array(options) if options.is_empty() => self.wrong(field, "options is empty"),
            Json::Array(options) => Ok(Some(options.clone())),
            Json::Object(file) => match file.get("file").and_then(Json::as_str) {
                Some(name) => self.options_of_file(name, field).map(Some),
                None => self.wrong(field, "options needs a list, or {\"file\": …}"),
            },
            _ => self.wrong(field, "options needs a list, or {\"file\": …}"),
        }
    }

    fn options_of_file(&mut self, name: &str, field: &str) -> Result<Vec<Json>, GenerateError> {
        if let Some(known) = self.files.get(name) {
            return Ok(known.clone());
        }
        let path = self.path.parent().unwrap_or(Path::new(".")).join(name);
        let text = std::fs::read_to_string(&path).map_err(|source| GenerateError::File { path, source })?;
        match serde_json::from_str::<Vec<Json>>(&text) {
            Ok(options) if !options.is_empty() => {
                self.files.insert(name.to_owned(), options.clone());
                Ok(options)
            }
            Ok(_) => self.wrong(field, format!("{name} is empty")),
            Err(e) => self.wrong(field, format!("{name} is no JSON array: {e}")),
        }
    }

    fn value(&mut self, schema: &Json, field: &str) -> Result<Json, GenerateError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return self.wrong(field, format!("nested more than {MAX_DEPTH} deep"));
        }
        self.spend(1, field)?;
        let value = self.value_of(schema, field)?;
        self.depth -= 1;
        Ok(value)
    }

    fn spend(&mut self, parts: i64, field: &str) -> Result<(), GenerateError> {
        self.parts = self.parts.saturating_sub(parts.max(0));
        if self.parts < 0 {
            return self.wrong(field, format!("the record has more than {MAX_PARTS} values and letters"));
        }
        Ok(())
    }

    fn value_of(&mut self, schema: &Json, field: &str) -> Result<Json, GenerateError> {
        let annotations = &schema["arg.properties"];
        if let Some(options) = self.options(annotations, field)? {
            return Ok(options[self.rng.random_range(0..options.len())].clone());
        }
        if !annotations["iteration"].is_null() {
            return self.iteration(schema, field);
        }
        match schema {
            Json::Array(branches) if branches.is_empty() => self.wrong(field, "an empty union"),
            Json::Array(branches) => {
                let branch = branches[self.rng.random_range(0..branches.len())].clone();
                self.value(&branch, field)
            }
            Json::String(name) => self.of_type(name, schema, field),
            Json::Object(object) => {
                if let (Some(name), Some("record" | "enum" | "fixed")) =
                    (object.get("name").and_then(Json::as_str), schema["type"].as_str())
                {
                    self.named.insert(name.to_owned(), schema.clone());
                }
                match &schema["type"] {
                    Json::String(name) => self.of_type(name, schema, field),
                    inner => self.value(&inner.clone(), field),
                }
            }
            other => self.wrong(field, format!("{other} is no type")),
        }
    }

    fn of_type(&mut self, name: &str, schema: &Json, field: &str) -> Result<Json, GenerateError> {
        let annotations = &schema["arg.properties"];
        match name {
            "null" => Ok(Json::Null),
            "boolean" => Ok(json!(self.rng.random_bool(annotations["odds"].as_f64().unwrap_or(0.5).clamp(0.0, 1.0)))),
            "int" => self.integer(annotations, field, (i64::from(i32::MIN), i64::from(i32::MAX))),
            "long" => self.integer(annotations, field, (i64::MIN / 2, i64::MAX / 2)),
            "float" | "double" => {
                let bound = |name: &str, otherwise: f64| annotations["range"][name].as_f64().unwrap_or(otherwise);
                let (min, max) = (bound("min", 0.0), bound("max", 1.0));
                // Negated, so that a difference that is no number is refused too.
                if !(min < max && (max - min).is_finite()) {
                    self.wrong(field, "range: min must be below max, and not by more than a double holds")
                } else {
                    Ok(json!(self.rng.random_range(min..max)))
                }
            }
            "string" | "bytes" => self.text(annotations, field),
            "fixed" => {
                let size = schema["size"].as_i64().unwrap_or(0);
                self.letters(size, field).map(Json::String)
            }
            "enum" => match schema["symbols"].as_array().filter(|s| !s.is_empty()) {
                Some(symbols) => Ok(symbols[self.rng.random_range(0..symbols.len())].clone()),
                None => self.wrong(field, "an enum without symbols"),
            },
            "array" => {
                let length = self.length(annotations, field)?;
                (0..length)
                    .map(|_| self.value(&schema["items"], &format!("{field}[]")))
                    .collect::<Result<Vec<_>, _>>()
                    .map(Json::Array)
            }
            "map" => {
                let length = self.length(annotations, field)?;
                let mut map = Map::new();
                for _ in 0..length {
                    let key = if annotations["keys"].is_null() {
                        self.letters(8, field)?
                    } else {
                        let schema = json!({"type": "string", "arg.properties": annotations["keys"]});
                        self.value(&schema, &format!("{field}.keys"))?.as_str().unwrap_or_default().to_owned()
                    };
                    map.insert(key, self.value(&schema["values"], &format!("{field}{{}}"))?);
                }
                Ok(Json::Object(map))
            }
            "record" => {
                let mut record = Map::new();
                for part in schema["fields"].as_array().cloned().unwrap_or_default() {
                    let name = part["name"].as_str().unwrap_or_default().to_owned();
                    // An annotation may stand at the field or at its type.
                    let schema = if part["arg.properties"].is_null() { part["type"].clone() } else { part.clone() };
                    let value = self.value(&schema, &format!("{field}.{name}"))?;
                    record.insert(name, value);
                }
                Ok(Json::Object(record))
            }
            reference => match self.named.get(reference.rsplit('.').next().unwrap_or(reference)).cloned() {
                Some(schema) => self.value(&schema, field),
                None => self.wrong(field, format!("type {reference} is not known here")),
            },
        }
    }

    fn integer(
        &mut self,
        annotations: &Json,
        field: &str,
        (least, greatest): (i64, i64),
    ) -> Result<Json, GenerateError> {
        let bound = |name: &str, otherwise: i64| annotations["range"][name].as_i64().unwrap_or(otherwise);
        let (min, max) = (bound("min", least), bound("max", greatest));
        if min >= max {
            self.wrong(field, "range: min must be below max")
        } else {
            Ok(json!(self.rng.random_range(min..max)))
        }
    }

    fn length(&mut self, annotations: &Json, field: &str) -> Result<i64, GenerateError> {
        let length = &annotations["length"];
        if let Some(exactly) = length.as_i64() {
            return Ok(exactly);
        }
        let (min, max) =
            (length["min"].as_i64().unwrap_or(DEFAULT_LENGTH.0), length["max"].as_i64().unwrap_or(DEFAULT_LENGTH.1));
        if min >= max || min < 0 {
            self.wrong(field, "length: min must be below max")
        } else {
            Ok(self.rng.random_range(min..max))
        }
    }

    fn letters(&mut self, length: i64, field: &str) -> Result<String, GenerateError> {
        self.spend(length, field)?;
        Ok((0..length).map(|_| char::from(self.rng.random_range(b'a'..=b'z'))).collect())
    }

    fn text(&mut self, annotations: &Json, field: &str) -> Result<Json, GenerateError> {
        let affix = |name: &str| annotations[name].as_str().unwrap_or_default().to_owned();
        let middle = match annotations["regex"].as_str() {
            Some(pattern) => {
                if !self.patterns.contains_key(pattern) {
                    match rand_regex::Regex::compile(pattern, MAX_REGEX_REPEAT) {
                        Ok(compiled) => drop(self.patterns.insert(pattern.to_owned(), compiled)),
                        Err(e) => return self.wrong(field, format!("regex: {e}")),
                    }
                }
                let longest = self.patterns[pattern].capacity();
                self.spend(i64::try_from(longest).unwrap_or(i64::MAX), field)?;
                self.rng.sample::<String, _>(&self.patterns[pattern])
            }
            None => {
                let length = self.length(annotations, field)?;
                self.letters(length, field)?
            }
        };
        Ok(Json::String(format!("{}{middle}{}", affix("prefix"), affix("suffix"))))
    }

    fn iteration(&mut self, schema: &Json, field: &str) -> Result<Json, GenerateError> {
        let iteration = &schema["arg.properties"]["iteration"];
        let is_instant = schema["logicalType"] == json!("timestamp-millis")
            || schema["type"]["logicalType"] == json!("timestamp-millis");
        let given = iteration["start"].as_i64().unwrap_or(0);
        let start = self.variation.start_ms.filter(|_| is_instant).unwrap_or(given);
        let step = iteration["step"].as_i64().unwrap_or(1);
        if step == 0 {
            return self.wrong(field, "iteration: step must not be 0");
        }
        let current = self.iterations.get(field).copied().unwrap_or(start);
        let mut next = current.saturating_add(step);
        if let Some(restart) = iteration["restart"].as_i64()
            && ((step > 0 && next >= restart) || (step < 0 && next <= restart))
        {
            next = start;
        }
        self.iterations.insert(field.to_owned(), next);
        let text = schema["type"] == json!("string") || schema["type"]["type"] == json!("string");
        Ok(if text { json!(current.to_string()) } else { json!(current) })
    }
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;

    fn generated(schema: &Json, count: usize) -> Result<Vec<Json>, GenerateError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.avro");
        std::fs::write(folder.path().join("options.json"), r#"["x", "y"]"#).unwrap();
        std::fs::write(&path, schema.to_string()).unwrap();
        let mut generator = Generator::open(&path, 7, Variation::default())?;
        (0..count).map(|_| generator.record()).collect()
    }

    #[test]
    fn every_type_and_annotation_is_followed_and_a_seed_gives_the_same_records() {
        let annotated = |kind: &str, annotations: Json| json!({"type": kind, "arg.properties": annotations});
        let schema = json!({"type": "record", "name": "r", "fields": [
            {"name": "i", "type": annotated("int", json!({"range": {"min": 3, "max": 5}}))},
            {"name": "l", "type": annotated("long", json!({"iteration": {"start": 10, "step": 5, "restart": 20}}))},
            {"name": "d", "type": annotated("double", json!({"range": {"min": 1.0, "max": 2.0}}))},
            {"name": "f", "type": "float"}, {"name": "n", "type": "null"},
            {"name": "b", "type": annotated("boolean", json!({"odds": 1.0}))},
            {"name": "s", "type": annotated("string", json!({"regex": "[a-c]{3}", "prefix": "<", "suffix": ">"}))},
            {"name": "y", "type": annotated("bytes", json!({"length": 4}))},
            {"name": "o", "type": annotated("string", json!({"options": {"file": "options.json"}}))},
            {"name": "e", "type": {"type": "enum", "name": "e", "symbols": ["A"]}},
            {"name": "x", "type": {"type": "fixed", "name": "x", "size": 3}},
            {"name": "a", "type": {"type": "array", "items": "e", "arg.properties": {"length": 2}}},
            {"name": "m", "type": {"type": "map", "values": "int", "arg.properties": {"length": 1, "keys": {"options": ["k"]}}}},
            {"name": "u", "type": ["null", "int"]},
        ]});
        let records = generated(&schema, 3).unwrap();
        assert_eq!(records, generated(&schema, 3).unwrap());
        let l: Vec<_> = records.iter().map(|r| r["l"].as_i64().unwrap()).collect();
        assert_eq!(l, [10, 15, 10]);
        for r in &records {
            assert!(
                (3..5).contains(&r["i"].as_i64().unwrap()) && (1.0..2.0).contains(&r["d"].as_f64().unwrap()),
                "{r}"
            );
            let s = r["s"].as_str().unwrap();
            assert!(s.len() == 5 && s.starts_with('<') && s.ends_with('>'), "{r}");
            assert!(r["b"] == json!(true) && r["n"].is_null() && r["y"].as_str().unwrap().len() == 4, "{r}");
            assert!(["x", "y"].contains(&r["o"].as_str().unwrap()) && r["a"] == json!(["A", "A"]), "{r}");
            assert!(r["m"]["k"].is_i64() && r["x"].as_str().unwrap().len() == 3, "{r}");
        }
    }

    #[test]
    fn a_wrong_annotation_names_its_field() {
        let schema = json!({"type": "record", "name": "r", "fields": [
            {"name": "i", "type": {"type": "int", "arg.properties": {"range": {"min": 5, "max": 5}}}}]});
        assert!(generated(&schema, 1).unwrap_err().to_string().ends_with("i: range: min must be below max"));
    }
}
