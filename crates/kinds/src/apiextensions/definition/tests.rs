use super::*;
use crate::testing::{created, creation, refused, row, subresource, updated};

fn definition(schema: Value) -> Value {
    json!({
        "metadata": {"name": "crontabs.stable.example.com"},
        "spec": {
            "group": "stable.example.com",
            "scope": "Namespaced",
            "names": {"plural": "crontabs", "kind": "CronTab"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}],
        },
    })
}

fn plain() -> Value {
    definition(json!({"type": "object", "properties": {"spec": {"type": "object"}}}))
}

fn with_spec(change: impl FnOnce(&mut Value)) -> Value {
    let mut definition = plain();
    change(&mut definition["spec"]);
    definition
}

/// What a schema of the property `x` is told; `P` stands for its path.
fn schema_refused(schema: Value, expected: &[&str]) {
    let object = definition(json!({"type": "object", "properties": {"x": schema}}));
    let path = "spec.validation.openAPIV3Schema.properties[x]";
    let expected: Vec<String> = expected
        .iter()
        .map(|text| text.strip_prefix('P').map_or((*text).to_owned(), |rest| format!("{path}{rest}")))
        .collect();
    let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
    creation(&kind(), object, &expected);
}

#[test]
fn names_conversion_and_stored_versions_are_defaulted() {
    let object = created(&kind(), plain());
    let names =
        json!({"plural": "crontabs", "singular": "crontab", "kind": "CronTab", "listKind": "CronTabList"});
    assert_eq!(object["spec"]["names"], names);
    assert_eq!(object["spec"]["conversion"], json!({"strategy": "None"}));
    assert_eq!(object["status"]["storedVersions"], json!(["v1"]));
    assert_eq!(object["status"]["acceptedNames"], json!({"plural": "", "kind": ""}));
    assert_eq!(object["metadata"]["generation"], 1);
    creation(&kind(), plain(), &[]);
}

#[test]
fn names_are_checked() {
    let mut object = plain();
    object["metadata"]["name"] = "other.stable.example.com".into();
    creation(
        &kind(),
        object,
        &[
            "metadata.name: Invalid value: \"other.stable.example.com\": must be spec.names.plural+\".\"+spec.group",
        ],
    );
    refused(
        &kind(),
        with_spec(|spec| spec["names"]["kind"] = "Cron_Tab".into()),
        "spec.names.kind: Invalid value: \"Cron_Tab\": may have mixed case, but should otherwise match: a DNS-1035 label must \
         consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric \
         character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')",
    );
    refused(
        &kind(),
        with_spec(|spec| spec["names"]["listKind"] = "CronTab".into()),
        "spec.names.listKind: Invalid value: \"CronTab\": kind and listKind may not be the same",
    );
    refused(&kind(), with_spec(|spec| spec["names"]["kind"] = "".into()), "spec.names.kind: Required value");
    refused(
        &kind(),
        with_spec(|spec| spec["group"] = "example".into()),
        "spec.group: Invalid value: \"example\": should be a domain with at least one dot",
    );
    refused(
        &kind(),
        with_spec(|spec| spec["scope"] = "World".into()),
        "spec.scope: Unsupported value: \"World\": supported values: \"Cluster\", \"Namespaced\"",
    );
}

#[test]
fn versions_are_checked() {
    let version = plain()["spec"]["versions"][0].clone();
    let two = |change: fn(&mut Value)| {
        let mut second = version.clone();
        second["name"] = "v2".into();
        second["storage"] = false.into();
        change(&mut second);
        with_spec(|spec| spec["versions"] = json!([version.clone(), second]))
    };
    creation(&kind(), two(|_| ()), &[]);
    let errors = kind().validate(&created(&kind(), two(|second| second["storage"] = true.into())));
    assert!(
        errors[0].to_string().ends_with("must have exactly one version marked as storage version"),
        "{errors:?}"
    );
    let errors = kind().validate(&created(&kind(), two(|second| second["name"] = "v1".into())));
    assert!(errors[0].to_string().ends_with("must contain unique version names"), "{errors:?}");
    creation(
        &kind(),
        two(|second| {
            second["deprecationWarning"] = "old".into();
            second["schema"]["openAPIV3Schema"]["properties"]["spec"] = json!({});
        }),
        &[
            "spec.versions[1].deprecationWarning: Invalid value: \"old\": can only be set for deprecated versions",
            "spec.versions[1].schema.openAPIV3Schema.properties[spec].type: Required value: must not be empty for specified object fields",
        ],
    );
    creation(
        &kind(),
        with_spec(|spec| {
            spec["versions"][0].as_object_mut().unwrap().remove("schema");
        }),
        &["spec.versions[0].schema.openAPIV3Schema: Required value: schemas are required"],
    );
}

