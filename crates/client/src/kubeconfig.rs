//! kubeconfig files: merging our context in, taking it out again, and reading one to connect. Entries of others are kept
//! as they are.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

const LISTS: [&str; 3] = ["clusters", "users", "contexts"];
/// Our note in a context.
const EXTENSION: &str = "nauplius";
const PREVIOUS: &str = "previousContext";
const MADE_FILE: &str = "file";
const MADE_CONTENT: &str = "content";
const AUTHORITY: &str = "certificate-authority-data";
/// How many links to a file are followed; the kernel's limit.
const LINKS_MAX: usize = 40;
/// How long somebody else's lock is waited for.
const LOCK_TRIES: u32 = 250;
const LOCK_RETRY: Duration = Duration::from_millis(20);

/// Why a kubeconfig cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KubeconfigError {
    /// The file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is not YAML of the right shape.
    #[error("{path} is not a kubeconfig: {message}")]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// Somebody else is writing it, or was killed while doing so.
    #[error("{path} stays there: if no kubectl is running, remove it and try again")]
    Locked {
        /// The lock.
        path: PathBuf,
    },
    /// It names no such context, cluster or user.
    #[error("{path} has no {what} {name:?}")]
    Missing {
        /// Which file.
        path: PathBuf,
        /// `context`, `cluster`, ...
        what: &'static str,
        /// The name that was looked for.
        name: String,
    },
}

/// What a person needs to reach a cluster as one user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Names the cluster, the user and the context.
    pub name: String,
    /// `https://host:port`
    pub server: String,
    /// PEM.
    pub certificate_authority: String,
    /// PEM; empty with a token.
    pub client_certificate: String,
    /// PEM; empty with a token.
    pub client_key: String,
    /// Bearer token; empty with a certificate.
    pub token: String,
}

/// The files that `$KUBECONFIG` lists, of which kubectl takes each name from the first that has it.
pub fn listed_paths(kubeconfig: Option<&str>) -> Vec<PathBuf> {
    let paths = kubeconfig.into_iter().flat_map(|list| list.split(':'));
    paths.filter(|path| !path.is_empty()).map(Into::into).collect()
}

/// The file that kubectl would write to: the first existing of `$KUBECONFIG`, else its last, else `~/.kube/config`.
pub fn default_path(kubeconfig: Option<&str>, home: Option<&Path>) -> PathBuf {
    let listed = listed_paths(kubeconfig);
    let existing = listed.iter().find(|path| path.exists());
    match existing.or(listed.last()) {
        Some(path) => path.clone(),
        None => home.unwrap_or(Path::new("/root")).join(".kube/config"),
    }
}

/// What is current after a context was taken out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Current {
    /// The one that was current before; ours was not.
    Untouched,
    /// This one: it was current before ours, or is the only one left.
    Now(String),
    /// None, although some are left.
    Nothing,
}

/// Whether the file can be merged into: it is a kubeconfig, or not there yet.
///
/// # Errors
/// When it is there and is no kubeconfig.
pub fn check(path: &Path) -> Result<(), KubeconfigError> {
    read(path).map(drop)
}

/// The server that the file's entries called like `entry` lead to, if that is another cluster than `entry`'s: its authority tells.
///
/// # Errors
/// When the file is there but is no kubeconfig.
pub fn namesake(path: &Path, entry: &Entry) -> Result<Option<String>, KubeconfigError> {
    Ok(namesake_in(&read(path)?, entry))
}

fn namesake_in(config: &Map<String, Value>, entry: &Entry) -> Option<String> {
    let is_there = LISTS.iter().any(|list| find(config, list, &entry.name).is_some());
    let server = find(config, "clusters", &entry.name).map(|found| found["cluster"]["server"].clone());
    let server = server.as_ref().and_then(Value::as_str).unwrap_or("an unknown server");
    (is_there && !is_ours(config, entry)).then(|| server.to_owned())
}

/// Addresses and users of a cluster change in the course of its life; its authority does not.
fn is_ours(config: &Map<String, Value>, entry: &Entry) -> bool {
    let found = find(config, "clusters", &entry.name);
    let ours = cluster_of(entry);
    found.is_some_and(|found| found["cluster"][AUTHORITY] == ours[AUTHORITY])
}

fn find<'a>(config: &'a Map<String, Value>, list: &str, name: &str) -> Option<&'a Value> {
    config.get(list)?.as_array()?.iter().find(|item| item["name"] == name)
}

