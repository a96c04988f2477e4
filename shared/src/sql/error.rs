//! What is wrong with a program, where, and what to write instead.

use std::fmt;

use sqlparser::tokenizer::{Location, Span};

/// One thing that is wrong with a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqlError {
    /// Line, counted from 1; 0 where the program as a whole is meant.
    pub line: u64,
    /// Column in characters, counted from 1.
    pub column: u64,
    /// What was found, and what to write instead.
    pub message: String,
}

impl SqlError {
    /// An error at a place.
    pub(super) fn at(at: Location, message: impl Into<String>) -> Self {
        Self { line: at.line, column: at.column, message: message.into() }
    }

    /// An error at the beginning of something.
    pub(super) fn of(span: Span, message: impl Into<String>) -> Self {
        Self::at(span.start, message)
    }

    /// An error of the program as a whole.
    pub(super) fn whole(message: impl Into<String>) -> Self {
        Self { line: 0, column: 0, message: message.into() }
    }

    /// The message with its place, and below it the line of `text` with a caret under the column.
    #[must_use]
    pub fn render(&self, text: &str) -> String {
        let line = usize::try_from(self.line).ok().and_then(|n| n.checked_sub(1)).and_then(|n| text.lines().nth(n));
        match line {
            None => self.to_string(),
            Some(line) => {
                let shown = line.replace('\t', " ");
                let before = usize::try_from(self.column).unwrap_or(1).saturating_sub(1).min(shown.chars().count());
                format!("{self}\n    {shown}\n    {}^", " ".repeat(before))
            }
        }
    }
}

impl fmt::Display for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.message),
            _ => write!(f, "{}:{}: {}", self.line, self.column, self.message),
        }
    }
}

impl std::error::Error for SqlError {}

/// `; did you mean …?` with the nearest of the known names, or nothing where none is near.
pub(super) fn suggestion<'a>(found: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    const NEAR: f64 = 0.7;
    let likeness = |name: &str| strsim::jaro_winkler(&found.to_lowercase(), &name.to_lowercase());
    known
        .into_iter()
        .map(|name| (likeness(name), name))
        .filter(|(likeness, _)| *likeness >= NEAR)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| format!("; did you mean {name}?"))
        .unwrap_or_default()
}
