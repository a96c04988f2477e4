//! Requests about indexes: making and deleting them, mapping, settings, aliases, and the lists for people.

use serde_json::{Map, Value as Json, json};

use super::answer::{Answer, Answered, Refusal};
use super::catalog::{Alias, Catalog, Listed};
use super::node::{Node, now_ms};
use super::request::{Request, list, names, only, wildcard};

/// The columns of `_cat/indices`.
const CAT_INDICES: [&str; 10] =
    ["health", "status", "index", "uuid", "pri", "rep", "docs.count", "docs.deleted", "store.size", "pri.store.size"];
/// The columns of `_cat/aliases`.
const CAT_ALIASES: [&str; 3] = ["alias", "index", "is_write_index"];

fn acknowledged() -> Answered {
    Answer::ok(json!({"acknowledged": true}))
}

impl Node {
    pub(super) fn create_index(&self, request: &Request<'_>, name: &str) -> Answered {
        let body = request.json()?;
        let known = ["mappings", "settings", "aliases"];
        if let Some(unknown) =
            body.as_object().into_iter().flatten().map(|(n, _)| n).find(|n| !known.contains(&n.as_str()))
        {
            return Err(Refusal::new(400, "parse_exception", format!("unknown key [{unknown}] for create index")));
        }
        self.catalog_to_change().create(name, &body, now_ms())?;
        Answer::ok(json!({"acknowledged": true, "shards_acknowledged": true, "index": name}))
    }

    pub(super) fn delete_index(&self, names: &str) -> Answered {
        if names == "_all" || names.contains('*') {
            return Err(Refusal::argument("Wildcard expressions or all indices are not allowed"));
        }
        let mut catalog = self.catalog_to_change();
        for name in names.split(',') {
            if catalog.engine(name).is_err() && !catalog.resolve(name)?.is_empty() {
                return Err(Refusal::argument(format!(
                    "The provided expression [{name}] matches an alias, specify the corresponding concrete indices instead."
                )));
            }
        }
        names.split(',').try_for_each(|name| catalog.delete(name))?;
        acknowledged()
    }

    /// Something of each index that an expression names, by index.
    fn of_indexes(&self, indexes: &str, what: impl Fn(&str, &Listed) -> Option<Json>) -> Answered {
        let catalog = self.catalog();
        let names = catalog.resolve(indexes)?;
        let listed = catalog.indexes().filter(|(name, _)| names.contains(name));
        let found: Map<String, Json> = listed.filter_map(|(name, l)| Some((name.clone(), what(name, l)?))).collect();
        Answer::ok(Json::Object(found))
    }

    pub(super) fn index(&self, indexes: &str) -> Answered {
        self.of_indexes(indexes, |name, listed| {
            Some(json!({"aliases": aliases(listed, "*"), "mappings": listed.mappings, "settings": settings(name, listed)}))
        })
    }

    pub(super) fn mapping(&self, indexes: &str) -> Answered {
        self.of_indexes(indexes, |_, listed| Some(json!({"mappings": listed.mappings})))
    }

    pub(super) fn settings(&self, indexes: &str) -> Answered {
        self.of_indexes(indexes, |name, listed| Some(json!({"settings": settings(name, listed)})))
    }

    pub(super) fn set_settings(&self, request: &Request<'_>, indexes: &str) -> Answered {
        let body = request.json()?;
        if !body.is_object() {
            return Err(Refusal::parsing("settings must be an object"));
        }
        let mut catalog = self.catalog_to_change();
        for name in catalog.resolve(indexes)? {
            catalog.set_settings(&name, &body, now_ms())?;
        }
        acknowledged()
    }

    pub(super) fn aliases(&self, request: &Request<'_>, indexes: &str, names: &str) -> Answered {
        let mut catalog = match request.method {
            "PUT" | "POST" | "DELETE" => self.catalog_to_change(),
            _ => return self.list_aliases(indexes, names),
        };
        let becomes = if request.method == "DELETE" { None } else { Some(alias_of(&request.json()?)) };
        let mut changes = Vec::new();
        for index in catalog.resolve(indexes)? {
            changes.extend(names.split(',').map(|name| (index.clone(), name.to_owned(), becomes)));
        }
        catalog.set_aliases(changes, &[])?;
        acknowledged()
    }

    fn list_aliases(&self, indexes: &str, names: &str) -> Answered {
        let answer = self.of_indexes(indexes, |_, listed| {
            let found = aliases(listed, names);
            (names == "*" || !found.is_empty()).then(|| json!({"aliases": found}))
        })?;
        match &answer {
            Answer::Json(_, Json::Object(found)) if found.is_empty() && !names.contains('*') => {
                Ok(Answer::Json(404, json!({"error": format!("alias [{names}] missing"), "status": 404})))
            }
            _ => Ok(answer),
        }
    }

