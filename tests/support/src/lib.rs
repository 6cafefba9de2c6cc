//! What the test packages share: an engine for a test (`Engine`), a raw HTTP client (`http`),
//! one-line expectations (`t!`), images made from busybox (`image`), networks and volumes (`network`), a
//! little DNS (`dns`), shapes of replies (`shape`), a small HTTP server on
//! its loopback address (`server`), what there is where an engine runs (`census`), and a way into the engine's network
//! namespace (`netns`). It holds no test and no code of the engine's.

pub mod census;
pub mod check;
pub mod container;
pub mod dns;
pub mod engine;
pub mod http;
pub mod image;
pub mod netns;
pub mod network;
pub mod server;
pub mod shape;

pub use census::Census;
pub use container::Container;
pub use engine::Engine;
pub use http::{Frame, Open, Raw, Reply, Request, demultiplex};
pub use network::{Network, Volume};
pub use serde_json::{Value, json};
