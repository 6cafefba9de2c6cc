//! Expectations in one line: `t!(e, POST "/containers/nope/kill", 404, ".message" == "…")`.
//! It owns the comparison of a reply with what the contract says, and leaves sending to `http`.

use serde_json::Value;

use crate::http::Reply;

/// Sends one request and compares the reply: method, path (with inline `{variables}`), an optional
/// JSON body in braces, the status, then any number of `"path" operator value`.
///
/// Operators: `==`, `!=`, `has` (text or list contains), `matches` (regular expression), `is` (a kind:
/// null, absent, bool, number, string, array, object, id, time). A value is one token tree: put
/// expressions in parentheses. A path is `".a.b.0.c"`; `"."` is the body, `"text"` its text, and
/// `"@Name"` a header. A target that begins with `~` is sent without a version prefix.
#[macro_export]
macro_rules! t {
    ($e:expr, $method:ident $path:literal $({ $($body:tt)* })?, $status:literal $(| $or:literal)*
     $(, $at:literal $op:tt $rhs:tt)* $(,)?) => {{
        let request = $e.request(stringify!($method), &format!($path));
        $(let request = request.json(&$crate::json!({ $($body)* }));)?
        let reply = request.send();
        $crate::expect!(reply, $status $(| $or)* $(, $at $op $rhs)*);
        reply
    }};
}

/// Compares a reply that is already there, in the words of `t!`.
#[macro_export]
macro_rules! expect {
    ($reply:expr, $status:literal $(| $or:literal)* $(, $at:literal $op:tt $rhs:tt)* $(,)?) => {{
        let reply = &$reply;
        reply.expect_one_of(&[$status $(, $or)*]);
        $($crate::check_one!(reply, $at, $op, $rhs);)*
    }};
}

/// One comparison of `t!`.
#[doc(hidden)]
#[macro_export]
macro_rules! check_one {
    ($r:expr, $at:literal, ==, $rhs:tt) => {
        $r.check($at, "==", &$crate::json!($rhs))
    };
    ($r:expr, $at:literal, !=, $rhs:tt) => {
        $r.check($at, "!=", &$crate::json!($rhs))
    };
    ($r:expr, $at:literal, has, $rhs:tt) => {
        $r.check($at, "has", &$crate::json!($rhs))
    };
    ($r:expr, $at:literal, lacks, $rhs:tt) => {
        $r.check($at, "lacks", &$crate::json!($rhs))
    };
    ($r:expr, $at:literal, matches, $rhs:tt) => {
        $r.check($at, "matches", &$crate::json!($rhs))
    };
    ($r:expr, $at:literal, is, $rhs:ident) => {
        $r.check($at, "is", &$crate::json!(stringify!($rhs)))
    };
}

impl Reply {
    /// Fails the test unless the status is `status`.
    pub fn expect_status(&self, status: u16) {
        self.expect_one_of(&[status]);
    }

    /// Fails the test unless the status is one of those given.
    pub fn expect_one_of(&self, statuses: &[u16]) {
        if !statuses.contains(&self.status) {
            fail(&format!("{}: expected {statuses:?}, got {}: {}", self.label, self.status, shorten(&self.text())));
        }
    }

    /// Fails the test unless `at operator right` holds.
    pub fn check(&self, at: &str, operator: &str, right: &Value) {
        let left = self.at(at);
        if !holds(left.as_ref(), operator, right) {
            fail(&format!(
                "{}: {at} {operator} {right}\n  but it is {}\n  in {}",
                self.label,
                left.map_or("absent".to_owned(), |v| v.to_string()),
                shorten(&self.text())
            ));
        }
    }

    /// What a path of `t!` names, or None if it is absent.
    pub fn at(&self, at: &str) -> Option<Value> {
        if at == "text" {
            return Some(Value::String(self.text()));
        }
        if let Some(name) = at.strip_prefix('@') {
            return self.header(name).map(Value::from);
        }
        let body: Value = serde_json::from_slice(&self.body).ok()?;
        dig(&body, at).cloned()
    }
}

/// Fails the test; with `DROSTE_TEST_SURVEY` set it only prints, so that one run shows every case that
/// fails and not the first of each topic alone.
fn fail(message: &str) {
    if std::env::var_os("DROSTE_TEST_SURVEY").is_some() {
        eprintln!("CASE FAILS {message}");
    } else {
        panic!("{message}");
    }
}

/// The value at a dotted path such as `.State.Health.Log.0`.
pub fn dig<'v>(value: &'v Value, path: &str) -> Option<&'v Value> {
    path.split('.').filter(|key| !key.is_empty()).try_fold(value, |value, key| match value {
        Value::Array(items) => items.get(key.parse::<usize>().ok()?),
        other => other.get(key),
    })
}

fn holds(left: Option<&Value>, operator: &str, right: &Value) -> bool {
    if operator == "is" {
        return is_kind(left, right.as_str().unwrap_or_default());
    }
    let Some(left) = left else { return false };
    match operator {
        "==" => left == right,
        "!=" => left != right,
        "has" => contains(left, right),
        "lacks" => !contains(left, right),
        "matches" => {
            let pattern = right.as_str().expect("a pattern is text");
            let regex = regex_lite::Regex::new(pattern).expect("a valid pattern");
            left.as_str().is_some_and(|text| regex.is_match(text))
        }
        other => panic!("unknown operator {other}"),
    }
}

fn contains(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::String(text), Value::String(part)) => text.contains(part),
        (Value::Array(items), item) => items.contains(item),
        (Value::Object(map), Value::String(key)) => map.contains_key(key),
        _ => false,
    }
}

fn is_kind(value: Option<&Value>, kind: &str) -> bool {
    let Some(value) = value else {
        return kind == "absent";
    };
    match kind {
        "null" => value.is_null(),
        "bool" => value.is_boolean(),
        "number" => value.is_number(),
        "positive" => value.as_f64().is_some_and(|n| n > 0.0),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "id" => value.as_str().is_some_and(|s| s.len() == 64 && s.bytes().all(|b| b.is_ascii_hexdigit())),
        "time" => value.as_str().is_some_and(|s| {
            regex_lite::Regex::new(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)$")
                .expect("a valid pattern")
                .is_match(s)
        }),
        "absent" => false,
        other => panic!("unknown kind {other}"),
    }
}

fn shorten(text: &str) -> String {
    let mut short: String = text.chars().take(1200).collect();
    if short.len() < text.len() {
        short += " …";
    }
    short
}
