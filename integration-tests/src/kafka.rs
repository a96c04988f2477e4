//! A Kafka broker as tests use it: topics, records with everything that a record can carry, transactions, and reading a
//! topic back whole.
//!
//! Everything here waits for its end: when `produce` returns, the broker has the records.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use lockstep_shared::coordinates::{Offset, Partition};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Header, Headers as _, Message as _, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::{ClientConfig, Offset as Position};

use crate::eventually;

/// Limit of one request to the broker. A test that waits longer has found something.
const REQUEST_LIMIT: Duration = Duration::from_secs(20);
/// Bytes that a topic takes in one record: tests send larger ones than Kafka's default allows.
const LARGEST_RECORD: &str = "20000000";
/// Limit of one look whether the broker is there; a look that fails is followed by the next.
const LOOK_LIMIT_MS: &str = "2000";

/// A broker, by its address.
#[derive(Clone, Debug)]
pub struct Kafka {
    brokers: String,
}

/// What a test sends.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// `None` leaves the choice to the client, by the key.
    pub partition: Option<Partition>,
    /// The key's bytes.
    pub key: Option<Vec<u8>>,
    /// The value's bytes; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Headers in order; a name may come twice.
    pub headers: Vec<(String, Vec<u8>)>,
    /// `None` is the time of sending.
    pub timestamp_ms: Option<i64>,
}

impl Record {
    /// A record without a key.
    #[must_use]
    pub fn value(value: impl Into<Vec<u8>>) -> Self {
        Self { value: Some(value.into()), ..Self::default() }
    }

    /// A record with a key.
    #[must_use]
    pub fn keyed(key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        Self { key: Some(key.into()), ..Self::value(value) }
    }

    /// A record that deletes its key.
    #[must_use]
    pub fn tombstone(key: impl Into<Vec<u8>>) -> Self {
        Self { key: Some(key.into()), ..Self::default() }
    }

    /// The same record for one partition.
    #[must_use]
    pub fn to_partition(self, partition: Partition) -> Self {
        Self { partition: Some(partition), ..self }
    }
}

/// What a topic holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Where it stands.
    pub partition: Partition,
    /// Where it stands.
    pub offset: Offset,
    /// The key's bytes.
    pub key: Option<Vec<u8>>,
    /// The value's bytes; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Headers in order.
    pub headers: Vec<(String, Vec<u8>)>,
}

/// How a transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Readers of committed records see it.
    Commit,
    /// Its records stay in the log, and readers of committed records pass over them.
    Abort,
}

impl Kafka {
    /// A broker that somebody else started.
    #[must_use]
    pub fn new(brokers: String) -> Self {
        Self { brokers }
    }

    /// The value of `bootstrap.servers`.
    #[must_use]
    pub fn brokers(&self) -> &str {
        &self.brokers
    }

