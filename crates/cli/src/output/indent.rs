//! JSON laid out over lines without touching a number or an order: what `inspect` prints is what the daemon said.

/// Lays compact JSON out with `indent` per level; empty lists and objects stay on their line.
pub(crate) fn indent(json: &str, prefix: &str, indent: &str) -> String {
    let mut out = String::with_capacity(json.len() * 2);
    let mut depth = 0usize;
    let mut fresh = false;
    let mut chars = json.chars().peekable();
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.push_str(prefix);
        for _ in 0..depth {
            out.push_str(indent);
        }
    };
    while let Some(c) = chars.next() {
        if c.is_ascii_whitespace() {
            continue;
        }
        if fresh && !matches!(c, ']' | '}') {
            line(&mut out, depth);
        }
        match c {
            '{' | '[' => {
                depth += 1;
                out.push(c);
                fresh = true;
                continue;
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                if !fresh {
                    line(&mut out, depth);
                }
                out.push(c);
            }
            ',' => {
                out.push(',');
                line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            '"' => {
                out.push('"');
                string(&mut chars, &mut out);
            }
            other => out.push(other),
        }
        fresh = false;
    }
    out
}

fn string(chars: &mut impl Iterator<Item = char>, out: &mut String) {
    let mut escaped = false;
    for c in chars {
        out.push(c);
        match c {
            '"' if !escaped => return,
            '\\' if !escaped => escaped = true,
            _ => escaped = false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lays_out() {
        let text = indent(r#"{"a":[],"b":{},"c":[1,{"d":"x\"{,"}],"n":1e400}"#, "", "    ");
        assert_eq!(
            text,
            "{\n    \"a\": [],\n    \"b\": {},\n    \"c\": [\n        1,\n        {\n            \"d\": \"x\\\"{,\"\n        }\n    ],\n    \"n\": 1e400\n}"
        );
    }
}
