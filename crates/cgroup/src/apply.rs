//! Writing limits into the kernel's files.
//!
//! Order matters: `memsw` may never be below `memory`, a quota is checked against the period that holds. A file that
//! is missing is an error that names it; whoever wants a warning instead asks [`crate::Support`] first.

use std::path::Path;

use rustix::io::Errno;

use crate::file::{number, number_if_there, read_if_there, write};
use crate::group::Home;
use crate::limits::{DeviceValue, cpu_weight, io_weight, max_or, swap_max};
use crate::{Cgroup, CgroupError, Limits};

type Done = Result<(), CgroupError>;

pub(crate) fn apply(group: &Cgroup, limits: &Limits) -> Done {
    memory(group, limits)?;
    cpu(group, limits)?;
    cpuset(group, limits)?;
    pids(group, limits)?;
    block_io(group, limits)
}

fn need(
    group: &Cgroup,
    controller: &'static str,
    what: &'static str,
    wanted: bool,
) -> Result<Option<Home>, CgroupError> {
    match (group.home(controller), wanted) {
        (_, false) => Ok(None),
        (Some(home), true) => Ok(Some(home)),
        (None, true) => Err(CgroupError::NoController { controller, what }),
    }
}

fn memory(group: &Cgroup, limits: &Limits) -> Done {
    let wanted = limits.memory.is_some()
        || limits.memory_swap.is_some()
        || limits.memory_reservation.is_some()
        || limits.swappiness.is_some()
        || limits.oom_kill_disable.is_some()
        || limits.oom_group.is_some();
    match need(group, "memory", "memory can't be limited", wanted)? {
        None => Ok(()),
        Some(Home::Legacy(dir)) => memory_v1(&dir, limits),
        Some(Home::Unified(dir)) => memory_v2(&dir, limits),
    }
}

fn memory_v1(dir: &Path, limits: &Limits) -> Done {
    // Without a memory limit swap is not limited either.
    let swap = limits.memory_swap.or((limits.memory == Some(-1)).then_some(-1));
    let swap = swap.filter(|_| limits.memory_swap.is_some() || dir.join("memory.memsw.limit_in_bytes").exists());
    let set_memory = || limits.memory.map_or(Ok(()), |limit| memory_limit_v1(dir, limit));
    let set_swap = || swap.map_or(Ok(()), |limit| write(&dir.join("memory.memsw.limit_in_bytes"), &limit.to_string()));
    match (limits.memory, swap) {
        (Some(_), Some(swap)) => {
            let now = number(&dir.join("memory.memsw.limit_in_bytes"))?;
            let rises = swap == -1 || u64::try_from(swap).is_ok_and(|swap| swap > now);
            if rises { set_swap().and_then(|()| set_memory()) } else { set_memory().and_then(|()| set_swap()) }?;
        }
        _ => set_memory().and_then(|()| set_swap())?,
    }
    let files = [
        ("memory.soft_limit_in_bytes", limits.memory_reservation.map(|bytes| bytes.to_string())),
        ("memory.swappiness", limits.swappiness.map(|value| value.to_string())),
        ("memory.oom_control", limits.oom_kill_disable.map(|off| u8::from(off).to_string())),
    ];
    write_given(dir, &files)
}

fn memory_limit_v1(dir: &Path, limit: i64) -> Done {
    match write(&dir.join("memory.limit_in_bytes"), &limit.to_string()) {
        Err(CgroupError::Write { source, .. }) if crate::file::is(&source, Errno::BUSY) => {
            let usage = number(&dir.join("memory.usage_in_bytes"))?;
            let peak = number(&dir.join("memory.max_usage_in_bytes"))?;
            Err(CgroupError::MemoryInUse { limit, usage, peak })
        }
        other => other,
    }
}

fn memory_v2(dir: &Path, limits: &Limits) -> Done {
    let swap = swap_max(limits.memory_swap, limits.memory)?;
    let swap_file = dir.join("memory.swap.max");
    // A machine without swap accounting has no such file, and no limit is what holds there anyway.
    let swap = swap.filter(|swap| *swap != -1 || swap_file.exists());
    let files = [
        ("memory.swap.max", swap.map(max_or)),
        ("memory.max", limits.memory.map(max_or)),
        ("memory.low", limits.memory_reservation.map(max_or)),
        ("memory.oom.group", limits.oom_group.map(|on| u8::from(on).to_string())),
    ];
    write_given(dir, &files)
}

