//! Go's text templates as far as `--format` needs them: pipelines, fields, methods, variables, `if`, `range`, `with`,
//! Go's built-in functions and Docker's. `parse` reads, `exec` runs, `funcs` are the functions, `value` says how things
//! look in Go. No maintained crate speaks this language with Go's printing rules and error texts.

mod exec;
mod funcs;
mod parse;
mod value;

pub(crate) use value::{Val, View, show};

use parse::Node;

/// A template that has been read.
#[derive(Debug)]
pub(crate) struct Template {
    name: String,
    nodes: Vec<Node>,
    /// Whether the functions leave their input as it is, as they do in a table's head.
    header: bool,
}

impl Template {
    /// Reads a template. The error is Go's, beginning with `template: `.
    pub(crate) fn parse(name: &str, text: &str) -> Result<Self, String> {
        let nodes = parse::parse(name, text)?;
        Ok(Self { name: name.to_owned(), nodes, header: false })
    }

    /// The same template for a table's head.
    pub(crate) fn for_header(mut self) -> Self {
        self.header = true;
        self
    }

    /// Runs the template. What was written before an error is in `out`.
    pub(crate) fn run(&self, data: &Val, out: &mut String) -> Result<(), String> {
        exec::run(self, data, out)
    }
}

#[cfg(test)]
mod tests;
