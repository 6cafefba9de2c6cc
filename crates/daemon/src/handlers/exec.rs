//! Processes started by exec.

use droste_api::decode::decode_or_default;
use droste_api::parse;
use droste_api::wire::{ExecInspect, ExecProcess, ExecStart as Wire, IdResponse, byte_string};
use droste_engine::ExecStart;
use hyper::StatusCode;

use super::attach::{Before, ended, hand_over};
use super::containers::window;
use crate::call::Call;
use crate::error::{Failure, Result};
use crate::http::Reply;
use crate::reply;

pub(crate) async fn create(mut call: Call) -> Result<Reply> {
    let config = parse::exec(&call.take_json().await?, call.version)?;
    let id = call.host.exec_create(&call.parameter, config).await?;
    Ok(reply::json_with(StatusCode::CREATED, &IdResponse { id: id.to_string() }))
}

pub(crate) async fn start(mut call: Call) -> Result<Reply> {
    let wire: Wire = decode_or_default(&call.take_json().await?)?;
    let exec = call.host.exec(&call.parameter)?;
    let side = |side: u32| u16::try_from(side).unwrap_or(u16::MAX);
    // 1.42: "POST /exec/{id}/start now accepts a ConsoleSize".
    let size = wire.console_size.filter(|_| call.version.at_least(42));
    let options =
        ExecStart { detach: wire.detach, tty: wire.tty, console_size: size.map(|size| (side(size.0), side(size.1))) };
    let claimed = call.host.exec_claim(&call.parameter)?;
    if wire.detach {
        claimed.start(options).await?;
        return Ok(reply::empty(StatusCode::OK));
    }
    let tty = exec.config.tty;
    // The connection is taken over before the program starts: a client that reads the head through a buffer of its own
    // (docker-py) would lose output that came together with it.
    let started = async move {
        match claimed.start(options).await {
            Ok(attached) => (attached, Before::default()),
            // Docker, too, has taken the connection over when it finds that the program can't be started, so its
            // clients read the reason from the stream and the exit code from inspect.
            Err(error) => {
                let failure = Failure::from(error);
                tracing::debug!(cause = failure.log.as_deref(), "{}", failure.message);
                let complaint = Some(format!("{}\r\n", failure.message));
                (ended(tty), Before { logs: None, complaint })
            }
        }
    };
    hand_over(call, tty, started).await
}

pub(crate) async fn inspect(call: Call) -> Result<Reply> {
    let view = call.host.exec(&call.parameter)?;
    let config = &view.config;
    let (entrypoint, arguments) = match config.cmd.split_first() {
        Some((program, arguments)) => (program.clone(), arguments.to_vec()),
        None => (String::new(), Vec::new()),
    };
    Ok(reply::json(&ExecInspect {
        id: view.id.to_string(),
        running: view.running,
        exit_code: view.exit_code.map(i64::from),
        process_config: ExecProcess {
            tty: config.tty,
            entrypoint,
            arguments,
            privileged: Some(config.privileged),
            user: config.user.clone(),
        },
        open_stdin: view.open_stdin,
        open_stderr: config.attach_stderr,
        open_stdout: config.attach_stdout,
        // What has ended is forgotten when the container has many, without a word before.
        can_remove: false,
        container_id: view.container.to_string(),
        detach_keys: byte_string(&view.detach_keys),
        pid: view.pid,
    }))
}

pub(crate) async fn resize(call: Call) -> Result<Reply> {
    let (rows, cols) = window(&call)?;
    call.host.exec_resize(&call.parameter, rows, cols).await?;
    Ok(reply::empty(StatusCode::OK))
}
