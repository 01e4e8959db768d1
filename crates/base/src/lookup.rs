//! Names to addresses without the C library's resolver, which a static program does not have: numbers, `/etc/hosts`, then
//! queries to the servers of `/etc/resolv.conf`.

use crate::time;
use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

const QUERY_TIMEOUT: Duration = Duration::from_secs(3);
const ROUNDS: usize = 2;
const MAX_SERVERS: usize = 3;
const MAX_UDP_BYTES: usize = 4096;
const DNS_PORT: u16 = 53;

/// Why a name has no address, in the words that people know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// Every server that was asked knows none.
    #[error("no such host")]
    NoSuchHost,
    /// No server could say.
    #[error("{0}")]
    Unanswered(String),
}

/// What `/etc/resolv.conf` says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Settings {
    servers: Vec<SocketAddr>,
    search: Vec<String>,
    ndots: usize,
}

/// The addresses of a host, IPv4 first; never none.
///
/// # Errors
/// [`LookupError`].
pub async fn resolve(host: &str) -> Result<Vec<IpAddr>, LookupError> {
    if let Ok(address) = host.parse() {
        return Ok(vec![address]);
    }
    // A machine without these files has no names and the default server; so says resolv.conf(5).
    let hosts = tokio::fs::read_to_string("/etc/hosts").await.unwrap_or_default();
    let known = in_hosts(&hosts, host);
    if !known.is_empty() {
        return Ok(known);
    }
    if host.eq_ignore_ascii_case("localhost") {
        return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
    }
    let settings = tokio::fs::read_to_string("/etc/resolv.conf").await.unwrap_or_default();
    resolve_with(&parse_settings(&settings), host).await
}

fn in_hosts(hosts: &str, host: &str) -> Vec<IpAddr> {
    let line_of = |line: &str| {
        let mut words = line.split('#').next()?.split_whitespace();
        let address: IpAddr = words.next()?.parse().ok()?; // Not an address: not a line of ours.
        words.any(|name| name.eq_ignore_ascii_case(host)).then_some(address)
    };
    let mut found: Vec<IpAddr> = hosts.lines().filter_map(line_of).collect();
    found.sort_by_key(IpAddr::is_ipv6);
    found
}

fn parse_settings(text: &str) -> Settings {
    let mut settings = Settings { servers: Vec::new(), search: Vec::new(), ndots: 1 };
    for line in text.lines() {
        let mut words = line.split(['#', ';']).next().unwrap_or_default().split_whitespace();
        match words.next() {
            Some("nameserver") => {
                let address = words.next().and_then(|word| word.split('%').next()?.parse().ok()); // Not an address: skipped.
                settings.servers.extend(address.map(|address| SocketAddr::new(address, DNS_PORT)));
            }
            Some("search" | "domain") => settings.search = words.map(str::to_owned).collect(),
            Some("options") => {
                let ndots = words.find_map(|word| word.strip_prefix("ndots:")?.parse().ok()); // Not a number: the default.
                settings.ndots = ndots.unwrap_or(settings.ndots);
            }
            _ => {}
        }
    }
    settings.servers.truncate(MAX_SERVERS);
    if settings.servers.is_empty() {
        settings.servers.push(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), DNS_PORT));
    }
    settings
}

/// The full names to try, in order.
fn candidates(settings: &Settings, host: &str) -> Vec<String> {
    if let Some(full) = host.strip_suffix('.') {
        return vec![full.to_owned()];
    }
    let searched = settings.search.iter().map(|domain| format!("{host}.{}", domain.trim_end_matches('.')));
    let mut names: Vec<String> = searched.collect();
    let at = if host.matches('.').count() >= settings.ndots { 0 } else { names.len() };
    names.insert(at, host.to_owned());
    names
}

async fn resolve_with(settings: &Settings, host: &str) -> Result<Vec<IpAddr>, LookupError> {
    let mut worst = LookupError::NoSuchHost;
    for name in candidates(settings, host) {
        let (v4, v6) =
            tokio::join!(query(settings, &name, RecordType::A), query(settings, &name, RecordType::AAAA));
        match (v4, v6) {
            (Err(error), Err(_)) => worst = error,
            (v4, v6) => {
                // One family that answers is enough.
                let found: Vec<IpAddr> = v4.into_iter().chain(v6).flatten().collect();
                if !found.is_empty() {
                    return Ok(found);
                }
            }
        }
    }
    Err(worst)
}

/// Asks the servers in turn; an empty answer is an answer.
async fn query(settings: &Settings, name: &str, kind: RecordType) -> Result<Vec<IpAddr>, LookupError> {
    let full = Name::from_ascii(format!("{name}.")).map_err(|_| LookupError::NoSuchHost)?;
    let mut last = LookupError::NoSuchHost;
    for _ in 0..ROUNDS {
        for server in &settings.servers {
            match time::timeout(QUERY_TIMEOUT, ask(*server, &full, kind)).await {
                Ok(Ok(message)) => match message.metadata.response_code {
                    ResponseCode::NoError | ResponseCode::NXDomain => return Ok(addresses(&message)),
                    code => last = LookupError::Unanswered(format!("server misbehaving on {server}: {code}")),
                },
                Ok(Err(error)) => last = LookupError::Unanswered(format!("{server}: {error}")),
                Err(_) => last = LookupError::Unanswered(format!("{server}: i/o timeout")),
            }
        }
    }
    Err(last)
}

