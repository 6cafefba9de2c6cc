//! Volumes.

use droste_api::wire::{Volume, VolumeUsage};
use droste_engine::VolumeView;
use droste_model::time::Timestamp;

use super::signed;

/// A volume of `GET /volumes`.
pub(crate) fn volume(view: &VolumeView) -> Volume {
    Volume {
        created_at: Timestamp::from_secs(view.created.as_secs()).to_string(),
        driver: view.driver.clone(),
        labels: view.labels.clone(),
        mountpoint: view.mountpoint.clone(),
        name: view.name.to_string(),
        options: view.options.clone(),
        scope: view.scope.clone(),
        status: view.status.clone(),
        usage_data: None,
    }
}

/// A volume of `GET /system/df`.
pub(crate) fn with_usage((view, size): &(VolumeView, u64)) -> Volume {
    let usage = VolumeUsage { ref_count: signed(view.users), size: signed(*size) };
    Volume { usage_data: Some(usage), ..volume(view) }
}
