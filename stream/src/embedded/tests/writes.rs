//! What was answered stays: versions, deletes, guards, restarts, crashes.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::{Server, delete, index};
use crate::embedded::catalog::Catalog;

#[test]
fn an_older_version_never_wins_not_even_after_a_delete_and_a_restart() {
    let server = Server::with(json!({"n": {"type": "long"}}));
    let one = json!({"n": 1});
    let lines = [
        index("a", 5),
        one.clone(),
        index("a", 4),
        one.clone(),
        index("a", 5),
        one.clone(),
        index("b", 7),
        one.clone(),
        delete("b", 9),
        index("b", 8),
        one.clone(),
        delete("c", 3),
    ];
    assert_eq!(server.bulk(&lines), [201, 409, 200, 201, 200, 409, 404]);
    let late = [index("a", 4), one.clone(), index("b", 8), one.clone(), delete("a", 4), index("c", 2), one.clone()];
    assert_eq!(server.bulk(&late), [409, 409, 409, 409], "before a commit");
    server.get("/i/_search");
    assert_eq!(server.bulk(&late), [409, 409, 409, 409], "after it");
    assert_eq!(server.killed().bulk(&late), [409, 409, 409, 409], "after a kill");
    let server = server.restarted();
    assert_eq!(server.bulk(&late), [409, 409, 409, 409], "after a restart");
    assert_eq!(server.bulk(&[index("b", 9), one]), [201]);
}

#[test]
fn a_deleted_version_is_forgotten_when_gc_deletes_has_passed() {
    let server = Server::new();
    let body =
        json!({"settings": {"index": {"gc_deletes": "0s"}}, "mappings": {"properties": {"n": {"type": "long"}}}});
    server.call("PUT", "/i", &body);
    assert_eq!(server.bulk(&[index("a", 5), json!({"n": 1}), delete("a", 9)]), [201, 200]);
    // Older than nothing is only what is of an earlier millisecond. The first commit forgets it.
    std::thread::sleep(std::time::Duration::from_millis(2));
    assert_eq!(server.get("/i/_count").1["count"], json!(0));
    assert_eq!(server.bulk(&[index("a", 1), json!({"n": 1})]), [201]);
}

#[test]
fn deletes_are_forgotten_at_once_when_none_are_to_be_kept_and_remembered_again_afterwards() {
    let server = Server::with(json!({"n": {"type": "long"}}));
    let one = json!({"n": 1});
    assert_eq!(server.bulk(&[index("a", 5), one.clone(), delete("a", 9), delete("b", 9)]), [201, 200, 404]);
    assert_eq!(server.bulk(&[index("a", 8), one.clone()]), [409]);
    for keep in ["0s", "1h"] {
        assert_eq!(server.call("PUT", "/i/_settings", &json!({"index": {"gc_deletes": keep}})).0, 200);
    }
    assert_eq!(server.bulk(&[index("a", 8), one.clone(), delete("a", 9), index("a", 8), one.clone()]), [201, 200, 409]);
    assert_eq!(server.bulk(&[index("b", 1), one]), [201]);
}

#[test]
fn what_is_written_is_there_for_the_next_search_and_the_next_get() {
    let server = Server::with(json!({"n": {"type": "long"}}));
    for n in 0..20 {
        let path = format!("/i/_doc/{n}%2Fx");
        let (status, answer) = server.call("PUT", &path, &json!({"n": n}));
        assert_eq!((status, &answer["_id"], &answer["result"]), (201, &json!(format!("{n}/x")), &json!("created")));
        assert_eq!(server.get("/i/_count").1["count"], json!(n + 1));
        assert_eq!(server.get(&path).1["_source"], json!({"n": n}));
    }
    assert_eq!(server.call("DELETE", "/i/_doc/3%2Fx", &Json::Null).1["result"], json!("deleted"));
    assert_eq!(server.get("/i/_doc/3%2Fx").0, 404);
    assert_eq!(server.get("/i/_search?size=0").1["hits"]["total"], json!({"value": 19, "relation": "eq"}));
}

