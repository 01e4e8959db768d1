use super::*;
use serde_json::json;

fn texts(errors: &[FieldError]) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

/// One property `x` of the schema, given `value`.
fn check(schema: Value, value: Value, expected: &[&str]) {
    let schema = json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {"x": schema}}}});
    let object = json!({"spec": {"x": value}});
    let errors = validate(&object, &Schema::read(&schema), &Path::root());
    assert_eq!(texts(&errors), expected, "{schema} {object}");
}

#[test]
fn types() {
    let check_type = |ty: &str, value: Value, own: &str| {
        let expected =
            format!("spec.x: Invalid value: \"{own}\": spec.x in body must be of type {ty}: \"{own}\"");
        check(json!({"type": ty}), value, &[&expected]);
    };
    check_type("integer", json!("1"), "string");
    check_type("integer", json!(1.5), "number");
    check_type("string", json!(1), "integer");
    check_type("boolean", json!([]), "array");
    check_type("object", json!(true), "boolean");
    check_type("array", json!({}), "object");
    check_type("string", json!(null), "null");
    for (ty, value) in [
        ("integer", json!(1)),
        ("integer", json!(1.0)),
        ("number", json!(1)),
        ("number", json!(1.5)),
        ("string", json!("")),
        ("boolean", json!(false)),
        ("object", json!({"any": 1})),
        ("array", json!([1, "a"])),
    ] {
        check(json!({"type": ty}), value, &[]);
    }
    check(json!({"type": "string", "nullable": true}), json!(null), &[]);
    check(json!({}), json!({"any": ["thing"]}), &[]);
}

#[test]
fn int_or_string() {
    let schema = json!({"x-kubernetes-int-or-string": true});
    check(schema.clone(), json!(1), &[]);
    check(schema.clone(), json!("50%"), &[]);
    check(
        schema,
        json!(true),
        &["spec.x: Invalid value: \"boolean\": spec.x in body must be of type integer,string: \"boolean\""],
    );
}

#[test]
fn numbers() {
    let schema = json!({"type": "integer", "minimum": 1, "maximum": 10, "multipleOf": 3});
    check(schema.clone(), json!(9), &[]);
    check(
        schema.clone(),
        json!(0),
        &["spec.x: Invalid value: 0: spec.x in body should be greater than or equal to 1"],
    );
    check(
        schema,
        json!(11),
        &[
            "spec.x: Invalid value: 11: spec.x in body should be a multiple of 3",
            "spec.x: Invalid value: 11: spec.x in body should be less than or equal to 10",
        ],
    );
    let exclusive = json!({"type": "number", "minimum": 0.5, "exclusiveMinimum": true, "maximum": 2, "exclusiveMaximum": true});
    check(
        exclusive.clone(),
        json!(0.5),
        &["spec.x: Invalid value: 0.5: spec.x in body should be greater than 0.5"],
    );
    check(exclusive, json!(2.0), &["spec.x: Invalid value: 2.0: spec.x in body should be less than 2"]);
    check(json!({"type": "number", "multipleOf": 0.1}), json!(0.3), &[]);
}

#[test]
fn strings() {
    let schema = json!({"type": "string", "minLength": 2, "maxLength": 4, "pattern": "^[a-z]+$"});
    check(schema.clone(), json!("abc"), &[]);
    check(schema.clone(), json!("abcde"), &["spec.x: Too long: may not be more than 4 bytes"]);
    check(
        schema.clone(),
        json!("a"),
        &["spec.x: Invalid value: \"a\": spec.x in body should be at least 2 chars long"],
    );
    check(schema, json!("AB"), &["spec.x: Invalid value: \"AB\": spec.x in body should match '^[a-z]+$'"]);
    check(
        json!({"type": "string", "format": "ipv4"}),
        json!("x"),
        &["spec.x: Invalid value: \"x\": spec.x in body must be of type ipv4: \"x\""],
    );
    check(
        json!({"type": "string", "format": "date-time"}),
        json!("x"),
        &["spec.x: Invalid value: \"x\": spec.x in body must be of type date-time: \"x\""],
    );
    check(
        json!({"type": "string", "format": "byte"}),
        json!(1),
        &["spec.x: Invalid value: \"int64\": spec.x in body must be of type byte: \"int64\""],
    );
    check(json!({"type": "integer", "format": "int32"}), json!(3_000_000_000_i64), &[]);
}

#[test]
fn values() {
    check(json!({"type": "string", "enum": ["a", "b"]}), json!("a"), &[]);
    check(
        json!({"type": "string", "enum": ["a", "b"]}),
        json!("c"),
        &["spec.x: Unsupported value: \"c\": supported values: \"a\", \"b\""],
    );
    check(
        json!({"type": "integer", "enum": [1, 2]}),
        json!(3),
        &["spec.x: Unsupported value: 3: supported values: \"1\", \"2\""],
    );
    check(json!({"type": "number", "enum": [1]}), json!(1.0), &[]);
}

