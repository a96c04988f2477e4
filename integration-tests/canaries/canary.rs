//! Which known-wrong variant of the program runs on this thread. This file is in no build but that of the canaries.

use std::cell::Cell;

thread_local! {
    static SINGING: Cell<&'static str> = const { Cell::new("") };
}

/// Whether the variant of this name runs.
#[must_use]
pub fn sings(name: &str) -> bool {
    SINGING.get() == name
}

/// From now on the variant of this name runs; of an empty name the right one.
pub fn sing(name: &'static str) {
    SINGING.set(name);
}
