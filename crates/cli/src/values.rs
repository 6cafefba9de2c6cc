//! The small languages of flag values: sizes, durations, numbers, CSV; each with the message Docker's client gives.

/// Checks a value against the kind named in a flag table.
pub(crate) fn check(kind: &str, value: &str) -> Result<(), String> {
    match kind {
        "bool" => {
            parse_bool(value).map(drop).ok_or_else(|| format!("strconv.ParseBool: parsing {value:?}: invalid syntax"))
        }
        "int" => parse_int(value).map(drop),
        "uint" | "uint16" | "uint32" | "uint64" => parse_uint(value, kind).map(drop),
        "bytes" => parse_bytes(value).map(drop),
        "bytes-or-unlimited" if value == "-1" => Ok(()),
        "bytes-or-unlimited" => parse_bytes(value).map(drop),
        "duration" => parse_duration(value).map(drop),
        "decimal" => parse_cpus(value).map(drop),
        "filter" if value.contains('=') || value.is_empty() => Ok(()),
        "filter" => Err("bad format of filter (expected name=value)".to_owned()),
        "attach" => check_attach(value),
        "ip" => check_ip(value),
        "host" => check_extra_host(value),
        "sysctl" if value.contains('=') => Ok(()),
        "sysctl" => Err(format!("sysctl '{value}' is not allowed")),
        "env" if value.is_empty() || value.starts_with('=') => Err(format!("invalid environment variable: {value}")),
        "label" if value.starts_with('=') => Err(format!("invalid label '{value}': empty name")),
        "link" => check_link(value),
        "tag" => value.parse::<droste_model::reference::Reference>().map(drop).map_err(|e| e.to_string()),
        "ulimit" => crate::create::resources::parse_ulimit(value).map(drop),
        "mount" => crate::create::mount::parse(value).map(drop),
        "network" => crate::create::network::parse(value).map(drop),
        "gpu-request" => crate::create::gpu::parse(value).map(drop),
        "weight-device" => crate::create::resources::parse_weight(value).map(drop),
        "bps-device" => crate::create::resources::parse_bps(value).map(drop),
        "iops-device" => crate::create::resources::parse_iops(value).map(drop),
        _ => Ok(()),
    }
}

/// A boolean as Go reads one.
pub(crate) fn parse_bool(value: &str) -> Option<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// A signed number, in any base that Go's prefix names.
pub(crate) fn parse_int(value: &str) -> Result<i64, String> {
    let (negative, digits) = match value.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, value.strip_prefix('+').unwrap_or(value)),
    };
    if digits.len() > 18 && digits.bytes().all(|b| b.is_ascii_digit()) && digits.parse::<u64>().is_err() {
        return Err(format!("strconv.ParseInt: parsing {value:?}: value out of range"));
    }
    let magnitude = radix(digits).ok_or_else(|| format!("strconv.ParseInt: parsing {value:?}: invalid syntax"))?;
    let signed = if negative { -i128::from(magnitude) } else { i128::from(magnitude) };
    i64::try_from(signed).map_err(|_| format!("strconv.ParseInt: parsing {value:?}: value out of range"))
}

fn parse_uint(value: &str, kind: &str) -> Result<u64, String> {
    let number = radix(value).ok_or_else(|| format!("strconv.ParseUint: parsing {value:?}: invalid syntax"))?;
    let most = match kind {
        "uint16" => u64::from(u16::MAX),
        "uint32" => u64::from(u32::MAX),
        _ => u64::MAX,
    };
    if number > most {
        return Err(format!("strconv.ParseUint: parsing {value:?}: value out of range"));
    }
    Ok(number)
}

fn radix(digits: &str) -> Option<u64> {
    let (digits, base) = match digits.get(..2) {
        Some("0x" | "0X") => (&digits[2..], 16),
        Some("0b" | "0B") => (&digits[2..], 2),
        Some("0o" | "0O") => (&digits[2..], 8),
        _ if digits.len() > 1 && digits.starts_with('0') => (&digits[1..], 8),
        _ => (digits, 10),
    };
    if digits.starts_with(['+', '-']) {
        return None;
    }
    u64::from_str_radix(digits, base).ok()
}

/// A size in bytes: `64m`, `1.5g`, `1GiB`, with units of 1024.
pub(crate) fn parse_bytes(value: &str) -> Result<i64, String> {
    let bad = || format!("invalid size: '{value}'");
    let split = value.rfind(|c: char| c.is_ascii_digit() || c == '.').ok_or_else(bad)? + 1;
    let (number, suffix) = value.split_at(split);
    let number: f64 = number.trim_end().parse().map_err(|_| bad())?;
    if number < 0.0 {
        return Err(bad());
    }
    let suffix = suffix.trim_start().to_lowercase();
    let power = match suffix.as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        "p" | "pb" | "pib" => 5,
        _ => return Err(format!("invalid suffix: '{suffix}'")),
    };
    Ok((number * 1024f64.powi(power)) as i64)
}

