//! `images`.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::app::App;
use crate::error::Result;
use crate::flags::Parsed;
use crate::net::client::Query;
use crate::output::human::{ago, short_id, size, size3};
use crate::output::list::{self, Format, Row};
use crate::output::time;

pub(super) const FLAGS: &str = "
    a all bool Show intermediate images too
    - digests bool Show digests
    f filter filter Show what meets a condition
    - format string Format of the output: 'table' (the default), 'table TEMPLATE', 'json' or a Go template
    - no-trunc bool Show everything in full
    q quiet bool Show ids only
    - tree bool List the platforms of each image as a tree";

/// One image as the daemon lists it.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Summary {
    pub(crate) id: String,
    pub(crate) repo_tags: Option<Vec<String>>,
    pub(crate) repo_digests: Option<Vec<String>>,
    pub(crate) created: i64,
    pub(crate) size: i64,
    pub(crate) shared_size: i64,
    pub(crate) containers: i64,
    pub(crate) labels: Option<BTreeMap<String, String>>,
}

/// One line of the list: an image under one of its names.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) image: Summary,
    pub(crate) repository: String,
    pub(crate) tag: String,
    pub(crate) digest: String,
    pub(crate) truncate: bool,
}

const NONE: &str = "<none>";

const RAW: &str = "repository: {{.Repository}}\n{{if .Tag}}tag: {{.Tag}}\n{{end}}image_id: {{.ID}}\ncreated_at: {{.CreatedAt}}\n\
    virtual_size: {{.Size}}\n";

pub(super) fn run(app: &App, flags: &Parsed) -> Result<u8> {
    let mut filters = flags.all("filter").to_vec();
    if let Some(name) = flags.args.first() {
        filters.push(format!("reference={name}"));
    }
    if flags.on("tree") {
        return super::tree::run(app, flags, &filters);
    }
    let format = format(app, flags);
    let path = Query::new().flag("all", flags.on("all")).filters(&filters).on("/images/json");
    let mut images: Vec<Summary> = app.client()?.get(path)?;
    // Docker's client counts containers in `system df` only.
    images.iter_mut().for_each(|image| image.containers = -1);
    let digests = flags.on("digests") || format.mentions(".Digest");
    let truncate = !flags.on("no-trunc");
    let lines: Vec<Line> = images.into_iter().flat_map(|image| lines(image, digests, truncate)).collect();
    list::write(lines, &format)?;
    Ok(0)
}

fn format(app: &App, flags: &Parsed) -> Format {
    match flags.str("format") {
        "" | "table" if flags.on("quiet") => Format::Lines("{{.ID}}".to_owned()),
        given => {
            let digest = if flags.on("digests") { "\t{{.Digest}}" } else { "" };
            let table =
                format!("{{{{.Repository}}}}\t{{{{.Tag}}}}{digest}\t{{{{.ID}}}}\t{{{{.CreatedSince}}}}\t{{{{.Size}}}}");
            let raw = if flags.on("quiet") { "image_id: {{.ID}}" } else { RAW };
            Format::read(given, app.config.str("imagesFormat"), &table).with_raw(raw, false)
        }
    }
}

/// An image has a line for each of its tags, and for each digest that no tag covers.
pub(crate) fn lines(image: Summary, digests: bool, truncate: bool) -> Vec<Line> {
    let line = |repository: &str, tag: &str, digest: &str| Line {
        image: image.clone(),
        repository: repository.to_owned(),
        tag: tag.to_owned(),
        digest: digest.to_owned(),
        truncate,
    };
    let tags: Vec<(&str, &str)> =
        image.repo_tags.iter().flatten().filter(|t| *t != "<none>:<none>").filter_map(|t| t.rsplit_once(':')).collect();
    let by_digest: Vec<(&str, &str)> = image
        .repo_digests
        .iter()
        .flatten()
        .filter(|d| *d != "<none>@<none>")
        .filter_map(|d| d.split_once('@'))
        .collect();
    let mut out = Vec::new();
    for (repository, tag) in &tags {
        let own: Vec<&str> = by_digest.iter().filter(|(r, _)| r == repository).map(|(_, d)| *d).collect();
        match own.as_slice() {
            found if digests && !found.is_empty() => out.extend(found.iter().map(|d| line(repository, tag, d))),
            _ => out.push(line(repository, tag, NONE)),
        }
    }
    for (repository, digest) in by_digest {
        if tags.iter().all(|(r, _)| *r != repository) {
            out.push(line(repository, NONE, digest));
        }
    }
    if out.is_empty() {
        out.push(line(NONE, NONE, NONE));
    }
    out
}

impl Row for Line {
    const TYPE: &'static str = "*formatter.imageContext";
    const FIELDS: &'static [(&'static str, &'static str)] = &[
        ("ID", "IMAGE ID"),
        ("Repository", "REPOSITORY"),
        ("Tag", "TAG"),
        ("Digest", "DIGEST"),
        ("CreatedSince", "CREATED"),
        ("CreatedAt", "CREATED AT"),
        ("Size", "SIZE"),
        ("Containers", "CONTAINERS"),
        ("VirtualSize", "SIZE"),
        ("SharedSize", "SHARED SIZE"),
        ("UniqueSize", "UNIQUE SIZE"),
    ];

    fn field(&self, name: &str) -> String {
        let image = &self.image;
        let known = |bytes: i64, of: i64| if of < 0 { "N/A".to_owned() } else { size(bytes as f64) };
        match name {
            "ID" if self.truncate => short_id(&image.id).to_owned(),
            "ID" => image.id.clone(),
            "Repository" => self.repository.clone(),
            "Tag" => self.tag.clone(),
            "Digest" => self.digest.clone(),
            "CreatedSince" if image.created < -60_000_000_000 => "N/A".to_owned(),
            "CreatedSince" => ago(image.created),
            "CreatedAt" => time::long(image.created),
            "Size" => size3(image.size as f64),
            "VirtualSize" => size(image.size as f64),
            "Containers" if image.containers < 0 => "N/A".to_owned(),
            "Containers" => image.containers.to_string(),
            "SharedSize" => known(image.shared_size, image.shared_size),
            "UniqueSize" => known(image.size - image.shared_size, image.shared_size),
            _ => String::new(),
        }
    }

    fn label(&self, name: &str) -> Option<String> {
        Some(self.image.labels.as_ref().and_then(|all| all.get(name)).cloned().unwrap_or_default())
    }
}
