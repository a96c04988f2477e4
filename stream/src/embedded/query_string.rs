//! What a person types into `?q=`: `state:Ohio AND price:[10 TO 20}`, read by Tantivy's grammar of Lucene's syntax.
//!
//! A word without a field is looked for in every field, or in those that the request names.

use std::ops::Bound;

use serde_json::Value as Json;
use tantivy::query::{BooleanQuery, Occur};
use tantivy::query_grammar::{Delimiter, UserInputAst, UserInputBound, UserInputLeaf, UserInputLiteral, parse_query};

use super::answer::Refusal;
use super::query::{Boxed, Reader, all, any, escaped, none};
use super::request::names;

/// Longest text of a query.
const LONGEST_TEXT: usize = 10_000;
/// Most parentheses and negations: each may be a level, and the grammar is read by recursion.
const MOST_LEVELS: usize = 100;

/// Reads the body of a `query_string`.
pub(super) fn query(reader: &Reader<'_>, body: &Json) -> Result<Boxed, Refusal> {
    let Some(text) = body["query"].as_str() else {
        return Err(Refusal::parsing("[query_string] must be provided with a [query]"));
    };
    let refused = || Refusal::new(400, "query_shard_exception", format!("Failed to parse query [{text}]"));
    let levels = text.matches('(').count() + text.matches("NOT").count();
    if text.len() > LONGEST_TEXT || levels > MOST_LEVELS {
        return Err(Refusal::argument(format!(
            "the query is longer than {LONGEST_TEXT} bytes, or has more than {MOST_LEVELS} parentheses and negations"
        )));
    }
    let syntax =
        parse_query(&text.replace("*:*", "*").replace("&&", "AND").replace("||", "OR")).map_err(|_| refused())?;
    let mut fields = names(&body["fields"]);
    fields.extend(names(&body["default_field"]));
    fields.retain(|field| field != "*");
    if fields.is_empty() {
        fields.extend(reader.mapping.fields().map(|(name, _)| name.clone()));
    }
    let and = body["default_operator"].as_str().is_some_and(|operator| operator.eq_ignore_ascii_case("and"));
    let words = Words { reader, fields, default: if and { Occur::Must } else { Occur::Should } };
    words.query(&syntax)
}

struct Words<'a> {
    reader: &'a Reader<'a>,
    /// Where a word without a field is looked for.
    fields: Vec<String>,
    default: Occur,
}

impl Words<'_> {
    fn query(&self, syntax: &UserInputAst) -> Result<Boxed, Refusal> {
        match syntax {
            UserInputAst::Boost(inner, _) => self.query(inner),
            UserInputAst::Leaf(leaf) => self.leaf(leaf),
            UserInputAst::Clause(clauses) if clauses.is_empty() => Ok(all()),
            UserInputAst::Clause(clauses) => {
                let mut queries = Vec::new();
                for (occur, inner) in clauses {
                    queries.push((occur.unwrap_or(self.default), self.query(inner)?));
                }
                if queries.iter().all(|(occur, _)| *occur == Occur::MustNot) {
                    queries.push((Occur::Must, all()));
                }
                // Beside what must be there, what may be there changes nothing; beside what must not, it is needed.
                let needed = usize::from(
                    queries.iter().any(|(occur, _)| *occur == Occur::Should)
                        && !queries.iter().any(|(occur, _)| *occur == Occur::Must),
                );
                Ok(Box::new(BooleanQuery::with_minimum_required_clauses(queries, needed)))
            }
        }
    }

    fn leaf(&self, leaf: &UserInputLeaf) -> Result<Boxed, Refusal> {
        let reader = self.reader;
        match leaf {
            UserInputLeaf::All => Ok(all()),
            UserInputLeaf::Exists { field } => Ok(reader.exists(field)),
            UserInputLeaf::Literal(literal) => match literal.field_name.as_deref() {
                Some("_exists_") => Ok(reader.exists(&literal.phrase)),
                Some(field) => self.literal(field, literal),
                None => Ok(self.anywhere(|field| self.literal(field, literal))),
            },
            UserInputLeaf::Set { field: Some(field), elements } => {
                let terms: Result<Vec<Boxed>, Refusal> =
                    elements.iter().map(|element| reader.term(field, &Json::from(element.as_str()))).collect();
                terms.map(any)
            }
            UserInputLeaf::Set { field: None, .. } => Ok(none()),
            UserInputLeaf::Regex { field: Some(field), pattern } => reader.regular_expression(field, pattern),
            UserInputLeaf::Regex { field: None, pattern } => {
                Ok(self.anywhere(|field| reader.regular_expression(field, pattern)))
            }
            UserInputLeaf::Range { field: Some(field), lower, upper } => self.range(field, lower, upper),
            UserInputLeaf::Range { field: None, lower, upper } => {
                Ok(self.anywhere(|field| self.range(field, lower, upper)))
            }
        }
    }

    /// Any field that can be asked so.
    fn anywhere(&self, ask: impl Fn(&str) -> Result<Boxed, Refusal>) -> Boxed {
        any(self.fields.iter().filter_map(|field| ask(field).ok()).collect())
    }

    fn literal(&self, field: &str, literal: &UserInputLiteral) -> Result<Boxed, Refusal> {
        let (text, reader) = (literal.phrase.as_str(), self.reader);
        match literal.delimiter {
            Delimiter::None if text.contains(['*', '?']) => reader.pattern(field, text),
            Delimiter::None => reader.matching(field, &Json::from(text), self.default),
            _ if literal.prefix => reader.pattern(field, &format!("{}*", escaped(text))),
            _ => reader.phrase(field, text),
        }
    }

    fn range(&self, field: &str, lower: &UserInputBound, upper: &UserInputBound) -> Result<Boxed, Refusal> {
        let Some(mapped) = self.reader.mapping.field(field) else { return Ok(none()) };
        let (from, to) = (Json::from(lower.term_str()), Json::from(upper.term_str()));
        self.reader.range_of(mapped, field, (bound(lower, &from), bound(upper, &to)))
    }
}

fn bound<'a>(bound: &UserInputBound, value: &'a Json) -> Bound<&'a Json> {
    match bound {
        UserInputBound::Unbounded => Bound::Unbounded,
        UserInputBound::Inclusive(_) => Bound::Included(value),
        UserInputBound::Exclusive(_) => Bound::Excluded(value),
    }
}
