//! Shell completion. `droste completion SHELL` prints a script that does nothing but ask `droste __complete WORDS…`,
//! the last word being the one that is typed; the answer is one candidate per line. Names are asked of the daemon.

use serde_json::Value;

use crate::app::{App, Arity, Command, Found, GLOBAL_FLAGS, RAW, find};
use crate::cmd;
use crate::error::{CliError, Result};
use crate::flags::{self, Flag, Parsed};
use crate::net::client::Request;
use crate::plugin;

pub(crate) const COMMANDS: &[Command] = &[Command {
    top: "completion",
    group: "",
    names: &[],
    usage: "bash|zsh|fish",
    about: "Print a completion script for a shell",
    flags: "",
    arity: Arity::Exactly(1),
    interspersed: true,
    run: script,
}];

// bash takes words apart at colons and equals signs; they are put together again, and what stands before the last of
// them is taken off the answers, because bash inserts after it.
const BASH: &str = r#"_droste() {
    local line word at joined=() done=
    for ((at = 1; at <= COMP_CWORD; at++)); do
        word=${COMP_WORDS[at]}
        if [[ ${#joined[@]} -gt 0 && ( $word == [:=] || $done == [:=] ) ]]; then joined[-1]+=$word; else joined+=("$word"); fi
        done=$word
    done
    word=${joined[-1]}
    at=${word%"${word##*[:=]}"}
    COMPREPLY=()
    while IFS= read -r line; do COMPREPLY+=("${line#"$at"}"); done < <("${COMP_WORDS[0]}" __complete "${joined[@]}" 2>/dev/null)
    if [ ${#COMPREPLY[@]} -eq 0 ]; then compopt -o default; fi
    if [[ ${COMPREPLY[0]} == *= ]]; then compopt -o nospace; fi
}
complete -F _droste droste
"#;

const ZSH: &str = r#"#compdef droste
_droste() {
    local -a found
    found=("${(@f)$("${words[1]}" __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    if [[ -n ${found[1]} ]]; then compadd -- "${found[@]}"; else _files; fi
}
if [ "$funcstack[1]" = "_droste" ]; then _droste "$@"; else compdef _droste droste; fi
"#;

const FISH: &str = r"function __droste_complete
    set -l words (commandline -opc) (commandline -ct)
    set -e words[1]
    droste __complete $words 2>/dev/null
end
complete -c droste -f -a '(__droste_complete)'
";

fn script(_app: &App, flags: &Parsed) -> Result<u8> {
    print!(
        "{}",
        match flags.args[0].as_str() {
            "bash" => BASH,
            "zsh" => ZSH,
            "fish" => FISH,
            other => return Err(CliError::new(format!("no completion for {other:?}: bash, zsh and fish have one"))),
        }
    );
    Ok(0)
}

/// Answers a shell.
pub(crate) fn answer(app: &App, words: &[String]) -> Result<u8> {
    app.leave_daemon_alone();
    for candidate in candidates(app, words) {
        println!("{candidate}");
    }
    Ok(0)
}

fn candidates(app: &App, words: &[String]) -> Vec<String> {
    let Some((typed, before)) = words.split_last() else { return Vec::new() };
    let globals = flags::table(GLOBAL_FLAGS);
    if let Some(flag) = waiting_global(&globals, before) {
        return fitting(values(app, flag.name), typed);
    }
    let Ok(parsed) = flags::parse(&globals, before, false) else { return Vec::new() };
    let all = match find(&parsed.args) {
        Found::Command(command, _, used) => of_command(app, command, &parsed.args[used..], typed),
        Found::Group(group, []) => cmd::all().filter(|c| c.group == group.name).map(|c| c.name().to_owned()).collect(),
        Found::Nothing(_) if parsed.args.is_empty() && typed.starts_with('-') => options(&globals),
        Found::Nothing(_) if parsed.args.is_empty() => top(app),
        _ => Vec::new(),
    };
    fitting(all, typed)
}

fn fitting(all: Vec<String>, typed: &str) -> Vec<String> {
    let mut found: Vec<String> = all.into_iter().filter(|c| c.starts_with(typed)).collect();
    found.sort();
    found.dedup();
    found
}

/// The option before the command whose value is typed.
fn waiting_global<'a>(globals: &'a [Flag], before: &[String]) -> Option<&'a Flag> {
    let (last, earlier) = before.split_last()?;
    let parsed = flags::parse(globals, earlier, false).ok()?;
    waiting(globals, last).filter(|_| parsed.args.is_empty())
}

fn top(app: &App) -> Vec<String> {
    let mut all: Vec<String> = cmd::all().map(|c| c.top.to_owned()).filter(|t| !t.is_empty()).collect();
    all.extend(cmd::GROUPS.iter().map(|g| g.name.to_owned()));
    all.extend(["compose", "buildx"].into_iter().filter(|p| plugin::find(app, p).is_some()).map(str::to_owned));
    all.extend(["daemon".to_owned(), "help".to_owned()]);
    all
}

fn options(table: &[Flag]) -> Vec<String> {
    let all = table.iter().filter(|f| !f.hidden).map(|f| format!("--{}", f.name));
    all.chain(["--help".to_owned()]).collect()
}

fn of_command(app: &App, command: &Command, words: &[String], typed: &str) -> Vec<String> {
    let table = if command.flags == RAW { Vec::new() } else { flags::table(command.flags) };
    if let Some(flag) = words.last().and_then(|word| waiting(&table, word)) {
        return values(app, flag.name);
    }
    if typed.starts_with('-') {
        return options(&table);
    }
    let count = flags::parse(&table, words, command.interspersed).map_or(0, |p| p.args.len());
    arguments(app, command, count)
}

/// The flag that the last word is, if it still wants a value.
fn waiting<'a>(table: &'a [Flag], word: &str) -> Option<&'a Flag> {
    let found = match word.strip_prefix("--") {
        Some(long) => table.iter().find(|f| f.name == long),
        None => {
            let short = word.strip_prefix('-')?.chars().last()?;
            table.iter().find(|f| f.short == Some(short))
        }
    };
    found.filter(|f| !f.is_bool())
}

fn values(app: &App, flag: &str) -> Vec<String> {
    let fixed = |all: &[&str]| all.iter().map(|s| (*s).to_owned()).collect();
    match flag {
        "at" => hosts(app),
        "context" => contexts(app),
        "network" => networks(app),
        "volumes-from" | "link" => containers(app, true),
        "pull" => fixed(&["always", "missing", "never"]),
        "restart" => fixed(&["no", "always", "on-failure", "unless-stopped"]),
        "log-driver" => fixed(&["json-file", "local", "none"]),
        "signal" | "stop-signal" => fixed(&["HUP", "INT", "KILL", "QUIT", "TERM", "USR1", "USR2"]),
        "type" => fixed(&["container", "image", "network", "volume"]),
        "format" => fixed(&["json", "table"]),
        _ => Vec::new(),
    }
}

/// Names that may stand as the argument after `count` others.
fn arguments(app: &App, command: &Command, count: usize) -> Vec<String> {
    let most = match command.arity {
        Arity::None => 0,
        Arity::Exactly(n) | Arity::AtMost(n) | Arity::Between(_, n) => n,
        Arity::AtLeast(_) | Arity::Any => usize::MAX,
    };
    if count >= most {
        return Vec::new();
    }
    match (command.group, command.name()) {
        ("container", "run" | "create") if count == 0 => images(app),
        ("container", "exec" | "top") if count > 0 => Vec::new(),
        ("container", "run" | "create" | "ls" | "prune") => Vec::new(),
        ("container", "start" | "rm") => containers(app, true),
        ("container", "inspect" | "logs" | "rename" | "wait" | "commit" | "diff" | "export" | "update") => {
            containers(app, true)
        }
        ("container", "cp") => containers(app, true).into_iter().map(|name| name + ":").collect(),
        ("container", _) => containers(app, false),
        ("image", "rm" | "inspect" | "history" | "push" | "save" | "tag" | "ls" | "pull") => images(app),
        ("host", "limits") if count > 0 => Vec::new(),
        ("host", _) => hosts(app),
        ("network", "connect" | "disconnect") if count > 0 => containers(app, true),
        ("network", _) => networks(app),
        ("volume", "rm" | "inspect") => volumes(app),
        ("context", "use" | "rm" | "inspect" | "export" | "update") => contexts(app),
        ("", "inspect") => [containers(app, true), images(app), networks(app), volumes(app)].concat(),
        ("", "completion") => ["bash", "zsh", "fish"].map(str::to_owned).to_vec(),
        _ => Vec::new(),
    }
}

fn ask(app: &App, path: &str) -> Value {
    app.client().and_then(|client| client.get(path)).unwrap_or(Value::Null)
}

fn texts(list: &Value) -> impl Iterator<Item = String> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned)
}

