//! What to do where a disk says no: the end of a sentence whose beginning names file and failure.

use std::error::Error;
use std::io::{self, ErrorKind};

/// What a person can do about it, if the disk is the cause, however deep below the error; else nothing.
#[must_use]
pub fn advice(error: &(dyn Error + 'static)) -> &'static str {
    let mut cause = Some(error);
    while let Some(inner) = cause {
        let from_disk = inner.downcast_ref::<io::Error>();
        match from_disk.map(io::Error::kind) {
            Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => {
                return "; make room on that disk and start again: nothing is lost";
            }
            Some(ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied) => {
                return "; make it writable and start again: nothing is lost";
            }
            // An error that was put into one of the disk's is not its source, but what it stands for.
            _ => cause = from_disk.and_then(io::Error::get_ref).map(|e| e as _).or_else(|| inner.source()),
        }
    }
    ""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_found_below_other_errors() {
        let full = || io::Error::from(ErrorKind::StorageFull);
        assert!(advice(&full()).contains("make room"));
        assert!(advice(&io::Error::other(full())).contains("make room"));
        assert!(advice(&parquet::errors::ParquetError::External(Box::new(full()))).contains("make room"));
        assert_eq!(advice(&io::Error::from(ErrorKind::NotFound)), "");
    }
}
