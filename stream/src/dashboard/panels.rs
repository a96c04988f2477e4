//! The eight panels: their words, their indexes, their requests and readings.

use super::bars::{self, CUSTOMER};
use super::gauges::{self, EVENT, PRODUCT};
use super::{CATALOGUE, CUSTOMERS, Criterion, Filter, Kind, ORDERS, Panel, Source, VIEWS, lines};
use serde_json::Value as Json;

/// The eight panels, in the order in which they are shown.
#[must_use]
pub fn panels() -> &'static [Panel] {
    &PANELS
}

const fn source(sink: &'static str, criteria: &'static [Criterion], aggregations: fn(&Filter) -> Json) -> Source {
    Source { sink, criteria, aggregations, bucketed_by_time: false }
}

static PANELS: [Panel; 8] = [
    Panel {
        id: "unique-products",
        title: "Unique product count",
        kind: Kind::Gauge,
        definition: "Distinct products that were viewed, beside the number of products in the catalogue.",
        grain: "One document a view; one document a product.",
        sources: &[source(VIEWS, EVENT, gauges::viewed_products), source(CATALOGUE, PRODUCT, gauges::catalogue_size)],
        read: gauges::unique_products,
    },
    Panel {
        id: "average-price",
        title: "Average sale price",
        kind: Kind::Gauge,
        definition: "The mean price of the catalogue's products, each counted once; and the mean price of what was \
                     ordered, each order counted once at the product's present price. Whole cents, halves up.",
        grain: "One document a product; one document an order.",
        sources: &[source(CATALOGUE, PRODUCT, gauges::catalogue_price), source(ORDERS, EVENT, gauges::order_price)],
        read: gauges::average_price,
    },
    Panel {
        id: "customer-states",
        title: "Customer state distribution",
        kind: Kind::Bars,
        definition: "Customers by the state that they live in, most first.",
        grain: "One document a customer, with orders or without.",
        sources: &[source(CUSTOMERS, CUSTOMER, bars::states_of_customers)],
        read: bars::customer_states,
    },
    Panel {
        id: "top-brands",
        title: "Top brands by revenue",
        kind: Kind::Bars,
        definition: "The sum of the prices of orders by the brand of the product, each order counted once at the \
                     product's present price.",
        grain: "One document an order.",
        sources: &[source(ORDERS, EVENT, bars::revenue_of_brands)],
        read: bars::top_brands,
    },
    Panel {
        id: "sales-over-time",
        title: "Sales over time",
        kind: Kind::Line,
        definition: "Orders and their revenue by the time of the order (UTC), in buckets whose length fits the range of \
                     time. A bucket without orders is zero; the first and the last may be begun only.",
        grain: "One document an order.",
        sources: &[Source {
            sink: ORDERS,
            criteria: EVENT,
            aggregations: lines::orders_over_time,
            bucketed_by_time: true,
        }],
        read: lines::sales_over_time,
    },
    Panel {
        id: "views-by-hour",
        title: "Page views by time of day",
        kind: Kind::Line,
        definition: "Views by hour of day (UTC), divided by how many hours the data covers of that hour of day over all \
                     days. The data covers the time from the first view to the last within the range of time, whoever \
                     viewed: an hour in between without a view counts as covered, a begun hour by its part. An hour of \
                     day of which less than 15 minutes are covered has no figure. So a partial day makes no false peak.",
        grain: "One document a view.",
        sources: &[source(VIEWS, EVENT, lines::views_of_hours)],
        read: lines::views_by_hour,
    },
    Panel {
        id: "order-frequency",
        title: "Customer order frequency",
        kind: Kind::Bars,
        definition: "How many customers made one order, two orders and so on, and the customers who made most. Customers \
                     without an order are not counted.",
        grain: "One document an order, by its buyer (not by who viewed the product).",
        sources: &[source(ORDERS, EVENT, bars::orders_of_customers)],
        read: bars::order_frequency,
    },
    Panel {
        id: "revenue-by-product",
        title: "Revenue contribution by product",
        kind: Kind::Bars,
        definition: "The sum of the prices of orders by product, each order counted once at the product's present price. \
                     Products are told apart by id and labelled by name: two products may have one name.",
        grain: "One document an order.",
        sources: &[source(ORDERS, EVENT, bars::revenue_of_products)],
        read: bars::revenue_by_product,
    },
];
