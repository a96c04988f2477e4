//! Aggregations give what a person would count by hand.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::super::tests::Server;

fn server() -> Server {
    Server::with(json!({
        "state": {"type": "keyword"}, "price": {"type": "double"}, "buyer": {"type": "keyword"}, "at": {"type": "date"},
        "open": {"type": "boolean"}, "n": {"type": "long"},
    }))
}

/// Orders in two segments, the second with a keyword that sorts between those of the first.
fn orders() -> Server {
    let server = server();
    let order = |state: Json, price: Json, buyer: &str, at: &str| json!({"state": state, "price": price, "buyer": buyer, "at": at});
    let first = [
        ("1", order(json!("Ohio"), json!(10.25), "ann", "2024-01-31T23:59:59Z")),
        ("2", order(json!("Ohio"), json!(20.5), "bob", "2024-01-01T00:00:00Z")),
        ("3", order(json!("Alaska"), json!(0.25), "ann", "2024-03-10T12:00:00Z")),
    ];
    let second = [
        ("4", order(json!("Iowa"), json!(100), "cy", "2024-03-11T00:00:00Z")),
        ("5", order(json!(null), json!(5.5), "ann", "2024-03-11T00:30:00Z")),
        ("6", order(json!("Ohio"), json!(null), "bob", "2024-05-01T00:00:00Z")),
    ];
    for part in [first, second] {
        server.fill(&part.map(|(id, document)| (id.to_owned(), document)));
        server.get("/i/_count");
    }
    server
}

fn aggregate(server: &Server, body: Json) -> Json {
    let (status, answer) = server.call("POST", "/i/_search", &json!({"size": 0, "aggs": {"a": body}}));
    assert_eq!(status, 200, "{answer}");
    answer["aggregations"]["a"].clone()
}

