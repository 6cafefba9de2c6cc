//! `system prune`.

use crate::app::App;
use crate::cmd::{image, prune};
use crate::error::{CliError, Result};
use crate::flags::Parsed;
use crate::output::human::size;

pub(super) const FLAGS: &str = "
    a all bool Remove every unused image, not only those without a name
    - filter filter Remove what meets a condition (\"label=<key>=<value>\")
    f force bool Do not ask
    - volumes bool Remove nameless volumes too";

pub(super) fn run(app: &App, flags: &Parsed) -> Result<u8> {
    let (all, volumes) = (flags.on("all"), flags.on("volumes"));
    let filters = flags.all("filter");
    if volumes && filters.iter().any(|f| f.starts_with("until")) {
        return Err(CliError::new("ERROR: The \"until\" filter is not supported with \"--volumes\""));
    }
    if !prune::agreed(flags, &warning(all, volumes, filters))? {
        return Ok(0);
    }
    let mut total = 0.0;
    let answer = prune::call(app, "/containers/prune", filters)?;
    print!("{}", prune::listed(&answer, "ContainersDeleted", "Deleted Containers"));
    total += prune::reclaimed(&answer);
    let answer = prune::call(app, "/networks/prune", filters)?;
    print!("{}", prune::listed(&answer, "NetworksDeleted", "Deleted Networks"));
    if volumes {
        let answer = prune::call(app, "/volumes/prune", filters)?;
        print!("{}", prune::listed(&answer, "VolumesDeleted", "Deleted Volumes"));
        total += prune::reclaimed(&answer);
    }
    let (text, freed) = image::prune_images(app, filters, all)?;
    print!("{text}");
    total += freed;
    match prune::call(app, "/build/prune", filters) {
        Ok(answer) => {
            print!("{}", prune::listed(&answer, "CachesDeleted", "Deleted build cache objects"));
            total += prune::reclaimed(&answer);
        }
        // A daemon without a build cache has none to clear.
        Err(CliError::Api { status: 404 | 501, .. }) => {}
        Err(error) => return Err(error),
    }
    println!("Total reclaimed space: {}", size(total));
    Ok(0)
}

fn warning(all: bool, volumes: bool, filters: &[String]) -> String {
    let mut text =
        "WARNING! This will remove:\n  - all stopped containers\n  - all networks not used by at least one container\n"
            .to_owned();
    if volumes {
        text.push_str("  - all anonymous volumes not used by at least one container\n");
    }
    text.push_str(if all {
        "  - all images without at least one container associated to them\n  - all build cache\n"
    } else {
        "  - all dangling images\n  - unused build cache\n"
    });
    if !filters.is_empty() {
        text.push_str("\n  Items to be pruned will be filtered with:\n");
        filters.iter().for_each(|filter| text.push_str(&format!("  - {filter}\n")));
    }
    text
}