/// Aliases come with their targets' addresses, so every address in the answer is one of the name's.
fn addresses(message: &Message) -> Vec<IpAddr> {
    let address = |data: &RData| match data {
        RData::A(address) => Some(IpAddr::V4(address.0)),
        RData::AAAA(address) => Some(IpAddr::V6(address.0)),
        _ => None,
    };
    message.answers.iter().filter_map(|record| address(&record.data)).collect()
}

async fn ask(server: SocketAddr, name: &Name, kind: RecordType) -> std::io::Result<Message> {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name.clone(), kind));
    let bytes = message.to_vec().map_err(std::io::Error::other)?;
    let answer = over_udp(server, &bytes, &message).await?;
    if answer.metadata.truncation { over_tcp(server, &bytes, &message).await } else { Ok(answer) }
}

async fn over_udp(server: SocketAddr, bytes: &[u8], asked: &Message) -> std::io::Result<Message> {
    let any: IpAddr =
        if server.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
    socket.connect(server).await?;
    socket.send(bytes).await?;
    let mut buffer = vec![0; MAX_UDP_BYTES];
    loop {
        let length = socket.recv(&mut buffer).await?;
        // Anything else is a late answer to someone else, or forged.
        if let Ok(answer) = Message::from_vec(&buffer[..length])
            && answers(&answer, asked)
        {
            return Ok(answer);
        }
    }
}

async fn over_tcp(server: SocketAddr, bytes: &[u8], asked: &Message) -> std::io::Result<Message> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(bytes.len()).map_err(std::io::Error::other)?;
    stream.write_all(&length.to_be_bytes()).await?;
    stream.write_all(bytes).await?;
    let mut buffer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut buffer).await?;
    let answer = Message::from_vec(&buffer).map_err(std::io::Error::other)?;
    if answers(&answer, asked) {
        Ok(answer)
    } else {
        Err(std::io::Error::other("an answer to another question"))
    }
}

fn answers(answer: &Message, asked: &Message) -> bool {
    answer.metadata.id == asked.metadata.id && answer.queries == asked.queries
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task;
    use hickory_proto::rr::Record;
    use hickory_proto::rr::rdata::A;

    #[test]
    fn files_are_read_as_the_c_library_does() {
        let hosts = "127.0.0.1 localhost\n::1 six reg # reg2\n10.0.0.1\treg.io reg\nbad reg\n";
        assert_eq!(in_hosts(hosts, "REG"), ["10.0.0.1".parse::<IpAddr>().unwrap(), "::1".parse().unwrap()]);
        assert!(in_hosts(hosts, "reg2").is_empty());
        let settings = parse_settings(
            "# x\nnameserver 10.0.0.2\nnameserver fe80::1%eth0\nsearch a.b c.d.\noptions ndots:2 x\n",
        );
        assert_eq!(settings.servers, ["10.0.0.2:53".parse().unwrap(), "[fe80::1]:53".parse().unwrap()]);
        assert_eq!(candidates(&settings, "x.y"), ["x.y.a.b", "x.y.c.d", "x.y"]);
        assert_eq!(candidates(&settings, "x.y.z")[0], "x.y.z");
        assert_eq!(candidates(&settings, "x."), ["x"]);
        assert_eq!(parse_settings("").servers, ["127.0.0.1:53".parse().unwrap()]);
    }

    /// Answers `a.test` with 10.1.2.3 and nothing else.
    async fn serve(socket: UdpSocket) {
        let mut buffer = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            let asked = Message::from_vec(&buffer[..length]).unwrap();
            let mut answer = Message::response(asked.metadata.id, asked.metadata.op_code);
            let query = asked.queries[0].clone();
            if query.name().to_ascii() == "a.test." && query.query_type() == RecordType::A {
                answer.add_answer(Record::from_rdata(
                    query.name().clone(),
                    60,
                    RData::A(A(Ipv4Addr::new(10, 1, 2, 3))),
                ));
            } else if query.name().to_ascii() != "a.test." {
                answer.metadata.response_code = ResponseCode::NXDomain;
            }
            answer.add_query(query);
            socket.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
        }
    }

    #[tokio::test]
    async fn asks_a_server() {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let servers = vec![socket.local_addr().unwrap()];
        let server = task::spawn("dns", serve(socket));
        let settings = Settings { servers, search: vec!["test".into()], ndots: 1 };
        assert_eq!(resolve_with(&settings, "a").await.unwrap(), [IpAddr::V4(Ipv4Addr::new(10, 1, 2, 3))]);
        assert_eq!(resolve_with(&settings, "b.test").await, Err(LookupError::NoSuchHost));
        server.abort();
    }
}
