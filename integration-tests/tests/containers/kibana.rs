//! The dashboard for Kibana. There is no Kibana here: the file is linted as far as a file can be, and each panel's columns are
//! turned into the aggregation that Lens would send, run against Elasticsearch and compared with our own panels.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use lockstep_integration_tests::containers;
use lockstep_shared::index::{index_name, mapping};
use lockstep_stream::dashboard::kibana::{Opened, export};
use serde_json::{Value, json};

use crate::shop::{SINKS, SOON, Shop, TABLES, Text};

/// Kibana's grid.
const GRID_COLUMNS: u64 = 48;
/// The count of documents.
const RECORDS: &str = "___records___";
/// The lowest versions that have what is used; newer ones a Kibana of that version would refuse.
const VERSIONS: [(&str, &str); 2] = [("index-pattern", "7.11.0"), ("dashboard", "8.7.0")];

/// The saved objects of a file.
struct Exported {
    objects: Vec<Value>,
}

impl Exported {
    fn read(text: &str) -> Result<Self> {
        ensure!(text.ends_with('\n'), "the last line ends");
        let parsed = text.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned()));
        Ok(Self { objects: parsed.collect::<Result<_>>()? })
    }

    fn dashboard(&self) -> Result<&Value> {
        self.objects.iter().find(|object| object["type"] == "dashboard").context("there is a dashboard")
    }

    fn panels(&self) -> Result<Vec<Value>> {
        nested(&self.dashboard()?["attributes"]["panelsJSON"])
            .map(|panels| panels.as_array().cloned().unwrap_or_default())
    }

    /// The index pattern that a panel's only layer reads.
    fn pattern(&self, panel: &Value) -> Result<&str> {
        let id =
            panel["embeddableConfig"]["attributes"]["references"][0]["id"].as_str().context("a reference has an id")?;
        let view = self.objects.iter().find(|object| object["id"] == id).context("the data view is there")?;
        view["attributes"]["title"].as_str().context("a data view has a pattern")
    }
}

fn nested(text: &Value) -> Result<Value> {
    let text = text.as_str().context("nested JSON is text")?;
    serde_json::from_str(text).with_context(|| text.to_owned())
}

/// The only layer of a panel.
fn layer(panel: &Value) -> Result<&Value> {
    let layers = &panel["embeddableConfig"]["attributes"]["state"]["datasourceStates"]["formBased"]["layers"];
    let layers = layers.as_object().context("a panel has layers")?;
    ensure!(layers.len() == 1, "one layer a panel");
    layers.values().next().context("a layer")
}

