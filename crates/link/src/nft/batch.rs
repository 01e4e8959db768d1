//! A batch: changes that the kernel takes whole or not at all, in order.

use super::chain::{Chain, Policy, Rule, Table};
use super::encode::{self, ElementShape, InlineSet, SET_ANONYMOUS, SET_CONSTANT, SET_MAP, SetShape};
use super::expr::{Expr, SetRef};
use super::key::Field;
use super::set::{Element, MapData, Set};
use super::{Nft, SUBSYSTEM};
use crate::error::{Error, Result};
use crate::socket::{NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_REQUEST, Refusal};
use crate::wire::{Encoder, Head};

const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const NEWTABLE: u16 = 0;
const DELTABLE: u16 = 2;
const NEWCHAIN: u16 = 3;
const DELCHAIN: u16 = 5;
const NEWRULE: u16 = 6;
const DELRULE: u16 = 8;
const NEWSET: u16 = 9;
const DELSET: u16 = 11;
const NEWSETELEM: u16 = 12;
const DELSETELEM: u16 = 14;

/// Elements in one message: far below the 64 KiB that one attribute may hold, whatever the key.
const ELEMENTS_PER_MESSAGE: usize = 256;

/// What one message of a batch was, for its error.
struct Entry {
    request: &'static str,
    subject: String,
}

/// The first message that the kernel refused; `others` more were refused too.
#[derive(Debug)]
pub struct Refused {
    /// Its place in the batch.
    pub position: usize,
    /// How many further messages were refused.
    pub others: usize,
    /// What it was and why.
    pub error: Error,
}

/// Changes to one table, to be committed together.
pub struct Batch {
    table: Table,
    encoder: Encoder,
    entries: Vec<Entry>,
    next_set_id: u32,
}

impl Batch {
    /// An empty batch about `table`.
    pub fn new(table: Table) -> Self {
        Self { table, encoder: Encoder::default(), entries: Vec::new(), next_set_id: 1 }
    }

