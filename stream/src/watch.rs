//! Brings what the driver and the core know into the status, and answers what a person asks of the core.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use lockstep_shared::coordinates::TableId;
use lockstep_shared::plan::Pipeline;
use tokio::sync::oneshot;

use crate::core::Core;
use crate::join::Origin;
use crate::lag::{Lags, Standing};
use crate::progress::Progress;
use crate::source::Ends;
use crate::status::{Queues, Snapshot, Status};

/// How often what went through is noted, for rates.
const SAMPLE: Duration = Duration::from_secs(1);

/// A question that only the core can answer: the rows behind a document.
#[derive(Debug)]
pub struct Question {
    /// The sink, by its number in the pipeline.
    pub sink: usize,
    /// The document's `_id`.
    pub id: String,
    /// Who wants to know. `None` is answered where the join gives no such document now.
    pub reply: oneshot::Sender<Option<Vec<Origin>>>,
}

impl Question {
    /// Answers it.
    pub fn answer(self, core: &Core) {
        // Who asked may have gone.
        let _ = self.reply.send(core.join().origins(self.sink, &self.id));
    }
}

/// Writes the status.
pub struct Watch {
    pipeline: Arc<Pipeline>,
    status: Arc<Status>,
    lags: Lags,
    begin: Instant,
    sampled: Option<Instant>,
}

impl Watch {
    /// Begins now.
    #[must_use]
    pub fn new(pipeline: Arc<Pipeline>, status: Arc<Status>) -> Self {
        let lags = Lags::new(pipeline.tables.len(), now_ms());
        Self { pipeline, status, lags, begin: Instant::now(), sampled: None }
    }

    /// The archive has taken a step just now.
    pub fn archived_now(&self) {
        self.status.update(|s| s.archived_at_ms = Some(now_ms()));
    }

    /// Shows how far everything is.
    pub fn show(&mut self, core: &Core, progress: &Progress, ends: &Ends, queues: Queues) {
        let status = self.status.clone();
        status.update(|s| {
            s.phase = if core.is_replaying() { "replaying" } else { "live" };
            s.step = core.step();
            s.acknowledged = progress.acknowledged();
            s.archived = progress.archived();
            s.rows = core.rows();
            s.queues = queues;
            self.show_tables(core, s);
        });
        if self.sampled.is_none_or(|last| last.elapsed() >= SAMPLE) {
            self.sampled = Some(Instant::now());
            status.update(|s| self.show_slowly(core, ends, s));
            status.sample(u64::try_from(self.begin.elapsed().as_millis()).unwrap_or(u64::MAX));
        }
    }

    fn show_tables(&self, core: &Core, s: &mut Snapshot) {
        for (table, counts) in self.pipeline.tables.iter().zip(core.counts()) {
            let shown = s.tables.entry(table.name.clone()).or_default();
            shown.records = counts.records;
            shown.rejected = counts.rejected;
            shown.unknown_fields = counts.unknown_fields;
        }
        for (channel, offset) in core.positions() {
            let table = &self.pipeline.tables[channel.table.0].name;
            s.tables.entry(table.clone()).or_default().positions.insert(channel.partition.0, offset.0);
        }
    }

    /// What is not worth knowing more often than a sample is taken.
    fn show_slowly(&mut self, core: &Core, ends: &Ends, s: &mut Snapshot) {
        let now_ms = now_ms();
        for (number, (table, held)) in self.pipeline.tables.iter().zip(core.join().held()).enumerate() {
            let channels = core.positions().iter().filter(|(channel, _)| channel.table == TableId(number));
            let partitions: Vec<Standing> = channels
                .map(|(channel, position)| Standing {
                    behind: ends.behind(*channel, *position),
                    timestamp_ms: core.timestamp_ms(*channel),
                })
                .collect();
            let shown = s.tables.entry(table.name.clone()).or_default();
            shown.lag = self.lags.of(TableId(number), &partitions, now_ms);
            shown.rows = held.rows;
            shown.bytes = held.bytes;
        }
        for (number, sink) in self.pipeline.sinks.iter().enumerate() {
            s.sinks.entry(sink.name.clone()).or_default().fan_out = core.join().fan_out(number);
        }
    }
}

/// The time of day, in milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).ok().and_then(|d| i64::try_from(d.as_millis()).ok()).unwrap_or(0)
}
