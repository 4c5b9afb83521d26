//! What a runner says to the server, one function a call.

use std::time::Duration;

use serde::de::IgnoredAny;

use crate::clock::Timestamp;

use super::client::{ClientError, Credentials, GraphqlClient};
use super::operations::{
    self, DeclareRunnerInput, Heartbeat, HeartbeatData, HeartbeatInput, Input, NoVariables, OpenRunnerSessionData,
    RegisterRunnerData, RegisterRunnerInput, Registration, RotateRunnerTokenData, RotatedToken,
};

/// A session is replaced this long before it expires, or after two thirds of its life when that is shorter.
const RENEWAL_MARGIN: Duration = Duration::from_mins(1);

/// Registers a runner.
pub(super) async fn register(
    client: &GraphqlClient,
    input: &RegisterRunnerInput<'_>,
) -> Result<Registration, ClientError> {
    let data: RegisterRunnerData =
        client.call(&Credentials::None, operations::REGISTER_RUNNER, Input { input }).await?;
    Ok(data.register_runner)
}

/// Removes the runner that the credentials belong to.
pub(super) async fn deregister(client: &GraphqlClient, credentials: &Credentials) -> Result<(), ClientError> {
    let _: IgnoredAny = client.call(credentials, operations::DEREGISTER_RUNNER, NoVariables {}).await?;
    Ok(())
}

/// Replaces the secret of the runner that the credentials belong to.
pub(super) async fn rotate(client: &GraphqlClient, credentials: &Credentials) -> Result<RotatedToken, ClientError> {
    let data: RotateRunnerTokenData = client.call(credentials, operations::ROTATE_RUNNER_TOKEN, NoVariables {}).await?;
    Ok(data.rotate_runner_token)
}

/// A runner session: what the hot path shows instead of the runner's secret.
pub(super) struct Session {
    credentials: Credentials,
    expires_at: Timestamp,
    renew_at: Option<Timestamp>,
    is_due: bool,
}

impl Session {
    /// Trades the runner's own credentials for a session.
    pub(super) async fn open(client: &GraphqlClient, runner: &Credentials) -> Result<Self, ClientError> {
        let data: OpenRunnerSessionData = client.call(runner, operations::OPEN_RUNNER_SESSION, NoVariables {}).await?;
        let opened = data.open_runner_session;
        Ok(Self {
            credentials: Credentials::Bearer(opened.token),
            expires_at: opened.expires_at,
            renew_at: None,
            is_due: false,
        })
    }

    /// Says what the runner is.
    pub(super) async fn declare(
        &self,
        client: &GraphqlClient,
        input: &DeclareRunnerInput<'_>,
    ) -> Result<(), ClientError> {
        let _: IgnoredAny = client.call(&self.credentials, operations::DECLARE_RUNNER, Input { input }).await?;
        Ok(())
    }

    /// Says that the runner is here, and what it works on.
    pub(super) async fn heartbeat(
        &mut self,
        client: &GraphqlClient,
        input: &HeartbeatInput,
    ) -> Result<Heartbeat, ClientError> {
        let data: HeartbeatData = client.call(&self.credentials, operations::HEARTBEAT, Input { input }).await?;
        self.answered_at(data.heartbeat.server_time);
        Ok(data.heartbeat)
    }

    /// What is shown with each call.
    pub(super) const fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// Whether a heartbeat with this session was ever answered.
    pub(super) const fn has_worked(&self) -> bool {
        self.renew_at.is_some()
    }

    /// Whether it is time to open the next one.
    pub(super) const fn is_due(&self) -> bool {
        self.is_due
    }

    /// The server's clock alone decides how much of the session is left: the runner's may be wrong by hours.
    fn answered_at(&mut self, server_time: Timestamp) {
        let expires_at = self.expires_at;
        let renew_at =
            *self.renew_at.get_or_insert_with(|| expires_at - (expires_at.since(server_time) / 3).min(RENEWAL_MARGIN));
        self.is_due = server_time >= renew_at;
    }
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::*;

    fn due_after(lifetime: u64, seconds: u64) -> bool {
        let start = Timestamp::from_micros(0);
        let mut session = Session {
            credentials: Credentials::Bearer(SecretString::from("jwt")),
            expires_at: start + Duration::from_secs(lifetime),
            renew_at: None,
            is_due: false,
        };
        session.answered_at(start);
        session.answered_at(start + Duration::from_secs(seconds));
        session.is_due()
    }

    #[test]
    fn a_session_is_renewed_in_its_last_minute() {
        assert!(!due_after(3_600, 3_539));
        assert!(due_after(3_600, 3_540));
    }

    #[test]
    fn a_short_session_is_not_renewed_at_each_heartbeat() {
        assert!(!due_after(30, 19));
        assert!(due_after(30, 20));
    }
}
