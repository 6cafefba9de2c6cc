//! Hosts, as whoever stands above them sees them.

use droste_api::wire::{HostBounds, HostInspect, HostLimit, HostLimits, HostSummary};
use droste_engine::{Bounds, HostDetail, HostView, LimitView};
use droste_model::host::{Grant, ImageView};

use super::signed;

/// One of `GET /droste/hosts`.
pub(crate) fn summary(view: &HostView) -> HostSummary {
    HostSummary {
        path: view.path.clone(),
        id: view.id.to_string(),
        name: view.name.clone(),
        level: signed(view.level),
        on: view.is_on,
        state: view.state.word().to_owned(),
        image: view.image.clone(),
        containers: signed(view.containers),
        running: signed(view.running),
        limits: limits(&view.limits),
    }
}

/// Limits by name.
pub(crate) fn limits(views: &[LimitView]) -> HostLimits {
    let one = |view: &LimitView| {
        let limit = HostLimit { limit: view.limit, used: view.used, set: view.is_set };
        (view.resource.name().to_owned(), limit)
    };
    views.iter().map(one).collect()
}

/// `GET /droste/hosts/{path}/json`.
pub(crate) fn inspect(detail: &HostDetail) -> HostInspect {
    HostInspect {
        summary: summary(&detail.view),
        parent: detail.parent.clone(),
        created: detail.created.to_string(),
        grant: detail.grant.word().to_owned(),
        children: detail.children.map(Grant::word).unwrap_or_default().to_owned(),
        image_view: match detail.images {
            ImageView::Inherit => "inherit".to_owned(),
            ImageView::Isolated => "isolated".to_owned(),
        },
        pid: i64::from(detail.pid),
        cgroup: detail.cgroup.clone().unwrap_or_default(),
        bounds: detail.bounds.as_deref().map(bounds),
    }
}

fn bounds(bounds: &Bounds) -> HostBounds {
    HostBounds {
        capabilities: bounds.capabilities.names(),
        devices: bounds.devices.iter().map(ToString::to_string).collect(),
        seccomp: bounds.seccomp.iter().map(|program| program.instructions().len()).collect(),
        no_new_privileges: bounds.no_new_privileges,
        rlimits: bounds.rlimits.iter().map(ToString::to_string).collect(),
        oom_score_adj: i64::from(bounds.oom_score_adj),
        masked_paths: bounds.paths.masked.clone(),
        readonly_paths: bounds.paths.read_only.clone(),
        writable_sysfs: bounds.writable_sysfs,
        writable_cgroups: bounds.writable_cgroups,
        apparmor_profile: bounds.apparmor.clone().unwrap_or_default(),
    }
}
