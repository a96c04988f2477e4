//! The mapping of an index: its fields, where Tantivy keeps each, and how a document becomes what Tantivy indexes.
//!
//! A document is kept as the text that came. Besides, each field of the mapping has doc values (a column), keywords and
//! texts also postings. Whole numbers, instants (milliseconds) and booleans (0 and 1) are columns of whole numbers.
//! Fields that a mapping which is not `strict` does not have are kept in the document and not searched.

use std::collections::BTreeMap;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value as Json, json};
use tantivy::TantivyDocument;
use tantivy::schema::{BytesOptions, Field, IndexRecordOption, NumericOptions, Schema, TextFieldIndexing, TextOptions};

use super::answer::Refusal;
use super::request::{names, parsed};
use super::value::{Kind, Scalar, scalar};

/// Most fields of an index, as Elasticsearch's `index.mapping.total_fields.limit`.
const MOST_FIELDS: usize = 1_000;
/// Longest keyword, in bytes: the longest term that Lucene takes.
const LONGEST_TERM_BYTES: usize = 32_766;
/// The tokenizer of texts: words in lower case.
const WORDS: &str = "default";
/// The tokenizer of keywords: the whole.
const WHOLE: &str = "raw";

/// A field of the mapping.
#[derive(Clone, Debug)]
pub(super) struct Mapped {
    pub(super) kind: Kind,
    pub(super) field: Field,
    /// The name of its column.
    pub(super) column: String,
    /// Longer keywords are kept and not indexed.
    ignore_above: usize,
}

/// The fields that every index has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Own {
    pub(super) id: Field,
    pub(super) source: Field,
    pub(super) version: Field,
    pub(super) seq_no: Field,
    /// When a document was deleted; only the memory of a deleted document has it.
    pub(super) deleted: Field,
}

/// The columns of [`Own`].
pub(super) const VERSION: &str = "_version";
/// See [`Own`].
pub(super) const SEQ_NO: &str = "_seq_no";
/// See [`Own`].
pub(super) const DELETED: &str = "_deleted";

/// A mapping.
#[derive(Clone, Debug)]
pub(super) struct Mapping {
    fields: BTreeMap<String, Mapped>,
    /// Fields that are indexed and not kept: `_source.excludes`.
    excluded: Vec<String>,
    strict: bool,
    pub(super) own: Own,
    pub(super) schema: Schema,
}

impl Mapping {
    /// Reads the `mappings` of an index's creation.
    pub(super) fn new(mappings: &Json) -> Result<Self, Refusal> {
        let mut schema = Schema::builder();
        let own = Own {
            id: schema.add_bytes_field("_id", BytesOptions::default().set_indexed().set_stored()),
            source: schema.add_bytes_field("_source", BytesOptions::default().set_stored()),
            version: schema.add_u64_field(VERSION, NumericOptions::default().set_fast()),
            seq_no: schema.add_u64_field(SEQ_NO, NumericOptions::default().set_fast()),
            deleted: schema.add_i64_field(DELETED, NumericOptions::default().set_fast()),
        };
        let given: BTreeMap<&String, &Json> = mappings["properties"].as_object().into_iter().flatten().collect();
        if given.len() > MOST_FIELDS {
            return Err(Refusal::argument(format!("Limit of total fields [{MOST_FIELDS}] has been exceeded")));
        }
        let mut fields = BTreeMap::new();
        for (number, (name, definition)) in given.into_iter().enumerate() {
            let (kind, column) = (kind_of(name, definition)?, format!("field{number}"));
            let ignore_above = definition["ignore_above"].as_u64().and_then(|n| usize::try_from(n).ok());
            let field = match kind {
                Kind::Keyword => schema.add_text_field(&column, text_options(WHOLE, IndexRecordOption::Basic)),
                Kind::Text => {
                    schema.add_text_field(&column, text_options(WORDS, IndexRecordOption::WithFreqsAndPositions))
                }
                Kind::Float | Kind::Double => schema.add_f64_field(&column, NumericOptions::default().set_fast()),
                _ => schema.add_i64_field(&column, NumericOptions::default().set_fast()),
            };
            let ignore_above = ignore_above.unwrap_or(usize::MAX);
            fields.insert(name.clone(), Mapped { kind, field, column, ignore_above });
        }
        let strict = mappings["dynamic"].as_str() == Some("strict");
        let excluded = names(&mappings["_source"]["excludes"]);
        if let Some(pattern) = excluded.iter().find(|name| name.contains('*')) {
            return Err(Refusal::argument(format!("[_source.excludes] has [{pattern}]; write names of fields")));
        }
        Ok(Self { fields, excluded, strict, own, schema: schema.build() })
    }

    /// The mapping as it is answered: an index that is not strict does not take up new fields.
    pub(super) fn answer(given: &Json) -> Json {
        let mut mappings = if given.is_object() { given.clone() } else { json!({}) };
        if mappings["dynamic"].as_str() != Some("strict") {
            mappings["dynamic"] = json!("false");
        }
        if !mappings["properties"].is_object() {
            mappings["properties"] = json!({});
        }
        mappings
    }

    /// A field by its name.
    pub(super) fn field(&self, name: &str) -> Option<&Mapped> {
        self.fields.get(name)
    }

    /// Every field with its name.
    pub(super) fn fields(&self) -> impl Iterator<Item = (&String, &Mapped)> {
        self.fields.iter()
    }

