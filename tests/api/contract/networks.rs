//! Networks as objects: making, looking at, listing, removing and pruning them, and their events.

use droste_test_support::image::encode;
use droste_test_support::network::{on, subnet};
use droste_test_support::{Engine, Value, json, t};

/// Inspect without what differs each time.
fn steady(mut network: Value) -> Value {
    assert!(network["Id"].as_str().is_some_and(|id| id.len() == 64), "{network}");
    assert!(network["Created"].as_str().is_some_and(|time| time.ends_with('Z')), "{network}");
    let object = network.as_object_mut().unwrap();
    object.remove("Id");
    object.remove("Created");
    network
}

/// Names in a filtered list, sorted, of those that begin with `prefix`.
fn names(e: &Engine, prefix: &str, filters: Value) -> Vec<String> {
    let list = e.get(&format!("/networks?filters={}", encode(&filters.to_string())));
    let mut names: Vec<_> = list.as_array().unwrap().iter().map(|n| n["Name"].as_str().unwrap().to_owned()).filter(|n| n.starts_with(prefix)).collect();
    names.sort();
    names
}

/// Refused with that status and those words.
fn refused(e: &Engine, mut body: Value, status: u16, words: &str) {
    if body.get("Name").is_none() {
        body["Name"] = json!(e.name("refused"));
    }
    let reply = e.request("POST", "/networks/create").json(&body).send();
    reply.check(".message", "has", &json!(words));
    reply.expect_status(status);
    let name = encode(body["Name"].as_str().unwrap());
    if !["", "bridge", "host", "none"].contains(&name.as_str()) {
        e.request("GET", &format!("/networks/{name}")).send().expect_status(404);
    }
}

#[test]
fn a_network_is_shown_as_it_was_made() {
    let e = Engine::shared();
    let name = e.name("net");
    let net = subnet();
    let reply = t!(e, POST "/networks/create" {"Name": (name), "Labels": {"a": "b"}, "Attachable": true, "CheckDuplicate": true, "Options": {"x": "y"},
        "IPAM": {"Config": [{"Subnet": (format!("{net}.0/24")), "IPRange": (format!("{net}.128/25")), "Gateway": (format!("{net}.3")), "AuxiliaryAddresses": {"nas": (format!("{net}.129"))}}]}}, 201,
        ".Id" is id, ".Warning" == "");
    let id = reply.json()["Id"].as_str().unwrap().to_owned();
    let expected = json!({"Name": name, "Scope": "local", "Driver": "bridge", "EnableIPv4": true, "EnableIPv6": false,
        "IPAM": {"Driver": "default", "Options": null, "Config": [{"Subnet": format!("{net}.0/24"), "IPRange": format!("{net}.128/25"), "Gateway": format!("{net}.3"), "AuxiliaryAddresses": {"nas": format!("{net}.129")}}]},
        "Internal": false, "Attachable": true, "Ingress": false, "ConfigFrom": {"Network": ""}, "ConfigOnly": false, "Containers": {}, "Options": {"x": "y"}, "Labels": {"a": "b"}});
    assert_eq!(steady(e.get(&format!("/networks/{id}"))), expected);
    let list = e.get(&format!("/networks?filters={}", encode(&json!({"id": [id]}).to_string())));
    assert_eq!(steady(list[0].clone()), expected);
    t!(e, GET "/networks/{name}?verbose=true&scope=local", 200, ".Id" == (id), ".Services" is absent);
    crate::typed::<bollard_stubs::models::NetworkInspect>(&t!(e, GET "/networks/{name}", 200));
    t!(e, DELETE "/networks/{id}", 204, "text" == "");
    t!(e, GET "/networks/{id}", 404, ".message" == (format!("network {id} not found")));
}

