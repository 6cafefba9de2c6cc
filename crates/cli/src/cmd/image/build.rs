//! `build`: the buildx plugin where the daemon speaks BuildKit and the plugin is there, else the classic request with
//! the context in an archive.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::app::App;
use crate::archive::{self, Packing};
use crate::context::variable;
use crate::create::environment::pairs;
use crate::create::resources::parse_ulimit;
use crate::credentials;
use crate::error::{CliError, Result, open_error};
use crate::flags::{self, Parsed};
use crate::ignore::Ignore;
use crate::net::client::{Query, Request};
use crate::net::http::Body;
use crate::output::progress::Progress;
use crate::plugin;
use crate::values::{parse_bool, parse_bytes};

/// Options of the classic build. The plugin has options of its own, so nothing is parsed before it is known who builds.
pub(super) const FLAGS: &str = "
    - add-host list/host Add a line to the hosts file (host:ip)
    - build-arg list Set a variable of the build
    - cache-from strings Images to take layers from
    - cgroup-parent string Parent cgroup of the RUN instructions
    - compress bool Compress the context
    - cpu-period int Period of the CPU quota, in microseconds
    - cpu-quota int CPU time per period, in microseconds
    c cpu-shares int CPU shares relative to others
    - cpuset-cpus string CPUs to run on (0-3, 0,1)
    - cpuset-mems string Memory nodes to use (0-3, 0,1)
    - disable-content-trust bool=true Skip image verification
    f file string Dockerfile (PATH/Dockerfile unless given)
    - force-rm bool Remove intermediate containers always
    - iidfile string Write the image's id to a file
    - isolation string Isolation technology
    - label list Set a label
    m memory bytes Memory limit
    - memory-swap bytes/bytes-or-unlimited Limit of memory and swap together; -1 for no limit of swap
    - network string=default Network of the RUN instructions
    - no-cache bool Build every step
    - platform string Platform, if the daemon has several
    - pull bool Look for newer base images
    q quiet bool Print the image's id alone
    - rm bool=true Remove intermediate containers after a build that went well
    - security-opt strings Security options
    - shm-size bytes Size of /dev/shm
    - squash bool Make one layer of the new ones
    t tag list/tag Name of the image (name:tag)
    - target string Stage to build
    - ulimit ulimit Limits of the processes";

/// The words are taken as they are: which options there are depends on who builds.
pub(super) fn run(app: &App, words: &Parsed) -> Result<u8> {
    if use_buildx(app)? {
        let mut args = vec!["buildx".to_owned(), "build".to_owned()];
        args.extend(words.args.iter().cloned());
        let path = plugin::find(app, "buildx").unwrap_or_default();
        return Err(plugin::replace(app, &path, &args));
    }
    let parsed = flags::parse(&flags::table(FLAGS), &words.args, true).map_err(|why| {
        CliError::status(
            125,
            format!("{why}\n\nUsage:  {0} [OPTIONS] PATH | URL | -\n\nRun '{0} --help' for more information", app.path),
        )
    })?;
    if parsed.help {
        crate::help::build(&mut io::stdout().lock(), &app.path, FLAGS)?;
        return Ok(0);
    }
    let [context] = parsed.args.as_slice() else {
        return Err(CliError::new(format!(
            "droste: '{0}' requires 1 argument\n\nUsage:  {0} [OPTIONS] PATH | URL | -\n\nRun '{0} --help' for more information",
            app.path
        )));
    };
    classic(app, &parsed, context)
}

/// `DOCKER_BUILDKIT` decides; without it, whether the daemon has a builder and we have the plugin.
fn use_buildx(app: &App) -> Result<bool> {
    match variable("DOCKER_BUILDKIT").map(|text| parse_bool(&text)) {
        Some(None) => return Err(CliError::new("DOCKER_BUILDKIT environment variable expects boolean value")),
        Some(Some(false)) => return Ok(false),
        Some(Some(true)) if plugin::find(app, "buildx").is_none() => {
            return Err(CliError::new(
                "BuildKit is enabled but the buildx component is missing or broken: install docker-buildx",
            ));
        }
        Some(Some(true)) => return Ok(true),
        None => {}
    }
    if plugin::find(app, "buildx").is_none() {
        return Ok(false);
    }
    let client = app.client()?;
    let response = client.send(Request::new("HEAD", "/_ping").unversioned())?;
    let has_builder = response.head.header("builder-version") == Some("2");
    client.keep(response);
    Ok(has_builder)
}

