//! Pull, push, login and inspection against Debian's `docker-registry`: plain, with TLS, with passwords.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use droste_image::registry::{Auth, PullOptions, PushOptions, Registry, RegistryError, RegistrySettings, SharedSink};
use droste_image::{Image, MakeOptions, Possession, Progress, Store, commit, digest_of};
use droste_model::reference::Reference;
use tempfile::TempDir;

use crate::support::*;

/// A registry that ends with the test.
pub(crate) struct Server {
    child: Child,
    pub(crate) port: u16,
    pub(crate) directory: TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[derive(Default, Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) tls: bool,
    pub(crate) passwords: bool,
}

impl Server {
    pub(crate) fn start(wanted: Wanted) -> Self {
        let directory = TempDir::new().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let root = directory.path().display();
        let mut config = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage: {{filesystem: {{rootdirectory: {root}/data}}, delete: {{enabled: true}}}}\nhttp:\n  addr: 127.0.0.1:{port}\n"
        );
        if wanted.tls {
            shell(
                directory.path(),
                "openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost,DNS:registry.test -addext basicConstraints=critical,CA:FALSE 2>/dev/null",
            );
            config.push_str(&format!("  tls: {{certificate: {root}/cert.pem, key: {root}/key.pem}}\n"));
        }
        if wanted.passwords {
            shell(directory.path(), "htpasswd -Bbn -C 4 me secret > passwords");
            config.push_str(&format!("auth: {{htpasswd: {{realm: test, path: {root}/passwords}}}}\n"));
        }
        std::fs::write(directory.path().join("config.yml"), config).unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(directory.path().join("config.yml"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry, of Debian's package docker-registry");
        let server = Self { child, port, directory };
        for _ in 0..500 {
            if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return server;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("docker-registry does not listen");
    }

    fn reference(&self, rest: &str) -> Reference {
        format!("127.0.0.1:{}/{rest}", self.port).parse().unwrap()
    }
}

pub(crate) fn me() -> Auth {
    Auth { username: "me".into(), password: "secret".into(), ..Auth::default() }
}

pub(crate) fn quick() -> RegistrySettings {
    RegistrySettings { stall: Duration::from_secs(5), attempts: 2, ..RegistrySettings::default() }
}

fn pushed_by(auth: &Auth) -> PushOptions {
    PushOptions { auth: auth.clone(), possession: Possession::everything() }
}

type Messages = Arc<Mutex<Vec<Progress>>>;

fn recorder() -> (Messages, SharedSink) {
    let messages = Messages::default();
    let into = Arc::clone(&messages);
    (messages, Arc::new(move |progress| into.lock().unwrap().push(progress)))
}

fn quiet() -> SharedSink {
    Arc::new(|_| {})
}

/// `id: status` of every message that counts no bytes.
fn texts(messages: &Messages) -> Vec<String> {
    let messages = messages.lock().unwrap();
    let plain = messages.iter().filter(|one| one.bytes.is_none() && one.aux.is_none());
    plain
        .map(|one| if one.id.is_empty() { one.status.clone() } else { format!("{}: {}", one.id, one.status) })
        .collect()
}

fn sample(store: &Store) -> Image {
    let work = TempDir::new().unwrap();
    let base = image_of(store, &tar(&[Item::bytes("noise", &noise(2_000_000)), Item::file("base", "b")])).unwrap();
    let overlay = store.prepare_root(Some(&base), work.path()).unwrap();
    std::fs::write(overlay.upper.join("top"), "t").unwrap();
    commit(store, Some(&base), &overlay.upper, &MakeOptions::default()).unwrap()
}

pub(crate) async fn round_trip(registry: &Registry, reference: &Reference, auth: &Auth) {
    let (_first, from) = store();
    let (_second, to) = store();
    let image = sample(&from);
    let (messages, sink) = recorder();
    let digest = registry.push(&image, reference, &pushed_by(auth), sink).await.unwrap();
    let (base, top) = (image.layers()[0].short(), image.layers()[1].short());
    let told = texts(&messages);
    assert_eq!(told[0], format!("The push refers to repository [{}]", reference.name()));
    assert_eq!(told[1..3], [format!("{top}: Preparing"), format!("{base}: Preparing")]);
    assert!(told.contains(&format!("{base}: Pushed")) && told.contains(&format!("{top}: Pushed")), "{told:?}");
    assert!(told.last().unwrap().starts_with(&format!("1: digest: {digest} size: ")), "{told:?}");
    let aux = messages.lock().unwrap().last().unwrap().aux.clone().unwrap();
    assert_eq!((aux.tag.as_str(), aux.digest), ("1", digest));

    let (messages, sink) = recorder();
    let options = PullOptions { auth: auth.clone(), ..PullOptions::default() };
    let pulled = registry.pull(&to, reference, &options, sink).await.unwrap();
    assert_eq!((pulled.image.id(), pulled.digest), (image.id(), digest));
    assert_eq!(pulled.image.layers(), image.layers());
    let told = texts(&messages);
    assert_eq!(told[0], format!("1: Pulling from {}", reference.path()));
    assert!(told[1].ends_with(": Pulling fs layer") && told[2].ends_with(": Pulling fs layer"), "{told:?}");
    for layer in 1..=2 {
        let id = told[layer].split(':').next().unwrap().to_owned();
        let own: Vec<&str> = told.iter().filter_map(|text| text.strip_prefix(&id)?.strip_prefix(": ")).collect();
        assert_eq!(own, ["Pulling fs layer", "Verifying Checksum", "Download complete", "Pull complete"]);
    }
    assert_eq!(told.last().unwrap(), &format!("Digest: {digest}"));
    let counted = messages.lock().unwrap().iter().filter(|one| one.status == "Downloading").count();
    assert!(counted >= 3, "{counted} messages of downloading");
    droste_image::save(&[(pulled.image.clone(), vec![])], std::io::sink()).unwrap();

    // Again, by digest, and pushed again: nothing moves.
    let options = PullOptions { possession: Possession::of([image.id()], []), ..options };
    let again = registry.pull(&to, &reference.with_digest(digest), &options, quiet()).await.unwrap();
    assert_eq!(again.image.id(), image.id());
    let (messages, sink) = recorder();
    assert_eq!(registry.push(&pulled.image, reference, &pushed_by(auth), sink).await.unwrap(), digest);
    assert_eq!(texts(&messages).iter().filter(|text| text.ends_with("Layer already exists")).count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http() {
    let server = Server::start(Wanted::default());
    let registry = Registry::new(quick());
    round_trip(&registry, &server.reference("some/app:1"), &Auth::default()).await;

    let seen = registry.inspect(&server.reference("some/app:1"), &Auth::default()).await.unwrap();
    assert_eq!(seen.platforms, [droste_model::platform::Platform::host()]);
    assert_eq!(registry.check_auth(&format!("127.0.0.1:{}", server.port), &Auth::default()).await.unwrap(), None);

    let (_directory, store) = store();
    let pull = |reference: Reference| {
        let (registry, store) = (&registry, &store);
        async move { registry.pull(store, &reference, &PullOptions::default(), quiet()).await.unwrap_err() }
    };
    let text = pull(server.reference("some/app:none")).await.to_string();
    let familiar = server.reference("some/app:none").familiar();
    assert_eq!(text, format!("manifest for {familiar} not found: manifest unknown: manifest unknown"));
    let unknown = pull(server.reference("nobody/nothing:1")).await;
    assert!(
        matches!(unknown, RegistryError::ManifestUnknown { .. } | RegistryError::RepositoryUnknown { .. }),
        "{unknown}"
    );
    let other = digest_of(b"other");
    let error = pull(server.reference("some/app").with_digest(other)).await;
    assert!(matches!(error, RegistryError::ManifestUnknown { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_are_mounted_from_another_repository() {
    let server = Server::start(Wanted::default());
    let registry = Registry::new(quick());
    let (_directory, store) = store();
    let image = sample(&store);
    let auth = Auth::default();
    registry.push(&image, &server.reference("one:1"), &pushed_by(&auth), quiet()).await.unwrap();
    let (messages, sink) = recorder();
    registry.push(&image, &server.reference("two:1"), &pushed_by(&auth), sink).await.unwrap();
    let mounted = texts(&messages).iter().filter(|text| text.ends_with(": Mounted from one")).count();
    assert_eq!(mounted, 2, "{:?}", texts(&messages));
    registry.inspect(&server.reference("two:1"), &auth).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn repositories_of_others_are_neither_asked_nor_named() {
    let server = Server::start(Wanted::default());
    let registry = Registry::new(quick());
    let (_directory, store) = store();
    let image = sample(&store);
    registry.push(&image, &server.reference("secret/project:1"), &PushOptions::default(), quiet()).await.unwrap();
    let (messages, sink) = recorder();
    registry.push(&image, &server.reference("mine:1"), &PushOptions::default(), sink).await.unwrap();
    let told = texts(&messages);
    assert_eq!(told.iter().filter(|text| text.ends_with(": Pushed")).count(), 2, "{told:?}");
    assert!(!format!("{told:?}").contains("secret"), "{told:?}");
    // Who knows the other repository by name may have its layers mounted.
    let name = server.reference("secret/project").name();
    let knowing = PushOptions { possession: Possession::of([], [name]), ..PushOptions::default() };
    let (messages, sink) = recorder();
    registry.push(&image, &server.reference("third:1"), &knowing, sink).await.unwrap();
    let mounted = texts(&messages).iter().filter(|text| text.ends_with(": Mounted from secret/project")).count();
    assert_eq!(mounted, 2, "{:?}", texts(&messages));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_proves_who_it_is_may_let_others_use_what_it_gave_before() {
    let server = Server::start(Wanted { tls: true, passwords: true });
    let certs = server.directory.path().join("certs.d");
    let reference: Reference = format!("registry.test:{}/app:1", server.port).parse().unwrap();
    trust(&certs, reference.domain(), &server.directory.path().join("cert.pem"));
    let trusting = to_loopback(RegistrySettings { certs_dirs: vec![certs], ..quick() });
    let insecure = to_loopback(RegistrySettings { insecure: vec![reference.domain().to_owned()], ..quick() });
    let (_first, from) = store();
    let (_second, to) = store();
    let image = sample(&from);
    trusting.push(&image, &reference, &pushed_by(&me()), quiet()).await.unwrap();
    let options = PullOptions { auth: me(), ..PullOptions::default() };
    let held = trusting.pull(&to, &reference, &options, quiet()).await.unwrap().image;

    let statuses = |messages: &Messages, status: &str| {
        texts(messages).iter().filter(|text| text.ends_with(&format!(": {status}"))).count()
    };
    let (messages, sink) = recorder();
    trusting.pull(&to, &reference, &options, sink).await.unwrap();
    assert_eq!(statuses(&messages, "Already exists"), 2, "{:?}", texts(&messages));
    // Whoever is not authenticated learns nothing.
    let error = trusting.pull(&to, &reference, &PullOptions::default(), quiet()).await.unwrap_err();
    assert!(error.to_string().contains("no basic auth credentials"), "{error}");
    // Whoever may be anybody has to give the bytes. They are known, and not unpacked again.
    let (messages, sink) = recorder();
    insecure.pull(&to, &reference, &options, sink).await.unwrap();
    assert_eq!((statuses(&messages, "Already exists"), statuses(&messages, "Download complete")), (0, 2));
    assert!(!messages.lock().unwrap().iter().any(|one| one.status == "Extracting"));
    drop(held);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_writes_the_manifest_that_docker_writes() {
    let server = Server::start(Wanted::default());
    let (_directory, store) = store();
    let image = image_of(&store, &tar(&[Item::file("a", "b")])).unwrap();
    let reference = server.reference("app:1");
    Registry::new(quick()).push(&image, &reference, &PushOptions::default(), quiet()).await.unwrap();
    let url = format!("http://127.0.0.1:{}/v2/app/manifests/1", server.port);
    let media_type = "application/vnd.docker.distribution.manifest.v2+json";
    let text = shell(server.directory.path(), &format!("curl -sf -H 'Accept: {media_type}' {url}"));
    let manifest: serde_json::Value = serde_json::from_str(&text).unwrap();
    let (config, layer) = (&manifest["config"], &manifest["layers"][0]);
    // Recorded from Docker 28.5.2, with the image's own numbers.
    let expected = format!(
        "{{\n   \"schemaVersion\": 2,\n   \"mediaType\": \"{media_type}\",\n   \"config\": {{\n      \"mediaType\": \"application/vnd.docker.container.image.v1+json\",\n      \"size\": {},\n      \"digest\": {}\n   }},\n   \"layers\": [\n      {{\n         \"mediaType\": \"application/vnd.docker.image.rootfs.diff.tar.gzip\",\n         \"size\": {},\n         \"digest\": {}\n      }}\n   ]\n}}",
        config["size"], config["digest"], layer["size"], layer["digest"],
    );
    assert_eq!(text, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_are_asked_for() {
    let server = Server::start(Wanted { passwords: true, ..Wanted::default() });
    let registry = Registry::new(quick());
    round_trip(&registry, &server.reference("app:1"), &me()).await;
    let address = format!("127.0.0.1:{}", server.port);
    assert_eq!(registry.check_auth(&address, &me()).await.unwrap(), None);
    let wrong = Auth { password: "wrong".into(), ..me() };
    let error = registry.check_auth(&address, &wrong).await.unwrap_err();
    let said = format!("login attempt to http://{address}/v2/ failed with status: 401 Unauthorized");
    assert_eq!(error.to_string(), said);

    let (_directory, store) = store();
    let image = sample(&store);
    for (auth, fragment) in
        [(Auth::default(), "no basic auth credentials"), (wrong, "unauthorized: authentication required")]
    {
        let options = PullOptions { auth: auth.clone(), ..PullOptions::default() };
        let error = registry.pull(&store, &server.reference("app:1"), &options, quiet()).await.unwrap_err();
        assert!(error.to_string().contains(fragment), "{error}");
        let error = registry.push(&image, &server.reference("app:2"), &pushed_by(&auth), quiet()).await.unwrap_err();
        assert!(error.to_string().contains(fragment), "{error}");
    }
}

/// Answers for any name with the loopback address, as a resolver of the test's own.
fn to_loopback(settings: RegistrySettings) -> Registry {
    Registry::with_connect(
        settings,
        Arc::new(|_, port| Box::pin(async move { tokio::net::TcpStream::connect(("127.0.0.1", port)).await })),
    )
}

pub(crate) fn trust(certs: &Path, authority: &str, certificate: &Path) {
    std::fs::create_dir_all(certs.join(authority)).unwrap();
    std::fs::copy(certificate, certs.join(authority).join("ca.crt")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_checked() {
    let server = Server::start(Wanted { tls: true, passwords: true });
    let authority = format!("registry.test:{}", server.port);
    let reference: Reference = format!("{authority}/app:1").parse().unwrap();
    let error = to_loopback(quick()).inspect(&reference, &me()).await.unwrap_err();
    assert!(error.to_string().contains("failed to verify certificate"), "{error}");

    let certs = server.directory.path().join("certs.d");
    trust(&certs, &authority, &server.directory.path().join("cert.pem"));
    let trusting = RegistrySettings { certs_dirs: vec![certs.clone()], ..quick() };
    round_trip(&to_loopback(trusting.clone()), &reference, &me()).await;

    // The certificate is for other names than this one.
    let stranger: Reference = format!("stranger.test:{}/app:1", server.port).parse().unwrap();
    trust(&certs, stranger.domain(), &server.directory.path().join("cert.pem"));
    let error = to_loopback(trusting).inspect(&stranger, &me()).await.unwrap_err();
    assert!(error.to_string().contains("failed to verify certificate"), "{error}");
    let insecure = RegistrySettings { insecure: vec![stranger.domain().to_owned()], ..quick() };
    to_loopback(insecure).inspect(&stranger, &me()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn http_is_not_spoken_to_a_registry_that_is_not_insecure() {
    let server = Server::start(Wanted::default());
    let reference: Reference = format!("registry.test:{}/app:1", server.port).parse().unwrap();
    let error = to_loopback(quick()).inspect(&reference, &Auth::default()).await.unwrap_err();
    assert!(error.to_string().contains("server gave HTTP response to HTTPS client"), "{error}");
    let insecure = RegistrySettings { insecure: vec![reference.domain().to_owned()], ..quick() };
    let error = to_loopback(insecure).inspect(&reference, &Auth::default()).await.unwrap_err();
    assert!(
        matches!(error, RegistryError::ManifestUnknown { .. } | RegistryError::RepositoryUnknown { .. }),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn mirrors_serve_the_hub() {
    let server = Server::start(Wanted::default());
    let (_first, from) = store();
    let (_second, to) = store();
    let image = sample(&from);
    let here = Registry::new(quick());
    here.push(&image, &server.reference("library/app:1"), &PushOptions::default(), quiet()).await.unwrap();
    let dead = "http://127.0.0.1:1".to_owned();
    let mirrors = vec![dead, format!("http://127.0.0.1:{}/", server.port)];
    let registry = Registry::new(RegistrySettings { mirrors, ..quick() });
    // Credentials for the hub must not reach a mirror; this one would ask for none anyway.
    let options = PullOptions { auth: me(), ..PullOptions::default() };
    let pulled = registry.pull(&to, &"app:1".parse().unwrap(), &options, quiet()).await.unwrap();
    assert_eq!(pulled.image.id(), image.id());
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_listening_is_said_so() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (_directory, store) = store();
    let reference: Reference = format!("127.0.0.1:{port}/app:1").parse().unwrap();
    let error = Registry::new(quick()).pull(&store, &reference, &PullOptions::default(), quiet()).await.unwrap_err();
    assert!(error.is_unreachable(), "{error:?}");
    assert!(error.to_string().ends_with(&format!("dial tcp 127.0.0.1:{port}: connect: connection refused")), "{error}");
}
