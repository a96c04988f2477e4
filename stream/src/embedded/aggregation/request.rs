//! The tree of aggregations that a body asks for.

use rustc_hash::FxHashSet;
use serde_json::{Value as Json, json};

use super::super::answer::Refusal;
use super::super::dates::{self, Interval, Unit};
use super::super::mapping::SEQ_NO;
use super::super::part::Part;
use super::super::request::{list, only};
use super::super::value::{self, Kind as FieldKind};

/// Levels of aggregations within aggregations.
const DEEPEST: usize = 16;
/// Buckets of a `terms` aggregation that names no size.
const DEFAULT_SIZE: usize = 10;

/// An aggregation and those within it.
#[derive(Debug)]
pub(super) struct Aggregation {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) inner: Vec<Aggregation>,
    pub(super) meta: Option<Json>,
}

/// What is computed. A field is its number in [`Shared`], a query too.
#[derive(Debug)]
pub(super) enum Kind {
    Terms { field: usize, missing: Option<Json>, size: usize, min_doc_count: u64, order: Vec<Order> },
    DateHistogram { field: usize, interval: Interval, range: Axis },
    Histogram { field: usize, interval: f64, offset: f64, range: Axis },
    Range { field: usize, ranges: Vec<Piece>, keyed: Keyed },
    Filter { query: usize },
    Filters { queries: Vec<(String, usize)>, other: Option<String>, keyed: Keyed },
    Missing { field: usize },
    Metric { field: usize, metric: Metric },
    Cardinality { field: usize },
}

/// How the buckets of a histogram stand on their axis.
#[derive(Debug)]
pub(super) struct Axis {
    pub(super) min_doc_count: u64,
    /// Buckets are made at least from here to there.
    pub(super) extended: Option<(f64, f64)>,
    pub(super) keyed: Keyed,
    pub(super) descending: bool,
}

/// Whether buckets are a list or an object by their keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keyed {
    List,
    Object,
}

/// `[from, to)`.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) key: String,
    pub(super) from: Option<f64>,
    pub(super) to: Option<f64>,
}

/// What the buckets of a `terms` are ordered by.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) by: By,
    pub(super) descending: bool,
}

/// See [`Order`].
#[derive(Debug)]
pub(super) enum By {
    Count,
    Key,
    /// An aggregation within, and which of its numbers.
    Metric {
        name: String,
        number: String,
    },
}

/// A number that is computed of a field's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Metric {
    Sum,
    Avg,
    Min,
    Max,
    Stats,
    ValueCount,
}

/// What the aggregations of a tree share: the fields and queries that they name.
#[derive(Debug)]
pub(super) struct Shared {
    /// Each field with its type; `None` where no index has it.
    pub(super) fields: Vec<(String, Option<FieldKind>)>,
    /// The fields whose values, not only their ordinals, are needed.
    pub(super) texts: FxHashSet<usize>,
    pub(super) queries: Vec<Json>,
    known: Vec<Vec<(String, FieldKind)>>,
}

impl Shared {
    pub(super) fn new(parts: &[Part]) -> Self {
        let fields = |part: &Part| {
            let mapped = part.engine.mapping.fields().map(|(name, mapped)| (name.clone(), mapped.kind));
            mapped.chain([(SEQ_NO.to_owned(), FieldKind::Long)]).collect()
        };
        Self {
            fields: Vec::new(),
            texts: FxHashSet::default(),
            queries: Vec::new(),
            known: parts.iter().map(fields).collect(),
        }
    }

    fn field(&mut self, name: &str) -> usize {
        if let Some(number) = self.fields.iter().position(|(known, _)| known == name) {
            return number;
        }
        let kind = self.known.iter().flatten().find(|(known, _)| known == name).map(|(_, kind)| *kind);
        self.fields.push((name.to_owned(), kind));
        self.fields.len() - 1
    }

    fn query(&mut self, query: &Json) -> usize {
        self.queries.push(query.clone());
        self.queries.len() - 1
    }

    /// The type of a field.
    pub(super) fn kind(&self, field: usize) -> Option<FieldKind> {
        self.fields.get(field).and_then(|(_, kind)| *kind)
    }
}

/// Reads the `aggs` of a body.
pub(super) fn read(given: &Json, shared: &mut Shared, level: usize) -> Result<Vec<Aggregation>, Refusal> {
    let Some(named) = given.as_object() else { return Err(Refusal::parsing("[aggs] must be an object")) };
    if level >= DEEPEST {
        return Err(Refusal::argument(format!("aggregations are nested more than {DEEPEST} levels deep")));
    }
    named.iter().map(|(name, body)| aggregation(name, body, shared, level)).collect()
}

