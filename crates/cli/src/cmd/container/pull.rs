//! Pulling an image for `run`, `create` and `pull`.

use droste_model::reference::Reference;

use crate::app::App;
use crate::credentials;
use crate::error::{CliError, Result};
use crate::net::client::{Query, Request};
use crate::output::progress::Progress;

/// Pulls an image and shows how; on standard error if its output is not what the command is about.
pub(crate) fn pull_image(app: &App, image: &str, platform: &str, quiet: bool, to_stderr: bool) -> Result<()> {
    let reference: Reference = image.parse().map_err(|e| CliError::new(format!("{e}")))?;
    let reference = reference.or_latest();
    pull_reference(app, &reference, platform, quiet, to_stderr)
}

/// Pulls a complete reference; without a tag and a digest, every tag.
pub(crate) fn pull_reference(
    app: &App,
    reference: &Reference,
    platform: &str,
    quiet: bool,
    to_stderr: bool,
) -> Result<()> {
    let tag = match (reference.digest(), reference.tag()) {
        (Some(digest), _) => digest.to_string(),
        (None, Some(tag)) => tag.to_owned(),
        (None, None) => String::new(),
    };
    let path = Query::new()
        .add("fromImage", &reference.name())
        .some("platform", platform)
        .some("tag", &tag)
        .on("/images/create");
    let auth = credentials::header(app, reference.domain())?;
    let response = app.client()?.send(Request::new("POST", path).header("X-Registry-Auth", auth))?;
    let mut progress = Progress::new(to_stderr, quiet);
    progress.follow(response)
}
