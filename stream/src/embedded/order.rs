//! Which of two writes of a document wins: Elasticsearch's rules of versions. Pure.

use super::answer::Refusal;

/// What is known of an id: its document, or the memory of a deleted one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) version: u64,
    pub(super) seq_no: u64,
    /// Whether there is a document.
    pub(super) live: bool,
}

/// How a write asks to be ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Guard {
    /// The last one wins.
    None,
    /// `version_type=external`: only a greater version.
    External(u64),
    /// `version_type=external_gte`: no lesser version.
    ExternalGte(u64),
    /// `if_seq_no` and `if_primary_term`: only over this very write.
    Seen { seq_no: u64, primary_term: u64 },
    /// `op_type=create`: only where there is no document.
    Create,
}

/// The primary term: an index has one writer for ever.
pub(super) const PRIMARY_TERM: u64 = 1;

/// The version that a write gets, or the conflict.
pub(super) fn version(id: &str, known: Option<Known>, guard: Guard) -> Result<u64, Refusal> {
    let conflict = |reason: String| {
        Err(Refusal::new(409, "version_conflict_engine_exception", format!("[{id}]: version conflict, {reason}")))
    };
    let live = known.filter(|known| known.live);
    match (guard, known) {
        (Guard::External(given), Some(known)) if known.version >= given => {
            conflict(format!("current version [{}] is higher or equal to the one provided [{given}]", known.version))
        }
        (Guard::ExternalGte(given), Some(known)) if known.version > given => {
            conflict(format!("current version [{}] is higher than the one provided [{given}]", known.version))
        }
        (Guard::External(given) | Guard::ExternalGte(given), _) => Ok(given),
        (Guard::Seen { seq_no, primary_term }, _) => match live {
            Some(live) if live.seq_no == seq_no && primary_term == PRIMARY_TERM => Ok(live.version + 1),
            Some(live) => conflict(format!(
                "required seqNo [{seq_no}], primary term [{primary_term}]. current document has seqNo [{}] and primary \
                 term [{PRIMARY_TERM}]",
                live.seq_no
            )),
            None => {
                conflict(format!("required seqNo [{seq_no}], primary term [{primary_term}]. but no document was found"))
            }
        },
        (Guard::Create, _) if live.is_some() => {
            conflict(format!("document already exists (current version [{}])", live.map_or(0, |l| l.version)))
        }
        (Guard::Create | Guard::None, known) => Ok(known.map_or(1, |known| known.version + 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_are_elasticsearchs() {
        let at = |version, live| Some(Known { version, seq_no: 9, live });
        let seen = |seq_no| Guard::Seen { seq_no, primary_term: 1 };
        let table = [
            (None, Guard::None, Some(1)),
            (at(4, true), Guard::None, Some(5)),
            (at(4, false), Guard::None, Some(5)),
            (None, Guard::External(0), Some(0)),
            (at(4, true), Guard::External(4), None),
            (at(4, false), Guard::External(4), None),
            (at(4, true), Guard::External(5), Some(5)),
            (at(4, true), Guard::ExternalGte(4), Some(4)),
            (at(4, false), Guard::ExternalGte(4), Some(4)),
            (at(4, true), Guard::ExternalGte(3), None),
            (at(4, false), Guard::ExternalGte(3), None),
            (at(4, true), seen(9), Some(5)),
            (at(4, true), seen(8), None),
            (at(4, false), seen(9), None),
            (None, seen(9), None),
            (at(4, true), Guard::Seen { seq_no: 9, primary_term: 2 }, None),
            (None, Guard::Create, Some(1)),
            (at(4, false), Guard::Create, Some(5)),
            (at(4, true), Guard::Create, None),
        ];
        for (known, guard, expected) in table {
            assert_eq!(version("a", known, guard).ok(), expected, "{known:?} {guard:?}");
        }
    }
}
