//! What the benchmarks share: a shop of the wanted size as file logs, and our programs on it as processes.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::num::{NonZero, ParseIntError};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use lockstep_stream::feed::ingest::pair;
use serde_json::{Value, json};

use crate::containers::{free_port, fresh_name};
use crate::workspace;

/// Of so many pairs of user and product that are viewed, one is sold.
const VIEWS_OF_SALE: usize = 2;

/// A process of ours; it does not outlive this one.
pub struct Running(Child);

impl Running {
    /// Starts it.
    ///
    /// # Errors
    /// Those of the system.
    pub fn start(mut command: Command) -> Result<Self> {
        Ok(Self(command.spawn()?))
    }

    /// Its exit code, once it has ended.
    ///
    /// # Errors
    /// Where a signal ended it, or the system does not tell.
    pub fn ended(&mut self) -> Result<Option<i32>> {
        let Some(status) = self.0.try_wait()? else { return Ok(None) };
        status.code().map(Some).with_context(|| format!("it ended with {status}"))
    }

    /// The most memory that it has had.
    ///
    /// # Errors
    /// Where the system does not tell, or the process has ended.
    pub fn peak_memory_mib(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line =
            status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("the system tells peak memory")?;
        Ok(line.trim().trim_end_matches("kB").trim().parse::<u64>()? / 1024)
    }

