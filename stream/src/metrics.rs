//! The status as Prometheus text.

use prometheus::core::Collector;
use prometheus::{Encoder, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};

use crate::status::Snapshot;

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
    let mut out = Vec::new();
    match TextEncoder::new().encode(&registry.gather(), &mut out) {
        Ok(()) => String::from_utf8_lossy(&out).into_owned(),
        Err(error) => format!("# cannot be written: {error}\n"),
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
