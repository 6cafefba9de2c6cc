//! Containers that another OCI runtime launches (`--runtime NAME`).

use droste_confine::seccomp::Context;
use droste_confine::{Privileges, Profile, SeccompChoice};
use droste_runtime::oci::OciOptions;
use serde_json::{Value, json};

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::host::HostState;
use crate::privileges;
use crate::record::ContainerRecord;
use crate::settings::Settings;

/// The name of Droste's own launcher.
pub(crate) const OWN: &str = "droste";

impl Engine {
    /// What another runtime needs for a container; `None` for Droste's own launcher.
    ///
    /// An OCI runtime can't be told to begin in another host's PID namespace, so there are none below level 0.
    pub(crate) fn oci_options(
        &self,
        record: &ContainerRecord,
        host: &HostState,
        given: &Privileges,
    ) -> Result<Option<OciOptions>> {
        let name = &record.host_config.runtime;
        if name == OWN {
            return Ok(None);
        }
        let settings = self.settings();
        let program = settings
            .runtimes
            .get(name)
            .ok_or_else(|| Error::invalid(format!("unknown or invalid runtime name: {name}")))?;
        if host.level > 0 {
            return Err(Error::invalid(format!(
                "runtime {name} works on the machine itself only; on a nested host leave --runtime away"
            )));
        }
        Ok(Some(OciOptions {
            runtime: vec![program.to_string_lossy().into_owned()],
            cgroups_path: Some(self.cgroup_path(record, host)?.to_string()),
            seccomp: seccomp(record, given, &settings)?,
            resources: Some(json!({ "devices": devices(given) })),
        }))
    }
}

/// The filter in the runtime's terms, since a compiled one can't be handed to it.
fn seccomp(record: &ContainerRecord, given: &Privileges, settings: &Settings) -> Result<Option<Value>> {
    let options = privileges::security(&record.host_config, settings)?;
    let machine = privileges::machine()?;
    let context = Context { arch: machine.arch, kernel: machine.kernel, capabilities: given.capabilities };
    Ok(match (options.seccomp, record.host_config.privileged) {
        (SeccompChoice::Default, true) | (SeccompChoice::Unconfined, _) => None,
        (SeccompChoice::Default, false) | (SeccompChoice::Builtin, _) => {
            Some(Profile::docker_default().to_oci(&context))
        }
        (SeccompChoice::Profile(profile), _) => Some(profile.to_oci(&context)),
    })
}

/// Device rules as the specification has them: first everything is refused, later rules win.
fn devices(given: &Privileges) -> Vec<Value> {
    let nothing = json!({ "allow": false, "access": "rwm" });
    let rule = |rule: &droste_confine::DeviceRule| {
        let text = rule.to_string();
        let mut words = text.split(' ').skip(2);
        let mut value = json!({
            "allow": rule.allow,
            "type": rule.kind.letter().to_string(),
            "access": words.next().unwrap_or_default(),
        });
        for (key, number) in [("major", rule.major), ("minor", rule.minor)] {
            if let Some(number) = number {
                value[key] = number.into();
            }
        }
        value
    };
    std::iter::once(nothing).chain(given.device_rules.iter().map(rule)).collect()
}