    /// `_aliases`: every action, or none.
    pub(super) fn alias_actions(&self, request: &Request<'_>) -> Answered {
        let body = request.json()?;
        let actions = body["actions"].as_array().ok_or_else(|| Refusal::argument("[actions] must be a list"))?;
        let mut catalog = self.catalog_to_change();
        let (mut changes, mut removed) = (Vec::new(), Vec::new());
        for action in actions {
            let (kind, options) = only(action, "alias action")?;
            let indexes = both(options, ["index", "indices"]);
            if indexes.is_empty() {
                return Err(Refusal::argument("One of [index] or [indices] is required"));
            }
            for index in indexes {
                for index in catalog.resolve(&index)? {
                    match kind {
                        "remove_index" => removed.push(index),
                        "add" | "remove" => changes.extend(alias_changes(&catalog, kind, &index, options)?),
                        other => return Err(Refusal::argument(format!("Unknown alias action [{other}]"))),
                    }
                }
            }
        }
        catalog.set_aliases(changes, &removed)?;
        acknowledged()
    }

    pub(super) fn cat_indices(&self, request: &Request<'_>, indexes: &str) -> Answered {
        let mut rows = Vec::new();
        for part in self.parts(indexes)? {
            let uid = self.catalog().indexes().find(|(name, _)| **name == part.name).map(|(_, l)| l.uid.clone());
            let (live, places) = (part.count()?, part.places());
            let size = readable_size(part.engine.size_bytes());
            rows.push(vec![
                "green".into(),
                "open".into(),
                part.name.clone(),
                uid.unwrap_or_default(),
                "1".into(),
                "0".into(),
                live.to_string(),
                (places - live).to_string(),
                size.clone(),
                size,
            ]);
        }
        table(request, &CAT_INDICES, rows)
    }

    pub(super) fn cat_aliases(&self, request: &Request<'_>) -> Answered {
        let catalog = self.catalog();
        let row = |alias: &str, index: &str, is: &Alias| {
            vec![alias.to_owned(), index.to_owned(), is.is_write_index.map_or_else(|| "-".into(), |is| is.to_string())]
        };
        let rows = catalog.indexes().flat_map(|(index, l)| l.aliases.iter().map(|(alias, is)| row(alias, index, is)));
        table(request, &CAT_ALIASES, rows.collect())
    }
}

fn both(options: &Json, either: [&str; 2]) -> Vec<String> {
    either.iter().flat_map(|name| list(&options[*name])).filter_map(Json::as_str).map(str::to_owned).collect()
}

fn alias_of(options: &Json) -> Alias {
    Alias { is_write_index: options["is_write_index"].as_bool() }
}

type Change = (String, String, Option<Alias>);

fn alias_changes(catalog: &Catalog, kind: &str, index: &str, options: &Json) -> Result<Vec<Change>, Refusal> {
    let names = both(options, ["alias", "aliases"]);
    if names.is_empty() {
        return Err(Refusal::argument("One of [alias] or [aliases] is required"));
    }
    let must_exist = options["must_exist"].as_bool() != Some(false);
    let has = |alias: &str| catalog.indexes().any(|(name, l)| name == index && l.aliases.contains_key(alias));
    let changes = names.into_iter().filter(|alias| kind == "add" || must_exist || has(alias));
    Ok(changes.map(|alias| (index.to_owned(), alias, (kind == "add").then(|| alias_of(options)))).collect())
}

fn aliases(listed: &Listed, patterns: &str) -> Map<String, Json> {
    let named = listed.aliases.iter().filter(|(alias, _)| patterns.split(',').any(|pattern| wildcard(pattern, alias)));
    let of = |alias: &Alias| match alias.is_write_index {
        Some(is) => json!({"is_write_index": is}),
        None => json!({}),
    };
    named.map(|(name, alias)| (name.clone(), of(alias))).collect()
}

fn settings(name: &str, listed: &Listed) -> Json {
    let mut settings = json!({
        "number_of_shards": "1", "number_of_replicas": "0", "provided_name": name, "uuid": listed.uid,
        "creation_date": listed.created_ms.to_string(),
    });
    if let (Some(settings), Some(given)) = (settings.as_object_mut(), listed.settings.as_object()) {
        settings.extend(given.clone());
    }
    json!({"index": settings})
}

fn readable_size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["b", "kb", "mb", "gb", "tb"];
    let (mut size, mut unit) = (bytes as f64, 0);
    while size >= 1024.0 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes}b") } else { format!("{size:.1}{}", UNITS[unit]) }
}

/// A table for people, or with `format=json` the same as JSON; `v` adds the heads, `h` chooses columns.
fn table(request: &Request<'_>, heads: &[&str], rows: Vec<Vec<String>>) -> Answered {
    let wanted = request.value("h").map(|text| names(&json!(text)));
    let chosen: Vec<usize> = match wanted {
        None => (0..heads.len()).collect(),
        Some(wanted) => wanted.iter().filter_map(|name| heads.iter().position(|head| head == name)).collect(),
    };
    if request.value("format").as_deref() == Some("json") {
        let object = |row: &Vec<String>| chosen.iter().map(|c| (heads[*c].to_owned(), json!(row[*c]))).collect();
        return Answer::ok(Json::Array(rows.iter().map(|row| Json::Object(object(row))).collect()));
    }
    let mut lines: Vec<Vec<String>> = rows;
    if request.has("v") {
        lines.insert(0, heads.iter().map(|head| (*head).to_owned()).collect());
    }
    let width = |column: usize| lines.iter().map(|line| line[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    let line = |line: &Vec<String>| {
        let cells: Vec<String> = chosen.iter().map(|c| format!("{:width$}", line[*c], width = widths[*c])).collect();
        format!("{}\n", cells.join(" ").trim_end())
    };
    Ok(Answer::Text(lines.iter().map(line).collect()))
}
