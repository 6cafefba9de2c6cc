//! Names that clients choose for containers, volumes and networks.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Docker's rule for names: a letter or digit, then one or more letters, digits, `_`, `.` or `-`.
fn is_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() >= 2
        && bytes[0].is_ascii_alphanumeric()
        && bytes[1..].iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

/// A name that breaks Docker's rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Invalid container name ({0}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")]
pub struct InvalidContainerName(pub String);

/// A container's name without the leading slash that Docker shows in places.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerName(Box<str>);

impl ContainerName {
    /// The name without a slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ContainerName {
    type Err = InvalidContainerName;

    /// Takes the name with or without one leading slash.
    fn from_str(text: &str) -> Result<Self, InvalidContainerName> {
        let bare = text.strip_prefix('/').unwrap_or(text);
        if is_name(bare) { Ok(Self(bare.into())) } else { Err(InvalidContainerName(text.to_owned())) }
    }
}

impl TryFrom<String> for ContainerName {
    type Error = InvalidContainerName;
    fn try_from(text: String) -> Result<Self, InvalidContainerName> {
        text.parse()
    }
}

impl From<ContainerName> for String {
    fn from(name: ContainerName) -> String {
        name.0.into_string()
    }
}

impl fmt::Display for ContainerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ContainerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A volume name that breaks Docker's rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. \
     If you intended to pass a host directory, use absolute path"
)]
pub struct InvalidVolumeName(pub String);

/// A volume's name on its host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VolumeName(Box<str>);

impl VolumeName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for VolumeName {
    type Err = InvalidVolumeName;
    fn from_str(text: &str) -> Result<Self, InvalidVolumeName> {
        if is_name(text) { Ok(Self(text.into())) } else { Err(InvalidVolumeName(text.to_owned())) }
    }
}

impl TryFrom<String> for VolumeName {
    type Error = InvalidVolumeName;
    fn try_from(text: String) -> Result<Self, InvalidVolumeName> {
        text.parse()
    }
}

impl From<VolumeName> for String {
    fn from(name: VolumeName) -> String {
        name.0.into_string()
    }
}

impl fmt::Display for VolumeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn container_names_follow_dockers_rule() {
        for good in ["ab", "a1", "web-1", "A_b.c-", "/web"] {
            assert!(good.parse::<ContainerName>().is_ok(), "{good:?}");
        }
        assert_eq!("/web".parse::<ContainerName>().unwrap().as_str(), "web");
        for bad in ["", "/", "w", "_ab", "-a", "a/b", "//ab", "a b", "ä1", "a\n"] {
            let error = bad.parse::<ContainerName>().unwrap_err();
            assert!(error.to_string().contains(&format!("({bad})")), "{bad:?}");
        }
    }
}