#[test]
fn terms_hold_metrics_and_can_be_ordered_by_them() {
    let server = orders();
    let within = json!({"revenue": {"sum": {"field": "price"}}, "buyers": {"cardinality": {"field": "buyer"}}});
    let by = |order: Json| json!({"terms": {"field": "state", "size": 2, "order": order}, "aggs": within});
    assert_eq!(
        aggregate(&server, by(json!({"_count": "desc"}))),
        json!({"doc_count_error_upper_bound": 0, "sum_other_doc_count": 1, "buckets": [
            {"key": "Ohio", "doc_count": 3, "revenue": {"value": 30.75}, "buyers": {"value": 2}},
            {"key": "Alaska", "doc_count": 1, "revenue": {"value": 0.25}, "buyers": {"value": 1}},
        ]})
    );
    let keys = |order: Json| -> Vec<String> {
        let answer = aggregate(&server, by(order));
        answer["buckets"].as_array().unwrap().iter().map(|b| b["key"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(keys(json!({"revenue": "desc"})), ["Iowa", "Ohio"]);
    assert_eq!(keys(json!({"_key": "desc"})), ["Ohio", "Iowa"]);
    assert_eq!(keys(json!([{"buyers": "asc"}, {"_key": "desc"}])), ["Iowa", "Alaska"]);
    let missing = aggregate(
        &server,
        json!({"terms": {"field": "state", "missing": "unknown", "order": {"_key": "desc"}, "size": 1}}),
    );
    assert_eq!(missing["buckets"], json!([{"key": "unknown", "doc_count": 1}]));
    assert_eq!(missing["sum_other_doc_count"], json!(5));
}

#[test]
fn numbers_dates_and_booleans_are_keys_of_their_kind() {
    let server = server();
    server.fill(&[
        ("1".into(), json!({"n": [3, 3, -2], "open": true, "at": "2024-01-01", "price": 1.5})),
        ("2".into(), json!({"n": 3, "open": "false", "at": 1_704_067_200_000_i64, "price": 1.5})),
    ]);
    let buckets = |field: &str| aggregate(&server, json!({"terms": {"field": field}}))["buckets"].clone();
    assert_eq!(buckets("n"), json!([{"key": 3, "doc_count": 2}, {"key": -2, "doc_count": 1}]));
    assert_eq!(
        buckets("open"),
        json!([{"key": 0, "key_as_string": "false", "doc_count": 1}, {"key": 1, "key_as_string": "true", "doc_count": 1}])
    );
    assert_eq!(
        buckets("at"),
        json!([{"key": 1_704_067_200_000_i64, "key_as_string": "2024-01-01T00:00:00.000Z", "doc_count": 2}])
    );
    assert_eq!(buckets("price"), json!([{"key": 1.5, "doc_count": 2}]));
    assert_eq!(buckets("nowhere"), json!([]));
    assert_eq!(aggregate(&server, json!({"value_count": {"field": "n"}})), json!({"value": 4}));
    assert_eq!(aggregate(&server, json!({"cardinality": {"field": "n"}})), json!({"value": 2}));
    assert_eq!(
        aggregate(&server, json!({"max": {"field": "at"}})),
        json!({"value": 1_704_067_200_000_f64, "value_as_string": "2024-01-01T00:00:00.000Z"})
    );
    let stats = json!({"count": 4, "min": -2.0, "max": 3.0, "avg": 1.75, "sum": 7.0});
    assert_eq!(aggregate(&server, json!({"stats": {"field": "n"}})), stats);
    let none = json!({"filter": {"match_none": {}}, "aggs": {"least": {"min": {"field": "n"}}, "all": {"sum": {"field": "n"}}}});
    assert_eq!(aggregate(&server, none), json!({"doc_count": 0, "least": {"value": null}, "all": {"value": 0.0}}));
}

#[test]
fn sequence_numbers_are_summed_and_a_document_that_is_written_again_has_a_larger_one() {
    let server = orders();
    let sum = || aggregate(&server, json!({"sum": {"field": "_seq_no"}}));
    assert_eq!(sum(), json!({"value": 15.0}));
    server.fill(&[("3".into(), json!({"price": 1}))]);
    assert_eq!(sum(), json!({"value": 19.0}));
}

#[test]
fn time_is_cut_by_the_calendar_and_holes_are_filled() {
    let server = orders();
    let counts = |body: Json| -> Vec<String> {
        let answer = aggregate(&server, json!({"date_histogram": body, "aggs": {"sum": {"sum": {"field": "price"}}}}));
        let buckets = answer["buckets"].as_array().unwrap();
        buckets
            .iter()
            .map(|b| format!("{} {} {}", b["key_as_string"].as_str().unwrap(), b["doc_count"], b["sum"]["value"]))
            .collect()
    };
    assert_eq!(
        counts(json!({"field": "at", "calendar_interval": "month"})),
        [
            "2024-01-01T00:00:00.000Z 2 30.75",
            "2024-02-01T00:00:00.000Z 0 0.0",
            "2024-03-01T00:00:00.000Z 3 105.75",
            "2024-04-01T00:00:00.000Z 0 0.0",
            "2024-05-01T00:00:00.000Z 1 0.0",
        ]
    );
    assert_eq!(
        counts(json!({"field": "at", "calendar_interval": "1w", "min_doc_count": 1, "time_zone": "UTC"})),
        [
            "2024-01-01T00:00:00.000Z 1 20.5",
            "2024-01-29T00:00:00.000Z 1 10.25",
            "2024-03-04T00:00:00.000Z 1 0.25",
            "2024-03-11T00:00:00.000Z 2 105.5",
            "2024-04-29T00:00:00.000Z 1 0.0",
        ]
    );
    let bounds = json!({"min": "2023-06-01", "max": "2024-06-01"});
    assert_eq!(
        counts(json!({"field": "at", "calendar_interval": "year", "extended_bounds": bounds})),
        ["2023-01-01T00:00:00.000Z 0 0.0", "2024-01-01T00:00:00.000Z 6 136.5",]
    );
    let hours = counts(json!({"field": "at", "fixed_interval": "12h", "min_doc_count": 2}));
    assert_eq!(hours, ["2024-03-11T00:00:00.000Z 2 105.5"]);
    let (status, answer) = server.call(
        "POST",
        "/i/_search",
        &json!({"aggs": {"a": {"date_histogram": {"field": "at", "fixed_interval": "1s"}}}}),
    );
    assert_eq!((status, &answer["error"]["type"]), (400, &json!("too_many_buckets_exception")));
}

#[test]
fn buckets_by_query_by_range_and_by_absence() {
    let server = orders();
    let filters = json!({"filters": {"ohio": {"term": {"state": "Ohio"}}, "dear": {"range": {"price": {"gte": 20}}}}, "other_bucket_key": "rest"});
    let buyers = json!({"b": {"terms": {"field": "buyer", "order": {"_key": "asc"}}}});
    let answer = aggregate(&server, json!({"filters": filters, "aggs": buyers}));
    assert_eq!(answer["buckets"]["ohio"]["doc_count"], json!(3));
    assert_eq!(
        answer["buckets"]["dear"]["b"]["buckets"],
        json!([{"key": "bob", "doc_count": 1}, {"key": "cy", "doc_count": 1}])
    );
    assert_eq!(answer["buckets"]["rest"]["b"]["buckets"], json!([{"key": "ann", "doc_count": 2}]));
    assert_eq!(aggregate(&server, json!({"missing": {"field": "state"}, "aggs": buyers}))["doc_count"], json!(1));
    let range = json!({"range": {"field": "price", "ranges": [{"from": 20}, {"to": 10.25, "key": "cheap"}, {"from": 10.25, "to": 20.5}]}});
    assert_eq!(
        aggregate(&server, range)["buckets"],
        json!([
            {"key": "cheap", "to": 10.25, "doc_count": 2}, {"key": "10.25-20.5", "from": 10.25, "to": 20.5, "doc_count": 1},
            {"key": "20.0-*", "from": 20.0, "doc_count": 2},
        ])
    );
    // The same where none overlaps another, and some have nothing in them.
    let apart = json!({"range": {"field": "price", "ranges": [{"to": -5}, {"to": 10.25, "from": -5}, {"from": 10.25, "to": 20}, {"from": 20, "to": 20}, {"from": 20}]}});
    let counts = aggregate(&server, apart)["buckets"].as_array().unwrap().clone();
    assert_eq!(counts.iter().map(|bucket| bucket["doc_count"].as_u64().unwrap()).collect::<Vec<_>>(), [0, 2, 1, 0, 2]);
    let histogram = json!({"histogram": {"field": "price", "interval": 50, "offset": 10}});
    assert_eq!(
        aggregate(&server, histogram)["buckets"],
        json!([{"key": -40.0, "doc_count": 2}, {"key": 10.0, "doc_count": 2}, {"key": 60.0, "doc_count": 1}])
    );
}

#[test]
fn a_sum_of_money_is_right_to_the_cent() {
    let server = server();
    let (mut cents, mut documents) = (0_i64, Vec::new());
    for n in 0..60_000_i64 {
        // Large and small prices by turns, so that a plain sum loses the small ones' digits.
        let price = if n % 2 == 0 { 99_999_999_999_i64 - n * 7 } else { n % 977 + 1 };
        cents += price;
        documents.push((n.to_string(), json!({"price": price as f64 / 100.0, "state": "s"})));
    }
    for part in documents.chunks(20_000) {
        server.fill(part);
        server.get("/i/_count");
    }
    let answer = aggregate(&server, json!({"terms": {"field": "state"}, "aggs": {"s": {"sum": {"field": "price"}}}}));
    let sum = answer["buckets"][0]["s"]["value"].as_f64().unwrap();
    assert_eq!((sum * 100.0).round() as i64, cents);
}

/// State, price in cents, buyer, day.
type Row = (Option<u8>, Option<i32>, u8, u8);

fn document(row: &Row) -> Json {
    let (state, cents, buyer, day) = row;
    let at = format!("2024-{:02}-{:02}T01:02:03Z", day / 28 + 1, day % 28 + 1);
    let state = state.map(|state| format!("s{state}"));
    json!({"state": state, "price": cents.map(|c| f64::from(c) / 100.0), "buyer": format!("b{buyer}"), "at": at})
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn nested_aggregations_over_any_documents_in_any_segments_are_what_is_counted_by_hand(
        rows in prop::collection::vec((prop::option::of(0..5_u8), prop::option::of(-100..10_000_i32), 0..9_u8, 0..56_u8), 1..80),
        cuts in prop::collection::vec(0..80_usize, 0..3),
        deleted in prop::collection::btree_set(0..80_usize, 0..20),
        // Of the first, more than have a place each.
        interval in prop::sample::select(vec![0.000_016, 0.5, 7.0, 30.0]),
    ) {
        let server = server();
        for (n, row) in rows.iter().enumerate() {
            server.fill(&[(n.to_string(), document(row))]);
            if cuts.contains(&n) {
                server.get("/i/_count");
            }
        }
        for n in &deleted {
            server.call("DELETE", &format!("/i/_doc/{n}"), &Json::Null);
        }
        let live: Vec<&Row> = rows.iter().enumerate().filter(|(n, _)| !deleted.contains(n)).map(|(_, row)| row).collect();
        let within = json!({"months": {"date_histogram": {"field": "at", "calendar_interval": "month", "min_doc_count": 1}, "aggs": {
            "revenue": {"sum": {"field": "price"}}, "buyers": {"cardinality": {"field": "buyer"}}, "prices": {"value_count": {"field": "price"}},
        }}});
        let answer = aggregate(&server, json!({"terms": {"field": "state", "missing": "none", "size": 50}, "aggs": within}));
        let mut found = BTreeMap::new();
        for state in answer["buckets"].as_array().unwrap() {
            for month in state["months"]["buckets"].as_array().unwrap() {
                let cents = (month["revenue"]["value"].as_f64().unwrap() * 100.0).round() as i64;
                let key = (state["key"].as_str().unwrap().to_owned(), month["key_as_string"].as_str().unwrap()[..7].to_owned());
                found.insert(key, (month["doc_count"].clone(), cents, month["buyers"]["value"].clone(), month["prices"]["value"].clone()));
            }
        }
        let histogram = json!({"field": "price", "interval": interval, "offset": interval / 4.0, "min_doc_count": 1});
        let answer = aggregate(&server, json!({"histogram": histogram, "aggs": {"s": {"sum": {"field": "price"}}}}));
        let pieces = answer["buckets"].as_array().unwrap().iter();
        let pieces: Vec<(String, u64, i64)> = pieces.map(|piece| {
            let cents = (piece["s"]["value"].as_f64().unwrap() * 100.0).round() as i64;
            (format!("{:.6}", piece["key"].as_f64().unwrap()), piece["doc_count"].as_u64().unwrap(), cents)
        }).collect();
        let mut by_hand: BTreeMap<i64, (u64, i64)> = BTreeMap::new();
        for cents in live.iter().filter_map(|row| row.1) {
            let piece = ((f64::from(cents) / 100.0 - interval / 4.0) / interval).floor() as i64;
            let (count, sum) = by_hand.entry(piece).or_default();
            (*count, *sum) = (*count + 1, *sum + i64::from(cents));
        }
        let begin = |piece: i64| format!("{:.6}", piece as f64 * interval + interval / 4.0);
        let by_hand: Vec<_> = by_hand.into_iter().map(|(piece, (count, cents))| (begin(piece), count, cents)).collect();
        prop_assert_eq!(pieces, by_hand);
        let mut groups: BTreeMap<(String, String), Vec<&Row>> = BTreeMap::new();
        for row in live {
            let state = row.0.map_or_else(|| "none".to_owned(), |state| format!("s{state}"));
            groups.entry((state, format!("2024-{:02}", row.3 / 28 + 1))).or_default().push(row);
        }
        let expected: BTreeMap<_, _> = groups.into_iter().map(|(key, rows)| {
            let cents: i64 = rows.iter().filter_map(|row| row.1).map(i64::from).sum();
            let buyers: BTreeSet<u8> = rows.iter().map(|row| row.2).collect();
            let prices = rows.iter().filter(|row| row.1.is_some()).count();
            (key, (json!(rows.len()), cents, json!(buyers.len()), json!(prices)))
        }).collect();
        prop_assert_eq!(found, expected);
    }
}
