//! Recomputes the join from the archive with Polars, compares every document of the index, and repairs what differs.
//!
//! `reconcile` compares up to a cut (`cut`): `recompute` gives the documents that should be, `diff` compares them with
//! the index's, `certificate` says what was found and done, and `kept` keeps that.
//! `life` tells how a document came to be, `cause` why it differs, `explain` gets the evidence for it, `programs` what an
//! earlier program gave, `provenance` where records stand, and `why` all of it for one document.
//! `insights` asks the archive about the shop. `frame` and `expression` carry the plan over to Polars.

pub mod certificate;
mod cut;
pub mod diff;
mod expression;
mod frame;
pub mod kept;
pub mod reconcile;
pub mod recompute;
pub mod life;
pub mod cause;
mod programs;
pub mod explain;
pub mod provenance;
pub mod why;
pub mod verify;
pub mod insights;
