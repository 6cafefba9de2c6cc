//! Which limits the machine can set, Docker's warnings for those that it can't, and Docker's checks of their values.

use serde::{Deserialize, Serialize};

use droste_model::container::Resources;

use crate::group::Home;
use crate::system;
use crate::{Cgroups, Layout};

/// What the kernel's cgroups can limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Support {
    /// Memory.
    pub memory: bool,
    /// Swap.
    pub swap: bool,
    /// Memory that is reclaimed last.
    pub reservation: bool,
    /// Swappiness.
    pub swappiness: bool,
    /// Waiting instead of killing.
    pub oom_kill_disable: bool,
    /// Relative CPU weight.
    pub cpu_shares: bool,
    /// CPU quota and period.
    pub cpu_cfs: bool,
    /// Real-time scheduling.
    pub cpu_realtime: bool,
    /// Choice of CPUs.
    pub cpuset: bool,
    /// Processes.
    pub pids: bool,
    /// Block I/O weight.
    pub blkio_weight: bool,
    /// Block I/O weight by device.
    pub blkio_weight_device: bool,
    /// Rates by device: read bytes, write bytes, reads, writes.
    pub blkio_rates: [bool; 4],
    /// The CPUs that may be chosen, `0-3`.
    pub cpus: String,
    /// The memory nodes that may be chosen.
    pub mems: String,
    /// How many CPUs the machine has.
    pub cpu_count: u32,
    /// Whether this is v2, where some checks differ.
    pub is_v2: bool,
}

/// A limit that no machine could set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LimitError(pub String);

const LEAST_MEMORY: i64 = 6 * 1024 * 1024;

impl Support {
    /// What the machine offers below the engine's cgroup.
    pub fn of(cgroups: &Cgroups) -> Support {
        let group = cgroups.get(cgroups.parent());
        let has = |controller: &str, v1: &str, v2: &str| match group.home(controller) {
            Some(Home::Legacy(dir)) => !v1.is_empty() && dir.join(v1).exists(),
            Some(Home::Unified(dir)) => !v2.is_empty() && dir.join(v2).exists(),
            None => false,
        };
        let io = |v1: &str, v2: &str| has("blkio", v1, "") || has("io", "", v2);
        let either = |v1: [&str; 2], v2: [&str; 2]| io(v1[0], v2[0]) || io(v1[1], v2[1]);
        let throttle = |name: &str| io(&format!("blkio.throttle.{name}_device"), "io.max");
        Support {
            memory: has("memory", "memory.limit_in_bytes", "memory.max"),
            swap: has("memory", "memory.memsw.limit_in_bytes", "memory.swap.max"),
            reservation: has("memory", "memory.soft_limit_in_bytes", "memory.low"),
            swappiness: has("memory", "memory.swappiness", ""),
            oom_kill_disable: has("memory", "memory.oom_control", ""),
            cpu_shares: has("cpu", "cpu.shares", "cpu.weight"),
            cpu_cfs: has("cpu", "cpu.cfs_quota_us", "cpu.max"),
            cpu_realtime: has("cpu", "cpu.rt_runtime_us", ""),
            cpuset: has("cpuset", "cpuset.cpus", "cpuset.cpus"),
            pids: has("pids", "pids.max", "pids.max"),
            blkio_weight: either(["blkio.weight", "blkio.bfq.weight"], ["io.weight", "io.bfq.weight"]),
            blkio_weight_device: either(
                ["blkio.weight_device", "blkio.bfq.weight_device"],
                ["io.weight", "io.bfq.weight"],
            ),
            blkio_rates: ["read_bps", "write_bps", "read_iops", "write_iops"].map(throttle),
            cpus: cpuset_text(&group, "cpuset.cpus"),
            mems: cpuset_text(&group, "cpuset.mems"),
            cpu_count: system::online_cpus().unwrap_or(1),
            is_v2: cgroups.layout().unified.is_some() && cgroups.layout().hierarchies.is_empty(),
        }
    }

