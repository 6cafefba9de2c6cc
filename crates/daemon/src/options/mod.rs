//! The daemon's options: dockerd's flags and configuration file, and a few of Droste's own.

mod address;
mod checks;
mod file;
mod flags;
mod values;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use droste_engine::Settings;
use tracing::Level;

pub(crate) use self::address::Address;
use self::values::Values;
use crate::log;

/// Where the configuration file is if nothing else is said.
const DEFAULT_FILE: &str = "/etc/droste/daemon.json";
const DEFAULT_SOCKET: &str = "unix:///run/droste/droste.sock";
const DEFAULT_PIDFILE: &str = "/run/droste/droste.pid";

/// Why the daemon does not start with its options.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OptionError {
    #[error("unknown flag: {0}; see 'droste daemon --help'")]
    Unknown(String),
    #[error("flag needs an argument: {0}")]
    NoArgument(String),
    #[error("\"droste daemon\" accepts no arguments, but got {0:?}; see 'droste daemon --help'")]
    Argument(String),
    #[error("invalid argument {value:?} for {option}: {reason}")]
    Value { option: String, value: String, reason: String },
    #[error("{option} is not part of this version of Droste: {way_out}")]
    Absent { option: String, way_out: &'static str },
    #[error("unable to configure the daemon with file {path}: {reason}")]
    File { path: String, reason: String },
}

impl OptionError {
    fn value(option: &str, value: &str, reason: impl Into<String>) -> Self {
        Self::Value { option: option.to_owned(), value: value.to_owned(), reason: reason.into() }
    }
}

/// What the command line asks for.
#[derive(Debug)]
pub(crate) enum Command {
    /// Serve, or only check the configuration.
    Serve(Box<Options>),
    /// Show the options.
    Help,
    /// Show the version.
    Version,
}

/// TLS of the network's listeners.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tls {
    /// Clients must have a certificate of the authority.
    pub(crate) verify: bool,
    /// The authority.
    pub(crate) ca: PathBuf,
    /// The daemon's certificate.
    pub(crate) cert: PathBuf,
    /// Its key.
    pub(crate) key: PathBuf,
}

/// All options, from the command line and the file.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Where to listen.
    pub(crate) addresses: Vec<Address>,
    /// TLS for TCP.
    pub(crate) tls: Option<Tls>,
    /// TCP beyond loopback without TLS is meant.
    pub(crate) insecure_tcp: bool,
    /// The group of the sockets; `None` for the default one if it exists.
    pub(crate) group: Option<String>,
    /// The file with the process id.
    pub(crate) pidfile: PathBuf,
    /// The log's level.
    pub(crate) level: Level,
    /// The log's form.
    pub(crate) format: log::Format,
    /// Where changes are written down, if anywhere.
    pub(crate) audit_log: Option<PathBuf>,
    /// Only check the configuration.
    pub(crate) validate: bool,
    /// What was asked for in vain or is always so.
    pub(crate) notes: Vec<String>,
    /// The engine's part.
    pub(crate) settings: Settings,
}

/// Reads the command line, and the file that it names.
pub(crate) fn parse(args: &[OsString]) -> Result<Command, OptionError> {
    let flags = match flags::read(args)? {
        flags::Read::Help => return Ok(Command::Help),
        flags::Read::Version => return Ok(Command::Version),
        flags::Read::Values(values) => values,
    };
    let (path, explicit) = match flags.last("config-file") {
        Some(path) => (PathBuf::from(path), true),
        None => (PathBuf::from(DEFAULT_FILE), false),
    };
    let file = read_file(&path, explicit)?;
    if let Some(reason) = flags.conflicts(&file) {
        return Err(OptionError::File { path: path.display().to_string(), reason });
    }
    Ok(Command::Serve(Box::new(flags.merged(file).options()?)))
}

fn read_file(path: &Path, explicit: bool) -> Result<Values, OptionError> {
    let failed = |reason: String| OptionError::File { path: path.display().to_string(), reason };
    match std::fs::read_to_string(path) {
        Ok(text) => file::read(&text).map_err(failed),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !explicit => Ok(Values::default()),
        Err(error) => Err(failed(error.to_string())),
    }
}

