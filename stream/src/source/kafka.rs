//! Kafka topics by librdkafka: manual assignment of every partition, on one thread a topic.
//!
//! Positions are ours; nothing is taken from the consumer group. What is lost in the log (retention, a topic made anew)
//! is refused, never skipped.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use lockstep_shared::coordinates::{Channel, Offset, Partition, Place, TableId};
use lockstep_shared::plan::Table;
use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::statistics::Statistics;
use rdkafka::{Offset as KafkaOffset, TopicPartitionList};

use super::ends::{Ends, Found};
use super::{BATCH_RECORDS, Reader, SourceError, SourceEvent};
use crate::record::RawRecord;

/// How long one look for records waits.
const POLL: Duration = Duration::from_millis(50);
/// How long a question to the brokers waits.
const ASK: Duration = Duration::from_secs(10);
/// How long a question for the end of a log waits; it is asked again soon.
const ASK_END: Duration = Duration::from_secs(2);
/// How often new partitions are looked for.
const DISCOVER: Duration = Duration::from_secs(10);
/// How often a failure that the client repeats many times a second is logged.
const WARN_AGAIN: Duration = Duration::from_secs(10);
/// Largest record: 64 MiB, above any broker's usual limit.
const MAX_RECORD_BYTES: &str = "67108864";

/// What the result depends on, spelled out. `properties.*` of the table goes over these, except for the last three.
const DEFAULTS: [(&str, &str); 5] = [
    ("group.id", "lockstep"),
    ("isolation.level", "read_committed"),
    // The default of 1000 ms saws throughput wherever the queue is full for a moment.
    ("fetch.queue.backoff.ms", "2"),
    ("fetch.message.max.bytes", MAX_RECORD_BYTES),
    ("receive.message.max.bytes", "134217728"),
];
const FIXED: [(&str, &str); 5] = [
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("auto.offset.reset", "error"),
    ("enable.partition.eof", "true"),
    // Where reading has come to, also past what nobody reads: see `Reached`.
    ("statistics.interval.ms", "1000"),
];

/// Notes how far the client has read each partition. The end of a transaction and what was aborted are no records: after
/// them a reader stands below the end of the log and is at it all the same.
struct Reached {
    table: TableId,
    topic: String,
    ends: Arc<Ends>,
}

impl ClientContext for Reached {
    fn stats(&self, statistics: Statistics) {
        let Some(topic) = statistics.topics.get(&self.topic) else { return };
        for (partition, read) in &topic.partitions {
            let channel = Channel { table: self.table, partition: Partition(*partition) };
            self.ends.read_to(channel, Offset(read.eof_offset));
        }
    }
}

impl ConsumerContext for Reached {}

type Reading = BaseConsumer<Reached>;

/// A topic as the table's options name it.
pub struct Topic {
    table: String,
    topic: String,
    config: ClientConfig,
}

impl Topic {
    /// The topic of a table.
    pub fn of(table: &Table) -> Result<Self, SourceError> {
        let option =
            |option| table.option(option).ok_or_else(|| SourceError::Option { table: table.name.clone(), option });
        let topic = option("topic")?.to_owned();
        option("properties.bootstrap.servers")?;
        let mut config = ClientConfig::new();
        for (name, value) in DEFAULTS {
            config.set(name, value);
        }
        for (name, value) in &table.options {
            if let Some(property) = name.strip_prefix("properties.") {
                config.set(property, value);
            }
        }
        for (name, value) in FIXED {
            config.set(name, value);
        }
        Ok(Self { table: table.name.clone(), topic, config })
    }

    /// A failure of the client, in the words of somebody who looks for its cause.
    fn refused(&self, error: &KafkaError) -> SourceError {
        use RDKafkaErrorCode as Code;
        match error.rdkafka_error_code() {
            Some(Code::BrokerTransportFailure | Code::AllBrokersDown | Code::Resolve | Code::OperationTimedOut) => {
                self.failed(format!("the brokers do not answer ({error})"))
            }
            _ => self.failed(error),
        }
    }

