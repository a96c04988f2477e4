//! Charts as tables with bars and as SVG: sizes in per cent, so that they fit every width while their text keeps its size;
//! colours in the style sheet; numbers as text in the page. Pure.

use maud::{Markup, html};

use super::format;

/// Steps of an axis within one power of ten.
const NICE: [f64; 4] = [1.0, 2.0, 5.0, 10.0];
/// Lines across a plot beside its foot.
const GRID: usize = 2;
/// Labels below a plot: as many as fit on a phone.
const AXIS_LABELS: usize = 3;

/// One row of a chart of bars.
pub struct BarRow {
    /// What it is.
    pub label: String,
    /// What tells it apart from others of that label, where it has more than a label.
    pub key: Option<String>,
    /// Its length.
    pub value: f64,
    /// Its length for people.
    pub text: String,
}

/// A chart of bars, which is a table: who cannot see the bars reads the same.
pub struct Bars<'a> {
    /// What the bars are.
    pub caption: &'a str,
    /// The rows shown at once.
    pub rows: &'a [BarRow],
    /// What a whole width is.
    pub most: f64,
}

impl Bars<'_> {
    /// Draws it.
    pub fn render(&self) -> Markup {
        html! {
            table.bars {
                caption.hidden { (self.caption) }
                tbody {
                    @for row in self.rows {
                        tr {
                            th scope="row" title=[row.key.as_deref()] { (row.label) }
                            td.bar aria-hidden="true" { (bar(row.value, self.most)) }
                            td.number { (row.text) }
                        }
                    }
                }
            }
        }
    }
}

/// A bar of its share of a whole.
pub fn bar(value: f64, most: f64) -> Markup {
    html! { svg.bar width="100%" height="8" { rect width=(percent(share(value, most))) height="8" rx="1.5" {} } }
}

fn share(value: f64, whole: f64) -> f64 {
    if whole > 0.0 { (value / whole).clamp(0.0, 1.0) } else { 0.0 }
}

fn percent(share: f64) -> String {
    format!("{:.2}%", share * 100.0)
}

/// Half a ring that is filled so far.
pub fn gauge(share: f64, label: &str) -> Markup {
    // Half the circumference of a circle of radius 54.
    let length = std::f64::consts::PI * 54.0;
    let filled = format!("{:.1} {:.1}", length * share.clamp(0.0, 1.0), length * 2.0);
    html! {
        svg.gauge viewBox="0 0 120 66" role="img" aria-label=(label) {
            path.track d="M6 60a54 54 0 0 1 108 0" {}
            path.value d="M6 60a54 54 0 0 1 108 0" stroke-dasharray=(filled) {}
        }
    }
}

/// A line over places of an axis.
pub struct Line<'a> {
    /// What it shows.
    pub label: &'a str,
    /// Its colour, as the style sheet names it.
    pub class: &'a str,
    /// One value for each place; a place without one is a gap.
    pub values: &'a [Option<f64>],
    /// A value as people read it.
    pub text: &'a dyn Fn(f64) -> String,
    /// A value as an axis has it.
    pub tick: &'a dyn Fn(f64) -> String,
    /// The places as people read them.
    pub places: &'a [String],
}

impl Line<'_> {
    /// Draws it, with what each place has shown when a pointer is over it.
    pub fn render(&self) -> Markup {
        let most = ceiling(self.values.iter().flatten().copied().fold(0.0, f64::max));
        let summary = format!("{}: {}", self.label, self.range());
        html! {
            svg.line.(self.class) width="100%" height="178" role="img" aria-label=(summary) {
                svg y="34" width="100%" height="120" aria-hidden="true" {
                    (grid())
                    svg viewBox="0 0 1000 100" width="100%" height="100%" preserveAspectRatio="none" {
                        @for run in self.runs() { (path(&run, self.values.len(), most)) }
                    }
                    @for run in self.runs().iter().filter(|run| run.len() == 1) {
                        (dot(run[0], self.values.len(), most))
                    }
                    (scale(most, self.tick))
                }
                (self.axis())
                g.hits aria-hidden="true" {
                    @for (at, value) in self.values.iter().enumerate() { (self.hit(at, *value, most)) }
                }
            }
        }
    }

    /// Places that follow one another without a gap, with their values.
    fn runs(&self) -> Vec<Vec<(usize, f64)>> {
        let mut runs = vec![Vec::new()];
        for (at, value) in self.values.iter().enumerate() {
            match (value, runs.last_mut()) {
                (Some(value), Some(run)) => run.push((at, *value)),
                (Some(value), None) => runs.push(vec![(at, *value)]),
                (None, _) => runs.push(Vec::new()),
            }
        }
        runs.retain(|run| !run.is_empty());
        runs
    }

    fn range(&self) -> String {
        let known = || self.values.iter().flatten().copied();
        match (known().reduce(f64::min), known().reduce(f64::max)) {
            (Some(least), Some(most)) => format!("from {} to {}", (self.text)(least), (self.text)(most)),
            _ => "no values".to_owned(),
        }
    }

    fn axis(&self) -> Markup {
        let last = self.places.len().saturating_sub(1);
        let shown: Vec<usize> = match last {
            0 => vec![0],
            last => (0..AXIS_LABELS).map(|n| n * last / (AXIS_LABELS - 1)).collect(),
        };
        html! {
            @for at in shown {
                @let x = place(at, self.places.len());
                text.tick.between[at > 0 && at < last] x=(percent(x)) y="173" text-anchor=(anchor(x)) { (self.places.get(at).map_or("", String::as_str)) }
            }
        }
    }

    fn hit(&self, at: usize, value: Option<f64>, most: f64) -> Markup {
        let (x, width) = (place(at, self.values.len()), 1.0 / self.values.len().max(1) as f64);
        let said = value.map_or_else(|| format::NOTHING.to_owned(), |value| (self.text)(value));
        html! {
            g {
                rect x=(percent((x - width / 2.0).max(0.0))) width=(percent(width)) height="156" {}
                svg y="34" width="100%" height="120" {
                    line x1=(percent(x)) x2=(percent(x)) y1="0" y2="100%" {}
                    @if let Some(value) = value {
                        circle cx=(percent(x)) cy=(percent(1.0 - share(value, most))) r="3.5" {}
                    }
                }
                text x=(percent(x)) y="11" text-anchor=(anchor(x)) {
                    (self.places.get(at).map_or("", String::as_str)) "  " tspan.said { (said) }
                }
            }
        }
    }
}

