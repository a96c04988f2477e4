//! Elasticsearch's query language as Tantivy's queries. A query says which documents match; none of them scores.

use std::ops::Bound;
use std::sync::Arc;

use serde_json::Value as Json;
use tantivy::Term;
use tantivy::query::{
    AllQuery, BooleanQuery, EmptyQuery, ExistsQuery, Occur, PhraseQuery, Query, RangeQuery, RegexQuery, TermQuery,
    TermSetQuery,
};
use tantivy::schema::IndexRecordOption;
use tantivy::tokenizer::{LowerCaser, RemoveLongFilter, SimpleTokenizer, TextAnalyzer, TokenStream as _};

use super::answer::Refusal;
use super::dates::{self, Rounding};
use super::mapping::{Mapped, Mapping, SEQ_NO};
use super::numbered::{Numbered, Spans};
use super::one_of::OneOf;
use super::query_string;
use super::request::{list, only};
use super::value::{self, Kind, Scalar, plain_text};

/// Most clauses or terms of one query, as Elasticsearch's `index.max_terms_count`.
const MOST_TERMS: usize = 65_536;
/// Longest pattern of a wildcard, prefix or regular expression, as Elasticsearch's `index.max_regex_length`.
const LONGEST_PATTERN: usize = 1_000;
/// Words longer than this are not indexed: Tantivy's default tokenizer.
const LONGEST_WORD: usize = 40;

/// A query.
pub(super) type Boxed = Box<dyn Query>;

/// Reads queries for one mapping.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    pub(super) mapping: &'a Mapping,
    pub(super) spans: &'a Arc<Spans>,
    pub(super) now_ms: i64,
}

/// Which end of a range.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Lower,
    Upper,
}

pub(super) fn all() -> Boxed {
    Box::new(AllQuery)
}

pub(super) fn none() -> Boxed {
    Box::new(EmptyQuery)
}

/// One of them.
pub(super) fn any(mut queries: Vec<Boxed>) -> Boxed {
    match queries.len() {
        0 => none(),
        1 => queries.remove(0),
        _ => Box::new(BooleanQuery::union(queries)),
    }
}

