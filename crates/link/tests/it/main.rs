//! The crate against the real kernel, in network namespaces that the tests make and that end with them.

mod dataplane;
mod namespaces;
mod nftables;
mod routing;

use nauplius_link::Netns;

/// An own namespace, or a counted skip where the machine does not let us make one.
fn netns() -> Option<Netns> {
    match Netns::unnamed() {
        Ok(netns) => Some(netns),
        Err(error) => {
            println!("SKIP: network namespaces are needed: {error}");
            None
        }
    }
}