/// Adds or replaces `entry` and makes it the current context. Its context remembers which was current before, and what of the same
/// name belonged to another cluster.
///
/// # Errors
/// When the file is there but is no kubeconfig, or cannot be written.
pub fn merge(path: &Path, entry: &Entry) -> Result<(), KubeconfigError> {
    let directories = missing_directories(path);
    let _lock = Lock::take(path)?;
    let found = made_of(path)?;
    let mut config = read(path)?;
    let ours = is_ours(&config, entry);
    let mut note = if ours { note_of(&config, &entry.name) } else { displaced(&config, &entry.name) };
    // While ours is current, what was current before it stays noted.
    let current = current(&config);
    if !(ours && current.as_ref() == Some(&entry.name)) {
        note.remove(PREVIOUS);
        note.extend(current.map(|current| (PREVIOUS.to_owned(), Value::from(current))));
    }
    set_named(&mut config, "clusters", &entry.name, "cluster", cluster_of(entry));
    set_named(&mut config, "users", &entry.name, "user", user_of(entry));
    let mut context = json!({"cluster": entry.name, "user": entry.name});
    if !note.is_empty() {
        context["extensions"] = json!([{"name": EXTENSION, "extension": note}]);
    }
    set_named(&mut config, "contexts", &entry.name, "context", context);
    config.insert("current-context".to_owned(), Value::from(entry.name.as_str()));
    if let Some(made) = found {
        let made = json!({"made": made, "directories": directories});
        set_named(&mut config, "extensions", EXTENSION, "extension", made);
    }
    write(path, &config)
}

/// What of a file is our making, when we come first: all of it, or what is in it.
fn made_of(path: &Path) -> Result<Option<&'static str>, KubeconfigError> {
    match std::fs::metadata(path) {
        Ok(metadata) => Ok((metadata.len() == 0).then_some(MADE_CONTENT)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Some(MADE_FILE)),
        Err(error) => Err(io_error(path)(error)),
    }
}

/// The directories that are made for a file, the innermost first.
fn missing_directories(path: &Path) -> Vec<PathBuf> {
    let above = path.ancestors().skip(1).filter(|directory| !directory.as_os_str().is_empty());
    above.take_while(|directory| !directory.exists()).map(Path::to_owned).collect()
}

/// The entries of another cluster that have the name, as a note keeps them.
fn displaced(config: &Map<String, Value>, name: &str) -> Map<String, Value> {
    let items = LISTS.iter().filter_map(|list| Some(((*list).to_owned(), find(config, list, name)?.clone())));
    let items: Map<String, Value> = items.collect();
    let mut note = Map::new();
    if !items.is_empty() {
        note.insert("displaced".to_owned(), Value::Object(items));
    }
    note
}

/// Puts renewed credentials in place of those that the file has for `entry`; says whether it had any. Nothing else changes.
///
/// # Errors
/// When the file is there but is no kubeconfig, or cannot be written.
pub fn refresh(path: &Path, entry: &Entry) -> Result<bool, KubeconfigError> {
    if !path.exists() {
        return Ok(false);
    }
    let _lock = Lock::take(path)?;
    let mut config = read(path)?;
    let users = config.get("users").and_then(Value::as_array);
    if !users.is_some_and(|users| users.iter().any(|user| user["name"] == entry.name.as_str())) {
        return Ok(false);
    }
    set_named(&mut config, "clusters", &entry.name, "cluster", cluster_of(entry));
    set_named(&mut config, "users", &entry.name, "user", user_of(entry));
    write(path, &config).map(|()| true)
}

