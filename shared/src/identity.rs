//! What makes a row and a document one, and the `_id` that says so.
//!
//! A keyed table's row is its key; an append table's row is its place, (partition, offset). A document is told apart by
//! the rows of the inputs in [`Sink::identity`](crate::plan::Sink::identity), or "none" where one is null-padded. Where
//! the sink declares a primary key, the `_id` is made of those columns instead, as Flink makes it; the plan has checked
//! that they determine the identity.
//!
//! Two identities never give one id: what separates parts is escaped inside them.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use crate::coordinates::Place;
use crate::plan::{Pipeline, Sink, Table};
use crate::text;
use crate::types::DataType;
use crate::value::{Row, Scalar, Value};

/// Stands for a row that is not there, and for NULL. A text that begins with it is escaped.
const NONE: char = '~';
/// Separates the rows of a document's identity.
pub const BETWEEN_ROWS: &str = "|";
/// Separates the columns of a row's key.
pub const BETWEEN_COLUMNS: &str = ",";
/// What Flink puts between key columns by default.
const DEFAULT_KEY_DELIMITER: &str = "_";

/// The `_id` of a document.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DocumentId(pub Arc<str>);

impl fmt::Display for DocumentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A row with what makes it one. The identity of a keyed row is in its columns; an append row's is its place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct IdentifiedRow {
    /// Where the record came from; for a keyed table, the last record of the key.
    pub place: Place,
    /// All columns of the table.
    pub row: Row,
}

/// The key columns of a row of a keyed table.
#[must_use]
pub fn key_of(table: &Table, row: &[Value]) -> Vec<Value> {
    table.key.iter().map(|column| row[*column].clone()).collect()
}

/// The `_id` of the document that `rows` (one an input of the sink's query, `None` where null-padded) make, where
/// `values` are the document's.
#[must_use]
pub fn document_id(pipeline: &Pipeline, sink: &Sink, rows: &[Option<&IdentifiedRow>], values: &[Value]) -> DocumentId {
    let place = |input: usize| rows[input].map(|row| row.place);
    let key = |input: usize, column: usize| rows[input].map_or(Scalar::Null, |row| Scalar::from(&row.row[column]));
    let mut id = String::with_capacity(40);
    write_id(pipeline, sink, place, key, |column| Scalar::from(&values[column]), &mut id);
    DocumentId(id.into())
}

/// Appends the `_id` of the document that rows make: `place` gives an input's place (`None` where it is null-padded),
/// `key` a key column of an input's table, `value` a column of the document.
pub fn write_id<'a>(
    pipeline: &Pipeline,
    sink: &Sink,
    place: impl Fn(usize) -> Option<Place>,
    key: impl Fn(usize, usize) -> Scalar<'a>,
    value: impl Fn(usize) -> Scalar<'a>,
    id: &mut String,
) {
    if !sink.key.is_empty() {
        return write_id_of_key(sink, value, id);
    }
    for (number, input) in sink.identity.iter().enumerate() {
        if number > 0 {
            id.push_str(BETWEEN_ROWS);
        }
        let table = &pipeline.tables[sink.query.inputs[*input].table.0];
        match place(*input) {
            None => id.push(NONE),
            Some(_) if table.is_keyed() => push_key(id, table, |column| key(*input, column)),
            Some(place) => id.push_str(&place.to_string()),
        }
    }
}

fn push_key<'a>(id: &mut String, table: &Table, key: impl Fn(usize) -> Scalar<'a>) {
    for (number, column) in table.key.iter().enumerate() {
        if number > 0 {
            id.push_str(BETWEEN_COLUMNS);
        }
        push_escaped(key(*column), table.columns[*column].data_type, &[BETWEEN_ROWS, BETWEEN_COLUMNS], id);
    }
}

/// What stands between the key columns in the ids of a sink that declares a primary key.
#[must_use]
pub fn key_delimiter(sink: &Sink) -> &str {
    sink.option("document-id.key-delimiter").unwrap_or(DEFAULT_KEY_DELIMITER)
}

