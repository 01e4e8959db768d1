//! What is in the kernel: for tests, for observing, and for cleaning up what an earlier process left.

use super::chain::{ChainKind, Family, Hook, Policy, Table};
use super::encode::{LIST_ELEM, SET_MAP};
use super::expr::Verdict;
use super::key::Key;
use super::{Nft, SUBSYSTEM};
use crate::error::Result;
use crate::socket::Subject;
use crate::wire::{Attributes, Encoder, be32, be64, string};

const GETTABLE: u16 = 1;
const GETCHAIN: u16 = 4;
const GETRULE: u16 = 7;
const GETSET: u16 = 10;
const GETSETELEM: u16 = 13;
const HEADER_LEN: usize = 4;

/// A table that is there.
pub type ListedTable = Table;

/// A chain that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedChain {
    /// Its name.
    pub name: String,
    /// Kind, hook, priority and policy of a base chain.
    pub base: Option<(ChainKind, Hook, i32, Policy)>,
    /// How many rules and jumps refer to it.
    pub uses: u32,
}

/// A rule that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedRule {
    /// The chain it is in.
    pub chain: String,
    /// Its number, for deleting it.
    pub handle: u64,
    /// Its comment.
    pub comment: Option<String>,
    /// The names of its expressions.
    pub expressions: Vec<String>,
    /// Packets and bytes of its first counter.
    pub counter: Option<(u64, u64)>,
}

/// A set or map that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedSet {
    /// Its name.
    pub name: String,
    /// Whether it is a map.
    pub map: bool,
}

/// An element that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedElement {
    /// Its key, padded as in the kernel.
    pub key: Key,
    /// Where it leads, in a jump table.
    pub verdict: Option<Verdict>,
    /// Its value, padded, in a map.
    pub value: Option<Key>,
    /// How much longer it lives.
    pub expires_ms: Option<u64>,
}

impl Nft {
    /// The tables of every family.
    ///
    /// # Errors
    /// The kernel refuses or the table kept changing.
    pub fn tables(&mut self) -> Result<Vec<ListedTable>> {
        let subject = Subject { request: "list tables", name: "" };
        self.socket.dump(
            subject,
            SUBSYSTEM | GETTABLE,
            &[0; 4],
            |_| {},
            |payload| {
                let family = Family::of(*payload.first()?)?;
                Some(Table { family, name: string(Attributes(payload.get(HEADER_LEN..)?).find(1)?) })
            },
        )
    }

    /// The chains of `table`.
    ///
    /// # Errors
    /// The kernel refuses or the table kept changing.
    pub fn chains(&mut self, table: &Table) -> Result<Vec<ListedChain>> {
        self.rows("list chains", GETCHAIN, table, None, |attributes| {
            same_table(attributes, table)?;
            chain(attributes)
        })
    }

    /// The rules of `table`, in order within each chain.
    ///
    /// # Errors
    /// The kernel refuses or the table kept changing.
    pub fn rules(&mut self, table: &Table) -> Result<Vec<ListedRule>> {
        self.rows("list rules", GETRULE, table, None, |attributes| {
            same_table(attributes, table)?;
            rule(attributes)
        })
    }

    /// The named sets and maps of `table`.
    ///
    /// # Errors
    /// The kernel refuses or the table kept changing.
    pub fn sets(&mut self, table: &Table) -> Result<Vec<ListedSet>> {
        let sets = self.rows("list sets", GETSET, table, None, |attributes| {
            same_table(attributes, table)?;
            let flags = attributes.find(3).and_then(be32).unwrap_or(0);
            Some(ListedSet { name: string(attributes.find(2)?), map: flags & SET_MAP != 0 })
        })?;
        // Inline sets show up under the names that the kernel made for them.
        Ok(sets.into_iter().filter(|set| !set.name.starts_with("__")).collect())
    }

    /// The elements of a set or map.
    ///
    /// # Errors
    /// There is no such set, or it kept changing.
    pub fn elements(&mut self, table: &Table, set: &str) -> Result<Vec<ListedElement>> {
        let chunks = self.rows("list elements", GETSETELEM, table, Some(set), |attributes| {
            Some(
                Attributes(attributes.find(3)?).filter_map(|(_, value)| element(Attributes(value))).collect(),
            )
        })?;
        Ok(chunks.into_iter().flat_map(|chunk: Vec<_>| chunk).collect())
    }