#[test]
fn lists() {
    let schema = json!({"type": "array", "minItems": 1, "maxItems": 2, "items": {"type": "string"}});
    check(schema.clone(), json!(["a"]), &[]);
    check(
        schema.clone(),
        json!([]),
        &["spec.x: Invalid value: 0: spec.x in body should have at least 1 items"],
    );
    check(schema.clone(), json!(["a", "b", "c"]), &["spec.x: Too many: 3: must have at most 2 items"]);
    check(
        schema,
        json!(["a", 1]),
        &["spec.x[1]: Invalid value: \"integer\": spec.x[1] in body must be of type string: \"integer\""],
    );
    check(
        json!({"type": "array", "uniqueItems": true}),
        json!([1, 1]),
        &["spec.x: Invalid value: \"\": spec.x in body shouldn't contain duplicates"],
    );
}

#[test]
fn objects() {
    let schema = json!({"type": "object", "required": ["a"], "properties": {"a": {"type": "string"}}});
    check(schema.clone(), json!({"a": "x", "b": 1}), &[]);
    check(schema, json!({}), &["spec.x.a: Required value"]);
    let map = json!({"type": "object", "additionalProperties": {"type": "integer"}, "minProperties": 1, "maxProperties": 2});
    check(
        map.clone(),
        json!({"k": "v"}),
        &["spec.x.k: Invalid value: \"string\": spec.x.k in body must be of type integer: \"string\""],
    );
    check(
        map.clone(),
        json!({}),
        &["spec.x: Invalid value: 0: spec.x in body should have at least 1 properties"],
    );
    check(map, json!({"a": 1, "b": 2, "c": 3}), &["spec.x: Too many: 3: must have at most 2 items"]);
    check(
        json!({"type": "object", "additionalProperties": false, "properties": {"a": {}}}),
        json!({"b": 1}),
        &["spec.x: Invalid value: \"b\": spec.x.b in body is a forbidden property"],
    );
}

#[test]
fn junctors() {
    let one = json!({"type": "object", "oneOf": [{"required": ["a"]}, {"required": ["b"]}]});
    check(one.clone(), json!({"a": 1}), &[]);
    check(
        one.clone(),
        json!({}),
        &[
            "<nil>: Invalid value: \"\": \"spec.x\" must validate one and only one schema (oneOf). Found none valid",
            "spec.x.a: Required value",
        ],
    );
    check(
        one,
        json!({"a": 1, "b": 2}),
        &[
            "<nil>: Invalid value: \"\": \"spec.x\" must validate one and only one schema (oneOf). Found 2 valid alternatives",
        ],
    );
    check(
        json!({"type": "integer", "anyOf": [{"minimum": 10}, {"enum": [1]}]}),
        json!(2),
        &[
            "<nil>: Invalid value: \"\": \"spec.x\" must validate at least one schema (anyOf)",
            "spec.x: Invalid value: 2: spec.x in body should be greater than or equal to 10",
        ],
    );
    check(
        json!({"type": "integer", "allOf": [{"minimum": 10}, {"maximum": 20}]}),
        json!(2),
        &[
            "spec.x: Invalid value: 2: spec.x in body should be greater than or equal to 10",
            "<nil>: Invalid value: \"\": \"spec.x\" must validate all the schemas (allOf)",
        ],
    );
    check(
        json!({"type": "string", "not": {"enum": ["a"]}}),
        json!("a"),
        &["<nil>: Invalid value: \"\": \"spec.x\" must not validate the schema (not)"],
    );
}

#[test]
fn what_did_not_change_stays_allowed() {
    let schema = Schema::read(&json!({"type": "object", "properties": {
        "a": {"type": "string", "enum": ["x"]},
        "b": {"type": "string", "enum": ["x"]},
        "map": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
            "items": {"type": "object", "properties": {"name": {"type": "string"}, "n": {"type": "integer", "maximum": 5}}}},
        "atomic": {"type": "array", "items": {"type": "integer", "maximum": 5}},
    }, "required": ["new"]}));
    let old = json!({"a": "old", "b": "old", "map": [{"name": "k", "n": 9}], "atomic": [9]});
    let errors = |new: Value| texts(&validate_update(&new, &old, &schema, &Path::root()));
    assert_eq!(errors(old.clone()), Vec::<String>::new());
    let mut new = old.clone();
    new["b"] = "other".into();
    assert_eq!(
        errors(new),
        ["b: Unsupported value: \"other\": supported values: \"x\"", "new: Required value"]
    );
    let mut new = old.clone();
    new["map"] = json!([{"name": "z", "n": 1}, {"name": "k", "n": 9}]);
    new["new"] = 1.into();
    assert_eq!(errors(new.clone()), Vec::<String>::new());
    new["map"][1]["n"] = 8.into();
    assert_eq!(
        errors(new),
        ["map[1].n: Invalid value: 8: map[1].n in body should be less than or equal to 5"]
    );
    let mut new = old.clone();
    new["atomic"] = json!([9, 1]);
    new["new"] = 1.into();
    assert_eq!(
        errors(new),
        ["atomic[0]: Invalid value: 9: atomic[0] in body should be less than or equal to 5"]
    );
}

#[test]
fn paths_can_have_a_base() {
    let schema = Schema::read(&json!({"type": "object", "properties": {"replicas": {"type": "integer"}}}));
    let errors = validate(&json!({"replicas": "x"}), &schema, &Path::new("status"));
    assert_eq!(
        texts(&errors),
        ["status.replicas: Invalid value: \"string\": replicas in body must be of type integer: \"string\""]
    );
}
