//! The console in a real browser: what it shows is what there is, it follows what happens, it says when the stream is gone,
//! nothing that data holds is ever run, and nothing leaves the machine.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use lockstep_integration_tests::browser::{Browser, SCREEN_HEIGHT, Scheme, Scripts, picture_name, pictures};
use lockstep_integration_tests::kafka::Record;
use lockstep_integration_tests::processes::{Program, Signal};
use reqwest::Method;
use serde_json::json;

use crate::dashboard::PANELS;
use crate::figures::{Archived, Choice};
use crate::page;
use crate::shop::{SOON, Shop, TABLES};

/// Until a page has loaded and been brought up to date once.
const A_MOMENT: Duration = Duration::from_secs(10);
/// Until a new order is seen.
const NEW_ORDER_WITHIN: Duration = Duration::from_secs(2);
/// Until what is shown is marked as old when the stream does not answer.
const STALE_WITHIN: Duration = Duration::from_secs(5);
/// Until something is painted, on loopback.
const FIRST_PAINT_MS: f64 = 500.0;
/// The most that a view loads, its style and script included.
const HEAVIEST_VIEW_BYTES: u64 = 200_000;
/// A phone, a laptop, a wall.
const WIDTHS: [u32; 3] = [390, 1280, 2560];
const VIEWS: [(&str, &str); 6] = [
    ("dashboard", "/"),
    ("pipeline", "/pipeline"),
    ("records", "/records"),
    ("documents", "/documents"),
    ("reconcile", "/reconcile"),
    ("insights", "/insights"),
];
/// What would run if it were anything but text.
const MARKUP: &str = "<img src=x onerror=\"document.title='run'\"><script>document.title='run'</script>&amp;";

/// A shop with records of every table, running.
async fn running() -> Result<(Shop, Program)> {
    let mut shop = Shop::on_files()?;
    for (table, _) in TABLES {
        let records = shop.generated(table, 61, 500)?;
        shop.send(table, records).await?;
    }
    let stream = shop.start_live().await?;
    shop.caught_up_and_archived().await?;
    Ok((shop, stream))
}

async fn open(browser: &Browser, shop: &Shop, path: &str) -> Result<()> {
    browser.resize(1280, SCREEN_HEIGHT).await?;
    browser.open(&format!("{}{path}", shop.address())).await
}

async fn panels_show(browser: &Browser, shop: &Shop, choice: &Choice) -> Result<()> {
    let archived = Archived::of(shop).await?;
    for panel in PANELS {
        let chart = archived.chart(panel, choice)?;
        let (expected, shown) = (page::expected(&chart)?, page::shown(browser, panel, &chart).await?);
        ensure!(shown == expected, "{panel} of {choice:?} shows\n{shown:?}\nand should show\n{expected:?}");
    }
    Ok(())
}

#[tokio::test]
async fn every_panel_shows_the_figures_that_polars_computed() -> Result<()> {
    let Some(browser) = Browser::start().await? else { return Ok(()) };
    let (shop, mut stream) = running().await?;
    open(&browser, &shop, "/").await?;
    panels_show(&browser, &shop, &Choice::default()).await?;
    // A comparison of nothing with nothing would pass too.
    let figures = browser.texts(".panel .number, .panel .figure").await?;
    ensure!(figures.len() > 100 && figures.iter().any(|figure| figure.starts_with('$')), "{figures:?}");
    browser.assert_console_is_silent().await?;
    browser.quit().await?;
    stream.terminate(SOON).await
}

