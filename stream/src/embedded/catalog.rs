//! Which indexes there are, by what names, with what mapping and settings: one small file that is replaced as a whole, so that
//! a change of aliases is atomic. A folder beside it is an index; one that the file does not name is left of a crash, and goes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::answer::Refusal;
use super::dates;
use super::engine::Engine;
use super::mapping::Mapping;
use super::request::wildcard;

/// The file.
const FILE: &str = "indexes.json";
/// What the first version of the embedded index left.
const OLD_FILE: &str = "index.log";
/// The format that this code writes.
const FORMAT: u32 = 1;
/// Most indexes: each has threads and files of its own.
const MOST_INDEXES: usize = 200;
/// How long deletes are remembered where the index does not say: as long as Lockstep's own indexes say.
const KEEP_DELETES_MS: i64 = 60 * 60 * 1_000;

/// The file's content.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Listing {
    format: u32,
    indexes: BTreeMap<String, Listed>,
}

/// An index, as the file lists it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Listed {
    /// Its folder.
    pub(super) uid: String,
    pub(super) created_ms: i64,
    pub(super) mappings: Json,
    /// Below `index`, as Elasticsearch answers them.
    pub(super) settings: Json,
    pub(super) aliases: BTreeMap<String, Alias>,
}

/// Another name of an index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Alias {
    /// Whether writes by the name go here; `None` where that was not said.
    pub(super) is_write_index: Option<bool>,
}

/// All indexes.
pub(super) struct Catalog {
    directory: PathBuf,
    listing: Listing,
    engines: BTreeMap<String, Arc<Engine>>,
}

