//! Resource limits: what is wrong or odd in them whatever the machine.

use droste_model::container::{DeviceLimit, DeviceMapping, DeviceRequest, Resources, Ulimit};

use crate::error::{RequestError, Result};
use crate::wire::{HostConfig, ThrottleDevice};

const LEAST_MEMORY: i64 = 6 << 20;

/// The limits of a `HostConfig`, checked; the warnings are added to `warnings`.
pub(super) fn resources(host: &mut HostConfig, warnings: &mut Vec<String>) -> Result<Resources> {
    check_memory(host)?;
    check_cpu(host)?;
    check_other(host, warnings)?;
    Ok(read(host))
}

fn wrong(when: bool, message: &str) -> Result<()> {
    if when { Err(RequestError::invalid(message)) } else { Ok(()) }
}

fn check_memory(host: &HostConfig) -> Result<()> {
    let (memory, swap, reservation) = (host.memory, host.memory_swap, host.memory_reservation);
    wrong(memory != 0 && memory < LEAST_MEMORY, "Minimum memory limit allowed is 6MB")?;
    wrong(
        memory > 0 && swap > 0 && swap < memory,
        "Minimum memoryswap limit should be larger than memory limit, see usage",
    )?;
    wrong(memory == 0 && swap > 0, "You should always set the Memory limit when using Memoryswap limit, see usage")?;
    if let Some(value) = host.memory_swappiness.filter(|value| !(-1..=100).contains(value)) {
        return Err(RequestError::invalid(format!("Invalid value: {value}, valid memory swappiness range is 0-100")));
    }
    wrong(reservation > 0 && reservation < LEAST_MEMORY, "Minimum memory reservation allowed is 6MB")?;
    wrong(
        memory > 0 && reservation > 0 && memory < reservation,
        "Minimum memory limit can not be less than memory reservation limit, see usage",
    )?;
    Ok(())
}

fn check_cpu(host: &HostConfig) -> Result<()> {
    let HostConfig { nano_cpus, cpu_period, cpu_quota, cpu_shares, .. } = *host;
    wrong(nano_cpus > 0 && cpu_period > 0, "Conflicting options: Nano CPUs and CPU Period cannot both be set")?;
    wrong(nano_cpus > 0 && cpu_quota > 0, "Conflicting options: Nano CPUs and CPU Quota cannot both be set")?;
    if cpu_shares < 0 {
        return Err(RequestError::invalid(format!(
            "invalid CPU shares ({cpu_shares}): value must be a positive integer"
        )));
    }
    wrong(
        cpu_period != 0 && !(1_000..=1_000_000).contains(&cpu_period),
        "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
    )?;
    wrong(cpu_quota > 0 && cpu_quota < 1_000, "CPU cfs quota can not be less than 1ms (i.e. 1000)")?;
    for (what, set) in [("cpus", &host.cpuset_cpus), ("mems", &host.cpuset_mems)] {
        if !is_set(set) {
            return Err(RequestError::invalid(format!("Invalid value {set} for cpuset {what}: invalid format: {set}")));
        }
    }
    Ok(())
}

/// Whether a text is a list of numbers and ranges, `0-2,4`.
fn is_set(text: &str) -> bool {
    let number = |part: &str| part.parse::<u32>().ok();
    text.is_empty()
        || text.split(',').all(|part| match part.split_once('-') {
            Some((first, last)) => number(first).zip(number(last)).is_some_and(|(first, last)| first <= last),
            None => number(part).is_some(),
        })
}

fn check_other(host: &mut HostConfig, warnings: &mut Vec<String>) -> Result<()> {
    wrong(
        host.io_maximum_bandwidth != 0,
        "invalid option: QoS maximum bandwidth configuration is not supported on linux",
    )?;
    wrong(host.io_maximum_iops != 0, "invalid option: QoS maximum IOPs configuration is not supported on linux")?;
    if host.cpu_percent > 0 {
        host.cpu_percent = 0;
        warnings.push("linux does not support CPU percent. Percent discarded.".to_owned());
    }
    Ok(())
}

