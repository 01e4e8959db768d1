//! Who pulled what: an image that was pulled with somebody's secrets is there for those who have them, and for others only once the
//! registry lets them have it, too. What was on the node before, or came by hand, is anybody's. As upstream's image pull manager with
//! its policy `NeverVerifyPreloadedImages`, and in its files. Knows nothing of runtimes and registries.

use crate::image_name;
use nauplius_base::time::{self, Instant};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Secrets that are remembered for one image because they were like one that is; upstream's `writeRecordWhileMatchingLimit`.
const ALIKE_MAX: usize = 100;
const VERSION: &str = "kubelet.config.k8s.io/v1beta1";

/// The secret that credentials came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PullSecret {
    /// Its uid.
    pub uid: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// A hash of the credentials themselves.
    pub credential_hash: String,
}

impl PullSecret {
    fn is_same_object(&self, other: &Self) -> bool {
        (&self.uid, &self.namespace, &self.name) == (&other.uid, &other.namespace, &other.name)
    }
}

/// With what an image was pulled.
#[derive(Debug, Clone, Copy)]
pub enum PulledWith<'a> {
    /// Nothing: every pod may have it.
    Nothing,
    /// Credentials out of a secret.
    Secret(&'a PullSecret),
}

/// Whose pods may have an image under one name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Access {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    kubernetes_secrets: Vec<PullSecret>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    node_pods_accessible: bool,
}

impl Access {
    fn add(&mut self, with: PulledWith<'_>) {
        match with {
            _ if self.node_pods_accessible => {}
            PulledWith::Nothing => {
                *self = Self { kubernetes_secrets: Vec::new(), node_pods_accessible: true }
            }
            PulledWith::Secret(secret) => {
                self.kubernetes_secrets.retain(|known| !known.is_same_object(secret));
                self.kubernetes_secrets.push(secret.clone());
            }
        }
    }
}

/// Upstream's `ImagePulledRecord`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    kind: String,
    api_version: String,
    last_updated_time: String,
    image_ref: String,
    #[serde(default)]
    credential_mapping: BTreeMap<String, Access>,
}

/// Upstream's `ImagePullIntent`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Intent {
    kind: String,
    api_version: String,
    image: String,
}

#[derive(Default)]
struct Known {
    /// By the image's id.
    records: BTreeMap<String, Record>,
    /// When each record was written, by this kubelet.
    written: BTreeMap<String, Instant>,
    /// Pulls under way, by the image's name; those of an earlier kubelet count as one.
    intents: BTreeMap<String, usize>,
}

/// What the kubelet pulled onto this node, in `image_manager` below its directory. Files are written before they are believed: calls wait for
/// the disk, so they belong on threads that may.
pub struct PullRecords {
    pulled: PathBuf,
    pulling: PathBuf,
    known: Mutex<Known>,
}

