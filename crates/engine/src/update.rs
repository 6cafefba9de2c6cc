//! What `docker update` changes: values that are given replace the old ones, zero and empty leave them.

use droste_model::container::Resources;

use crate::error::{Error, Result};

/// Puts the given limits over the old ones.
pub(crate) fn apply(limits: &mut Resources, change: &Resources) -> Result<()> {
    if change.nano_cpus > 0 && (limits.cpu_quota > 0 || limits.cpu_period > 0) {
        return Err(Error::conflict(
            "Conflicting options: Nano CPUs cannot be updated as CPU Period/Quota has already been set",
        ));
    }
    if (change.cpu_quota > 0 || change.cpu_period > 0) && limits.nano_cpus > 0 {
        return Err(Error::conflict(
            "Conflicting options: CPU Period/Quota cannot be updated as NanoCPUs has already been set",
        ));
    }
    if change.memory > 0 && change.memory_swap == 0 && limits.memory_swap > 0 && change.memory > limits.memory_swap {
        return Err(Error::conflict(
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time",
        ));
    }
    let numbers = [
        (&mut limits.cpu_shares, change.cpu_shares),
        (&mut limits.memory, change.memory),
        (&mut limits.memory_swap, change.memory_swap),
        (&mut limits.memory_reservation, change.memory_reservation),
        (&mut limits.nano_cpus, change.nano_cpus),
        (&mut limits.cpu_period, change.cpu_period),
        (&mut limits.cpu_quota, change.cpu_quota),
        (&mut limits.cpu_realtime_period, change.cpu_realtime_period),
        (&mut limits.cpu_realtime_runtime, change.cpu_realtime_runtime),
    ];
    for (old, new) in numbers {
        if new != 0 {
            *old = new;
        }
    }
    for (old, new) in [(&mut limits.cpuset_cpus, &change.cpuset_cpus), (&mut limits.cpuset_mems, &change.cpuset_mems)] {
        if !new.is_empty() {
            old.clone_from(new);
        }
    }
    if change.blkio_weight != 0 {
        limits.blkio_weight = change.blkio_weight;
    }
    limits.pids_limit = change.pids_limit.or(limits.pids_limit);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_values_replace_and_zero_leaves() {
        let mut limits = Resources { memory: 1 << 30, memory_swap: 2 << 30, cpu_shares: 5, ..Resources::default() };
        apply(&mut limits, &Resources { memory: 2 << 30, pids_limit: Some(7), ..Resources::default() }).unwrap();
        assert_eq!((limits.memory, limits.cpu_shares, limits.pids_limit), (2 << 30, 5, Some(7)));
        let error = apply(&mut limits, &Resources { memory: 3 << 30, ..Resources::default() }).unwrap_err();
        assert!(error.to_string().contains("memoryswap"), "{error}");
    }
}
