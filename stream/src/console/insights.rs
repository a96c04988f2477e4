//! What the figures say: the last report of `lockstep-batch insights`, as it is in the archive's folder.

use std::path::Path;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use maud::{Markup, html};
use serde_json::Value as Json;

use super::layout::{Page, Refresh, card, command, empty};
use super::{Console, View, answer};

/// Where the report is.
const REPORT: &str = "insights.json";
/// Largest report that is read.
const LARGEST_BYTES: u64 = 4 * 1024 * 1024;

/// Answers the view.
pub async fn show(State(console): State<Arc<Console>>) -> Response {
    let path = console.archive.join(REPORT);
    let report = tokio::task::spawn_blocking(move || read(&path)).await.ok().flatten();
    let body = html! {
        @match &report {
            Some(report) => (whole(report)),
            None => (card("No report yet", &empty("Nothing was computed so far.", &html! { "The report is computed from the archive, beside the stream:" }))),
        }
        (card("Compute it anew", &command("lockstep-batch insights PIPELINE")))
    };
    let page = Page {
        view: View::Insights,
        lead: "What the data says, each with the number behind it; and where it says nothing.",
        refresh: Refresh::View,
        body,
    };
    answer(page.render(&console.status.snapshot()))
}

fn read(path: &Path) -> Option<Json> {
    if std::fs::metadata(path).ok()?.len() > LARGEST_BYTES {
        return None;
    }
    serde_json::from_str(&std::fs::read_to_string(path).ok()?).ok()
}

fn whole(report: &Json) -> Markup {
    html! { pre.raw tabindex="0" { code { (serde_json::to_string_pretty(report).unwrap_or_default()) } } }
}
