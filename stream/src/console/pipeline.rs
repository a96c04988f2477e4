//! The pipeline: its stages from the tables over the join to the indexes and the archive, how each is, how far rows
//! multiply, and the program.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use lockstep_shared::index::index_name;
use lockstep_shared::plan::{Sink, Table};
use lockstep_shared::sql::explain;
use maud::{Markup, html};
use serde_json::json;
use tokio::task::JoinSet;

use super::layout::{Column, Page, Refresh, card, fact, scrolled, step, table_head};
use super::{Console, INDEX_PATIENCE, Index, View, answer, chart, format, sql};
use crate::join::FanOut;
use crate::lag::Lag;
use crate::status::{Queue, SinkStatus, Snapshot, TableStatus};
use crate::watch::now_ms;

/// Answers the view.
pub async fn show(State(console): State<Arc<Console>>) -> Response {
    let snapshot = console.status.snapshot();
    let documents = documents(&console).await;
    let body = html! {
        (totals(&console, &snapshot))
        (flow(&console, &snapshot, &documents))
        (fan_out(&console, &snapshot, &documents))
        div.columns {
            (card("Program", &sql::render(&console.pipeline.text)))
            (card("Plan", &html! { pre.plan tabindex="0" { code { (explain(&console.pipeline)) } } }))
        }
    };
    let page = Page {
        view: View::Pipeline,
        lead: "Every record goes from its table through the join into the indexes, and into the archive.",
        refresh: Refresh::View,
        body,
    };
    answer(page.render(&snapshot))
}

/// Documents in the index of each sink, all asked at once; `None` where it does not say.
async fn documents(console: &Console) -> Vec<Option<u64>> {
    let mut asked = JoinSet::new();
    for Index { sink, name, client } in &console.indexes {
        let (sink, name, client) = (*sink, name.clone(), client.clone());
        asked.spawn(async move {
            let body = json!({"size": 0, "track_total_hits": true});
            let answered = tokio::time::timeout(INDEX_PATIENCE, client.search(&name, &body)).await;
            (sink, answered.ok().and_then(Result::ok).and_then(|answer| answer["hits"]["total"]["value"].as_u64()))
        });
    }
    let mut documents = vec![None; console.pipeline.sinks.len()];
    for (sink, count) in asked.join_all().await {
        documents[sink] = count;
    }
    documents
}

