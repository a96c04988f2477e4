//! What the archive says of the shop at a cut, counted by Polars: each product with its views and orders, each customer with
//! his orders, each hour with its orders. A product's or customer's last record counts, whether or not the pipeline declares a key for them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use lockstep_shared::coordinates::Step;
use lockstep_shared::plan::{Pipeline, Table};
use lockstep_shared::value::Value;
use polars::prelude::{
    DataFrame, DataType, Expr, IntoLazy, JoinArgs, JoinCoalesce, JoinType, LazyFrame, PolarsError, col, len, lit,
};

use super::InsightsError;
use crate::frame::values;
use crate::recompute::{last_of, standing};

const HOUR_US: i64 = 3_600_000_000;

/// The shop.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Facts {
    pub(super) products: Vec<Product>,
    pub(super) customers: Vec<Customer>,
    /// All orders, those of unknown products and customers too.
    pub(super) orders: u64,
    /// All views, likewise.
    pub(super) views: u64,
    pub(super) hours: Hours,
}

/// A product of the catalogue.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Product {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) views: u64,
    pub(super) orders: u64,
    pub(super) cents: i64,
}

/// A customer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Customer {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) state: Option<String>,
    pub(super) orders: u64,
    pub(super) cents: i64,
}

/// Orders by hour.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Hours {
    /// The first and the last order, in microseconds of the epoch.
    pub(super) range_us: Option<(i64, i64)>,
    /// By hour of the epoch: orders and cents.
    pub(super) by_hour: BTreeMap<i64, (u64, i64)>,
}

/// The columns that are read, by table.
const COLUMNS: [(&str, &[&str]); 4] = [
    ("products", &["id", "name", "sale_price"]),
    ("users", &["id", "first_name", "last_name", "state"]),
    ("sales", &["order_id", "product_id", "customer_id", "ts"]),
    ("views", &["product_id"]),
];

/// The shop's four tables, each with the rows that stand after the cut.
pub(super) struct Shop {
    products: LazyFrame,
    users: LazyFrame,
    sales: LazyFrame,
    views: LazyFrame,
}

impl Shop {
    /// # Errors
    /// Where the pipeline is not a shop's, or a file cannot be read.
    pub(super) fn open(pipeline: &Pipeline, files: &[Vec<PathBuf>], cut: Step) -> Result<Self, InsightsError> {
        let mut frames = Vec::new();
        for (name, columns) in COLUMNS {
            let lacking = || InsightsError::NoShop { table: name, columns: columns.join(", ") };
            let number = pipeline.tables.iter().position(|table| table.name == name).ok_or_else(lacking)?;
            let table = &pipeline.tables[number];
            if columns.iter().any(|column| !has(table, column)) {
                return Err(lacking());
            }
            let frame = standing(table, &files[number], cut)?;
            let frame = if matches!(name, "products" | "users") { last_of(frame, &["id"]) } else { frame };
            frames.push(frame.select(columns.iter().map(|column| col(*column)).collect::<Vec<_>>()));
        }
        let [products, users, sales, views] =
            frames.try_into().unwrap_or_else(|_| unreachable!("there are four tables"));
        // Prices are whole cents, as in the index.
        let products = products.with_column(col("sale_price").cast(DataType::Int64).alias("cents"));
        Ok(Self { products, users, sales, views })
    }

    pub(super) fn facts(self) -> Result<Facts, InsightsError> {
        let prices = self.products.clone().select([col("id"), col("cents")]);
        let sold = left(self.sales, prices, "product_id", "id").collect()?;
        let views = self.views.collect()?;
        let (orders, viewed) = (sold.height() as u64, views.height() as u64);
        Ok(Facts {
            products: products(self.products, &sold, views)?,
            customers: customers(self.users, &sold)?,
            orders,
            views: viewed,
            hours: hours(sold)?,
        })
    }
}

fn has(table: &Table, column: &str) -> bool {
    table.columns.iter().any(|c| c.name == column)
}

