//! `ps --format json` in podman's shape, and waiting for more than an end.

use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};

use crate::app::App;
use crate::cmd::container::each;
use crate::error::{CliError, Result};
use crate::flags::Parsed;
use crate::net::client::{Query, escape};

const CONDITIONS: [&str; 7] = ["created", "running", "paused", "stopped", "exited", "healthy", "unhealthy"];

/// How often a container is looked at; podman looks less often.
const PERIOD: Duration = Duration::from_millis(100);

/// The containers as one array.
pub(super) fn list(app: &App, flags: &Parsed) -> Result<u8> {
    let query = Query::new().flag("all", flags.on("all")).filters(flags.all("filter"));
    let all: Vec<Value> = app.client()?.get(query.on("/containers/json"))?;
    let entries: Vec<Value> = all.iter().map(entry).collect();
    println!("{:#}", Value::Array(entries));
    Ok(0)
}

fn entry(container: &Value) -> Value {
    let names = container["Names"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let names: Vec<&str> = names.map(|name| name.trim_start_matches('/')).collect();
    let labels = if container["Labels"].is_null() { json!({}) } else { container["Labels"].clone() };
    let mut entry = json!({"Names": names, "Labels": labels, "Exited": container["State"] == "exited"});
    for key in ["Id", "Image", "ImageID", "Command", "Created", "Ports", "State", "Status", "Mounts"] {
        entry[key] = container[key].clone();
    }
    entry
}

/// Waits for a condition of each container; like podman's, it has no exit code to print then.
pub(super) fn wait(app: &App, flags: &Parsed) -> Result<u8> {
    let condition = flags.str("condition");
    if !CONDITIONS.contains(&condition) {
        return Err(CliError::new(format!(
            "--condition {condition} is not known: wait for one of {}",
            CONDITIONS.join(", ")
        )));
    }
    each(&flags.args, |name| {
        while !met(app, name, condition)? {
            sleep(PERIOD);
        }
        Ok(Some("-1".to_owned()))
    })
}

fn met(app: &App, name: &str, condition: &str) -> Result<bool> {
    let container: Value = app.client()?.get(format!("/containers/{}/json", escape(name)))?;
    holds(&container["State"], condition).map_err(|why| CliError::new(format!("{name} {why}")))
}

/// Whether a condition holds, or why it never will.
fn holds(state: &Value, condition: &str) -> std::result::Result<bool, &'static str> {
    let (status, health) =
        (state["Status"].as_str().unwrap_or(""), state["Health"]["Status"].as_str().unwrap_or("none"));
    let ended = matches!(status, "exited" | "dead");
    match condition {
        "stopped" | "exited" => Ok(ended),
        "healthy" | "unhealthy" if health == "none" => Err("has no health check"),
        "healthy" | "unhealthy" if ended => Err("has ended"),
        "healthy" | "unhealthy" => Ok(health == condition),
        _ => Ok(status == condition),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_an_array_with_labels_as_pairs() {
        let entry = entry(&json!({"Id": "1", "Names": ["/web"], "Labels": {"a": "b"}, "State": "exited"}));
        assert_eq!(
            (&entry["Names"], &entry["Labels"]["a"], &entry["Exited"]),
            (&json!(["web"]), &json!("b"), &json!(true))
        );
    }

    #[test]
    fn conditions_hold_or_never_will() {
        let state = |status: &str, health: &str| json!({"Status": status, "Health": {"Status": health}});
        assert_eq!(holds(&state("running", "starting"), "healthy"), Ok(false));
        assert_eq!(holds(&state("running", "healthy"), "healthy"), Ok(true));
        assert_eq!(holds(&state("exited", "starting"), "healthy"), Err("has ended"));
        assert_eq!(holds(&json!({"Status": "running"}), "healthy"), Err("has no health check"));
        assert_eq!(holds(&json!({"Status": "exited"}), "stopped"), Ok(true));
        assert_eq!(holds(&json!({"Status": "running"}), "running"), Ok(true));
    }
}
