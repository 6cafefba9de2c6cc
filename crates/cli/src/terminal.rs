//! The terminal: is there one, how large is it, and its raw mode, which ends with the guard that began it.

use std::io::IsTerminal;
use std::os::fd::AsFd;

use rustix::termios::{self, OptionalActions, Termios};

use crate::error::{CliError, Result};

/// Whether standard input is a terminal.
pub(crate) fn stdin_is_terminal() -> bool {
    std::io::stdin().is_terminal()
}

/// Whether standard output is a terminal.
pub(crate) fn stdout_is_terminal() -> bool {
    std::io::stdout().is_terminal()
}

/// Whether standard error is a terminal.
pub(crate) fn stderr_is_terminal() -> bool {
    std::io::stderr().is_terminal()
}

/// Rows and columns of the terminal behind standard output.
pub(crate) fn size() -> Option<(u16, u16)> {
    let size = termios::tcgetwinsize(std::io::stdout().as_fd()).ok()?;
    (size.ws_row > 0 && size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}

/// The columns to write in: the terminal's, or 80.
pub(crate) fn columns() -> usize {
    size().map_or(80, |(_, columns)| usize::from(columns))
}

/// Keeps the terminal raw for as long as it lives.
pub(crate) struct Raw {
    before: Termios,
}

impl Raw {
    /// Makes the terminal behind standard input raw.
    pub(crate) fn enter() -> Result<Self> {
        let stdin = std::io::stdin();
        let fail = |e: rustix::io::Errno| CliError::io("switching the terminal to raw mode", e.into());
        let before = termios::tcgetattr(stdin.as_fd()).map_err(fail)?;
        let mut raw = before.clone();
        raw.make_raw();
        termios::tcsetattr(stdin.as_fd(), OptionalActions::Flush, &raw).map_err(fail)?;
        Ok(Self { before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = termios::tcsetattr(std::io::stdin().as_fd(), OptionalActions::Now, &self.before);
    }
}

/// A password or a line of text asked for on the terminal, with or without echo.
pub(crate) fn ask(prompt: &str, echo: bool) -> Result<String> {
    use std::io::Write;
    let stdin = std::io::stdin();
    let mut out = std::io::stdout();
    out.write_all(prompt.as_bytes())?;
    out.flush()?;
    let fail = |e: rustix::io::Errno| CliError::io("asking on the terminal", e.into());
    let before = if echo { None } else { Some(termios::tcgetattr(stdin.as_fd()).map_err(fail)?) };
    if let Some(before) = &before {
        let mut quiet = before.clone();
        quiet.local_modes.remove(termios::LocalModes::ECHO);
        termios::tcsetattr(stdin.as_fd(), OptionalActions::Now, &quiet).map_err(fail)?;
    }
    let mut line = String::new();
    let read = stdin.read_line(&mut line);
    if let Some(before) = &before {
        termios::tcsetattr(stdin.as_fd(), OptionalActions::Now, before).map_err(fail)?;
        out.write_all(b"\n")?;
    }
    read.map_err(|e| CliError::io("reading from the terminal", e))?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// Asks whether to go on; only `y` and `yes` mean so.
pub(crate) fn confirm(question: &str) -> Result<bool> {
    let answer = ask(&format!("{question} [y/N] "), true)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}
