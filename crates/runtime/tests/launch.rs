//! Launching: streams, exits, identities, errors. Needs root and busybox-static.

mod support;
use droste_runtime::plan::*;
use support::*;

#[tokio::test(flavor = "multi_thread")]
async fn output_and_exit_code() {
    let place = Place::new();
    let outcome = place.say("echo out; echo err >&2; exit 7").await;
    assert_eq!(outcome.output.stdout, "out\n");
    assert_eq!(outcome.output.stderr, "err\n");
    assert_eq!((outcome.exit.code, outcome.exit.signal), (7, None));
}
