//! `.dockerignore`: patterns with `*`, `?`, `[…]`, `**` and `!`, the last match deciding.

use std::fs;
use std::path::Path;

use crate::error::{CliError, Result, open_error};

/// The patterns of one file.
#[derive(Debug, Default)]
pub(crate) struct Ignore {
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    parts: Vec<String>,
    /// Begins with `!`: what matches is kept after all.
    keep: bool,
}

impl Ignore {
    /// Reads the file of a folder; there may be none.
    pub(crate) fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(".dockerignore");
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Self::parse(&text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                Err(CliError::new(format!("{} is not UTF-8 text", path.display())))
            }
            Err(error) => Err(open_error(&path.to_string_lossy(), error)),
        }
    }

    fn parse(text: &str) -> Self {
        let rules = text
            .trim_start_matches('\u{feff}')
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .map(|line| {
                let (keep, pattern) = match line.strip_prefix('!') {
                    Some(rest) => (true, rest.trim()),
                    None => (false, line),
                };
                let parts = pattern.split('/').filter(|part| !part.is_empty() && *part != ".");
                Rule { parts: parts.map(str::to_owned).collect(), keep }
            })
            .filter(|rule| !rule.parts.is_empty())
            .collect();
        Self { rules }
    }

    /// Whether a path below the folder stays out. A folder that stays out takes along what is in it, unless a later
    /// pattern says otherwise.
    pub(crate) fn excludes(&self, path: &Path) -> bool {
        let names: Vec<String> = path.components().map(|c| c.as_os_str().to_string_lossy().into_owned()).collect();
        let mut out = false;
        for rule in &self.rules {
            if out == rule.keep && (1..=names.len()).any(|size| matches(&rule.parts, &names[..size])) {
                out = !rule.keep;
            }
        }
        out
    }
}

fn matches(pattern: &[String], path: &[String]) -> bool {
    match (pattern.split_first(), path.split_first()) {
        (None, None) => true,
        (Some((part, rest)), _) if part == "**" => {
            matches(rest, path) || path.split_first().is_some_and(|(_, tail)| matches(pattern, tail))
        }
        (Some((part, rest)), Some((name, tail))) => {
            let part: Vec<char> = part.chars().collect();
            let name: Vec<char> = name.chars().collect();
            glob(&part, &name) && matches(rest, tail)
        }
        _ => false,
    }
}

fn glob(pattern: &[char], name: &[char]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, None) => true,
        (Some(('*', rest)), _) => glob(rest, name) || name.split_first().is_some_and(|(_, tail)| glob(pattern, tail)),
        (Some(('?', rest)), Some((_, tail))) => glob(rest, tail),
        (Some(('[', rest)), Some((c, tail))) => class(rest, *c).is_some_and(|after| glob(after, tail)),
        (Some(('\\', [literal, rest @ ..])), Some((c, tail))) => literal == c && glob(rest, tail),
        (Some((literal, rest)), Some((c, tail))) => literal == c && glob(rest, tail),
        _ => false,
    }
}

/// What follows a class `[…]` that the character is in.
fn class(pattern: &[char], c: char) -> Option<&[char]> {
    let end = pattern.iter().skip(1).position(|p| *p == ']')? + 1;
    let (mut set, negated) = match pattern.first() {
        Some('^') => (&pattern[1..end], true),
        _ => (&pattern[..end], false),
    };
    let mut found = false;
    while let Some((first, rest)) = set.split_first() {
        set = rest;
        if let ['-', last, tail @ ..] = rest {
            found |= (*first..=*last).contains(&c);
            set = tail;
        } else {
            found |= *first == c;
        }
    }
    (found != negated).then(|| &pattern[end + 1..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excluded(text: &str, path: &str) -> bool {
        Ignore::parse(text).excludes(Path::new(path))
    }

    #[test]
    fn patterns() {
        for (text, path, out) in [
            ("node_modules", "node_modules/a/b", true),
            ("node_modules", "x/node_modules", false),
            ("**/node_modules", "x/y/node_modules/z", true),
            ("*.md\n!README.md", "README.md", false),
            ("*.md\n!README.md", "OTHER.md", true),
            ("*\n!src", "src/main.rs", false),
            ("*\n!src", "target/x", true),
            ("/foo/", "foo", true),
            ("a?c", "abc", true),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("# note\n\n  b ", "b", true),
            ("**", "anything/at/all", true),
        ] {
            assert_eq!(excluded(text, path), out, "{text:?} {path}");
        }
    }

    #[test]
    fn odd_patterns_never_panic() {
        for text in ["[", "[]", "[^", "\\", "!", "**/**/**", "[a-", "[a-]"] {
            excluded(text, "a/b/c");
        }
    }
}
