//! Which documents a search finds, in which order, and what it shows of them.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::{Server, ids};

fn shop() -> Server {
    let server = Server::with(json!({
        "brand": {"type": "keyword"}, "price": {"type": "double"}, "stock": {"type": "integer"},
        "sold": {"type": "date"}, "open": {"type": "boolean"}, "note": {"type": "text"},
        "tags": {"type": "keyword", "ignore_above": 5},
    }));
    let documents = [
        (
            "a",
            json!({"brand": "Alpine", "price": 10.5, "stock": 3, "sold": "2024-01-01T10:00:00Z", "open": true, "tags": ["x", "y"]}),
        ),
        (
            "b",
            json!({"brand": "Alp", "price": 20, "stock": 5, "sold": "2024-01-02T00:00:00.000Z", "open": false, "note": "The Red Shoe"}),
        ),
        (
            "c",
            json!({"brand": "Bär*", "price": "30.25", "stock": -1, "sold": 1_704_240_000_000_i64, "note": "red or blue shoe"}),
        ),
        ("d", json!({"brand": null, "price": 0.1, "tags": "much too long"})),
    ];
    server.fill(&documents.map(|(id, document)| (id.to_owned(), document)));
    server
}

#[test]
fn each_kind_of_query_finds_what_it_says() {
    let server = shop();
    let table = [
        (json!({"match_all": {}}), "a b c d"),
        (json!({"match_none": {}}), ""),
        (json!({"ids": {"values": ["d", "a", "none"]}}), "a d"),
        (json!({"term": {"brand": "Alp"}}), "b"),
        (json!({"term": {"brand": {"value": "Alpine"}}}), "a"),
        (json!({"term": {"price": 20}}), "b"),
        (json!({"term": {"stock": 3.5}}), ""),
        (json!({"term": {"open": "true"}}), "a"),
        (json!({"term": {"sold": "2024-01-01"}}), "a"),
        (json!({"term": {"tags": "y"}}), "a"),
        (json!({"term": {"tags": "much too long"}}), ""),
        (json!({"term": {"nowhere": 1}}), ""),
        (json!({"terms": {"brand": ["Alp", "Bär*"]}}), "b c"),
        (json!({"terms": {"stock": [3, "-1"]}}), "a c"),
        (json!({"range": {"price": {"gte": 10.5, "lt": 30.25}}}), "a b"),
        (json!({"range": {"price": {"gt": 0.1, "lte": "20"}}}), "a b"),
        (json!({"range": {"stock": {"gt": 2.5, "lt": 4.5}}}), "a"),
        (json!({"range": {"brand": {"gte": "Alp", "lte": "Alpine"}}}), "a b"),
        (json!({"range": {"sold": {"gt": "2024-01-01"}}}), "b c"),
        (json!({"range": {"sold": {"lte": "2024-01-02"}}}), "a b"),
        (json!({"range": {"sold": {"gte": "2024-01-03||-1d/d", "lt": "now"}}}), "b c"),
        (json!({"exists": {"field": "brand"}}), "a b c"),
        (json!({"exists": {"field": "note"}}), "b c"),
        (json!({"exists": {"field": "tags"}}), "a"),
        (json!({"prefix": {"brand": "Alp"}}), "a b"),
        (json!({"prefix": {"brand": {"value": "Bär*"}}}), "c"),
        (json!({"wildcard": {"brand": "*l?i*"}}), "a"),
        (json!({"wildcard": {"brand": {"value": "B?r\\*"}}}), "c"),
        (json!({"regexp": {"brand": "Alp(ine)?"}}), "a b"),
        (json!({"match": {"note": "blue RED"}}), "b c"),
        (json!({"match": {"note": {"query": "blue red", "operator": "and"}}}), "c"),
        (json!({"match_phrase": {"note": "red shoe"}}), "b"),
        (json!({"match": {"brand": "Alp"}}), "b"),
        (json!({"bool": {"must_not": [{"term": {"brand": "Alp"}}]}}), "a c d"),
        (json!({"bool": {"filter": {"exists": {"field": "stock"}}, "must_not": {"term": {"open": true}}}}), "b c"),
        (
            json!({"bool": {"should": [{"term": {"brand": "Alp"}}, {"term": {"stock": 5}}, {"term": {"stock": 3}}], "minimum_should_match": 2}}),
            "b",
        ),
        (json!({"bool": {"must": {"exists": {"field": "sold"}}, "should": {"term": {"brand": "Alp"}}}}), "a b c"),
        (json!({"bool": {}}), "a b c d"),
        (json!({"constant_score": {"filter": {"term": {"brand": "Alp"}}}}), "b"),
        (json!({"query_string": {"query": "brand:Alp* AND price:[10 TO 20}"}}), "a"),
        (json!({"query_string": {"query": "brand:Alp OR stock:3"}}), "a b"),
        (json!({"query_string": {"query": "Alpine"}}), "a"),
        (json!({"query_string": {"query": "NOT brand:Alp"}}), "a c d"),
        (json!({"query_string": {"query": "note:(red -blue)"}}), "b"),
        (json!({"query_string": {"query": "_exists_:open AND price:>15"}}), "b"),
        (json!({"query_string": {"query": "red shoe", "default_operator": "AND", "fields": ["note"]}}), "b c"),
        (json!({"query_string": {"query": "*:*"}}), "a b c d"),
    ];
    for (query, expected) in table {
        let mut found = server.ids(&json!({"query": query}));
        found.sort();
        assert_eq!(found.join(" "), expected, "{query}");
    }
}

