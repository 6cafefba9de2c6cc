//! Names and places of images that are here: `tag`, `rmi`, `history`, `image prune`.

use droste_model::reference::Reference;
use serde::Deserialize;
use serde_json::Value;

use crate::app::App;
use crate::cmd::inspect::platform_json;
use crate::cmd::prune;
use crate::error::{CliError, Result};
use crate::flags::Parsed;
use crate::net::client::{Query, Request, escape_path};
use crate::output::human::{ago, ellipsis, short_id, size3};
use crate::output::list::{self, Format, Row};
use crate::output::time;

pub(super) const RM: &str = "
    f force bool Remove the image even if it has other names or containers
    - no-prune bool Keep parents without a name
    - platform strings Remove these platforms alone (os[/arch[/variant]])";
pub(super) const HISTORY: &str = "
    - format string Format of the output: 'table' (the default), 'table TEMPLATE', 'json' or a Go template
    H human bool=true Print sizes and dates for humans
    - no-trunc bool Show everything in full
    - platform string Show the history of this platform (os[/arch[/variant]])
    q quiet bool Show ids only";
pub(super) const PRUNE: &str = "
    a all bool Remove every unused image, not only those without a name
    - filter filter Remove what meets a condition (\"until=<timestamp>\")
    f force bool Do not ask";

pub(super) fn tag(app: &App, flags: &Parsed) -> Result<u8> {
    let target = &flags.args[1];
    let reference: Reference = target.parse().map_err(|e| {
        CliError::new(format!("Error parsing reference: {target:?} is not a valid repository/tag: {e}"))
    })?;
    if reference.digest().is_some() {
        return Err(CliError::new("refusing to create a tag with a digest reference"));
    }
    let reference = reference.or_latest();
    let path = Query::new()
        .add("repo", &reference.name())
        .add("tag", reference.tag().unwrap_or("latest"))
        .on(&format!("/images/{}/tag", escape_path(&flags.args[0])));
    app.client()?.post(path)?;
    Ok(0)
}

pub(super) fn rm(app: &App, flags: &Parsed) -> Result<u8> {
    let client = app.client()?;
    let mut errors = Vec::new();
    for name in &flags.args {
        let mut query = Query::new().flag("force", flags.on("force")).flag("noprune", flags.on("no-prune"));
        for platform in flags.split("platform") {
            query = query.add("platforms", &platform_json(&platform).to_string());
        }
        let path = query.on(&format!("/images/{}", escape_path(name)));
        match client.call::<Vec<Value>>(Request::new("DELETE", path)) {
            Ok(gone) => gone.iter().for_each(|item| println!("{}", deleted(item, "Deleted", "Untagged"))),
            Err(error @ CliError::Connect(_)) => return Err(error),
            Err(error) if flags.on("force") && error.is_not_found() => eprintln!("{error}"),
            Err(error) => errors.push(error.to_string()),
        }
    }
    if errors.is_empty() { Ok(0) } else { Err(CliError::new(errors.join("\n"))) }
}

/// One line about something that was removed.
fn deleted(item: &Value, gone: &str, untagged: &str) -> String {
    match item["Deleted"].as_str().filter(|id| !id.is_empty()) {
        Some(id) => format!("{gone}: {id}"),
        None => format!("{untagged}: {}", item["Untagged"].as_str().unwrap_or("")),
    }
}

pub(super) fn prune(app: &App, flags: &Parsed) -> Result<u8> {
    let all = flags.on("all");
    let question = if all {
        "WARNING! This will remove all images without at least one container associated to them."
    } else {
        "WARNING! This will remove all dangling images."
    };
    if !prune::agreed(flags, question)? {
        return Ok(0);
    }
    let (text, reclaimed) = prune_images(app, flags.all("filter"), all)?;
    print!("{text}");
    println!("Total reclaimed space: {}", crate::output::human::size(reclaimed));
    Ok(0)
}

/// Prunes images, and returns what to say and how much that freed.
pub(crate) fn prune_images(app: &App, filters: &[String], all: bool) -> Result<(String, f64)> {
    let mut filters = filters.to_vec();
    filters.push(format!("dangling={}", !all));
    let answer = prune::call(app, "/images/prune", &filters)?;
    let list = answer["ImagesDeleted"].as_array().cloned().unwrap_or_default();
    let mut text = String::new();
    if !list.is_empty() {
        text.push_str("Deleted Images:\n");
        list.iter().for_each(|item| text.push_str(&(deleted(item, "deleted", "untagged") + "\n")));
        text.push('\n');
    }
    Ok((text, answer["SpaceReclaimed"].as_f64().unwrap_or(0.0)))
}

/// One step of an image's making.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Step {
    id: String,
    created: i64,
    created_by: String,
    size: i64,
    comment: String,
    #[serde(skip)]
    truncate: bool,
    #[serde(skip)]
    human: bool,
}

pub(super) fn history(app: &App, flags: &Parsed) -> Result<u8> {
    let platform = flags.get("platform").filter(|p| !p.is_empty()).map(|p| platform_json(p).to_string());
    let path = Query::new()
        .some("platform", platform.as_deref().unwrap_or(""))
        .on(&format!("/images/{}/history", escape_path(&flags.args[0])));
    let mut steps: Vec<Step> = app.client()?.get(path)?;
    let human = flags.switch("human").unwrap_or(true);
    for step in &mut steps {
        step.truncate = !flags.on("no-trunc");
        step.human = human;
    }
    let created = if human { "{{.CreatedSince}}" } else { "{{.CreatedAt}}" };
    let format = match flags.str("format") {
        "" | "table" if flags.on("quiet") => Format::Lines("{{.ID}}".to_owned()),
        given => {
            let table = format!("{{{{.ID}}}}\t{created}\t{{{{.CreatedBy}}}}\t{{{{.Size}}}}\t{{{{.Comment}}}}");
            Format::read(given, "", &table)
        }
    };
    list::write(steps, &format)?;
    Ok(0)
}

impl Row for Step {
    const TYPE: &'static str = "*image.historyContext";
    const FIELDS: &'static [(&'static str, &'static str)] = &[
        ("ID", "IMAGE"),
        ("CreatedSince", "CREATED"),
        ("CreatedAt", "CREATED AT"),
        ("CreatedBy", "CREATED BY"),
        ("Size", "SIZE"),
        ("Comment", "COMMENT"),
    ];

    fn field(&self, name: &str) -> String {
        let by = self.created_by.replace('\t', " ");
        match name {
            "ID" if self.truncate => short_id(&self.id).to_owned(),
            "ID" => self.id.clone(),
            "CreatedSince" if self.created <= -62_135_596_800 => String::new(),
            "CreatedSince" if self.human => ago(self.created),
            "CreatedSince" | "CreatedAt" => time::rfc3339(self.created),
            "CreatedBy" if self.truncate => ellipsis(&by, 45),
            "CreatedBy" => by,
            "Size" if self.human => size3(self.size as f64),
            "Size" => self.size.to_string(),
            "Comment" => self.comment.clone(),
            _ => String::new(),
        }
    }
}
