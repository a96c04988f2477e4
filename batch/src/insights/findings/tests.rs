//! Shops of pure chance show nothing; what is put into a shop is found.

use super::*;
use crate::insights::report::Verdict;

/// Numbers that look random and are the same every time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % bound
    }
}

const PRODUCTS: usize = 200;
const CUSTOMERS: usize = 100;
const EVENTS: usize = 5_000;

/// An order a minute and a view a minute, whose product, customer and price are drawn by `draw`.
fn shop(mut draw: impl FnMut(&mut Numbers, usize) -> (usize, usize, usize)) -> Facts {
    let mut numbers = Numbers(7);
    let product = |n| Product { id: format!("p{n:03}"), name: format!("Shoe {n}"), views: 0, orders: 0, cents: 0 };
    let customer = |n: usize| {
        let state = Some(format!("State {}", n % 5));
        Customer { id: format!("c{n:03}"), name: format!("Ann {n}"), state, orders: 0, cents: 0 }
    };
    let mut facts = Facts {
        products: (0..PRODUCTS).map(product).collect(),
        customers: (0..CUSTOMERS).map(customer).collect(),
        orders: EVENTS as u64,
        views: EVENTS as u64,
        hours: Hours { range_us: Some((0, EVENTS as i64 * 60_000_000)), by_hour: BTreeMap::new() },
    };
    for n in 0..EVENTS {
        let (viewed, bought, buyer) = draw(&mut numbers, n);
        let cents = 1_000 + numbers.below(9_000) as i64;
        facts.products[viewed].views += 1;
        facts.products[bought].orders += 1;
        facts.products[bought].cents += cents;
        facts.customers[buyer].orders += 1;
        facts.customers[buyer].cents += cents;
        let hour = facts.hours.by_hour.entry(n as i64 / 60).or_default();
        *hour = (hour.0 + 1, hour.1 + cents);
    }
    facts
}

fn finding(facts: &Facts, id: &str) -> Finding {
    let report = report(Step(9), facts);
    report.groups.into_iter().flat_map(|group| group.findings).find(|finding| finding.id == id).unwrap()
}

#[test]
fn a_shop_of_pure_chance_shows_nothing() {
    let facts = shop(|r, _| (r.below(PRODUCTS), r.below(PRODUCTS), r.below(CUSTOMERS)));
    let report = report(Step(9), &facts);
    assert_eq!(report.groups.len(), 4);
    for finding in report.groups.iter().flat_map(|group| &group.findings) {
        assert_eq!(finding.verdict, Verdict::Nothing, "{finding:#?}");
    }
    assert!(report.to_string().contains("the data shows no trend"), "{report}");
}

#[test]
fn a_favourite_a_loyal_customer_and_a_link_are_found() {
    let facts = shop(|r, n| {
        let product = if n % 10 == 0 { 17 } else { r.below(PRODUCTS) };
        (product, product, if n % 20 == 0 { 42 } else { r.below(CUSTOMERS) })
    });
    for id in ["most-viewed-products", "most-purchased-products", "loyal-customers", "viewed-and-purchased"] {
        assert_eq!(finding(&facts, id).verdict, Verdict::Something, "{:#?}", finding(&facts, id));
    }
    assert_eq!(finding(&facts, "most-viewed-products").rows[0].key, "p017");
    assert_eq!(finding(&facts, "loyal-customers").rows[0].key, "c042");
    let first = &finding(&facts, "viewed-and-purchased").rows[0];
    assert_eq!(first.numbers.iter().filter(|n| n.unit == Unit::Rank).map(|n| n.value).collect::<Vec<_>>(), [1, 1]);
}

#[test]
fn a_state_that_orders_more_than_its_share_is_found() {
    let facts = shop(|r, n| {
        let buyer = r.below(CUSTOMERS);
        (r.below(PRODUCTS), r.below(PRODUCTS), if n % 4 == 0 { buyer / 5 * 5 + 3 } else { buyer })
    });
    for id in ["states-by-orders", "revenue-per-customer"] {
        let found = finding(&facts, id);
        assert_eq!((found.verdict, found.rows[0].key.as_str()), (Verdict::Something, "State 3"), "{found:#?}");
    }
}

#[test]
fn a_shop_that_grows_shows_a_trend_and_begun_buckets_do_not() {
    let mut facts = shop(|r, _| (r.below(PRODUCTS), r.below(PRODUCTS), r.below(CUSTOMERS)));
    // Six orders in the last, begun hour are no fall.
    facts.hours.range_us = Some((-6 * 60_000_000, EVENTS as i64 * 60_000_000));
    facts.hours.by_hour.insert(-1, (6, 6_000));
    assert_eq!(finding(&facts, "orders-trend").verdict, Verdict::Nothing);
    for (hour, (orders, cents)) in &mut facts.hours.by_hour {
        *orders += hour.unsigned_abs();
        *cents += 5_000 * hour;
    }
    let found = finding(&facts, "orders-trend");
    assert_eq!(found.verdict, Verdict::Something, "{found:#?}");
    assert!(found.trend.unwrap().low > 0.9 && found.trend.unwrap().high < 1.1, "{found:#?}");
    assert_eq!(finding(&facts, "revenue-trend").verdict, Verdict::Something);
}

#[test]
fn a_shop_with_next_to_nothing_says_so() {
    let facts = Facts { orders: 1, views: 1, ..Facts::default() };
    for finding in report(Step(1), &facts).groups.iter().flat_map(|group| &group.findings) {
        assert_eq!(finding.verdict, Verdict::TooLittle, "{finding:#?}");
    }
}