#[tokio::test]
async fn filters_and_the_range_of_time_choose_what_the_panels_show() -> Result<()> {
    let Some(browser) = Browser::start().await? else { return Ok(()) };
    let (shop, mut stream) = running().await?;
    open(&browser, &shop, "/").await?;
    browser.click("select[name=state] option[value=California]").await?;
    browser.click(".filters button[type=submit]").await?;
    browser.until("location.search.includes('state=California')", A_MOMENT).await?;
    let state = Choice { state: Some("California"), ..Choice::default() };
    panels_show(&browser, &shop, &state).await?;

    browser.click(".filters .clear").await?;
    browser.until("location.search === ''", A_MOMENT).await?;
    open(&browser, &shop, "/?from=2021-01-01T00:10&to=2021-01-01T00:40").await?;
    let (from_ms, to_ms) = (Some(1_609_459_800_000), Some(1_609_461_600_000));
    panels_show(&browser, &shop, &Choice { from_ms, to_ms, ..Choice::default() }).await?;

    let last = Archived::of(&shop)
        .await?
        .rows("SELECT MAX(ts) AS a FROM (SELECT ts FROM orders UNION ALL SELECT ts FROM seen) AS t")?;
    let last = last[0][0].as_i64().context("there are events")?;
    open(&browser, &shop, "/").await?;
    browser.click(".ranges a[href*='range=1h']").await?;
    browser.until("location.search === '?range=1h'", A_MOMENT).await?;
    panels_show(&browser, &shop, &Choice { from_ms: Some(last + 1 - 3_600_000), ..Choice::default() }).await?;

    open(&browser, &shop, "/?from=2021-01-02T00:00&to=2021-01-01T00:00").await?;
    ensure!(
        browser.text(".wrong").await?.contains("is not before 'to'"),
        "a range that ends before it begins is refused"
    );
    open(&browser, &shop, "/?brand=nobody's").await?;
    ensure!(browser.text("#top-brands .empty").await?.contains("Nothing here yet"), "an empty panel says so");
    browser.quit().await?;
    stream.terminate(SOON).await
}

#[tokio::test]
async fn a_new_order_is_seen_within_two_seconds() -> Result<()> {
    let Some(browser) = Browser::start().await? else { return Ok(()) };
    let (mut shop, mut stream) = running().await?;
    let shoe = json!({"id": "new-shoe", "brand": "New", "name": "New Shoe", "sale_price": 9_999_900, "rating": 5.0});
    shop.send("products", vec![shop.record("products", &shoe)]).await?;
    shop.caught_up().await?;
    open(&browser, &shop, "/").await?;
    ensure!(!browser.text("#revenue-by-product").await?.contains("New Shoe"), "nobody has ordered it yet");
    let order = json!({"order_id": 77_777, "product_id": "new-shoe", "customer_id": "c", "ts": 1_609_470_000_000_i64});
    shop.send("sales", vec![shop.record("sales", &order)]).await?;
    let sent = Instant::now();
    browser
        .until("document.querySelector('#revenue-by-product tr')?.textContent === 'New Shoe$99,999.00'", A_MOMENT)
        .await?;
    let seen = sent.elapsed();
    ensure!(seen < NEW_ORDER_WITHIN, "the order was seen after {seen:?}");
    browser.quit().await?;
    stream.terminate(SOON).await
}

#[tokio::test]
async fn a_stream_that_does_not_answer_is_marked_within_five_seconds() -> Result<()> {
    let Some(browser) = Browser::start().await? else { return Ok(()) };
    let (shop, mut stream) = running().await?;
    open(&browser, &shop, "/").await?;
    let marked = "!document.getElementById('stale').hidden";
    let fresh = "document.getElementById('stale').hidden";
    // Frozen: connections stay open, and nothing comes.
    stream.signal(Signal::Stop)?;
    within(&browser, marked).await?;
    ensure!(
        browser.text("#stale").await?.starts_with("The stream does not answer. What you see is from "),
        "it says so"
    );
    stream.signal(Signal::Continue)?;
    browser.until(fresh, A_MOMENT).await?;
    stream.kill().await?;
    within(&browser, marked).await?;
    let mut stream = shop.start_live().await?;
    browser.until(fresh, A_MOMENT).await?;
    browser.quit().await?;
    stream.terminate(SOON).await
}

async fn within(browser: &Browser, marked: &str) -> Result<()> {
    let begin = Instant::now();
    browser.until(marked, A_MOMENT).await?;
    let after = begin.elapsed();
    ensure!(after < STALE_WITHIN, "old figures were marked after {after:?}");
    Ok(())
}

