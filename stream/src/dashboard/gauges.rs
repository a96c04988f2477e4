//! The two gauges. Each sets figures of two grains side by side, and so reads two indexes.

use serde_json::{Value as Json, json};

use super::query::{distinct, present, search, sum, total, value};
use super::{Chart, Criterion, Figures, Filter, Gauge, ReadError, Unit};

/// Views, orders: everything that a filter has.
pub(super) const EVENT: &[Criterion] = &[Criterion::Time, Criterion::State, Criterion::Brand];
/// A product has a brand.
pub(super) const PRODUCT: &[Criterion] = &[Criterion::Brand];

pub(super) fn viewed_products(filter: &Filter) -> Json {
    search(filter, EVENT, &json!({"products": distinct("product_id"), "unnamed": {"missing": {"field": "brand"}}}))
}

pub(super) fn catalogue_size(filter: &Filter) -> Json {
    search(filter, PRODUCT, &json!({"products": distinct("id")}))
}

pub(super) fn unique_products(_: &Filter, answers: &[Json]) -> Result<Figures, ReadError> {
    let [views, catalogue] = answers else { return Err(missing_answer()) };
    let viewed = value(&views["aggregations"], "products")?;
    let listed = value(&catalogue["aggregations"], "products")?;
    let gauge =
        |label: &str, value, of| Gauge { label: label.to_owned(), value: Some(value), unit: Unit::Products, of };
    let gauges = vec![gauge("products viewed", viewed, Some(listed)), gauge("products in the catalogue", listed, None)];
    let strays = super::query::count(&views["aggregations"]["unnamed"])?;
    let note = (strays > 0)
        .then(|| format!("{strays} views are of products that the catalogue does not have, or has without a brand"));
    Ok(Figures { chart: Chart::Gauge { gauges }, notes: note.into_iter().collect() })
}

pub(super) fn catalogue_price(filter: &Filter) -> Json {
    search(filter, PRODUCT, &json!({"cents": sum("price"), "priced": present("price")}))
}

pub(super) fn order_price(filter: &Filter) -> Json {
    search(filter, EVENT, &json!({"cents": sum("price"), "priced": present("price")}))
}

pub(super) fn average_price(_: &Filter, answers: &[Json]) -> Result<Figures, ReadError> {
    let [catalogue, orders] = answers else { return Err(missing_answer()) };
    let (mut gauges, mut notes) = (Vec::new(), Vec::new());
    for (answer, label, what) in
        [(catalogue, "over catalogue products", "products"), (orders, "weighted by orders", "orders")]
    {
        let (cents, priced) = (value(&answer["aggregations"], "cents")?, value(&answer["aggregations"], "priced")?);
        gauges.push(Gauge { label: label.to_owned(), value: average(cents, priced), unit: Unit::Cents, of: None });
        notes.push(format!("{label}: {priced} {what}"));
        let without = total(answer)? - priced;
        if without > 0 {
            notes.push(format!("{without} {what} have no price and are left out"));
        }
    }
    Ok(Figures { chart: Chart::Gauge { gauges }, notes })
}

/// In whole cents, halves away from zero; nothing where nothing is counted.
fn average(cents: i64, count: i64) -> Option<i64> {
    let (whole, rest) = (cents.checked_div(count)?, cents.checked_rem(count)?);
    Some(whole + if 2 * rest.abs() >= count { cents.signum() } else { 0 })
}

/// Callers give an answer for every source.
fn missing_answer() -> ReadError {
    ReadError::Partial { reason: "one of the two indexes gave none".into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_average_is_rounded_to_the_nearest_cent_and_none_of_nothing() {
        assert_eq!(average(10, 4), Some(3));
        assert_eq!(average(9, 4), Some(2));
        assert_eq!(average(-10, 4), Some(-3));
        assert_eq!(average(0, 7), Some(0));
        assert_eq!(average(0, 0), None);
    }
}