fn aggregation(name: &str, body: &Json, shared: &mut Shared, level: usize) -> Result<Aggregation, Refusal> {
    let Some(fields) = body.as_object() else {
        return Err(Refusal::parsing(format!("Expected [START_OBJECT] under aggregation [{name}]")));
    };
    let (mut kind, mut inner, mut meta) = (None, Vec::new(), None);
    for (what, options) in fields {
        match what.as_str() {
            "aggs" | "aggregations" => inner = read(options, shared, level + 1)?,
            "meta" => meta = Some(options.clone()),
            _ if kind.is_some() => {
                return Err(Refusal::parsing(format!("Found two aggregation type definitions in [{name}]")));
            }
            what => kind = Some(kind_of(name, what, options, shared)?),
        }
    }
    let kind = kind.ok_or_else(|| Refusal::parsing(format!("Missing definition for aggregation [{name}]")))?;
    if !inner.is_empty() && matches!(kind, Kind::Metric { .. } | Kind::Cardinality { .. }) {
        return Err(Refusal::argument(format!("Aggregator [{name}] cannot accept sub-aggregations")));
    }
    let aggregation = Aggregation { name: name.to_owned(), kind, inner, meta };
    aggregation.check_orders()?;
    Ok(aggregation)
}

fn kind_of(name: &str, what: &str, options: &Json, shared: &mut Shared) -> Result<Kind, Refusal> {
    match what {
        "filter" => return Ok(Kind::Filter { query: shared.query(options) }),
        "filters" => return filters(name, options, shared),
        _ => {}
    }
    let metric = match what {
        "sum" => Some(Metric::Sum),
        "avg" => Some(Metric::Avg),
        "min" => Some(Metric::Min),
        "max" => Some(Metric::Max),
        "stats" => Some(Metric::Stats),
        "value_count" => Some(Metric::ValueCount),
        "terms" | "date_histogram" | "histogram" | "range" | "missing" | "cardinality" => None,
        _ => return Err(Refusal::parsing(format!("Unknown aggregation type [{what}]"))),
    };
    let Some(given) = options["field"].as_str() else {
        return Err(Refusal::argument(format!("Required one of fields [field] in aggregation [{name}]")));
    };
    let field = shared.field(given);
    let found = shared.kind(field);
    let counts = matches!(what, "terms" | "missing" | "cardinality" | "value_count");
    let refused = match found {
        Some(FieldKind::Text) => true,
        Some(FieldKind::Keyword) => !counts,
        _ => false,
    };
    if let (true, Some(found)) = (refused, found) {
        return Err(Refusal::argument(format!(
            "Field [{given}] of type [{}] is not supported for aggregation [{what}]",
            found.name()
        )));
    }
    if matches!(what, "terms" | "cardinality") {
        shared.texts.insert(field);
    }
    match (what, metric) {
        (_, Some(metric)) => Ok(Kind::Metric { field, metric }),
        ("terms", _) => terms(name, field, options),
        ("date_histogram", _) => date_histogram(name, field, options),
        ("histogram", _) => histogram(name, field, options),
        ("range", _) => range(name, field, options),
        ("missing", _) => Ok(Kind::Missing { field }),
        _ => Ok(Kind::Cardinality { field }),
    }
}

fn keyed(options: &Json, otherwise: Keyed) -> Keyed {
    match options["keyed"].as_bool() {
        None => otherwise,
        Some(true) => Keyed::Object,
        Some(false) => Keyed::List,
    }
}

fn filters(name: &str, options: &Json, shared: &mut Shared) -> Result<Kind, Refusal> {
    let (named, default) = match &options["filters"] {
        Json::Object(named) => (named.iter().map(|(key, query)| (key.clone(), query)).collect(), Keyed::Object),
        Json::Array(queries) => {
            (queries.iter().enumerate().map(|(n, query)| (n.to_string(), query)).collect::<Vec<_>>(), Keyed::List)
        }
        _ => return Err(Refusal::argument(format!("[filters] cannot be empty in aggregation [{name}]"))),
    };
    let queries = named.into_iter().map(|(key, query)| (key, shared.query(query))).collect();
    let other = match (&options["other_bucket_key"], options["other_bucket"].as_bool()) {
        (Json::String(key), _) => Some(key.clone()),
        (_, Some(true)) => Some("_other_".to_owned()),
        _ => None,
    };
    Ok(Kind::Filters { queries, other, keyed: keyed(options, default) })
}

fn terms(name: &str, field: usize, options: &Json) -> Result<Kind, Refusal> {
    let size =
        match &options["size"] {
            Json::Null => DEFAULT_SIZE,
            given => given.as_u64().and_then(|size| usize::try_from(size).ok()).filter(|size| *size > 0).ok_or_else(
                || Refusal::argument(format!("[size] must be greater than 0. Found [{given}] in [{name}]")),
            )?,
        };
    let order: Result<Vec<Order>, Refusal> = list(&options["order"]).into_iter().map(order).collect();
    let mut order = order?;
    if order.is_empty() {
        order.push(Order { by: By::Count, descending: true });
    }
    let missing = Some(options["missing"].clone()).filter(|missing| !missing.is_null());
    Ok(Kind::Terms { field, missing, size, min_doc_count: options["min_doc_count"].as_u64().unwrap_or(1), order })
}

