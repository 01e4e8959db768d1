//! Which paths and operations a kind's descriptor makes. It knows the verbs of the registry, not how a document is written.

use super::custom::Custom;
use super::definitions::{Definition, Special};
use super::model::{Body, Content, Operation, Parameter, PathItem, Place, Response};
use super::parameters;
use crate::negotiate::{CBOR, CBOR_SEQUENCE, JSON, PROTOBUF, YAML};
use nauplius_kinds::{Descriptor, Kind, Subresource};
use nauplius_meta::gvk::GroupVersionKind;
use nauplius_meta::schema::{lookup_kind, lookup_type};
use std::sync::Arc;

pub(super) const OBJECTS: &[&str] = &[JSON, YAML, PROTOBUF, CBOR];
const STREAMS: &[&str] = &[
    JSON,
    YAML,
    PROTOBUF,
    CBOR,
    "application/json;stream=watch",
    "application/vnd.kubernetes.protobuf;stream=watch",
    CBOR_SEQUENCE,
];
/// What custom resources come in.
const TEXTS: &[&str] = &[JSON, YAML];
const CUSTOM_PATCHES: &[&str] = &["application/json-patch+json", "application/merge-patch+json"];
const LOGS: &[&str] = &["text/plain", JSON, YAML, PROTOBUF, CBOR];
const PATCHES: &[&str] = &[
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
    "application/apply-patch+cbor",
];
pub(super) const ANY: &[&str] = &["*/*"];

const CREATED: Codes = &[("200", "OK"), ("201", "Created"), ("202", "Accepted")];
const UPDATED: Codes = &[("200", "OK"), ("201", "Created")];
const DELETED: Codes = &[("200", "OK"), ("202", "Accepted")];
pub(super) const OK: Codes = &[("200", "OK")];

type Codes = &'static [(&'static str, &'static str)];

/// The paths of one kind in one of its versions; none for a kind whose type is not in the tables.
pub(super) fn of_kind(kind: &Arc<dyn Kind>, version: &str) -> Vec<PathItem> {
    Paths::new(kind, version).map(|paths| paths.all()).unwrap_or_default()
}

/// `POST .../bindings`: the core group's resource without objects.
pub(super) fn bindings() -> Option<PathItem> {
    let operation = Operation {
        id: "createCoreV1NamespacedBinding".to_owned(),
        description: "create a Binding".to_owned(),
        tag: "core_v1".to_owned(),
        parameters: parameters::write(),
        ..create(&GroupVersionKind::new("", "v1", "Binding"))?
    };
    let path = "/api/v1/namespaces/{namespace}/bindings".to_owned();
    Some(PathItem::new(path, vec![operation], vec![parameters::namespace(), parameters::pretty()]))
}

/// `scheduling` of `scheduling.k8s.io`, `rbacAuthorization` of `rbac.authorization.k8s.io`, as tags and ids name groups.
pub(super) fn group_word(group: &str) -> String {
    let group = if group.is_empty() { "core" } else { group };
    let own = group.split(".k8s.io").next().unwrap_or(group);
    let mut parts = own.split('.');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |word, part| word + &capital(part))
}

/// With a capital first letter.
pub(super) fn capital(word: &str) -> String {
    let mut characters = word.chars();
    characters
        .next()
        .map_or_else(String::new, |first| first.to_ascii_uppercase().to_string() + characters.as_str())
}

pub(super) fn responses(codes: Codes, content: Content) -> Vec<Response> {
    let answer = |(code, description): &(&'static str, &'static str)| Response {
        code,
        description,
        content: content.clone(),
    };
    let unauthorized = Response { code: "401", description: "Unauthorized", content: Content::None };
    codes.iter().map(answer).chain([unauthorized]).collect()
}

/// A request with an object, answered by the same kind. Id, description and parameters are still to be given.
fn create(gvk: &GroupVersionKind) -> Option<Operation> {
    let definition = Definition::Type(lookup_kind(gvk)?);
    Some(Operation {
        method: "post",
        action: "post",
        id: String::new(),
        description: String::new(),
        tag: String::new(),
        gvk: Some(gvk.clone()),
        parameters: Vec::new(),
        body: Some(Body { definition: definition.clone(), required: true }),
        consumes: ANY,
        produces: OBJECTS,
        responses: responses(CREATED, Content::Object(definition)),
    })
}

struct Paths<'a> {
    descriptor: &'a Descriptor,
    version: &'a str,
    gvk: GroupVersionKind,
    /// The kind's own type, and its list's for kinds that are stored.
    own: Definition,
    list: Option<Definition>,
    /// Defined by an object: it has no protobuf form and no strategic merge.
    custom: bool,
}

