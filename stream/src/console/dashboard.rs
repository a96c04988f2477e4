//! The dashboard: the eight panels over a range of time, for a state, for a brand.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{Query, State};
use axum::response::Response;
use maud::{Markup, html};
use tokio::task::JoinSet;

use super::chart::{self, BarRow, Bars, Line};
use super::layout::{Column, Page, Refresh, empty, failed, scrolled, table_head};
use super::{Console, INDEX_PATIENCE, View, answer, format};
use crate::dashboard::{
    AskError, Axis, BarChart, Chart, Choices, Figures, Filter, Gauge, Number, Panel, Series, Shown, Unit, panels,
};

/// Bars shown at once; the others are a click away.
const BARS: usize = 8;
/// How long the lists to choose from may be out of date: they need four questions and change seldom.
const CHOICES_FRESH: Duration = Duration::from_secs(5);

/// A range of time that ends where the data ends.
struct Range {
    name: &'static str,
    text: &'static str,
    length_ms: Option<i64>,
}

const RANGES: [Range; 5] = [
    Range { name: "", text: "All", length_ms: None },
    Range { name: "15m", text: "15 min", length_ms: Some(900_000) },
    Range { name: "1h", text: "1 hour", length_ms: Some(3_600_000) },
    Range { name: "1d", text: "1 day", length_ms: Some(86_400_000) },
    Range { name: "7d", text: "7 days", length_ms: Some(7 * 86_400_000) },
];

/// How long they are waited for; together with the figures less than the script waits for the page.
const CHOICES_PATIENCE: Duration = Duration::from_millis(500);

type Parameters = BTreeMap<String, String>;

/// The lists to choose from, as they were a moment ago.
#[derive(Default)]
pub struct KnownChoices(Mutex<Option<(Instant, Choices)>>);

impl KnownChoices {
    fn fresh(&self) -> Option<Choices> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.as_ref().filter(|(asked, _)| asked.elapsed() < CHOICES_FRESH).map(|(_, choices)| choices.clone())
    }

    fn keep(&self, choices: &Choices) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), choices.clone()));
    }
}

/// Answers the view.
pub async fn show(State(console): State<Arc<Console>>, Query(asked): Query<Parameters>) -> Response {
    let choices = choices(&console).await;
    let known = choices.as_ref().cloned().unwrap_or_default();
    let filter = filter(&asked, &known);
    let body = html! {
        (form(&asked, &known, filter.as_ref().err().map(String::as_str)))
        @match filter {
            Err(_) => {}
            Ok(filter) => div.panels { @for panel in figures(&console, &filter).await { (panel) } }
        }
    };
    let page = Page {
        view: View::Dashboard,
        lead: "The shop, from the index, while it happens.",
        refresh: Refresh::View,
        body,
    };
    answer(page.render(&console.status.snapshot()))
}

async fn choices(console: &Console) -> Option<Choices> {
    if let Some(fresh) = console.choices.fresh() {
        return Some(fresh);
    }
    // What is missing here shows in the panels, with the reason.
    let choices = tokio::time::timeout(CHOICES_PATIENCE, console.dashboard.choices()).await.ok()?.ok()?;
    console.choices.keep(&choices);
    Some(choices)
}

/// The filter that is asked for; moments that are written win over a named range.
fn filter(asked: &Parameters, choices: &Choices) -> Result<Filter, String> {
    let mut filter = Filter::parse(|name| asked.get(name).cloned()).map_err(|e| e.to_string())?;
    let name = asked.get("range").map_or("", String::as_str);
    let range = RANGES.iter().find(|range| range.name == name);
    let range = range.ok_or_else(|| format!("there is no range {name:?}; choose one of those above"))?;
    if let (None, None, Some(length_ms), Some(last_ms)) =
        (filter.from_ms, filter.to_ms, range.length_ms, choices.last_ms)
    {
        filter.from_ms = Some(last_ms + 1 - length_ms);
    }
    Ok(filter)
}

fn form(asked: &Parameters, choices: &Choices, wrong: Option<&str>) -> Markup {
    let given = |name: &str| asked.get(name).map_or("", String::as_str);
    let is_set = asked.values().any(|value| !value.is_empty());
    html! {
        form.filters action="/" method="get" aria-label="What is shown" {
            div.ranges role="group" aria-label="Range of time, up to the last event" {
                @for range in &RANGES {
                    @let here = given("range") == range.name && given("from").is_empty() && given("to").is_empty();
                    a href=(address(asked, range.name)) aria-current=[here.then_some("true")] { (range.text) }
                }
            }
            (time_field("From (UTC)", "from", given("from"), choices))
            (time_field("To (UTC)", "to", given("to"), choices))
            (select("State", "state", given("state"), &choices.states))
            (select("Brand", "brand", given("brand"), &choices.brands))
            @if !given("range").is_empty() { input type="hidden" name="range" value=(given("range")); }
            div.buttons {
                button type="submit" { "Show" }
                @if is_set { a.clear href="/" { "Clear" } }
            }
            @if let Some(wrong) = wrong { p.wrong role="alert" { (wrong) } }
        }
    }
}

