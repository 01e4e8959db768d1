//! Certificates and keys on disk: written whole or not at all, keys for the owner only, and made again when they no longer
//! fit. It decides by what the files say, and never deletes an authority.

use crate::authority::CLOCK_SKEW_SECONDS;
use crate::{Authority, Issued, LeafRequest, PeerCertificate, PkiError, PrivateKey, TlsParts};
use nauplius_base::time::unix_seconds;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// No certificate or key file is longer than this.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Why a file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file's content is not what it should be.
    #[error("{}: {source}", path.display())]
    Content {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: PkiError,
    },
}

/// Why a certificate on disk has to be made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RenewalReason {
    /// There is none yet.
    Missing,
    /// It or its key cannot be read, or they do not belong together.
    Unreadable,
    /// Less than a third of its life is left.
    Expiring,
    /// User, groups, names or addresses differ from those wanted.
    Different,
    /// Another authority signed it.
    OtherAuthority,
}

/// Where a certificate and its key live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate, readable by all.
    pub certificate: PathBuf,
    /// Its key, readable by its owner.
    pub key: PathBuf,
}

impl CertificateFiles {
    /// `NAME.crt` and `NAME.key` in a directory.
    pub fn in_directory(directory: &Path, name: &str) -> Self {
        Self {
            certificate: directory.join(format!("{name}.crt")),
            key: directory.join(format!("{name}.key")),
        }
    }

    /// Reads the authority that lives here, or creates it when its certificate does not exist.
    ///
    /// # Errors
    /// [`FileError`] for an authority that is there and cannot be used: it is never replaced, since others trust it.
    pub fn load_or_create_authority(&self, common_name: &str) -> Result<Authority, FileError> {
        match read(&self.certificate)? {
            Some(certificate) => {
                let key = read(&self.key)?.ok_or_else(|| missing(&self.key))?;
                Authority::from_pem(&certificate, &key).map_err(|source| self.content(source))
            }
            None => {
                let authority = Authority::create(common_name).map_err(|source| self.content(source))?;
                self.write(&Issued {
                    certificate_pem: authority.certificate_pem(),
                    key_pem: authority.key_pem(),
                })?;
                Ok(authority)
            }
        }
    }

    /// Reads the certificate that lives here, or issues it anew when it is missing or no longer fits; says which.
    ///
    /// # Errors
    /// [`FileError`] when a file cannot be read or written.
    pub fn load_or_issue(
        &self,
        authority: &Authority,
        wanted: &LeafRequest,
    ) -> Result<(Issued, Option<RenewalReason>), FileError> {
        let found = self.load()?;
        let reason = match &found {
            None => Some(RenewalReason::Missing),
            Some(issued) => renewal_reason(issued, authority, wanted, unix_seconds()),
        };
        match (found, reason) {
            (Some(issued), None) => Ok((issued, None)),
            (_, reason) => {
                let issued = authority.issue(wanted).map_err(|source| self.content(source))?;
                self.write(&issued)?;
                Ok((issued, reason))
            }
        }
    }

    /// Both files as they are; `None` when either is missing.
    ///
    /// # Errors
    /// [`FileError::Io`] when one is there and cannot be read.
    pub fn load(&self) -> Result<Option<Issued>, FileError> {
        let (certificate, key) = (read(&self.certificate)?, read(&self.key)?);
        Ok(certificate.zip(key).map(|(certificate_pem, key_pem)| Issued { certificate_pem, key_pem }))
    }

    /// Writes both, the key first: a certificate on disk always had its key there before it.
    ///
    /// # Errors
    /// [`FileError::Io`].
    pub fn write(&self, issued: &Issued) -> Result<(), FileError> {
        write_private(&self.key, issued.key_pem.as_bytes())?;
        write_public(&self.certificate, issued.certificate_pem.as_bytes())
    }

    fn content(&self, source: PkiError) -> FileError {
        FileError::Content { path: self.certificate.clone(), source }
    }
}

