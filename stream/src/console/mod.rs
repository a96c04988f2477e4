//! The console: pages for people, rendered here and served on loopback. One style sheet and one script of our own, nothing
//! from elsewhere; without the script every page works and is brought up to date by loading it again.
//!
//! A view takes what the status, the index, the core or the archive's folder say and gives HTML; text goes through
//! `maud`, which escapes it. Charts are plain SVG with sizes in per cent and colours from the style sheet: so they are
//! sharp and readable at every width, light and dark, which chart libraries with fixed sizes, colours and inline styles
//! are not. Nothing here changes anything.

mod format;
mod guard;
mod layout;
mod chart;
mod dashboard;
mod pipeline;
mod sql;
mod records;
mod documents;
mod reconcile;
mod insights;

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use lockstep_shared::index::{Client, ClientConfig, IndexError, index_name};
use lockstep_shared::plan::{Pipeline, Sink};
use lockstep_shared::sql::settings::Settings;
use maud::{Markup, html};
use tokio::sync::mpsc;

pub use guard::guarded;

use crate::dashboard::Dashboard;
use crate::status::Status;
use crate::watch::Question;
use layout::{Page, Refresh};

/// How long a page waits for an index. Below what the script waits for a page: that the index is silent must not look as if
/// the stream were.
const INDEX_PATIENCE: Duration = Duration::from_secs(2);

/// What the views read.
pub struct Console {
    pipeline: Arc<Pipeline>,
    status: Arc<Status>,
    dashboard: Arc<Dashboard>,
    choices: dashboard::KnownChoices,
    questions: mpsc::Sender<Question>,
    indexes: Vec<Index>,
    archive: PathBuf,
    state: PathBuf,
    certificates: reconcile::Folder,
}

/// An index that a sink fills.
struct Index {
    sink: usize,
    name: String,
    client: Client,
}

impl Console {
    /// Over a pipeline; nothing is asked yet.
    ///
    /// # Errors
    /// Where the options of a sink are wrong.
    pub fn new(
        pipeline: Arc<Pipeline>,
        settings: &Settings,
        status: Arc<Status>,
        dashboard: Arc<Dashboard>,
        questions: mpsc::Sender<Question>,
    ) -> Result<Self, IndexError> {
        let sinks = pipeline.sinks.iter().enumerate().filter(|(_, sink)| sink.option("hosts").is_some());
        let index = |(number, sink): (usize, &Sink)| {
            let client = Client::new(&ClientConfig::of_sink(sink)?)?;
            Ok(Index { sink: number, name: index_name(sink).to_owned(), client })
        };
        let indexes: Result<Vec<Index>, IndexError> = sinks.map(index).collect();
        Ok(Self {
            indexes: indexes?,
            status,
            dashboard,
            choices: dashboard::KnownChoices::default(),
            questions,
            archive: settings.archive_path.clone(),
            state: settings.state_path.clone(),
            certificates: reconcile::Folder::new(&settings.archive_path),
            pipeline,
        })
    }
}

/// One view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// The shop's figures.
    Dashboard,
    /// The stages and how they are.
    Pipeline,
    /// What could not be read or written.
    Records,
    /// What is in the indexes, and from where.
    Documents,
    /// The certificates.
    Reconcile,
    /// What the figures say.
    Insights,
}

impl View {
    const ALL: [Self; 6] =
        [Self::Dashboard, Self::Pipeline, Self::Records, Self::Documents, Self::Reconcile, Self::Insights];

    fn name(self) -> &'static str {
        match self {
            Self::Dashboard => "Dashboard",
            Self::Pipeline => "Pipeline",
            Self::Records => "Records",
            Self::Documents => "Documents",
            Self::Reconcile => "Reconcile",
            Self::Insights => "Insights",
        }
    }

    fn path(self) -> &'static str {
        match self {
            Self::Dashboard => "/",
            Self::Pipeline => "/pipeline",
            Self::Records => "/records",
            Self::Documents => "/documents",
            Self::Reconcile => "/reconcile",
            Self::Insights => "/insights",
        }
    }
}

/// The pages and their files.
pub fn routes(console: Console) -> Router {
    Router::new()
        .route(View::Dashboard.path(), get(dashboard::show))
        .route(View::Pipeline.path(), get(pipeline::show))
        .route(View::Records.path(), get(records::show))
        .route(View::Documents.path(), get(documents::show))
        .route(View::Reconcile.path(), get(reconcile::show))
        .route(View::Insights.path(), get(insights::show))
        .route(layout::PULSE, get(pulse))
        .route("/assets/{name}", get(asset))
        .fallback(missing)
        .with_state(Arc::new(console))
}

/// A page as it is answered; nobody keeps it.
fn answer(page: Markup) -> Response {
    ([(header::CACHE_CONTROL, "no-store")], Html(page.into_string())).into_response()
}

async fn pulse(State(console): State<Arc<Console>>) -> Response {
    answer(layout::pulse_only(&console.status.snapshot()))
}

async fn missing(State(console): State<Arc<Console>>) -> Response {
    let views = html! {
        ul { @for view in View::ALL { li { a href=(view.path()) { (view.name()) } } } }
    };
    let page = Page {
        view: View::Dashboard,
        lead: "There is no such page.",
        refresh: Refresh::Pulse,
        body: layout::card("What there is", &views),
    };
    (StatusCode::NOT_FOUND, answer(page.render(&console.status.snapshot()))).into_response()
}

const STYLE: &str = include_str!("console.css");
const SCRIPT: &str = include_str!("console.js");

/// The files beside the pages. Their addresses change with their contents, so that a browser may keep them.
struct Assets(OnceLock<String>);

static ASSETS: Assets = Assets(OnceLock::new());

impl Assets {
    fn version(&self) -> &str {
        self.0.get_or_init(|| format!("{:08x}", crc32fast::hash(&[STYLE.as_bytes(), SCRIPT.as_bytes()].concat())))
    }

    fn style(&self) -> String {
        format!("/assets/console.css?v={}", self.version())
    }

    fn script(&self) -> String {
        format!("/assets/console.js?v={}", self.version())
    }

    fn icon(&self) -> String {
        format!("/assets/icon.svg?v={}", self.version())
    }
}

async fn asset(axum::extract::Path(name): axum::extract::Path<String>) -> Response {
    let (kind, body) = match name.as_str() {
        "console.css" => ("text/css; charset=utf-8", STYLE.to_owned()),
        "console.js" => ("text/javascript; charset=utf-8", SCRIPT.to_owned()),
        "icon.svg" => ("image/svg+xml", layout::icon()),
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    let kept = "public, max-age=31536000, immutable";
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, kept)], body).into_response()
}
