//! From the words on the command line to a command's function: global flags, the search for the command,
//! its flags, help, plugins, and the exit code.

use std::cell::{Cell, OnceCell};

use crate::cmd;
use crate::config::Config;
use crate::context;
use crate::error::{CliError, Result};
use crate::flags::{self, Flag, Parsed};
use crate::help;
use crate::net::client::Client;
use crate::net::endpoint::Endpoint;
use crate::{plugin, podman};

/// How many arguments a command takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arity {
    None,
    Exactly(usize),
    AtLeast(usize),
    AtMost(usize),
    Between(usize, usize),
    Any,
}

/// One command: where it hangs in the tree, what it takes, what it does.
pub(crate) struct Command {
    /// Its name without a group (`run`, `ps`, `rmi`), if it has one.
    pub(crate) top: &'static str,
    /// The group that it belongs to (`container`), and its names there, the first being its own; without any, its
    /// name is that at the top.
    pub(crate) group: &'static str,
    pub(crate) names: &'static [&'static str],
    /// What follows the name in the usage line.
    pub(crate) usage: &'static str,
    pub(crate) about: &'static str,
    pub(crate) flags: &'static str,
    pub(crate) arity: Arity,
    /// Whether flags may stand after the first argument.
    pub(crate) interspersed: bool,
    pub(crate) run: fn(&App, &Parsed) -> Result<u8>,
}

/// In place of a command's flags: it takes its words as they are.
pub(crate) const RAW: &str = "*";

impl Command {
    /// The command's name in its group.
    pub(crate) fn name(&self) -> &'static str {
        self.names.first().copied().unwrap_or(self.top)
    }

    fn answers_to(&self, word: &str) -> bool {
        if self.names.is_empty() { self.top == word } else { self.names.contains(&word) }
    }
}

/// Options before the command.
#[derive(Debug, Default, Clone)]
pub(crate) struct Globals {
    pub(crate) host: Option<String>,
    pub(crate) context: Option<String>,
    pub(crate) config: Option<String>,
    pub(crate) tls: Option<bool>,
    pub(crate) tlsverify: Option<bool>,
    pub(crate) tlscacert: Option<String>,
    pub(crate) tlscert: Option<String>,
    pub(crate) tlskey: Option<String>,
    pub(crate) debug: bool,
    pub(crate) at: Option<String>,
    /// Whether the program was called by podman's name.
    pub(crate) podman: bool,
}

/// The global flags.
pub(crate) const GLOBAL_FLAGS: &str = "
    - at string Act on the host at PATH below this one, such as ci-1/build (the machine's own socket only)
    - config string Folder of the client's configuration files
    c context string Name of the context that says which daemon to use
    D debug bool Say more when something fails
    H host list Daemon to connect to: unix://, tcp:// or ssh://
    l log-level string=info How much to log: debug, info, warn, error or fatal
    - tls bool Use TLS; implied by --tlsverify
    - tlscacert string Trust certificates signed by this CA only
    - tlscert string TLS certificate to present
    - tlskey string Key of that certificate
    - tlsverify bool Use TLS and verify the daemon
    v version bool Print the version and quit";

/// What `--log-level` may be.
const LEVELS: &[&str] = &["panic", "fatal", "error", "warn", "warning", "info", "debug", "trace"];

/// The header that names the host to act on.
pub(crate) const AT: &str = "Droste-At";

/// What a command's function works with.
pub(crate) struct App {
    pub(crate) globals: Globals,
    pub(crate) config: Config,
    /// The command as messages name it: `droste run`.
    pub(crate) path: String,
    client: OnceCell<Client>,
    passive: Cell<bool>,
}

impl App {
    fn new(globals: Globals) -> Self {
        let config = Config::new(globals.config.as_deref());
        Self { globals, config, path: String::new(), client: OnceCell::new(), passive: Cell::new(false) }
    }

    /// The daemon; the first use decides which one.
    pub(crate) fn client(&self) -> Result<&Client> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let endpoint = self.endpoint()?;
        let client = Client::new(endpoint, self.extra_headers());
        Ok(self.client.get_or_init(|| client))
    }

    pub(crate) fn endpoint(&self) -> Result<Endpoint> {
        let mut endpoint = context::endpoint(&self.globals, &self.config)?;
        endpoint.implicit &= !self.passive.get();
        Ok(endpoint)
    }

    /// From here on no daemon is started, for commands that only look.
    pub(crate) fn leave_daemon_alone(&self) {
        self.passive.set(true);
    }

    /// The path of a host, as `Droste-At` takes it, that the daemon names from where `--at` is.
    pub(crate) fn path_from_here(&self, path: &str) -> String {
        match &self.globals.at {
            Some(at) => format!("{at}/{path}"),
            None => path.to_owned(),
        }
    }

    /// For commands that hand a connection on as it is: `--at` would not hold there.
    pub(crate) fn refuse_at(&self) -> Result<()> {
        match &self.globals.at {
            Some(at) => Err(CliError::new(format!(
                "--at {at} can't hold for a connection that is handed on as it is: do this on that host itself"
            ))),
            None => Ok(()),
        }
    }

    fn extra_headers(&self) -> Vec<(String, String)> {
        let mut headers = Vec::new();
        if let Some(map) = self.config.map("HttpHeaders") {
            for (name, value) in map {
                headers.push((name.clone(), value.as_str().unwrap_or_default().to_owned()));
            }
        }
        if let Some(custom) = context::variable("DOCKER_CUSTOM_HEADERS") {
            for field in crate::values::csv(&custom) {
                if let Some((name, value)) = field.split_once('=') {
                    headers.push((name.to_owned(), value.to_owned()));
                }
            }
        }
        headers.retain(|(name, _)| !name.eq_ignore_ascii_case("user-agent"));
        if let Some(at) = &self.globals.at {
            headers.push((AT.to_owned(), at.clone()));
        }
        headers
    }
}

