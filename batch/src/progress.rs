//! How far a pass is, for whoever looks at a terminal: on stderr, and nowhere else.

use std::fmt::Write;

use indicatif::{HumanCount, ProgressBar, ProgressState, ProgressStyle};

/// A bar with rate and time left; nothing where stderr is no terminal.
pub struct Progress(ProgressBar);

impl Progress {
    /// Begins a stage of `documents`; 0 where it is not known how many there are.
    #[must_use]
    pub fn begin(what: &str, documents: u64) -> Self {
        let form = if documents == 0 {
            "{msg} {human_pos} documents, {rate}"
        } else {
            "{msg} {wide_bar} {human_pos} of {human_len} documents, {rate}, {eta} left"
        };
        let bar = if documents == 0 { ProgressBar::new_spinner() } else { ProgressBar::new(documents) };
        let rate = |state: &ProgressState, out: &mut dyn Write| {
            // What cannot be written is not seen.
            let _ = write!(out, "{}/s", HumanCount(state.per_sec().round() as u64));
        };
        let style = ProgressStyle::with_template(form).unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style.with_key("rate", rate));
        bar.set_message(what.to_owned());
        Self(bar)
    }

    /// Of a stage that goes on beside one that is shown.
    #[must_use]
    pub fn unseen() -> Self {
        Self(ProgressBar::hidden())
    }

    /// What is waited for now.
    pub fn goes_on_with(&self, what: &str) {
        self.0.set_message(what.to_owned());
    }

    /// So many more are done.
    pub fn advance(&self, documents: u64) {
        self.0.inc(documents);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