#[test]
fn hits_show_what_is_asked_of_them() {
    let server = shop();
    let hit = |body: Json| server.call("POST", "/i/_search", &body).1["hits"]["hits"][0].clone();
    let b = json!({"ids": {"values": ["b"]}});
    let shown = hit(json!({"query": b, "version": true, "seq_no_primary_term": true, "_source": false}));
    assert_eq!(
        shown,
        json!({"_index": "i", "_id": "b", "_version": 1, "_seq_no": 1, "_primary_term": 1, "_score": 1.0})
    );
    let source = |filter: Json| hit(json!({"query": b, "_source": filter}))["_source"].clone();
    assert_eq!(source(json!(["s*", "open"])), json!({"stock": 5, "sold": "2024-01-02T00:00:00.000Z", "open": false}));
    assert_eq!(source(json!({"includes": ["s*"], "excludes": ["sold"]})), json!({"stock": 5}));
    assert_eq!(server.get("/i/_doc/b?_source=stock").1["_source"], json!({"stock": 5}));
    assert_eq!(server.get("/i/_source/b").1["price"], json!(20));
    assert_eq!(ids(&server.get("/i/_search?q=brand:Alp&sort=price:desc").1), ["b"]);
    let total =
        |track: Json| server.call("POST", "/i/_search", &json!({"track_total_hits": track})).1["hits"]["total"].clone();
    assert_eq!(total(json!(true)), json!({"value": 4, "relation": "eq"}));
    assert_eq!(total(json!(2)), json!({"value": 2, "relation": "gte"}));
    assert_eq!(total(json!(false)), Json::Null);
}

#[test]
fn lists_for_people_have_every_index() {
    let server = shop();
    let (status, text) = server.text("GET", "/_cat/indices?v", b"");
    let text = String::from_utf8(text).unwrap();
    assert_eq!(status, 200);
    assert!(text.starts_with("health status index uuid"), "{text}");
    assert!(text.contains("green  open   i "), "{text}");
    let rows = server.get("/_cat/indices?format=json&h=index,docs.count").1;
    assert_eq!(rows, json!([{"index": "i", "docs.count": "4"}]));
    assert_eq!(server.get("/i/_mapping").1["i"]["mappings"]["properties"]["price"], json!({"type": "double"}));
    assert_eq!(server.get("/i/_settings").1["i"]["settings"]["index"]["number_of_shards"], json!("1"));
}