/// Takes `entry` out, and puts back what it displaced. Entries of that name that lead to another cluster stay. So does the file,
/// unless it was made for us and nothing is left in it. Where `entry` was current, the context that was current before it is again.
///
/// # Errors
/// When the file is there but is no kubeconfig, or cannot be written.
pub fn remove(path: &Path, entry: &Entry) -> Result<Current, KubeconfigError> {
    if !path.exists() {
        return Ok(Current::Untouched);
    }
    let lock = Lock::take(path)?;
    let mut config = read(path)?;
    if !is_ours(&config, entry) {
        return Ok(Current::Untouched);
    }
    let name = entry.name.as_str();
    let note = note_of(&config, name);
    let previous = note.get(PREVIOUS).and_then(Value::as_str).map(ToOwned::to_owned);
    LISTS.iter().for_each(|list| take_out(&mut config, list, name));
    let displaced = note.get("displaced").and_then(Value::as_object).cloned().unwrap_or_default();
    for (list, item) in displaced {
        if let Some(items) = config.entry(list).or_insert_with(|| json!([])).as_array_mut() {
            items.push(item);
        }
    }
    let now = match current(&config) {
        Some(current) if current == name => successor(&config, previous),
        _ => Current::Untouched,
    };
    match &now {
        Current::Untouched => {}
        Current::Now(next) => drop(config.insert("current-context".to_owned(), Value::from(next.as_str()))),
        Current::Nothing => drop(config.insert("current-context".to_owned(), Value::from(""))),
    }
    let is_empty = |list: &&str| config.get(*list).and_then(Value::as_array).is_none_or(Vec::is_empty);
    if !LISTS.iter().all(is_empty) {
        write(path, &config)?;
        return Ok(now);
    }
    let made = find(&config, "extensions", EXTENSION).map_or(Value::Null, |own| own["extension"].clone());
    match made["made"].as_str() {
        Some(MADE_FILE) => {
            std::fs::remove_file(written_path(path)?).map_err(io_error(path))?;
            drop(lock);
            remove_directories(&made["directories"])?;
        }
        Some(MADE_CONTENT) => std::fs::write(path, "").map_err(io_error(path))?,
        _ => write(path, &config)?,
    }
    Ok(Current::Untouched)
}

/// Those that somebody else has put something into stay.
fn remove_directories(directories: &Value) -> Result<(), KubeconfigError> {
    for directory in directories.as_array().into_iter().flatten().filter_map(Value::as_str).map(Path::new) {
        match std::fs::remove_dir(directory) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty => return Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(io_error(directory)(error)),
        }
    }
    Ok(())
}

fn take_out(config: &mut Map<String, Value>, list: &str, name: &str) {
    if let Some(Value::Array(items)) = config.get_mut(list) {
        items.retain(|item| item["name"] != name);
    }
}

fn successor(config: &Map<String, Value>, previous: Option<String>) -> Current {
    let contexts = config.get("contexts").and_then(Value::as_array).map_or(&[] as &[Value], Vec::as_slice);
    let names: Vec<&str> = contexts.iter().filter_map(|context| context["name"].as_str()).collect();
    match (previous, names.as_slice()) {
        (Some(previous), names) if names.contains(&previous.as_str()) => Current::Now(previous),
        (_, [only]) => Current::Now((*only).to_owned()),
        _ => Current::Nothing,
    }
}

fn current(config: &Map<String, Value>) -> Option<String> {
    let current = config.get("current-context").and_then(Value::as_str);
    current.filter(|current| !current.is_empty()).map(ToOwned::to_owned)
}

/// What our extension of a context remembers.
fn note_of(config: &Map<String, Value>, name: &str) -> Map<String, Value> {
    let context = find(config, "contexts", name);
    let extensions = context.and_then(|context| context["context"]["extensions"].as_array());
    let ours = extensions.into_iter().flatten().find(|extension| extension["name"] == EXTENSION);
    ours.and_then(|ours| ours["extension"].as_object()).cloned().unwrap_or_default()
}

/// kubectl's own lock on a kubeconfig: a file beside it.
struct Lock(PathBuf);

impl Lock {
    fn take(path: &Path) -> Result<Self, KubeconfigError> {
        let mut lock = path.as_os_str().to_owned();
        lock.push(".lock");
        let lock = PathBuf::from(lock);
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory).map_err(io_error(path))?;
        }
        for _ in 0..LOCK_TRIES {
            match std::fs::OpenOptions::new().write(true).create_new(true).open(&lock) {
                Ok(_) => return Ok(Self(lock)),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(io_error(&lock)(error)),
            }
            std::thread::sleep(LOCK_RETRY);
        }
        Err(KubeconfigError::Locked { path: lock })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Whoever finds it stale is told its path.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Reads one context; `None` takes the current one.
///
/// # Errors
/// When the file cannot be read or lacks what the context names.
pub fn load(path: &Path, context: Option<&str>) -> Result<Entry, KubeconfigError> {
    select(path, &read(path)?, context)
}

/// Reads one context out of a text; `path` is what errors name, and where the files that it names are looked for.
///
/// # Errors
/// When the text is no kubeconfig or lacks what the context names.
pub fn parse(path: &Path, text: &str, context: Option<&str>) -> Result<Entry, KubeconfigError> {
    select(path, &document(path, text)?, context)
}