impl<'a> Paths<'a> {
    fn new(kind: &'a Arc<dyn Kind>, version: &'a str) -> Option<Self> {
        let descriptor = kind.descriptor();
        let gvk = GroupVersionKind::new(&*descriptor.group, version, &*descriptor.kind);
        if kind.schema().is_some() {
            let (own, list) =
                (Definition::Custom(Custom::object(kind)), Definition::Custom(Custom::list(kind)));
            return Some(Self { descriptor, version, gvk, own, list: Some(list), custom: true });
        }
        let own = Definition::Type(lookup_kind(&gvk)?);
        let list = GroupVersionKind::new(&*descriptor.group, version, &*descriptor.list_kind);
        Some(Self {
            descriptor,
            version,
            gvk,
            own,
            list: lookup_kind(&list).map(Definition::Type),
            custom: false,
        })
    }

    fn all(&self) -> Vec<PathItem> {
        if self.descriptor.verbs.create_only {
            return self.create_only().into_iter().collect();
        }
        if !self.descriptor.verbs.stored {
            return self.read_only();
        }
        let mut paths = vec![self.collection(), self.object()];
        paths.extend(self.descriptor.namespaced.then(|| self.everywhere()));
        if !self.custom {
            paths.extend(self.watches());
        }
        paths.extend(
            self.descriptor.subresources.iter().flat_map(|subresource| self.subresource(subresource)),
        );
        paths
    }

    fn root(&self) -> String {
        let group = &self.descriptor.group;
        if group.is_empty() {
            format!("/api/{}", self.version)
        } else {
            format!("/apis/{group}/{}", self.version)
        }
    }

    /// The collection below `root`, in one namespace if the kind has them.
    fn collection_path(&self, root: &str) -> String {
        let plural = &self.descriptor.plural;
        if self.descriptor.namespaced {
            format!("{root}/namespaces/{{namespace}}/{plural}")
        } else {
            format!("{root}/{plural}")
        }
    }

    /// `listCoreV1NamespacedPod` from `list` and an empty end.
    fn id(&self, verb: &str, middle: &str, end: &str) -> String {
        let namespaced = if self.descriptor.namespaced { "Namespaced" } else { "" };
        let (group, version) = (capital(&group_word(&self.descriptor.group)), capital(self.version));
        format!("{verb}{group}{version}{middle}{namespaced}{}{end}", self.descriptor.kind)
    }

    fn common(&self, named: bool) -> Vec<Parameter> {
        let mut common: Vec<Parameter> =
            named.then(|| parameters::name(&self.descriptor.kind)).into_iter().collect();
        common.extend(self.descriptor.namespaced.then(parameters::namespace));
        common.push(parameters::pretty());
        common
    }

    fn operation(&self, method: &'static str, action: &'static str) -> Operation {
        Operation {
            method,
            action,
            id: String::new(),
            description: String::new(),
            tag: format!("{}_{}", group_word(&self.descriptor.group), self.version),
            gvk: Some(self.gvk.clone()),
            parameters: Vec::new(),
            body: None,
            consumes: if self.custom { TEXTS } else { ANY },
            produces: if self.custom { TEXTS } else { OBJECTS },
            responses: responses(OK, Content::Object(self.own.clone())),
        }
    }

    fn create(&self) -> Operation {
        Operation {
            id: self.id("create", "", ""),
            description: format!("create a {}", self.descriptor.kind),
            parameters: parameters::write(),
            body: Some(Body { definition: self.own.clone(), required: true }),
            responses: responses(CREATED, Content::Object(self.own.clone())),
            ..self.operation("post", "post")
        }
    }

    fn create_only(&self) -> Option<PathItem> {
        let mut common = self.common(false);
        common.retain(|parameter| parameter.place == Place::Path || *parameter == parameters::pretty());
        Some(PathItem::new(self.collection_path(&self.root()), vec![self.create()], common))
    }

    fn read_only(&self) -> Vec<PathItem> {
        let path = self.collection_path(&self.root());
        let list = self.list(self.id("list", "", ""));
        let get = self.read_write(&["get"], &self.own, "", "");
        let object = PathItem::new(format!("{path}/{{name}}"), get, self.common(true));
        vec![PathItem::new(path, vec![list], self.common(false)), object]
    }

