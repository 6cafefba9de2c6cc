//! Limits as Droste speaks of them, and the numbers that the kernel's files take for them.

use serde::{Deserialize, Serialize};

use droste_model::container::{DeviceLimit, Resources};

use crate::CgroupError;

/// A block device by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DeviceNumber {
    /// Driver.
    pub major: u32,
    /// Device.
    pub minor: u32,
}

/// A weight or rate for one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceValue {
    /// Which.
    pub device: DeviceNumber,
    /// Weight, bytes a second or operations a second.
    pub value: u64,
}

/// Limits of a cgroup. `None` and empty lists leave what is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes; -1 for no limit.
    pub memory: Option<i64>,
    /// Bytes of memory and swap together; -1 for no limit.
    pub memory_swap: Option<i64>,
    /// Bytes that are reclaimed last.
    pub memory_reservation: Option<i64>,
    /// 0 to 100 (v1).
    pub swappiness: Option<u64>,
    /// Wait instead of killing when memory is short (v1).
    pub oom_kill_disable: Option<bool>,
    /// Kill all processes of the cgroup together when memory is short (v2).
    pub oom_group: Option<bool>,
    /// Relative CPU weight, 2 to 262144.
    pub cpu_shares: Option<u64>,
    /// Microseconds of CPU time in each period; -1 for no limit.
    pub cpu_quota: Option<i64>,
    /// Microseconds.
    pub cpu_period: Option<u64>,
    /// Microseconds of real-time CPU time in each period (v1).
    pub realtime_runtime: Option<i64>,
    /// Microseconds (v1).
    pub realtime_period: Option<u64>,
    /// Which CPUs, `0-2,4`.
    pub cpuset_cpus: Option<String>,
    /// Which memory nodes.
    pub cpuset_mems: Option<String>,
    /// Processes and threads; -1 for no limit.
    pub pids: Option<i64>,
    /// Block I/O weight, 10 to 1000.
    pub blkio_weight: Option<u16>,
    /// Weights by device.
    pub blkio_weight_device: Vec<DeviceValue>,
    /// Bytes read a second.
    pub read_bps: Vec<DeviceValue>,
    /// Bytes written a second.
    pub write_bps: Vec<DeviceValue>,
    /// Reads a second.
    pub read_iops: Vec<DeviceValue>,
    /// Writes a second.
    pub write_iops: Vec<DeviceValue>,
}

/// A CFS period of a tenth of a second, in which `nano_cpus` are counted.
const PERIOD: u64 = 100_000;
/// Tenths of a second have 10⁵ microseconds, CPUs 10⁹ parts.
const NANO_CPUS_IN_QUOTA: i64 = 10_000;

impl Limits {
    /// From what a client asks for, where zero and empty mean nothing asked. `device` finds the number of a device by
    /// its path on the host.
    pub fn from_resources<E>(
        resources: &Resources,
        mut device: impl FnMut(&str) -> Result<DeviceNumber, E>,
    ) -> Result<Limits, E> {
        let mut devices = |list: &[DeviceLimit]| {
            let one = |limit: &DeviceLimit| Ok(DeviceValue { device: device(&limit.path)?, value: limit.value });
            list.iter().map(one).collect::<Result<Vec<_>, E>>()
        };
        let text = |value: &str| (!value.is_empty()).then(|| value.to_owned());
        let (quota, period) = match resources.nano_cpus {
            0 => (given(resources.cpu_quota), positive(resources.cpu_period)),
            cpus => (Some(cpus / NANO_CPUS_IN_QUOTA), Some(PERIOD)),
        };
        Ok(Limits {
            memory: given(resources.memory),
            memory_swap: given(resources.memory_swap),
            memory_reservation: given(resources.memory_reservation),
            swappiness: resources.memory_swappiness.and_then(|value| u64::try_from(value).ok()),
            oom_kill_disable: resources.oom_kill_disable.filter(|on| *on),
            oom_group: None,
            cpu_shares: positive(resources.cpu_shares),
            cpu_quota: quota,
            cpu_period: period,
            realtime_runtime: given(resources.cpu_realtime_runtime),
            realtime_period: positive(resources.cpu_realtime_period),
            cpuset_cpus: text(&resources.cpuset_cpus),
            cpuset_mems: text(&resources.cpuset_mems),
            pids: resources.pids_limit.and_then(given).map(|limit| limit.max(-1)),
            blkio_weight: (resources.blkio_weight > 0).then_some(resources.blkio_weight),
            blkio_weight_device: devices(resources.blkio_weight_device.as_deref().unwrap_or_default())?,
            read_bps: devices(resources.blkio_read_bps.as_deref().unwrap_or_default())?,
            write_bps: devices(resources.blkio_write_bps.as_deref().unwrap_or_default())?,
            read_iops: devices(resources.blkio_read_iops.as_deref().unwrap_or_default())?,
            write_iops: devices(resources.blkio_write_iops.as_deref().unwrap_or_default())?,
        })
    }
}

