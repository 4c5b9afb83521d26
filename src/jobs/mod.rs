//! Work behind the requests that takes longer than one: the worker of cleanup jobs, and the schedule that starts some.
//!
//! What a job does and how it is kept stands in `fleet`; here it is driven, at a pace that leaves room for everybody
//! else.

mod schedule;

use std::time::Duration;

use tokio_util::sync::CancellationToken;

pub use schedule::Schedule;

use crate::clock::Timestamp;
use crate::error::{AppError, ErrorCode};
use crate::fleet::{CleanupStep, CleanupWork, Fleet, NextCleanup};

/// How often the worker looks for jobs that nobody told it of: another process may have left one.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Works on cleanup jobs, one after the other, until told to stop. `pause` is the time between two transactions.
pub async fn work(fleet: Fleet, pause: Duration, stop: CancellationToken) {
    let worker = Worker { holder: fleet.rng.uuid().hyphenated().to_string(), fleet, pause, stop };
    let mut is_failing = false;
    while !worker.stop.is_cancelled() {
        let next = worker.fleet.next_cleanup(&worker.holder).await;
        if is_failing != next.is_err() {
            is_failing = next.is_err();
            if let Err(error) = &next {
                tracing::warn!(cause = cause(error), "cleanup jobs cannot be read; they wait");
            } else {
                tracing::info!("cleanup jobs can be read again");
            }
        }
        match next {
            Ok(NextCleanup::Work(work)) => worker.run(*work).await,
            Ok(NextCleanup::At(at)) => worker.wait(Some(at)).await,
            Ok(NextCleanup::Nothing) | Err(_) => worker.wait(None).await,
        }
    }
}

struct Worker {
    /// The name by which its jobs know it.
    holder: String,
    fleet: Fleet,
    pause: Duration,
    stop: CancellationToken,
}

impl Worker {
    /// Waits until there may be something to do.
    async fn wait(&self, until: Option<Timestamp>) {
        let regular = self.fleet.clock.now() + LOOK_EVERY;
        let until = until.map_or(regular, |until| until.min(regular));
        tokio::select! {
            () = self.fleet.cleanup.started() => {}
            () = self.fleet.clock.sleep_until(until) => {}
            () = self.stop.cancelled() => {}
        }
    }

    /// Works on a job until it ends, or somebody else has it, or the database is away for too long.
    async fn run(&self, mut work: CleanupWork) {
        let mut failures = 0;
        loop {
            if self.stop.is_cancelled() {
                self.let_go(&work).await;
                return;
            }
            match self.fleet.continue_cleanup(&mut work).await {
                Ok(CleanupStep::Ended) => return,
                Ok(CleanupStep::Turn) => failures = 0,
                Ok(CleanupStep::Batch) => {
                    failures = 0;
                    self.rest().await;
                }
                Err(error) if error.code == ErrorCode::Unavailable => {
                    if !self.is_back_in_time(&mut work, failures, &error).await {
                        return;
                    }
                    failures += 1;
                }
                Err(error) => {
                    let failed = self.fleet.fail_cleanup(work.job_id(), &self.holder, &error).await;
                    if let Err(error) = failed {
                        tracing::warn!(job = work.job_id(), cause = cause(&error), "a cleanup job cannot be ended");
                    }
                    return;
                }
            }
        }
    }

    /// Lets others have their turn.
    async fn rest(&self) {
        if self.pause.is_zero() {
            tokio::task::yield_now().await;
            return;
        }
        tokio::select! {
            () = self.fleet.clock.sleep(self.pause) => {}
            () = self.stop.cancelled() => {}
        }
    }

    /// After a failure that may pass: waits, longer each time, and finds out how the job stands. False when it is not
    /// worked on any more: it ended, or its lease would end before the wait does, and whoever finds the database back
    /// first takes it.
    async fn is_back_in_time(&self, work: &mut CleanupWork, failures: u32, error: &AppError) -> bool {
        let wait = Duration::from_secs(1 << failures.min(6));
        let (job, cause) = (work.job_id(), cause(error));
        if self.fleet.clock.now() + wait >= work.lease_until() {
            tracing::warn!(job, cause, "a cleanup job is let go; it goes on when the database is back");
            return false;
        }
        tracing::warn!(job, cause, "a cleanup job waits for the database");
        tokio::select! {
            () = self.fleet.clock.sleep(wait) => {}
            () = self.stop.cancelled() => {}
        }
        // Where this fails too, the next step does, and the lease tells when to give up.
        !matches!(self.fleet.look_again(work).await, Ok(CleanupStep::Ended))
    }

    async fn let_go(&self, work: &CleanupWork) {
        if let Err(error) = self.fleet.let_cleanup_go(work).await {
            tracing::warn!(job = work.job_id(), cause = cause(&error), "a cleanup job is held until its lease ends");
        }
    }
}

fn cause(error: &AppError) -> String {
    error.source.as_ref().map_or_else(|| error.to_string(), ToString::to_string)
}
