//! The status as Prometheus text: counters end in `_total` and only grow while the process lives, everything else is a
//! gauge. Labels are tables and sinks of the pipeline, its queues, the phases and the version: none grows with the data.

mod stages;

use prometheus::core::{
    AtomicF64, AtomicU64, Collector, GenericCounter, GenericCounterVec, GenericGauge, GenericGaugeVec,
};
use prometheus::{Encoder, Opts, Registry, TextEncoder};

use crate::certificate::VERDICTS;
use crate::status::{PHASES, Snapshot, TableStatus};

/// The metrics of a picture, in Prometheus' text format.
#[must_use]
pub fn text(snapshot: &Snapshot) -> String {
    let registry = Registry::new();
    steps_and_state(&registry, snapshot);
    certificate(&registry, snapshot);
    counters(&registry, snapshot);
    stages::stages(&registry, snapshot);
    let mut out = Vec::new();
    match TextEncoder::new().encode(&registry.gather(), &mut out) {
        Ok(()) => String::from_utf8_lossy(&out).into_owned(),
        Err(error) => format!("# cannot be written: {error}\n"),
    }
}

fn steps_and_state(registry: &Registry, snapshot: &Snapshot) {
    gauge(registry, "lockstep_step", "Last step cut", snapshot.step.0);
    gauge(registry, "lockstep_step_acknowledged", "Last step that the index has acknowledged", snapshot.acknowledged.0);
    gauge(registry, "lockstep_step_archived", "Last step in the archive", snapshot.archived.0);
    gauge(registry, "lockstep_rows", "Rows held by the join", snapshot.rows as u64);
    let trouble = u64::from(snapshot.trouble.is_some());
    gauge(registry, "lockstep_trouble", "1 while something stands in the way; /v1/status says what", trouble);
    let phases = PHASES.map(|phase| (phase, u64::from(phase == snapshot.phase)));
    gauges(registry, Opts::new("lockstep_phase", "1 for the phase that the stream is in"), "phase", phases);
    let version = [(env!("CARGO_PKG_VERSION"), 1)];
    gauges(registry, Opts::new("lockstep_build_info", "1, labelled with the version"), "version", version);
}

/// None where there is no certificate: an alert on its age cannot fire then, and one on its absence can.
fn certificate(registry: &Registry, snapshot: &Snapshot) {
    let Some(last) = &snapshot.certificate else { return };
    let name = |what: &str| format!("lockstep_certificate_{what}");
    let made = "When the last certificate of a reconcile was made, in seconds since 1970";
    gauge(registry, &name("made_timestamp_seconds"), made, last.made_at_seconds);
    gauge(registry, &name("differences"), "Documents that differed in the last certificate", last.differences);
    gauge(registry, &name("step"), "Step up to which the last certificate compared", last.cut.0);
    let verdicts = VERDICTS.map(|verdict| (verdict, u64::from(verdict == last.verdict)));
    let help = "1 for what the last certificate comes to";
    gauges(registry, Opts::new(name("verdict"), help), "verdict", verdicts);
}

fn counters(registry: &Registry, snapshot: &Snapshot) {
    counter(
        registry,
        "lockstep_documents_written_total",
        "Documents written and deleted since the start",
        snapshot.written,
    );
    counter(registry, "lockstep_cuts_total", "Cuts taken since the start", snapshot.cuts.taken);
    counter(registry, "lockstep_retries_total", "Writes sent again since the start", snapshot.retries);
    counter(
        registry,
        "lockstep_dead_letters_total",
        "Documents rejected by the index since the start",
        snapshot.dead_letters,
    );
    if let Ok(held) = GenericCounter::<AtomicF64>::new(
        "lockstep_cut_held_seconds_total",
        "How long the sinks were held for them in all",
    ) {
        held.inc_by(snapshot.cuts.held_seconds);
        add(registry, held);
    }
    let of = |count: fn(&TableStatus) -> u64| snapshot.tables.iter().map(move |(name, t)| (name.as_str(), count(t)));
    by_table(registry, "lockstep_records_total", "Records taken since the start", of(|t| t.records));
    by_table(registry, "lockstep_rejected_total", "Records that could not be read", of(|t| t.rejected));
    let unknown = of(|t| t.unknown_fields);
    by_table(registry, "lockstep_unknown_fields_total", "Fields that the table does not declare", unknown);
}

fn gauge(registry: &Registry, name: &str, help: &str, value: u64) {
    if let Ok(gauge) = GenericGauge::<AtomicU64>::new(name, help) {
        gauge.set(value);
        add(registry, gauge);
    }
}

fn gauges<'a>(registry: &Registry, opts: Opts, label: &str, values: impl IntoIterator<Item = (&'a str, u64)>) {
    if let Ok(gauges) = GenericGaugeVec::<AtomicU64>::new(opts, &[label]) {
        for (value, number) in values {
            gauges.with_label_values(&[value]).set(number);
        }
        add(registry, gauges);
    }
}

fn counter(registry: &Registry, name: &str, help: &str, value: u64) {
    if let Ok(counter) = GenericCounter::<AtomicU64>::new(name, help) {
        counter.inc_by(value);
        add(registry, counter);
    }
}

fn by_table<'a>(registry: &Registry, name: &str, help: &str, values: impl Iterator<Item = (&'a str, u64)>) {
    if let Ok(counters) = GenericCounterVec::<AtomicU64>::new(Opts::new(name, help), &["table"]) {
        for (table, value) in values {
            counters.with_label_values(&[table]).inc_by(value);
        }
        add(registry, counters);
    }
}

fn add(registry: &Registry, metric: impl Collector + 'static) {
    let registered = registry.register(Box::new(metric));
    assert!(registered.is_ok(), "each metric is registered once, under a valid name");
}
