//! The documents of an index: searched, opened, and led back to the records that they are made of.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Query, State};
use axum::response::Response;
use lockstep_shared::coordinates::Version;
use lockstep_shared::identity::IdentifiedRow;
use lockstep_shared::plan::{Sink, Table};
use lockstep_shared::text;
use lockstep_shared::value::Value;
use maud::{Markup, html};
use serde_json::{Value as Json, json};
use tokio::sync::oneshot;

use super::layout::{Column, Page, Refresh, card, empty, failed, scrolled, step, table_head};
use super::{Console, INDEX_PATIENCE, Index, View, answer, format};
use crate::join::Origin;
use crate::watch::Question;

/// Documents of one page.
const PAGE: usize = 20;
/// Pages that can be turned to: servers give no more than the first 10,000 documents of a search.
const PAGES: usize = 500;
/// Most characters of a query.
const LONGEST_QUERY: usize = 1_000;

type Parameters = BTreeMap<String, String>;

/// Where a document is shown.
pub fn address(sink: &str, id: &str) -> String {
    query(&[("sink", sink), ("id", id)])
}

fn query(pairs: &[(&str, &str)]) -> String {
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
    format!("{}?{query}", View::Documents.path())
}

/// Answers the view.
pub async fn show(State(console): State<Arc<Console>>, Query(asked): Query<Parameters>) -> Response {
    let body = match chosen(&console, &asked) {
        None => card("Documents", &no_index()),
        Some(index) => {
            let sink = &console.pipeline.sinks[index.sink];
            html! {
                (form(&console, sink, &asked))
                @match asked.get("id").filter(|id| !id.is_empty()) {
                    Some(id) => (document(&console, index, id).await),
                    None => (results(index, sink, &asked).await),
                }
            }
        }
    };
    let page = Page {
        view: View::Documents,
        lead: "What the indexes hold, and which records it comes from.",
        refresh: Refresh::Pulse,
        body,
    };
    answer(page.render(&console.status.snapshot()))
}

fn no_index() -> Markup {
    empty("This pipeline writes no index.", &html! { "Its sinks are files or nothing; there is nothing to search." })
}

fn chosen<'a>(console: &'a Console, asked: &Parameters) -> Option<&'a Index> {
    let wanted = asked.get("sink");
    let is_it = |index: &&Index| wanted.is_some_and(|name| console.pipeline.sinks[index.sink].name == *name);
    console.indexes.iter().find(is_it).or(console.indexes.first())
}

fn form(console: &Console, sink: &Sink, asked: &Parameters) -> Markup {
    let q = asked.get("q").map_or("", String::as_str);
    let column = sink.columns.first().map_or("field", |column| column.name.as_str());
    let example = format!("for example {column}:abc* or \"exact text\"");
    html! {
        form.filters action=(View::Documents.path()) method="get" role="search" aria-label="Documents" {
            label {
                span { "Index" }
                select name="sink" {
                    @for index in &console.indexes {
                        @let name = &console.pipeline.sinks[index.sink].name;
                        option value=(name) selected[*name == sink.name] { (name) }
                    }
                }
            }
            label.wide {
                span { "Query" }
                input type="search" name="q" value=(q) placeholder=(example) maxlength=(LONGEST_QUERY);
            }
            div.buttons { button type="submit" { "Search" } }
        }
    }
}

async fn search(index: &Index, body: &Json) -> Result<Json, String> {
    match tokio::time::timeout(INDEX_PATIENCE, index.client.search(&index.name, body)).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err(format!("index {} has not answered within {} s", index.name, INDEX_PATIENCE.as_secs())),
    }
}

async fn results(index: &Index, sink: &Sink, asked: &Parameters) -> Markup {
    let q: String = asked.get("q").map_or("", String::as_str).trim().chars().take(LONGEST_QUERY).collect();
    let page = asked.get("page").and_then(|page| page.parse().ok()).unwrap_or(1).clamp(1, PAGES);
    let chosen = match q.as_str() {
        "" => json!({"match_all": {}}),
        q => json!({"query_string": {"query": q, "lenient": true}}),
    };
    let body = json!({"from": (page - 1) * PAGE, "size": PAGE, "track_total_hits": true, "query": chosen});
    let answer = match search(index, &body).await {
        Ok(answer) => answer,
        Err(error) => {
            let then =
                "Is the query a query string of Elasticsearch? A word, field:value, \"exact text\", AND, OR, NOT.";
            return card("No answer", &failed(&error, then));
        }
    };
    let total = answer["hits"]["total"]["value"].as_u64().unwrap_or(0);
    let hits = answer["hits"]["hits"].as_array().map_or(&[][..], Vec::as_slice);
    let body = html! {
        @if hits.is_empty() {
            (nothing_found(sink, &q))
        } @else {
            (scrolled("Documents found", &hits_table(sink, hits)))
            (pages(sink, &q, page, total))
        }
    };
    card(&format!("{} of {}", format::counted(total as i64, "document"), sink.name), &body)
}

fn nothing_found(sink: &Sink, q: &str) -> Markup {
    if q.is_empty() {
        return empty("The index is empty.", &html! { "It fills as soon as records come." });
    }
    let all = query(&[("sink", &sink.name)]);
    empty(
        "No document is like this.",
        &html! { "Try fewer words, a * at the end, or " a href=(all) { "all documents" } "." },
    )
}

