//! The certificates that `lockstep-batch reconcile` leaves beside the archive: over time, the last one in full, and how
//! to start one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::State;
use axum::response::Response;
use lockstep_shared::archive::CERTIFICATES;
use lockstep_shared::coordinates::Step;
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::Value as Json;

use super::layout::{Column, Page, Refresh, card, command, empty, scrolled, step, table_head};
use super::{Console, View, answer, format};
use crate::certificate::LARGEST_BYTES;

/// Certificates shown, the last first.
const SHOWN: usize = 60;
/// Of these, so many are listed at once.
const LISTED: usize = 12;

/// A certificate, as far as this view reads it. What a later version adds is shown with the text.
#[derive(Clone, Debug, Deserialize)]
struct Certificate {
    made_at: String,
    cut: Step,
    #[serde(default)]
    positions: BTreeMap<String, BTreeMap<String, i64>>,
    #[serde(default)]
    sinks: Vec<Report>,
    #[serde(skip)]
    text: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Report {
    sink: String,
    index: String,
    expected: u64,
    found: u64,
    equal: u64,
    younger: u64,
    missing: u64,
    different: u64,
    extra: u64,
    unexamined: u64,
    samples: Vec<Sample>,
    repair: Option<Repair>,
    held_back: Option<Json>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Sample {
    kind: String,
    id: String,
    cause: Option<Json>,
    fields: Vec<Field>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Field {
    field: String,
    expected: Json,
    found: Json,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Repair {
    done: u64,
    overtaken: u64,
    refused: Vec<Json>,
}

impl Report {
    fn differences(&self) -> u64 {
        self.missing + self.different + self.extra + self.unexamined
    }

    fn is_repaired(&self) -> bool {
        self.unexamined == 0 && self.repair.as_ref().is_some_and(|repair| repair.refused.is_empty())
    }
}

impl Certificate {
    fn differences(&self) -> u64 {
        self.sinks.iter().map(Report::differences).sum()
    }

    fn is_repaired(&self) -> bool {
        self.sinks.iter().filter(|report| report.differences() > 0).all(Report::is_repaired)
    }

    fn verdict(&self) -> Verdict {
        match self.differences() {
            0 => Verdict::Equal,
            _ if self.is_repaired() => Verdict::Repaired,
            _ => Verdict::Differs,
        }
    }

    /// Without fractions of a second.
    fn time(&self) -> String {
        self.made_at.chars().take(19).collect::<String>().replace('T', " ")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Equal,
    Repaired,
    Differs,
}

impl Verdict {
    fn class(self) -> &'static str {
        match self {
            Self::Equal => "ok",
            Self::Repaired => "busy",
            Self::Differs => "bad",
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Equal => "in lockstep",
            Self::Repaired => "repaired",
            Self::Differs => "differs",
        }
    }
}

/// The certificates' folder. Files are read once: they never change.
pub struct Folder {
    path: PathBuf,
    read: Mutex<BTreeMap<String, Option<Certificate>>>,
}

impl Folder {
    /// Beside an archive.
    pub fn new(archive: &Path) -> Self {
        Self { path: archive.join(CERTIFICATES), read: Mutex::default() }
    }

    /// The last ones, newest first; what is none is left out.
    fn last(&self) -> Vec<Certificate> {
        let names = std::fs::read_dir(&self.path)
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut names: Vec<String> = names.filter(|name| name.ends_with(".json")).collect();
        names.sort_unstable_by(|a, b| b.cmp(a));
        names.truncate(SHOWN);
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        read.retain(|name, _| names.contains(name));
        let one =
            |name: &String| read.entry(name.clone()).or_insert_with(|| certificate(&self.path.join(name))).clone();
        names.iter().filter_map(one).collect()
    }
}

fn certificate(path: &Path) -> Option<Certificate> {
    if std::fs::metadata(path).ok()?.len() > LARGEST_BYTES {
        return None;
    }
    let text = std::fs::read_to_string(path).ok()?;
    let certificate: Certificate = serde_json::from_str(&text).ok()?;
    Some(Certificate { text, ..certificate })
}

/// Answers the view.
pub async fn show(State(console): State<Arc<Console>>) -> Response {
    let reading = console.clone();
    // Files are read off the threads that answer.
    let certificates = tokio::task::spawn_blocking(move || reading.certificates.last()).await.unwrap_or_default();
    let body = html! {
        @match certificates.first() {
            None => (card("No certificate yet", &none_yet())),
            Some(last) => {
                (verdict(last))
                (card("Over time", &over_time(&certificates)))
                (in_full(last))
            }
        }
        (card("Start one", &how_to_start()))
    };
    let page = Page {
        view: View::Reconcile,
        lead: "The index against the archive: recomputed with another engine, compared document by document.",
        refresh: Refresh::View,
        body,
    };
    answer(page.render(&console.status.snapshot()))
}

fn none_yet() -> Markup {
    let then = html! {
        "Start a reconcile as below; its certificate appears here. " code { "cargo demo" } " makes one every minute."
    };
    empty("Nothing was compared so far.", &then)
}

fn verdict(last: &Certificate) -> Markup {
    let verdict = last.verdict();
    let said = match verdict {
        Verdict::Equal => "In lockstep".to_owned(),
        Verdict::Repaired => "Differences repaired".to_owned(),
        Verdict::Differs => format::counted(last.differences() as i64, "difference"),
    };
    let compared: u64 = last.sinks.iter().map(|report| report.equal).sum();
    html! {
        section.card.verdict.(verdict.class()) aria-label="The last certificate" {
            span.dot.(verdict.class()) aria-hidden="true" {}
            div {
                p.figure { (said) }
                p.quiet {
                    (format::count(compared as i64)) " documents equal at step " (step(last.cut)) ", " (last.time()) " UTC"
                }
            }
        }
    }
}

fn over_time(certificates: &[Certificate]) -> Markup {
    let (first, more) = certificates.split_at(certificates.len().min(LISTED));
    html! {
        ol.strip aria-hidden="true" {
            @for certificate in certificates.iter().rev() {
                @let verdict = certificate.verdict();
                li.(verdict.class()) title=(format!("{} UTC: {}", certificate.time(), verdict.text())) {}
            }
        }
        (scrolled("Certificates", &table(first)))
        @if !more.is_empty() {
            details.more {
                summary { (format::count(more.len() as i64)) " earlier" }
                (scrolled("Earlier certificates", &table(more)))
            }
        }
    }
}

fn table(certificates: &[Certificate]) -> Markup {
    let sums: [fn(&Report) -> u64; 5] = [|r| r.equal, |r| r.missing, |r| r.different, |r| r.extra, |r| r.younger];
    let columns = ["Step", "Equal", "Missing", "Different", "Extra", "Left out"].map(Column::Number);
    let columns: Vec<Column<'_>> =
        [Column::Text("Made (UTC)"), Column::Text("Verdict")].into_iter().chain(columns).collect();
    html! {
        table.figures.certificates {
            (table_head(&columns))
            tbody {
                @for certificate in certificates {
                    @let verdict = certificate.verdict();
                    tr {
                        th scope="row" { (certificate.time()) }
                        td { span.badge.(verdict.class()) { (verdict.text()) } }
                        td.number { (step(certificate.cut)) }
                        @for of in sums {
                            td.number { (format::count(certificate.sinks.iter().map(of).sum::<u64>() as i64)) }
                        }
                    }
                }
            }
        }
    }
}

fn in_full(last: &Certificate) -> Markup {
    let body = html! {
        (scrolled("By index", &by_index(&last.sinks)))
        p.note { "Left out are documents that changed after the cut; the next certificate judges them." }
        @for report in &last.sinks {
            @for sample in &report.samples { (difference(report, sample)) }
        }
        details.more {
            summary { "Positions and the whole text" }
            p.quiet {
                @for (table, positions) in &last.positions {
                    (table)
                    @for (partition, offset) in positions { " " (partition) " at " (format::count(*offset)) ";" }
                    " "
                }
            }
            pre.raw tabindex="0" { code { (last.text) } }
        }
    };
    card("The last certificate in full", &body)
}

fn by_index(reports: &[Report]) -> Markup {
    let names = ["Expected", "Found", "Equal", "Missing", "Different", "Extra", "Left out"].map(Column::Number);
    let columns: Vec<Column<'_>> =
        [Column::Text("Index")].into_iter().chain(names).chain([Column::Text("Repair")]).collect();
    let numbers = |r: &Report| [r.expected, r.found, r.equal, r.missing, r.different, r.extra, r.younger];
    html! {
        table.figures.certificates {
            (table_head(&columns))
            tbody {
                @for report in reports {
                    tr {
                        th scope="row" {
                            (report.sink)
                            @if report.index != report.sink { span.quiet { (report.index) } }
                        }
                        @for number in numbers(report) { td.number { (format::count(number as i64)) } }
                        td { (repair(report)) }
                    }
                }
            }
        }
    }
}

fn repair(report: &Report) -> Markup {
    html! {
        @match &report.repair {
            None if report.held_back.is_some() => span.bad { "more than the limit: nothing done" },
            None => span.quiet { "not asked for" },
            Some(Repair { done, overtaken, refused }) => {
                (format::count(*done as i64)) " done, " (format::count(*overtaken as i64)) " overtaken, "
                (format::count(refused.len() as i64)) " refused"
            }
        }
    }
}

fn difference(report: &Report, sample: &Sample) -> Markup {
    html! {
        details.difference {
            summary {
                span.badge.bad { (sample.kind) } " "
                span.id { (sample.id) } " " span.quiet { "in " (report.sink) }
                @if let Some(cause) = &sample.cause { " " span.cause { (said(cause)) } }
            }
            p { a href=(super::documents::address(&report.sink, &sample.id)) { "Open the document" } }
            @if !sample.fields.is_empty() { (scrolled("Fields that differ", &fields(&sample.fields))) }
        }
    }
}

fn fields(fields: &[Field]) -> Markup {
    html! {
        table.figures {
            (table_head(&[Column::Text("Field"), Column::Text("Expected"), Column::Text("Found")]))
            tbody {
                @for field in fields {
                    tr {
                        th scope="row" { (field.field) }
                        td { (said(&field.expected)) }
                        td { (said(&field.found)) }
                    }
                }
            }
        }
    }
}

fn said(json: &Json) -> String {
    match json {
        Json::Null => "absent".to_owned(),
        Json::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn how_to_start() -> Markup {
    html! {
        div.columns {
            div {
                p { "Compare, and change nothing; it exits with 3 where something differs:" }
                (command("lockstep-batch reconcile PIPELINE"))
            }
            div {
                p { "Compare, and make the index as it should be:" }
                (command("lockstep-batch reconcile --repair PIPELINE"))
            }
        }
        p.note {
            "Beside " code { "cargo demo" } ", in another terminal: " code { "cargo demo reconcile" } " and "
            code { "cargo demo reconcile --repair" } ". The stream goes on meanwhile."
        }
    }
}