    /// A client configuration with the address only.
    #[must_use]
    pub fn client_config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers);
        config
    }

    /// Waits until a record is taken. A broker that lists its topics may not yet take anything.
    pub async fn ready(&self, within: Duration) -> Result<()> {
        let mut config = self.client_config();
        config.set("message.timeout.ms", LOOK_LIMIT_MS).set("acks", "all").set_log_level(NO_CLIENT_LOG);
        let producer: FutureProducer = config.create()?;
        eventually(&format!("Kafka at {} takes a record", self.brokers), within, async || {
            let record = FutureRecord::<(), _>::to("lockstep-ready").payload("ready");
            producer.send(record, LOOK_LIMIT).await.map(drop).map_err(|(error, _)| error.to_string())
        })
        .await
    }

    /// One look whether the broker takes a record.
    pub async fn answers(&self) -> Result<()> {
        let mut config = self.client_config();
        config.set("message.timeout.ms", LOOK_LIMIT_MS).set("acks", "all").set_log_level(NO_CLIENT_LOG);
        let producer: FutureProducer = config.create()?;
        let record = FutureRecord::<(), _>::to("lockstep-ready").payload("look");
        producer.send(record, LOOK_LIMIT).await.map(drop).map_err(|(error, _)| anyhow!(error))
    }

    /// Makes a topic and waits until each partition has its leader.
    pub async fn create_topic(&self, topic: &str, partitions: i32) -> Result<()> {
        let admin: AdminClient<DefaultClientContext> = self.client_config().create()?;
        let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1)).set("max.message.bytes", LARGEST_RECORD);
        let made = admin.create_topics(&[new], &admin_options()).await.with_context(|| format!("creating {topic}"))?;
        for result in made {
            result.map_err(|(topic, code)| anyhow!("creating topic {topic}: {code}"))?;
        }
        eventually(&format!("topic {topic} with {partitions} partitions"), REQUEST_LIMIT, async || {
            match self.end_offsets(topic).await {
                Ok(ends) if ends.len() == usize::try_from(partitions).unwrap_or(0) => Ok(()),
                Ok(ends) => Err(format!("{} partitions", ends.len())),
                Err(error) => Err(format!("{error:#}")),
            }
        })
        .await
    }

    /// Adds partitions to a topic, up to `partitions` in all.
    pub async fn add_partitions(&self, topic: &str, partitions: usize) -> Result<()> {
        let admin: AdminClient<DefaultClientContext> = self.client_config().create()?;
        let wanted = [rdkafka::admin::NewPartitions::new(topic, partitions)];
        for result in admin.create_partitions(&wanted, &admin_options()).await? {
            result.map_err(|(topic, code)| anyhow!("adding partitions to {topic}: {code}"))?;
        }
        Ok(())
    }

    /// Deletes a topic.
    pub async fn delete_topic(&self, topic: &str) -> Result<()> {
        let admin: AdminClient<DefaultClientContext> = self.client_config().create()?;
        for result in admin.delete_topics(&[topic], &admin_options()).await? {
            result.map_err(|(topic, code)| anyhow!("deleting topic {topic}: {code}"))?;
        }
        Ok(())
    }

    /// Deletes every record of a partition before an offset, as retention does.
    pub async fn delete_records(&self, topic: &str, partition: Partition, before: Offset) -> Result<()> {
        let admin: AdminClient<DefaultClientContext> = self.client_config().create()?;
        let mut offsets = TopicPartitionList::new();
        offsets.add_partition_offset(topic, partition.0, Position::Offset(before.0))?;
        admin.delete_records(&offsets, &admin_options()).await.with_context(|| format!("deleting from {topic}"))?;
        Ok(())
    }

    /// Deletes a topic and makes it anew, with other records from offset 0 on.
    pub async fn recreate_topic(&self, topic: &str, partitions: i32) -> Result<()> {
        self.delete_topic(topic).await?;
        // The name is free a moment after the answer.
        eventually(&format!("topic {topic} is made anew"), REQUEST_LIMIT, async || {
            self.create_topic(topic, partitions).await.map_err(|error| format!("{error:#}"))
        })
        .await
    }

    /// Sends records in order and returns where each one stands.
    pub async fn produce(&self, topic: &str, records: &[Record]) -> Result<Vec<(Partition, Offset)>> {
        let producer: FutureProducer = self.producer_config().create()?;
        send_all(&producer, topic, records).await
    }

    /// Sends records in one transaction of their own.
    pub async fn produce_in_transaction(&self, topic: &str, records: &[Record], ending: Ending) -> Result<()> {
        let mut config = self.producer_config();
        config.set("transactional.id", crate::containers::fresh_name(format!("{topic}-transaction")));
        let producer: FutureProducer = config.create()?;
        blocking(&producer, |p| p.init_transactions(REQUEST_LIMIT)).await.context("init of a transaction")?;
        producer.begin_transaction()?;
        send_all(&producer, topic, records).await?;
        let end = move |p: &FutureProducer| match ending {
            Ending::Commit => p.commit_transaction(REQUEST_LIMIT),
            Ending::Abort => p.abort_transaction(REQUEST_LIMIT),
        };
        blocking(&producer, end).await.with_context(|| format!("{ending:?} of a transaction"))
    }

    /// Where the next record of each partition would stand.
    pub async fn end_offsets(&self, topic: &str) -> Result<BTreeMap<Partition, Offset>> {
        let (config, topic) = (self.reader_config(), topic.to_owned());
        tokio::task::spawn_blocking(move || end_offsets(&config.create()?, &topic)).await?
    }

    /// All committed records of a topic as it stands now, by partition and offset.
    pub async fn read_committed(&self, topic: &str) -> Result<Vec<Received>> {
        let (config, topic) = (self.reader_config(), topic.to_owned());
        tokio::task::spawn_blocking(move || read_to_end(&config.create()?, &topic)).await?
    }

    fn producer_config(&self) -> ClientConfig {
        let mut config = self.client_config();
        config.set("message.timeout.ms", "20000").set("acks", "all").set("enable.idempotence", "true");
        config.set("linger.ms", "5").set("message.max.bytes", LARGEST_RECORD);
        config
    }

    fn reader_config(&self) -> ClientConfig {
        let mut config = self.client_config();
        config.set("group.id", "lockstep-tests").set("enable.auto.commit", "false");
        config.set("isolation.level", "read_committed").set("enable.partition.eof", "true");
        config.set("auto.offset.reset", "error").set("fetch.wait.max.ms", "50");
        config
    }
}

