//! Registries: `login`, `logout`, `search`.

use std::io::Read;

use serde::Deserialize;
use serde_json::Value;

use crate::app::App;
use crate::credentials::{self, Credentials};
use crate::error::{CliError, Result};
use crate::flags::Parsed;
use crate::net::client::{Query, Request};
use crate::output::human::ellipsis;
use crate::output::list::{self, Format, Row};
use crate::terminal;

pub(super) const LOGIN: &str = "
    p password string Password or access token
    - password-stdin bool Read the password or access token from stdin
    u username string User";
pub(super) const SEARCH: &str = "
    f filter filter Show what meets a condition
    - format string Format of the output: 'table' (the default), 'table TEMPLATE', 'json' or a Go template
    - limit int Most results to show
    - no-trunc bool Show everything in full";

/// The key under which a server's credentials are kept, from what the user wrote.
fn server(flags: &Parsed) -> String {
    match flags.args.first().map(String::as_str) {
        None | Some("") | Some("docker.io" | "index.docker.io" | "registry-1.docker.io") | Some(credentials::HUB) => {
            credentials::HUB.to_owned()
        }
        Some(text) => {
            let text = text.trim_start_matches("https://").trim_start_matches("http://");
            text.split('/').next().unwrap_or(text).to_owned()
        }
    }
}

pub(super) fn login(app: &App, flags: &Parsed) -> Result<u8> {
    let server = server(flags);
    let mut given = Credentials { username: flags.str("username").to_owned(), ..Credentials::default() };
    if flags.given("password") {
        eprintln!("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
        if flags.on("password-stdin") {
            return Err(CliError::new("--password and --password-stdin are mutually exclusive"));
        }
        flags.str("password").clone_into(&mut given.password);
    }
    if flags.on("password-stdin") {
        if given.username.is_empty() {
            return Err(CliError::new("Must provide --username with --password-stdin"));
        }
        std::io::stdin().read_to_string(&mut given.password).map_err(|e| CliError::io("reading the password", e))?;
        given.password = given.password.trim_end_matches(['\r', '\n']).to_owned();
    }
    let nothing_given = given.username.is_empty() && given.password.is_empty();
    let known = if nothing_given { credentials::lookup(&app.config, &server)? } else { None };
    let used = match known {
        Some(known) => {
            println!("Authenticating with existing credentials...");
            known
        }
        None => ask(given, &server)?,
    };
    let answer: Value = app.client()?.call(Request::new("POST", "/auth").json(&credentials::body(&used, &server)))?;
    let mut kept = used;
    if let Some(token) = answer["IdentityToken"].as_str().filter(|t| !t.is_empty()) {
        token.clone_into(&mut kept.identity_token);
        kept.password.clear();
    }
    if credentials::store(&app.config, &server, &kept)? {
        eprintln!(
            "\nWARNING! Your credentials are stored unencrypted in '{}'.\nConfigure a credential helper to remove this \
             warning: \"credsStore\" in that file names one.\n",
            app.config.file().display()
        );
    }
    println!("{}", answer["Status"].as_str().unwrap_or("Login Succeeded"));
    Ok(0)
}

/// Asks for what is missing.
fn ask(mut given: Credentials, server: &str) -> Result<Credentials> {
    if (given.username.is_empty() || given.password.is_empty()) && !terminal::stdin_is_terminal() {
        return Err(CliError::new("Error: Cannot perform an interactive login from a non TTY device"));
    }
    if given.username.is_empty() {
        given.username = terminal::ask(&format!("Username for {server}: "), true)?.trim().to_owned();
        if given.username.is_empty() {
            return Err(CliError::new("Error: Non-null Username Required"));
        }
    }
    if given.password.is_empty() {
        given.password = terminal::ask("Password: ", false)?;
        if given.password.is_empty() {
            return Err(CliError::new("Error: Password Required"));
        }
    }
    Ok(given)
}

pub(super) fn logout(app: &App, flags: &Parsed) -> Result<u8> {
    let server = server(flags);
    println!("Removing login credentials for {server}");
    credentials::erase(&app.config, &server)?;
    Ok(0)
}

/// One image that a search found.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Found {
    name: String,
    description: Option<String>,
    star_count: i64,
    is_official: bool,
    #[serde(skip)]
    truncate: bool,
}

pub(super) fn search(app: &App, flags: &Parsed) -> Result<u8> {
    let limit = flags.int("limit").filter(|n| *n > 0).map(|n| n.to_string()).unwrap_or_default();
    let path = Query::new()
        .filters(flags.all("filter"))
        .some("limit", &limit)
        .add("term", &flags.args[0])
        .on("/images/search");
    let auth = credentials::header(app, "docker.io")?;
    let mut found: Vec<Found> = app.client()?.call(Request::new("GET", path).header("X-Registry-Auth", auth))?;
    found.sort_by_key(|f| std::cmp::Reverse(f.star_count));
    found.iter_mut().for_each(|f| f.truncate = !flags.on("no-trunc"));
    let format = Format::read(flags.str("format"), "", "{{.Name}}\t{{.Description}}\t{{.StarCount}}\t{{.IsOfficial}}");
    list::write(found, &format)?;
    Ok(0)
}

impl Row for Found {
    const TYPE: &'static str = "*registry.searchContext";
    const FIELDS: &'static [(&'static str, &'static str)] = &[
        ("Name", "NAME"),
        ("Description", "DESCRIPTION"),
        ("StarCount", "STARS"),
        ("IsOfficial", "OFFICIAL"),
        ("IsAutomated", "AUTOMATED"),
    ];

    fn field(&self, name: &str) -> String {
        match name {
            "Name" => self.name.clone(),
            "Description" => {
                let text = self.description.as_deref().unwrap_or("").replace(['\n', '\r'], " ");
                if self.truncate { ellipsis(&text, 45) } else { text }
            }
            "StarCount" => self.star_count.to_string(),
            "IsOfficial" if self.is_official => "[OK]".to_owned(),
            _ => String::new(),
        }
    }
}
