//! Devices: rules of the device cgroup, nodes of `/dev`, what a container gets unasked, and what a rule set permits.
//!
//! A rule set is read as the kernel reads it: later rules win, and an access that nothing allows is refused.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Text that is not a device rule, mapping or mode.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// `--device-cgroup-rule` in a wrong form.
    #[error("invalid device cgroup rule format: '{0}'")]
    Rule(String),
    /// `--device` with a mode other than of `r`, `w`, `m`.
    #[error("bad mode specified: {0}")]
    Mode(String),
    /// `--device` in a wrong form.
    #[error("invalid device specification: {0}")]
    Mapping(String),
}

/// What kind of device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum DeviceKind {
    /// Either.
    All,
    /// Character device.
    Char,
    /// Block device.
    Block,
}

impl DeviceKind {
    /// `a`, `c` or `b`.
    pub fn letter(self) -> char {
        match self {
            DeviceKind::All => 'a',
            DeviceKind::Char => 'c',
            DeviceKind::Block => 'b',
        }
    }

    fn overlaps(self, other: DeviceKind) -> bool {
        self == other || self == DeviceKind::All || other == DeviceKind::All
    }

    fn covers(self, other: DeviceKind) -> bool {
        self == other || self == DeviceKind::All
    }
}

/// Read, write and make (mknod), as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Access(u8);

impl Access {
    /// Make the node.
    pub const MAKE: Access = Access(1);
    /// Read.
    pub const READ: Access = Access(2);
    /// Write.
    pub const WRITE: Access = Access(4);
    /// All three.
    pub const ALL: Access = Access(7);

    /// Letters of `rwm`; nothing else, and at least one.
    pub fn parse(letters: &str) -> Option<Access> {
        let bits = letters.chars().try_fold(0, |bits, letter| match letter {
            'm' => Some(bits | 1),
            'r' => Some(bits | 2),
            'w' => Some(bits | 4),
            _ => None,
        })?;
        (bits != 0).then_some(Access(bits))
    }

    /// Bits as in `BPF_DEVCG_ACC_*`: 1 make, 2 read, 4 write.
    pub fn bits(self) -> u8 {
        self.0
    }

    /// Whether it grants all of `other`.
    pub fn covers(self, other: Access) -> bool {
        other.0 & !self.0 == 0
    }

    /// What both grant.
    pub fn intersection(self, other: Access) -> Access {
        Access(self.0 & other.0)
    }

    /// What this one grants and `other` does not.
    pub fn difference(self, other: Access) -> Access {
        Access(self.0 & !other.0)
    }

    /// Whether it grants nothing.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (bit, letter) in [(2, "r"), (4, "w"), (1, "m")] {
            if self.0 & bit != 0 {
                f.write_str(letter)?;
            }
        }
        Ok(())
    }
}

/// One rule of a device cgroup.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DeviceRule {
    /// Allow or deny.
    pub allow: bool,
    /// Which kind.
    pub kind: DeviceKind,
    /// Which driver; `None` for every one.
    pub major: Option<u32>,
    /// Which of its devices; `None` for every one.
    pub minor: Option<u32>,
    /// Which accesses.
    pub access: Access,
}

impl DeviceRule {
    /// A rule for every device and access.
    pub fn everything(allow: bool) -> DeviceRule {
        DeviceRule { allow, kind: DeviceKind::All, major: None, minor: None, access: Access::ALL }
    }

    /// A rule that allows.
    pub fn allow(kind: DeviceKind, major: Option<u32>, minor: Option<u32>, access: Access) -> DeviceRule {
        DeviceRule { allow: true, kind, major, minor, access }
    }

    /// Whether it speaks of the whole range of `other`'s devices.
    fn spans(&self, other: &DeviceRule) -> bool {
        self.kind.covers(other.kind)
            && (self.major.is_none() || self.major == other.major)
            && (self.minor.is_none() || self.minor == other.minor)
    }

    /// The part of it that `other` speaks of as well.
    fn cut_to(&self, other: &DeviceRule) -> Option<DeviceRule> {
        let access = self.access.intersection(other.access);
        (self.touches(other) && !access.is_empty()).then(|| DeviceRule {
            allow: self.allow,
            kind: if self.kind == DeviceKind::All { other.kind } else { self.kind },
            major: self.major.or(other.major),
            minor: self.minor.or(other.minor),
            access,
        })
    }

    /// Whether it speaks of a device that `other` speaks of.
    fn touches(&self, other: &DeviceRule) -> bool {
        let meets = |a: Option<u32>, b: Option<u32>| a.is_none() || b.is_none() || a == b;
        self.kind.overlaps(other.kind) && meets(self.major, other.major) && meets(self.minor, other.minor)
    }
}

