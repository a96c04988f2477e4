//! The Lens visualisations: which columns over which data view, how they are drawn, and where on the dashboard.

use serde_json::{Map, Value as Json, json};

use super::data_view_id;
use super::lens::{self, Column};
use crate::dashboard::{CATALOGUE, CUSTOMERS, ORDERS, Panel, VIEWS};

/// The only layer of every visualisation.
const LAYER: &str = "layer";

/// How columns are drawn.
enum Drawn {
    Gauge,
    Metric,
    Bars,
    /// With the columns that have an axis of their own on the right.
    Lines(&'static [&'static str]),
}

/// A place on the dashboard's grid of 48 columns.
struct Grid {
    x: u64,
    y: u64,
    w: u64,
    h: u64,
}

/// One panel of the Kibana dashboard.
pub(super) struct Visualisation {
    /// Its id on the dashboard: the panel's, with a suffix where one panel of ours makes two of Kibana's.
    pub(super) id: &'static str,
    panel: &'static str,
    title: &'static str,
    sink: &'static str,
    drawn: Drawn,
    /// First the columns that make the groups, then those that are shown, then the parts of formulas.
    columns: Vec<Column>,
    /// How many of the columns are shown.
    shown: usize,
    grid: Grid,
}

/// All of them, from the top left to the bottom right.
pub(super) fn all() -> Vec<Visualisation> {
    let mut all = numbers();
    all.extend(groups());
    all.extend(lines());
    all
}

fn number(
    id: &'static str,
    panel: &'static str,
    title: &'static str,
    sink: &'static str,
    drawn: Drawn,
    column: Json,
) -> Visualisation {
    let grid = Grid { x: 0, y: 0, w: 12, h: 8 };
    Visualisation { id, panel, title, sink, drawn, columns: vec![("value", column)], shown: 1, grid }
}

fn numbers() -> Vec<Visualisation> {
    let mut all = vec![
        number(
            "unique-products",
            "unique-products",
            "Unique product count: viewed",
            VIEWS,
            Drawn::Gauge,
            lens::unique_count("products viewed", "product_id"),
        ),
        number(
            "unique-products-catalogue",
            "unique-products",
            "Unique product count: catalogue",
            CATALOGUE,
            Drawn::Metric,
            lens::count("products in the catalogue"),
        ),
        number(
            "average-price",
            "average-price",
            "Average sale price: catalogue",
            CATALOGUE,
            Drawn::Gauge,
            lens::average("cents, over catalogue products", "price"),
        ),
        number(
            "average-price-orders",
            "average-price",
            "Average sale price: orders",
            ORDERS,
            Drawn::Gauge,
            lens::average("cents, weighted by orders", "price"),
        ),
    ];
    for (place, shown) in all.iter_mut().enumerate() {
        shown.grid.x = 12 * place as u64;
    }
    all
}

fn bars(panel: &'static str, title: &'static str, sink: &'static str, groups: Json, value: Json) -> Visualisation {
    let grid = Grid { x: 0, y: 0, w: 24, h: 14 };
    let columns = vec![("group", groups), ("value", value)];
    Visualisation { id: panel, panel, title, sink, drawn: Drawn::Bars, columns, shown: 1, grid }
}

fn groups() -> Vec<Visualisation> {
    let revenue = || lens::sum("revenue in cents", "price");
    let mut all = vec![
        bars(
            "customer-states",
            "Customer state distribution",
            CUSTOMERS,
            lens::top("state", "state", None, "value"),
            lens::count("customers"),
        ),
        bars("top-brands", "Top brands by revenue", ORDERS, lens::top("brand", "brand", None, "value"), revenue()),
        bars(
            "order-frequency",
            "Customer order frequency: top customers",
            ORDERS,
            lens::top("customer", "customer_name", Some("customer_id"), "value"),
            lens::count("orders"),
        ),
        bars(
            "revenue-by-product",
            "Revenue contribution by product",
            ORDERS,
            lens::top("product", "product_name", Some("product_id"), "value"),
            revenue(),
        ),
    ];
    for (place, shown) in all.iter_mut().enumerate() {
        (shown.grid.x, shown.grid.y) = (24 * (place as u64 % 2), 8 + 14 * (place as u64 / 2));
    }
    all
}

