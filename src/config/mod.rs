//! Every setting: default < `rollcall.toml` < `ROLLCALL_*` < flag. Loaded once, validated whole, handed out by value.
//!
//! A setting `some_name` is `--some-name`, `ROLLCALL_SOME_NAME` and the key `some_name`; those of a section stand in the
//! file's table of that name and carry it in the variable (`[agent] url`, `ROLLCALL_AGENT_URL`). This module imports no
//! other of ours, and is the only one that reads the environment.
#![expect(clippy::doc_markdown, reason = "the docs of settings are shown by --help, in a terminal")]

mod inherited;
mod layers;
mod value;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use chrono_tz::Tz;
use croner::Cron;
use ipnet::IpNet;
use secrecy::{ExposeSecret as _, SecretString};

pub use inherited::inherited_variables;
pub use layers::{ConfigError, Layers, Origin, Spec};
pub use value::{SettingValue, parse_cidr, parse_duration};

/// A group of settings that is read together.
pub trait Section: Sized {
    /// Its settings, in the order of `--help`.
    const SPECS: &'static [Spec];

    /// Reads every setting and checks them against each other; all problems are reported at once.
    fn load(layers: &Layers) -> Result<Self, ConfigError>;
}

macro_rules! settings {
    (
        $(#[$outer:meta])*
        $struct:ident in $section:literal checked by $check:path {
            $(#[doc = $doc:literal] $name:ident: $type:ty = $default:literal,)*
        }
    ) => {
        $(#[$outer])*
        #[derive(Clone, Debug)]
        pub struct $struct {
            $(#[doc = $doc] pub $name: $type,)*
        }

        impl Section for $struct {
            const SPECS: &'static [Spec] = &[$(Spec {
                section: $section,
                name: stringify!($name),
                default: $default,
                help: $doc,
                placeholder: <$type as SettingValue>::PLACEHOLDER,
                is_switch: <$type as SettingValue>::IS_SWITCH,
                is_secret: is_secret(<$type as SettingValue>::PLACEHOLDER),
            },)*];

            fn load(layers: &Layers) -> Result<Self, ConfigError> {
                let mut problems = Vec::new();
                let mut specs = Self::SPECS.iter();
                // The fields are read in the order of `SPECS`, which the same list made.
                $(let $name = read_next::<$type>(layers, &mut specs, &mut problems);)*
                let ($(Some($name),)*) = ($($name,)*) else {
                    return Err(ConfigError(problems));
                };
                let config = Self { $($name,)* };
                let problems: Vec<String> = $check(&config);
                if problems.is_empty() { Ok(config) } else { Err(ConfigError(problems)) }
            }
        }
    };
}

fn read_next<T: SettingValue>(
    layers: &Layers,
    specs: &mut std::slice::Iter<'static, Spec>,
    problems: &mut Vec<String>,
) -> Option<T> {
    let spec = specs.next()?;
    let (text, origin) = layers.resolve(spec);
    T::parse(&text).map_err(|reason| problems.push(layers::problem(spec, &origin, &reason))).ok()
}

const fn is_secret(placeholder: &str) -> bool {
    // A string comparison that a constant can make.
    matches!(placeholder.as_bytes(), b"SECRET")
}

settings! {
    /// The server's settings.
    ServerConfig in "" checked by check_server {
        #[doc = "Address and port to listen on."]
        listen: SocketAddr = "127.0.0.1:8080",
        #[doc = "Listen on an address other than loopback although nothing encrypts the traffic (put TLS in front)."]
        allow_plaintext: bool = "false",
        #[doc = "The address that runners and people use, shown in commands and links. Default: http:// and the listening address."]
        public_url: Option<String> = "",
        #[doc = "Folder for the SQLite file and the keys."]
        data_dir: PathBuf = "./rollcall-data",
        #[doc = "postgres://user:password@host/database or sqlite:///path/file. Default: rollcall.sqlite3 in the data folder."]
        database_url: Option<SecretString> = "",
        #[doc = "Connections to PostgreSQL, or readers of SQLite (beside its one writer)."]
        database_pool_size: usize = "8",
        #[doc = "How long a request may wait for a database connection."]
        database_wait_timeout: Duration = "5s",
        #[doc = "How long one unit of work in the database may take before it is given up as UNAVAILABLE."]
        database_statement_timeout: Duration = "10s",
        #[doc = "A runner that was not heard from for this long is OFFLINE (3s or more)."]
        offline_after: Duration = "60s",
        #[doc = "A runner that did task work within this time is ACTIVE."]
        idle_after: Duration = "10s",
        #[doc = "Runners are told to wait longer between heartbeats when the fleet would send more than this a second."]
        max_heartbeats_per_second: u32 = "1000",
        #[doc = "How often heartbeats are written to the database, all in one statement."]
        presence_flush_interval: Duration = "1s",
        #[doc = "Secret that signs runner sessions, 32 characters or more. Default: made at the first start and kept in the data folder."]
        session_key: Option<SecretString> = "",
        #[doc = "How long a runner session lasts."]
        session_lifetime: Duration = "1h",
        #[doc = "How long an old runner token works beside its successor, unless that is used earlier."]
        rotation_overlap: Duration = "1h",
        #[doc = "A runner is asked for a new token at three quarters of this age. 0s: never."]
        token_max_age: Duration = "0s",
        #[doc = "Secret that job tokens are signed with, 32 characters or more. Default: made at the first start and kept in the data folder."]
        job_token_key: Option<SecretString> = "",
        #[doc = "A task that waited this long for a runner is cancelled."]
        queue_timeout: Duration = "24h",
        #[doc = "A task whose runner has been OFFLINE for this long is queued again, as often as its maxAttempts allows."]
        task_lost_after: Duration = "60s",
        #[doc = "A task that its runner has not stopped this long after it was asked to is given up."]
        cancel_timeout: Duration = "60s",
        #[doc = "How long after the end of a task its runner may still deliver log lines and outputs."]
        late_report_window: Duration = "60s",
        #[doc = "Largest log of an attempt at a task, in bytes; what comes after is left out, with a last line that says so."]
        max_task_log_bytes: u64 = "16777216",
        #[doc = "An ephemeral runner that has not taken its one task for this long is removed."]
        ephemeral_ttl: Duration = "24h",
        #[doc = "An ephemeral runner that has been OFFLINE for this long, and has no task, is removed."]
        ephemeral_offline_after: Duration = "1h",
        #[doc = "When the scheduled cleanup begins, as minute, hour, day of the month, month and day of the week (cron). Empty: never."]
        cleanup_schedule: Option<Cron> = "0 3 * * *",
        #[doc = "The time zone of cleanup_schedule, such as Europe/Berlin."]
        cleanup_time_zone: Tz = "UTC",
        #[doc = "How long a cleanup pauses after each transaction, so that everybody else has a turn."]
        cleanup_pause: Duration = "50ms",
        #[doc = "A cleanup job whose server has vanished is taken over after this long."]
        cleanup_lease: Duration = "30s",
        #[doc = "A cleanup removes ephemeral runners that have been OFFLINE for this long. 0s: only when told an age."]
        retain_ephemeral_runners: Duration = "1h",
        #[doc = "A cleanup removes runners that have been OFFLINE for this long. 0s: only when told an age."]
        retain_stale_runners: Duration = "0s",
        #[doc = "A cleanup removes tokens that expired or were revoked this long ago. 0s: only when told an age."]
        retain_expired_tokens: Duration = "2160h",
        #[doc = "A cleanup removes tasks that ended this long ago, with their logs. 0s: only when told an age."]
        retain_finished_tasks: Duration = "2160h",
        #[doc = "A cleanup removes the logs of tasks that ended this long ago. 0s: only when told an age."]
        retain_task_logs: Duration = "720h",
        #[doc = "A cleanup removes entries of the audit trail that are this old. 0s: only when told an age."]
        retain_audit_events: Duration = "8760h",
        #[doc = "Threads that check passwords and tokens. 0: one for each processor but one, at least one."]
        hashing_threads: usize = "0",
        #[doc = "Checks that may wait for a thread; past it a caller is RATE_LIMITED."]
        hashing_queue: usize = "512",
        #[doc = "Verified tokens remembered, so that Argon2 runs once and not for each call."]
        verified_token_cache: u64 = "100000",
        #[doc = "Largest request body and WebSocket message, in bytes."]
        max_body_bytes: usize = "1572864",
        #[doc = "Deepest nesting of a document, fragments included (15 or more, or introspection is refused)."]
        max_query_depth: usize = "20",
        #[doc = "Largest cost of a document: its fields, those of a list times its page size."]
        max_query_cost: u64 = "20000",
        #[doc = "Most selections of a document, fragments spread out."]
        max_query_selections: u64 = "1000",
        #[doc = "Most bytes of payloads, outputs and logs in one answer."]
        max_answer_bytes: u64 = "16777216",
        #[doc = "Parsed documents remembered, so that a heartbeat is not parsed each time."]
        document_cache: u64 = "1000",
        #[doc = "How long a query may take before it is given up (mutations are never cut off)."]
        query_timeout: Duration = "20s",
        #[doc = "How long a client may take to send the headers of a request, and how long an idle connection is kept. Longer than the heartbeats are apart, so that runners keep theirs."]
        header_timeout: Duration = "45s",
        #[doc = "A client that acknowledges nothing of what was sent to it for this long is gone, and so are its streams."]
        peer_timeout: Duration = "30s",
        #[doc = "How long a WebSocket may stay silent before its connection_init."]
        connection_init_timeout: Duration = "5s",
        #[doc = "How often the server pings WebSockets and SSE streams; a socket that misses two is closed."]
        keepalive_interval: Duration = "15s",
        #[doc = "Connections held at once; further ones wait."]
        max_connections: usize = "20000",
        #[doc = "Subscriptions at once, in all."]
        max_subscriptions: usize = "20000",
        #[doc = "Operations at once on one WebSocket."]
        max_operations_per_socket: usize = "100",
        #[doc = "Events a subscriber may fall behind before it is told that it missed some."]
        subscription_buffer: usize = "1024",
        #[doc = "Networks of proxies whose X-Forwarded-For is believed."]
        trusted_proxies: Vec<IpNet> = "",
        #[doc = "How long a shutdown waits for requests under way."]
        shutdown_grace: Duration = "10s",
        #[doc = "What is logged on standard error, such as info or rollcall=debug."]
        log: String = "info",
        #[doc = "text or json."]
        log_format: String = "text",
    }
}

impl ServerConfig {
    /// The database's URL: as configured, or the SQLite file in the data folder.
    pub fn effective_database_url(&self) -> SecretString {
        self.database_url.clone().unwrap_or_else(|| {
            SecretString::from(format!("sqlite://{}", self.data_dir.join("rollcall.sqlite3").display()))
        })
    }

    /// The address that clients use, without a slash at the end.
    pub fn effective_public_url(&self, bound: SocketAddr) -> String {
        self.public_url.as_deref().map_or_else(
            || {
                let reachable = match bound {
                    any if any.ip().is_unspecified() => format!("localhost:{}", any.port()),
                    bound => bound.to_string(),
                };
                format!("http://{reachable}")
            },
            |url| url.trim_end_matches('/').to_owned(),
        )
    }
}

fn check_server(config: &ServerConfig) -> Vec<String> {
    let mut problems = Vec::new();
    let mut require = |holds: bool, problem: &str| {
        if !holds {
            problems.push(problem.to_owned());
        }
    };
    require(
        config.listen.ip().is_loopback() || config.allow_plaintext,
        "listen: the address can be reached from other machines and nothing encrypts the traffic, tokens included; put a \
         TLS proxy in front and say so with --allow-plaintext, or listen on 127.0.0.1",
    );
    require(config.offline_after >= Duration::from_secs(3), "offline_after: must be 3s or more");
    require(config.offline_after <= Duration::from_hours(24), "offline_after: must be 24h or less");
    require(config.idle_after <= config.offline_after, "idle_after: must not be longer than offline_after");
    require(config.max_heartbeats_per_second > 0, "max_heartbeats_per_second: must be 1 or more");
    require(!config.presence_flush_interval.is_zero(), "presence_flush_interval: must be more than 0");
    require(config.database_pool_size > 0, "database_pool_size: must be 1 or more");
    require(
        config.session_key.as_ref().is_none_or(|key| key.expose_secret().len() >= 32),
        "session_key: must be 32 characters or more, and random",
    );
    require(
        config.job_token_key.as_ref().is_none_or(|key| key.expose_secret().len() >= 32),
        "job_token_key: must be 32 characters or more, and random",
    );
    require(!config.queue_timeout.is_zero(), "queue_timeout: must be more than 0");
    require(config.max_query_depth >= 15, "max_query_depth: must be 15 or more, or introspection is refused");
    require(
        usize::try_from(config.max_answer_bytes).unwrap_or(usize::MAX) >= config.max_body_bytes,
        "max_answer_bytes: must not be less than max_body_bytes, or what came in one request would not fit",
    );
    require(config.subscription_buffer > 0, "subscription_buffer: must be 1 or more");
    require(
        config.max_connections > 0 && config.max_subscriptions > 0 && config.max_operations_per_socket > 0,
        "max_connections, max_subscriptions, max_operations_per_socket: must be 1 or more",
    );
    require(!config.keepalive_interval.is_zero(), "keepalive_interval: must be more than 0");
    require(["text", "json"].contains(&config.log_format.as_str()), "log_format: must be text or json");
    problems.extend(check_cleanup(config));
    problems
}

fn check_cleanup(config: &ServerConfig) -> Vec<String> {
    let mut problems = Vec::new();
    if config.cleanup_lease < Duration::from_secs(1) {
        problems.push("cleanup_lease: must be 1s or more".to_owned());
    }
    if config.cleanup_pause * 2 > config.cleanup_lease {
        problems.push("cleanup_pause: must be half of cleanup_lease or less".to_owned());
    }
    let ages = [
        ("ephemeral_ttl", config.ephemeral_ttl, false),
        ("ephemeral_offline_after", config.ephemeral_offline_after, false),
        ("retain_ephemeral_runners", config.retain_ephemeral_runners, true),
        ("retain_stale_runners", config.retain_stale_runners, true),
        ("retain_expired_tokens", config.retain_expired_tokens, true),
        ("retain_finished_tasks", config.retain_finished_tasks, true),
        ("retain_task_logs", config.retain_task_logs, true),
        ("retain_audit_events", config.retain_audit_events, true),
    ];
    for (name, age, may_be_zero) in ages {
        // A mistaken unit would remove what somebody still works with.
        if age < Duration::from_mins(1) && !(may_be_zero && age.is_zero()) {
            let or_zero = if may_be_zero { ", or 0s" } else { "" };
            problems.push(format!("{name}: must be 1m or more{or_zero}"));
        }
    }
    problems
}

settings! {
    /// The reference runner's settings.
    AgentConfig in "agent" checked by check_agent {
        #[doc = "The server's address, such as http://127.0.0.1:8080."]
        url: String = "http://127.0.0.1:8080",
        #[doc = "A registration token; needed once, until the state file holds an identity."]
        token: Option<SecretString> = "",
        #[doc = "The runner's name. Default: the machine's host name."]
        name: Option<String> = "",
        #[doc = "Labels that tasks choose the runner by."]
        labels: Vec<String> = "",
        #[doc = "Take one task, then be removed."]
        ephemeral: bool = "false",
        #[doc = "Tasks at once."]
        capacity: u32 = "1",
        #[doc = "File that keeps the identity (mode 0600)."]
        state: PathBuf = "./rollcall-agent.json",
        #[doc = "Leave after one task, with exit status 1 unless it succeeded."]
        once: bool = "false",
        #[doc = "Remove the runner from the server when leaving."]
        deregister_on_exit: bool = "false",
        #[doc = "Folder in which each task gets a folder of its own to work in. Default: the system's folder for temporary files."]
        work_dir: Option<PathBuf> = "",
        #[doc = "How long a shutdown waits for running tasks before it ends them and hands them back."]
        shutdown_timeout: Duration = "30s",
        #[doc = "How long a task may take to end after SIGTERM before it gets SIGKILL."]
        cancel_grace: Duration = "10s",
        #[doc = "What is logged on standard error, such as info or rollcall=debug."]
        log: String = "info",
    }
}

fn check_agent(config: &AgentConfig) -> Vec<String> {
    let mut problems = check_url("agent.url", &config.url);
    let mut require = |holds: bool, problem: &str| {
        if !holds {
            problems.push(problem.to_owned());
        }
    };
    require((1..=1_000).contains(&config.capacity), "agent.capacity: must be from 1 to 1000");
    require(config.shutdown_timeout <= Duration::from_hours(24), "agent.shutdown_timeout: must be 24h or less");
    require(config.cancel_grace <= Duration::from_hours(1), "agent.cancel_grace: must be 1h or less");
    problems
}

settings! {
    /// The settings of a simulated fleet.
    SimulateConfig in "simulate" checked by check_simulate {
        #[doc = "The server's address, such as http://127.0.0.1:8080."]
        url: String = "http://127.0.0.1:8080",
        #[doc = "A registration token that may be used as often as there are runners."]
        token: Option<SecretString> = "",
        #[doc = "How many runners to play."]
        runners: u32 = "100",
        #[doc = "How long to play them, once all are registered."]
        duration: Duration = "60s",
        #[doc = "Seconds between a runner's heartbeats. 0: as the server says."]
        interval: u64 = "0",
        #[doc = "Leave the runners on the server instead of deregistering them at the end."]
        keep: bool = "false",
        #[doc = "Print the result as JSON on standard output."]
        json: bool = "false",
        #[doc = "What is logged on standard error."]
        log: String = "warn",
    }
}

fn check_simulate(config: &SimulateConfig) -> Vec<String> {
    let mut problems = check_url("simulate.url", &config.url);
    if config.runners == 0 {
        problems.push("simulate.runners: must be 1 or more".to_owned());
    }
    problems
}

settings! {
    /// The settings of `rollcall token create`.
    TokenConfig in "token" checked by check_token {
        #[doc = "Scope of the runners it may register: empty for the instance, acme for an owner, acme/api for a repository."]
        scope: String = "",
        #[doc = "What it is for, shown in lists."]
        description: String = "",
        #[doc = "How long it may be used. Default: until it is revoked."]
        expires_in: Option<Duration> = "",
        #[doc = "How many runners it may register. Default: any number."]
        max_uses: Option<u32> = "",
        #[doc = "Register only ephemeral runners with it."]
        ephemeral_only: bool = "false",
        #[doc = "Networks from which it may be used. Default: any."]
        allowed_cidrs: Vec<IpNet> = "",
        #[doc = "Labels that every runner made with it carries."]
        labels: Vec<String> = "",
    }
}

const fn check_token(_: &TokenConfig) -> Vec<String> {
    Vec::new()
}

fn check_url(name: &str, url: &str) -> Vec<String> {
    match url::Url::parse(url) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Vec::new(),
        _ => vec![format!("{name}: expected an address such as http://127.0.0.1:8080, not {url:?}")],
    }
}

