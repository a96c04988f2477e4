SELEC 1;
----
CREATE TABEL x (a INT);
----
CREATE FUNCTION f AS 'x';
----
CREATE TABLE x (a INT)
----
CREATE TABLE x (a INT) WITH ();
----
CREATE TABLE x (a INT) WITH ('connector'='kafak');
----
CREATE TABLE x (a INT) WITH ('connector'='kafka','topic'='x');
----
CREATE TABLE x (a INT) WITH ('connector'='kafka','topc'='x','properties.bootstrap.servers'='y');
----
CREATE TABLE x (a INT) WITH ('connector'='filesystem','path'='x','path'='y');
----
CREATE TABLE x (a INT) WITH ('connector'='filesystem','path'='x','format'='avro');
----
CREATE TABLE x (a INT) WITH ('connector'='filesystem','path'='${NOT_SET}');
----
CREATE TABLE x (a INT) WITH ('path'='x');
----
CREATE TABLE x (a STRNG) WITH ('connector'='print');
----
CREATE TABLE x (a ARRAY<INT>) WITH ('connector'='print');
----
CREATE TABLE x (a DECIMAL(39, 2)) WITH ('connector'='print');
----
CREATE TABLE x (a TIMESTAMP(9)) WITH ('connector'='print');
----
CREATE TABLE x (a INT(3)) WITH ('connector'='print');
----
CREATE TABLE x (a INT METADATA FROM 'offset') WITH ('connector'='print');
----
CREATE TABLE x (a INT, b AS a + 1) WITH ('connector'='print');
----
CREATE TABLE x (a INT, a INT) WITH ('connector'='print');
----
CREATE TABLE x (a INT, PRIMARY KEY (b) NOT ENFORCED) WITH ('connector'='print');
----
CREATE TABLE x (a INT, PRIMARY KEY (a)) WITH ('connector'='print');
----
CREATE TABLE x (a DOUBLE, PRIMARY KEY (a) NOT ENFORCED) WITH ('connector'='print');
----
CREATE TABLE x (a INT, UNIQUE (a)) WITH ('connector'='print');
----
CREATE TABLE x (_id INT) WITH ('connector'='print');
----
CREATE TABLE a (id INT) WITH ('connector'='print');
----
CREATE TABLE x (id INT) WITH ('connector'='upsert-kafka','topic'='x','properties.bootstrap.servers'='y','key.format'='json');
----
CREATE TABLE db.x (id INT) WITH ('connector'='print');
----
SET lockstep.step.max-delay = '1 s';
----
SET 'lockstep.step.max-delya' = '1 s';
----
SET 'lockstep.step.max-records' = '0'; INSERT INTO o SELECT id FROM a;
----
EXECUTE STATEMENT SET BEGIN INSERT INTO o SELECT id FROM a;
----
END;
----
CREATE VIEW v AS SELECT id, id FROM a;
----
CREATE VIEW v (x, y) AS SELECT id FROM a;
----
INSERT OVERWRITE o SELECT id FROM a;
----
INSERT INTO o VALUES ('x');
----
INSERT INTO p SELECT id FROM a;
----
INSERT INTO a SELECT id FROM a;
----
INSERT INTO o SELECT id, n FROM a;
----
INSERT INTO o SELECT n FROM a;
----
INSERT INTO o (x) SELECT id FROM a;
----
INSERT INTO o SELECT id FROM a; INSERT INTO o SELECT id FROM a;
----
INSERT INTO o SELECT id FROM b;
----
INSERT INTO o SELECT id FROM o;
----
INSERT INTO o SELECT ID FROM a;
----
INSERT INTO o SELECT x.id FROM a;
----
INSERT INTO o SELECT id FROM a JOIN k ON a.id = k.id;
----
INSERT INTO o SELECT a.id FROM a, k;
----
INSERT INTO o SELECT a.id FROM a CROSS JOIN k;
----
INSERT INTO o SELECT a.id FROM a FULL OUTER JOIN k ON a.id = k.id;
----
INSERT INTO o SELECT a.id FROM a JOIN k USING (id);
----
INSERT INTO o SELECT a.id FROM a JOIN k ON a.n > k.m;
----
INSERT INTO o SELECT a.id FROM a JOIN k ON a.id = k.m;
----
INSERT INTO o SELECT a.id FROM a JOIN a b ON a.d = b.d;
----
INSERT INTO o SELECT a.id FROM a JOIN a ON a.id = a.id;
----
INSERT INTO o SELECT DISTINCT id FROM a;
----
INSERT INTO o SELECT id FROM a GROUP BY id;
----
INSERT INTO o SELECT id FROM a ORDER BY id;
----
INSERT INTO o SELECT id FROM a LIMIT 5;
----
INSERT INTO o SELECT id FROM a UNION ALL SELECT id FROM k;
----
INSERT INTO o WITH x AS (SELECT id FROM a) SELECT id FROM x;
----
INSERT INTO o SELECT MAX(id) FROM a;
----
INSERT INTO o SELECT UPER(id) FROM a;
----
INSERT INTO o SELECT UPPER(n) FROM a;
----
INSERT INTO o SELECT CONCAT(id, n) FROM a;
----
INSERT INTO o SELECT id FROM a WHERE n;
----
INSERT INTO o SELECT id FROM a WHERE n = 'x';
----
INSERT INTO o SELECT id FROM a WHERE n / 2 = 1;
----
INSERT INTO o SELECT id FROM a WHERE id LIKE 'x%';
----
INSERT INTO o SELECT id FROM a WHERE id = NULL;
----
INSERT INTO o SELECT id FROM a WHERE id IN (SELECT id FROM k);
----
INSERT INTO o SELECT id FROM a WHERE CAST(id AS INT) = 1;
----
INSERT INTO o SELECT CAST(d AS STRING) FROM a;
----
INSERT INTO o SELECT SUBSTRING(id, n) FROM a;
----
INSERT INTO o SELECT id FROM a WHERE NOW() > t;
----
INSERT INTO o SELECT id FROM a WHERE EXTRACT(DOW FROM t) = 1;
----
INSERT INTO o SELECT id FROM (SELECT id FROM a);
----
INSERT INTO o SELECT id FROM a WHERE DATE '2021-02-30' IS NULL;
----
INSERT INTO o SELECT id FROM a WHERE (id = 'x';
----
INSERT INTO o SELECT id FROM a WHERE id = 'x
----
CREATE TABLE s (id STRING, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector'='print'); INSERT INTO s SELECT id FROM a;
----
CREATE TABLE s (id STRING, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector'='print'); INSERT INTO s SELECT k.id FROM k JOIN k l ON k.m = l.m;
----
CREATE TABLE s (m BIGINT NOT NULL) WITH ('connector'='print'); INSERT INTO s SELECT m FROM k;