fn select(path: &Path, config: &Map<String, Value>, context: Option<&str>) -> Result<Entry, KubeconfigError> {
    let current = config.get("current-context").and_then(Value::as_str).unwrap_or_default();
    let name = context.unwrap_or(current);
    let context = named(path, config, "contexts", "context", name)?;
    let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let cluster = named(path, config, "clusters", "cluster", &text(&context, "cluster"))?;
    let user = named(path, config, "users", "user", &text(&context, "user"))?;
    let pem = |value: &Value, key: &str| pem_of(path, value, key);
    Ok(Entry {
        name: name.to_owned(),
        server: text(&cluster, "server"),
        certificate_authority: pem(&cluster, "certificate-authority")?,
        client_certificate: pem(&user, "client-certificate")?,
        client_key: pem(&user, "client-key")?,
        token: text(&user, "token"),
    })
}

fn cluster_of(entry: &Entry) -> Value {
    json!({"server": entry.server, AUTHORITY: STANDARD.encode(&entry.certificate_authority)})
}

fn user_of(entry: &Entry) -> Value {
    if entry.token.is_empty() {
        json!({
            "client-certificate-data": STANDARD.encode(&entry.client_certificate),
            "client-key-data": STANDARD.encode(&entry.client_key),
        })
    } else {
        json!({"token": entry.token})
    }
}

fn io_error(path: &Path) -> impl FnOnce(std::io::Error) -> KubeconfigError + '_ {
    move |source| KubeconfigError::Io { path: path.to_owned(), source }
}

fn malformed(path: &Path, message: impl std::fmt::Display) -> KubeconfigError {
    KubeconfigError::Malformed { path: path.to_owned(), message: message.to_string() }
}

fn read(path: &Path) -> Result<Map<String, Value>, KubeconfigError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(io_error(path)(error)),
    };
    document(path, &text)
}

fn document(path: &Path, text: &str) -> Result<Map<String, Value>, KubeconfigError> {
    if text.trim().is_empty() {
        let fresh = json!({"apiVersion": "v1", "kind": "Config", "preferences": {}});
        return Ok(fresh.as_object().cloned().unwrap_or_default());
    }
    match serde_saphyr::from_str::<Value>(text) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(malformed(path, "the document is not a mapping")),
        Err(error) => Err(malformed(path, error)),
    }
}

/// The file that a path leads to through symbolic links, whether it is there or not.
fn written_path(path: &Path) -> Result<PathBuf, KubeconfigError> {
    let mut path = path.to_owned();
    for _ in 0..LINKS_MAX {
        match std::fs::read_link(&path) {
            Ok(target) => path = path.parent().unwrap_or(Path::new("")).join(target),
            // No link, or nothing there yet.
            Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::NotFound) => {
                return Ok(path);
            }
            Err(error) => return Err(io_error(&path)(error)),
        }
    }
    Err(io_error(&path)(std::io::Error::from(ErrorKind::TooManyLinks)))
}

/// Whoever could read and write the file before can do so with what takes its place.
fn keep_access(path: &Path, new: &std::fs::File) -> std::io::Result<()> {
    use std::os::unix::fs::{MetadataExt, fchown};
    let before = match std::fs::metadata(path) {
        Ok(before) => before,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let own = new.metadata()?;
    if (before.uid(), before.gid()) != (own.uid(), own.gid()) {
        fchown(new, Some(before.uid()), Some(before.gid()))?;
    }
    new.set_permissions(before.permissions())
}

/// Written beside and renamed over. A new one is readable by its owner only.
fn write(path: &Path, config: &Map<String, Value>) -> Result<(), KubeconfigError> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let path = &*written_path(path)?;
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).map_err(io_error(path))?;
    }
    let text = serde_saphyr::to_string(config).map_err(|error| malformed(path, error))?;
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}", nauplius_base::id::suffix(5)));
    let temporary = PathBuf::from(temporary);
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)
        .map_err(io_error(&temporary))?;
    let written = keep_access(path, &file).and_then(|()| file.write_all(text.as_bytes()));
    let written = written.and_then(|()| file.sync_all());
    let written = written.and_then(|()| std::fs::rename(&temporary, path));
    if written.is_err() {
        // It has a key in it. That it cannot be removed is no worse than why it could not be used, which is told.
        let _ = std::fs::remove_file(&temporary);
    }
    written.map_err(io_error(path))
}

fn set_named(config: &mut Map<String, Value>, list: &str, name: &str, key: &str, value: Value) {
    let entry = config.entry(list).or_insert_with(|| json!([]));
    if !entry.is_array() {
        *entry = json!([]);
    }
    let Some(items) = entry.as_array_mut() else { return };
    items.retain(|item| item["name"] != name);
    items.push(json!({"name": name, key: value}));
}

