//! Statistics of a cgroup, in the terms of Docker's `stats`.
//!
//! Memory's details keep the kernel's names, which differ between v1 and v2; Docker shows a fixed list of each, and so
//! do we.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::file::{keyed, number_if_there, read_if_there};
use crate::group::Home;
use crate::system::nanos_per_tick;
use crate::{Cgroup, CgroupError};

/// All of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// CPU time.
    pub cpu: CpuStats,
    /// Memory; `None` without a memory controller.
    pub memory: Option<MemoryStats>,
    /// Processes and threads.
    pub pids: PidsStats,
    /// Block I/O.
    pub block_io: BlockIoStats,
}

/// CPU time in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuStats {
    /// Altogether.
    pub total: u64,
    /// In programs.
    pub user: u64,
    /// In the kernel.
    pub system: u64,
    /// By CPU; empty on v2, which does not count so.
    pub per_cpu: Vec<u64>,
    /// Periods with a quota in which something ran.
    pub periods: u64,
    /// Those in which the quota ran out.
    pub throttled_periods: u64,
    /// How long processes waited for it.
    pub throttled_time: u64,
}

/// Memory in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryStats {
    /// In use, caches included.
    pub usage: u64,
    /// The most that was in use (v1).
    pub max_usage: Option<u64>,
    /// How often the limit was hit.
    pub fail_count: u64,
    /// The lowest limit up to the root; the machine's memory if there is none.
    pub limit: u64,
    /// Details by the kernel's names.
    pub details: BTreeMap<String, u64>,
    /// Whether the names are v2's.
    pub is_v2: bool,
}

impl MemoryStats {
    /// What `docker stats` shows as used: without file caches that can go.
    pub fn used(&self) -> u64 {
        let name = if self.is_v2 { "inactive_file" } else { "total_inactive_file" };
        let cache = self.details.get(name).copied().unwrap_or(0);
        if cache < self.usage { self.usage - cache } else { self.usage }
    }
}

/// Processes and threads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PidsStats {
    /// Now.
    pub current: u64,
    /// At the most; 0 for no limit.
    pub limit: u64,
}

/// One counter of one device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockIoEntry {
    /// Driver.
    pub major: u64,
    /// Device.
    pub minor: u64,
    /// `read`, `write`, `sync`, `async`, `discard`, `total`; empty for counters without a kind.
    pub op: String,
    /// Bytes, operations, nanoseconds.
    pub value: u64,
}

/// Block I/O, with Docker's names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockIoStats {
    /// Bytes.
    pub io_service_bytes_recursive: Vec<BlockIoEntry>,
    /// Operations (v1).
    pub io_serviced_recursive: Vec<BlockIoEntry>,
    /// Waiting operations (v1, CFQ).
    pub io_queue_recursive: Vec<BlockIoEntry>,
    /// Time in the device (v1, CFQ).
    pub io_service_time_recursive: Vec<BlockIoEntry>,
    /// Time in queues (v1, CFQ).
    pub io_wait_time_recursive: Vec<BlockIoEntry>,
    /// Merged operations (v1, CFQ).
    pub io_merged_recursive: Vec<BlockIoEntry>,
    /// Time of the disk (v1, CFQ).
    pub io_time_recursive: Vec<BlockIoEntry>,
    /// Sectors (v1, CFQ).
    pub sectors_recursive: Vec<BlockIoEntry>,
}

const MEMORY_V1: &str = "cache rss rss_huge mapped_file dirty writeback pgpgin pgpgout pgfault pgmajfault inactive_anon \
    active_anon inactive_file active_file unevictable hierarchical_memory_limit hierarchical_memsw_limit total_cache \
    total_rss total_rss_huge total_mapped_file total_dirty total_writeback total_pgpgin total_pgpgout total_pgfault \
    total_pgmajfault total_inactive_anon total_active_anon total_inactive_file total_active_file total_unevictable";

const MEMORY_V2: &str = "anon file kernel_stack slab sock shmem file_mapped file_dirty file_writeback anon_thp \
    inactive_anon active_anon inactive_file active_file unevictable slab_reclaimable slab_unreclaimable pgfault \
    pgmajfault workingset_refault workingset_activate workingset_nodereclaim pgrefill pgscan pgsteal pgactivate \
    pgdeactivate pglazyfree pglazyfreed thp_fault_alloc thp_collapse_alloc";

impl Cgroup {
    /// Its statistics now.
    pub fn stats(&self) -> Result<Stats, CgroupError> {
        Ok(Stats {
            cpu: self.cpu_stats()?,
            memory: self.memory_stats()?,
            pids: self.pids_stats(),
            block_io: self.block_io_stats()?,
        })
    }