    fn list(&self, id: String) -> Operation {
        Operation {
            id,
            description: format!("list or watch objects of kind {}", self.descriptor.kind),
            parameters: parameters::list(),
            produces: if self.custom { TEXTS } else { STREAMS },
            responses: responses(OK, self.list.clone().map_or(Content::None, Content::Object)),
            ..self.operation("get", "list")
        }
    }

    fn collection(&self) -> PathItem {
        let mut operations = vec![self.list(self.id("list", "", "")), self.create()];
        if !(self.descriptor.group.is_empty() && self.descriptor.plural == "namespaces") {
            operations.push(Operation {
                id: self.id("delete", "Collection", ""),
                description: format!("delete collection of {}", self.descriptor.kind),
                parameters: parameters::delete_collection(),
                ..self.delete("deletecollection", OK)
            });
        }
        PathItem::new(self.collection_path(&self.root()), operations, self.common(false))
    }

    fn delete(&self, action: &'static str, codes: Codes) -> Operation {
        let options = lookup_type("meta/v1", "DeleteOptions").map(Definition::Type);
        let status = lookup_type("meta/v1", "Status").map(Definition::Type);
        Operation {
            parameters: parameters::delete(),
            body: options.map(|definition| Body { definition, required: false }),
            responses: responses(codes, status.map_or(Content::None, Content::Object)),
            ..self.operation("delete", action)
        }
    }

    fn object(&self) -> PathItem {
        let delete = Operation {
            id: self.id("delete", "", ""),
            description: format!("delete a {}", self.descriptor.kind),
            ..self.delete("delete", DELETED)
        };
        let mut operations = self.read_write(&["get", "patch", "update"], &self.own, "", "");
        operations.push(delete);
        let path = format!("{}/{{name}}", self.collection_path(&self.root()));
        PathItem::new(path, operations, self.common(true))
    }

    /// The operations that read and write one object of the definition in place.
    fn read_write(&self, verbs: &[&str], definition: &Definition, of: &str, end: &str) -> Vec<Operation> {
        let verb = |verb: &str| self.id(verb, "", end);
        let kind = &self.descriptor.kind;
        let mut operations = Vec::new();
        if verbs.contains(&"get") {
            operations.push(Operation {
                id: verb("read"),
                description: format!("read {of}the specified {kind}"),
                responses: responses(OK, Content::Object(definition.clone())),
                ..self.operation("get", "get")
            });
        }
        if verbs.contains(&"update") {
            operations.push(Operation {
                id: verb("replace"),
                description: format!("replace {of}the specified {kind}"),
                parameters: parameters::write(),
                body: Some(Body { definition: definition.clone(), required: true }),
                responses: responses(UPDATED, Content::Object(definition.clone())),
                ..self.operation("put", "put")
            });
        }
        if verbs.contains(&"patch") {
            operations.push(Operation {
                id: verb("patch"),
                description: format!("partially update {of}the specified {kind}"),
                parameters: parameters::patch(),
                body: Some(Body { definition: Definition::Special(Special::Patch), required: true }),
                consumes: if self.custom { CUSTOM_PATCHES } else { PATCHES },
                responses: responses(UPDATED, Content::Object(definition.clone())),
                ..self.operation("patch", "patch")
            });
        }
        operations
    }

    fn everywhere(&self) -> PathItem {
        let (group, version) = (capital(&group_word(&self.descriptor.group)), capital(self.version));
        let id = format!("list{group}{version}{}ForAllNamespaces", self.descriptor.kind);
        let path = format!("{}/{}", self.root(), self.descriptor.plural);
        PathItem::new(path, vec![self.list(id)], vec![parameters::pretty()])
    }

    fn watch(&self, action: &'static str, id: String) -> Operation {
        let kind = &self.descriptor.kind;
        let what =
            if action == "watch" { format!("an object of kind {kind}") } else { format!("a list of {kind}") };
        let event = lookup_type("meta/v1", "WatchEvent").map(Definition::Type);
        Operation {
            id,
            description: format!(
                "watch changes to {what}. deprecated: use the 'watch' parameter with a list operation instead."
            ),
            parameters: parameters::list(),
            produces: STREAMS,
            responses: responses(OK, event.map_or(Content::None, Content::Object)),
            ..self.operation("get", action)
        }
    }

