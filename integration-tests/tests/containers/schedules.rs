//! The examples for cron, systemd and Kubernetes: each is read as its own tool does, and its command line is one of ours.

use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Parser as _;
use lockstep_batch::command_line::{self, Arguments};

use crate::shop::fixture;

fn text(name: &str) -> Result<String> {
    std::fs::read_to_string(fixture(&format!("schedules/{name}"))).with_context(|| name.to_owned())
}

fn is_taken(words: &[&str]) -> Result<command_line::Command> {
    ensure!(words.first().is_some_and(|program| program.ends_with("lockstep-batch")), "{words:?}");
    Ok(Arguments::try_parse_from(words).with_context(|| format!("{words:?}"))?.command)
}

/// Whether a field of a schedule is `*` or numbers, steps and ranges within bounds.
fn is_within(field: &str, from: u32, to: u32) -> bool {
    let number = |text: &str| text.parse().is_ok_and(|n: u32| (from..=to).contains(&n));
    field.split(',').all(|part| {
        let (range, step) = part.split_once('/').unwrap_or((part, "1"));
        let ends = range == "*" || range.split('-').all(number) && range.split('-').count() <= 2;
        ends && step.parse().is_ok_and(|step: u32| step > 0)
    })
}

fn is_schedule(fields: &[&str]) -> bool {
    let bounds = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 7)];
    fields.len() == bounds.len() && fields.iter().zip(bounds).all(|(field, (from, to))| is_within(field, from, to))
}

#[test]
fn cron_runs_commands_that_we_take() -> Result<()> {
    let crontab = text("crontab")?;
    let lines: Vec<&str> = crontab.lines().filter(|line| !line.starts_with('#') && !line.contains('=')).collect();
    ensure!(lines.len() == 2, "{lines:?}");
    for line in lines {
        let words: Vec<&str> = line.split_whitespace().collect();
        ensure!(is_schedule(&words[..5]) && words[5] == "lockstep", "{line}");
        let command = words.iter().position(|word| *word == "&&").context("it goes to its folder first")?;
        match is_taken(&words[command + 1..])? {
            command_line::Command::Reconcile(_) | command_line::Command::Archive { .. } => {}
            other => bail!("{other:?}"),
        }
    }
    ensure!(!is_schedule(&["60", "2", "*", "*", "*"]) && !is_schedule(&["0", "2", "*", "*"]));
    Ok(())
}

#[test]
fn systemd_takes_the_units_and_runs_a_command_that_we_take() -> Result<()> {
    let service = text("lockstep-reconcile.service")?;
    let command = service.lines().find_map(|line| line.strip_prefix("ExecStart=")).context("a command")?;
    let words: Vec<&str> = command.split_whitespace().collect();
    ensure!(matches!(is_taken(&words)?, command_line::Command::Reconcile(_)), "{command}");
    if !Command::new("systemd-analyze").arg("--version").output().is_ok_and(|output| output.status.success()) {
        return Ok(());
    }
    // It wants the program to be there, and the user.
    let folder = tempfile::tempdir()?;
    let service = service.replace(words[0], "/bin/true").replace("User=lockstep", "User=root");
    std::fs::write(folder.path().join("lockstep-reconcile.service"), service)?;
    std::fs::write(folder.path().join("lockstep-reconcile.timer"), text("lockstep-reconcile.timer")?)?;
    for unit in ["lockstep-reconcile.service", "lockstep-reconcile.timer"] {
        let output = Command::new("systemd-analyze").arg("verify").arg(folder.path().join(unit)).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success() && !said.contains(unit), "{unit}: {said}");
    }
    Ok(())
}

#[test]
fn kubernetes_runs_a_command_that_we_take() -> Result<()> {
    let manifest = text("cronjob.yaml")?;
    for line in manifest.lines().filter(|line| !line.trim_start().starts_with('#')) {
        let content = line.trim_start();
        let indent = line.len() - content.len();
        ensure!(
            indent % 2 == 0 && !line.contains('\t') && (content.starts_with("- ") || content.contains(':')),
            "{line}"
        );
    }
    let value = |name: &str| -> Result<&str> {
        manifest
            .lines()
            .find_map(|line| line.trim_start().strip_prefix(name))
            .map(str::trim)
            .with_context(|| name.to_owned())
    };
    ensure!(value("apiVersion:")? == "batch/v1" && value("kind:")? == "CronJob");
    ensure!(value("concurrencyPolicy:")? == "Forbid" && value("restartPolicy:")? == "Never");
    let schedule: String = serde_json::from_str(value("schedule:")?)?;
    ensure!(is_schedule(&schedule.split(' ').collect::<Vec<_>>()), "{schedule}");
    let words: Vec<String> = serde_json::from_str(value("command:")?)?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    ensure!(matches!(is_taken(&words)?, command_line::Command::Reconcile(_)), "{words:?}");
    Ok(())
}
