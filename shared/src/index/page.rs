//! A page of a scan, read where it lies: what is not kept of a document is not copied.
//!
//! What is read of a document's `_source` is up to whoever reads: its text, or what a seed of serde makes of it on the way,
//! so that the text is gone through once.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value as Json;
use serde_json::value::RawValue;

use super::scan::Found;
use crate::coordinates::Version;
use crate::digest::CARRIED_BITS;

/// One page of a scan.
#[derive(Debug)]
pub struct Page<'a, S = &'a RawValue> {
    hits: Vec<Hit<'a, S>>,
}

/// A document as a page holds it.
#[derive(Debug)]
pub struct Hit<'a, S = &'a RawValue> {
    /// Its `_id`.
    pub id: Cow<'a, str>,
    /// Its version.
    pub version: Version,
    /// Its sequence number.
    pub seq_no: u64,
    /// The primary term of that number.
    pub primary_term: u64,
    /// The document, as it was read.
    pub source: Option<S>,
    /// Where it stands in the scan.
    sort: Option<&'a RawValue>,
}

impl<S> Hit<'_, S> {
    /// The digest that the document carries, in a page that was read with it; `None` where it carries none.
    #[must_use]
    pub fn carried(&self) -> Option<u64> {
        let (_, digest) = serde_json::from_str::<(Json, Json)>(self.sort?.get()).ok()?;
        digest.as_u64().filter(|digest| *digest < 1 << CARRIED_BITS)
    }
}

impl Hit<'_> {
    /// The document, read.
    #[must_use]
    pub fn found(&self) -> Found {
        Found {
            id: self.id.clone().into_owned(),
            version: self.version,
            seq_no: self.seq_no,
            primary_term: self.primary_term,
            source: self.source.and_then(|text| serde_json::from_str(text.get()).ok()).unwrap_or(Json::Null),
        }
    }
}

impl<'a> Page<'a> {
    /// Reads an answer, and leaves documents as text.
    ///
    /// # Errors
    /// A sentence, where it is not complete or no page.
    pub fn read(text: &'a [u8]) -> Result<Self, String> {
        Page::read_by(text, PhantomData)
    }
}

impl<'a, S> Page<'a, S> {
    /// Reads an answer, and documents by `source`.
    ///
    /// # Errors
    /// A sentence, where it is not complete or no page, or where `source` cannot read a document.
    pub fn read_by(text: &'a [u8], source: impl DeserializeSeed<'a, Value = S> + Copy) -> Result<Self, String> {
        let unreadable = |error: &dyn fmt::Display| format!("a page of the scan cannot be read: {error}");
        // Once for all of it: each of its texts would be looked at alone otherwise.
        let text = std::str::from_utf8(text).map_err(|error| unreadable(&error))?;
        let mut answer = serde_json::Deserializer::from_str(text);
        let read = Answer(source).deserialize(&mut answer).and_then(|read| answer.end().map(|()| read));
        let Read { timed_out, shards, hits } = read.map_err(|error| unreadable(&error))?;
        if timed_out || shards.failed > 0 {
            return Err("a page of the scan is not complete: a shard failed or took too long".into());
        }
        Ok(Self { hits })
    }

    /// Its documents.
    #[must_use]
    pub fn hits(&self) -> &[Hit<'a, S>] {
        &self.hits
    }

    /// Where the next page begins.
    #[must_use]
    pub fn after(&self) -> Option<Json> {
        serde_json::from_str(self.hits.last()?.sort?.get()).ok()
    }
}

/// What an answer says.
struct Read<'a, S> {
    timed_out: bool,
    shards: Shards,
    hits: Vec<Hit<'a, S>>,
}

#[derive(Default, Deserialize)]
struct Shards {
    failed: u64,
}

#[derive(Deserialize)]
#[serde(field_identifier)]
enum AnswerField {
    #[serde(rename = "timed_out")]
    TimedOut,
    #[serde(rename = "_shards")]
    Shards,
    #[serde(rename = "hits")]
    Hits,
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
#[serde(field_identifier)]
enum HitField {
    #[serde(rename = "_id")]
    Id,
    #[serde(rename = "_version")]
    Version,
    #[serde(rename = "_seq_no")]
    SeqNo,
    #[serde(rename = "_primary_term")]
    PrimaryTerm,
    #[serde(rename = "_source")]
    Source,
    #[serde(rename = "sort")]
    Sort,
    #[serde(other)]
    Other,
}

/// A text that is borrowed where no character of it is escaped.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// Reads an answer.
struct Answer<D>(D);

impl<'de, D: DeserializeSeed<'de> + Copy> DeserializeSeed<'de> for Answer<D> {
    type Value = Read<'de, D::Value>;

    fn deserialize<R: Deserializer<'de>>(self, deserializer: R) -> Result<Self::Value, R::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, D: DeserializeSeed<'de> + Copy> Visitor<'de> for Answer<D> {
    type Value = Read<'de, D::Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the answer of a search")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
        let (mut timed_out, mut shards, mut hits) = (false, Shards::default(), None);
        while let Some(field) = map.next_key()? {
            match field {
                AnswerField::TimedOut => timed_out = map.next_value()?,
                AnswerField::Shards => shards = map.next_value()?,
                AnswerField::Hits => hits = Some(map.next_value_seed(Hits(self.0))?),
                AnswerField::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(Read { timed_out, shards, hits: hits.ok_or_else(|| Error::missing_field("hits"))? })
    }
}

/// Reads what an answer says of its documents.
struct Hits<D>(D);

impl<'de, D: DeserializeSeed<'de> + Copy> DeserializeSeed<'de> for Hits<D> {
    type Value = Vec<Hit<'de, D::Value>>;

