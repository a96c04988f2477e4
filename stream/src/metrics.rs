//! The status as Prometheus text.

use prometheus::core::Collector;
use prometheus::{Encoder, GaugeVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};

use crate::status::{Snapshot, TableStatus};

/// The metrics of a picture, in Prometheus' text format.
#[must_use]
pub fn text(snapshot: &Snapshot) -> String {
    let registry = Registry::new();
    single(&registry, "lockstep_step", "Last step cut", snapshot.step.0);
    single(
        &registry,
        "lockstep_step_acknowledged",
        "Last step that the index has acknowledged",
        snapshot.acknowledged.0,
    );
    single(&registry, "lockstep_step_archived", "Last step in the archive", snapshot.archived.0);
    single(&registry, "lockstep_rows", "Rows held by the join", snapshot.rows as u64);
    single(
        &registry,
        "lockstep_documents_written_total",
        "Documents written and deleted since the start",
        snapshot.written,
    );
    single(&registry, "lockstep_retries_total", "Writes sent again since the start", snapshot.retries);
    single(
        &registry,
        "lockstep_dead_letters_total",
        "Documents rejected by the index since the start",
        snapshot.dead_letters,
    );
    let tables = &snapshot.tables;
    by_table(
        &registry,
        "lockstep_records_total",
        "Records taken since the start",
        tables.iter().map(|(n, t)| (n, t.records)),
    );
    by_table(
        &registry,
        "lockstep_rejected_total",
        "Records that could not be read",
        tables.iter().map(|(n, t)| (n, t.rejected)),
    );
    let unknown = tables.iter().map(|(n, t)| (n, t.unknown_fields));
    by_table(&registry, "lockstep_unknown_fields_total", "Fields that the table does not declare", unknown);
    by_table(&registry, "lockstep_state_rows", "Rows in the join", tables.iter().map(|(n, t)| (n, t.rows as u64)));
    by_table(
        &registry,
        "lockstep_state_bytes",
        "About how much memory they take",
        tables.iter().map(|(n, t)| (n, t.bytes as u64)),
    );
    lag(&registry, tables.iter());
    stages(&registry, snapshot);
    let mut out = Vec::new();
    match TextEncoder::new().encode(&registry.gather(), &mut out) {
        Ok(()) => String::from_utf8_lossy(&out).into_owned(),
        Err(error) => format!("# cannot be written: {error}\n"),
    }
}

/// Absent for a table whose log's end is not known.
fn lag<'a>(registry: &Registry, tables: impl Iterator<Item = (&'a String, &'a TableStatus)>) {
    let known: Vec<_> = tables.filter_map(|(name, table)| Some((name, table.lag?))).collect();
    by_table(
        registry,
        "lockstep_lag_offsets",
        "How far a table is behind its log: records of a topic, bytes of a file log",
        known.iter().map(|(name, lag)| (*name, lag.offsets)),
    );
    let seconds = known.iter().map(|(name, lag)| (name.as_str(), lag.ms as f64 / 1_000.0));
    real(registry, ("lockstep_lag_seconds", "How old what was taken last is, while more is there"), "table", seconds);
}

fn stages(registry: &Registry, snapshot: &Snapshot) {
    let queues =
        [("sources", snapshot.queues.sources), ("sinks", snapshot.queues.sinks), ("archive", snapshot.queues.archive)];
    let fill = queues.map(|(name, queue)| (name, queue.waiting as f64 / queue.capacity.max(1) as f64));
    real(registry, ("lockstep_queue_fill_ratio", "How full a queue is, from 0 to 1"), "queue", fill.into_iter());
    let sinks = || snapshot.sinks.iter();
    let seconds = sinks().map(|(name, sink)| (name.as_str(), sink.bulk_seconds));
    real(registry, ("lockstep_bulk_seconds_sum", "How long the index took to answer bulk requests"), "sink", seconds);
    let count = sinks().map(|(name, sink)| (name.as_str(), sink.bulks as f64));
    real(registry, ("lockstep_bulk_seconds_count", "Bulk requests that the index has answered"), "sink", count);
    if let Some(at_ms) = snapshot.archived_at_ms {
        single(
            registry,
            "lockstep_archived_timestamp_seconds",
            "When the archive took its last step",
            at_ms.unsigned_abs() / 1_000,
        );
    }
}

fn real<'a>(
    registry: &Registry,
    (name, help): (&str, &str),
    label: &str,
    values: impl Iterator<Item = (&'a str, f64)>,
) {
    if let Ok(gauges) = GaugeVec::new(Opts::new(name, help), &[label]) {
        for (of, value) in values {
            gauges.with_label_values(&[of]).set(value);
        }
        add(registry, gauges);
    }
}

fn single(registry: &Registry, name: &str, help: &str, value: u64) {
    if let Ok(gauge) = IntGauge::new(name, help) {
        gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        add(registry, gauge);
    }
}

fn by_table<'a>(registry: &Registry, name: &str, help: &str, values: impl Iterator<Item = (&'a String, u64)>) {
    if let Ok(gauges) = IntGaugeVec::new(Opts::new(name, help), &["table"]) {
        for (table, value) in values {
            gauges.with_label_values(&[table]).set(i64::try_from(value).unwrap_or(i64::MAX));
        }
        add(registry, gauges);
    }
}

fn add(registry: &Registry, metric: impl Collector + 'static) {
    let registered = registry.register(Box::new(metric));
    assert!(registered.is_ok(), "each metric is registered once, under a valid name");
}
