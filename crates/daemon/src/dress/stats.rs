//! Statistics.

use droste_api::wire::{
    BlkioEntry, BlkioStats, CpuStats, CpuUsage, MemoryStats, NetworkStats, PidsStats, Stats, Throttling, ZERO_TIME,
};
use droste_engine::{BlockIoEntry, BlockIoStats, LinkStats, StatsSample};

/// A sample, with the one before it.
pub(crate) fn stats(sample: &StatsSample, before: Option<&StatsSample>) -> Stats {
    let identity = Stats { name: format!("/{}", sample.name), id: sample.id.to_string(), ..Stats::default() };
    let zero = || ZERO_TIME.to_owned();
    if !sample.running {
        return Stats { read: zero(), preread: zero(), ..identity };
    }
    let before = before.filter(|before| before.running);
    let cgroup = &sample.cgroup;
    Stats {
        read: sample.read.to_string(),
        preread: before.map_or_else(zero, |before| before.read.to_string()),
        pids_stats: PidsStats { current: cgroup.pids.current, limit: cgroup.pids.limit },
        blkio_stats: block_io(&cgroup.block_io),
        cpu_stats: cpu(sample),
        precpu_stats: before.map(cpu).unwrap_or_default(),
        memory_stats: cgroup.memory.as_ref().map(memory).unwrap_or_default(),
        networks: Some(sample.networks.iter().map(|(name, link)| (name.clone(), network(link))).collect())
            .filter(|networks: &std::collections::BTreeMap<_, _>| !networks.is_empty()),
        ..identity
    }
}

/// A sample of a running container without the one before it, of which Docker does not say whose it is.
pub(crate) fn one_shot(sample: &StatsSample) -> Stats {
    Stats { name: String::new(), id: String::new(), ..stats(sample, None) }
}

fn cpu(sample: &StatsSample) -> CpuStats {
    let cpu = &sample.cgroup.cpu;
    CpuStats {
        cpu_usage: CpuUsage {
            total_usage: cpu.total,
            percpu_usage: cpu.per_cpu.clone(),
            usage_in_kernelmode: cpu.system,
            usage_in_usermode: cpu.user,
        },
        system_cpu_usage: sample.system_cpu,
        online_cpus: sample.online_cpus,
        throttling_data: Throttling {
            periods: cpu.periods,
            throttled_periods: cpu.throttled_periods,
            throttled_time: cpu.throttled_time,
        },
    }
}

fn memory(memory: &droste_engine::MemoryStats) -> MemoryStats {
    MemoryStats {
        usage: memory.usage,
        max_usage: memory.max_usage.unwrap_or(0),
        stats: memory.details.clone(),
        failcnt: memory.fail_count,
        limit: memory.limit,
    }
}

fn block_io(stats: &BlockIoStats) -> BlkioStats {
    let entry = |entry: &BlockIoEntry| BlkioEntry {
        major: entry.major,
        minor: entry.minor,
        op: entry.op.clone(),
        value: entry.value,
    };
    let list = |entries: &[BlockIoEntry]| Some(entries.iter().map(entry).collect());
    BlkioStats {
        io_service_bytes_recursive: list(&stats.io_service_bytes_recursive),
        io_serviced_recursive: list(&stats.io_serviced_recursive),
        io_queue_recursive: list(&stats.io_queue_recursive),
        io_service_time_recursive: list(&stats.io_service_time_recursive),
        io_wait_time_recursive: list(&stats.io_wait_time_recursive),
        io_merged_recursive: list(&stats.io_merged_recursive),
        io_time_recursive: list(&stats.io_time_recursive),
        sectors_recursive: list(&stats.sectors_recursive),
    }
}

fn network(link: &LinkStats) -> NetworkStats {
    NetworkStats {
        rx_bytes: link.rx_bytes,
        rx_packets: link.rx_packets,
        rx_errors: link.rx_errors,
        rx_dropped: link.rx_dropped,
        tx_bytes: link.tx_bytes,
        tx_packets: link.tx_packets,
        tx_errors: link.tx_errors,
        tx_dropped: link.tx_dropped,
    }
}
