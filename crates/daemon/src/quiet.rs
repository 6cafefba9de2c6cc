//! Memory that requests needed goes back to the machine when they are over: the allocator would keep it for the next
//! burst, which may be days away.

use std::time::Duration;

use tokio::sync::Notify;

/// How long memory stays for the next requests.
const KEPT: Duration = Duration::from_secs(5);

static ENDED: Notify = Notify::const_new();

/// A request has ended.
pub(crate) fn ended() {
    ENDED.notify_one();
}

/// Gives memory back a while after a request, once for all that ended meanwhile. An idle daemon is not woken.
pub(crate) async fn give_memory_back() {
    loop {
        ENDED.notified().await;
        tokio::time::sleep(KEPT).await;
        droste_engine::give_back_memory();
    }
}
