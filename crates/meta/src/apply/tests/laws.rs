//! Laws that hold for any sequence of writes.
use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::world::World;
use crate::apply::{Managed, Node, Set, collect};
use crate::gvk::GroupVersionKind;
use crate::object;
use crate::schema::lookup_kind;

fn pod(containers: &BTreeMap<String, Option<u8>>, labels: &BTreeMap<String, u8>) -> Value {
    let containers: Vec<_> = containers
        .iter()
        .map(|(name, image)| {
            let mut item = json!({"name": name});
            if let Some(image) = image {
                item["image"] = format!("i:{image}").into();
            }
            item
        })
        .collect();
    let labels: Map<String, Value> =
        labels.iter().map(|(key, value)| (key.clone(), format!("{value}").into())).collect();
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": labels}, "spec": {"containers": containers}})
}

fn pods() -> impl Strategy<Value = Value> {
    let containers = prop::collection::btree_map("[a-c]", prop::option::of(0..3u8), 0..3);
    let labels = prop::collection::btree_map("[x-z]", 0..3u8, 0..3);
    (containers, labels).prop_map(|(containers, labels)| pod(&containers, &labels))
}

#[derive(Debug, Clone)]
enum Write {
    Apply(String, Value, bool),
    Update(String, Value),
}

fn writes() -> impl Strategy<Value = Vec<Write>> {
    let write =
        (prop::bool::ANY, "[m-o]", pods(), prop::bool::ANY).prop_map(|(apply, manager, pod, force)| {
            if apply { Write::Apply(manager, pod, force) } else { Write::Update(manager, pod) }
        });
    prop::collection::vec(write, 1..8)
}

fn run(world: &mut World, writes: &[Write]) {
    for write in writes {
        match write {
            // A conflict is one of the ends that are looked for.
            Write::Apply(manager, config, force) => drop(world.try_apply(manager, config, *force)),
            Write::Update(manager, object) => world.update(manager, object),
        }
    }
}

fn node() -> Node<'static> {
    Node::Type(lookup_kind(&GroupVersionKind::new("", "v1", "Pod")).unwrap())
}

fn owned(world: &World) -> Set {
    let managed = Managed::decode(object::managed_fields(&world.object)).unwrap();
    managed.owners().fold(Set::default(), |all, (_, _, set)| all.union(set))
}

proptest! {
    #[test]
    fn applying_again_changes_nothing(before in writes(), config in pods()) {
        let mut world = World::built_in("", "v1", "Pod");
        run(&mut world, &before);
        world.force("me", &config);
        let object = world.object.clone();
        prop_assert!(!world.try_apply("me", &config, false).unwrap());
        prop_assert_eq!(&world.object, &object);
    }

    #[test]
    fn what_was_applied_is_there_and_owned(before in writes(), config in pods()) {
        let mut world = World::built_in("", "v1", "Pod");
        run(&mut world, &before);
        world.force("me", &config);
        let merged = crate::apply::merge(&world.object, &config, node()).unwrap();
        prop_assert!(crate::apply::compare(&world.object, &merged, node()).unwrap().is_same());
        let managed = Managed::decode(object::managed_fields(&world.object)).unwrap();
        let mine = managed.owners().find(|(id, _, _)| id.manager == "me").map(|(_, _, set)| set.clone()).unwrap_or_default();
        let wanted = collect(&config, node()).difference(&Set::of_fields(&[&["apiVersion"], &["kind"], &["metadata", "name"]]));
        prop_assert_eq!(mine, wanted);
    }

    #[test]
    fn nothing_is_owned_that_is_not_there(writes in writes()) {
        let mut world = World::built_in("", "v1", "Pod");
        run(&mut world, &writes);
        let there = crate::apply::compare(&json!({"apiVersion": "v1", "kind": "Pod"}), &world.object, node()).unwrap().added;
        let there = there.union(&collect(&world.object, node()));
        prop_assert_eq!(owned(&world).difference(&there).paths(), [] as [String; 0]);
    }

    #[test]
    fn an_applier_that_lets_go_of_all_leaves_only_what_others_own(before in writes(), config in pods()) {
        let mut world = World::built_in("", "v1", "Pod");
        run(&mut world, &before);
        world.force("me", &config);
        world.force("me", &pod(&BTreeMap::new(), &BTreeMap::new()));
        let managed = Managed::decode(object::managed_fields(&world.object)).unwrap();
        let mine = managed.owners().find(|(id, _, _)| id.manager == "me").map(|(_, _, set)| set.len()).unwrap_or(0);
        // The empty map of labels is a value, too.
        prop_assert!(mine <= 1);
    }

    #[test]
    fn disjoint_appliers_do_not_disturb_each_other(left in pods(), right in pods()) {
        let rename = |mut pod: Value| {
            for item in pod["spec"]["containers"].as_array_mut().unwrap() {
                item["name"] = format!("r{}", item["name"].as_str().unwrap()).into();
            }
            let labels = pod["metadata"]["labels"].as_object().unwrap();
            let labels: Map<String, Value> = labels.iter().map(|(key, value)| (format!("r{key}"), value.clone())).collect();
            pod["metadata"]["labels"] = labels.into();
            pod
        };
        let right = rename(right);
        let (mut one, mut other) = (World::built_in("", "v1", "Pod"), World::built_in("", "v1", "Pod"));
        one.apply("left", &left);
        one.apply("right", &right);
        other.apply("right", &right);
        other.apply("left", &left);
        prop_assert_eq!(one.owners(), other.owners());
        prop_assert_eq!(&one.object["metadata"]["labels"], &other.object["metadata"]["labels"]);
        let names = |world: &World| {
            let mut names: Vec<_> = object::get_array(&world.object, &["spec", "containers"]).iter().map(|item| item.to_string()).collect();
            names.sort();
            names
        };
        prop_assert_eq!(names(&one), names(&other));
    }
}
