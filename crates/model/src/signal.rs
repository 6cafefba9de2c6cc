//! Signals by name and number, as `docker kill` takes them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A signal number, 1 to 64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Signal(u8);

/// Text that names no signal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid signal: {0}")]
pub struct InvalidSignal(pub String);

const NAMES: [(&str, u8); 34] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("IOT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("POLL", 29),
    ("PWR", 30),
    ("SYS", 31),
];

/// The first and last real-time signals as the C library numbers them for programs.
const RTMIN: u8 = 34;
const RTMAX: u8 = 64;

impl Signal {
    /// `SIGKILL`.
    pub const KILL: Signal = Signal(9);
    /// `SIGTERM`.
    pub const TERM: Signal = Signal(15);

    /// The number.
    pub fn number(self) -> i32 {
        i32::from(self.0)
    }

    /// From a number, if there is such a signal.
    pub fn from_number(number: i64) -> Option<Self> {
        u8::try_from(number).ok().filter(|n| (1..=RTMAX).contains(n)).map(Self)
    }

    fn by_name(name: &str) -> Option<u8> {
        if let Some((_, number)) = NAMES.iter().find(|(known, _)| *known == name) {
            return Some(*number);
        }
        let offset = |text: &str| if text.is_empty() { Some(0) } else { text[1..].parse::<u8>().ok() };
        if let Some(rest) = name.strip_prefix("RTMIN").filter(|r| r.is_empty() || r.starts_with('+')) {
            return RTMIN.checked_add(offset(rest)?).filter(|n| *n <= RTMAX);
        }
        let rest = name.strip_prefix("RTMAX").filter(|r| r.is_empty() || r.starts_with('-'))?;
        RTMAX.checked_sub(offset(rest)?).filter(|n| *n >= RTMIN)
    }
}

impl FromStr for Signal {
    type Err = InvalidSignal;

    /// Takes `9`, `KILL`, `SIGKILL` in any case, `RTMIN+3`, `SIGRTMAX-1`.
    fn from_str(text: &str) -> Result<Self, InvalidSignal> {
        let invalid = || InvalidSignal(text.to_owned());
        if let Ok(number) = text.parse::<i64>() {
            return Self::from_number(number).ok_or_else(invalid);
        }
        let upper = text.to_ascii_uppercase();
        Self::by_name(upper.strip_prefix("SIG").unwrap_or(&upper)).map(Self).ok_or_else(invalid)
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_names_and_numbers() {
        for (text, number) in
            [("9", 9), ("KILL", 9), ("sigterm", 15), ("SIGRTMIN", 34), ("RTMIN+3", 37), ("SIGRTMAX-1", 63), ("64", 64)]
        {
            assert_eq!(text.parse::<Signal>().unwrap().number(), number, "{text}");
        }
        for bad in ["", "0", "65", "-1", "SIGFOO", "RTMIN-1", "RTMAX+1", "RTMIN+99", "SIG"] {
            assert_eq!(bad.parse::<Signal>().unwrap_err().to_string(), format!("invalid signal: {bad}"));
        }
    }
}
