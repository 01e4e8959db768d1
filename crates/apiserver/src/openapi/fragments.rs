//! The fragments of the document of OpenAPI v2: paths and definitions of what is built in, and of each custom resource. A fragment is made once and stays as long as what it describes is served, so that with hundreds of custom resources the
//! document costs what changed. It knows when a fragment is good, not what stands in it.

use super::parts::{self, Part};
use super::segment::{Joined, Segment};
use super::v2::{self, Form, Paths};
use nauplius_descriptions::Descriptions;
use nauplius_kinds::Kind;
use serde_json::Value;
use std::cell::LazyCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

/// What a fragment is about.
#[derive(PartialEq, Eq, Hash)]
enum About {
    /// The paths of a part, without those of custom resources.
    Paths(Part),
    /// The paths of the custom resource of that name in a part.
    CustomPaths(Part, String),
    BuiltIn,
    Custom(String),
}

struct Fragment {
    segment: Segment,
    /// The names of the parameters that its paths refer to.
    parameters: Vec<Arc<str>>,
}

/// Parameters by their names, which say what they are: two of one name are the same.
type Parameters = BTreeMap<Arc<str>, Value>;

/// A fragment and the kinds that it was made from.
struct Kept {
    kinds: Vec<Arc<dyn Kind>>,
    fragment: Arc<Fragment>,
}

/// The fragments of the document in one form.
pub(super) struct Fragments {
    form: Form,
    kept: Mutex<Store>,
}

#[derive(Default)]
struct Store {
    kept: HashMap<About, Kept>,
    parameters: Parameters,
}

/// The pieces of a document, in order.
struct Pieces {
    paths: Vec<Arc<Fragment>>,
    definitions: Vec<Arc<Fragment>>,
}

impl Fragments {
    pub(super) fn new(form: Form) -> Self {
        Self { form, kept: Mutex::default() }
    }

    /// The whole document about these kinds. Whoever asks while its fragments are made waits, and finds them.
    ///
    /// # Errors
    /// Those of writing to memory.
    pub(super) fn join(
        &self,
        kinds: &[Arc<dyn Kind>],
        descriptions: &LazyCell<Descriptions>,
    ) -> io::Result<Joined> {
        let mut store = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let store = &mut *store;
        let known = std::mem::take(&mut store.kept);
        let mut making = Making { known, fresh: HashMap::new(), parameters: &mut store.parameters };
        let (custom, built_in): (Vec<_>, Vec<_>) =
            kinds.iter().cloned().partition(|kind| kind.schema().is_some());
        let pieces = Pieces {
            paths: self.paths(kinds, &mut making)?,
            definitions: self.definitions(&built_in, &custom, descriptions, &mut making)?,
        };
        store.kept = making.fresh;
        pieces.join(self.form, &store.parameters)
    }

    fn paths(&self, kinds: &[Arc<dyn Kind>], making: &mut Making<'_>) -> io::Result<Vec<Arc<Fragment>>> {
        let mut parts: Vec<_> = parts::with_kinds(kinds).into_iter().collect();
        parts.sort_by_cached_key(|(part, _)| part.path());
        let mut paths = Vec::with_capacity(parts.len());
        for (part, own) in parts {
            let (custom, built_in): (Vec<_>, Vec<_>) =
                own.into_iter().partition(|kind| kind.schema().is_some());
            let make = || v2::paths(self.form, &part.paths(&built_in));
            paths.push(making.get(About::Paths(part.clone()), &built_in, make)?);
            let mut named: Vec<_> =
                custom.iter().map(|kind| (kind.descriptor().plural.to_string(), kind)).collect();
            named.sort_by(|(left, _), (right, _)| left.cmp(right));
            for (name, kind) in named {
                let make = || v2::paths(self.form, &part.paths_of(kind));
                let about = About::CustomPaths(part.clone(), name);
                paths.push(making.get(about, std::slice::from_ref(kind), make)?);
            }
        }
        Ok(paths)
    }

    fn definitions(
        &self,
        built_in: &[Arc<dyn Kind>],
        custom: &[Arc<dyn Kind>],
        descriptions: &LazyCell<Descriptions>,
        making: &mut Making<'_>,
    ) -> io::Result<Vec<Arc<Fragment>>> {
        let of_built_in = || v2::built_in_definitions(self.form, built_in, descriptions);
        let mut definitions = vec![making.get(About::BuiltIn, built_in, of_built_in)?];
        let mut named: Vec<_> = custom.iter().map(|kind| (v2::custom_name(kind), kind)).collect();
        named.sort_by(|(left, _), (right, _)| left.cmp(right));
        for (name, kind) in named {
            let make = || v2::custom_definitions(self.form, kind, descriptions);
            definitions.push(making.get(About::Custom(name), std::slice::from_ref(kind), make)?);
        }
        Ok(definitions)
    }
}

impl Pieces {
    fn join(&self, form: Form, parameters: &Parameters) -> io::Result<Joined> {
        let used: BTreeSet<&Arc<str>> = self.paths.iter().flat_map(|fragment| &fragment.parameters).collect();
        let parameters: Vec<(&str, &Value)> =
            used.into_iter().filter_map(|name| Some((&**name, parameters.get(name)?))).collect();
        let segments = |fragments: &[Arc<Fragment>]| -> Vec<Segment> {
            fragments.iter().map(|fragment| fragment.segment.clone()).collect()
        };
        let mut joined = Joined::new();
        v2::join(form, &segments(&self.paths), &segments(&self.definitions), &parameters, &mut joined)?;
        Ok(joined)
    }
}

/// The fragments that are there, and those of the new document.
struct Making<'m> {
    known: HashMap<About, Kept>,
    fresh: HashMap<About, Kept>,
    parameters: &'m mut Parameters,
}

impl Making<'_> {
    fn get(
        &mut self,
        about: About,
        kinds: &[Arc<dyn Kind>],
        make: impl FnOnce() -> io::Result<Paths>,
    ) -> io::Result<Arc<Fragment>> {
        let is_same = |kept: &Kept| {
            kept.kinds.len() == kinds.len()
                && kept.kinds.iter().zip(kinds).all(|(own, other)| Arc::ptr_eq(own, other))
        };
        let kept = match self.known.remove(&about).filter(is_same) {
            Some(kept) => kept,
            None => Kept { kinds: kinds.to_vec(), fragment: Arc::new(self.fragment(make()?)?) },
        };
        let fragment = Arc::clone(&kept.fragment);
        self.fresh.insert(about, kept);
        Ok(fragment)
    }

    fn fragment(&mut self, Paths { bytes, parameters }: Paths) -> io::Result<Fragment> {
        let names = parameters.into_iter().map(|(name, value)| {
            let name = match self.parameters.get_key_value(&*name) {
                Some((name, _)) => return Arc::clone(name),
                None => Arc::<str>::from(name),
            };
            self.parameters.insert(Arc::clone(&name), value);
            name
        });
        let parameters = names.collect();
        Ok(Fragment { segment: Segment::of(&bytes)?, parameters })
    }
}
