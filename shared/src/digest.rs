//! A document in 128 bits, by the rule of [`crate::document`]: two spellings of one document have one digest.
//!
//! What should be is digested from values, what is there from its JSON, without building either. Each field that is not
//! NULL adds the hash of its canonical value; a field that the sink does not have, or that is no value of its column's type,
//! adds what no value adds. The id is part of it. Two documents that differ have one digest with a chance of 2^-128.
//!
//! The hash is XXH3, whose results are fixed for ever: a part of the digest is kept in indexes ([`Digest::carried`]).

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Number;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128_with_seed};

use crate::document::{Field, read_field, standing};
use crate::plan::Column;
use crate::types::DataType;
use crate::value::Scalar;

/// Bits of a digest that a document carries in the index: sums of 8,192 of them are exact in a double.
pub const CARRIED_BITS: u32 = 40;

/// Seeds of what no value of a column adds; those of columns count from 0.
const UNKNOWN_FIELD: u64 = u64::MAX;
const NO_OBJECT: u64 = u64::MAX - 1;
const WITH_ID: u64 = u64::MAX - 2;
/// Added to a column's seed for a field that is no value of its type.
const UNREADABLE: u64 = 1 << 32;

/// The digest of a document and its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub u128);

impl Digest {
    /// The part that a document carries in the index.
    #[must_use]
    pub fn carried(self) -> u64 {
        (self.0 >> (128 - CARRIED_BITS)) as u64
    }

    #[inline]
    fn new(id: &str, fields: u128) -> Self {
        let id = xxh3_128_with_seed(id.as_bytes(), WITH_ID);
        let mut both = [0; 32];
        both[..16].copy_from_slice(&id.to_le_bytes());
        both[16..].copy_from_slice(&fields.to_le_bytes());
        Self(xxh3_128_with_seed(&both, WITH_ID))
    }
}

/// Where a document's id stands among all: what documents are parted and joined by.
#[must_use]
pub fn hash_of_id(id: &str) -> u64 {
    xxh3_64(id.as_bytes())
}

/// A sum over bytes that tells whether they are whole.
#[must_use]
pub fn hash_of_bytes(bytes: &[u8]) -> u64 {
    xxh3_64(bytes)
}

/// The digest of what should be: a value a column, in order.
#[must_use]
#[inline]
pub fn of_values<'a>(id: &str, values: impl Iterator<Item = Scalar<'a>>) -> Digest {
    let add = |sum: u128, (column, value): (u64, Scalar<'a>)| sum.wrapping_add(hash(column, standing(value)));
    Digest::new(id, (0..).zip(values).fold(0, add))
}

/// The digest of what is there: a document's JSON.
#[must_use]
pub fn of_source(columns: &[Column], id: &str, source: &str) -> Digest {
    let mut text = serde_json::Deserializer::from_str(source);
    let fields = ReadFields(columns).deserialize(&mut text).ok().filter(|_| text.end().is_ok());
    fields.unwrap_or_else(Fields::of_no_object).with_id(id)
}

/// What a document's fields add to its digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fields(u128);

impl Fields {
    /// The digest of the document that has them.
    #[must_use]
    pub fn with_id(self, id: &str) -> Digest {
        Digest::new(id, self.0)
    }

    /// Those of what is no JSON object.
    #[must_use]
    pub fn of_no_object() -> Self {
        Self(xxh3_128_with_seed(b"", NO_OBJECT))
    }
}

/// What a value adds; NULL is absent.
#[inline]
fn hash(column: u64, value: Scalar<'_>) -> u128 {
    let of = |bytes: &[u8]| xxh3_128_with_seed(bytes, column);
    match value {
        Scalar::Null => 0,
        Scalar::Boolean(v) => of(&[v.into()]),
        Scalar::Integer(v) | Scalar::Timestamp(v) => of(&v.to_le_bytes()),
        // Minus zero is zero.
        Scalar::Float(v) => of(&(v + 0.0).to_bits().to_le_bytes()),
        Scalar::Double(v) => of(&(v + 0.0).to_bits().to_le_bytes()),
        Scalar::Decimal(v) => of(&v.to_le_bytes()),
        Scalar::String(v) => of(v.as_bytes()),
        Scalar::Date(v) => of(&v.to_le_bytes()),
    }
}

/// Reads a document where it lies in a longer text, by these columns. It fails where serde_json reads no value, though other
/// readers may: for a number beyond all doubles, or half of a character.
#[derive(Clone, Copy)]
pub struct ReadFields<'a>(pub &'a [Column]);

