//! Attaching to containers, and their terminals' size.

use droste_model::state::State;
use droste_runtime::Attachment;
use droste_runtime::plan::{Streams, WindowSize};
use tokio::sync::mpsc;

use crate::attach::{self, Attached, DetachKeys, Pending};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::options::{AttachOptions, LogOptions, Output};

/// Clients that wait for a container's start; more than these push out the oldest.
const MOST_PENDING: usize = 64;

/// Pieces of output on the way to a client.
const IN_FLIGHT: usize = 16;

/// All of the first stream, then the second.
fn one_after_the_other(
    mut first: mpsc::Receiver<Output>,
    mut second: mpsc::Receiver<Output>,
) -> mpsc::Receiver<Output> {
    let (client, output) = mpsc::channel(IN_FLIGHT);
    tokio::spawn(async move {
        for stream in [&mut first, &mut second] {
            while let Some(piece) = stream.recv().await {
                if client.send(piece).await.is_err() {
                    return;
                }
            }
        }
    });
    output
}

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
        let logged = if options.logs { Some(self.logged(at, &options).await?) } else { None };
        if !options.stream {
            return Ok(Attached { tty, input: None, output: logged.unwrap_or_else(|| mpsc::channel(1).1) });
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
        let attached = attach::connect(attachment, streams, tty, Some(keys), std::future::ready(()));
        Ok(match logged {
            Some(logged) => Attached { output: one_after_the_other(logged, attached.output), ..attached },
            None => attached,
        })
    }

    /// What the container has written so far.
    async fn logged(&self, at: &str, options: &AttachOptions) -> Result<mpsc::Receiver<Output>> {
        let wanted = LogOptions { stdout: options.stdout, stderr: options.stderr, ..LogOptions::default() };
        let mut logs = self.logs(at, wanted).await?;
        let (client, output) = mpsc::channel(IN_FLIGHT);
        tokio::spawn(async move {
            while let Some(Ok(line)) = logs.lines.recv().await {
                if client.send(Output { stream: line.stream, bytes: line.bytes }).await.is_err() {
                    return;
                }
            }
        });
        Ok(output)
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
