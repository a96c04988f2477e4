//! The records that could not be read, and the documents that an index would not take.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use lockstep_shared::plan::Pipeline;
use maud::{Markup, html};

use super::layout::{Column, Page, Refresh, card, command, empty, scrolled, step, table_head};
use super::{Console, View, answer, documents, format};
use crate::rejected::{Bytes, RejectedRecord};
use crate::status::DeadLetter;

/// Records and letters shown, the last first.
const SHOWN: usize = 100;

/// Answers the view.
pub async fn show(State(console): State<Arc<Console>>) -> Response {
    let rejected = console.status.rejected_records();
    let letters = console.status.dead_letters();
    let snapshot = console.status.snapshot();
    let in_all: u64 = snapshot.tables.values().map(|table| table.rejected).sum();
    let refused = console.status.dead_letters_by_reason();
    let last = rejected.records.iter().rev().take(SHOWN);
    let body = html! {
        div.columns {
            (card("Records that could not be read", &reasons(&rejected.by_reason, in_all, "Records")))
            (card("Documents that an index refused", &reasons(&refused, snapshot.dead_letters, "Documents")))
        }
        (card("The last records that could not be read", &records(&console.pipeline, last)))
        (card("The last dead letters", &dead_letters(&console, &letters)))
    };
    let page = Page {
        view: View::Records,
        lead: "What could not be read or written. Nothing of it is lost, and the rest goes on.",
        refresh: Refresh::View,
        body,
    };
    answer(page.render(&snapshot))
}

fn reasons(by_reason: &BTreeMap<String, u64>, in_all: u64, what: &str) -> Markup {
    let mut reasons: Vec<_> = by_reason.iter().collect();
    reasons.sort_by(|a, b| b.1.cmp(a.1).then_with(|| a.0.cmp(b.0)));
    html! {
        p.total {
            span.figure { (format::count(in_all as i64)) }
            span.quiet { " since the start of the stream" }
        }
        @if !reasons.is_empty() {
            table.figures.reasons {
                (table_head(&[Column::Text("Reason"), Column::Number(what)]))
                tbody {
                    @for (reason, count) in reasons {
                        tr {
                            th scope="row" { (reason) }
                            td.number { (format::count(*count as i64)) }
                        }
                    }
                }
            }
        }
    }
}

fn records<'a>(pipeline: &Pipeline, records: impl Iterator<Item = &'a RejectedRecord>) -> Markup {
    let mut records = records.peekable();
    let columns = [
        Column::Text("Table, topic"),
        Column::Number("Partition"),
        Column::Number("Offset"),
        Column::Text("Reason"),
        Column::Text("Raw record"),
    ];
    html! {
        @if records.peek().is_none() {
            (empty("No record was rejected since the stream started.", &html! { "Those of earlier runs are in the archive:" }))
        } @else {
            @let table = html! {
                table.figures.records {
                    (table_head(&columns))
                    tbody { @for record in records { (row(pipeline, record)) } }
                }
            };
            (scrolled("Records that could not be read", &table))
            p.note { "The stream keeps the last ones since it started; the archive has them all, whole:" }
        }
        (command("lockstep-batch archive rejected PIPELINE"))
    }
}

fn row(pipeline: &Pipeline, record: &RejectedRecord) -> Markup {
    let table = pipeline.tables.iter().find(|table| table.name == record.table);
    let topic = table.and_then(|table| table.option("topic").or(table.option("path"))).unwrap_or_default();
    html! {
        tr {
            th scope="row" { (record.table) span.quiet { (topic) } }
            td.number { (record.place.partition) }
            td.number { (format::count(record.place.offset.0)) span.quiet { "step " (step(record.step)) } }
            td.reason {
                (record.reason)
                @if let Some(at) = record.timestamp_ms { span.quiet { (format::moment(at)) " UTC" } }
            }
            td.raw {
                (bytes("key", record.key.as_ref()))
                (bytes("value", record.value.as_ref()))
            }
        }
    }
}

fn bytes(what: &str, bytes: Option<&Bytes>) -> Markup {
    html! {
        @match bytes {
            None => @if what == "value" { span.quiet { "no value" } },
            Some(bytes) => div.bytes {
                @if what == "key" { span.quiet { "key" } }
                code { (bytes.text) }
                @if bytes.is_cut() { span.quiet { "… " (format::bytes(bytes.length)) " in all" } }
            },
        }
    }
}

fn dead_letters(console: &Console, letters: &[DeadLetter]) -> Markup {
    let file = console.state.join("dead-letters.jsonl");
    html! {
        @if letters.is_empty() {
            (empty("No document was refused since the stream started.", &html! { "An index refuses what does not fit its mapping." }))
        } @else {
            (scrolled("Dead letters", &letters_table(letters)))
        }
        p.note {
            "Every one of them is in " code { (file.display()) } "; the next reconcile shows the document as missing. "
            "Mend the cause (the mapping, or the record), then repair: " code { "lockstep-batch reconcile --repair" } "."
        }
    }
}

fn letters_table(letters: &[DeadLetter]) -> Markup {
    html! {
        table.figures.records {
            (table_head(&[Column::Text("Sink"), Column::Text("Document"), Column::Text("What the index said")]))
            tbody {
                @for letter in letters.iter().rev().take(SHOWN) {
                    tr {
                        th scope="row" { (letter.sink) }
                        td.id { a href=(documents::address(&letter.sink, &letter.id)) { (letter.id) } }
                        td.reason { (letter.reason) }
                    }
                }
            }
        }
    }
}