    /// Checks limits as Docker does, takes out those that the machine can't set, and says so in Docker's words.
    ///
    /// `update` is for a running container, where a swap limit may be given without a memory limit.
    pub fn admit(&self, resources: &mut Resources, update: bool) -> Result<Vec<String>, LimitError> {
        let mut warnings = Vec::new();
        self.admit_memory(resources, update, &mut warnings)?;
        self.admit_cpu(resources, &mut warnings)?;
        self.admit_cpuset(resources, &mut warnings)?;
        self.admit_block_io(resources, &mut warnings)?;
        if resources.pids_limit.is_some_and(|limit| limit > 0) && !self.pids {
            warnings.push(lacks("pids limit capabilities or the cgroup is not mounted. PIDs limit"));
            resources.pids_limit = None;
        }
        Ok(warnings)
    }

    fn admit_memory(&self, asked: &mut Resources, update: bool, warnings: &mut Vec<String>) -> Result<(), LimitError> {
        refuse_if(asked.memory != 0 && asked.memory < LEAST_MEMORY, "Minimum memory limit allowed is 6MB")?;
        if asked.memory > 0 && !self.memory {
            warnings.push(lacks("memory limit capabilities or the cgroup is not mounted. Limitation"));
            (asked.memory, asked.memory_swap) = (0, -1);
        }
        if asked.memory > 0 && asked.memory_swap != -1 && !self.swap {
            warnings.push(
                "Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited \
                 without swap."
                    .to_owned(),
            );
            asked.memory_swap = -1;
        }
        refuse_if(
            asked.memory > 0 && asked.memory_swap > 0 && asked.memory_swap < asked.memory,
            "Minimum memoryswap limit should be larger than memory limit, see usage",
        )?;
        refuse_if(
            asked.memory == 0 && asked.memory_swap > 0 && !update,
            "You should always set the Memory limit when using Memoryswap limit, see usage",
        )?;
        self.admit_swappiness(asked, warnings)?;
        self.admit_reservation(asked, warnings)?;
        if asked.oom_kill_disable == Some(true) && !self.oom_kill_disable {
            warnings.push("Your kernel does not support OomKillDisable. OomKillDisable discarded.".to_owned());
            asked.oom_kill_disable = None;
        }
        if asked.oom_kill_disable == Some(true) && asked.memory == 0 {
            warnings.push(
                "OOM killer is disabled for the container, but no memory limit is set, this can result in the system \
                 running out of resources."
                    .to_owned(),
            );
        }
        Ok(())
    }

    fn admit_swappiness(&self, asked: &mut Resources, warnings: &mut Vec<String>) -> Result<(), LimitError> {
        let Some(value) = asked.memory_swappiness.filter(|value| *value != -1) else { return Ok(()) };
        if !self.swappiness {
            warnings.push(lacks("memory swappiness capabilities, or the cgroup is not mounted. Memory swappiness"));
            asked.memory_swappiness = None;
            return Ok(());
        }
        let text = format!("Invalid value: {value}, valid memory swappiness range is 0-100");
        refuse_if(!(0..=100).contains(&value), &text)
    }

    fn admit_reservation(&self, asked: &mut Resources, warnings: &mut Vec<String>) -> Result<(), LimitError> {
        if asked.memory_reservation > 0 && !self.reservation {
            warnings.push(lacks("memory soft limit capabilities or the cgroup is not mounted. Limitation"));
            asked.memory_reservation = 0;
        }
        let given = asked.memory_reservation;
        refuse_if(given > 0 && given < LEAST_MEMORY, "Minimum memory reservation allowed is 6MB")?;
        refuse_if(
            asked.memory > 0 && given > asked.memory,
            "Minimum memory limit can not be less than memory reservation limit, see usage",
        )
    }

