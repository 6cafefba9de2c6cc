//! A request's query: Docker's booleans, numbers and times.

use std::time::Duration;

use droste_model::time::Timestamp;

use crate::error::{RequestError, Result};

/// The parameters of a query, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads the part of a URI after `?`.
    pub fn parse(text: &str) -> Self {
        Self(form_urlencoded::parse(text.as_bytes()).into_owned().collect())
    }

    /// The first value of a parameter; empty if it is absent.
    pub fn get(&self, name: &str) -> &str {
        self.given(name).unwrap_or_default()
    }

    /// The first value of a parameter, if it is there.
    pub fn given(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// All values of a parameter.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A boolean: all is true but the empty text, `0`, `no`, `false` and `none`.
    pub fn flag(&self, name: &str) -> bool {
        is_true(self.get(name))
    }

    /// A boolean that has a value of its own when absent.
    pub fn flag_or(&self, name: &str, default: bool) -> bool {
        self.given(name).map_or(default, is_true)
    }

    /// A whole number, if it is there and not empty; its error is what Go's `strconv.Atoi` says.
    pub fn number(&self, name: &str) -> Result<Option<i64>> {
        match self.get(name) {
            "" => Ok(None),
            text => atoi(text).map(Some),
        }
    }

    /// A moment as seconds with an optional fraction, as logs and events take it.
    pub fn moment(&self, name: &str) -> Result<Option<Timestamp>> {
        match self.get(name) {
            "" => Ok(None),
            text => seconds(text).map(Some),
        }
    }
}

/// Refuses a query that [`Query::parse`] would read otherwise than its author meant it, in Go's words.
pub fn check(text: &str) -> Result<()> {
    for part in text.split('&') {
        if part.contains(';') {
            return Err(RequestError::invalid("invalid semicolon separator in query"));
        }
        if let Some(escape) = broken_escape(part) {
            return Err(RequestError::invalid(format!("invalid URL escape {escape:?}")));
        }
    }
    Ok(())
}

/// The first `%` without two hexadecimal digits after it, with what stands in their place.
fn broken_escape(text: &str) -> Option<&str> {
    text.match_indices('%').map(|(at, _)| &text[at..]).find_map(|rest| {
        let mut digits = rest.chars().skip(1);
        let is_whole = [digits.next(), digits.next()].iter().all(|digit| digit.is_some_and(|c| c.is_ascii_hexdigit()));
        let end = rest.char_indices().nth(3).map_or(rest.len(), |(end, _)| end);
        (!is_whole).then(|| &rest[..end])
    })
}

fn is_true(text: &str) -> bool {
    !["", "0", "no", "false", "none"].iter().any(|word| text.trim().eq_ignore_ascii_case(word))
}

/// Go's `strconv.Atoi` with its error.
pub fn atoi(text: &str) -> Result<i64> {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    text.parse().map_err(|error: std::num::ParseIntError| {
        let reason = match error.kind() {
            PosOverflow | NegOverflow => "value out of range",
            _ => "invalid syntax",
        };
        RequestError::server(format!("strconv.Atoi: parsing {text:?}: {reason}"))
    })
}

/// `SECONDS[.FRACTION]`, or RFC 3339.
fn seconds(text: &str) -> Result<Timestamp> {
    if let Ok(moment) = text.parse() {
        return Ok(moment);
    }
    let invalid = |part: &str| RequestError::server(format!("strconv.ParseInt: parsing {part:?}: invalid syntax"));
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let whole: i64 = whole.parse().map_err(|_| invalid(whole))?;
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return Err(invalid(fraction));
    }
    let digits: String = fraction.chars().chain(std::iter::repeat('0')).take(9).collect();
    let nanos: i64 = digits.parse().map_err(|_| invalid(fraction))?;
    Ok(Timestamp::from_nanos(Timestamp::from_secs(whole).as_nanos().saturating_add(nanos)))
}

