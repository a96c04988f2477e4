//! The verdict table: what the answer to a bulk means for each of its operations. Pure.
//!
//! Answers are matched by position over the full `items` array. An answer that is short, torn or of another shape
//! means that nothing is known, so everything is sent again: versions make that harmless.
//!
//! | status of an item | index | delete | guarded delete |
//! |---|---|---|---|
//! | 2xx | done | done | done |
//! | 409 | superseded: the index holds a newer version | superseded | moved: judge it again |
//! | 404 | rejected | done: it is not there | done |
//! | 404 `index_not_found_exception` | stop | stop | stop |
//! | 401, 403 | stop | stop | stop |
//! | 408, 429, 5xx | retry | retry | retry |
//! | other | rejected | rejected | rejected |
//!
//! | status of the whole answer | |
//! |---|---|
//! | 2xx | by item |
//! | 413 | split |
//! | 408, 429, 5xx | retry all |
//! | 401, 403, other | stop |
//!
//! A 400 for a whole body stops: bodies are well formed and ids are checked before, so it is no single document's
//! fault, and two thousand good documents must not end as dead letters.

use serde::Deserialize;
use serde_json::Value as Json;

use super::bulk::{Action, Operation};

/// What an operation's answer means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The index holds the operation's effect, or a newer one.
    Done(Effect),
    /// The document is no longer as the guard saw it; nothing was written.
    Moved,
    /// Send it again.
    Retry {
        /// What the server said.
        reason: String,
    },
    /// The server will never take it: a dead letter.
    Rejected {
        /// What the server said.
        reason: String,
    },
    /// Nothing more can be written until someone acts.
    Stop {
        /// What the server said, and what to do.
        reason: String,
    },
}

/// What an operation did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The document is in the index at this version.
    Indexed,
    /// The document is not in the index.
    Deleted,
    /// The index already held a newer version.
    Superseded,
}

/// What the answer to a whole body means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BulkVerdict {
    /// One verdict an operation, by position.
    Items(Vec<Verdict>),
    /// Nothing is known of any operation: send all of them again.
    RetryAll {
        /// Why.
        reason: String,
    },
    /// The body is too large for the server: send each half.
    Split,
    /// Nothing more can be written until someone acts.
    Stop {
        /// What the server said, and what to do.
        reason: String,
    },
}