#[tokio::test]
async fn markup_in_data_stays_text() -> Result<()> {
    let Some(browser) = Browser::start().await? else { return Ok(()) };
    let (mut shop, mut stream) = running().await?;
    let product = json!({"id": MARKUP, "brand": MARKUP, "name": MARKUP, "sale_price": 9_999_900, "rating": 1.0});
    shop.send("products", vec![shop.record("products", &product)]).await?;
    let order = json!({"order_id": 88_888, "product_id": MARKUP, "customer_id": MARKUP, "ts": 1_609_470_000_000_i64});
    shop.send("sales", vec![shop.record("sales", &order)]).await?;
    shop.send_bad("views", &[Record::value(MARKUP.to_owned())]).await?;
    // An id that no index takes becomes a dead letter.
    let customer = json!({"id": MARKUP.repeat(9), "first_name": MARKUP, "state": MARKUP});
    shop.send("users", vec![shop.record("users", &customer)]).await?;
    shop.caught_up().await?;
    let document = format!("/documents?{}", query(&[("sink", "catalogue"), ("id", MARKUP)])?);
    let search = format!("/documents?{}", query(&[("sink", "catalogue"), ("q", MARKUP)])?);
    let filtered = format!("/?{}", query(&[("brand", MARKUP), ("state", MARKUP)])?);
    for (path, least) in [
        ("/", 2),
        ("/records", 2),
        (document.as_str(), 3),
        (search.as_str(), 0),
        ("/documents?sink=catalogue", 0),
        (filtered.as_str(), 2),
    ] {
        open(&browser, &shop, path).await?;
        // Twice: as it was sent, and as the script brings it up to date.
        for _ in 0..2 {
            let title = browser.value("document.title").await?;
            ensure!(title.as_str().is_some_and(|title| title.ends_with("· Lockstep")), "{path}: {title}");
            let strange =
                browser.value("document.querySelectorAll('main img, main script, header img').length").await?;
            ensure!(strange == json!(0), "{path} has {strange} elements that data brought");
            tokio::time::sleep(Duration::from_millis(1_200)).await;
        }
        let times = browser.value(&format!("document.body.textContent.split({}).length - 1", json!(MARKUP))).await?;
        ensure!(times.as_i64() >= Some(least), "{path} shows the text {times} times, expected at least {least}");
    }
    browser.assert_console_is_silent().await?;
    browser.quit().await?;
    stream.terminate(SOON).await
}

fn query(pairs: &[(&str, &str)]) -> Result<String> {
    Ok(reqwest::Url::parse_with_params("http://127.0.0.1/", pairs)?.query().context("there are parameters")?.to_owned())
}

#[tokio::test]
async fn a_document_leads_to_the_records_behind_it() -> Result<()> {
    let Some(browser) = Browser::start().await? else { return Ok(()) };
    let (mut shop, mut stream) = running().await?;
    // The second record of the key is the one that counts.
    let sales = shop.generated("sales", 61, 500)?;
    shop.send("sales", sales[..2].to_vec()).await?;
    shop.caught_up().await?;
    let row: serde_json::Value = serde_json::from_slice(sales[1].value.as_deref().context("a sale has a value")?)?;
    let order = row["order_id"].to_string();
    open(&browser, &shop, &format!("/documents?sink=orders_enriched&q=order_id:{order}")).await?;
    browser.click("table.documents th a").await?;
    browser.until("document.querySelector('h2.id') !== null", A_MOMENT).await?;
    assert_eq!(browser.text("h2.id").await?, order);
    let fields = browser.texts(".fields dd").await?;
    ensure!(
        fields.first() == Some(&order) && fields.contains(&row["product_id"].as_str().unwrap_or_default().to_owned()),
        "{fields:?}"
    );
    let places = browser.texts("table.records tbody tr:first-child td.number").await?;
    let offset = last_line_with(&shop.log("sales"), &format!("{{\"key\":\"{order}\""))?;
    assert_eq!(places, ["0".to_owned(), page::thousands(offset)]);
    let tables = browser.texts("table.records tbody th").await?;
    ensure!(tables.len() == 3 && tables[0].starts_with("sales s"), "{tables:?}");

    open(&browser, &shop, "/documents?sink=orders_enriched&id=no-such-order").await?;
    let said = browser.texts(".empty .what").await?;
    assert_eq!(said, ["The index has no such document.", "The join gives no such document now."]);
    browser.quit().await?;
    stream.terminate(SOON).await
}