/// Every setting there is, for the check of a configuration file.
pub fn all_specs() -> Vec<Spec> {
    [ServerConfig::SPECS, AgentConfig::SPECS, SimulateConfig::SPECS, TokenConfig::SPECS].concat()
}

/// A section's settings as `rollcall.toml` would have them, each with where it came from. Secrets are not shown.
pub fn describe(specs: &[Spec], layers: &Layers) -> String {
    let section = specs.first().map_or("", |spec| spec.section);
    let head = if section.is_empty() { String::new() } else { format!("[{section}]\n") };
    let lines = specs.iter().map(|spec| {
        let (text, origin) = layers.resolve(spec);
        let shown = if spec.is_secret && !text.is_empty() { "(secret)".to_owned() } else { text };
        format!("{} = {shown:?}  # {origin}\n", spec.name)
    });
    head + &lines.collect::<String>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(flags: &[(&str, &str)]) -> Layers {
        Layers::from_flags(flags.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
    }

    #[test]
    fn the_defaults_are_valid() {
        assert!(ServerConfig::load(&Layers::default()).is_ok());
        assert!(AgentConfig::load(&Layers::default()).is_ok());
        assert!(SimulateConfig::load(&Layers::default()).is_ok());
        assert!(TokenConfig::load(&Layers::default()).is_ok());
    }

    #[test]
    fn all_problems_are_reported_at_once() {
        let layers = flags(&[("offline-after", "60"), ("listen", "8080")]);
        let problems = ServerConfig::load(&layers).unwrap_err().0;
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[1].starts_with("offline_after (from --offline-after): expected a duration"));
    }

    #[test]
    fn listening_to_the_world_needs_a_word() {
        let open = flags(&[("listen", "0.0.0.0:8080")]);
        assert!(ServerConfig::load(&open).unwrap_err().to_string().contains("--allow-plaintext"));
        let said = flags(&[("listen", "0.0.0.0:8080"), ("allow-plaintext", "true")]);
        assert!(ServerConfig::load(&said).is_ok());
    }

    #[test]
    fn what_came_in_can_be_told() {
        let small = flags(&[("max-answer-bytes", "1000000")]);
        assert!(ServerConfig::load(&small).unwrap_err().to_string().contains("max_body_bytes"));
        let both = flags(&[("max-answer-bytes", "1000000"), ("max-body-bytes", "1000000")]);
        assert!(ServerConfig::load(&both).is_ok());
    }

    #[test]
    fn secrets_are_not_described() {
        let layers = flags(&[("database-url", "postgres://u:hunter2@h/d")]);
        let text = describe(ServerConfig::SPECS, &layers);
        assert!(text.contains("database_url = \"(secret)\"  # --database-url"), "{text}");
        assert!(!text.contains("hunter2"));
    }
}
