//! The embedded index without its sockets: requests in, answers out, over a folder that is opened again.

mod writes;
mod searches;
mod refusals;

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::{Value as Json, json};
use tempfile::TempDir;

use super::answer::Answer;
use super::node::Node;
use super::request::Request;

/// A server on a folder of its own.
pub(in crate::embedded) struct Server {
    folder: TempDir,
    node: Node,
}

impl Server {
    pub(in crate::embedded) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let node = Node::open(folder.path()).unwrap();
        Self { folder, node }
    }

    /// With an index `i` of this mapping.
    pub(in crate::embedded) fn with(properties: Json) -> Self {
        let server = Self::new();
        let body = json!({"mappings": {"dynamic": "strict", "properties": properties}});
        assert_eq!(server.call("PUT", "/i", &body).0, 200);
        server
    }

    /// The same data in a server that was stopped and started.
    fn restarted(self) -> Self {
        let Self { folder, node } = self;
        node.settle();
        drop(node);
        let node = Node::open(folder.path()).unwrap();
        Self { folder, node }
    }

    /// What a server finds that starts on this one's disk as it is now: as after `kill -9`. Merges go on behind, so a copy
    /// counts only where nothing was written meanwhile.
    fn killed(&self) -> Self {
        loop {
            let folder = tempfile::tempdir().unwrap();
            let before = files(self.folder.path());
            let copied = copy(self.folder.path(), folder.path()).is_ok();
            if copied && before.is_ok() && before.ok() == files(self.folder.path()).ok() {
                let node = Node::open(folder.path()).unwrap();
                return Self { folder, node };
            }
        }
    }

    pub(in crate::embedded) fn text(&self, method: &str, path: &str, body: &[u8]) -> (u16, Vec<u8>) {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let answer = self.node.answer(&Request { method, path, query, body });
        let status = answer.status();
        let text = match answer {
            Answer::Json(_, json) => json.to_string().into_bytes(),
            Answer::RawJson(text) => text,
            Answer::Text(text) => text.into_bytes(),
        };
        (status, text)
    }

    pub(in crate::embedded) fn call(&self, method: &str, path: &str, body: &Json) -> (u16, Json) {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let (status, text) = self.text(method, path, body.as_bytes());
        (status, serde_json::from_slice(&text).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&text))))
    }

    pub(in crate::embedded) fn get(&self, path: &str) -> (u16, Json) {
        self.call("GET", path, &Json::Null)
    }

    /// Sends lines as one bulk; the status of each item.
    pub(in crate::embedded) fn bulk(&self, lines: &[Json]) -> Vec<u16> {
        let body: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let (status, text) = self.text("POST", "/i/_bulk", body.as_bytes());
        let answer: Json = serde_json::from_slice(&text).unwrap();
        assert_eq!(status, 200, "{answer}");
        let items = answer["items"].as_array().unwrap();
        items
            .iter()
            .map(|item| item.as_object().unwrap().values().next().unwrap()["status"].as_u64().unwrap() as u16)
            .collect()
    }

    /// Indexes documents by id.
    pub(in crate::embedded) fn fill(&self, documents: &[(String, Json)]) {
        let lines = documents.iter().flat_map(|(id, document)| [json!({"index": {"_id": id}}), document.clone()]);
        let statuses = self.bulk(&lines.collect::<Vec<_>>());
        assert!(statuses.iter().all(|status| *status < 300), "{statuses:?}");
    }

    /// The ids of the hits of a search.
    pub(in crate::embedded) fn ids(&self, body: &Json) -> Vec<String> {
        let (status, answer) = self.call("POST", "/i/_search", body);
        assert_eq!(status, 200, "{body} gave {answer}");
        ids(&answer)
    }
}

pub(in crate::embedded) fn ids(answer: &Json) -> Vec<String> {
    let hits = answer["hits"]["hits"].as_array().unwrap();
    hits.iter().map(|hit| hit["_id"].as_str().unwrap().to_owned()).collect()
}

/// Every file below a folder, with its size and time.
fn files(below: &Path) -> std::io::Result<Vec<(PathBuf, u64, SystemTime)>> {
    let (mut found, mut open) = (Vec::new(), vec![below.to_owned()]);
    while let Some(path) = open.pop() {
        for entry in std::fs::read_dir(path)? {
            let entry = entry?;
            let (path, metadata) = (entry.path(), entry.metadata()?);
            if metadata.is_dir() { open.push(path) } else { found.push((path, metadata.len(), metadata.modified()?)) }
        }
    }
    found.sort();
    Ok(found)
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    for (path, ..) in files(from)? {
        let target = to.join(path.strip_prefix(from).unwrap());
        std::fs::create_dir_all(target.parent().unwrap())?;
        std::fs::copy(path, target)?;
    }
    Ok(())
}

/// An `index` action with an external version.
fn index(id: &str, version: u64) -> Json {
    json!({"index": {"_id": id, "version": version, "version_type": "external_gte"}})
}

/// A `delete` action with an external version.
fn delete(id: &str, version: u64) -> Json {
    json!({"delete": {"_id": id, "version": version, "version_type": "external_gte"}})
}