#[test]
fn a_write_with_if_seq_no_is_done_only_over_what_was_seen() {
    let server = Server::with(json!({"n": {"type": "long"}}));
    server.bulk(&[index("a", 5), json!({"n": 1})]);
    let seen = server.get("/i/_doc/a").1;
    let guarded = |seq_no: &Json| json!({"delete": {"_id": "a", "if_seq_no": seq_no, "if_primary_term": 1}});
    assert_eq!(server.bulk(&[index("a", 6), json!({"n": 2}), guarded(&seen["_seq_no"])]), [200, 409]);
    let seen = server.get("/i/_doc/a").1;
    assert_eq!(server.bulk(&[guarded(&seen["_seq_no"]), guarded(&seen["_seq_no"])]), [200, 409]);
    assert_eq!(server.call("PUT", "/i/_create/a", &json!({"n": 3})).0, 201);
    let (status, answer) = server.call("PUT", "/i/_create/a", &json!({"n": 4}));
    assert_eq!((status, &answer["error"]["type"]), (409, &json!("version_conflict_engine_exception")));
}

#[test]
fn one_bad_document_of_a_bulk_is_refused_and_the_others_are_written() {
    let server = Server::with(json!({"n": {"type": "byte"}, "at": {"type": "date"}}));
    let lines = [
        index("a", 1),
        json!({"n": 300}),
        index("b", 1),
        json!({"n": 7}),
        index("c", 1),
        json!({"other": 1}),
        index("d", 1),
        json!({"at": "yesterday"}),
        index("e", 1),
        json!([1]),
        json!({"index": {"_index": "none", "_id": "f"}}),
        json!({}),
    ];
    let body: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let answer: Json = serde_json::from_slice(&server.text("POST", "/i/_bulk", body.as_bytes()).1).unwrap();
    let seen: Vec<String> = answer["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| format!("{} {}", item["index"]["status"], item["index"]["error"]["type"]))
        .collect();
    assert_eq!(
        seen,
        [
            r#"400 "document_parsing_exception""#,
            "201 null",
            r#"400 "strict_dynamic_mapping_exception""#,
            r#"400 "document_parsing_exception""#,
            r#"400 "document_parsing_exception""#,
            r#"404 "index_not_found_exception""#,
        ]
    );
    assert_eq!(answer["errors"], json!(true));
    assert_eq!(
        answer["items"][0]["index"]["error"]["caused_by"],
        json!({"type": "illegal_argument_exception", "reason": "Value [300] is out of range for a byte"})
    );
    assert_eq!(server.ids(&json!({})), ["b"]);
}

#[test]
fn aliases_change_all_at_once_and_lead_searches_and_writes() {
    let server = Server::with(json!({"n": {"type": "long"}}));
    server.call("PUT", "/j", &json!({"mappings": {"properties": {"n": {"type": "long"}}}}));
    let add = |index: &str| json!({"add": {"index": index, "alias": "shop"}});
    let remove = |index: &str| json!({"remove": {"index": index, "alias": "shop"}});
    assert_eq!(server.call("POST", "/_aliases", &json!({"actions": [add("i")]})).0, 200);
    assert_eq!(server.call("PUT", "/shop/_doc/1", &json!({"n": 1})).1["_index"], json!("i"));
    assert_eq!(server.get("/shop/_count").1["count"], json!(1));
    let wrong = json!({"actions": [remove("i"), add("none")]});
    assert_eq!(server.call("POST", "/_aliases", &wrong).0, 404);
    assert_eq!(server.get("/shop/_count").1["count"], json!(1), "nothing of it was done");
    assert_eq!(server.call("POST", "/_aliases", &json!({"actions": [remove("i"), add("j")]})).0, 200);
    let server = server.restarted();
    assert_eq!(server.get("/_alias/shop").1, json!({"j": {"aliases": {"shop": {}}}}));
    assert_eq!(server.get("/shop/_count").1["count"], json!(0));
    assert_eq!(server.call("DELETE", "/shop", &Json::Null).0, 400, "an alias is no index");
    assert_eq!(server.call("DELETE", "/i", &Json::Null).0, 200);
    assert_eq!(server.get("/i/_count").0, 404);
    assert_eq!(server.restarted().get("/i/_count").0, 404);
}

#[test]
fn writes_and_searches_at_the_same_time_lose_nothing() {
    let server = Server::with(json!({"n": {"type": "long"}}));
    std::thread::scope(|scope| {
        for writer in 0..3 {
            let server = &server;
            scope.spawn(move || {
                for n in 0..40 {
                    let id = format!("{writer}-{n}");
                    assert_eq!(server.bulk(&[index(&id, 1), json!({"n": n})]), [201]);
                    assert_eq!(server.ids(&json!({"query": {"ids": {"values": [id]}}})).join(" "), id);
                }
            });
        }
    });
    assert_eq!(server.get("/i/_count").1["count"], json!(120));
    assert_eq!(server.killed().get("/i/_count").1["count"], json!(120));
}

#[test]
fn a_folder_of_the_first_format_is_refused_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("index.log"), b"x").unwrap();
    let said = Catalog::open(folder.path()).err().unwrap().to_string();
    assert!(said.contains("is of an older version; delete the folder"), "{said}");
}

