//! What every view has around it: the head, the way to the others, how the stream is, and what the script needs.

use lockstep_shared::coordinates::Step;
use maud::{DOCTYPE, Markup, html};

use super::{ASSETS, View, format};
use crate::status::Snapshot;
use crate::watch::now_ms;

/// What the script brings up to date while somebody looks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refresh {
    /// The whole view, from its own address.
    View,
    /// Only how the stream is: what is shown was asked for once.
    Pulse,
}

/// A view as it is sent.
pub struct Page<'a> {
    /// Which one.
    pub view: View,
    /// What it says under its name.
    pub lead: &'a str,
    /// What is brought up to date.
    pub refresh: Refresh,
    /// What is in it.
    pub body: Markup,
}

/// Where the script finds how the stream is.
pub const PULSE: &str = "/pulse";

impl Page<'_> {
    /// The whole document.
    #[must_use]
    pub fn render(self, snapshot: &Snapshot) -> Markup {
        let Self { view, lead, refresh, body } = self;
        html! {
            (DOCTYPE)
            html lang="en" {
                (head(view.name()))
                body data-refresh=[(refresh == Refresh::Pulse).then_some(PULSE)] {
                    a.skip href="#main" { "Skip to the content" }
                    header.top {
                        a.brand href="/" aria-label="Lockstep, to the dashboard" { (mark()) "Lockstep" }
                        (navigation(view))
                        (pulse(snapshot))
                    }
                    p.banner.stale #stale role="alert" hidden {}
                    (trouble(snapshot))
                    main #main tabindex="-1" data-live=[(refresh == Refresh::View).then_some("")] {
                        div.title { h1 { (view.name()) } p { (lead) } }
                        (body)
                    }
                }
            }
        }
    }
}

/// Only what tells how the stream is, for the script.
pub fn pulse_only(snapshot: &Snapshot) -> Markup {
    html! { (DOCTYPE) html lang="en" { head { title { "Lockstep" } } body { (pulse(snapshot)) (trouble(snapshot)) } } }
}

fn head(title: &str) -> Markup {
    html! {
        head {
            meta charset="utf-8";
            title { (title) " · Lockstep" }
            meta name="viewport" content="width=device-width, initial-scale=1";
            meta name="color-scheme" content="light dark";
            link rel="icon" type="image/svg+xml" href=(ASSETS.icon());
            link rel="stylesheet" href=(ASSETS.style());
            script src=(ASSETS.script()) defer {}
        }
    }
}

/// Two steps, one above the other.
fn mark() -> Markup {
    html! {
        svg.mark viewBox="0 0 24 24" width="24" height="24" aria-hidden="true" {
            path d="M3 15h5V9h6V4h7" {}
            path.second d="M3 20h9v-6h5V9h4" {}
        }
    }
}

fn navigation(here: View) -> Markup {
    html! {
        nav.views aria-label="Views" {
            ul {
                @for view in View::ALL {
                    li { a href=(view.path()) aria-current=[(view == here).then_some("page")] { (view.name()) } }
                }
            }
        }
    }
}

fn pulse(snapshot: &Snapshot) -> Markup {
    let (class, word) = match (snapshot.phase, &snapshot.trouble) {
        (_, Some(_)) => ("bad", "Waiting"),
        ("live", None) => ("ok", "Live"),
        ("replaying", None) => ("busy", "Replaying"),
        ("stopping", None) => ("busy", "Stopping"),
        (_, None) => ("busy", "Recovering"),
    };
    html! {
        div.pulse #pulse data-live {
            span.dot.(class) aria-hidden="true" {}
            span.word { (word) }
            span.quiet { "step " (step(snapshot.step)) }
            time.quiet #clock { (format::clock(now_ms())) " UTC" }
            button.pause #pause type="button" hidden { "Pause" }
        }
    }
}

fn trouble(snapshot: &Snapshot) -> Markup {
    html! {
        div #trouble data-live role="status" {
            @if let Some(trouble) = &snapshot.trouble {
                p.banner.bad { strong { "The stream waits. " } (trouble) }
            }
        }
    }
}

/// A step with thousands apart.
pub fn step(step: Step) -> String {
    if step.epoch() == 0 { format::count(step.0) } else { step.to_string() }
}

/// A box with a heading.
pub fn card(title: &str, body: &Markup) -> Markup {
    html! { section.card { h2 { (title) } (body) } }
}

/// What stands where there is nothing: what that means, and what to do.
pub fn empty(what: &str, then: &Markup) -> Markup {
    html! { div.empty { p.what { (what) } p { (then) } } }
}

/// What stands where something went wrong.
pub fn failed(what: &str, then: &str) -> Markup {
    html! { div.empty.failed role="status" { p.what { (what) } p { (then) } } }
}

/// A column of a table: what is said of it, and whether numbers stand in it.
pub enum Column<'a> {
    /// Text, from the left.
    Text(&'a str),
    /// Numbers, to the right.
    Number(&'a str),
}

/// The head of a table.
pub fn table_head(columns: &[Column<'_>]) -> Markup {
    html! {
        thead {
            tr {
                @for column in columns {
                    @match column {
                        Column::Text(name) => th scope="col" { (name) },
                        Column::Number(name) => th.number scope="col" { (name) },
                    }
                }
            }
        }
    }
}

/// What is wider or higher than there is room for; it can be reached and scrolled by keyboard.
pub fn scrolled(label: &str, body: &Markup) -> Markup {
    html! { div.scroll tabindex="0" role="region" aria-label=(label) { (body) } }
}

/// A command for a terminal.
pub fn command(text: &str) -> Markup {
    html! { pre.command tabindex="0" { code { (text) } } }
}

/// A small number with its name.
pub fn fact(name: &str, value: &str) -> Markup {
    html! { div.fact { dt { (name) } dd { (value) } } }
}

/// The icon of the page. Its colours stand in it: a style would be refused like any other that is written into a document.
pub fn icon() -> String {
    let picture = html! {
        svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" fill="none" stroke-width="3" {
            path stroke="#0c7a7a" d="M3 15h5V9h6V4h7" {}
            path stroke="#e08a00" d="M3 20h9v-6h5V9h4" {}
        }
    };
    picture.into_string()
}
