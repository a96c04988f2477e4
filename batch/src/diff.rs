//! Expected against found: what differs. Pure.

use lockstep_shared::coordinates::Step;
use lockstep_shared::document::{FieldDifference, differences};
use lockstep_shared::identity::DocumentId;
use lockstep_shared::index::scan::Found;
use lockstep_shared::plan::Sink;
use lockstep_shared::value::Value;

use crate::recompute::Documents;

/// The field of a difference that is a version above the cut; the greatest that can be is what is expected.
pub const VERSION: &str = "_version";

/// One document that is not as it should be.
#[derive(Clone, Debug)]
pub enum Difference {
    /// It should be there.
    Missing {
        /// Its id.
        id: DocumentId,
        /// What it should be.
        expected: Vec<Value>,
    },
    /// It is there and some fields are not as they should be.
    Different {
        /// Its id.
        id: DocumentId,
        /// What it should be.
        expected: Vec<Value>,
        /// The fields.
        fields: Vec<FieldDifference>,
        /// What the index holds.
        found: Found,
    },
    /// It should not be there.
    Extra {
        /// What the index holds.
        found: Found,
    },
}

impl Difference {
    /// The document's id.
    #[must_use]
    pub fn id(&self) -> DocumentId {
        match self {
            Self::Missing { id, .. } | Self::Different { id, .. } => id.clone(),
            Self::Extra { found } => DocumentId(found.id.as_str().into()),
        }
    }

    /// What the index holds, if anything.
    #[must_use]
    pub fn found(&self) -> Option<&Found> {
        match self {
            Self::Missing { .. } => None,
            Self::Different { found, .. } | Self::Extra { found } => Some(found),
        }
    }
}

/// What becomes of documents whose version is above the cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Younger {
    /// The index goes on while it is read: they were written after the cut, and are left out.
    LeftOut,
    /// The index is read as it stood at the cut: nothing can be younger, so such a version is a difference.
    Judged,
}

/// A comparison under way: documents of the index are taken one by one, in any order.
pub struct Comparison<'a> {
    sink: &'a Sink,
    cut: Step,
    younger_are: Younger,
    expected: Documents,
    differences: Vec<Difference>,
    equal: u64,
    younger: u64,
    found: u64,
}

/// A comparison's result.
#[derive(Debug)]
pub struct Compared {
    /// What differs.
    pub differences: Vec<Difference>,
    /// Documents that are as they should be.
    pub equal: u64,
    /// Documents written or deleted after the cut: they are not judged.
    pub younger: u64,
    /// Documents that differ by their notes, and were too many to be looked at.
    pub unexamined: u64,
    /// Documents that the index holds.
    pub found: u64,
    /// Documents that were read of them: fewer where a pass was taken up again, or a quick one.
    pub read: u64,
    /// How they were compared.
    pub how: How,
}

impl Compared {
    /// How many documents are not as they should be, those among them that were not looked at.
    #[must_use]
    pub fn differing(&self) -> u64 {
        self.differences.len() as u64 + self.unexamined
    }
}

/// How documents were compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct How {
    /// `full` or `quick`.
    pub mode: &'static str,
    /// For people.
    pub what: String,
}

impl How {
    /// The mode that reads all.
    pub const FULL: &str = "full";

    /// Every field of every document.
    #[must_use]
    pub fn full(what: String) -> Self {
        Self { mode: Self::FULL, what }
    }
}

impl<'a> Comparison<'a> {
    /// Begins with what should be after the cut.
    #[must_use]
    pub fn new(sink: &'a Sink, cut: Step, younger_are: Younger, expected: Documents) -> Self {
        Self { sink, cut, younger_are, expected, differences: Vec::new(), equal: 0, younger: 0, found: 0 }
    }

    /// Takes a document of the index.
    pub fn take(&mut self, found: Found) {
        self.found += 1;
        let id = DocumentId(found.id.as_str().into());
        let expected = self.expected.remove(&id);
        let beyond = found.version.step() > self.cut;
        if beyond && self.younger_are == Younger::LeftOut {
            self.younger += 1;
            return;
        }
        let Some(expected) = expected else {
            self.differences.push(Difference::Extra { found });
            return;
        };
        let mut fields = differences(&self.sink.columns, &expected, &found.source);
        if beyond {
            fields.push(FieldDifference {
                field: VERSION.into(),
                expected: Some(self.cut.last_version().0.into()),
                found: Some(found.version.0.into()),
            });
        }
        match fields {
            none if none.is_empty() => self.equal += 1,
            fields => self.differences.push(Difference::Different { id, expected, fields, found }),
        }
    }

    /// What is left was not found.
    #[must_use]
    pub fn finish(self) -> Compared {
        let Self { expected, mut differences, equal, younger, found, .. } = self;
        differences.extend(expected.into_iter().map(|(id, expected)| Difference::Missing { id, expected }));
        Compared {
            differences,
            equal,
            younger,
            unexamined: 0,
            found,
            read: found,
            how: How::full("every field of every document".into()),
        }
    }
}
