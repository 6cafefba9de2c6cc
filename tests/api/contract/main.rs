//! Docker's API as its clients use it, case by case. Each test is a topic; each line in it a case.
//! `make test-against-docker` runs the same cases against the real Docker, which proves the cases.
#![allow(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

use droste_test_support::Reply;

mod create;
mod endpoints;
mod events;
mod exec;
mod files;
mod given;
mod images;
mod inspect;
mod isolation;
mod lifecycle;
mod lists;
mod mounts;
mod network;
mod networks;
mod parents;
mod process;
mod resolve;
mod sources;
mod streams;
mod system;
mod volumes;
mod websocket;

/// Reads a reply as the type that bollard, a client, has for it.
fn typed<T: serde::de::DeserializeOwned>(reply: &Reply) -> T {
    serde_json::from_slice(&reply.body).unwrap_or_else(|e| panic!("{}: bollard can't read it: {e}: {}", reply.label, reply.text()))
}
