//! Facts to findings. Pure.

use std::collections::BTreeMap;

use lockstep_shared::coordinates::Step;

use super::facts::{Customer, Facts, Hours, Product};
use super::report::{Finding, Group, Insights, Number, Row, Unit, Verdict};
use super::statistics::{Test, alike, correlation, even, proportional, trend};

/// Lines of a list.
const SHOWN: usize = 5;
/// How rarely chance may do what counts as shown. There are eight of them; at one in a hundred each, a shop of pure chance
/// passes all of them in nine reports of ten.
const SIGNIFICANCE: f64 = 0.01;
/// Fewest buckets of a trend: days where there are as many, hours otherwise.
const LEAST_BUCKETS: usize = 10;
const HOUR_US: i64 = 3_600_000_000;

/// All findings.
pub(super) fn report(cut: Step, facts: &Facts) -> Insights {
    let group = |id, title, findings| Group { id, title, findings };
    Insights {
        made_at: chrono::Utc::now().to_rfc3339(),
        cut,
        products: facts.products.len() as u64,
        customers: facts.customers.len() as u64,
        orders: facts.orders,
        views: facts.views,
        groups: vec![
            group("customer-engagement", "Customer engagement", vec![most_viewed(facts), loyal_customers(facts)]),
            group("sales-optimisation", "Sales optimisation", trends(&facts.hours)),
            group("geographic-expansion", "Geographic expansion", vec![states(facts), revenue_by_state(facts)]),
            group("product-insights", "Product insights", vec![most_purchased(facts), viewed_and_purchased(facts)]),
        ],
    }
}

fn count(name: &'static str, value: u64) -> Number {
    Number { name, value: value.cast_signed(), unit: Unit::Count }
}

fn cents(name: &'static str, value: i64) -> Number {
    Number { name, value, unit: Unit::Cents }
}

fn rank(name: &'static str, value: usize) -> Number {
    Number { name, value: value as i64, unit: Unit::Rank }
}

/// The first of a list, by a number, then by id.
fn first<'a, T, K: Ord>(all: &'a [T], by: impl Fn(&T) -> K, row: impl Fn(&'a T) -> Row) -> Vec<Row> {
    let mut order: Vec<&T> = all.iter().collect();
    // The lists come in the order of their ids, which a stable sort keeps among equals.
    order.sort_by_key(|one| std::cmp::Reverse(by(one)));
    order.into_iter().take(SHOWN).map(row).collect()
}

fn verdict(test: Option<Test>) -> Verdict {
    match test {
        None => Verdict::TooLittle,
        Some(test) if test.p < SIGNIFICANCE => Verdict::Something,
        Some(_) => Verdict::Nothing,
    }
}

/// A finding about a list: what its sentence says where the test sees something, and where it does not.
fn tested(
    id: &'static str,
    title: &'static str,
    test: Option<Test>,
    rows: Vec<Row>,
    [something, nothing]: [&str; 2],
) -> Finding {
    let verdict = verdict(test);
    let sentence = match verdict {
        Verdict::Something => something,
        Verdict::Nothing => nothing,
        Verdict::TooLittle => "there is too little data to tell the list from chance",
    };
    Finding { id, title, verdict, sentence: sentence.to_owned(), test, trend: None, rows }
}

fn product_row(product: &Product, numbers: Vec<Number>) -> Row {
    Row { key: product.id.clone(), label: product.name.clone(), numbers }
}

fn most_viewed(facts: &Facts) -> Finding {
    let test = even(&facts.products.iter().map(|p| p.views).collect::<Vec<_>>());
    let rows = first(&facts.products, |p| p.views, |p| product_row(p, vec![count("views", p.views)]));
    let says = [
        "some products are viewed more than chance explains",
        "the data shows no favourite: views drawn at random would spread over the catalogue like this",
    ];
    tested("most-viewed-products", "Most viewed products", test, rows, says)
}

fn loyal_customers(facts: &Facts) -> Finding {
    let test = even(&facts.customers.iter().map(|c| c.orders).collect::<Vec<_>>());
    let row = |c: &Customer| {
        let numbers = vec![count("orders", c.orders), cents("revenue", c.cents)];
        Row { key: c.id.clone(), label: c.name.clone(), numbers }
    };
    let rows = first(&facts.customers, |c| c.orders, row);
    let says = [
        "some customers order more than chance explains",
        "the data shows no loyalty: orders drawn at random would spread over the customers like this",
    ];
    tested("loyal-customers", "Loyal customers", test, rows, says)
}

fn most_purchased(facts: &Facts) -> Finding {
    let test = even(&facts.products.iter().map(|p| p.orders).collect::<Vec<_>>());
    let row = |p: &Product| product_row(p, vec![count("orders", p.orders), cents("revenue", p.cents)]);
    let rows = first(&facts.products, |p| p.orders, row);
    let says = [
        "some products are ordered more than chance explains",
        "the data shows no favourite: orders drawn at random would spread over the catalogue like this",
    ];
    tested("most-purchased-products", "Most purchased products", test, rows, says)
}