enum Source {
    Folder(PathBuf),
    Stdin,
    Remote(String),
}

fn classic(app: &App, flags: &Parsed, context: &str) -> Result<u8> {
    let source = match context {
        "-" => Source::Stdin,
        url if url.contains("://") || url.starts_with("git@") || url.starts_with("github.com/") => {
            Source::Remote(url.to_owned())
        }
        path => Source::Folder(PathBuf::from(path)),
    };
    let auth = credentials::header_all(app)?;
    let quiet = flags.on("quiet");
    let client = app.client()?;
    let request = |query: Query| Request::new("POST", query.on("/build")).header("X-Registry-Config", auth.clone());
    let response = match source {
        Source::Remote(url) => client.send(request(query(flags, "Dockerfile", &url)))?,
        Source::Stdin => {
            let mut reader = stdin_context(flags)?;
            let name = if flags.str("file").is_empty() { "Dockerfile" } else { flags.str("file") };
            client.send(
                request(query(flags, name, "")).body(Body::Stream { reader: &mut *reader, kind: "application/x-tar" }),
            )?
        }
        Source::Folder(folder) => {
            let (name, mut packing) = folder_context(&folder, flags.str("file"))?;
            let mut packed;
            let reader: &mut dyn Read = if flags.on("compress") {
                packed = flate2::read::GzEncoder::new(&mut packing, flate2::Compression::fast());
                &mut packed
            } else {
                &mut packing
            };
            let request = request(query(flags, &name, ""));
            let sent = client.send(request.body(Body::Stream { reader, kind: "application/x-tar" }));
            match (sent, packing.finish()) {
                (Ok(response), Ok(())) => response,
                (Err(CliError::Transport { .. }), Err(ours)) | (Ok(_), Err(ours)) => return Err(ours),
                (Err(error), _) => return Err(error),
            }
        }
    };
    let mut progress = Progress::new(false, quiet);
    progress.follow(response)?;
    let id = progress.aux.iter().filter_map(|aux| aux["ID"].as_str()).next_back().unwrap_or(&progress.last).to_owned();
    if quiet {
        println!("{id}");
    }
    let iidfile = flags.str("iidfile");
    if !iidfile.is_empty() {
        fs::write(iidfile, &id).map_err(|e| open_error(iidfile, e))?;
    }
    Ok(0)
}

fn query(flags: &Parsed, dockerfile: &str, remote: &str) -> Query {
    let object = |map: Map<String, Value>| Value::Object(map).to_string();
    let mut args = Map::new();
    for given in flags.all("build-arg") {
        // A variable named without a value takes ours; one that we do not have is not set.
        let value = match given.split_once('=') {
            Some((_, value)) => value.into(),
            None => std::env::var(given).map_or(Value::Null, Value::from),
        };
        args.insert(given.split('=').next().unwrap_or(given).to_owned(), value);
    }
    let ulimits: Vec<Value> = flags
        .all("ulimit")
        .iter()
        .filter_map(|text| parse_ulimit(text).ok())
        .map(|(name, soft, hard)| serde_json::json!({"Name": name, "Hard": hard, "Soft": soft}))
        .collect();
    let mut query = Query::new().add("buildargs", &object(args));
    let cache = flags.split("cache-from");
    if !cache.is_empty() {
        query = query.add("cachefrom", &Value::from(cache).to_string());
    }
    query = query.some("cgroupparent", flags.str("cgroup-parent"));
    for (flag, name) in [
        ("cpu-period", "cpuperiod"),
        ("cpu-quota", "cpuquota"),
        ("cpu-shares", "cpushares"),
        ("cpuset-cpus", "cpusetcpus"),
        ("cpuset-mems", "cpusetmems"),
    ] {
        query = query.some(name, flags.str(flag));
    }
    query = query.add("dockerfile", dockerfile);
    for host in flags.all("add-host") {
        query = query.add("extrahosts", &host.replacen('=', ":", 1));
    }
    query = query.flag("forcerm", flags.on("force-rm")).add("labels", &object(pairs(flags.all("label"))));
    for (flag, name) in [("memory", "memory"), ("memory-swap", "memswap"), ("shm-size", "shmsize")] {
        let bytes = flags.get(flag).map(|v| if v == "-1" { -1 } else { parse_bytes(v).unwrap_or(0) });
        query = query.some(name, &bytes.map(|b| b.to_string()).unwrap_or_default());
    }
    query = query.add("networkmode", flags.get("network").unwrap_or("default")).flag("nocache", flags.on("no-cache"));
    query = query.some("platform", flags.str("platform")).flag("pull", flags.on("pull")).flag("q", flags.on("quiet"));
    query = query.some("remote", remote).add("rm", if flags.switch("rm").unwrap_or(true) { "1" } else { "0" });
    for option in flags.split("security-opt") {
        query = query.add("securityopt", &option);
    }
    query = query.flag("squash", flags.on("squash"));
    for tag in flags.all("tag") {
        query = query.add("t", tag);
    }
    query.some("target", flags.str("target")).add("ulimits", &Value::from(ulimits).to_string()).add("version", "1")
}