fn time_field(label: &str, name: &str, given: &str, choices: &Choices) -> Markup {
    let first = choices.first_ms.map(format::field);
    html! { label { span { (label) } input type="datetime-local" name=(name) value=(given) min=[first]; } }
}

/// This view over a named range, with what else is chosen.
fn address(asked: &Parameters, range: &str) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    if !range.is_empty() {
        query.append_pair("range", range);
    }
    for name in ["state", "brand"] {
        if let Some(value) = asked.get(name).filter(|value| !value.is_empty()) {
            query.append_pair(name, value);
        }
    }
    match query.finish() {
        none if none.is_empty() => "/".to_owned(),
        query => format!("/?{query}"),
    }
}

fn select(label: &str, name: &str, chosen: &str, choices: &[String]) -> Markup {
    // What is chosen is shown even where it is no longer there.
    let gone = !chosen.is_empty() && !choices.iter().any(|choice| choice == chosen);
    html! {
        label {
            span { (label) }
            select name=(name) {
                option value="" { "All" }
                @if gone { option value=(chosen) selected { (chosen) } }
                @for choice in choices { option value=(choice) selected[choice == chosen] { (choice) } }
            }
        }
    }
}

/// All panels, asked for at once.
async fn figures(console: &Console, filter: &Filter) -> Vec<Markup> {
    let mut asked = JoinSet::new();
    for (number, panel) in panels().iter().enumerate() {
        let (dashboard, filter) = (console.dashboard.clone(), filter.clone());
        asked.spawn(
            async move { (number, tokio::time::timeout(INDEX_PATIENCE, dashboard.figures(panel, &filter)).await) },
        );
    }
    let mut answers: Vec<_> = asked.join_all().await;
    answers.sort_by_key(|(number, _)| *number);
    answers.into_iter().map(|(number, answer)| panel(&panels()[number], answer.ok())).collect()
}

fn panel(panel: &Panel, shown: Option<Result<Shown, AskError>>) -> Markup {
    html! {
        section.card.panel.(panel.id) #(panel.id) aria-labelledby=(format!("{}-title", panel.id)) {
            header {
                h2 id=(format!("{}-title", panel.id)) { (panel.title) }
                details.about {
                    summary aria-label=(format!("About {}", panel.title)) title="What this shows" { "?" }
                    div { p { (panel.definition) } p.quiet { (panel.grain) } }
                }
            }
            @match shown {
                None => (failed("The index has not answered in time.", "It is asked again while you look.")),
                Some(Err(error)) => (wrong(&error)),
                Some(Ok(shown)) => (content(&shown.figures)),
            }
        }
    }
}

fn wrong(error: &AskError) -> Markup {
    match error {
        AskError::NoSink { sink } => {
            let then = html! { "Fill a sink named " code { (sink) } " as fixtures/pipeline.sql does." };
            empty("This pipeline has no index for it.", &then)
        }
        other => failed(&sentence(&other.to_string()), "It is asked again while you look."),
    }
}

/// A message as a sentence.
fn sentence(message: &str) -> String {
    let mut characters = message.chars();
    let first = characters.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", characters.as_str())
}

fn content(figures: &Figures) -> Markup {
    html! {
        @if is_empty(&figures.chart) {
            (nothing_yet())
        } @else {
            @match &figures.chart {
                Chart::Gauge { gauges } => (gauge_panel(gauges)),
                Chart::Bars { charts } => div.charts { @for chart in charts { (bars(chart, charts.len() > 1)) } },
                Chart::Line { axis, at, series } => div.charts { (lines(*axis, at, series)) },
            }
        }
        @for note in &figures.notes { p.note { (sentence(note)) } }
    }
}

fn nothing_yet() -> Markup {
    let then = html! {
        "No document is in this range of time and filter. " a href="/" { "Show everything" } " or wait for the first records."
    };
    empty("Nothing here yet.", &then)
}

fn is_empty(chart: &Chart) -> bool {
    match chart {
        Chart::Gauge { gauges } => gauges.iter().all(|gauge| gauge.value.unwrap_or(0) == 0),
        Chart::Bars { charts } => charts.iter().all(|chart| chart.bars.is_empty()),
        Chart::Line { series, .. } => series.iter().all(|series| series.values.iter().all(Option::is_none)),
    }
}

/// A value as people read it.
fn amount(value: i64, unit: Unit) -> String {
    if unit == Unit::Cents { format::money(value) } else { format::count(value) }
}