/// A moment for `until` of a prune or a list: a duration before `now`, a date, or seconds.
pub fn moment_before(text: &str, now: Timestamp) -> Result<Timestamp> {
    if let Some(ago) = go_duration(text) {
        let nanos = i64::try_from(ago.as_nanos()).unwrap_or(i64::MAX);
        return Ok(Timestamp::from_nanos(now.as_nanos().saturating_sub(nanos)));
    }
    let forms = [text.to_owned(), format!("{text}Z"), format!("{text}:00Z"), format!("{text}T00:00:00Z")];
    if let Some(moment) = forms.iter().find_map(|form| form.parse().ok()) {
        return Ok(moment);
    }
    seconds(text).map_err(|_| RequestError::invalid(format!("failed to parse value as time or duration: {text:?}")))
}

/// A duration in Go's form, `1h30m`, `1.5s`, `300ms`; `None` if it is none or negative.
pub fn go_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut nanos = 0f64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').filter(|at| *at > 0)?;
        let value: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        nanos += value * nanos_of(&rest[..unit])?;
        rest = &rest[unit..];
    }
    (!text.is_empty() && nanos <= i64::MAX as f64).then(|| Duration::from_nanos(nanos as u64))
}

fn nanos_of(unit: &str) -> Option<f64> {
    Some(match unit {
        "ns" => 1.0,
        "us" | "µs" | "μs" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        "m" => 60e9,
        "h" => 3600e9,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn booleans_are_mobys() {
        let query = Query::parse("a=1&b=0&c=False&d=NONE&e=&f=x&g=no&all=true");
        for (name, value) in [
            ("a", true),
            ("b", false),
            ("c", false),
            ("d", false),
            ("e", false),
            ("f", true),
            ("g", false),
            ("z", false),
        ] {
            assert_eq!(query.flag(name), value, "{name}");
        }
        assert!(query.flag_or("z", true) && !query.flag_or("e", true));
    }

    #[test]
    fn what_would_be_misread_is_refused() {
        for good in ["", "a", "a=b&c=%7B%22x%22%7D&&d=+", "a=é", "%25="] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for (bad, text) in [
            ("a=1;b=2", "invalid semicolon separator in query"),
            ("a=1&b=%zz1", "invalid URL escape \"%zz\""),
            ("a=%", "invalid URL escape \"%\""),
            ("%4", "invalid URL escape \"%4\""),
            ("a=%é1", "invalid URL escape \"%é1\""),
        ] {
            assert_eq!(check(bad).unwrap_err().message, text, "{bad}");
        }
    }

    #[test]
    fn numbers_fail_as_gos() {
        let query = Query::parse("t=x&u=-3&v=");
        assert_eq!(query.number("t").unwrap_err().message, "strconv.Atoi: parsing \"x\": invalid syntax");
        assert_eq!((query.number("u"), query.number("v")), (Ok(Some(-3)), Ok(None)));
    }

    #[test]
    fn moments_have_a_fraction() {
        let query = Query::parse("a=1700000000.000000123&b=1700000000&c=x&d=2023-11-14T22:13:20Z&e=0&f=-1&g=1.x");
        assert_eq!(query.moment("a").unwrap().unwrap().as_nanos(), 1_700_000_000_000_000_123);
        assert_eq!(query.moment("b"), query.moment("d"));
        assert_eq!(query.moment("c").unwrap_err().message, "strconv.ParseInt: parsing \"x\": invalid syntax");
        assert_eq!(query.moment("e"), Ok(Some(Timestamp::from_secs(0))));
        assert_eq!(query.moment("f").unwrap().unwrap().as_secs(), -1);
        assert!(query.moment("g").is_err());
    }

    #[test]
    fn until_takes_durations_and_dates() {
        let now = Timestamp::from_secs(1_700_000_000);
        for (text, seconds) in [
            ("24h", 1_700_000_000 - 86_400),
            ("1h30m", 1_700_000_000 - 5_400),
            ("1.5s", 1_700_000_000 - 2),
            ("1600000000", 1_600_000_000),
            ("2023-11-14", 1_699_920_000),
            ("2023-11-14T22:13", 1_699_999_980),
            ("2023-11-14T22:13:20", 1_700_000_000),
        ] {
            assert_eq!(moment_before(text, now).unwrap().as_secs(), seconds, "{text}");
        }
        assert_eq!(moment_before("x", now).unwrap_err().message, "failed to parse value as time or duration: \"x\"");
        for nonsense in ["", "1", "h", "1x", "-1h", "1h x", "999999999999h"] {
            assert_eq!(go_duration(nonsense), None, "{nonsense}");
        }
    }
}
