//! `rollcall simulate`: a fleet of simulated runners, and a table of how the server bore it.

use std::error::Error;
use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::agent::simulation::{Figures, Progress, Report, simulate};
use crate::clock::Clock;
use crate::config::SimulateConfig;
use crate::rng::Rng;

/// How often progress is told where lines cannot be rewritten.
const LOG_INTERVAL: Duration = Duration::from_secs(5);

/// Plays the fleet and prints the result. Fails when no runner could be registered or when any call failed.
pub(super) async fn run(config: SimulateConfig, stop: CancellationToken) -> Result<(), Box<dyn Error + Send + Sync>> {
    // Each runner holds a connection, and many systems allow a thousand files unless asked.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let mut ticker = Ticker::new();
    let report =
        simulate(&config, &Clock::system(), &Rng::from_system(), &stop, |progress| ticker.tell(progress)).await?;
    ticker.finish();
    let text = if config.json { serde_json::to_string_pretty(&report)? + "\n" } else { table(&report) };
    print(&text)?;
    judge(&report)
}

fn judge(report: &Report) -> Result<(), Box<dyn Error + Send + Sync>> {
    if report.registrations.count == 0 {
        let reason = report.first_error.as_deref().unwrap_or("it was stopped before the first was");
        return Err(format!("no runner could be registered: {reason}").into());
    }
    if !report.ok {
        let reason = report.first_error.as_deref().unwrap_or_default();
        return Err(format!("{} calls failed; the first: {reason}", report.errors()).into());
    }
    Ok(())
}

/// Writes to standard output. A reader that has seen enough is no failure.
fn print(text: &str) -> io::Result<()> {
    let mut output = io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}

fn table(report: &Report) -> String {
    let mut text = format!("{} runners, {:.1} s with all of them\n\n", report.runners, report.seconds);
    text.push_str("                    count        /s    errors    p50 ms    p90 ms    p99 ms    max ms\n");
    let rows: [(&str, &Figures); 4] = [
        ("registrations", &report.registrations),
        ("sessions", &report.sessions),
        ("heartbeats", &report.heartbeats),
        ("deregistrations", &report.deregistrations),
    ];
    for (name, row) in rows {
        // Writing into a string cannot fail.
        let _ = writeln!(
            text,
            "{name:<16} {:>8} {:>9.1} {:>9} {:>9.2} {:>9.2} {:>9.2} {:>9.2}",
            row.count, row.per_second, row.errors, row.p50_millis, row.p90_millis, row.p99_millis, row.max_millis
        );
    }
    if !report.errors_by_code.is_empty() {
        text.push_str("\nerrors\n");
        for (code, count) in &report.errors_by_code {
            let _ = writeln!(text, "{code:<28} {count:>8}");
        }
    }
    text
}

/// Tells progress on standard error: on a terminal in one line that is rewritten, else in a line now and then.
struct Ticker {
    is_terminal: bool,
    next_line: Duration,
}

impl Ticker {
    fn new() -> Self {
        Self { is_terminal: io::stderr().is_terminal(), next_line: LOG_INTERVAL }
    }

    fn tell(&mut self, progress: &Progress) {
        let line = format!(
            "{:>6.1} s  {}: {} of {} runners registered, {} heartbeats, {} deregistered, {} errors",
            progress.elapsed.as_secs_f64(),
            progress.phase,
            progress.registered,
            progress.runners,
            progress.heartbeats,
            progress.deregistered,
            progress.errors
        );
        // Progress is a courtesy: when it cannot be written, the simulation goes on.
        if self.is_terminal {
            // The end of a longer line before is erased.
            let _ = write!(io::stderr(), "\r{line}\x1b[K");
        } else if progress.elapsed >= self.next_line {
            self.next_line = progress.elapsed + LOG_INTERVAL;
            let _ = writeln!(io::stderr(), "{line}");
        }
    }

    fn finish(&self) {
        if self.is_terminal {
            let _ = writeln!(io::stderr());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn report(registered: u64, errors_by_code: BTreeMap<String, u64>) -> Report {
        let figures = |count| Figures {
            count,
            per_second: 12.34,
            errors: 0,
            p50_millis: 1.0,
            p90_millis: 2.0,
            p99_millis: 3.0,
            max_millis: 4.0,
        };
        Report {
            runners: 10,
            seconds: 60.0,
            registrations: figures(registered),
            sessions: figures(registered),
            heartbeats: figures(300),
            deregistrations: figures(registered),
            first_error: errors_by_code.keys().next().cloned(),
            ok: errors_by_code.is_empty(),
            errors_by_code,
        }
    }

    #[test]
    fn errors_and_an_empty_fleet_are_failures() {
        assert!(judge(&report(10, BTreeMap::new())).is_ok());
        let errors = BTreeMap::from([("RATE_LIMITED".to_owned(), 3)]);
        let failed = judge(&report(10, errors)).unwrap_err().to_string();
        assert!(failed.starts_with("3 calls failed"), "{failed}");
        let nobody = judge(&report(0, BTreeMap::new())).unwrap_err().to_string();
        assert!(nobody.starts_with("no runner could be registered"), "{nobody}");
    }

    #[test]
    fn the_table_lines_up() {
        let text = table(&report(10, BTreeMap::from([("UNAVAILABLE".to_owned(), 1)])));
        let widths: Vec<usize> = text.lines().skip(2).take(5).map(str::len).collect();
        assert!(widths.iter().all(|width| *width == widths[0]), "{text}");
        assert!(text.contains("UNAVAILABLE"), "{text}");
    }
}
