//! A proxy before a Kafka broker that, when told to, lists no broker in its answers, as a broker does that has just started
//! and has not heard of itself yet. A client of librdkafka 2.10 and later lets go of every broker then, and finds none for
//! good (<https://github.com/confluentinc/librdkafka/issues/5301>).
//!
//! Of Kafka's protocol it knows the head of a request, and where an answer names brokers: `Metadata` in versions 9 to 13,
//! `FindCoordinator` in versions 1 and 2. It puts its own address there, so that no client finds a way around it.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What is asked, by the protocol's numbers.
const METADATA: i16 = 3;
const FIND_COORDINATOR: i16 = 10;

/// A proxy that answers in a broker's place; it ends with this value.
pub struct KafkaProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

struct Shared {
    broker: String,
    address: SocketAddr,
    lists_none: AtomicBool,
    emptied: AtomicUsize,
}

impl KafkaProxy {
    /// Starts before the broker at an address.
    pub async fn start(broker: &str) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("a port for the proxy")?;
        let address = listener.local_addr()?;
        let (lists_none, emptied) = (AtomicBool::new(false), AtomicUsize::new(0));
        let shared = Arc::new(Shared { broker: broker.to_owned(), address, lists_none, emptied });
        let accepting = tokio::spawn(accept(listener, shared.clone()));
        Ok(Self { address, shared, accepting })
    }

    /// The value of `bootstrap.servers`.
    #[must_use]
    pub fn brokers(&self) -> String {
        self.address.to_string()
    }

    /// From now on answers list no broker, or those that there are.
    pub fn list_no_broker(&self, none: bool) {
        self.shared.lists_none.store(none, Ordering::Release);
    }

    /// How many answers have listed no broker.
    #[must_use]
    pub fn emptied(&self) -> usize {
        self.shared.emptied.load(Ordering::Acquire)
    }
}

impl Drop for KafkaProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// A connection ends with an error when one of its ends goes away, which is nothing to tell.
async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((client, _)) = listener.accept().await {
        tokio::spawn(pass(client, shared.clone()));
    }
}

/// The questions under way whose answers name brokers: which of the two, by correlation id.
type Asked = Mutex<HashMap<i32, i16>>;

async fn pass(client: TcpStream, shared: Arc<Shared>) -> Result<()> {
    let broker = TcpStream::connect(&shared.broker).await?;
    let (from_client, to_client) = client.into_split();
    let (from_broker, to_broker) = broker.into_split();
    let asked = Asked::default();
    tokio::select! {
        ended = requests(from_client, to_broker, &asked) => ended,
        ended = answers(from_broker, to_client, &asked, &shared) => ended,
    }
}

async fn requests(mut client: OwnedReadHalf, mut broker: OwnedWriteHalf, asked: &Asked) -> Result<()> {
    loop {
        let request = frame(&mut client).await?;
        let mut head = Reader(&request);
        let (api, version, correlation) = (head.int16()?, head.int16()?, head.int32()?);
        let known = match api {
            METADATA => 9..=13,
            FIND_COORDINATOR => 1..=2,
            _ => i16::MIN..=i16::MAX,
        };
        ensure!(known.contains(&version), "question {api} in version {version}");
        asked.lock().unwrap_or_else(PoisonError::into_inner).insert(correlation, api);
        send(&mut broker, &request).await?;
    }
}

async fn answers(mut broker: OwnedReadHalf, mut client: OwnedWriteHalf, asked: &Asked, shared: &Shared) -> Result<()> {
    loop {
        let answer = frame(&mut broker).await?;
        let correlation = Reader(&answer).int32()?;
        let answer = match asked.lock().unwrap_or_else(PoisonError::into_inner).remove(&correlation) {
            Some(METADATA) => relisted(&answer, shared)?,
            Some(FIND_COORDINATOR) => coordinator(&answer, shared)?,
            _ => answer,
        };
        send(&mut client, &answer).await?;
    }
}

/// The answer with this proxy in the place of each broker, or with none.
fn relisted(answer: &[u8], shared: &Shared) -> Result<Vec<u8>> {
    let mut rest = Reader(answer);
    // Correlation id, no tags, how long the client is throttled.
    let mut relisted = rest.take(9)?.to_vec();
    let brokers = rest.varint()?.checked_sub(1).context("a list of brokers")?;
    let none = shared.lists_none.load(Ordering::Acquire);
    relisted.push(if none { 1 } else { u8::try_from(brokers + 1)? });
    for _ in 0..brokers {
        let id = rest.take(4)?;
        rest.text()?;
        rest.take(4)?;
        let rack_and_tags = rest.0;
        rest.text()?;
        ensure!(rest.varint()? == 0, "a broker with tags");
        let rack_and_tags = &rack_and_tags[..rack_and_tags.len() - rest.0.len()];
        if !none {
            let host = shared.address.ip().to_string();
            relisted.extend(id);
            relisted.push(u8::try_from(host.len() + 1)?);
            relisted.extend(host.as_bytes());
            relisted.extend(i32::from(shared.address.port()).to_be_bytes());
            relisted.extend(rack_and_tags);
        }
    }
    if none {
        shared.emptied.fetch_add(1, Ordering::AcqRel);
    }
    relisted.extend(rest.0);
    Ok(relisted)
}

/// The answer with this proxy as the coordinator.
fn coordinator(answer: &[u8], shared: &Shared) -> Result<Vec<u8>> {
    let mut rest = Reader(answer);
    // Correlation id, how long the client is throttled, an error.
    let mut found = rest.take(10)?.to_vec();
    let reason_and_id = rest.0;
    let reason = rest.int16()?;
    rest.take(usize::try_from(reason).unwrap_or(0) + 4)?;
    found.extend(&reason_and_id[..reason_and_id.len() - rest.0.len()]);
    let host = shared.address.ip().to_string();
    found.extend(i16::try_from(host.len())?.to_be_bytes());
    found.extend(host.as_bytes());
    found.extend(i32::from(shared.address.port()).to_be_bytes());
    Ok(found)
}

async fn frame(from: &mut OwnedReadHalf) -> Result<Vec<u8>> {
    let length = from.read_u32().await?;
    let mut frame = vec![0; usize::try_from(length)?];
    from.read_exact(&mut frame).await?;
    Ok(frame)
}

async fn send(to: &mut OwnedWriteHalf, frame: &[u8]) -> Result<()> {
    to.write_u32(u32::try_from(frame.len())?).await?;
    Ok(to.write_all(frame).await?)
}

/// What is not read yet of a frame.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count).context("the frame is too short")?;
        self.0 = rest;
        Ok(taken)
    }

    fn int16(&mut self) -> Result<i16> {
        Ok(i16::from_be_bytes(self.take(2)?.try_into()?))
    }

    fn int32(&mut self) -> Result<i32> {
        Ok(i32::from_be_bytes(self.take(4)?.try_into()?))
    }

    fn varint(&mut self) -> Result<usize> {
        let mut value = 0;
        for shift in (0..35).step_by(7) {
            let byte = self.take(1)?[0];
            value |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        Ok(value)
    }

    /// A text with its length plus one before it; a length of zero is none.
    fn text(&mut self) -> Result<()> {
        let length = self.varint()?;
        self.take(length.saturating_sub(1)).map(drop)
    }
}