fn read(host: &mut HostConfig) -> Resources {
    let rates = |list: &mut Option<Vec<ThrottleDevice>>| {
        let limit = |device: ThrottleDevice| DeviceLimit { path: device.path, value: device.rate };
        list.take().map(|devices| devices.into_iter().map(limit).collect())
    };
    let weights = host.blkio_weight_device.take();
    let weight = |device: crate::wire::WeightDevice| DeviceLimit { path: device.path, value: device.weight.into() };
    Resources {
        cpu_shares: host.cpu_shares,
        memory: host.memory,
        nano_cpus: host.nano_cpus,
        cgroup_parent: std::mem::take(&mut host.cgroup_parent),
        blkio_weight: host.blkio_weight,
        blkio_weight_device: weights.map(|weights| weights.into_iter().map(weight).collect()),
        blkio_read_bps: rates(&mut host.blkio_device_read_bps),
        blkio_write_bps: rates(&mut host.blkio_device_write_bps),
        blkio_read_iops: rates(&mut host.blkio_device_read_iops),
        blkio_write_iops: rates(&mut host.blkio_device_write_iops),
        cpu_period: host.cpu_period,
        cpu_quota: host.cpu_quota,
        cpu_realtime_period: host.cpu_realtime_period,
        cpu_realtime_runtime: host.cpu_realtime_runtime,
        cpuset_cpus: std::mem::take(&mut host.cpuset_cpus),
        cpuset_mems: std::mem::take(&mut host.cpuset_mems),
        devices: host.devices.take().map(|devices| devices.into_iter().map(device).collect()),
        device_cgroup_rules: host.device_cgroup_rules.take(),
        device_requests: host.device_requests.take().map(|list| list.into_iter().map(device_request).collect()),
        memory_reservation: host.memory_reservation,
        memory_swap: host.memory_swap,
        memory_swappiness: host.memory_swappiness.filter(|value| *value != -1),
        oom_kill_disable: host.oom_kill_disable,
        pids_limit: host.pids_limit,
        ulimits: host.ulimits.take().map(|list| list.into_iter().map(ulimit).collect()),
    }
}

fn device(wire: crate::wire::DeviceMapping) -> DeviceMapping {
    DeviceMapping {
        on_host: wire.path_on_host,
        in_container: wire.path_in_container,
        permissions: wire.cgroup_permissions,
    }
}

fn device_request(wire: crate::wire::DeviceRequest) -> DeviceRequest {
    DeviceRequest {
        driver: wire.driver,
        count: wire.count,
        device_ids: wire.device_ids,
        capabilities: wire.capabilities,
        options: wire.options,
    }
}

fn ulimit(wire: crate::wire::Ulimit) -> Ulimit {
    Ulimit { name: wire.name, soft: wire.soft, hard: wire.hard }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::decode;

    #[test]
    fn errors_are_dockers() {
        for (json, message) in [
            (r#"{"Memory":1}"#, "Minimum memory limit allowed is 6MB"),
            (r#"{"Memory":-1}"#, "Minimum memory limit allowed is 6MB"),
            (
                r#"{"Memory":10000000,"MemorySwap":5000000}"#,
                "Minimum memoryswap limit should be larger than memory limit, see usage",
            ),
            (
                r#"{"MemorySwap":100000000}"#,
                "You should always set the Memory limit when using Memoryswap limit, see usage",
            ),
            (r#"{"MemorySwappiness":101}"#, "Invalid value: 101, valid memory swappiness range is 0-100"),
            (r#"{"MemoryReservation":1}"#, "Minimum memory reservation allowed is 6MB"),
            (r#"{"NanoCpus":1,"CpuPeriod":1000}"#, "Conflicting options: Nano CPUs and CPU Period cannot both be set"),
            (r#"{"CpuShares":-1}"#, "invalid CPU shares (-1): value must be a positive integer"),
            (r#"{"CpuQuota":1}"#, "CPU cfs quota can not be less than 1ms (i.e. 1000)"),
            (r#"{"CpusetCpus":"x"}"#, "Invalid value x for cpuset cpus: invalid format: x"),
            (r#"{"IOMaximumIOps":1}"#, "invalid option: QoS maximum IOPs configuration is not supported on linux"),
        ] {
            let mut host: HostConfig = decode(json.as_bytes()).unwrap();
            assert_eq!(resources(&mut host, &mut Vec::new()).unwrap_err().message, message, "{json}");
        }
    }

    #[test]
    fn oddities_are_told() {
        let mut host: HostConfig = decode(br#"{"CpuPercent":1,"MemorySwappiness":-1,"CpusetCpus":"0-1,3"}"#).unwrap();
        let mut warnings = Vec::new();
        let resources = resources(&mut host, &mut warnings).unwrap();
        assert_eq!((warnings.len(), resources.memory_swappiness), (1, None));
    }
}
