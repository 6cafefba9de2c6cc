//! What a reply of another API version has more or less, as small edits of the shapes of 1.51.
//!
//! Each edit stands for one line of Docker's API changelog.

use crate::ApiVersion;
use crate::wire::{ContainerInspect, ContainerSummary, DiskUsage, EventMessage, ImageInspect, ImageSummary, Info};

/// `GET /containers/{id}/json`, as JSON.
pub fn container(mut inspect: ContainerInspect, version: ApiVersion) -> serde_json::Value {
    if version.below(45) {
        // 1.45: "Aliases no longer has the container's short id".
        add_short_id_to_aliases(&mut inspect);
    }
    // Every key of these shapes is a string, so they always serialise.
    let mut json = serde_json::to_value(inspect).unwrap_or_default();
    if version.at_least(52) {
        // 1.52: the top-level address fields of NetworkSettings, deprecated since 1.9, have been removed.
        remove(
            &mut json["NetworkSettings"],
            &[
                "Bridge",
                "HairpinMode",
                "LinkLocalIPv6Address",
                "LinkLocalIPv6PrefixLen",
                "SecondaryIPAddresses",
                "SecondaryIPv6Addresses",
                "EndpointID",
                "Gateway",
                "GlobalIPv6Address",
                "GlobalIPv6PrefixLen",
                "IPAddress",
                "IPPrefixLen",
                "IPv6Gateway",
                "MacAddress",
            ],
        );
        remove(&mut json["Config"], &["MacAddress"]);
    }
    json
}

/// On the networks that were made by users; the predefined ones know no aliases.
fn add_short_id_to_aliases(inspect: &mut ContainerInspect) {
    let Some(short) = inspect.id.get(..12).map(str::to_owned) else { return };
    for (name, endpoint) in &mut inspect.network_settings.networks {
        let aliases = endpoint.aliases.get_or_insert_default();
        if matches!(name.as_str(), "bridge" | "host" | "none") || aliases.contains(&short) {
            continue;
        }
        aliases.push(short.clone());
    }
}

fn remove(object: &mut serde_json::Value, keys: &[&str]) {
    if let Some(members) = object.as_object_mut() {
        members.retain(|key, _| !keys.contains(&key.as_str()));
    }
}

/// An entry of `GET /containers/json`.
pub fn container_summary(mut summary: ContainerSummary, version: ApiVersion) -> ContainerSummary {
    if version.below(46) {
        // 1.46: "HostConfig.Annotations".
        summary.host_config.annotations = None;
    }
    if version.below(48) {
        // 1.48: "ImageManifestDescriptor".
        summary.image_manifest_descriptor = None;
    }
    if version.below(52) {
        // 1.52: "Health".
        summary.health = None;
    }
    summary
}

/// An entry of `GET /images/json`.
pub fn image_summary(mut summary: ImageSummary, version: ApiVersion) -> ImageSummary {
    if version.below(43) {
        summary.repo_digests = summary.repo_digests.filter(|digests| !digests.is_empty());
    }
    if version.below(44) {
        // 1.44: "VirtualSize is no longer included"; until then the number of containers was not counted.
        summary.virtual_size = summary.size;
        summary.containers = -1;
    }
    if version.below(48) {
        // 1.48: "Descriptor".
        summary.descriptor = None;
    }
    summary
}

/// `GET /images/{name}/json`, as JSON.
pub fn image(mut inspect: ImageInspect, version: ApiVersion) -> serde_json::Value {
    if version.below(44) {
        inspect.virtual_size = inspect.size;
    }
    if version.below(45) {
        // 1.45: "Container and ContainerConfig are no longer included".
        inspect.container_config = Some(Default::default());
    }
    if version.below(48) {
        inspect.descriptor = None;
    }
    if version.at_least(52) {
        // 1.52: "Parent and DockerVersion are no longer included".
        inspect.parent = None;
        inspect.docker_version = None;
    }
    let mut json = serde_json::to_value(inspect).unwrap_or_default();
    if version.below(50) {
        add_what_only_containers_have(&mut json["Config"]);
    }
    if version.at_least(52) {
        // 1.52: "empty fields of Config are omitted".
        if let Some(config) = json["Config"].as_object_mut() {
            config.retain(|_, value| !is_empty(value));
        }
    }
    json
}

/// 1.50: "Config no longer has Hostname, Domainname, AttachStdin, …, which are never set in images".
fn add_what_only_containers_have(config: &mut serde_json::Value) {
    let Some(members) = config.as_object_mut() else { return };
    for flag in ["AttachStderr", "AttachStdin", "AttachStdout", "OpenStdin", "StdinOnce", "Tty"] {
        members.insert(flag.to_owned(), false.into());
    }
    for text in ["Domainname", "Hostname", "Image"] {
        members.insert(text.to_owned(), "".into());
    }
}

