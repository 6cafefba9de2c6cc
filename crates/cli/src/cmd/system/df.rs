//! `system df`.

use std::io::Write;

use serde::Deserialize;
use serde_json::Value;

use crate::app::App;
use crate::cmd::{container, image, volume};
use crate::error::{CliError, Result};
use crate::flags::Parsed;
use crate::output::human::{ago, size};
use crate::output::list::{self, Format, Row};
use crate::output::time;

pub(super) const FLAGS: &str = "
    - format string Format of the output: 'table' (the default), 'table TEMPLATE', 'json' or a Go template
    v verbose bool Show every object";

const RAW: &str = "type: {{.Type}}\ntotal: {{.TotalCount}}\nactive: {{.Active}}\nsize: {{.Size}}\n\
    reclaimable: {{.Reclaimable}}\n";

/// One line of the summary.
struct Kind {
    name: &'static str,
    total: usize,
    active: usize,
    size: f64,
    reclaimable: f64,
    percent: bool,
}

pub(super) fn run(app: &App, flags: &Parsed) -> Result<u8> {
    if flags.on("verbose") && !flags.str("format").is_empty() && flags.str("format") != "json" {
        return Err(CliError::new("the verbose and the format options conflict"));
    }
    let usage: Value = app.client()?.get("/system/df")?;
    if flags.on("verbose") {
        return verbose(&usage);
    }
    let rows = vec![images(&usage), containers(&usage), volumes(&usage), builds(&usage)];
    let format =
        Format::read(flags.str("format"), "", "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}")
            .with_raw(RAW, false);
    list::write(rows, &format)?;
    Ok(0)
}

fn items<'a>(usage: &'a Value, key: &str) -> &'a [Value] {
    usage[key].as_array().map_or(&[], Vec::as_slice)
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(0.0)
}

fn images(usage: &Value) -> Kind {
    let all = items(usage, "Images");
    let used: Vec<&Value> = all.iter().filter(|i| number(&i["Containers"]) > 0.0).collect();
    let size = number(&usage["LayersSize"]);
    let known = used.iter().filter(|i| number(&i["Size"]) >= 0.0 && number(&i["SharedSize"]) >= 0.0);
    let own: f64 = known.map(|i| number(&i["Size"]) - number(&i["SharedSize"])).sum();
    Kind { name: "Images", total: all.len(), active: used.len(), size, reclaimable: size - own, percent: true }
}

fn containers(usage: &Value) -> Kind {
    let all = items(usage, "Containers");
    let runs = |c: &&Value| matches!(c["State"].as_str(), Some("running" | "paused" | "restarting"));
    let size: f64 = all.iter().map(|c| number(&c["SizeRw"])).sum();
    let active: f64 = all.iter().filter(runs).map(|c| number(&c["SizeRw"])).sum();
    Kind {
        name: "Containers",
        total: all.len(),
        active: all.iter().filter(runs).count(),
        size,
        reclaimable: size - active,
        percent: true,
    }
}

fn volumes(usage: &Value) -> Kind {
    let all = items(usage, "Volumes");
    let bytes = |v: &Value| number(&v["UsageData"]["Size"]).max(0.0);
    let used = |v: &&Value| number(&v["UsageData"]["RefCount"]) > 0.0;
    let size: f64 = all.iter().map(bytes).sum();
    let active: f64 = all.iter().filter(used).map(bytes).sum();
    Kind {
        name: "Local Volumes",
        total: all.len(),
        active: all.iter().filter(used).count(),
        size,
        reclaimable: size - active,
        percent: true,
    }
}

fn builds(usage: &Value) -> Kind {
    let all = items(usage, "BuildCache");
    let own = |b: &&Value| b["Shared"] != Value::Bool(true);
    let used = |b: &&Value| b["InUse"] == Value::Bool(true);
    let size: f64 = all.iter().filter(own).map(|b| number(&b["Size"])).sum();
    let active: f64 = all.iter().filter(own).filter(used).map(|b| number(&b["Size"])).sum();
    Kind {
        name: "Build Cache",
        total: all.len(),
        active: all.iter().filter(used).count(),
        size,
        reclaimable: size - active,
        percent: false,
    }
}

