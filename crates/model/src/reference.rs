//! Image references: `registry/path:tag@digest`, with Docker's rules for short names and Docker's error texts.
//!
//! A parsed reference is always complete (`alpine` is `docker.io/library/alpine`); [`Reference::familiar`] gives the
//! short form back. Whether the thing exists is for the engine and the registry to say.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::digest::{Digest, DigestError};

const HUB: &str = "docker.io";
const LEGACY_HUB: &str = "index.docker.io";
const OFFICIAL: &str = "library/";
const DEFAULT_TAG: &str = "latest";
const LONGEST_NAME: usize = 255;

/// A complete image reference.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a text is no image reference; the texts are Docker's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Does not follow the grammar.
    #[error("invalid reference format")]
    Format,
    /// The name has upper-case letters.
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    Uppercase(String),
    /// 64 hex digits, which would be taken for an id.
    #[error("invalid repository name ({0}), cannot specify 64-byte hexadecimal strings")]
    LooksLikeId(String),
    /// The name is longer than 255 characters.
    #[error("repository name must not be more than {LONGEST_NAME} characters")]
    TooLong,
    /// A tag that does not follow the grammar.
    #[error("invalid tag format")]
    Tag,
    /// The part after `@` is no digest that is spoken.
    #[error("{0}")]
    Digest(#[from] DigestError),
}

impl Reference {
    /// The registry's name as in the reference: `docker.io`, `host:5000`.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The repository's path on its registry: `library/alpine`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The tag, if the reference has one.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if the reference has one.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// Registry and path without tag and digest: `docker.io/library/alpine`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// The short form of [`Reference::name`]: `alpine`, `me/app`, `host:5000/app`.
    pub fn familiar_name(&self) -> String {
        if self.domain != HUB {
            return self.name();
        }
        match self.path.strip_prefix(OFFICIAL) {
            Some(rest) if !rest.contains('/') => rest.to_owned(),
            _ => self.path.clone(),
        }
    }

    /// The short form with tag and digest, as Docker shows references: `alpine:3.20`.
    pub fn familiar(&self) -> String {
        self.with_suffix(self.familiar_name())
    }

    /// The reference with the tag `latest` if it has neither tag nor digest.
    #[must_use]
    pub fn or_latest(mut self) -> Self {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some(DEFAULT_TAG.to_owned());
        }
        self
    }

    /// The same repository with this tag and no digest.
    pub fn with_tag(&self, tag: &str) -> Result<Self, ReferenceError> {
        if !is_tag(tag) {
            return Err(ReferenceError::Tag);
        }
        Ok(Self { tag: Some(tag.to_owned()), digest: None, ..self.clone() })
    }

    /// The same repository with this digest and no tag.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { tag: None, digest: Some(digest), ..self.clone() }
    }

    /// The repository alone.
    #[must_use]
    pub fn without_tag(&self) -> Self {
        Self { tag: None, digest: None, ..self.clone() }
    }

    fn with_suffix(&self, mut text: String) -> String {
        if let Some(tag) = &self.tag {
            text.push(':');
            text.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            text.push('@');
            text.push_str(&digest.to_string());
        }
        text
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.with_suffix(self.name()))
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    /// Parses what a user types, as Docker's `ParseNormalizedNamed` does.
    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(ReferenceError::LooksLikeId(text.to_owned()));
        }
        let (domain, rest) = split_domain(text);
        let (rest, digest) = match rest.split_once('@') {
            Some((rest, digest)) => (rest.to_owned(), Some(digest)),
            None => (rest, None),
        };
        let (path, tag) = match rest.split_once(':') {
            Some((path, tag)) => (path.to_owned(), Some(tag.to_owned())),
            None => (rest, None),
        };
        if path.chars().any(char::is_uppercase) {
            return Err(ReferenceError::Uppercase(path));
        }
        if !is_domain(&domain) || !is_path(&path) || tag.as_deref().is_some_and(|tag| !is_tag(tag)) {
            return Err(ReferenceError::Format);
        }
        if domain.len() + 1 + path.len() > LONGEST_NAME {
            return Err(ReferenceError::TooLong);
        }
        let digest = digest.map(parse_digest).transpose()?;
        Ok(Self { domain, path, tag, digest })
    }
}

/// What follows `@` must first look like a digest to be judged as one.
fn parse_digest(text: &str) -> Result<Digest, ReferenceError> {
    let (algorithm, hex) = text.split_once(':').ok_or(ReferenceError::Format)?;
    let word = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphabetic()) && part.chars().all(|c| c.is_ascii_alphanumeric())
    };
    if !algorithm.split(['-', '_', '+', '.']).all(word) || hex.len() < 32 || !hex.bytes().all(|b| b.is_ascii_hexdigit())
    {
        return Err(ReferenceError::Format);
    }
    Ok(text.parse::<Digest>()?)
}

fn split_domain(text: &str) -> (String, String) {
    let (domain, rest) = match text.split_once('/') {
        None => return (HUB.to_owned(), format!("{OFFICIAL}{text}")),
        Some((LEGACY_HUB, rest)) => (HUB, rest),
        Some((first, rest)) if is_explicit_domain(first) => (first, rest),
        Some(_) => (HUB, text),
    };
    if domain == HUB && !rest.contains('/') {
        return (HUB.to_owned(), format!("{OFFICIAL}{rest}"));
    }
    (domain.to_owned(), rest.to_owned())
}

