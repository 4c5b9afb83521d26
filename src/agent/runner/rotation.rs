//! A new secret for the runner, without losing the one that works.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::super::client::ClientError;
use super::super::operations::{Heartbeat, RotatedToken};
use super::super::session;
use super::{LEAVE_WITHIN, Runner};

/// How long to leave a server alone that did not replace the secret although it asked for that.
const AFTER_A_FAILED_ROTATION: Duration = Duration::from_mins(1);

/// How long to leave a server alone that would not: it takes a person, or the end of the old secret, to change that.
const AFTER_A_REFUSED_ROTATION: Duration = Duration::from_mins(10);

impl Runner {
    /// Whether the server wants the secret to be replaced, and it makes sense to try.
    pub(super) fn is_rotation_due(&self, beat: &Heartbeat) -> bool {
        beat.asks_to_rotate()
            && self.unsaved.is_none()
            && self.next_rotation.is_none_or(|time| self.clock.now() >= time)
    }

    /// Replaces the runner's secret. When the runner is over meanwhile, the answer has a moment left to come: it cannot
    /// be had again.
    pub(super) async fn rotate(&mut self, over: &CancellationToken) {
        let Some(credentials) = self.state.credentials() else {
            return;
        };
        let too_late = async {
            over.cancelled().await;
            self.clock.sleep(LEAVE_WITHIN).await;
        };
        let answer = tokio::select! {
            answer = session::rotate(&self.client, &credentials) => answer,
            () = too_late => Err(ClientError::Unreachable("no answer in time".to_owned())),
        };
        match answer {
            Ok(rotated) => self.adopt_secret(&rotated),
            Err(error) => {
                warn!(runner = self.name(), %error, "the runner's token could not be rotated; it is tried again later");
                let pause = if error.is_temporary() { AFTER_A_FAILED_ROTATION } else { AFTER_A_REFUSED_ROTATION };
                self.next_rotation = Some(self.clock.now() + pause);
            }
        }
    }

    fn adopt_secret(&mut self, rotated: &RotatedToken) {
        // Every session has ended with it.
        self.shop.link.withdraw();
        match self.state.change_secret(&rotated.secret) {
            Ok(()) => info!(runner = self.name(), "token rotated"),
            Err(error) => {
                warn!(
                    "the runner's token was rotated, and the new one cannot be kept: {error}. It is tried again with \
                     each heartbeat. If the agent ends before, its old token works until {}",
                    rotated.previous_valid_until
                );
                self.unsaved = Some(rotated.secret.clone());
            }
        }
    }

    /// Writes down what could not be written down before.
    pub(super) fn save_secret(&mut self) {
        let Some(secret) = self.unsaved.take() else {
            return;
        };
        match self.state.change_secret(&secret) {
            Ok(()) => info!(runner = self.name(), "token rotated"),
            Err(error) => {
                debug!(%error, "the runner's new token still cannot be kept");
                self.unsaved = Some(secret);
            }
        }
    }

    /// The old secret is not accepted any more, and so the new one has to do, kept or not.
    pub(super) fn use_unsaved_secret(&mut self) {
        if let Some(secret) = self.unsaved.take() {
            warn!(runner = self.name(), "the runner's new token is used, and could not be kept");
            self.state.take_secret(&secret);
        }
    }
}
