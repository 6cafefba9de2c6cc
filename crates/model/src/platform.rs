//! Platforms: operating system, processor and variant, as images and clients name them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Operating system, architecture and variant, in Go's words (`linux/arm/v7`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// Processor, as Go names it: `amd64`, `arm64`, `arm`.
    pub architecture: String,
    /// Operating system, as Go names it: `linux`.
    pub os: String,
    /// Processor variant: `v7` of `arm`, empty where there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

/// Why a text is no platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlatformError {
    /// More than three parts, or an empty one.
    #[error("{0:?}: cannot parse platform specifier: invalid argument")]
    Format(String),
    /// A part with characters that none can have.
    #[error(
        "{part:?} is an invalid component of {text:?}: platform specifier component must match \"^[A-Za-z0-9_.-]+$\": invalid argument"
    )]
    Component {
        /// The part at fault.
        part: String,
        /// All of the text.
        text: String,
    },
    /// One word that is neither a known system nor a known processor.
    #[error("{0:?}: unknown operating system or architecture: invalid argument")]
    Unknown(String),
}

impl Platform {
    /// A platform in normal form: aliases such as `x86_64` and `aarch64` become Go's names.
    pub fn new(os: &str, architecture: &str, variant: &str) -> Self {
        let (architecture, variant) = normal_architecture(architecture, variant);
        Self { architecture, os: normal_os(os), variant }
    }

    /// The platform that this program runs on.
    pub fn host() -> Self {
        let (architecture, variant) = normal_architecture(std::env::consts::ARCH, "");
        Self { architecture, os: "linux".to_owned(), variant }
    }

    /// How well an image for `self` serves one who asks for `wanted`: 0 is best, `None` does not run.
    ///
    /// `linux/arm/v7` runs v6 and v5, `linux/amd64/v3` runs v2 and v1; an image without a variant has the default one.
    pub fn rank_for(&self, wanted: &Platform) -> Option<u32> {
        let (image, wanted) = (self.clone().normal(), Platform::new(&wanted.os, &wanted.architecture, &wanted.variant));
        if image.os != wanted.os {
            return None;
        }
        if image.architecture != wanted.architecture {
            // An arm64 machine runs 32-bit arm where nothing better is offered, as containerd's rule has it.
            let falls_back = wanted.architecture == "arm64" && wanted.variant.is_empty() && image.architecture == "arm";
            return falls_back.then(|| 100 + level("arm", "v8").saturating_sub(level("arm", &image.variant)));
        }
        let (has, may) = (level(&image.architecture, &image.variant), level(&wanted.architecture, &wanted.variant));
        may.checked_sub(has)
    }

    /// Whether an image for `image` serves one who asks for `self`.
    pub fn matches(&self, image: &Platform) -> bool {
        image.rank_for(self).is_some()
    }

    fn normal(self) -> Self {
        Self::new(&self.os, &self.architecture, &self.variant)
    }
}

fn level(architecture: &str, variant: &str) -> u32 {
    let default = match architecture {
        "arm" => 7,
        "arm64" => 8,
        _ => 1,
    };
    variant.strip_prefix('v').and_then(|number| number.split('.').next()?.parse().ok()).unwrap_or(default)
}

fn normal_os(os: &str) -> String {
    match os.to_ascii_lowercase().as_str() {
        "" => "linux".to_owned(),
        "macos" => "darwin".to_owned(),
        other => other.to_owned(),
    }
}

fn normal_architecture(architecture: &str, variant: &str) -> (String, String) {
    let (architecture, variant) = (architecture.to_ascii_lowercase(), variant.to_ascii_lowercase());
    let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
        ("i386" | "x86" | "i686", _) => ("386", ""),
        ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
        ("x86_64" | "x86-64" | "amd64", other) => ("amd64", other),
        ("aarch64" | "arm64", "8" | "v8") => ("arm64", ""),
        ("aarch64" | "arm64", other) => ("arm64", other),
        ("armhf", _) => ("arm", "v7"),
        ("armel", _) => ("arm", "v6"),
        ("arm", "" | "7") => ("arm", "v7"),
        ("arm", "5") => ("arm", "v5"),
        ("arm", "6") => ("arm", "v6"),
        ("arm", "8") => ("arm", "v8"),
        (architecture, variant) => (architecture, variant),
    };
    (architecture.to_owned(), variant.to_owned())
}

const SYSTEMS: &[&str] = &["linux", "windows", "darwin", "macos", "freebsd", "netbsd", "openbsd", "solaris", "android"];
const ARCHITECTURES: &[&str] = &[
    "386", "i386", "amd64", "x86_64", "x86-64", "arm", "armhf", "armel", "arm64", "aarch64", "ppc64", "ppc64le",
    "s390x", "riscv64", "mips", "mipsle", "mips64", "mips64le", "loong64", "wasm",
];

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let parts: Vec<&str> = text.split('/').collect();
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        if let Some(part) = parts.iter().find(|part| part.is_empty() || !part.chars().all(legal)) {
            return Err(PlatformError::Component { part: (*part).to_owned(), text: text.to_owned() });
        }
        match parts[..] {
            [word] => {
                let lower = word.to_ascii_lowercase();
                let host = Self::host();
                if SYSTEMS.contains(&lower.as_str()) {
                    Ok(Self::new(word, &host.architecture, &host.variant))
                } else if ARCHITECTURES.contains(&lower.as_str()) {
                    Ok(Self::new(&host.os, word, ""))
                } else {
                    Err(PlatformError::Unknown(text.to_owned()))
                }
            }
            [os, architecture] => Ok(Self::new(os, architecture, "")),
            [os, architecture, variant] => Ok(Self::new(os, architecture, variant)),
            _ => Err(PlatformError::Format(text.to_owned())),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if self.variant.is_empty() { Ok(()) } else { write!(f, "/{}", self.variant) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_become_gos_names() {
        for (text, normal) in [
            ("linux/x86_64", "linux/amd64"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("Linux/AMD64", "linux/amd64"),
            ("arm64", "linux/arm64"),
        ] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), normal);
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "linux/", "a/b/c/d", "linux/am d64", "toaster"] {
            assert!(text.parse::<Platform>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_nearest_older_variant_serves() {
        let rank = |image: &str, wanted: &str| image.parse::<Platform>().unwrap().rank_for(&wanted.parse().unwrap());
        assert_eq!(rank("linux/arm/v7", "linux/arm/v7"), Some(0));
        assert_eq!(rank("linux/arm/v6", "linux/arm/v7"), Some(1));
        assert_eq!(rank("linux/arm/v7", "linux/arm/v6"), None);
        assert_eq!(rank("linux/arm64", "linux/amd64"), None);
        assert_eq!(rank("linux/arm64", "linux/arm64/v8"), Some(0));
        assert!(rank("linux/arm/v7", "linux/arm64").unwrap() > rank("linux/arm64", "linux/arm64").unwrap());
        assert_eq!(rank("windows/amd64", "linux/amd64"), None);
    }
}
