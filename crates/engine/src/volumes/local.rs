//! The options of the `local` driver: `type`, `o`, `device` and `size`, and Docker's words for wrong ones.

use std::collections::BTreeMap;

use crate::error::{Error, Result};

/// Options that need others beside them.
const NEEDS: [(&str, &[&str]); 3] = [("device", &["type"]), ("type", &["device"]), ("o", &["device", "type"])];

/// Refuses options that no volume could be made with.
pub(super) fn check(options: &BTreeMap<String, String>) -> Result<()> {
    if let Some(unknown) = options.keys().find(|key| !matches!(key.as_str(), "type" | "o" | "device" | "size")) {
        return Err(Error::invalid(format!("invalid option: {unknown:?}")));
    }
    if let Some(size) = options.get("size") {
        let bytes = ram_in_bytes(size).ok_or_else(|| Error::invalid(format!("invalid size: '{size}'")))?;
        if bytes > 0 {
            return Err(Error::invalid("quota size requested but no quota support"));
        }
    }
    for (option, needed) in NEEDS.iter().filter(|(option, _)| options.contains_key(*option)) {
        if let Some(missing) = needed.iter().find(|needed| !options.contains_key(**needed)) {
            tracing::debug!(option, "a volume option lacks another");
            return Err(Error::invalid(format!("missing required option: {missing:?}")));
        }
    }
    Ok(())
}

/// Reads `10`, `1.5m`, `2 GiB` as Go's `units.RAMInBytes` does.
fn ram_in_bytes(text: &str) -> Option<u64> {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = text[number.len()..].to_ascii_lowercase();
    let power = match unit.trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return None,
    };
    let number: f64 = number.strip_suffix(' ').unwrap_or(number).parse().ok().filter(|number| *number >= 0.0)?;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "sizes are far below 2^53")]
    Some((number * 1024f64.powi(power)) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Case = (&'static [(&'static str, &'static str)], Option<&'static str>);

    #[test]
    fn errors_are_dockers() {
        let cases: [Case; 10] = [
            (&[], None),
            (&[("type", "tmpfs"), ("device", "tmpfs")], None),
            (&[("type", "none"), ("device", "/x"), ("o", "bind")], None),
            (&[("size", "0")], None),
            (&[("foo", "x")], Some("invalid option: \"foo\"")),
            (&[("type", "tmpfs")], Some("missing required option: \"device\"")),
            (&[("device", "tmpfs")], Some("missing required option: \"type\"")),
            (&[("o", "size=1m")], Some("missing required option: \"device\"")),
            (&[("size", "10m")], Some("quota size requested but no quota support")),
            (&[("size", "zz")], Some("invalid size: 'zz'")),
        ];
        for (options, expected) in cases {
            let options = options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            let message = check(&options).err().map(|error| error.to_string());
            assert_eq!(message.as_deref(), expected, "{options:?}");
        }
    }
}