impl<'de> DeserializeSeed<'de> for ReadFields<'_> {
    type Value = Fields;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Fields, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ReadFields<'_> {
    type Value = Fields;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Fields, M::Error> {
        let Self(columns) = self;
        let (mut sum, mut likely) = (0_u128, 0);
        while let Some(name) = map.next_key_seed(Name { columns, likely })? {
            let added = match name {
                Named::Column(column) => {
                    likely = column + 1;
                    map.next_value_seed(Content { column: column as u64, data_type: columns[column].data_type })?
                }
                Named::Unknown(hash) => {
                    map.next_value::<IgnoredAny>()?;
                    hash
                }
            };
            sum = sum.wrapping_add(added);
        }
        Ok(Fields(sum))
    }

    fn visit_unit<E>(self) -> Result<Fields, E> {
        Ok(Fields::of_no_object())
    }

    fn visit_bool<E>(self, _: bool) -> Result<Fields, E> {
        Ok(Fields::of_no_object())
    }

    fn visit_i64<E>(self, _: i64) -> Result<Fields, E> {
        Ok(Fields::of_no_object())
    }

    fn visit_u64<E>(self, _: u64) -> Result<Fields, E> {
        Ok(Fields::of_no_object())
    }

    fn visit_f64<E>(self, _: f64) -> Result<Fields, E> {
        Ok(Fields::of_no_object())
    }

    fn visit_str<E>(self, _: &str) -> Result<Fields, E> {
        Ok(Fields::of_no_object())
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut list: S) -> Result<Fields, S::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Fields::of_no_object())
    }
}

/// What a field's name says.
enum Named {
    Column(usize),
    Unknown(u128),
}

/// Reads a field's name. Documents are written in the order of the columns, so that the next one is likely.
struct Name<'a> {
    columns: &'a [Column],
    likely: usize,
}

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = Named;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Named, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = Named;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field's name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Named, E> {
        if self.columns.get(self.likely).is_some_and(|column| column.name == name) {
            return Ok(Named::Column(self.likely));
        }
        Ok(match self.columns.iter().position(|column| column.name == name) {
            Some(column) => Named::Column(column),
            None => Named::Unknown(xxh3_128_with_seed(name.as_bytes(), UNKNOWN_FIELD)),
        })
    }
}

/// Reads a field's content; what it adds.
struct Content {
    column: u64,
    data_type: DataType,
}

impl Content {
    fn added(&self, field: &Field<'_>) -> u128 {
        match read_field(self.data_type, field) {
            Some(value) => hash(self.column, value),
            None => xxh3_128_with_seed(b"", self.column + UNREADABLE),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Content {
    type Value = u128;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<u128, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Content {
    type Value = u128;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field")
    }

    fn visit_unit<E>(self) -> Result<u128, E> {
        Ok(self.added(&Field::Null))
    }

    fn visit_bool<E>(self, v: bool) -> Result<u128, E> {
        Ok(self.added(&Field::Boolean(v)))
    }

    fn visit_i64<E>(self, v: i64) -> Result<u128, E> {
        Ok(self.added(&Field::Number(v.into())))
    }

    fn visit_u64<E>(self, v: u64) -> Result<u128, E> {
        Ok(self.added(&Field::Number(v.into())))
    }

    fn visit_f64<E>(self, v: f64) -> Result<u128, E> {
        Ok(self.added(&Number::from_f64(v).map_or(Field::Nested, Field::Number)))
    }

    fn visit_str<E>(self, v: &str) -> Result<u128, E> {
        Ok(self.added(&Field::Text(v)))
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut list: S) -> Result<u128, S::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(self.added(&Field::Nested))
    }

    fn visit_map<M: MapAccess<'de>>(self, mut object: M) -> Result<u128, M::Error> {
        while object.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(self.added(&Field::Nested))
    }
}

#[cfg(test)]
mod tests;
