//! What the `prune` commands have in common, and the prunes of containers, networks and volumes.

use serde_json::Value;

use crate::app::App;
use crate::error::{CliError, Result};
use crate::flags::Parsed;
use crate::net::client::{Query, Request};
use crate::output::human::size;
use crate::terminal;

pub(crate) const FLAGS: &str = "
    - filter filter Remove what meets a condition (\"until=<timestamp>\")
    f force bool Do not ask";
pub(crate) const VOLUMES: &str = "
    a all bool Remove every unused volume, not only those without a name
    - filter filter Remove what meets a condition (\"label=<label>\")
    f force bool Do not ask";

pub(crate) const BUILDS: &str = "
    a all bool Remove all of the build cache, not only what nothing uses
    - filter filter Remove what meets a condition (\"until=24h\")
    f force bool Do not ask
    - keep-storage bytes Amount of disk space to keep for the cache";

/// Whether to go on: `--force`, or an answer.
pub(crate) fn agreed(flags: &Parsed, warning: &str) -> Result<bool> {
    if flags.on("force") {
        return Ok(true);
    }
    terminal::confirm(&format!("{warning}\nAre you sure you want to continue?"))
}

/// The filters of a prune: those given, and those of the configuration.
pub(crate) fn call(app: &App, path: &str, filters: &[String]) -> Result<Value> {
    let mut filters = filters.to_vec();
    for filter in app.config.value().get("pruneFilters").and_then(Value::as_array).into_iter().flatten() {
        filters.extend(filter.as_str().map(str::to_owned));
    }
    app.client()?.call(Request::new("POST", Query::new().filters(&filters).on(path)))
}

/// A list of what is gone, under a title.
pub(crate) fn listed(answer: &Value, key: &str, title: &str) -> String {
    let names: Vec<&str> = answer[key].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if names.is_empty() { String::new() } else { format!("{title}:\n{}\n\n", names.join("\n")) }
}

/// How much a prune freed.
pub(crate) fn reclaimed(answer: &Value) -> f64 {
    answer["SpaceReclaimed"].as_f64().unwrap_or(0.0)
}

pub(crate) fn containers(app: &App, flags: &Parsed) -> Result<u8> {
    if agreed(flags, "WARNING! This will remove all stopped containers.")? {
        let answer = call(app, "/containers/prune", flags.all("filter"))?;
        print!("{}", listed(&answer, "ContainersDeleted", "Deleted Containers"));
        println!("Total reclaimed space: {}", size(reclaimed(&answer)));
    }
    Ok(0)
}

pub(crate) fn networks(app: &App, flags: &Parsed) -> Result<u8> {
    if agreed(flags, "WARNING! This will remove all custom networks not used by at least one container.")? {
        let answer = call(app, "/networks/prune", flags.all("filter"))?;
        print!("{}", listed(&answer, "NetworksDeleted", "Deleted Networks"));
    }
    Ok(0)
}

pub(crate) fn volumes(app: &App, flags: &Parsed) -> Result<u8> {
    let all = flags.on("all");
    let which = if all { "all local volumes" } else { "anonymous local volumes" };
    if agreed(flags, &format!("WARNING! This will remove {which} not used by at least one container."))? {
        let mut filters = flags.all("filter").to_vec();
        if all {
            if filters.iter().any(|f| f.starts_with("all=")) {
                return Err(CliError::new("conflicting options: cannot specify both --all and --filter all=1"));
            }
            filters.push("all=true".to_owned());
        }
        let answer = call(app, "/volumes/prune", &filters)?;
        print!("{}", listed(&answer, "VolumesDeleted", "Deleted Volumes"));
        println!("Total reclaimed space: {}", size(reclaimed(&answer)));
    }
    Ok(0)
}

/// `builder prune` without the plugin.
pub(crate) fn builds(app: &App, flags: &Parsed) -> Result<u8> {
    let which = if flags.on("all") { "all" } else { "all dangling" };
    if agreed(flags, &format!("WARNING! This will remove {which} build cache."))? {
        let query = Query::new().flag("all", flags.on("all")).some("keep-storage", flags.str("keep-storage"));
        let query = query.filters(flags.all("filter"));
        let answer: Value = app.client()?.call(Request::new("POST", query.on("/build/prune")))?;
        print!("{}", listed(&answer, "CachesDeleted", "Deleted build cache objects"));
        println!("Total reclaimed space: {}", size(reclaimed(&answer)));
    }
    Ok(0)
}
