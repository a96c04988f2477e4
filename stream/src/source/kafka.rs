//! Kafka topics by librdkafka: manual assignment of every partition, on one thread a topic.
//!
//! Positions are ours; nothing is taken from the consumer group. What is lost in the log (retention, a topic made anew or
//! cut) is refused, never skipped. A topic made anew that has grown past our position is known by the record before it:
//! reading begins there, with the one that was taken last, and that must be the same. Where compaction took that one away,
//! nothing tells. While a topic is read, the broker's id of it tells (Kafka 3.1 and later).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use lockstep_shared::coordinates::{Channel, Offset, Partition, Place, TableId};
use lockstep_shared::plan::Table;
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::statistics::Statistics;
use rdkafka::{Offset as KafkaOffset, TopicPartitionList};

use super::ends::{Ends, Found};
use super::{BATCH_BYTES, BATCH_RECORDS, LOG_LOST, Reader, SourceError, SourceEvent, is_same};
use crate::record::RawRecord;

/// How long one look for records waits.
const POLL: Duration = Duration::from_millis(50);
/// How long a question to the brokers waits.
const ASK: Duration = Duration::from_secs(10);
/// How long a question for the end of a log waits; it is asked again soon.
const ASK_END: Duration = Duration::from_secs(2);
/// How often new partitions are looked for.
const DISCOVER: Duration = Duration::from_secs(10);
/// After how many questions in a row that no broker answered a new client is tried.
const RENEW_AFTER: u32 = 2;
/// How often a failure that the client repeats many times a second is logged.
const WARN_AGAIN: Duration = Duration::from_secs(10);
/// What the result depends on, spelled out. `properties.*` of the table goes over these, except for the fixed ones.
const DEFAULTS: [(&str, &str); 8] = [
    ("group.id", "lockstep"),
    ("isolation.level", "read_committed"),
    // The default of 1000 ms saws throughput wherever the queue is full for a moment.
    ("fetch.queue.backoff.ms", "2"),
    // A record that is larger than an answer comes alone, up to what may be received.
    ("fetch.message.max.bytes", "4194304"),
    ("fetch.max.bytes", "16777216"),
    ("receive.message.max.bytes", "134217728"),
    // What waits inside the client, for each topic, beside one answer.
    ("queued.max.messages.kbytes", "16384"),
    ("queued.min.messages", "10000"),
];
const FIXED: [(&str, &str); 5] = [
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("auto.offset.reset", "error"),
    ("enable.partition.eof", "true"),
    // Where reading has come to, also past what nobody reads: see `TopicWatch`.
    ("statistics.interval.ms", "1000"),
];

/// Learns that a topic was made anew under the client. The client reads on in the new one as if nothing were, and says
/// so only in its debug log; a test in containers sees that it still says it in these words. Notes also how far the client
/// has read each partition: the end of a transaction and what was aborted are no records; after them a reader stands below
/// the end of the log and is at it all the same.
struct TopicWatch {
    is_another: AtomicBool,
    table: TableId,
    topic: String,
    ends: Arc<Ends>,
}

/// What the client says, and the id of a topic that it has not known before.
const ANOTHER_TOPIC: &str = "changed id from ";
const NO_TOPIC: &str = "changed id from AAAAAAAAAAAAAAAAAAAAAA";

impl ClientContext for TopicWatch {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, log_message: &str) {
        if log_message.contains(ANOTHER_TOPIC) && !log_message.contains(NO_TOPIC) {
            self.is_another.store(true, Ordering::Release);
        }
        DefaultClientContext.log(level, fac, log_message);
    }

    fn stats(&self, statistics: Statistics) {
        let Some(topic) = statistics.topics.get(&self.topic) else { return };
        for (partition, read) in &topic.partitions {
            let channel = Channel { table: self.table, partition: Partition(*partition) };
            self.ends.read_to(channel, Offset(read.eof_offset));
        }
    }
}

impl ConsumerContext for TopicWatch {}

/// Where a partition is read.
struct Tail {
    position: Offset,
    /// The record before it.
    last: Option<RawRecord>,
}