/// Runs the client with the words after the program's name, and returns the exit code.
pub(crate) fn run(args: &[String], podman: bool) -> u8 {
    match dispatch(args, podman) {
        Ok(code) => code,
        Err(error) if error.is_broken_pipe() => 1,
        Err(error) => {
            let text = error.to_string();
            if !text.is_empty() {
                eprintln!("{text}");
            }
            error.code()
        }
    }
}

fn dispatch(args: &[String], podman: bool) -> Result<u8> {
    let table = flags::table(GLOBAL_FLAGS);
    let parsed = flags::parse(&table, args, false).map_err(|why| {
        CliError::status(
            125,
            format!("{why}\n\nUsage:  droste [OPTIONS] COMMAND [ARG...]\n\nRun 'droste --help' for more information"),
        )
    })?;
    let globals = Globals { podman, ..globals(&parsed)? };
    let mut app = App::new(globals);
    if parsed.on("version") {
        println!("{}", if podman { podman::version() } else { version() });
        return Ok(0);
    }
    let words = &parsed.args;
    match words.first().map(String::as_str) {
        None => {
            help::root(&mut std::io::stderr().lock(), &app)?;
            Ok(0)
        }
        _ if parsed.help => {
            help::root(&mut std::io::stdout().lock(), &app)?;
            Ok(0)
        }
        Some("help") => help::help_command(&app, &words[1..]),
        Some("__complete") => crate::complete::answer(&app, &words[1..]),
        Some(_) => command(&mut app, words, args),
    }
}

/// What `--version` prints.
fn version() -> String {
    format!("Docker version 28.5.2, build droste-{}", env!("CARGO_PKG_VERSION"))
}

fn globals(parsed: &Parsed) -> Result<Globals> {
    if let Some(level) = parsed.get("log-level").filter(|level| !LEVELS.contains(level)) {
        return Err(CliError::new(format!("Unable to parse logging level: {level}")));
    }
    if parsed.all("host").len() > 1 {
        return Err(context::unresolved("Specify only one -H"));
    }
    if parsed.given("host") && parsed.given("context") {
        return Err(CliError::new("conflicting options: cannot specify both --host and --context"));
    }
    let text = |name: &str| parsed.get(name).map(str::to_owned);
    Ok(Globals {
        host: text("host"),
        context: text("context"),
        config: text("config"),
        tls: parsed.switch("tls"),
        tlsverify: parsed.switch("tlsverify"),
        tlscacert: text("tlscacert"),
        tlscert: text("tlscert"),
        tlskey: text("tlskey"),
        debug: parsed.on("debug"),
        at: text("at"),
        podman: false,
    })
}