fn is_explicit_domain(first: &str) -> bool {
    first == "localhost" || first.contains(['.', ':']) || first.chars().any(char::is_uppercase)
}

fn is_domain(domain: &str) -> bool {
    let (host, port) = match domain.rfind(']') {
        Some(end) => (&domain[..=end], domain[end + 1..].strip_prefix(':')),
        None => match domain.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (domain, None),
        },
    };
    if domain.len() != host.len() + port.map_or(0, |port| port.len() + 1) {
        return false;
    }
    let port_ok = port.is_none_or(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()));
    port_ok && (is_ipv6(host) || host.split('.').all(is_domain_component))
}

fn is_ipv6(host: &str) -> bool {
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    inner.is_some_and(|inner| !inner.is_empty() && inner.bytes().all(|b| b.is_ascii_hexdigit() || b == b':'))
}

fn is_domain_component(part: &str) -> bool {
    !part.is_empty()
        && !part.starts_with('-')
        && !part.ends_with('-')
        && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

fn is_path(path: &str) -> bool {
    path.split('/').all(is_path_component)
}

/// Letters and digits in runs, joined by one `.`, one or two `_`, or any number of `-`.
fn is_path_component(part: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if !part.starts_with(alphanumeric) || !part.ends_with(alphanumeric) {
        return false;
    }
    part.split(alphanumeric).all(|joint| matches!(joint, "" | "." | "_" | "__") || joint.bytes().all(|b| b == b'-'))
}

fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    (1..=128).contains(&tag.len())
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || matches!(b, b'.' | b'-'))
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn short_names_are_completed_and_given_back() {
        for (text, complete, familiar) in [
            ("alpine", "docker.io/library/alpine", "alpine"),
            ("alpine:3.20", "docker.io/library/alpine:3.20", "alpine:3.20"),
            ("library/alpine", "docker.io/library/alpine", "alpine"),
            ("me/app", "docker.io/me/app", "me/app"),
            ("docker.io/alpine", "docker.io/library/alpine", "alpine"),
            ("index.docker.io/me/app:1", "docker.io/me/app:1", "me/app:1"),
            ("localhost/app", "localhost/app", "localhost/app"),
            ("h.example:5000/a/b/c:x", "h.example:5000/a/b/c:x", "h.example:5000/a/b/c:x"),
            ("[::1]:5000/a", "[::1]:5000/a", "[::1]:5000/a"),
            ("HOST/app", "HOST/app", "HOST/app"),
            ("a__b/c--d.e_f", "docker.io/a__b/c--d.e_f", "a__b/c--d.e_f"),
            ("docker.io/library/a/b", "docker.io/library/a/b", "library/a/b"),
        ] {
            let reference: Reference = text.parse().unwrap();
            assert_eq!(reference.to_string(), complete);
            assert_eq!(reference.familiar(), familiar);
            assert_eq!(complete.parse::<Reference>().unwrap(), reference);
        }
    }

    #[test]
    fn tags_and_digests_are_parts() {
        let both: Reference = format!("alpine:3@{DIGEST}").parse().unwrap();
        assert_eq!((both.tag(), both.digest().unwrap().to_string().as_str()), (Some("3"), DIGEST));
        assert_eq!(both.familiar(), format!("alpine:3@{DIGEST}"));
        assert_eq!(both.clone().or_latest(), both);
        let bare: Reference = "alpine".parse().unwrap();
        assert_eq!(bare.clone().or_latest().tag(), Some("latest"));
        assert_eq!(bare.with_tag("a b"), Err(ReferenceError::Tag));
        assert_eq!(bare.with_digest(both.digest().unwrap()).familiar(), format!("alpine@{DIGEST}"));
    }

    #[test]
    fn errors_have_dockers_words() {
        let id = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        for (text, message) in [
            ("", "invalid reference format"),
            (":tag", "invalid reference format"),
            ("a:b:c", "invalid reference format"),
            ("a b", "invalid reference format"),
            ("a//b", "invalid reference format"),
            ("a/", "invalid reference format"),
            ("-a", "invalid reference format"),
            ("a___b", "invalid reference format"),
            ("alpine@sha256:ab", "invalid reference format"),
            ("alpine:", "invalid reference format"),
            ("host:port/a", "invalid reference format"),
            ("Alpine", "invalid reference format: repository name (library/Alpine) must be lowercase"),
            ("me/App:1", "invalid reference format: repository name (me/App) must be lowercase"),
            (id, &format!("invalid repository name ({id}), cannot specify 64-byte hexadecimal strings")),
            (&format!("alpine@sha512:{id}"), "unsupported digest algorithm"),
            (&format!("alpine@sha256:{id}ab"), "invalid checksum digest length"),
            (&"a".repeat(256), "repository name must not be more than 255 characters"),
        ] {
            assert_eq!(text.parse::<Reference>().unwrap_err().to_string(), message, "{text}");
        }
    }
}