    /// Whether nothing was put in.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Messages in it.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    fn push(
        &mut self,
        request: &'static str,
        subject: &str,
        kind: u16,
        flags: u16,
        body: impl FnOnce(&mut Encoder),
    ) {
        // Sequence numbers count from 0 (the begin message is added when it is sent) and are shifted then.
        let sequence = u32::try_from(self.entries.len()).unwrap_or(u32::MAX).wrapping_add(1);
        let head = Head { kind: SUBSYSTEM | kind, flags: NLM_F_REQUEST | flags, sequence };
        let header = [self.table.family.number(), 0, 0, 0];
        let name = self.table.name.clone();
        self.encoder.message(head, &header, |encoder| {
            encoder.put_str(1, &name);
            body(encoder);
        });
        self.entries.push(Entry { request, subject: subject.to_owned() });
    }

    /// Adds the table, or leaves it as it is.
    pub fn add_table(&mut self) {
        let name = self.table.name.clone();
        self.push("add table", &name, NEWTABLE, NLM_F_CREATE, |_| {});
    }

    /// Deletes the table with everything in it; that it is not there is fine (it is added first).
    pub fn delete_table(&mut self) {
        self.add_table();
        let name = self.table.name.clone();
        self.push("delete table", &name, DELTABLE, 0, |_| {});
    }

    /// Adds a chain, or leaves it as it is.
    pub fn add_chain(&mut self, chain: &Chain) {
        self.push("add chain", &chain.name, NEWCHAIN, NLM_F_CREATE, |encoder| {
            encoder.put_str(3, &chain.name);
            let Some((kind, hook, priority, policy)) = chain.base else { return };
            encoder.nest(4, |nested| {
                nested.put_be32(1, hook.number());
                nested.put_be32(2, priority.cast_unsigned());
            });
            encoder.put_be32(5, u32::from(policy == Policy::Accept));
            encoder.put_str(7, kind.name());
        });
    }

    /// Removes all rules of a chain.
    pub fn flush_chain(&mut self, name: &str) {
        self.push("flush chain", name, DELRULE, 0, |encoder| encoder.put_str(2, name));
    }

    /// Deletes a chain that nothing jumps to any more; its rules go with it.
    pub fn delete_chain(&mut self, name: &str) {
        self.flush_chain(name);
        self.push("delete chain", name, DELCHAIN, 0, |encoder| encoder.put_str(3, name));
    }

    /// Appends a rule to a chain, with the inline sets it uses.
    pub fn add_rule(&mut self, chain: &str, rule: &Rule) {
        let family = self.table.family;
        let inline: Vec<_> = rule.expressions.iter().map(|expr| self.declare_inline(chain, expr)).collect();
        self.push("add rule", chain, NEWRULE, NLM_F_CREATE | NLM_F_APPEND, |encoder| {
            encoder.put_str(2, chain);
            encoder.nest(4, |list| {
                for (expr, inline) in rule.expressions.iter().zip(&inline) {
                    encode::expression(list, family, expr, inline.as_ref());
                }
            });
            if let Some(comment) = &rule.comment {
                encoder.put(7, &comment_data(comment));
            }
        });
    }

    /// Removes one rule by the handle that a listing tells.
    pub fn delete_rule(&mut self, chain: &str, handle: u64) {
        self.push("delete rule", chain, DELRULE, 0, |encoder| {
            encoder.put_str(2, chain);
            encoder.put_be64(3, handle);
        });
    }

    fn declare_inline(&mut self, chain: &str, expr: &Expr) -> Option<InlineSet> {
        let (Expr::Lookup { set, .. } | Expr::VerdictMap { set, .. }) = expr else { return None };
        let SetRef::Inline { key, data, elements } = set else { return None };
        let inline = self.inline_set(chain, key, data.as_ref(), elements.len());
        let shape = ElementShape::of(key, data.as_ref(), false);
        self.put_elements(chain, NEWSETELEM, inline.name, Some(inline.id), shape, elements);
        Some(inline)
    }

    fn inline_set(&mut self, chain: &str, key: &[Field], data: Option<&MapData>, size: usize) -> InlineSet {
        let id = self.set_id();
        let (name, map) = if data.is_some() { ("__map%d", SET_MAP) } else { ("__set%d", 0) };
        let flags = SET_ANONYMOUS | SET_CONSTANT | map;
        let shape = SetShape {
            key,
            data,
            flags,
            id,
            size: u32::try_from(size).ok().filter(|size| *size > 0),
            timeout_ms: None,
        };
        self.push("add inline set", chain, NEWSET, NLM_F_CREATE, |encoder| {
            encoder.put_str(2, name);
            shape.put(encoder);
        });
        InlineSet { name, id }
    }

    fn set_id(&mut self) -> u32 {
        let id = self.next_set_id;
        self.next_set_id = id.wrapping_add(1);
        id
    }

    /// Adds a set or map, or leaves it as it is.
    pub fn add_set(&mut self, set: &Set) {
        let id = self.set_id();
        self.push("add set", &set.name, NEWSET, NLM_F_CREATE, |encoder| {
            encoder.put_str(2, &set.name);
            SetShape::named(set, id).put(encoder);
        });
    }

    /// Deletes a set or map that no rule uses any more.
    pub fn delete_set(&mut self, name: &str) {
        self.push("delete set", name, DELSET, 0, |encoder| encoder.put_str(2, name));
    }

    /// Takes all elements out.
    pub fn flush_set(&mut self, name: &str) {
        self.push("flush set", name, DELSETELEM, 0, |encoder| encoder.put_str(2, name));
    }

    /// Adds elements; one that is there already is left, unless a map's value differs, which is an error.
    pub fn add_elements(&mut self, set: &Set, elements: &[Element]) {
        let shape = ElementShape::of(&set.key, set.data.as_ref(), set.interval);
        self.put_elements(&set.name, NEWSETELEM, &set.name, None, shape, elements);
    }

    /// Takes elements out; one that is not there is an error.
    pub fn delete_elements(&mut self, set: &Set, elements: &[Element]) {
        let shape = ElementShape::of(&set.key, set.data.as_ref(), set.interval);
        self.put_elements(&set.name, DELSETELEM, &set.name, None, shape, elements);
    }

    fn put_elements(
        &mut self,
        subject: &str,
        kind: u16,
        set: &str,
        id: Option<u32>,
        shape: ElementShape,
        elements: &[Element],
    ) {
        let (request, flags) =
            if kind == NEWSETELEM { ("add elements", NLM_F_CREATE) } else { ("delete elements", 0) };
        for chunk in elements.chunks(ELEMENTS_PER_MESSAGE) {
            self.push(request, subject, kind, flags, |encoder| {
                encoder.put_str(2, set);
                if let Some(id) = id {
                    encoder.put_be32(4, id);
                }
                encoder
                    .nest(3, |list| chunk.iter().for_each(|element| encode::element(list, shape, element)));
            });
        }
    }

    /// Commits the batch: all of it or nothing. An empty batch is done at once.
    ///
    /// # Errors
    /// The message that the kernel refused first; then nothing has changed.
    pub fn commit(self, nft: &mut Nft) -> Result<(), Box<Refused>> {
        if self.entries.is_empty() {
            return Ok(());
        }
        if self.encoder.overlong() {
            let error = Error::TooLong { request: "commit a batch to", subject: self.table.name };
            return Err(Box::new(Refused { position: 0, others: 0, error }));
        }
        let count = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
        let first = nft.socket.sequences(count.wrapping_add(2));
        let bytes = self.framed(first, count);
        let outcome = nft.socket.batch(&bytes, first.wrapping_add(count));
        match outcome {
            Ok((refusals, true)) if refusals.is_empty() => Ok(()),
            Ok((refusals, _)) => Err(Box::new(self.refused(first, refusals))),
            Err(error) => Err(Box::new(Refused { position: 0, others: 0, error })),
        }
    }

    /// The messages between begin and end, numbered from `first`; the last one asks for an acknowledgement.
    fn framed(&self, first: u32, count: u32) -> Vec<u8> {
        let mut framed = Encoder::default();
        let frame = |sequence, kind| Head { kind, flags: NLM_F_REQUEST, sequence };
        let header = [0, 0, 0, 10];
        framed.message(frame(first, BATCH_BEGIN), &header, |_| {});
        let body_start = framed.bytes().len();
        framed.raw(self.encoder.bytes());
        framed.message(frame(first.wrapping_add(count).wrapping_add(1), BATCH_END), &header, |_| {});
        let mut bytes = framed.bytes().to_vec();
        renumber(&mut bytes[body_start..], first, count);
        bytes
    }

    fn refused(self, first: u32, mut refusals: Vec<Refusal>) -> Refused {
        refusals.sort_by_key(|refusal| refusal.sequence.wrapping_sub(first));
        let others = refusals.len().saturating_sub(1);
        let Some(refusal) = refusals.into_iter().next() else {
            return Refused { position: 0, others, error: Error::Malformed { request: "commit a batch" } };
        };
        let position = (refusal.sequence.wrapping_sub(first) as usize).saturating_sub(1);
        // The begin message stands for the batch as a whole: a failure of the commit itself.
        let entry = self.entries.into_iter().nth(position).filter(|_| refusal.sequence != first);
        let (request, subject) =
            entry.map_or(("commit a batch to", self.table.name), |entry| (entry.request, entry.subject));
        let (source, message) = (refusal.source, refusal.message);
        Refused { position, others, error: Error::Refused { request, subject, source, message } }
    }
}

