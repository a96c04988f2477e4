//! What Lockstep means.
