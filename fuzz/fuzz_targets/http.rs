//! What comes before and after HTTP on a connection: request lines that are made readable, and WebSocket's frames. The
//! modules are private to their crate, so the files themselves are taken.
#![no_main]
#![allow(dead_code)]

use libfuzzer_sys::fuzz_target;
use tokio::io::AsyncReadExt;

#[path = "../../crates/daemon/src/http/line.rs"]
mod line;
#[path = "../../crates/daemon/src/http/websocket.rs"]
mod websocket;

/// Stands where the module looks for what reads from a taken connection.
mod takeover {
    pub(super) struct Reader(pub Vec<u8>);

    impl Reader {
        pub(super) async fn read(&mut self, most: usize) -> std::io::Result<bytes::Bytes> {
            Ok(self.0.drain(..most.min(self.0.len())).collect::<Vec<u8>>().into())
        }
    }
}

/// All that a reader with little room gets.
async fn lines(bytes: &[u8]) -> Vec<u8> {
    let (mut lines, _) = line::Lines::new(bytes);
    let (mut all, mut piece) = (Vec::new(), [0; 7]);
    while let Ok(length @ 1..) = lines.read(&mut piece).await {
        all.extend_from_slice(&piece[..length]);
    }
    all
}

fuzz_target!(|bytes: &[u8]| {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let read = lines(bytes).await;
        let decoded = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes).into_owned();
            text.replace("%22", "\"").replace("%3C", "<").replace("%3E", ">")
        };
        assert_eq!(decoded(&read), decoded(bytes));
        let mut frames = websocket::Frames::new(takeover::Reader(bytes.to_vec()));
        while let Ok(Some(_)) = frames.next().await {}
    });
});