    fn admit_cpu(&self, asked: &mut Resources, warnings: &mut Vec<String>) -> Result<(), LimitError> {
        refuse_if(
            asked.nano_cpus > 0 && asked.cpu_period > 0,
            "Conflicting options: Nano CPUs and CPU Period cannot both be set",
        )?;
        refuse_if(
            asked.nano_cpus > 0 && asked.cpu_quota > 0,
            "Conflicting options: Nano CPUs and CPU Quota cannot both be set",
        )?;
        refuse_if(
            asked.nano_cpus > 0 && !self.cpu_cfs,
            "NanoCPUs can not be set, as your kernel does not support CPU CFS scheduler or the cgroup is not mounted",
        )?;
        let shares = asked.cpu_shares;
        let text = format!("invalid CPU shares ({shares}): value must be a positive integer");
        refuse_if(shares < 0, &text)?;
        let count = i64::from(self.cpu_count);
        let range = format!("range of CPUs is from 0.01 to {count}.00, as there are only {count} CPUs available");
        refuse_if(asked.nano_cpus < 0 || asked.nano_cpus > count * 1_000_000_000, &range)?;
        if asked.cpu_shares > 0 && !self.cpu_shares {
            warnings.push(lacks("CPU shares or the cgroup is not mounted. Shares"));
            asked.cpu_shares = 0;
        }
        if asked.cpu_period != 0 && !self.cpu_cfs {
            warnings.push(lacks("CPU CFS scheduler. CPU period/quota"));
            (asked.cpu_period, asked.cpu_quota) = (0, 0);
        }
        if asked.cpu_quota != 0 && !self.cpu_cfs {
            warnings.push(lacks("CPU CFS scheduler. CPU quota"));
            asked.cpu_quota = 0;
        }
        refuse_if(
            asked.cpu_period != 0 && !(1000..=1_000_000).contains(&asked.cpu_period),
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
        )?;
        refuse_if(asked.cpu_quota > 0 && asked.cpu_quota < 1000, "CPU cfs quota can not be less than 1ms (i.e. 1000)")?;
        refuse_if(
            (asked.cpu_realtime_period != 0 || asked.cpu_realtime_runtime != 0) && !self.cpu_realtime,
            "Your kernel does not support CPU real-time scheduler",
        )?;
        refuse_if(
            asked.cpu_realtime_period != 0 && asked.cpu_realtime_runtime > asked.cpu_realtime_period,
            "cpu real-time runtime cannot be higher than cpu real-time period",
        )
    }

    fn admit_cpuset(&self, asked: &mut Resources, warnings: &mut Vec<String>) -> Result<(), LimitError> {
        if (!asked.cpuset_cpus.is_empty() || !asked.cpuset_mems.is_empty()) && !self.cpuset {
            warnings.push(lacks("cpuset or the cgroup is not mounted. Cpuset"));
            asked.cpuset_cpus.clear();
            asked.cpuset_mems.clear();
        }
        let available = |wanted: &str, there: &str, what: &str| {
            let Some(list) = system::parse_list(wanted) else {
                return Err(LimitError(format!("Invalid value {wanted} for cpuset {what}: invalid format: {wanted}")));
            };
            let have = system::parse_list(there).unwrap_or_default();
            let all = list.iter().all(|one| have.contains(one));
            let kind = if what == "cpus" { "CPUs" } else { "memory nodes" };
            refuse_if(!all, &format!("Requested {kind} are not available - requested {wanted}, available: {there}"))
        };
        available(&asked.cpuset_cpus, &self.cpus, "cpus")?;
        available(&asked.cpuset_mems, &self.mems, "mems")
    }

    fn admit_block_io(&self, asked: &mut Resources, warnings: &mut Vec<String>) -> Result<(), LimitError> {
        if asked.blkio_weight > 0 && !self.blkio_weight {
            warnings.push(lacks("Block I/O weight or the cgroup is not mounted. Weight"));
            asked.blkio_weight = 0;
        }
        refuse_if(
            asked.blkio_weight > 0 && !(10..=1000).contains(&asked.blkio_weight),
            "Range of blkio weight is from 10 to 1000",
        )?;
        if some(&asked.blkio_weight_device) && !self.blkio_weight_device {
            warnings.push(lacks("Block I/O weight_device or the cgroup is not mounted. Weight-device"));
            asked.blkio_weight_device = Some(Vec::new());
        }
        let [read_bps, write_bps, read_iops, write_iops] = self.blkio_rates;
        let lists = [
            (
                &mut asked.blkio_read_bps,
                read_bps,
                "BPS Block I/O read limit or the cgroup is not mounted. Block I/O BPS read limit",
            ),
            (
                &mut asked.blkio_write_bps,
                write_bps,
                "BPS Block I/O write limit or the cgroup is not mounted. Block I/O BPS write limit",
            ),
            (
                &mut asked.blkio_read_iops,
                read_iops,
                "IOPS Block read limit or the cgroup is not mounted. Block I/O IOPS read limit",
            ),
            (
                &mut asked.blkio_write_iops,
                write_iops,
                "IOPS Block write limit or the cgroup is not mounted. Block I/O IOPS write limit",
            ),
        ];
        for (list, there, text) in lists {
            if some(list) && !there {
                warnings.push(lacks(text));
                *list = Some(Vec::new());
            }
        }
        Ok(())
    }
}