impl PullRecords {
    /// Those of an earlier kubelet, and room for more below `root`. A file that cannot be read is reported and grants nothing.
    ///
    /// # Errors
    /// When the directories cannot be made or listed.
    pub fn open(root: &Path) -> io::Result<Self> {
        let (pulled, pulling) = (root.join("image_manager/pulled"), root.join("image_manager/pulling"));
        for directory in [&pulled, &pulling] {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        }
        let records: Vec<Record> = read_all(&pulled)?;
        let intents: Vec<Intent> = read_all(&pulling)?;
        let known = Known {
            records: records.into_iter().map(|record| (record.image_ref.clone(), record)).collect(),
            written: BTreeMap::new(),
            intents: intents.into_iter().map(|intent| (intent.image, 1)).collect(),
        };
        Ok(Self { pulled, pulling, known: Mutex::new(known) })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a pull of `image` begins: whatever becomes of it, what it leaves came from here.
    ///
    /// # Errors
    /// When it cannot be written down; then nothing must be pulled.
    pub fn begin(&self, image: &str) -> io::Result<()> {
        let mut known = self.known();
        let intent = Intent {
            kind: "ImagePullIntent".to_owned(),
            api_version: VERSION.to_owned(),
            image: image.to_owned(),
        };
        write(&self.pulling, image, &intent)?;
        *known.intents.entry(image.to_owned()).or_default() += 1;
        Ok(())
    }

    /// Notes what a pull that succeeded brought, and ends it. When that cannot be written down the pull stays begun, and who wants the
    /// image next has to ask the registry.
    pub fn succeeded(&self, image: &str, id: &str, with: PulledWith<'_>) {
        let mut known = self.known();
        match self.add(&mut known, image, id, with) {
            Ok(()) => self.end(&mut known, image),
            Err(error) => tracing::warn!(image, %error, "who pulled an image could not be written down"),
        }
    }

    /// Ends a pull that brought nothing.
    pub fn failed(&self, image: &str) {
        let mut known = self.known();
        self.end(&mut known, image);
    }

    fn end(&self, known: &mut Known, image: &str) {
        let Some(count) = known.intents.get_mut(image) else { return };
        *count -= 1;
        if *count > 0 {
            return;
        }
        match remove(&self.pulling, image) {
            Ok(()) => drop(known.intents.remove(image)),
            Err(error) => {
                *count = 1;
                tracing::warn!(image, %error, "the note of a pull could not be removed");
            }
        }
    }

    fn add(&self, known: &mut Known, image: &str, id: &str, with: PulledWith<'_>) -> io::Result<()> {
        let old = known.records.get(id);
        let mut record = old.cloned().unwrap_or_else(|| Record {
            kind: "ImagePulledRecord".to_owned(),
            api_version: VERSION.to_owned(),
            last_updated_time: String::new(),
            image_ref: id.to_owned(),
            credential_mapping: BTreeMap::new(),
        });
        record.credential_mapping.entry(repository(image)).or_default().add(with);
        if old == Some(&record) {
            return Ok(());
        }
        record.last_updated_time = time::rfc3339_seconds(time::now());
        write(&self.pulled, id, &record)?;
        known.records.insert(id.to_owned(), record);
        known.written.insert(id.to_owned(), time::monotonic());
        Ok(())
    }

    /// Whether a pod with `secrets` must pull `image`, which is on the node as `id`, to have it. `None` when that depends on the pod's
    /// secrets and they are not told yet.
    pub fn must_pull(&self, image: &str, id: &str, secrets: Option<&[PullSecret]>) -> Option<bool> {
        let mut known = self.known();
        let Some(record) = known.records.get(id) else {
            // A record that could not be read is one, too.
            return Some(known.intents.contains_key(image) || file(&self.pulled, id).exists());
        };
        let Some(access) = record.credential_mapping.get(&repository(image)) else { return Some(true) };
        if access.node_pods_accessible {
            return Some(false);
        }
        if access.kubernetes_secrets.is_empty() {
            return Some(true);
        }
        let alike = |secret: &&PullSecret| {
            access
                .kubernetes_secrets
                .iter()
                .any(|known| known.credential_hash == secret.credential_hash || known.is_same_object(secret))
        };
        let Some(secret) = secrets?.iter().find(alike) else { return Some(true) };
        // The same credentials elsewhere, or others in the same place: they are as good from now on.
        if !access.kubernetes_secrets.contains(secret)
            && access.kubernetes_secrets.len() < ALIKE_MAX
            && let Err(error) = self.add(&mut known, image, id, PulledWith::Secret(secret))
        {
            tracing::warn!(image, %error, "who may have an image could not be written down");
        }
        Some(false)
    }

    /// Forgets images that are on the node no more; `images` are the ids of those that were at `listed_at` or later. What was pulled since
    /// then need not be among them, and keeps its record.
    pub fn prune(&self, images: &BTreeSet<&str>, listed_at: Instant) {
        let mut known = self.known();
        let is_older = |id: &str| known.written.get(id).is_none_or(|written| *written < listed_at);
        let gone: Vec<String> = known
            .records
            .keys()
            .filter(|id| !images.contains(id.as_str()) && is_older(id))
            .cloned()
            .collect();
        for id in gone {
            match remove(&self.pulled, &id) {
                Ok(()) => {
                    known.records.remove(&id);
                    known.written.remove(&id);
                }
                Err(error) => {
                    tracing::warn!(image = id, %error, "the record of an image could not be removed")
                }
            }
        }
    }
}

/// The name without tag and digest, with its registry.
fn repository(image: &str) -> String {
    let (host, path) = image_name::split(image);
    format!("{host}/{path}")
}

fn file(directory: &Path, key: &str) -> PathBuf {
    directory.join(format!("sha256-{}", hex(&Sha256::digest(key))))
}

/// A hash that tells credentials apart without telling them.
pub fn credential_hash(parts: &[&str]) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part.len().to_le_bytes());
        hasher.update(part);
    }
    hex(&hasher.finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn write(directory: &Path, key: &str, value: &impl Serialize) -> io::Result<()> {
    let path = file(directory, key);
    let draft = path.with_extension("tmp");
    let mut out = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    out.write_all(&serde_json::to_vec(value)?)?;
    out.sync_all()?;
    fs::rename(draft, path)
}

fn remove(directory: &Path, key: &str) -> io::Result<()> {
    match fs::remove_file(file(directory, key)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn read_all<T: for<'a> Deserialize<'a>>(directory: &Path) -> io::Result<Vec<T>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some() {
            // A draft that a kubelet did not come to finish.
            fs::remove_file(&path)?;
            continue;
        }
        match fs::read(&path).map(|bytes| serde_json::from_slice(&bytes)) {
            Ok(Ok(value)) => all.push(value),
            Ok(Err(error)) => {
                tracing::warn!(path = %path.display(), %error, "a record of a pull is no such thing")
            }
            Err(error) => tracing::warn!(path = %path.display(), %error, "a record of a pull cannot be read"),
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(name: &str, uid: &str, hash: &str) -> PullSecret {
        PullSecret {
            uid: uid.to_owned(),
            namespace: "n".to_owned(),
            name: name.to_owned(),
            credential_hash: hash.to_owned(),
        }
    }

    fn pull(records: &PullRecords, image: &str, id: &str, with: PulledWith<'_>) {
        records.begin(image).unwrap();
        records.succeeded(image, id, with);
    }

    #[test]
    fn an_image_is_there_for_those_who_may_have_it() {
        let directory = tempfile::tempdir().unwrap();
        let records = PullRecords::open(directory.path()).unwrap();
        let (own, moved, changed, foreign) =
            (secret("a", "1", "x"), secret("b", "2", "x"), secret("a", "1", "y"), secret("c", "3", "z"));
        pull(&records, "r.io/private:1", "sha256:p", PulledWith::Secret(&own));
        pull(&records, "app:1", "sha256:o", PulledWith::Nothing);
        let check =
            |records: &PullRecords, image: &str, id: &str, secrets: &[&PullSecret], expected: bool| {
                let secrets: Vec<PullSecret> = secrets.iter().copied().cloned().collect();
                assert_eq!(
                    records.must_pull(image, id, Some(&secrets)),
                    Some(expected),
                    "{image} {id} {secrets:?}"
                );
            };
        check(&records, "r.io/preloaded:1", "sha256:pre", &[], false);
        check(&records, "docker.io/library/app:2", "sha256:o", &[], false);
        // The same image under a name that nobody pulled it by.
        check(&records, "r.io/app:1", "sha256:o", &[], true);
        assert_eq!(records.must_pull("r.io/private:1", "sha256:p", None), None);
        check(&records, "r.io/private:1", "sha256:p", &[], true);
        check(&records, "r.io/private:1", "sha256:p", &[&foreign], true);
        check(&records, "r.io/private:2", "sha256:p", &[&foreign, &own], false);
        check(&records, "r.io/private:1", "sha256:p", &[&moved], false);
        check(&records, "r.io/private:1", "sha256:p", &[&changed], false);
        // What was alike is known by itself now, also by the next kubelet.
        let records = PullRecords::open(directory.path()).unwrap();
        check(&records, "r.io/private:1", "sha256:p", &[&secret("d", "4", "y")], false);
        check(&records, "r.io/private:1", "sha256:p", &[&foreign], true);
        pull(&records, "r.io/private:1", "sha256:p", PulledWith::Nothing);
        check(&records, "r.io/private:1", "sha256:p", &[&foreign], false);
        let before = time::monotonic();
        let late = secret("e", "5", "l");
        pull(&records, "r.io/late:1", "sha256:l", PulledWith::Secret(&late));
        // Whoever listed images before that pull does not know its image.
        records.prune(&BTreeSet::from(["sha256:o"]), before);
        check(&records, "r.io/late:1", "sha256:l", &[], true);
        records.prune(&BTreeSet::from(["sha256:o"]), time::monotonic());
        check(&records, "r.io/late:1", "sha256:l", &[], false);
        let left: Vec<Record> = read_all(&directory.path().join("image_manager/pulled")).unwrap();
        assert_eq!(left.len(), 1);
        let updated = &left[0].last_updated_time;
        assert!(updated.len() == "2026-01-01T00:00:00Z".len() && updated.ends_with('Z'), "{updated}");
    }

    #[test]
    fn a_pull_whose_end_nobody_noted_makes_its_image_suspect() {
        let directory = tempfile::tempdir().unwrap();
        let records = PullRecords::open(directory.path()).unwrap();
        records.begin("r.io/private:1").unwrap();
        drop(records);
        let records = PullRecords::open(directory.path()).unwrap();
        assert_eq!(records.must_pull("r.io/private:1", "sha256:p", Some(&[])), Some(true));
        records.begin("r.io/private:1").unwrap();
        records.failed("r.io/private:1");
        assert_eq!(records.must_pull("r.io/private:1", "sha256:p", Some(&[])), Some(true));
        let record = file(&directory.path().join("image_manager/pulled"), "sha256:q");
        fs::write(record, "{").unwrap();
        let records = PullRecords::open(directory.path()).unwrap();
        assert_eq!(records.must_pull("r.io/other:1", "sha256:q", Some(&[])), Some(true));
        let other = secret("a", "1", "x");
        pull(&records, "r.io/private:1", "sha256:p", PulledWith::Secret(&other));
        assert_eq!(records.must_pull("r.io/private:1", "sha256:p", Some(&[other])), Some(false));
        assert_eq!(records.must_pull("r.io/private:1", "sha256:p", Some(&[])), Some(true));
    }
}