/// Shifts the sequence numbers of the messages in `bytes` by `first` and asks for an acknowledgement of the last.
fn renumber(bytes: &mut [u8], first: u32, count: u32) {
    let mut rest = bytes;
    for number in 1..=count {
        let length = u32::from_ne_bytes([rest[0], rest[1], rest[2], rest[3]]) as usize;
        rest[8..12].copy_from_slice(&first.wrapping_add(number).to_ne_bytes());
        if number == count {
            let flags = u16::from_ne_bytes([rest[6], rest[7]]) | NLM_F_ACK;
            rest[6..8].copy_from_slice(&flags.to_ne_bytes());
        }
        rest = &mut rest[length.next_multiple_of(4)..];
    }
}

/// The nft program's form of a comment: type 0, length, text with its zero.
fn comment_data(comment: &str) -> Vec<u8> {
    let length = u8::try_from(comment.len() + 1).unwrap_or(u8::MAX);
    let mut data = vec![0, length];
    data.extend_from_slice(&comment.as_bytes()[..usize::from(length) - 1]);
    data.push(0);
    data
}

impl From<Box<Refused>> for Error {
    fn from(refused: Box<Refused>) -> Self {
        refused.error
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "message {} of the batch: {}", self.position, self.error)
    }
}

impl std::error::Error for Refused {}

impl Nft {
    /// Deletes `table` with everything in it, if it is there.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn delete_table(&mut self, table: &Table) -> Result<()> {
        let mut batch = Batch::new(table.clone());
        batch.delete_table();
        Ok(batch.commit(self)?)
    }
}
