//! The instructions of `--change`: those of a Dockerfile that only set a container's configuration.
//!
//! Used by `commit` and `import`. Error texts are Docker's where its clients may show them.

use std::collections::BTreeMap;

use droste_model::container::{Config, Healthcheck};
use droste_model::path::ContainerPath;

use crate::error::{Error, Result};

/// Longest list of instructions that is read.
const MOST: usize = 1024;

/// Applies instructions such as `CMD ["sh"]` or `ENV A=b` to a configuration, in order.
pub fn apply_changes(config: &mut Config, changes: &[String]) -> Result<()> {
    let lines: Vec<String> = changes.iter().flat_map(|change| logical_lines(change)).collect();
    if lines.len() > MOST {
        return Err(Error::Change(format!("more than {MOST} change commands")));
    }
    // As in Docker, every instruction is known to be one before the first is carried out.
    for line in &lines {
        let (word, _) = split_word(line);
        if !INSTRUCTIONS.contains(&word.to_ascii_lowercase().as_str()) {
            return Err(Error::Change(format!("{} is not a valid change command", word.to_ascii_lowercase())));
        }
    }
    lines.iter().try_for_each(|line| apply(config, line))
}

const INSTRUCTIONS: &[&str] = &[
    "cmd",
    "entrypoint",
    "env",
    "expose",
    "healthcheck",
    "label",
    "onbuild",
    "stopsignal",
    "user",
    "volume",
    "workdir",
];

/// Joins continued lines; drops comments and empty lines.
fn logical_lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut current = String::new();
    for line in text.lines() {
        let line = line.trim();
        if line.starts_with('#') || line.is_empty() {
            continue;
        }
        match line.strip_suffix('\\') {
            Some(begin) => current.push_str(begin),
            None => {
                current.push_str(line);
                lines.push(std::mem::take(&mut current));
            }
        }
    }
    if !current.trim().is_empty() {
        lines.push(current);
    }
    lines
}

fn split_word(line: &str) -> (&str, &str) {
    match line.split_once(char::is_whitespace) {
        Some((word, rest)) => (word, rest.trim()),
        None => (line, ""),
    }
}

fn apply(config: &mut Config, line: &str) -> Result<()> {
    let (word, rest) = split_word(line);
    let name = word.to_ascii_uppercase();
    if rest.is_empty() && name != "CMD" && name != "ENTRYPOINT" {
        return Err(Error::Change(format!("{name} requires at least one argument")));
    }
    match name.as_str() {
        "CMD" => config.cmd = Some(command(config, rest)),
        "ENTRYPOINT" => entrypoint(config, rest),
        "ENV" => env(config, rest)?,
        "EXPOSE" => expose(config, rest)?,
        "HEALTHCHECK" => config.healthcheck = Some(healthcheck(rest)?),
        "LABEL" => config.labels.extend(pairs(&name, rest, &environment(config))?),
        "ONBUILD" => onbuild(config, rest)?,
        "STOPSIGNAL" => config.stop_signal = Some(expand(rest, &environment(config))?),
        "USER" => config.user = exactly_one(&name, &expand(rest, &environment(config))?)?,
        "VOLUME" => volume(config, rest)?,
        "WORKDIR" => workdir(config, &expand(rest, &environment(config))?),
        other => return Err(Error::Change(format!("{} is not a valid change command", other.to_ascii_lowercase()))),
    }
    Ok(())
}

/// A JSON array of strings, if the text is one.
fn json_words(rest: &str) -> Option<Vec<String>> {
    rest.starts_with('[').then(|| serde_json::from_str(rest).ok()).flatten()
}

/// The exec form as it is, the shell form as an argument of the shell.
fn command(config: &Config, rest: &str) -> Vec<String> {
    if let Some(words) = json_words(rest) {
        return words;
    }
    let default = || vec!["/bin/sh".to_owned(), "-c".to_owned()];
    let mut words = config.shell.clone().filter(|shell| !shell.is_empty()).unwrap_or_else(default);
    words.push(rest.to_owned());
    words
}

fn entrypoint(config: &mut Config, rest: &str) {
    if rest.is_empty() || json_words(rest).is_some_and(|words| words.is_empty()) {
        config.entrypoint = None;
    } else {
        config.entrypoint = Some(command(config, rest));
    }
}

fn environment(config: &Config) -> BTreeMap<String, String> {
    config
        .env
        .iter()
        .filter_map(|item| item.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned())))
        .collect()
}

