//! Variables, labels, log options and the health check: everything that is pairs of texts.

use std::fs;

use serde_json::{Map, Value, json};

use crate::error::{CliError, Result, open_error};
use crate::flags::Parsed;
use crate::values::parse_duration;

/// The environment: files first, then single variables, then what the configuration says about proxies.
pub(crate) fn variables(flags: &Parsed, proxies: &[(String, String)]) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for path in flags.all("env-file") {
        all.extend(file(path, true)?);
    }
    for given in flags.all("env") {
        all.push(variable(given)?);
    }
    for (name, value) in proxies {
        let set = all.iter().any(|v| v.split('=').next() == Some(name));
        if !set {
            all.push(format!("{name}={value}"));
        }
    }
    Ok(all)
}

/// A variable named without a value takes ours; one that we do not have stays a bare name, which unsets it.
fn variable(given: &str) -> Result<String> {
    if given.is_empty() || given.starts_with('=') {
        return Err(CliError::new(format!("invalid environment variable: {given}")));
    }
    if given.contains('=') {
        return Ok(given.to_owned());
    }
    Ok(std::env::var(given).map_or_else(|_| given.to_owned(), |value| format!("{given}={value}")))
}

fn file(path: &str, from_ours: bool) -> Result<Vec<String>> {
    let bytes = fs::read(path).map_err(|e| open_error(path, e))?;
    let text =
        String::from_utf8(bytes).map_err(|_| CliError::new(format!("env file {path} contains invalid utf8 bytes")))?;
    let mut all = Vec::new();
    for line in text.trim_start_matches('\u{feff}').lines() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = match line.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (line, None),
        };
        if name.contains(char::is_whitespace) {
            return Err(CliError::new(format!("poorly formatted environment: variable '{name}' contains whitespaces")));
        }
        if name.is_empty() {
            return Err(CliError::new(format!("poorly formatted environment: no variable name on line '{line}'")));
        }
        match value {
            Some(_) => all.push(line.to_owned()),
            None if from_ours => all.extend(std::env::var(name).ok().map(|value| format!("{name}={value}"))),
            None => {}
        }
    }
    Ok(all)
}

/// `a=b` words as a table; a bare word has an empty value.
pub(crate) fn pairs(words: &[String]) -> Map<String, Value> {
    let split = |word: &String| {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        (name.to_owned(), Value::from(value))
    };
    words.iter().map(split).collect()
}

/// `a=b` words as a table; a bare word is an error.
pub(crate) fn strict_pairs(words: &[String], what: &str) -> Result<Map<String, Value>> {
    match words.iter().find(|word| !word.contains('=')) {
        Some(_) => Err(CliError::new(format!("invalid {what}"))),
        None => Ok(pairs(words)),
    }
}

/// Labels from files and from the command line.
pub(crate) fn labels(flags: &Parsed) -> Result<Map<String, Value>> {
    let mut all = Map::new();
    for path in flags.all("label-file") {
        all.extend(pairs(&file(path, false)?));
    }
    all.extend(pairs(flags.all("label")));
    Ok(all)
}

/// Options of the log driver.
pub(crate) fn log_options(flags: &Parsed) -> Result<Map<String, Value>> {
    let options = pairs(flags.all("log-opt"));
    if flags.str("log-driver") == "none" && !options.is_empty() {
        return Err(CliError::new("invalid logging opts for driver none"));
    }
    Ok(options)
}

/// The health check, if any option speaks of one.
pub(crate) fn healthcheck(flags: &Parsed) -> Result<Option<Value>> {
    let names = [
        "health-cmd",
        "health-interval",
        "health-timeout",
        "health-start-period",
        "health-start-interval",
        "health-retries",
    ];
    let any = names.iter().any(|name| flags.given(name));
    if flags.on("no-healthcheck") {
        if any {
            return Err(CliError::new("--no-healthcheck conflicts with --health-* options"));
        }
        return Ok(Some(json!({"Test": ["NONE"]})));
    }
    if !any {
        return Ok(None);
    }
    let mut check = Map::new();
    if flags.given("health-test") {
        check.insert("Test".to_owned(), json!(flags.all("health-test")));
    } else if let Some(command) = flags.get("health-cmd").filter(|c| !c.is_empty()) {
        check.insert("Test".to_owned(), json!(["CMD-SHELL", command]));
    }
    for (flag, field) in [
        ("health-interval", "Interval"),
        ("health-timeout", "Timeout"),
        ("health-start-period", "StartPeriod"),
        ("health-start-interval", "StartInterval"),
    ] {
        let nanos = flags.get(flag).and_then(|v| parse_duration(v).ok()).unwrap_or(0);
        if nanos < 0 {
            return Err(CliError::new(format!("--{flag} cannot be negative")));
        }
        if nanos > 0 {
            check.insert(field.to_owned(), nanos.into());
        }
    }
    match flags.int("health-retries") {
        Some(count) if count < 0 => return Err(CliError::new("--health-retries cannot be negative")),
        Some(count) if count > 0 => {
            check.insert("Retries".to_owned(), count.into());
        }
        _ => {}
    }
    Ok(Some(Value::Object(check)))
}
