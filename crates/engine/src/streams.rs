//! Attaching to containers, and their terminals' size.

use droste_model::state::State;
use droste_runtime::Attachment;
use droste_runtime::plan::{Streams, WindowSize};

use crate::attach::{self, Attached, DetachKeys, Pending};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::options::AttachOptions;

/// Clients that wait for a container's start; more than these push out the oldest.
const MOST_PENDING: usize = 64;

impl Host {
    /// Attaches to a container: to one that runs from now on, to one that does not from its next start.
    pub async fn attach(&self, at: &str, options: AttachOptions) -> Result<Attached> {
        if options.stdin {
            self.require_write()?;
        }
        let container = self.member(at)?;
        let keys = DetachKeys::parse(options.detach_keys.as_deref().unwrap_or_default())?;
        let (tty, opens_stdin) = {
            let record = container.record();
            (record.config.tty, record.config.open_stdin)
        };
        let state = container.state();
        if let State::Running(running) = &state
            && running.paused
        {
            return Err(Error::conflict(format!("container {at} is paused, unpause the container before attach")));
        }
        if matches!(state, State::Restarting { .. }) {
            return Err(Error::conflict(format!("container {at} is restarting, wait until the container is running")));
        }
        let streams = Streams { stdin: options.stdin && opens_stdin, stdout: options.stdout, stderr: options.stderr };
        let failed = |error: std::io::Error| Error::hidden(format!("container {at} could not be attached to"), error);
        let attachment = match container.shim() {
            Some(shim) => shim.attach(streams).await.map_err(failed)?,
            None => {
                let (attachment, socket) = Attachment::pair().map_err(failed)?;
                let mut live = container.live();
                if live.pending.len() >= MOST_PENDING {
                    live.pending.remove(0);
                }
                live.pending.push(Pending { socket, streams });
                drop(live);
                attachment
            }
        };
        container.emit("attach", &[]);
        Ok(attach::connect(attachment, streams, tty, Some(keys), std::future::ready(())))
    }

    /// Sets the size of a container's terminal.
    pub async fn resize(&self, at: &str, rows: u16, cols: u16) -> Result<()> {
        let container = self.member_to_change(at)?;
        let not_running = || Error::conflict(format!("container {} is not running", container.id));
        let shim = container.shim().ok_or_else(not_running)?;
        shim.resize(WindowSize { rows, cols })
            .await
            .map_err(|error| Error::internal(format!("cannot resize the terminal of container {at}: {error}")))?;
        container.emit("resize", &[("height", rows.to_string()), ("width", cols.to_string())]);
        Ok(())
    }
}
