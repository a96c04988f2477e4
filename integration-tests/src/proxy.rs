//! A proxy between a writer and its index server that breaks bulk requests on purpose, one fault per request.
//!
//! It knows two things of what passes: that a path ending in `_bulk` is a bulk request, and what the answer to one looks
//! like. Everything else is forwarded as it is. Faults are queued by the test and taken in order, so that a test knows
//! which request met which fault.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::os::fd::AsFd as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use anyhow::{Context as _, Result};
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::serve::IncomingStream;
use axum::{Router, serve};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Elasticsearch itself takes no larger request.
const BODY_LIMIT_BYTES: usize = 100 * 1024 * 1024;

/// What happens to one bulk request.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Answered with this status; the server never sees the request.
    Refuse(u16),
    /// Forwarded, then these items of the answer get this status. The write itself took place, as when a server's answer
    /// is late: a writer must be able to repeat it.
    RejectItems(Items, u16),
    /// Forwarded and applied, then the connection is cut without an answer.
    SwallowAnswer,
    /// Cut without being forwarded.
    SwallowRequest,
    /// Forwarded after this time.
    Delay(Duration),
}

/// Items of a bulk request.
#[derive(Clone, Debug)]
pub enum Items {
    /// All of them.
    All,
    /// The first, and then each n-th.
    Every(usize),
    /// Those with one of these ids.
    Ids(Vec<String>),
}

/// How many bulk requests came, and what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Bulk requests that arrived.
    pub bulks: u64,
    /// Those that met a fault.
    pub faulted: u64,
    /// Those that the server answered, whatever the writer heard of it.
    pub applied: u64,
}

/// The running proxy; it ends with the value.
pub struct Proxy {
    shared: Arc<Shared>,
    address: SocketAddr,
    accepting: Option<JoinHandle<std::io::Result<()>>>,
}

struct Shared {
    upstream: String,
    http: reqwest::Client,
    state: Mutex<ProxyState>,
}

#[derive(Default)]
struct ProxyState {
    faults: VecDeque<Fault>,
    seen: Seen,
    door: Door,
    /// Weak: a socket that is held here would not close when its connection ends.
    connections: Vec<Weak<Socket>>,
}

/// A connection that was made just before the door closed has a task of its own, which must not serve it.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Door {
    #[default]
    Open,
    Closed,
}

type Socket = std::io::Result<std::net::TcpStream>;

/// The socket beneath a connection: shutting it down is the one way to leave a request without any answer.
#[derive(Clone)]
struct Connection(Arc<Socket>);

impl Connected<IncomingStream<'_, TcpListener>> for Connection {
    fn connect_info(stream: IncomingStream<'_, TcpListener>) -> Self {
        Self(Arc::new(stream.io().as_fd().try_clone_to_owned().map(Into::into)))
    }
}

impl Connection {
    fn cut(&self) {
        cut(&self.0);
    }
}

/// An error says that the peer was faster, which comes to the same.
fn cut(socket: &Socket) {
    if let Ok(socket) = socket {
        drop(socket.shutdown(Shutdown::Both));
    }
}

impl Proxy {
    /// Starts in front of the server at `upstream`, on a loopback port of its own.
    pub async fn start(upstream: &str) -> Result<Self> {
        let http = reqwest::Client::builder().no_proxy().build()?;
        let upstream = upstream.trim_end_matches('/').to_owned();
        let shared = Arc::new(Shared { upstream, http, state: Mutex::default() });
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("a port for the proxy")?;
        let address = listener.local_addr()?;
        let accepting = Some(accept(listener, Arc::clone(&shared)));
        Ok(Self { shared, address, accepting })
    }

    /// What the writer takes for the server's address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next bulk request that has no fault yet meets this one.
    pub fn queue(&self, fault: Fault) {
        self.shared.state().faults.push_back(fault);
    }

    /// The next `times` bulk requests meet this fault.
    pub fn queue_times(&self, times: usize, fault: &Fault) {
        self.shared.state().faults.extend(std::iter::repeat_n(fault.clone(), times));
    }

    /// Faults that have not been met are taken back.
    pub fn clear(&self) {
        self.shared.state().faults.clear();
    }

    /// What has passed so far.
    #[must_use]
    pub fn seen(&self) -> Seen {
        self.shared.state().seen
    }

    /// Cuts every connection; new ones are refused.
    pub async fn refuse_connections(&mut self) {
        let Some(accepting) = self.accepting.take() else { return };
        accepting.abort();
        // The listener closes when the task is gone, not when it is asked to go.
        drop(accepting.await);
        self.shared.close();
    }

    /// Takes connections again, at the same address.
    pub async fn accept_connections(&mut self) -> Result<()> {
        if self.accepting.is_none() {
            let listener = TcpListener::bind(self.address).await.context("the proxy's port")?;
            self.shared.state().door = Door::Open;
            self.accepting = Some(accept(listener, Arc::clone(&self.shared)));
        }
        Ok(())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(accepting) = self.accepting.take() {
            accepting.abort();
        }
        self.shared.close();
    }
}