#[derive(Deserialize)]
struct BulkAnswer {
    items: Vec<ItemAnswer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum ItemAnswer {
    Index(Outcome),
    Delete(Outcome),
}

#[derive(Deserialize)]
struct Outcome {
    status: u16,
    #[serde(default)]
    error: Json,
}

/// The verdict over a body of `operations` that was answered with this status and text.
#[must_use]
pub fn of_answer(operations: &[Operation], status: u16, body: &[u8]) -> BulkVerdict {
    match status {
        200..=299 => of_items(operations, body),
        413 => BulkVerdict::Split,
        status if is_passing(status) => BulkVerdict::RetryAll { reason: sentence(status, &error_of(body)) },
        401 | 403 => BulkVerdict::Stop { reason: not_allowed(status, &error_of(body)) },
        status => BulkVerdict::Stop { reason: sentence(status, &error_of(body)) },
    }
}

fn of_items(operations: &[Operation], body: &[u8]) -> BulkVerdict {
    let answer: BulkAnswer = match serde_json::from_slice(body) {
        Ok(answer) => answer,
        Err(error) => return BulkVerdict::RetryAll { reason: format!("the answer to a bulk cannot be read: {error}") },
    };
    if answer.items.len() != operations.len() {
        let (found, expected) = (answer.items.len(), operations.len());
        return BulkVerdict::RetryAll { reason: format!("the answer to a bulk has {found} items, not {expected}") };
    }
    let verdicts: Option<Vec<Verdict>> =
        operations.iter().zip(&answer.items).map(|(o, item)| of_matching(&o.action, item)).collect();
    match verdicts {
        Some(verdicts) => BulkVerdict::Items(verdicts),
        None => BulkVerdict::RetryAll { reason: "the answer to a bulk names other actions than were sent".into() },
    }
}

/// `None` where the item answers another kind of action.
fn of_matching(action: &Action, item: &ItemAnswer) -> Option<Verdict> {
    match (action, item) {
        (Action::Index(_), ItemAnswer::Index(outcome))
        | (Action::Delete | Action::DeleteIf { .. }, ItemAnswer::Delete(outcome)) => {
            Some(of_item(action, outcome.status, &outcome.error))
        }
        _ => None,
    }
}

/// The table: the verdict over one item with this status and `error` (null where there is none).
#[must_use]
pub fn of_item(action: &Action, status: u16, error: &Json) -> Verdict {
    let reason = || sentence(status, error);
    match (status, action) {
        (200..=299, Action::Index(_)) => Verdict::Done(Effect::Indexed),
        (200..=299, Action::Delete | Action::DeleteIf { .. }) => Verdict::Done(Effect::Deleted),
        (409, Action::DeleteIf { .. }) => Verdict::Moved,
        (409, Action::Index(_) | Action::Delete) => Verdict::Done(Effect::Superseded),
        (404, _) if error["type"] == "index_not_found_exception" => {
            Verdict::Stop { reason: format!("{}; start again, which creates the index", reason()) }
        }
        (404, Action::Delete | Action::DeleteIf { .. }) => Verdict::Done(Effect::Deleted),
        (401 | 403, _) => Verdict::Stop { reason: not_allowed(status, error) },
        (status, _) if is_passing(status) => Verdict::Retry { reason: reason() },
        _ => Verdict::Rejected { reason: reason() },
    }
}

/// True for a status that says "not now".
#[must_use]
pub fn is_passing(status: u16) -> bool {
    matches!(status, 408 | 429 | 500..=599)
}

fn not_allowed(status: u16, error: &Json) -> String {
    let what_to_do = match status {
        401 => "check 'username' and 'password' of the sink",
        _ => "give the user the privileges create_index, index, delete and read on the index, or lift its write block",
    };
    format!("{}; {what_to_do}", sentence(status, error))
}

fn sentence(status: u16, error: &Json) -> String {
    match explain(error) {
        text if text.is_empty() => format!("status {status}"),
        text => format!("status {status}, {text}"),
    }
}

/// The `error` of an answer's body; the text itself where it is no JSON (a proxy's page), cut to a readable length.
#[must_use]
pub fn error_of(body: &[u8]) -> Json {
    const READABLE_CHARS: usize = 300;
    match serde_json::from_slice::<Json>(body) {
        Ok(json) => json.get("error").cloned().unwrap_or(Json::Null),
        Err(_) => Json::String(String::from_utf8_lossy(body).chars().take(READABLE_CHARS).collect()),
    }
}

/// `type: reason`, followed by what it was caused by.
#[must_use]
pub fn explain(error: &Json) -> String {
    let Json::Object(fields) = error else {
        return error.as_str().unwrap_or_default().trim().to_string();
    };
    let text = |name: &str| fields.get(name).and_then(Json::as_str);
    let mut sentence = match (text("type"), text("reason")) {
        (Some(kind), Some(reason)) => format!("{kind}: {reason}"),
        (kind, reason) => kind.or(reason).unwrap_or("no reason given").to_string(),
    };
    if let Some(cause) = fields.get("caused_by").map(explain).filter(|c| !c.is_empty()) {
        sentence.push_str(", caused by ");
        sentence.push_str(&cause);
    }
    sentence
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;
    use crate::coordinates::Version;
    use crate::identity::DocumentId;

    const INDEX: Action = Action::Index(Vec::new());
    const GUARDED: Action = Action::DeleteIf { seq_no: 1, primary_term: 1 };

    fn word(verdict: &Verdict) -> String {
        match verdict {
            Verdict::Done(effect) => format!("{effect:?}").to_lowercase(),
            Verdict::Moved => "moved".into(),
            Verdict::Retry { .. } => "retry".into(),
            Verdict::Rejected { .. } => "rejected".into(),
            Verdict::Stop { .. } => "stop".into(),
        }
    }

    /// Runs of statuses with one verdict each.
    fn table(row: impl Fn(u16) -> String) -> String {
        let mut runs: Vec<(u16, u16, String)> = Vec::new();
        for status in 100..=599 {
            let row = row(status);
            match runs.last_mut() {
                Some((_, last, same)) if *same == row => *last = status,
                _ => runs.push((status, status, row)),
            }
        }
        runs.into_iter().map(|(from, to, row)| format!("{from}-{to} {row}\n")).collect()
    }

    #[test]
    fn every_status_of_an_item_has_its_verdict() {
        let row = |status| {
            [&INDEX, &Action::Delete, &GUARDED].map(|action| word(&of_item(action, status, &Json::Null))).join(" ")
        };
        expect![[r#"
            100-199 rejected rejected rejected
            200-299 indexed deleted deleted
            300-400 rejected rejected rejected
            401-401 stop stop stop
            402-402 rejected rejected rejected
            403-403 stop stop stop
            404-404 rejected deleted deleted
            405-407 rejected rejected rejected
            408-408 retry retry retry
            409-409 superseded superseded moved
            410-428 rejected rejected rejected
            429-429 retry retry retry
            430-499 rejected rejected rejected
            500-599 retry retry retry
        "#]]
        .assert_eq(&table(row));
    }

    #[test]
    fn every_status_of_a_whole_answer_has_its_verdict() {
        let row = |status| match of_answer(&[], status, br#"{"items":[]}"#) {
            BulkVerdict::Items(_) => "items".to_string(),
            BulkVerdict::RetryAll { .. } => "retry all".into(),
            BulkVerdict::Split => "split".into(),
            BulkVerdict::Stop { .. } => "stop".into(),
        };
        expect![[r#"
            100-199 stop
            200-299 items
            300-407 stop
            408-408 retry all
            409-412 stop
            413-413 split
            414-428 stop
            429-429 retry all
            430-499 stop
            500-599 retry all
        "#]]
        .assert_eq(&table(row));
    }

    #[test]
    fn a_missing_index_stops_even_a_delete() {
        let error = json!({"type": "index_not_found_exception", "reason": "no such index [i]"});
        for action in [&INDEX, &Action::Delete, &GUARDED] {
            assert_eq!(word(&of_item(action, 404, &error)), "stop");
        }
    }

    #[test]
    fn a_rejection_says_what_elasticsearch_said() {
        let error = json!({"type": "document_parsing_exception", "reason": "failed to parse field [n] of type [long]",
            "caused_by": {"type": "illegal_argument_exception", "reason": "For input string: \"x\""}});
        let Verdict::Rejected { reason } = of_item(&INDEX, 400, &error) else { panic!("400 is a rejection") };
        expect![[r#"status 400, document_parsing_exception: failed to parse field [n] of type [long], caused by illegal_argument_exception: For input string: "x""#]].assert_eq(&reason);
    }

    fn operation(action: Action) -> Operation {
        Operation { id: DocumentId("1".into()), version: Version(1), action }
    }

    #[test]
    fn an_answer_that_is_short_torn_or_of_other_actions_is_sent_again() {
        let operations = [operation(INDEX), operation(Action::Delete)];
        let index = r#"{"index":{"status":201}}"#;
        for items in [
            format!(r#"{{"items":[{index}]}}"#),
            format!(r#"{{"items":[{index},"#),
            format!(r#"{{"items":[{index},{index}]}}"#),
            "{}".into(),
        ] {
            let verdict = of_answer(&operations, 200, items.as_bytes());
            assert!(matches!(verdict, BulkVerdict::RetryAll { .. }), "{items} gave {verdict:?}");
        }
    }

    #[test]
    fn a_page_of_a_proxy_is_quoted() {
        let BulkVerdict::RetryAll { reason } = of_answer(&[], 502, b"<h1>Bad Gateway</h1>") else {
            panic!("502 is retried")
        };
        assert_eq!(reason, "status 502, <h1>Bad Gateway</h1>");
    }

    proptest::proptest! {
        #[test]
        fn verdicts_stand_at_the_position_of_their_operations(statuses in proptest::collection::vec((0_usize..3, 100_u16..600), 0..40)) {
            let actions = [INDEX, Action::Delete, GUARDED];
            let operations: Vec<Operation> = statuses.iter().map(|(a, _)| operation(actions[*a].clone())).collect();
            let items: Vec<Json> = statuses.iter().map(|(a, s)| json!({if *a == 0 { "index" } else { "delete" }: {"status": s}})).collect();
            let answer = json!({"took": 1, "errors": true, "items": items}).to_string();
            let expected = statuses.iter().map(|(a, s)| of_item(&actions[*a], *s, &Json::Null)).collect();
            proptest::prop_assert_eq!(of_answer(&operations, 200, answer.as_bytes()), BulkVerdict::Items(expected));
        }

        #[test]
        fn any_answer_has_a_verdict_for_each_operation_or_one_for_all(
            status in 100_u16..600, body in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200), count in 0_usize..5,
            shape in proptest::sample::select(vec!["", "{\"items\":[", "{\"items\":[{\"index\":{\"status\":200}}]", "{\"error\":", "null", "[]", "{\"items\":{}}"]),
        ) {
            let operations = vec![operation(INDEX); count];
            let body = [shape.as_bytes(), &body].concat();
            match of_answer(&operations, status, &body) {
                BulkVerdict::Items(verdicts) => proptest::prop_assert_eq!(verdicts.len(), count),
                BulkVerdict::RetryAll { reason } | BulkVerdict::Stop { reason } => proptest::prop_assert!(!reason.is_empty()),
                BulkVerdict::Split => proptest::prop_assert_eq!(status, 413),
            }
        }
    }
}