fn env(config: &mut Config, rest: &str) -> Result<()> {
    for (key, value) in pairs("ENV", rest, &environment(config))? {
        let item = format!("{key}={value}");
        let same = |other: &&mut String| other.split('=').next() == Some(key.as_str());
        match config.env.iter_mut().find(same) {
            Some(other) => *other = item,
            None => config.env.push(item),
        }
    }
    Ok(())
}

/// `KEY=value …` with quotes, or the old form `KEY the whole rest`.
fn pairs(instruction: &str, rest: &str, variables: &BTreeMap<String, String>) -> Result<Vec<(String, String)>> {
    let words = shell_words(rest);
    let first = words.first().map(String::as_str).unwrap_or_default();
    if !first.contains('=') {
        let (key, value) = split_word(rest);
        if value.is_empty() {
            return Err(Error::Change(format!("{instruction} must have two arguments")));
        }
        return Ok(vec![(key.to_owned(), expand(value, variables)?)]);
    }
    words
        .iter()
        .map(|word| {
            let Some((key, value)) = word.split_once('=') else {
                let message = format!("Syntax error - can't find = in {word:?}. Must be of the form: name=value");
                return Err(Error::Change(message));
            };
            let key = expand(key, variables)?;
            if key.is_empty() {
                return Err(Error::Change(format!("{instruction} names can not be blank")));
            }
            Ok((key, expand(value, variables)?))
        })
        .collect()
}

/// Splits at blanks outside of quotes; quotes and backslashes stay for [`expand`].
fn shell_words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (None, c) if c.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                continue;
            }
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if open == c => quote = None,
            (None | Some('"'), '\\') => {
                word.push(c);
                word.extend(chars.next());
                continue;
            }
            _ => {}
        }
        word.push(c);
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// Removes quotes and puts in variables: `$A`, `${A}`, `${A:-word}`, `${A:+word}`.
fn expand(text: &str, variables: &BTreeMap<String, String>) -> Result<String> {
    let mut out = String::new();
    let mut quote = None;
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match (quote, c) {
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if open == c => quote = None,
            (None | Some('"'), '\\') => {
                let next = rest.chars().next();
                // Within double quotes a backslash is only special before what it can protect.
                if quote.is_some() && !matches!(next, Some('"' | '$' | '\\')) {
                    out.push('\\');
                }
                out.extend(next);
                rest = next.map_or("", |next| &rest[next.len_utf8()..]);
            }
            (None | Some('"'), '$') => rest = variable(rest, variables, &mut out)?,
            (_, c) => out.push(c),
        }
    }
    match quote {
        Some(_) => {
            Err(Error::Change(format!("unexpected end of statement while looking for matching quote in {text:?}")))
        }
        None => Ok(out),
    }
}

/// Puts in the variable that begins after a `$`; gives what follows it.
fn variable<'a>(rest: &'a str, variables: &BTreeMap<String, String>, out: &mut String) -> Result<&'a str> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let value = |name: &str| variables.get(name).map(String::as_str).unwrap_or_default();
    if let Some(inner) = rest.strip_prefix('{') {
        let (inner, after) =
            inner.split_once('}').ok_or_else(|| Error::Change("syntax error: missing '}'".to_owned()))?;
        let end = inner.find(|c| !is_name(c)).unwrap_or(inner.len());
        let (name, modifier) = inner.split_at(end);
        match (modifier.get(..2), modifier) {
            (_, "") if !name.is_empty() => out.push_str(value(name)),
            (Some(":-"), _) if value(name).is_empty() => out.push_str(&modifier[2..]),
            (Some(":-"), _) => out.push_str(value(name)),
            (Some(":+"), _) if value(name).is_empty() => {}
            (Some(":+"), _) => out.push_str(&modifier[2..]),
            _ => return Err(Error::Change(format!("unsupported modifier in substitution ${{{inner}}}"))),
        }
        return Ok(after);
    }
    let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
    if end == 0 {
        out.push('$');
        return Ok(rest);
    }
    out.push_str(value(&rest[..end]));
    Ok(&rest[end..])
}

fn exactly_one(instruction: &str, rest: &str) -> Result<String> {
    let mut words = rest.split_whitespace();
    match (words.next(), words.next()) {
        (Some(word), None) => Ok(word.to_owned()),
        _ => Err(Error::Change(format!("{instruction} requires exactly one argument"))),
    }
}