impl Shared {
    /// A test that panicked while it held the lock has failed already.
    fn state(&self) -> MutexGuard<'_, ProxyState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        let mut state = self.state();
        state.door = Door::Closed;
        for connection in state.connections.drain(..).filter_map(|c| c.upgrade()) {
            cut(&connection);
        }
    }

    /// Notes the connection that a request came over, and says whether the request may be served.
    fn enter(&self, connection: &Connection) -> Door {
        let mut state = self.state();
        let known = Arc::downgrade(&connection.0);
        if state.door == Door::Open && !state.connections.iter().any(|c| c.ptr_eq(&known)) {
            state.connections.retain(|c| c.strong_count() > 0);
            state.connections.push(known);
        }
        state.door
    }

    fn next_fault(&self) -> Option<Fault> {
        let mut state = self.state();
        state.seen.bulks += 1;
        let fault = state.faults.pop_front();
        state.seen.faulted += u64::from(fault.is_some());
        fault
    }
}

fn accept(listener: TcpListener, shared: Arc<Shared>) -> JoinHandle<std::io::Result<()>> {
    let service = Router::new().fallback(handle).with_state(shared).into_make_service_with_connect_info::<Connection>();
    tokio::spawn(async move { serve(listener, service).await })
}

async fn handle(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    request: Request,
) -> Response {
    if shared.enter(&connection) == Door::Closed {
        return swallow(&connection);
    }
    if !request.uri().path().ends_with("_bulk") {
        return forward(&shared, request).await.unwrap_or_else(bad_gateway);
    }
    let fault = shared.next_fault();
    match &fault {
        Some(Fault::Refuse(status)) => return refusal(*status),
        Some(Fault::SwallowRequest) => return swallow(&connection),
        Some(Fault::Delay(time)) => tokio::time::sleep(*time).await,
        Some(Fault::RejectItems(..) | Fault::SwallowAnswer) | None => {}
    }
    let answer = match forward(&shared, request).await {
        Ok(answer) => answer,
        Err(error) => return bad_gateway(error),
    };
    shared.state().seen.applied += 1;
    match fault {
        Some(Fault::SwallowAnswer) => swallow(&connection),
        Some(Fault::RejectItems(items, status)) => reject(answer, &items, status).await.unwrap_or_else(bad_gateway),
        _ => answer,
    }
}

/// The response is never sent: its connection is gone.
fn swallow(connection: &Connection) -> Response {
    connection.cut();
    StatusCode::NO_CONTENT.into_response()
}

fn refusal(status: u16) -> Response {
    let body = json!({"error": {"type": "es_rejected_execution_exception", "reason": "refused by the test"}, "status": status});
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, axum::Json(body)).into_response()
}

fn bad_gateway(error: anyhow::Error) -> Response {
    (StatusCode::BAD_GATEWAY, format!("{error:#}")).into_response()
}

async fn forward(shared: &Shared, request: Request) -> Result<Response> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().map_or("/", |p| p.as_str());
    let request = shared.http.request(parts.method, format!("{}{path}", shared.upstream));
    let body = to_bytes(body, BODY_LIMIT_BYTES).await?;
    let answer = request.headers(end_to_end(parts.headers)).body(body).send().await?;
    let (status, headers) = (answer.status(), end_to_end(answer.headers().clone()));
    Ok((status, headers, answer.bytes().await?).into_response())
}

/// Headers of one connection stay on it, and lengths are computed anew.
fn end_to_end(mut headers: HeaderMap) -> HeaderMap {
    for name in [header::HOST, header::CONNECTION, header::TRANSFER_ENCODING, header::CONTENT_LENGTH] {
        headers.remove(name);
    }
    headers
}

async fn reject(answer: Response, items: &Items, status: u16) -> Result<Response> {
    let (parts, body) = answer.into_parts();
    let bytes: Bytes = to_bytes(body, BODY_LIMIT_BYTES).await?;
    let mut answer: Value = serde_json::from_slice(&bytes).context("the answer to a bulk is not plain JSON")?;
    answer["errors"] = json!(true);
    let outcomes = answer["items"].as_array_mut().context("the answer to a bulk has no items")?;
    for (number, outcome) in
        outcomes.iter_mut().filter_map(|item| item.as_object_mut()?.values_mut().next()).enumerate()
    {
        if chosen(items, number, outcome) {
            let error = json!({"type": "es_rejected_execution_exception", "reason": "rejected by the test"});
            *outcome = json!({"_index": outcome["_index"], "_id": outcome["_id"], "status": status, "error": error});
        }
    }
    Ok((parts.status, end_to_end(parts.headers), Body::from(answer.to_string())).into_response())
}

fn chosen(items: &Items, number: usize, outcome: &Value) -> bool {
    match items {
        Items::All => true,
        Items::Every(n) => number.is_multiple_of(*n),
        Items::Ids(ids) => outcome["_id"].as_str().is_some_and(|id| ids.iter().any(|wanted| wanted == id)),
    }
}
