//! `inspect` in all its forms: the daemon's JSON laid out, one line of it, or a template over each object.

use std::io::Write;

use serde_json::Value;

use super::indent::indent;
use super::list::unescape;
use crate::error::{CliError, Result};
use crate::template::{Template, Val};

/// Writes what was found, then fails with what was not.
pub(crate) fn write(names: &[String], format: &str, fetch: impl Fn(&str) -> Result<Vec<u8>>) -> Result<u8> {
    let template = match format {
        "" | "json" => None,
        text => Some(
            Template::parse("", &unescape(text))
                .map_err(|e| CliError::status(64, format!("template parsing error: {e}")))?,
        ),
    };
    let mut objects = Vec::new();
    let mut errors = Vec::new();
    let mut out = std::io::stdout().lock();
    for name in names {
        match fetch(name) {
            Err(error @ (CliError::Connect(_) | CliError::Transport { .. })) => return Err(error),
            Err(error) => errors.push(error.to_string()),
            Ok(bytes) => match &template {
                None => objects.push(String::from_utf8_lossy(&bytes).trim().to_owned()),
                Some(template) => {
                    let mut text = String::new();
                    let outcome = apply(template, &bytes, &mut text);
                    text.push('\n');
                    match outcome {
                        Ok(()) => out.write_all(text.as_bytes())?,
                        Err(error) => {
                            // What Docker's client prints before it gives up: one empty line.
                            out.write_all(b"\n")?;
                            errors.push(format!("template parsing error: {error}"));
                            break;
                        }
                    }
                }
            },
        }
    }
    if template.is_none() {
        let list = format!("[{}]", objects.join(","));
        let text = if format == "json" { compact(&list) } else { indent(&list, "", "    ") };
        writeln!(out, "{text}")?;
    } else if objects.is_empty() && errors.len() == names.len() && !errors[0].starts_with("template") {
        writeln!(out)?;
    }
    if errors.is_empty() { Ok(0) } else { Err(CliError::new(errors.join("\n"))) }
}

fn compact(list: &str) -> String {
    serde_json::from_str::<Value>(list).map_or_else(|_| list.to_owned(), |value| value.to_string())
}

fn apply(template: &Template, bytes: &[u8], out: &mut String) -> std::result::Result<(), String> {
    let value: Value = serde_json::from_slice(bytes).map_err(|e| format!("unable to read inspect data: {e}"))?;
    template.run(&Val::Json(value), out)
}
