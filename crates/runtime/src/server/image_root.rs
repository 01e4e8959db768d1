//! The files of an image, through a mount of its layers that nobody else sees. It must not know what is looked for.

use crate::sys::mount;
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use rustix::mount::MountAttrFlags;
use std::path::PathBuf;

/// Opens the root of these layers, topmost first. The mount goes with the descriptor.
pub(crate) fn open(layers: &[PathBuf]) -> std::io::Result<OwnedFd> {
    if let [layer] = layers {
        return Ok(rustix::fs::open(
            layer,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?);
    }
    let names: Vec<String> = layers.iter().map(|layer| layer.display().to_string()).collect();
    let options: Vec<_> = names.iter().map(|name| ("lowerdir+", Some(name.as_str()))).collect();
    mount::new_filesystem("overlay", &options, MountAttrFlags::MOUNT_ATTR_RDONLY)
}
