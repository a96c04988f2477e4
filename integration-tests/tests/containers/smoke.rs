//! The servers and the harness itself behave as the tests of the pipeline assume.

use std::time::Duration;

use anyhow::Result;
use lockstep_integration_tests::containers::{self, fresh_name};
use lockstep_integration_tests::index::{Document, Index, Write, ndjson};
use lockstep_integration_tests::kafka::{Ending, Record};
use lockstep_integration_tests::processes::{Program, Signal};
use lockstep_integration_tests::proxy::{Fault, Items, Proxy, Seen};
use lockstep_shared::coordinates::{Offset, Partition};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(60);

fn mapping() -> Value {
    json!({"dynamic": "strict", "properties": {"n": {"type": "long"}}})
}

fn index(id: &str, version: u64, n: i64) -> Write {
    Write::Index { id: id.to_owned(), version, document: json!({"n": n}) }
}

fn statuses(verdicts: &[lockstep_integration_tests::index::Verdict]) -> Vec<u16> {
    verdicts.iter().map(|v| v.status).collect()
}

#[tokio::test]
async fn records_come_back_as_they_were_sent() -> Result<()> {
    let Some(servers) = containers::shared().await? else { return Ok(()) };
    let topic = fresh_name("smoke");
    servers.kafka.create_topic(&topic, 2).await?;
    let mut first = Record::keyed("a", "1").to_partition(Partition(1));
    first.headers = vec![("h".to_owned(), b"x".to_vec()), ("h".to_owned(), b"y".to_vec())];
    let sent = [
        first.clone(),
        Record::tombstone("a").to_partition(Partition(1)),
        Record::value("2").to_partition(Partition(0)),
    ];
    let places = servers.kafka.produce(&topic, &sent).await?;
    assert_eq!(places, [(Partition(1), Offset(0)), (Partition(1), Offset(1)), (Partition(0), Offset(0))]);

    let received = servers.kafka.read_committed(&topic).await?;
    let values: Vec<_> = received.iter().map(|r| (r.partition.0, r.key.as_deref(), r.value.as_deref())).collect();
    assert_eq!(values, [(0, None, Some(&b"2"[..])), (1, Some(&b"a"[..]), Some(&b"1"[..])), (1, Some(&b"a"[..]), None)]);
    assert_eq!(received[1].headers, first.headers);
    let ends = servers.kafka.end_offsets(&topic).await?;
    assert_eq!(ends.into_values().collect::<Vec<_>>(), [Offset(1), Offset(2)]);
    servers.kafka.delete_topic(&topic).await
}

#[tokio::test]
async fn an_aborted_transaction_is_not_read_but_takes_offsets() -> Result<()> {
    let Some(servers) = containers::shared().await? else { return Ok(()) };
    let topic = fresh_name("smoke");
    servers.kafka.create_topic(&topic, 1).await?;
    servers.kafka.produce_in_transaction(&topic, &[Record::value("aborted")], Ending::Abort).await?;
    servers.kafka.produce_in_transaction(&topic, &[Record::value("committed")], Ending::Commit).await?;
    let received = servers.kafka.read_committed(&topic).await?;
    assert_eq!(received.len(), 1, "{received:?}");
    assert_eq!(received[0].value.as_deref(), Some(&b"committed"[..]));
    // Two records and two end marks.
    assert_eq!(servers.kafka.end_offsets(&topic).await?[&Partition(0)], Offset(4));
    Ok(())
}

#[tokio::test]
async fn l6_an_older_external_version_never_wins_not_even_after_a_delete() -> Result<()> {
    let Some(servers) = containers::shared().await? else { return Ok(()) };
    let name = fresh_name("smoke");
    servers.index.create(&name, &mapping()).await?;
    let gone = Write::Delete { id: "b".to_owned(), version: 9 };
    let writes = [index("a", 5, 1), index("a", 4, 0), index("a", 5, 2), index("b", 7, 1), gone, index("b", 8, 2)];
    let verdicts = servers.index.bulk(&name, &writes).await?;
    assert_eq!(statuses(&verdicts), [201, 409, 200, 201, 200, 409]);
    let unknown_field = Write::Index { id: "c".to_owned(), version: 1, document: json!({"unknown": 1}) };
    assert_eq!(statuses(&servers.index.bulk(&name, &[unknown_field]).await?), [400]);
    let a = Document { id: "a".to_owned(), version: 5, source: json!({"n": 2}) };
    assert_eq!(servers.index.get(&name, "a").await?, Some(a.clone()));
    assert_eq!(servers.index.get(&name, "b").await?, None);
    servers.index.refresh(&name).await?;
    assert_eq!(servers.index.all_documents(&name).await?, [a]);
    servers.index.delete_index(&name).await
}

#[tokio::test]
async fn a_scan_reads_every_page_of_an_index_as_of_one_moment() -> Result<()> {
    let Some(servers) = containers::shared().await? else { return Ok(()) };
    let name = fresh_name("smoke");
    servers.index.create(&name, &mapping()).await?;
    let writes: Vec<Write> = (0..10_500).map(|n| index(&format!("{n:05}"), 3, n)).collect();
    servers.index.bulk(&name, &writes).await?;
    servers.index.refresh(&name).await?;
    assert_eq!(servers.index.count(&name).await?, 10_500);
    let documents = servers.index.all_documents(&name).await?;
    assert_eq!(documents.len(), 10_500);
    assert!(documents.iter().enumerate().all(|(n, d)| d.id == format!("{n:05}") && d.version == 3));
    let total = servers.index.search(&name, &json!({"size": 0, "aggs": {"n": {"max": {"field": "n"}}}})).await?;
    assert_eq!(total["aggregations"]["n"]["value"], json!(10_499.0));
    Ok(())
}

