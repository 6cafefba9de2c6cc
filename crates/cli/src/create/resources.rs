//! Limits and devices: the part of the body that `update` can change later, and what else is counted.

use serde_json::{Map, Value, json};

use super::gpu;
use crate::error::{CliError, Result};
use crate::flags::Parsed;
use crate::values::{parse_bytes, parse_cpus, parse_int};

/// A parsed value or the text of Docker's complaint.
type Checked<T> = std::result::Result<T, String>;

/// Fills in everything from `CpuShares` to `IOMaximumBandwidth`.
pub(crate) fn fill(flags: &Parsed, host: &mut Map<String, Value>) -> Result<()> {
    let mut put = |name: &str, value: Value| {
        host.insert(name.to_owned(), value);
    };
    let int = |name: &str| Value::from(flags.int(name).unwrap_or(0));
    let bytes = |name: &str| Value::from(size(flags.str(name)));
    put("CpuShares", int("cpu-shares"));
    put("Memory", bytes("memory"));
    put("NanoCpus", flags.get("cpus").and_then(|v| parse_cpus(v).ok()).unwrap_or(0).into());
    put("CgroupParent", flags.str("cgroup-parent").into());
    put("BlkioWeight", int("blkio-weight"));
    put("BlkioWeightDevice", each(flags.all("blkio-weight-device"), parse_weight)?);
    put("BlkioDeviceReadBps", each(flags.all("device-read-bps"), parse_bps)?);
    put("BlkioDeviceWriteBps", each(flags.all("device-write-bps"), parse_bps)?);
    put("BlkioDeviceReadIOps", each(flags.all("device-read-iops"), parse_iops)?);
    put("BlkioDeviceWriteIOps", each(flags.all("device-write-iops"), parse_iops)?);
    put("CpuPeriod", int("cpu-period"));
    put("CpuQuota", int("cpu-quota"));
    put("CpuRealtimePeriod", int("cpu-rt-period"));
    put("CpuRealtimeRuntime", int("cpu-rt-runtime"));
    put("CpusetCpus", flags.str("cpuset-cpus").into());
    put("CpusetMems", flags.str("cpuset-mems").into());
    let (devices, requests) = devices(flags)?;
    put("Devices", devices.into());
    let rules = flags.all("device-cgroup-rule");
    put("DeviceCgroupRules", if rules.is_empty() { Value::Null } else { rules.into() });
    put("DeviceRequests", if requests.is_empty() { Value::Null } else { requests.into() });
    put("MemoryReservation", bytes("memory-reservation"));
    put("MemorySwap", bytes("memory-swap"));
    put("MemorySwappiness", flags.int("memory-swappiness").unwrap_or(-1).into());
    put("OomKillDisable", flags.on("oom-kill-disable").into());
    put("PidsLimit", int("pids-limit"));
    put("Ulimits", ulimits(flags.all("ulimit"))?);
    put("CpuCount", int("cpu-count"));
    put("CpuPercent", int("cpu-percent"));
    put("IOMaximumIOps", int("io-maxiops"));
    put("IOMaximumBandwidth", bytes("io-maxbandwidth"));
    Ok(())
}

/// The body of `update`: only limits.
pub(crate) fn update(flags: &Parsed) -> Result<Value> {
    let mut host = Map::new();
    fill(flags, &mut host)?;
    for name in [
        "BlkioWeightDevice",
        "BlkioDeviceReadBps",
        "BlkioDeviceWriteBps",
        "BlkioDeviceReadIOps",
        "BlkioDeviceWriteIOps",
        "Devices",
        "DeviceCgroupRules",
        "DeviceRequests",
        "Ulimits",
    ] {
        host.insert(name.to_owned(), Value::Null);
    }
    host.insert("MemorySwappiness".to_owned(), Value::Null);
    host.insert("OomKillDisable".to_owned(), Value::Null);
    if !flags.given("pids-limit") {
        host.insert("PidsLimit".to_owned(), Value::Null);
    }
    let restart = match flags.get("restart") {
        Some(text) => super::restart_policy(text)?,
        None => json!({"Name": "", "MaximumRetryCount": 0}),
    };
    host.insert("RestartPolicy".to_owned(), restart);
    Ok(Value::Object(host))
}

/// A checked size; `-1` means without a limit.
fn size(text: &str) -> i64 {
    if text == "-1" { -1 } else { parse_bytes(text).unwrap_or(0) }
}

fn each(given: &[String], read: fn(&str) -> Checked<Value>) -> Result<Value> {
    given.iter().map(|text| read(text)).collect::<Checked<Vec<Value>>>().map(Value::from).map_err(CliError::Message)
}