#[test]
fn what_is_not_given_is_chosen() {
    let e = Engine::shared();
    let plain = e.network(json!({}));
    let reply = t!(e, GET "/networks/{plain}", 200, ".Driver" == "bridge", ".Options" == {}, ".Labels" == {}, ".IPAM.Config.1" is absent, ".IPAM.Config.0.Subnet" matches r"^\d+\.\d+\.\d+\.0/\d\d$",
        ".IPAM.Config.0.Gateway" matches r"^\d+\.\d+\.\d+\.1$", ".IPAM.Config.0.IPRange" is absent, ".IPAM.Config.0.AuxiliaryAddresses" is absent);
    let other = e.network(json!({"Driver": "", "Labels": null, "Options": null, "IPAM": null, "EnableIPv6": null}));
    let second = t!(e, GET "/networks/{other}", 200, ".Driver" == "bridge", ".Options" == {}, ".Labels" == {});
    assert_ne!(reply.json()["IPAM"]["Config"][0]["Subnet"], second.json()["IPAM"]["Config"][0]["Subnet"]);
    // A subnet that was given is shown without the gateway that was chosen for it.
    let net = subnet();
    let given = e.network_on(&format!("{net}.0/24"));
    t!(e, GET "/networks/{given}", 200, ".IPAM.Config" == [{"Subnet": (format!("{net}.0/24"))}]);
    let c = e.run(json!({"Cmd": ["sleep", "1000"], "HostConfig": on(&given)}));
    assert_eq!(given.endpoint(&c)["Gateway"], format!("{net}.1").as_str());
}

#[test]
fn pools_do_not_overlap() {
    let e = Engine::shared();
    let net = subnet();
    let _first = e.network_on(&format!("{net}.0/24"));
    for overlapping in [format!("{net}.0/24"), format!("{net}.128/25"), "10.0.0.0/8".to_owned(), "0.0.0.0/0".to_owned()] {
        refused(e, json!({"IPAM": {"Config": [{"Subnet": overlapping}]}}), 403, "invalid pool request: Pool overlaps with other one on this address space");
    }
    let bridge = e.get("/networks/bridge")["IPAM"]["Config"][0]["Subnet"].clone();
    refused(e, json!({"IPAM": {"Config": [{"Subnet": bridge}]}}), 403, "invalid pool request: Pool overlaps with other one on this address space");
}

#[test]
fn who_has_the_pools_is_said_when_they_run_out() {
    let e = Engine::shared();
    if e.not_on_docker("Docker names nobody, and others need its pools") {
        return;
    }
    let first = e.network(json!({}));
    let mut made = Vec::new();
    let refusal = loop {
        let name = e.name("many");
        let reply = e.request("POST", "/networks/create").json(&json!({"Name": name})).send();
        if reply.status != 201 {
            break reply;
        }
        made.push(name);
        assert!(made.len() < 40, "Docker's pools have 31 subnets");
    };
    refusal.check(".message", "has", &json!("all predefined address pools have been fully subnetted"));
    refusal.check(".message", "has", &json!(format!("(network {})", first.name)));
    drop(e.network_on(&format!("{}.0/24", subnet())));
    for name in made {
        t!(e, DELETE "/networks/{name}", 204);
    }
    drop(e.network(json!({})));
}

#[test]
fn a_removed_networks_pool_is_free_again() {
    let e = Engine::shared();
    let net = format!("{}.0/24", subnet());
    for _ in 0..3 {
        drop(e.network_on(&net));
    }
}

#[test]
fn names_are_checked() {
    let e = Engine::shared();
    for empty in [json!({}), json!({"Name": ""}), json!({"Name": "  "}), json!({"Name": null})] {
        let reply = e.request("POST", "/networks/create").json(&empty).send();
        droste_test_support::expect!(reply, 400, ".message" == "invalid name: name is empty");
    }
    for name in ["bridge", "host", "none", "default"] {
        t!(e, POST "/networks/create" {"Name": (name)}, 403, ".message" == (format!("operation is not permitted on predefined {name} network ")));
    }
    let taken = e.network(json!({}));
    t!(e, POST "/networks/create" {"Name": (taken.name)}, 409, ".message" == (format!("network with name {} already exists", taken.name)));
    t!(e, POST "/networks/create", 400, ".message" == "invalid name: name is empty");
    for odd in ["with space/slash", "co:lon", "UPPER.lower-_", "ümlaut"] {
        let net = e.network_named(&e.name(odd), json!({}));
        let encoded = encode(&net.name);
        t!(e, GET "/networks/{encoded}", 200, ".Id" == (net.id), ".Name" == (net.name));
    }
}

