//! How long a connection's reader waits: for the idle timeout while it is in use, for the linger time when all was said.

use crate::outbox::Way;
use crate::{StreamError, Timeouts};
use nauplius_base::time::{monotonic, sleep_until};
use std::future::Future;

/// Waits for `read`. Ends with [`StreamError::Closed`] when the connection is over and [`StreamError::Idle`] in silence.
pub(crate) async fn within<T>(
    way: &Way,
    timeouts: &Timeouts,
    read: impl Future<Output = Result<T, StreamError>>,
) -> Result<T, StreamError> {
    tokio::pin!(read);
    let mut since = monotonic();
    loop {
        let lingering = way.drained.is_cancelled();
        let limit = if lingering { Some(timeouts.linger) } else { timeouts.idle };
        tokio::select! {
            biased;
            () = way.closed.cancelled() => return Err(StreamError::Closed),
            result = &mut read => return result,
            () = way.drained.cancelled(), if !lingering => since = monotonic(),
            () = sleep_until(since + limit.unwrap_or_default()), if limit.is_some() => {
                let written = way.activity.last();
                if lingering || written <= since {
                    return Err(StreamError::Idle);
                }
                since = written;
            }
        }
    }
}
