//! `--security-opt` and capabilities.

use std::fs;

use serde_json::Value;

use crate::error::{CliError, Result, io_text};
use crate::flags::Parsed;

/// What `--security-opt` says.
#[derive(Debug, Default)]
pub(crate) struct Security {
    pub(crate) options: Vec<String>,
    /// `systempaths=unconfined`: nothing masked, nothing read-only.
    pub(crate) bare_paths: bool,
}

/// Reads `--security-opt`; a seccomp profile's file is read here, the daemon gets its content.
pub(crate) fn read(flags: &Parsed) -> Result<Security> {
    let mut out = Security::default();
    for given in flags.all("security-opt") {
        if given == "systempaths=unconfined" {
            out.bare_paths = true;
            continue;
        }
        let (name, value) = match given.split_once('=').or_else(|| given.split_once(':')) {
            Some(pair) => pair,
            None if given == "no-new-privileges" => (given.as_str(), ""),
            None => return Err(CliError::new(format!("Invalid --security-opt: {given:?}"))),
        };
        if name == "seccomp" && !matches!(value, "unconfined" | "builtin") {
            out.options.push(format!("seccomp={}", profile(value)?));
            continue;
        }
        out.options.push(given.clone());
    }
    Ok(out)
}

fn profile(path: &str) -> Result<String> {
    let text = fs::read_to_string(path)
        .map_err(|e| CliError::new(format!("opening seccomp profile ({path}) failed: open {path}: {}", io_text(&e))))?;
    serde_json::from_str::<Value>(&text)
        .map(|value| value.to_string())
        .map_err(|e| CliError::new(format!("compacting json for seccomp profile ({path}) failed: {e}")))
}

/// Capabilities in the kernel's names, sorted and each once.
pub(crate) fn capabilities(given: &[String]) -> Vec<String> {
    let mut all: Vec<String> = given
        .iter()
        .map(|name| {
            let upper = name.trim().to_uppercase();
            if upper == "ALL" || upper == "RESET" || upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") }
        })
        .collect();
    all.sort();
    all.dedup();
    all
}
