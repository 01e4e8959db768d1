//! Every parser of bytes from outside, as a plain function that must neither panic nor run away, and that checks what must hold of
//! what it accepts. `tests` run each over mutated seeds in a fixed order; the `fuzz` folder beside the crates hands the same
//! functions to a coverage-guided fuzzer. It must not know how bytes come about.

mod mutate;
mod objects;
mod requests;
mod streams;
mod texts;

pub use mutate::Mutations;

/// A parser.
pub struct Target {
    /// Its name, which is also the folder of its seeds.
    pub name: &'static str,
    /// Gives it bytes.
    pub run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "json", run: objects::json },
    Target { name: "cbor", run: objects::cbor },
    Target { name: "yaml", run: objects::yaml },
    Target { name: "protobuf", run: objects::protobuf },
    Target { name: "normalize", run: objects::normalize },
    Target { name: "json_patch", run: objects::json_patch },
    Target { name: "merge_patch", run: objects::merge_patch },
    Target { name: "strategic_patch", run: objects::strategic_patch },
    Target { name: "managed_fields", run: objects::managed_fields },
    Target { name: "label_selector", run: texts::label_selector },
    Target { name: "field_selector", run: texts::field_selector },
    Target { name: "field_path", run: texts::field_path },
    Target { name: "quantity", run: texts::quantity },
    Target { name: "time", run: texts::time },
    Target { name: "image_reference", run: texts::image_reference },
    Target { name: "kubeconfig", run: texts::kubeconfig },
    Target { name: "resolv_conf", run: texts::resolv_conf },
    Target { name: "request", run: requests::request },
    Target { name: "query_options", run: requests::options },
    Target { name: "accept", run: requests::accept },
    Target { name: "proxied_page", run: requests::page },
    Target { name: "spdy", run: streams::spdy },
    Target { name: "websocket", run: streams::websocket },
    Target { name: "dns", run: streams::dns },
    Target { name: "image_manifest", run: streams::manifest },
    Target { name: "image_layer", run: streams::layer },
];

/// The parser of that name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
