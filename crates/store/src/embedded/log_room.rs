//! Room ahead in the write-ahead log's file. A commit that overwrites blocks which the file has already is synced sooner than one that makes
//! the file longer, for then the file's size and structure must be synced, too. So the file is filled with zeros a stretch ahead of the
//! log, through the same file handle that SQLite writes by; zeros are no frames, and what follows the last frame is never read.
//!
//! A log that was not begun yet gets no room. It was emptied when the store was closed, and nobody has synced that: after a power cut its
//! old frames may be there again, and zeros over some of them would leave the others, which are older than the database, to be read
//! as the newest. SQLite writes and syncs a new head before its first frame for the same reason.

use super::Options;
use rusqlite::{Connection, ffi};
use std::ffi::c_int;

/// Bytes of a page's frame in the log, and of the log's head.
const FRAME_BYTES: u64 = 4096 + 24;
const HEAD_BYTES: u64 = 32;
/// Zeros written at once.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
/// Commits that go by before room is tried to be made again, when there was no space.
const REST: u32 = 256;

/// Keeps the log's file longer than the log. The writer's own: nobody else appends to that file.
pub(super) struct LogRoom {
    bytes: u64,
    rest: u32,
}

impl LogRoom {
    pub(super) fn new(options: &Options) -> Self {
        Self { bytes: options.log_room_bytes as u64, rest: 0 }
    }

    /// To be called before a commit, outside of a transaction; `pages` are in the log after this process's last commit, none before its
    /// first. Without room the commit is only slower.
    pub(super) fn make(&mut self, writer: &Connection, pages: u32) {
        if self.bytes == 0 || pages == 0 {
            return;
        }
        if self.rest > 0 {
            self.rest -= 1;
            return;
        }
        let used = HEAD_BYTES + u64::from(pages) * FRAME_BYTES;
        let Some(log) = LogFile::of(writer) else { return };
        let made = log.size().and_then(|size| match size {
            enough if enough > used + self.bytes / 4 => Ok(()),
            size => log.fill(size, self.bytes),
        });
        if let Err(code) = made {
            tracing::debug!(code, "the store's log has no room ahead");
            self.rest = REST;
        }
    }
}

/// The log's file as SQLite has it open.
struct LogFile<'c> {
    file: *mut ffi::sqlite3_file,
    methods: &'c ffi::sqlite3_io_methods,
}

impl<'c> LogFile<'c> {
    /// `None` before the log is open.
    fn of(writer: &'c Connection) -> Option<Self> {
        let mut file: *mut ffi::sqlite3_file = std::ptr::null_mut();
        // SAFETY: the connection is open and this thread's own; the operation stores one pointer.
        let code = unsafe {
            ffi::sqlite3_file_control(
                writer.handle(),
                c"main".as_ptr(),
                ffi::SQLITE_FCNTL_JOURNAL_POINTER,
                (&raw mut file).cast(),
            )
        };
        if code != ffi::SQLITE_OK || file.is_null() {
            return None;
        }
        // SAFETY: SQLite owns the file for as long as the connection has its log open, which only this thread could end; without
        // methods it is not open.
        let methods = unsafe { (*file).pMethods.as_ref() }?;
        Some(Self { file, methods })
    }

    fn size(&self) -> Result<u64, c_int> {
        let mut size = 0;
        let file_size = self.methods.xFileSize.ok_or(ffi::SQLITE_IOERR)?;
        // SAFETY: the file is open.
        let code = unsafe { file_size(self.file, &raw mut size) };
        if code == ffi::SQLITE_OK { Ok(size.cast_unsigned()) } else { Err(code) }
    }

    /// Appends zeros. When there is no space for all of them there are none, so that the little that is left serves commits.
    fn fill(&self, from: u64, bytes: u64) -> Result<(), c_int> {
        let mut at = from;
        while at < from + bytes {
            let now = (from + bytes - at).min(ZEROS.len() as u64);
            if let Err(code) = self.write(at, &ZEROS[..usize::try_from(now).unwrap_or(ZEROS.len())]) {
                self.cut(from)?;
                return Err(code);
            }
            at += now;
        }
        Ok(())
    }

    fn write(&self, at: u64, bytes: &[u8]) -> Result<(), c_int> {
        let write = self.methods.xWrite.ok_or(ffi::SQLITE_IOERR_WRITE)?;
        // The buffer is short.
        let length = c_int::try_from(bytes.len()).map_err(|_| ffi::SQLITE_IOERR_WRITE)?;
        // SAFETY: the file is open, and the bytes live as long as the call.
        let code = unsafe { write(self.file, bytes.as_ptr().cast(), length, at.cast_signed()) };
        if code == ffi::SQLITE_OK { Ok(()) } else { Err(code) }
    }

    fn cut(&self, to: u64) -> Result<(), c_int> {
        let truncate = self.methods.xTruncate.ok_or(ffi::SQLITE_IOERR_TRUNCATE)?;
        // SAFETY: the file is open.
        let code = unsafe { truncate(self.file, to.cast_signed()) };
        if code == ffi::SQLITE_OK { Ok(()) } else { Err(code) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_longer_than_the_log_and_what_was_written_stays() {
        let scratch = tempfile::tempdir().unwrap();
        let (path, log) = (scratch.path().join("db"), scratch.path().join("db-wal"));
        let connection = Connection::open(&path).unwrap();
        connection.pragma_update(None, "journal_mode", "WAL").unwrap();
        connection.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
        let mut room = LogRoom::new(&Options { log_room_bytes: 1 << 20, ..Options::default() });
        room.make(&connection, 0);
        assert!(!log.exists() || std::fs::metadata(&log).unwrap().len() == 0, "a log without a head");
        connection.execute_batch("CREATE TABLE t(x)").unwrap();
        for number in 0..300 {
            // An insert writes three or four pages.
            room.make(&connection, number * 6 + 6);
            let grown = std::fs::metadata(&log).unwrap().len();
            connection.execute("INSERT INTO t VALUES (randomblob(3000))", []).unwrap();
            assert_eq!(std::fs::metadata(&log).unwrap().len(), grown, "at {number}");
        }
        let copy = scratch.path().join("copy");
        std::fs::copy(&path, &copy).unwrap();
        std::fs::copy(&log, scratch.path().join("copy-wal")).unwrap();
        let copy = Connection::open(&copy).unwrap();
        let rows: i64 = copy.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap();
        assert_eq!(rows, 300);
    }
}
