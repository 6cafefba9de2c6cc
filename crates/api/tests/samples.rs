//! Real replies and requests of dockerd 28.5.2, Docker's client and Compose: what we read of them we write again the
//! same, and what we write deserialises in bollard's types.

#![allow(clippy::unwrap_used, reason = "a test")]

use droste_api::query::Query;
use droste_api::version::CURRENT;
use droste_api::{echo, parse, wire};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Reads a sample as `Ours`, writes it again, and compares; `without` names members that we leave out.
fn same<Ours: Serialize + DeserializeOwned, Bollard: DeserializeOwned>(sample: &str, without: &[&str]) {
    let original: Value = serde_json::from_str(sample).unwrap();
    let ours: Ours = serde_json::from_str(sample).unwrap();
    let written = serde_json::to_value(&ours).unwrap();
    let mut expected = original;
    for name in without {
        expected.as_object_mut().unwrap().remove(*name);
    }
    assert_eq!(differences("", &expected, &written), Vec::<String>::new());
    let _: Bollard = serde_json::from_value(written).unwrap();
}

/// Where two values differ, also in `null` against absence.
fn differences(at: &str, expected: &Value, written: &Value) -> Vec<String> {
    match (expected, written) {
        (Value::Object(a), Value::Object(b)) => {
            let names: std::collections::BTreeSet<_> = a.keys().chain(b.keys()).collect();
            names
                .into_iter()
                .flat_map(|name| match (a.get(name), b.get(name)) {
                    (Some(a), Some(b)) => differences(&format!("{at}.{name}"), a, b),
                    (a, b) => vec![format!("{at}.{name}: {a:?} but {b:?}")],
                })
                .collect()
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            a.iter().zip(b).flat_map(|(a, b)| differences(&format!("{at}[]"), a, b)).collect()
        }
        (a, b) if a == b => Vec::new(),
        // The model does not tell a list that was not given from an empty one.
        (Value::Array(a), Value::Null) if a.is_empty() && at.starts_with("HostConfig") => Vec::new(),
        (a, b) => vec![format!("{at}: {a} but {b}")],
    }
}

macro_rules! sample {
    ($name:literal) => {
        include_str!(concat!("samples/", $name, ".json"))
    };
}

mod models {
    pub(crate) use bollard_stubs::models::*;
}

#[test]
fn replies_have_dockers_nulls_and_omissions() {
    same::<wire::ContainerInspect, models::ContainerInspectResponse>(sample!("ContainerInspectResponse"), &[]);
    same::<Vec<wire::ContainerSummary>, Vec<models::ContainerSummary>>(sample!("Vec_ContainerSummary"), &[]);
    same::<wire::Stats, models::ContainerStatsResponse>(sample!("ContainerStatsResponse"), &[]);
    same::<wire::TopResponse, models::ContainerTopResponse>(sample!("ContainerTopResponse"), &[]);
    same::<wire::EventMessage, models::EventMessage>(sample!("EventMessage"), &[]);
    same::<wire::ImageInspect, models::ImageInspect>(sample!("ImageInspect"), &[]);
    same::<Vec<wire::ImageSummary>, Vec<models::ImageSummary>>(sample!("Vec_ImageSummary"), &[]);
    same::<Vec<wire::HistoryItem>, Vec<models::ImageHistoryResponseItem>>(sample!("Vec_HistoryResponse"), &[]);
    same::<Vec<wire::FilesystemChange>, Vec<models::FilesystemChange>>(sample!("Vec_FilesystemChange"), &[]);
    same::<wire::NetworkInspect, models::NetworkInspect>(sample!("NetworkInspect"), &[]);
    same::<Vec<wire::NetworkInspect>, Vec<models::Network>>(sample!("Vec_Network"), &[]);
    same::<wire::VolumeList, models::VolumeListResponse>(sample!("VolumeListResponse"), &[]);
    same::<wire::Version, models::SystemVersion>(sample!("SystemVersion"), &[]);
    // Droste has neither containerd nor a choice of firewalls.
    same::<wire::Info, models::SystemInfo>(sample!("SystemInfo"), &["Containerd"]);
    same::<wire::DiskUsage, models::SystemDataUsageResponse>(sample!("SystemDataUsageResponse"), &[]);
}

#[test]
fn what_inspect_shows_is_understood_and_shown_again() {
    let sample: Value = serde_json::from_str(sample!("ContainerInspectResponse")).unwrap();
    let mut body = sample["Config"].clone();
    body["HostConfig"] = sample["HostConfig"].clone();
    let parsed = parse::create(body.to_string().as_bytes(), &Query::default(), CURRENT).unwrap();
    assert_eq!(parsed.warnings, Vec::<String>::new());
    let host = serde_json::to_value(echo::host_config(&parsed.request.host)).unwrap();
    assert_eq!(differences("HostConfig", &sample["HostConfig"], &host), Vec::<String>::new());
    let config = serde_json::to_value(echo::config(&parsed.request.config)).unwrap();
    assert_eq!(differences("Config", &sample["Config"], &config), Vec::<String>::new());
}

#[test]
fn what_clients_send_is_shown_again() {
    for sample in [sample!("ContainerCreateBody"), sample!("ContainerCreateBody_compose")] {
        let sent: Value = serde_json::from_str(sample).unwrap();
        let parsed = parse::create(sample.as_bytes(), &Query::default(), CURRENT).unwrap();
        let shown = serde_json::to_value(echo::host_config(&parsed.request.host)).unwrap();
        for (name, value) in sent["HostConfig"].as_object().unwrap() {
            // Docker completes or drops these.
            let completed = ["RestartPolicy", "MemorySwappiness", "LogConfig", "PidsLimit", "OomKillDisable"];
            // What has no key when it is empty.
            let omitted = shown.get(name).is_none()
                && (value.is_null() || value == &serde_json::json!({}) || value == &serde_json::json!([]));
            if !completed.contains(&name.as_str()) && !omitted {
                assert_eq!(&shown[name], value, "{name}");
            }
        }
    }
}

#[test]
fn what_has_no_sample_deserialises_in_bollard_too() {
    fn fits<Bollard: DeserializeOwned>(ours: &impl Serialize) {
        let _: Bollard = serde_json::from_value(serde_json::to_value(ours).unwrap()).unwrap();
    }
    fits::<models::ContainerCreateResponse>(&wire::ContainerCreated::default());
    fits::<models::ContainerWaitResponse>(&wire::WaitResponse::default());
    fits::<models::ContainerUpdateResponse>(&wire::Warnings::default());
    fits::<models::ContainerPruneResponse>(&wire::ContainersPruned::default());
    fits::<models::ImagePruneResponse>(&wire::ImagesPruned::default());
    fits::<models::ExecInspectResponse>(&wire::ExecInspect::default());
    fits::<models::IdResponse>(&wire::IdResponse::default());
    fits::<Vec<models::ImageDeleteResponseItem>>(&vec![wire::ImageDeleted::default()]);
    fits::<models::DistributionInspect>(&wire::DistributionInspect::default());
    fits::<models::ErrorResponse>(&wire::ErrorResponse::default());
    fits::<models::CreateImageInfo>(&droste_api::progress::part_at("a", "b", 1, 2));
    fits::<models::ContainerInspectResponse>(&wire::ContainerInspect {
        created: wire::ZERO_TIME.to_owned(),
        state: wire::ContainerState { status: "created".to_owned(), ..Default::default() },
        ..Default::default()
    });
}
