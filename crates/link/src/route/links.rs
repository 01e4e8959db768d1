//! Network interfaces: bridges, veth pairs, and what can be changed on any link.

use super::Rtnl;
use crate::error::{Error, Result};
use crate::socket::{NLM_F_CREATE, NLM_F_EXCL, Subject};
use crate::wire::{Attributes, Encoder, ne32, string};
use std::fmt;
use std::os::fd::{AsRawFd, BorrowedFd};

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_SETLINK: u16 = 19;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
const IFLA_NET_NS_FD: u16 = 28;

const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_INFO_SLAVE_KIND: u16 = 4;
const IFLA_INFO_SLAVE_DATA: u16 = 5;
const VETH_INFO_PEER: u16 = 1;
const IFLA_BRPORT_MODE: u16 = 4;
const IFLA_BRPORT_ISOLATED: u16 = 33;

const IFF_UP: u32 = 1;
const IFF_LOOPBACK: u32 = 8;

/// The kernel's limit, without the terminating zero.
const NAME_MAX: usize = 15;
const ALIAS_MAX: usize = 255;

/// A hardware address.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, f] = self.0;
        write!(formatter, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// A link as the kernel describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number in this namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its alias, empty when it has none.
    pub alias: String,
    /// The driver's kind (`bridge`, `veth`, ...); None for hardware and loopback.
    pub kind: Option<String>,
    /// Its hardware address, when it is an Ethernet one.
    pub mac: Option<Mac>,
    /// The largest packet.
    pub mtu: u32,
    /// Whether it is administratively up.
    pub up: bool,
    /// Whether it is a loopback device.
    pub loopback: bool,
    /// The bridge it is a port of.
    pub master: Option<u32>,
    /// For a veth the index of the other end, in the other end's namespace.
    pub peer: Option<u32>,
}

/// A bridge to make.
#[derive(Debug, Clone)]
pub struct BridgeSpec<'a> {
    /// Its name.
    pub name: &'a str,
    /// A fixed hardware address; without it a bridge takes the lowest of its ports' and changes it as they come and go.
    pub mac: Option<Mac>,
    /// The largest packet.
    pub mtu: Option<u32>,
}

/// One end of a veth pair to make.
#[derive(Debug, Clone, Default)]
pub struct VethEnd<'a> {
    /// Its name in its namespace.
    pub name: &'a str,
    /// Its hardware address; the kernel draws one when absent.
    pub mac: Option<Mac>,
    /// The largest packet.
    pub mtu: Option<u32>,
}

/// A veth pair to make, in one step. The far end starts down: the kernel opens it only once it has its peer.
#[derive(Debug, Clone)]
pub struct VethSpec<'a> {
    /// The end in this socket's namespace.
    pub near: VethEnd<'a>,
    /// Whether the near end starts up.
    pub up: bool,
    /// The other end.
    pub far: VethEnd<'a>,
    /// Where the other end lives; None for this namespace.
    pub far_netns: Option<BorrowedFd<'a>>,
    /// The bridge that the near end becomes a port of.
    pub master: Option<u32>,
}

/// What to change on a link; what is None stays.
#[derive(Debug, Clone, Default)]
pub struct LinkChange<'a> {
    /// Administrative state.
    pub up: Option<bool>,
    /// The largest packet.
    pub mtu: Option<u32>,
    /// Hardware address.
    pub mac: Option<Mac>,
    /// A bridge to join, or 0 to leave.
    pub master: Option<u32>,
    /// A new name (the link must be down on older kernels).
    pub name: Option<&'a str>,
    /// A note on the link, up to 255 bytes.
    pub alias: Option<&'a str>,
}

/// How a bridge treats one port; what is None stays.
#[derive(Debug, Clone, Copy, Default)]
pub struct BridgePort {
    /// Whether a frame may leave by the port it came in.
    pub hairpin: Option<bool>,
    /// Whether frames between this port and other isolated ports are dropped.
    pub isolated: Option<bool>,
}

impl Rtnl {
    /// The link called `name`.
    ///
    /// # Errors
    /// The kernel's answer cannot be read.
    pub fn link(&mut self, name: &str) -> Result<Option<Link>> {
        check_name(name)?;
        self.get_link(name, 0, |encoder| encoder.put_str(IFLA_IFNAME, name))
    }