fn place(at: usize, places: usize) -> f64 {
    if places < 2 { 0.5 } else { at as f64 / (places - 1) as f64 }
}

fn anchor(x: f64) -> &'static str {
    match x {
        x if x < 0.25 => "start",
        x if x > 0.75 => "end",
        _ => "middle",
    }
}

fn grid() -> Markup {
    html! {
        line.foot x1="0" x2="100%" y1="100%" y2="100%" {}
        @for n in 1..=GRID {
            @let up = n as f64 / GRID as f64;
            line x1="0" x2="100%" y1=(percent(1.0 - up)) y2=(percent(1.0 - up)) {}
        }
    }
}

/// What the lines of the grid stand for; over the curve, so that it can be read where the curve goes through it.
fn scale(most: f64, tick: &dyn Fn(f64) -> String) -> Markup {
    html! {
        @for n in 1..=GRID {
            @let up = n as f64 / GRID as f64;
            text.tick x="0" y=(percent(1.0 - up)) dy="-5" { (tick(most * up)) }
        }
    }
}

fn path(run: &[(usize, f64)], places: usize, most: f64) -> Markup {
    let point = |(at, value): &(usize, f64)| {
        format!("{:.1} {:.2}", place(*at, places) * 1_000.0, 100.0 - share(*value, most) * 100.0)
    };
    let line = run.iter().map(point).collect::<Vec<_>>().join("L");
    let foot = |at: usize| format!("{:.1} 100", place(at, places) * 1_000.0);
    let (first, last) = (run.first().map_or(0, |p| p.0), run.last().map_or(0, |p| p.0));
    html! {
        path.area d=(format!("M{}L{line}L{}Z", foot(first), foot(last))) {}
        path.stroke d=(format!("M{line}")) vector-effect="non-scaling-stroke" {}
    }
}

fn dot((at, value): (usize, f64), places: usize, most: f64) -> Markup {
    html! { circle.single cx=(percent(place(at, places))) cy=(percent(1.0 - share(value, most))) r="3" {} }
}

/// The next number on an axis: a one, two or five with zeros that is not below.
fn ceiling(most: f64) -> f64 {
    if most <= 0.0 {
        return 1.0;
    }
    let power = 10_f64.powf(most.log10().floor());
    NICE.iter().map(|nice| nice * power).find(|nice| *nice >= most * (1.0 - 1e-9)).unwrap_or(most)
}

/// A small picture of what went through the last seconds.
pub fn spark(values: &[f64], label: &str) -> Markup {
    let most = values.iter().copied().fold(0.0, f64::max).max(1.0);
    let run: Vec<(usize, f64)> = values.iter().copied().enumerate().collect();
    html! {
        svg.spark viewBox="0 0 1000 100" width="100%" height="36" preserveAspectRatio="none" role="img" aria-label=(label) {
            @if run.len() > 1 { (path(&run, run.len(), most)) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_ends_at_a_round_number() {
        assert_eq!(
            [0.0, 0.7, 1.0, 3.0, 7.0, 42.0, 99.0, 1_000.0].map(ceiling),
            [1.0, 1.0, 1.0, 5.0, 10.0, 50.0, 100.0, 1_000.0]
        );
    }

    #[test]
    fn a_gap_parts_a_line_and_text_is_escaped() {
        let places: Vec<String> = ["<a>", "b", "c", "d"].map(str::to_owned).to_vec();
        let text = |value: f64| value.to_string();
        let values = [Some(1.0), Some(2.0), None, Some(4.0)];
        let line = Line { label: "views", class: "one", values: &values, text: &text, tick: &text, places: &places };
        let drawn = line.render().into_string();
        assert_eq!(drawn.matches("class=\"stroke\"").count(), 2, "{drawn}");
        assert!(
            drawn.contains("views: from 1 to 4") && drawn.contains("&lt;a&gt;") && !drawn.contains("<a>"),
            "{drawn}"
        );
    }
}