#[test]
fn a_point_in_time_does_not_see_what_came_later_and_its_slices_tile_it() {
    let server = Server::with(json!({"n": {"type": "long"}}));
    let documents =
        |from: usize, to: usize| (from..to).map(|n| (format!("{n:04}"), json!({"n": n}))).collect::<Vec<_>>();
    server.fill(&documents(0, 300));
    server.get("/i/_count");
    server.fill(&documents(300, 700));
    server.bulk(&(0..50).map(|n| json!({"delete": {"_id": format!("{n:04}")}})).collect::<Vec<_>>());
    let opened = server.call("POST", "/i/_pit?keep_alive=1m", &Json::Null).1;
    server.bulk(&(50..650).map(|n| json!({"delete": {"_id": format!("{n:04}")}})).collect::<Vec<_>>());
    server.fill(&documents(700, 800));
    assert_eq!(server.get("/i/_count").1["count"], json!(150));
    let mut seen = BTreeSet::new();
    for slice in 0..3 {
        let mut after = Json::Null;
        loop {
            let body = json!({
                "pit": {"id": opened["id"], "keep_alive": "1m"}, "slice": {"id": slice, "max": 3}, "size": 70,
                "sort": [{"_shard_doc": "asc"}], "track_total_hits": false, "search_after": after,
            });
            let page = server.call("POST", "/_search", &body).1;
            assert_eq!(page["pit_id"], opened["id"]);
            let Some(last) = page["hits"]["hits"].as_array().unwrap().last() else { break };
            after = last["sort"].clone();
            for id in ids(&page) {
                assert!(seen.insert(id.clone()), "{id} is seen twice");
            }
        }
    }
    assert_eq!(seen, documents(50, 700).into_iter().map(|(id, _)| id).collect());
    assert_eq!(server.call("DELETE", "/_pit", &json!({"id": opened["id"]})).0, 200);
    assert_eq!(server.call("POST", "/_search", &json!({"pit": {"id": opened["id"]}})).0, 404);
    let short = server.call("POST", "/i/_pit?keep_alive=1ms", &Json::Null).1;
    std::thread::sleep(std::time::Duration::from_millis(3));
    let late = server.call("POST", "/_search", &json!({"pit": {"id": short["id"]}}));
    assert_eq!((late.0, &late.1["error"]["type"]), (404, &json!("search_context_missing_exception")));
}

type Row = (Option<i64>, Option<String>);