    /// The link with `index`.
    ///
    /// # Errors
    /// The kernel's answer cannot be read.
    pub fn link_by_index(&mut self, index: u32) -> Result<Option<Link>> {
        self.get_link("", index, |_| {})
    }

    fn get_link(&mut self, name: &str, index: u32, body: impl FnOnce(&mut Encoder)) -> Result<Option<Link>> {
        let subject = Subject { request: "get link", name };
        match self.socket.query(subject, RTM_GETLINK, &header(index, 0, 0), body, parse) {
            Err(error) if error.is_not_found() => Ok(None),
            answer => answer,
        }
    }

    /// All links of this namespace.
    ///
    /// # Errors
    /// The table kept changing while it was read.
    pub fn links(&mut self) -> Result<Vec<Link>> {
        let subject = Subject { request: "list links", name: "" };
        self.socket.dump(subject, RTM_GETLINK, &header(0, 0, 0), |_| {}, parse)
    }

    /// Makes a bridge, up.
    ///
    /// # Errors
    /// The name is taken or invalid, or the kernel refuses.
    pub fn create_bridge(&mut self, spec: &BridgeSpec<'_>) -> Result<Link> {
        check_name(spec.name)?;
        self.create(spec.name, true, |encoder| {
            put_end(encoder, &VethEnd { name: spec.name, mac: spec.mac, mtu: spec.mtu });
            encoder.nest(IFLA_LINKINFO, |info| info.put_str(IFLA_INFO_KIND, "bridge"));
        })
    }

    /// Makes a veth pair and returns the near end.
    ///
    /// # Errors
    /// A name is taken or invalid, or the kernel refuses.
    pub fn create_veth(&mut self, spec: &VethSpec<'_>) -> Result<Link> {
        check_name(spec.near.name)?;
        check_name(spec.far.name)?;
        self.create(spec.near.name, spec.up, |encoder| {
            put_end(encoder, &spec.near);
            if let Some(master) = spec.master {
                encoder.put_u32(IFLA_MASTER, master);
            }
            encoder.nest(IFLA_LINKINFO, |info| {
                info.put_str(IFLA_INFO_KIND, "veth");
                info.nest(IFLA_INFO_DATA, |data| data.nest(VETH_INFO_PEER, |peer| put_peer(peer, spec)));
            });
        })
    }

    fn create(&mut self, name: &str, up: bool, body: impl FnOnce(&mut Encoder)) -> Result<Link> {
        let subject = Subject { request: "create link", name };
        let flags = if up { IFF_UP } else { 0 };
        self.socket.request(
            subject,
            RTM_NEWLINK,
            NLM_F_CREATE | NLM_F_EXCL,
            &header(0, flags, flags),
            body,
        )?;
        self.link(name)?.ok_or(Error::Malformed { request: "create link" })
    }

    /// Changes a link.
    ///
    /// # Errors
    /// There is no such link, or the kernel refuses.
    pub fn change_link(&mut self, index: u32, change: &LinkChange<'_>) -> Result<()> {
        if let Some(name) = change.name {
            check_name(name)?;
        }
        if change.alias.is_some_and(|alias| alias.len() > ALIAS_MAX) {
            let name = change.alias.unwrap_or_default().to_owned();
            return Err(Error::Name { name, reason: "an alias has at most 255 bytes" });
        }
        let mask = if change.up.is_some() { IFF_UP } else { 0 };
        let flags = if change.up == Some(true) { IFF_UP } else { 0 };
        let number = index.to_string();
        let subject = Subject { request: "change link", name: &number };
        self.socket.request(subject, RTM_SETLINK, 0, &header(index, flags, mask), |encoder| {
            put_change(encoder, change);
        })
    }

