//! The same panels for Kibana: one NDJSON file of saved objects, for Stack Management → Saved Objects → Import.
//!
//! Four data views and one dashboard whose Lens panels stand in it by value. Versions are the lowest that have what is used
//! (dashboard 8.7.0, data view 7.11.0), because a Kibana refuses what is newer than itself. The time range is absolute: the
//! data may be years old, and a dashboard of the last fifteen minutes opens empty. Nothing here was imported into a Kibana.
//!
//! Lens has no panel that counts customers by their number of orders, and none for hours covered in part: the order
//! frequency shows the top customers only, and views by hour are divided by the days that have a view in that hour.

mod lens;
mod visualisations;

use lockstep_shared::index::index_name;
use lockstep_shared::plan::Pipeline;
use lockstep_shared::text::{self, TimestampStyle};
use serde_json::{Value as Json, json};

use super::{AskError, CATALOGUE, CUSTOMERS, ORDERS, VIEWS};
use visualisations::Visualisation;

/// The lowest version of a data view.
const DATA_VIEW_VERSION: &str = "7.11.0";
/// The lowest version of a dashboard whose Lens panels are stored as they are here.
const DASHBOARD_VERSION: &str = "8.7.0";
/// The lowest version of a saved object with a version of its type.
const CORE_VERSION: &str = "8.8.0";
/// How often Kibana asks again.
const REFRESH_MS: u64 = 5_000;

/// The sinks that panels read, each with the field of its time if it has one.
const SOURCES: [(&str, Option<&str>); 4] =
    [(ORDERS, Some("ts")), (VIEWS, Some("ts")), (CATALOGUE, None), (CUSTOMERS, None)];

/// The absolute range of time that the dashboard opens with, in milliseconds of the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Its begin.
    pub from_ms: i64,
    /// Its end.
    pub to_ms: i64,
}

/// The file: one saved object a line.
///
/// # Errors
/// Where the pipeline lacks a sink that a panel reads.
pub fn export(pipeline: &Pipeline, opened: Opened) -> Result<String, AskError> {
    let mut lines = Vec::new();
    for (sink, time) in SOURCES {
        let index = pipeline.sinks.iter().find(|s| s.name == sink && s.option("hosts").is_some()).map(index_name);
        lines.push(data_view(sink, index.ok_or(AskError::NoSink { sink })?, time));
    }
    lines.push(dashboard(&visualisations::all(), opened));
    Ok(lines.iter().map(|line| format!("{line}\n")).collect())
}

fn data_view_id(sink: &str) -> String {
    format!("lockstep-{sink}")
}

fn data_view(sink: &str, index: &str, time: Option<&str>) -> Json {
    let mut attributes = json!({
        "title": index, "name": format!("Lockstep: {sink}"), "fields": "[]", "fieldFormatMap": "{}",
        "runtimeFieldMap": "{}", "typeMeta": "{}", "sourceFilters": "[]",
    });
    if let Some(time) = time {
        attributes["timeFieldName"] = json!(time);
    }
    json!({
        "id": data_view_id(sink), "type": "index-pattern", "attributes": attributes, "references": [],
        "coreMigrationVersion": CORE_VERSION, "typeMigrationVersion": DATA_VIEW_VERSION, "managed": false,
    })
}

fn dashboard(all: &[Visualisation], opened: Opened) -> Json {
    let panels: Vec<Json> = all.iter().map(|shown| shown.panel(DASHBOARD_VERSION)).collect();
    let references: Vec<Json> = all.iter().map(|shown| shown.reference(&format!("{}:", shown.id))).collect();
    let options = json!({
        "useMargins": true, "syncColors": false, "syncCursor": true, "syncTooltips": false, "hidePanelTitles": false,
    });
    let at = |ms: i64| ms.checked_mul(1_000).and_then(|us| text::format_timestamp(us, 3, TimestampStyle::Iso8601));
    json!({
        "id": "lockstep-dashboard", "type": "dashboard",
        "attributes": {
            "title": "Shoe shop (Lockstep)",
            "description": "The eight panels of the shop's dashboard, each at the grain that it counts.",
            "version": 1,
            "timeRestore": true, "timeFrom": at(opened.from_ms), "timeTo": at(opened.to_ms),
            "refreshInterval": {"pause": false, "value": REFRESH_MS},
            "optionsJSON": options.to_string(),
            "panelsJSON": Json::Array(panels).to_string(),
            "kibanaSavedObjectMeta": {
                "searchSourceJSON": json!({"query": {"query": "", "language": "kuery"}, "filter": []}).to_string(),
            },
        },
        "references": references,
        "coreMigrationVersion": CORE_VERSION, "typeMigrationVersion": DASHBOARD_VERSION, "managed": false,
    })
}