/// `c 1:3 rwm`: the form of `--device-cgroup-rule` and of cgroup v1's files. Parsing gives a rule that allows.
impl FromStr for DeviceRule {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<DeviceRule, DeviceError> {
        parse_rule(text).ok_or_else(|| DeviceError::Rule(text.to_owned()))
    }
}

fn parse_rule(text: &str) -> Option<DeviceRule> {
    let mut words = text.split(' ');
    let (kind, numbers, access) = (words.next()?, words.next()?, words.next()?);
    let (major, minor) = numbers.split_once(':')?;
    let kind = match kind {
        "a" => DeviceKind::All,
        "c" => DeviceKind::Char,
        "b" => DeviceKind::Block,
        _ => return None,
    };
    let end = words.next().is_none() && access.len() <= 3;
    end.then_some(DeviceRule::allow(kind, number(major)?, number(minor)?, Access::parse(access)?))
}

fn number(text: &str) -> Option<Option<u32>> {
    match text {
        "*" => Some(None),
        digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok().map(Some),
        _ => None,
    }
}

/// With a `-` before a rule that denies, as the device cgroup reads it back: without, it would allow.
impl fmt::Display for DeviceRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |one: Option<u32>| one.map_or("*".to_owned(), |n| n.to_string());
        let sign = if self.allow { "" } else { "-" };
        write!(f, "{sign}{} {}:{} {}", self.kind.letter(), number(self.major), number(self.minor), self.access)
    }
}

/// A node of a container's `/dev`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DeviceNode {
    /// Path in the container.
    pub path: String,
    /// Character or block.
    pub kind: DeviceKind,
    /// Driver number.
    pub major: u32,
    /// Device number.
    pub minor: u32,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

impl DeviceNode {
    /// The rule that lets a container use it.
    pub fn rule(&self, access: Access) -> DeviceRule {
        DeviceRule::allow(self.kind, Some(self.major), Some(self.minor), access)
    }
}

/// The nodes that every container's `/dev` has. `/dev/ptmx` is a link to `pts/ptmx`, and `/dev/console` is the
/// container's terminal bound there when it has one, so neither is in the list.
pub fn default_nodes() -> Vec<DeviceNode> {
    let node = |(name, major, minor): (&str, u32, u32)| DeviceNode {
        path: format!("/dev/{name}"),
        kind: DeviceKind::Char,
        major,
        minor,
        mode: 0o666,
        uid: 0,
        gid: 0,
    };
    let all = [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];
    all.into_iter().map(node).collect()
}

/// The rules that every container has: make any node, use the ones above, terminals and the console. Docker's also
/// has the tun device, whose node must still be made or given.
pub fn default_rules() -> Vec<DeviceRule> {
    let char_rule = |major, minor| DeviceRule::allow(DeviceKind::Char, Some(major), minor, Access::ALL);
    let mut rules = vec![
        DeviceRule::everything(false),
        DeviceRule::allow(DeviceKind::Char, None, None, Access::MAKE),
        DeviceRule::allow(DeviceKind::Block, None, None, Access::MAKE),
    ];
    rules.extend([3, 5, 7, 8, 9].map(|minor| char_rule(1, Some(minor))));
    rules.extend([0, 1, 2].map(|minor| char_rule(5, Some(minor))));
    rules.extend([char_rule(136, None), char_rule(10, Some(200))]);
    rules
}

/// `--device SOURCE[:TARGET[:MODE]]` or `SOURCE:MODE`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceSpec {
    /// Path on the host.
    pub source: String,
    /// Path in the container.
    pub target: String,
    /// Accesses.
    pub access: Access,
}

impl FromStr for DeviceSpec {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<DeviceSpec, DeviceError> {
        let parts: Vec<&str> = text.split(':').collect();
        let (source, target, mode) = match parts[..] {
            [source] => (source, source, "rwm"),
            [source, mode] if Access::parse(mode).is_some() => (source, source, mode),
            [source, target] => (source, target, "rwm"),
            [source, target, mode] => (source, target, mode),
            _ => return Err(DeviceError::Mapping(text.to_owned())),
        };
        if source.is_empty() || target.is_empty() {
            return Err(DeviceError::Mapping(text.to_owned()));
        }
        let access = Access::parse(mode).ok_or_else(|| DeviceError::Mode(mode.to_owned()))?;
        Ok(DeviceSpec { source: source.to_owned(), target: target.to_owned(), access })
    }
}

/// The accesses of `wanted` that `rules` grant in full: for every device that `wanted` names.
pub fn granted(rules: &[DeviceRule], wanted: &DeviceRule) -> Access {
    let mut access = Access::default();
    for rule in rules {
        if rule.allow && rule.spans(wanted) {
            access = Access(access.0 | rule.access.0);
        } else if !rule.allow && rule.touches(wanted) {
            access = access.difference(rule.access);
        }
    }
    access.intersection(wanted.access)
}