impl Reader<'_> {
    /// Reads the `query` of a body.
    pub(super) fn query(&self, query: &Json) -> Result<Boxed, Refusal> {
        let (kind, body) = only(query, "query")?;
        match kind {
            "match_all" => Ok(all()),
            "match_none" => Ok(none()),
            "bool" => self.boolean(body),
            "constant_score" => self.query(&body["filter"]),
            "exists" => Ok(self.exists(body["field"].as_str().unwrap_or_default())),
            "ids" => self.ids(&list(&body["values"])),
            "query_string" | "simple_query_string" => query_string::query(self, body),
            "multi_match" => {
                let fields = body["fields"].as_array().into_iter().flatten().filter_map(Json::as_str);
                let queries: Result<Vec<Boxed>, Refusal> =
                    fields.map(|f| self.matching(f, &body["query"], Occur::Should)).collect();
                queries.map(any)
            }
            "terms" => self.terms(body),
            "term" | "match" | "match_phrase" | "prefix" | "range" | "wildcard" | "regexp" => {
                let (field, wanted) = only(body, kind)?;
                self.of_field(kind, field, wanted)
            }
            other => Err(Refusal::parsing(format!("unknown query [{other}]"))),
        }
    }

    fn of_field(&self, kind: &str, field: &str, wanted: &Json) -> Result<Boxed, Refusal> {
        if kind == "range" {
            return self.range(field, wanted);
        }
        let named = ["value", "query", kind].into_iter().map(|name| &wanted[name]).find(|v| !v.is_null());
        let value = if wanted.is_object() { named.unwrap_or(&Json::Null) } else { wanted };
        if value.is_null() || value.is_object() || value.is_array() {
            return Err(Refusal::argument(format!("[{kind}] query on field [{field}] needs a value")));
        }
        let text = plain_text(value);
        match kind {
            "prefix" => self.pattern(field, &format!("{}*", escaped(&text))),
            "wildcard" => self.pattern(field, &text),
            "regexp" => self.regular_expression(field, &text),
            "match" => {
                let and = wanted["operator"].as_str().is_some_and(|operator| operator.eq_ignore_ascii_case("and"));
                self.matching(field, value, if and { Occur::Must } else { Occur::Should })
            }
            "match_phrase" => self.phrase(field, &text),
            _ => self.term(field, value),
        }
    }

    fn boolean(&self, body: &Json) -> Result<Boxed, Refusal> {
        let fields = body.as_object().ok_or_else(|| Refusal::parsing("[bool] must be an object"))?;
        let known = ["must", "filter", "should", "must_not", "minimum_should_match", "boost", "_name"];
        if let Some(unknown) = fields.keys().find(|name| !known.contains(&name.as_str())) {
            return Err(Refusal::parsing(format!("[bool] query does not support [{unknown}]")));
        }
        let mut clauses = Vec::new();
        for (name, occur) in
            [("must", Occur::Must), ("filter", Occur::Must), ("must_not", Occur::MustNot), ("should", Occur::Should)]
        {
            for clause in list(&body[name]) {
                clauses.push((occur, self.query(clause)?));
            }
        }
        if clauses.len() > MOST_TERMS {
            return Err(Refusal::argument(format!("a query of {} clauses; at most {MOST_TERMS}", clauses.len())));
        }
        let required = clauses.iter().any(|(occur, _)| *occur == Occur::Must);
        let alternatives = clauses.iter().filter(|(occur, _)| *occur == Occur::Should).count();
        let needed = match &body["minimum_should_match"] {
            Json::Null => usize::from(!required && alternatives > 0),
            given => {
                let number = value::number(given).filter(|number| number.fract() == 0.0).ok_or_else(|| {
                    Refusal::argument("the embedded index reads [minimum_should_match] as a whole number only")
                })?;
                let number = if number < 0.0 { alternatives as f64 + number } else { number };
                number.clamp(0.0, MOST_TERMS as f64) as usize
            }
        };
        if needed > alternatives {
            return Ok(none());
        }
        if !required && needed == 0 {
            clauses.push((Occur::Must, all()));
        }
        Ok(Box::new(BooleanQuery::with_minimum_required_clauses(clauses, needed)))
    }

    /// Documents that have a value.
    pub(super) fn exists(&self, field: &str) -> Boxed {
        match self.mapping.field(field) {
            None if matches!(field, "_id" | "_source" | "_index") => all(),
            None => none(),
            // A text has no column: any of its words.
            Some(mapped) if mapped.kind == Kind::Text => RegexQuery::from_pattern("(.|\n)*", mapped.field)
                .map_or_else(|_| none(), |query| Box::new(query) as Boxed),
            Some(mapped) => Box::new(ExistsQuery::new(mapped.column.clone(), false)),
        }
    }

    fn ids(&self, values: &[&Json]) -> Result<Boxed, Refusal> {
        if values.len() > MOST_TERMS {
            return Err(Refusal::argument(format!("{} ids; at most {MOST_TERMS}", values.len())));
        }
        let id = self.mapping.own.id;
        Ok(Box::new(TermSetQuery::new(
            values.iter().map(|value| Term::from_field_bytes(id, plain_text(value).as_bytes())),
        )))
    }

    /// Documents with exactly this value.
    pub(super) fn term(&self, field: &str, value: &Json) -> Result<Boxed, Refusal> {
        if field == "_id" {
            return self.ids(&[value]);
        }
        if field == SEQ_NO {
            return self.numbered((Bound::Included(value), Bound::Included(value)));
        }
        let Some(mapped) = self.mapping.field(field) else { return Ok(none()) };
        // A whole number is never equal to one with a fraction.
        if mapped.kind.is_whole() && value::number(value).is_some_and(|number| number.fract() != 0.0) {
            return Ok(none());
        }
        if mapped.kind == Kind::Date {
            // A day is all of its instants, as in Elasticsearch.
            return self.range_of(mapped, field, (Bound::Included(value), Bound::Included(value)));
        }
        Ok(match read(mapped, field, value)? {
            None => none(),
            Some(term) => Box::new(TermQuery::new(term, IndexRecordOption::Basic)),
        })
    }

    fn terms(&self, body: &Json) -> Result<Boxed, Refusal> {
        let fields = body.as_object().ok_or_else(|| Refusal::parsing("[terms] must be an object"))?;
        let mut named = fields.iter().filter(|(name, _)| !matches!(name.as_str(), "boost" | "_name"));
        let (Some((field, Json::Array(values))), None) = (named.next(), named.next()) else {
            return Err(Refusal::parsing("[terms] query requires one field with an array of terms"));
        };
        if values.len() > MOST_TERMS {
            return Err(Refusal::argument(format!("{} terms; at most {MOST_TERMS}", values.len())));
        }
        match self.mapping.field(field) {
            Some(mapped) if mapped.kind.is_text() => {
                let terms = values.iter().filter(|value| !value.is_null());
                Ok(Box::new(TermSetQuery::new(terms.map(|v| Term::from_field_text(mapped.field, &plain_text(v))))))
            }
            Some(mapped) if mapped.kind.is_whole() => {
                let numbers = values.iter().filter_map(|value| whole(mapped, field, value).transpose());
                Ok(Box::new(OneOf::whole(&mapped.column, numbers.collect::<Result<_, _>>()?)))
            }
            None if field == "_id" => self.ids(&values.iter().collect::<Vec<_>>()),
            None if field == SEQ_NO => {
                let numbers = values.iter().map(sequence_number).collect::<Result<_, _>>()?;
                Ok(Box::new(Numbered::among(self.spans, numbers)))
            }
            _ => {
                let queries: Result<Vec<Boxed>, Refusal> = values.iter().map(|value| self.term(field, value)).collect();
                queries.map(any)
            }
        }
    }

    fn range(&self, field: &str, bounds: &Json) -> Result<Boxed, Refusal> {
        let given = bounds.as_object().ok_or_else(|| Refusal::parsing("[range] must be an object"))?;
        let (mut lower, mut upper) = (Bound::Unbounded, Bound::Unbounded);
        for (name, bound) in given {
            match name.as_str() {
                "gte" | "gt" | "lte" | "lt" | "from" | "to" if bound.is_null() => {}
                "gte" | "from" => lower = Bound::Included(bound),
                "gt" => lower = Bound::Excluded(bound),
                "lte" | "to" => upper = Bound::Included(bound),
                "lt" => upper = Bound::Excluded(bound),
                "format" | "boost" | "relation" | "_name" => {}
                "time_zone" if matches!(bound.as_str(), Some("UTC" | "Z" | "+00:00")) => {}
                other => return Err(Refusal::parsing(format!("[range] query does not support [{other}] here"))),
            }
        }
        match self.mapping.field(field) {
            Some(mapped) => self.range_of(mapped, field, (lower, upper)),
            None if field == SEQ_NO => self.numbered((lower, upper)),
            None => Ok(none()),
        }
    }

    /// Documents by their sequence numbers.
    fn numbered(&self, (lower, upper): (Bound<&Json>, Bound<&Json>)) -> Result<Boxed, Refusal> {
        let from = match lower {
            Bound::Included(value) => sequence_number(value)?,
            Bound::Excluded(value) => sequence_number(value)?.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let to = match upper {
            Bound::Included(value) => sequence_number(value)?.saturating_add(1),
            Bound::Excluded(value) => sequence_number(value)?,
            Bound::Unbounded => u64::MAX,
        };
        Ok(Box::new(Numbered::between(self.spans, from..to)))
    }

    /// Documents with a value between two bounds.
    pub(super) fn range_of(
        &self,
        mapped: &Mapped,
        field: &str,
        (lower, upper): (Bound<&Json>, Bound<&Json>),
    ) -> Result<Boxed, Refusal> {
        let lower = self.bound(mapped, field, lower, End::Lower)?;
        let upper = self.bound(mapped, field, upper, End::Upper)?;
        Ok(match (&lower, &upper) {
            (Bound::Unbounded, Bound::Unbounded) => self.exists(field),
            _ => Box::new(RangeQuery::new(lower, upper)),
        })
    }

    fn bound(&self, mapped: &Mapped, field: &str, bound: Bound<&Json>, end: End) -> Result<Bound<Term>, Refusal> {
        let (value, excluded) = match bound {
            Bound::Unbounded => return Ok(Bound::Unbounded),
            Bound::Included(value) => (value, false),
            Bound::Excluded(value) => (value, true),
        };
        if mapped.kind == Kind::Date {
            // After a day is after its last instant; until a day is until its last one.
            let rounding = if (end == End::Upper) != excluded { Rounding::Up } else { Rounding::Down };
            let at = dates::instant(value, rounding, self.now_ms)
                .ok_or_else(|| Refusal::parsing(format!("failed to parse date field [{}]", plain_text(value))))?;
            let term = Term::from_field_i64(mapped.field, at);
            return Ok(if excluded { Bound::Excluded(term) } else { Bound::Included(term) });
        }
        if let (true, Some(number)) =
            (mapped.kind.is_whole(), value::number(value).filter(|n| n.fract() != 0.0 || n.abs() >= 2_f64.powi(63)))
        {
            // Between two whole numbers, or beyond all of them: the next one on the inner side.
            let next = if end == End::Lower { number.ceil() } else { number.floor() };
            return Ok(Bound::Included(Term::from_field_i64(mapped.field, next as i64)));
        }
        let term = match range_term(mapped, field, value)? {
            Some(term) => term,
            None => return Ok(Bound::Unbounded),
        };
        Ok(if excluded { Bound::Excluded(term) } else { Bound::Included(term) })
    }

    /// What a person means by a value of a field: its words, or the whole.
    pub(super) fn matching(&self, field: &str, value: &Json, occur: Occur) -> Result<Boxed, Refusal> {
        match self.mapping.field(field) {
            Some(mapped) if mapped.kind == Kind::Text => {
                let terms =
                    words(&plain_text(value)).into_iter().map(|word| Term::from_field_text(mapped.field, &word));
                let queries: Vec<(Occur, Boxed)> =
                    terms.map(|t| (occur, Box::new(TermQuery::new(t, IndexRecordOption::Basic)) as Boxed)).collect();
                Ok(if queries.is_empty() { none() } else { Box::new(BooleanQuery::new(queries)) })
            }
            _ => self.term(field, value),
        }
    }

    /// Words of a text one after the other, or the whole of anything else.
    pub(super) fn phrase(&self, field: &str, text: &str) -> Result<Boxed, Refusal> {
        match self.mapping.field(field) {
            Some(mapped) if mapped.kind == Kind::Text => {
                let terms: Vec<Term> =
                    words(text).iter().map(|word| Term::from_field_text(mapped.field, word)).collect();
                Ok(match terms.len() {
                    0 => none(),
                    1 => any(terms
                        .into_iter()
                        .map(|t| Box::new(TermQuery::new(t, IndexRecordOption::Basic)) as Boxed)
                        .collect()),
                    _ => Box::new(PhraseQuery::new(terms)),
                })
            }
            _ => self.term(field, &Json::from(text)),
        }
    }

    /// Texts that match a pattern of `*` and `?`; `\` takes a character as it is.
    pub(super) fn pattern(&self, field: &str, pattern: &str) -> Result<Boxed, Refusal> {
        let (mut expression, mut characters) = (String::new(), pattern.chars());
        while let Some(c) = characters.next() {
            match c {
                '*' => expression.push_str("(.|\n)*"),
                '?' => expression.push_str("(.|\n)"),
                '\\' => push_literal(&mut expression, characters.next().unwrap_or('\\')),
                other => push_literal(&mut expression, other),
            }
        }
        self.regular_expression(field, &expression)
    }

    /// Texts that match a regular expression as a whole.
    pub(super) fn regular_expression(&self, field: &str, expression: &str) -> Result<Boxed, Refusal> {
        if expression.len() > LONGEST_PATTERN * 6 {
            return Err(Refusal::argument(format!("the pattern has more than {LONGEST_PATTERN} characters")));
        }
        let Some(mapped) = self.mapping.field(field) else { return Ok(none()) };
        if !mapped.kind.is_text() {
            return Err(Refusal::argument(format!(
                "Can only use patterns on keyword and text fields - not on [{field}] which is of type [{}]",
                mapped.kind.name()
            )));
        }
        Ok(Box::new(RegexQuery::from_pattern(expression, mapped.field)?))
    }
}

