//! Objects made at random from the schema go through every encoding and come out the same; random bytes are refused or read, never a
//! panic.
use nauplius_meta::normalize::{Mode, normalize};
use nauplius_meta::schema::{Container, Field, Kind, TypeRef, builtin, lookup_type};
use nauplius_meta::{json, patch, protobuf, yaml};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// A small source of choices, so that one number makes one object.
struct Choice(u64);

impl Choice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn pick<T: Clone>(&mut self, values: &[T]) -> T {
        values[self.below(values.len() as u64) as usize].clone()
    }

    fn object(&mut self, ty: TypeRef, depth: u64) -> Value {
        let mut fields = Map::new();
        for field in ty.json_fields() {
            if field.number() > 0 && self.below(3 + depth) < 2 {
                fields.insert(field.name().to_owned(), self.field(field, depth));
            }
        }
        Value::Object(fields)
    }

    fn field(&mut self, field: &Field, depth: u64) -> Value {
        let count = self.below(3);
        match field.container() {
            Container::None => self.value(field, depth),
            Container::List => (0..count).map(|_| self.value(field, depth)).collect(),
            Container::Map => {
                (0..count).map(|index| (format!("k{index}"), self.value(field, depth))).collect()
            }
        }
    }

    fn value(&mut self, field: &Field, depth: u64) -> Value {
        let text = |choice: &mut Self, values: &[&str]| Value::from(choice.pick(values));
        match field.kind() {
            Kind::String => {
                text(self, &["", "a", "true", "1", "a: b", "é\n\u{1}", " x", "0x1", "- y\nz", "'q'"])
            }
            Kind::Bool => Value::Bool(self.below(2) == 0),
            Kind::Int32 => Value::from(self.pick(&[0, -1, 7, i32::MAX, i32::MIN])),
            Kind::Int64 => Value::from(self.pick(&[0, -1, 7, i64::MAX, i64::MIN])),
            Kind::Float => Value::from(self.pick(&[0.5, -2.25])),
            Kind::Bytes => text(self, &["", "AA==", "YWJj"]),
            Kind::Quantity => text(self, &["0", "100m", "1Gi", "1.5", "-3k", "1e3"]),
            Kind::Time => {
                text(self, &["2024-01-01T00:00:00Z", "1969-12-31T23:59:59Z", "2024-01-01T00:00:00.5+02:00"])
            }
            Kind::MicroTime => text(self, &["2024-01-01T00:00:00.000001Z", "1969-12-31T23:59:59.500000Z"]),
            Kind::Duration => text(self, &["1h", "1.5s", "0s"]),
            Kind::IntOrString => self.pick(&[json!(0), json!(-5), json!("50%"), json!("")]),
            Kind::RawExtension | Kind::Json => {
                self.pick(&[json!({"a": [1, null, {"b": "c"}]}), json!({"kind": "X"})])
            }
            Kind::FieldsV1 => json!({"f:spec": {".": {}}}),
            Kind::StringList => json!(["a", ""]),
            Kind::SchemaOrArray => self.pick(&[json!({"type": "string"}), json!([{"type": "object"}])]),
            Kind::SchemaOrBool => self.pick(&[json!(true), json!(false), json!({"type": "string"})]),
            Kind::SchemaOrStrings => self.pick(&[json!(["a"]), json!({"type": "string"})]),
            Kind::Struct(_) if depth > 6 => json!({}),
            Kind::Struct(ty) => self.object(ty, depth + 1),
        }
    }
}

