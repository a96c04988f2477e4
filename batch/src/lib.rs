//! Recompute, compare, repair.