#[test]
fn schemas_are_structural() {
    schema_refused(json!({"type": "array"}), &["P.items: Required value: must be specified"]);
    schema_refused(json!({}), &["P.type: Required value: must not be empty for specified object fields"]);
    schema_refused(
        json!({"type": "object", "properties": {"a": {"type": "string"}}, "anyOf": [{"required": ["a"]}, {"properties": {"b": {"minLength": 1}}}]}),
        &[
            "P.properties[b]: Required value: because it is defined in spec.validation.openAPIV3Schema.properties[x].anyOf[1].properties[b]",
        ],
    );
    schema_refused(
        json!({"type": "string", "allOf": [{"type": "string", "description": "x"}]}),
        &[
            "P.allOf[0].description: Forbidden: must be empty to be structural",
            "spec.validation.openAPIV3Schema.properties[x].allOf[0].type: Forbidden: must be empty to be structural",
        ],
    );
    schema_refused(
        json!({"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]}),
        &[],
    );
    schema_refused(
        json!({"x-kubernetes-int-or-string": true, "allOf": [{"anyOf": [{"type": "integer"}, {"type": "string"}]}, {"maximum": 3}]}),
        &[],
    );
    schema_refused(
        json!({"type": "string", "pattern": "("}),
        &[
            "P.pattern: Invalid value: \"(\": must be a valid regular expression, but isn't: error parsing regexp: unclosed group",
        ],
    );
    schema_refused(
        json!({"type": "string", "x-kubernetes-embedded-resource": true}),
        &[
            "P.properties: Required value: must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields",
            "spec.validation.openAPIV3Schema.properties[x].type: Invalid value: \"string\": must be object if x-kubernetes-embedded-resource is true",
        ],
    );
    creation(
        &kind(),
        definition(
            json!({"type": "object", "properties": {"metadata": {"type": "object", "properties": {"labels": {"type": "object"}}}}}),
        ),
        &[
            "spec.validation.openAPIV3Schema.properties[metadata]: Forbidden: must not specify anything other than name and generateName, but metadata is implicitly specified",
        ],
    );
    creation(
        &kind(),
        definition(
            json!({"type": "object", "properties": {"metadata": {"type": "object", "properties": {"name": {"type": "string", "maxLength": 5}}}}}),
        ),
        &[],
    );
}

#[test]
fn keywords_and_extensions_are_checked() {
    schema_refused(
        json!({"type": "array", "items": {"type": "string"}, "uniqueItems": true}),
        &[
            "P.uniqueItems: Forbidden: uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
        ],
    );
    schema_refused(
        json!({"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": {"type": "string"}}),
        &["P.additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive"],
    );
    schema_refused(
        json!({"type": "text"}),
        &[
            "P.type: Unsupported value: \"text\": supported values: \"array\", \"boolean\", \"integer\", \"number\", \"object\", \"string\"",
        ],
    );
    schema_refused(json!({"type": "string", "$ref": "#/x"}), &["P.$ref: Forbidden: $ref is not supported"]);
    schema_refused(
        json!({"type": "array", "items": {"type": "object", "properties": {"k": {"type": "string"}}},
            "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k", "l"]}),
        &[
            "P.x-kubernetes-list-map-keys: Invalid value: [\"k\",\"l\"]: entries must all be names of item properties",
            "spec.validation.openAPIV3Schema.properties[x].items.properties[k].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
        ],
    );
    schema_refused(
        json!({"type": "array", "items": {"type": "object", "properties": {}}, "x-kubernetes-list-type": "set"}),
        &[
            "P.items.x-kubernetes-map-type: Invalid value: null: must be atomic as item of a list with x-kubernetes-list-type=set",
        ],
    );
    schema_refused(
        json!({"type": "string", "x-kubernetes-validations": [{"rule": "self != ''"}]}),
        &[
            "P.x-kubernetes-validations: Forbidden: validation rules in CEL are not supported by this server yet",
        ],
    );
    creation(
        &kind(),
        with_spec(|spec| {
            spec["versions"][0]["subresources"] = json!({"status": {}});
            spec["versions"][0]["schema"]["openAPIV3Schema"] =
                json!({"type": "object", "oneOf": [{"required": ["a"]}]});
        }),
        &[
            "spec.validation.openAPIV3Schema: Invalid value: {\"oneOf\":[{\"required\":[\"a\"]}],\"type\":\"object\"}: only [Description Type Format Title Maximum ExclusiveMaximum Minimum ExclusiveMinimum MaxLength MinLength Pattern MaxItems MinItems UniqueItems MultipleOf Required Items Properties ExternalDocs Example XPreserveUnknownFields XValidations] fields are allowed at the root of the schema if the status subresource is enabled",
        ],
    );
}

#[test]
fn defaults_are_values_of_their_schema() {
    schema_refused(json!({"type": "string", "default": "x"}), &[]);
    schema_refused(
        json!({"type": "integer", "default": "x"}),
        &["P.default: Invalid value: \"string\":  in body must be of type integer: \"string\""],
    );
    schema_refused(
        json!({"type": "object", "properties": {"a": {"type": "string"}}, "default": {"b": 1}}),
        &["P.default: Invalid value: {\"b\":1}: must not have unknown fields"],
    );
    creation(
        &kind(),
        definition(json!({"type": "object", "properties": {"kind": {"type": "string", "default": "x"}}})),
        &[
            "spec.validation.openAPIV3Schema.properties[kind].default: Forbidden: must not be set in top-level kind",
        ],
    );
}

#[test]
fn parts_of_versions_are_checked() {
    let with_version = |change: fn(&mut Value)| with_spec(|spec| change(&mut spec["versions"][0]));
    creation(
        &kind(),
        with_version(|version| {
            version["subresources"] =
                json!({"scale": {"specReplicasPath": ".status.n", "statusReplicasPath": "status.n"}});
        }),
        &[
            "spec.subresources.scale.specReplicasPath: Invalid value: \".status.n\": should be a json path under .spec",
            "spec.subresources.scale.statusReplicasPath: Invalid value: \"status.n\": must be a simple json path starting with .",
        ],
    );
    creation(
        &kind(),
        with_version(|version| {
            version["additionalPrinterColumns"] =
                json!([{"name": "A", "type": "text", "jsonPath": "a"}, {"type": "string"}]);
        }),
        &[
            "spec.additionalPrinterColumns[0].type: Invalid value: \"text\": must be one of boolean,date,integer,number,string",
            "spec.additionalPrinterColumns[0].JSONPath: Invalid value: \"a\": must be a simple json path starting with .",
            "spec.additionalPrinterColumns[1].name: Required value",
            "spec.additionalPrinterColumns[1].JSONPath: Required value",
        ],
    );
    creation(
        &kind(),
        with_version(|version| {
            version["selectableFields"] =
                json!([{"jsonPath": ".spec"}, {"jsonPath": ".spec.none"}, {"jsonPath": ".spec"}]);
        }),
        &[
            "spec.selectableFields[0].jsonPath: Invalid value: \".spec\": must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.",
            "spec.selectableFields[1].jsonPath: Invalid value: \".spec.none\": is an invalid path: does not refer to a valid field",
            "spec.selectableFields[2].jsonPath: Invalid value: \".spec\": must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.",
            "spec.selectableFields[2].jsonPath: Duplicate value: \".spec\"",
        ],
    );
}

#[test]
fn conversions_are_checked() {
    let with_conversion = |conversion: Value| with_spec(|spec| spec["conversion"] = conversion);
    creation(
        &kind(),
        with_conversion(json!({"strategy": "Webhook"})),
        &[
            "spec.conversion.webhookClientConfig: Required value: required when strategy is set to Webhook",
            "spec.conversion.conversionReviewVersions: Required value",
        ],
    );
    creation(
        &kind(),
        with_conversion(json!({"strategy": "Webhook", "webhook": {"conversionReviewVersions": ["v9"],
            "clientConfig": {"url": "http://user@host/p?q=1"}}})),
        &[
            "spec.conversion.webhookClientConfig.url: Invalid value: \"http\": 'https' is the only allowed URL scheme; desired format: https://host[/path]",
            "spec.conversion.webhookClientConfig.url: Invalid value: \"user\": user information is not permitted in the URL",
            "spec.conversion.webhookClientConfig.url: Invalid value: \"q=1\": query parameters are not permitted in the URL",
            "spec.conversion.conversionReviewVersions: Invalid value: [\"v9\"]: must include at least one of v1, v1beta1",
        ],
    );
    let service = json!({"strategy": "Webhook", "webhook": {"conversionReviewVersions": ["v1"],
        "clientConfig": {"service": {"name": "s", "namespace": "n", "path": "/a//b"}}}});
    creation(
        &kind(),
        with_conversion(service.clone()),
        &[
            "spec.conversion.webhookClientConfig.service.path: Invalid value: \"/a//b\": segment[1] may not be empty",
        ],
    );
    let defaulted = created(&kind(), with_conversion(service));
    assert_eq!(defaulted["spec"]["conversion"]["webhook"]["clientConfig"]["service"]["port"], 443);
}

#[test]
fn protected_groups_need_approval() {
    let mut object = with_spec(|spec| spec["group"] = "x.k8s.io".into());
    object["metadata"]["name"] = "crontabs.x.k8s.io".into();
    let path = "metadata.annotations[api-approved.kubernetes.io]";
    creation(
        &kind(),
        object.clone(),
        &[&format!(
            "{path}: Required value: protected groups must have approval annotation \"api-approved.kubernetes.io\", see https://github.com/kubernetes/enhancements/pull/1111"
        )],
    );
    object["metadata"]["annotations"] = json!({ANNOTATION: "unapproved, test"});
    creation(&kind(), object, &[]);
}

#[test]
fn what_was_established_stays() {
    let mut old = plain();
    old["spec"]["names"]["kind"] = "Other".into();
    updated(&kind(), &old, plain(), &[]);
    let mut new = plain();
    new["spec"]["names"]["plural"] = "others".into();
    updated(&kind(), &plain(), new, &["spec.names.plural: Invalid value: \"others\": field is immutable"]);
    let mut old = created(&kind(), plain());
    old["status"]["conditions"] = json!([{"type": "Established", "status": "True"}]);
    let mut new = created(&kind(), plain());
    new["spec"]["scope"] = "Cluster".into();
    let errors = kind().validate_update(&new, &old);
    assert_eq!(errors[0].to_string(), "spec.scope: Invalid value: \"Cluster\": field is immutable");
}

#[test]
fn a_new_storage_version_is_noted_and_moves_the_generation() {
    let old = created(&kind(), plain());
    let mut new = old.clone();
    let mut second = new["spec"]["versions"][0].clone();
    new["spec"]["versions"][0]["storage"] = false.into();
    second["name"] = "v2".into();
    new["spec"]["versions"] = json!([new["spec"]["versions"][0], second]);
    kind().prepare_update(&crate::testing::context(None), &mut new, &old);
    assert_eq!(new["status"]["storedVersions"], json!(["v1", "v2"]));
    assert_eq!(new["metadata"]["generation"], 2);
    let mut gone = new.clone();
    gone["spec"]["versions"] = json!([new["spec"]["versions"][1]]);
    assert_eq!(
        kind().validate_update(&gone, &new)[0].to_string(),
        "status.storedVersions[0]: Invalid value: \"v1\": missing from spec.versions; v1 was previously a storage version, and must \
         remain in spec.versions until a storage migration ensures no data remains persisted in v1 and removes v1 from \
         status.storedVersions"
    );
}

#[test]
fn a_status_may_forget_stored_versions_and_change_metadata() {
    let old = created(&kind(), plain());
    let mut new = old.clone();
    new["status"]["storedVersions"] = json!([]);
    new["metadata"]["finalizers"] = json!([]);
    subresource(&kind(), "status", &old, new.clone(), &[]);
    new["status"]["acceptedNames"]["plural"] = "A".into();
    kind().prepare_subresource_update(&crate::testing::context(Some("status")), &mut new, &old);
    assert_eq!(new["metadata"]["finalizers"], json!([]), "what ends a definition removes its finalizer so");
    let errors = kind().validate_subresource_update("status", &new, &old);
    assert!(
        errors[0].to_string().starts_with("status.acceptedNames.plural: Invalid value: \"A\": a DNS-1035")
    );
}

#[test]
fn the_order_of_causes_is_upstreams() {
    // Structure, then keywords; what differs between versions with each, what they share after the names.
    let version = |name: &str, schema: Value| {
        let schema = json!({"openAPIV3Schema": schema});
        json!({"name": name, "served": true, "storage": name == "v1", "schema": schema,
            "additionalPrinterColumns": [{"name": "A", "type": "string"}]})
    };
    let first = json!({"type": "object", "properties": {"a": {"type": "object", "x-kubernetes-list-type": "set",
        "items": {"type": "object"}}, "b": {}}});
    let versions = json!([version("v1", first), version("v_2", json!({"type": "object"}))]);
    let errors = kind().validate(&created(&kind(), with_spec(|spec| spec["versions"] = versions)));
    let texts: Vec<String> = errors.iter().map(|error| error.path.to_string()).collect();
    let schema = "spec.versions[0].schema.openAPIV3Schema.properties";
    assert_eq!(
        texts,
        [
            &format!("{schema}[b].type"),
            &format!("{schema}[a].type"),
            "spec.versions[1].name",
            "spec.additionalPrinterColumns[0].JSONPath",
        ]
    );
}

#[test]
fn a_part_of_one_version_looks_for_the_schema_there() {
    let mut second = plain()["spec"]["versions"][0].clone();
    second["name"] = "v2".into();
    second["storage"] = false.into();
    second["selectableFields"] = json!([{"jsonPath": ".spec"}]);
    creation(
        &kind(),
        with_spec(|spec| spec["versions"] = json!([spec["versions"][0], second])),
        &[
            "spec.versions[1].selectableFields: Invalid value: \"\": selectableFields may only be set when version.schema.openAPIV3Schema is not included",
        ],
    );
}

#[test]
fn the_name_of_the_first_version_is_judged_twice() {
    let object = created(&kind(), with_spec(|spec| spec["versions"][0]["name"] = "V".into()));
    let paths: Vec<String> = kind().validate(&object).iter().map(|error| error.path.to_string()).collect();
    assert_eq!(paths, ["spec.versions[0].name", "spec.version"]);
}

#[test]
fn authorities_are_certificates_once_a_definition_serves() {
    let with_bundle = |bundle: &str| {
        let client = json!({"url": "https://host/p", "caBundle": bundle});
        let conversion = json!({"strategy": "Webhook",
            "webhook": {"conversionReviewVersions": ["v1"], "clientConfig": client}});
        created(&kind(), with_spec(|spec| spec["conversion"] = conversion))
    };
    assert_eq!(kind().validate(&with_bundle("YQ==")), [], "nothing is served yet");
    let mut old = with_bundle("");
    old["status"]["conditions"] = json!([{"type": "Established", "status": "True"}]);
    let mut new = with_bundle("YQ==");
    new["status"] = old["status"].clone();
    assert_eq!(
        kind().validate_update(&new, &old)[0].to_string(),
        "spec.conversion.webhookClientConfig.caBundle: Invalid value: \"YQ==\": unable to load root certificates: data does not \
         contain any valid RSA or ECDSA certificates"
    );
    old["spec"] = new["spec"].clone();
    assert_eq!(kind().validate_update(&new, &old), [], "it was broken before");
}

#[test]
fn the_row_shows_when_it_was_made() {
    row(&kind(), plain(), json!(["crontabs.stable.example.com", "1970-01-12T13:46:40Z"]));
}
