//! The machine's side of statistics: CPU time since its start, online CPUs, lists such as `0-2,4`.

use std::path::Path;

use crate::CgroupError;
use crate::file;

/// Nanoseconds in one of the kernel's clock ticks.
pub(crate) fn nanos_per_tick() -> u64 {
    1_000_000_000 / rustix::param::clock_ticks_per_second().max(1)
}

/// What Docker calls `system_cpu_usage`: nanoseconds that all CPUs have spent since the machine started, idle or not.
pub fn cpu_usage() -> Result<u64, CgroupError> {
    let path = Path::new("/proc/stat");
    let text = file::read(path)?;
    cpu_usage_in(&text).ok_or_else(|| CgroupError::Read {
        path: path.to_owned(),
        source: std::io::Error::new(std::io::ErrorKind::InvalidData, "no cpu line"),
    })
}

/// User, nice, system, idle, iowait, irq, softirq: guest time is part of user time, and steal is not counted.
fn cpu_usage_in(stat: &str) -> Option<u64> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Option<u64> = line.split_whitespace().take(7).map(|word| word.parse::<u64>().ok()).sum();
    Some(ticks? * nanos_per_tick())
}

/// How many CPUs are online.
pub fn online_cpus() -> Result<u32, CgroupError> {
    let text = file::read(Path::new("/sys/devices/system/cpu/online"))?;
    Ok(list_size(text.trim()).unwrap_or(1).max(1))
}

/// The machine's memory in bytes.
pub fn memory() -> Result<u64, CgroupError> {
    let text = file::read(Path::new("/proc/meminfo"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    Ok(kib.unwrap_or(0) * 1024)
}

/// How many numbers a list such as `0-2,4` has; `None` if it is not one.
pub fn list_size(list: &str) -> Option<u32> {
    Some(u32::try_from(parse_list(list)?.len()).unwrap_or(u32::MAX))
}

/// The numbers of a list such as `0-2,4`, sorted; `None` if it is not one.
pub fn parse_list(list: &str) -> Option<Vec<u32>> {
    /// More CPUs than any machine has; a client's list must not fill memory.
    const MOST: u32 = 8192;
    let mut numbers = Vec::new();
    for part in list.split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if first > last || last > MOST {
            return None;
        }
        numbers.extend(first..=last);
    }
    numbers.sort_unstable();
    numbers.dedup();
    Some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        assert_eq!(parse_list("0-2,4"), Some(vec![0, 1, 2, 4]));
        assert_eq!(parse_list("3,3,1-1"), Some(vec![1, 3]));
        assert_eq!(parse_list(""), Some(vec![]));
        assert_eq!([parse_list("2-1"), parse_list("a"), parse_list("0-99999999")], [None, None, None]);
    }

    #[test]
    fn seven_columns_count() {
        assert_eq!(cpu_usage_in("cpu  1 2 3 4 5 6 7 8 9 10\ncpu0 1 1\n"), Some(28 * nanos_per_tick()));
        assert_eq!(cpu_usage_in("intr 5\n"), None);
    }
}
