//! The house's rules that no compiler knows: every file says what it is and stays short, dependencies point one way, and
//! the README names what the code has.

use std::path::PathBuf;

use lockstep_integration_tests::workspace;
use lockstep_shared::functions::Function;
use lockstep_shared::sql::settings::SETTINGS;

/// Lines of the longest file that still reads as one thing.
const LONGEST_FILE: usize = 500;

/// What code may not name, by the place where it stands.
const BOUNDARIES: [(&str, &[&str]); 9] = [
    ("shared/src", &["lockstep_stream", "lockstep_batch", "rdkafka", "polars", "axum", "clap"]),
    ("shared/src/functions", &["tokio", "std::fs", "std::env", "elasticsearch", "SystemTime", "Instant::now"]),
    ("shared/src/semantics.rs", &["tokio", "std::fs", "std::env", "elasticsearch", "parquet", "SystemTime"]),
    ("shared/src/sql", &["tokio", "elasticsearch::", "parquet", "SystemTime"]),
    ("stream/src", &["lockstep_batch", "polars", "deltalake", "parquet::"]),
    ("stream/src/core.rs", &["tokio", "rdkafka", "axum", "std::fs", "std::time", "std::env", "chrono", "rand::"]),
    ("stream/src/join", &["tokio", "rdkafka", "axum", "std::fs", "std::time", "std::env", "chrono", "rand::"]),
    ("stream/src/decode.rs", &["tokio", "rdkafka", "axum", "std::fs", "std::time", "std::env", "rand::"]),
    ("batch/src", &["lockstep_stream", "rdkafka", "axum", "deltalake"]),
];

/// Words that say that something is not done.
const UNDONE: [&str; 4] = ["TODO", "FIXME", "XXX", "HACK"];

/// The Rust files below a folder, or the file itself; the path as the rules write it, and the text.
fn sources(below: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut open = vec![PathBuf::from(below)];
    while let Some(path) = open.pop() {
        let there = workspace().join(&path);
        if there.is_dir() {
            let entries = std::fs::read_dir(&there).into_iter().flatten().flatten();
            open.extend(entries.map(|entry| path.join(entry.file_name())));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&there).unwrap_or_else(|e| panic!("{}: {e}", there.display()));
            found.push((path.display().to_string(), text));
        }
    }
    found.sort();
    assert!(!found.is_empty(), "there is nothing at {below}");
    found
}

fn all_sources() -> Vec<(String, String)> {
    ["shared", "stream", "batch", "integration-tests"].into_iter().flat_map(sources).collect()
}

#[test]
fn every_file_says_what_it_is_and_is_short() {
    let mut wrong = Vec::new();
    for (path, text) in all_sources() {
        if !text.starts_with("//! ") {
            wrong.push(format!("{path}: does not open with what it is (//!)"));
        }
        let lines = text.lines().count();
        if lines > LONGEST_FILE {
            wrong.push(format!("{path}: {lines} lines, at most {LONGEST_FILE}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn nothing_is_left_undone() {
    let own = file!().rsplit('/').next().unwrap_or_default();
    let mut wrong = Vec::new();
    for (path, text) in all_sources().into_iter().filter(|(path, _)| !path.ends_with(own)) {
        for (number, line) in text.lines().enumerate() {
            let words = line.split(|c: char| !c.is_ascii_alphanumeric());
            wrong.extend(words.filter(|w| UNDONE.contains(w)).map(|w| format!("{path}:{}: {w}", number + 1)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn dependencies_point_one_way() {
    let mut wrong = Vec::new();
    for (place, forbidden) in BOUNDARIES {
        for (path, text) in sources(place) {
            // Tests at a file's end may use what they like, and comments may name it.
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            for (number, line) in code.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")) {
                let named = forbidden.iter().filter(|name| line.contains(**name));
                wrong.extend(named.map(|name| format!("{path}:{}: {place} may not name {name}", number + 1)));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_readme_names_every_setting_and_function() {
    let readme = std::fs::read_to_string(workspace().join("README.md")).unwrap_or_default();
    for setting in SETTINGS {
        let default = if setting.default.is_empty() { "off".to_owned() } else { format!("`{}`", setting.default) };
        let line = format!("| `{}` | {default} | {} |", setting.name, setting.meaning);
        assert!(readme.contains(&line), "the README lacks the line\n{line}");
    }
    for name in Function::NAMES {
        assert!(readme.contains(&format!("`{name}`")), "the README does not name the function {name}");
    }
}

#[test]
fn what_the_readme_links_to_is_there() {
    let readme = std::fs::read_to_string(workspace().join("README.md")).unwrap_or_default();
    let links: Vec<&str> =
        readme.split("](").skip(1).filter_map(|rest| rest.split(')').next()).filter(|l| !l.contains("://")).collect();
    assert!(links.len() > 10, "the README links to its tests");
    for link in links {
        assert!(workspace().join(link).exists(), "the README links to {link}, which is not there");
    }
}
