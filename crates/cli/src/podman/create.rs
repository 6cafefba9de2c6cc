//! Options of `create` and `run` that podman reads in another way.

use crate::error::{CliError, Result};
use crate::flags::Parsed;

/// Says in Docker's words what was said in podman's.
pub(super) fn adapt(flags: &mut Parsed) -> Result<()> {
    let networks = flags.all("network").iter().map(|given| network(given)).collect();
    flags.replace("network", networks);
    let drivers = flags.all("log-driver").iter().map(|given| log_driver(given).to_owned()).collect();
    flags.replace("log-driver", drivers);
    entrypoint(flags);
    health(flags)
}

/// `NAME:alias=a,ip=b` as `name=NAME,alias=a,ip=b`.
fn network(given: &str) -> String {
    let Some((name, options)) = given.split_once(':') else { return given.to_owned() };
    if !options.split(',').all(|option| option.contains('=')) {
        return given.to_owned();
    }
    let renamed = |option: &str| match option.strip_prefix("mac=") {
        Some(address) => format!(",mac-address={address}"),
        None => format!(",{option}"),
    };
    format!("name={name}{}", options.split(',').map(renamed).collect::<String>())
}

/// Podman's own format of files holds what Docker's does, and is its default as that is.
fn log_driver(given: &str) -> &str {
    if given == "k8s-file" { "json-file" } else { given }
}

fn array(text: &str) -> Option<Vec<String>> {
    serde_json::from_str(text).ok()
}

/// An array of words is a program and, before the command, its first arguments.
fn entrypoint(flags: &mut Parsed) {
    let Some(mut words) = array(flags.str("entrypoint")) else { return };
    let rest = words.split_off(words.len().min(1));
    flags.replace("entrypoint", vec![words.pop().unwrap_or_default()]);
    if let [_, ..] = flags.args[..] {
        flags.args.splice(1..1, rest);
    }
}

/// An array is a test as the API has it, a single line for a shell, or a program with its arguments.
fn health(flags: &mut Parsed) -> Result<()> {
    let Some(mut words) = array(flags.str("health-cmd")) else { return Ok(()) };
    match words.first().map(String::as_str) {
        None => return Err(CliError::new("--health-cmd: an array must not be empty")),
        Some("CMD" | "CMD-SHELL" | "NONE") => {}
        Some(_) => words.insert(0, if words.len() == 1 { "CMD-SHELL" } else { "CMD" }.to_owned()),
    }
    flags.replace("health-test", words);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags::{parse, table};

    const FLAGS: &str = "
        - entrypoint string x
        - health-cmd string x
        - log-driver string x
        - network list x";

    fn adapted(args: &[&str]) -> Parsed {
        let words: Vec<String> = args.iter().map(|word| (*word).to_owned()).collect();
        let mut flags = parse(&table(FLAGS), &words, false).unwrap();
        adapt(&mut flags).unwrap();
        flags
    }

    #[test]
    fn networks_have_options_behind_a_colon() {
        let said = [
            "--network=back:alias=a,alias=b,mac=02:00:00:00:00:01",
            "--network=host",
            "--network=container:x",
            "--network=plain",
            "img",
        ];
        let flags = adapted(&said);
        let read = ["name=back,alias=a,alias=b,mac-address=02:00:00:00:00:01", "host", "container:x", "plain"];
        assert_eq!(flags.all("network"), read);
    }

    #[test]
    fn an_entrypoint_may_be_an_array() {
        let flags = adapted(&["--entrypoint", r#"["sh", "-c"]"#, "img", "true"]);
        assert_eq!((flags.str("entrypoint"), &flags.args[..]), ("sh", &["img", "-c", "true"].map(str::to_owned)[..]));
        let flags = adapted(&["--entrypoint", "[]", "img", "true"]);
        assert_eq!((flags.given("entrypoint"), flags.str("entrypoint"), flags.args.len()), (true, "", 2));
        assert_eq!(adapted(&["--entrypoint", "sh", "img"]).str("entrypoint"), "sh");
    }

    #[test]
    fn health_checks_may_be_arrays() {
        let test = |given: &str| adapted(&["--health-cmd", given, "img"]).all("health-test").join(" ");
        assert_eq!(test(r#"["wget", "-q", "x"]"#), "CMD wget -q x");
        assert_eq!(test(r#"["wget -q x"]"#), "CMD-SHELL wget -q x");
        assert_eq!(test(r#"["CMD-SHELL", "true"]"#), "CMD-SHELL true");
        assert_eq!(test("wget -q x"), "", "Docker's way");
    }

    #[test]
    fn the_log_driver_has_another_name() {
        assert_eq!(adapted(&["--log-driver=k8s-file", "img"]).str("log-driver"), "json-file");
        assert_eq!(adapted(&["--log-driver=local", "img"]).str("log-driver"), "local");
    }
}
