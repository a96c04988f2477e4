//! A real browser: Chromium, driven through WebDriver, one for each test.
//!
//! `LOCKSTEP_BROWSER=required` (what `integration-tests/run` sets, after it has installed Debian's `chromium` and
//! `chromium-driver`) makes a missing browser an error. Without it [`Browser::start`] gives `None` after one line that says
//! so. The browser can reach nothing but this machine, and its network log says what it asked for.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use async_trait::async_trait;
use axum::body::Bytes;
use axum::http::{Request, Response};
use serde_json::{Value, json};
use tempfile::TempDir;
use thirtyfour::common::capabilities::chromium::ChromiumLikeCapabilities as _;
use thirtyfour::extensions::query::ElementQueryable as _;
use thirtyfour::prelude::{By, WebDriver, WebDriverError, WebDriverResult, WebElement};
use thirtyfour::session::http::{Body, HttpClient};
use thirtyfour::{DesiredCapabilities, LoggingPrefsLogLevel};

use crate::containers::{free_port, record_evidence};
use crate::processes::Program;
use crate::{eventually, variable};

/// How long driver and browser may take to start.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How long one command of the driver may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// Pixels of the window's height, where a test does not ask for others.
pub const SCREEN_HEIGHT: u32 = 900;
/// What shall not differ between machines, and what the browser shall not do by itself.
const ARGUMENTS: [&str; 9] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--force-color-profile=srgb",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
];

/// Light or dark, as the reader's system prefers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Dark on light.
    Light,
    /// Light on dark.
    Dark,
}

impl Scheme {
    /// As a style sheet asks for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Light => "light",
            Self::Dark => "dark",
        }
    }
}

/// A browser with one window.
pub struct Browser {
    web: WebDriver,
    /// Ends with the value, and the browser with it.
    _driver: Program,
    _folder: TempDir,
}

impl Browser {
    /// Starts one; `None` where browser tests are not wanted.
    pub async fn start() -> Result<Option<Self>> {
        if !wanted()? {
            return Ok(None);
        }
        let (folder, port) = (tempfile::tempdir()?, free_port()?);
        let mut command = Command::new("chromedriver");
        command.arg(format!("--port={port}")).current_dir(folder.path());
        let mut driver = Program::spawn("chromedriver", command, folder.path())?;
        let url = format!("http://127.0.0.1:{port}");
        driver.wait_for_health(&format!("{url}/status"), READY_WITHIN).await?;
        let mut wishes = DesiredCapabilities::chrome();
        for argument in ARGUMENTS {
            wishes.add_arg(argument)?;
        }
        wishes.add_arg(&format!("--user-data-dir={}", folder.path().join("profile").display()))?;
        wishes.set_logging_prefs("browser", LoggingPrefsLogLevel::All)?;
        wishes.set_logging_prefs("performance", LoggingPrefsLogLevel::All)?;
        let web = WebDriver::builder(url, wishes).client(Http::new()?).connect().await?;
        record_evidence("Chromium")?;
        Ok(Some(Self { web, _driver: driver, _folder: folder }))
    }

    /// Opens a page.
    pub async fn open(&self, url: &str) -> Result<()> {
        self.web.goto(url).await.with_context(|| url.to_owned())
    }

    /// Loads the page again.
    pub async fn reload(&self) -> Result<()> {
        Ok(self.web.refresh().await?)
    }

    /// Makes the window's inside so many pixels wide and high.
    pub async fn resize(&self, width: u32, height: u32) -> Result<()> {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.web.cdp().send_raw("Emulation.setDeviceMetricsOverride", size).await?;
        Ok(())
    }

