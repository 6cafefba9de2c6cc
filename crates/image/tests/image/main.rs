//! Tests of the image store on a real file system and against real registries. They need root, for owners, devices,
//! file capabilities and overlay mounts, and `tar` and `docker-registry` of Debian.

#![expect(clippy::unwrap_used, reason = "a failed helper fails its test")]

mod archives;
mod containers;
mod corpus;
mod hostile;
mod layers;
mod lifetime;
mod misbehaving;
mod possession;
mod proxies;
mod registry;
mod support;