fn strings(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// Every column that a visualisation names.
fn accessors(visualisation: &Value) -> Vec<&str> {
    let mut named: Vec<&str> = visualisation["metricAccessor"].as_str().into_iter().collect();
    for layer in visualisation["layers"].as_array().into_iter().flatten() {
        named.extend(layer["xAccessor"].as_str());
        named.extend(strings(&layer["accessors"]));
        named.extend(layer["yConfig"].as_array().into_iter().flatten().filter_map(|axis| axis["forAccessor"].as_str()));
    }
    named
}

fn exported() -> Result<(Exported, BTreeMap<String, Value>)> {
    let pipeline = Shop::on_files_not_yet_there()?.pipeline()?;
    let text = export(&pipeline, Opened { from_ms: 1_609_457_200_000, to_ms: 1_609_509_200_000 })?;
    let mappings = pipeline
        .sinks
        .iter()
        .map(|sink| (index_name(sink).to_owned(), mapping::creation(&sink.columns)["mappings"]["properties"].clone()));
    Ok((Exported::read(&text)?, mappings.collect()))
}

#[test]
fn every_line_parses_ids_are_unique_references_resolve_and_versions_are_the_lowest() -> Result<()> {
    let (exported, _) = exported()?;
    let mut ids = BTreeSet::new();
    for object in &exported.objects {
        let (id, kind) = (object["id"].to_string(), object["type"].as_str().unwrap_or_default());
        assert!(ids.insert((kind, id)), "the id is taken: {object}");
        let lowest = VERSIONS.iter().find(|(known, _)| *known == kind).context("a kind that Kibana imports")?.1;
        assert_eq!(
            (&object["typeMigrationVersion"], &object["coreMigrationVersion"]),
            (&json!(lowest), &json!("8.8.0"))
        );
        for field in
            ["fields", "fieldFormatMap", "runtimeFieldMap", "typeMeta", "sourceFilters", "optionsJSON", "panelsJSON"]
        {
            if !object["attributes"][field].is_null() {
                nested(&object["attributes"][field])?;
            }
        }
    }
    let dashboard = exported.dashboard()?;
    nested(&dashboard["attributes"]["kibanaSavedObjectMeta"]["searchSourceJSON"])?;
    assert_eq!(dashboard["attributes"]["timeRestore"], json!(true));
    assert_eq!(dashboard["attributes"]["timeFrom"], json!("2020-12-31T23:26:40.000Z"));
    let mut wanted = BTreeSet::new();
    for panel in exported.panels()? {
        for reference in panel["embeddableConfig"]["attributes"]["references"].as_array().into_iter().flatten() {
            let name = format!(
                "{}:{}",
                panel["panelIndex"].as_str().unwrap_or_default(),
                reference["name"].as_str().unwrap_or_default()
            );
            wanted.insert((name, reference["id"].to_string()));
        }
    }
    let given = dashboard["references"].as_array().into_iter().flatten();
    let given: BTreeSet<(String, String)> =
        given.map(|r| (r["name"].as_str().unwrap_or_default().to_owned(), r["id"].to_string())).collect();
    assert_eq!(given, wanted, "the dashboard repeats the references of its panels");
    for (name, id) in given {
        assert!(ids.contains(&("index-pattern", id.clone())), "{name} refers to {id}, which is not in the file");
    }
    Ok(())
}

#[test]
fn columns_accessors_and_fields_exist_and_fields_aggregate() -> Result<()> {
    let (exported, mappings) = exported()?;
    for panel in exported.panels()? {
        let (id, layer) = (panel["panelIndex"].to_string(), layer(&panel)?);
        let columns = layer["columns"].as_object().context("columns")?;
        let order: BTreeSet<&str> = strings(&layer["columnOrder"]).into_iter().collect();
        assert_eq!(order, columns.keys().map(String::as_str).collect(), "{id}: columnOrder has every column");
        let named = accessors(&panel["embeddableConfig"]["attributes"]["state"]["visualization"]);
        assert!(!named.is_empty(), "{id} shows nothing");
        for accessor in named {
            assert!(columns.contains_key(accessor), "{id}: there is no column {accessor}");
        }
        let fields = mappings.get(exported.pattern(&panel)?).context("the data view is of one of our indexes")?;
        for (name, column) in columns {
            for reference in strings(&column["references"]) {
                assert!(columns.contains_key(reference), "{id}: {name} refers to {reference}");
            }
            if column["params"]["orderBy"]["type"] == "column" {
                let by = column["params"]["orderBy"]["columnId"].as_str().unwrap_or_default();
                assert!(columns.contains_key(by), "{id}: {name} is ordered by {by}");
            }
            let sources =
                column["sourceField"].as_str().into_iter().chain(strings(&column["params"]["secondaryFields"]));
            for field in sources.filter(|field| *field != RECORDS) {
                let kind = fields[field]["type"].as_str().with_context(|| format!("{id}: the index has no {field}"))?;
                let fits = match column["dataType"].as_str() {
                    Some("string") => kind == "keyword",
                    Some("date") => kind == "date",
                    _ if column["operationType"] == "unique_count" => kind != "text",
                    _ => matches!(kind, "long" | "integer" | "double" | "float" | "short" | "byte"),
                };
                assert!(fits, "{id}: {field} is {kind}, which does not go with {column}");
            }
        }
    }
    Ok(())
}

#[test]
fn there_is_a_panel_for_each_of_ours_and_none_lies_over_another() -> Result<()> {
    let (exported, _) = exported()?;
    let panels = exported.panels()?;
    let ids: BTreeSet<&str> = panels.iter().filter_map(|panel| panel["panelIndex"].as_str()).collect();
    assert_eq!(ids.len(), panels.len(), "panel ids are unique");
    for panel in lockstep_stream::dashboard::panels() {
        assert!(ids.contains(panel.id), "Kibana has no panel for {}", panel.id);
    }
    let mut taken: BTreeMap<(u64, u64), String> = BTreeMap::new();
    for panel in &panels {
        let grid = |name: &str| panel["gridData"][name].as_u64().unwrap_or(u64::MAX);
        assert_eq!(panel["gridData"]["i"], panel["panelIndex"]);
        assert!(grid("x") + grid("w") <= GRID_COLUMNS, "{panel} is cut off");
        for (x, y) in (0..grid("w")).flat_map(|x| (0..grid("h")).map(move |y| (x, y))) {
            let other = taken.insert((grid("x") + x, grid("y") + y), panel["panelIndex"].to_string());
            assert_eq!(other, None, "{} lies over another panel", panel["panelIndex"]);
        }
    }
    Ok(())
}

/// The `_search` body that Lens sends for a panel: groups by its bucketed column, metrics below it. Two fields make a
/// `multi_terms` in Kibana, which needs a licence that the servers of these tests have not; the second one tells the groups
/// apart (it is an id), so that one alone makes the same groups.
fn aggregation(panel: &Value, interval: &str) -> Result<Value> {
    let layer = layer(panel)?;
    let (mut metrics, mut groups) = (serde_json::Map::new(), None);
    for (name, column) in layer["columns"].as_object().into_iter().flatten() {
        let field = &column["sourceField"];
        let metric = match column["operationType"].as_str().unwrap_or_default() {
            "count" | "formula" | "math" => continue,
            "unique_count" => json!({"cardinality": {"field": field}}),
            "average" => json!({"avg": {"field": field}}),
            "sum" => json!({"sum": {"field": field}}),
            "date_histogram" => {
                groups =
                    Some(json!({"date_histogram": {"field": field, "fixed_interval": interval, "min_doc_count": 0}}));
                continue;
            }
            "terms" => {
                let params = &column["params"];
                let by = params["orderBy"]["columnId"].as_str();
                let counted = by.is_some_and(|by| layer["columns"][by]["operationType"] == "count");
                let by = if params["orderBy"]["type"] == "alphabetical" {
                    "_key"
                } else if counted {
                    "_count"
                } else {
                    by.unwrap_or_default()
                };
                let field = params["secondaryFields"].get(0).unwrap_or(field);
                let order = json!({by: params["orderDirection"]});
                groups = Some(json!({"terms": {"field": field, "size": params["size"], "order": order}}));
                continue;
            }
            other => anyhow::bail!("no panel has a {other}"),
        };
        metrics.insert(name.clone(), metric);
    }
    let aggregations = match groups {
        None => Value::Object(metrics),
        Some(mut groups) => {
            groups["aggs"] = Value::Object(metrics);
            json!({"groups": groups})
        }
    };
    Ok(json!({"size": 0, "track_total_hits": true, "aggs": aggregations}))
}

/// What a column of a bucket shows.
fn shown(bucket: &Value, column: &str) -> i64 {
    let value = if bucket[column].is_null() { &bucket["doc_count"] } else { &bucket[column]["value"] };
    value.as_f64().unwrap_or(f64::NAN).round() as i64
}

/// (key, length) of the first bars of ours, and of Kibana's.
fn assert_same_bars(ours: &Value, answer: &Value, chart: usize) {
    let bars = ours["figures"]["chart"]["charts"][chart]["bars"].as_array().into_iter().flatten().take(10);
    let bars: Vec<i64> = bars.map(|bar| bar["value"].as_i64().unwrap_or(-1)).collect();
    let buckets = answer["aggregations"]["groups"]["buckets"].as_array().into_iter().flatten();
    let kibana: Vec<i64> = buckets.map(|bucket| shown(bucket, "value")).collect();
    assert!(!bars.is_empty(), "{ours:#}");
    assert_eq!(kibana, bars, "{ours:#}\n{answer:#}");
}

fn assert_same_lines(id: &str, ours: &Value, answer: &Value) {
    let chart = &ours["figures"]["chart"];
    let buckets: Vec<&Value> = answer["aggregations"]["groups"]["buckets"].as_array().into_iter().flatten().collect();
    assert!(!buckets.is_empty(), "{answer:#}");
    for bucket in buckets {
        let place = chart["at"].as_array().into_iter().flatten().position(|at| *at == bucket["key"]);
        let ours = |series: usize| &chart["series"][series]["values"][place.unwrap_or(usize::MAX)];
        if id == "sales-over-time" {
            assert_eq!(
                (&json!(shown(bucket, "orders")), &json!(shown(bucket, "revenue"))),
                (ours(0), ours(1)),
                "{bucket}"
            );
        } else if !ours(1).is_null() {
            assert_eq!(&json!(shown(bucket, "views")), ours(1), "{bucket}");
            assert!(bucket["days"]["value"].as_i64() > Some(0), "{bucket}");
        }
    }
}

#[tokio::test]
async fn what_kibana_would_ask_elasticsearch_gives_the_figures_of_our_panels() -> Result<()> {
    let Some(servers) = containers::shared().await? else { return Ok(()) };
    let mut shop = Shop::on_servers(Text::Keyed, &servers.kafka, &servers.index, 2).await?;
    for (table, _) in TABLES {
        let records = shop.generated(table, 61, 600)?;
        shop.send(table, records).await?;
    }
    let mut stream = shop.start_live().await?;
    shop.caught_up().await?;
    for sink in SINKS {
        shop.index().refresh(shop.index_of(sink)).await?;
    }
    let text = export(&shop.pipeline()?, Opened { from_ms: 0, to_ms: 1 })?;
    let exported = Exported::read(&text)?;
    let mut compared = BTreeSet::new();
    for panel in exported.panels()? {
        let id = panel["panelIndex"].as_str().unwrap_or_default().to_owned();
        let name = id.trim_end_matches("-catalogue").trim_end_matches("-orders");
        let ours: Value = serde_json::from_str(&shop.page(&format!("/v1/panels/{name}")).await?)?;
        // Kibana's choice of a length for "auto" is its own; the buckets of one length are compared.
        let interval = if ours["figures"]["chart"]["axis"]["interval"] == "ten_minutes" { "10m" } else { "1h" };
        let asked = aggregation(&panel, interval)?;
        let answer = shop.index().search(exported.pattern(&panel)?, &asked).await?;
        let gauge = |number: usize| ours["figures"]["chart"]["gauges"][number]["value"].clone();
        let value = json!(shown(&answer["aggregations"], "value"));
        match id.as_str() {
            "unique-products" => assert_eq!(value, gauge(0), "{answer:#}"),
            "unique-products-catalogue" => assert_eq!(answer["hits"]["total"]["value"], gauge(1), "{answer:#}"),
            "average-price" => assert_eq!(value, gauge(0), "{answer:#}"),
            "average-price-orders" => assert_eq!(value, gauge(1), "{answer:#}"),
            "order-frequency" => assert_same_bars(&ours, &answer, 1),
            "sales-over-time" | "views-by-hour" => assert_same_lines(&id, &ours, &answer),
            _ => assert_same_bars(&ours, &answer, 0),
        }
        compared.insert(name.to_owned());
    }
    assert_eq!(compared.len(), 8, "{compared:?}");
    stream.terminate(SOON).await
}

#[tokio::test]
async fn the_export_takes_its_range_of_time_from_the_indexes() -> Result<()> {
    let mut shop = Shop::on_files()?;
    for (table, _) in TABLES {
        let records = shop.generated(table, 62, 50)?;
        shop.send(table, records).await?;
    }
    let refused = shop.stream(&["dashboard", "export", "kibana"], 69).await?;
    assert!(refused.contains("does not answer") && refused.contains("--from and --to"), "{refused}");
    let mut stream = shop.start_live().await?;
    shop.caught_up().await?;
    let text = shop.stream(&["dashboard", "export", "kibana"], 0).await?;
    let dashboard = Exported::read(&text)?;
    let dashboard = &dashboard.dashboard()?["attributes"];
    // The first view, and just after the last order.
    assert_eq!(dashboard["timeFrom"], json!("2020-12-31T23:26:40.000Z"));
    assert_eq!(dashboard["timeTo"], json!("2021-01-01T01:21:40.001Z"));
    stream.terminate(SOON).await
}