/// Why `issued` has to be made again at `now` (seconds since the epoch); `None` while it is good.
pub fn renewal_reason(
    issued: &Issued,
    authority: &Authority,
    wanted: &LeafRequest,
    now: i64,
) -> Option<RenewalReason> {
    let Ok((details, der)) = readable(issued) else { return Some(RenewalReason::Unreadable) };
    if !authority.signed(&der) {
        return Some(RenewalReason::OtherAuthority);
    }
    let same = details.common_name == wanted.common_name
        && details.organizations == wanted.organizations
        && details.dns_names == wanted.dns_names
        && details.ip_addresses == wanted.ip_addresses;
    if !same {
        return Some(RenewalReason::Different);
    }
    renewal_due(&details, authority).filter(|due| *due < now).map(|_| RenewalReason::Expiring)
}

/// When the certificate is to be made again, in seconds since the epoch: with a third of its life left. `None` for one that ends
/// with its authority: it cannot be made to live longer.
fn renewal_due(details: &PeerCertificate, authority: &Authority) -> Option<i64> {
    let life = details.not_after - details.not_before - CLOCK_SKEW_SECONDS;
    (details.not_after < authority.not_after()).then(|| details.not_after - life.max(0) / 3)
}

/// When `issued` is to be made again by [`CertificateFiles::load_or_issue`], in seconds since the epoch; `None` for never.
///
/// # Errors
/// [`PkiError::MalformedCertificate`] when it cannot be read.
pub fn renewal_time(issued: &Issued, authority: &Authority) -> Result<Option<i64>, PkiError> {
    Ok(renewal_due(&issued.details()?, authority))
}

fn readable(issued: &Issued) -> Result<(PeerCertificate, Vec<u8>), PkiError> {
    let der = TlsParts::certificates(&issued.certificate_pem)?.remove(0).to_vec();
    let details = PeerCertificate::from_der(&der)?;
    let key = PrivateKey::from_pem(&issued.key_pem)?;
    if key.public().spki() == details.public_key_info {
        Ok((details, der))
    } else {
        Err(PkiError::KeyMismatch)
    }
}

fn missing(path: &Path) -> FileError {
    FileError::Io { path: path.to_owned(), source: io::ErrorKind::NotFound.into() }
}

fn read(path: &Path) -> Result<Option<String>, FileError> {
    let failed = |source| FileError::Io { path: path.to_owned(), source };
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.len() > MAX_FILE_BYTES => Err(failed(io::ErrorKind::FileTooLarge.into())),
        Ok(_) => std::fs::read_to_string(path).map(Some).map_err(failed),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

/// Replaces the file atomically and durably, with mode 0600.
///
/// # Errors
/// [`FileError::Io`].
pub fn write_private(path: &Path, content: &[u8]) -> Result<(), FileError> {
    write_atomically(path, content, 0o600)
}

/// Replaces the file atomically and durably, with mode 0644.
///
/// # Errors
/// [`FileError::Io`].
pub fn write_public(path: &Path, content: &[u8]) -> Result<(), FileError> {
    write_atomically(path, content, 0o644)
}

fn write_atomically(path: &Path, content: &[u8], mode: u32) -> Result<(), FileError> {
    let failed = |source| FileError::Io { path: path.to_owned(), source };
    let directory = path.parent().ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?;
    let name = path.file_name().ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?;
    let mut draft_name = std::ffi::OsString::from(".");
    draft_name.push(name);
    draft_name.push(format!(".{}", nauplius_base::id::suffix(8)));
    let draft = directory.join(draft_name);
    let written = write_draft(&draft, content, mode).and_then(|()| std::fs::rename(&draft, path));
    if let Err(source) = written {
        let _ = std::fs::remove_file(&draft); // Best effort: the first error is the one to tell.
        return Err(failed(source));
    }
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed)
}

fn write_draft(draft: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(draft)?;
    file.write_all(content)?;
    file.sync_all()
}
