//! Images in lists and by themselves.

use std::collections::BTreeMap;

use droste_api::echo;
use droste_api::wire::{Empty, GraphDriver, ImageConfig, ImageInspect, ImageMetadata, ImageSummary, RootFs, ZERO_TIME};
use droste_engine::view::ImageView;
use droste_model::container::Config;

use super::signed;

/// An entry of a list.
pub(crate) fn summary(view: &ImageView) -> ImageSummary {
    let config = view.image.config();
    ImageSummary {
        containers: signed(view.containers),
        created: view.image.created().as_secs(),
        id: view.id.clone(),
        labels: Some(config.config.labels.clone()).filter(|labels| !labels.is_empty()),
        parent_id: view.image.parent().map(|parent| parent.to_string()).unwrap_or_default(),
        descriptor: None,
        repo_digests: Some(view.digests.clone()),
        repo_tags: Some(view.tags.clone()),
        shared_size: view.shared_size.map_or(-1, signed),
        size: signed(view.image.size()),
        virtual_size: 0,
    }
}

/// An image by itself.
pub(crate) fn inspect(view: &ImageView) -> ImageInspect {
    let config = view.image.config();
    ImageInspect {
        id: view.id.clone(),
        repo_tags: view.tags.clone(),
        repo_digests: view.digests.clone(),
        parent: Some(view.image.parent().map(|parent| parent.to_string()).unwrap_or_default()),
        comment: config.comment.clone(),
        created: config.created.clone().unwrap_or_default(),
        docker_version: Some(config.docker_version.clone()),
        author: config.author.clone(),
        architecture: config.architecture.clone(),
        variant: config.variant.clone(),
        os: config.os.clone(),
        os_version: config.os_version.clone(),
        size: signed(view.image.size()),
        virtual_size: 0,
        graph_driver: graph_driver(view),
        root_fs: RootFs {
            kind: "layers".to_owned(),
            layers: view.image.layers().iter().map(ToString::to_string).collect(),
        },
        metadata: ImageMetadata {
            last_tag_time: view.last_tagged.map_or_else(|| ZERO_TIME.to_owned(), |at| at.to_string()),
        },
        descriptor: None,
        container_config: None,
        config: Some(image_config(&config.config)),
    }
}

/// The layers' directories under Docker's names: the topmost is the upper one. What a mount of the image would add, a
/// merged and a work directory, is not there and not named.
fn graph_driver(view: &ImageView) -> GraphDriver {
    let mut shown = view.directories.iter().map(|path| path.display().to_string());
    let data = shown.next().map(|upper| {
        let lower: Vec<String> = shown.collect();
        let lower = Some(("LowerDir".to_owned(), lower.join(":"))).filter(|(_, lower)| !lower.is_empty());
        lower.into_iter().chain([("UpperDir".to_owned(), upper)]).collect()
    });
    GraphDriver { data, name: "overlay2".to_owned() }
}

fn image_config(config: &Config) -> ImageConfig {
    let set = |keys: Vec<String>| -> Option<BTreeMap<String, Empty>> {
        (!keys.is_empty()).then(|| keys.into_iter().map(|key| (key, Empty {})).collect())
    };
    ImageConfig {
        args_escaped: false,
        cmd: config.cmd.clone(),
        entrypoint: config.entrypoint.clone(),
        env: Some(config.env.clone()).filter(|env| !env.is_empty()),
        exposed_ports: set(config.exposed_ports.iter().map(ToString::to_string).collect()),
        healthcheck: config.healthcheck.as_ref().map(echo::healthcheck),
        labels: Some(config.labels.clone()).filter(|labels| !labels.is_empty()),
        on_build: config.on_build.clone(),
        shell: config.shell.clone(),
        stop_signal: config.stop_signal.clone().unwrap_or_default(),
        user: config.user.clone(),
        volumes: set(config.volumes.iter().map(ToString::to_string).collect()),
        working_dir: config.working_dir.clone(),
    }
}