    /// Changes how its bridge treats the port `index`.
    ///
    /// # Errors
    /// It is no port of a bridge, or the kernel refuses.
    pub fn set_bridge_port(&mut self, index: u32, port: BridgePort) -> Result<()> {
        let number = index.to_string();
        let subject = Subject { request: "change bridge port", name: &number };
        self.socket.request(subject, RTM_NEWLINK, 0, &header(index, 0, 0), |encoder| {
            encoder.nest(IFLA_LINKINFO, |info| {
                info.put_str(IFLA_INFO_SLAVE_KIND, "bridge");
                info.nest(IFLA_INFO_SLAVE_DATA, |data| {
                    for (kind, value) in
                        [(IFLA_BRPORT_MODE, port.hairpin), (IFLA_BRPORT_ISOLATED, port.isolated)]
                    {
                        if let Some(value) = value {
                            data.put_u8(kind, value.into());
                        }
                    }
                });
            });
        })
    }

    /// Deletes the link called `name` (a veth goes with its peer). False: there was none.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn delete_link(&mut self, name: &str) -> Result<bool> {
        check_name(name)?;
        let subject = Subject { request: "delete link", name };
        let outcome = self.socket.request(subject, RTM_DELLINK, 0, &header(0, 0, 0), |encoder| {
            encoder.put_str(IFLA_IFNAME, name);
        });
        match outcome {
            Ok(()) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn put_end(encoder: &mut Encoder, end: &VethEnd<'_>) {
    encoder.put_str(IFLA_IFNAME, end.name);
    if let Some(mac) = end.mac {
        encoder.put(IFLA_ADDRESS, &mac.0);
    }
    if let Some(mtu) = end.mtu {
        encoder.put_u32(IFLA_MTU, mtu);
    }
}

fn put_peer(encoder: &mut Encoder, spec: &VethSpec<'_>) {
    encoder.raw(&header(0, 0, 0));
    put_end(encoder, &spec.far);
    if let Some(netns) = spec.far_netns {
        encoder.put_u32(IFLA_NET_NS_FD, netns.as_raw_fd().cast_unsigned());
    }
}

fn put_change(encoder: &mut Encoder, change: &LinkChange<'_>) {
    for (kind, value) in [(IFLA_MTU, change.mtu), (IFLA_MASTER, change.master)] {
        if let Some(value) = value {
            encoder.put_u32(kind, value);
        }
    }
    if let Some(mac) = change.mac {
        encoder.put(IFLA_ADDRESS, &mac.0);
    }
    if let Some(name) = change.name {
        encoder.put_str(IFLA_IFNAME, name);
    }
    if let Some(alias) = change.alias {
        encoder.put(IFLA_IFALIAS, alias.as_bytes());
    }
}

/// `struct ifinfomsg`.
fn header(index: u32, flags: u32, mask: u32) -> [u8; 16] {
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&mask.to_ne_bytes());
    header
}

fn parse(payload: &[u8]) -> Option<Link> {
    let index = ne32(payload.get(4..8)?)?;
    let flags = ne32(payload.get(8..12)?)?;
    let attributes = Attributes(payload.get(16..)?);
    let number = |kind| attributes.find(kind).and_then(ne32);
    let kind = attributes.find(IFLA_LINKINFO).and_then(|info| Attributes(info).find(IFLA_INFO_KIND));
    Some(Link {
        index,
        name: string(attributes.find(IFLA_IFNAME)?),
        alias: attributes.find(IFLA_IFALIAS).map(string).unwrap_or_default(),
        kind: kind.map(string),
        mac: attributes.find(IFLA_ADDRESS).and_then(|mac| mac.try_into().ok()).map(Mac),
        mtu: number(IFLA_MTU).unwrap_or(0),
        up: flags & IFF_UP != 0,
        loopback: flags & IFF_LOOPBACK != 0,
        master: number(IFLA_MASTER),
        peer: number(IFLA_LINK),
    })
}

fn check_name(name: &str) -> Result<()> {
    let reason = if name.is_empty() || name == "." || name == ".." {
        "an interface needs a name"
    } else if name.len() > NAME_MAX {
        "an interface name has at most 15 bytes"
    } else if name.bytes().any(|byte| byte == b'/' || byte == b':' || byte == 0 || byte.is_ascii_whitespace())
    {
        "an interface name has no space, slash or colon"
    } else {
        return Ok(());
    };
    Err(Error::Name { name: name.to_owned(), reason })
}
