//! A registry that stalls, cuts, lies about digests and sizes, wants tokens, and offers several platforms.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use droste_image::registry::{Auth, PullOptions, Registry, RegistryError, RegistrySettings};
use droste_image::{Limits, digest_of};
use droste_model::digest::Digest;
use droste_model::reference::Reference;

use crate::support::*;

/// How a path is answered.
#[derive(Clone)]
pub(crate) enum Answer {
    /// 200 with this content and type; ranges are honoured.
    Content(&'static str, Vec<u8>),
    /// 200 with a length of more than comes; the connection is cut after so many bytes. Ranges are honoured.
    Cut(usize, Vec<u8>),
    /// 200 with so many bytes, then silence.
    Stall(usize, Vec<u8>),
    /// A status with a body and headers.
    Status(u16, &'static str, String),
    /// 401 until the bearer token comes, then this.
    Guarded(Box<Answer>),
    /// The first so often, then the second.
    After(usize, Box<Answer>, Box<Answer>),
}

#[derive(Clone)]
pub(crate) struct Fake {
    pub(crate) port: u16,
    answers: Arc<Mutex<HashMap<String, Answer>>>,
    pub(crate) requests: Arc<Mutex<Vec<String>>>,
}

const TOKEN: &str = "Authorization: Bearer let-me-in";

impl Fake {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let fake = Self { port, answers: Arc::default(), requests: Arc::default() };
        let serving = fake.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let serving = serving.clone();
                std::thread::spawn(move || drop(serving.serve(stream)));
            }
        });
        fake
    }

    pub(crate) fn on(&self, path: &str, answer: Answer) {
        self.answers.lock().unwrap().insert(path.to_owned(), answer);
    }

    fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        loop {
            let mut head = Vec::new();
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line)? == 0 {
                    return Ok(());
                }
                match line.trim_end() {
                    "" => break,
                    line => head.push(line.to_owned()),
                }
            }
            // TLS is tried first: not HTTP, so the client turns to HTTP.
            let Some(path) = head[0].split(' ').nth(1).map(str::to_owned) else { return Ok(()) };
            self.requests.lock().unwrap().push(head.join("\n"));
            let path = path.split('?').next().unwrap().to_owned();
            if !self.answer(&mut stream, &path, &head)? {
                return Ok(());
            }
        }
    }

    /// Takes the answer that counts for this request.
    fn chosen(&self, path: &str, head: &[String]) -> Answer {
        let mut answers = self.answers.lock().unwrap();
        let missing =
            Answer::Status(404, "", r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#.into());
        let mut answer = answers.get(path).cloned().unwrap_or(missing);
        if let Answer::After(count, first, then) = answer {
            answer = if count == 0 { (*then).clone() } else { (*first).clone() };
            answers.insert(path.to_owned(), Answer::After(count.saturating_sub(1), first, then));
        }
        if let Answer::Guarded(inner) = answer {
            let has_token = head.iter().any(|line| line.eq_ignore_ascii_case(TOKEN));
            let challenge = "WWW-Authenticate: Bearer realm=\"http://127.0.0.1:PORT/token\",service=\"fake\"\r\n";
            answer = if has_token { *inner } else { Answer::Status(401, challenge, String::new()) };
        }
        answer
    }

    fn answer(&self, stream: &mut TcpStream, path: &str, head: &[String]) -> std::io::Result<bool> {
        let range = head.iter().find_map(|line| line.to_lowercase().strip_prefix("range: bytes=").map(str::to_owned));
        let from: usize = range.and_then(|range| range.trim_end_matches('-').parse().ok()).unwrap_or(0);
        let ok = |length: usize, more: &str| {
            let status = if from > 0 { "206 Partial Content" } else { "200 OK" };
            format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{more}\r\n")
        };
        match self.chosen(path, head) {
            Answer::Content(kind, bytes) => {
                stream.write_all(ok(bytes.len() - from, &format!("Content-Type: {kind}\r\n")).as_bytes())?;
                stream.write_all(&bytes[from..])?;
                Ok(true)
            }
            Answer::Cut(count, bytes) => {
                stream.write_all(ok(bytes.len() - from, "").as_bytes())?;
                stream.write_all(&bytes[from..bytes.len().min(from + count)])?;
                stream.shutdown(std::net::Shutdown::Both)?;
                Ok(false)
            }
            Answer::Stall(count, bytes) => {
                stream.write_all(ok(bytes.len(), "").as_bytes())?;
                stream.write_all(&bytes[..count])?;
                // Until the client gives up and closes.
                std::io::copy(stream, &mut std::io::sink())?;
                Ok(false)
            }
            Answer::Status(status, headers, body) => {
                let headers = headers.replace("PORT", &self.port.to_string());
                write!(stream, "HTTP/1.1 {status} X\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len())?;
                Ok(true)
            }
            Answer::Guarded(_) | Answer::After(..) => unreachable!("resolved before"),
        }
    }

    pub(crate) fn reference(&self, tag: &str) -> Reference {
        format!("127.0.0.1:{}/app:{tag}", self.port).parse().unwrap()
    }

    /// Serves an image with one layer as `app:TAG`; gives the paths of its parts.
    pub(crate) fn image(&self, tag: &str, layer: &[u8]) -> Parts {
        let packed = gzip(layer);
        let config = config(digest_of(layer), "amd64");
        let (manifest, parts) = self.parts(&packed, packed.len(), &config);
        self.on(&format!("/v2/app/manifests/{tag}"), Answer::Content(MANIFEST, manifest));
        parts
    }

    pub(crate) fn parts(&self, packed: &[u8], layer_size: usize, config: &str) -> (Vec<u8>, Parts) {
        let blob = |bytes: &[u8]| format!("/v2/app/blobs/{}", digest_of(bytes));
        let parts = Parts { layer: blob(packed), config: blob(config.as_bytes()), packed: packed.to_vec() };
        self.on(&parts.layer, Answer::Content("", packed.to_vec()));
        self.on(&parts.config, Answer::Content("", config.into()));
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{{"mediaType":"application/vnd.docker.container.image.v1+json","digest":"{}","size":{}}},"layers":[{{"mediaType":"application/vnd.docker.image.rootfs.diff.tar.gzip","digest":"{}","size":{layer_size}}}]}}"#,
            digest_of(config.as_bytes()),
            config.len(),
            digest_of(packed),
        );
        (manifest.into(), parts)
    }
}