/// A duration as Go writes one (`1m30s`, `500ms`, `1.5h`), in nanoseconds.
pub(crate) fn parse_duration(value: &str) -> Result<i64, String> {
    let bad = || format!("time: invalid duration {value:?}");
    let (sign, mut rest) = match value.as_bytes().first() {
        Some(b'-') => (-1.0, &value[1..]),
        Some(b'+') => (1.0, &value[1..]),
        _ => (1.0, value),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(bad());
    }
    let mut total = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number: f64 = rest[..end].parse().map_err(|_| bad())?;
        rest = &rest[end..];
        if rest.is_empty() {
            return Err(format!("time: missing unit in duration {value:?}"));
        }
        let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        total += number
            * unit(&rest[..end])
                .ok_or_else(|| format!("time: unknown unit {:?} in duration {value:?}", &rest[..end]))?;
        rest = &rest[end..];
    }
    Ok((sign * total) as i64)
}

fn unit(name: &str) -> Option<f64> {
    Some(match name {
        "ns" => 1.0,
        "us" | "µs" | "μs" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        "m" => 60e9,
        "h" => 3600e9,
        _ => return None,
    })
}

/// A number of CPUs, in billionths of one.
pub(crate) fn parse_cpus(value: &str) -> Result<i64, String> {
    let bad = || format!("failed to parse {value} as a rational number");
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    if whole.is_empty() && fraction.is_empty() || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad());
    }
    if fraction.trim_end_matches('0').len() > 9 {
        return Err("value is too precise".to_owned());
    }
    let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| bad())? };
    let padded = format!("{:0<9.9}", fraction);
    let nanos: i64 = padded.parse().map_err(|_| bad())?;
    whole.checked_mul(1_000_000_000).and_then(|n| n.checked_add(nanos)).ok_or_else(bad)
}

/// Splits one line of comma-separated values; a field may stand in double quotes.
pub(crate) fn csv(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        let Some(field) = fields.last_mut() else { break };
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            '"' if quoted => quoted = false,
            '"' if field.is_empty() => quoted = true,
            ',' if !quoted => fields.push(String::new()),
            other => field.push(other),
        }
    }
    fields
}

fn check_attach(value: &str) -> Result<(), String> {
    match value.to_lowercase().as_str() {
        "stdin" | "stdout" | "stderr" => Ok(()),
        _ => Err("valid streams are STDIN, STDOUT and STDERR".to_owned()),
    }
}

fn check_ip(value: &str) -> Result<(), String> {
    match value.trim().parse::<std::net::IpAddr>() {
        Ok(_) => Ok(()),
        Err(_) => Err(format!("IP address is not correctly formatted: {value}")),
    }
}

/// Splits `name:address` or `name=address`.
pub(crate) fn extra_host(value: &str) -> Option<(&str, &str)> {
    let (name, address) = match value.split_once('=') {
        Some(pair) => pair,
        None => value.split_once(':')?,
    };
    let address = address.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(address);
    (!name.is_empty() && !address.is_empty()).then_some((name, address))
}

fn check_extra_host(value: &str) -> Result<(), String> {
    let Some((_, address)) = extra_host(value) else {
        return Err(format!("bad format for add-host: {value:?}"));
    };
    if address != "host-gateway" && address.parse::<std::net::IpAddr>().is_err() {
        return Err(format!("invalid IP address in add-host: {address:?}"));
    }
    Ok(())
}

fn check_link(value: &str) -> Result<(), String> {
    match value.split(':').count() {
        _ if value.is_empty() => Err("empty string specified for links".to_owned()),
        1 | 2 => Ok(()),
        _ => Err(format!("bad format for links: {value}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in
            [("64m", 67_108_864), ("1g", 1 << 30), ("8b", 8), ("1.5k", 1536), ("10", 10), ("1 KiB", 1024)]
        {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        assert_eq!(parse_bytes("foo"), Err("invalid size: 'foo'".to_owned()));
        assert_eq!(parse_bytes("-5m"), Err("invalid size: '-5m'".to_owned()));
    }

    #[test]
    fn durations() {
        for (text, nanos) in [("1m30s", 90_000_000_000), ("500ms", 500_000_000), ("1.5h", 5_400_000_000_000), ("0", 0)]
        {
            assert_eq!(parse_duration(text), Ok(nanos), "{text}");
        }
        assert_eq!(parse_duration("x"), Err("time: invalid duration \"x\"".to_owned()));
        assert_eq!(parse_duration("1"), Err("time: missing unit in duration \"1\"".to_owned()));
    }

    #[test]
    fn numbers() {
        assert_eq!(parse_cpus("1.5"), Ok(1_500_000_000));
        assert_eq!(parse_cpus(".25"), Ok(250_000_000));
        assert!(parse_cpus("x").is_err());
        assert_eq!(parse_int("-1"), Ok(-1));
        assert!(parse_int("x").is_err());
        assert!(parse_int("--1").is_err());
    }

    #[test]
    fn comma_separated() {
        assert_eq!(csv("a,\"b,c\",d"), ["a", "b,c", "d"]);
        assert_eq!(csv("\"device=0,2\",driver=foo"), ["device=0,2", "driver=foo"]);
        assert_eq!(csv(""), [""]);
    }

    #[test]
    fn odd_input_never_panics() {
        let kinds = [
            "bool",
            "int",
            "uint16",
            "bytes",
            "duration",
            "decimal",
            "host",
            "ulimit",
            "mount",
            "network",
            "gpu-request",
            "weight-device",
            "bps-device",
            "iops-device",
            "link",
            "ip",
        ];
        for value in
            ["", ":", "=", ",", "é", "1é", "é1", "-", "+", "..", "1.é", "::", "a:", ":a", "\"", "name=é", "1.1.1"]
        {
            for kind in kinds {
                let _ = check(kind, value);
            }
        }
    }
}
