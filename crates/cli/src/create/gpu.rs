//! `--gpus`: all of them, a number, or `device=…,capabilities=…`.

use serde_json::{Map, Value, json};

use crate::values::csv;

/// Reads one `--gpus` as a device request.
pub(crate) fn parse(given: &str) -> Result<Value, String> {
    let (mut driver, mut count, mut devices) = (String::new(), None, Vec::new());
    let mut capabilities: Vec<String> = vec!["gpu".to_owned()];
    let mut options = Map::new();
    let mut seen: Vec<String> = Vec::new();
    for field in csv(given) {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.to_owned(), value.to_owned()),
            None => ("count".to_owned(), field.clone()),
        };
        if seen.contains(&key) {
            return Err(format!("gpu request key '{key}' can be specified only once"));
        }
        match key.as_str() {
            "driver" => driver = value,
            "count" => {
                count = Some(match value.as_str() {
                    "all" => -1,
                    number => number.parse::<i64>().map_err(|_| {
                        format!("invalid count ({number}): value must be either \"all\" or an integer: invalid syntax")
                    })?,
                });
            }
            "device" => devices = value.split(',').map(str::to_owned).collect(),
            "capabilities" => {
                capabilities = value.split(',').map(str::to_owned).chain(["gpu".to_owned()]).collect();
                capabilities.sort();
                capabilities.dedup();
            }
            "options" => {
                for option in csv(&value) {
                    let (name, value) = option.split_once('=').unwrap_or((&option, ""));
                    options.insert(name.to_owned(), value.into());
                }
            }
            _ => return Err(format!("unexpected key '{key}' in '{field}'")),
        }
        seen.push(key);
    }
    let count = count.unwrap_or(if devices.is_empty() { 1 } else { 0 });
    let devices: Value = if devices.is_empty() { Value::Null } else { devices.into() };
    Ok(json!({
        "Driver": driver, "Count": count, "DeviceIDs": devices, "Capabilities": [capabilities], "Options": options,
    }))
}