fn given(value: i64) -> Option<i64> {
    (value != 0).then_some(value)
}

fn positive(value: i64) -> Option<u64> {
    u64::try_from(value).ok().filter(|value| *value > 0)
}

/// v2's `cpu.weight` (1 to 10000) for CPU shares (2 to 262144): a curve through the least, the usual (1024 to 100) and
/// the greatest, as Docker's runtime has it since its 1.3.2.
pub fn cpu_weight(shares: u64) -> u64 {
    if shares <= 2 {
        return 1;
    }
    if shares >= 262_144 {
        return 10_000;
    }
    let log = (shares as f64).log2();
    let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
    10f64.powf(exponent).ceil() as u64
}

/// v2's `io.weight` (1 to 10000) for a block I/O weight (10 to 1000).
pub fn io_weight(weight: u64) -> u64 {
    1 + weight.saturating_sub(10) * 9_999 / 990
}

/// v2's `memory.swap.max`, which does not include memory; -1 for no limit, `None` to leave it.
pub fn swap_max(memory_swap: Option<i64>, memory: Option<i64>) -> Result<Option<i64>, CgroupError> {
    match (memory_swap, memory) {
        (None, Some(-1)) => Ok(Some(-1)),
        (None, _) => Ok(None),
        (Some(-1), _) => Ok(Some(-1)),
        (Some(_), None | Some(..=0)) => {
            Err(CgroupError::Contradiction("unable to set swap limit without memory limit"))
        }
        (Some(swap), Some(memory)) if swap < memory => {
            Err(CgroupError::Contradiction("memory+swap limit should be >= memory limit"))
        }
        (Some(swap), Some(memory)) => Ok(Some(swap - memory)),
    }
}

/// A limit as v2's files have it.
pub fn max_or(value: i64) -> String {
    if value < 0 { "max".to_owned() } else { value.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights() {
        assert_eq!([2, 1024, 262_144].map(cpu_weight), [1, 100, 10_000]);
        assert_eq!([2000, 22_000].map(cpu_weight), [170, 1204]);
        assert_eq!([10, 500, 1000].map(io_weight), [1, 4950, 10_000]);
    }

    #[test]
    fn swap_is_what_remains_over_memory() {
        assert_eq!(swap_max(Some(300), Some(100)).unwrap(), Some(200));
        assert_eq!(swap_max(Some(-1), Some(100)).unwrap(), Some(-1));
        assert_eq!(swap_max(None, Some(100)).unwrap(), None);
        assert_eq!(swap_max(None, Some(-1)).unwrap(), Some(-1));
        assert!(swap_max(Some(50), Some(100)).is_err());
        assert!(swap_max(Some(50), None).is_err());
    }

    #[test]
    fn from_what_a_client_asks() {
        let resources = Resources { nano_cpus: 1_500_000_000, pids_limit: Some(-5), ..Resources::default() };
        let limits = Limits::from_resources::<()>(&resources, |_| Err(())).unwrap();
        assert_eq!((limits.cpu_quota, limits.cpu_period), (Some(150_000), Some(100_000)));
        assert_eq!(limits.pids, Some(-1));
        assert_eq!(Limits { cpu_quota: None, cpu_period: None, pids: None, ..limits }, Limits::default());
    }
}