fn push_literal(expression: &mut String, c: char) {
    if !c.is_alphanumeric() && c != '_' && c != ' ' && c.is_ascii() {
        expression.push('\\');
    }
    expression.push(c);
}

/// A text in which `*`, `?` and `\` of a pattern stand for themselves.
pub(super) fn escaped(text: &str) -> String {
    text.chars().flat_map(|c| matches!(c, '*' | '?' | '\\').then_some('\\').into_iter().chain([c])).collect()
}

/// A value as one of a field.
fn scalar<'a>(mapped: &Mapped, field: &str, value: &'a Json) -> Result<Option<Scalar<'a>>, Refusal> {
    value::scalar(mapped.kind, value)
        .map_err(|reason| Refusal::argument(format!("failed to create query on field [{field}]: {reason}")))
}

/// A value as the term of a field.
fn read(mapped: &Mapped, field: &str, value: &Json) -> Result<Option<Term>, Refusal> {
    Ok(scalar(mapped, field, value)?.map(|scalar| match scalar {
        Scalar::Text(text) => Term::from_field_text(mapped.field, &text),
        Scalar::Whole(number) => Term::from_field_i64(mapped.field, number),
        Scalar::Float(number) => Term::from_field_f64(mapped.field, number),
    }))
}

/// A value as a whole number; `None` for one that no whole number is equal to.
fn whole(mapped: &Mapped, field: &str, value: &Json) -> Result<Option<i64>, Refusal> {
    if value::number(value).is_some_and(|number| number.fract() != 0.0) {
        return Ok(None);
    }
    Ok(scalar(mapped, field, value)?.and_then(|scalar| match scalar {
        Scalar::Whole(number) => Some(number),
        Scalar::Text(_) | Scalar::Float(_) => None,
    }))
}

fn sequence_number(value: &Json) -> Result<u64, Refusal> {
    value.as_u64().ok_or_else(|| Refusal::argument(format!("[{}] is no sequence number", plain_text(value))))
}

/// A bound may lie beyond what a field's type holds.
fn range_term(mapped: &Mapped, field: &str, value: &Json) -> Result<Option<Term>, Refusal> {
    match mapped.kind {
        Kind::Byte | Kind::Short | Kind::Integer => read(&mapped.widened(Kind::Long), field, value),
        Kind::Float => read(mapped, field, value).or_else(|_| read(&mapped.widened(Kind::Double), field, value)),
        _ => read(mapped, field, value),
    }
}

/// The words of a text as they are indexed: those of Tantivy's default tokenizer.
fn words(text: &str) -> Vec<String> {
    let mut analyzer = TextAnalyzer::builder(SimpleTokenizer::default())
        .filter(RemoveLongFilter::limit(LONGEST_WORD))
        .filter(LowerCaser)
        .build();
    let (mut stream, mut words) = (analyzer.token_stream(text), Vec::new());
    while let Some(token) = stream.next() {
        words.push(token.text.clone());
    }
    words
}
