//! The expressions that rules are made of.
//!
//! Each is named by what it does to a packet; a register is where one expression leaves what the
//! next one reads.

use crate::netlink::Message;
use crate::netlink::uapi::*;

/// A rule: what it does, and the comment that makes it recognisable.
#[derive(Debug, Clone)]
pub(crate) struct Rule {
    /// Evaluated in order; one that does not match ends the rule.
    pub(crate) expressions: Vec<Expr>,
    /// Shown by `nft list`.
    pub(crate) comment: String,
}

/// One expression.
#[derive(Debug, Clone)]
pub(crate) enum Expr {
    /// Loads the input (`true`) or output interface's name.
    Interface { input: bool, register: u32 },
    /// Loads the address family (`NFPROTO_*`).
    Family { register: u32 },
    /// Loads the transport protocol.
    Protocol { register: u32 },
    /// Loads bytes of the network (1) or transport (2) header.
    Payload { base: u32, offset: u32, length: u32, register: u32 },
    /// Loads how the connection stands.
    CtState,
    /// Loads what was done to the connection.
    CtStatus,
    /// Loads what the destination address is to this namespace (`RTN_*`).
    DestinationType,
    /// Keeps the bits of a mask in register 1.
    Mask(u32),
    /// Matches if register 1 equals (or not) the bytes.
    Compare { equal: bool, bytes: Vec<u8> },
    /// Matches if register 1 is (or is not) in a set.
    InSet { set: &'static str, negate: bool },
    /// Matches if register 1 is in a map, and leaves its value there.
    Map { map: &'static str },
    /// Changes the destination to the address in register 1 and the port in a word after it.
    DestinationNat { protocol: u8, port: u32 },
    /// Changes the source to the address in register 1.
    SourceNat { protocol: u8 },
    /// Puts bytes into a register.
    Immediate { register: u32, bytes: Vec<u8> },
    /// Changes the source to the address of the interface it leaves by.
    Masquerade,
    /// Ends with a verdict.
    Verdict { code: i32, chain: Option<&'static str> },
}

const META_NFPROTO: u32 = 15;
const META_L4PROTO: u32 = 16;
const META_IIFNAME: u32 = 6;
const META_OIFNAME: u32 = 7;
const CT_STATE: u32 = 0;
const CT_STATUS: u32 = 2;
const FIB_RESULT_ADDRTYPE: u32 = 3;
const FIB_F_DADDR: u32 = 2;
const CMP_NEQ: u32 = 1;
const LOOKUP_F_INV: u32 = 1;
const NAT_SNAT: u32 = 0;
const NAT_DNAT: u32 = 1;

impl Expr {
    /// Accepts the packet in this base chain.
    pub(crate) const ACCEPT: Expr = Expr::Verdict { code: NF_ACCEPT, chain: None };
    /// Drops the packet.
    pub(crate) const DROP: Expr = Expr::Verdict { code: NF_DROP, chain: None };

    /// Goes back to the chain that jumped here.
    pub(crate) const RETURN: Expr = Expr::Verdict { code: NFT_RETURN, chain: None };

    /// Continues in another chain, then here.
    pub(crate) const fn jump(chain: &'static str) -> Expr {
        Expr::Verdict { code: NFT_JUMP, chain: Some(chain) }
    }

    /// Appends the expression as an element of a list.
    pub(super) fn encode(&self, message: &mut Message) {
        message.nest(NFTA_LIST_ELEM, |m| {
            m.text(NFTA_EXPR_NAME, self.name());
            m.nest(NFTA_EXPR_DATA, |m| self.encode_data(m));
        });
    }

    fn name(&self) -> &'static str {
        match self {
            Expr::Interface { .. } | Expr::Protocol { .. } | Expr::Family { .. } => "meta",
            Expr::Payload { .. } => "payload",
            Expr::CtState | Expr::CtStatus => "ct",
            Expr::DestinationType => "fib",
            Expr::Mask(_) => "bitwise",
            Expr::Compare { .. } => "cmp",
            Expr::InSet { .. } | Expr::Map { .. } => "lookup",
            Expr::DestinationNat { .. } | Expr::SourceNat { .. } => "nat",
            Expr::Masquerade => "masq",
            Expr::Immediate { .. } | Expr::Verdict { .. } => "immediate",
        }
    }

    fn encode_data(&self, m: &mut Message) {
        match self {
            Expr::Interface { input, register } => {
                numbers(m, &[*register, if *input { META_IIFNAME } else { META_OIFNAME }]);
            }
            Expr::Family { register } => numbers(m, &[*register, META_NFPROTO]),
            Expr::Protocol { register } => numbers(m, &[*register, META_L4PROTO]),
            Expr::Payload { base, offset, length, register } => {
                numbers(m, &[*register, *base, *offset, *length]);
            }
            Expr::CtState => numbers(m, &[NFT_REG_1, CT_STATE]),
            Expr::CtStatus => numbers(m, &[NFT_REG_1, CT_STATUS]),
            Expr::DestinationType => numbers(m, &[NFT_REG_1, FIB_RESULT_ADDRTYPE, FIB_F_DADDR]),
            Expr::Mask(mask) => encode_mask(m, *mask),
            Expr::Compare { equal, bytes } => encode_compare(m, *equal, bytes),
            Expr::InSet { set, negate } => encode_in_set(m, set, *negate),
            Expr::Map { map } => {
                m.text(1, map).be32(2, NFT_REG_1).be32(3, NFT_REG_1);
            }
            Expr::DestinationNat { protocol, port } => encode_nat(m, *protocol, *port),
            Expr::SourceNat { protocol } => numbers(m, &[NAT_SNAT, u32::from(*protocol), NFT_REG_1]),
            Expr::Masquerade => {}
            Expr::Immediate { register, bytes } => {
                m.be32(1, *register).nest(2, |m| {
                    m.attr(NFTA_DATA_VALUE, bytes);
                });
            }
            Expr::Verdict { code, chain } => encode_verdict(m, *code, *chain),
        }
    }
}

/// Attributes 1, 2, 3 … as numbers: the form of most expressions.
fn numbers(message: &mut Message, values: &[u32]) {
    for (kind, value) in (1_u16..).zip(values) {
        message.be32(kind, *value);
    }
}

/// `NFTA_BITWISE_*`: register & mask ^ 0, four bytes in the machine's order.
fn encode_mask(message: &mut Message, mask: u32) {
    numbers(message, &[NFT_REG_1, NFT_REG_1, 4]);
    message.nest(4, |m| {
        m.u32(NFTA_DATA_VALUE, mask);
    });
    message.nest(5, |m| {
        m.u32(NFTA_DATA_VALUE, 0);
    });
}

/// `NFTA_CMP_*`.
fn encode_compare(message: &mut Message, equal: bool, bytes: &[u8]) {
    numbers(message, &[NFT_REG_1, if equal { 0 } else { CMP_NEQ }]);
    message.nest(3, |m| {
        m.attr(NFTA_DATA_VALUE, bytes);
    });
}

/// `NFTA_LOOKUP_*`.
fn encode_in_set(message: &mut Message, set: &str, negate: bool) {
    message.text(1, set).be32(2, NFT_REG_1);
    if negate {
        message.be32(5, LOOKUP_F_INV);
    }
}

/// `NFTA_NAT_*`: the lookup left the address in register 1 and the port in a word after it.
fn encode_nat(message: &mut Message, protocol: u8, port: u32) {
    numbers(message, &[NAT_DNAT, u32::from(protocol), NFT_REG_1]);
    message.be32(5, port);
}

/// `NFTA_IMMEDIATE_*` with a verdict.
fn encode_verdict(message: &mut Message, code: i32, chain: Option<&str>) {
    message.be32(1, NFT_REG_VERDICT);
    message.nest(2, |m| {
        m.nest(NFTA_DATA_VERDICT, |m| {
            m.be32(NFTA_VERDICT_CODE, code as u32);
            if let Some(chain) = chain {
                m.text(NFTA_VERDICT_CHAIN, chain);
            }
        });
    });
}