fn totals(console: &Console, snapshot: &Snapshot) -> Markup {
    let tables: Vec<String> = snapshot.tables.keys().map(|name| format!("table {name}")).collect();
    let sinks: Vec<String> = snapshot.sinks.keys().map(|name| format!("sink {name}")).collect();
    let seconds = |names: &[String]| console.status.seconds(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let taken: f64 = snapshot.tables.values().map(|table| table.records_per_second).sum();
    let written: f64 = snapshot.sinks.values().map(|sink| sink.written_per_second).sum();
    let bytes: usize = snapshot.tables.values().map(|table| table.bytes).sum();
    let lag = snapshot.tables.values().filter_map(|table| table.lag).map(|lag| lag.ms).max();
    let tile = |name: &str, value: String, more: Markup| html! { div.tile { dt { (name) } dd { (value) } (more) } };
    let picture = |seconds: Vec<f64>, of: &str| {
        let label = format!("{of} in each of the last two minutes' seconds");
        html! { dd.picture { (chart::spark(&seconds, &label)) } }
    };
    let quiet = |text: &str| html! { dd.quiet { (text) } };
    let steps = format!("acknowledged {}, archived {}", step(snapshot.acknowledged), step(snapshot.archived));
    html! {
        dl.tiles {
            (tile("Records taken", format::per_second(taken), picture(seconds(&tables), "Records taken")))
            (tile("Documents written", format::per_second(written), picture(seconds(&sinks), "Documents written")))
            (tile("Behind the logs", lag.map_or_else(|| format::NOTHING.to_owned(), format::duration), quiet(&behind(snapshot))))
            (tile("State", format::bytes(bytes), quiet(&format::counted(snapshot.rows, "row"))))
            (tile("Step", step(snapshot.step), quiet(&steps)))
        }
    }
}

/// One sentence over all tables.
fn behind(snapshot: &Snapshot) -> String {
    let known: Vec<Lag> = snapshot.tables.values().filter_map(|table| table.lag).collect();
    let unknown = snapshot.tables.len() - known.len();
    match known.iter().filter(|lag| lag.offsets > 0).count() {
        _ if unknown > 0 => format!("{} not known yet", format::counted(unknown, "log's end")),
        0 => "every table is at its log's end".to_owned(),
        tables => format!("{} not at the end", format::counted(tables, "table")),
    }
}

fn flow(console: &Console, snapshot: &Snapshot, documents: &[Option<u64>]) -> Markup {
    let pipeline = &console.pipeline;
    let (no_table, no_sink) = (TableStatus::default(), SinkStatus::default());
    html! {
        section.flow aria-label="The stages" {
            div.stage.tables {
                h2 { "Tables" }
                ul {
                    @for table in &pipeline.tables {
                        li { (table_node(table, snapshot.tables.get(&table.name).unwrap_or(&no_table))) }
                    }
                }
            }
            div.edge { (queue("batches wait", snapshot.queues.sources)) }
            div.stage.join {
                h2 { "Join" }
                ul { li { (join_node(snapshot)) } }
            }
            div.edge { (queue("steps wait", snapshot.queues.sinks)) }
            div.stage.sinks {
                h2 { "Indexes" }
                ul {
                    @for (sink, documents) in pipeline.sinks.iter().zip(documents) {
                        li { (sink_node(sink, snapshot.sinks.get(&sink.name).unwrap_or(&no_sink), *documents)) }
                    }
                    li { (archive_node(console, snapshot)) }
                }
            }
        }
    }
}

fn queue(what: &str, queue: Queue) -> Markup {
    let text = format!("{} of {} {what}", queue.waiting, queue.capacity);
    html! {
        div.queue title=(text) {
            svg.arrow viewBox="0 0 40 12" width="40" height="12" aria-hidden="true" { path d="M0 6h38M32 1l6 5-6 5" {} }
            (chart::bar(queue.waiting as f64, queue.capacity.max(1) as f64))
            span.quiet { (text) }
        }
    }
}

fn table_node(table: &Table, status: &TableStatus) -> Markup {
    let from = table.option("topic").or(table.option("path")).unwrap_or_default();
    let key: Vec<&str> = table.key.iter().map(|column| table.columns[*column].name.as_str()).collect();
    let unit = if table.option("connector") == Some("filesystem") { "byte" } else { "record" };
    let lag = status.lag.map_or_else(|| "not known".to_owned(), |lag| lag_text(lag, unit));
    let records = [format::count(status.records as i64), format::per_second(status.records_per_second)].join(" · ");
    let state = [format::counted(status.rows, "row"), format::bytes(status.bytes)].join(" · ");
    html! {
        article.node {
            h3 { (table.name) }
            p.quiet title=(from) { (table.option("connector").unwrap_or_default()) " " (from) }
            p.quiet { @if key.is_empty() { "append-only" } @else { "keyed by " (key.join(", ")) } }
            dl {
                (fact("Records", &records))
                (fact("Behind", &lag))
                (fact("State", &state))
                (fact("Partitions", &positions(status)))
                @if status.unknown_fields > 0 { (fact("Unknown fields", &format::count(status.unknown_fields as i64))) }
            }
            @if status.rejected > 0 { p.warn { a href="/records" { (format::count(status.rejected as i64)) " rejected" } } }
        }
    }
}

fn lag_text(lag: Lag, unit: &str) -> String {
    if lag.offsets == 0 {
        return "at the end".to_owned();
    }
    format!("{} · {}", format::counted(lag.offsets as i64, unit), format::duration(lag.ms))
}

/// The place of one partition, or how many there are.
fn positions(status: &TableStatus) -> String {
    let mut positions = status.positions.iter();
    match (positions.next(), positions.next()) {
        (None, _) => "none yet".to_owned(),
        (Some((partition, offset)), None) => format!("{partition} at {}", format::count(*offset)),
        _ => format::count(status.positions.len() as i64),
    }
}

fn join_node(snapshot: &Snapshot) -> Markup {
    let bytes: usize = snapshot.tables.values().map(|table| table.bytes).sum();
    let waits = snapshot.step.0.saturating_sub(snapshot.acknowledged.0);
    html! {
        article.node {
            h3 { "State" }
            p.quiet { "the rows of every table, in memory" }
            dl {
                (fact("Rows", &format::count(snapshot.rows as i64)))
                (fact("Memory, about", &format::bytes(bytes)))
                (fact("Step", &step(snapshot.step)))
                (fact("Not acknowledged", &format::counted(waits as i64, "step")))
            }
        }
    }
}

fn sink_node(sink: &Sink, status: &SinkStatus, documents: Option<u64>) -> Markup {
    let to = sql::without_credentials(sink.option("hosts").or(sink.option("path")).unwrap_or_default());
    let written = [format::count(status.written as i64), format::per_second(status.written_per_second)].join(" · ");
    let latency = |[middle, most]: [u64; 2]| {
        format!("{} · 95 % below {}", format::duration(middle as i64), format::duration(most as i64))
    };
    html! {
        article.node {
            h3 { (sink.name) }
            p.quiet title=(to) { (sink.option("connector").unwrap_or_default()) " " (index_name(sink)) " " (to) }
            dl {
                @if let Some(documents) = documents { (fact("Documents", &format::count(documents as i64))) }
                (fact("Written", &written))
                @if let Some(bulk_ms) = status.bulk_ms { (fact("Bulk answers", &latency(bulk_ms))) }
                @if status.retries > 0 { (fact("Sent again", &format::count(status.retries as i64))) }
            }
            @if status.dead_letters > 0 {
                p.warn { a href="/records" { (format::counted(status.dead_letters as i64, "dead letter")) } }
            }
        }
    }
}

fn archive_node(console: &Console, snapshot: &Snapshot) -> Markup {
    let waits = snapshot.step.0.saturating_sub(snapshot.archived.0);
    let last = snapshot.archived_at_ms.map_or_else(|| "not since the start".to_owned(), |at| format::ago(at, now_ms()));
    html! {
        article.node.archive {
            h3 { "Archive" }
            p.quiet title=(console.archive.display()) { "Delta Lake at " (console.archive.display()) }
            dl {
                (fact("Up to step", &step(snapshot.archived)))
                (fact("Not yet in it", &format::counted(waits as i64, "step")))
                (fact("Last commit", &last))
                (fact("Queue", &format!("{} of {}", snapshot.queues.archive.waiting, snapshot.queues.archive.capacity)))
            }
        }
    }
}

fn fan_out(console: &Console, snapshot: &Snapshot, documents: &[Option<u64>]) -> Markup {
    let pipeline = &console.pipeline;
    let none = SinkStatus::default();
    let shown = |number: Option<f64>| number.map_or_else(|| format::NOTHING.to_owned(), format::real);
    let row = |sink: &Sink, documents: Option<u64>| {
        let fan_out = &snapshot.sinks.get(&sink.name).unwrap_or(&none).fan_out;
        let left = &pipeline.tables[sink.query.inputs[0].table.0].name;
        let left_rows = snapshot.tables.get(left).map_or(0, |table| table.rows);
        let measured = documents.filter(|_| left_rows > 0).map(|documents| documents as f64 / left_rows as f64);
        html! {
            tr {
                th scope="row" { (sink.name) }
                td { "each row of " (left) }
                td { (multipliers(console, sink, fan_out)) }
                td.number { (shown(forecast(sink, fan_out))) }
                td.number { (shown(measured)) }
            }
        }
    };
    let columns = [
        Column::Text("Sink"),
        Column::Text("Of"),
        Column::Text("Rows of each join key"),
        Column::Number("Forecast"),
        Column::Number("Measured"),
    ];
    let table = html! {
        table.figures {
            (table_head(&columns))
            tbody { @for (sink, documents) in pipeline.sinks.iter().zip(documents) { (row(sink, *documents)) } }
        }
    };
    let body = html! {
        p.quiet {
            "How many documents a row gives. The forecast is for a row that finds every partner: the rows that a join key "
            "has on average, multiplied. What is measured also counts rows without partners, which give one document; so it "
            "is lower where many keys are missing."
        }
        (scrolled("Documents of each row", &table))
    };
    card("How far rows multiply", &body)
}

/// What each join that multiplies has to say.
fn multipliers(console: &Console, sink: &Sink, fan_out: &[Option<FanOut>]) -> String {
    let joined = sink.identity.iter().filter_map(|input| Some((*input, (*fan_out.get(*input)?)?)));
    let parts: Vec<String> = joined
        .map(|(input, of)| {
            let table = &console.pipeline.tables[sink.query.inputs[input].table.0].name;
            format!("{table}: {} of {}", format::counted(of.rows, "row"), format::counted(of.keys, "key"))
        })
        .collect();
    if parts.is_empty() { "no join multiplies".to_owned() } else { parts.join("; ") }
}

/// Documents of a row that finds every partner; `None` before anything is known.
fn forecast(sink: &Sink, fan_out: &[Option<FanOut>]) -> Option<f64> {
    (!fan_out.is_empty()).then(|| {
        let joined = sink.identity.iter().filter_map(|input| *fan_out.get(*input)?);
        joined.map(|of| if of.keys == 0 { 1.0 } else { of.rows as f64 / of.keys as f64 }).product()
    })
}