    fn watches(&self) -> Vec<PathItem> {
        let root = format!("{}/watch", self.root());
        let collection = self.collection_path(&root);
        let object = format!("{collection}/{{name}}");
        let list = self.watch("watchlist", self.id("watch", "", "List"));
        let one = self.watch("watch", self.id("watch", "", ""));
        let mut paths = vec![
            PathItem::new(collection, vec![list], self.common(false)),
            PathItem::new(object, vec![one], self.common(true)),
        ];
        if self.descriptor.namespaced {
            let (group, version) = (capital(&group_word(&self.descriptor.group)), capital(self.version));
            let id = format!("watch{group}{version}{}ListForAllNamespaces", self.descriptor.kind);
            let path = format!("{root}/{}", self.descriptor.plural);
            paths.push(PathItem::new(path, vec![self.watch("watchlist", id)], vec![parameters::pretty()]));
        }
        paths
    }

    fn subresource(&self, subresource: &Subresource) -> Vec<PathItem> {
        let path = format!("{}/{{name}}/{}", self.collection_path(&self.root()), subresource.name);
        let body = subresource
            .body
            .as_ref()
            .map(|(group, version, kind)| GroupVersionKind::new(&**group, &**version, &**kind));
        let operations = match &body {
            Some(options) if *subresource.name == *"proxy" => return self.proxy(path, options),
            Some(options) if options.kind.ends_with("Options") => self.connect(subresource, options),
            _ if *subresource.name == *"log" => self.log(),
            Some(gvk) if subresource.verbs == ["create"] => self.create_below(subresource, gvk),
            body => self.in_place(subresource, body.as_ref()),
        };
        vec![PathItem::new(path, operations, self.common(true))]
    }

    /// `exec`, `attach` and `portforward`, by GET and POST.
    fn connect(&self, subresource: &Subresource, options: &GroupVersionKind) -> Vec<Operation> {
        let method = |verb: &&str| if *verb == "create" { "post" } else { "get" };
        let methods = subresource.verbs.iter().map(method);
        methods.map(|method| self.connection(method, &subresource.name, "", options)).collect()
    }

    /// `proxy`, by every method, at its root and below.
    fn proxy(&self, path: String, options: &GroupVersionKind) -> Vec<PathItem> {
        let by_all = |end| {
            let methods = ["delete", "get", "head", "options", "patch", "post", "put"];
            methods.into_iter().map(|method| self.connection(method, "proxy", end, options)).collect()
        };
        let root = PathItem::new(path.clone(), by_all(""), self.common(true));
        let mut common = self.common(true);
        common.push(parameters::below());
        vec![root, PathItem::new(format!("{path}/{{path}}"), by_all("WithPath"), common)]
    }

    fn connection(
        &self,
        method: &'static str,
        name: &str,
        end: &str,
        options: &GroupVersionKind,
    ) -> Operation {
        let kind = &self.descriptor.kind;
        Operation {
            id: self.id("connect", &capital(method), &format!("{}{end}", capital(name))),
            description: format!("connect {} requests to {name} of {kind}", method.to_uppercase()),
            gvk: Some(options.clone()),
            parameters: options_of(options),
            consumes: ANY,
            produces: ANY,
            responses: responses(OK, Content::Text),
            ..self.operation(method, "connect")
        }
    }

    fn log(&self) -> Vec<Operation> {
        vec![Operation {
            id: self.id("read", "", "Log"),
            description: format!("read log of the specified {}", self.descriptor.kind),
            parameters: options_of(&GroupVersionKind::new("", "v1", "PodLogOptions")),
            produces: LOGS,
            responses: responses(OK, Content::Text),
            ..self.operation("get", "get")
        }]
    }

    /// `binding`, `eviction` and `token`: an object of another kind is posted.
    fn create_below(&self, subresource: &Subresource, gvk: &GroupVersionKind) -> Vec<Operation> {
        let operation = create(gvk).map(|operation| Operation {
            id: self.id("create", "", &capital(&subresource.name)),
            description: format!("create {} of a {}", subresource.name, self.descriptor.kind),
            tag: self.operation("post", "post").tag,
            parameters: parameters::write(),
            ..operation
        });
        operation.into_iter().collect()
    }

    /// `status`, `scale`, `finalize`, ...
    fn in_place(&self, subresource: &Subresource, body: Option<&GroupVersionKind>) -> Vec<Operation> {
        let definition = body.and_then(lookup_kind).map_or_else(|| self.own.clone(), Definition::Type);
        let of = format!("{} of ", subresource.name);
        let mut operations =
            self.read_write(subresource.verbs, &definition, &of, &capital(&subresource.name));
        if let Some(gvk) = body {
            operations.iter_mut().for_each(|operation| operation.gvk = Some(gvk.clone()));
        }
        operations
    }
}

fn options_of(gvk: &GroupVersionKind) -> Vec<Parameter> {
    let options = lookup_kind(gvk);
    options.map(parameters::of_options).unwrap_or_default()
}