fn cpu(group: &Cgroup, limits: &Limits) -> Done {
    let wanted = limits.cpu_shares.is_some()
        || limits.cpu_quota.is_some()
        || limits.cpu_period.is_some()
        || limits.realtime_runtime.is_some()
        || limits.realtime_period.is_some();
    match need(group, "cpu", "CPU time can't be limited", wanted)? {
        None => Ok(()),
        Some(Home::Legacy(dir)) => cpu_v1(group, &dir, limits),
        Some(Home::Unified(dir)) => cpu_v2(&dir, limits),
    }
}

fn cpu_v1(group: &Cgroup, dir: &Path, limits: &Limits) -> Done {
    write_given(dir, &[("cpu.shares", limits.cpu_shares.map(|shares| shares.to_string()))])?;
    let period = || write_given(dir, &[("cpu.cfs_period_us", limits.cpu_period.map(|micros| micros.to_string()))]);
    let quota = || limits.cpu_quota.map_or(Ok(()), |micros| cpu_quota_v1(group, dir, micros.max(-1)));
    // The kernel checks each of the two against the other one that holds; if the new period does not go with the old
    // quota, it goes once the new quota is in place.
    match period() {
        Err(error) if limits.cpu_quota.is_some() && is_invalid(&error) => quota().and_then(|()| period())?,
        other => other.and_then(|()| quota())?,
    }
    let realtime = [
        ("cpu.rt_period_us", limits.realtime_period.map(|micros| micros.to_string())),
        ("cpu.rt_runtime_us", limits.realtime_runtime.map(|micros| micros.to_string())),
    ];
    write_given(dir, &realtime)
}

/// Where v2 takes a quota above that of a cgroup above, which then holds, v1 refuses it. So the one above is written.
fn cpu_quota_v1(group: &Cgroup, dir: &Path, micros: i64) -> Done {
    let file = dir.join("cpu.cfs_quota_us");
    let refused = match write(&file, &micros.to_string()) {
        Err(error) if is_invalid(&error) => error,
        other => return other,
    };
    let above = group.path().parent().and_then(|path| group.at(&path).effective().cpu_quota);
    let period = number(&dir.join("cpu.cfs_period_us"))?;
    match above.map(|cpus| (cpus * period as f64) as i64) {
        Some(most) if micros > most => write(&file, &most.to_string()),
        _ => Err(refused),
    }
}

fn is_invalid(error: &CgroupError) -> bool {
    matches!(error, CgroupError::Write { source, .. } if crate::file::is(source, Errno::INVAL))
}

fn cpu_v2(dir: &Path, limits: &Limits) -> Done {
    write_given(dir, &[("cpu.weight", limits.cpu_shares.map(|shares| cpu_weight(shares).to_string()))])?;
    let most = match (limits.cpu_quota, limits.cpu_period) {
        (None, None) => None,
        (Some(quota), period) => {
            let quota = if quota <= 0 { "max".to_owned() } else { quota.to_string() };
            Some(period.map_or(quota.clone(), |period| format!("{quota} {period}")))
        }
        (None, Some(period)) => {
            let now = crate::file::read(&dir.join("cpu.max"))?;
            Some(format!("{} {period}", now.split_whitespace().next().unwrap_or("max")))
        }
    };
    write_given(dir, &[("cpu.max", most)])
}

fn cpuset(group: &Cgroup, limits: &Limits) -> Done {
    let wanted = limits.cpuset_cpus.is_some() || limits.cpuset_mems.is_some();
    match need(group, "cpuset", "CPUs can't be chosen", wanted)? {
        None => Ok(()),
        Some(Home::Legacy(dir) | Home::Unified(dir)) => write_given(
            &dir,
            &[("cpuset.cpus", limits.cpuset_cpus.clone()), ("cpuset.mems", limits.cpuset_mems.clone())],
        ),
    }
}

fn pids(group: &Cgroup, limits: &Limits) -> Done {
    match need(group, "pids", "processes can't be limited", limits.pids.is_some())? {
        None => Ok(()),
        Some(Home::Legacy(dir) | Home::Unified(dir)) => write_given(&dir, &[("pids.max", limits.pids.map(max_or))]),
    }
}

