//! Records that could not be read, as far as a page shows them. The archive has them all, whole.

use std::collections::{BTreeMap, VecDeque};

use lockstep_shared::archive::ArchivedRecord;
use lockstep_shared::coordinates::{Place, Step};
use lockstep_shared::history::Content;

/// Most records kept in memory.
const RECORDS_SHOWN: usize = 500;
/// Most bytes of a key or value that are kept.
const BYTES_SHOWN: usize = 2_000;
/// Most kinds of reasons that are told apart; the rest are counted together.
const REASONS_COUNTED: usize = 50;
/// What the rest is called.
const OTHER_REASONS: &str = "other reasons";

/// A record that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectedRecord {
    /// Its table.
    pub table: String,
    /// Its partition and offset.
    pub place: Place,
    /// The step that took it.
    pub step: Step,
    /// The log's time of it, in milliseconds since 1970.
    pub timestamp_ms: Option<i64>,
    /// Why it could not be read.
    pub reason: String,
    /// How its key begins.
    pub key: Option<Bytes>,
    /// How its value begins.
    pub value: Option<Bytes>,
}

/// How some bytes begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bytes {
    /// As text; what is no UTF-8 is replaced.
    pub text: String,
    /// How many there are.
    pub length: usize,
}

impl Bytes {
    fn of(bytes: &[u8]) -> Self {
        let shown = &bytes[..bytes.len().min(BYTES_SHOWN)];
        Self { text: String::from_utf8_lossy(shown).into_owned(), length: bytes.len() }
    }

    /// Whether there is more than the text shows.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.length > BYTES_SHOWN
    }
}

impl RejectedRecord {
    /// The record, if it could not be read.
    #[must_use]
    pub fn of(table: &str, record: &ArchivedRecord) -> Option<Self> {
        let Content::Rejected(reason) = &record.content else { return None };
        Some(Self {
            table: table.to_owned(),
            place: record.place,
            step: record.step,
            timestamp_ms: record.timestamp_ms,
            reason: reason.to_string(),
            key: record.key.as_deref().map(Bytes::of),
            value: record.value.as_deref().map(Bytes::of),
        })
    }
}

/// The last records that could not be read, and how many there were for each kind of reason.
#[derive(Clone, Debug, Default)]
pub struct Shown {
    /// The last ones, oldest first.
    pub records: VecDeque<RejectedRecord>,
    /// How many since the start, by kind of reason.
    pub by_reason: BTreeMap<String, u64>,
}

impl Shown {
    /// One more.
    pub fn add(&mut self, record: RejectedRecord) {
        count(&mut self.by_reason, &record.reason);
        if self.records.len() == RECORDS_SHOWN {
            self.records.pop_front();
        }
        self.records.push_back(record);
    }
}

/// Counts a reason under its kind.
pub fn count(by_reason: &mut BTreeMap<String, u64>, reason: &str) {
    let kind = kind(reason);
    let known = by_reason.contains_key(&kind) || by_reason.len() < REASONS_COUNTED;
    *by_reason.entry(if known { kind } else { OTHER_REASONS.to_owned() }).or_default() += 1;
}

/// A reason without what was found in this one record: what it has in common with others of its kind.
#[must_use]
pub fn kind(reason: &str) -> String {
    // What was found stands after "is" where something was expected, else after a colon; a number or a text is found too.
    let (found, expected) = match reason.split_once("; expected ") {
        Some((found, expected)) => (found.split(" is ").next().unwrap_or(found), Some(expected)),
        None => (reason.split(": ").next().unwrap_or(reason), None),
    };
    let words = found
        .split(' ')
        .map(|word| if word.starts_with(|c: char| c.is_ascii_digit() || c == '"') { "…" } else { word });
    let found = words.collect::<Vec<_>>().join(" ");
    expected.map_or_else(|| found.clone(), |expected| format!("{found}: expected {expected}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_of_one_kind_are_counted_together() {
        let kinds = [
            ("column small is 300; expected TINYINT", "column small: expected TINYINT"),
            ("the value is not JSON: expected value at line 1 column 1", "the value is not JSON"),
            ("the value is not UTF-8 at byte 7", "the value is not UTF-8 at byte …"),
            (
                "the value has 9000000 bytes; expected at most 8388608",
                "the value has … bytes: expected at most 8388608",
            ),
            ("document_parsing_exception: [1:9] failed to parse field [x]", "document_parsing_exception"),
        ];
        for (reason, wanted) in kinds {
            assert_eq!(kind(reason), wanted);
        }
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut counts = BTreeMap::new();
        (0..200).for_each(|n| count(&mut counts, &format!("kind_{n}: said")));
        assert_eq!((counts.len(), counts[OTHER_REASONS]), (REASONS_COUNTED + 1, 150));
    }
}
