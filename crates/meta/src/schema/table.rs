//! Reads the generated table. It must not be used outside `schema`, and its format is known only here and to the generator.
use std::collections::HashMap;
use std::ops::Range;
use std::sync::LazyLock;

use super::{Container, Field, Flags, Kind, ListType, PatchStrategy, Rare, TypeRef};

static TEXT: &str = include_str!("builtin.tbl");
static TABLE: LazyLock<Table> = LazyLock::new(|| Table::read(TEXT));

pub(super) fn table() -> &'static Table {
    &TABLE
}

pub(super) struct Table {
    pub(super) packages: Vec<&'static Package>,
    /// Ordered by package and name.
    pub(super) types: Vec<TypeData>,
    /// The fields of all types, one after the other.
    pub(super) fields: Vec<Field>,
    /// For each type, the indices of its JSON fields, ordered by name.
    by_name: Vec<u16>,
}

pub(super) struct Package {
    pub(super) name: &'static str,
    pub(super) group: &'static str,
    pub(super) version: &'static str,
}

pub(super) struct TypeData {
    pub(super) name: &'static str,
    pub(super) package: &'static Package,
    pub(super) is_kind: bool,
    pub(super) is_atomic: bool,
    own: Range<u16>,
    by_name: Range<u16>,
}

impl TypeData {
    pub(super) fn fields(&self) -> &'static [Field] {
        &table().fields[usize::from(self.own.start)..usize::from(self.own.end)]
    }

    pub(super) fn by_name(&self) -> &'static [u16] {
        &table().by_name[usize::from(self.by_name.start)..usize::from(self.by_name.end)]
    }
}

/// The generated text is part of the program, so a mistake in it is a mistake of the build, which the tests find.
const BROKEN: &str = "the generated table is well formed";

impl Table {
    fn read(text: &'static str) -> Self {
        let mut table =
            Self { packages: Vec::new(), types: Vec::new(), fields: Vec::new(), by_name: Vec::new() };
        table.read_types(text);
        let ids: HashMap<(&str, &str), TypeRef> = table
            .types
            .iter()
            .enumerate()
            .map(|(index, data)| ((data.package.name, data.name), TypeRef(index as u16)))
            .collect();
        table.read_fields(text, &ids);
        table.index_names();
        table.fields.shrink_to_fit();
        table.by_name.shrink_to_fit();
        table
    }

    fn read_types(&mut self, text: &'static str) {
        let mut package: Option<&'static Package> = None;
        let mut fields: u16 = 0;
        for line in text.lines() {
            let columns: Vec<&'static str> = line.split('\t').collect();
            match columns[..] {
                ["P", group, version, name] => {
                    let new: &'static Package = Box::leak(Box::new(Package { name, group, version }));
                    self.packages.push(new);
                    package = Some(new);
                }
                [":", name, flags] => self.types.push(TypeData {
                    name,
                    package: package.expect(BROKEN),
                    is_kind: flags.contains('K'),
                    is_atomic: flags.contains('A'),
                    own: fields..fields,
                    by_name: 0..0,
                }),
                _ => {
                    fields += 1;
                    self.types.last_mut().expect(BROKEN).own.end = fields;
                }
            }
        }
    }

    fn read_fields(&mut self, text: &'static str, ids: &HashMap<(&str, &str), TypeRef>) {
        let mut package = "";
        for line in text.lines() {
            let mut columns = line.split('\t');
            match columns.next() {
                Some("P") => package = columns.nth(2).expect(BROKEN),
                Some(":") => {}
                name => self.fields.push(read_field(name.expect(BROKEN), columns, package, ids)),
            }
        }
    }

    fn index_names(&mut self) {
        for index in 0..self.types.len() {
            let start = self.by_name.len();
            let mut found = Vec::new();
            self.collect(index, &mut found);
            found.sort_by_key(|field| self.fields[usize::from(*field)].name);
            self.by_name.extend(found);
            self.types[index].by_name = start as u16..self.by_name.len() as u16;
        }
    }

    fn collect(&self, index: usize, found: &mut Vec<u16>) {
        for at in self.types[index].own.clone() {
            match &self.fields[usize::from(at)] {
                Field { flags: Flags { inline: true, .. }, kind: Kind::Struct(inner), .. } => {
                    self.collect(usize::from(inner.0), found);
                }
                _ => found.push(at),
            }
        }
    }
}

fn read_field<'a>(
    name: &'static str,
    mut columns: impl Iterator<Item = &'static str>,
    package: &'a str,
    ids: &HashMap<(&'a str, &'a str), TypeRef>,
) -> Field {
    let number = columns.next().and_then(|number| number.parse().ok()).expect(BROKEN);
    let (kind, container, go_name) = read_kind(columns.next().expect(BROKEN), package, ids);
    let flags = columns.next().expect(BROKEN);
    let mut rare = Rare { go_name, ..Rare::default() };
    let mut is_rare = !go_name.is_empty();
    for column in columns {
        let (key, value) = column.split_once('=').expect(BROKEN);
        is_rare = true;
        match key {
            "ps" => {
                rare.patch = PatchStrategy {
                    merge: value.contains("merge"),
                    replace: value.contains("replace"),
                    retain_keys: value.contains("retainKeys"),
                };
            }
            "mk" => rare.merge_key = value,
            "lt" => {
                rare.atomic = value == "atomic";
                rare.list_type = match value {
                    "map" => ListType::Map,
                    "set" => ListType::Set,
                    _ => ListType::Atomic,
                };
            }
            "lk" => rare.map_keys = value,
            _ => rare.default = value,
        }
    }
    let flags = Flags {
        pointer: flags.contains('*'),
        required: flags.contains('r'),
        always_written: flags.contains('e'),
        inline: flags.contains('~'),
        omit_zero: flags.contains('z'),
    };
    let rare = is_rare.then(|| -> &'static Rare { Box::leak(Box::new(rare)) });
    Field { name, number, kind, container, flags, rare }
}

fn read_kind<'a>(
    text: &'static str,
    package: &'a str,
    ids: &HashMap<(&'a str, &'a str), TypeRef>,
) -> (Kind, Container, &'static str) {
    let (container, text) = match (text.strip_prefix("[]"), text.strip_prefix("{}")) {
        (Some(text), _) => (Container::List, text),
        (_, Some(text)) => (Container::Map, text),
        _ => (Container::None, text),
    };
    if let Some(reference) = text.strip_prefix('@') {
        let key = reference.split_once('.').unwrap_or((package, reference));
        return (Kind::Struct(ids[&key]), container, "");
    }
    let (letter, go_name) = text.split_once('=').unwrap_or((text, ""));
    let kind = match letter {
        "s" => Kind::String,
        "b" => Kind::Bool,
        "i" => Kind::Int32,
        "l" => Kind::Int64,
        "d" => Kind::Float,
        "y" => Kind::Bytes,
        "q" => Kind::Quantity,
        "t" => Kind::Time,
        "u" => Kind::MicroTime,
        "D" => Kind::Duration,
        "n" => Kind::IntOrString,
        "r" => Kind::RawExtension,
        "f" => Kind::FieldsV1,
        "j" => Kind::Json,
        "S" => Kind::StringList,
        "A" => Kind::SchemaOrArray,
        "B" => Kind::SchemaOrBool,
        "C" => Kind::SchemaOrStrings,
        other => unreachable!("the generator writes no kind {other}"),
    };
    (kind, container, go_name)
}
