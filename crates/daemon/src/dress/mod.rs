//! From the engine's views to Docker's shapes.

pub(crate) mod container;
pub(crate) mod host;
pub(crate) mod image;
pub(crate) mod network;
pub(crate) mod stats;
pub(crate) mod system;
pub(crate) mod volume;

/// A count or size in Docker's signed numbers.
pub(crate) fn signed(value: impl TryInto<i64>) -> i64 {
    value.try_into().unwrap_or(i64::MAX)
}
