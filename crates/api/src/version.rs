//! Versions of Docker's API: the prefix of a path, what is served, and the texts for what is not.

use std::fmt;
use std::str::FromStr;

use crate::error::RequestError;

/// A version such as 1.51.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApiVersion {
    major: u16,
    minor: u16,
}

/// The version that is advertised, and that a path without a prefix means.
pub const CURRENT: ApiVersion = ApiVersion::new(1, 51);
/// The oldest version that is served.
pub const OLDEST: ApiVersion = ApiVersion::new(1, 24);
/// The newest version that a path may name. Clients such as bollard name theirs without asking, so newer paths than
/// the advertised version are accepted and answered in their version's shape.
pub const NEWEST: ApiVersion = ApiVersion::new(1, 56);

impl ApiVersion {
    /// A version from its numbers.
    pub const fn new(major: u16, minor: u16) -> Self {
        Self { major, minor }
    }

    /// Whether the version is 1.`minor` or newer.
    pub fn at_least(self, minor: u16) -> bool {
        self >= Self::new(1, minor)
    }

    /// Whether the version is older than 1.`minor`.
    pub fn below(self, minor: u16) -> bool {
        !self.at_least(minor)
    }

    /// Refuses a version that is not served, in Docker's words.
    pub fn check(self) -> Result<(), RequestError> {
        if self > NEWEST {
            return Err(RequestError::invalid(format!(
                "client version {self} is too new. Maximum supported API version is {CURRENT}"
            )));
        }
        if self < OLDEST {
            return Err(RequestError::invalid(format!(
                "client version {self} is too old. Minimum supported API version is {OLDEST}, \
                 please upgrade your client to a newer version"
            )));
        }
        Ok(())
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl FromStr for ApiVersion {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let number = |part: &str| match part.bytes().all(|b| b.is_ascii_digit()) {
            true => part.parse().map_err(|_| ()),
            false => Err(()),
        };
        let (major, minor) = text.split_once('.').ok_or(())?;
        Ok(Self { major: number(major)?, minor: number(minor)? })
    }
}

/// Splits `/v1.44/containers/json` into the version (the current one if there is none) and the path without it.
pub fn split_path(path: &str) -> (ApiVersion, &str) {
    let prefixed = path.strip_prefix("/v").and_then(|rest| {
        let end = rest.find('/')?;
        Some((rest[..end].parse().ok()?, &rest[end..]))
    });
    prefixed.unwrap_or((CURRENT, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_carry_versions() {
        assert_eq!(split_path("/v1.44/info"), (ApiVersion::new(1, 44), "/info"));
        for plain in ["/info", "/v1.44", "/version", "/vx/info", "/v1/info", "/v1.+4/info", "/v1.99999999/x", "/"] {
            assert_eq!(split_path(plain), (CURRENT, plain));
        }
    }

    #[test]
    fn refusals_are_dockers() {
        let refused = |major, minor| ApiVersion::new(major, minor).check().unwrap_err().message;
        assert_eq!(refused(1, 99), "client version 1.99 is too new. Maximum supported API version is 1.51");
        assert_eq!(
            refused(1, 23),
            "client version 1.23 is too old. Minimum supported API version is 1.24, \
             please upgrade your client to a newer version"
        );
        assert!(NEWEST.check().is_ok() && OLDEST.check().is_ok());
    }
}
