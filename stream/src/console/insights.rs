//! What the figures say: the last report of `lockstep-batch insights`, as it is in the archive's folder.

use std::path::Path;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use lockstep_shared::coordinates::Step;
use maud::{Markup, html};
use serde::Deserialize;

use super::layout::{Column, Page, Refresh, card, command, empty, failed, scrolled, step, table_head};
use super::{Console, View, answer, format};

/// Where the report is.
const REPORT: &str = "insights.json";
/// Largest report that is read.
const LARGEST_BYTES: u64 = 4 * 1024 * 1024;
/// Lines of a finding's list that are shown.
const ROWS: usize = 5;

#[derive(Debug, Deserialize)]
struct Report {
    made_at: String,
    cut: Step,
    products: u64,
    customers: u64,
    orders: u64,
    views: u64,
    groups: Vec<Group>,
}

#[derive(Debug, Deserialize)]
struct Group {
    title: String,
    findings: Vec<Finding>,
}

#[derive(Debug, Deserialize)]
struct Finding {
    title: String,
    verdict: Verdict,
    sentence: String,
    test: Option<Test>,
    trend: Option<Trend>,
    #[serde(default)]
    rows: Vec<Row>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Something,
    Nothing,
    TooLittle,
}

impl Verdict {
    fn class(self) -> &'static str {
        if self == Self::Something { "ok" } else { "plain" }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Something => "more than chance",
            Self::Nothing => "no more than chance",
            Self::TooLittle => "too little data",
        }
    }
}

#[derive(Debug, Deserialize)]
struct Test {
    method: String,
    statistic: f64,
    degrees: f64,
    p: f64,
}

#[derive(Debug, Deserialize)]
struct Trend {
    mean: f64,
    slope: f64,
    low: f64,
    high: f64,
    buckets: u64,
}

#[derive(Debug, Deserialize)]
struct Row {
    key: String,
    label: String,
    numbers: Vec<Number>,
}

#[derive(Debug, Deserialize)]
struct Number {
    name: String,
    value: i64,
    unit: Unit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Unit {
    Count,
    Cents,
    Rank,
}

/// Answers the view.
pub async fn show(State(console): State<Arc<Console>>) -> Response {
    let path = console.archive.join(REPORT);
    let report = tokio::task::spawn_blocking(move || read(&path)).await.unwrap_or(Ok(None));
    let body = html! {
        @match &report {
            Ok(Some(report)) => (whole(report)),
            Ok(None) => (card("No report yet", &none_yet())),
            Err(error) => (card("The report cannot be read", &failed(error, "Compute it anew."))),
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

fn none_yet() -> Markup {
    let then =
        html! { "It is computed from the archive, beside the stream; as soon as it is there, it is shown here." };
    empty("Nothing was computed so far.", &then)
}

/// The report, if there is one.
fn read(path: &Path) -> Result<Option<Report>, String> {
    let Ok(metadata) = std::fs::metadata(path) else { return Ok(None) };
    let name = path.display();
    if metadata.len() > LARGEST_BYTES {
        return Err(format!("{name} has {}; a report has some kilobytes", format::bytes(metadata.len())));
    }
    let text = std::fs::read_to_string(path).map_err(|e| format!("{name}: {e}"))?;
    serde_json::from_str(&text).map_err(|e| format!("{name} is no report: {e}"))
}

fn whole(report: &Report) -> Markup {
    let Report { cut, products, customers, orders, views, .. } = report;
    let counts = [(products, "products"), (customers, "customers"), (orders, "orders"), (views, "views")];
    let counts = counts.map(|(count, name)| format!("{} {name}", format::count(*count as i64))).join(", ");
    let made_at: String = report.made_at.chars().take(19).collect();
    html! {
        p.quiet { "At step " (step(*cut)) ", " (made_at.replace('T', " ")) " UTC: " (counts) "." }
        div.groups {
            @for group in &report.groups {
                section.group {
                    h2 { (group.title) }
                    @for finding in &group.findings { (show_finding(finding)) }
                }
            }
        }
    }
}

fn show_finding(finding: &Finding) -> Markup {
    html! {
        article.card {
            header.finding {
                h3 { (finding.title) }
                span.badge.(finding.verdict.class()) { (finding.verdict.text()) }
            }
            p { (finding.sentence) }
            @if let Some(first) = finding.rows.first() { (scrolled(&finding.title, &rows(first, &finding.rows))) }
            @if let Some(Trend { mean, slope, low, high, buckets }) = &finding.trend {
                p.note {
                    "Mean " (format::real(*mean)) ", slope " (signed(*slope)) " from one of " (format::count(*buckets as i64))
                    " buckets to the next; 95 % interval from " (signed(*low)) " to " (signed(*high)) "."
                }
            }
            @if let Some(Test { method, statistic, degrees, p }) = &finding.test {
                p.note {
                    (method) " " (format!("{statistic:.2}")) ", " (format::real(*degrees)) " degrees of freedom, p = "
                    (format!("{p:.3}")) "."
                }
            }
        }
    }
}

fn rows(first: &Row, rows: &[Row]) -> Markup {
    let names = first.numbers.iter().map(|number| Column::Number(&number.name));
    let columns: Vec<Column<'_>> = [Column::Text("")].into_iter().chain(names).collect();
    html! {
        table.figures {
            (table_head(&columns))
            tbody {
                @for row in rows.iter().take(ROWS) {
                    tr {
                        th scope="row" title=(row.key) { (row.label) }
                        @for number in &row.numbers { td.number { (amount(number)) } }
                    }
                }
            }
        }
    }
}

fn amount(number: &Number) -> String {
    match number.unit {
        Unit::Cents => format::money(number.value),
        Unit::Rank => format!("{}.", number.value),
        Unit::Count => format::count(number.value),
    }
}

fn signed(number: f64) -> String {
    if number < 0.0 { format!("−{:.3}", -number) } else { format!("+{number:.3}") }
}