    /// Waits until a stream has taken so many records, and has written and archived all; how many documents it wrote.
    ///
    /// # Errors
    /// Where it ends before.
    pub async fn caught_up(&mut self, port: u16, records: usize) -> Result<u64> {
        loop {
            tokio::time::sleep(Duration::from_millis(50)).await;
            if let Some(code) = self.ended()? {
                bail!("the stream ended with {code}");
            }
            if !is_ready(port).await {
                continue;
            }
            let status = status(port).await?;
            let tables = status["tables"].as_object();
            let taken: u64 = tables.into_iter().flatten().filter_map(|(_, table)| table["records"].as_u64()).sum();
            let done = status["step"] == status["acknowledged"] && status["step"] == status["archived"];
            if taken >= records as u64 && done {
                return status["written"].as_u64().context("the status counts what is written");
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

async fn is_ready(port: u16) -> bool {
    let asked = reqwest::Client::builder().no_proxy().build().map(|http| http.get(address(port, "/readyz")).send());
    match asked {
        Ok(answer) => answer.await.is_ok_and(|answer| answer.status().is_success()),
        Err(_) => false,
    }
}

fn address(port: u16, path: &str) -> String {
    format!("http://127.0.0.1:{port}{path}")
}

/// `/v1/status` of a stream.
///
/// # Errors
/// Where it does not answer.
pub async fn status(port: u16) -> Result<Value> {
    let http = reqwest::Client::builder().no_proxy().build()?;
    Ok(http.get(address(port, "/v1/status")).send().await?.json().await?)
}

/// One of our programs, from the folder of the one that runs, on `fixtures/bench.sql`.
///
/// # Errors
/// Where it is not built.
pub fn program(name: &str, command: &[&str], sets: &[String]) -> Result<Command> {
    let path = std::env::current_exe()?.with_file_name(name);
    ensure!(path.is_file(), "{} is not built", path.display());
    let mut program = Command::new(path);
    program.arg(command[0]).arg(workspace().join("fixtures/bench.sql")).args(&command[1..]);
    program.args(sets.iter().flat_map(|set| ["--set", set])).stdin(Stdio::null());
    Ok(program)
}

/// What shop a benchmark is of.
#[derive(clap::Args)]
pub struct ShopArguments {
    /// Views, each of which becomes one document
    #[arg(long, default_value_t = 1_000_000, value_parser = some)]
    pub views: usize,
    /// Users, and as many products
    #[arg(long, default_value_t = 50_000, value_parser = some)]
    pub users: usize,
    /// Elasticsearch, in place of the embedded index
    #[arg(long)]
    pub hosts: Option<String>,
}

/// How many, and not none.
fn some(text: &str) -> Result<usize, ParseIntError> {
    text.parse::<NonZero<usize>>().map(NonZero::get)
}

/// A shop as file logs, its archive, and its index.
pub struct Shop {
    /// Where logs and archive are.
    pub folder: PathBuf,
    /// Users, and as many products.
    pub users: usize,
    /// Views, each of which becomes one document.
    pub views: usize,
    /// The server of the index.
    pub url: String,
    /// The name of the index.
    pub index: String,
    /// Where the stream answers.
    pub port: u16,
    /// Whether the stream is the index's server.
    is_embedded: bool,
}

impl Shop {
    /// A shop in that folder, with the index of that name, or a new one.
    ///
    /// # Errors
    /// Where no port is free.
    pub fn new(folder: &Path, arguments: &ShopArguments, index: Option<&str>) -> Result<Self> {
        let embedded = free_port()?;
        Ok(Self {
            folder: folder.to_owned(),
            users: arguments.users,
            views: arguments.views,
            url: arguments.hosts.clone().unwrap_or_else(|| format!("http://127.0.0.1:{embedded}")),
            index: index.map_or_else(|| fresh_name("bench"), str::to_owned),
            port: free_port()?,
            is_embedded: arguments.hosts.is_none(),
        })
    }

    /// What `--set` is given.
    #[must_use]
    pub fn sets(&self) -> Vec<String> {
        let below = |name: &str| self.folder.join(name).display().to_string();
        let mut sets: Vec<String> = ["products", "sales", "users", "views"]
            .iter()
            .map(|table| format!("{table}.path={}", below(&format!("{table}.jsonl"))))
            .collect();
        let embedded = if self.is_embedded { self.url.trim_start_matches("http://") } else { "" };
        sets.push(format!("lockstep.archive.path={}", below("archive")));
        sets.push(format!("lockstep.state.path={}", below("state")));
        sets.push(format!("lockstep.http.address=127.0.0.1:{}", self.port));
        sets.push(format!("product_dashboard.hosts={}", self.url));
        sets.push(format!("product_dashboard.index={}", self.index));
        sets.push(format!("lockstep.index.embedded.address={embedded}"));
        sets
    }

    /// Writes the logs; how many records they have.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn write_logs(&self) -> Result<usize> {
        std::fs::create_dir_all(&self.folder)?;
        let create = |table: &str| Ok::<_, anyhow::Error>(BufWriter::new(File::create(self.log(table))?));
        let (mut users, mut products, mut views) = (create("users")?, create("products")?, create("views")?);
        let mut sales = create("sales")?;
        for n in 0..self.users {
            users.write_all(&user(n, 0))?;
            let product = json!({"id": format!("product-{n}"), "brand": format!("Brand{}", n % 499), "name": format!("Shoe {n}"),
                "sale_price": n % 20_000, "rating": 4.5});
            products.write_all(&pair(Some(&format!("product-{n}")), product.to_string().as_bytes()))?;
        }
        for n in (0..self.users).step_by(VIEWS_OF_SALE) {
            let (user, product) = self.seen(n);
            let sale = json!({"order_id": n, "product_id": format!("product-{product}"), "customer_id": format!("user-{user}"),
                "ts": 1_609_459_200_000_i64 + n as i64});
            sales.write_all(&pair(Some(&n.to_string()), sale.to_string().as_bytes()))?;
        }
        (0..self.views).try_for_each(|n| views.write_all(&self.view(n)))?;
        [users, products, sales, views].iter_mut().try_for_each(|out| out.flush())?;
        Ok(self.views + 2 * self.users + self.users.div_ceil(VIEWS_OF_SALE))
    }

    /// Adds lines to the log of a table.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn append(&self, table: &str, lines: &[u8]) -> Result<()> {
        Ok(OpenOptions::new().append(true).open(self.log(table))?.write_all(lines)?)
    }

    /// A view, as a line.
    #[must_use]
    pub fn view(&self, n: usize) -> Vec<u8> {
        let (user, product) = self.seen(n);
        let view = json!({"product_id": format!("product-{product}"), "user_id": format!("user-{user}"), "view_time": n % 600,
            "page_url": "https://shop.example/p", "ts": 1_609_459_200_000_i64 + n as i64 * 10});
        format!("{view}\n").into_bytes()
    }

    /// The user and the product of a view.
    fn seen(&self, n: usize) -> (usize, usize) {
        (n * 7_919 % self.users, n * 104_729 % self.users)
    }

    fn log(&self, table: &str) -> PathBuf {
        self.folder.join(format!("{table}.jsonl"))
    }
}

/// A user, as a line of a keyed log; each version moves to another state.
#[must_use]
pub fn user(n: usize, version: usize) -> Vec<u8> {
    let user = json!({"id": format!("user-{n}"), "first_name": format!("First{}", n % 997), "last_name": format!("Last{}", n % 1_009),
        "email": format!("user{n}@example.com"), "state": format!("State{}", (n + version) % 50)});
    pair(Some(&format!("user-{n}")), user.to_string().as_bytes())
}
