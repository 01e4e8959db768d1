use super::*;
use proptest::prelude::*;
use serde_json::json;

/// Rows say what of upstream's library they were read from.
#[test]
fn operations_apply_as_upstreams_do() {
    let rows = include_str!("cases.tsv").lines().filter(|row| !row.starts_with('#'));
    for row in rows {
        let [source, document, patch, expected] = row.split('\t').collect::<Vec<_>>()[..] else {
            panic!("{row}: not four columns");
        };
        let read =
            |text: &str| serde_json::from_str::<Value>(text).unwrap_or_else(|_| panic!("{source}: {text}"));
        let mut patched = read(document);
        let outcome = apply(&mut patched, &read(patch)).map_err(|error| error.to_string());
        match expected.strip_prefix("! ") {
            None => assert_eq!(outcome.map(|()| patched), Ok(read(expected)), "{row}"),
            Some(refusal) => assert!(outcome.is_err_and(|error| error.contains(refusal)), "{row}"),
        }
    }
}

/// Read from `jsonPatcher.applyJSPatch` of the API server.
#[test]
fn operations_are_counted() {
    let many = |count| Value::Array(vec![json!({"op": "test", "path": "/x"}); count]);
    assert_eq!(apply(&mut json!({}), &many(MAX_OPERATIONS)), Ok(()));
    let error = apply(&mut json!({}), &many(MAX_OPERATIONS + 1)).unwrap_err();
    assert_eq!(error.to_string(), "The allowed maximum operations in a JSON patch is 10000, got 10001");
}

/// Read from `jsonPatchOp` and `applyJSPatch` of the API server.
#[test]
fn strictness_finds_odd_parts() {
    let field = |got: &str, part: &str| {
        format!("json: cannot unmarshal {got} into Go struct field jsonPatchOp.{part} of type string")
    };
    let value =
        |got: &str, wanted: &str| format!("json: cannot unmarshal {got} into Go value of type {wanted}");
    for (patch, expected) in [
        (json!({}), Err(value("object", "[]handlers.jsonPatchOp"))),
        (json!([1]), Err(value("number", "handlers.jsonPatchOp"))),
        (json!([{"op": 1}]), Err(field("number", "op"))),
        (json!([{"path": []}]), Err(field("array", "path"))),
        (json!([{"from": null, "value": 1}, null]), Ok(vec![])),
        (json!([{"op": "add"}, {"odd": 1}]), Ok(vec!["unknown field \"[1].odd\"".to_owned()])),
        (json!([{"Op": "add"}]), Ok(vec!["unknown field \"[0].Op\"".to_owned()])),
        (json!(null), Ok(vec![])),
    ] {
        let found = check(&patch).map(|issues| issues.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(found.map_err(|error| error.to_string()), expected, "{patch}");
    }
}

proptest! {
    #[test]
    fn no_patch_panics(op in "add|remove|replace|move|copy|test", path in "(/[ab0-3~-]{0,2}){0,3}", from in "(/[ab0-3-]{0,2}){0,3}") {
        let mut document = json!({"a": {"b": [1, {"a": 2}]}, "b": [[]]});
        let patch = json!([{"op": op, "path": path, "from": from, "value": {"a": 1}}]);
        let _either_way = apply(&mut document, &patch);
    }
}
