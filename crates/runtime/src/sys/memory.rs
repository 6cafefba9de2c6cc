//! Memory that the allocator keeps for later.

/// Gives pages that hold nothing any more back to the kernel: `malloc_trim(3)`, where the C library has it. It takes
/// less than a millisecond for each ten megabytes, in which whoever allocates may have to wait.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes no pointer, and locks what it looks into.
    unsafe {
        libc::malloc_trim(0);
    }
}
