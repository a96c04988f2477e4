//! A plan for people: what is read, how it is joined, what makes a document one, and what may surprise.

use std::fmt::Write;

use crate::plan::{Expression, ExpressionKind, JoinKind, Pipeline, Sink};
use crate::text;
use crate::value::Value;

/// The plan as text.
#[must_use]
pub fn explain(pipeline: &Pipeline) -> String {
    let mut out = String::new();
    for table in &pipeline.tables {
        let key: Vec<&str> = table.key.iter().map(|c| table.columns[*c].name.as_str()).collect();
        let kind = if key.is_empty() { "append".to_owned() } else { format!("keyed by {}", key.join(", ")) };
        let connector = table.option("connector").unwrap_or_default();
        let from = table.option("topic").or(table.option("path")).unwrap_or_default();
        line(&mut out, 0, &format!("table {} ({kind}) from {connector} {from}", table.name));
    }
    for sink in &pipeline.sinks {
        explain_sink(&mut out, pipeline, sink);
    }
    out
}

fn line(out: &mut String, depth: usize, text: &str) {
    let written = writeln!(out, "{}{text}", "  ".repeat(depth));
    assert!(written.is_ok(), "writing into memory does not fail");
}

fn explain_sink(out: &mut String, pipeline: &Pipeline, sink: &Sink) {
    let query = &sink.query;
    line(out, 0, &format!("sink {} to {}", sink.name, sink.option("connector").unwrap_or_default()));
    for (number, input) in query.inputs.iter().enumerate() {
        let table = &pipeline.tables[input.table.0].name;
        let text = match &input.join {
            None => format!("from {table} {}", input.alias),
            Some(join) => {
                let kind = if join.kind == JoinKind::Left { "left" } else { "inner" };
                let on: Vec<String> = join
                    .on
                    .iter()
                    .map(|key| {
                        format!(
                            "{} = {}",
                            name(pipeline, sink, key.left.input, key.left.column),
                            name(pipeline, sink, number, key.right)
                        )
                    })
                    .collect();
                format!("{kind} join {table} {} on {}", input.alias, on.join(" and "))
            }
        };
        line(out, 1, &text);
        if let Some(filter) = &input.filter {
            line(out, 2, &format!("where {}", expression(pipeline, sink, filter)));
        }
    }
    if let Some(filter) = &query.filter {
        line(out, 1, &format!("where {}", expression(pipeline, sink, filter)));
    }
    for (column, value) in sink.columns.iter().zip(&query.projection) {
        line(out, 2, &format!("{} {} = {}", column.name, column.data_type, expression(pipeline, sink, value)));
    }
    let parts: Vec<&str> = sink.identity.iter().map(|input| query.inputs[*input].alias.as_str()).collect();
    let id = match sink.key.iter().map(|c| sink.columns[*c].name.as_str()).collect::<Vec<_>>() {
        none if none.is_empty() => "those rows' keys or places".to_owned(),
        key => format!("the primary key ({})", key.join(", ")),
    };
    line(
        out,
        1,
        &format!("identity: one document for each row of {}; _id is made of {id}", parts.join(" with each row of ")),
    );
    for warning in warnings(pipeline, sink) {
        line(out, 1, &format!("warning: {warning}"));
    }
}

/// What gives correct documents that mislead.
fn warnings(pipeline: &Pipeline, sink: &Sink) -> Vec<String> {
    let joined = || sink.identity.iter().copied().filter(|input| sink.query.inputs[*input].join.is_some());
    let mut warnings: Vec<String> = joined()
        .filter(|input| !pipeline.tables[sink.query.inputs[*input].table.0].is_keyed())
        .map(|input| {
            let input = &sink.query.inputs[input];
            format!(
                "{} is append-only: each further record of {} with the same join key multiplies the documents; declare a PRIMARY KEY if the last one should win",
                input.alias, pipeline.tables[input.table.0].name
            )
        })
        .collect();
    if joined().next().is_some() {
        let left = &sink.query.inputs[0].alias;
        warnings.push(format!("a row of {left} has a document for each partner, so that a count or sum over columns of {left} counts it as often"));
    }
    warnings
}

fn name(pipeline: &Pipeline, sink: &Sink, input: usize, column: usize) -> String {
    let input = &sink.query.inputs[input];
    format!("{}.{}", input.alias, pipeline.tables[input.table.0].columns[column].name)
}

fn expression(pipeline: &Pipeline, sink: &Sink, e: &Expression) -> String {
    match &e.kind {
        ExpressionKind::Column(c) => name(pipeline, sink, c.input, c.column),
        ExpressionKind::Literal(Value::Null) => "NULL".into(),
        ExpressionKind::Literal(value @ Value::String(_)) => format!("'{}'", text::display(value, e.data_type)),
        ExpressionKind::Literal(value) => text::display(value, e.data_type),
        ExpressionKind::Call(function, arguments) => {
            let arguments: Vec<String> = arguments.iter().map(|a| expression(pipeline, sink, a)).collect();
            format!("{function:?}({})", arguments.join(", "))
        }
        ExpressionKind::Cast(inner) => format!("Cast({} as {})", expression(pipeline, sink, inner), e.data_type),
    }
}
