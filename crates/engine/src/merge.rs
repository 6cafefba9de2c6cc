//! How a request and an image's configuration become one: Docker's rules, as a pure function.

use droste_model::container::{Config, Healthcheck};

/// Completes what was asked with what the image says.
pub(crate) fn merge(mut asked: Config, image: &Config) -> Config {
    if asked.user.is_empty() {
        asked.user.clone_from(&image.user);
    }
    asked.exposed_ports.extend(image.exposed_ports.iter().copied());
    asked.volumes.extend(image.volumes.iter().cloned());
    asked.env = merge_env(asked.env, &image.env);
    for (key, value) in &image.labels {
        asked.labels.entry(key.clone()).or_insert_with(|| value.clone());
    }
    merge_command(&mut asked, image);
    if asked.working_dir.is_empty() {
        asked.working_dir.clone_from(&image.working_dir);
    }
    asked.healthcheck = merge_healthcheck(asked.healthcheck, image.healthcheck.as_ref());
    asked.stop_signal = asked.stop_signal.filter(|signal| !signal.is_empty()).or_else(|| image.stop_signal.clone());
    asked.shell = asked.shell.or_else(|| image.shell.clone());
    asked
}

fn variable(entry: &str) -> &str {
    entry.split_once('=').map_or(entry, |(name, _)| name)
}

/// The image's variables that are not asked for again come after the asked ones.
fn merge_env(mut asked: Vec<String>, image: &[String]) -> Vec<String> {
    for entry in image {
        if !asked.iter().any(|known| variable(known) == variable(entry)) {
            asked.push(entry.clone());
        }
    }
    asked
}

/// An entrypoint of its own drops the image's command; `[""]` means no entrypoint at all.
fn merge_command(asked: &mut Config, image: &Config) {
    let is_empty = |list: &Option<Vec<String>>| list.as_ref().is_none_or(Vec::is_empty);
    if is_empty(&asked.entrypoint) {
        if is_empty(&asked.cmd) {
            asked.cmd.clone_from(&image.cmd);
        }
        if asked.entrypoint.is_none() {
            asked.entrypoint.clone_from(&image.entrypoint);
        }
    }
    if asked.entrypoint.as_ref().is_some_and(|list| list.len() == 1 && list[0].is_empty()) {
        asked.entrypoint = None;
    }
}

fn merge_healthcheck(asked: Option<Healthcheck>, image: Option<&Healthcheck>) -> Option<Healthcheck> {
    let (mut asked, image) = match (asked, image) {
        (Some(asked), Some(image)) => (asked, image),
        (asked, image) => return asked.or_else(|| image.cloned()),
    };
    if asked.test.is_empty() {
        asked.test.clone_from(&image.test);
    }
    let or = |asked: i64, image: i64| if asked == 0 { image } else { asked };
    asked.interval = or(asked.interval, image.interval);
    asked.timeout = or(asked.timeout, image.timeout);
    asked.retries = or(asked.retries, image.retries);
    asked.start_period = or(asked.start_period, image.start_period);
    asked.start_interval = or(asked.start_interval, image.start_interval);
    Some(asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Option<Vec<String>> {
        Some(text.split_whitespace().map(str::to_owned).collect())
    }

    fn image() -> Config {
        Config {
            cmd: words("serve -x"),
            entrypoint: words("/init"),
            env: vec!["A=1".into(), "B=1".into()],
            ..Config::default()
        }
    }

    fn command(
        entrypoint: Option<Vec<String>>,
        cmd: Option<Vec<String>>,
    ) -> (Option<Vec<String>>, Option<Vec<String>>) {
        let merged = merge(Config { entrypoint, cmd, ..Config::default() }, &image());
        (merged.entrypoint, merged.cmd)
    }

    #[test]
    fn commands_follow_dockers_rules() {
        assert_eq!(command(None, None), (words("/init"), words("serve -x")));
        assert_eq!(command(None, words("sh")), (words("/init"), words("sh")));
        assert_eq!(command(words("/x"), None), (words("/x"), None));
        assert_eq!(command(Some(vec![String::new()]), words("sh")), (None, words("sh")));
        assert_eq!(command(Some(vec![]), None), (Some(vec![]), words("serve -x")));
    }

    #[test]
    fn asked_variables_win_and_come_first() {
        let merged = merge(Config { env: vec!["B=2".into(), "A".into()], ..Config::default() }, &image());
        assert_eq!(merged.env, ["B=2", "A"]);
        assert_eq!(merge(Config::default(), &image()).env, ["A=1", "B=1"]);
    }
}