impl Catalog {
    /// Opens a folder's indexes.
    pub(super) fn open(directory: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(directory)?;
        if directory.join(OLD_FILE).exists() {
            return Err(io::Error::other(format!(
                "{} is of an older version; delete the folder, start again, and let lockstep-batch reconcile --repair \
                 --repair-limit 100% write the documents anew",
                directory.join(OLD_FILE).display()
            )));
        }
        let listing = read(&directory.join(FILE))?;
        let mut engines = BTreeMap::new();
        for (name, listed) in &listing.indexes {
            let failed = |refusal: Refusal| io::Error::other(format!("index {name}: {}", refusal.reason));
            let mapping = Mapping::new(&listed.mappings).map_err(failed)?;
            let folder = directory.join(&listed.uid);
            let engine = Engine::open(&folder, mapping, keep_deletes_ms(&listed.settings)).map_err(failed)?;
            engines.insert(name.clone(), Arc::new(engine));
        }
        for entry in std::fs::read_dir(directory)? {
            let entry = entry?;
            let name = entry.file_name();
            let is_ours = uuid::Uuid::try_parse(&name.to_string_lossy()).is_ok() && entry.file_type()?.is_dir();
            if is_ours && !listing.indexes.values().any(|listed| name == listed.uid.as_str()) {
                std::fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(Self { directory: directory.to_owned(), listing, engines })
    }

    /// Every index with its name.
    pub(super) fn indexes(&self) -> impl Iterator<Item = (&String, &Listed)> {
        self.listing.indexes.iter()
    }

    /// Every engine.
    pub(super) fn engines(&self) -> impl Iterator<Item = &Arc<Engine>> {
        self.engines.values()
    }

    /// The engine of an index.
    pub(super) fn engine(&self, name: &str) -> Result<Arc<Engine>, Refusal> {
        self.engines.get(name).cloned().ok_or_else(|| Refusal::no_index(name))
    }

    /// The indexes that an expression names: names, aliases, patterns, `_all`, with commas.
    pub(super) fn resolve(&self, expression: &str) -> Result<Vec<String>, Refusal> {
        let mut found = Vec::new();
        for name in expression.split(',').map(|name| if name == "_all" { "*" } else { name }) {
            let before = found.len();
            for (index, listed) in self.indexes() {
                let named = wildcard(name, index) || listed.aliases.keys().any(|alias| wildcard(name, alias));
                if named && !found.contains(index) {
                    found.push(index.clone());
                }
            }
            let there_already = self.indexes().any(|(index, l)| index == name || l.aliases.contains_key(name));
            if found.len() == before && !name.contains('*') && !there_already {
                return Err(Refusal::no_index(name));
            }
        }
        Ok(found)
    }

    /// The index that a write by a name goes to.
    pub(super) fn written(&self, name: &str) -> Result<String, Refusal> {
        if self.listing.indexes.contains_key(name) {
            return Ok(name.to_owned());
        }
        let behind: Vec<(&String, Alias)> =
            self.indexes().filter_map(|(index, listed)| Some((index, *listed.aliases.get(name)?))).collect();
        let chosen = behind.iter().find(|(_, alias)| alias.is_write_index == Some(true));
        match (behind.as_slice(), chosen) {
            ([], _) => Err(Refusal::no_index(name)),
            (_, Some((index, _))) => Ok((*index).clone()),
            ([(index, Alias { is_write_index: None })], None) => Ok((*index).clone()),
            _ => Err(Refusal::argument(format!(
                "no write index is defined for alias [{name}]. The write index may be explicitly disabled using \
                 is_write_index=false or the alias points to multiple indices without one being designated as a write index"
            ))),
        }
    }

    /// Makes an index.
    pub(super) fn create(&mut self, name: &str, body: &Json, now_ms: i64) -> Result<(), Refusal> {
        check_name(name)?;
        let exists = |what: String| Err(Refusal::new(400, "resource_already_exists_exception", what));
        if self.listing.indexes.contains_key(name) {
            return exists(format!("index [{name}] already exists"));
        }
        if self.indexes().any(|(_, listed)| listed.aliases.contains_key(name)) {
            return exists(format!("Invalid index name [{name}], already exists as alias"));
        }
        if self.listing.indexes.len() >= MOST_INDEXES {
            return Err(Refusal::argument(format!("the embedded index holds at most {MOST_INDEXES} indexes")));
        }
        let mapping = Mapping::new(&body["mappings"])?;
        let mut aliases = BTreeMap::new();
        for (alias, options) in body["aliases"].as_object().into_iter().flatten() {
            check_name(alias)?;
            aliases.insert(alias.clone(), Alias { is_write_index: options["is_write_index"].as_bool() });
        }
        let listed = Listed {
            uid: uuid::Uuid::new_v4().simple().to_string(),
            created_ms: now_ms,
            mappings: Mapping::answer(&body["mappings"]),
            settings: flat(&body["settings"]),
            aliases,
        };
        let engine = Engine::open(&self.directory.join(&listed.uid), mapping, keep_deletes_ms(&listed.settings))?;
        self.change(|listing| {
            listing.indexes.insert(name.to_owned(), listed);
        })?;
        self.engines.insert(name.to_owned(), Arc::new(engine));
        Ok(())
    }

    /// Takes an index away.
    pub(super) fn delete(&mut self, name: &str) -> Result<(), Refusal> {
        let engine = self.engine(name)?;
        self.change(|listing| {
            listing.indexes.remove(name);
        })?;
        self.engines.remove(name);
        engine.delete()
    }

    /// Sets aliases (`Some`) and takes them away (`None`), each given as index, alias and what it becomes, and takes indexes
    /// away: all or none. The name of an index that goes may become an alias.
    pub(super) fn set_aliases(
        &mut self,
        changes: Vec<(String, String, Option<Alias>)>,
        removed: &[String],
    ) -> Result<(), Refusal> {
        let going = removed.iter().map(|name| self.engine(name)).collect::<Result<Vec<_>, _>>()?;
        for (index, alias, becomes) in &changes {
            let listed = self.listing.indexes.get(index).ok_or_else(|| Refusal::no_index(index))?;
            if becomes.is_some() {
                check_name(alias)?;
                if self.listing.indexes.contains_key(alias) && !removed.contains(alias) {
                    let reason = format!(
                        "Invalid alias name [{alias}]: an index or data stream exists with the same name as the alias"
                    );
                    return Err(Refusal::new(400, "invalid_alias_name_exception", reason));
                }
            } else if !listed.aliases.contains_key(alias) {
                return Err(Refusal::new(404, "aliases_not_found_exception", format!("aliases [{alias}] missing")));
            }
        }
        self.change(|listing| {
            for (index, alias, becomes) in changes {
                let Some(listed) = listing.indexes.get_mut(&index) else { continue };
                match becomes {
                    Some(becomes) => drop(listed.aliases.insert(alias, becomes)),
                    None => drop(listed.aliases.remove(&alias)),
                }
            }
            listing.indexes.retain(|name, _| !removed.contains(name));
        })?;
        self.engines.retain(|name, _| !removed.contains(name));
        going.iter().try_for_each(|engine| engine.delete())
    }

    /// Changes settings of an index.
    pub(super) fn set_settings(&mut self, name: &str, given: &Json, now_ms: i64) -> Result<(), Refusal> {
        let given = flat(given);
        self.change(|listing| {
            if let (Some(listed), Json::Object(given)) = (listing.indexes.get_mut(name), given)
                && let Some(settings) = listed.settings.as_object_mut()
            {
                settings.extend(given);
            }
        })?;
        let settings = self.listing.indexes.get(name).map_or(&Json::Null, |listed| &listed.settings);
        self.engine(name)?.keep_deletes(keep_deletes_ms(settings), now_ms)
    }

    /// Writes the file anew, and believes it only then.
    fn change(&mut self, change: impl FnOnce(&mut Listing)) -> Result<(), Refusal> {
        let mut listing = self.listing.clone();
        change(&mut listing);
        let (path, beside) = (self.directory.join(FILE), self.directory.join("indexes.new"));
        let mut file = File::create(&beside)?;
        file.write_all(&serde_json::to_vec_pretty(&listing).map_err(io::Error::other)?)?;
        file.sync_all()?;
        std::fs::rename(&beside, &path)?;
        File::open(&self.directory)?.sync_all()?;
        self.listing = listing;
        Ok(())
    }
}

fn read(path: &Path) -> io::Result<Listing> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Listing { format: FORMAT, indexes: BTreeMap::new() });
        }
        Err(error) => return Err(error),
    };
    let listing: Listing = serde_json::from_slice(&text)
        .map_err(|error| io::Error::other(format!("{} cannot be read: {error}", path.display())))?;
    if listing.format != FORMAT {
        return Err(io::Error::other(format!(
            "{} has format {}, and this version reads {FORMAT}; use the version that wrote it",
            path.display(),
            listing.format
        )));
    }
    Ok(listing)
}

