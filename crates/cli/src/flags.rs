//! Flags in the manner of Docker's: a table of text per command, and a parser with the same rules and messages
//! (clusters of short flags, `-eA=b`, `--flag=value`, flags that stop at the first argument).
//! What a value means is left to the commands; this file checks only its kind.

use std::collections::HashMap;

use crate::values;

/// One option of a command.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Flag {
    pub(crate) short: Option<char>,
    pub(crate) name: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) check: &'static str,
    pub(crate) default: Option<&'static str>,
    pub(crate) help: &'static str,
    pub(crate) hidden: bool,
}

/// Reads a table: one flag per line, `short name kind[/check][=default] help`, `-` for no short form,
/// a leading `!` for a flag that the help does not show.
pub(crate) fn table(text: &'static str) -> Vec<Flag> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).filter_map(flag).collect()
}

fn flag(line: &'static str) -> Option<Flag> {
    let (hidden, line) = match line.strip_prefix('!') {
        Some(rest) => (true, rest),
        None => (false, line),
    };
    let mut parts = line.splitn(4, ' ');
    let short = parts.next()?.chars().next().filter(|c| *c != '-');
    let name = parts.next()?;
    let kind = parts.next()?;
    let help = parts.next().unwrap_or("");
    let (kind, default) = match kind.split_once('=') {
        Some((kind, default)) => (kind, Some(default)),
        None => (kind, None),
    };
    let (kind, check) = kind.split_once('/').unwrap_or((kind, kind));
    Some(Flag { short, name, kind, check, default, help, hidden })
}

impl Flag {
    /// Whether the flag may stand without a value.
    pub(crate) fn is_bool(&self) -> bool {
        self.kind == "bool"
    }

    /// `-m, --memory`, as messages name it.
    fn display(&self) -> String {
        match self.short {
            Some(short) => format!("-{short}, --{}", self.name),
            None => format!("--{}", self.name),
        }
    }
}

/// What was given on the command line.
#[derive(Debug, Default, Clone)]
pub(crate) struct Parsed {
    values: HashMap<&'static str, Vec<String>>,
    /// What is not a flag.
    pub(crate) args: Vec<String>,
    /// `--help` was among the flags.
    pub(crate) help: bool,
}

impl Parsed {
    /// Words that were not looked at.
    pub(crate) fn of_words(words: &[String]) -> Self {
        Self { args: words.to_vec(), ..Self::default() }
    }

    /// Whether the flag was given at all.
    pub(crate) fn given(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// Whether any flag was given.
    pub(crate) fn any(&self) -> bool {
        !self.values.is_empty()
    }

    /// The last value given.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).and_then(|all| all.last()).map(String::as_str)
    }

    /// The last value given, or nothing at all.
    pub(crate) fn str(&self, name: &str) -> &str {
        self.get(name).unwrap_or("")
    }

    /// Every value given, in order.
    pub(crate) fn all(&self, name: &str) -> &[String] {
        self.values.get(name).map_or(&[], Vec::as_slice)
    }

    /// Every value given, with commas separating several in one.
    pub(crate) fn split(&self, name: &str) -> Vec<String> {
        self.all(name).iter().flat_map(|v| values::csv(v)).collect()
    }

    /// A switch; `None` if it was not given.
    pub(crate) fn switch(&self, name: &str) -> Option<bool> {
        self.get(name).and_then(values::parse_bool)
    }

    /// Whether a switch is on.
    pub(crate) fn on(&self, name: &str) -> bool {
        self.switch(name).unwrap_or(false)
    }

    /// A number; it was checked when it was parsed.
    pub(crate) fn int(&self, name: &str) -> Option<i64> {
        self.get(name).and_then(|v| values::parse_int(v).ok())
    }

    /// Puts values in the place of those given; without any, the flag is as if not given.
    pub(crate) fn replace(&mut self, name: &'static str, values: Vec<String>) {
        if values.is_empty() {
            self.values.remove(name);
        } else {
            self.values.insert(name, values);
        }
    }

    /// Sets a flag as if it had been given.
    pub(crate) fn set(&mut self, name: &'static str, value: impl Into<String>) {
        self.values.entry(name).or_default().push(value.into());
    }
}

/// Parses `args` by the table. With `interspersed`, flags may stand between arguments;
/// without, the first argument ends them.
pub(crate) fn parse(flags: &[Flag], args: &[String], interspersed: bool) -> Result<Parsed, String> {
    let mut parsed = Parsed::default();
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        if arg == "--" {
            parsed.args.extend(rest.cloned());
            break;
        }
        if let Some(long) = arg.strip_prefix("--") {
            parse_long(flags, long, &mut rest, &mut parsed)?;
        } else if arg.len() > 1 && arg.starts_with('-') {
            parse_cluster(flags, &arg[1..], &mut rest, &mut parsed)?;
        } else {
            parsed.args.push(arg.clone());
            if !interspersed {
                parsed.args.extend(rest.cloned());
                break;
            }
        }
    }
    Ok(parsed)
}