#[test]
fn drivers_are_checked() {
    let e = Engine::shared();
    refused(e, json!({"Driver": "nope"}), 404, "plugin \"nope\" not found");
    refused(e, json!({"Driver": "none"}), 404, "plugin \"none\" not found");
    refused(e, json!({"Driver": "host"}), 403, "only one instance of \"host\" network is allowed");
    refused(e, json!({"Driver": "null"}), 403, "only one instance of \"null\" network is allowed");
    refused(e, json!({"Driver": "overlay"}), 403, "This node is not a swarm manager.");
    refused(e, json!({"Scope": "swarm"}), 403, "cannot create a swarm scoped network when swarm is not active");
    refused(e, json!({"IPAM": {"Driver": "nope"}}), 404, "plugin \"nope\" not found");
    refused(e, json!({"IPAM": {"Driver": "null"}}), 400, "ipv4 pool is empty");
    refused(e, json!({"EnableIPv4": false}), 400, "IPv4 or IPv6 must be enabled");
    refused(e, json!({"ConfigFrom": {"Network": "no-such-configuration"}}), 404, "configuration network \"no-such-configuration\" does not exist");
    let net = e.network(json!({"IPAM": {"Driver": "default", "Options": {"a": "b"}}}));
    t!(e, GET "/networks/{net}", 200, ".IPAM.Driver" == "default", ".IPAM.Options" == {"a": "b"});
}

#[test]
fn configurations_of_networks() {
    let e = Engine::shared();
    let net = subnet();
    let config = e.network(json!({"ConfigOnly": true, "Labels": {"a": "b"}, "IPAM": {"Config": [{"Subnet": format!("{net}.0/24")}]}}));
    refused(e, json!({"ConfigOnly": true, "Internal": true}), 403, "configuration network can only contain network specific fields.");
    t!(e, GET "/networks/{config}", 200, ".ConfigOnly" == true, ".Driver" == "null", ".IPAM.Config.0.Subnet" == (format!("{net}.0/24")));
    let made = e.network(json!({"ConfigFrom": {"Network": config.name}, "Internal": true}));
    t!(e, GET "/networks/{made}", 200, ".ConfigFrom.Network" == (config.name), ".ConfigOnly" == false, ".Internal" == true, ".IPAM.Config.0.Subnet" == (format!("{net}.0/24")));
    t!(e, DELETE "/networks/{config}", 403, ".message" has "is in use");
}

#[test]
fn subnets_are_checked() {
    let e = Engine::shared();
    let net = subnet();
    let subnet = format!("{net}.0/24");
    let pool = |more: Value| {
        let mut pool = json!({"Subnet": subnet});
        pool.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"IPAM": {"Config": [pool]}})
    };
    let head = "invalid network config:\n";
    refused(e, pool(json!({"Subnet": format!("{net}.5/24")})), 400, &format!("{head}invalid subnet {net}.5/24: it should be {net}.0/24"));
    refused(e, pool(json!({"Subnet": "nope"})), 400, &format!("{head}invalid subnet nope: invalid CIDR block notation"));
    refused(e, pool(json!({"Subnet": "10.0.0.0"})), 400, &format!("{head}invalid subnet 10.0.0.0: invalid CIDR block notation"));
    refused(e, pool(json!({"Subnet": "", "Gateway": "10.0.0.1"})), 400, &format!("{head}invalid subnet : invalid CIDR block notation"));
    refused(e, pool(json!({"Gateway": "nope"})), 400, &format!("{head}invalid gateway nope: invalid address"));
    refused(e, pool(json!({"Gateway": "9.9.9.9"})), 400, &format!("{head}invalid gateway 9.9.9.9: parent subnet {subnet} doesn't contain this address"));
    refused(e, pool(json!({"IPRange": "9.9.9.0/25"})), 400, &format!("{head}invalid ip-range 9.9.9.0/25: parent subnet {subnet} doesn't contain ip-range"));
    refused(e, pool(json!({"IPRange": format!("{net}.0/16")})), 400, "CIDR block is bigger than its parent subnet");
    refused(e, pool(json!({"IPRange": "nope"})), 400, &format!("{head}invalid ip-range nope: invalid CIDR block notation"));
    refused(e, pool(json!({"AuxiliaryAddresses": {"x": "9.9.9.9"}})), 400, &format!("{head}invalid auxiliary address x: parent subnet {subnet} doesn't contain this address"));
    refused(e, pool(json!({"AuxiliaryAddresses": {"x": "nope"}})), 400, &format!("{head}invalid auxiliary address x: invalid address"));
}