    /// What Tantivy indexes of a document; what orders writes (version and so on) is not in it yet.
    pub(super) fn document(&self, id: &str, source: &[u8]) -> Result<TantivyDocument, Refusal> {
        let failed = |reason: String| Refusal::new(400, "document_parsing_exception", reason);
        let fields = match parsed(source) {
            Ok(Json::Object(fields)) => fields,
            Ok(_) => return Err(failed("failed to parse: a document must be an object".into())),
            Err(error) => return Err(failed(format!("failed to parse: {}", error.reason))),
        };
        let mut document = TantivyDocument::new();
        document.add_bytes(self.own.id, id.as_bytes());
        if self.excluded.iter().any(|name| fields.contains_key(name)) {
            document.add_bytes(self.own.source, without(source, &self.excluded)?.as_slice());
        } else {
            document.add_bytes(self.own.source, source.trim_ascii());
        }
        self.add_fields(&mut document, id, &fields)?;
        Ok(document)
    }

    fn add_fields(&self, document: &mut TantivyDocument, id: &str, fields: &Map<String, Json>) -> Result<(), Refusal> {
        for (name, value) in fields {
            let Some(mapped) = self.fields.get(name) else {
                if !self.strict {
                    continue;
                }
                return Err(Refusal::new(
                    400,
                    "strict_dynamic_mapping_exception",
                    format!("mapping set to strict, dynamic introduction of [{name}] within [_doc] is not allowed"),
                ));
            };
            match value {
                Json::Array(values) => {
                    values.iter().try_for_each(|value| mapped.add(document, (id, name), value))?;
                }
                value => mapped.add(document, (id, name), value)?,
            }
        }
        Ok(())
    }
}

/// The text of an object without some of its fields; the others stay as they are written, and in their order.
fn without(source: &[u8], excluded: &[String]) -> Result<Vec<u8>, Refusal> {
    let fields: InOrder<'_> = serde_json::from_slice(source)
        .map_err(|error| Refusal::new(400, "document_parsing_exception", format!("failed to parse: {error}")))?;
    let mut text = vec![b'{'];
    for (name, value) in fields.0.iter().filter(|(name, _)| !excluded.contains(name)) {
        if text.len() > 1 {
            text.push(b',');
        }
        text.extend_from_slice(format!("{}:{}", json!(name), value.get()).as_bytes());
    }
    text.push(b'}');
    Ok(text)
}

/// The fields of an object as they are written.
struct InOrder<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for InOrder<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = InOrder<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<InOrder<'de>, M::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(InOrder(fields))
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

impl Mapped {
    /// The same field, of a wider type: what a bound of a range is read by.
    pub(super) fn widened(&self, kind: Kind) -> Self {
        Self { kind, ..self.clone() }
    }

    fn add(&self, document: &mut TantivyDocument, (id, name): (&str, &str), value: &Json) -> Result<(), Refusal> {
        match scalar(self.kind, value) {
            Ok(None) => {}
            Ok(Some(Scalar::Whole(number))) => document.add_i64(self.field, number),
            Ok(Some(Scalar::Float(number))) => document.add_f64(self.field, number),
            Ok(Some(Scalar::Text(text))) if text.encode_utf16().count() > self.ignore_above => {}
            Ok(Some(Scalar::Text(text))) if self.kind == Kind::Keyword && text.len() > LONGEST_TERM_BYTES => {
                return Err(Refusal::argument(format!(
                    "Document contains at least one immense term in field=\"{name}\": {} bytes, and the longest is \
                     {LONGEST_TERM_BYTES}",
                    text.len()
                )));
            }
            Ok(Some(Scalar::Text(text))) => document.add_text(self.field, text),
            Err(cause) => {
                let mut refusal = Refusal::new(
                    400,
                    "document_parsing_exception",
                    format!(
                        "failed to parse field [{name}] of type [{}] in document with id '{id}'. Preview of field's \
                     value: '{}'",
                        self.kind.name(),
                        preview(value)
                    ),
                );
                refusal.cause = Some(("illegal_argument_exception", cause));
                return Err(refusal);
            }
        }
        Ok(())
    }
}

/// The beginning of a value.
fn preview(value: &Json) -> String {
    const READABLE_CHARS: usize = 100;
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    text.chars().take(READABLE_CHARS).collect()
}

fn kind_of(name: &str, definition: &Json) -> Result<Kind, Refusal> {
    let refused = |reason| Err(Refusal::new(400, "mapper_parsing_exception", reason));
    if !definition["properties"].is_null() || !definition["fields"].is_null() {
        return refused(format!("field [{name}]: the embedded index has no objects in documents and no multi-fields"));
    }
    match definition["type"].as_str() {
        Some(kind) => match Kind::of(kind) {
            Some(kind) => Ok(kind),
            None => refused(format!("No handler for type [{kind}] declared on field [{name}]")),
        },
        None => refused(format!("No type specified for field [{name}]")),
    }
}

fn text_options(tokenizer: &str, record: IndexRecordOption) -> TextOptions {
    let indexing = TextFieldIndexing::default().set_tokenizer(tokenizer).set_index_option(record).set_fieldnorms(false);
    let options = TextOptions::default().set_indexing_options(indexing);
    if tokenizer == WHOLE { options.set_fast(WHOLE) } else { options }
}