/// What a sort of the documents by hand gives: missing values last, or first.
fn sorted(rows: &[Row], (by_text, descending, first): (bool, bool, bool)) -> Vec<String> {
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by(|a, b| {
        let number = |row: &Row| if by_text { None } else { row.0 };
        let text = |row: &Row| if by_text { row.1.clone() } else { None };
        let (x, y) = ((number(&rows[*a]), text(&rows[*a])), (number(&rows[*b]), text(&rows[*b])));
        let missing = |value: &Row| value.0.is_none() && value.1.is_none();
        match (missing(&x), missing(&y)) {
            (true, true) => std::cmp::Ordering::Equal,
            (true, false) => {
                if first {
                    std::cmp::Ordering::Less
                } else {
                    std::cmp::Ordering::Greater
                }
            }
            (false, true) => {
                if first {
                    std::cmp::Ordering::Greater
                } else {
                    std::cmp::Ordering::Less
                }
            }
            (false, false) => {
                if descending {
                    y.cmp(&x)
                } else {
                    x.cmp(&y)
                }
            }
        }
        .then(a.cmp(b))
    });
    order.into_iter().map(|n| n.to_string()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn pages_in_the_order_of_a_field_are_the_documents_in_that_order(
        rows in prop::collection::vec((prop::option::of(-3..4_i64), prop::option::of("[a-cä]{0,2}")), 1..40),
        how in any::<(bool, bool, bool)>(),
        cut in 0..40_usize,
        size in 1..9_usize,
    ) {
        let server = Server::with(json!({"n": {"type": "long"}, "t": {"type": "keyword"}, "row": {"type": "integer"}}));
        let documents: Vec<(String, Json)> =
            rows.iter().enumerate().map(|(n, (number, text))| (n.to_string(), json!({"n": number, "t": text, "row": n}))).collect();
        // Two segments, so that values of different dictionaries are compared.
        let (one, two) = documents.split_at(cut.min(documents.len()));
        for part in [one, two] {
            if !part.is_empty() {
                server.fill(part);
                server.get("/i/_count");
            }
        }
        let key = json!({if how.0 { "t" } else { "n" }: {
            "order": if how.1 { "desc" } else { "asc" }, "missing": if how.2 { "_first" } else { "_last" },
        }});
        let opened = server.call("POST", "/i/_pit?keep_alive=1m", &Json::Null).1;
        let (mut found, mut after) = (Vec::new(), Json::Null);
        loop {
            let body = json!({"pit": {"id": opened["id"]}, "size": size, "sort": [key, "row"], "search_after": after});
            let (status, page) = server.call("POST", "/_search", &body);
            prop_assert_eq!(status, 200, "{}", page);
            prop_assert_eq!(&page["hits"]["total"]["value"], &json!(rows.len()));
            let Some(last) = page["hits"]["hits"].as_array().unwrap().last() else { break };
            after = last["sort"].clone();
            found.extend(ids(&page));
        }
        prop_assert_eq!(found, sorted(&rows, how));
    }
}

#[test]
fn a_field_that_is_excluded_from_the_source_is_searched_and_counted_and_not_shown() {
    let server = Server::new();
    let body = json!({"mappings": {"dynamic": "strict", "_source": {"excludes": ["d"]}, "properties": {
        "a": {"type": "double"}, "b": {"type": "keyword"}, "d": {"type": "long", "index": false},
    }}});
    assert_eq!(server.call("PUT", "/i", &body).0, 200);
    for (id, document) in
        [("1", r#"{"b":"x","a":1.0,"d":7}"#), ("2", r#"{"b":"y","d":1099511627775}"#), ("3", r#"{"a":2}"#)]
    {
        assert_eq!(server.text("PUT", &format!("/i/_doc/{id}"), document.as_bytes()).0, 201);
    }
    for server in [server.killed(), server.restarted()] {
        let shown = server.text("GET", "/i/_source/1", b"").1;
        assert_eq!(String::from_utf8_lossy(&shown), r#"{"b":"x","a":1.0}"#, "as it is written, in its order");
        let question = json!({"size": 0, "track_total_hits": true, "aggs": {"h": {
            "histogram": {"field": "d", "interval": 1024, "min_doc_count": 1}, "aggs": {"s": {"sum": {"field": "d"}}}}}});
        let buckets = server.call("POST", "/i/_search", &question).1["aggregations"]["h"]["buckets"].clone();
        let first = &buckets[0];
        assert_eq!([&first["key"], &first["doc_count"], &first["s"]["value"]], [&json!(0.0), &json!(1), &json!(7.0)]);
        assert_eq!(buckets[1]["s"]["value"], json!(1_099_511_627_775.0));
        let ids = |query: Json| {
            let hits = server.call("POST", "/i/_search", &json!({"query": query})).1["hits"]["hits"].clone();
            let mut ids: Vec<String> =
                hits.as_array().unwrap().iter().map(|hit| hit["_id"].as_str().unwrap().to_owned()).collect();
            ids.sort();
            ids
        };
        assert_eq!(ids(json!({"bool": {"must_not": {"exists": {"field": "d"}}}})), ["3"]);
        assert_eq!(ids(json!({"range": {"d": {"gte": 1024, "lt": 1_099_511_627_776_u64}}})), ["2"]);
    }
}

#[test]
fn documents_are_found_by_their_sequence_numbers() {
    let server = Server::with(json!({"a": {"type": "long"}}));
    for id in ["1", "2", "3", "2"] {
        server.call("PUT", &format!("/i/_doc/{id}"), &json!({"a": 1}));
    }
    let count = |query: Json| {
        server.call("POST", "/i/_search", &json!({"query": query, "track_total_hits": true})).1["hits"]["total"]["value"].clone()
    };
    for (query, expected) in [
        (json!({"range": {"_seq_no": {"gte": 0, "lt": 9}}}), 3),
        (json!({"range": {"_seq_no": {"gte": 1, "lt": 3}}}), 1),
        (json!({"range": {"_seq_no": {"gt": 2}}}), 1),
        (json!({"terms": {"_seq_no": [0, 1, 3]}}), 2),
        (json!({"terms": {"a": [7, 1.5]}}), 0),
        (json!({"terms": {"a": [7, 1.5, 1, "1"]}}), 3),
        (json!({"term": {"_seq_no": 2}}), 1),
    ] {
        assert_eq!(count(query.clone()), json!(expected), "{query}");
    }
}
