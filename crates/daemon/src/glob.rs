//! Patterns of image references: Go's `path.Match`.

use droste_model::reference::Reference;

/// A pattern with `*`, `?`, `[a-z]` and `\`, none of which matches a slash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Glob(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Exactly(char),
    AnyOne,
    AnyRun,
    Class { negated: bool, ranges: Vec<(char, char)> },
}

/// A pattern that has no end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadPattern;

impl Glob {
    pub(crate) fn parse(text: &str) -> Result<Self, BadPattern> {
        let mut parts = Vec::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            parts.push(match c {
                '*' => Part::AnyRun,
                '?' => Part::AnyOne,
                '\\' => Part::Exactly(chars.next().ok_or(BadPattern)?),
                '[' => class(&mut chars)?,
                c => Part::Exactly(c),
            });
        }
        Ok(Self(parts))
    }

    /// Whether the pattern fits a name with its tag or digest, or the name alone, familiar or complete.
    pub(crate) fn fits_reference(&self, familiar: &str) -> bool {
        let Ok(reference) = familiar.parse::<Reference>() else { return false };
        [reference.familiar(), reference.familiar_name(), reference.to_string(), reference.name()]
            .iter()
            .any(|text| self.fits(text))
    }

    fn fits(&self, text: &str) -> bool {
        let text: Vec<char> = text.chars().collect();
        // With only one place to go back to, the time is bounded by the product of both lengths.
        let (mut at, mut part, mut back) = (0, 0, None);
        loop {
            match self.0.get(part) {
                Some(Part::AnyRun) => {
                    back = Some((at, part));
                    part += 1;
                    continue;
                }
                Some(other) if at < text.len() && other.fits_one(text[at]) => {
                    at += 1;
                    part += 1;
                    continue;
                }
                None if at == text.len() => return true,
                _ => {}
            }
            match back {
                Some((from, run)) if from < text.len() && text[from] != '/' => {
                    back = Some((from + 1, run));
                    at = from + 1;
                    part = run + 1;
                }
                _ => return false,
            }
        }
    }
}

impl Part {
    fn fits_one(&self, c: char) -> bool {
        match self {
            Part::Exactly(wanted) => *wanted == c,
            Part::AnyOne => c != '/',
            Part::AnyRun => false,
            Part::Class { negated, ranges } => {
                c != '/' && ranges.iter().any(|(first, last)| (*first..=*last).contains(&c)) != *negated
            }
        }
    }
}

fn class(chars: &mut std::str::Chars<'_>) -> Result<Part, BadPattern> {
    let negated = chars.as_str().starts_with('^');
    if negated {
        chars.next();
    }
    let mut ranges = Vec::new();
    loop {
        let first = match chars.next().ok_or(BadPattern)? {
            ']' if ranges.is_empty() => return Err(BadPattern),
            ']' => return Ok(Part::Class { negated, ranges }),
            '\\' => chars.next().ok_or(BadPattern)?,
            c => c,
        };
        let last = if chars.as_str().starts_with('-') {
            chars.next();
            match chars.next().ok_or(BadPattern)? {
                ']' => return Err(BadPattern),
                '\\' => chars.next().ok_or(BadPattern)?,
                c => c,
            }
        } else {
            first
        };
        ranges.push((first, last));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_as_gos() {
        for (pattern, name, fits) in [
            ("busybox", "busybox:latest", true),
            ("busy*", "busybox:latest", true),
            ("busybox:*", "busybox:1", true),
            ("*:latest", "busybox:1", false),
            ("docker.io/library/busybox", "busybox:1", true),
            ("*", "a/b:1", false),
            ("a/*", "a/b:1", true),
            ("a/?", "a/b:1", true),
            ("a/[a-c]", "a/b:1", true),
            ("a/[^a-c]", "a/b:1", false),
            ("*/*/*", "h.example/a/b:1", true),
        ] {
            assert_eq!(Glob::parse(pattern).unwrap().fits_reference(name), fits, "{pattern} {name}");
        }
        for bad in ["[", "[]", "[a", "[a-", "a\\"] {
            assert_eq!(Glob::parse(bad), Err(BadPattern), "{bad}");
        }
    }

    #[test]
    fn a_long_pattern_takes_no_long_time() {
        let glob = Glob::parse(&"*a".repeat(100)).unwrap();
        assert!(!glob.fits(&format!("{}b", "a".repeat(5_000))));
    }
}