pub(crate) use self::flags::HELP;

#[cfg(test)]
mod tests {
    use super::*;

    fn options(args: &[&str]) -> Result<Options, OptionError> {
        let args: Vec<OsString> = args.iter().map(OsString::from).collect();
        match parse(&args)? {
            Command::Serve(options) => Ok(*options),
            other => panic!("{other:?}"),
        }
    }

    fn with_file(text: &str, args: &[&str]) -> Result<Options, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let path = file.path().to_str().unwrap().to_owned();
        let args: Vec<&str> = ["--config-file", &path].into_iter().chain(args.iter().copied()).collect();
        options(&args).map_err(|error| error.to_string().replace(&path, "FILE"))
    }

    #[test]
    fn flags_are_dockerds() {
        let options = options(&[
            "-H",
            "unix:///a.sock",
            "--host=tcp://127.0.0.1:2375",
            "-D",
            "--data-root",
            "/d",
            "--icc=false",
            "--default-ulimit",
            "nofile=1024:2048",
            "--log-opt=max-size=1m",
            "--log-opt",
            "max-file=2",
            "--add-runtime",
            "crun=/usr/bin/crun",
            "--bip=10.1.0.1/24",
            "--default-address-pool",
            "base=10.2.0.0/16,size=24",
            "--label=a=b",
            "--dns",
            "1.1.1.1",
        ])
        .unwrap();
        assert_eq!(options.addresses.len(), 2);
        assert_eq!(options.level, Level::DEBUG);
        let settings = &options.settings;
        assert_eq!(settings.data_root, PathBuf::from("/d"));
        assert!(!settings.icc && settings.debug);
        assert_eq!((settings.default_ulimits[0].soft, settings.default_ulimits[0].hard), (1024, 2048));
        assert_eq!(settings.log.options.len(), 2);
        assert_eq!(settings.runtimes["crun"], PathBuf::from("/usr/bin/crun"));
        assert_eq!(settings.bridge_ip, Some(([10, 1, 0, 1].into(), 24)));
        assert_eq!(settings.address_pools, [([10, 2, 0, 0].into(), 16, 24)]);
        assert_eq!(
            (settings.labels.as_slice(), settings.dns.as_slice()),
            (&["a=b".to_owned()][..], &["1.1.1.1".to_owned()][..])
        );
    }

    #[test]
    fn defaults_touch_no_docker() {
        let options = options(&[]).unwrap();
        assert_eq!(options.addresses, [Address::Unix("/run/droste/droste.sock".into())]);
        assert_eq!(options.pidfile, PathBuf::from("/run/droste/droste.pid"));
        assert_eq!(options.settings.data_root, PathBuf::from("/var/lib/droste"));
    }

    #[test]
    fn the_file_has_the_same_keys() {
        let options = with_file(
            r#"{"debug":true,"hosts":["unix:///a.sock"],"default-ulimits":{"nofile":{"Name":"nofile","Hard":2,"Soft":1}},
                "log-opts":{"max-size":"1m"},"runtimes":{"crun":{"path":"/usr/bin/crun"}},"mtu":1400,
                "default-address-pools":[{"base":"10.2.0.0/16","size":24}],"labels":["a=b"],"features":{"x":true}}"#,
            &["--icc=false"],
        )
        .unwrap();
        assert!(options.settings.debug && !options.settings.icc);
        assert_eq!(options.addresses, [Address::Unix("/a.sock".into())]);
        assert_eq!((options.settings.mtu, options.settings.default_ulimits[0].hard), (Some(1400), 2));
        assert_eq!(options.settings.runtimes.len() + options.settings.address_pools.len(), 2);
    }

    #[test]
    fn what_is_said_twice_is_refused() {
        let twice = "unable to configure the daemon with file FILE: the following directives are specified both as a \
                     flag and in the configuration file: ";
        assert_eq!(
            with_file(r#"{"debug":false}"#, &["-D"]).unwrap_err(),
            format!("{twice}debug: (from flag: true, from file: false)")
        );
        assert_eq!(
            with_file(r#"{"labels":["a=b"]}"#, &["--label", "c=d"]).unwrap_err(),
            format!("{twice}labels: (from flag: [c=d], from file: [a=b])")
        );
    }

    #[test]
    fn what_is_not_known_is_refused() {
        assert_eq!(options(&["--nope"]).unwrap_err().to_string(), "unknown flag: --nope; see 'droste daemon --help'");
        assert_eq!(options(&["--bip"]).unwrap_err(), OptionError::NoArgument("--bip".to_owned()));
        assert!(matches!(options(&["serve"]), Err(OptionError::Argument(_))));
        assert!(matches!(options(&["--userns-remap", "default"]), Err(OptionError::Absent { .. })));
        assert!(matches!(options(&["--bip", "x"]), Err(OptionError::Value { .. })));
        assert!(matches!(options(&["--default-runtime", "crun"]), Err(OptionError::Value { .. })));
        assert!(options(&["--default-runtime", "crun", "--add-runtime", "crun=/usr/bin/crun"]).is_ok());
        assert!(matches!(options(&["--log-level", "loud"]), Err(OptionError::Value { .. })));
        assert!(matches!(options(&["--config-file", "/does/not/exist"]), Err(OptionError::File { .. })));
        assert_eq!(
            with_file(r#"{"nope":1,"debug":true}"#, &[]).unwrap_err(),
            "unable to configure the daemon with file FILE: the following directives don't match any configuration option: nope"
        );
        assert!(with_file("{", &[]).unwrap_err().contains("invalid JSON"));
    }

    #[test]
    fn every_option_of_dockerd_has_an_answer() {
        // What Droste does not have is refused with a way out, or has no effect that anybody could miss.
        let ignored = with_file(
            r#"{"storage-opts":["overlay2.override_kernel_check=true"],"cdi-spec-dirs":["/etc/cdi"],
                "network-control-plane-mtu":1400,"max-download-attempts":3,"max-concurrent-uploads":0}"#,
            &["--cri-containerd"],
        )
        .unwrap();
        assert_eq!((ignored.notes.len(), ignored.settings.registry.attempts), (4, Some(3)));
        assert_eq!(ignored.settings.max_concurrent_uploads, Settings::default().max_concurrent_uploads);
        let refused = with_file(r#"{"default-shm-size":"1g"}"#, &[]).unwrap_err();
        assert!(refused.ends_with("is not part of this version of Droste: give containers --shm-size"), "{refused}");
        assert!(with_file(r#"{"default-network-opts":{"bridge":{"a":"b"}}}"#, &[]).is_err());
    }

    #[test]
    fn proxies_have_a_place_of_their_own_in_the_file() {
        let both =
            with_file(r#"{"proxies":{"http-proxy":"http://me:secret@p:1","no-proxy":"a,b"}}"#, &["--https-proxy=q"]);
        let proxies = both.unwrap().settings.registry.proxies;
        assert_eq!((proxies.http.as_str(), proxies.no.as_str()), ("http://me:secret@p:1", "a,b"));
        assert_eq!(proxies.https, "q");
        let twice = with_file(r#"{"proxies":{"http-proxy":"p"}}"#, &["--http-proxy", "q"]).unwrap_err();
        assert!(twice.ends_with("http-proxy: (from flag: q, from file: p)"), "{twice}");
        assert!(with_file(r#"{"proxies":{"nope":"p"}}"#, &[]).is_err());
        assert!(with_file(r#"{"proxies":[]}"#, &[]).is_err());
        let error = options(&["--http-proxy", "socks5://me:secret@p:1"]).unwrap_err().to_string();
        assert!(error.contains("only http and https proxies") && !error.contains("secret"), "{error}");
    }

    #[test]
    fn tls_needs_all_of_its_files() {
        let options = options(&["--tlsverify", "--tlscacert=/c", "--tlscert=/a", "--tlskey=/k"]).unwrap();
        assert!(options.tls.unwrap().verify);
    }
}