/// Settings as texts below `index`, whichever way they were written.
fn flat(settings: &Json) -> Json {
    let mut flat = serde_json::Map::new();
    let mut open: Vec<(String, &Json)> = vec![(String::new(), settings)];
    while let Some((path, value)) = open.pop() {
        match value {
            Json::Object(fields) => {
                let below = |name: &String| if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                open.extend(fields.iter().map(|(name, value)| (below(name), value)));
            }
            Json::Null => {}
            value => {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                flat.insert(path.strip_prefix("index.").unwrap_or(&path).to_owned(), json!(text));
            }
        }
    }
    Json::Object(flat)
}

fn keep_deletes_ms(settings: &Json) -> i64 {
    settings["gc_deletes"].as_str().and_then(dates::duration_ms).unwrap_or(KEEP_DELETES_MS)
}

fn check_name(name: &str) -> Result<(), Refusal> {
    const LONGEST_BYTES: usize = 255;
    let forbidden =
        |c: char| matches!(c, '\\' | '/' | '*' | '?' | '"' | '<' | '>' | '|' | ' ' | ',' | '#' | ':') || c.is_control();
    let reason = match name {
        _ if name.len() > LONGEST_BYTES => "index name is too long",
        "" | "." | ".." => "must not be empty, '.' or '..'",
        _ if name.starts_with(['_', '-', '+']) => "must not start with '_', '-', or '+'",
        _ if name.chars().any(forbidden) => "must not contain \\ / * ? \" < > | space , # :",
        _ if name.chars().any(char::is_uppercase) => "must be lowercase",
        _ => return Ok(()),
    };
    Err(Refusal::new(400, "invalid_index_name_exception", format!("Invalid index name [{name}], {reason}")))
}
