//! Records as a living shop sends them: new ones, updates, deletes and bad ones, in bursts, from a seed.

use anyhow::Result;
use lockstep_integration_tests::kafka::Record;
use lockstep_integration_tests::variable;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use crate::shop::Shop;

/// Users, and as many products: few enough that they are updated, deleted and joined, and many enough that an update
/// touches few documents after a thousand rounds.
const KEYS: u32 = 50;
/// Order numbers in use.
const ORDERS: u32 = 300;
/// One record in so many is bad.
const BAD_EVERY: u32 = 12;
/// One record of a key in so many deletes it.
const DELETE_EVERY: u32 = 6;

/// Where a random test begins: a seed of its own, or the one that is to be seen again.
pub fn seed(variable_name: &str) -> Result<u64> {
    match variable(variable_name) {
        Some(given) => Ok(given.parse()?),
        None => Ok(rand::random()),
    }
}

/// A stream of records.
pub struct Traffic {
    /// For whoever decides by the same seed.
    pub rng: StdRng,
    made: u64,
}

impl Traffic {
    /// The same seed gives the same records.
    pub fn new(seed: u64) -> Self {
        Self { rng: StdRng::seed_from_u64(seed), made: 0 }
    }

    /// Sends up to so many records of each table.
    pub async fn burst(&mut self, shop: &mut Shop, most: usize) -> Result<()> {
        for table in ["products", "users", "sales", "views"] {
            let count = self.rng.random_range(0..=most);
            let mut good = Vec::new();
            for _ in 0..count {
                if self.rng.random_range(0..BAD_EVERY) == 0 {
                    let bad = self.bad(table);
                    shop.send_bad(table, &[bad]).await?;
                } else {
                    good.push(self.good(table));
                }
            }
            if !good.is_empty() {
                shop.send(table, good).await?;
            }
        }
        Ok(())
    }

    fn name(&mut self, prefix: char) -> String {
        format!("{prefix}{}", self.rng.random_range(0..KEYS))
    }

    /// A record that is a row, or deletes one.
    pub fn good(&mut self, table: &str) -> Record {
        self.made += 1;
        let number = self.made;
        let (key, row) = match table {
            "products" => {
                let id = self.name('p');
                let row = json!({"id": id, "brand": format!("b{number}"), "name": format!("n{number}"), "sale_price": 1.5, "rating": 4.0});
                (id, row)
            }
            "users" => {
                let id = self.name('u');
                let row = json!({"id": id, "first_name": format!("f{number}"), "last_name": "l", "email": "e", "state": format!("s{number}")});
                (id, row)
            }
            "sales" => {
                let (order, product, user) = (self.rng.random_range(0..ORDERS), self.name('p'), self.name('u'));
                let row = json!({"order_id": order, "product_id": product, "customer_id": user, "ts": 1_600_000_000_000_u64 + number});
                (order.to_string(), row)
            }
            _ => return Record::value(self.view(number).to_string()),
        };
        if self.rng.random_range(0..DELETE_EVERY) == 0 {
            Record::tombstone(key)
        } else {
            Record::keyed(key, row.to_string())
        }
    }

    fn view(&mut self, number: u64) -> Value {
        let (product, user) = (self.name('p'), self.name('u'));
        json!({"product_id": product, "user_id": user, "view_time": number % 1_000, "page_url": "/", "ts": 1_600_000_000_000_u64 + number})
    }

    fn bad(&mut self, table: &str) -> Record {
        let value = match self.rng.random_range(0..3) {
            0 => "{\"torn\": ".to_owned(),
            1 => json!([1, 2]).to_string(),
            _ => json!({"id": 5, "order_id": "x", "view_time": "ten"}).to_string(),
        };
        match table {
            "views" => Record::value(value),
            _ => Record::keyed("k", value),
        }
    }
}
