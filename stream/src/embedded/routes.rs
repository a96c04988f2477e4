//! Which request is meant by a path, and by which methods it may come.

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route<'a> {
    Info,
    CatIndices(&'a str),
    CatAliases,
    Health,
    /// With the index of the path, if it names one.
    Bulk(Option<&'a str>),
    Search(Option<&'a str>),
    Count(&'a str),
    OpenMoment(&'a str),
    CloseMoment,
    Refresh(&'a str),
    Mapping(&'a str),
    Settings(&'a str),
    /// Indexes, and aliases.
    Aliases(&'a str, &'a str),
    AliasActions,
    Index(&'a str),
    NewDocument(&'a str),
    Document(&'a str, &'a str),
    Source(&'a str, &'a str),
    Create(&'a str, &'a str),
}

const READ: &[&str] = &["GET", "HEAD"];
const ASK: &[&str] = &["GET", "POST"];
const WRITE: &[&str] = &["POST", "PUT"];

/// The route of a path and its methods.
pub(super) fn route<'a>(parts: &[&'a str]) -> Option<(Route<'a>, &'static [&'static str])> {
    Some(match *parts {
        [] => (Route::Info, READ),
        ["_cat", "indices"] => (Route::CatIndices("*"), READ),
        ["_cat", "indices", indexes] => (Route::CatIndices(indexes), READ),
        ["_cat", "aliases"] => (Route::CatAliases, READ),
        ["_cluster", "health"] | ["_cluster", "health", _] => (Route::Health, READ),
        ["_bulk"] => (Route::Bulk(None), WRITE),
        ["_pit"] => (Route::CloseMoment, &["DELETE"]),
        ["_search"] => (Route::Search(None), ASK),
        ["_count"] => (Route::Count("*"), ASK),
        ["_refresh" | "_flush"] => (Route::Refresh("*"), ASK),
        ["_mapping"] => (Route::Mapping("*"), READ),
        ["_settings"] => (Route::Settings("*"), READ),
        ["_alias"] => (Route::Aliases("*", "*"), READ),
        ["_alias", alias] => (Route::Aliases("*", alias), READ),
        ["_aliases"] => (Route::AliasActions, &["GET", "POST"]),
        [own] if own.starts_with('_') && own != "_all" => return None,
        [index] => (Route::Index(index), &["DELETE", "GET", "HEAD", "PUT"]),
        [index, ..] if index.starts_with('_') && index != "_all" => return None,
        [index, "_bulk"] => (Route::Bulk(Some(index)), WRITE),
        [index, "_search"] => (Route::Search(Some(index)), ASK),
        [index, "_count"] => (Route::Count(index), ASK),
        [index, "_pit"] => (Route::OpenMoment(index), &["POST"]),
        [index, "_refresh" | "_flush"] => (Route::Refresh(index), ASK),
        [index, "_mapping"] => (Route::Mapping(index), READ),
        [index, "_settings"] => (Route::Settings(index), &["GET", "HEAD", "PUT"]),
        [index, "_alias"] => (Route::Aliases(index, "*"), READ),
        [index, "_alias" | "_aliases", alias] => {
            (Route::Aliases(index, alias), &["DELETE", "GET", "HEAD", "POST", "PUT"])
        }
        [index, "_doc"] => (Route::NewDocument(index), &["POST"]),
        [index, "_doc", id] => (Route::Document(index, id), &["DELETE", "GET", "HEAD", "POST", "PUT"]),
        [index, "_source", id] => (Route::Source(index, id), READ),
        [index, "_create", id] => (Route::Create(index, id), WRITE),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_one_meaning() {
        assert_eq!(
            route(&["i", "_doc", "_bulk"]),
            Some((Route::Document("i", "_bulk"), route(&["i", "_doc", "a"]).unwrap().1))
        );
        assert_eq!(route(&["_all", "_search"]).unwrap().0, Route::Search(Some("_all")));
        for unknown in [&["_nodes"][..], &["_nodes", "_search"], &["i", "_update", "a"], &["i", "_doc", "a", "b"]] {
            assert_eq!(route(unknown), None);
        }
    }
}
