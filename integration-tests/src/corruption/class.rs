//! The ways in which an index is damaged, and the cause that each of them must be named.

use lockstep_batch::cause::Cause;

/// One way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// A document is deleted by hand.
    Deleted,
    /// A new document that the index has not acknowledged.
    NotYetWritten,
    /// A change that the index has not acknowledged.
    NotYetChanged,
    /// A delete that the index has not acknowledged.
    NotYetDeleted,
    /// A new document that the index refused.
    RefusedNew,
    /// A change that the index refused.
    RefusedChange,
    /// An earlier state in place of the last.
    OlderState,
    /// A look-up's row came, and its fields are still NULL.
    PaddedLookup,
    /// The document with "none" for an input is there beside those with the partner.
    PaddedDocument,
    /// A document that ended is there.
    CameBack,
    /// A document under an id that an index made up.
    DoubleWithMadeUpId,
    /// A document under another spelling of its id.
    DoubleWithSimilarId,
    /// Fields of another row of a joined table.
    OtherRow,
    /// An id of two rows that do not meet.
    RowsThatDoNotMeet,
    /// A field changed, the version kept.
    ChangedAtSameVersion,
    /// A field changed as a person with a client does it.
    ChangedByHand,
    /// A document that ended, put there by hand.
    PutBackByHand,
    /// A right document at a version that no step has reached.
    VersionTooHigh,
    /// A document that ended, at a version that no step has reached.
    ExtraVersionTooHigh,
    /// A number as text, or text as a number.
    OtherType,
    /// A number with fewer digits.
    FewerDigits,
    /// A time with less of it.
    CoarserTime,
    /// A field that the mapping does not have.
    IgnoredField,
    /// An id and a content of somebody else.
    SomebodyElses,
    /// An id that looks like one of ours and names no row.
    IdOfNothing,
    /// As the program before this one gave it.
    EarlierProgram,
    /// Missing since the program before this one filtered it away.
    EarlierFilter,
}

impl Class {
    /// All of them.
    pub const ALL: [Self; 27] = [
        Self::Deleted,
        Self::NotYetWritten,
        Self::NotYetChanged,
        Self::NotYetDeleted,
        Self::RefusedNew,
        Self::RefusedChange,
        Self::OlderState,
        Self::PaddedLookup,
        Self::PaddedDocument,
        Self::CameBack,
        Self::DoubleWithMadeUpId,
        Self::DoubleWithSimilarId,
        Self::OtherRow,
        Self::RowsThatDoNotMeet,
        Self::ChangedAtSameVersion,
        Self::ChangedByHand,
        Self::PutBackByHand,
        Self::VersionTooHigh,
        Self::ExtraVersionTooHigh,
        Self::OtherType,
        Self::FewerDigits,
        Self::CoarserTime,
        Self::IgnoredField,
        Self::SomebodyElses,
        Self::IdOfNothing,
        Self::EarlierProgram,
        Self::EarlierFilter,
    ];

    /// What it must be named.
    #[must_use]
    pub fn cause(self) -> Cause {
        match self {
            Self::Deleted => Cause::WriteLost,
            Self::NotYetWritten | Self::NotYetChanged | Self::NotYetDeleted => Cause::NeverWritten,
            Self::RefusedNew | Self::RefusedChange => Cause::RejectedEarlier,
            Self::OlderState => Cause::Stale,
            Self::PaddedLookup | Self::PaddedDocument => Cause::PaddingNotRetracted,
            Self::CameBack => Cause::ResurrectedAfterDelete,
            Self::DoubleWithMadeUpId | Self::DoubleWithSimilarId => Cause::DuplicateIdentity,
            Self::OtherRow | Self::RowsThatDoNotMeet => Cause::WrongPartner,
            Self::ChangedAtSameVersion => Cause::Tampered,
            Self::ChangedByHand | Self::PutBackByHand => Cause::EditedByAnotherWriter,
            Self::VersionTooHigh | Self::ExtraVersionTooHigh => Cause::VersionBeyondLog,
            Self::OtherType | Self::FewerDigits | Self::CoarserTime | Self::IgnoredField => Cause::MappingCoercion,
            Self::SomebodyElses | Self::IdOfNothing => Cause::Foreign,
            Self::EarlierProgram | Self::EarlierFilter => Cause::PipelineChanged,
        }
    }

    /// For people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Deleted => "deleted by hand",
            Self::NotYetWritten => "new, not acknowledged yet",
            Self::NotYetChanged => "change not acknowledged yet",
            Self::NotYetDeleted => "delete not acknowledged yet",
            Self::RefusedNew => "new, refused by the index",
            Self::RefusedChange => "change refused by the index",
            Self::OlderState => "an older state",
            Self::PaddedLookup => "look-up still NULL",
            Self::PaddedDocument => "padded document left over",
            Self::CameBack => "came back after its end",
            Self::DoubleWithMadeUpId => "double under a made-up id",
            Self::DoubleWithSimilarId => "double under a similar id",
            Self::OtherRow => "fields of another row",
            Self::RowsThatDoNotMeet => "rows that do not meet",
            Self::ChangedAtSameVersion => "changed at the same version",
            Self::ChangedByHand => "changed by hand",
            Self::PutBackByHand => "put back by hand",
            Self::VersionTooHigh => "version too high",
            Self::ExtraVersionTooHigh => "extra, version too high",
            Self::OtherType => "stored as another type",
            Self::FewerDigits => "stored with fewer digits",
            Self::CoarserTime => "stored as a coarser time",
            Self::IgnoredField => "field ignored by the mapping",
            Self::SomebodyElses => "somebody else's document",
            Self::IdOfNothing => "id that names no row",
            Self::EarlierProgram => "as an earlier program gave it",
            Self::EarlierFilter => "filtered by an earlier program",
        }
    }
}