    /// Prefers light or dark.
    pub async fn prefer(&self, scheme: Scheme) -> Result<()> {
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme.name()}]});
        self.web.cdp().send_raw("Emulation.setEmulatedMedia", features).await?;
        Ok(())
    }

    /// Takes or gives back JavaScript, from the next page on.
    pub async fn run_scripts(&self, scripts: Scripts) -> Result<()> {
        let off = json!({"value": scripts == Scripts::Off});
        self.web.cdp().send_raw("Emulation.setScriptExecutionDisabled", off).await?;
        Ok(())
    }

    /// A picture of the whole page at a width, as PNG, into a file. The window is that high for the moment.
    pub async fn picture(&self, width: u32, path: &Path) -> Result<()> {
        std::fs::create_dir_all(path.parent().context("a file is in a folder")?)?;
        self.resize(width, SCREEN_HEIGHT).await?;
        let height = self.value("document.documentElement.scrollHeight").await?;
        let height = height.as_u64().and_then(|height| u32::try_from(height).ok()).context("a page has a height")?;
        self.resize(width, height.max(SCREEN_HEIGHT)).await?;
        self.web.screenshot(path).await.with_context(|| path.display().to_string())?;
        self.resize(width, SCREEN_HEIGHT).await
    }

    /// The value of an expression in the page.
    pub async fn value(&self, expression: &str) -> Result<Value> {
        let done = self.web.execute(format!("return {expression};"), Vec::new()).await;
        Ok(done.with_context(|| expression.to_owned())?.json().clone())
    }

    /// The text of the first element that a selector finds, as a reader sees it.
    pub async fn text(&self, selector: &str) -> Result<String> {
        Ok(self.find(selector).await?.text().await?)
    }

    /// The texts of all of them, also of what is folded away.
    pub async fn texts(&self, selector: &str) -> Result<Vec<String>> {
        let found = format!("[...document.querySelectorAll({})].map(e => e.textContent.trim())", json!(selector));
        Ok(serde_json::from_value(self.value(&found).await?)?)
    }

    /// The first element that a selector finds.
    pub async fn find(&self, selector: &str) -> Result<WebElement> {
        self.web.find(By::Css(selector)).await.with_context(|| format!("nothing is {selector}"))
    }

    /// The same, on a page that may still be on its way.
    pub async fn find_within(&self, selector: &str, within: Duration) -> Result<WebElement> {
        let query = self.web.query(By::Css(selector)).wait(within, Duration::from_millis(100));
        query.first().await.with_context(|| format!("nothing is {selector}"))
    }

    /// Clicks it.
    pub async fn click(&self, selector: &str) -> Result<()> {
        self.find(selector).await?.click().await.with_context(|| format!("{selector} cannot be clicked"))
    }

    /// Presses the tabulator key.
    pub async fn tab(&self) -> Result<()> {
        let key = json!({"type": "rawKeyDown", "key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9});
        self.web.cdp().send_raw("Input.dispatchKeyEvent", key).await?;
        Ok(())
    }

    /// Waits until an expression in the page is true.
    pub async fn until(&self, expression: &str, within: Duration) -> Result<()> {
        eventually(expression, within, async || match self.value(expression).await {
            Ok(Value::Bool(true)) => Ok(()),
            Ok(other) => Err(other.to_string()),
            Err(error) => Err(format!("{error:#}")),
        })
        .await
    }

    /// Fails where the console has an error: a refused style, script or request among them.
    pub async fn assert_console_is_silent(&self) -> Result<()> {
        let entries = self.web.get_log("browser").await?;
        let errors: Vec<_> = entries.iter().filter(|e| e.level != "INFO" && e.level != "DEBUG").collect();
        ensure!(errors.is_empty(), "the browser's console says {errors:#?}");
        Ok(())
    }

    /// What the browser has asked for since it was asked last, as addresses.
    pub async fn requests(&self) -> Result<Vec<String>> {
        let mut addresses = Vec::new();
        for entry in self.web.get_log("performance").await? {
            let event: Value = serde_json::from_str(&entry.message)?;
            if event["message"]["method"] == "Network.requestWillBeSent" {
                let url = event["message"]["params"]["request"]["url"].as_str();
                addresses.push(url.context("a request has an address")?.to_owned());
            }
        }
        Ok(addresses)
    }

    /// Ends the browser in order.
    pub async fn quit(self) -> Result<()> {
        Ok(self.web.quit().await?)
    }
}

/// Whether pages run scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scripts {
    /// They do.
    On,
    /// They do not.
    Off,
}

/// Where a run leaves its pictures: beside the build output, which is never committed.
pub fn pictures() -> Result<PathBuf> {
    let test = std::env::current_exe().context("the path of the running test")?;
    // The test is in TARGET/PROFILE/deps.
    Ok(test.ancestors().nth(3).context("the target folder")?.join("screenshots"))
}

/// A file name that no other test uses.
pub fn picture_name(view: &str, scheme: Scheme, width: u32) -> String {
    format!("{view}-{}-{width}.png", scheme.name())
}

fn wanted() -> Result<bool> {
    let line = match variable("LOCKSTEP_BROWSER").as_deref() {
        Some("required") => return Ok(true),
        None => "browser tests did not run: no browser is known to be there (integration-tests/run installs one)",
        Some("off") => "browser tests did not run: LOCKSTEP_BROWSER is off",
        Some(other) => bail!("LOCKSTEP_BROWSER is '{other}', expected 'required', 'off' or nothing"),
    };
    // Not `println!`: the test runner swallows that for a test that passes.
    writeln!(std::io::stderr(), "{line}")?;
    Ok(false)
}

/// The client that the tests have anyway, for the driver.
struct Http(reqwest::Client);

impl Http {
    fn new() -> Result<Self> {
        Ok(Self(reqwest::Client::builder().no_proxy().timeout(ANSWER_WITHIN).build()?))
    }
}

#[async_trait]
impl HttpClient for Http {
    async fn send(&self, request: Request<Body<'_>>) -> WebDriverResult<Response<Bytes>> {
        let failed = |error: reqwest::Error| WebDriverError::HttpError(error.to_string());
        let (parts, body) = request.into_parts();
        let mut sent = self.0.request(parts.method, parts.uri.to_string()).headers(parts.headers);
        if let Body::Json(json) = body {
            sent = sent.json(json);
        }
        let answer = sent.send().await.map_err(failed)?;
        let status = answer.status();
        let mut response = Response::new(answer.bytes().await.map_err(failed)?);
        *response.status_mut() = status;
        Ok(response)
    }

    async fn new(&self) -> Arc<dyn HttpClient> {
        Arc::new(Self(self.0.clone()))
    }
}