/// `/dev/sda:200`.
pub(crate) fn parse_weight(text: &str) -> Checked<Value> {
    let (path, number) = device(text)?;
    let weight: u16 = number.parse().map_err(|_| format!("invalid weight for device: {text}"))?;
    if weight != 0 && !(10..=1000).contains(&weight) {
        return Err(format!("invalid weight for device: {text}"));
    }
    Ok(json!({"Path": path, "Weight": weight}))
}

/// `/dev/sda:1mb`.
pub(crate) fn parse_bps(text: &str) -> Checked<Value> {
    let (path, number) = device(text)?;
    let rate = parse_bytes(number).map_err(|_| {
        format!(
            "invalid rate for device: {text}. The correct format is <device-path>:<number>[<unit>]. \
                 Number must be a positive integer. Unit is optional and can be kb, mb, or gb"
        )
    })?;
    Ok(json!({"Path": path, "Rate": rate}))
}

/// `/dev/sda:100`.
pub(crate) fn parse_iops(text: &str) -> Checked<Value> {
    let (path, number) = device(text)?;
    let rate: u64 = number.parse().map_err(|_| {
        format!(
            "invalid rate for device: {text}. The correct format is <device-path>:<number>. \
                 Number must be a positive integer"
        )
    })?;
    Ok(json!({"Path": path, "Rate": rate}))
}

fn device(text: &str) -> Checked<(&str, &str)> {
    let (path, number) = text.split_once(':').ok_or_else(|| format!("bad format: {text}"))?;
    if !path.starts_with("/dev/") {
        return Err(format!("bad format for device path: {text}"));
    }
    Ok((path, number))
}

/// `nofile=1024:2048`; one number is both limits.
pub(crate) fn parse_ulimit(text: &str) -> Checked<(String, i64, i64)> {
    const NAMES: &[&str] = &[
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    ];
    let bad = || format!("invalid ulimit argument: {text}");
    let (name, limits) = text.split_once('=').ok_or_else(bad)?;
    if !NAMES.contains(&name) {
        return Err(format!("invalid ulimit type: {name}"));
    }
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let (soft, hard) = (parse_int(soft)?, parse_int(hard)?);
    if hard != -1 && (soft == -1 || soft > hard) {
        return Err(format!("ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"));
    }
    Ok((name.to_owned(), soft, hard))
}

fn ulimits(given: &[String]) -> Result<Value> {
    let mut all = std::collections::BTreeMap::new();
    for text in given {
        let (name, soft, hard) = parse_ulimit(text).map_err(CliError::Message)?;
        all.insert(name.clone(), json!({"Name": name, "Hard": hard, "Soft": soft}));
    }
    Ok(all.into_values().collect::<Vec<_>>().into())
}

/// Devices by path, and the requests for devices by name (`--gpus`, CDI).
fn devices(flags: &Parsed) -> Result<(Vec<Value>, Vec<Value>)> {
    let (mut paths, mut requests) = (Vec::new(), Vec::new());
    for given in flags.all("gpus") {
        requests.push(gpu::parse(given).map_err(CliError::Message)?);
    }
    let mut named = Vec::new();
    for given in flags.all("device") {
        if is_cdi(given) {
            named.push(given.clone());
        } else {
            paths.push(device_path(given)?);
        }
    }
    if !named.is_empty() {
        requests.push(json!({"Driver": "cdi", "Count": 0, "DeviceIDs": named, "Capabilities": null, "Options": null}));
    }
    Ok((paths, requests))
}

/// `vendor.com/class=name`.
fn is_cdi(text: &str) -> bool {
    match text.split_once('=') {
        Some((kind, name)) => !text.starts_with('/') && kind.contains('/') && !name.is_empty(),
        None => false,
    }
}

fn device_path(given: &str) -> Result<Value> {
    let parts: Vec<&str> = given.split(':').collect();
    let is_mode = |text: &str| !text.is_empty() && text.bytes().all(|b| matches!(b, b'r' | b'w' | b'm'));
    let (source, target, mode) = match parts.as_slice() {
        [source] => (*source, *source, "rwm"),
        [source, mode] if is_mode(mode) => (*source, *source, *mode),
        [source, target] => (*source, *target, "rwm"),
        [source, target, mode] if is_mode(mode) => (*source, *target, *mode),
        [_, _, mode] => return Err(CliError::new(format!("bad mode specified: {mode}"))),
        _ => return Err(CliError::new(format!("invalid device specification: {given}"))),
    };
    if source.is_empty() || target.is_empty() {
        return Err(CliError::new(format!("invalid device specification: {given}")));
    }
    Ok(json!({"PathOnHost": source, "PathInContainer": target, "CgroupPermissions": mode}))
}