fn command(app: &mut App, words: &[String], all: &[String]) -> Result<u8> {
    if words.first().is_some_and(|word| word == "builder") && plugin::find(app, "builder").is_some() {
        return plugin::run(app, "builder", words, all);
    }
    if app.globals.podman && words.first().is_some_and(|word| word == "pod") {
        return podman::pod(&words[1..]);
    }
    match find(words) {
        Found::Command(command, path, used) => {
            app.path = path;
            invoke(app, command, &words[used..])
        }
        Found::Group(group, rest) => help::group_command(group, rest),
        Found::Plugin(name) => plugin::run(app, &name, words, all),
        Found::Nothing(path) => match plugin::find(app, &words[0]) {
            Some(_) => plugin::run(app, &words[0].clone(), words, all),
            None => Err(CliError::new(unknown(&path))),
        },
    }
}

fn unknown(path: &str) -> String {
    format!("droste: unknown command: droste {path}\n\nRun 'droste --help' for more information")
}

/// What the first words mean.
pub(crate) enum Found<'a> {
    /// A command, its path, and how many words name it.
    Command(&'static Command, String, usize),
    /// A group alone or with words that are no command of it.
    Group(&'static cmd::Group, &'a [String]),
    /// A command that a plugin brings.
    Plugin(String),
    Nothing(String),
}

/// Finds the command that the words name.
pub(crate) fn find(words: &[String]) -> Found<'_> {
    let Some(first) = words.first() else { return Found::Nothing(String::new()) };
    if let Some(command) = cmd::all().find(|c| c.top == first) {
        return Found::Command(command, format!("droste {first}"), 1);
    }
    let Some(group) = cmd::GROUPS.iter().find(|g| g.name == first) else {
        return match first.as_str() {
            "buildx" | "compose" | "bake" => Found::Plugin(first.clone()),
            _ => Found::Nothing(first.clone()),
        };
    };
    let named = words.get(1).and_then(|second| cmd::all().find(|c| c.group == group.name && c.answers_to(second)));
    match named {
        Some(command) => Found::Command(command, format!("droste {first} {}", command.name()), 2),
        None => Found::Group(group, &words[1..]),
    }
}

fn invoke(app: &App, command: &'static Command, args: &[String]) -> Result<u8> {
    if command.flags == RAW {
        return (command.run)(app, &Parsed::of_words(args));
    }
    let others = if app.globals.podman { podman::flags(command) } else { "" };
    let table: Vec<Flag> = [flags::table(others), flags::table(command.flags)].concat();
    let parsed = flags::parse(&table, args, command.interspersed)
        .map_err(|why| CliError::status(125, format!("{why}\n\n{}", usage(&app.path, command, "Run"))))?;
    if parsed.help {
        help::command(&mut std::io::stdout().lock(), &app.path, command)?;
        return Ok(0);
    }
    check_arity(&app.path, command, parsed.args.len())?;
    if app.globals.podman { podman::run(app, command, parsed) } else { (command.run)(app, &parsed) }
}

fn usage(path: &str, command: &Command, verb: &str) -> String {
    let words = if command.usage.is_empty() { String::new() } else { format!(" {}", command.usage) };
    format!("Usage:  {path}{words}\n\n{verb} '{path} --help' for more information")
}

fn check_arity(path: &str, command: &Command, count: usize) -> Result<()> {
    let s = |n: usize| if n == 1 { "" } else { "s" };
    let (wrong, wants, verb) = match command.arity {
        Arity::Any => return Ok(()),
        Arity::None => (count > 0, "accepts no arguments".to_owned(), "Run"),
        Arity::Exactly(n) => (count != n, format!("requires {n} argument{}", s(n)), "Run"),
        Arity::AtLeast(n) => (count < n, format!("requires at least {n} argument{}", s(n)), "See"),
        Arity::AtMost(n) => (count > n, format!("requires at most {n} argument{}", s(n)), "Run"),
        Arity::Between(a, b) => {
            (count < a || count > b, format!("requires at least {a} and at most {b} arguments"), "Run")
        }
    };
    if !wrong {
        return Ok(());
    }
    Err(CliError::new(format!("droste: '{path}' {wants}\n\n{}", usage(path, command, verb))))
}
