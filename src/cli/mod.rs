//! The command line.

mod agent;
mod migrate;
mod schema;
mod serve;
mod simulate;
mod token;

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command};

use crate::config::{self, AgentConfig, ConfigError, Layers, Section, ServerConfig, SimulateConfig, Spec, TokenConfig};
use crate::lifecycle;

/// What a command fails with: one line for the operator.
type Failure = Box<dyn std::error::Error + Send + Sync>;

const EXAMPLES: &str = "\
Examples:
  rollcall                                      start a server on 127.0.0.1:8080, with SQLite in ./rollcall-data
  rollcall serve --listen 127.0.0.1:9000 --database-url postgres://rollcall@localhost/rollcall
  rollcall token create --scope acme/api        print a registration token for a repository
  rollcall agent --url http://127.0.0.1:8080 --token rc_reg_… --labels linux,gpu
  rollcall simulate --token rc_reg_… --runners 1000 --duration 60s

Every setting some_name is also ROLLCALL_SOME_NAME and a key of rollcall.toml; those of a command stand in its table
([agent] url, ROLLCALL_AGENT_URL). A flag wins over a variable, a variable over the file.";

/// The whole command line, for the program and for the test that checks it.
pub fn command() -> Command {
    let server = |command: Command| with_settings(command, ServerConfig::SPECS);
    server(Command::new("rollcall"))
        .about("A control plane for self-hosted CI runners: who is here, what they do, live, over GraphQL")
        .version(env!("CARGO_PKG_VERSION"))
        .after_help(EXAMPLES)
        .subcommand(server(Command::new("serve").about("Serve (the default)").after_help(
            "Example: rollcall serve --listen 127.0.0.1:9000 --data-dir /var/lib/rollcall",
        )))
        .subcommand(with_settings(
            Command::new("agent").about("Be a runner: register, take tasks, run them, leave").after_help(
                "Example: rollcall agent --url http://127.0.0.1:8080 --token rc_reg_… --name build-1 --labels linux,x64",
            ),
            AgentConfig::SPECS,
        ))
        .subcommand(
            Command::new("token")
                .about("Work with tokens, straight on the database")
                .after_help("Example: rollcall token create --scope acme")
                .subcommand_required(true)
                .arg_required_else_help(true)
                .subcommand(server(with_settings(
                    Command::new("create").about("Make a registration token and print it").after_help(
                        "Example: TOKEN=$(rollcall token create --scope acme --expires-in 24h --max-uses 10)",
                    ),
                    TokenConfig::SPECS,
                ))),
        )
        .subcommand(with_settings(
            Command::new("simulate").about("Play a fleet of light runners and report rates, latencies and errors").after_help(
                "Example: rollcall simulate --url http://127.0.0.1:8080 --token rc_reg_… --runners 2000 --duration 60s",
            ),
            SimulateConfig::SPECS,
        ))
        .subcommand(server(Command::new("migrate").about("Bring the database up to date and leave").after_help(
            "Example: rollcall migrate --database-url postgres://rollcall@localhost/rollcall",
        )))
        .subcommand(Command::new("schema").about("Print the GraphQL schema").after_help(
            "Example: rollcall schema > schema.graphql",
        ))
}

fn with_settings(command: Command, specs: &[Spec]) -> Command {
    let command = specs.iter().fold(command, |command, spec| command.arg(argument(spec)));
    let is_complete = command.get_arguments().any(|argument| argument.get_id() == "config");
    if is_complete {
        return command;
    }
    command
        .arg(
            Arg::new("config")
                .long("config")
                .value_name("FILE")
                .help("Configuration file [default: rollcall.toml, if there is one]"),
        )
        .arg(
            Arg::new("print-config")
                .long("print-config")
                .action(clap::ArgAction::SetTrue)
                .help("Print every setting with where its value comes from, and leave"),
        )
}

fn argument(spec: &Spec) -> Arg {
    let default =
        if spec.default.is_empty() || spec.is_switch { String::new() } else { format!(" [default: {}]", spec.default) };
    let argument = Arg::new(spec.flag())
        .long(spec.flag())
        .value_name(spec.placeholder)
        .allow_hyphen_values(true)
        .help(format!("{}{default}", spec.help));
    if spec.is_switch {
        // `--ephemeral` alone means true; `--ephemeral=false` undoes what a file says.
        return argument.num_args(0..=1).require_equals(true).default_missing_value("true");
    }
    argument
}

/// Runs the program.
pub fn run() -> ExitCode {
    let matches = command().get_matches();
    match dispatch(&matches) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "rollcall: {error}");
            ExitCode::from(if error.is::<ConfigError>() { 2 } else { 1 })
        }
    }
}

fn dispatch(matches: &ArgMatches) -> Result<(), Failure> {
    match matches.subcommand() {
        None => serve_with(matches),
        Some(("serve", sub)) => serve_with(sub),
        Some(("agent", sub)) => {
            let Some(config) = load::<AgentConfig>(sub)? else { return Ok(()) };
            init_log(&config.log, "text")?;
            block_on(async { agent::run(config, lifecycle::on_signals()?).await })
        }
        Some(("simulate", sub)) => {
            let Some(config) = load::<SimulateConfig>(sub)? else { return Ok(()) };
            init_log(&config.log, "text")?;
            block_on(async { simulate::run(config, lifecycle::on_signals()?.stop).await })
        }
        Some(("token", sub)) => match sub.subcommand() {
            Some(("create", sub)) => {
                let (server, token) = (load::<ServerConfig>(sub)?, load::<TokenConfig>(sub)?);
                let (Some(server), Some(token)) = (server, token) else { return Ok(()) };
                block_on(token::create(server, token))
            }
            _ => Ok(()),
        },
        Some(("migrate", sub)) => {
            let Some(config) = load::<ServerConfig>(sub)? else { return Ok(()) };
            block_on(migrate::run(config))
        }
        Some(("schema", _)) => schema::run(),
        Some(_) => Ok(()),
    }
}

fn serve_with(matches: &ArgMatches) -> Result<(), Failure> {
    let Some(config) = load::<ServerConfig>(matches)? else { return Ok(()) };
    init_log(&config.log, &config.log_format)?;
    block_on(async { Box::pin(serve::run(config, lifecycle::on_signals()?.stop)).await })
}

/// Reads the settings of a command; nothing when they were only to be printed.
fn load<S: Section>(matches: &ArgMatches) -> Result<Option<S>, Failure> {
    let mut flags: BTreeMap<String, String> = BTreeMap::new();
    for name in S::SPECS.iter().map(Spec::flag).chain(["config".to_owned()]) {
        if let Ok(Some(value)) = matches.try_get_one::<String>(&name) {
            flags.insert(name, value.clone());
        }
    }
    let layers = Layers::gather(flags, &config::all_specs())?;
    if matches.get_flag("print-config") {
        write!(std::io::stdout(), "{}", config::describe(S::SPECS, &layers))?;
        // What is printed has to be usable, or the mistake would be found later.
        S::load(&layers)?;
        return Ok(None);
    }
    Ok(Some(S::load(&layers)?))
}

fn init_log(filter: &str, format: &str) -> Result<(), Failure> {
    let filter = tracing_subscriber::EnvFilter::try_new(filter)
        .map_err(|error| ConfigError(vec![format!("log: {error}; write it as info, or rollcall=debug,warn")]))?;
    let is_terminal = std::io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(is_terminal);
    let started = if format == "json" { log.json().try_init() } else { log.with_target(false).try_init() };
    started.map_err(|error| error.to_string().into())
}

fn block_on(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(work)
}
