//! Programs that compile, and many that must not: each with its golden message.

use expect_test::{Expect, expect, expect_file};
use proptest::prelude::*;

use super::*;

const SEED: &str = include_str!("../../../fixtures/seed.sql");
const REFUSED: &str = include_str!("refused.sql");

fn compiled(text: &str) -> Result<Pipeline, String> {
    let environment = |name: &str| (name == "SECRET").then(|| "s3cret".to_owned());
    compile(text, &Overrides::default(), &environment)
        .map_err(|errors| errors.iter().map(|e| e.render(text)).collect::<Vec<_>>().join("\n"))
}

fn explained(text: &str, expected: &Expect) {
    expected.assert_eq(&compiled(text).map_or_else(|error| error, |pipeline| explain(&pipeline)));
}

#[test]
fn the_published_program_compiles_as_it_is() {
    explained(
        SEED,
        &expect![[r#"
        table products (append) from kafka products
        table sales (append) from kafka sales
        table users (append) from kafka users
        table views (append) from kafka views
        sink product_dashboard to elasticsearch-7
          from views v
          left join users u on v.user_id = u.id
          left join products p on v.product_id = p.id
          left join sales s on v.product_id = s.product_id
            product_id STRING = v.product_id
            user_id STRING = v.user_id
            first_name STRING = u.first_name
            last_name STRING = u.last_name
            product_name STRING = p.name
            brand STRING = p.brand
            order_id BIGINT = s.order_id
            order_date TIMESTAMP(3) = s.ts
            view_time INT = v.view_time
          identity: one document for each row of v with each row of u with each row of p with each row of s; _id is made of those rows' keys or places
          warning: u is append-only: each further record of users with the same join key multiplies the documents; declare a PRIMARY KEY if the last one should win
          warning: p is append-only: each further record of products with the same join key multiplies the documents; declare a PRIMARY KEY if the last one should win
          warning: s is append-only: each further record of sales with the same join key multiplies the documents; declare a PRIMARY KEY if the last one should win
          warning: a row of v has a document for each partner, so that a count or sum over columns of v counts it as often
    "#]],
    );
}

#[test]
fn tables_with_keys_add_nothing_to_a_documents_identity() {
    let program = "
        CREATE TABLE t (id BIGINT, u STRING, w DOUBLE, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector'='filesystem', 'path'='t');
        CREATE TABLE u (id STRING PRIMARY KEY NOT ENFORCED, `order` INT) WITH ('connector'='filesystem', 'path'='${SECRET}');
        CREATE VIEW big AS SELECT id, `order` FROM u WHERE `order` > 5;
        CREATE TABLE s (id BIGINT, n BIGINT, x STRING, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector'='print');
        EXECUTE STATEMENT SET BEGIN
        INSERT INTO s SELECT t.id, b.`order` + 1, CASE WHEN w > 1.5 THEN UPPER(t.u) END FROM t LEFT JOIN big b ON t.u = b.id;
        END;";
    explained(
        program,
        &expect![[r#"
        table t (keyed by id) from filesystem t
        table u (keyed by id) from filesystem s3cret
        sink s to print
          from t t
          left join u b on t.u = b.id
            where Greater(b.order, 5)
            id BIGINT = t.id
            n BIGINT = Cast(Add(b.order, 1) as BIGINT)
            x STRING = Case(Greater(t.w, Cast(1.5 as DOUBLE)), Upper(t.u), NULL)
          identity: one document for each row of t; _id is made of the primary key (id)
    "#]],
    );
}

/// Each program of `refused.sql` stands between lines of dashes, after the two tables that it may use.
#[test]
fn what_is_wrong_is_refused_by_line_and_column_with_what_to_write() {
    const PRELUDE: &str = "CREATE TABLE a (id STRING, n INT, d DOUBLE, t TIMESTAMP(3)) WITH ('connector'='filesystem','path'='a');\n\
        CREATE TABLE k (id STRING, m BIGINT, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector'='filesystem','path'='k');\n\
        CREATE TABLE o (id STRING) WITH ('connector'='print');\n";
    let mut shown = String::new();
    let programs: Vec<&str> = REFUSED.split("----\n").filter(|p| !p.trim().is_empty()).collect();
    assert!(programs.len() >= 60, "{} programs", programs.len());
    for program in programs {
        let text = format!("{PRELUDE}{program}");
        let Err(message) = compiled(&text) else { panic!("compiles: {program}") };
        shown.push_str(&format!("{message}\n----\n"));
    }
    expect_file!["refused.txt"].assert_eq(&shown);
}

#[test]
fn overrides_change_settings_and_options_and_nothing_unknown() {
    let parse = |text: &str| Overrides::parse(&[text.to_owned()]).unwrap();
    let run = |text| compile(SEED, &parse(text), &|_| None).map_err(|e| e[0].to_string());
    let pipeline = run("product_dashboard.hosts=http://127.0.0.1:1").unwrap();
    assert_eq!(pipeline.sinks[0].option("hosts"), Some("http://127.0.0.1:1"));
    let pipeline = run("lockstep.step.max-delay=1 s").unwrap();
    assert_eq!(settings::Settings::of(&pipeline).unwrap().step_max_delay.as_millis(), 1000);
    expect!["--set lockstep.step.max-dely: there is no setting 'lockstep.step.max-dely'; did you mean lockstep.step.max-delay?"]
        .assert_eq(&run("lockstep.step.max-dely=1 s").unwrap_err());
    expect!["--set view.…: there is no table view; did you mean views?"].assert_eq(&run("view.topic=x").unwrap_err());
    expect!["setting 'lockstep.step.max-delay': 'soon' is no duration; write a number and ms, s, min or h"]
        .assert_eq(&run("lockstep.step.max-delay=soon").unwrap_err());
}

#[test]
fn a_deep_expression_is_refused_and_overflows_no_stack() {
    for (terms, message) in [(4_000, "more than 1000 words"), (400, "nested more than 200 deep")] {
        let sum = vec!["n"; terms].join(" + ");
        let text = format!(
            "CREATE TABLE a (n INT) WITH ('connector'='filesystem','path'='a'); CREATE TABLE o (n INT) WITH ('connector'='print'); INSERT INTO o SELECT {sum} FROM a;"
        );
        assert!(compiled(&text).unwrap_err().contains(message), "{terms} terms");
    }
}

fn words() -> impl Strategy<Value = String> {
    let words: Vec<String> = SEED.split_whitespace().chain(REFUSED.split_whitespace()).map(str::to_owned).collect();
    prop::collection::vec(prop::sample::select(words), 0..60).prop_map(|words| words.join(" "))
}

proptest! {
    #[test]
    fn no_text_makes_the_compiler_panic(text in prop_oneof![words(), "\\PC{0,200}"], cut in any::<prop::sample::Index>()) {
        let _ = compiled(&text);
        let mixed: String = SEED.chars().take(cut.index(SEED.len())).chain(text.chars()).collect();
        let _ = compiled(&mixed);
    }
}
