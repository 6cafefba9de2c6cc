//! Sizes and durations in the words that Docker's client uses.

const DECIMAL: &[&str] = &["B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"];
const BINARY: &[&str] = &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"];

/// A size in units of 1000 with four digits: `2.063MB`.
pub(crate) fn size(bytes: f64) -> String {
    scaled(bytes, 1000.0, DECIMAL, 4)
}

/// A size in units of 1000 with three digits: `2.06MB`.
pub(crate) fn size3(bytes: f64) -> String {
    scaled(bytes, 1000.0, DECIMAL, 3)
}

/// A size in units of 1024 with four digits: `1.968MiB`.
pub(crate) fn binary_size(bytes: f64) -> String {
    scaled(bytes, 1024.0, BINARY, 4)
}

fn scaled(bytes: f64, base: f64, units: &[&str], digits: usize) -> String {
    let mut value = bytes;
    let mut unit = 0;
    while value >= base && unit + 1 < units.len() {
        value /= base;
        unit += 1;
    }
    format!("{}{}", general(value, digits), units[unit])
}

/// Go's `%.Ng`: so many significant digits, without zeros at the end.
pub(crate) fn general(value: f64, digits: usize) -> String {
    if value == 0.0 || !value.is_finite() {
        return if value == 0.0 { "0".to_owned() } else { value.to_string() };
    }
    let scientific = format!("{:.*e}", digits - 1, value);
    let Some((mantissa, exponent)) = scientific.split_once('e') else { return scientific };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if exponent < -4 || exponent >= digits as i32 {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{}e{sign}{:02}", trim(mantissa), exponent.abs());
    }
    let places = (digits as i32 - 1 - exponent).max(0) as usize;
    trim(&format!("{value:.places$}")).to_owned()
}

fn trim(number: &str) -> &str {
    if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.') } else { number }
}

/// How long, roughly: `3 minutes`.
pub(crate) fn duration(seconds: i64) -> String {
    let minutes = seconds / 60;
    let hours = (seconds as f64 / 3600.0 + 0.5) as i64;
    match seconds {
        s if s < 1 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        s if s < 60 => format!("{s} seconds"),
        _ if minutes == 1 => "About a minute".to_owned(),
        _ if minutes < 60 => format!("{minutes} minutes"),
        _ if hours == 1 => "About an hour".to_owned(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        _ if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        _ if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

/// How long ago a moment in Unix seconds was.
pub(crate) fn ago(unix: i64) -> String {
    format!("{} ago", duration(super::time::now() - unix))
}

/// The first characters of an id, without the name of its algorithm.
pub(crate) fn short_id(id: &str) -> &str {
    let id = id.strip_prefix("sha256:").unwrap_or(id);
    id.get(..12).unwrap_or(id)
}

/// A text cut to a width, with `…` where it was.
pub(crate) fn ellipsis(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut out: String = text.chars().take(width.saturating_sub(1)).collect();
    out.push('…');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(size(2_063_422.0), "2.063MB");
        assert_eq!(size3(2_063_422.0), "2.06MB");
        assert_eq!(size(0.0), "0B");
        assert_eq!(size(1000.0), "1kB");
        assert_eq!(size3(999_600.0), "1e+03kB");
        assert_eq!(binary_size(2_063_232.0), "1.968MiB");
        assert_eq!(binary_size(1_073_741_824.0), "1GiB");
        assert_eq!(size3(12_345_678_901.0), "12.3GB");
    }

    #[test]
    fn durations() {
        for (seconds, text) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (120, "2 minutes"),
            (3599, "59 minutes"),
            (3600, "About an hour"),
            (5399, "About an hour"),
            (5400, "2 hours"),
            (86_400 * 2, "2 days"),
            (86_400 * 14, "2 weeks"),
            (86_400 * 60, "2 months"),
            (86_400 * 365 * 2, "2 years"),
        ] {
            assert_eq!(duration(seconds), text, "{seconds}");
        }
    }

    #[test]
    fn cutting() {
        assert_eq!(ellipsis("abcdef", 4), "abc…");
        assert_eq!(ellipsis("abc", 4), "abc");
        assert_eq!(short_id("sha256:0123456789abcdef"), "0123456789ab");
    }
}