    fn rows<T>(
        &mut self,
        request: &'static str,
        kind: u16,
        table: &Table,
        set: Option<&str>,
        read: impl Fn(Attributes<'_>) -> Option<T>,
    ) -> Result<Vec<T>> {
        let subject = Subject { request, name: set.unwrap_or(&table.name) };
        let header = [table.family.number(), 0, 0, 0];
        let body = |encoder: &mut Encoder| {
            encoder.put_str(1, &table.name);
            if let Some(set) = set {
                encoder.put_str(2, set);
            }
        };
        let outcome = self.socket.dump(subject, SUBSYSTEM | kind, &header, body, |payload| {
            read(Attributes(payload.get(HEADER_LEN..)?))
        });
        match outcome {
            Err(error) if error.is_not_found() && set.is_none() => Ok(Vec::new()),
            outcome => outcome,
        }
    }
}

/// Older kernels do not filter a listing by table.
fn same_table(attributes: Attributes<'_>, table: &Table) -> Option<()> {
    (string(attributes.find(1)?) == table.name).then_some(())
}

fn chain(attributes: Attributes<'_>) -> Option<ListedChain> {
    Some(ListedChain {
        name: string(attributes.find(3)?),
        base: base(attributes),
        uses: attributes.find(6).and_then(be32).unwrap_or(0),
    })
}

fn base(attributes: Attributes<'_>) -> Option<(ChainKind, Hook, i32, Policy)> {
    let hook = Attributes(attributes.find(4)?);
    let kind = match string(attributes.find(7)?).as_str() {
        "nat" => ChainKind::Nat,
        "route" => ChainKind::Route,
        _ => ChainKind::Filter,
    };
    let number = hook.find(1).and_then(be32).and_then(Hook::of)?;
    let priority = hook.find(2).and_then(be32)?.cast_signed();
    let policy = match attributes.find(5).and_then(be32) {
        Some(0) => Policy::Drop,
        _ => Policy::Accept,
    };
    Some((kind, number, priority, policy))
}

fn rule(attributes: Attributes<'_>) -> Option<ListedRule> {
    let list = attributes.find(4).unwrap_or_default();
    let expressions =
        Attributes(list).filter(|(kind, _)| *kind == LIST_ELEM).map(|(_, value)| Attributes(value));
    Some(ListedRule {
        chain: string(attributes.find(2)?),
        handle: attributes.find(3).and_then(be64)?,
        comment: attributes.find(7).and_then(comment),
        counter: expressions.clone().find_map(counter),
        expressions: expressions.filter_map(|expression| expression.find(1).map(string)).collect(),
    })
}

fn counter(expression: Attributes<'_>) -> Option<(u64, u64)> {
    if string(expression.find(1)?) != "counter" {
        return None;
    }
    let data = Attributes(expression.find(2)?);
    Some((data.find(2).and_then(be64)?, data.find(1).and_then(be64)?))
}

fn comment(user_data: &[u8]) -> Option<String> {
    match user_data {
        [0, length, text @ ..] => text.get(..usize::from(*length)).map(string),
        _ => None,
    }
}

fn element(attributes: Attributes<'_>) -> Option<ListedElement> {
    let value = |kind| attributes.find(kind).and_then(|data| Attributes(data).find(1));
    Some(ListedElement {
        key: Key::from_bytes(value(1)?),
        verdict: attributes.find(2).and_then(|data| Attributes(data).find(2)).and_then(verdict),
        value: value(2).map(Key::from_bytes),
        expires_ms: attributes.find(5).and_then(be64),
    })
}

fn verdict(data: &[u8]) -> Option<Verdict> {
    let attributes = Attributes(data);
    let chain = || attributes.find(2).map(string);
    match attributes.find(1).and_then(be32)?.cast_signed() {
        0 => Some(Verdict::Drop),
        1 => Some(Verdict::Accept),
        -3 => chain().map(Verdict::Jump),
        -4 => chain().map(Verdict::Goto),
        -5 => Some(Verdict::Return),
        _ => None,
    }
}
