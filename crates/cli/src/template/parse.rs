//! Reads Go's template language into a tree. Positions are kept because Go's messages name them.

use serde_json::Value;

/// A piece of a template.
#[derive(Debug)]
pub(super) enum Node {
    Text(String),
    Action(Pipe),
    If { pipe: Pipe, then: Vec<Node>, other: Vec<Node> },
    With { pipe: Pipe, then: Vec<Node>, other: Vec<Node> },
    Range { pipe: Pipe, body: Vec<Node>, other: Vec<Node> },
    Break,
    Continue,
}

/// Commands joined by `|`, perhaps with a variable in front.
#[derive(Debug)]
pub(super) struct Pipe {
    pub(super) variables: Vec<String>,
    /// `=` instead of `:=`.
    pub(super) assign: bool,
    pub(super) commands: Vec<Command>,
}

/// A function or method with its arguments, or one operand.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) words: Vec<Word>,
}

/// An operand and where it stands.
#[derive(Debug)]
pub(super) struct Word {
    pub(super) operand: Operand,
    /// Fields after it: `.A.B`.
    pub(super) chain: Vec<String>,
    pub(super) line: usize,
    pub(super) column: usize,
    pub(super) source: String,
}

#[derive(Debug)]
pub(super) enum Operand {
    Dot,
    Nil,
    Literal(Value),
    Variable(String),
    Function(String),
    Pipe(Box<Pipe>),
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Field(String),
    Dot,
    Variable(String),
    Word(String),
    Literal(Value),
    Open,
    Close,
    Bar,
    Comma,
    Declare,
    Assign,
}

#[derive(Debug, Clone)]
struct Placed {
    token: Token,
    start: usize,
    end: usize,
    /// White space stands before it.
    spaced: bool,
}

struct Action {
    tokens: Vec<Placed>,
    next: usize,
}

enum Piece {
    Text(String),
    Action(Action),
}

struct Parser<'a> {
    name: &'a str,
    text: &'a str,
    pieces: std::vec::IntoIter<Piece>,
    scope: Vec<String>,
}

pub(super) fn parse(name: &str, text: &str) -> Result<Vec<Node>, String> {
    let pieces = split(name, text)?;
    let mut parser = Parser { name, text, pieces: pieces.into_iter(), scope: vec!["$".to_owned()] };
    let (nodes, end) = parser.list(0)?;
    match end {
        Stop::Text => Ok(nodes),
        Stop::Closed => Err(parser.fail(text.len(), "unexpected {{end}}")),
        Stop::Else(_) => Err(parser.fail(text.len(), "unexpected {{else}}")),
    }
}

enum Stop {
    Text,
    Closed,
    Else(Option<Action>),
}

fn line_of(text: &str, at: usize) -> usize {
    1 + text.as_bytes()[..at.min(text.len())].iter().filter(|b| **b == b'\n').count()
}

fn split(name: &str, text: &str) -> Result<Vec<Piece>, String> {
    let fail = |at: usize, why: &str| format!("template: {name}:{}: {why}", line_of(text, at));
    let mut pieces = Vec::new();
    let mut at = 0;
    let mut trim = false;
    while let Some(found) = text[at..].find("{{") {
        let open = at + found;
        let mut body = open + 2;
        let mut before = &text[at..open];
        if trim {
            before = before.trim_start();
        }
        let rest = &text[body..];
        if rest.starts_with('-') && rest[1..].starts_with([' ', '\t', '\r', '\n']) {
            before = before.trim_end();
            body += 2;
        }
        if !before.is_empty() {
            pieces.push(Piece::Text(before.to_owned()));
        }
        if text[body..].trim_start().starts_with("/*") {
            let close = text[body..].find("*/").ok_or_else(|| fail(open, "unclosed comment"))? + body + 2;
            let (next, trims) =
                comment_end(text, close).ok_or_else(|| fail(open, "comment ends before closing delimiter"))?;
            (at, trim) = (next, trims);
            continue;
        }
        let (tokens, next, trims) = tokens(text, body).map_err(|(at, why)| fail(at, &why))?;
        pieces.push(Piece::Action(Action { tokens, next: 0 }));
        (at, trim) = (next, trims);
    }
    let last = if trim { text[at..].trim_start() } else { &text[at..] };
    if !last.is_empty() {
        pieces.push(Piece::Text(last.to_owned()));
    }
    Ok(pieces)
}

