//! Messages of nf_tables, as values: tables, chains, rules, sets, elements.
//!
//! This owns the encoding and the reading of what the kernel lists. Which rules
//! there are is decided in `firewall`.

mod expr;
mod listing;

use std::io;
use std::time::Duration;

use rustix::io::Errno;

use crate::netlink::uapi::*;
use crate::netlink::{Message, Socket};

pub(crate) use expr::{Expr, Rule};
pub(crate) use listing::{Chain, chains, elements, generation, rules};

/// Where a base chain is hooked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hook {
    /// `filter` or `nat`.
    pub(crate) kind: &'static str,
    /// `NF_INET_*`.
    pub(crate) number: u32,
    /// Its place among the hook's chains.
    pub(crate) priority: i32,
}

/// A set or a map. Types are nft's own numbers, which let `nft list` print it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Set {
    /// Its name.
    pub(crate) name: &'static str,
    /// Type and length in bytes of a key.
    pub(crate) key: (u32, u32),
    /// The same of a value; a map has one.
    pub(crate) data: Option<(u32, u32)>,
    /// Whether its keys are text.
    pub(crate) text: bool,
    /// Whether it contains intervals of keys.
    pub(crate) intervals: bool,
}

/// An element of a set or map.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Element {
    /// The key: every field fills whole words.
    pub(crate) key: Vec<u8>,
    /// The value, in a map.
    pub(crate) data: Option<Vec<u8>>,
    /// Whether it ends the interval that the element before it begins.
    pub(crate) end: bool,
}

impl Element {
    /// An element of a set.
    pub(crate) fn key(key: Vec<u8>) -> Self {
        Self { key, ..Self::default() }
    }
}

/// User data that makes `nft list` print keys as text: byte order (0), four bytes, the machine's (1).
const KEYS_ARE_TEXT: [u8; 6] = {
    let [a, b, c, d] = 1_u32.to_ne_bytes();
    [0, 4, a, b, c, d]
};

/// Elements in one message: the list's length has 16 bits.
const ELEMENTS_PER_MESSAGE: usize = 256;

/// Requests that the kernel commits together or not at all.
#[derive(Debug)]
pub(crate) struct Batch {
    family: u8,
    table: String,
    messages: Vec<Message>,
    sets: u32,
}

impl Batch {
    /// Begins a batch on a table of a family.
    pub(crate) fn new(family: u8, table: &str) -> Self {
        let messages = vec![bracket(NFNL_MSG_BATCH_BEGIN)];
        Self { family, table: table.to_owned(), messages, sets: 0 }
    }

    /// The messages, bracketed.
    pub(crate) fn finish(mut self) -> Vec<Message> {
        self.messages.push(bracket(NFNL_MSG_BATCH_END));
        self.messages
    }

    /// Whether nothing was asked for.
    pub(crate) fn is_empty(&self) -> bool {
        self.messages.len() == 1
    }

    /// Adds the table if it is missing.
    pub(crate) fn add_table(&mut self, comment: &str) {
        let mut message = request(self.family, NFT_MSG_NEWTABLE, NLM_F_CREATE);
        message.text(NFTA_TABLE_NAME, &self.table);
        message.attr(NFTA_TABLE_USERDATA, &comment_data(comment));
        self.messages.push(message);
    }

    /// Deletes the table with all that it contains.
    pub(crate) fn delete_table(&mut self) {
        let mut message = request(self.family, NFT_MSG_DELTABLE, 0);
        message.text(NFTA_TABLE_NAME, &self.table);
        self.messages.push(message);
    }

    /// Adds a chain; one with a hook accepts what its rules leave.
    pub(crate) fn add_chain(&mut self, name: &str, hook: Option<Hook>) {
        let mut message = request(self.family, NFT_MSG_NEWCHAIN, NLM_F_CREATE);
        message.text(NFTA_CHAIN_TABLE, &self.table).text(NFTA_CHAIN_NAME, name);
        if let Some(hook) = hook {
            message.nest(NFTA_CHAIN_HOOK, |m| {
                m.be32(NFTA_HOOK_HOOKNUM, hook.number);
                m.be32(NFTA_HOOK_PRIORITY, hook.priority as u32);
            });
            message.be32(NFTA_CHAIN_POLICY, NF_ACCEPT as u32);
            message.text(NFTA_CHAIN_TYPE, hook.kind);
        }
        self.messages.push(message);
    }

    /// Appends a rule to a chain.
    pub(crate) fn append_rule(&mut self, chain: &str, rule: &Rule) {
        self.rule(chain, rule, NLM_F_CREATE | NLM_F_APPEND);
    }

    /// Puts a rule before a chain's others.
    pub(crate) fn insert_rule(&mut self, chain: &str, rule: &Rule) {
        self.rule(chain, rule, NLM_F_CREATE);
    }

    fn rule(&mut self, chain: &str, rule: &Rule, flags: u16) {
        let mut message = request(self.family, NFT_MSG_NEWRULE, flags);
        message.text(NFTA_RULE_TABLE, &self.table).text(NFTA_RULE_CHAIN, chain);
        message.nest(NFTA_RULE_EXPRESSIONS, |m| {
            rule.expressions.iter().for_each(|e| e.encode(m));
        });
        message.attr(NFTA_RULE_USERDATA, &comment_data(&rule.comment));
        self.messages.push(message);
    }