/// `wanted` as far as `host` grants it, and what was left out.
///
/// A wanted rule that is wider than the host's is replaced by all of the host's rules, in order, cut down to what both
/// speak of; so "everything" becomes everything that the host has.
pub fn bounded(host: &[DeviceRule], wanted: &[DeviceRule]) -> (Vec<DeviceRule>, Vec<DeviceRule>) {
    let mut kept = Vec::new();
    let mut refused = Vec::new();
    for rule in wanted {
        let access = granted(host, rule);
        if !rule.allow || access == rule.access {
            kept.push(rule.clone());
        } else {
            kept.extend(host.iter().filter_map(|had| had.cut_to(rule)));
            refused.push(DeviceRule { access: rule.access.difference(access), ..rule.clone() });
        }
    }
    (kept, refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> DeviceRule {
        text.parse().unwrap()
    }

    #[test]
    fn rules_are_parsed_as_docker_does() {
        assert_eq!(rule("c 1:* rw").to_string(), "c 1:* rw");
        assert_eq!(DeviceRule::everything(false).to_string(), "-a *:* rwm");
        assert_eq!(rule("a *:* rwm"), DeviceRule::everything(true));
        for wrong in ["foo", "c 1:3 rwmx", "c 1:3", "x 1:3 r", "c 1 r", "c +1:3 r", "c 1:3 ", "c 1:3 r ", "c  1:3 r"] {
            let error = wrong.parse::<DeviceRule>().unwrap_err().to_string();
            assert_eq!(error, format!("invalid device cgroup rule format: '{wrong}'"));
        }
    }

    #[test]
    fn mappings() {
        let spec = |text: &str| text.parse::<DeviceSpec>();
        assert_eq!(spec("/dev/fuse:r").unwrap().access, Access::READ);
        assert_eq!(spec("/dev/fuse:/dev/x").unwrap().target, "/dev/x");
        assert_eq!(spec("/dev/null:/x:q").unwrap_err().to_string(), "bad mode specified: q");
        assert!(spec("").is_err() && spec("a:b:r:c").is_err());
    }

    #[test]
    fn later_rules_win() {
        let rules = default_rules();
        assert_eq!(granted(&rules, &rule("c 1:3 rw")), Access::parse("rw").unwrap());
        assert_eq!(granted(&rules, &rule("b 8:0 rwm")), Access::MAKE);
        let mut open = vec![DeviceRule::everything(true)];
        assert_eq!(granted(&open, &rule("b 8:0 rwm")), Access::ALL);
        open.push(DeviceRule { allow: false, ..rule("b 8:1 w") });
        assert_eq!(granted(&open, &rule("b 8:0 rwm")), Access::ALL);
        assert_eq!(granted(&open, &rule("b 8:* rwm")), Access::parse("rm").unwrap());
    }

    #[test]
    fn everything_on_a_bounded_host_is_what_the_host_has() {
        let (kept, refused) = bounded(&default_rules(), &[DeviceRule::everything(true)]);
        assert_eq!(refused.len(), 1);
        assert_eq!(granted(&kept, &rule("c 1:3 rwm")), Access::ALL);
        assert_eq!(granted(&kept, &rule("b 8:0 rw")), Access::default());
        let (kept, refused) = bounded(&default_rules(), &[rule("c 1:3 r"), rule("b 8:0 rw")]);
        assert_eq!(granted(&kept, &rule("c 1:3 rwm")), Access::READ);
        assert_eq!(granted(&kept, &rule("b 8:0 rwm")), Access::default());
        assert_eq!(refused, [rule("b 8:0 rw")]);
    }

    #[test]
    fn nothing_is_granted_that_the_host_lacks() {
        let texts = ["a *:* rwm", "c 1:* rw", "c 1:3 rwm", "c 1:3 w", "b *:* m"];
        let rules: Vec<DeviceRule> =
            texts.iter().flat_map(|text| [true, false].map(|allow| DeviceRule { allow, ..rule(text) })).collect();
        let pairs: Vec<Vec<DeviceRule>> =
            rules.iter().flat_map(|one| rules.iter().map(move |two| vec![one.clone(), two.clone()])).collect();
        let devices = ["c 1:3 rwm", "c 1:5 rwm", "b 8:0 rwm", "c 9:9 rwm"].map(rule);
        for host in &pairs {
            for wanted in &pairs {
                let (kept, _) = bounded(host, wanted);
                for one in &devices {
                    let extra = granted(&kept, one).difference(granted(host, one));
                    assert!(extra.is_empty(), "{host:?} {wanted:?}: {extra} on {one}");
                }
            }
        }
    }
}