fn some<T>(list: &Option<Vec<T>>) -> bool {
    list.as_ref().is_some_and(|list| !list.is_empty())
}

fn lacks(what: &str) -> String {
    format!("Your kernel does not support {what} discarded.")
}

fn refuse_if(wrong: bool, text: &str) -> Result<(), LimitError> {
    if wrong { Err(LimitError(text.to_owned())) } else { Ok(()) }
}

fn cpuset_text(group: &crate::Cgroup, name: &str) -> String {
    let file = match group.home("cpuset") {
        Some(Home::Legacy(dir)) => dir.join(name),
        Some(Home::Unified(dir)) => dir.join(format!("{name}.effective")),
        None => return String::new(),
    };
    crate::file::read_if_there(&file).ok().flatten().unwrap_or_default().trim().to_owned()
}

impl Layout {
    /// `1` or `2`, as `docker info` shows it; a hybrid machine's limits are v1's.
    pub fn docker_version(&self) -> &'static str {
        if self.hierarchies.is_empty() { "2" } else { "1" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn everything() -> Support {
        Support {
            memory: true,
            swap: true,
            reservation: true,
            swappiness: true,
            oom_kill_disable: true,
            cpu_shares: true,
            cpu_cfs: true,
            cpu_realtime: true,
            cpuset: true,
            pids: true,
            blkio_weight: true,
            blkio_weight_device: true,
            blkio_rates: [true; 4],
            cpus: "0-1".to_owned(),
            mems: "0".to_owned(),
            cpu_count: 2,
            is_v2: false,
        }
    }

    #[test]
    fn refusals_are_in_dockers_words() {
        let none = Resources::default;
        let texts = [
            (Resources { memory: 100, ..none() }, "Minimum memory limit allowed is 6MB"),
            (
                Resources { memory: 10_000_000, memory_swap: 9_000_000, ..none() },
                "Minimum memoryswap limit should be larger than memory limit, see usage",
            ),
            (
                Resources { memory_swap: 9_000_000, ..none() },
                "You should always set the Memory limit when using Memoryswap limit, see usage",
            ),
            (
                Resources { memory_swappiness: Some(101), ..none() },
                "Invalid value: 101, valid memory swappiness range is 0-100",
            ),
            (
                Resources { nano_cpus: 9_000_000_000, ..none() },
                "range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available",
            ),
            (
                Resources { nano_cpus: 1_000_000_000, cpu_period: 5000, ..none() },
                "Conflicting options: Nano CPUs and CPU Period cannot both be set",
            ),
            (
                Resources { cpu_period: 5, ..none() },
                "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
            ),
            (Resources { cpu_quota: 5, ..none() }, "CPU cfs quota can not be less than 1ms (i.e. 1000)"),
            (
                Resources { cpuset_cpus: "9".to_owned(), ..none() },
                "Requested CPUs are not available - requested 9, available: 0-1",
            ),
            (Resources { cpuset_cpus: "x".to_owned(), ..none() }, "Invalid value x for cpuset cpus: invalid format: x"),
            (
                Resources { cpuset_mems: "9".to_owned(), ..none() },
                "Requested memory nodes are not available - requested 9, available: 0",
            ),
            (
                Resources { memory: 10_000_000, memory_reservation: 20_000_000, ..none() },
                "Minimum memory limit can not be less than memory reservation limit, see usage",
            ),
            (
                Resources { cpu_realtime_period: 1000, cpu_realtime_runtime: 2000, ..none() },
                "cpu real-time runtime cannot be higher than cpu real-time period",
            ),
            (Resources { cpu_shares: -1, ..none() }, "invalid CPU shares (-1): value must be a positive integer"),
            (Resources { blkio_weight: 5, ..none() }, "Range of blkio weight is from 10 to 1000"),
        ];
        for (mut asked, text) in texts {
            assert_eq!(everything().admit(&mut asked, false).unwrap_err().to_string(), text);
        }
    }

    #[test]
    fn what_the_machine_lacks_is_taken_out() {
        let support = Support { blkio_weight: false, pids: false, ..everything() };
        let mut asked = Resources { blkio_weight: 5, pids_limit: Some(3), ..Resources::default() };
        let warnings = support.admit(&mut asked, false).unwrap();
        assert_eq!(
            warnings[0],
            "Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded."
        );
        assert_eq!((warnings.len(), asked), (2, Resources::default()));
    }
}