fn comment_end(text: &str, at: usize) -> Option<(usize, bool)> {
    let rest = &text[at..];
    if rest.starts_with("}}") {
        return Some((at + 2, false));
    }
    let trimmed = rest.trim_start();
    trimmed.starts_with("-}}").then(|| (text.len() - trimmed.len() + 3, true))
}

type Lexed = Result<(Vec<Placed>, usize, bool), (usize, String)>;

fn tokens(text: &str, mut at: usize) -> Lexed {
    let begin = at;
    let mut out: Vec<Placed> = Vec::new();
    loop {
        let rest = &text[at..];
        let trimmed = rest.trim_start();
        let spaced = trimmed.len() != rest.len();
        at = text.len() - trimmed.len();
        if spaced && trimmed.starts_with("-}}") {
            return Ok((out, at + 3, true));
        }
        if trimmed.starts_with("}}") {
            return Ok((out, at + 2, false));
        }
        let Some(first) = trimmed.chars().next() else { return Err((begin, "unclosed action".to_owned())) };
        let (token, size) = token(trimmed, first).map_err(|why| (at, why))?;
        out.push(Placed { token, start: at, end: at + size, spaced });
        at += size;
    }
}

fn token(text: &str, first: char) -> Result<(Token, usize), String> {
    let second = text[first.len_utf8()..].chars().next();
    Ok(match first {
        '(' => (Token::Open, 1),
        ')' => (Token::Close, 1),
        '|' => (Token::Bar, 1),
        ',' => (Token::Comma, 1),
        '=' => (Token::Assign, 1),
        ':' if second == Some('=') => (Token::Declare, 2),
        '"' => quoted(text)?,
        '\'' => character(text)?,
        '`' => {
            let end = text[1..].find('`').ok_or("unterminated raw quoted string")?;
            (Token::Literal(text[1..=end].into()), end + 2)
        }
        '.' if second.is_some_and(is_name) && !second.is_some_and(|c| c.is_ascii_digit()) => {
            let size = 1 + name_size(&text[1..]);
            (Token::Field(text[1..size].to_owned()), size)
        }
        '.' if !second.is_some_and(|c| c.is_ascii_digit()) => (Token::Dot, 1),
        '$' => {
            let size = 1 + name_size(&text[1..]);
            (Token::Variable(text[..size].to_owned()), size)
        }
        c if c.is_ascii_digit() || matches!(c, '+' | '-' | '.') => number(text)?,
        c if is_name(c) => {
            let size = name_size(text);
            (Token::Word(text[..size].to_owned()), size)
        }
        other => return Err(format!("unexpected bad character U+{:04X} '{other}' in command", other as u32)),
    })
}

fn is_name(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

fn name_size(text: &str) -> usize {
    text.find(|c| !is_name(c)).unwrap_or(text.len())
}

fn quoted(text: &str) -> Result<(Token, usize), String> {
    let mut out = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((Token::Literal(out.into()), at + 1)),
            '\n' => break,
            '\\' => out.push(escaped(&mut chars)?),
            other => out.push(other),
        }
    }
    Err("unterminated quoted string".to_owned())
}

fn escaped(chars: &mut impl Iterator<Item = (usize, char)>) -> Result<char, String> {
    let (_, c) = chars.next().ok_or("unterminated quoted string")?;
    let mut hex = |digits: usize| -> Result<char, String> {
        let text: String = chars.by_ref().take(digits).map(|(_, c)| c).collect();
        u32::from_str_radix(&text, 16).ok().and_then(char::from_u32).ok_or_else(|| "invalid syntax".to_owned())
    };
    Ok(match c {
        'n' => '\n',
        't' => '\t',
        'r' => '\r',
        'a' => '\u{7}',
        'b' => '\u{8}',
        'f' => '\u{c}',
        'v' => '\u{b}',
        'x' => hex(2)?,
        'u' => hex(4)?,
        'U' => hex(8)?,
        '\\' | '"' | '\'' => c,
        _ => return Err("invalid syntax".to_owned()),
    })
}

fn character(text: &str) -> Result<(Token, usize), String> {
    let mut chars = text.char_indices().skip(1);
    let c = match chars.next() {
        Some((_, '\\')) => escaped(&mut chars)?,
        Some((_, c)) => c,
        None => return Err("unterminated character constant".to_owned()),
    };
    match chars.next() {
        Some((at, '\'')) => Ok((Token::Literal((c as u32).into()), at + 1)),
        _ => Err("unterminated character constant".to_owned()),
    }
}

