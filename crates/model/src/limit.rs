//! What a host may use: the resources that are bounded, and the labels by which a creator bounds them.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Something of which a host, with everything below it, may use so much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Resource {
    /// Containers, running or not.
    Containers,
    /// Networks that its clients made.
    Networks,
    /// Volumes.
    Volumes,
    /// Images that it holds itself, and their names.
    Tags,
    /// Processes of `docker exec` that are prepared or run.
    Execs,
    /// Requests that are being answered, with streams and attached connections.
    Requests,
    /// Bytes of what the daemon remembers of its objects: labels, environments, commands, options.
    Config,
    /// Bytes on disk: writable layers, volumes, and images that it holds itself.
    Disk,
    /// Bytes of logs.
    Logs,
}

/// A resource's name or a limit's value that can't be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidLimit {
    /// There is no such resource.
    #[error("unknown limit {name:?}: there are {known}", known = Resource::names())]
    Unknown {
        /// What was given.
        name: String,
    },
    /// It is no number.
    #[error("invalid value {value:?} of limit {resource}: expected a number{unit}", unit = if resource.is_bytes() { " of bytes, such as 500m or 20g" } else { "" })]
    Value {
        /// Of what.
        resource: Resource,
        /// What was given.
        value: String,
    },
}

impl Resource {
    /// All of them.
    pub const ALL: [Resource; 9] = [
        Resource::Containers,
        Resource::Networks,
        Resource::Volumes,
        Resource::Tags,
        Resource::Execs,
        Resource::Requests,
        Resource::Config,
        Resource::Disk,
        Resource::Logs,
    ];

    /// What the labels of limits begin with.
    pub const LABELS: &'static str = "droste.limit.";

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Resource::Containers => "containers",
            Resource::Networks => "networks",
            Resource::Volumes => "volumes",
            Resource::Tags => "tags",
            Resource::Execs => "execs",
            Resource::Requests => "requests",
            Resource::Config => "config",
            Resource::Disk => "disk",
            Resource::Logs => "logs",
        }
    }

    /// The label by which a creator bounds it.
    pub fn label(self) -> String {
        format!("{}{}", Self::LABELS, self.name())
    }

    /// Whether it is counted in bytes.
    pub fn is_bytes(self) -> bool {
        matches!(self, Resource::Config | Resource::Disk | Resource::Logs)
    }

    /// The resource of a name.
    pub fn parse(name: &str) -> Result<Self, InvalidLimit> {
        let found = Self::ALL.into_iter().find(|resource| resource.name() == name);
        found.ok_or_else(|| InvalidLimit::Unknown { name: name.to_owned() })
    }

    /// Reads a limit: a number, for bytes with one of the units `k`, `m`, `g` and `t` of 1024.
    pub fn parse_value(self, text: &str) -> Result<u64, InvalidLimit> {
        let wrong = || InvalidLimit::Value { resource: self, value: text.to_owned() };
        let lower = text.trim().to_ascii_lowercase();
        let bare = if self.is_bytes() { lower.trim_end_matches("ib").trim_end_matches('b') } else { lower.as_str() };
        let shift = match bare.chars().last().filter(|_| self.is_bytes()) {
            Some('k') => 10,
            Some('m') => 20,
            Some('g') => 30,
            Some('t') => 40,
            _ => 0,
        };
        let digits = if shift == 0 { bare } else { &bare[..bare.len() - 1] };
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(wrong());
        }
        let number: u64 = digits.parse().map_err(|_| wrong())?;
        number.checked_mul(1 << shift).ok_or_else(wrong)
    }

    fn names() -> String {
        Self::ALL.map(Resource::name).join(", ")
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Limits as somebody set them; what is not in it is not set.
pub type Limits = BTreeMap<Resource, u64>;

/// The limits that labels set.
pub fn from_labels(labels: &BTreeMap<String, String>) -> Result<Limits, InvalidLimit> {
    let named = labels.iter().filter_map(|(label, value)| Some((label.strip_prefix(Resource::LABELS)?, value)));
    named
        .map(|(name, value)| {
            let resource = Resource::parse(name)?;
            Ok((resource, resource.parse_value(value)?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_units_where_they_are_bytes() {
        for (resource, text, value) in [
            (Resource::Containers, "12", Some(12)),
            (Resource::Containers, "12k", None),
            (Resource::Containers, "", None),
            (Resource::Containers, "-1", None),
            (Resource::Containers, "+1", None),
            (Resource::Config, "1024", Some(1024)),
            (Resource::Config, "2k", Some(2048)),
            (Resource::Config, "3MiB", Some(3 << 20)),
            (Resource::Config, "1GB", Some(1 << 30)),
            (Resource::Config, "1t", Some(1 << 40)),
            (Resource::Config, "g", None),
            (Resource::Config, "99999999999t", None),
        ] {
            assert_eq!(resource.parse_value(text).ok(), value, "{resource} {text}");
        }
    }

    #[test]
    fn labels_that_mean_nothing_are_refused_by_name() {
        let labels = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
        assert_eq!(from_labels(&labels("droste.limit.tags", "7")), Ok(Limits::from([(Resource::Tags, 7)])));
        assert_eq!(from_labels(&labels("other", "x")), Ok(Limits::new()));
        let unknown = from_labels(&labels("droste.limit.cats", "7")).unwrap_err().to_string();
        assert!(unknown.contains("\"cats\"") && unknown.contains("containers, networks"), "{unknown}");
        let wrong = from_labels(&labels("droste.limit.config", "much")).unwrap_err().to_string();
        assert_eq!(wrong, "invalid value \"much\" of limit config: expected a number of bytes, such as 500m or 20g");
    }

    #[test]
    fn names_and_labels_agree() {
        for resource in Resource::ALL {
            assert_eq!(Resource::parse(resource.name()), Ok(resource));
            assert_eq!(resource.label(), format!("droste.limit.{resource}"));
        }
    }
}
