//! The functions of templates: Go's own and the ones that Docker adds.

use std::cmp::Ordering;

use serde_json::Value;

use super::value::{Val, show};

const NAMES: &[&str] = &[
    "and", "or", "not", "eq", "ne", "lt", "le", "gt", "ge", "len", "index", "slice", "print", "printf", "println",
    "html", "js", "urlquery", "json", "split", "join", "title", "lower", "upper", "pad", "truncate",
];

pub(super) fn exists(name: &str) -> bool {
    NAMES.contains(&name)
}

/// Calls a function. In a table's head the ones that reshape text leave it alone.
pub(super) fn call(name: &str, args: &[Val], header: bool) -> Result<Val, String> {
    if header && matches!(name, "json" | "split" | "join" | "title" | "lower" | "upper" | "truncate") {
        return Ok(args.iter().find(|a| matches!(a, Val::Json(Value::String(_)))).cloned().unwrap_or(Val::text("")));
    }
    match name {
        "and" | "or" => args.last().cloned().ok_or_else(|| wrong(name, 1, 0)),
        "not" => Ok(Val::Json((!arg(name, args, 0)?.truth()).into())),
        "eq" | "ne" | "lt" | "le" | "gt" | "ge" => compare(name, args),
        "len" => length(arg(name, args, 0)?),
        "index" => index(args),
        "slice" => slice(args),
        "print" => Ok(Val::text(print(args))),
        "println" => Ok(Val::text(args.iter().map(Val::print).collect::<Vec<_>>().join(" ") + "\n")),
        "printf" => printf(args),
        "html" => Ok(Val::text(escape_html(&print(args)))),
        "js" => Ok(Val::text(print(args).replace('\\', "\\\\").replace('\'', "\\'").replace('"', "\\\""))),
        "urlquery" => Ok(Val::text(crate::net::client::escape(&print(args)).replace("%20", "+"))),
        "json" => {
            let value = arg(name, args, 0)?;
            let text = value.to_json().to_string();
            Ok(Val::text(if matches!(value, Val::View(_)) { html_safe(&text) } else { text }))
        }
        "split" => {
            let (text, by) = (string(name, args, 0)?, string(name, args, 1)?);
            let parts: Vec<Value> = if by.is_empty() {
                text.chars().map(|c| Value::from(c.to_string())).collect()
            } else {
                text.split(by.as_str()).map(Value::from).collect()
            };
            Ok(Val::Json(parts.into()))
        }
        "join" => join(args),
        "title" => Ok(Val::text(title(&string(name, args, 0)?))),
        "lower" => Ok(Val::text(string(name, args, 0)?.to_lowercase())),
        "upper" => Ok(Val::text(string(name, args, 0)?.to_uppercase())),
        "pad" => pad(args),
        "truncate" => {
            let most = integer(name, args, 1)?;
            Ok(Val::text(string(name, args, 0)?.chars().take(most).collect::<String>()))
        }
        _ => Err(format!("{name:?} is not a defined function")),
    }
}

fn wrong(name: &str, want: usize, got: usize) -> String {
    format!("wrong number of args for {name}: want {want} got {got}")
}

fn arg<'a>(name: &str, args: &'a [Val], at: usize) -> Result<&'a Val, String> {
    args.get(at).ok_or_else(|| wrong(name, at + 1, args.len()))
}

fn string(name: &str, args: &[Val], at: usize) -> Result<String, String> {
    match arg(name, args, at)? {
        Val::Json(Value::String(text)) => Ok(text.clone()),
        Val::Empty { shown: "", .. } => Ok(String::new()),
        other => Err(format!("wrong type for value; expected string; got {}", other.type_name())),
    }
}

fn integer(name: &str, args: &[Val], at: usize) -> Result<usize, String> {
    let number = arg(name, args, at)?.to_json().as_u64();
    let number = number.ok_or_else(|| "wrong type for value; expected int".to_owned())?;
    Ok(usize::try_from(number.min(1 << 20)).unwrap_or(0))
}

fn print(args: &[Val]) -> String {
    let mut out = String::new();
    for (at, value) in args.iter().enumerate() {
        let is_text = |v: &Val| matches!(v, Val::Json(Value::String(_)));
        if at > 0 && !is_text(value) && !is_text(&args[at - 1]) {
            out.push(' ');
        }
        out.push_str(&value.print());
    }
    out
}