/// Where the last line of a file begins that begins like this.
fn last_line_with(path: &Path, begin: &str) -> Result<i64> {
    let text = std::fs::read_to_string(path)?;
    let mut at = 0;
    let places = text.split_inclusive('\n').map(|line| {
        at += line.len();
        (at - line.len(), line)
    });
    let last = places.filter(|(_, line)| line.starts_with(begin)).last();
    Ok(i64::try_from(last.with_context(|| format!("no line begins with {begin}"))?.0)?)
}

#[tokio::test]
async fn what_could_not_be_read_is_listed_with_its_place_and_reason() -> Result<()> {
    let Some(browser) = Browser::start().await? else { return Ok(()) };
    let (mut shop, mut stream) = running().await?;
    let offset = i64::try_from(std::fs::metadata(shop.log("views"))?.len())?;
    let bad = [Record::value("{\"view_time\":\"long\"}".to_owned()), Record::value("nonsense".to_owned())];
    shop.send_bad("views", &bad).await?;
    shop.caught_up().await?;
    open(&browser, &shop, "/records").await?;
    let path = shop.log("views").display().to_string();
    let rows = browser.texts("table.records tbody tr").await?;
    ensure!(rows.len() == 2 && rows.iter().all(|row| row.contains(&path)), "{rows:?}");
    for part in
        ["views", &page::thousands(offset), "column view_time is \"long\"; expected INT", "{\"view_time\":\"long\"}"]
    {
        ensure!(rows[1].contains(part), "{part} is not in {}", rows[1]);
    }
    assert_eq!(browser.text(".total .figure").await?, "2");
    let reasons = browser.texts("table.reasons tbody tr").await?;
    assert_eq!(reasons, ["column view_time: expected INT1", "the value is not JSON1"]);
    browser.quit().await?;
    stream.terminate(SOON).await
}

#[tokio::test]
async fn certificates_appear_while_somebody_looks() -> Result<()> {
    let Some(browser) = Browser::start().await? else { return Ok(()) };
    let (shop, mut stream) = running().await?;
    open(&browser, &shop, "/reconcile").await?;
    ensure!(browser.text("main").await?.contains("No certificate yet"), "there is none");
    shop.reconcile(&[], 0).await?;
    browser.until("document.querySelector('.verdict .figure')?.textContent === 'In lockstep'", A_MOMENT).await?;
    let documents = shop.index().all_documents("customers").await?;
    let gone = documents.first().context("there are customers")?.id.clone();
    shop.index().call(Method::DELETE, &format!("/customers/_doc/{gone}"), None).await?;
    shop.reconcile(&[], 3).await?;
    browser.until("document.querySelector('.verdict .figure')?.textContent === '1 difference'", A_MOMENT).await?;
    ensure!(browser.text("details.difference summary").await?.contains(&gone), "it is named");
    shop.reconcile(&["--repair"], 0).await?;
    browser
        .until("document.querySelector('.verdict .figure')?.textContent === 'Differences repaired'", A_MOMENT)
        .await?;
    assert_eq!(browser.texts("main tbody .badge").await?, ["repaired", "differs", "in lockstep"]);
    browser.quit().await?;
    stream.terminate(SOON).await
}

