//! What a page should say, written down from figures by rules of its own: the tests compare it with what the browser shows.

use anyhow::{Context as _, Result, bail};
use lockstep_integration_tests::browser::Browser;
use serde_json::{Value, json};

use crate::shop::SOON;

/// A figure as people read it.
fn text(value: &Value, unit: &str) -> String {
    let (Some(number), false) = (value.as_f64(), value.is_null()) else { return "–".to_owned() };
    match unit {
        "cents" => {
            let cents = number as i64;
            format!("${}.{:02}", thousands(cents / 100), cents % 100)
        }
        "views_per_hour" => format!("{number:.1}"),
        _ => thousands(number as i64),
    }
}

/// With a comma before every third digit from the end.
pub fn thousands(number: i64) -> String {
    let digits = number.to_string();
    let first = digits.len() % 3;
    let groups = digits.as_bytes()[first..].chunks(3).map(|group| String::from_utf8_lossy(group).into_owned());
    let groups: Vec<String> =
        Some(digits[..first].to_owned()).filter(|d| !d.is_empty()).into_iter().chain(groups).collect();
    groups.join(",")
}

/// The numbers that the panel's `chart` should show, in the order of the page.
pub fn expected(chart: &Value) -> Result<Vec<String>> {
    let list = |name: &str| chart[name].as_array().map_or(&[][..], Vec::as_slice);
    let unit = |of: &Value| of["unit"].as_str().unwrap_or_default().to_owned();
    match chart["kind"].as_str() {
        Some("gauge") => Ok(list("gauges").iter().map(|gauge| text(&gauge["value"], &unit(gauge))).collect()),
        Some("bars") => {
            let bars = list("charts").iter().flat_map(|chart| {
                let bars = chart["bars"].as_array().cloned().unwrap_or_default();
                let unit = unit(chart);
                bars.into_iter().map(move |bar| {
                    format!("{} {}", bar["label"].as_str().unwrap_or_default(), text(&bar["value"], &unit))
                })
            });
            Ok(bars.collect())
        }
        Some("line") => {
            let values = list("series").iter().filter_map(|series| series["values"].as_array()).flatten();
            // A panel without a single figure says so, and shows no table.
            let places = if values.into_iter().all(Value::is_null) { 0 } else { list("at").len() };
            Ok((0..places)
                .flat_map(|at| list("series").iter().map(move |series| text(&series["values"][at], &unit(series))))
                .collect())
        }
        other => bail!("no panel is a {other:?}"),
    }
}

/// The numbers that a panel shows, by the kind of its chart.
pub async fn shown(browser: &Browser, panel: &str, chart: &Value) -> Result<Vec<String>> {
    match chart["kind"].as_str() {
        Some("gauge") => browser.texts(&format!("#{panel} .gauges .figure")).await,
        Some("bars") => {
            let rows = format!(
                "[...document.querySelectorAll('#{panel} table.bars tr')].map(row => \
                 row.querySelector('th').textContent + ' ' + row.querySelector('td.number').textContent)"
            );
            Ok(serde_json::from_value(browser.value(&rows).await?)?)
        }
        Some("line") => browser.texts(&format!("#{panel} table.figures tbody td")).await,
        other => bail!("no panel is a {other:?}"),
    }
}

/// How wide what is in the page is, beside the window: wider means that something is cut off or must be scrolled to.
pub async fn overflow(browser: &Browser) -> Result<i64> {
    let beyond = browser.value("document.documentElement.scrollWidth - window.innerWidth").await?;
    beyond.as_i64().context("a width is a number")
}

/// What one view loads: the bytes of all of it, and the milliseconds until something is painted.
pub async fn weight(browser: &Browser) -> Result<(u64, f64)> {
    let all = "[...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]";
    let bytes = browser.value(&format!("{all}.map(e => e.decodedBodySize).reduce((a, b) => a + b, 0)")).await?;
    // The browser notes it a little after it has painted.
    browser.until("performance.getEntriesByName('first-contentful-paint').length > 0", SOON).await?;
    let paint = browser.value("performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? null").await?;
    if paint == json!(null) {
        bail!("nothing was painted");
    }
    Ok((bytes.as_u64().context("bytes are a number")?, paint.as_f64().context("a time is a number")?))
}
