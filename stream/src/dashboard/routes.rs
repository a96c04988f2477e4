//! The dashboard over HTTP, as JSON:
//!
//! * `GET /v1/panels`: the eight panels, without figures;
//! * `GET /v1/panels/ID?from&to&state&brand`: one of them with its figures;
//! * `GET /v1/filters`: the range of time, the states and the brands that there are;
//! * `GET /v1/insights`: the last report of `lockstep-batch insights`.
//!
//! `from` and `to` are milliseconds of the epoch or ISO-8601, and end half-open: [from, to). An error is
//! `{"error": sentence}`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::extract::{self, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

use super::{AskError, Dashboard, Filter, Panel, panels};

/// Where `lockstep-batch insights` leaves its last report, in the archive's folder.
const INSIGHTS: &str = "insights.json";
/// Largest report that is served; ours have some ten kilobytes.
const LARGEST_REPORT_BYTES: u64 = 4 * 1024 * 1024;

struct Shared {
    dashboard: Arc<Dashboard>,
    insights: PathBuf,
}

/// The routes, over the pipeline's own indexes and its archive.
pub fn routes(dashboard: Arc<Dashboard>, archive: &Path) -> Router {
    let shared = Arc::new(Shared { dashboard, insights: archive.join(INSIGHTS) });
    Router::new()
        .route("/v1/panels", get(all))
        .route("/v1/panels/{id}", get(one))
        .route("/v1/filters", get(filters))
        .route("/v1/insights", get(insights))
        .with_state(shared)
}

/// An error as the page and people read it.
fn refused(status: StatusCode, sentence: impl std::fmt::Display) -> Response {
    (status, Json(json!({"error": sentence.to_string()}))).into_response()
}

impl IntoResponse for AskError {
    fn into_response(self) -> Response {
        let status = match &self {
            Self::NoSink { .. } => StatusCode::NOT_FOUND,
            Self::Index(error) if error.is_unavailable() => StatusCode::SERVICE_UNAVAILABLE,
            Self::Slow { .. } => StatusCode::GATEWAY_TIMEOUT,
            Self::Index(_) | Self::Read(_) => StatusCode::BAD_GATEWAY,
        };
        refused(status, self)
    }
}

fn described(panel: &Panel) -> Value {
    let sources = panel.sources.iter().map(|s| json!({"sink": s.sink, "criteria": s.criteria}));
    json!({
        "id": panel.id, "title": panel.title, "kind": panel.kind, "definition": panel.definition,
        "grain": panel.grain, "sources": sources.collect::<Vec<_>>(),
    })
}

async fn all(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let listed = panels().iter().map(|panel| {
        let mut described = described(panel);
        described["available"] = json!(shared.dashboard.has(panel));
        described
    });
    Json(Value::Array(listed.collect()))
}

async fn one(
    State(shared): State<Arc<Shared>>,
    extract::Path(id): extract::Path<String>,
    Query(given): Query<Vec<(String, String)>>,
) -> Response {
    let Some(panel) = Panel::by_id(&id) else {
        let known: Vec<&str> = panels().iter().map(|panel| panel.id).collect();
        return refused(StatusCode::NOT_FOUND, format!("there is no panel '{id}'; there are {}", known.join(", ")));
    };
    let filter = match filter(&given) {
        Ok(filter) => filter,
        Err(sentence) => return refused(StatusCode::BAD_REQUEST, sentence),
    };
    match shared.dashboard.figures(panel, &filter).await {
        Err(error) => error.into_response(),
        Ok(shown) => {
            let mut answer = described(panel);
            answer["filter"] = json!(shown.filter);
            answer["figures"] = json!(shown.figures);
            Json(answer).into_response()
        }
    }
}

/// A name that is mistyped must not choose everything in silence.
fn filter(given: &[(String, String)]) -> Result<Filter, String> {
    const KNOWN: [&str; 4] = ["from", "to", "state", "brand"];
    if let Some((name, _)) = given.iter().find(|(name, _)| !KNOWN.contains(&name.as_str())) {
        return Err(format!("a filter has no '{name}'; it has {}", KNOWN.join(", ")));
    }
    let value = |name: &str| given.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    Filter::parse(value).map_err(|error| error.to_string())
}

async fn filters(State(shared): State<Arc<Shared>>) -> Response {
    match shared.dashboard.choices().await {
        Ok(choices) => Json(choices).into_response(),
        Err(error) => error.into_response(),
    }
}

async fn insights(State(shared): State<Arc<Shared>>) -> Response {
    match report(&shared.insights).await {
        Ok(report) => ([(header::CONTENT_TYPE, "application/json")], report).into_response(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            refused(StatusCode::NOT_FOUND, "there are no insights yet; run `lockstep-batch insights PIPELINE`")
        }
        Err(error) => refused(StatusCode::BAD_GATEWAY, format!("cannot read {}: {error}", shared.insights.display())),
    }
}

async fn report(path: &Path) -> std::io::Result<Vec<u8>> {
    let size = tokio::fs::metadata(path).await?.len();
    if size > LARGEST_REPORT_BYTES {
        let sentence = format!("it has {size} bytes, and at most {LARGEST_REPORT_BYTES} are served");
        return Err(std::io::Error::other(sentence));
    }
    tokio::fs::read(path).await
}
