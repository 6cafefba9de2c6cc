//! Options that are words: security options, limits, extra hosts, resolver files, platforms, mount options.
#![no_main]

use droste_confine::{Rlimit, SecurityOptions};
use droste_model::mount::Propagation;
use droste_model::platform::Platform;
use droste_network::{DnsOptions, ExtraHost, ResolvConf, host_mode_hosts};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let _ = SecurityOptions::parse(&lines);
    let _ = (Rlimit::parse(text), Propagation::parse(text), ExtraHost::parse(text, None));
    if let Ok(platform) = text.parse::<Platform>() {
        assert_eq!(platform.to_string().parse::<Platform>().as_ref(), Ok(&platform));
    }
    let file = ResolvConf::parse(text);
    let asked = DnsOptions::default();
    // What containers get is read by their libraries, and by engines one level down.
    for made in [file.for_bridge(&asked), file.for_host(&asked)] {
        let text = made.render();
        assert_eq!(ResolvConf::parse(&text).render(), text);
    }
    let _ = (file.for_resolver(&asked), host_mode_hosts(text, &[]));
});
