//! Devices: what the BPF program of a container's cgroup lets through.

use droste_model::container::{DeviceMapping, Resources};

use crate::engine::{Own, exec, limited, remove, request, run, sleeper, start};

/// Makes the node of /dev/ttyS0 (4:64), the console of this machine, and opens it for reading.
const READ_CONSOLE: &str = "mknod /tmp/console c 4 64 && : < /tmp/console";

#[tokio::test(flavor = "multi_thread")]
async fn ordinary_ones_only() {
    let own = Own::new().await;
    let ended = run(&own, request("zero", &["sh", "-c", "head -c 3 /dev/zero | wc -c; echo x > /dev/null && head -c 2 /dev/urandom | wc -c"])).await;
    assert_eq!((ended.code, ended.output.as_str()), (0, "3\n2\n"));
    let ended = run(&own, request("console", &["sh", "-c", READ_CONSOLE])).await;
    assert!(ended.code != 0 && ended.output.contains("/tmp/console: Operation not permitted"), "{ended:?}");
    // Processes that join later are held, too.
    start(&own, sleeper("one", Resources::default())).await;
    let said = exec(&own, "one", &["sh", "-c", READ_CONSOLE]).await;
    assert!(said.contains("/tmp/console: Operation not permitted"), "{said}");
    remove(&own, "one").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn those_that_were_given() {
    let own = Own::new().await;
    let console = DeviceMapping { on_host: "/dev/ttyS0".to_owned(), in_container: "/dev/given".to_owned(), permissions: "r".to_owned() };
    let given = Resources { devices: Some(vec![console]), ..Resources::default() };
    let script = ": < /dev/given && echo read; echo x > /dev/given";
    let ended = run(&own, limited(request("one", &["sh", "-c", script]), given)).await;
    assert!(ended.output.starts_with("read\n") && ended.output.contains("Operation not permitted"), "{ended:?}");
    let rule = Resources { device_cgroup_rules: Some(vec!["c 4:64 r".to_owned()]), ..Resources::default() };
    let ended = run(&own, limited(request("two", &["sh", "-c", READ_CONSOLE]), rule)).await;
    assert_eq!(ended.code, 0, "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_if_privileged() {
    let own = Own::new().await;
    let mut request = request("one", &["sh", "-c", READ_CONSOLE]);
    request.host.privileged = true;
    let ended = run(&own, request).await;
    assert_eq!(ended.code, 0, "{ended:?}");
}
