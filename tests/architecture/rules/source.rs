//! Rust source as a rule sees it: without comments and without what is quoted.

/// The code alone; comments, strings and characters become blanks, lines stay lines.
pub(crate) fn code(text: &str) -> String {
    let mut rest = text;
    let mut kept = String::with_capacity(text.len());
    while let Some(next) = rest.chars().next() {
        let skipped = comment(rest).or_else(|| raw_string(rest, &kept)).or_else(|| quoted(rest));
        match skipped {
            Some(length) => {
                kept.extend(rest[..length].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
                rest = &rest[length..];
            }
            None => {
                kept.push(next);
                rest = &rest[next.len_utf8()..];
            }
        }
    }
    kept
}

/// Identifiers with the number of their line, from 1, and what follows directly.
pub(crate) fn words(code: &str) -> impl Iterator<Item = (usize, &str, &str)> {
    code.lines().enumerate().flat_map(|(number, line)| {
        let mut rest = line;
        std::iter::from_fn(move || {
            let start = rest.find(is_word)?;
            let word = &rest[start..];
            let end = word.find(|c| !is_word(c)).unwrap_or(word.len());
            rest = &word[end..];
            Some((number + 1, &word[..end], rest))
        })
    })
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn comment(rest: &str) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    let mut depth = 0_usize;
    let mut at = 0;
    while rest[at..].starts_with("/*") || depth > 0 {
        if rest[at..].starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest[at..].starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return Some(at);
            }
        } else {
            at += rest[at..].chars().next().map_or(rest.len() - at, char::len_utf8);
        }
        if at >= rest.len() {
            return Some(rest.len());
        }
    }
    None
}

/// `r"…"`, `r#"…"#` and the like, unless the `r` ends an identifier.
fn raw_string(rest: &str, before: &str) -> Option<usize> {
    let after = rest.strip_prefix('r').filter(|_| !before.ends_with(|c| is_word(c) && c != 'b' && c != 'c'))?;
    let hashes = after.len() - after.trim_start_matches('#').len();
    let body = after[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let length = body.find(&end).map_or(body.len(), |at| at + end.len());
    Some(1 + hashes + 1 + length)
}

/// A string, or a character; a lifetime is neither.
fn quoted(rest: &str) -> Option<usize> {
    let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    if quote == '\'' {
        let mut inside = rest[1..].chars();
        let first = inside.next()?;
        if first != '\\' && inside.next() != Some('\'') {
            return None;
        }
    }
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return Some(at + 1),
            _ => {}
        }
    }
    Some(rest.len())
}

#[test]
fn only_code_is_left() {
    let left = |text: &str| words(&code(text)).map(|(_, word, _)| word.to_owned()).collect::<Vec<_>>().join(" ");
    assert_eq!(left("a // b\nc"), "a c");
    assert_eq!(left("a /* b /* c */ d */ e"), "a e");
    assert_eq!(left(r#"a("b \" c", 'd', '\'', e)"#), "a e");
    assert_eq!(left("a(r#\"b \" c\"#, br\"d\") e"), "a b e");
    assert_eq!(left("fn a<'b>(c: &'b str) {}"), "fn a b c b str");
    assert_eq!(words("x\n  mount(y)").map(|(line, word, rest)| (line, word, rest.len())).collect::<Vec<_>>(), [(1, "x", 0), (2, "mount", 3), (2, "y", 1)]);
}
