//! Connections to hosts by name or number, with Go's words when there is none. What is said over them is not known here.

use crate::lookup::{self, LookupError};
use crate::{errno, time};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::net::TcpStream;

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// The name has no address.
    #[error("dial tcp: lookup {host}: {reason}")]
    Lookup {
        /// The name.
        host: String,
        /// Why.
        reason: LookupError,
    },
    /// The last of its addresses does not take one.
    #[error("dial tcp {address}: connect: {reason}")]
    Refused {
        /// That address.
        address: SocketAddr,
        /// The system's words.
        reason: String,
    },
    /// The last of its addresses does not answer.
    #[error("dial tcp {address}: i/o timeout")]
    Timeout {
        /// That address.
        address: SocketAddr,
    },
}

/// Connects to the first address of `host`, a name or a number, that takes a connection; each gets so much time.
///
/// # Errors
/// [`DialError`].
pub async fn dial(host: &str, port: u16, each: Duration) -> Result<TcpStream, DialError> {
    let addresses = lookup::resolve(host).await;
    let addresses = addresses.map_err(|reason| DialError::Lookup { host: host.to_owned(), reason })?;
    let mut last = DialError::Lookup { host: host.to_owned(), reason: LookupError::NoSuchHost };
    for address in addresses {
        match connect(address, port, each).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn connect(address: IpAddr, port: u16, limit: Duration) -> Result<TcpStream, DialError> {
    let address = SocketAddr::new(address, port);
    match time::timeout(limit, TcpStream::connect(address)).await {
        Ok(connected) => {
            connected.map_err(|error| DialError::Refused { address, reason: errno::words(&error) })
        }
        Err(_) => Err(DialError::Timeout { address }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn hosts_are_dialled_by_name_and_number() {
        let limit = Duration::from_secs(10);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        for host in ["localhost", "127.0.0.1"] {
            let stream = dial(host, port, limit).await.unwrap();
            assert_eq!(stream.peer_addr().unwrap().port(), port);
        }
        drop(listener);
        let refused = dial("127.0.0.1", port, limit).await.unwrap_err().to_string();
        assert_eq!(refused, format!("dial tcp 127.0.0.1:{port}: connect: connection refused"));
        let unknown = DialError::Lookup { host: "x.invalid".to_owned(), reason: LookupError::NoSuchHost };
        assert_eq!(unknown.to_string(), "dial tcp: lookup x.invalid: no such host");
    }
}