fn number(text: &str) -> Result<(Token, usize), String> {
    let size = text
        .char_indices()
        .find(|(at, c)| !(c.is_ascii_alphanumeric() || *c == '.' || *c == '_' || (*at == 0 && matches!(c, '+' | '-'))))
        .map_or(text.len(), |(at, _)| at);
    let digits = text[..size].replace('_', "");
    let value =
        crate::values::parse_int(&digits).ok().map(Value::from).or_else(|| digits.parse::<f64>().ok().map(Value::from));
    value.map(|v| (Token::Literal(v), size)).ok_or_else(|| format!("bad number syntax: {:?}", &text[..size]))
}

impl Parser<'_> {
    fn fail(&self, at: usize, why: &str) -> String {
        format!("template: {}:{}: {why}", self.name, line_of(self.text, at))
    }

    fn list(&mut self, depth: usize) -> Result<(Vec<Node>, Stop), String> {
        if depth > 100 {
            return Err(self.fail(0, "too deeply nested"));
        }
        let mut nodes = Vec::new();
        while let Some(piece) = self.pieces.next() {
            let mut action = match piece {
                Piece::Text(text) => {
                    nodes.push(Node::Text(text));
                    continue;
                }
                Piece::Action(action) => action,
            };
            let keyword = match action.peek() {
                Some(Placed { token: Token::Word(word), .. }) => word.clone(),
                _ => String::new(),
            };
            match keyword.as_str() {
                "end" => return Ok((nodes, Stop::Closed)),
                "else" => {
                    action.next += 1;
                    let more = action.peek().is_some().then_some(action);
                    return Ok((nodes, Stop::Else(more)));
                }
                "break" => nodes.push(Node::Break),
                "continue" => nodes.push(Node::Continue),
                "if" | "with" | "range" => {
                    action.next += 1;
                    nodes.push(self.control(&keyword, action, depth)?);
                }
                "define" | "template" | "block" => {
                    return Err(self.fail(action.start(), &format!("{{{{{keyword}}}}} is not available in --format")));
                }
                _ => nodes.push(Node::Action(self.whole(action)?)),
            }
        }
        Ok((nodes, Stop::Text))
    }

    fn whole(&mut self, mut action: Action) -> Result<Pipe, String> {
        let start = action.start();
        let pipe = self.pipe(&mut action, false, 0)?;
        if let Some(extra) = action.peek() {
            let text = &self.text[extra.start..extra.end];
            return Err(self.fail(extra.start, &format!("unexpected {text:?} in command")));
        }
        if pipe.commands.is_empty() {
            return Err(self.fail(start, "missing value for command"));
        }
        Ok(pipe)
    }

    fn control(&mut self, keyword: &str, action: Action, depth: usize) -> Result<Node, String> {
        let kept = self.scope.len();
        let pipe = self.whole(action)?;
        let (then, end) = self.list(depth + 1)?;
        let other = match end {
            Stop::Text => return Err(self.fail(self.text.len(), "unexpected EOF")),
            Stop::Closed => Vec::new(),
            Stop::Else(more) => self.otherwise(keyword, more, depth)?,
        };
        self.scope.truncate(kept);
        Ok(match keyword {
            "if" => Node::If { pipe, then, other },
            "with" => Node::With { pipe, then, other },
            _ => Node::Range { pipe, body: then, other },
        })
    }

    fn otherwise(&mut self, keyword: &str, more: Option<Action>, depth: usize) -> Result<Vec<Node>, String> {
        if let Some(mut action) = more {
            // `else if` and `else with` share the `end` of what they continue.
            action.next += 1;
            return Ok(vec![self.control(keyword, action, depth + 1)?]);
        }
        match self.list(depth + 1)? {
            (nodes, Stop::Closed) => Ok(nodes),
            (_, Stop::Else(_)) => Err(self.fail(self.text.len(), "expected end; found {{else}}")),
            (_, Stop::Text) => Err(self.fail(self.text.len(), "unexpected EOF")),
        }
    }

    fn pipe(&mut self, action: &mut Action, nested: bool, depth: usize) -> Result<Pipe, String> {
        if depth > 100 {
            return Err(self.fail(action.start(), "too deeply nested"));
        }
        let (variables, assign) = self.declaration(action)?;
        let mut commands = Vec::new();
        loop {
            let command = self.command(action, depth)?;
            if command.words.is_empty() {
                return Err(self.fail(action.start(), "missing value for command"));
            }
            commands.push(command);
            match action.peek().map(|p| p.token.clone()) {
                Some(Token::Bar) => action.next += 1,
                Some(Token::Close) if nested => break,
                None => break,
                Some(_) => {
                    let at = action.start();
                    let text = action.peek().map_or("", |p| &self.text[p.start..p.end]);
                    return Err(self.fail(at, &format!("unexpected {text:?} in operand")));
                }
            }
        }
        Ok(Pipe { variables, assign, commands })
    }

    fn declaration(&mut self, action: &mut Action) -> Result<(Vec<String>, bool), String> {
        let token = |offset: usize| action.tokens.get(action.next + offset).map(|p| &p.token);
        let names = match (token(0), token(1), token(2), token(3)) {
            (Some(Token::Variable(a)), Some(Token::Declare | Token::Assign), ..) => vec![a.clone()],
            (
                Some(Token::Variable(a)),
                Some(Token::Comma),
                Some(Token::Variable(b)),
                Some(Token::Declare | Token::Assign),
            ) => {
                vec![a.clone(), b.clone()]
            }
            _ => return Ok((Vec::new(), false)),
        };
        let operator = names.len() * 2 - 1;
        let assign = token(operator) == Some(&Token::Assign);
        let at = action.start();
        action.next += operator + 1;
        for name in &names {
            if !assign {
                self.scope.push(name.clone());
            } else if !self.scope.contains(name) {
                return Err(self.fail(at, &format!("undefined variable {name:?}")));
            }
        }
        Ok((names, assign))
    }

    fn command(&mut self, action: &mut Action, depth: usize) -> Result<Command, String> {
        let mut words = Vec::new();
        while let Some(placed) = action.peek().cloned() {
            let operand = match placed.token {
                Token::Bar | Token::Close => break,
                Token::Dot | Token::Field(_) => Operand::Dot,
                Token::Literal(value) => Operand::Literal(value),
                Token::Variable(name) => {
                    if !self.scope.contains(&name) {
                        return Err(self.fail(placed.start, &format!("undefined variable {name:?}")));
                    }
                    Operand::Variable(name)
                }
                Token::Word(word) => self.word(word, placed.start)?,
                Token::Open => {
                    action.next += 1;
                    let pipe = self.pipe(action, true, depth + 1)?;
                    if !matches!(action.peek(), Some(Placed { token: Token::Close, .. })) {
                        return Err(self.fail(placed.start, "unclosed left paren"));
                    }
                    Operand::Pipe(Box::new(pipe))
                }
                Token::Comma | Token::Declare | Token::Assign => break,
            };
            words.push(self.chain(action, operand, placed.start));
        }
        Ok(Command { words })
    }

    fn word(&self, word: String, at: usize) -> Result<Operand, String> {
        Ok(match word.as_str() {
            "true" => Operand::Literal(true.into()),
            "false" => Operand::Literal(false.into()),
            "nil" => Operand::Nil,
            _ if super::funcs::exists(&word) => Operand::Function(word),
            _ => return Err(self.fail(at, &format!("function {word:?} not defined"))),
        })
    }

    /// Collects the fields that follow an operand without a space.
    fn chain(&self, action: &mut Action, operand: Operand, start: usize) -> Word {
        let mut chain = Vec::new();
        let mut position = start;
        let mut end = start;
        if let Some(Placed { token, end: stop, .. }) = action.peek() {
            end = *stop;
            if let Token::Field(name) = token {
                chain.push(name.clone());
            }
        }
        action.next += 1;
        while let Some(Placed { token: Token::Field(name), spaced: false, start: at, end: stop }) = action.peek() {
            if chain.len() <= 1 && position == start {
                position = *at;
            }
            chain.push(name.clone());
            end = *stop;
            action.next += 1;
        }
        let line_start = self.text[..position].rfind('\n').map_or(0, |n| n + 1);
        Word {
            operand,
            chain,
            line: line_of(self.text, position),
            column: position - line_start,
            source: self.text[start..end].to_owned(),
        }
    }
}

impl Action {
    fn peek(&self) -> Option<&Placed> {
        self.tokens.get(self.next)
    }

    fn start(&self) -> usize {
        self.peek().or(self.tokens.last()).map_or(0, |p| p.start)
    }
}
