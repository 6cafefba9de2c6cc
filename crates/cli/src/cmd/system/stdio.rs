//! `system dial-stdio`: the far end of `ssh://`. Our input and output become a connection to the daemon.

use crate::app::App;
use crate::error::Result;
use crate::flags::Parsed;
use crate::session::Session;

pub(super) fn run(app: &App, _flags: &Parsed) -> Result<u8> {
    app.refuse_at()?;
    let stream = app.endpoint()?.connect()?;
    Session { stream, early: Vec::new(), raw: true, stdin: true, detach_keys: Vec::new(), signals: None }
        .run(|_| ())?;
    Ok(0)
}
