//! Expected against found: what differs. Pure.

use lockstep_shared::coordinates::Step;
use lockstep_shared::document::{FieldDifference, differences};
use lockstep_shared::identity::DocumentId;
use lockstep_shared::index::scan::Found;
use lockstep_shared::plan::Sink;
use lockstep_shared::value::Value;

use crate::recompute::Documents;

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

/// What becomes of documents that a step after the cut has written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Younger {
    /// They are left out: the stream has gone on since.
    LeftOut,
    /// There can be none, so that one differs whatever it holds.
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
    /// Documents that the index holds.
    pub found: u64,
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
        let is_younger = found.version.step() > self.cut;
        if is_younger && self.younger_are == Younger::LeftOut {
            self.younger += 1;
            return;
        }
        let Some(expected) = expected else {
            self.differences.push(Difference::Extra { found });
            return;
        };
        match differences(&self.sink.columns, &expected, &found.source) {
            // A version that no step has given keeps later writes out.
            none if none.is_empty() && !is_younger => self.equal += 1,
            fields => self.differences.push(Difference::Different { id, expected, fields, found }),
        }
    }

    /// What is left was not found.
    #[must_use]
    pub fn finish(self) -> Compared {
        let Self { expected, mut differences, equal, younger, found, .. } = self;
        differences.extend(expected.into_iter().map(|(id, expected)| Difference::Missing { id, expected }));
        Compared { differences, equal, younger, found }
    }
}
