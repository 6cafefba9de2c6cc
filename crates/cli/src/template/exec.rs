//! Runs a template: looks fields up, calls functions, follows `if`, `range` and `with`.

use serde_json::Value;

use super::parse::{Command, Node, Operand, Pipe, Word};
use super::value::{Val, is_map, member};
use super::{Template, funcs};

struct Run<'a> {
    template: &'a Template,
    variables: Vec<(String, Val)>,
    out: &'a mut String,
}

enum Flow {
    On,
    Break,
    Continue,
}

pub(super) fn run(template: &Template, data: &Val, out: &mut String) -> Result<(), String> {
    let mut run = Run { template, variables: vec![("$".to_owned(), data.clone())], out };
    run.list(&template.nodes, data).map(drop)
}

impl Run<'_> {
    fn list(&mut self, nodes: &[Node], dot: &Val) -> Result<Flow, String> {
        for node in nodes {
            match self.node(node, dot)? {
                Flow::On => {}
                other => return Ok(other),
            }
        }
        Ok(Flow::On)
    }

    fn node(&mut self, node: &Node, dot: &Val) -> Result<Flow, String> {
        match node {
            Node::Text(text) => self.out.push_str(text),
            Node::Action(pipe) => {
                let value = self.pipe(pipe, dot)?;
                if pipe.variables.is_empty() {
                    self.out.push_str(&value.print());
                }
            }
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
            Node::If { pipe, then, other } => {
                return self.scoped(|run| {
                    let truth = run.pipe(pipe, dot)?.truth();
                    run.list(if truth { then } else { other }, dot)
                });
            }
            Node::With { pipe, then, other } => {
                return self.scoped(|run| {
                    let value = run.pipe(pipe, dot)?;
                    if value.truth() { run.list(then, &value) } else { run.list(other, dot) }
                });
            }
            Node::Range { pipe, body, other } => return self.scoped(|run| run.range(pipe, body, other, dot)),
        }
        Ok(Flow::On)
    }

    fn scoped(&mut self, work: impl FnOnce(&mut Self) -> Result<Flow, String>) -> Result<Flow, String> {
        let kept = self.variables.len();
        let flow = work(self);
        self.variables.truncate(kept);
        flow
    }

    fn range(&mut self, pipe: &Pipe, body: &[Node], other: &[Node], dot: &Val) -> Result<Flow, String> {
        let over = self.commands(pipe, dot)?;
        let pairs = match over.to_json() {
            Value::Null => Vec::new(),
            Value::Array(items) => items.into_iter().enumerate().map(|(i, v)| (Value::from(i), v)).collect(),
            Value::Number(n) => {
                (0..n.as_u64().unwrap_or(0).min(1 << 20)).map(|i| (Value::from(i), Value::from(i))).collect()
            }
            Value::Object(map) => {
                let mut pairs: Vec<(Value, Value)> = map.into_iter().map(|(k, v)| (Value::from(k), v)).collect();
                pairs.sort_by(|a, b| a.0.as_str().cmp(&b.0.as_str()));
                pairs
            }
            other => {
                return Err(self.error(first_word(pipe), &format!("range can't iterate over {}", super::show(&other))));
            }
        };
        if pairs.is_empty() {
            return self.list(other, dot);
        }
        for (key, value) in pairs {
            let kept = self.variables.len();
            let value = Val::Json(value);
            match pipe.variables.as_slice() {
                [only] => self.variables.push((only.clone(), value.clone())),
                [first, second] => {
                    self.variables.push((first.clone(), Val::Json(key)));
                    self.variables.push((second.clone(), value.clone()));
                }
                _ => {}
            }
            let flow = self.list(body, &value)?;
            self.variables.truncate(kept);
            if matches!(flow, Flow::Break) {
                break;
            }
        }
        Ok(Flow::On)
    }

    fn pipe(&mut self, pipe: &Pipe, dot: &Val) -> Result<Val, String> {
        let value = self.commands(pipe, dot)?;
        for name in &pipe.variables {
            if !pipe.assign {
                self.variables.push((name.clone(), value.clone()));
            } else if let Some(slot) = self.variables.iter_mut().rev().find(|(n, _)| n == name) {
                slot.1 = value.clone();
            }
        }
        Ok(value)
    }

    fn commands(&mut self, pipe: &Pipe, dot: &Val) -> Result<Val, String> {
        let mut value = None;
        for command in &pipe.commands {
            value = Some(self.command(command, dot, value)?);
        }
        Ok(value.unwrap_or(Val::Json(Value::Null)))
    }

    fn command(&mut self, command: &Command, dot: &Val, last: Option<Val>) -> Result<Val, String> {
        let Some((first, rest)) = command.words.split_first() else { return Ok(Val::Json(Value::Null)) };
        if let Operand::Function(name) = &first.operand {
            return self.call(name, command, rest, dot, last);
        }
        if first.chain.is_empty() && (!rest.is_empty() || last.is_some()) {
            return Err(self.error(first, &format!("can't give argument to non-function {}", first.source)));
        }
        let mut args = Vec::new();
        for word in rest {
            args.push(self.word(word, dot, &[])?);
        }
        args.extend(last);
        self.word(first, dot, &args)
    }

    fn call(
        &mut self,
        name: &str,
        command: &Command,
        rest: &[Word],
        dot: &Val,
        last: Option<Val>,
    ) -> Result<Val, String> {
        let first = &command.words[0];
        let mut args = Vec::new();
        for word in rest {
            let value = self.word(word, dot, &[])?;
            let decided = match name {
                "and" => !value.truth(),
                "or" => value.truth(),
                _ => false,
            };
            if decided {
                return Ok(value);
            }
            args.push(value);
        }
        args.extend(last);
        let value = funcs::call(name, &args, self.template.header).map_err(|why| {
            let source = command.words.iter().map(|w| w.source.as_str()).collect::<Vec<_>>().join(" ");
            self.error_at(first, &source, &why)
        })?;
        self.walk(value, first, &[])
    }

    fn word(&mut self, word: &Word, dot: &Val, args: &[Val]) -> Result<Val, String> {
        let start = match &word.operand {
            Operand::Dot => dot.clone(),
            Operand::Nil => return Err(self.error(word, "nil is not a command")),
            Operand::Literal(value) => Val::Json(value.clone()),
            Operand::Variable(name) => {
                let found = self.variables.iter().rev().find(|(n, _)| n == name);
                found.map_or(Val::Json(Value::Null), |(_, value)| value.clone())
            }
            Operand::Function(name) => {
                funcs::call(name, &[], self.template.header).map_err(|why| self.error(word, &why))?
            }
            Operand::Pipe(pipe) => self.commands(pipe, dot)?,
        };
        self.walk(start, word, args)
    }

    fn walk(&self, start: Val, word: &Word, args: &[Val]) -> Result<Val, String> {
        let mut value = start;
        for (index, name) in word.chain.iter().enumerate() {
            let args = if index + 1 == word.chain.len() { args } else { &[] };
            let of = index.checked_sub(1).and_then(|before| word.chain.get(before)).map(String::as_str);
            value = self.field(&value, name, of, args, word)?;
        }
        Ok(value)
    }

    /// A field of a value; `of` is the name of the field that the value is.
    fn field(&self, value: &Val, name: &str, of: Option<&str>, args: &[Val], word: &Word) -> Result<Val, String> {
        let missing = || self.error(word, &format!("can't evaluate field {name} in type {}", value.type_name()));
        match value {
            Val::View(view) => match view.field(name, args) {
                Some(Ok(value)) => Ok(value),
                Some(Err(why)) => Err(self.error(word, &why)),
                None => Err(missing()),
            },
            Val::Json(Value::Object(map)) => match member(map, name) {
                Some(found) if args.is_empty() => Ok(found),
                Some(_) => Err(self.error(word, &format!("{name} is not a method but has arguments"))),
                None if of.is_some_and(is_map) => Ok(Val::Json(Value::Null)),
                None => Err(self.error(word, &format!("map has no entry for key {name:?}"))),
            },
            Val::Empty { name: gone, .. } => Err(self.error(word, &format!("map has no entry for key {gone:?}"))),
            Val::Json(Value::Null) => Err(self.error(word, &format!("nil data; no entry for key {name:?}"))),
            Val::Json(_) => Err(self.error(word, &format!("can't evaluate field {name} in type interface {{}}"))),
        }
    }

    fn error(&self, word: &Word, why: &str) -> String {
        self.error_at(word, &word.source, why)
    }

    fn error_at(&self, word: &Word, source: &str, why: &str) -> String {
        let name = &self.template.name;
        let mut context: String = source.chars().take(20).collect();
        if source.chars().count() > 20 {
            context.push_str("...");
        }
        format!("template: {name}:{}:{}: executing {name:?} at <{context}>: {why}", word.line, word.column)
    }
}

fn first_word(pipe: &Pipe) -> &Word {
    &pipe.commands[0].words[0]
}
