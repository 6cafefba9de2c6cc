//! Lists: rows with named fields, shown as a table, as JSON lines or through a template.

use std::io::Write;
use std::rc::Rc;

use serde_json::{Map, Value};

use super::table;
use crate::error::{CliError, Result};
use crate::template::{Template, Val, View};

/// A row of a list.
pub(crate) trait Row {
    /// Go's name for the row's type; messages about unknown fields show it.
    const TYPE: &'static str;
    /// The fields and the heads of their columns. A field without a head is in no JSON.
    const FIELDS: &'static [(&'static str, &'static str)];

    /// The text of a field of `FIELDS`.
    fn field(&self, name: &str) -> String;

    /// The same in a template; fields are texts there, too, unless they can be looked into.
    fn value(&self, name: &str) -> Val {
        Val::text(self.field(name))
    }

    /// The same as JSON; most fields are texts there too.
    fn json_value(&self, name: &str) -> Value {
        Value::String(self.field(name))
    }

    /// Whether the row has that field of `FIELDS`; some have more when more was asked for.
    fn has(&self, _name: &str) -> bool {
        true
    }

    /// The value of one label, for rows that have labels.
    fn label(&self, _name: &str) -> Option<String> {
        None
    }
}

struct RowView<R: Row>(R);

impl<R: Row> View for RowView<R> {
    fn field(&self, name: &str, args: &[Val]) -> Option<std::result::Result<Val, String>> {
        if name == "Label" {
            let wanted = args.first().map(Val::print).unwrap_or_default();
            return self.0.label(&wanted).map(|text| Ok(Val::text(text)));
        }
        R::FIELDS.iter().find(|(known, _)| *known == name && self.0.has(known))?;
        Some(Ok(self.0.value(name)))
    }

    fn type_name(&self) -> &str {
        R::TYPE
    }

    fn json(&self) -> Value {
        let mut names: Vec<&str> = R::FIELDS.iter().map(|(name, _)| *name).filter(|name| self.0.has(name)).collect();
        names.sort_unstable();
        let pairs = names.into_iter().map(|name| (name.to_owned(), self.0.json_value(name)));
        Value::Object(pairs.collect::<Map<_, _>>())
    }
}

struct Header(&'static [(&'static str, &'static str)]);

impl View for Header {
    fn field(&self, name: &str, args: &[Val]) -> Option<std::result::Result<Val, String>> {
        if name == "Label" {
            let label = args.first().map(Val::print).unwrap_or_default();
            let last = label.rsplit('.').next().unwrap_or("").replace(['-', '_'], " ");
            return Some(Ok(Val::text(last)));
        }
        let found = self.0.iter().find(|(known, _)| *known == name);
        Some(Ok(Val::text(found.map_or("<no value>", |(_, head)| head))))
    }

    fn type_name(&self) -> &str {
        "formatter.SubHeaderContext"
    }

    fn json(&self) -> Value {
        Value::Null
    }
}

/// What `--format` asks for.
pub(crate) enum Format {
    /// A table with these columns.
    Table(String),
    /// One line per row.
    Lines(String),
}

impl Format {
    /// Reads `--format`; `default` is the template of the usual table.
    pub(crate) fn read(given: &str, configured: &str, default: &str) -> Self {
        let text = if given.is_empty() { configured } else { given };
        match text {
            "" | "table" => Self::Table(default.to_owned()),
            "json" => Self::Lines("{{json .}}".to_owned()),
            _ => match text.strip_prefix("table") {
                Some(columns) => Self::Table(columns.trim_start().to_owned()),
                None => Self::Lines(text.to_owned()),
            },
        }
    }

    /// The same, `raw` standing for lines of that kind; with `quiet`, for the first of them alone.
    pub(crate) fn with_raw(self, raw: &str, quiet: bool) -> Self {
        match self {
            Self::Lines(text) if text == "raw" && quiet => {
                Self::Lines(raw.lines().next().unwrap_or_default().to_owned())
            }
            Self::Lines(text) if text == "raw" => Self::Lines(raw.to_owned()),
            other => other,
        }
    }

    /// Whether the template names a field.
    pub(crate) fn mentions(&self, field: &str) -> bool {
        self.text().contains(field)
    }

    fn text(&self) -> &str {
        match self {
            Self::Table(text) | Self::Lines(text) => text,
        }
    }
}

/// Tries a format on a row, so that a mistake shows even where there is none to print.
pub(crate) fn check<R: Row + 'static>(row: R, format: &Format) -> Result<()> {
    let template = Template::parse("", &unescape(format.text()))
        .map_err(|e| CliError::new(format!("failed to parse template: {e}")))?;
    template
        .run(&Val::View(Rc::new(RowView(row))), &mut String::new())
        .map_err(|e| CliError::new(format!("failed to execute template: {e}")))
}

/// Writes rows in the wanted format.
pub(crate) fn write<R: Row + 'static>(rows: Vec<R>, format: &Format) -> Result<()> {
    let text = render(rows, format)?;
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(())
}

/// The rows in the wanted format.
pub(crate) fn render<R: Row + 'static>(rows: Vec<R>, format: &Format) -> Result<String> {
    let source = unescape(format.text());
    let fail = |e| CliError::new(format!("template parsing error: {e}"));
    let template = Template::parse("", &source).map_err(fail)?;
    let mut out = String::new();
    for row in rows {
        let data = Val::View(Rc::new(RowView(row)));
        template.run(&data, &mut out).map_err(fail)?;
        out.push('\n');
    }
    if matches!(format, Format::Lines(_)) {
        return Ok(out);
    }
    let mut head = String::new();
    let data = Val::View(Rc::new(Header(R::FIELDS)));
    template
        .for_header()
        .run(&data, &mut head)
        .map_err(|e| CliError::new(format!("failed to execute template: {e}")))?;
    Ok(table::align(&format!("{head}\n{out}"), 10, 3))
}

/// `\t` and `\n` written out, as shells pass them.
pub(crate) fn unescape(text: &str) -> String {
    text.replace("\\t", "\t").replace("\\n", "\n")
}

/// Labels as one text: `a=b,c=d`, sorted.
pub(crate) fn labels(map: Option<&std::collections::BTreeMap<String, String>>) -> String {
    map.into_iter().flatten().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(",")
}