fn length(value: &Val) -> Result<Val, String> {
    let size = match value.to_json() {
        Value::String(text) => text.len(),
        Value::Array(items) => items.len(),
        Value::Object(map) => map.len(),
        Value::Null if matches!(value, Val::Empty { .. }) => 0,
        Value::Null => return Err("error calling len: len of nil pointer".to_owned()),
        _ => return Err(format!("error calling len: len of type {}", value.type_name())),
    };
    Ok(Val::Json(size.into()))
}

fn index(args: &[Val]) -> Result<Val, String> {
    let mut value = arg("index", args, 0)?.to_json();
    for key in &args[1..] {
        value = match (&value, key.to_json()) {
            (Value::Object(map), Value::String(key)) => map.get(&key).cloned().unwrap_or(Value::String(String::new())),
            (Value::Array(items), Value::Number(n)) => {
                let at = n.as_u64().and_then(|n| usize::try_from(n).ok());
                let found = at.and_then(|at| items.get(at));
                found.cloned().ok_or_else(|| format!("error calling index: index out of range: {n}"))?
            }
            (Value::String(text), Value::Number(n)) => {
                let at = n.as_u64().and_then(|n| usize::try_from(n).ok());
                let byte = at.and_then(|at| text.as_bytes().get(at));
                Value::from(*byte.ok_or_else(|| format!("error calling index: index out of range: {n}"))?)
            }
            (Value::Null, _) => return Err("error calling index: index of untyped nil".to_owned()),
            (other, key) => {
                return Err(format!(
                    "error calling index: can't index item of type {} with {}",
                    kind(other),
                    show(&key)
                ));
            }
        };
    }
    Ok(Val::Json(value))
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Object(_) => "map[string]interface {}",
        Value::Array(_) => "[]interface {}",
        Value::String(_) => "string",
        Value::Bool(_) => "bool",
        _ => "json.Number",
    }
}

fn slice(args: &[Val]) -> Result<Val, String> {
    let value = arg("slice", args, 0)?.to_json();
    let size = match &value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.len(),
        other => return Err(format!("error calling slice: can't slice item of type {}", kind(other))),
    };
    let from = if args.len() > 1 { integer("slice", args, 1)? } else { 0 };
    let to = if args.len() > 2 { integer("slice", args, 2)? } else { size };
    if let Some(beyond) = [from, to].into_iter().find(|at| *at > size) {
        return Err(format!("error calling slice: index out of range: {beyond}"));
    }
    if from > to {
        return Err(format!("error calling slice: invalid slice index: {from} > {to}"));
    }
    Ok(match value {
        Value::String(text) => Val::text(String::from_utf8_lossy(&text.as_bytes()[from..to]).into_owned()),
        Value::Array(items) => Val::Json(items[from..to].to_vec().into()),
        _ => Val::Json(Value::Null),
    })
}

fn join(args: &[Val]) -> Result<Val, String> {
    let by = string("join", args, 1)?;
    match arg("join", args, 0)?.to_json() {
        Value::Array(items) => Ok(Val::text(items.iter().map(show).collect::<Vec<_>>().join(&by))),
        Value::Null => Ok(Val::text("")),
        other => Err(format!("error calling join: can't join {}", kind(&other))),
    }
}

fn title(text: &str) -> String {
    let mut start = true;
    text.chars()
        .flat_map(|c| {
            let shown: Vec<char> = if start { c.to_uppercase().collect() } else { vec![c] };
            start = !(c.is_alphanumeric() || c == '_' || c == '\'');
            shown
        })
        .collect()
}

fn pad(args: &[Val]) -> Result<Val, String> {
    let text = string("pad", args, 0)?;
    if text.is_empty() {
        return Ok(Val::text(text));
    }
    let (before, after) = (integer("pad", args, 1)?, integer("pad", args, 2)?);
    Ok(Val::text(format!("{}{text}{}", " ".repeat(before), " ".repeat(after))))
}

