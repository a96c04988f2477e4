//! Bad requests get Elasticsearch's answers, and nothing panics whatever comes.

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::Server;

type Case = (&'static str, &'static str, Json, u16, &'static str);

/// Each request gets its status and its type of error.
fn refused(table: &[Case]) {
    let server = Server::with(json!({"n": {"type": "long"}, "t": {"type": "keyword"}, "x": {"type": "text"}}));
    for (method, path, body, status, kind) in table {
        let (found, answer) = server.call(method, path, body);
        assert_eq!((found, &answer["error"]["type"]), (*status, &json!(kind)), "{method} {path} {body} gave {answer}");
        assert_eq!(answer["status"], json!(status));
        assert!(!answer["error"]["root_cause"][0]["reason"].as_str().unwrap().is_empty());
    }
}

#[test]
fn a_bad_request_about_indexes_and_documents_is_answered_as_elasticsearch_answers_it() {
    refused(&[
        ("GET", "/none/_search", json!({}), 404, "index_not_found_exception"),
        ("GET", "/none/_mapping", Json::Null, 404, "index_not_found_exception"),
        ("DELETE", "/none", Json::Null, 404, "index_not_found_exception"),
        ("PUT", "/none/_doc/1", json!({}), 404, "index_not_found_exception"),
        ("PUT", "/i", json!({}), 400, "resource_already_exists_exception"),
        ("PUT", "/Upper", json!({}), 400, "invalid_index_name_exception"),
        (
            "PUT",
            "/j",
            json!({"mappings": {"properties": {"g": {"type": "geo_point"}}}}),
            400,
            "mapper_parsing_exception",
        ),
        ("PUT", "/j", json!({"mapings": {}}), 400, "parse_exception"),
        ("PUT", "/i/_doc/1", json!([1]), 400, "document_parsing_exception"),
        ("PUT", "/i/_doc/1?version=1", json!({}), 400, "action_request_validation_exception"),
        ("PUT", "/i/_doc/1?version=x&version_type=external", json!({}), 400, "illegal_argument_exception"),
        ("POST", "/_bulk", json!({}), 400, "illegal_argument_exception"),
    ]);
}

#[test]
fn a_bad_search_is_answered_as_elasticsearch_answers_it() {
    refused(&[
        ("GET", "/i/_search", json!({"query": {"nonsense": {}}}), 400, "parsing_exception"),
        ("GET", "/i/_search", json!({"query": {"term": {"n": "x"}}}), 400, "illegal_argument_exception"),
        ("GET", "/i/_search", json!({"query": {"range": {"n": {"gtee": 1}}}}), 400, "parsing_exception"),
        ("GET", "/i/_search", json!({"query": {"wildcard": {"n": "*"}}}), 400, "illegal_argument_exception"),
        ("GET", "/i/_search", json!({"query": {"regexp": {"t": "("}}}), 400, "illegal_argument_exception"),
        ("GET", "/i/_search", json!({"query": {"query_string": {"query": "n:["}}}), 400, "query_shard_exception"),
        ("GET", "/i/_search", json!({"size": 10_001}), 400, "illegal_argument_exception"),
        ("GET", "/i/_search?size=many", json!({}), 400, "illegal_argument_exception"),
        ("GET", "/i/_search", json!({"sort": ["n"], "search_after": [1, 2]}), 400, "illegal_argument_exception"),
        ("GET", "/i/_search", json!({"sort": [{"n": "up"}]}), 400, "illegal_argument_exception"),
        ("GET", "/i/_search", json!({"aggs": {"a": {"median": {"field": "n"}}}}), 400, "parsing_exception"),
        ("GET", "/i/_search", json!({"aggs": {"a": {"sum": {"field": "t"}}}}), 400, "illegal_argument_exception"),
        ("GET", "/i/_search", json!({"aggs": {"a": {"terms": {"field": "x"}}}}), 400, "illegal_argument_exception"),
        (
            "GET",
            "/i/_search",
            json!({"aggs": {"a": {"terms": {"field": "t", "size": 0}}}}),
            400,
            "illegal_argument_exception",
        ),
        (
            "GET",
            "/i/_search",
            json!({"aggs": {"a": {"terms": {"field": "t", "order": {"b": "asc"}}}}}),
            400,
            "illegal_argument_exception",
        ),
        (
            "GET",
            "/i/_search",
            json!({"aggs": {"a": {"date_histogram": {"field": "n", "fixed_interval": "1M"}}}}),
            400,
            "illegal_argument_exception",
        ),
        ("POST", "/i/_pit", Json::Null, 400, "action_request_validation_exception"),
        ("POST", "/i/_pit?keep_alive=2d", Json::Null, 400, "illegal_argument_exception"),
        ("POST", "/_search", json!({"pit": {"id": "none"}}), 404, "search_context_missing_exception"),
        (
            "POST",
            "/_aliases",
            json!({"actions": [{"add": {"index": "i", "alias": "i"}}]}),
            400,
            "invalid_alias_name_exception",
        ),
        ("DELETE", "/*", Json::Null, 400, "illegal_argument_exception"),
    ]);
}

#[test]
fn a_body_that_is_no_json_and_a_wrong_method_are_told_so() {
    let server = Server::with(json!({"n": {"type": "long"}}));
    let (status, text) = server.text("GET", "/i/_search", b"{\"query\":");
    assert_eq!((status, String::from_utf8_lossy(&text).contains("x_content_parse_exception")), (400, true));
    assert_eq!(server.call("DELETE", "/i/_search", &Json::Null).0, 405);
    assert_eq!(server.call("PATCH", "/i", &Json::Null).0, 405);
    assert_eq!(server.get("/_nodes/stats").0, 400);
}

#[test]
fn a_query_text_of_many_levels_is_refused_and_read_by_no_recursion() {
    let server = Server::with(json!({"n": {"type": "long"}}));
    for text in ["(".repeat(9_000), "NOT ".repeat(2_400), "+(-".repeat(3_000), "n:(".repeat(3_000), "x".repeat(10_001)]
    {
        let body = json!({"query": {"query_string": {"query": text}}});
        assert_eq!(server.call("POST", "/i/_search", &body).0, 400);
    }
    let mut query = json!({"match_all": {}});
    for _ in 0..60 {
        query = json!({"bool": {"must": query}});
    }
    assert_eq!(server.call("POST", "/i/_search", &json!({"query": query})).0, 200);
}

/// The words that requests are made of.
fn word() -> impl Strategy<Value = String> {
    let words = "query bool must should must_not filter term terms range match exists ids prefix wildcard regexp query_string \
        n t d f b x _id field value gte lt boost aggs sum avg min max stats cardinality value_count date_histogram histogram \
        filters missing ranges from to interval calendar_interval fixed_interval month 1d size order _count _key asc desc sort \
        _shard_doc _doc search_after pit id keep_alive 1m slice track_total_hits _source includes excludes version now-1d/d \
        index create delete _index i j version_type external_gte external if_seq_no if_primary_term mappings properties type \
        keyword long double date settings aliases actions add remove alias * ? [1 AND OR NOT ( n:[1 TO 2} n:>3 \\ 2024-02-30";
    let words: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
    prop_oneof![9 => prop::sample::select(words), 1 => ".{0,6}"]
}

fn body() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        3 => word().prop_map(Json::from),
        1 => any::<i64>().prop_map(Json::from),
        2 => (-3..20_i64).prop_map(Json::from),
        1 => any::<f64>().prop_map(|number| json!(number)),
        1 => any::<bool>().prop_map(Json::from),
        1 => Just(Json::Null),
    ];
    leaf.prop_recursive(6, 40, 5, |inner| {
        prop_oneof![
            1 => prop::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
            4 => prop::collection::hash_map(word(), inner, 0..4).prop_map(|fields| Json::Object(fields.into_iter().collect())),
        ]
    })
}