fn expose(config: &mut Config, rest: &str) -> Result<()> {
    let variables = environment(config);
    for word in rest.split_whitespace() {
        let word = expand(word, &variables)?;
        let (ports, protocol) = word.split_once('/').unwrap_or((&word, "tcp"));
        let invalid = || Error::Change(format!("invalid containerPort: {word}"));
        // `8080:80` exposes 80: the rest is for a client that publishes.
        let ports = ports.rsplit(':').next().unwrap_or(ports);
        let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
        let first: u16 = first.parse().map_err(|_| invalid())?;
        let last: u16 = last.parse().map_err(|_| invalid())?;
        if first == 0 || last < first {
            return Err(invalid());
        }
        for port in first..=last {
            let text = format!("{port}/{}", protocol.to_ascii_lowercase());
            config.exposed_ports.insert(text.parse().map_err(|_| invalid())?);
        }
    }
    Ok(())
}

fn healthcheck(rest: &str) -> Result<Healthcheck> {
    let mut check = Healthcheck::default();
    let mut rest = rest;
    while let Some(option) = rest.strip_prefix("--") {
        let (option, after) = split_word(option);
        health_option(&mut check, option)?;
        rest = after;
    }
    let (kind, argument) = split_word(rest);
    check.test = match kind.to_ascii_uppercase().as_str() {
        "NONE" if argument.is_empty() => vec!["NONE".to_owned()],
        "NONE" => return Err(Error::Change("HEALTHCHECK NONE takes no arguments".to_owned())),
        "CMD" if argument.is_empty() => return Err(Error::Change("missing command after HEALTHCHECK CMD".to_owned())),
        "CMD" => match json_words(argument) {
            Some(words) => [vec!["CMD".to_owned()], words].concat(),
            None => vec!["CMD-SHELL".to_owned(), argument.to_owned()],
        },
        _ => return Err(Error::Change(format!("unknown type {kind:?} in HEALTHCHECK (try CMD)"))),
    };
    Ok(check)
}

fn health_option(check: &mut Healthcheck, option: &str) -> Result<()> {
    let (name, value) = option.split_once('=').unwrap_or((option, ""));
    let target = match name {
        "interval" => &mut check.interval,
        "timeout" => &mut check.timeout,
        "start-period" => &mut check.start_period,
        "start-interval" => &mut check.start_interval,
        "retries" => {
            let invalid = || Error::Change(format!("--retries must be at least 0, not {value:?}"));
            check.retries = value.parse().ok().filter(|retries| *retries >= 0).ok_or_else(invalid)?;
            return Ok(());
        }
        _ => return Err(Error::Change(format!("unknown flag: {name}"))),
    };
    let nanos = go_duration(value).ok_or_else(|| Error::Change(format!("time: invalid duration {value:?}")))?;
    if nanos != 0 && nanos < 1_000_000 {
        return Err(Error::Change(format!("interval {name:?} cannot be less than 1ms")));
    }
    *target = nanos;
    Ok(())
}

/// A duration as Go writes it: `1m30s`, `1.5h`.
fn go_duration(text: &str) -> Option<i64> {
    if text == "0" {
        return Some(0);
    }
    let mut rest = text;
    let mut total = 0f64;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        rest = &rest[end..];
        let units = [("ns", 1.0), ("us", 1e3), ("µs", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 60e9), ("h", 3600e9)];
        let (unit, nanos) = units.into_iter().find(|(unit, _)| {
            rest.strip_prefix(unit)
                .is_some_and(|after| after.is_empty() || after.starts_with(|c: char| c.is_ascii_digit()))
        })?;
        total += number * nanos;
        rest = &rest[unit.len()..];
    }
    (!text.is_empty() && total < 9e18).then_some(total as i64)
}

fn onbuild(config: &mut Config, rest: &str) -> Result<()> {
    match split_word(rest).0.to_ascii_uppercase().as_str() {
        "ONBUILD" => {
            return Err(Error::Change("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed".to_owned()));
        }
        word @ ("MAINTAINER" | "FROM") => {
            return Err(Error::Change(format!("{word} isn't allowed as an ONBUILD trigger")));
        }
        _ => {}
    }
    config.on_build.get_or_insert_with(Vec::new).push(rest.to_owned());
    Ok(())
}

fn volume(config: &mut Config, rest: &str) -> Result<()> {
    let variables = environment(config);
    let words = json_words(rest).unwrap_or_else(|| rest.split_whitespace().map(str::to_owned).collect());
    for word in words {
        let word = expand(word.trim(), &variables)?;
        let path = ContainerPath::rooted(&word).filter(|_| !word.is_empty());
        let path = path.ok_or_else(|| Error::Change("VOLUME specified can not be an empty string".to_owned()))?;
        config.volumes.insert(path);
    }
    Ok(())
}

