//! Reading back what a namespace's nf_tables contain.

use std::io;

use super::request;
use crate::netlink::uapi::*;
use crate::netlink::{Message, Socket, attributes, be32, find, text};

/// A chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chain {
    /// Its table's family.
    pub(crate) family: u8,
    /// Its table.
    pub(crate) table: String,
    /// Its name.
    pub(crate) name: String,
    /// `NF_INET_*`; none for a chain that is only jumped to.
    pub(crate) hook: Option<u32>,
    /// Whether packets that no rule decides on are dropped.
    pub(crate) drops: bool,
}

/// A rule as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListedRule {
    /// Its chain.
    pub(crate) chain: String,
    /// Its number in the table.
    pub(crate) handle: u64,
    /// Its comment; empty if it has none.
    pub(crate) comment: String,
}

/// The number of the last commit in this namespace.
pub(crate) fn generation(socket: &mut Socket) -> io::Result<u32> {
    let reply = socket.ask(request(0, NFT_MSG_GETGEN, 0))?;
    Ok(body(&reply.payload).and_then(|b| find(b, NFTA_GEN_ID)).and_then(be32).unwrap_or(0))
}

/// All chains of all families.
pub(crate) fn chains(socket: &mut Socket) -> io::Result<Vec<Chain>> {
    let replies = socket.dump(request(0, NFT_MSG_GETCHAIN, 0))?;
    Ok(replies.iter().filter_map(|r| chain_of(*r.payload.first()?, body(&r.payload)?)).collect())
}

/// The rules of a table, or of one of its chains.
pub(crate) fn rules(socket: &mut Socket, family: u8, table: &str, chain: Option<&str>) -> io::Result<Vec<ListedRule>> {
    let mut message = request(family, NFT_MSG_GETRULE, 0);
    message.text(NFTA_RULE_TABLE, table);
    if let Some(chain) = chain {
        message.text(NFTA_RULE_CHAIN, chain);
    }
    let replies = listing(socket, message)?;
    Ok(replies.iter().filter_map(|r| rule_of(body(r)?)).collect())
}

/// The elements of a set, sorted; `None` if there is no such set.
pub(crate) fn elements(
    socket: &mut Socket,
    family: u8,
    table: &str,
    set: &str,
) -> io::Result<Option<Vec<super::Element>>> {
    let mut message = request(family, NFT_MSG_GETSETELEM, 0);
    message.text(NFTA_SET_ELEM_LIST_TABLE, table).text(NFTA_SET_ELEM_LIST_SET, set);
    let replies = match socket.dump(message) {
        Ok(replies) => replies,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for reply in &replies {
        let list = body(&reply.payload).and_then(|b| find(b, NFTA_SET_ELEM_LIST_ELEMENTS));
        found.extend(attributes(list.unwrap_or(&[])).filter_map(|(_, element)| element_of(element)));
    }
    found.sort();
    Ok(Some(found))
}

/// A dump in which a missing table is an empty one.
fn listing(socket: &mut Socket, message: Message) -> io::Result<Vec<Vec<u8>>> {
    match socket.dump(message) {
        Ok(replies) => Ok(replies.into_iter().map(|r| r.payload).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// The attributes after `nfgenmsg`.
fn body(payload: &[u8]) -> Option<&[u8]> {
    payload.get(4..)
}

fn chain_of(family: u8, bytes: &[u8]) -> Option<Chain> {
    let word = |kind| find(bytes, kind).map(text).unwrap_or_default();
    let hook = find(bytes, NFTA_CHAIN_HOOK).and_then(|h| find(h, NFTA_HOOK_HOOKNUM)).and_then(be32);
    let policy = find(bytes, NFTA_CHAIN_POLICY).and_then(be32);
    Some(Chain {
        family,
        table: word(NFTA_CHAIN_TABLE),
        name: word(NFTA_CHAIN_NAME),
        hook,
        drops: policy == Some(NF_DROP as u32),
    })
}

fn rule_of(bytes: &[u8]) -> Option<ListedRule> {
    let handle = find(bytes, NFTA_RULE_HANDLE)?.try_into().ok().map(u64::from_be_bytes)?;
    Some(ListedRule {
        chain: text(find(bytes, NFTA_RULE_CHAIN)?),
        handle,
        comment: find(bytes, NFTA_RULE_USERDATA).map(comment_of).unwrap_or_default(),
    })
}

fn element_of(bytes: &[u8]) -> Option<super::Element> {
    let value = |kind| find(bytes, kind).and_then(|v| find(v, NFTA_DATA_VALUE)).map(<[u8]>::to_vec);
    let flags = find(bytes, NFTA_SET_ELEM_FLAGS).and_then(be32).unwrap_or(0);
    Some(super::Element {
        key: value(NFTA_SET_ELEM_KEY)?,
        data: value(NFTA_SET_ELEM_DATA),
        end: flags & NFT_SET_ELEM_INTERVAL_END != 0,
    })
}

/// The comment in nft's user data: records of type, length, value.
fn comment_of(mut data: &[u8]) -> String {
    while let [kind, length, rest @ ..] = data {
        let length = usize::from(*length).min(rest.len());
        if *kind == 0 {
            return text(&rest[..length]);
        }
        data = &rest[length..];
    }
    String::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_survive() {
        assert_eq!(comment_of(&super::super::comment_data("droste: masquerade")), "droste: masquerade");
        assert_eq!(comment_of(&[]), "");
        assert_eq!(comment_of(&[5, 200, 1]), "");
        let mut two = vec![7, 1, 9];
        two.extend(super::super::comment_data("x"));
        assert_eq!(comment_of(&two), "x");
    }
}
