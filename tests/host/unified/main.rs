//! The engine on pure cgroup v2: what a container gets, what holds it, what is counted, and hosts in hosts.
//!
//! It runs in the machine that `crates` boots, each test in a process of its own, and takes the machine as its own.
#![allow(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

mod engine;

mod block_io;
mod devices;
mod life;
mod limits;
mod nested;
mod networks;
