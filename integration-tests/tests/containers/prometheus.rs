//! What Prometheus is given: `/metrics` by Prometheus' own lint, and the rules of `fixtures/prometheus/` by its own tests.
//!
//! `integration-tests/run` sees to it that there is a promtool; elsewhere these tests say that they did not run.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::shop::{SOON, Shop, TABLES, fixture};

fn promtool() -> Result<Option<PathBuf>> {
    if let Some(given) = std::env::var_os("LOCKSTEP_PROMTOOL") {
        return Ok(Some(PathBuf::from(given)));
    }
    let on_path = Command::new("promtool").arg("--version").output();
    if on_path.is_ok_and(|output| output.status.success()) {
        return Ok(Some(PathBuf::from("promtool")));
    }
    writeln!(
        std::io::stderr(),
        "tests of the Prometheus rules did not run: no promtool (integration-tests/run gets one)"
    )?;
    Ok(None)
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn the_rules_and_the_scrape_example_are_what_prometheus_takes_and_fire_when_they_should() -> Result<()> {
    let Some(promtool) = promtool()? else { return Ok(()) };
    for (command, file) in [
        (["check", "config"], "prometheus.yml"),
        (["check", "rules"], "alerts.yml"),
        (["test", "rules"], "alerts.test.yml"),
    ] {
        let folder = fixture("prometheus");
        let output = Command::new(&promtool).args(command).arg(file).current_dir(&folder).output()?;
        ensure!(output.status.success(), "promtool {} {file}:\n{}", command.join(" "), said(&output));
    }
    Ok(())
}

/// A stream's metrics after it has taken a few records.
async fn metrics() -> Result<String> {
    let mut shop = Shop::on_files()?;
    for (table, _) in TABLES {
        let records = shop.generated(table, 31, 20)?;
        shop.send(table, records).await?;
    }
    let mut stream = shop.start_live().await?;
    shop.caught_up_and_archived().await?;
    shop.reconcile(&[], 0).await?;
    let metrics = shop.page("/metrics").await?;
    stream.terminate(SOON).await?;
    Ok(metrics)
}

#[tokio::test]
async fn metrics_keep_the_conventions_and_have_every_name_that_an_alert_asks_for() -> Result<()> {
    let metrics = metrics().await?;
    for line in metrics.lines().filter(|line| line.starts_with("# TYPE ")) {
        let words: Vec<&str> = line.split(' ').collect();
        let is_counter = words[3] == "counter";
        assert_eq!(words[2].ends_with("_total"), is_counter, "counters end in _total, and nothing else does: {line}");
    }
    let rules = std::fs::read_to_string(fixture("prometheus/alerts.yml"))?;
    let expressions: String = rules.lines().filter(|line| line.trim_start().starts_with("expr:")).collect();
    let words = expressions.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let asked: BTreeSet<&str> = words.filter(|word| word.starts_with("lockstep_")).collect();
    assert!(asked.len() >= 8, "{asked:?}");
    for name in asked {
        assert!(metrics.contains(&format!("# TYPE {name} ")), "no metric is called {name}:\n{metrics}");
    }
    assert!(metrics.contains("lockstep_phase{phase=\"live\"} 1"), "{metrics}");
    assert!(metrics.contains("lockstep_certificate_verdict{verdict=\"in-lockstep\"} 1"), "{metrics}");
    Ok(())
}

#[tokio::test]
async fn metrics_pass_prometheus_own_lint() -> Result<()> {
    let Some(promtool) = promtool()? else { return Ok(()) };
    let metrics = metrics().await?;
    let mut lint = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    lint.stdin.take().context("it reads what is checked")?.write_all(metrics.as_bytes())?;
    let output = lint.wait_with_output()?;
    ensure!(output.status.success() && said(&output).is_empty(), "{}\n{metrics}", said(&output));
    Ok(())
}
