//! `images --tree`: each image with its names and sizes. A daemon that keeps one platform of each image has no
//! branches to show.

use std::io::Write;

use super::ls::Summary;
use crate::app::App;
use crate::error::{CliError, Result};
use crate::flags::Parsed;
use crate::net::client::Query;
use crate::output::human::{short_id, size3};
use crate::terminal;

const LEGEND: &str = "Info ->  U In Use ";

pub(super) fn run(app: &App, flags: &Parsed, filters: &[String]) -> Result<u8> {
    for (flag, shown) in
        [("no-trunc", "no-trunc"), ("quiet", "quiet"), ("digests", "show-digest"), ("format", "format")]
    {
        if flags.on(flag) || flags.get(flag).is_some_and(|value| flag == "format" && !value.is_empty()) {
            return Err(CliError::new(format!("--{shown} is not yet supported with --tree")));
        }
    }
    let path = Query::new().flag("all", flags.on("all")).filters(filters).flag("manifests", true).on("/images/json");
    let mut images: Vec<Summary> = app.client()?.get(path)?;
    images.sort_by_key(|image| std::cmp::Reverse(image.created));
    std::io::stdout().lock().write_all(render(&images, terminal::columns().max(LEGEND.len())).as_bytes())?;
    Ok(0)
}

fn render(images: &[Summary], columns: usize) -> String {
    let named: Vec<(&Summary, Vec<&str>)> = images.iter().map(|image| (image, names(image))).collect();
    let width = named.iter().flat_map(|(_, names)| names).map(|name| name.chars().count()).max().unwrap_or(0).max(5);
    let head = |text: &str, left: usize| format!("\x1b[39m\x1b[1m{text}\x1b[0m{}", " ".repeat(left));
    let mut out = format!(
        "WARNING: This is an experimental feature. The output may change and shouldn't be depended on.\n{LEGEND:>columns$}\n\n"
    );
    out.push_str(&head("IMAGE", width - 5 + 3));
    out.push_str(&head("ID", 13));
    out.push_str(&[head("DISK USAGE", 3), head("CONTENT SIZE", 3), head("EXTRA", 0)].concat());
    out.push('\n');
    for (image, names) in &named {
        let Some((last, others)) = names.split_last() else { continue };
        others.iter().for_each(|name| out.push_str(&format!("{name}\n")));
        let (id, size) = (short_id(&image.id), size3(image.size as f64));
        out.push_str(&format!("{last:<width$}   {id:<12}   {size:>10}   {:>12}   {:5}\n", "0B", ""));
    }
    out
}

fn names(image: &Summary) -> Vec<&str> {
    let mut names: Vec<&str> =
        image.repo_tags.iter().flatten().map(String::as_str).filter(|name| *name != "<none>:<none>").collect();
    names.sort_unstable();
    if names.is_empty() {
        names.push("<untagged>");
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_with_two_names() {
        let image = Summary {
            id: format!("sha256:{}", "0123456789ab".repeat(5)),
            repo_tags: Some(vec!["b:2".into(), "a:1".into()]),
            size: 1_982_408,
            ..Summary::default()
        };
        let text = render(&[image], 80);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1], format!("{LEGEND:>80}"));
        assert!(lines[3].starts_with("\x1b[39m\x1b[1mIMAGE\x1b[0m   \x1b[39m"), "{:?}", lines[3]);
        assert_eq!(lines[4..], ["a:1", "b:2     0123456789ab       1.98MB             0B        "]);
    }
}
