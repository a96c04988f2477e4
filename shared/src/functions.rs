//! The function table: every function and operator that a query may call, its types, and its value.
//!
//! A function has two forms that must agree (law L8): [`Function::evaluate`] here, which the definition and the stream
//! use, and a Polars expression in `batch`. A test feeds both the same random input. NULL in gives NULL out unless the
//! function's line says otherwise; AND, OR and NOT follow SQL's three-valued logic. Integer arithmetic wraps at the
//! width of its type, as in Flink.

mod catalogue;
mod evaluate;
mod cast;

pub use cast::{CastRule, cast, cast_rule};
pub use catalogue::{Function, Unsuitable};
