//! The corruption suite: an index is damaged in ways whose cause is known, and the production comparison, causes and
//! repair must find every one of them, name it right, and make it good.
//!
//! `history` draws pipelines and what their logs hold.

pub mod history;
