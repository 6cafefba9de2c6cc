//! `--security-opt`: what each word means, with Docker's errors.

use serde::{Deserialize, Serialize};

use crate::seccomp::{Profile, SeccompError};

/// A word that `--security-opt` does not take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// No `=` or `:` in it, and not a word that stands alone.
    #[error("invalid --security-opt 1: {0:?}")]
    Form(String),
    /// An unknown key, or a value that the key does not take.
    #[error("invalid --security-opt 2: {0:?}")]
    Value(String),
    /// A seccomp profile that can't be used.
    #[error(transparent)]
    Seccomp(#[from] SeccompError),
}

/// Which seccomp filter a container asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SeccompChoice {
    /// The default profile, or none for a privileged container.
    #[default]
    Default,
    /// The default profile by name (`builtin`), also for a privileged container.
    Builtin,
    /// None.
    Unconfined,
    /// A profile of its own.
    Profile(Box<Profile>),
}

/// Everything that `--security-opt` says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecurityOptions {
    /// `seccomp=…`.
    pub seccomp: SeccompChoice,
    /// `apparmor=…`; an empty name says nothing.
    pub apparmor: Option<String>,
    /// `label=…`, in order.
    pub labels: Vec<String>,
    /// `no-new-privileges`; `None` if not said.
    pub no_new_privileges: Option<bool>,
    /// `systempaths=unconfined`.
    pub system_paths_unconfined: bool,
    /// `writable-cgroups=…`; `None` if not said.
    pub writable_cgroups: Option<bool>,
}

impl SecurityOptions {
    /// Reads the words in order; a later one wins. A profile arrives as JSON, the client having read the file.
    pub fn parse(words: &[String]) -> Result<SecurityOptions, OptionError> {
        let mut options = SecurityOptions::default();
        for word in words {
            options.read(word)?;
        }
        Ok(options)
    }

    fn read(&mut self, word: &str) -> Result<(), OptionError> {
        match word {
            "no-new-privileges" => return self.set_no_new_privileges(true),
            "writable-cgroups" => {
                self.writable_cgroups = Some(true);
                return Ok(());
            }
            "disable" => {
                self.labels.push(word.to_owned());
                return Ok(());
            }
            _ => {}
        }
        let Some((key, value)) = split(word) else {
            return Err(OptionError::Form(word.to_owned()));
        };
        match key {
            "label" => self.labels.push(value.to_owned()),
            "apparmor" => self.apparmor = Some(value.to_owned()).filter(|name| !name.is_empty()),
            "seccomp" => self.seccomp = seccomp(value)?,
            "no-new-privileges" => return self.set_no_new_privileges(boolean(word, value)?),
            "writable-cgroups" => self.writable_cgroups = Some(boolean(word, value)?),
            "systempaths" if value == "unconfined" => self.system_paths_unconfined = true,
            _ => return Err(OptionError::Value(word.to_owned())),
        }
        Ok(())
    }

    fn set_no_new_privileges(&mut self, on: bool) -> Result<(), OptionError> {
        self.no_new_privileges = Some(on);
        Ok(())
    }
}

/// At the first `=`, or, as before Docker 1.11, at the first `:` if there is no `=`.
fn split(word: &str) -> Option<(&str, &str)> {
    word.split_once('=').or_else(|| word.split_once(':'))
}

fn seccomp(value: &str) -> Result<SeccompChoice, SeccompError> {
    Ok(match value {
        "unconfined" => SeccompChoice::Unconfined,
        "builtin" => SeccompChoice::Builtin,
        json => SeccompChoice::Profile(Box::new(Profile::from_json(json)?)),
    })
}

/// Go's `strconv.ParseBool`.
fn boolean(word: &str, value: &str) -> Result<bool, OptionError> {
    match value {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(OptionError::Value(word.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<SecurityOptions, OptionError> {
        SecurityOptions::parse(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn texts_of_dockers_errors() {
        assert_eq!(parse(&["foo"]).unwrap_err().to_string(), "invalid --security-opt 1: \"foo\"");
        for word in ["foo=bar", "no-new-privileges:maybe", "systempaths=foo", "writable-cgroups=x"] {
            assert_eq!(parse(&[word]).unwrap_err().to_string(), format!("invalid --security-opt 2: {word:?}"));
        }
    }

    #[test]
    fn each_word() {
        let words = ["seccomp:unconfined", "apparmor=foo", "label=user:x", "no-new-privileges", "writable-cgroups=t"];
        let options = parse(&words).unwrap();
        assert_eq!(options.seccomp, SeccompChoice::Unconfined);
        assert_eq!(options.apparmor.as_deref(), Some("foo"));
        assert_eq!(options.labels, ["user:x"]);
        assert_eq!(options.no_new_privileges, Some(true));
        assert_eq!(options.writable_cgroups, Some(true));
        assert_eq!(parse(&["apparmor=x", "apparmor="]).unwrap().apparmor, None);
        assert!(parse(&["systempaths=unconfined"]).unwrap().system_paths_unconfined);
        assert_eq!(parse(&["writable-cgroups"]).unwrap().writable_cgroups, Some(true));
        assert_eq!(parse(&["no-new-privileges:false"]).unwrap().no_new_privileges, Some(false));
    }
}
