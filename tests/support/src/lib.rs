//! What the test packages share: an engine for a test (`Engine`), a raw HTTP client (`http`),
//! one-line expectations (`t!`), images made from busybox (`image`), shapes of replies (`shape`), and
//! a way into the engine's network namespace (`netns`). It holds no test and no code of the engine's.

pub mod check;
pub mod container;
pub mod engine;
pub mod http;
pub mod image;
pub mod netns;
pub mod shape;

pub use container::Container;
pub use engine::Engine;
pub use http::{Frame, Open, Raw, Reply, Request, demultiplex};
pub use serde_json::{Value, json};
