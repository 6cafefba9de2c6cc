//! The shape of a reply: which keys it has, and of what kind each value is, null and empty apart.
//! Shapes recorded from the real Docker are fixtures that Droste's replies are compared with.

use std::path::Path;

use serde_json::{Map, Value};

/// The shape of a value. A list has the shape of its first item.
pub fn shape(value: &Value) -> Value {
    match value {
        Value::Null => "null".into(),
        Value::Bool(_) => "bool".into(),
        Value::Number(_) => "number".into(),
        Value::String(_) => "string".into(),
        Value::Array(items) => match items.first() {
            None => "[]".into(),
            Some(first) => Value::Array(vec![shape(first)]),
        },
        Value::Object(map) if map.is_empty() => "{}".into(),
        Value::Object(map) => {
            let shapes = map.iter().map(|(k, v)| (k.clone(), shape(v)));
            Value::Object(shapes.collect::<Map<_, _>>())
        }
    }
}

/// Compares a value with the shape in `fixture`, or records it there if `DROSTE_RECORD` is set.
///
/// In a fixture, `"a|b"` allows two kinds, of which `absent` is one, and the key `*` stands for every key.
pub fn assert_shape(fixture: &Path, value: &Value) {
    let here = shape(value);
    if std::env::var_os("DROSTE_RECORD").is_some() {
        let text = serde_json::to_string_pretty(&here).expect("a shape is JSON");
        std::fs::write(fixture, text + "\n").expect("write the fixture");
        return;
    }
    let text = std::fs::read_to_string(fixture)
        .unwrap_or_else(|e| panic!("{}: {e}; record it with DROSTE_RECORD=1", fixture.display()));
    let wanted: Value = serde_json::from_str(&text).expect("a fixture is JSON");
    let mut differences = Vec::new();
    compare("", &wanted, Some(&here), &mut differences);
    assert!(
        differences.is_empty(),
        "{}: the shape differs from Docker's:\n  {}\n{}",
        fixture.display(),
        differences.join("\n  "),
        serde_json::to_string_pretty(value).expect("a value is JSON")
    );
}

fn compare(at: &str, wanted: &Value, here: Option<&Value>, out: &mut Vec<String>) {
    match (wanted, here) {
        (Value::String(kinds), here) => {
            let kind = here.map_or("absent", kind);
            if !kinds.split('|').any(|k| k == kind) {
                out.push(format!("{at}: Docker has {kinds}, here it is {kind}"));
            }
        }
        (Value::Object(wanted), Some(Value::Object(here))) => {
            for key in wanted.keys().filter(|key| *key != "*") {
                compare(&format!("{at}.{key}"), &wanted[key], here.get(key), out);
            }
            for (key, value) in here.iter().filter(|(key, _)| !wanted.contains_key(*key)) {
                match wanted.get("*") {
                    Some(wanted) => compare(&format!("{at}.{key}"), wanted, Some(value), out),
                    None => out.push(format!("{at}.{key}: Docker has no such key")),
                }
            }
        }
        (Value::Array(wanted), Some(Value::Array(here))) => {
            compare(&format!("{at}[]"), &wanted[0], here.first(), out);
        }
        (wanted, here) => {
            out.push(format!("{at}: Docker has {}, here it is {}", kind(wanted), here.map_or("absent", kind)))
        }
    }
}

fn kind(shape: &Value) -> &str {
    match shape {
        Value::String(kind) => kind,
        Value::Array(_) => "array",
        _ => "object",
    }
}