const LOOK_LIMIT: Duration = Duration::from_secs(2);
/// A broker that is not there yet is what is being asked: librdkafka's lines about it would fill the tests' output.
const NO_CLIENT_LOG: rdkafka::config::RDKafkaLogLevel = rdkafka::config::RDKafkaLogLevel::Emerg;

fn admin_options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(REQUEST_LIMIT))
}

/// The transaction calls of librdkafka block the thread that makes them.
async fn blocking(
    producer: &FutureProducer,
    call: impl FnOnce(&FutureProducer) -> rdkafka::error::KafkaResult<()> + Send + 'static,
) -> Result<()> {
    let producer = producer.clone();
    Ok(tokio::task::spawn_blocking(move || call(&producer)).await??)
}

async fn send_all(producer: &FutureProducer, topic: &str, records: &[Record]) -> Result<Vec<(Partition, Offset)>> {
    let mut deliveries = Vec::with_capacity(records.len());
    for record in records {
        deliveries.push(producer.send_result(outgoing(topic, record)).map_err(|(error, _)| error)?);
    }
    let mut places = Vec::with_capacity(records.len());
    for delivery in deliveries {
        let delivered = delivery.await?.map_err(|(error, _)| error).with_context(|| format!("sending to {topic}"))?;
        places.push((Partition(delivered.partition), Offset(delivered.offset)));
    }
    Ok(places)
}

fn outgoing<'a>(topic: &'a str, record: &'a Record) -> FutureRecord<'a, [u8], [u8]> {
    let mut headers = OwnedHeaders::new();
    for (name, value) in &record.headers {
        headers = headers.insert(Header { key: name, value: Some(value) });
    }
    FutureRecord {
        topic,
        partition: record.partition.map(|p| p.0),
        payload: record.value.as_deref(),
        key: record.key.as_deref(),
        timestamp: record.timestamp_ms,
        headers: Some(headers),
    }
}

fn end_offsets(consumer: &BaseConsumer, topic: &str) -> Result<BTreeMap<Partition, Offset>> {
    let metadata = consumer.fetch_metadata(Some(topic), REQUEST_LIMIT)?;
    let Some(found) = metadata.topics().iter().find(|t| t.name() == topic) else { bail!("no topic {topic}") };
    if let Some(error) = found.error() {
        bail!("topic {topic}: {error:?}");
    }
    let mut ends = BTreeMap::new();
    for partition in found.partitions() {
        let (_first, end) = consumer.fetch_watermarks(topic, partition.id(), REQUEST_LIMIT)?;
        ends.insert(Partition(partition.id()), Offset(end));
    }
    Ok(ends)
}

/// Ends at the end that each partition reports, not at a count: a transaction's end marks take offsets too.
fn read_to_end(consumer: &BaseConsumer, topic: &str) -> Result<Vec<Received>> {
    let ends = end_offsets(consumer, topic)?;
    let mut from_start = TopicPartitionList::new();
    for partition in ends.keys() {
        from_start.add_partition_offset(topic, partition.0, Position::Beginning)?;
    }
    consumer.assign(&from_start)?;
    let (mut received, mut ended) = (Vec::new(), 0);
    while ended < ends.len() {
        match consumer.poll(REQUEST_LIMIT) {
            None => bail!("topic {topic}: {ended} of {} partitions read to their end, then nothing", ends.len()),
            Some(Err(rdkafka::error::KafkaError::PartitionEOF(_))) => ended += 1,
            Some(Err(error)) => return Err(error.into()),
            Some(Ok(message)) => received.push(incoming(&message)),
        }
    }
    received.sort_by_key(|r| (r.partition, r.offset));
    Ok(received)
}

fn incoming(message: &rdkafka::message::BorrowedMessage<'_>) -> Received {
    let headers = message
        .headers()
        .map(|headers| headers.iter().map(|h| (h.key.to_owned(), h.value.unwrap_or_default().to_vec())).collect());
    Received {
        partition: Partition(message.partition()),
        offset: Offset(message.offset()),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers: headers.unwrap_or_default(),
    }
}
