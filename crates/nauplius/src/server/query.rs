//! One DNS question over UDP: to see from outside that cluster DNS answers.

use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RData, RecordType};
use nauplius_base::{id, time};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::net::UdpSocket;

const ANSWER_MAX: usize = 4096;

/// Why there was no address.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The question or the answer is no DNS message.
    #[error("{0}")]
    Message(String),
    /// The socket failed.
    #[error(transparent)]
    Socket(#[from] std::io::Error),
    /// Nobody answered in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// An answer without an address.
    #[error("the answer has no address ({0})")]
    NoAddress(String),
}

/// The first IPv4 address of `name`.
///
/// # Errors
/// [`QueryError`].
pub async fn query(server: SocketAddr, name: &str, timeout: Duration) -> Result<IpAddr, QueryError> {
    let number = u16::try_from(id::below(u64::from(u16::MAX))).unwrap_or(1);
    let packet = question(number, name)?;
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
    socket.connect(server).await?;
    socket.send(&packet).await?;
    let mut buffer = vec![0; ANSWER_MAX];
    let received = time::timeout(timeout, socket.recv(&mut buffer)).await;
    let length = received.map_err(|_| QueryError::Timeout(timeout))??;
    address_of(&buffer[..length], number)
}

fn malformed(error: impl std::fmt::Display) -> QueryError {
    QueryError::Message(error.to_string())
}

fn question(number: u16, name: &str) -> Result<Vec<u8>, QueryError> {
    let mut message = Message::new(number, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_ascii(name).map_err(malformed)?, RecordType::A));
    message.to_vec().map_err(malformed)
}

fn address_of(packet: &[u8], number: u16) -> Result<IpAddr, QueryError> {
    let message = Message::from_vec(packet).map_err(malformed)?;
    if message.id != number {
        return Err(QueryError::Message("an answer to another question".to_owned()));
    }
    let found = message.answers.iter().find_map(|record| match &record.data {
        RData::A(address) => Some(IpAddr::V4(address.0)),
        _ => None,
    });
    found.ok_or_else(|| QueryError::NoAddress(format!("{:?}", message.response_code)))
}
