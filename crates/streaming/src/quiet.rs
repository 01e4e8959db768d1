//! How long a connection's reader waits: for the idle timeout while it is in use, for the linger time when all was said.

use crate::outbox::Way;
use crate::{StreamError, Timeouts};
use nauplius_base::time::sleep;
use std::future::Future;
use std::time::Duration;

/// Waits for `read`. Ends with [`StreamError::Closed`] when the connection is over and [`StreamError::Idle`] in silence.
pub(crate) async fn within<T>(
    way: &Way,
    timeouts: &Timeouts,
    read: impl Future<Output = Result<T, StreamError>>,
) -> Result<T, StreamError> {
    tokio::pin!(read);
    loop {
        let lingering = way.drained.is_cancelled();
        let limit = if lingering { Some(timeouts.linger) } else { timeouts.idle };
        let written = way.activity.count();
        tokio::select! {
            biased;
            () = way.closed.cancelled() => return Err(StreamError::Closed),
            result = &mut read => return result,
            () = way.drained.cancelled(), if !lingering => {}
            () = sleep(limit.unwrap_or(Duration::MAX)), if limit.is_some() => {
                if lingering || way.activity.count() == written {
                    return Err(StreamError::Idle);
                }
            }
        }
    }
}
