//! Identifiers: 64 lower-case hexadecimal digits, and what a client may type for one.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A string that is not 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid id {0:?}: an id is 64 hexadecimal digits")]
pub struct InvalidId(pub String);

fn is_hex(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Box<str>);

        impl $name {
            /// The id made of 32 bytes, which the caller takes from the kernel's random source.
            pub fn from_bytes(bytes: [u8; 32]) -> Self {
                use fmt::Write;
                let mut text = String::with_capacity(64);
                for byte in bytes {
                    let _ = write!(text, "{byte:02x}");
                }
                Self(text.into_boxed_str())
            }

            /// All 64 digits.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The first twelve digits, as Docker's clients print them and as a container's default hostname.
            pub fn short(&self) -> &str {
                &self.0[..12]
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                if text.len() == 64 && is_hex(text) {
                    Ok(Self(text.into()))
                } else {
                    Err(InvalidId(text.to_owned()))
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0.into_string()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.short())
            }
        }
    };
}

id_type! {
    /// A container, unique on the machine.
    ContainerId
}
id_type! {
    /// A process started by `exec` in a container.
    ExecId
}
id_type! {
    /// A network.
    NetworkId
}
id_type! {
    /// A container's place on a network.
    EndpointId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_64_lower_case_hex_digits_and_nothing_else() {
        let text = "0123456789abcdef".repeat(4);
        let id: ContainerId = text.parse().unwrap();
        assert_eq!(id.as_str(), text);
        assert_eq!(id.short(), "0123456789ab");
        for wrong in ["", "abc", &text[1..], &text.to_uppercase(), &format!("{text}0")] {
            assert!(wrong.parse::<ContainerId>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn is_made_of_32_bytes() {
        assert_eq!(ContainerId::from_bytes([0xab; 32]).as_str(), "ab".repeat(32));
    }
}