fn hits_table(sink: &Sink, hits: &[Json]) -> Markup {
    let columns = sink.columns.iter().map(|column| Column::Text(&column.name));
    let columns: Vec<Column<'_>> = [Column::Text("Document")].into_iter().chain(columns).collect();
    html! {
        table.figures.documents {
            (table_head(&columns))
            tbody {
                @for hit in hits {
                    @let id = hit["_id"].as_str().unwrap_or_default();
                    tr {
                        th.id scope="row" { a href=(address(&sink.name, id)) { (id) } }
                        @for column in &sink.columns { td { (value(&hit["_source"][&column.name])) } }
                    }
                }
            }
        }
    }
}

/// A field as text; what is not there is shown as such.
fn value(json: &Json) -> Markup {
    match json {
        Json::Null => html! { span.quiet { "null" } },
        Json::String(text) => html! { (text) },
        other => html! { (other) },
    }
}

fn pages(sink: &Sink, q: &str, page: usize, total: u64) -> Markup {
    let last = usize::try_from(total).unwrap_or(usize::MAX).div_ceil(PAGE).clamp(1, PAGES);
    let to = |page: usize| query(&[("sink", &sink.name), ("q", q), ("page", &page.to_string())]);
    html! {
        @if last > 1 {
            nav.pages aria-label="Pages" {
                @if page > 1 { a href=(to(page - 1)) rel="prev" { "Previous" } }
                span.quiet { "page " (format::count(page as i64)) " of " (format::count(last as i64)) }
                @if page < last { a href=(to(page + 1)) rel="next" { "Next" } }
            }
        }
    }
}

async fn document(console: &Console, index: &Index, id: &str) -> Markup {
    let sink = &console.pipeline.sinks[index.sink];
    let body = json!({"size": 1, "version": true, "query": {"ids": {"values": [id]}}});
    let found = search(index, &body).await;
    let behind = origins(console, index.sink, id).await;
    html! {
        p.back { a href=(query(&[("sink", &sink.name)])) { "All documents of " (sink.name) } }
        section.card {
            h2.id { (id) }
            @match found.as_ref().map(|answer| answer["hits"]["hits"].get(0)) {
                Err(error) => (failed(error, "Open it again.")),
                Ok(None) => (empty("The index has no such document.", &html! { "The records below say whether it should be there." })),
                Ok(Some(hit)) => (fields(sink, hit)),
            }
        }
        section.card {
            h2 { "Records behind it" }
            @match behind {
                Err(why) => (failed(why, "Open it again in a moment.")),
                Ok(None) => (no_such_document()),
                Ok(Some(origins)) => (origins_table(console, &origins)),
            }
        }
    }
}

fn no_such_document() -> Markup {
    let then =
        html! { "Where the index has it, it is left over or was written by hand: a reconcile finds it as extra." };
    empty("The join gives no such document now.", &then)
}

fn fields(sink: &Sink, hit: &Json) -> Markup {
    let version = hit["_version"].as_u64().map(Version);
    html! {
        dl.fields {
            @for column in &sink.columns {
                div {
                    dt { (column.name) span.quiet { (column.data_type) } }
                    dd { (value(&hit["_source"][&column.name])) }
                }
            }
        }
        @if let Some(version) = version {
            p.note {
                "Written by step " (step(version.step()))
                @if version != version.step().version() { ", and changed or repaired since" }
                ". Version " (version.0) "."
            }
        }
    }
}

async fn origins(console: &Console, sink: usize, id: &str) -> Result<Option<Vec<Origin>>, &'static str> {
    let (reply, answer) = oneshot::channel();
    let question = Question { sink, id: id.to_owned(), reply };
    console.questions.try_send(question).map_err(|_| "The join is not ready for questions now.")?;
    match tokio::time::timeout(INDEX_PATIENCE, answer).await {
        Ok(Ok(origins)) => Ok(origins),
        _ => Err("The join has not answered in time."),
    }
}

fn origins_table(console: &Console, origins: &[Origin]) -> Markup {
    let columns = [
        Column::Text("Table, topic"),
        Column::Number("Partition"),
        Column::Number("Offset"),
        Column::Text("Columns that the pipeline reads"),
    ];
    let table = html! {
        table.figures.records {
            (table_head(&columns))
            tbody { @for origin in origins { (origin_row(console, origin)) } }
        }
    };
    html! {
        (scrolled("Records behind the document", &table))
        p.note {
            "Of a keyed table it is the last record of the key. The record as it came is in the archive, at this partition "
            "and offset."
        }
    }
}

fn origin_row(console: &Console, origin: &Origin) -> Markup {
    let table = &console.pipeline.tables[origin.table.0];
    let topic = table.option("topic").or(table.option("path")).unwrap_or_default();
    html! {
        tr {
            th scope="row" {
                (table.name)
                @if origin.alias != table.name { " " (origin.alias) }
                span.quiet { (topic) }
            }
            @if let Some(IdentifiedRow { place, row }) = &origin.row {
                td.number { (place.partition) }
                td.number { (format::count(place.offset.0)) }
                td { (columns_of(table, row)) }
            } @else {
                td.number { (format::NOTHING) }
                td.number { (format::NOTHING) }
                td { span.quiet { "no row: this side of the join found no partner" } }
            }
        }
    }
}

fn columns_of(table: &Table, row: &[Value]) -> Markup {
    html! {
        dl.inline {
            @for (column, value) in table.columns.iter().zip(row).filter(|(_, value)| !value.is_null()) {
                div { dt { (column.name) } dd { (text::display(value, column.data_type)) } }
            }
        }
    }
}
