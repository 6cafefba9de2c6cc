//! Netlink by hand: messages, attributes and a synchronous socket.
//!
//! This owns the framing that rtnetlink and nf_tables share. What a message means is left to
//! `link` and `nft`.

mod message;
mod socket;
pub(crate) mod uapi;

pub(crate) use message::{Message, attributes, be32, find, text, u32_of};
pub(crate) use socket::{Rejection, Socket};
