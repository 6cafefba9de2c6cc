//! Kernel paths that a container doesn't see or can't write.

use serde::{Deserialize, Serialize};

const MASKED: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Paths to hide (an empty file or folder over them) and to make read-only. One that doesn't exist is passed over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathRules {
    /// Hidden.
    pub masked: Vec<String>,
    /// Read-only.
    pub read_only: Vec<String>,
}

impl PathRules {
    /// No rule: privileged containers and `systempaths=unconfined`.
    pub fn none() -> PathRules {
        PathRules::default()
    }

    /// Docker's rules. Those of each CPU's thermal throttling belong to them and depend on how many CPUs there are.
    pub fn docker_default(cpus: u32) -> PathRules {
        let throttles = (0..cpus).map(|cpu| format!("/sys/devices/system/cpu/cpu{cpu}/thermal_throttle"));
        PathRules {
            masked: MASKED.iter().map(|path| (*path).to_owned()).chain(throttles).collect(),
            read_only: READ_ONLY.iter().map(|path| (*path).to_owned()).collect(),
        }
    }

    /// With everything that `floor` hides or protects as well.
    pub fn joined(mut self, floor: &PathRules) -> PathRules {
        extend(&mut self.masked, &floor.masked);
        extend(&mut self.read_only, &floor.read_only);
        self
    }

    /// Whether it hides and protects at least what `floor` does.
    pub fn covers(&self, floor: &PathRules) -> bool {
        floor.masked.iter().all(|path| self.masked.contains(path))
            && floor.read_only.iter().all(|path| self.read_only.contains(path) || self.masked.contains(path))
    }
}

fn extend(list: &mut Vec<String>, more: &[String]) {
    for path in more {
        if !list.contains(path) {
            list.push(path.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_floor_is_kept() {
        let floor = PathRules::docker_default(2);
        assert!(!PathRules::none().covers(&floor));
        assert_eq!(PathRules::none().joined(&floor), floor);
        assert_eq!(floor.clone().joined(&floor), floor);
        assert_eq!(floor.masked.len(), 14);
    }
}