#[test]
fn options_of_the_bridge_driver_are_checked() {
    let e = Engine::shared();
    let option = |key: &str, value: &str| json!({"Options": {format!("com.docker.network.{key}"): value}});
    let parse = |key: &str, value: &str| format!("failed to parse com.docker.network.{key} value: {value} (strconv.");
    refused(e, option("driver.mtu", "abc"), 400, &(parse("driver.mtu", "abc") + "Atoi: parsing \"abc\": invalid syntax)"));
    refused(e, option("driver.mtu", "-1"), 400, "invalid MTU number: -1");
    for key in ["bridge.enable_icc", "bridge.enable_ip_masquerade", "bridge.inhibit_ipv4"] {
        refused(e, option(key, "maybe"), 400, &(parse(key, "maybe") + "ParseBool: parsing \"maybe\": invalid syntax)"));
    }
    refused(e, option("bridge.host_binding_ipv4", "x"), 400, "failed to parse com.docker.network.bridge.host_binding_ipv4 value: x (nil ip)");
    refused(e, option("bridge.gateway_mode_ipv4", "x"), 400, "failed to parse com.docker.network.bridge.gateway_mode_ipv4 value: x (unknown gateway mode x)");
    let taken = e.get("/networks/bridge")["Options"]["com.docker.network.bridge.name"].as_str().unwrap().to_owned();
    refused(e, option("bridge.name", &taken), 403, "networks have same bridge name");
}

#[test]
fn networks_with_ipv6() {
    let e = Engine::shared();
    let net = e.network(json!({"EnableIPv6": true}));
    t!(e, GET "/networks/{net}", 200, ".EnableIPv4" == true, ".EnableIPv6" == true, ".IPAM.Config.1.Subnet" matches "^fd.*::/64$", ".IPAM.Config.1.Gateway" matches "^fd.*::1$");
    let c = e.run(json!({"Cmd": ["sleep", "1000"], "HostConfig": on(&net)}));
    let endpoint = net.endpoint(&c);
    let six = endpoint["GlobalIPv6Address"].as_str().unwrap();
    assert_eq!((endpoint["GlobalIPv6PrefixLen"].as_u64(), endpoint["IPv6Gateway"].as_str()), (Some(64), net.inspect()["IPAM"]["Config"][1]["Gateway"].as_str()));
    let inside = c.exec(&["ip", "-6", "addr", "show", "eth0"]).out;
    assert!(inside.contains(&format!("{six}/64")), "{inside}");
    let shown = net.inspect()["Containers"][&c.id].clone();
    assert_eq!(shown["IPv6Address"], format!("{six}/64").as_str());
    let route = c.exec(&["ip", "-6", "route"]).out;
    assert!(route.contains(&format!("default via {}", endpoint["IPv6Gateway"].as_str().unwrap())), "{route}");
}

#[test]
fn networks_with_ipv6_alone() {
    let e = Engine::shared();
    let net = e.network(json!({"EnableIPv6": true, "EnableIPv4": false}));
    t!(e, GET "/networks/{net}", 200, ".EnableIPv4" == false, ".EnableIPv6" == true, ".IPAM.Config.0.Subnet" matches "^fd.*::/64$", ".IPAM.Config.1" is absent);
    let c = e.run(json!({"Cmd": ["sleep", "1000"], "HostConfig": on(&net)}));
    let endpoint = net.endpoint(&c);
    assert_eq!((endpoint["IPAddress"].as_str(), endpoint["Gateway"].as_str()), (Some(""), Some("")));
    assert!(endpoint["GlobalIPv6Address"].as_str().unwrap().starts_with("fd"), "{endpoint}");
    assert_eq!(c.exec(&["ip", "-4", "-o", "addr", "show", "eth0"]).out, "");
}

