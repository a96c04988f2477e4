//! A certificate as a page of its own. Nothing is loaded and nothing runs: it can be mailed, printed and filed.

use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde_json::Value as Json;

use super::{Certificate, Sample, SinkReport, Verdict};

/// Colours for light and dark, and none on paper.
const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1c2024; --quiet: #60646c; --line: #d9d9e0; --ground: #fff; --good: #18794e; --bad: #b3261e }
@media (prefers-color-scheme: dark) {
  :root { --ink: #edeef0; --quiet: #b0b4ba; --line: #43484e; --ground: #111113; --good: #3dd68c; --bad: #ff9592 }
}
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--ground); max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.6rem; margin: 0 } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; overflow-wrap: anywhere }
p.quiet, caption { color: var(--quiet) } .good { color: var(--good) } .bad { color: var(--bad) }
table { border-collapse: collapse; width: 100%; margin: .5rem 0 }
th, td { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid var(--line); overflow-wrap: anywhere }
td.number { text-align: right; font-variant-numeric: tabular-nums }
@media print { body { margin: 0; max-width: none } section { break-inside: avoid } }
";

pub(super) fn page(certificate: &Certificate) -> String {
    let Certificate { made_at, verdict, cut, .. } = certificate;
    let class = if *verdict == Verdict::Differs { "bad" } else { "good" };
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "Lockstep certificate: " (verdict.text()) " at step " (cut) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { "Lockstep certificate: " span.(class) { (verdict.text()) } }
                p.quiet { "Everything up to step " (cut) "; made at " (made_at) }
                p.quiet { (certificate.precision.text()) }
                @for sink in &certificate.sinks { (report(sink)) }
                (positions(certificate))
                (durations(certificate))
            }
        }
    };
    markup.into_string()
}

fn report(sink: &SinkReport) -> Markup {
    let counts = [
        ("expected", sink.expected),
        ("found", sink.found),
        ("equal", sink.equal),
        ("missing", sink.missing),
        ("different", sink.different),
        ("extra", sink.extra),
        ("different besides, too many to be looked at", sink.unexamined),
        ("changed after the cut, left out", sink.younger),
    ];
    html! {
        section {
            h2 { (sink.index) @if sink.sink != sink.index { " (sink " (sink.sink) ")" } }
            p.quiet { "Compared in " (sink.mode) " mode, " (sink.read) " documents read: " (sink.how) "." }
            table { @for (what, count) in counts { tr { th scope="row" { (what) } td.number { (count) } } } }
            @if let Some(repaired) = &sink.repair {
                p { "Repaired " (repaired.done) ", overtaken by the stream " (repaired.overtaken) ", refused " (repaired.refused.len()) "." }
                @for (id, reason) in &repaired.refused { p.bad { (id) ": " (reason) } }
            }
            @if let Some(held_back) = &sink.held_back { p.bad { (held_back.text()) } }
            @if !sink.by_cause.is_empty() {
                table {
                    caption { "Differences by cause" }
                    @for (cause, count) in &sink.by_cause { tr { th scope="row" { (cause) } td.number { (count) } } }
                }
            }
            @for sample in &sink.samples { (difference(sample)) }
        }
    }
}

fn difference(sample: &Sample) -> Markup {
    let said = |value: &Option<Json>| value.as_ref().map_or_else(|| "absent".to_owned(), Json::to_string);
    html! {
        table {
            caption { (sample.kind) " " (sample.id) @if let Some(cause) = &sample.cause { ": " (cause) } }
            @if !sample.fields.is_empty() {
                tr { th scope="col" { "field" } th scope="col" { "expected" } th scope="col" { "found" } }
            }
            @for field in &sample.fields {
                tr { th scope="row" { (field.field) } td { (said(&field.expected)) } td { (said(&field.found)) } }
            }
        }
    }
}

fn positions(certificate: &Certificate) -> Markup {
    html! {
        section {
            h2 { "Offsets of the archive" }
            table {
                tr { th scope="col" { "table" } th scope="col" { "partition" } th scope="col" { "next offset" } }
                @for (table, positions) in &certificate.positions {
                    @for (partition, offset) in positions {
                        tr { th scope="row" { (table) } td.number { (partition) } td.number { (offset) } }
                    }
                }
            }
        }
    }
}

fn durations(certificate: &Certificate) -> Markup {
    html! {
        section {
            h2 { "How long it took" }
            table {
                @for (phase, seconds) in &certificate.seconds {
                    tr { th scope="row" { (phase) } td.number { (format!("{seconds:.3} s")) } }
                }
            }
        }
    }
}