/// A topic that is being read.
struct Following {
    consumer: BaseConsumer<TopicWatch>,
    tails: BTreeMap<Partition, Tail>,
    warned: Option<Instant>,
    /// How often in a row the brokers did not say which partitions there are.
    unanswered: u32,
}

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
        // What the watch of the topic listens to.
        let debug = config.get("debug").map_or("topic".to_owned(), |given| format!("{given},topic"));
        config.set("debug", debug).set_log_level(RDKafkaLogLevel::Debug);
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

    /// Says at each call where each partition ends now, over a connection of its own; after a failure, over a new one.
    pub fn ends(self) -> impl FnMut() -> Result<Found, SourceError> {
        let mut kept: Option<BaseConsumer> = None;
        move || {
            let consumer = match kept.take() {
                Some(consumer) => consumer,
                None => self.config.create().map_err(|e| self.refused(&e))?,
            };
            let end = |partition: Partition| {
                let watermarks = consumer.fetch_watermarks(&self.topic, partition.0, ASK_END);
                watermarks.map(|(_, high)| (partition, Offset(high))).map_err(|e| self.refused(&e))
            };
            let ends = self.partitions(&consumer, ASK_END)?.into_iter().map(end).collect::<Result<_, _>>()?;
            kept = Some(consumer);
            Ok(ends)
        }
    }

    /// Reads until the reader is stopped.
    pub fn read(&self, reader: &Reader, commits: &Receiver<Vec<(Partition, Offset)>>) {
        if let Err(error) = self.follow(reader, commits) {
            reader.fail(&error);
        }
    }

    fn follow(&self, reader: &Reader, commits: &Receiver<Vec<(Partition, Offset)>>) -> Result<(), SourceError> {
        let consumer = self.client(reader)?;
        let mut following = Following { consumer, tails: BTreeMap::new(), warned: None, unanswered: 0 };
        let mut discover = Instant::now();
        while !reader.stopped() {
            if Instant::now() >= discover {
                self.discover(reader, &mut following)?;
                let soon = following.tails.is_empty();
                discover = Instant::now() + if soon { Duration::from_secs(1) } else { DISCOVER };
            }
            self.poll(reader, &mut following)?;
            while let Ok(done) = commits.try_recv() {
                self.commit(&following.consumer, &done);
            }
        }
        Ok(())
    }

    fn client(&self, reader: &Reader) -> Result<BaseConsumer<TopicWatch>, SourceError> {
        let (topic, ends) = (self.topic.clone(), reader.ends.clone());
        let watch = TopicWatch { is_another: AtomicBool::new(false), table: reader.id, topic, ends };
        self.config.create_with_context(watch).map_err(|e| self.refused(&e))
    }

    /// Adds partitions that are new. Brokers that do not answer are waited for.
    fn discover(&self, reader: &Reader, following: &mut Following) -> Result<(), SourceError> {
        let found = match self.partitions(&following.consumer, ASK) {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!("waiting for Kafka: {error}");
                following.unanswered += 1;
                return if following.unanswered < RENEW_AFTER { Ok(()) } else { self.renew(reader, following) };
            }
        };
        following.unanswered = 0;
        let new: Vec<Partition> = found.into_iter().filter(|p| !following.tails.contains_key(p)).collect();
        let mut assign = false;
        for partition in new {
            if reader.stopped() {
                break;
            }
            let (low, high) = match following.consumer.fetch_watermarks(&self.topic, partition.0, ASK) {
                Ok(watermarks) => watermarks,
                Err(error) => {
                    tracing::warn!("waiting for Kafka: {}", self.refused(&error));
                    break;
                }
            };
            let position = reader.positions.get(&partition).copied().unwrap_or(Offset(low));
            self.check_range(partition, position, (low, high))?;
            let last = reader.last.get(&partition).filter(|last| last.place.offset.0 >= low).cloned();
            following.tails.insert(partition, Tail { position, last });
            reader.ends.found(reader.channel(partition), Offset(high));
            let (channel, end) = (reader.channel(partition), Some(Offset(high)));
            reader.send(SourceEvent::Partition { channel, start: position, end });
            assign = true;
        }
        if assign { self.assign(following) } else { Ok(()) }
    }

    /// Another client takes the place of one that finds no broker where the other one does. A broker that has just started
    /// may answer that there are none; librdkafka lets go of every broker then, and of the addresses that it was given
    /// (<https://github.com/confluentinc/librdkafka/issues/5301>). As after a start, the last record tells whether the topic is
    /// still the same.
    fn renew(&self, reader: &Reader, following: &mut Following) -> Result<(), SourceError> {
        let consumer = self.client(reader)?;
        if reader.stopped() || self.partitions(&consumer, ASK).is_err() {
            return Ok(());
        }
        tracing::warn!(
            "topic {}: a new client finds brokers, and goes on in the place of one that finds none",
            self.topic
        );
        let lost = std::mem::replace(&mut following.consumer, consumer);
        // Leaving may wait for brokers.
        std::thread::spawn(move || drop(lost));
        following.unanswered = 0;
        self.assign(following)
    }

    fn check_range(&self, partition: Partition, position: Offset, (low, high): (i64, i64)) -> Result<(), SourceError> {
        if (low..=high).contains(&position.0) {
            return Ok(());
        }
        Err(self.failed(format!(
            "partition {partition} holds [{low}..{high}) and was read up to {position}: records are lost by retention, or the topic was cut or made anew; {LOG_LOST}"
        )))
    }

    /// Each partition from the record on that was taken last, to see that it is still the same.
    fn assign(&self, following: &Following) -> Result<(), SourceError> {
        let mut assignment = TopicPartitionList::new();
        for (partition, Tail { position, last }) in &following.tails {
            let from = last.as_ref().map_or(*position, |last| last.place.offset);
            assignment
                .add_partition_offset(&self.topic, partition.0, KafkaOffset::Offset(from.0))
                .map_err(|e| self.refused(&e))?;
        }
        following.consumer.assign(&assignment).map_err(|e| self.refused(&e))
    }

    fn poll(&self, reader: &Reader, following: &mut Following) -> Result<(), SourceError> {
        let mut batches: BTreeMap<Partition, Vec<RawRecord>> = BTreeMap::new();
        let (mut ended, mut wait, mut size_bytes) = (Vec::new(), POLL, 0);
        for _ in 0..BATCH_RECORDS {
            match following.consumer.poll(wait) {
                None => break,
                Some(Ok(message)) => {
                    size_bytes += message.payload_len();
                    batches.entry(Partition(message.partition())).or_default().push(raw(&message));
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => ended.push(Partition(partition)),
                Some(Err(error)) => self.judge(&error, following)?,
            }
            if size_bytes >= BATCH_BYTES {
                break;
            }
            wait = Duration::ZERO;
        }
        // Asked after they were received: the client learns of the new topic before it reads from it.
        if following.consumer.context().is_another.load(Ordering::Acquire) {
            return Err(self.failed(format!("the topic was made anew while it was read; {LOG_LOST}")));
        }
        for (partition, mut records) in batches {
            let Some(tail) = following.tails.get_mut(&partition) else { continue };
            self.check_last(tail, &records)?;
            // An assignment made anew repeats what was delivered already.
            records.retain(|r| r.place.offset >= tail.position);
            let Some(last) = records.last() else { continue };
            *tail = Tail { position: Offset(last.place.offset.0 + 1), last: Some(last.clone()) };
            let to = tail.position;
            reader.ends.moved(reader.channel(partition));
            reader.send(SourceEvent::Batch { channel: reader.channel(partition), records, to });
        }
        for partition in ended {
            if let Some(tail) = following.tails.get(&partition) {
                reader.ends.reached(reader.channel(partition), tail.position);
            }
            reader.send(SourceEvent::CaughtUp { channel: reader.channel(partition) });
        }
        Ok(())
    }

    /// Refuses a topic that has another record where the last one was taken.
    fn check_last(&self, tail: &Tail, records: &[RawRecord]) -> Result<(), SourceError> {
        let Some(last) = &tail.last else { return Ok(()) };
        match records.iter().find(|r| r.place.offset == last.place.offset) {
            Some(found) if !is_same(last, found) => Err(self.failed(format!(
                "partition {} has another record at offset {} than was read from there: the topic was made anew; {LOG_LOST}",
                last.place.partition, last.place.offset
            ))),
            _ => Ok(()),
        }
    }

    /// Lost offsets and refusals end the reading; everything else librdkafka tries again.
    fn judge(&self, error: &KafkaError, following: &mut Following) -> Result<(), SourceError> {
        use RDKafkaErrorCode as Code;
        match error.rdkafka_error_code() {
            Some(Code::AutoOffsetReset | Code::OffsetOutOfRange) => Err(self.lost(following)),
            Some(Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition) => {
                Err(self.failed(format!("the topic, or a partition of it, is gone; {LOG_LOST}")))
            }
            Some(Code::TopicAuthorizationFailed | Code::SaslAuthenticationFailed | Code::Fatal) => {
                Err(self.refused(error))
            }
            _ => {
                if following.warned.is_none_or(|last| last.elapsed() >= WARN_AGAIN) {
                    tracing::warn!("waiting for Kafka: {}", self.refused(error));
                    following.warned = Some(Instant::now());
                }
                Ok(())
            }
        }
    }

    /// The broker does not have the offset that is to be read next: which partition, and what it has.
    fn lost(&self, following: &Following) -> SourceError {
        for (partition, tail) in &following.tails {
            if let Ok(range) = following.consumer.fetch_watermarks(&self.topic, partition.0, ASK)
                && let Err(error) = self.check_range(*partition, tail.position, range)
            {
                return error;
            }
        }
        self.failed(format!(
            "the offset to be read next is not there: records are lost by retention, or the topic was cut or made anew; {LOG_LOST}"
        ))
    }

    fn commit(&self, consumer: &BaseConsumer<TopicWatch>, positions: &[(Partition, Offset)]) {
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
