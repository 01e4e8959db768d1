//! Clients that each send the next request when the last one is answered, and what that gave.

use crate::error::BenchError;
use futures_util::future::try_join_all;
use nauplius_base::time::monotonic;
use std::cell::{Cell, RefCell};
use std::time::Duration;

/// When a load ends.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// No request begins later than this.
    pub time: Duration,
    /// No more requests than this.
    pub requests: usize,
}

/// Requests that were answered.
#[derive(Debug, Clone, Default)]
pub struct Load {
    /// How long each took.
    pub latencies_ms: Vec<f64>,
    /// How long all took.
    pub seconds: f64,
    /// Bytes of all bodies that came back.
    pub bytes: u64,
}

impl Load {
    /// The latency that this share of requests did not exceed.
    pub fn percentile(&self, share: f64) -> f64 {
        percentile(&self.latencies_ms, share)
    }
}

/// The figure that this share of all figures does not exceed; 0 when there are none.
pub fn percentile(figures: &[f64], share: f64) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let rank = (sorted.len() as f64 * share).ceil() as usize; // Between 0 and the length.
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
}

/// Runs `clients` at once; `request` gets the client's number and the request's, and returns the bytes that came back.
pub async fn closed_loop<F, R>(clients: usize, budget: Budget, request: F) -> Result<Load, BenchError>
where
    F: Fn(usize, usize) -> R,
    R: Future<Output = Result<u64, BenchError>>,
{
    let (next, bytes) = (Cell::new(0_usize), Cell::new(0_u64));
    let latencies = RefCell::new(Vec::new());
    let started = monotonic();
    let (next, bytes, latencies, request) = (&next, &bytes, &latencies, &request);
    try_join_all((0..clients).map(|client| async move {
        while started.elapsed() < budget.time && next.get() < budget.requests {
            let number = next.replace(next.get() + 1);
            let sent = monotonic();
            let received = request(client, number).await?;
            latencies.borrow_mut().push(sent.elapsed().as_secs_f64() * 1e3);
            bytes.set(bytes.get() + received);
        }
        Ok::<_, BenchError>(())
    }))
    .await?;
    let latencies_ms = latencies.take();
    Ok(Load { latencies_ms, seconds: started.elapsed().as_secs_f64(), bytes: bytes.get() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_few_and_many() {
        assert_eq!(percentile(&[], 0.5), 0.0);
        assert_eq!(percentile(&[3.0], 0.99), 3.0);
        let figures: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!((percentile(&figures, 0.5), percentile(&figures, 0.99)), (50.0, 99.0));
    }

    #[tokio::test]
    async fn a_loop_ends_with_its_requests_or_its_time() {
        let budget = Budget { time: Duration::from_secs(3_600), requests: 10 };
        let load = closed_loop(3, budget, |_, number| async move { Ok(number as u64) }).await.unwrap();
        assert_eq!((load.latencies_ms.len(), load.bytes), (10, 45));
        let budget = Budget { time: Duration::ZERO, requests: 10 };
        assert!(closed_loop(3, budget, |_, _| async { Ok(1) }).await.unwrap().latencies_ms.is_empty());
    }
}