/// JSON of objects with methods goes through Go's own encoder, which keeps HTML's characters out.
fn html_safe(json: &str) -> String {
    json.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

fn escape_html(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&#34;").replace('\'', "&#39;")
}

fn compare(name: &str, args: &[Val]) -> Result<Val, String> {
    let first = arg(name, args, 0)?.to_json();
    let others = &args[1..];
    if others.is_empty() {
        return Err(format!("error calling {name}: missing argument for comparison"));
    }
    let order = |other: &Val| {
        order(&first, &other.to_json())
            .ok_or_else(|| format!("error calling {name}: incompatible types for comparison"))
    };
    let truth = match name {
        "eq" => {
            let mut any = false;
            for other in others {
                any |= order(other)? == Ordering::Equal;
            }
            any
        }
        "ne" => order(&others[0])? != Ordering::Equal,
        "lt" => order(&others[0])? == Ordering::Less,
        "le" => order(&others[0])? != Ordering::Greater,
        "gt" => order(&others[0])? == Ordering::Greater,
        _ => order(&others[0])? != Ordering::Less,
    };
    Ok(Val::Json(truth.into()))
}

fn order(a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (Value::Number(a), Value::Number(b)) => match (a.as_i64(), b.as_i64()) {
            (Some(a), Some(b)) => Some(a.cmp(&b)),
            _ => a.as_f64()?.partial_cmp(&b.as_f64()?),
        },
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        (Value::Null, Value::Null) => Some(Ordering::Equal),
        (Value::Null, _) | (_, Value::Null) => Some(Ordering::Less),
        _ => None,
    }
}

/// Go's `printf` with the verbs that make sense on JSON.
fn printf(args: &[Val]) -> Result<Val, String> {
    let format = string("printf", args, 0)?;
    let mut rest = args[1..].iter();
    let mut out = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut spec = String::new();
        let verb = loop {
            match chars.next() {
                Some(c) if matches!(c, '-' | '+' | '#' | ' ' | '.') || c.is_ascii_digit() => spec.push(c),
                other => break other,
            }
        };
        match verb {
            None => out.push_str("%!(NOVERB)"),
            Some('%') => out.push('%'),
            Some(verb) => match rest.next() {
                Some(value) => out.push_str(&formatted(verb, &spec, value)),
                None => out.push_str(&format!("%!{verb}(MISSING)")),
            },
        }
    }
    if let Some(extra) = rest.next() {
        out.push_str(&format!("%!(EXTRA {}={})", extra.type_name(), extra.print()));
    }
    Ok(Val::text(out))
}

fn formatted(verb: char, spec: &str, value: &Val) -> String {
    let (width, precision) = spec.split_once('.').unwrap_or((spec, ""));
    let left = width.contains('-');
    let flags: &[char] = &['-', '+', '#', ' '];
    let digits = width.trim_start_matches(flags);
    let zero = digits.starts_with('0') && !left;
    let width: usize = digits.parse().unwrap_or(0).min(4096);
    let precision: Option<usize> = precision.parse().ok().map(|p: usize| p.min(4096));
    let json = value.to_json();
    let text = match verb {
        'q' => Value::from(value.print()).to_string(),
        'd' => json.as_i64().map_or_else(|| format!("%!d({}={})", value.type_name(), value.print()), |n| n.to_string()),
        'x' => match &json {
            Value::Number(n) => format!("{:x}", n.as_i64().unwrap_or(0)),
            _ => value.print().bytes().map(|b| format!("{b:02x}")).collect(),
        },
        'f' | 'F' => format!("{:.*}", precision.unwrap_or(6), json.as_f64().unwrap_or(0.0)),
        't' => json.as_bool().unwrap_or(false).to_string(),
        'T' => value.type_name(),
        'c' => json
            .as_u64()
            .and_then(|n| u32::try_from(n).ok())
            .and_then(char::from_u32)
            .map(String::from)
            .unwrap_or_default(),
        's' | 'v' => {
            let text = value.print();
            precision.map_or(text.clone(), |p| text.chars().take(p).collect())
        }
        other => format!("%!{other}({}={})", value.type_name(), value.print()),
    };
    let missing = width.saturating_sub(text.chars().count());
    match (left, zero) {
        (true, _) => text + &" ".repeat(missing),
        (false, true) => "0".repeat(missing) + &text,
        (false, false) => " ".repeat(missing) + &text,
    }
}
