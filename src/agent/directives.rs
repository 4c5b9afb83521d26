//! The stream of directives, so that a task hears at once when it shall end.
//!
//! Heartbeats bring the same directives. Whatever happens to the stream, they come, if only somewhat later.

use std::sync::Arc;
use std::time::Duration;

use tracing::debug;

use super::client::ClientError;
use super::operations::{RunnerDirectivesData, Told};
use super::retry::Backoff;
use super::workshop::Workshop;

const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// A server says something at least every `keepalive_interval`. Longer silence is that of a connection that is gone.
const LONGEST_SILENCE: Duration = Duration::from_mins(1);

/// Listens for as long as it is not dropped.
pub(super) async fn listen(shop: Arc<Workshop>) {
    let mut backoff = Backoff::new(LONGEST_WAIT);
    loop {
        let error = follow(&shop, &mut backoff).await;
        debug!(%error, "the stream of directives ended; another one is opened");
        shop.clock.sleep(backoff.delay_after(&error, &shop.rng)).await;
    }
}

/// Follows one stream to its end, and says why it ended.
async fn follow(shop: &Workshop, backoff: &mut Backoff) -> ClientError {
    let opened = tokio::select! {
        opened = shop.link.directives() => opened,
        () = shop.clock.sleep(LONGEST_SILENCE) => Err(silent()),
    };
    let (mut stream, session) = match opened {
        Ok(opened) => opened,
        Err(error) => return error,
    };
    loop {
        let received = tokio::select! {
            received = stream.receive::<RunnerDirectivesData>() => received,
            () = shop.clock.sleep(LONGEST_SILENCE) => Err(silent()),
        };
        match received {
            Ok(Some(received)) => {
                backoff.reset();
                for data in received {
                    obey(shop, &data.runner_directives.told());
                }
            }
            Ok(None) => return ClientError::Unreachable("the stream is complete".to_owned()),
            Err(error) => {
                if error.is_unauthenticated() {
                    shop.link.take_back(session);
                }
                return error;
            }
        }
    }
}

fn obey(shop: &Workshop, told: &Told<'_>) {
    match told {
        Told::Cancel(id) => shop.assignments.cancel(id),
        // The next heartbeat brings them again, to where they are minded.
        Told::Rotate | Told::Drain => shop.link.want_heartbeat(),
        Told::Nothing => {}
    }
}

fn silent() -> ClientError {
    ClientError::Unreachable("the stream has gone silent".to_owned())
}