#[test]
fn networks_are_found_by_name_id_and_prefix() {
    let e = Engine::shared();
    let net = e.network(json!({}));
    let (id, name, short) = (net.id.clone(), net.name.clone(), net.id[..12].to_owned());
    for word in [&id, &name, &short] {
        t!(e, GET "/networks/{word}", 200, ".Id" == (id));
    }
    let part = &name[..name.len() - 1];
    t!(e, GET "/networks/{part}", 404, ".message" == (format!("network {part} not found")));
    t!(e, GET "/networks/{name}?scope=swarm", 404);
    t!(e, GET "/networks/{name}?verbose=nope", 400, ".message" == "invalid value for verbose: nope: strconv.ParseBool: parsing \"nope\": invalid syntax");
}

#[test]
fn filters_of_the_list() {
    let e = Engine::shared();
    let prefix = e.name("filter");
    let one = e.network_named(&format!("{prefix}-one"), json!({"Labels": {"colour": "red"}}));
    let two = e.network_named(&format!("{prefix}-two"), json!({"Labels": {"colour": "blue", "size": "1"}}));
    let (first, second) = (one.name.as_str(), two.name.as_str());
    let list = |filters: Value| names(e, &prefix, filters);
    assert_eq!(list(json!({})), [first, second]);
    assert_eq!(list(json!({"name": [prefix]})), [first, second], "a name's part is enough");
    assert_eq!(list(json!({"name": [format!("^{first}$")]})), [first], "a name is a pattern too");
    assert_eq!(list(json!({"name": [first, second]})), [first, second]);
    assert_eq!(list(json!({"name": ["["]})), Vec::<String>::new());
    assert_eq!(list(json!({"id": [one.id[..10]]})), [first]);
    assert_eq!(list(json!({"id": [one.id[2..20]]})), [first], "an id's part is enough");
    assert_eq!(list(json!({"driver": ["bridge"]})), [first, second]);
    assert_eq!(list(json!({"driver": ["null"]})), Vec::<String>::new());
    assert_eq!(list(json!({"type": ["custom"]})), [first, second]);
    assert_eq!(list(json!({"type": {"builtin": true}})), Vec::<String>::new());
    assert_eq!(list(json!({"type": ["custom", "builtin"]})), [first, second]);
    assert_eq!(list(json!({"scope": ["local"]})), [first, second]);
    assert_eq!(list(json!({"scope": ["swarm"]})), Vec::<String>::new());
    assert_eq!(list(json!({"label": ["colour=red"]})), [first]);
    assert_eq!(list(json!({"label": ["colour", "size"]})), [second], "labels are all wanted");
    assert_eq!(list(json!({"label": ["colour=green"]})), Vec::<String>::new());
    let c = e.run(json!({"Cmd": ["sleep", "1000"], "HostConfig": on(&one)}));
    // Docker calls networks dangling that have containers, too.
    assert!(list(json!({"dangling": ["true"]})).iter().any(|name| name == second));
    assert!(!list(json!({"dangling": ["0"]})).iter().any(|name| name == second));
    drop(c);
    for (filters, status, words) in [
        (json!({"nope": ["x"]}), 400, "invalid filter 'nope'"),
        (json!({"until": ["1h"]}), 400, "invalid filter 'until'"),
        (json!({"type": ["nope"]}), 500, "invalid filter: 'type'='nope'"),
        (json!({"dangling": ["maybe"]}), 400, "invalid value for filter 'dangling', must be \"true\" (or \"1\"), or \"false\" (or \"0\")"),
        (json!("xx"), 400, "invalid filter"),
    ] {
        let reply = e.request("GET", &format!("/networks?filters={}", encode(&filters.to_string()))).send();
        reply.expect_status(status);
        reply.check(".message", "==", &json!(words));
    }
}

#[test]
fn a_list_shows_no_containers() {
    let e = Engine::shared();
    let net = e.network(json!({}));
    let _c = e.run(json!({"Cmd": ["sleep", "1000"], "HostConfig": on(&net)}));
    let filters = encode(&json!({"id": [net.id]}).to_string());
    t!(e, GET "/networks?filters={filters}", 200, ".0.Containers" == {});
    t!(e, GET "/v1.27/networks?filters={filters}", 200, ".0.Containers" != {});
}