fn containers(app: &App, all: bool) -> Vec<String> {
    let list = ask(app, if all { "/containers/json?all=1" } else { "/containers/json" });
    let names = list.as_array().into_iter().flatten().flat_map(|c| texts(&c["Names"]));
    names.map(|name| name.trim_start_matches('/').to_owned()).collect()
}

/// The paths of the hosts below, as `--at` takes them.
fn hosts(app: &App) -> Vec<String> {
    let tree = app.client().and_then(|client| client.call(Request::new("GET", "/droste/tree").unversioned()));
    let mut found = Vec::new();
    collect_hosts(&tree.unwrap_or(Value::Null), "", &mut found);
    found
}

fn collect_hosts(node: &Value, above: &str, found: &mut Vec<String>) {
    let children = node["Children"].as_array().into_iter().flatten();
    for child in children.filter(|child| child["Host"] == true) {
        let path = format!("{above}{}", child["Name"].as_str().unwrap_or_default());
        collect_hosts(child, &format!("{path}/"), found);
        found.push(path);
    }
}

fn images(app: &App) -> Vec<String> {
    let list = ask(app, "/images/json");
    let tags: Vec<String> = list.as_array().into_iter().flatten().flat_map(|i| texts(&i["RepoTags"])).collect();
    let bare = tags.iter().filter_map(|tag| tag.strip_suffix(":latest").map(str::to_owned));
    bare.chain(tags.iter().cloned()).filter(|tag| !tag.starts_with('<')).collect()
}

fn named(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(|n| n["Name"].as_str()).map(str::to_owned).collect()
}

fn networks(app: &App) -> Vec<String> {
    named(&ask(app, "/networks"))
}

fn volumes(app: &App) -> Vec<String> {
    named(&ask(app, "/volumes")["Volumes"])
}

fn contexts(app: &App) -> Vec<String> {
    let mut all = named(&Value::from(crate::context::Store::new(&app.config).list()));
    all.push(crate::context::DEFAULT.to_owned());
    all
}