fn order(given: &Json) -> Result<Order, Refusal> {
    let (target, direction) = only(given, "order")?;
    let by = match target {
        "_count" => By::Count,
        "_key" | "_term" => By::Key,
        path => {
            let (name, number) = path.split_once('.').unwrap_or((path, "value"));
            By::Metric { name: name.to_owned(), number: number.to_owned() }
        }
    };
    match direction.as_str() {
        Some("asc") => Ok(Order { by, descending: false }),
        Some("desc") => Ok(Order { by, descending: true }),
        _ => Err(Refusal::parsing(format!("Unknown order direction [{direction}]"))),
    }
}

impl Aggregation {
    /// Buckets can be ordered only by a number that each of them has.
    fn check_orders(&self) -> Result<(), Refusal> {
        let Kind::Terms { order, .. } = &self.kind else { return Ok(()) };
        for order in order {
            let By::Metric { name, number } = &order.by else { continue };
            let single = "value".to_owned();
            let fits = self.inner.iter().find(|inner| inner.name == *name).is_some_and(|inner| match inner.kind {
                Kind::Metric { metric: Metric::Stats, .. } => {
                    ["count", "min", "max", "avg", "sum"].contains(&number.as_str())
                }
                Kind::Metric { .. } | Kind::Cardinality { .. } => *number == single,
                _ => number == "value" || number == "_count",
            });
            if !fits {
                return Err(Refusal::argument(format!(
                    "Invalid aggregation order path [{name}.{number}]. There is no such number in [{}]",
                    self.name
                )));
            }
        }
        Ok(())
    }
}

fn axis(options: &Json, read: impl Fn(&Json) -> Option<f64>) -> Axis {
    let bounds = &options["extended_bounds"];
    let descending = options["order"]["_key"].as_str() == Some("desc");
    Axis {
        min_doc_count: options["min_doc_count"].as_u64().unwrap_or(0),
        extended: read(&bounds["min"]).zip(read(&bounds["max"])),
        keyed: keyed(options, Keyed::List),
        descending,
    }
}

fn date_histogram(name: &str, field: usize, options: &Json) -> Result<Kind, Refusal> {
    let refused = |reason: String| Err(Refusal::argument(format!("{reason} in aggregation [{name}]")));
    if !matches!(options["time_zone"].as_str(), None | Some("UTC" | "Z" | "+00:00")) {
        return refused(format!("the embedded index knows [time_zone] UTC only, not [{}]", options["time_zone"]));
    }
    let interval = match (options["calendar_interval"].as_str(), options["fixed_interval"].as_str()) {
        (Some(unit), None) => Unit::of_interval(unit).map(Interval::Calendar),
        (None, Some(length)) => {
            dates::duration_ms(length).filter(|ms| *ms > 0).map(|length_ms| Interval::Fixed { length_ms })
        }
        _ => return refused("exactly one of [calendar_interval] and [fixed_interval] is needed".into()),
    };
    let Some(interval) = interval else {
        return refused(format!(
            "The supplied interval [{}{}] could not be parsed",
            options["calendar_interval"].as_str().unwrap_or_default(),
            options["fixed_interval"].as_str().unwrap_or_default()
        ));
    };
    let at = |value: &Json| dates::instant(value, dates::Rounding::Down, 0).map(|ms| ms as f64);
    Ok(Kind::DateHistogram { field, interval, range: axis(options, at) })
}

fn histogram(name: &str, field: usize, options: &Json) -> Result<Kind, Refusal> {
    match value::number(&options["interval"]).filter(|interval| *interval > 0.0) {
        Some(interval) => {
            let offset = value::number(&options["offset"]).unwrap_or(0.0);
            Ok(Kind::Histogram { field, interval, offset, range: axis(options, value::number) })
        }
        None => Err(Refusal::argument(format!("[interval] must be >0 for histogram aggregation [{name}]"))),
    }
}

fn range(name: &str, field: usize, options: &Json) -> Result<Kind, Refusal> {
    let given = options["ranges"].as_array().filter(|ranges| !ranges.is_empty());
    let Some(given) = given else {
        return Err(Refusal::argument(format!("No [ranges] specified for the [{name}] aggregation")));
    };
    let bound = |value: Option<f64>| value.map_or_else(|| "*".to_owned(), |bound| json!(bound).to_string());
    let mut ranges: Vec<Piece> = given
        .iter()
        .map(|range| {
            let (from, to) = (value::number(&range["from"]), value::number(&range["to"]));
            let key = range["key"].as_str().map_or_else(|| format!("{}-{}", bound(from), bound(to)), str::to_owned);
            Piece { key, from, to }
        })
        .collect();
    let low = |piece: &Piece| piece.from.unwrap_or(f64::NEG_INFINITY);
    ranges.sort_by(|a, b| low(a).total_cmp(&low(b)));
    Ok(Kind::Range { field, ranges, keyed: keyed(options, Keyed::List) })
}
