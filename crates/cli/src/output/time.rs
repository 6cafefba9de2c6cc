//! Moments: now, RFC 3339 in and out, the local time that tables show, and what `--since` may say.

use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::error::{CliError, Result};
use crate::values::parse_duration;

/// Unix seconds.
pub(crate) fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(i64::MAX))
}

/// Unix seconds of an RFC 3339 text; `None` for Go's zero time and for what is no time.
pub(crate) fn unix(text: &str) -> Option<i64> {
    let stamp: Timestamp = text.parse().ok()?;
    (stamp.as_second() > -62_135_596_800).then(|| stamp.as_second())
}

fn local(stamp: Timestamp) -> jiff::ZonedDateTime {
    stamp.to_zoned_datetime(TimeZone::system())
}

/// `2006-01-02 15:04:05 -0700 MST` in local time.
pub(crate) fn long(unix: i64) -> String {
    Timestamp::from_second(unix)
        .map(|stamp| local(stamp).strftime("%Y-%m-%d %H:%M:%S %z %Z").to_string())
        .unwrap_or_default()
}

/// RFC 3339 in local time, to the second.
pub(crate) fn rfc3339(unix: i64) -> String {
    let Ok(stamp) = Timestamp::from_second(unix) else { return String::new() };
    let zoned = local(stamp);
    if zoned.offset().is_zero() {
        return zoned.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    }
    zoned.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
}

/// RFC 3339 in local time with nine digits of the second.
pub(crate) fn rfc3339_nanos(nanos: i64) -> String {
    let Ok(stamp) = Timestamp::from_nanosecond(i128::from(nanos)) else { return String::new() };
    let zoned = local(stamp);
    if zoned.offset().is_zero() {
        return zoned.strftime("%Y-%m-%dT%H:%M:%S.%9fZ").to_string();
    }
    zoned.strftime("%Y-%m-%dT%H:%M:%S.%9f%:z").to_string()
}

/// `Mon Jan 2 15:04:05 2006` in local time, from RFC 3339.
pub(crate) fn built(text: &str) -> String {
    let Ok(stamp) = text.parse::<Timestamp>() else { return text.to_owned() };
    local(stamp).strftime("%a %b %e %H:%M:%S %Y").to_string()
}

/// What `--since` and `--until` take: a duration back from now, a date with or without a zone, or Unix seconds.
pub(crate) fn moment(text: &str) -> Result<String> {
    if let Ok(back) = parse_duration(text) {
        let now = Timestamp::now().as_nanosecond();
        let then = now - i128::from(back);
        return Ok(format!("{}.{:09}", then.div_euclid(1_000_000_000), then.rem_euclid(1_000_000_000)));
    }
    if text.split('.').all(|part| part.bytes().all(|b| b.is_ascii_digit())) && !text.contains('-') {
        return Ok(text.to_owned());
    }
    let stamp =
        dated(text).ok_or_else(|| CliError::new(format!("failed to parse value as time or duration: {text:?}")))?;
    let nanos = stamp.as_nanosecond();
    Ok(format!("{}.{:09}", nanos.div_euclid(1_000_000_000), nanos.rem_euclid(1_000_000_000)))
}

fn dated(text: &str) -> Option<Timestamp> {
    if let Ok(stamp) = text.parse::<Timestamp>() {
        return Some(stamp);
    }
    let full = match text.len() {
        10 => format!("{text}T00:00:00"),
        13 => format!("{text}:00:00"),
        16 => format!("{text}:00"),
        _ => text.to_owned(),
    };
    let (full, zone) = match full.strip_suffix('Z') {
        Some(plain) => (plain.to_owned(), TimeZone::UTC),
        None => (full, TimeZone::system()),
    };
    let civil: DateTime = full.parse().ok()?;
    civil.to_zoned_datetime(zone).ok().map(|zoned| zoned.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments() {
        assert_eq!(moment("1700000000").unwrap(), "1700000000");
        assert_eq!(moment("2013-01-02T13:23:37Z").unwrap(), "1357133017.000000000");
        assert_eq!(moment("2013-01-02T13:23Z").ok(), moment("2013-01-02T13:23:00Z").ok());
        assert!(moment("1h").unwrap().contains('.'));
        assert!(moment("yesterday").is_err());
        assert_eq!(unix("0001-01-01T00:00:00Z"), None);
        assert_eq!(unix("1970-01-01T00:00:01.5Z"), Some(1));
    }
}