/// Standard input is an archive, or a Dockerfile that stands alone.
fn stdin_context(flags: &Parsed) -> Result<Box<dyn Read>> {
    let mut head = vec![0; 512];
    let mut stdin = io::stdin().lock();
    let mut size = 0;
    while size < head.len() {
        match stdin.read(&mut head[size..]).map_err(|e| CliError::io("reading the context", e))? {
            0 => break,
            more => size += more,
        }
    }
    head.truncate(size);
    let packed = head.starts_with(&[0x1f, 0x8b])
        || head.starts_with(b"BZh")
        || head.starts_with(&[0xfd, b'7', b'z', b'X', b'Z']);
    if packed || head.get(257..262) == Some(b"ustar") {
        return Ok(Box::new(io::Cursor::new(head).chain(stdin)));
    }
    if !flags.str("file").is_empty() {
        return Err(CliError::new("ambiguous Dockerfile source: both stdin and flag correspond to Dockerfiles"));
    }
    stdin.read_to_end(&mut head).map_err(|e| CliError::io("reading the Dockerfile", e))?;
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(head.len() as u64);
    header.set_cksum();
    let fail = |e| CliError::io("packing the Dockerfile", e);
    builder.append_data(&mut header, "Dockerfile", head.as_slice()).map_err(fail)?;
    Ok(Box::new(io::Cursor::new(builder.into_inner().map_err(fail)?)))
}

/// The folder without what `.dockerignore` names, and the Dockerfile's name in it.
fn folder_context(folder: &Path, file: &str) -> Result<(String, Packing)> {
    let shown = folder.display();
    let root = folder
        .canonicalize()
        .map_err(|_| CliError::new(format!("unable to prepare context: path {:?} not found", shown.to_string())))?;
    if !root.is_dir() {
        return Err(CliError::new(format!("unable to prepare context: context must be a directory: {shown}")));
    }
    let dockerfile = if file.is_empty() { root.join("Dockerfile") } else { PathBuf::from(file) };
    let missing = |e: io::Error| {
        CliError::new(format!(
            "unable to prepare context: unable to evaluate symlinks in Dockerfile path: lstat {}: {}",
            dockerfile.display(),
            crate::error::io_text(&e)
        ))
    };
    let real = dockerfile.canonicalize().map_err(missing)?;
    let (name, outside) = match real.strip_prefix(&root) {
        Ok(inside) => (inside.to_string_lossy().into_owned(), None),
        Err(_) => (format!(".dockerfile.{}", std::process::id()), Some(real)),
    };
    let ignore = Ignore::read(&root)?;
    let kept = name.clone();
    let packing = Packing::start(move |builder| {
        if let Some(real) = outside {
            builder.append_path_with_name(real, &kept)?;
        }
        let keep =
            |path: &Path| path == Path::new(&kept) || path == Path::new(".dockerignore") || !ignore.excludes(path);
        archive::add(builder, &root, Path::new(""), &keep, false)
    })?;
    Ok((name, packing))
}