fn viewed_and_purchased(facts: &Facts) -> Finding {
    let pairs: Vec<(f64, f64)> = facts.products.iter().map(|p| (p.views as f64, p.orders as f64)).collect();
    let test = correlation(&pairs);
    let place = |of: fn(&Product) -> u64, value: u64| 1 + facts.products.iter().filter(|p| of(p) > value).count();
    let row = |p: &Product| {
        let places = vec![
            rank("place by views", place(|p| p.views, p.views)),
            rank("place by orders", place(|p| p.orders, p.orders)),
        ];
        product_row(p, [vec![count("views", p.views), count("orders", p.orders)], places].concat())
    };
    let rows = first(&facts.products, |p| p.views, row);
    let says = match test {
        Some(test) if test.statistic < 0.0 => "products that are viewed more are ordered less",
        _ => "products that are viewed more are ordered more",
    };
    let says = [says, "the data shows no link: how often a product is viewed says nothing of how often it is ordered"];
    tested("viewed-and-purchased", "Most viewed against most purchased", test, rows, says)
}

/// A state's customers.
#[derive(Default)]
struct State {
    customers: u64,
    orders: u64,
    cents: i64,
    each: Vec<f64>,
}

fn by_state(customers: &[Customer]) -> Vec<(String, State)> {
    let mut states: BTreeMap<&str, State> = BTreeMap::new();
    for customer in customers {
        let Some(name) = &customer.state else { continue };
        let state = states.entry(name).or_default();
        state.customers += 1;
        state.orders += customer.orders;
        state.cents += customer.cents;
        state.each.push(customer.cents as f64);
    }
    states.into_iter().map(|(name, state)| (name.to_owned(), state)).collect()
}

fn per_customer(state: &State) -> i64 {
    state.cents.checked_div(state.customers.cast_signed()).unwrap_or(0)
}

fn state_row((name, state): &(String, State)) -> Row {
    let numbers = vec![
        count("orders", state.orders),
        count("customers", state.customers),
        cents("revenue", state.cents),
        cents("revenue per customer", per_customer(state)),
    ];
    Row { key: name.clone(), label: name.clone(), numbers }
}

fn states(facts: &Facts) -> Finding {
    let states = by_state(&facts.customers);
    let of = |number: fn(&State) -> u64| states.iter().map(|(_, state)| number(state)).collect::<Vec<_>>();
    let test = proportional(&of(|s| s.orders), &of(|s| s.customers));
    let rows = first(&states, |(_, s)| s.orders, state_row);
    let says = [
        "some states order more than the number of their customers explains",
        "states order as many customers as they have: the data shows no state that orders more than its share",
    ];
    tested("states-by-orders", "States by orders", test, rows, says)
}

fn revenue_by_state(facts: &Facts) -> Finding {
    let states = by_state(&facts.customers);
    let test = alike(&states.iter().map(|(_, state)| state.each.clone()).collect::<Vec<_>>());
    let rows = first(&states, |(_, s)| per_customer(s), state_row);
    let says = [
        "customers of some states bring more than those of others",
        "the data shows no better state: among those of five customers and more, revenue per customer differs as by chance",
    ];
    tested("revenue-per-customer", "States by revenue per customer", test, rows, says)
}

/// Orders and revenue by whole days, or by whole hours where there are too few days.
fn trends(hours: &Hours) -> Vec<Finding> {
    let days = whole_buckets(hours, 24);
    let (unit, buckets) = if days.len() >= LEAST_BUCKETS { ("day", days) } else { ("hour", whole_buckets(hours, 1)) };
    let orders = buckets.iter().map(|(orders, _)| *orders as f64).collect::<Vec<_>>();
    let revenue = buckets.iter().map(|(_, cents)| *cents as f64 / 100.0).collect::<Vec<_>>();
    vec![
        one_trend("orders-trend", "Trend of orders", "the number of orders", unit, &orders),
        one_trend("revenue-trend", "Trend of revenue", "revenue", unit, &revenue),
    ]
}

fn one_trend(id: &'static str, title: &'static str, what: &str, unit: &str, series: &[f64]) -> Finding {
    let found = Some(series).filter(|series| series.len() >= LEAST_BUCKETS).and_then(trend);
    let (verdict, sentence) = match found {
        None => {
            (Verdict::TooLittle, format!("there are {} whole {unit}s, and a trend needs {LEAST_BUCKETS}", series.len()))
        }
        Some(trend) if trend.p < SIGNIFICANCE => {
            let direction = if trend.slope > 0.0 { "grows" } else { "falls" };
            let much = trend.slope.abs();
            (Verdict::Something, format!("{what} {direction} by {much:.2} from {unit} to {unit}"))
        }
        Some(_) => (
            Verdict::Nothing,
            format!("the data shows no trend: by chance alone {what} by the {unit} would grow or fall as much"),
        ),
    };
    Finding { id, title, verdict, sentence, test: None, trend: found, rows: Vec::new() }
}

/// Orders and cents of the buckets of so many hours that lie wholly between the first order and the last: a begun bucket
/// would look like a fall.
fn whole_buckets(hours: &Hours, length: i64) -> Vec<(u64, i64)> {
    let Some((first, last)) = hours.range_us else { return Vec::new() };
    let length_us = length * HOUR_US;
    let (from, to) =
        (first.div_euclid(length_us) + i64::from(first.rem_euclid(length_us) > 0), last.div_euclid(length_us));
    let mut buckets: BTreeMap<i64, (u64, i64)> = (from..to).map(|bucket| (bucket, (0, 0))).collect();
    for (hour, (orders, cents)) in &hours.by_hour {
        if let Some(bucket) = buckets.get_mut(&hour.div_euclid(length)) {
            *bucket = (bucket.0 + orders, bucket.1 + cents);
        }
    }
    buckets.into_values().collect()
}

#[cfg(test)]
mod tests;