/// A left join on one column, spelled out: NULL never matches, the right key stays under its own name.
fn left(a: LazyFrame, b: LazyFrame, on: &str, of: &str) -> LazyFrame {
    let args =
        JoinArgs { coalesce: JoinCoalesce::CoalesceColumns, nulls_equal: false, ..JoinArgs::new(JoinType::Left) };
    a.join(b, [col(on)], [col(of)], args)
}

fn orders_of(sold: &DataFrame, by: &str) -> LazyFrame {
    let totals = [len().cast(DataType::Int64).alias("orders"), col("cents").sum().alias("revenue")];
    sold.clone().lazy().group_by([col(by)]).agg(totals)
}

fn products(products: LazyFrame, sold: &DataFrame, views: DataFrame) -> Result<Vec<Product>, PolarsError> {
    let viewed = views.lazy().group_by([col("product_id")]).agg([len().cast(DataType::Int64).alias("views")]);
    let counted = left(left(products, viewed, "id", "product_id"), orders_of(sold, "product_id"), "id", "product_id");
    let columns = ["id", "name"].map(col).into_iter().chain(["views", "orders", "revenue"].map(or_zero));
    let rows = rows(counted.select(columns.collect::<Vec<_>>()))?;
    let mut products: Vec<Product> = rows
        .into_iter()
        .map(|row| Product {
            id: text(&row[0]).unwrap_or_default(),
            name: text(&row[1]).unwrap_or_default(),
            views: count(&row[2]),
            orders: count(&row[3]),
            cents: whole(&row[4]),
        })
        .collect();
    products.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(products)
}

fn customers(users: LazyFrame, sold: &DataFrame) -> Result<Vec<Customer>, PolarsError> {
    let counted = left(users, orders_of(sold, "customer_id"), "id", "customer_id");
    let columns = ["id", "first_name", "last_name", "state"].map(col).into_iter();
    let rows = rows(counted.select(columns.chain(["orders", "revenue"].map(or_zero)).collect::<Vec<_>>()))?;
    let mut customers: Vec<Customer> = rows
        .into_iter()
        .map(|row| Customer {
            id: text(&row[0]).unwrap_or_default(),
            name: [text(&row[1]), text(&row[2])].into_iter().flatten().collect::<Vec<_>>().join(" "),
            state: text(&row[3]),
            orders: count(&row[4]),
            cents: whole(&row[5]),
        })
        .collect();
    customers.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(customers)
}

fn hours(sold: DataFrame) -> Result<Hours, PolarsError> {
    // As a number: the archive's instants name their zone, and only their distance from the epoch matters here.
    let timed = sold.lazy().filter(col("ts").is_not_null()).with_column(col("ts").cast(DataType::Int64).alias("us"));
    let range = rows(timed.clone().select([col("us").min().alias("first"), col("us").max().alias("last")]))?;
    let range_us = match range.first().map(Vec::as_slice) {
        Some([Value::Integer(first), Value::Integer(last)]) => Some((*first, *last)),
        _ => None,
    };
    let totals = [len().cast(DataType::Int64).alias("orders"), col("cents").sum().alias("revenue")];
    let by = timed.group_by([col("us").floor_div(lit(HOUR_US)).alias("hour")]).agg(totals);
    let by_hour = rows(by)?.into_iter().map(|row| (whole(&row[0]), (count(&row[1]), whole(&row[2])))).collect();
    Ok(Hours { range_us, by_hour })
}

fn or_zero(name: &str) -> Expr {
    col(name).fill_null(lit(0_i64))
}

/// A frame row by row.
fn rows(frame: LazyFrame) -> Result<Vec<Vec<Value>>, PolarsError> {
    let frame = frame.collect()?;
    let columns: Vec<Vec<Value>> = frame.columns().iter().map(values).collect();
    Ok((0..frame.height()).map(|row| columns.iter().map(|column| column[row].clone()).collect()).collect())
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.to_string()),
        _ => None,
    }
}

fn whole(value: &Value) -> i64 {
    match value {
        Value::Integer(number) => *number,
        _ => 0,
    }
}

fn count(value: &Value) -> u64 {
    whole(value).unsigned_abs()
}