/// A body that is nearly a search, so that the random parts are reached.
fn search() -> impl Strategy<Value = Json> {
    const KINDS: [&str; 9] =
        ["terms", "sum", "cardinality", "date_histogram", "histogram", "range", "filters", "stats", "missing"];
    let aggregation =
        (prop::sample::select(&KINDS[..]), prop::sample::select(&["n", "t", "d", "f", "b", "x"][..]), body());
    (body(), aggregation, body(), body()).prop_map(|(query, (kind, field, options), sort, other)| {
        let mut options = if options.is_object() { options } else { json!({}) };
        options["field"] = json!(field);
        json!({"query": {"bool": {"must": query}}, "aggs": {"a": {kind: options}}, "sort": sort, "size": other})
    })
}

fn filled() -> Server {
    let server = Server::with(json!({
        "n": {"type": "long"}, "t": {"type": "keyword"}, "d": {"type": "date"}, "f": {"type": "double"},
        "b": {"type": "boolean"}, "x": {"type": "text"},
    }));
    let document =
        |n: i64| json!({"n": [n, i64::MAX - n], "t": "a", "d": i64::MIN, "f": -0.0, "b": n == 0, "x": "a b"});
    server.fill(&(0..3).map(|n| (n.to_string(), document(n))).collect::<Vec<_>>());
    server
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn no_request_panics_or_breaks_the_server(
        requests in prop::collection::vec(
            (prop::sample::select(&["GET", "POST", "PUT", "DELETE", "HEAD"][..]), prop::collection::vec(word(), 0..4), body(), search()), 1..6,
        ),
        text in ".{0,200}",
        bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let server = filled();
        let paths = ["/i/_search", "/i/_count", "/_search", "/_aliases", "/i/_settings", "/j", "/i/_doc/1", "/_pit", "/i/_pit"];
        for (method, words, body, search) in &requests {
            let path = format!("/{}?{}", words.join("/"), words.join("="));
            let (body, search) = (body.to_string(), search.to_string());
            for body in [body.as_bytes(), search.as_bytes(), text.as_bytes(), &bytes] {
                prop_assert_ne!(server.text(method, &path, body).0 / 100, 5, "{} {}", method, path);
                for path in paths {
                    prop_assert_ne!(server.text("POST", path, body).0 / 100, 5, "{} {}", path, String::from_utf8_lossy(body));
                    prop_assert_ne!(server.text("PUT", path, body).0 / 100, 5, "{} {}", path, String::from_utf8_lossy(body));
                }
            }
            let lines = format!("{{\"index\":{body}}}\n{search}\n{{\"delete\":{body}}}\n{text}\n");
            prop_assert_ne!(server.text("POST", "/i/_bulk", lines.as_bytes()).0 / 100, 5, "{}", lines);
            prop_assert_ne!(server.text("POST", "/i/_bulk", &bytes).0 / 100, 5);
        }
        prop_assert_ne!(server.text("GET", "/i/_search?q=n:1", text.as_bytes()).0 / 100, 5);
        let typed = format!("/i/_search?q={}", text.replace(['&', '#'], ""));
        prop_assert_ne!(server.text("GET", &typed, b"").0 / 100, 5, "{}", typed);
        // It may have been deleted; what is there still works.
        let (status, _) = server.text("GET", "/_search", b"");
        prop_assert_eq!(status, 200);
    }
}
