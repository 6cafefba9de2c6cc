//! `POST /containers/{id}/exec`.

use droste_model::container::ExecConfig;

use crate::ApiVersion;
use crate::decode::decode_or_default;
use crate::error::{RequestError, Result};
use crate::wire::ExecCreate;

/// Reads the body.
pub fn exec(body: &[u8], version: ApiVersion) -> Result<ExecConfig> {
    let wire: ExecCreate = decode_or_default(body)?;
    let cmd = wire.cmd.unwrap_or_default().0;
    if cmd.is_empty() {
        return Err(RequestError::invalid("No exec command specified"));
    }
    // 1.42: "POST /containers/{id}/exec now accepts a ConsoleSize".
    let console_size = wire.console_size.filter(|_| version.at_least(42)).map(|size| (size.0, size.1));
    Ok(ExecConfig {
        user: wire.user,
        privileged: wire.privileged,
        tty: wire.tty,
        console_size,
        attach_stdin: wire.attach_stdin,
        attach_stdout: wire.attach_stdout,
        attach_stderr: wire.attach_stderr,
        detach_keys: wire.detach_keys,
        env: wire.env.unwrap_or_default(),
        working_dir: wire.working_dir,
        cmd,
    })
}
