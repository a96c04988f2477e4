//! How each stage is: how far behind, how much state, how full the queues, how fast the index answers.

use prometheus::core::{AtomicF64, GenericCounterVec, GenericGaugeVec};
use prometheus::{Opts, Registry};

use super::add;
use crate::status::Snapshot;

/// Adds them. A table whose log's end is not known yet has no lag.
pub(super) fn stages(registry: &Registry, snapshot: &Snapshot) {
    let tables = || snapshot.tables.iter().map(|(name, table)| (name.as_str(), table));
    let lag = || tables().filter_map(|(name, table)| Some((name, table.lag?)));
    let seconds = lag().map(|(name, lag)| (name, lag.ms as f64 / 1_000.0));
    gauges(registry, "lockstep_lag_seconds", "Age of what was taken last, while the log has more", "table", seconds);
    let offsets = lag().map(|(name, lag)| (name, lag.offsets as f64));
    gauges(
        registry,
        "lockstep_lag_offsets",
        "What the log has and was not taken: records, or bytes of a file",
        "table",
        offsets,
    );
    let rows = tables().map(|(name, table)| (name, table.rows as f64));
    gauges(registry, "lockstep_state_rows", "Rows in the join", "table", rows);
    let bytes = tables().map(|(name, table)| (name, table.bytes as f64));
    gauges(registry, "lockstep_state_bytes", "About how much memory they take", "table", bytes);
    let queues = &snapshot.queues;
    let queues = [("sources", queues.sources), ("sinks", queues.sinks), ("archive", queues.archive)];
    let fill = queues.map(|(name, queue)| (name, queue.waiting as f64 / queue.capacity.max(1) as f64));
    gauges(registry, "lockstep_queue_fill_ratio", "How full a queue is", "queue", fill);
    let sinks = || snapshot.sinks.iter().map(|(name, sink)| (name.as_str(), sink));
    let bulks = sinks().map(|(name, sink)| (name, sink.bulks as f64));
    counters(registry, "lockstep_bulk_requests_total", "Bulk requests that the index has answered", bulks);
    let seconds = sinks().map(|(name, sink)| (name, sink.bulk_seconds));
    counters(registry, "lockstep_bulk_seconds_total", "How long their answers took in all", seconds);
    if let Some(at_ms) = snapshot.archived_at_ms {
        let seconds = at_ms.unsigned_abs() / 1_000;
        super::gauge(registry, "lockstep_archived_timestamp_seconds", "When the archive took its last step", seconds);
    }
}

fn gauges<'a>(
    registry: &Registry,
    name: &str,
    help: &str,
    label: &str,
    values: impl IntoIterator<Item = (&'a str, f64)>,
) {
    if let Ok(gauges) = GenericGaugeVec::<AtomicF64>::new(Opts::new(name, help), &[label]) {
        values.into_iter().for_each(|(of, value)| gauges.with_label_values(&[of]).set(value));
        add(registry, gauges);
    }
}

fn counters<'a>(registry: &Registry, name: &str, help: &str, values: impl Iterator<Item = (&'a str, f64)>) {
    if let Ok(counters) = GenericCounterVec::<AtomicF64>::new(Opts::new(name, help), &["sink"]) {
        values.for_each(|(of, value)| counters.with_label_values(&[of]).inc_by(value));
        add(registry, counters);
    }
}
