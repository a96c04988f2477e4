//! The confusion table: how often each class of damage was named what, as Markdown.

use std::fmt::Write as _;

use super::class::Class;
use super::suite::Tally;

/// The table, and what it comes to.
#[must_use]
pub fn table(tally: &Tally) -> String {
    let mut text = String::from(
        "| damage | injected | cause that it must be named | named so | named otherwise |\n|---|---|---|---|---|\n",
    );
    for class in Class::ALL {
        let of_class: Vec<_> = tally.named.iter().filter(|((c, _), _)| *c == class).collect();
        let all: u64 = of_class.iter().map(|(_, count)| **count).sum();
        let right: u64 = of_class.iter().filter(|((_, cause), _)| *cause == class.cause()).map(|(_, n)| **n).sum();
        let other = of_class.iter().filter(|((_, cause), _)| *cause != class.cause());
        let other: Vec<String> = other.map(|((_, cause), count)| format!("{} {count}", cause.name())).collect();
        let line = format!("| {} | {all} | {} | {right} | {} |", class.name(), class.cause().name(), other.join(", "));
        // Writing to a String does not fail.
        let _ = writeln!(text, "{line}");
    }
    let (injected, right) = (tally.injected(), tally.right());
    let _ = writeln!(
        text,
        "\n{injected} injected, {right} named right ({:.2} %)",
        100.0 * right as f64 / injected.max(1) as f64
    );
    text
}
