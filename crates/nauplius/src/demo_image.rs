//! The demo image: this very binary with the host's own `sh`, `tar`, `cat` and a few more, and the libraries these need. So
//! the quick start needs no registry, and `exec`, `cp` and `-it` work in it.

use crate::failure::{Doing, Failure};
use nauplius_images::build::ImageBuilder;
use nauplius_images::{ImageStore, Reference};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What `kubectl create deployment --image` is told.
pub const REFERENCE: &str = "nauplius.local/demo:1";

const PROGRAMS: &[&str] = &["sh", "tar", "cat", "ls", "sleep", "env", "id", "mkdir", "rm", "touch"];
const SEARCH: &[&str] = &["/bin", "/usr/bin", "/usr/local/bin", "/sbin", "/usr/sbin"];

/// Builds the image into `store`, unless this binary's is there already; says whether it has.
///
/// # Errors
/// When a file cannot be read or the store refuses.
pub async fn ensure(store: &ImageStore) -> Result<bool, Failure> {
    let reference: Reference = REFERENCE.parse().doing("name the demo image")?;
    // The file that runs, also when another has taken its place.
    let own = PathBuf::from("/proc/self/exe");
    let stamp = stamp_of(&own)?;
    let is_current = |image: nauplius_images::Image| {
        image.config.labels.get("nauplius.local/built-from").is_some_and(|from| *from == stamp)
    };
    if store.get(REFERENCE).is_some_and(is_current) {
        return Ok(false);
    }
    let mut builder = ImageBuilder::new();
    add_filesystem(&mut builder, &own)?;
    let config = &mut builder.config;
    config.cmd = vec!["/nauplius".to_owned(), "demo".to_owned()];
    config.env = vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()];
    config.exposed_ports.insert("8080/tcp".to_owned());
    config.labels.insert("nauplius.local/built-from".to_owned(), stamp);
    builder.store(store, &[reference]).await.doing("build the demo image")?;
    Ok(true)
}

/// Size and time of change tell one build of the binary from another without reading 30 MB at each start.
fn stamp_of(binary: &Path) -> Result<String, Failure> {
    use std::os::unix::fs::MetadataExt;
    let metadata = std::fs::metadata(binary).map_err(|error| Failure::io("cannot read", binary, &error))?;
    Ok(format!("{}-{}-{}", metadata.len(), metadata.mtime(), metadata.mtime_nsec()))
}

fn add_filesystem(builder: &mut ImageBuilder, own: &Path) -> Result<(), Failure> {
    let broken = "build the demo image";
    for directory in ["/tmp", "/etc", "/bin", "/proc", "/sys", "/dev", "/run", "/var"] {
        builder.add_directory(directory, if directory == "/tmp" { 0o1777 } else { 0o755 }).doing(broken)?;
    }
    builder.add_file("/nauplius", own, 0o755).doing(broken)?;
    builder
        .add_bytes("/etc/passwd", "root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n", 0o644)
        .doing(broken)?;
    builder.add_bytes("/etc/group", "root:x:0:\nnogroup:x:65534:\n", 0o644).doing(broken)?;
    let mut libraries = BTreeSet::new();
    for program in PROGRAMS {
        let Some(path) = find(program) else {
            tracing::warn!(program, "the demo image goes without a program that this host lacks");
            continue;
        };
        libraries.extend(libraries_of(&path)?);
        builder.add_file(&format!("/bin/{program}"), &path, 0o755).doing(broken)?;
    }
    for library in libraries {
        let Some(target) = library.to_str() else { continue };
        builder.add_file(target, &library, 0o755).doing(broken)?;
    }
    Ok(())
}

fn find(program: &str) -> Option<PathBuf> {
    SEARCH.iter().map(|directory| Path::new(directory).join(program)).find(|path| path.exists())
}

/// The dynamic loader of a program and what it would load; nothing for a static one.
fn libraries_of(program: &Path) -> Result<Vec<PathBuf>, Failure> {
    let bytes = std::fs::read(program).map_err(|error| Failure::io("cannot read", program, &error))?;
    let Some(loader) = interpreter(&bytes) else { return Ok(Vec::new()) };
    let output = std::process::Command::new(&loader).arg("--list").arg(program).output();
    let output = output.map_err(|error| Failure::io("cannot run", &loader, &error))?;
    let listed = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut libraries: Vec<PathBuf> = listed.lines().filter_map(library_path).collect();
    libraries.push(loader);
    Ok(libraries)
}

/// `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x...)`
fn library_path(line: &str) -> Option<PathBuf> {
    let target = line.split("=>").nth(1)?;
    let path = target.split_ascii_whitespace().next()?;
    path.starts_with('/').then(|| PathBuf::from(path))
}

const PT_INTERP: u32 = 3;

/// The loader that an ELF64 little-endian program names.
fn interpreter(elf: &[u8]) -> Option<PathBuf> {
    let number = |offset: usize, bytes: usize| -> Option<u64> {
        let field = elf.get(offset..offset.checked_add(bytes)?)?;
        Some(field.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    };
    let index = |value: u64| usize::try_from(value).ok();
    if !elf.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let (table, entry, count) =
        (index(number(0x20, 8)?)?, index(number(0x36, 2)?)?, index(number(0x38, 2)?)?);
    let header = (0..count)
        .filter_map(|header| table.checked_add(header.checked_mul(entry)?))
        .find(|header| number(*header, 4) == Some(u64::from(PT_INTERP)))?;
    let (offset, size) = (index(number(header + 8, 8)?)?, index(number(header + 32, 8)?)?);
    let text = elf.get(offset..offset.checked_add(size)?)?;
    let text = text.strip_suffix(b"\0").unwrap_or(text);
    std::str::from_utf8(text).ok().map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_libraries_of_a_shell() {
        let shell = find("sh").unwrap();
        for library in libraries_of(&shell).unwrap() {
            assert!(library.exists(), "{}", library.display());
        }
        assert_eq!(interpreter(b"#!/bin/sh\n"), None);
        assert_eq!(interpreter(b"\x7fELF\x02\x01"), None);
        assert_eq!(library_path("\tlinux-vdso.so.1 (0x00007ffd)"), None);
        assert_eq!(
            library_path("\tlibc.so.6 => /lib/libc.so.6 (0x1)"),
            Some(PathBuf::from("/lib/libc.so.6"))
        );
    }
}
