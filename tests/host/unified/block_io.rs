//! Block I/O: rates and weights, in the kernel's files and felt.
//!
//! The device is `null_blk`'s, which does nothing at once: what takes time is the limit.

use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::time::{Duration, Instant};

use droste_model::container::{DeviceLimit, DeviceMapping, Resources};

use crate::engine::{MIB, Own, limited, remove, request, run, sleeper, start};

const DEVICE: &str = "/dev/nullb0";

/// Loads a module that Debian's kernel has.
pub(crate) fn load(module: &str) {
    let loaded = Command::new("modprobe").arg(module).status().unwrap();
    assert!(loaded.success(), "{module}");
}

/// The device, as cgroups name it.
fn device() -> String {
    load("null_blk");
    let number = std::fs::metadata(DEVICE).unwrap().rdev();
    format!("{}:{}", number >> 8, number & 0xff)
}

fn limit(value: u64) -> Option<Vec<DeviceLimit>> {
    Some(vec![DeviceLimit { path: DEVICE.to_owned(), value }])
}

#[tokio::test(flavor = "multi_thread")]
async fn rates_are_written() {
    let (own, device) = (Own::new().await, device());
    let asked = Resources { blkio_read_bps: limit(1 << 20), blkio_write_bps: limit(2 << 20), blkio_read_iops: limit(300), blkio_write_iops: limit(400), ..Resources::default() };
    start(&own, sleeper("all", asked)).await;
    assert_eq!(own.read(&own, "all", "io.max"), format!("{device} rbps=1048576 wbps=2097152 riops=300 wiops=400"));
    start(&own, sleeper("one", Resources { blkio_write_iops: limit(500), ..Resources::default() })).await;
    assert_eq!(own.read(&own, "one", "io.max"), format!("{device} rbps=max wbps=max riops=max wiops=500"));
    remove(&own, "all").await;
    remove(&own, "one").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rates_are_kept() {
    let own = Own::new().await;
    device();
    let mapping = DeviceMapping { on_host: DEVICE.to_owned(), in_container: DEVICE.to_owned(), permissions: "rwm".to_owned() };
    let read = format!("dd if={DEVICE} of=/dev/null bs=1M count=8 iflag=direct 2>/dev/null && echo read");
    let write = format!("dd if=/dev/zero of={DEVICE} bs=1M count=8 oflag=direct 2>/dev/null && echo written");
    for (name, script, says, rates) in [
        ("reader", read, "read\n", Resources { blkio_read_bps: limit(2 * MIB.unsigned_abs()), ..Resources::default() }),
        ("writer", write, "written\n", Resources { blkio_write_bps: limit(2 * MIB.unsigned_abs()), ..Resources::default() }),
    ] {
        let resources = Resources { devices: Some(vec![mapping.clone()]), ..rates };
        let began = Instant::now();
        let ended = run(&own, limited(request(name, &["sh", "-c", &script]), resources)).await;
        assert_eq!((ended.code, ended.output.as_str()), (0, says), "{ended:?}");
        // Eight MiB at two a second; a machine that is slow can only take longer.
        assert!(began.elapsed() >= Duration::from_secs(3), "{name}: {:?}", began.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn weights_are_written() {
    let (own, device) = (Own::new().await, device());
    let asked = || Resources { blkio_weight: 500, ..Resources::default() };
    start(&own, sleeper("cost", asked())).await;
    assert_eq!(own.read(&own, "cost", "io.weight"), "default 4950");
    remove(&own, "cost").await;
    // The scheduler BFQ has a file of its own, with Docker's range.
    load("bfq");
    std::fs::write("/sys/block/nullb0/queue/scheduler", "bfq").unwrap();
    let by_device = Resources { blkio_weight_device: limit(300), ..asked() };
    start(&own, sleeper("bfq", by_device)).await;
    assert_eq!(own.read(&own, "bfq", "io.bfq.weight"), format!("default 500\n{device} 300"));
    remove(&own, "bfq").await;
    std::fs::write("/sys/block/nullb0/queue/scheduler", "none").unwrap();
}