    fn failed(&self, reason: impl ToString) -> SourceError {
        let servers = self.config.get("bootstrap.servers").unwrap_or_default().to_owned();
        SourceError::Kafka { table: self.table.clone(), topic: self.topic.clone(), servers, reason: reason.to_string() }
    }

    fn partitions<C: ConsumerContext>(
        &self,
        consumer: &BaseConsumer<C>,
        patience: Duration,
    ) -> Result<BTreeSet<Partition>, SourceError> {
        let metadata = consumer.fetch_metadata(Some(&self.topic), patience).map_err(|e| self.refused(&e))?;
        let topic = metadata.topics().iter().find(|t| t.name() == self.topic);
        let partitions: BTreeSet<Partition> =
            topic.into_iter().flat_map(|t| t.partitions()).map(|p| Partition(p.id())).collect();
        if partitions.is_empty() {
            Err(self.failed("there is no such topic; create it, or name another by --set"))
        } else {
            Ok(partitions)
        }
    }

    /// Whether the topic is there.
    pub fn check(&self, patience: Duration) -> Result<String, SourceError> {
        let consumer: BaseConsumer = self.config.create().map_err(|e| self.refused(&e))?;
        let partitions = self.partitions(&consumer, patience)?;
        Ok(format!("topic {} with {} partitions", self.topic, partitions.len()))
    }

    /// Says at each call where each partition ends now, over a connection of its own.
    pub fn ends(self) -> impl FnMut() -> Result<Found, SourceError> {
        let mut consumer: Option<BaseConsumer> = None;
        move || {
            let consumer = match &consumer {
                Some(consumer) => consumer,
                None => consumer.insert(self.config.create().map_err(|e| self.refused(&e))?),
            };
            let end = |partition: Partition| {
                let watermarks = consumer.fetch_watermarks(&self.topic, partition.0, ASK_END);
                watermarks.map(|(_, high)| (partition, Offset(high))).map_err(|e| self.refused(&e))
            };
            self.partitions(consumer, ASK_END)?.into_iter().map(end).collect()
        }
    }

    /// Reads until the reader is stopped.
    pub fn read(&self, reader: &Reader, commits: &Receiver<Vec<(Partition, Offset)>>) {
        if let Err(error) = self.follow(reader, commits) {
            reader.fail(&error);
        }
    }

    fn follow(&self, reader: &Reader, commits: &Receiver<Vec<(Partition, Offset)>>) -> Result<(), SourceError> {
        let reached = Reached { table: reader.id, topic: self.topic.clone(), ends: reader.ends.clone() };
        let consumer: Reading = self.config.create_with_context(reached).map_err(|e| self.refused(&e))?;
        let mut positions: BTreeMap<Partition, Offset> = BTreeMap::new();
        let mut discover = Instant::now();
        let mut warned = None;
        while !reader.stopped() {
            if Instant::now() >= discover {
                self.discover(reader, &consumer, &mut positions)?;
                discover = Instant::now() + if positions.is_empty() { Duration::from_secs(1) } else { DISCOVER };
            }
            self.poll(reader, &consumer, &mut positions, &mut warned)?;
            while let Ok(done) = commits.try_recv() {
                self.commit(&consumer, &done);
            }
        }
        Ok(())
    }