pub(crate) struct Parts {
    pub(crate) layer: String,
    pub(crate) config: String,
    pub(crate) packed: Vec<u8>,
}

pub(crate) const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

pub(crate) fn config(diff_id: Digest, architecture: &str) -> String {
    format!(
        r#"{{"architecture":"{architecture}","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":["{diff_id}"]}}}}"#
    )
}

pub(crate) fn registry() -> Registry {
    let settings = RegistrySettings { stall: Duration::from_millis(400), attempts: 3, ..RegistrySettings::default() };
    Registry::new(settings)
}

fn some_layer() -> Vec<u8> {
    tar(&[Item::bytes("noise", &noise(300_000))])
}

/// Pulls `app:1` and expects an error, after which nothing is there.
async fn failure(fake: &Fake) -> RegistryError {
    let (directory, store) = store();
    let options = PullOptions { limits: Limits { bytes: 1 << 20, entries: 10 }, ..PullOptions::default() };
    let error = registry().pull(&store, &fake.reference("1"), &options, Arc::new(|_| {})).await.unwrap_err();
    assert!(store.images().is_empty() && store.layers().len() == 1 && leftovers(directory.path()).is_empty());
    error
}

async fn success(fake: &Fake) {
    let (_directory, store) = store();
    let options = PullOptions::default();
    let pulled = registry().pull(&store, &fake.reference("1"), &options, Arc::new(|_| {})).await.unwrap();
    droste_image::save(&[(pulled.image, vec![])], std::io::sink()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_image_is_pulled() {
    let fake = Fake::start();
    fake.image("1", &some_layer());
    success(&fake).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lies_about_digests_are_found() {
    let fake = Fake::start();
    let parts = fake.image("1", &some_layer());
    let mut changed = parts.packed.clone();
    *changed.last_mut().unwrap() ^= 1;
    fake.on(&parts.layer, Answer::Content("", changed));
    let error = failure(&fake).await;
    assert!(matches!(error, RegistryError::WrongDigest { .. }), "{error}");

    let parts = fake.image("1", &some_layer());
    fake.on(&parts.config, Answer::Content("", config(digest_of(b"other"), "arm64").into()));
    let error = failure(&fake).await;
    assert!(matches!(error, RegistryError::WrongDigest { .. }), "{error}");

    // The right blob, but not what the configuration says is in it.
    let packed = gzip(&some_layer());
    let (manifest, _) = fake.parts(&packed, packed.len(), &config(digest_of(b"other"), "amd64"));
    fake.on("/v2/app/manifests/1", Answer::Content(MANIFEST, manifest.clone()));
    let error = failure(&fake).await;
    assert!(matches!(error, RegistryError::WrongDigest { .. }), "{error}");

    // A manifest by digest that is another one.
    let wanted = digest_of(b"other");
    fake.on(&format!("/v2/app/manifests/{wanted}"), Answer::Content(MANIFEST, manifest));
    let error = registry().inspect(&fake.reference("1").with_digest(wanted), &Auth::default()).await.unwrap_err();
    assert!(matches!(error, RegistryError::WrongDigest { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn lies_about_sizes_are_found() {
    let fake = Fake::start();
    let packed = gzip(&some_layer());
    let right = config(digest_of(&some_layer()), "amd64");
    for stated in [packed.len() - 1, packed.len() + 1, 5] {
        let (manifest, _) = fake.parts(&packed, stated, &right);
        fake.on("/v2/app/manifests/1", Answer::Content(MANIFEST, manifest));
        let error = failure(&fake).await;
        let is_right = if stated < packed.len() {
            matches!(error, RegistryError::WrongSize { .. })
        } else {
            // More was promised than there is, which could also be a cut.
            !matches!(error, RegistryError::Store(_))
        };
        assert!(is_right, "{stated}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_transfers_go_on_where_they_stopped() {
    let fake = Fake::start();
    let parts = fake.image("1", &some_layer());
    let whole = Box::new(Answer::Content("", parts.packed.clone()));
    fake.on(&parts.layer, Answer::After(1, Box::new(Answer::Cut(100_000, parts.packed.clone())), whole));
    success(&fake).await;
    let requests = fake.requests.lock().unwrap().join("\n\n").to_lowercase();
    assert!(requests.contains("range: bytes="), "{requests}");
    // Cut each time, further each time, never whole.
    fake.on(&parts.layer, Answer::Cut(1000, parts.packed.clone()));
    let error = failure(&fake).await;
    assert!(matches!(error, RegistryError::Cut { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn stalls_are_given_up() {
    let fake = Fake::start();
    let parts = fake.image("1", &some_layer());
    fake.on(&parts.layer, Answer::Stall(1000, parts.packed.clone()));
    let error = failure(&fake).await;
    assert!(matches!(error, RegistryError::Stalled { .. }), "{error}");
    fake.on("/v2/app/manifests/1", Answer::Stall(10, vec![b' '; 100]));
    let error = failure(&fake).await;
    assert!(matches!(error, RegistryError::Stalled { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn passing_failures_are_tried_again() {
    let fake = Fake::start();
    let parts = fake.image("1", &some_layer());
    let busy = || Box::new(Answer::Status(503, "", String::new()));
    fake.on(&parts.layer, Answer::After(2, busy(), Box::new(Answer::Content("", parts.packed.clone()))));
    success(&fake).await;
    fake.on(&parts.layer, *busy());
    let error = failure(&fake).await;
    assert_eq!(error.to_string(), "received unexpected HTTP status: 503 Service Unavailable");
}

#[tokio::test(flavor = "multi_thread")]
async fn bombs_and_nonsense_are_refused() {
    let fake = Fake::start();
    fake.image("1", &tar(&[Item::bytes("zeros", &vec![0; 4 << 20])]));
    let error = failure(&fake).await;
    assert!(error.to_string().contains("more than 1048576 bytes"), "{error}");
    for (document, fragment) in [
        ("no json", "invalid manifest"),
        (r#"{"schemaVersion":1,"name":"old"}"#, "schema version 1"),
        (r#"{"schemaVersion":2,"manifests":[]}"#, "no matching manifest for linux/"),
    ] {
        fake.on("/v2/app/manifests/1", Answer::Content("application/json", document.into()));
        let error = failure(&fake).await;
        assert!(error.to_string().contains(fragment), "{document}: {error}");
    }
    let endless = vec![b' '; 9 << 20];
    fake.on("/v2/app/manifests/1", Answer::Content("application/json", endless));
    let error = failure(&fake).await;
    assert!(matches!(error, RegistryError::WrongSize { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_gives_the_platform_that_is_asked_for() {
    let fake = Fake::start();
    let mut entries = Vec::new();
    let mut ids = HashMap::new();
    for architecture in ["amd64", "arm64"] {
        let layer = tar(&[Item::file("arch", architecture)]);
        let config = config(digest_of(&layer), architecture);
        ids.insert(architecture, digest_of(config.as_bytes()));
        let packed = gzip(&layer);
        let (manifest, _) = fake.parts(&packed, packed.len(), &config);
        let digest = digest_of(&manifest);
        entries.push(format!(
            r#"{{"mediaType":"{MANIFEST}","digest":"{digest}","size":{},"platform":{{"architecture":"{architecture}","os":"linux"}}}}"#,
            manifest.len()
        ));
        fake.on(&format!("/v2/app/manifests/{digest}"), Answer::Content(MANIFEST, manifest));
    }
    let kind = "application/vnd.docker.distribution.manifest.list.v2+json";
    let index = format!(r#"{{"schemaVersion":2,"mediaType":"{kind}","manifests":[{}]}}"#, entries.join(","));
    fake.on("/v2/app/manifests/1", Answer::Content(kind, index.clone().into()));
    let (_directory, store) = store();
    for (architecture, id) in &ids {
        let platform = Some(format!("linux/{architecture}").parse().unwrap());
        let options = PullOptions { platform, ..PullOptions::default() };
        let pulled = registry().pull(&store, &fake.reference("1"), &options, Arc::new(|_| {})).await.unwrap();
        assert_eq!((pulled.image.id(), pulled.digest), (*id, digest_of(index.as_bytes())));
    }
    let seen = registry().inspect(&fake.reference("1"), &Auth::default()).await.unwrap();
    let platforms: Vec<String> = seen.platforms.iter().map(ToString::to_string).collect();
    assert_eq!(platforms, ["linux/amd64", "linux/arm64"]);
    assert_eq!((seen.descriptor.media_type.as_str(), seen.descriptor.size), (kind, index.len() as u64));
    let options = PullOptions { platform: Some("linux/s390x".parse().unwrap()), ..PullOptions::default() };
    let error = registry().pull(&store, &fake.reference("1"), &options, Arc::new(|_| {})).await.unwrap_err();
    assert_eq!(error.to_string(), "no matching manifest for linux/s390x in the manifest list entries");
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_fetched_and_denials_translated() {
    let fake = Fake::start();
    let parts = fake.image("1", &some_layer());
    let guard = |path: &str| {
        let answer = fake.answers.lock().unwrap()[path].clone();
        fake.on(path, Answer::Guarded(Box::new(answer)));
    };
    for path in ["/v2/app/manifests/1", &parts.layer, &parts.config] {
        guard(path);
    }
    fake.on("/token", Answer::Content("application/json", br#"{"token":"let-me-in"}"#.to_vec()));
    success(&fake).await;
    let asked = fake.requests.lock().unwrap().iter().find(|head| head.contains("/token")).cloned().unwrap();
    assert!(asked.contains("service=fake") && asked.contains("scope=repository%3Aapp%3Apull"), "{asked}");
    assert_eq!(fake.requests.lock().unwrap().iter().filter(|head| head.contains("/token")).count(), 1);

    // With an identity token, which is spent at the same address.
    let auth = Auth { identity_token: "refresh".into(), ..Auth::default() };
    registry().inspect(&fake.reference("1"), &auth).await.unwrap();
    assert!(fake.requests.lock().unwrap().iter().any(|head| head.starts_with("POST /token")));
    let auth = Auth { registry_token: "let-me-in".into(), ..Auth::default() };
    registry().inspect(&fake.reference("1"), &auth).await.unwrap();

    fake.on("/token", Answer::Status(401, "", r#"{"details":"incorrect username or password"}"#.into()));
    let error = failure(&fake).await;
    assert_eq!(error.to_string(), "unauthorized: incorrect username or password");

    let denied = "WWW-Authenticate: Bearer realm=\"http://127.0.0.1:PORT/token\",error=\"insufficient_scope\"\r\n";
    fake.on("/token", Answer::Content("application/json", br#"{"token":"let-me-in"}"#.to_vec()));
    fake.on("/v2/app/manifests/1", Answer::Status(401, denied, String::new()));
    let error = failure(&fake).await;
    let name = fake.reference("1").familiar_name();
    assert_eq!(
        error.to_string(),
        format!(
            "pull access denied for {name}, repository does not exist or may require 'docker login': denied: requested access to the resource is denied"
        )
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_stay_with_the_registry() {
    let fake = Fake::start();
    let elsewhere = Fake::start();
    let parts = fake.image("1", &some_layer());
    elsewhere.on("/blob", Answer::Content("", parts.packed.clone()));
    let location: &'static str = format!("Location: http://127.0.0.1:{}/blob\r\n", elsewhere.port).leak();
    fake.on(&parts.layer, Answer::Guarded(Box::new(Answer::Status(307, location, String::new()))));
    fake.on("/token", Answer::Content("application/json", br#"{"token":"let-me-in"}"#.to_vec()));
    success(&fake).await;
    let there = elsewhere.requests.lock().unwrap().join("\n").to_lowercase();
    assert!(there.contains("/blob") && !there.contains("authorization"), "{there}");
}