fn block_io(group: &Cgroup, limits: &Limits) -> Done {
    let lists = [&limits.read_bps, &limits.write_bps, &limits.read_iops, &limits.write_iops];
    let wanted = limits.blkio_weight.is_some()
        || !limits.blkio_weight_device.is_empty()
        || lists.iter().any(|list| !list.is_empty());
    let v1 = group.home("blkio");
    let home = if v1.is_some() { v1 } else { group.home("io") };
    match (home, wanted) {
        (_, false) => Ok(()),
        (None, true) => Err(CgroupError::NoController { controller: "io", what: "block I/O can't be limited" }),
        (Some(Home::Legacy(dir)), true) => block_io_v1(&dir, limits),
        (Some(Home::Unified(dir)), true) => block_io_v2(&dir, limits),
    }
}

/// The scheduler that weighs is CFQ on old kernels and BFQ since; each has files of its own.
fn block_io_v1(dir: &Path, limits: &Limits) -> Done {
    let bfq = dir.join("blkio.bfq.weight").exists();
    let weight = if bfq { "blkio.bfq.weight" } else { "blkio.weight" };
    let by_device = if bfq { "blkio.bfq.weight_device" } else { "blkio.weight_device" };
    write_given(dir, &[(weight, limits.blkio_weight.map(|weight| weight.to_string()))])?;
    let lists = [
        (by_device, &limits.blkio_weight_device),
        ("blkio.throttle.read_bps_device", &limits.read_bps),
        ("blkio.throttle.write_bps_device", &limits.write_bps),
        ("blkio.throttle.read_iops_device", &limits.read_iops),
        ("blkio.throttle.write_iops_device", &limits.write_iops),
    ];
    for (name, list) in lists {
        for one in list {
            write(&dir.join(name), &device_line(one, "", one.value))?;
        }
    }
    Ok(())
}

fn block_io_v2(dir: &Path, limits: &Limits) -> Done {
    let bfq = dir.join("io.bfq.weight").exists();
    let (name, scale) = match bfq {
        true => ("io.bfq.weight", (|weight| weight) as fn(u64) -> u64),
        false => ("io.weight", io_weight as fn(u64) -> u64),
    };
    write_given(dir, &[(name, limits.blkio_weight.map(|weight| scale(u64::from(weight)).to_string()))])?;
    for one in &limits.blkio_weight_device {
        write(&dir.join(name), &device_line(one, "", scale(one.value)))?;
    }
    let lists = [
        ("rbps=", &limits.read_bps),
        ("wbps=", &limits.write_bps),
        ("riops=", &limits.read_iops),
        ("wiops=", &limits.write_iops),
    ];
    for (key, list) in lists {
        for one in list {
            write(&dir.join("io.max"), &device_line(one, key, one.value))?;
        }
    }
    Ok(())
}

fn device_line(one: &DeviceValue, key: &str, value: u64) -> String {
    format!("{}:{} {key}{value}", one.device.major, one.device.minor)
}

fn write_given(dir: &Path, files: &[(&str, Option<String>)]) -> Done {
    files.iter().try_for_each(|(name, value)| match value {
        Some(value) => write(&dir.join(name), value),
        None => Ok(()),
    })
}

impl Cgroup {
    /// Copies the limits that programs read (memory, CPU, CPUs, processes) from the cgroup above, so that a process
    /// which sees this one as its root sees them too.
    pub fn mirror_limits_of(&self, above: &Cgroup) -> Done {
        let files: [(&str, &[&str]); 4] = [
            (
                "memory",
                &[
                    "memory.max",
                    "memory.high",
                    "memory.swap.max",
                    "memory.limit_in_bytes",
                    "memory.memsw.limit_in_bytes",
                ],
            ),
            ("cpu", &["cpu.max", "cpu.cfs_period_us", "cpu.cfs_quota_us"]),
            ("cpuset", &["cpuset.cpus", "cpuset.mems"]),
            ("pids", &["pids.max"]),
        ];
        for (controller, names) in files {
            let (Some(from), Some(to)) = (above.home(controller), self.home(controller)) else { continue };
            for name in names {
                mirror(&from.join(name), &to.join(name))?;
            }
        }
        Ok(())
    }
}

fn mirror(from: &Path, to: &Path) -> Done {
    let (Some(value), Some(now)) = (read_if_there(from)?, read_if_there(to)?) else { return Ok(()) };
    // v1 shows "no limit" as a number so large that it can't be written back.
    let unlimited = number_if_there(from).is_some_and(|number| number >= i64::MAX as u64 - 4095 && number != u64::MAX);
    if value == now || value.trim().is_empty() || unlimited {
        return Ok(());
    }
    write(to, value.trim())
}

impl Home {
    fn join(&self, name: &str) -> std::path::PathBuf {
        match self {
            Home::Legacy(dir) | Home::Unified(dir) => dir.join(name),
        }
    }
}