#[test]
fn what_is_in_use_or_was_always_there_stays() {
    let e = Engine::shared();
    for name in ["bridge", "host", "none"] {
        t!(e, DELETE "/networks/{name}", 403, ".message" == (format!("{name} is a pre-defined network and cannot be removed")));
    }
    t!(e, DELETE "/networks/no-such-network", 404, ".message" == "network no-such-network not found");
    let net = e.network(json!({}));
    let c = e.run(json!({"Cmd": ["sleep", "1000"], "HostConfig": on(&net)}));
    let endpoint = net.endpoint(&c)["EndpointID"].as_str().unwrap()[..12].to_owned();
    t!(e, DELETE "/networks/{net}", 403, ".message" == (format!("error while removing network: network {} has active endpoints (name:\"{}\" id:\"{endpoint}\")", net.name, c.name)));
    c.post("/kill", 204);
    c.wait();
    // A stopped container does not hold a network; it can't start without it.
    t!(e, DELETE "/networks/{net}", 204);
    t!(e, POST "/containers/{c}/start", 404, ".message" matches (format!("network ({}|{}) not found$", net.name, net.id)));
    t!(e, GET "/containers/{c}/json", 200, ".State.Running" == false);
}

#[test]
fn prune_takes_what_nothing_uses() {
    let e = Engine::shared();
    let label = e.name("prune");
    let labelled = |value: &str| json!({"Labels": {label.as_str(): value}});
    let (used, free, other) = (e.network(labelled("a")), e.network(labelled("a")), e.network(labelled("b")));
    let c = e.run(json!({"Cmd": ["sleep", "1000"], "HostConfig": on(&used)}));
    let prune = |filters: Value| {
        let reply = e.request("POST", &format!("/networks/prune?filters={}", encode(&filters.to_string()))).send();
        reply.expect_status(200);
        reply.json()
    };
    assert_eq!(prune(json!({"label": [format!("{label}=c")]})), json!({"NetworksDeleted": null}));
    assert_eq!(prune(json!({"label": [label], "until": ["1h"]})), json!({"NetworksDeleted": null}), "they are younger");
    assert_eq!(prune(json!({"label": [label], "label!": [format!("{label}=b")]})), json!({"NetworksDeleted": [free.name]}));
    assert_eq!(prune(json!({"label": [label]})), json!({"NetworksDeleted": [other.name]}));
    t!(e, GET "/networks/{used}", 200);
    drop(c);
    assert_eq!(prune(json!({"label": [label]})), json!({"NetworksDeleted": [used.name]}));
    for filters in [json!({"nope": ["x"]}), json!({"dangling": ["true"]})] {
        let filters = encode(&filters.to_string());
        t!(e, POST "/networks/prune?filters={filters}", 400, ".message" has "invalid filter '");
    }
}

#[test]
fn events_of_a_network() {
    let e = Engine::shared();
    let mut open = e.request("GET", &format!("/events?filters={}", encode(&json!({"type": ["network"]}).to_string()))).open();
    let net = e.network(json!({"Labels": {"a": "b"}}));
    let c = e.run(json!({"Cmd": ["sleep", "1000"]}));
    net.connect(&c, json!(null));
    net.disconnect(&c);
    t!(e, DELETE "/networks/{net}", 204);
    let mut seen = Vec::new();
    while seen.last().is_none_or(|last: &Value| last["Action"] != "destroy") {
        let event = open.json_line().unwrap();
        if event["Actor"]["ID"] == net.id.as_str() {
            seen.push(event);
        }
    }
    let plain = json!({"name": net.name, "type": "bridge"});
    let with = json!({"name": net.name, "type": "bridge", "container": c.id});
    for (event, (action, attributes)) in seen.iter().zip([("create", &plain), ("connect", &with), ("disconnect", &with), ("destroy", &plain)]) {
        assert_eq!((&event["Type"], &event["Action"], &event["scope"]), (&json!("network"), &json!(action), &json!("local")));
        assert_eq!(&event["Actor"]["Attributes"], attributes, "{action}");
    }
    assert_eq!(seen.len(), 4);
}