fn gauge_panel(gauges: &[Gauge]) -> Markup {
    html! {
        dl.gauges {
            @for gauge in gauges {
                @let text = gauge.value.map_or_else(|| format::NOTHING.to_owned(), |value| amount(value, gauge.unit));
                @let scale = gauge.value.zip(gauge.of.filter(|of| *of > 0));
                div {
                    dt {
                        (gauge.label)
                        @if let Some((value, of)) = scale { br; "of " (amount(of, gauge.unit)) ", " (format::real(share(value, of) * 100.0)) " %" }
                    }
                    @if let Some((value, of)) = scale {
                        dd.picture { (chart::gauge(share(value, of), &format!("{text} of {}", amount(of, gauge.unit)))) }
                    }
                    dd.figure { (text) }
                }
            }
        }
    }
}

fn share(value: i64, of: i64) -> f64 {
    value as f64 / of as f64
}

fn bars(chart: &BarChart, titled: bool) -> Markup {
    let row = |bar: &crate::dashboard::Bar| BarRow {
        label: bar.label.clone(),
        key: (bar.key != bar.label).then(|| bar.key.clone()),
        value: bar.value as f64,
        text: amount(bar.value, chart.unit),
    };
    let rows: Vec<BarRow> = chart.bars.iter().map(row).collect();
    let most = rows.iter().map(|row| row.value).fold(0.0, f64::max);
    let (first, more) = rows.split_at(rows.len().min(BARS));
    html! {
        div.chart {
            @if titled { h3 { (sentence(&chart.label).trim_end_matches('.')) } }
            (Bars { caption: &chart.label, rows: first, most }.render())
            @if !more.is_empty() {
                details.more {
                    summary { (format::count(more.len() as i64)) " more" }
                    (Bars { caption: &chart.label, rows: more, most }.render())
                }
            }
            @if let Some(others) = chart.others {
                p.note { (format::count(others.bars)) " others: " (amount(others.value, chart.unit)) }
            }
        }
    }
}

fn lines(axis: Axis, at: &[i64], series: &[Series]) -> Markup {
    let places: Vec<String> = at.iter().map(|at| place(axis, *at)).collect();
    html! {
        @for (number, series) in series.iter().enumerate() {
            @let values: Vec<Option<f64>> = series.values.iter().map(|value| value.map(number_of)).collect();
            @let text = |value: f64| value_text(value, series.unit);
            @let tick = |value: f64| tick(value, series.unit);
            @let class = if number == 0 { "one" } else { "two" };
            div.chart {
                h3 { (sentence(&series.label).trim_end_matches('.')) }
                @let label = series.label.as_str();
                (Line { label, class, values: &values, text: &text, tick: &tick, places: &places }.render())
            }
        }
        (table(axis, &places, series))
    }
}

fn tick(value: f64, unit: Unit) -> String {
    if unit == Unit::Cents { format!("${}", format::short(value / 100.0)) } else { format::short(value) }
}

fn number_of(number: Number) -> f64 {
    match number {
        Number::Whole(number) => number as f64,
        Number::Real(number) => number,
    }
}

fn value_text(value: f64, unit: Unit) -> String {
    match unit {
        Unit::ViewsPerHour => format!("{value:.1}"),
        unit => amount(value.round() as i64, unit),
    }
}

/// The beginning of a bucket, as precise as its length needs.
fn place(axis: Axis, at: i64) -> String {
    match axis {
        Axis::HourOfDay => format!("{at:02}:00"),
        Axis::Time { interval } if interval.shortest_ms() >= 86_400_000 => format::day(at),
        Axis::Time { interval } if interval.shortest_ms() >= 60_000 => format::minute(at),
        Axis::Time { .. } => format::moment(at),
    }
}

/// The same figures for who does not see lines.
fn table(axis: Axis, places: &[String], series: &[Series]) -> Markup {
    let place = if axis == Axis::HourOfDay { "Hour (UTC)" } else { "From (UTC)" };
    let names = series.iter().map(|series| Column::Number(&series.label));
    let columns: Vec<Column<'_>> = [Column::Text(place)].into_iter().chain(names).collect();
    let text = |series: &Series, row: usize| {
        let value = series.values.get(row).copied().flatten();
        value.map_or_else(|| format::NOTHING.to_owned(), |value| value_text(number_of(value), series.unit))
    };
    let table = html! {
        table.figures {
            (table_head(&columns))
            tbody {
                @for (row, place) in places.iter().enumerate() {
                    tr {
                        th scope="row" { (place) }
                        @for series in series { td.number { (text(series, row)) } }
                    }
                }
            }
        }
    };
    html! {
        details.more {
            summary { "As a table" }
            (scrolled("The same figures as a table", &table))
        }
    }
}
