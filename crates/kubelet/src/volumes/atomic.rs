//! Replaces all files of a volume at once, as upstream's atomic writer: files in a dated directory, `..data` pointing at it, and
//! links from the names that containers see. A reader sees the old files or the new ones.

use super::payload::{File, Payload};
use nauplius_base::{id, time};
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Component, Path};

const DATA: &str = "..data";
const NEW_DATA: &str = "..data_tmp";

/// Writes `payload` below `directory`, unless it is there already. True when it wrote.
///
/// # Errors
/// The system's.
pub fn write(directory: &Path, payload: &Payload, group: Option<u32>) -> io::Result<bool> {
    let data = directory.join(DATA);
    if payload.keys().any(|path| !is_plain(path)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a path leaves the volume"));
    }
    let old = match fs::read_link(&data) {
        Ok(target) => Some(directory.join(target)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    if let Some(old) = &old
        && same(old, payload)?
    {
        return Ok(false);
    }
    let name = format!("..{}.{}", time::now().strftime("%Y_%m_%d_%H_%M_%S"), id::below(u64::from(u32::MAX)));
    let fresh = directory.join(&name);
    fs::create_dir(&fresh)?;
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o755))?;
    for (path, file) in payload {
        write_file(&fresh, path, file, group)?;
    }
    if let Some(group) = group {
        own_directory(&fresh, group)?;
    }
    link_names(directory, payload)?;
    let draft = directory.join(NEW_DATA);
    remove_if_there(&draft)?;
    symlink(&name, &draft)?;
    fs::rename(&draft, &data)?;
    unlink_stale(directory, payload)?;
    if let Some(old) = old {
        fs::remove_dir_all(old)?;
    }
    Ok(true)
}

fn is_plain(path: &str) -> bool {
    !path.is_empty() && Path::new(path).components().all(|part| matches!(part, Component::Normal(_)))
}

fn first_part(path: &str) -> &str {
    path.split('/').next().unwrap_or(path)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn write_file(root: &Path, path: &str, file: &File, group: Option<u32>) -> io::Result<()> {
    let target = root.join(path);
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
        for directory in parent.ancestors().take_while(|directory| *directory != root) {
            if let Some(group) = group {
                own_directory(directory, group)?;
            }
        }
    }
    fs::write(&target, &file.data)?;
    let readable_by_group = if group.is_some() { 0o440 } else { 0 };
    fs::set_permissions(&target, fs::Permissions::from_mode(file.mode | readable_by_group))?;
    if file.user.is_some() || group.is_some() {
        chown(&target, file.user, group)?;
    }
    Ok(())
}

/// What is made in a group's directory is the group's too.
pub fn own_directory(directory: &Path, group: u32) -> io::Result<()> {
    chown(directory, None, Some(group))?;
    let mode = fs::metadata(directory)?.permissions().mode();
    fs::set_permissions(directory, fs::Permissions::from_mode((mode & 0o7777) | 0o2550))
}

fn same(old: &Path, payload: &Payload) -> io::Result<bool> {
    let mut known = BTreeSet::new();
    collect(old, "", &mut known)?;
    if known.len() != payload.len() || !payload.keys().all(|path| known.contains(path)) {
        return Ok(false);
    }
    for (path, file) in payload {
        if fs::read(old.join(path))? != file.data {
            return Ok(false);
        }
    }
    Ok(true)
}

fn collect(directory: &Path, prefix: &str, into: &mut BTreeSet<String>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let path = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), &format!("{path}/"), into)?;
        } else {
            into.insert(path);
        }
    }
    Ok(())
}

fn link_names(directory: &Path, payload: &Payload) -> io::Result<()> {
    let names: BTreeSet<&str> = payload.keys().map(|path| first_part(path)).collect();
    for name in names {
        match symlink(Path::new(DATA).join(name), directory.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn unlink_stale(directory: &Path, payload: &Payload) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !name.starts_with("..") && !payload.keys().any(|path| first_part(path) == name) {
            remove_if_there(&directory.join(name))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(files: &[(&str, &str)]) -> Payload {
        let file = |text: &str| File { data: text.as_bytes().to_vec(), mode: 0o600, user: None };
        files.iter().map(|(path, text)| ((*path).to_owned(), file(text))).collect()
    }

    #[test]
    fn files_change_together_and_stale_ones_go() {
        let root = tempfile::tempdir().unwrap();
        let first = payload(&[("a", "1"), ("d/b", "2"), ("gone", "x")]);
        assert!(write(root.path(), &first, None).unwrap());
        assert!(!write(root.path(), &first, None).unwrap());
        assert_eq!(fs::read_to_string(root.path().join("d/b")).unwrap(), "2");
        assert_eq!(fs::metadata(root.path().join("a")).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(write(root.path(), &payload(&[("a", "9"), ("d/b", "2")]), None).unwrap());
        assert_eq!(fs::read_to_string(root.path().join("a")).unwrap(), "9");
        assert!(!root.path().join("gone").exists());
        let left: Vec<_> =
            fs::read_dir(root.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left.len(), 4, "{left:?}");
        assert!(write(root.path(), &payload(&[("../x", "1")]), None).is_err());
    }
    #[test]
    fn every_directory_on_the_way_is_the_groups() {
        use std::os::unix::fs::MetadataExt;
        let root = tempfile::tempdir().unwrap();
        // A group that this process is in, so that anybody may run this.
        let group = fs::metadata(root.path()).unwrap().gid();
        assert!(write(root.path(), &payload(&[("x/y/z", "1")]), Some(group)).unwrap());
        for directory in ["x", "x/y"] {
            let metadata = fs::metadata(root.path().join(directory)).unwrap();
            assert_eq!((metadata.gid(), metadata.mode() & 0o2000), (group, 0o2000), "{directory}");
        }
    }
}