    /// CPU time alone.
    pub fn cpu_stats(&self) -> Result<CpuStats, CgroupError> {
        let mut stats = match (self.home("cpuacct"), self.unified_dir()) {
            (Some(Home::Legacy(dir)), _) => cpu_time_v1(&dir)?,
            // The v2 tree counts CPU time without a controller.
            (_, Some(dir)) => cpu_time_v2(&dir)?,
            _ => CpuStats::default(),
        };
        if let Some(Home::Legacy(dir)) = self.home("cpu") {
            let text = read_if_there(&dir.join("cpu.stat"))?.unwrap_or_default();
            throttling(&mut stats, &text, "throttled_time", 1);
        }
        Ok(stats)
    }

    /// Memory alone.
    pub fn memory_stats(&self) -> Result<Option<MemoryStats>, CgroupError> {
        let mut stats = match self.home("memory") {
            None => return Ok(None),
            Some(Home::Legacy(dir)) => memory_v1(&dir)?,
            Some(Home::Unified(dir)) => memory_v2(&dir)?,
        };
        let above = self.effective_memory().unwrap_or(u64::MAX);
        stats.limit = stats.limit.min(above).min(crate::system::memory()?);
        Ok(Some(stats))
    }

    fn pids_stats(&self) -> PidsStats {
        let Some(Home::Legacy(dir) | Home::Unified(dir)) = self.home("pids") else { return PidsStats::default() };
        let limit = number_if_there(&dir.join("pids.max")).filter(|limit| *limit != u64::MAX);
        PidsStats { current: number_if_there(&dir.join("pids.current")).unwrap_or(0), limit: limit.unwrap_or(0) }
    }

    fn block_io_stats(&self) -> Result<BlockIoStats, CgroupError> {
        match (self.home("blkio"), self.home("io")) {
            (Some(Home::Legacy(dir)), _) => block_io_v1(&dir),
            (_, Some(Home::Unified(dir))) => block_io_v2(&dir),
            _ => Ok(BlockIoStats::default()),
        }
    }
}

fn cpu_time_v1(dir: &Path) -> Result<CpuStats, CgroupError> {
    let split = read_if_there(&dir.join("cpuacct.stat"))?.unwrap_or_default();
    let per_cpu = read_if_there(&dir.join("cpuacct.usage_percpu"))?.unwrap_or_default();
    Ok(CpuStats {
        total: number_if_there(&dir.join("cpuacct.usage")).unwrap_or(0),
        user: keyed(&split, "user").unwrap_or(0) * nanos_per_tick(),
        system: keyed(&split, "system").unwrap_or(0) * nanos_per_tick(),
        per_cpu: per_cpu.split_whitespace().filter_map(|word| word.parse().ok()).collect(),
        ..CpuStats::default()
    })
}

fn cpu_time_v2(dir: &Path) -> Result<CpuStats, CgroupError> {
    let text = read_if_there(&dir.join("cpu.stat"))?.unwrap_or_default();
    let nanos = |key: &str| keyed(&text, key).unwrap_or(0).saturating_mul(1000);
    let mut stats = CpuStats {
        total: nanos("usage_usec"),
        user: nanos("user_usec"),
        system: nanos("system_usec"),
        ..CpuStats::default()
    };
    throttling(&mut stats, &text, "throttled_usec", 1000);
    Ok(stats)
}

fn throttling(stats: &mut CpuStats, text: &str, time: &str, scale: u64) {
    stats.periods = keyed(text, "nr_periods").unwrap_or(0);
    stats.throttled_periods = keyed(text, "nr_throttled").unwrap_or(0);
    stats.throttled_time = keyed(text, time).unwrap_or(0).saturating_mul(scale);
}

fn memory_v1(dir: &Path) -> Result<MemoryStats, CgroupError> {
    let number = |name: &str| number_if_there(&dir.join(name)).unwrap_or(0);
    Ok(MemoryStats {
        usage: number("memory.usage_in_bytes"),
        max_usage: Some(number("memory.max_usage_in_bytes")),
        fail_count: number("memory.failcnt"),
        limit: number("memory.limit_in_bytes"),
        details: details(&dir.join("memory.stat"), MEMORY_V1)?,
        is_v2: false,
    })
}

fn memory_v2(dir: &Path) -> Result<MemoryStats, CgroupError> {
    let events = read_if_there(&dir.join("memory.events"))?.unwrap_or_default();
    Ok(MemoryStats {
        usage: number_if_there(&dir.join("memory.current")).unwrap_or(0),
        max_usage: None,
        fail_count: keyed(&events, "oom").unwrap_or(0),
        limit: number_if_there(&dir.join("memory.max")).unwrap_or(u64::MAX),
        details: details(&dir.join("memory.stat"), MEMORY_V2)?,
        is_v2: true,
    })
}

