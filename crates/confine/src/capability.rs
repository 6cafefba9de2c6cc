//! Capabilities: names, sets, and Docker's algebra of `--cap-add`, `--cap-drop` and `--privileged`.

use std::fmt;

use droste_model::capability::NAMES;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A word that names no capability, or one that the machine lacks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CapabilityError {
    /// The word is not a capability's name.
    #[error("invalid {field}: unknown capability: {name:?}")]
    Unknown {
        /// `CapAdd` or `CapDrop`.
        field: &'static str,
        /// The word in upper case with `CAP_`.
        name: String,
    },
    /// A line of `/proc/PID/status` is missing or is not a number.
    #[error("can't read capabilities: no {0} line with a hexadecimal number in a process's status")]
    Status(&'static str),
}

/// One capability of the kernel's.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Capability(u8);

impl Capability {
    /// `CAP_SYS_CHROOT`.
    pub const SYS_CHROOT: Capability = Capability(18);
    /// `CAP_NET_ADMIN`.
    pub const NET_ADMIN: Capability = Capability(12);
    /// `CAP_NET_RAW`.
    pub const NET_RAW: Capability = Capability(13);
    /// `CAP_SYS_PTRACE`.
    pub const SYS_PTRACE: Capability = Capability(19);
    /// `CAP_SYS_ADMIN`.
    pub const SYS_ADMIN: Capability = Capability(21);
    /// `CAP_SYS_RESOURCE`: raise hard limits, lower an OOM score below the one inherited.
    pub const SYS_RESOURCE: Capability = Capability(24);
    /// `CAP_MKNOD`.
    pub const MKNOD: Capability = Capability(27);

    /// The capability of this number, if this program knows it.
    pub fn from_number(number: u8) -> Option<Capability> {
        (usize::from(number) < NAMES.len()).then_some(Capability(number))
    }

    /// The kernel's number.
    pub fn number(self) -> u8 {
        self.0
    }

    /// The name without `CAP_`.
    pub fn short_name(self) -> &'static str {
        NAMES[usize::from(self.0)]
    }

    /// The name with `CAP_`.
    pub fn name(self) -> String {
        format!("CAP_{}", self.short_name())
    }

    /// `CAP_X` or `X`, in any case.
    pub fn parse(word: &str) -> Option<Capability> {
        let upper = word.to_uppercase();
        let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
        let at = NAMES.iter().position(|name| *name == bare)?;
        Some(Capability(u8::try_from(at).ok()?))
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CAP_{}", self.short_name())
    }
}

impl fmt::Debug for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A set of capabilities.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Capabilities(u64);

impl Capabilities {
    /// None.
    pub const NONE: Capabilities = Capabilities(0);
    /// Every capability that the kernel had in Linux 5.9 and has had since.
    pub const ALL: Capabilities = Capabilities((1 << NAMES.len()) - 1);
    /// What Docker gives a container that asks for nothing: 14 of them.
    pub const DOCKER_DEFAULT: Capabilities = Capabilities(0xa804_25fb);

    /// The kernel's bit mask. Bits that name no capability are left out.
    pub fn from_bits(bits: u64) -> Capabilities {
        Capabilities(bits & Capabilities::ALL.0)
    }

    /// The kernel's bit mask.
    pub fn bits(self) -> u64 {
        self.0
    }

    /// Whether nothing is in it.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether `capability` is in it.
    pub fn has(self, capability: Capability) -> bool {
        self.0 & (1 << capability.0) != 0
    }

    /// Whether everything in `other` is in it.
    pub fn covers(self, other: Capabilities) -> bool {
        other.0 & !self.0 == 0
    }

    /// With `capability` in it.
    pub fn with(self, capability: Capability) -> Capabilities {
        Capabilities(self.0 | (1 << capability.0))
    }

    /// What is in either.
    pub fn union(self, other: Capabilities) -> Capabilities {
        Capabilities(self.0 | other.0)
    }

    /// What is in both.
    pub fn intersection(self, other: Capabilities) -> Capabilities {
        Capabilities(self.0 & other.0)
    }

    /// What is in this one and not in `other`.
    pub fn difference(self, other: Capabilities) -> Capabilities {
        Capabilities(self.0 & !other.0)
    }

    /// Each one, in the kernel's order.
    pub fn iter(self) -> impl Iterator<Item = Capability> {
        (0u8..64).filter_map(Capability::from_number).filter(move |one| self.has(*one))
    }

    /// Names with `CAP_`, in the kernel's order.
    pub fn names(self) -> Vec<String> {
        self.iter().map(Capability::name).collect()
    }

    /// The bounding set in the text of a `/proc/PID/status`.
    pub fn bounding_of(status: &str) -> Result<Capabilities, CapabilityError> {
        Capabilities::status_line(status, "CapBnd")
    }

    /// The permitted set in the text of a `/proc/PID/status`.
    pub fn permitted_of(status: &str) -> Result<Capabilities, CapabilityError> {
        Capabilities::status_line(status, "CapPrm")
    }

    fn status_line(status: &str, key: &'static str) -> Result<Capabilities, CapabilityError> {
        let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        let bits = line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
        bits.map(Capabilities::from_bits).ok_or(CapabilityError::Status(key))
    }