fn parse_long(
    flags: &[Flag],
    long: &str,
    rest: &mut std::slice::Iter<'_, String>,
    parsed: &mut Parsed,
) -> Result<(), String> {
    let (name, value) = match long.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (long, None),
    };
    if name.is_empty() || name.starts_with('-') {
        return Err(format!("bad flag syntax: --{long}"));
    }
    let Some(flag) = flags.iter().find(|f| f.name == name) else {
        if name == "help" {
            parsed.help = true;
            return Ok(());
        }
        return Err(format!("unknown flag: --{name}"));
    };
    let value = match value {
        Some(value) => value,
        None if flag.is_bool() => "true".to_owned(),
        None => rest.next().cloned().ok_or_else(|| format!("flag needs an argument: --{name}"))?,
    };
    store(flag, value, parsed)
}

fn parse_cluster(
    flags: &[Flag],
    cluster: &str,
    rest: &mut std::slice::Iter<'_, String>,
    parsed: &mut Parsed,
) -> Result<(), String> {
    let mut chars = cluster.char_indices();
    while let Some((at, short)) = chars.next() {
        let Some(flag) = flags.iter().find(|f| f.short == Some(short)) else {
            if short == 'h' {
                parsed.help = true;
                continue;
            }
            return Err(format!("unknown shorthand flag: '{short}' in -{}", &cluster[at..]));
        };
        let tail = chars.as_str();
        if let Some(value) = tail.strip_prefix('=') {
            return store(flag, value.to_owned(), parsed);
        }
        if flag.is_bool() {
            store(flag, "true".to_owned(), parsed)?;
            continue;
        }
        let value = match tail {
            "" => rest
                .next()
                .cloned()
                .ok_or_else(|| format!("flag needs an argument: '{short}' in -{}", &cluster[at..]))?,
            attached => attached.to_owned(),
        };
        return store(flag, value, parsed);
    }
    Ok(())
}

fn store(flag: &Flag, value: String, parsed: &mut Parsed) -> Result<(), String> {
    values::check(flag.check, &value)
        .map_err(|why| format!("invalid argument {value:?} for \"{}\" flag: {why}", flag.display()))?;
    parsed.values.entry(flag.name).or_default().push(value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "
        i interactive bool Keep input open
        t tty bool Terminal
        e env list Variables
        - rm bool Remove
        m memory bytes Memory
        - name string Name
        - pull string=missing Pull";

    fn parse_words(line: &str, interspersed: bool) -> Result<Parsed, String> {
        let args: Vec<String> = line.split(' ').filter(|w| !w.is_empty()).map(str::to_owned).collect();
        parse(&table(TABLE), &args, interspersed)
    }

    #[test]
    fn clusters_attached_values_and_equals() {
        let parsed = parse_words("-it -eA=b -e C=d --rm=false --name=x image -e no", false).unwrap();
        assert!(parsed.on("interactive") && parsed.on("tty"));
        assert_eq!(parsed.all("env"), ["A=b", "C=d"]);
        assert_eq!(parsed.switch("rm"), Some(false));
        assert_eq!(parsed.str("name"), "x");
        assert_eq!(parsed.args, ["image", "-e", "no"]);
    }

    #[test]
    fn interspersed_flags_and_double_dash() {
        let parsed = parse_words("a --rm b -- --name", true).unwrap();
        assert!(parsed.on("rm"));
        assert_eq!(parsed.args, ["a", "b", "--name"]);
    }

    #[test]
    fn messages_are_docker_s() {
        let message = |line: &str| parse_words(line, false).unwrap_err();
        assert_eq!(message("--foo"), "unknown flag: --foo");
        assert_eq!(message("-x"), "unknown shorthand flag: 'x' in -x");
        assert_eq!(message("-itx"), "unknown shorthand flag: 'x' in -x");
        assert_eq!(message("--memory"), "flag needs an argument: --memory");
        assert_eq!(message("-m"), "flag needs an argument: 'm' in -m");
        assert_eq!(message("-m foo"), "invalid argument \"foo\" for \"-m, --memory\" flag: invalid size: 'foo'");
        assert_eq!(
            message("--rm=foo"),
            "invalid argument \"foo\" for \"--rm\" flag: strconv.ParseBool: parsing \"foo\": invalid syntax"
        );
    }

    #[test]
    fn odd_input_never_panics() {
        let pieces = ["-", "--", "-é", "--=", "-=", "--é=ü", "-m=", "-mé", "---", "-e", "--name", "\u{0}", "-i=é"];
        for a in pieces {
            for b in pieces {
                for c in pieces {
                    let args = [a, b, c].map(str::to_owned);
                    let _ = parse(&table(TABLE), &args, true);
                    let _ = parse(&table(TABLE), &args, false);
                }
            }
        }
    }
}