fn details(path: &Path, names: &str) -> Result<BTreeMap<String, u64>, CgroupError> {
    let text = read_if_there(path)?.unwrap_or_default();
    let found: BTreeMap<&str, u64> = text
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(key, value)| Some((key, value.parse().ok()?)))
        .collect();
    Ok(names.split_whitespace().map(|name| (name.to_owned(), found.get(name).copied().unwrap_or(0))).collect())
}

/// Counters of the scheduler (BFQ, CFQ) where it has any, else of throttling, which sees every device.
fn block_io_v1(dir: &Path) -> Result<BlockIoStats, CgroupError> {
    let list = |name: &str| -> Result<Vec<BlockIoEntry>, CgroupError> {
        let names = [
            format!("blkio.bfq.{name}_recursive"),
            format!("blkio.{name}_recursive"),
            format!("blkio.throttle.{name}_recursive"),
        ];
        for name in names {
            let entries = entries(&read_if_there(&dir.join(name))?.unwrap_or_default());
            if !entries.is_empty() {
                return Ok(entries);
            }
        }
        Ok(Vec::new())
    };
    Ok(BlockIoStats {
        io_service_bytes_recursive: list("io_service_bytes")?,
        io_serviced_recursive: list("io_serviced")?,
        io_queue_recursive: list("io_queued")?,
        io_service_time_recursive: list("io_service_time")?,
        io_wait_time_recursive: list("io_wait_time")?,
        io_merged_recursive: list("io_merged")?,
        io_time_recursive: list("time")?,
        sectors_recursive: list("sectors")?,
    })
}

/// Lines such as `254:0 Read 4096` or `254:0 4096`; a line without a device is the sum over all.
fn entries(text: &str) -> Vec<BlockIoEntry> {
    let entry = |line: &str| {
        let mut words = line.split_whitespace();
        let (major, minor) = words.next()?.split_once(':')?;
        let (op, value) = match (words.next()?, words.next()) {
            (op, Some(value)) => (op.to_lowercase(), value),
            (value, None) => (String::new(), value),
        };
        Some(BlockIoEntry { major: major.parse().ok()?, minor: minor.parse().ok()?, op, value: value.parse().ok()? })
    };
    text.lines().filter_map(entry).collect()
}

fn block_io_v2(dir: &Path) -> Result<BlockIoStats, CgroupError> {
    let text = read_if_there(&dir.join("io.stat"))?.unwrap_or_default();
    Ok(BlockIoStats { io_service_bytes_recursive: text.lines().flat_map(io_line).collect(), ..BlockIoStats::default() })
}

/// `254:0 rbytes=4096 wbytes=0 rios=1 …`
fn io_line(line: &str) -> Vec<BlockIoEntry> {
    let Some((device, rest)) = line.split_once(' ') else { return Vec::new() };
    let Some((major, minor)) = device.split_once(':') else { return Vec::new() };
    let (Ok(major), Ok(minor)) = (major.parse(), minor.parse()) else { return Vec::new() };
    let value = |key: &str| rest.split_whitespace().find_map(|word| word.strip_prefix(key)?.parse().ok()).unwrap_or(0);
    let entry = |op: &str, key: &str| BlockIoEntry { major, minor, op: op.to_owned(), value: value(key) };
    vec![entry("read", "rbytes="), entry("write", "wbytes=")]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_io_lines() {
        let v1 = entries("254:0 Read 4096\n254:0 Total 4096\nTotal 4096\n8:0 7\n");
        let short: Vec<_> = v1.iter().map(|one| (one.major, one.op.as_str(), one.value)).collect();
        assert_eq!(short, [(254, "read", 4096), (254, "total", 4096), (8, "", 7)]);
        let v2 = io_line("254:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0");
        let short: Vec<_> = v2.iter().map(|one| (one.op.as_str(), one.value)).collect();
        assert_eq!(short, [("read", 10), ("write", 20)]);
        assert!(io_line("254:0").is_empty() && io_line("x y").is_empty());
    }

    #[test]
    fn used_is_without_inactive_caches() {
        let details = BTreeMap::from([("inactive_file".to_owned(), 30), ("total_inactive_file".to_owned(), 10)]);
        let v2 = MemoryStats { usage: 100, details, is_v2: true, ..MemoryStats::default() };
        assert_eq!(v2.used(), 70);
        assert_eq!(MemoryStats { is_v2: false, ..v2.clone() }.used(), 90);
        assert_eq!(MemoryStats { usage: 20, ..v2 }.used(), 20);
    }
}
