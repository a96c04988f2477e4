//! How far the stream is behind its logs. Pure: whoever asks says what time it is.

use lockstep_shared::coordinates::TableId;
use serde::Serialize;

/// How far one table is behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Lag {
    /// Offsets between what was taken and the log's end: records of a topic, bytes of a file log.
    pub offsets: u64,
    /// How old what was taken last is, while more is there: by the log's own time, or where it has none, since the table
    /// was at its log's end. Zero at the end.
    pub ms: u64,
}

/// Where a partition stands.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    /// How far its log goes on; `None` where its end is not known.
    pub behind: Option<u64>,
    /// The log's time of the last record taken.
    pub timestamp_ms: Option<i64>,
}

/// What must be remembered of each table to say how long it is behind.
#[derive(Debug)]
pub struct Lags {
    at_end_ms: Vec<i64>,
}

impl Lags {
    /// For so many tables, from now on.
    #[must_use]
    pub fn new(tables: usize, now_ms: i64) -> Self {
        Self { at_end_ms: vec![now_ms; tables] }
    }

    /// How far a table with these partitions is behind now; `None` while the end of one is not known.
    pub fn of(&mut self, table: TableId, partitions: &[Standing], now_ms: i64) -> Option<Lag> {
        let offsets = partitions.iter().map(|p| p.behind).sum::<Option<u64>>().filter(|_| !partitions.is_empty())?;
        if offsets == 0 {
            self.at_end_ms[table.0] = now_ms;
            return Some(Lag::default());
        }
        let behind = partitions.iter().filter(|p| p.behind != Some(0));
        let oldest = behind.filter_map(|p| p.timestamp_ms).min().unwrap_or(self.at_end_ms[table.0]);
        Some(Lag { offsets, ms: u64::try_from(now_ms - oldest).unwrap_or(0) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lag_is_the_age_of_what_was_taken_last_or_the_time_since_the_end() {
        let mut lags = Lags::new(1, 1_000);
        let of = |behind, timestamp_ms| Standing { behind, timestamp_ms };
        let table = TableId(0);
        assert_eq!(lags.of(table, &[], 2_000), None);
        assert_eq!(lags.of(table, &[of(Some(5), None), of(None, None)], 2_000), None);
        assert_eq!(lags.of(table, &[of(Some(0), Some(7))], 2_000), Some(Lag { offsets: 0, ms: 0 }));
        assert_eq!(lags.of(table, &[of(Some(5), None)], 3_500), Some(Lag { offsets: 5, ms: 1_500 }));
        let partitions = [of(Some(5), Some(3_000)), of(Some(1), Some(2_500)), of(Some(0), Some(1))];
        assert_eq!(lags.of(table, &partitions, 3_500), Some(Lag { offsets: 6, ms: 1_000 }));
    }
}
