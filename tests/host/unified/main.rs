//! The engine's cases on pure cgroup v2.

#[test]
fn placeholder() {}
