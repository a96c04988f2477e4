CREATE TABLE brands (id STRING, label STRING, country STRING, PRIMARY KEY (id) NOT ENFORCED)
WITH ('connector' = 'filesystem', 'path' = 'brands', 'format' = 'json', 'key.format' = 'raw');
CREATE TABLE products (id STRING, brand_id STRING, name STRING, price DOUBLE, weight DECIMAL(10, 3), PRIMARY KEY (id) NOT ENFORCED)
WITH ('connector' = 'filesystem', 'path' = 'products', 'format' = 'json', 'key.format' = 'raw');
CREATE TABLE users (id STRING, name STRING, active BOOLEAN, PRIMARY KEY (id) NOT ENFORCED)
WITH ('connector' = 'filesystem', 'path' = 'users', 'format' = 'json', 'key.format' = 'raw');
CREATE TABLE orders (id BIGINT, product_id STRING, user_id STRING, amount INT, ts TIMESTAMP(3), PRIMARY KEY (id) NOT ENFORCED)
WITH ('connector' = 'filesystem', 'path' = 'orders', 'format' = 'json', 'key.format' = 'raw');
CREATE TABLE prices (region_id STRING, product_id STRING, price DOUBLE, since DATE, PRIMARY KEY (region_id, product_id) NOT ENFORCED)
WITH ('connector' = 'filesystem', 'path' = 'prices', 'format' = 'json', 'key.format' = 'json');
CREATE TABLE views (product_id STRING, user_id STRING, region_id STRING, seconds INT, ts TIMESTAMP(6))
WITH ('connector' = 'filesystem', 'path' = 'views', 'format' = 'json');

-- A snowflake of look-ups, with a key of its own.
CREATE TABLE orders_enriched (order_id BIGINT, buyer STRING, product STRING, brand STRING, country STRING, price DOUBLE, weight DECIMAL(10, 3), amount INT, ts TIMESTAMP(3), PRIMARY KEY (order_id) NOT ENFORCED)
WITH ('connector' = 'blackhole');
-- Many to many, told apart by rows, null-padded where nobody bought.
CREATE TABLE views_wide (product_id STRING, user_id STRING, seconds INT, ts TIMESTAMP(6), viewer STRING, order_id BIGINT, amount INT)
WITH ('connector' = 'blackhole');
-- Two rows in one key, and a filter.
CREATE TABLE bought (user_id STRING, order_id BIGINT, name STRING, product STRING, price DOUBLE, amount INT, PRIMARY KEY (user_id, order_id) NOT ENFORCED)
WITH ('connector' = 'blackhole');
-- A look-up by two columns.
CREATE TABLE priced (product_id STRING, region_id STRING, price DOUBLE, since DATE, seconds INT)
WITH ('connector' = 'blackhole');
-- Rows of an inner join that leads to a key on the right.
CREATE TABLE sold (order_id BIGINT, product STRING, brand STRING, amount INT, PRIMARY KEY (order_id) NOT ENFORCED)
WITH ('connector' = 'blackhole');

EXECUTE STATEMENT SET BEGIN
INSERT INTO orders_enriched
SELECT o.id, u.name, p.name, b.label, b.country, p.price, p.weight, o.amount, o.ts
FROM orders o LEFT JOIN users u ON o.user_id = u.id LEFT JOIN products p ON o.product_id = p.id LEFT JOIN brands b ON p.brand_id = b.id;
INSERT INTO views_wide
SELECT v.product_id, v.user_id, v.seconds, v.ts, u.name, o.id, o.amount
FROM views v LEFT JOIN users u ON v.user_id = u.id LEFT JOIN orders o ON v.product_id = o.product_id;
INSERT INTO bought
SELECT u.id, o.id, u.name, p.name, p.price, o.amount
FROM users u INNER JOIN orders o ON u.id = o.user_id LEFT JOIN products p ON o.product_id = p.id WHERE u.active IS NOT NULL AND o.amount > 2;
INSERT INTO priced
SELECT v.product_id, v.region_id, r.price, r.since, v.seconds
FROM views v LEFT JOIN prices r ON v.region_id = r.region_id AND v.product_id = r.product_id;
INSERT INTO sold
SELECT o.id, p.name, b.label, o.amount
FROM brands b INNER JOIN products p ON b.id = p.brand_id INNER JOIN orders o ON p.id = o.product_id;
END;
