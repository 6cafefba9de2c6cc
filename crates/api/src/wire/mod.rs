//! Docker's JSON shapes, for both directions.
//!
//! **Null and omission.** dockerd is written in Go, where a field is left out if it is marked `omitempty` and empty,
//! a nil list or map is `null`, and an empty one `[]` or `{}`; clients index keys directly, so the three differ. Here:
//! `Option` without a mark serialises `None` as `null`; a mark `skip_serializing_if` stands where dockerd omits; a
//! plain `Vec` or map is never `null`. When read, every field may be absent or `null` (see [`crate::decode`]).
//!
//! **Versions.** The types have the fields of all versions that are served. What a version does not have is taken out
//! by [`crate::shape`] before a reply is sent.

#![allow(missing_docs, reason = "the fields are Docker's and documented in its schema")]

mod config;
mod container;
mod exec;
mod host;
mod image;
mod message;
mod network;
mod stats;
mod system;

use serde::{Deserialize, Serialize};

pub use self::config::*;
pub use self::container::*;
pub use self::exec::*;
pub use self::host::*;
pub use self::image::*;
pub use self::message::*;
pub use self::network::*;
pub use self::stats::*;
pub use self::system::*;

/// Go's zero time.
pub const ZERO_TIME: &str = "0001-01-01T00:00:00Z";

/// An object without members, the value type of Docker's sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

/// A list of words that clients may also send as one string.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Words(pub Vec<String>);

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> serde::de::Visitor<'de> for Either {
            type Value = Words;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("string")
            }

            fn visit_str<E>(self, word: &str) -> Result<Words, E> {
                Ok(Words(vec![word.to_owned()]))
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut items: A) -> Result<Words, A::Error> {
                let mut words = Vec::new();
                while let Some(word) = items.next_element()? {
                    words.push(word);
                }
                Ok(Words(words))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl From<Vec<String>> for Words {
    fn from(words: Vec<String>) -> Self {
        Self(words)
    }
}

fn is_false(value: &bool) -> bool {
    !value
}

fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
