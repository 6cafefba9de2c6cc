//! The smaller bodies of requests: networks and their endpoints, volumes, starts of execs, credentials, limits of hosts.
#![no_main]

use droste_api::decode::{decode, decode_or_default, tree};
use droste_api::parse;
use droste_api::version::{CURRENT, OLDEST};
use droste_api::wire::{AuthConfig, ExecStart, HostLimitsRequest, OciPlatform, VolumeCreate};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    for version in [OLDEST, CURRENT] {
        let _ = (parse::network(body, version), parse::connect(body, version));
    }
    let _ = (parse::disconnect(body), tree(body), decode_or_default::<ExecStart>(body), decode::<OciPlatform>(body));
    let _ = (decode::<AuthConfig>(body), decode::<HostLimitsRequest>(body));
    if let Ok(volume) = decode::<VolumeCreate>(body) {
        let _ = parse::volume_name(&volume.name);
    }
});
