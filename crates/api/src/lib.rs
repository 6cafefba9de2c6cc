//! Docker's HTTP API as data: the only crate that knows the wire. It has no server and no client in it.
//!
//! - [`wire`]: the JSON shapes, with the policy for `null`, omission and versions.
//! - [`decode`]: from a body's bytes to a shape, by the rules of Docker's decoder.
//! - [`parse`]: from shapes to what [`droste_model`] speaks of, with Docker's texts for what is wrong.
//! - [`echo`]: back from the model to the shapes that inspect shows.
//! - [`shape`]: what a reply of another API version has more or less.
//! - [`routes`]: every operation, as one table that feeds the router, the documentation and the tests.
//! - the rest: queries, filters, framing, progress lines, headers, and times in words.

pub mod decode;
pub mod echo;
pub mod error;
pub mod filters;
pub mod frame;
pub mod human;
pub mod parse;
pub mod path_stat;
pub mod progress;
pub mod query;
pub mod registry_auth;
pub mod routes;
pub mod shape;
pub mod version;
pub mod wire;

pub use error::{Fault, RequestError, Result};
pub use version::ApiVersion;