impl Row for Kind {
    const TYPE: &'static str = "*formatter.diskUsageImagesContext";
    const FIELDS: &'static [(&'static str, &'static str)] = &[
        ("Type", "TYPE"),
        ("TotalCount", "TOTAL"),
        ("Active", "ACTIVE"),
        ("Size", "SIZE"),
        ("Reclaimable", "RECLAIMABLE"),
    ];

    fn field(&self, name: &str) -> String {
        match name {
            "Type" => self.name.to_owned(),
            "TotalCount" => self.total.to_string(),
            "Active" => self.active.to_string(),
            "Size" => size(self.size),
            _ if self.percent && self.size > 0.0 => {
                format!("{} ({}%)", size(self.reclaimable), (self.reclaimable * 100.0 / self.size) as i64)
            }
            _ => size(self.reclaimable),
        }
    }
}

fn read<T: serde::de::DeserializeOwned>(usage: &Value, key: &str) -> Result<Vec<T>> {
    let list = if usage[key].is_null() { Value::Array(Vec::new()) } else { usage[key].clone() };
    serde_json::from_value(list).map_err(|e| CliError::new(format!("the daemon's answer could not be read: {e}")))
}

fn verbose(usage: &Value) -> Result<u8> {
    let table = |text: &str| Format::Table(text.to_owned());
    let mut out = std::io::stdout().lock();
    let images: Vec<image::Summary> = read(usage, "Images")?;
    let lines: Vec<image::Line> =
        images.into_iter().filter_map(|i| image::lines(i, false, true).into_iter().next()).collect();
    let text = list::render(
        lines,
        &table(
            "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}",
        ),
    )?;
    write!(out, "Images space usage:\n\n{text}")?;
    let mut containers: Vec<container::Summary> = read(usage, "Containers")?;
    containers.iter_mut().for_each(|c| {
        c.truncate = true;
        c.size_root_fs = 0;
    });
    let text = list::render(
        containers,
        &table(
            "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}",
        ),
    )?;
    write!(out, "\nContainers space usage:\n\n{text}")?;
    let volumes: Vec<volume::Summary> = read(usage, "Volumes")?;
    let text = list::render(volumes, &table("{{.Name}}\t{{.Links}}\t{{.Size}}"))?;
    write!(out, "\nLocal Volumes space usage:\n\n{text}")?;
    let caches: Vec<Cache> = read(usage, "BuildCache")?;
    let text = list::render(
        caches,
        &table(
            "{{.ID}}\t{{.CacheType}}\t{{.Size}}\t{{.CreatedSince}}\t{{.LastUsedSince}}\t{{.UsageCount}}\t{{.Shared}}",
        ),
    )?;
    write!(out, "\nBuild cache usage: {}\n\n{text}", size(builds(usage).size))?;
    Ok(0)
}

/// One record of the build cache.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Cache {
    #[serde(rename = "ID")]
    id: String,
    r#type: String,
    size: f64,
    created_at: String,
    last_used_at: Option<String>,
    usage_count: i64,
    in_use: bool,
    shared: bool,
}

impl Row for Cache {
    const TYPE: &'static str = "*formatter.buildCacheContext";
    const FIELDS: &'static [(&'static str, &'static str)] = &[
        ("ID", "CACHE ID"),
        ("CacheType", "CACHE TYPE"),
        ("Size", "SIZE"),
        ("CreatedSince", "CREATED"),
        ("LastUsedSince", "LAST USED"),
        ("UsageCount", "USAGE"),
        ("Shared", "SHARED"),
        ("InUse", "IN USE"),
    ];

    fn field(&self, name: &str) -> String {
        let since = |text: &str| time::unix(text).map(ago).unwrap_or_default();
        match name {
            "ID" => self.id.chars().take(12).collect::<String>() + if self.in_use { "*" } else { "" },
            "CacheType" => self.r#type.clone(),
            "Size" => size(self.size),
            "CreatedSince" => since(&self.created_at),
            "LastUsedSince" => self.last_used_at.as_deref().map(since).unwrap_or_default(),
            "UsageCount" => self.usage_count.to_string(),
            "InUse" => self.in_use.to_string(),
            _ => self.shared.to_string(),
        }
    }
}
