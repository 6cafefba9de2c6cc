//! Values of templates: JSON, and objects with methods; how Go prints them and what it takes for empty.

use std::rc::Rc;

use serde_json::Value;

/// An object whose fields and methods a template may name.
pub(crate) trait View {
    /// The value of a field or method; `None` if there is none of that name.
    fn field(&self, name: &str, args: &[Val]) -> Option<Result<Val, String>>;
    /// Go's name for the type, for messages.
    fn type_name(&self) -> &str;
    /// All fields, for `{{json .}}`.
    fn json(&self) -> Value;
}

/// A value in a template.
#[derive(Clone)]
pub(crate) enum Val {
    Json(Value),
    View(Rc<dyn View>),
    /// A field that is known and has no value; the text is what Go prints for it, the name is the field's.
    Empty {
        shown: &'static str,
        name: String,
    },
}

impl Val {
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Json(Value::String(text.into()))
    }

    /// What Go's `if` takes for true.
    pub(crate) fn truth(&self) -> bool {
        match self {
            Self::View(_) => true,
            Self::Empty { .. } => false,
            Self::Json(value) => match value {
                Value::Null => false,
                Value::Bool(b) => *b,
                Value::Number(n) => n.as_f64() != Some(0.0),
                Value::String(s) => !s.is_empty(),
                Value::Array(a) => !a.is_empty(),
                Value::Object(o) => !o.is_empty(),
            },
        }
    }

    /// As JSON, for functions that need data.
    pub(crate) fn to_json(&self) -> Value {
        match self {
            Self::Json(value) => value.clone(),
            Self::View(view) => view.json(),
            Self::Empty { .. } => Value::Null,
        }
    }

    /// As Go's `fmt.Print` shows it at the top of an action.
    pub(crate) fn print(&self) -> String {
        match self {
            Self::Json(Value::Null) => "<no value>".to_owned(),
            Self::Json(value) => show(value),
            Self::View(view) => show(&view.json()),
            Self::Empty { shown, .. } => (*shown).to_owned(),
        }
    }

    /// Go's name of the type, for messages.
    pub(crate) fn type_name(&self) -> String {
        match self {
            Self::View(view) => view.type_name().to_owned(),
            Self::Json(Value::Number(_)) => "json.Number".to_owned(),
            Self::Json(Value::Bool(_)) => "bool".to_owned(),
            Self::Json(Value::String(_)) => "string".to_owned(),
            _ => "interface {}".to_owned(),
        }
    }
}

/// JSON as Go prints the same value.
pub(crate) fn show(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::Bool(b) => b.to_string(),
        Value::Number(n) => n.to_string(),
        Value::String(s) => s.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let mut pairs: Vec<(&String, &Value)> = map.iter().collect();
            pairs.sort_by_key(|(key, _)| key.as_str());
            let pairs: Vec<String> = pairs.into_iter().map(|(k, v)| format!("{k}:{}", show(v))).collect();
            format!("map[{}]", pairs.join(" "))
        }
    }
}

/// Looks a name up in a JSON object as a Go program with Docker's types would: the JSON key first, then the key in
/// another case (`ID` for `Id`), then the fields that Docker leaves out when they are empty.
pub(crate) fn member(map: &serde_json::Map<String, Value>, name: &str) -> Option<Val> {
    let found =
        map.get(name).or_else(|| map.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value));
    match found {
        Some(Value::Null) => Some(Val::Empty { shown: empty_form(name), name: name.to_owned() }),
        Some(value) => Some(Val::Json(value.clone())),
        None => OPTIONAL
            .iter()
            .find(|known| **known == name)
            .map(|_| Val::Empty { shown: empty_form(name), name: name.to_owned() }),
    }
}

/// Fields that Docker's types have and its JSON leaves out when empty.
const OPTIONAL: &[&str] = &[
    "Annotations",
    "ArgsEscaped",
    "CreatedAt",
    "DeviceRequests",
    "ExposedPorts",
    "Health",
    "Healthcheck",
    "ImageManifestDescriptor",
    "Init",
    "Mounts",
    "NetworkDisabled",
    "Shell",
    "SizeRootFs",
    "SizeRw",
    "StopSignal",
    "StopTimeout",
    "StorageOpt",
    "Sysctls",
    "Tmpfs",
    "UsageData",
    "Variant",
];

/// Whether a field is a map among Docker's types: what is not in it has no value, where a type would have no field.
pub(crate) fn is_map(name: &str) -> bool {
    empty_form(name) == "map[]"
}

fn empty_form(name: &str) -> &'static str {
    match name {
        "Health"
        | "Healthcheck"
        | "Init"
        | "SizeRw"
        | "SizeRootFs"
        | "StopTimeout"
        | "PidsLimit"
        | "OomKillDisable"
        | "MemorySwappiness"
        | "IPAMConfig"
        | "UsageData"
        | "ImageManifestDescriptor"
        | "Descriptor" => "<nil>",
        "Labels" | "Volumes" | "Ports" | "ExposedPorts" | "Sysctls" | "Tmpfs" | "StorageOpt" | "Annotations"
        | "Attributes" | "DriverOpts" | "Options" | "Networks" | "PortBindings" | "Containers" => "map[]",
        "StopSignal" | "Variant" | "CreatedAt" => "",
        "NetworkDisabled" | "ArgsEscaped" => "false",
        _ => "[]",
    }
}
