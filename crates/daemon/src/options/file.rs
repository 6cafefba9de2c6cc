//! The configuration file: JSON with the flags' names, lists in the plural.

use serde_json::{Map, Value};

use super::flags::{FLAGS, Flag, Kind};
use super::values::Values;

/// Reads the file; its keys become flags.
pub(super) fn read(text: &str) -> Result<Values, String> {
    let mut values = Values::default();
    if text.trim().is_empty() {
        return Ok(values);
    }
    // The rule about keys given twice is the API's.
    droste_api::decode::tree(text.as_bytes()).map_err(|error| error.message)?;
    let mut object: Map<String, Value> =
        serde_json::from_str(text).map_err(|error| format!("invalid JSON: {error}"))?;
    match object.remove("proxies") {
        None | Some(Value::Null) => {}
        Some(Value::Object(entries)) => proxies(&mut values, entries)?,
        Some(_) => return Err("\"proxies\" has a value of the wrong type".to_owned()),
    }
    let known = |key: &str| FLAGS.iter().find(|flag| !flag.key.is_empty() && flag.key == key);
    let unknown: Vec<&str> = object.keys().map(String::as_str).filter(|key| known(key).is_none()).collect();
    if !unknown.is_empty() {
        let list = unknown.join(", ");
        return Err(format!("the following directives don't match any configuration option: {list}"));
    }
    for (key, value) in &object {
        if let Some(flag) = known(key) {
            add(&mut values, flag, value)?;
        }
    }
    Ok(values)
}

/// dockerd's only options that stand in an object of their own.
fn proxies(values: &mut Values, entries: Map<String, Value>) -> Result<(), String> {
    const KEYS: [&str; 3] = ["http-proxy", "https-proxy", "no-proxy"];
    for (key, value) in entries {
        let name = KEYS.into_iter().find(|name| *name == key);
        let name =
            name.ok_or_else(|| format!("the following directives don't match any configuration option: {key}"))?;
        let text = value.as_str().ok_or_else(|| format!("{key:?} has a value of the wrong type"))?;
        values.add(name, text.to_owned());
    }
    Ok(())
}

fn add(values: &mut Values, flag: &Flag, value: &Value) -> Result<(), String> {
    match flag.kind {
        Kind::Ignored(reason) => values.note(format!("{:?} in the configuration file {reason}", flag.key)),
        // A value that asks for nothing is no reason to stop.
        Kind::Refused(_) if matches!(value, Value::Null | Value::Bool(false)) => {}
        Kind::Refused(way_out) => {
            return Err(format!("{:?} is not part of this version of Droste: {way_out}", flag.key));
        }
        Kind::Bool | Kind::Text => values.add(flag.name, scalar(flag, value)?),
        Kind::List => list(flag, value)?.into_iter().for_each(|text| values.add(flag.name, text)),
    }
    Ok(())
}

fn scalar(flag: &Flag, value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(flag) => Ok(flag.to_string()),
        _ => Err(format!("{:?} has a value of the wrong type", flag.key)),
    }
}

/// A list, or an object whose entries are written as the flag takes them.
fn list(flag: &Flag, value: &Value) -> Result<Vec<String>, String> {
    let wrong = || format!("{:?} has a value of the wrong type", flag.key);
    let number = |value: &Value, key: &str| value.get(key).and_then(Value::as_i64);
    match value {
        Value::String(text) => Ok(vec![text.clone()]),
        Value::Array(items) => items
            .iter()
            .map(|item| match item {
                Value::String(text) => Ok(text.clone()),
                Value::Object(pool) => {
                    let base = pool.get("base").and_then(Value::as_str).ok_or_else(wrong)?;
                    Ok(format!("base={base},size={}", number(item, "size").ok_or_else(wrong)?))
                }
                _ => Err(wrong()),
            })
            .collect(),
        Value::Object(entries) => entries
            .iter()
            .map(|(name, entry)| match (entry, flag.name) {
                (Value::String(text), _) => Ok(format!("{name}={text}")),
                (Value::Object(runtime), "add-runtime") => {
                    let path = runtime.get("path").and_then(Value::as_str).ok_or_else(wrong)?;
                    Ok(format!("{name}={path}"))
                }
                (Value::Object(_), "default-ulimit") => {
                    let limit = |key: &str| number(entry, key).ok_or_else(wrong);
                    Ok(format!("{name}={}:{}", limit("Soft")?, limit("Hard")?))
                }
                _ => Err(wrong()),
            })
            .collect(),
        _ => Err(wrong()),
    }
}