/// What a write of the random histories does.
#[derive(Clone, Debug)]
enum Step {
    Put(u8, u64),
    Delete(u8, u64),
    Search,
    Kill,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let id = 0..8_u8;
    prop_oneof![
        8 => (id.clone(), 0..9_u64).prop_map(|(id, version)| Step::Put(id, version)),
        4 => (id, 0..9_u64).prop_map(|(id, version)| Step::Delete(id, version)),
        3 => Just(Step::Search),
        1 => Just(Step::Kill),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_history_of_writes_kills_and_restarts_ends_as_the_rules_say(steps in prop::collection::vec(step(), 1..30)) {
        let mut server = Server::with(json!({"n": {"type": "long"}}));
        // By id: the last version, and the document if there is one.
        let mut model: BTreeMap<String, (u64, Option<usize>)> = BTreeMap::new();
        for (number, step) in steps.iter().enumerate() {
            let (id, version, document) = match step {
                Step::Search => {
                    server.get("/i/_search");
                    continue;
                }
                Step::Kill => {
                    server = server.killed();
                    continue;
                }
                Step::Restart => {
                    server = server.restarted();
                    continue;
                }
                Step::Put(id, version) => (id.to_string(), *version, Some(number)),
                Step::Delete(id, version) => (id.to_string(), *version, None),
            };
            let before = model.get(&id).copied();
            let wins = before.is_none_or(|(known, _)| version >= known);
            let lived = before.is_some_and(|(_, document)| document.is_some());
            let expected = match (wins, lived, document) {
                (false, ..) => 409,
                (true, false, Some(_)) => 201,
                (true, false, None) => 404,
                (true, true, _) => 200,
            };
            let lines = match document {
                Some(n) => vec![index(&id, version), json!({"n": n})],
                None => vec![delete(&id, version)],
            };
            prop_assert_eq!(server.bulk(&lines), [expected]);
            if wins {
                model.insert(id, (version, document));
            }
        }
        let server = server.killed();
        let answer = server.call("POST", "/i/_search", &json!({"version": true, "size": 100})).1;
        let mut found: Vec<(String, u64, Json)> = answer["hits"]["hits"].as_array().unwrap().iter()
            .map(|hit| (hit["_id"].as_str().unwrap().to_owned(), hit["_version"].as_u64().unwrap(), hit["_source"]["n"].clone()))
            .collect();
        found.sort_by(|a, b| a.0.cmp(&b.0));
        let expected: Vec<(String, u64, Json)> =
            model.into_iter().filter_map(|(id, (version, n))| Some((id, version, json!(n?)))).collect();
        prop_assert_eq!(found, expected);
    }
}