/// The parts of an id between separators, each still escaped: the way back from what makes an id.
#[must_use]
pub fn parts<'a>(id: &'a str, separator: &str) -> Vec<&'a str> {
    let (mut parts, mut begin, mut at) = (Vec::new(), 0, 0);
    while let Some(c) = id[at..].chars().next() {
        if c == '\\' {
            // The character after a backslash separates nothing.
            at += 1 + id[at + 1..].chars().next().map_or(0, char::len_utf8);
        } else if !separator.is_empty() && id[at..].starts_with(separator) {
            parts.push(&id[begin..at]);
            at += separator.len();
            begin = at;
        } else {
            at += c.len_utf8();
        }
    }
    parts.push(&id[begin..]);
    parts
}

/// The text that a part stands for; `None` where it stands for NULL.
#[must_use]
pub fn unescaped(part: &str) -> Option<String> {
    if part.starts_with(NONE) {
        return None;
    }
    let (mut out, mut escaped) = (String::with_capacity(part.len()), false);
    for c in part.chars() {
        if c == '\\' && !escaped {
            escaped = true;
        } else {
            out.push(c);
            escaped = false;
        }
    }
    Some(out)
}

/// The text that a whole id of a single key column stands for; in it only a first character is ever escaped.
#[must_use]
pub fn unescaped_alone(id: &str) -> Option<String> {
    if id.starts_with(NONE) { None } else { Some(id.strip_prefix('\\').unwrap_or(id).to_owned()) }
}

/// Flink's: the key columns joined by `document-id.key-delimiter`. A single column is its text as it is, unless that looks
/// like NULL.
fn write_id_of_key<'a>(sink: &Sink, value: impl Fn(usize) -> Scalar<'a>, id: &mut String) {
    let delimiter = key_delimiter(sink);
    let separators: &[&str] = if sink.key.len() == 1 { &[] } else { &[delimiter] };
    for (number, column) in sink.key.iter().enumerate() {
        if number > 0 {
            id.push_str(delimiter);
        }
        push_escaped(value(*column), sink.columns[*column].data_type, separators, id);
    }
}

/// Appends the value as text in which no separator stands, and which is no `~`: a backslash goes before the first
/// character of each separator, before a backslash (where there are separators) and before a leading `~`.
fn push_escaped(value: Scalar<'_>, data_type: DataType, separators: &[&str], out: &mut String) {
    let plain = match value {
        Scalar::Null => return out.push(NONE),
        Scalar::String(text) => Cow::Borrowed(text),
        other => Cow::Owned(text::display(&Value::from(other), data_type)),
    };
    let special = |c: char| separators.iter().any(|s| s.starts_with(c)) || (c == '\\' && !separators.is_empty());
    for (at, c) in plain.char_indices() {
        if special(c) || (at == 0 && (c == NONE || c == '\\')) {
            out.push('\\');
        }
        out.push(c);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(value: &Value, data_type: DataType, separators: &[&str]) -> String {
        let mut out = String::new();
        push_escaped(Scalar::from(value), data_type, separators, &mut out);
        out
    }

    #[test]
    fn two_keys_never_give_one_id() {
        let text = |s: &str| escaped(&Value::string(s), DataType::String, &["_"]);
        assert_eq!(text("a_b"), "a\\_b");
        assert_eq!(text("a\\"), "a\\\\");
        assert_eq!(text("~"), "\\~");
        assert_eq!(escaped(&Value::Null, DataType::String, &["_"]), "~");
        assert_eq!(escaped(&Value::string("a_b"), DataType::String, &[]), "a_b");
        assert_ne!([text("a_b"), text("c")].join("_"), [text("a"), text("b_c")].join("_"));
    }

    #[test]
    fn an_id_leads_back_to_the_texts_that_it_is_made_of() {
        for texts in [["a_b", "c\\"], ["~", "ä|,_"], ["", "\\_\\"]] {
            for separators in [&["_"][..], &["|", ","]] {
                let id = texts.map(|t| escaped(&Value::string(t), DataType::String, separators)).join(separators[0]);
                let back: Vec<_> = parts(&id, separators[0]).into_iter().map(unescaped).collect();
                assert_eq!(back, texts.map(|t| Some(t.to_owned())), "{id}");
            }
            let alone = escaped(&Value::string(texts[1]), DataType::String, &[]);
            assert_eq!(unescaped_alone(&alone).as_deref(), Some(texts[1]), "{alone}");
        }
        assert_eq!(
            parts("0-7|~", BETWEEN_ROWS).into_iter().map(unescaped).collect::<Vec<_>>(),
            [Some("0-7".into()), None]
        );
    }
}