fn lines() -> Vec<Visualisation> {
    let mut by_hour = vec![("hour", lens::hours("hour of day (UTC)", "hour_of_day"))];
    let parts = ["views", "days", "divided"];
    by_hour.extend(lens::count_per_distinct("rate", parts, "views per day with a view in that hour", "view_day"));
    vec![
        Visualisation {
            id: "sales-over-time",
            panel: "sales-over-time",
            title: "Sales over time",
            sink: ORDERS,
            drawn: Drawn::Lines(&["revenue"]),
            columns: vec![
                ("time", lens::over_time("time of the order", "ts")),
                ("orders", lens::count("orders")),
                ("revenue", lens::sum("revenue in cents", "price")),
            ],
            shown: 2,
            grid: Grid { x: 0, y: 36, w: 24, h: 14 },
        },
        Visualisation {
            id: "views-by-hour",
            panel: "views-by-hour",
            title: "Page views by time of day",
            sink: VIEWS,
            drawn: Drawn::Lines(&[]),
            columns: by_hour,
            shown: 1,
            grid: Grid { x: 24, y: 36, w: 24, h: 14 },
        },
    ]
}

impl Visualisation {
    /// Where its layer finds its data view.
    pub(super) fn reference(&self, prefix: &str) -> Json {
        let name = format!("{prefix}indexpattern-datasource-layer-{LAYER}");
        json!({"id": data_view_id(self.sink), "name": name, "type": "index-pattern"})
    }

    /// The panel as a dashboard holds it.
    pub(super) fn panel(&self, version: &str) -> Json {
        let Grid { x, y, w, h } = self.grid;
        let ours = Panel::by_id(self.panel).map(|p| format!("{} {}", p.definition, p.grain)).unwrap_or_default();
        json!({
            "version": version, "type": "lens", "panelIndex": self.id, "title": self.title,
            "gridData": {"x": x, "y": y, "w": w, "h": h, "i": self.id},
            "embeddableConfig": {
                "enhancements": {},
                "attributes": {
                    "title": self.title, "description": ours, "type": "lens",
                    "visualizationType": self.visualisation_type(),
                    "references": [self.reference("")],
                    "state": {
                        "visualization": self.visualisation(),
                        "datasourceStates": {"formBased": {"layers": {LAYER: self.layer()}}},
                        "query": {"query": "", "language": "kuery"}, "filters": [],
                        "internalReferences": [], "adHocDataViews": {},
                    },
                },
            },
        })
    }

    fn layer(&self) -> Json {
        let columns: Map<String, Json> = self.columns.iter().map(|(id, c)| ((*id).to_owned(), c.clone())).collect();
        let order: Vec<&str> = self.columns.iter().map(|(id, _)| *id).collect();
        json!({"columns": columns, "columnOrder": order, "incompleteColumns": {}})
    }

    fn visualisation_type(&self) -> &'static str {
        match self.drawn {
            Drawn::Gauge => "lnsGauge",
            Drawn::Metric => "lnsMetric",
            Drawn::Bars | Drawn::Lines(_) => "lnsXY",
        }
    }

    fn visualisation(&self) -> Json {
        let first = self.columns[0].0;
        match self.drawn {
            Drawn::Gauge => json!({
                "layerId": LAYER, "layerType": "data", "shape": "arc", "metricAccessor": first,
                "ticksPosition": "auto", "labelMajorMode": "auto",
            }),
            Drawn::Metric => json!({"layerId": LAYER, "layerType": "data", "metricAccessor": first}),
            Drawn::Bars => self.chart("bar_horizontal", &[]),
            Drawn::Lines(right) => self.chart("line", right),
        }
    }

    fn chart(&self, series: &str, right: &[&str]) -> Json {
        let accessors: Vec<&str> = self.columns[1..=self.shown].iter().map(|(id, _)| *id).collect();
        let axes: Vec<Json> = right.iter().map(|id| json!({"forAccessor": id, "axisMode": "right"})).collect();
        json!({
            "legend": {"isVisible": accessors.len() > 1, "position": "bottom"},
            "valueLabels": "hide", "fittingFunction": "None", "preferredSeriesType": series,
            "layers": [{
                "layerId": LAYER, "layerType": "data", "seriesType": series, "xAccessor": self.columns[0].0,
                "accessors": accessors, "yConfig": axes,
            }],
        })
    }
}