#[tokio::test]
async fn a_paused_server_hangs_and_comes_back() -> Result<()> {
    let Some(servers) = containers::alone().await? else { return Ok(()) };
    servers.index_container().pause().await?;
    assert!(servers.index.answers().await.is_err());
    servers.index_container().unpause().await?;
    servers.index.ready(SOON).await?;
    servers.kafka_container().pause().await?;
    assert!(servers.kafka.answers().await.is_err());
    servers.kafka_container().unpause().await?;
    servers.kafka.ready(SOON).await
}

#[tokio::test]
async fn a_stopped_or_killed_broker_keeps_its_records_and_its_address() -> Result<()> {
    let Some(kafka) = containers::private_kafka().await? else { return Ok(()) };
    kafka.server.create_topic("kept", 1).await?;
    kafka.server.produce("kept", &[Record::value("1")]).await?;
    kafka.container.stop().await?;
    assert!(kafka.server.answers().await.is_err());
    kafka.container.start().await?;
    kafka.server.ready(SOON).await?;
    kafka.server.produce("kept", &[Record::value("2")]).await?;
    kafka.container.kill().await?;
    kafka.container.start().await?;
    kafka.server.ready(SOON).await?;
    let values: Vec<_> = kafka.server.read_committed("kept").await?.into_iter().filter_map(|r| r.value).collect();
    assert_eq!(values, [b"1", b"2"]);
    Ok(())
}

#[tokio::test]
async fn a_stopped_or_killed_index_server_keeps_what_it_acknowledged() -> Result<()> {
    let Some(private) = containers::private_elasticsearch().await? else { return Ok(()) };
    private.server.create("kept", &mapping()).await?;
    private.server.bulk("kept", &[index("a", 1, 1)]).await?;
    private.container.stop().await?;
    assert!(private.server.answers().await.is_err());
    private.container.start().await?;
    private.server.ready(SOON).await?;
    private.server.bulk("kept", &[index("b", 2, 2)]).await?;
    private.container.kill().await?;
    private.container.start().await?;
    private.server.ready(SOON).await?;
    private.server.refresh("kept").await?;
    let found: Vec<_> = private.server.all_documents("kept").await?.into_iter().map(|d| (d.id, d.version)).collect();
    assert_eq!(found, [("a".to_owned(), 1), ("b".to_owned(), 2)]);
    Ok(())
}

#[tokio::test]
async fn the_proxy_breaks_one_request_at_a_time() -> Result<()> {
    let Some(servers) = containers::shared().await? else { return Ok(()) };
    let name = fresh_name("smoke");
    servers.index.create(&name, &mapping()).await?;
    let mut proxy = Proxy::start(servers.index.url()).await?;
    let through = Index::new(&proxy.url())?;

    proxy.queue(Fault::Refuse(429));
    proxy.queue(Fault::RejectItems(Items::Ids(vec!["b".to_owned()]), 503));
    proxy.queue(Fault::SwallowAnswer);
    proxy.queue(Fault::SwallowRequest);
    let body = |version| ndjson(&name, &[index("a", version, 1), index("b", version, 1)]);
    assert_eq!(through.bulk_raw(body(1)).await?.status(), 429);
    assert_eq!(servers.index.get(&name, "a").await?, None, "a refused request does not reach the server");
    let verdicts = through.bulk(&name, &[index("a", 2, 1), index("b", 2, 1)]).await?;
    assert_eq!(statuses(&verdicts), [201, 503]);
    assert!(through.bulk_raw(body(3)).await.is_err(), "the answer is lost");
    assert_eq!(servers.index.get(&name, "a").await?.map(|d| d.version), Some(3), "and yet it was written");
    assert!(through.bulk_raw(body(4)).await.is_err(), "the request is lost");
    assert_eq!(servers.index.get(&name, "a").await?.map(|d| d.version), Some(3));

    let idle = Index::new(&proxy.url())?;
    idle.answers().await?;
    proxy.refuse_connections().await;
    assert!(through.answers().await.is_err());
    assert!(idle.answers().await.is_err(), "a connection that lay idle is cut too");
    proxy.accept_connections().await?;
    through.ready(SOON).await?;
    proxy.queue(Fault::Delay(Duration::from_millis(300)));
    let before = tokio::time::Instant::now();
    assert_eq!(statuses(&through.bulk(&name, &[index("a", 5, 1)]).await?), [200]);
    assert!(before.elapsed() >= Duration::from_millis(300));
    assert_eq!(proxy.seen(), Seen { bulks: 5, faulted: 5, applied: 3 });
    Ok(())
}

#[tokio::test]
async fn a_program_is_watched_and_ended_by_signal() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let shell = |script: &str| {
        let mut command = std::process::Command::new("sh");
        command.args(["-c", script]);
        Program::spawn("shell", command, folder.path())
    };
    let mut patient = shell("trap 'exit 3' TERM; echo listening >&2; while :; do sleep 0.1; done")?;
    assert_eq!(patient.wait_for_line("listening", SOON).await?, "listening");
    patient.signal(Signal::Terminate)?;
    patient.expect_exit(3, SOON).await?;
    let mut brief = shell("echo no such file; exit 78")?;
    let error = brief.wait_for_line("listening", SOON).await.map_err(|e| format!("{e:#}"));
    assert!(error.as_ref().is_err_and(|e| e.contains("exit status: 78") && e.contains("no such file")), "{error:?}");
    Ok(())
}