    fn deserialize<R: Deserializer<'de>>(self, deserializer: R) -> Result<Self::Value, R::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, D: DeserializeSeed<'de> + Copy> Visitor<'de> for Hits<D> {
    type Value = Vec<Hit<'de, D::Value>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the documents of an answer")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
        let mut hits = None;
        while let Some(field) = map.next_key()? {
            match field {
                AnswerField::Hits => hits = Some(map.next_value_seed(List(self.0))?),
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        hits.ok_or_else(|| Error::missing_field("hits"))
    }
}

/// Reads a list of documents.
struct List<D>(D);

impl<'de, D: DeserializeSeed<'de> + Copy> DeserializeSeed<'de> for List<D> {
    type Value = Vec<Hit<'de, D::Value>>;

    fn deserialize<R: Deserializer<'de>>(self, deserializer: R) -> Result<Self::Value, R::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, D: DeserializeSeed<'de> + Copy> Visitor<'de> for List<D> {
    type Value = Vec<Hit<'de, D::Value>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of documents")
    }

    fn visit_seq<Q: SeqAccess<'de>>(self, mut list: Q) -> Result<Self::Value, Q::Error> {
        let mut hits = Vec::new();
        while let Some(hit) = list.next_element_seed(One(self.0))? {
            hits.push(hit);
        }
        Ok(hits)
    }
}

/// Reads a document.
struct One<D>(D);

impl<'de, D: DeserializeSeed<'de> + Copy> DeserializeSeed<'de> for One<D> {
    type Value = Hit<'de, D::Value>;

    fn deserialize<R: Deserializer<'de>>(self, deserializer: R) -> Result<Self::Value, R::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, D: DeserializeSeed<'de> + Copy> Visitor<'de> for One<D> {
    type Value = Hit<'de, D::Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a document")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
        let (mut id, mut version, mut seq_no, mut primary_term) = (None, None, None, None);
        let (mut source, mut sort) = (None, None);
        while let Some(field) = map.next_key()? {
            match field {
                HitField::Id => id = Some(map.next_value::<Text<'de>>()?.0),
                HitField::Version => version = Some(map.next_value()?),
                HitField::SeqNo => seq_no = Some(map.next_value()?),
                HitField::PrimaryTerm => primary_term = Some(map.next_value()?),
                HitField::Source => source = Some(map.next_value_seed(self.0)?),
                HitField::Sort => sort = Some(map.next_value()?),
                HitField::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(Hit {
            id: id.ok_or_else(|| Error::missing_field("_id"))?,
            version: version.ok_or_else(|| Error::missing_field("_version"))?,
            seq_no: seq_no.ok_or_else(|| Error::missing_field("_seq_no"))?,
            primary_term: primary_term.ok_or_else(|| Error::missing_field("_primary_term"))?,
            source,
            sort,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_page_is_read_where_it_lies_and_an_incomplete_one_is_refused() {
        let text = br#"{"took":1,"_shards":{"total":1,"failed":0},"hits":{"max_score":null,"hits":[{"_index":"i",
            "_id":"a\"b","_version":7,"_seq_no":3,"_primary_term":1,"_score":null,"_source":{"x": 1.0},"sort":[12]}]}}"#;
        let page = Page::read(text).unwrap();
        assert_eq!(page.after(), Some(json!([12])));
        let hit = &page.hits()[0];
        assert_eq!((hit.id.as_ref(), hit.version, hit.seq_no), ("a\"b", Version(7), 3));
        assert_eq!(hit.source.map(RawValue::get), Some(r#"{"x": 1.0}"#));
        assert_eq!(hit.found().source, json!({"x": 1.0}));
        let by_type = Page::read_by(text, PhantomData::<Json>).unwrap();
        assert_eq!((by_type.hits()[0].source.as_ref(), by_type.after()), (Some(&json!({"x": 1.0})), Some(json!([12]))));
        for text in
            [&br#"{"timed_out":true,"hits":{"hits":[]}}"#[..], br#"{"_shards":{"failed":1},"hits":{"hits":[]}}"#]
        {
            assert!(Page::read(text).unwrap_err().contains("not complete"));
        }
    }

    #[test]
    fn what_lacks_something_or_goes_on_is_no_page() {
        let hit = r#"{"_id":"a","_version":7,"_seq_no":3,"_primary_term":1}"#;
        let page = |hit: &str| format!(r#"{{"hits":{{"hits":[{hit}]}}}}"#);
        assert_eq!(Page::read(page(hit).as_bytes()).unwrap().hits()[0].source.map(RawValue::get), None);
        for field in [r#""_id":"a","#, r#""_version":7,"#, r#""_seq_no":3,"#, r#","_primary_term":1"#] {
            assert!(Page::read(page(&hit.replace(field, "")).as_bytes()).is_err(), "without {field}");
        }
        for text in ["{}", r#"{"hits":{}}"#, "[]", &(page(hit) + "x"), &page(hit)[..20]] {
            assert!(Page::read(text.as_bytes()).is_err(), "{text}");
        }
    }
}
