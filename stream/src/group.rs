//! Steps that are written together: of each document the last change, at its own step's version. Pure.

use std::collections::BTreeMap;

use lockstep_shared::coordinates::Step;
use lockstep_shared::digest::of_values;
use lockstep_shared::document::write_json;
use lockstep_shared::identity::DocumentId;
use lockstep_shared::index::carried::{Carried, carry};
use lockstep_shared::index::{Action, Operation};
use lockstep_shared::plan::Sink;
use lockstep_shared::value::{Scalar, Value};

use crate::join::Change;

/// The changes of one step.
#[derive(Debug)]
pub struct Work {
    /// The step.
    pub step: Step,
    /// Its net changes.
    pub changes: Vec<Change>,
}

/// What is written to one sink: by document the step that changed it last, and its fields or that it goes.
pub type Changes = BTreeMap<DocumentId, (Step, Option<Vec<Value>>)>;

/// Some consecutive steps.
#[derive(Debug)]
pub struct Group {
    last: Step,
    sinks: Vec<Changes>,
}

impl Group {
    /// A group of one step, for this many sinks.
    #[must_use]
    pub fn new(sinks: usize, first: Work) -> Self {
        let mut group = Self { last: first.step, sinks: vec![Changes::new(); sinks] };
        group.add(first);
        group
    }

    /// Adds the step that follows.
    pub fn add(&mut self, work: Work) {
        self.last = work.step;
        for Change { sink, id, document } in work.changes {
            self.sinks[sink].insert(id, (work.step, document));
        }
    }

    /// The last step of the group, and what is written to each sink.
    #[must_use]
    pub fn finish(self) -> (Step, Vec<Changes>) {
        (self.last, self.sinks)
    }
}

/// The operations that bring changes into an index, each document with its digest where the index has a place for it.
#[must_use]
pub fn operations(sink: &Sink, changes: Changes, carried: &Carried) -> Vec<Operation> {
    let operation = |(id, (step, document)): (DocumentId, (Step, Option<Vec<Value>>))| {
        let action = match document {
            None => Action::Delete,
            Some(values) => {
                let mut json = Vec::with_capacity(256);
                write_json(&sink.columns, &values, &mut json);
                if *carried == Carried::Digest {
                    carry(carried, of_values(&id.0, values.iter().map(Scalar::from)), &mut json);
                }
                Action::Index(json)
            }
        };
        Operation { id, version: step.version(), action }
    };
    changes.into_iter().map(operation).collect()
}
