//! Whatever a schema file holds: records, or an error with the file, soon and in little memory.

use proptest::prelude::*;

use super::*;

/// Values that annotations take, and others.
fn annotation() -> impl Strategy<Value = Json> {
    let number = prop_oneof![
        Just(json!(0)),
        Just(json!(-1)),
        Just(json!(i64::MAX)),
        Just(json!(i64::MIN)),
        Just(json!(1e308)),
        Just(json!(-1e308)),
        (0..20_i64).prop_map(|n| json!(n)),
    ];
    let leaf = prop_oneof![
        3 => number.clone(),
        1 => Just(Json::Null),
        1 => Just(json!("[a-z]{2}")),
        1 => Just(json!("a{4000000000}")),
        1 => Just(json!("(")),
        1 => Just(json!([])),
        1 => Just(json!(["x", 1, null])),
        1 => any::<bool>().prop_map(|b| json!(b)),
    ];
    let names = prop_oneof![
        Just("min"),
        Just("max"),
        Just("start"),
        Just("step"),
        Just("restart"),
        Just("file"),
        Just("options")
    ];
    prop_oneof![2 => leaf.clone(), 3 => prop::collection::vec((names, leaf), 0..4).prop_map(object)]
}

fn object(pairs: Vec<(&str, Json)>) -> Json {
    Json::Object(pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

fn annotations() -> BoxedStrategy<Json> {
    let name = prop_oneof![
        Just("options"),
        Just("iteration"),
        Just("range"),
        Just("regex"),
        Just("length"),
        Just("odds"),
        Just("keys"),
        Just("prefix")
    ];
    prop::collection::vec((name, annotation()), 0..3).prop_map(object).boxed()
}

/// A type, some of them wrong or without end.
fn avro() -> impl Strategy<Value = Json> {
    let simple = prop_oneof![
        Just("null"),
        Just("boolean"),
        Just("int"),
        Just("long"),
        Just("float"),
        Just("double"),
        Just("string"),
        Just("bytes"),
        Just("r"),
        Just("unknown")
    ];
    let leaf =
        (simple, annotations()).prop_map(|(name, annotations)| json!({"type": name, "arg.properties": annotations}));
    leaf.prop_recursive(4, 24, 4, |inner| {
        let pair = (inner, annotations());
        prop_oneof![
            pair.clone().prop_map(|(of, a)| json!({"type": "array", "items": of, "arg.properties": a})),
            pair.clone().prop_map(|(of, a)| json!({"type": "map", "values": of, "arg.properties": a})),
            pair.clone().prop_map(|(of, _)| json!(["null", of])),
            (0..3_i64, pair)
                .prop_map(|(size, _)| json!({"type": "fixed", "name": "f", "size": size.saturating_mul(i64::MAX / 2)})),
        ]
    })
}

fn first_records(text: &str) -> Result<Vec<Json>, GenerateError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.avro");
    std::fs::write(&path, text).unwrap();
    let mut generator = Generator::open(&path, 7, Variation::default())?;
    (0..3).map(|_| generator.record()).collect()
}

proptest! {
    #[test]
    fn any_schema_gives_records_or_an_error_that_names_its_file(types in prop::collection::vec((avro(), annotations()), 0..4)) {
        let fields: Vec<Json> = types
            .into_iter()
            .enumerate()
            .map(|(n, (of, annotations))| json!({"name": format!("f{n}"), "type": of, "arg.properties": annotations}))
            .collect();
        let schema = json!({"type": "record", "name": "r", "fields": fields});
        match first_records(&schema.to_string()) {
            Ok(records) => prop_assert!(records.iter().all(Json::is_object)),
            Err(error) => prop_assert!(error.to_string().contains("s.avro") || error.to_string().contains("cannot read"), "{error}"),
        }
    }

    #[test]
    fn any_text_is_no_schema_or_gives_records(text in prop_oneof![any::<String>(), "[\\[\\]{}\":,a-z0-9 ]{0,60}"]) {
        if let Err(error) = first_records(&text) {
            prop_assert!(error.to_string().contains("s.avro"), "{error}");
        }
    }
}

#[test]
fn a_record_that_holds_itself_and_a_mistaken_length_end_with_a_message() {
    let itself = json!({"type": "record", "name": "r", "fields": [{"name": "next", "type": "r"}]});
    let deep = first_records(&itself.to_string()).unwrap_err().to_string();
    assert!(deep.contains("nested more than 64 deep"), "{deep}");
    let long = json!({"type": "record", "name": "r", "fields": [
        {"name": "s", "type": {"type": "string", "arg.properties": {"length": i64::MAX}}}]});
    let long = first_records(&long.to_string()).unwrap_err().to_string();
    assert!(long.ends_with("s: the record has more than 1000000 values and letters"), "{long}");
}
