//! Paths of the three coordinate systems, which must never be mixed up.
//!
//! - [`ClientPath`]: what a client typed; it means something only on the client's host.
//! - [`ContainerPath`]: a place inside a container, absolute and clean.
//! - a path of the daemon's own is a plain [`std::path::PathBuf`] and never comes from a client.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A path as a client typed it. Only the engine turns it into something open, on the client's host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClientPath(String);

impl ClientPath {
    /// Takes an absolute path; `None` for a relative or empty one, or one with a NUL byte.
    pub fn absolute(text: &str) -> Option<Self> {
        (text.starts_with('/') && !text.contains('\0')).then(|| Self(clean(text)))
    }

    /// The cleaned text, for messages and for look-up on the client's host.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ClientPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An absolute, clean path inside a container.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ContainerPath(String);

impl ContainerPath {
    /// Takes an absolute path; `None` for a relative or empty one, or one with a NUL byte.
    pub fn absolute(text: &str) -> Option<Self> {
        (text.starts_with('/') && !text.contains('\0')).then(|| Self(clean(text)))
    }

    /// Makes any path absolute by reading it from the root, as `docker cp` does.
    pub fn rooted(text: &str) -> Option<Self> {
        (!text.contains('\0')).then(|| Self(clean(&format!("/{text}"))))
    }

    /// The cleaned text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ContainerPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Removes `.`, `..`, doubled and trailing slashes by text alone, as Go's `filepath.Clean` does for absolute paths.
fn clean(text: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleans_by_text() {
        for (from, to) in [("/", "/"), ("//a//b/", "/a/b"), ("/a/./b/../c", "/a/c"), ("/../../x", "/x")] {
            assert_eq!(ContainerPath::absolute(from).unwrap().as_str(), to);
        }
        assert_eq!(ContainerPath::rooted("a/../b").unwrap().as_str(), "/b");
    }

    #[test]
    fn refuses_relative_paths_and_nul() {
        for bad in ["", "a", "./a", "/a\0b"] {
            assert!(ClientPath::absolute(bad).is_none(), "{bad:?}");
            assert!(ContainerPath::absolute(bad).is_none(), "{bad:?}");
        }
    }
}
