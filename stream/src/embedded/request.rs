//! A request, as far as answers depend on it.

use serde_json::{Value as Json, json};

use super::answer::Refusal;

/// A request.
#[derive(Debug)]
pub(super) struct Request<'a> {
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    pub(super) query: &'a str,
    pub(super) body: &'a [u8],
}

impl Request<'_> {
    /// The parts of the path, each decoded on its own: a `/` of an `_id` is written `%2F`.
    pub(super) fn parts(&self) -> Vec<String> {
        self.path.split('/').filter(|part| !part.is_empty()).map(decoded).collect()
    }

    /// Whether a flag is set: `?pretty`, `?pretty=true`.
    pub(super) fn has(&self, name: &str) -> bool {
        self.value(name).is_some_and(|value| value.is_empty() || value == "true")
    }

    /// The value of a parameter; empty where it stands without one.
    pub(super) fn value(&self, name: &str) -> Option<String> {
        let pair = |pair: &str| {
            pair.split_once('=')
                .map_or((pair.to_owned(), String::new()), |(n, v)| (n.to_owned(), decoded(&v.replace('+', " "))))
        };
        self.query.split('&').map(pair).find(|(found, _)| found == name).map(|(_, value)| value)
    }

    /// A parameter that is a number.
    pub(super) fn number(&self, name: &str) -> Result<Option<u64>, Refusal> {
        let parsed = |text: String| {
            text.parse()
                .map_err(|_| Refusal::argument(format!("Failed to parse int parameter [{name}] with value [{text}]")))
        };
        self.value(name).map(parsed).transpose()
    }

    /// The body as JSON; an empty object where there is none.
    pub(super) fn json(&self) -> Result<Json, Refusal> {
        if self.body.trim_ascii().is_empty() { Ok(json!({})) } else { parsed(self.body) }
    }
}

/// JSON that must be JSON.
pub(super) fn parsed(text: &[u8]) -> Result<Json, Refusal> {
    serde_json::from_slice(text).map_err(|error| Refusal::new(400, "x_content_parse_exception", error.to_string()))
}

/// `%20` and the like.
fn decoded(text: &str) -> String {
    let (bytes, mut out, mut at) = (text.as_bytes(), Vec::new(), 0);
    while at < bytes.len() {
        let hex = (bytes[at] == b'%')
            .then(|| text.get(at + 1..at + 3))
            .flatten()
            .filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()))
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        out.push(hex.unwrap_or(bytes[at]));
        at += if hex.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The only field of an object, as name and value.
pub(super) fn only<'a>(object: &'a Json, what: &str) -> Result<(&'a str, &'a Json), Refusal> {
    let fields = object.as_object().filter(|fields| fields.len() == 1);
    match fields.and_then(|fields| fields.iter().next()) {
        Some((name, value)) => Ok((name, value)),
        None => Err(Refusal::parsing(format!("[{what}] must be an object with one field"))),
    }
}

/// One or several.
pub(super) fn list(value: &Json) -> Vec<&Json> {
    match value {
        Json::Null => Vec::new(),
        Json::Array(values) => values.iter().collect(),
        one => vec![one],
    }
}

/// A text that names one or several, with commas.
pub(super) fn names(value: &Json) -> Vec<String> {
    list(value).into_iter().filter_map(Json::as_str).flat_map(|text| text.split(',')).map(str::to_owned).collect()
}

/// Whether a pattern with `*` matches a text.
pub(super) fn wildcard(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}
