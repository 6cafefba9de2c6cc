//! Help texts, built from the same tables that the parser reads.

use std::io::Write;

use crate::app::{App, Command, Found, GLOBAL_FLAGS, find};
use crate::cmd::{self, Group};
use crate::error::{CliError, Result};
use crate::flags::{self, Flag};
use crate::{plugin, terminal};

const COMMON: &[&str] =
    &["run", "exec", "ps", "build", "pull", "push", "images", "login", "logout", "search", "version", "info"];

/// The help of the program.
pub(crate) fn root(out: &mut dyn Write, app: &App) -> Result<()> {
    writeln!(
        out,
        "Usage:  droste [OPTIONS] COMMAND\n\nContainers that can be hosts: Docker's commands, and nesting\n"
    )?;
    writeln!(out, "Common Commands:")?;
    let common: Vec<(String, &str)> = COMMON
        .iter()
        .filter_map(|name| cmd::all().find(|c| c.top == *name))
        .map(|c| (c.top.to_owned(), c.about))
        .collect();
    section(out, &common)?;
    writeln!(out, "\nManagement Commands:")?;
    let mut groups: Vec<(String, String)> =
        cmd::GROUPS.iter().filter(|g| !g.swarm).map(|g| (g.name.to_owned(), g.about.to_owned())).collect();
    for found in plugin::all(app) {
        groups.push((format!("{}*", found.name), found.description));
    }
    groups.sort();
    section(out, &groups)?;
    writeln!(out, "\nSwarm Commands:")?;
    let swarm: Vec<(String, &str)> =
        cmd::GROUPS.iter().filter(|g| g.swarm).map(|g| (g.name.to_owned(), g.about)).collect();
    section(out, &swarm)?;
    writeln!(out, "\nCommands:")?;
    let mut rest: Vec<(String, &str)> = cmd::all()
        .filter(|c| !c.top.is_empty() && !COMMON.contains(&c.top))
        .map(|c| (c.top.to_owned(), c.about))
        .collect();
    rest.push(("daemon".to_owned(), "Run the engine"));
    rest.sort();
    section(out, &rest)?;
    writeln!(out, "\nGlobal Options:")?;
    options(out, &flags::table(GLOBAL_FLAGS))?;
    writeln!(
        out,
        "\nWithout --host, --context and DOCKER_HOST the daemon at /run/droste/droste.sock is used, or the one at"
    )?;
    writeln!(
        out,
        "/var/run/docker.sock if only that is there; root's first command starts a daemon if there is none."
    )?;
    writeln!(out, "\nRun 'droste COMMAND --help' for more information on a command.")?;
    Ok(())
}

fn section(out: &mut dyn Write, rows: &[(String, impl AsRef<str>)]) -> Result<()> {
    for (name, about) in rows {
        writeln!(out, "  {name:<11} {}", about.as_ref())?;
    }
    Ok(())
}

/// `droste help COMMAND`.
pub(crate) fn help_command(app: &App, words: &[String]) -> Result<u8> {
    let mut out = std::io::stdout().lock();
    if words.is_empty() {
        root(&mut out, app)?;
        return Ok(0);
    }
    match find(words) {
        Found::Command(found, path, _) => command(&mut out, &path, found)?,
        Found::Group(found, _) => group(&mut out, found)?,
        Found::Plugin(name) | Found::Nothing(name) => {
            drop(out);
            let help = [name.clone(), "--help".to_owned()];
            return match plugin::find(app, &name) {
                Some(_) => plugin::run(app, &name, &help, &help),
                None => Err(CliError::new(format!("unknown help topic: {}", words.join(" ")))),
            };
        }
    }
    Ok(0)
}