fn kinds() -> Vec<TypeRef> {
    builtin().filter(|ty| ty.is_kind() && ty.fields().iter().all(|field| field.number() > 0)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn objects_survive_every_encoding(seed in any::<u64>()) {
        let mut choice = Choice(seed);
        let ty = choice.pick(&kinds());
        let mut object = choice.object(ty, 0);
        normalize(&mut object, ty, Mode::Full).unwrap();
        let mut again = object.clone();
        prop_assert_eq!(normalize(&mut again, ty, Mode::Full).unwrap(), vec![]);
        prop_assert_eq!(&again, &object, "normalising twice is normalising once");
        prop_assert_eq!(&json::decode_strict(&json::encode(&object)).unwrap().value, &object);
        let text = yaml::encode(&object);
        prop_assert_eq!(&yaml::decode(&text).unwrap(), &object, "{}", text);
        let bytes = protobuf::encode(&object, ty).unwrap();
        let decoded = protobuf::decode(&bytes, ty).unwrap();
        prop_assert_eq!(&decoded, &object);
        prop_assert_eq!(protobuf::encode(&decoded, ty).unwrap(), bytes);
        let message = protobuf::encode_message(&object, ty).unwrap();
        prop_assert_eq!(protobuf::transcode_message(&json::encode(&object), ty), Some(message));
    }

    #[test]
    fn an_object_merged_into_nothing_is_itself(seed in any::<u64>()) {
        let mut choice = Choice(seed);
        let ty = choice.pick(&kinds());
        let mut object = choice.object(ty, 0);
        normalize(&mut object, ty, Mode::Full).unwrap();
        let mut document = json!({});
        patch::strategic::apply(&mut document, object.clone(), ty).unwrap();
        normalize(&mut document, ty, Mode::Full).unwrap();
        let mut merged = json!({});
        patch::merge::apply(&mut merged, object);
        normalize(&mut merged, ty, Mode::Full).unwrap();
        prop_assert_eq!(document["spec"].clone(), merged["spec"].clone());
    }

    #[test]
    fn random_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let pod = lookup_type("core/v1", "Pod").unwrap();
        let _either_way = (protobuf::decode_message(&bytes, pod), json::decode_strict(&bytes));
        let _either_way = protobuf::transcode_message(&bytes, pod);
        let _either_way = yaml::decode(&String::from_utf8_lossy(&bytes));
        let mut sealed = protobuf::MAGIC.to_vec();
        sealed.extend_from_slice(&bytes);
        let _either_way = protobuf::decode(&sealed, pod);
    }

    #[test]
    fn damaged_messages_do_not_panic(seed in any::<u64>(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut choice = Choice(seed);
        let ty = choice.pick(&kinds());
        let mut object = choice.object(ty, 0);
        normalize(&mut object, ty, Mode::Full).unwrap();
        let mut bytes = protobuf::encode(&object, ty).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _either_way = protobuf::decode(&bytes, ty);
    }
}

#[test]
fn transcoding_is_encoding_whatever_the_order_and_refuses_what_does_not_fit() {
    let pod = lookup_type("core/v1", "Pod").unwrap();
    for text in [
        r#"{"spec":{"containers":[{"image":"i","name":"c"}],"nodeName":null,"hostNetwork":true},"metadata":{"labels":{"b":"2","a":"1","é":""},"name":"\u0061\n"}}"#,
        r#"{"unknown":{"x":[1,{}]},"kind":"Pod","spec":{"volumes":[{"name":"v","secret":{"secretName":"s"}}],"tolerations":[]}}"#,
        r#"{"metadata":{"annotations":{},"managedFields":[{"fieldsV1":null,"time":null},{"fieldsV1":{"f:a":{}}}]},"spec":null}"#,
        r#"{"metadata":{"name":"first","name":"second"},"spec":{"containers":[null],"nodeSelector":{"b":"1","a":"2","b":"3"}}}"#,
        "{}",
        "null",
    ] {
        let tree = json::decode(text.as_bytes()).unwrap();
        let message = protobuf::encode_message(&tree, pod).unwrap();
        assert_eq!(protobuf::transcode_message(text.as_bytes(), pod), Some(message), "{text}");
    }
    for text in [
        r#"{"metadata":{"name":1}}"#,
        r#"{"metadata":{"labels":[]}}"#,
        r#"{"metadata":{"labels":{"a":null}}}"#,
        r#"{"spec":{"containers":{}}}"#,
        r#"{"spec":{"priority":1.5}}"#,
        r#"{"spec":{"priority":18446744073709551615}}"#,
        r#"{"spec":{"hostNetwork":"x"}}"#,
        r#"{"metadata":{"creationTimestamp":"yesterday"}}"#,
        r#"{"spec":7}"#,
    ] {
        let tree = json::decode(text.as_bytes()).unwrap();
        assert!(protobuf::encode_message(&tree, pod).is_err(), "{text}");
        assert_eq!(protobuf::transcode_message(text.as_bytes(), pod), None, "{text}");
    }
    for text in ["", "[]", "{", "{}x"] {
        assert_eq!(protobuf::transcode_message(text.as_bytes(), pod), None, "{text}");
    }
}

#[test]
fn deep_messages_are_refused() {
    let props = lookup_type("apiextensions/v1", "JSONSchemaProps").unwrap();
    let number = props.field("not").unwrap().number();
    let mut bytes = Vec::new();
    for _ in 0..500 {
        let mut outer = vec![(number << 3 | 2) as u8 | 0x80, (number << 3 >> 7) as u8];
        let mut length = bytes.len();
        while length >= 0x80 {
            outer.push(length as u8 | 0x80);
            length >>= 7;
        }
        outer.push(length as u8);
        outer.extend_from_slice(&bytes);
        bytes = outer;
    }
    assert_eq!(protobuf::decode_message(&bytes, props), Err(protobuf::ProtobufError::TooDeep));
}

#[test]
fn watch_frames_hold_enveloped_objects() {
    let namespace = lookup_type("core/v1", "Namespace").unwrap();
    let mut object = json!({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": "a"}});
    normalize(&mut object, namespace, Mode::Full).unwrap();
    let frame = protobuf::watch_frame("ADDED", &protobuf::encode(&object, namespace).unwrap());
    assert_eq!(u32::from_be_bytes(frame[..4].try_into().unwrap()) as usize, frame.len() - 4);
    let event = protobuf::decode_message(&frame[4..], lookup_type("meta/v1", "WatchEvent").unwrap()).unwrap();
    assert_eq!(event, json!({"type": "ADDED", "object": object}));
    let message = protobuf::encode_message(&object, namespace).unwrap();
    let (head, tail) = protobuf::watch_frame_around("ADDED", "v1", "Namespace", message.len());
    assert_eq!([&head, &message, tail].concat(), frame);
}

#[test]
fn lists_of_encoded_items_read_as_lists() {
    let (namespace, list) =
        (lookup_type("core/v1", "Namespace").unwrap(), lookup_type("core/v1", "NamespaceList").unwrap());
    let item = protobuf::encode_message(&json!({"metadata": {"name": "a"}}), namespace).unwrap();
    let bytes = protobuf::encode_list(
        "v1",
        "NamespaceList",
        &json!({"resourceVersion": "7"}),
        [&item[..], &item[..]],
    )
    .unwrap();
    let mut whole = Vec::new();
    for _ in 0..2 {
        let before = whole.len();
        protobuf::write_list_item_head(&mut whole, item.len());
        assert_eq!(whole.len() - before, protobuf::list_item_head_bytes(item.len()));
        whole.extend_from_slice(&item);
    }
    let (head, tail) =
        protobuf::list_frame("v1", "NamespaceList", &json!({"resourceVersion": "7"}), whole.len()).unwrap();
    assert_eq!([&head, &whole, tail].concat(), bytes);
    let read = protobuf::decode(&bytes, list).unwrap();
    assert_eq!((&read["kind"], &read["metadata"]["resourceVersion"]), (&json!("NamespaceList"), &json!("7")));
    assert_eq!(read["items"].as_array().unwrap().len(), 2);
}