fn named(
    path: &Path,
    config: &Map<String, Value>,
    list: &str,
    what: &'static str,
    name: &str,
) -> Result<Value, KubeconfigError> {
    let items = config.get(list).and_then(Value::as_array);
    let found = items.into_iter().flatten().find(|item| item["name"] == name);
    found.map(|item| item[what].clone()).ok_or_else(|| KubeconfigError::Missing {
        path: path.to_owned(),
        what,
        name: name.to_owned(),
    })
}

/// `key-data` inline, or the file that `key` names.
fn pem_of(path: &Path, value: &Value, key: &str) -> Result<String, KubeconfigError> {
    if let Some(data) = value[&format!("{key}-data")].as_str() {
        let bytes = STANDARD.decode(data).map_err(|error| malformed(path, error))?;
        return String::from_utf8(bytes).map_err(|error| malformed(path, error));
    }
    match value[key].as_str() {
        Some(file) => {
            let file = path.parent().unwrap_or(Path::new("/")).join(file);
            std::fs::read_to_string(&file).map_err(io_error(&file))
        }
        None => Ok(String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str) -> Entry {
        Entry {
            name: name.to_owned(),
            server: "https://192.0.2.1:6443".to_owned(),
            certificate_authority: "ca".to_owned(),
            client_certificate: "cert".to_owned(),
            client_key: "key".to_owned(),
            token: String::new(),
        }
    }

    fn scratch() -> PathBuf {
        std::env::temp_dir()
            .join(format!("nauplius-kubeconfig-{}", nauplius_base::id::suffix(8)))
            .join("config")
    }

    /// A kubeconfig with these contexts.
    fn with_contexts(current: &str, names: &[&str]) -> PathBuf {
        let path = scratch();
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let contexts: Vec<Value> = names
            .iter()
            .map(|name| json!({"name": name, "context": {"cluster": "o", "user": "o", "namespace": "team"}}))
            .collect();
        let config =
            json!({"apiVersion": "v1", "kind": "Config", "current-context": current, "contexts": contexts});
        std::fs::write(&path, config.to_string()).unwrap();
        path
    }

    #[test]
    fn keeps_the_entries_of_others() {
        let path = with_contexts("other", &["other"]);
        merge(&path, &entry("nauplius")).unwrap();
        merge(&path, &entry("nauplius")).unwrap();
        assert_eq!(load(&path, None).unwrap(), entry("nauplius"));
        assert_eq!(remove(&path, &entry("nauplius")).unwrap(), Current::Now("other".to_owned()));
        let left = read(&path).unwrap();
        assert_eq!(left["contexts"][0]["context"]["namespace"], "team");
        assert_eq!(left["contexts"].as_array().unwrap().len(), 1);
        assert_eq!(left["current-context"], "other");
        std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }

    #[test]
    fn what_was_current_before_is_again() {
        for (current, contexts, then_use, expected) in [
            ("b", &["a", "b", "c"] as &[&str], None, Current::Now("b".to_owned())),
            ("", &["a", "b"], None, Current::Nothing),
            ("gone", &["a", "b"], None, Current::Nothing),
            ("gone", &["a"], None, Current::Now("a".to_owned())),
            ("b", &["a", "b"], Some("a"), Current::Untouched),
        ] {
            let path = with_contexts(current, contexts);
            merge(&path, &entry("ours")).unwrap();
            if let Some(name) = then_use {
                let mut config = read(&path).unwrap();
                config.insert("current-context".to_owned(), Value::from(name));
                write(&path, &config).unwrap();
            }
            assert_eq!(remove(&path, &entry("ours")).unwrap(), expected, "{current} {contexts:?}");
            let left = read(&path).unwrap();
            let name = match &expected {
                Current::Untouched => then_use.unwrap_or_default(),
                Current::Now(name) => name,
                Current::Nothing => "",
            };
            assert_eq!(left["current-context"], name);
            assert_eq!(remove(&path, &entry("ours")).unwrap(), Current::Untouched);
            std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
        }
    }

    #[test]
    fn renewed_credentials_go_where_the_old_ones_are() {
        let path = with_contexts("other", &["other"]);
        let renewed = Entry { client_certificate: "new".to_owned(), ..entry("ours") };
        assert!(!refresh(&path, &renewed).unwrap());
        merge(&path, &entry("ours")).unwrap();
        let mut config = read(&path).unwrap();
        config.insert("current-context".to_owned(), Value::from("other"));
        write(&path, &config).unwrap();
        assert!(refresh(&path, &renewed).unwrap());
        assert_eq!(load(&path, Some("ours")).unwrap(), renewed);
        assert_eq!(read(&path).unwrap()["current-context"], "other");
        assert!(!refresh(Path::new("/nowhere/config"), &renewed).unwrap());
        std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }

    #[test]
    fn writers_wait_for_each_other() {
        let path = scratch();
        let names: Vec<String> = (0..8).map(|number| format!("c{number}")).collect();
        std::thread::scope(|scope| {
            for name in &names {
                scope.spawn(|| merge(&path, &entry(name)).unwrap());
            }
        });
        for name in &names {
            assert_eq!(load(&path, Some(name)).unwrap(), entry(name));
        }
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }

    #[test]
    fn a_file_of_only_ours_goes_with_us() {
        let path = scratch();
        merge(&path, &entry("a")).unwrap();
        let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&path).unwrap());
        assert_eq!(mode & 0o777, 0o600);
        let wider = std::os::unix::fs::PermissionsExt::from_mode(0o640);
        std::fs::set_permissions(&path, wider).unwrap();
        merge(&path, &entry("a")).unwrap();
        let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&path).unwrap());
        assert_eq!(mode & 0o777, 0o640, "it is somebody's choice");
        assert_eq!(remove(&path, &entry("a")).unwrap(), Current::Untouched);
        assert!(!path.parent().unwrap().exists(), "the directory was made for it");
    }

    #[test]
    fn a_file_that_was_there_stays() {
        for (before, after) in [("", ""), ("contexts: []\n", "contexts: []")] {
            let path = scratch();
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, before).unwrap();
            merge(&path, &entry("a")).unwrap();
            merge(&path, &entry("b")).unwrap();
            remove(&path, &entry("a")).unwrap();
            remove(&path, &entry("b")).unwrap();
            let left = std::fs::read_to_string(&path).unwrap();
            assert!(left.contains(after) && !left.contains("client-key"), "{left}");
            assert_eq!(left.is_empty(), before.is_empty());
            std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
        }
    }

    #[test]
    fn a_link_stays_one() {
        let path = scratch();
        let directory = path.parent().unwrap();
        std::fs::create_dir_all(directory).unwrap();
        std::os::unix::fs::symlink("real", &path).unwrap();
        for _ in 0..2 {
            merge(&path, &entry("a")).unwrap();
            assert!(path.is_symlink());
            assert_eq!(load(&directory.join("real"), None).unwrap(), entry("a"));
        }
        remove(&path, &entry("a")).unwrap();
        assert!(path.is_symlink() && !path.exists(), "the file was made for us, the link was not");
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_namesake_is_put_aside_and_comes_back() {
        let path = with_contexts("other", &["other"]);
        let namesake = Entry {
            server: "https://198.51.100.1:6443".to_owned(),
            certificate_authority: "theirs".to_owned(),
            ..entry("a")
        };
        merge(&path, &namesake).unwrap();
        assert_eq!(
            super::namesake(&path, &entry("a")).unwrap().as_deref(),
            Some("https://198.51.100.1:6443")
        );
        assert_eq!(remove(&path, &entry("a")).unwrap(), Current::Untouched, "it is not ours");
        for _ in 0..2 {
            merge(&path, &entry("a")).unwrap();
            assert_eq!(load(&path, None).unwrap(), entry("a"));
            assert_eq!(super::namesake(&path, &entry("a")).unwrap(), None);
        }
        assert_eq!(remove(&path, &entry("a")).unwrap(), Current::Now("a".to_owned()));
        assert_eq!(load(&path, None).unwrap(), namesake);
        assert_eq!(remove(&path, &namesake).unwrap(), Current::Now("other".to_owned()));
        std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }

    #[test]
    fn what_cannot_be_written_leaves_no_key_behind() {
        let path = scratch();
        // A directory cannot be renamed over.
        std::fs::create_dir_all(path.join("full")).unwrap();
        assert!(write(&path, &Map::new()).is_err());
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }

    #[test]
    fn refuses_what_is_not_a_kubeconfig() {
        let path = scratch();
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, "- just\n- a list\n").unwrap();
        let error = merge(&path, &entry("a")).unwrap_err().to_string();
        assert!(error.ends_with("is not a kubeconfig: the document is not a mapping"), "{error}");
        std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }
}
