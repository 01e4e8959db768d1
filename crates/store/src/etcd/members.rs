//! The members of the etcd cluster and the one connection that is used. A member that fails is left for the next one; what surely
//! did not reach it, and every read, is tried there.

use super::EtcdOptions;
use super::dialer::Dialer;
use super::refusal::Refusal;
use crate::{StoreError, StoreResult};
use nauplius_base::backoff::Backoff;
use nauplius_base::time::{monotonic, sleep, timeout};
use std::future::Future;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Response, Status};

/// How long a connection may take with its handshake; each address of a member has less.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(6);
/// As upstream's client of etcd.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// A read that a member does not answer within this is asked of the next.
const READ_TURN: Duration = Duration::from_secs(3);
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 32 << 20;

/// Whether a call may be sent twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    /// It changes nothing, or the same when repeated.
    Harmless,
    /// Only if it never left us.
    Unsent,
}

pub(super) struct Members {
    options: EtcdOptions,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    current: usize,
    /// Counts the changes of `current`, so that ten calls that fail together move on by one member, not by ten.
    turn: u64,
    channel: Option<Channel>,
}

impl Members {
    pub(super) fn new(options: EtcdOptions) -> StoreResult<Self> {
        if options.servers.is_empty() {
            return Err(StoreError::Unavailable { reason: "no etcd servers are given".to_owned() });
        }
        let members = Self { options, state: Mutex::default() };
        // Files and addresses that cannot be used are found at once.
        (0..members.options.servers.len()).try_for_each(|index| members.endpoint(index).map(drop))?;
        Ok(members)
    }

    pub(super) fn count(&self) -> usize {
        self.options.servers.len()
    }

    /// A connection to the member whose turn it is.
    pub(super) fn channel(&self) -> StoreResult<(Channel, u64)> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(channel) = &state.channel {
            return Ok((channel.clone(), state.turn));
        }
        // Certificates are read anew for each connection: they may have been renewed.
        let channel = self.endpoint(state.current)?.connect_with_connector_lazy(Dialer);
        state.channel = Some(channel.clone());
        Ok((channel, state.turn))
    }

    /// A connection to a particular member.
    pub(super) fn member(&self, index: usize) -> StoreResult<Channel> {
        Ok(self.endpoint(index)?.connect_with_connector_lazy(Dialer))
    }

    /// The member that was used at `turn` failed.
    pub(super) fn failed(&self, turn: u64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.turn == turn {
            state.current = (state.current + 1) % self.options.servers.len();
            state.turn += 1;
            state.channel = None;
        }
    }

    /// Makes one call, of the next member when one fails and that is allowed.
    pub(super) async fn call<T, F>(&self, again: Again, rpc: impl Fn(Channel) -> F) -> Result<T, Refusal>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let start = monotonic();
        let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_millis(200));
        loop {
            let (channel, turn) = self.channel().map_err(|error| Refusal::NotSent(error.to_string()))?;
            let left = self.options.timeout.saturating_sub(start.elapsed());
            let patience =
                if again == Again::Harmless && self.count() > 1 { left.min(READ_TURN) } else { left };
            let refusal = match timeout(patience, rpc(channel)).await {
                Ok(Ok(response)) => return Ok(response.into_inner()),
                Ok(Err(status)) => Refusal::of(&status),
                Err(_) => Refusal::TimedOut,
            };
            if !refusal.blames_member() {
                return Err(refusal);
            }
            self.failed(turn);
            let limit = match (&refusal, again) {
                (Refusal::NotSent(_), _) => self.options.patience,
                (Refusal::TimedOut, Again::Harmless) => self.options.timeout,
                (_, Again::Harmless) => self.options.patience,
                (_, Again::Unsent) => return Err(refusal),
            };
            if start.elapsed() >= limit {
                return Err(refusal);
            }
            sleep(backoff.next_delay()).await;
        }
    }

    fn endpoint(&self, index: usize) -> StoreResult<Endpoint> {
        let address = &self.options.servers[index];
        let failed = |error: &dyn std::error::Error| StoreError::Unavailable {
            reason: format!("the etcd server {address:?} cannot be used: {error}"),
        };
        let endpoint = Endpoint::from_shared(address.clone()).map_err(|error| failed(&error))?;
        let endpoint = endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW);
        if endpoint.uri().scheme_str() != Some("https") {
            return Ok(endpoint);
        }
        endpoint.tls_config(self.tls()?).map_err(|error| failed(&error))
    }

    fn tls(&self) -> StoreResult<ClientTlsConfig> {
        let mut tls = ClientTlsConfig::new();
        tls = match &self.options.ca_file {
            Some(file) => tls.ca_certificate(Certificate::from_pem(read(file)?)),
            None => tls.with_webpki_roots(),
        };
        if let Some((certificate, key)) = &self.options.identity {
            tls = tls.identity(Identity::from_pem(read(certificate)?, read(key)?));
        }
        Ok(tls)
    }
}

fn read(file: &Path) -> StoreResult<Vec<u8>> {
    std::fs::read(file).map_err(|error| StoreError::Unavailable {
        reason: format!("cannot read {}: {error}", file.display()),
    })
}