fn workdir(config: &mut Config, path: &str) {
    let joined = if path.starts_with('/') { path.to_owned() } else { format!("{}/{path}", config.working_dir) };
    let cleaned = ContainerPath::rooted(&joined).map(|path| path.as_str().to_owned());
    config.working_dir = cleaned.unwrap_or(joined);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(changes: &[&str]) -> Config {
        let mut config = Config::default();
        let changes: Vec<String> = changes.iter().map(|change| (*change).to_owned()).collect();
        apply_changes(&mut config, &changes).unwrap();
        config
    }

    fn refused(change: &str) -> String {
        apply_changes(&mut Config::default(), &[change.to_owned()]).unwrap_err().to_string()
    }

    #[test]
    fn commands_have_two_forms() {
        assert_eq!(applied(&[r#"CMD ["a", "b c"]"#]).cmd.unwrap(), ["a", "b c"]);
        assert_eq!(applied(&["cmd a b"]).cmd.unwrap(), ["/bin/sh", "-c", "a b"]);
        assert_eq!(applied(&[r#"ENTRYPOINT ["x"]"#]).entrypoint.unwrap(), ["x"]);
        assert_eq!(applied(&["ENTRYPOINT [\"x\"]", "ENTRYPOINT []"]).entrypoint, None);
        assert_eq!(applied(&["CMD [not json"]).cmd.unwrap(), ["/bin/sh", "-c", "[not json"]);
    }

    #[test]
    fn variables_are_set_quoted_and_expanded() {
        let config = applied(&["ENV A=1 B='two words' C=\"$A\"", "ENV D ${A}x$B y", "ENV A=3", r"ENV E=a\ b F=\$A"]);
        assert_eq!(config.env, ["A=3", "B=two words", "C=", "D=1xtwo words y", "E=a b", "F=$A"]);
        assert_eq!(applied(&["ENV A=${X:-d}${X:+e}"]).env, ["A=d"]);
    }

    #[test]
    fn the_other_instructions_set_their_fields() {
        let config = applied(&[
            "EXPOSE 80 53/udp 9000-9002",
            "LABEL a=b \"c d\"=\"e f\"",
            "USER me:us",
            "VOLUME [\"/a\", \"/b\"]",
            "VOLUME /c /d",
            "WORKDIR /x",
            "WORKDIR y",
            "ONBUILD RUN make",
            "STOPSIGNAL SIGINT",
            "HEALTHCHECK --interval=1m30s --retries=3 CMD curl x",
        ]);
        let ports: Vec<String> = config.exposed_ports.iter().map(ToString::to_string).collect();
        assert_eq!(ports.len(), 5);
        assert!(ports.contains(&"53/udp".to_owned()) && ports.contains(&"9001/tcp".to_owned()));
        assert_eq!((config.labels["a"].as_str(), config.labels["c d"].as_str()), ("b", "e f"));
        assert_eq!((config.user.as_str(), config.working_dir.as_str()), ("me:us", "/x/y"));
        assert_eq!(config.volumes.len(), 4);
        assert_eq!(config.on_build.unwrap(), ["RUN make"]);
        assert_eq!(config.stop_signal.unwrap(), "SIGINT");
        let health = config.healthcheck.unwrap();
        assert_eq!(
            (health.test.as_slice(), health.interval),
            (["CMD-SHELL".to_owned(), "curl x".to_owned()].as_slice(), 90_000_000_000)
        );
        assert_eq!(health.retries, 3);
    }

    #[test]
    fn what_is_no_change_is_refused() {
        assert_eq!(refused("RUN make"), "run is not a valid change command");
        assert_eq!(refused("FROM x"), "from is not a valid change command");
        assert_eq!(refused("ENV A"), "ENV must have two arguments");
        assert_eq!(refused("EXPOSE x"), "invalid containerPort: x");
        assert_eq!(refused("USER a b"), "USER requires exactly one argument");
        assert_eq!(refused("LABEL"), "LABEL requires at least one argument");
        assert!(refused("HEALTHCHECK --interval=1x CMD a").contains("invalid duration"));
        assert!(refused("ENV A='b").contains("matching quote"));
        assert!(refused("ONBUILD FROM x").contains("isn't allowed"));
    }
}
