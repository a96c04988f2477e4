//! A record as a source delivers it: bytes with their place.

use lockstep_shared::coordinates::Place;

/// One message of a topic, or line of a file log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawRecord {
    /// Its partition and offset.
    pub place: Place,
    /// The log's time of it, in milliseconds since 1970.
    pub timestamp_ms: Option<i64>,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value; `None` deletes in a keyed table.
    pub value: Option<Vec<u8>>,
}