    /// Deletes a rule by its handle.
    pub(crate) fn delete_rule(&mut self, chain: &str, handle: u64) {
        let mut message = request(self.family, NFT_MSG_DELRULE, 0);
        message.text(NFTA_RULE_TABLE, &self.table).text(NFTA_RULE_CHAIN, chain);
        message.attr(NFTA_RULE_HANDLE, &handle.to_be_bytes());
        self.messages.push(message);
    }

    /// Adds a set or map.
    pub(crate) fn add_set(&mut self, set: &Set) {
        self.sets += 1;
        let mut message = request(self.family, NFT_MSG_NEWSET, NLM_F_CREATE);
        message.text(NFTA_SET_TABLE, &self.table).text(NFTA_SET_NAME, set.name);
        let map = if set.data.is_some() { NFT_SET_MAP } else { 0 };
        let intervals = if set.intervals { NFT_SET_INTERVAL } else { 0 };
        message.be32(NFTA_SET_FLAGS, map | intervals);
        message.be32(NFTA_SET_KEY_TYPE, set.key.0).be32(NFTA_SET_KEY_LEN, set.key.1);
        if let Some((kind, length)) = set.data {
            message.be32(NFTA_SET_DATA_TYPE, kind).be32(NFTA_SET_DATA_LEN, length);
        }
        message.be32(NFTA_SET_ID, self.sets);
        if set.text {
            message.attr(NFTA_SET_USERDATA, &KEYS_ARE_TEXT);
        }
        self.messages.push(message);
    }

    /// Adds elements; one that is there already must have the same value.
    pub(crate) fn add_elements(&mut self, set: &str, elements: &[Element]) {
        self.elements(NFT_MSG_NEWSETELEM, NLM_F_CREATE, set, elements);
    }

    /// Adds elements of several sets.
    pub(crate) fn add_entries(&mut self, entries: &[(&'static str, Element)]) {
        self.entries(NFT_MSG_NEWSETELEM, NLM_F_CREATE, entries);
    }

    /// Deletes elements of several sets.
    pub(crate) fn delete_entries(&mut self, entries: &[(&'static str, Element)]) {
        self.entries(NFT_MSG_DELSETELEM, 0, entries);
    }

    /// One message for each run of elements of one set.
    fn entries(&mut self, kind: u16, flags: u16, entries: &[(&'static str, Element)]) {
        for run in entries.chunk_by(|a, b| a.0 == b.0) {
            let elements: Vec<Element> = run.iter().map(|(_, element)| element.clone()).collect();
            self.elements(kind, flags, run[0].0, &elements);
        }
    }

    fn elements(&mut self, kind: u16, flags: u16, set: &str, elements: &[Element]) {
        for chunk in elements.chunks(ELEMENTS_PER_MESSAGE) {
            let mut message = request(self.family, kind, flags);
            message.text(NFTA_SET_ELEM_LIST_TABLE, &self.table);
            message.text(NFTA_SET_ELEM_LIST_SET, set);
            message.nest(NFTA_SET_ELEM_LIST_ELEMENTS, |m| {
                chunk.iter().for_each(|element| encode_element(m, element));
            });
            self.messages.push(message);
        }
    }
}

fn encode_element(message: &mut Message, element: &Element) {
    message.nest(NFTA_LIST_ELEM, |m| {
        if element.end {
            m.be32(NFTA_SET_ELEM_FLAGS, NFT_SET_ELEM_INTERVAL_END);
        }
        m.nest(NFTA_SET_ELEM_KEY, |m| {
            m.attr(NFTA_DATA_VALUE, &element.key);
        });
        if let Some(data) = &element.data {
            m.nest(NFTA_SET_ELEM_DATA, |m| {
                m.attr(NFTA_DATA_VALUE, data);
            });
        }
    });
}

/// How often to ask for nf_tables while its module is being loaded, and how long to wait between.
const TRIES: usize = 100;
const PAUSE: Duration = Duration::from_millis(20);

/// Opens a socket to nf_tables in the calling thread's network namespace.
///
/// The kernel has the module loaded when it is first asked for. Somebody else may just be doing that: busybox's
/// `modprobe` then takes it for loaded, and the kernel finds nobody to answer (`EINVAL`).
pub(crate) fn open() -> io::Result<Socket> {
    let mut socket = Socket::filter()?;
    for _ in 0..TRIES {
        match generation(&mut socket) {
            Err(error) if Errno::from_io_error(&error) == Some(Errno::INVAL) => std::thread::sleep(PAUSE),
            answered => return answered.map(|_| socket),
        }
    }
    Err(io::Error::new(io::ErrorKind::Unsupported, "the kernel has no nf_tables, and its module was not loaded"))
}

/// A request to nf_tables in a family.
fn request(family: u8, kind: u16, flags: u16) -> Message {
    Message::new((NFNL_SUBSYS_NFTABLES << 8) | kind, flags, &[family, 0, 0, 0])
}

fn bracket(kind: u16) -> Message {
    let [high, low] = NFNL_SUBSYS_NFTABLES.to_be_bytes();
    Message::new(kind, 0, &[0, 0, high, low])
}

/// User data in nft's own form: one comment, type 0, length, text with NUL.
pub(crate) fn comment_data(comment: &str) -> Vec<u8> {
    let text = &comment.as_bytes()[..comment.len().min(120)];
    let mut data = vec![0, text.len() as u8 + 1];
    data.extend_from_slice(text);
    data.push(0);
    data
}