fn is_empty(value: &serde_json::Value) -> bool {
    use serde_json::Value;
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// An event.
pub fn event(mut event: EventMessage, version: ApiVersion) -> EventMessage {
    if version.at_least(52) {
        // 1.52: "the deprecated fields status, id and from are no longer included".
        event.status.clear();
        event.id.clear();
        event.from.clear();
    }
    event
}

/// `GET /info`, as JSON.
pub fn info(info: Info, version: ApiVersion) -> serde_json::Value {
    use serde_json::Value;
    let mut json = serde_json::to_value(info).unwrap_or_default();
    if version.below(42) {
        // 1.42: "KernelMemory has been removed".
        json["KernelMemory"] = json["MemoryLimit"].clone();
    }
    if version.below(47) {
        // 1.47: "AllowNondistributableArtifactsCIDRs and …Hostnames have been removed".
        for key in ["AllowNondistributableArtifactsCIDRs", "AllowNondistributableArtifactsHostnames"] {
            json["RegistryConfig"][key] = Value::Null;
        }
    }
    if version.below(49) {
        // 1.49: "FirewallBackend", and "Expected has been removed from the commits".
        remove(&mut json, &["FirewallBackend"]);
        json["RuncCommit"]["Expected"] = json["RuncCommit"]["ID"].clone();
    }
    if version.below(50) {
        // 1.50: "BridgeNfIptables and BridgeNfIp6tables have been removed".
        for key in ["BridgeNfIptables", "BridgeNfIp6tables"] {
            json[key] = Value::Bool(false);
        }
    }
    json
}

/// `GET /system/df`, as JSON.
pub fn disk_usage(mut usage: DiskUsage, version: ApiVersion) -> serde_json::Value {
    for image in usage.images.iter_mut().flatten() {
        // As in lists of images, but for the number of containers, which was always counted here.
        image.virtual_size = if version.below(44) { image.size } else { 0 };
        image.repo_digests = image.repo_digests.take().filter(|digests| !digests.is_empty());
    }
    usage.containers = usage
        .containers
        .map(|containers| containers.into_iter().map(|container| container_summary(container, version)).collect());
    let mut totals = serde_json::Map::new();
    if version.at_least(52) {
        // 1.52: "ImageUsage, ContainerUsage, VolumeUsage and BuildCacheUsage" take the place of the lists.
        totals.insert("ImageUsage".to_owned(), image_totals(&usage));
        totals.insert("ContainerUsage".to_owned(), container_totals(&usage));
        totals.insert("VolumeUsage".to_owned(), volume_totals(&usage));
        totals.insert("BuildCacheUsage".to_owned(), counted(&usage.build_cache, 0, 0, 0));
    }
    if version.at_least(53) {
        // 1.53: "LayersSize, Images, Containers, Volumes and BuildCache are no longer included".
        return serde_json::Value::Object(totals);
    }
    let mut json = serde_json::to_value(usage).unwrap_or_default();
    if let Some(members) = json.as_object_mut() {
        members.extend(totals);
    }
    json
}

fn counted<T>(items: &Option<Vec<T>>, active: usize, size: i64, reclaimable: i64) -> serde_json::Value {
    serde_json::json!({
        "TotalCount": items.as_ref().map_or(0, Vec::len),
        "ActiveCount": active,
        "TotalSize": size,
        "Reclaimable": reclaimable,
    })
}

fn image_totals(usage: &DiskUsage) -> serde_json::Value {
    let images = usage.images.iter().flatten();
    let active = images.clone().filter(|image| image.containers > 0).count();
    let used: i64 =
        images.filter(|image| image.containers > 0).map(|image| image.size - image.shared_size.max(0)).sum();
    counted(&usage.images, active, usage.layers_size, (usage.layers_size - used).max(0))
}

fn volume_totals(usage: &DiskUsage) -> serde_json::Value {
    let usages = || usage.volumes.iter().flatten().filter_map(|volume| volume.usage_data.as_ref());
    let active = usages().filter(|usage| usage.ref_count > 0).count();
    let size = usages().map(|usage| usage.size).sum();
    let idle = usages().filter(|usage| usage.ref_count == 0).map(|usage| usage.size).sum();
    counted(&usage.volumes, active, size, idle)
}

fn container_totals(usage: &DiskUsage) -> serde_json::Value {
    let running = |state: &str| matches!(state, "running" | "paused" | "restarting");
    let containers = usage.containers.iter().flatten();
    let active = containers.clone().filter(|container| running(&container.state)).count();
    let size = containers.clone().map(|container| container.size_rw).sum();
    let idle = containers.filter(|container| !running(&container.state)).map(|container| container.size_rw).sum();
    counted(&usage.containers, active, size, idle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_from_1_52_on_drop_what_was_deprecated() {
        let (old, new) = (ApiVersion::new(1, 51), ApiVersion::new(1, 52));
        let settings = |version| container(ContainerInspect::default(), version)["NetworkSettings"].clone();
        assert!(settings(old).get("IPAddress").is_some() && settings(new).get("IPAddress").is_none());
        assert!(settings(new).get("Networks").is_some() && settings(new).get("Ports").is_some());
        let event_of = |version| event(EventMessage { status: "start".to_owned(), ..Default::default() }, version);
        assert_eq!((event_of(old).status.as_str(), event_of(new).status.as_str()), ("start", ""));
        let config = |version| {
            let inspect = ImageInspect { config: Some(Default::default()), ..Default::default() };
            image(inspect, version)["Config"].as_object().unwrap().len()
        };
        assert_eq!((config(old), config(new)), (8, 0));
        assert_eq!(config(ApiVersion::new(1, 49)), 17);
    }

    #[test]
    fn older_versions_have_what_was_removed() {
        let sized = |version| image_summary(ImageSummary { size: 7, containers: 1, ..Default::default() }, version);
        let old = sized(ApiVersion::new(1, 43));
        assert_eq!((old.virtual_size, old.containers), (7, -1));
        assert_eq!(sized(crate::version::CURRENT).virtual_size, 0);
        let keys = |version| {
            let info = info(Info::default(), ApiVersion::new(1, version));
            ["BridgeNfIptables", "KernelMemory", "FirewallBackend"].map(|key| info.get(key).is_some())
        };
        assert_eq!(keys(41), [true, true, false]);
        assert_eq!(keys(51), [false, false, true]);
        assert!(disk_usage(DiskUsage::default(), ApiVersion::new(1, 51)).get("Images").is_some());
        assert!(disk_usage(DiskUsage::default(), ApiVersion::new(1, 53)).get("Images").is_none());
    }
}
