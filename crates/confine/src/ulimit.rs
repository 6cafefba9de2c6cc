//! Resource limits of processes (`--ulimit`): names, numbers, and what the daemon may raise.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Text that is not a ulimit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UlimitError {
    /// No `=`.
    #[error("invalid ulimit argument: {0}")]
    Form(String),
    /// No such resource.
    #[error("invalid ulimit type: {0}")]
    Kind(String),
    /// Not a number.
    #[error("strconv.ParseInt: parsing {0:?}: invalid syntax")]
    Number(String),
    /// More than `soft:hard`.
    #[error("too many limit value arguments - {0}, can only have up to two, `soft[:hard]`")]
    TooMany(String),
    /// The soft limit is above the hard one.
    #[error("ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}")]
    Order {
        /// Soft.
        soft: i64,
        /// Hard.
        hard: i64,
    },
}

/// A resource that `setrlimit` knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Resource(u8);

/// Docker's names and the kernel's numbers (the same on x86-64, aarch64 and arm).
const RESOURCES: [(&str, u8); 15] = [
    ("core", 4),
    ("cpu", 0),
    ("data", 2),
    ("fsize", 1),
    ("locks", 10),
    ("memlock", 8),
    ("msgqueue", 12),
    ("nice", 13),
    ("nofile", 7),
    ("nproc", 6),
    ("rss", 5),
    ("rtprio", 14),
    ("rttime", 15),
    ("sigpending", 11),
    ("stack", 3),
];

impl Resource {
    /// By Docker's name, in lower case.
    pub fn parse(name: &str) -> Result<Resource, UlimitError> {
        let found = RESOURCES.iter().find(|(known, _)| *known == name);
        found.map(|(_, number)| Resource(*number)).ok_or_else(|| UlimitError::Kind(name.to_owned()))
    }

    /// The kernel's number, `RLIMIT_*`.
    pub fn number(self) -> u8 {
        self.0
    }

    /// Docker's name.
    pub fn name(self) -> &'static str {
        RESOURCES.iter().find(|(_, number)| *number == self.0).map_or("", |(name, _)| name)
    }
}

/// A resource and its limits. `u64::MAX` is no limit, as in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// Which.
    pub resource: Resource,
    /// The limit in force.
    pub soft: u64,
    /// The most that a process may set it to.
    pub hard: u64,
}

impl Rlimit {
    /// From the API's numbers, where -1 is no limit.
    pub fn new(name: &str, soft: i64, hard: i64) -> Result<Rlimit, UlimitError> {
        let resource = Resource::parse(name)?;
        if hard != -1 && (soft == -1 || soft > hard) {
            return Err(UlimitError::Order { soft, hard });
        }
        Ok(Rlimit { resource, soft: unlimited(soft), hard: unlimited(hard) })
    }

    /// `nofile=1024[:2048]`.
    pub fn parse(text: &str) -> Result<Rlimit, UlimitError> {
        let (name, values) = text.split_once('=').ok_or_else(|| UlimitError::Form(text.to_owned()))?;
        Resource::parse(name)?;
        let parts: Vec<&str> = values.split(':').collect();
        let number = |part: &str| part.parse::<i64>().map_err(|_| UlimitError::Number(part.to_owned()));
        match parts[..] {
            [one] => Rlimit::new(name, number(one)?, number(one)?),
            [soft, hard] => Rlimit::new(name, number(soft)?, number(hard)?),
            _ => Err(UlimitError::TooMany(values.to_owned())),
        }
    }

    /// With its hard limit at most `most`.
    pub fn at_most(self, most: u64) -> Rlimit {
        Rlimit { resource: self.resource, soft: self.soft.min(most), hard: self.hard.min(most) }
    }

    /// The limits in the text of a `/proc/PID/limits`.
    pub fn of_process(limits: &str) -> Vec<Rlimit> {
        limits.lines().filter_map(limits_line).collect()
    }
}

fn unlimited(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

/// A line such as `Max open files            1024                 524288               files`.
fn limits_line(line: &str) -> Option<Rlimit> {
    const TITLES: [(&str, &str); 15] = [
        ("Max cpu time", "cpu"),
        ("Max file size", "fsize"),
        ("Max data size", "data"),
        ("Max stack size", "stack"),
        ("Max core file size", "core"),
        ("Max resident set", "rss"),
        ("Max processes", "nproc"),
        ("Max open files", "nofile"),
        ("Max locked memory", "memlock"),
        ("Max file locks", "locks"),
        ("Max pending signals", "sigpending"),
        ("Max msgqueue size", "msgqueue"),
        ("Max nice priority", "nice"),
        ("Max realtime priority", "rtprio"),
        ("Max realtime timeout", "rttime"),
    ];
    let (title, name) = TITLES.iter().find(|(title, _)| line.starts_with(title))?;
    let mut words = line[title.len()..].split_whitespace();
    let mut value = || match words.next()? {
        "unlimited" => Some(u64::MAX),
        digits => digits.parse().ok(),
    };
    Some(Rlimit { resource: Resource::parse(name).ok()?, soft: value()?, hard: value()? })
}

impl fmt::Display for Rlimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |value: u64| i64::try_from(value).map_or(-1, |value| value);
        write!(f, "{}={}:{}", self.resource.name(), text(self.soft), text(self.hard))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_dockers_errors() {
        let error = |text: &str| Rlimit::parse(text).unwrap_err().to_string();
        assert_eq!(error("nofile"), "invalid ulimit argument: nofile");
        assert_eq!(error("foo=1"), "invalid ulimit type: foo");
        assert_eq!(error("nofile=abc"), "strconv.ParseInt: parsing \"abc\": invalid syntax");
        assert_eq!(error("nofile=10:5"), "ulimit soft limit must be less than or equal to hard limit: 10 > 5");
        let many = "too many limit value arguments - 1:2:3, can only have up to two, `soft[:hard]`";
        assert_eq!(error("nofile=1:2:3"), many);
    }

    #[test]
    fn parses_and_prints() {
        let limit = Rlimit::parse("nofile=1024:2048").unwrap();
        assert_eq!((limit.soft, limit.hard, limit.resource.number()), (1024, 2048, 7));
        assert_eq!(Rlimit::parse("core=-1").unwrap().to_string(), "core=-1:-1");
        assert_eq!(Rlimit::parse("core=-1").unwrap().at_most(5).to_string(), "core=5:5");
    }

    #[test]
    fn reads_proc_limits() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max cpu time              unlimited            unlimited            seconds   \n\
                    Max open files            1024                 524288               files     \n\
                    Max nice priority         0                    0                    \n";
        let limits: Vec<String> = Rlimit::of_process(text).iter().map(Rlimit::to_string).collect();
        assert_eq!(limits, ["cpu=-1:-1", "nofile=1024:524288", "nice=0:0"]);
    }
}
