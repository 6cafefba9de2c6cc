//! Getting along with other programs' firewalls in the same namespace.
//!
//! A packet passes only if every table lets it. Docker, for one, sets the policy of `ip filter FORWARD`
//! to drop, so rules that accept our bridges' packets must stand there: in `DOCKER-USER`, which Docker
//! keeps for that, or else first in the chain itself. What our own table refuses stays refused.
//!
//! Only nf_tables can be seen here: a policy that was set by `iptables-legacy` is out of reach.

use std::collections::BTreeSet;
use std::io;

use crate::firewall::{admission, admission_comment};
use crate::netlink::Socket;
use crate::netlink::uapi::{NF_INET_FORWARD, NFPROTO_INET, NFPROTO_IPV4, NFPROTO_IPV6};
use crate::nft::{self, Batch, Chain};

/// Where Docker's users put rules of their own.
const DOCKER_USER: &str = "DOCKER-USER";

/// What must change in other programs' chains: our rules for these bridges are there, others of ours are not.
pub(crate) fn admissions(
    socket: &mut Socket,
    own_table: &str,
    mark: &str,
    bridges: &BTreeSet<&str>,
) -> io::Result<Vec<Batch>> {
    let chains = nft::chains(socket)?;
    let mut batches = Vec::new();
    for (chain, needed) in places(&chains, own_table) {
        let wanted = if needed { bridges.clone() } else { BTreeSet::new() };
        let batch = amend(socket, chain, mark, &wanted)?;
        if !batch.is_empty() {
            batches.push(batch);
        }
    }
    Ok(batches)
}

/// The chains where rules of ours are needed, or could have been left.
fn places<'a>(chains: &'a [Chain], own_table: &str) -> Vec<(&'a Chain, bool)> {
    let foreign = |c: &&Chain| {
        matches!(c.family, NFPROTO_IPV4 | NFPROTO_IPV6 | NFPROTO_INET)
            && !(c.family == NFPROTO_INET && c.table == own_table)
    };
    let mut all = Vec::new();
    for base in chains.iter().filter(foreign).filter(|c| c.hook == Some(NF_INET_FORWARD)) {
        let user = chains.iter().find(|c| (c.family, &c.table) == (base.family, &base.table) && c.name == DOCKER_USER);
        all.push((base, base.drops && user.is_none()));
        all.extend(user.map(|chain| (chain, base.drops)));
    }
    all
}

/// Adds what is missing in a chain and removes what is not wanted any more.
fn amend(socket: &mut Socket, chain: &Chain, mark: &str, wanted: &BTreeSet<&str>) -> io::Result<Batch> {
    let mut batch = Batch::new(chain.family, &chain.table);
    let listed = nft::rules(socket, chain.family, &chain.table, Some(&chain.name))?;
    let expected: BTreeSet<String> =
        wanted.iter().flat_map(|bridge| [true, false].map(|input| admission_comment(bridge, mark, input))).collect();
    let prefix = format!("{mark} ");
    for rule in listed.iter().filter(|r| r.comment.starts_with(&prefix) && !expected.contains(&r.comment)) {
        batch.delete_rule(&chain.name, rule.handle);
    }
    for rule in wanted.iter().flat_map(|bridge| admission(bridge, mark)) {
        if !listed.iter().any(|l| l.comment == rule.comment) {
            batch.insert_rule(&chain.name, &rule);
        }
    }
    Ok(batch)
}
