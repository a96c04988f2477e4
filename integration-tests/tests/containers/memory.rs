//! A slow index and a long queue in Kafka: the stream takes what it can hold and leaves the rest where it is.

use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lockstep_integration_tests::containers;
use lockstep_integration_tests::eventually;
use lockstep_integration_tests::kafka::Record;
use lockstep_integration_tests::proxy::{Fault, Proxy};
use serde_json::json;

use crate::shop::{SOON, Shop, Text};

/// Records that wait in Kafka.
const WAITING: usize = 300_000;
/// Bytes of each, most of them in a column that no sink needs.
const RECORD_BYTES: usize = 1_000;
/// Records of a step here.
const STEP_RECORDS: u64 = 1_000;
/// Steps cut and not acknowledged (`STEPS_IN_FLIGHT`), twice a step's records that wait for the next one, and the step
/// that is being cut.
const STEPS_HELD: u64 = 32 + 2 + 1;
/// The program itself (80 MiB), 32 MiB inside the Kafka client, 64 MiB of batches between source and core, the records of
/// the steps held as rows, documents and bulk bodies (100 MiB), and a commit's records as they came, as columns and as a
/// file (100 MiB): 380 MiB, and room. Without back-pressure it would be more than a gigabyte.
const BOUND_MIB: u64 = 450;

/// The most memory that a process has had, in MiB.
fn peak_mib(process: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("Linux says a process's peak")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse::<u64>()? / 1024)
}

#[tokio::test]
async fn a_slow_index_is_felt_by_kafka_and_memory_stays_bounded() -> Result<()> {
    let Some(servers) = containers::shared().await? else { return Ok(()) };
    let proxy = Proxy::start(servers.index.url()).await?;
    let mut shop = Shop::on_servers(Text::Keyed, &servers.kafka, &servers.index, 4).await?;
    shop.set("product_dashboard.hosts", &proxy.url());
    shop.set("lockstep.step.max-records", &STEP_RECORDS.to_string());
    proxy.queue_times(100_000, &Fault::Delay(Duration::from_secs(1)));
    let url = "x".repeat(RECORD_BYTES);
    for part in 0..30 {
        let views = (0..WAITING / 30).map(|n| {
            let user = format!("u{}", (part * 7 + n) % 1_000);
            Record::value(json!({"product_id": "p", "user_id": user, "view_time": n, "page_url": url, "ts": 1_600_000_000_000_u64}).to_string())
        });
        servers.kafka.produce(shop.topic("views")?, &views.collect::<Vec<_>>()).await?;
    }
    let mut stream = shop.start_live().await?;
    let (mut most_held, mut peak) = (0, 0);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(12);
    while tokio::time::Instant::now() < deadline {
        let status = shop.status().await?;
        let number = |value: &serde_json::Value| value.as_u64().unwrap_or(0);
        most_held = most_held.max(number(&status["step"]) - number(&status["acknowledged"]));
        peak = peak_mib(stream.id())?;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let status = shop.status().await?;
    let taken = status["tables"]["views"]["records"].as_u64().unwrap_or(0);
    writeln!(
        std::io::stderr(),
        "bounded memory: {taken} of {WAITING} records taken, at most {most_held} steps held, peak {peak} MiB"
    )?;
    ensure!(most_held > 5 && most_held <= STEPS_HELD, "{most_held} steps were held: {status}");
    ensure!(taken < WAITING as u64 / 2, "the index was not slow enough to try anything: {status}");
    ensure!(peak < BOUND_MIB, "{peak} MiB, at most {BOUND_MIB}: {status}");
    // What waits in Kafka is taken as soon as the index can.
    proxy.clear();
    eventually("more is taken", SOON, async || {
        let status = shop.status().await.map_err(|error| format!("{error:#}"))?;
        let now = status["tables"]["views"]["records"].as_u64().unwrap_or(0);
        if now > taken + 10 * STEP_RECORDS { Ok(()) } else { Err(status.to_string()) }
    })
    .await?;
    stream.kill().await?;
    servers.kafka.delete_topic(shop.topic("views")?).await
}
