//! The corruption suite: an index is damaged in ways whose cause is known, and the production comparison, causes and
//! repair must find every one of them, name it right, and make it good.
//!
//! `history` draws pipelines and what their logs hold, `world` is the index that a healthy stream leaves, `inject` and
//! `forge` damage it in the ways of `class`, `suite` has production look at it and judges, `confusion` is the table.

pub mod history;
pub mod world;
pub mod class;
pub mod inject;
mod forge;
pub mod suite;
pub mod confusion;