    /// What `--cap-add`, `--cap-drop` and `--privileged` ask for, where `all` is what `ALL` means.
    ///
    /// As in Docker, adding `ALL` wins over dropping `ALL`, and a capability that is both dropped and added is added.
    pub fn requested(
        add: &[String],
        drop: &[String],
        privileged: bool,
        all: Capabilities,
    ) -> Result<Capabilities, CapabilityError> {
        let (add_all, added) = words("CapAdd", add)?;
        let (drop_all, dropped) = words("CapDrop", drop)?;
        Ok(match (privileged, add_all, drop_all) {
            (true, _, _) => all,
            (false, true, _) => all.difference(dropped),
            (false, false, true) => added,
            (false, false, false) => Capabilities::DOCKER_DEFAULT.difference(dropped).union(added),
        })
    }

    /// The words of `--cap-add` or `--cap-drop` as inspect shows them: upper case, with `CAP_`.
    ///
    /// `field` is `CapAdd` or `CapDrop`.
    pub fn normalise(field: &'static str, words: &[String]) -> Result<Vec<String>, CapabilityError> {
        let name = |word: &String| match is_all(word) {
            true => Ok("ALL".to_owned()),
            false => one(field, word).map(Capability::name),
        };
        words.iter().map(name).collect()
    }
}

fn is_all(word: &str) -> bool {
    word.eq_ignore_ascii_case("ALL")
}

fn one(field: &'static str, word: &str) -> Result<Capability, CapabilityError> {
    Capability::parse(word).ok_or_else(|| {
        let upper = word.to_uppercase();
        let name = if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
        CapabilityError::Unknown { field, name }
    })
}

fn words(field: &'static str, words: &[String]) -> Result<(bool, Capabilities), CapabilityError> {
    let mut set = Capabilities::NONE;
    let mut all = false;
    for word in words {
        match is_all(word) {
            true => all = true,
            false => set = set.with(one(field, word)?),
        }
    }
    Ok((all, set))
}

impl FromIterator<Capability> for Capabilities {
    fn from_iter<I: IntoIterator<Item = Capability>>(all: I) -> Capabilities {
        all.into_iter().fold(Capabilities::NONE, Capabilities::with)
    }
}

impl fmt::Debug for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl Serialize for Capabilities {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(self.0)
    }
}

impl<'de> Deserialize<'de> for Capabilities {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Capabilities, D::Error> {
        let bits = u64::deserialize(from)?;
        match bits & !Capabilities::ALL.0 {
            0 => Ok(Capabilities(bits)),
            unknown => Err(de::Error::custom(format!("unknown capabilities {unknown:#x}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    fn requested(add: &[&str], drop: &[&str]) -> Capabilities {
        Capabilities::requested(&strings(add), &strings(drop), false, Capabilities::ALL).unwrap()
    }

    #[test]
    fn docker_default_is_the_fourteen() {
        let names: Vec<_> = Capabilities::DOCKER_DEFAULT.iter().map(Capability::short_name).collect();
        let expected = "CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE NET_RAW \
                        SYS_CHROOT MKNOD AUDIT_WRITE SETFCAP";
        assert_eq!(names, expected.split(' ').collect::<Vec<_>>());
    }

    #[test]
    fn words_in_any_case_with_or_without_prefix() {
        for word in ["sys_admin", "CAP_SYS_ADMIN", "cap_Sys_Admin"] {
            assert_eq!(Capability::parse(word).unwrap(), Capability::SYS_ADMIN);
        }
        let error = Capabilities::requested(&strings(&["foo"]), &[], false, Capabilities::ALL).unwrap_err();
        assert_eq!(error.to_string(), "invalid CapAdd: unknown capability: \"CAP_FOO\"");
        let error = Capabilities::requested(&[], &strings(&["cap_all"]), false, Capabilities::ALL).unwrap_err();
        assert_eq!(error.to_string(), "invalid CapDrop: unknown capability: \"CAP_ALL\"");
    }

    #[test]
    fn algebra_is_dockers() {
        let chown = Capability::parse("CHOWN").unwrap();
        assert_eq!(requested(&[], &[]), Capabilities::DOCKER_DEFAULT);
        assert_eq!(requested(&["all"], &["chown"]), Capabilities::ALL.difference(Capabilities::NONE.with(chown)));
        assert_eq!(requested(&["chown"], &["ALL"]), Capabilities::NONE.with(chown));
        assert_eq!(requested(&["ALL"], &["ALL"]), Capabilities::ALL);
        assert!(requested(&["chown"], &["chown"]).has(chown));
        assert!(!requested(&[], &["CAP_CHOWN"]).has(chown));
    }

    #[test]
    fn reads_a_status() {
        let status = "Name:\tx\nCapPrm:\t0000000000000001\nCapBnd:\t000001fffeffffff\n";
        let bounding = Capabilities::bounding_of(status).unwrap();
        assert!(!bounding.has(Capability::SYS_RESOURCE) && bounding.has(Capability::SYS_ADMIN));
        assert!(Capabilities::bounding_of("Name: x").is_err());
    }
}