    /// Adds partitions that are new. Brokers that do not answer are waited for.
    fn discover(
        &self,
        reader: &Reader,
        consumer: &Reading,
        positions: &mut BTreeMap<Partition, Offset>,
    ) -> Result<(), SourceError> {
        let found = match self.partitions(consumer, ASK) {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!("waiting for Kafka: {error}");
                return Ok(());
            }
        };
        let new: Vec<Partition> = found.into_iter().filter(|p| !positions.contains_key(p)).collect();
        for partition in &new {
            let (low, high) = match consumer.fetch_watermarks(&self.topic, partition.0, ASK) {
                Ok(watermarks) => watermarks,
                Err(error) => {
                    tracing::warn!("waiting for Kafka: {}", self.refused(&error));
                    break;
                }
            };
            let start = reader.positions.get(partition).copied().unwrap_or(Offset(low));
            if start.0 < low || start.0 > high {
                let reason = format!(
                    "partition {partition} holds [{low}..{high}) and was read up to {start}: records are lost by retention, or the topic was made anew; \
                     begin with a new state and archive, or restore the topic"
                );
                return Err(self.failed(reason));
            }
            positions.insert(*partition, start);
            reader.ends.found(reader.channel(*partition), Offset(high));
            reader.send(SourceEvent::Partition { channel: reader.channel(*partition), start, end: Some(Offset(high)) });
        }
        if new.iter().any(|partition| positions.contains_key(partition)) {
            let mut assignment = TopicPartitionList::new();
            for (partition, offset) in positions.iter() {
                assignment
                    .add_partition_offset(&self.topic, partition.0, KafkaOffset::Offset(offset.0))
                    .map_err(|e| self.refused(&e))?;
            }
            consumer.assign(&assignment).map_err(|e| self.refused(&e))?;
        }
        Ok(())
    }

    fn poll(
        &self,
        reader: &Reader,
        consumer: &Reading,
        positions: &mut BTreeMap<Partition, Offset>,
        warned: &mut Option<Instant>,
    ) -> Result<(), SourceError> {
        let mut batches: BTreeMap<Partition, Vec<RawRecord>> = BTreeMap::new();
        let mut ended = Vec::new();
        let mut wait = POLL;
        for _ in 0..BATCH_RECORDS {
            match consumer.poll(wait) {
                None => break,
                Some(Ok(message)) => batches.entry(Partition(message.partition())).or_default().push(raw(&message)),
                Some(Err(KafkaError::PartitionEOF(partition))) => ended.push(Partition(partition)),
                Some(Err(error)) => self.judge(&error, warned)?,
            }
            wait = Duration::ZERO;
        }
        for (partition, mut records) in batches {
            // An assignment made anew may repeat what was delivered already.
            let position = positions.get(&partition).copied().unwrap_or(Offset(0));
            records.retain(|r| r.place.offset >= position);
            let Some(last) = records.last() else { continue };
            let to = Offset(last.place.offset.0 + 1);
            positions.insert(partition, to);
            reader.ends.moved(reader.channel(partition));
            reader.send(SourceEvent::Batch { channel: reader.channel(partition), records, to });
        }
        for partition in ended {
            if let Some(position) = positions.get(&partition) {
                reader.ends.reached(reader.channel(partition), *position);
            }
            reader.send(SourceEvent::CaughtUp { channel: reader.channel(partition) });
        }
        Ok(())
    }

    /// Lost offsets and refusals end the reading; everything else librdkafka tries again.
    fn judge(&self, error: &KafkaError, warned: &mut Option<Instant>) -> Result<(), SourceError> {
        use RDKafkaErrorCode as Code;
        match error.rdkafka_error_code() {
            Some(
                Code::AutoOffsetReset
                | Code::OffsetOutOfRange
                | Code::UnknownTopicOrPartition
                | Code::UnknownTopic
                | Code::UnknownPartition
                | Code::TopicAuthorizationFailed
                | Code::SaslAuthenticationFailed
                | Code::Fatal,
            ) => Err(self.refused(error)),
            _ => {
                if warned.is_none_or(|last| last.elapsed() >= WARN_AGAIN) {
                    tracing::warn!("waiting for Kafka: {}", self.refused(error));
                    *warned = Some(Instant::now());
                }
                Ok(())
            }
        }
    }

    fn commit(&self, consumer: &Reading, positions: &[(Partition, Offset)]) {
        let mut list = TopicPartitionList::new();
        for (partition, offset) in positions {
            if list.add_partition_offset(&self.topic, partition.0, KafkaOffset::Offset(offset.0)).is_err() {
                return;
            }
        }
        if let Err(error) = consumer.commit(&list, CommitMode::Async) {
            tracing::debug!("offsets of {} are not committed: {error}", self.topic);
        }
    }
}

fn raw(message: &BorrowedMessage<'_>) -> RawRecord {
    RawRecord {
        place: Place { partition: Partition(message.partition()), offset: Offset(message.offset()) },
        timestamp_ms: message.timestamp().to_millis(),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
    }
}
