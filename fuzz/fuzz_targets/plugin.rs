//! A volume driver's answers, raw: each question gets the next piece of the input.
#![no_main]

use std::cell::RefCell;
use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use droste_plugin::{Stream, Volumes};
use libfuzzer_sys::fuzz_target;

/// What fits into a socket's buffer while nobody reads.
const MOST: usize = 32 << 10;

fuzz_target!(|pieces: Vec<Vec<u8>>| {
    let pieces = RefCell::new(pieces.into_iter());
    let open = RefCell::new(Vec::new());
    let driver = Volumes::new("driver", || {
        let (near, mut far) = UnixStream::pair().expect("a pair");
        let piece = pieces.borrow_mut().next().unwrap_or_default();
        far.write_all(&piece[..piece.len().min(MOST)]).expect("written");
        far.shutdown(Shutdown::Write).expect("an end");
        open.borrow_mut().push(far);
        Ok(Box::new(near) as Stream)
    });
    let _ = (driver.activate(), driver.create("v", &Default::default()), driver.mount("v", "c"));
    let _ = (driver.path("v"), driver.get("v"), driver.list(), driver.scope());
});
