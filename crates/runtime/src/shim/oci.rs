//! Containers that another OCI runtime makes.

use std::os::fd::OwnedFd;

use droste_runtime::plan::{Failure, FailureKind};
use droste_runtime::wire::OciJob;

use super::report::refusal;
use super::stage::Fds;
use super::supervise::Service;

/// Makes a container with another runtime.
pub(crate) fn begin(_control: OwnedFd, job: &OciJob, _fds: Fds) -> Result<Service, Failure> {
    let message = format!("runtime {:?}: other OCI runtimes can't be used yet", job.runtime);
    Err(refusal("run OCI runtime", 0, FailureKind::Other, message))
}
