//! Short texts of the API and of its users' files.

use nauplius_client::kubeconfig as config;
use nauplius_images::Reference;
use nauplius_meta::apply::PathElement;
use nauplius_meta::quantity::Quantity;
use nauplius_meta::selector::{FieldSelector, LabelSelector};
use nauplius_meta::time as clock;
use std::path::Path;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub(crate) fn label_selector(bytes: &[u8]) {
    let Ok(selector) = LabelSelector::parse(&text(bytes)) else { return };
    let shown = selector.to_string();
    let again = LabelSelector::parse(&shown).unwrap_or_else(|error| panic!("{shown}: {error}"));
    assert_eq!(again.to_string(), shown);
}

pub(crate) fn field_selector(bytes: &[u8]) {
    let Ok(selector) = FieldSelector::parse(&text(bytes)) else { return };
    let shown = selector.to_string();
    let again = FieldSelector::parse(&shown).unwrap_or_else(|error| panic!("{shown}: {error}"));
    assert_eq!(again.to_string(), shown);
}

pub(crate) fn field_path(bytes: &[u8]) {
    let Ok(element) = PathElement::read(&text(bytes)) else { return };
    let written = element.write();
    if written.contains(['.', 'e']) {
        // A float may move by a unit in its last place each time it is read.
        return;
    }
    assert_eq!(PathElement::read(&written).map(|again| again.write()).ok(), Some(written));
}

pub(crate) fn quantity(bytes: &[u8]) {
    let Ok(quantity) = Quantity::parse(&text(bytes)) else { return };
    let canonical = quantity.canonical();
    let again = Quantity::parse(&canonical).unwrap_or_else(|error| panic!("{canonical}: {error}"));
    assert_eq!(again.canonical(), canonical);
}

pub(crate) fn time(bytes: &[u8]) {
    let text = text(bytes);
    if let Ok(at) = clock::parse(&text) {
        assert!(clock::parse(&clock::format(at)).is_ok(), "{text}");
    }
    if let Ok(at) = clock::parse_micro(&text) {
        assert!(clock::parse_micro(&clock::format_micro(at)).is_ok(), "{text}");
    }
    if let Ok(span) = clock::Duration::parse(&text) {
        assert_eq!(clock::Duration::parse(&span.to_string()), Ok(span), "{text}");
    }
}

pub(crate) fn image_reference(bytes: &[u8]) {
    let Ok(reference) = text(bytes).parse::<Reference>() else { return };
    assert!(reference.name().parse::<Reference>().is_ok(), "{}", reference.name());
}

pub(crate) fn kubeconfig(bytes: &[u8]) {
    // Files that it names are looked for where there are none.
    let _read = config::parse(Path::new("/nonexistent/config"), &text(bytes), None);
}

pub(crate) fn resolv_conf(bytes: &[u8]) {
    let _servers = nauplius_net::dns::upstreams(&text(bytes), &[]);
}
