//! Every package that is built into Lockstep has a licence that `deny.toml` allows, and comes from the registry.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use lockstep_integration_tests::workspace;
use serde_json::Value;

/// The licences of `deny.toml`: the quoted texts of its list.
fn allowed(root: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(root.join("deny.toml"))?;
    let (_, list) = text.split_once("[licenses]\nallow = [").context("deny.toml has the list")?;
    let (list, _) = list.split_once(']').context("the list ends")?;
    Ok(list.split('"').skip(1).step_by(2).map(str::to_owned).collect())
}

/// Whether an expression (`A OR B`, `(A OR B) AND C`, `A/B` as once was written) can be met. Parentheses stand only around
/// alternatives.
fn is_met(expression: &str, allowed: &[String]) -> bool {
    let is_allowed = |licence: &str| allowed.iter().any(|a| a == licence.trim());
    expression.split(" AND ").all(|part| {
        let alternatives = part.trim().trim_start_matches('(').trim_end_matches(')').replace('/', " OR ");
        alternatives.split(" OR ").any(is_allowed)
    })
}

#[test]
fn every_package_has_an_allowed_licence_and_comes_from_the_registry() -> Result<()> {
    let root = workspace();
    let version = Command::new("rustc").arg("-vV").current_dir(&root).output()?;
    let version = String::from_utf8(version.stdout)?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc names its host")?;
    let metadata = Command::new("cargo")
        .args(["metadata", "--offline", "--format-version", "1", "--filter-platform", host])
        .current_dir(&root)
        .output()?;
    ensure!(metadata.status.success(), "{}", String::from_utf8_lossy(&metadata.stderr));
    let metadata: Value = serde_json::from_slice(&metadata.stdout)?;
    let packages = metadata["packages"].as_array().context("there are packages")?;
    ensure!(packages.len() > 100, "only {} packages are listed", packages.len());
    let allowed = allowed(&root)?;
    let mut wrong = Vec::new();
    for package in packages {
        let name = format!("{} {}", package["name"], package["version"]);
        match package["license"].as_str() {
            Some(expression) if is_met(expression, &allowed) => {}
            other => wrong.push(format!("{name}: licence {other:?}")),
        }
        match package["source"].as_str() {
            None => {}
            Some(source) if source.starts_with("registry+") => {}
            Some(source) => wrong.push(format!("{name}: comes from {source}")),
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    ensure!(!is_met("GPL-3.0-only", &allowed) && !is_met("MIT AND GPL-3.0-only", &allowed));
    Ok(())
}