/// A group named without a command of it: its help, and an error if there was another word.
pub(crate) fn group_command(found: &Group, rest: &[String]) -> Result<u8> {
    match rest.first().map(String::as_str) {
        None => {
            group(&mut std::io::stderr().lock(), found)?;
            Ok(0)
        }
        Some("--help" | "-h") => {
            group(&mut std::io::stdout().lock(), found)?;
            Ok(0)
        }
        Some(word) if word.starts_with('-') => Err(CliError::status(
            125,
            format!(
                "unknown flag: {word}\n\nUsage:  droste {0}{1}\n\nRun 'droste {0} --help' for more information",
                found.name,
                command_word(found),
            ),
        )),
        Some(word) => Err(CliError::new(format!(
            "droste: unknown command: droste {0} {word}\n\nUsage:  droste {0}{1}\n\nRun 'droste {0} --help' for more information",
            found.name,
            command_word(found),
        ))),
    }
}

/// What Docker's usage of a group ends with: there are two that differ.
fn command_word(found: &Group) -> &'static str {
    if matches!(found.name, "volume" | "manifest") { " COMMAND" } else { "" }
}

fn group(out: &mut dyn Write, found: &Group) -> Result<()> {
    let name = found.name;
    writeln!(out, "Usage:  droste {name} COMMAND\n\n{}\n\nCommands:", found.about)?;
    let mut rows: Vec<(String, &str)> =
        cmd::all().filter(|c| c.group == name).map(|c| (c.name().to_owned(), c.about)).collect();
    rows.sort();
    section(out, &rows)?;
    writeln!(out, "\nRun 'droste {name} COMMAND --help' for more information on a command.")?;
    Ok(())
}

/// The help of one command.
pub(crate) fn command(out: &mut dyn Write, path: &str, found: &Command) -> Result<()> {
    let usage = if found.usage.is_empty() { String::new() } else { format!(" {}", found.usage) };
    writeln!(out, "Usage:  {path}{usage}\n\n{}", found.about)?;
    let mut aliases: Vec<String> = Vec::new();
    if !found.group.is_empty() {
        aliases.push(format!("droste {} {}", found.group, found.name()));
        aliases.extend(found.names.iter().skip(1).map(|name| format!("droste {} {name}", found.group)));
    }
    if !found.top.is_empty() {
        aliases.push(format!("droste {}", found.top));
    }
    if aliases.len() > 1 {
        writeln!(out, "\nAliases:\n  {}", aliases.join(", "))?;
    }
    let table = flags::table(found.flags);
    if !table.is_empty() {
        writeln!(out, "\nOptions:")?;
        options(out, &table)?;
    }
    Ok(())
}

/// The help of a build, whose options are not in its table.
pub(crate) fn build(out: &mut dyn Write, path: &str, flags: &'static str) -> Result<()> {
    writeln!(out, "Usage:  {path} [OPTIONS] PATH | URL | -\n\nBuild an image from a Dockerfile\n\nOptions:")?;
    options(out, &flags::table(flags))
}

fn options(out: &mut dyn Write, table: &[Flag]) -> Result<()> {
    let mut shown: Vec<&Flag> = table.iter().filter(|f| !f.hidden).collect();
    shown.sort_by_key(|f| f.name);
    let left: Vec<String> = shown.iter().map(|f| left(f)).collect();
    let width = left.iter().map(String::len).max().unwrap_or(0);
    let columns = terminal::columns().max(60);
    for (flag, left) in shown.iter().zip(&left) {
        let help = format!("{}{}", flag.help, default(flag));
        for (at, line) in wrap(&help, columns.saturating_sub(width + 3)).iter().enumerate() {
            let left = if at == 0 { left.as_str() } else { "" };
            writeln!(out, "{left:<width$}   {line}")?;
        }
    }
    Ok(())
}

fn left(flag: &Flag) -> String {
    let short = flag.short.map_or("      ".to_owned(), |c| format!("  -{c}, "));
    let kind = if flag.is_bool() { String::new() } else { format!(" {}", flag.kind) };
    format!("{short}--{}{kind}", flag.name)
}

fn default(flag: &Flag) -> String {
    match flag.default {
        Some(value) if flag.kind == "string" => format!(" (default {value:?})"),
        Some(value) => format!(" (default {value})"),
        None => String::new(),
    }
}

fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let Some(line) = lines.last_mut() else { break };
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width.max(20) {
            lines.push(word.to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}
