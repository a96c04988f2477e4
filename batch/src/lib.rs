//! Recomputes the join from the archive with Polars, compares every document of the index, and repairs what differs.
//!
//! `reconcile` compares up to a cut (`cut`): `recompute` gives the documents that should be, `diff` compares them with
//! the index's, `repair` plans what makes it so and does it (`fence` waits for the stream where that is needed, `running` asks
//! it), or
//! `plan_file` writes the plan down for later. `certificate` says what was found and done, and `kept` keeps that; `lock` keeps a
//! second one out.
//! `rebuild` puts a new index in the place of the old one; `compact` and `verify` look after the archive.
//! `life` tells how a document came to be, `cause` why it differs, `explain` gets the evidence for it, `programs` what an
//! earlier program gave, `provenance` where records stand, and `why` all of it for one document.
//! `insights` asks the archive about the shop. `frame` and `expression` carry the plan over to Polars.

pub mod command_line;
pub mod certificate;
mod cut;
pub mod diff;
pub mod repair;
mod fence;
mod running;
pub mod plan_file;
pub mod rebuild;
pub mod compact;
mod expression;
mod frame;
pub mod kept;
pub mod lock;
pub mod reconcile;
pub mod recompute;
pub mod life;
pub mod cause;
mod programs;
pub mod explain;
pub mod provenance;
pub mod why;
pub mod batch;
pub mod compare;
mod progress;
pub mod verify;
pub mod insights;
