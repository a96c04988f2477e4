//! The two panels of lines: sales over time, and views by hour of day.

use serde_json::{Value as Json, json};

use super::gauges::EVENT;
use super::query::{buckets, count, search, sum, value, whole};
use super::{Axis, Chart, Criterion, Figures, Filter, Number, ReadError, Series, Unit};

const HOUR_MS: i64 = 3_600_000;
/// An hour of day of which the data covers less than this in all has no figure: the few views of a begun hour would make a
/// peak or a trough of nothing.
pub(super) const LEAST_COVERED_MS: i64 = HOUR_MS / 4;
/// Most points of a line, if a server's answer is wrong.
const MOST_POINTS: usize = 10_000;

pub(super) fn orders_over_time(filter: &Filter) -> Json {
    let (option, interval) = filter.interval().option();
    let buckets = json!({"field": "ts", option: interval, "min_doc_count": 1});
    search(
        filter,
        EVENT,
        &json!({
            "groups": {"date_histogram": buckets, "aggs": {"cents": sum("price")}},
            "without": {"missing": {"field": "price"}},
        }),
    )
}

pub(super) fn sales_over_time(filter: &Filter, answers: &[Json]) -> Result<Figures, ReadError> {
    let answer = &answers.first().unwrap_or(&Json::Null)["aggregations"];
    let interval = filter.interval();
    let (mut at, mut orders, mut cents) = (Vec::new(), Vec::new(), Vec::new());
    let mut next = None;
    for bucket in buckets(answer, "groups")? {
        let begin = whole(&bucket["key"], "groups.buckets.key")?;
        // A bucket without orders is a zero on the line, not a stroke from its left to its right neighbour.
        while let Some(empty) = next.filter(|next| *next < begin && at.len() < MOST_POINTS) {
            at.push(empty);
            orders.push(Some(Number::Whole(0)));
            cents.push(Some(Number::Whole(0)));
            next = Some(interval.next(empty));
        }
        at.push(begin);
        orders.push(Some(Number::Whole(count(bucket)?)));
        cents.push(Some(Number::Whole(value(bucket, "cents")?)));
        next = Some(interval.next(begin));
    }
    let series = |label: &str, unit, values| Series { label: label.to_owned(), unit, values };
    let series = vec![series("orders", Unit::Orders, orders), series("revenue", Unit::Cents, cents)];
    let without = count(&answer["without"])?;
    let note = (without > 0).then(|| format!("{without} orders are of products without a price: they add no revenue"));
    Ok(Figures { chart: Chart::Line { axis: Axis::Time { interval }, at, series }, notes: note.into_iter().collect() })
}

pub(super) fn views_of_hours(filter: &Filter) -> Json {
    // What the data covers does not depend on whose views are counted, so only time chooses the documents as a whole.
    let chosen = filter.clauses(&[Criterion::State, Criterion::Brand]);
    search(
        filter,
        &[Criterion::Time],
        &json!({
            "first": {"min": {"field": "ts"}},
            "last": {"max": {"field": "ts"}},
            "chosen": {
                "filter": {"bool": {"filter": chosen}},
                "aggs": {"groups": {"terms": {"field": "hour_of_day", "size": 24, "order": {"_key": "asc"}}}},
            },
        }),
    )
}

pub(super) fn views_by_hour(_: &Filter, answers: &[Json]) -> Result<Figures, ReadError> {
    let answer = &answers.first().unwrap_or(&Json::Null)["aggregations"];
    let mut views = [0_i64; 24];
    for bucket in buckets(&answer["chosen"], "groups")? {
        let hour = whole(&bucket["key"], "groups.buckets.key")?;
        if let Some(views) = usize::try_from(hour).ok().and_then(|hour| views.get_mut(hour)) {
            *views = count(bucket)?;
        }
    }
    let covered = match (answer["first"]["value"].as_f64(), answer["last"]["value"].as_f64()) {
        (Some(first), Some(last)) => covered_ms(first as i64, last as i64),
        _ => [0; 24],
    };
    let is_covered = |hour: usize| covered[hour] >= LEAST_COVERED_MS;
    let rate = |hour: usize| views[hour] as f64 * HOUR_MS as f64 / covered[hour] as f64;
    let rates = (0..24).map(|hour| is_covered(hour).then(|| Number::Real(rate(hour))));
    let counts = (0..24).map(|hour| is_covered(hour).then(|| Number::Whole(views[hour])));
    let series = vec![
        Series { label: "views per covered hour".into(), unit: Unit::ViewsPerHour, values: rates.collect() },
        Series { label: "views".into(), unit: Unit::Views, values: counts.collect() },
    ];
    let left_out: i64 = (0..24).filter(|hour| !is_covered(*hour)).map(|hour| views[hour]).sum();
    let note = (left_out > 0)
        .then(|| format!("{left_out} views fall into hours of day of which the data covers less than 15 minutes"));
    let chart = Chart::Line { axis: Axis::HourOfDay, at: (0..24).collect(), series };
    Ok(Figures { chart, notes: note.into_iter().collect() })
}

/// For how long each hour of day lies between two moments, over all days.
fn covered_ms(first: i64, last: i64) -> [i64; 24] {
    const DAY_MS: i64 = 24 * HOUR_MS;
    // Before a moment: whole days, and of the day begun what lies before it.
    let before = |ms: i64, hour: i64| {
        ms.div_euclid(DAY_MS) * HOUR_MS + (ms.rem_euclid(DAY_MS) - hour * HOUR_MS).clamp(0, HOUR_MS)
    };
    std::array::from_fn(|hour| before(last, hour as i64) - before(first, hour as i64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_is_covered_by_as_much_of_it_as_lies_within_the_range_on_every_day() {
        let at = |day: i64, hour: i64, minute: i64| ((day * 24 + hour) * 60 + minute) * 60_000;
        let minutes = |first, last| covered_ms(first, last).map(|ms| ms / 60_000);
        let mut partial = [0; 24];
        (partial[23], partial[0]) = (33, 49);
        assert_eq!(minutes(at(0, 23, 27), at(1, 0, 49)), partial);
        assert_eq!(minutes(at(-2, 0, 0), at(1, 0, 0)), [180; 24]);
        let mut within = [0; 24];
        within[5] = 10;
        assert_eq!(minutes(at(3, 5, 20), at(3, 5, 30)), within);
        assert_eq!(minutes(at(3, 5, 20), at(3, 5, 20)), [0; 24]);
    }
}