#[tokio::test]
async fn focus_and_what_is_open_and_typed_outlive_a_refresh() -> Result<()> {
    let Some(browser) = Browser::start().await? else { return Ok(()) };
    let (mut shop, mut stream) = running().await?;
    open(&browser, &shop, "/").await?;
    browser.tab().await?;
    assert_eq!(
        browser.value("document.activeElement.className").await?,
        json!("skip"),
        "the first stop leads to the content"
    );
    browser.value("document.querySelector('#top-brands .about').open = document.querySelector('#top-brands .more').open = true").await?;
    browser.value("document.querySelector('[name=from]').value = '2021-01-01T01:00'").await?;
    browser.value("document.querySelector('#sales-over-time summary').focus()").await?;
    browser.value("window.scrollTo(0, 300)").await?;
    let before = browser.text("#pulse").await?;
    let views = shop.generated("views", 62, 50)?;
    shop.send("views", views).await?;
    browser.until(&format!("document.getElementById('pulse').innerText !== {}", json!(before)), A_MOMENT).await?;
    let kept = "[document.querySelector('#top-brands .about').open, document.querySelector('#top-brands .more').open, \
                document.querySelector('[name=from]').value, document.activeElement.closest('.panel')?.id, window.scrollY]";
    assert_eq!(browser.value(kept).await?, json!([true, true, "2021-01-01T01:00", "sales-over-time", 300]));
    browser.click("#pause").await?;
    let paused = browser.text("#pulse").await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(browser.text("#pulse").await?, paused, "nothing changes while it is paused");
    browser.quit().await?;
    stream.terminate(SOON).await
}

#[tokio::test]
async fn every_view_works_without_script() -> Result<()> {
    let Some(browser) = Browser::start().await? else { return Ok(()) };
    let (shop, mut stream) = running().await?;
    browser.run_scripts(Scripts::Off).await?;
    for (view, path) in VIEWS {
        browser.open(&format!("{}{path}", shop.address())).await?;
        assert_eq!(browser.text("h1").await?.to_lowercase(), view);
        ensure!(browser.find("main .card").await.is_ok(), "{view} has something to show");
    }
    browser.open(&format!("{}/", shop.address())).await?;
    browser.click("select[name=state] option[value=Texas]").await?;
    browser.click(".filters button[type=submit]").await?;
    browser.find_within("select[name=state] option[value=Texas][selected]", SOON).await.context("the form is sent")?;
    browser.quit().await?;
    stream.terminate(SOON).await
}

/// Also leaves a picture of each in [`pictures`], to be looked at by people.
#[tokio::test]
async fn every_view_fits_every_width_light_and_dark_and_asks_nobody_else() -> Result<()> {
    let Some(browser) = Browser::start().await? else { return Ok(()) };
    let (mut shop, mut stream) = running().await?;
    shop.send_bad(
        "sales",
        &[Record::value("{\"order_id\":\"a lot of text \\u003cthat\\u003e stays raw\"}".to_owned())],
    )
    .await?;
    shop.caught_up_and_archived().await?;
    shop.reconcile(&[], 0).await?;
    let folder = pictures()?;
    let (mut heaviest, mut paints) = ((0, ""), Vec::new());
    browser.requests().await?;
    for scheme in [Scheme::Light, Scheme::Dark] {
        browser.prefer(scheme).await?;
        for (view, path) in VIEWS {
            for width in WIDTHS {
                browser.resize(width, SCREEN_HEIGHT).await?;
                browser.open(&format!("{}{path}", shop.address())).await?;
                let beyond = page::overflow(&browser).await?;
                ensure!(beyond <= 0, "{view} is {beyond} pixels wider than {width}");
                let (bytes, paint) = page::weight(&browser).await?;
                paints.push(paint);
                ensure!(bytes < HEAVIEST_VIEW_BYTES, "{view} loads {bytes} bytes");
                heaviest = heaviest.max((bytes, view));
                browser.picture(width, &folder.join(picture_name(view, scheme, width))).await?;
            }
        }
    }
    // The middle one: how busy the machine is at one moment is nothing that a page can help.
    paints.sort_by(f64::total_cmp);
    let paint = paints[paints.len() / 2];
    ensure!(paint < FIRST_PAINT_MS, "a view is painted after {paint} ms");
    let own = format!("{}/", shop.address());
    let requests = browser.requests().await?;
    let foreign: Vec<&String> =
        requests.iter().filter(|url| !url.starts_with(&own) && !url.starts_with("data:")).collect();
    ensure!(requests.len() > 36 && foreign.is_empty(), "{} requests, to others: {foreign:?}", requests.len());
    browser.assert_console_is_silent().await?;
    println!(
        "pictures are in {}; the heaviest view is {} with {} bytes; painted after {paint} ms",
        folder.display(),
        heaviest.1,
        heaviest.0
    );
    browser.quit().await?;
    stream.terminate(SOON).await
}
