//! A disk in memory below SQLite that fails as it is told: the Nth write or sync refuses, a write is torn, the power goes, the disk is
//! full. What was not synced when the power went is kept, lost or torn by the seed, sector by sector. For tests only.

#![allow(clippy::missing_safety_doc)] // SQLite calls these, with what its documentation promises.

use rusqlite::ffi;
use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const SECTOR: usize = 512;
const SHM_LOCKS: usize = ffi::SQLITE_SHM_NLOCK as usize;

/// What goes wrong. Operations are counted from the moment that the plan is made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Plan {
    /// This write fails, once.
    pub fail_write: Option<u64>,
    /// This sync fails, once, and what it should have synced is never synced.
    pub fail_sync: Option<u64>,
    /// At this write or sync the power goes; a write is torn.
    pub power_cut: Option<u64>,
    /// No file may grow once all together hold so many bytes.
    pub capacity: Option<usize>,
}

/// A disk. Clones are the same one.
#[derive(Clone)]
pub struct Disk(Arc<Shared>);

struct Shared {
    vfs: CString,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    files: HashMap<String, Stored>,
    plan: Plan,
    writes: u64,
    syncs: u64,
    operations: u64,
    off: bool,
    chance: u64,
    next_handle: u64,
}

#[derive(Default)]
struct Stored {
    /// What the running system sees.
    seen: Vec<u8>,
    /// What is on the platter.
    synced: Vec<u8>,
    /// What was done since the last sync.
    pending: Vec<Change>,
    locks: HashMap<u64, c_int>,
    regions: Vec<Box<[u64]>>,
    shm_shared: [HashMap<u64, ()>; SHM_LOCKS],
    shm_exclusive: [Option<u64>; SHM_LOCKS],
}

enum Change {
    Write(usize, Vec<u8>),
    Truncate(usize),
}

fn apply(image: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    if image.len() < at + bytes.len() {
        image.resize(at + bytes.len(), 0);
    }
    image[at..at + bytes.len()].copy_from_slice(bytes);
}

impl State {
    /// A splitmix64 step: the same seed, the same faults.
    fn chance(&mut self, below: u64) -> u64 {
        self.chance = self.chance.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.chance;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % below
    }

    /// Counts an operation; true when the power goes with it.
    fn cuts(&mut self) -> bool {
        self.operations += 1;
        self.off |= self.plan.power_cut == Some(self.operations);
        self.off
    }

    fn bytes(&self) -> usize {
        self.files.values().map(|file| file.seen.len()).sum()
    }

    fn write(&mut self, path: &str, at: usize, bytes: &[u8]) -> c_int {
        if self.off {
            return ffi::SQLITE_IOERR_WRITE;
        }
        self.writes += 1;
        if self.plan.fail_write == Some(self.writes) {
            return ffi::SQLITE_IOERR_WRITE;
        }
        let (held, capacity) = (self.bytes(), self.plan.capacity);
        let torn = self.cuts().then(|| self.chance(bytes.len() as u64 + 1) as usize);
        let Some(file) = self.files.get_mut(path) else { return ffi::SQLITE_IOERR_WRITE };
        let grows = (at + bytes.len()).saturating_sub(file.seen.len());
        if capacity.is_some_and(|capacity| held + grows > capacity) && grows > 0 {
            return ffi::SQLITE_FULL;
        }
        let kept = &bytes[..torn.unwrap_or(bytes.len())];
        apply(&mut file.seen, at, kept);
        file.pending.push(Change::Write(at, kept.to_vec()));
        if torn.is_some() { ffi::SQLITE_IOERR_WRITE } else { ffi::SQLITE_OK }
    }

    fn sync(&mut self, path: &str) -> c_int {
        if self.off || self.cuts() {
            return ffi::SQLITE_IOERR_FSYNC;
        }
        self.syncs += 1;
        let fails = self.plan.fail_sync == Some(self.syncs);
        let Some(file) = self.files.get_mut(path) else { return ffi::SQLITE_IOERR_FSYNC };
        if fails {
            // As Linux does it: the pages count as clean from now on, and never reach the disk.
            file.pending.clear();
            return ffi::SQLITE_IOERR_FSYNC;
        }
        file.pending.clear();
        file.synced.clone_from(&file.seen);
        ffi::SQLITE_OK
    }

    fn lose_power(&mut self) {
        let mut paths: Vec<String> = self.files.keys().cloned().collect();
        paths.sort_unstable();
        for path in paths {
            let Some(mut file) = self.files.remove(&path) else { continue };
            let mut image = std::mem::take(&mut file.synced);
            for change in std::mem::take(&mut file.pending) {
                self.keep_some(&mut image, change);
            }
            self.files.insert(path, Stored { seen: image.clone(), synced: image, ..Stored::default() });
        }
    }

    /// Each sector of what was not synced may or may not have reached the platter.
    fn keep_some(&mut self, image: &mut Vec<u8>, change: Change) {
        match change {
            Change::Truncate(size) if self.chance(2) == 0 => image.truncate(size),
            Change::Truncate(_) => {}
            Change::Write(at, bytes) => {
                let (all, none) = (self.chance(3) == 0, self.chance(3) == 0);
                for (index, sector) in bytes.chunks(SECTOR).enumerate() {
                    if all || (!none && self.chance(2) == 0) {
                        apply(image, at + index * SECTOR, sector);
                    }
                }
            }
        }
    }
}

impl Disk {
    /// An empty disk, whose faults are drawn from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = format!("nauplius-faults-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let vfs = CString::new(name).unwrap_or_default();
        let disk =
            Self(Arc::new(Shared { vfs, state: Mutex::new(State { chance: seed, ..State::default() }) }));
        register(&disk);
        disk
    }

    /// For [`crate::embedded::Options::vfs`].
    #[must_use]
    pub fn vfs(&self) -> String {
        self.0.vfs.to_string_lossy().into_owned()
    }

    /// From now on.
    pub fn plan(&self, plan: Plan) {
        let mut state = self.lock();
        state.plan = plan;
        (state.writes, state.syncs, state.operations) = (0, 0, 0);
    }

    /// Whether the power has gone.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.lock().off
    }

    /// How many bytes its files hold.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.lock().bytes()
    }

    /// The power goes now, if it has not, and comes again. Nobody may have a file open.
    pub fn power_cycle(&self) {
        let mut state = self.lock();
        state.lose_power();
        (state.off, state.plan) = (false, Plan::default());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An open file, as SQLite allocates it.
#[repr(C)]
struct File {
    base: ffi::sqlite3_file,
    handle: *mut Handle,
}

struct Handle {
    disk: Disk,
    path: String,
    id: u64,
    delete_on_close: bool,
}

unsafe fn handle<'a>(file: *mut ffi::sqlite3_file) -> &'a Handle {
    // SAFETY: SQLite hands back what `open` filled in, until `close`.
    unsafe { &*(*file.cast::<File>()).handle }
}

fn register(disk: &Disk) {
    // SAFETY: the structure is leaked, as SQLite keeps it; every pointer in it stays valid.
    unsafe {
        let system = ffi::sqlite3_vfs_find(ptr::null());
        let mut vfs: ffi::sqlite3_vfs = *system;
        vfs.iVersion = 1;
        vfs.szOsFile = size_of::<File>() as c_int;
        vfs.mxPathname = 1024;
        vfs.pNext = ptr::null_mut();
        vfs.zName = disk.0.vfs.as_ptr();
        vfs.pAppData = Box::into_raw(Box::new(disk.clone())).cast();
        vfs.xOpen = Some(open);
        vfs.xDelete = Some(delete);
        vfs.xAccess = Some(access);
        vfs.xFullPathname = Some(full_pathname);
        ffi::sqlite3_vfs_register(Box::into_raw(Box::new(vfs)), 0);
    }
}

unsafe fn disk_of<'a>(vfs: *mut ffi::sqlite3_vfs) -> &'a Disk {
    // SAFETY: `register` put it there and never frees it.
    unsafe { &*(*vfs).pAppData.cast::<Disk>() }
}

unsafe fn text(path: *const c_char) -> String {
    if path.is_null() {
        return String::new();
    }
    // SAFETY: SQLite's names end with a zero.
    unsafe { CStr::from_ptr(path) }.to_string_lossy().into_owned()
}

static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 2,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(characteristics),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: None,
    xUnfetch: None,
};

unsafe extern "C" fn open(
    vfs: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    // SAFETY: as SQLite promises.
    let (disk, given) = unsafe { (disk_of(vfs), text(name)) };
    let mut state = disk.lock();
    state.next_handle += 1;
    let id = state.next_handle;
    let path = if given.is_empty() { format!("temporary-{id}") } else { given };
    let there = state.files.contains_key(&path);
    let file = file.cast::<File>();
    // SAFETY: it is as large as we said; without methods SQLite will not close it.
    unsafe { (*file).base.pMethods = ptr::null() };
    if state.off || (!there && flags & ffi::SQLITE_OPEN_CREATE == 0) {
        return ffi::SQLITE_CANTOPEN;
    }
    state.files.entry(path.clone()).or_default();
    let delete_on_close = flags & ffi::SQLITE_OPEN_DELETEONCLOSE != 0;
    let handle = Box::new(Handle { disk: disk.clone(), path, id, delete_on_close });
    // SAFETY: as above; `close` takes the box back.
    unsafe {
        (*file).handle = Box::into_raw(handle);
        (*file).base.pMethods = &raw const METHODS;
        if !out_flags.is_null() {
            *out_flags = flags;
        }
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn delete(vfs: *mut ffi::sqlite3_vfs, name: *const c_char, _: c_int) -> c_int {
    // SAFETY: as SQLite promises.
    let (disk, path) = unsafe { (disk_of(vfs), text(name)) };
    let mut state = disk.lock();
    if state.off {
        return ffi::SQLITE_IOERR_DELETE;
    }
    match state.files.remove(&path) {
        Some(_) => ffi::SQLITE_OK,
        None => ffi::SQLITE_IOERR_DELETE_NOENT,
    }
}

unsafe extern "C" fn access(
    vfs: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    _: c_int,
    out: *mut c_int,
) -> c_int {
    // SAFETY: as SQLite promises.
    unsafe { *out = c_int::from(disk_of(vfs).lock().files.contains_key(&text(name))) };
    ffi::SQLITE_OK
}

unsafe extern "C" fn full_pathname(
    _: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    size: c_int,
    out: *mut c_char,
) -> c_int {
    // SAFETY: as SQLite promises; the length is checked.
    unsafe {
        let bytes = CStr::from_ptr(name).to_bytes_with_nul();
        if bytes.len() > size as usize {
            return ffi::SQLITE_CANTOPEN;
        }
        ptr::copy_nonoverlapping(bytes.as_ptr().cast(), out, bytes.len());
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    // SAFETY: `open` made it, and SQLite closes it once.
    let own = unsafe { Box::from_raw((*file.cast::<File>()).handle) };
    let mut state = own.disk.lock();
    if own.delete_on_close {
        state.files.remove(&own.path);
    }
    if let Some(stored) = state.files.get_mut(&own.path) {
        stored.locks.remove(&own.id);
        release_shm(stored, own.id);
    }
    drop(state);
    ffi::SQLITE_OK
}

unsafe extern "C" fn read(file: *mut ffi::sqlite3_file, to: *mut c_void, size: c_int, at: i64) -> c_int {
    // SAFETY: SQLite gives room for `size` bytes.
    let (own, out) =
        unsafe { (handle(file), std::slice::from_raw_parts_mut(to.cast::<u8>(), size as usize)) };
    let state = own.disk.lock();
    if state.off {
        return ffi::SQLITE_IOERR_READ;
    }
    let seen = state.files.get(&own.path).map_or(&[][..], |stored| &stored.seen);
    let there = seen.get(at as usize..).unwrap_or_default();
    let count = there.len().min(out.len());
    out[..count].copy_from_slice(&there[..count]);
    out[count..].fill(0);
    if count == out.len() { ffi::SQLITE_OK } else { ffi::SQLITE_IOERR_SHORT_READ }
}

unsafe extern "C" fn write(file: *mut ffi::sqlite3_file, from: *const c_void, size: c_int, at: i64) -> c_int {
    // SAFETY: SQLite gives `size` bytes.
    let (own, bytes) =
        unsafe { (handle(file), std::slice::from_raw_parts(from.cast::<u8>(), size as usize)) };
    own.disk.lock().write(&own.path, at as usize, bytes)
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, size: i64) -> c_int {
    // SAFETY: as SQLite promises.
    let own = unsafe { handle(file) };
    let mut state = own.disk.lock();
    if state.off {
        return ffi::SQLITE_IOERR_TRUNCATE;
    }
    let Some(stored) = state.files.get_mut(&own.path) else { return ffi::SQLITE_IOERR_TRUNCATE };
    stored.seen.truncate(size as usize);
    stored.pending.push(Change::Truncate(size as usize));
    ffi::SQLITE_OK
}

unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, _: c_int) -> c_int {
    // SAFETY: as SQLite promises.
    let own = unsafe { handle(file) };
    own.disk.lock().sync(&own.path)
}

unsafe extern "C" fn file_size(file: *mut ffi::sqlite3_file, out: *mut i64) -> c_int {
    // SAFETY: as SQLite promises.
    unsafe {
        let own = handle(file);
        let state = own.disk.lock();
        *out = state.files.get(&own.path).map_or(0, |stored| stored.seen.len() as i64);
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn lock(file: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    // SAFETY: as SQLite promises.
    let own = unsafe { handle(file) };
    let mut state = own.disk.lock();
    let Some(stored) = state.files.get_mut(&own.path) else { return ffi::SQLITE_IOERR_LOCK };
    let others = stored.locks.iter().filter(|(id, _)| **id != own.id).map(|(_, level)| *level);
    let highest = others.max().unwrap_or(ffi::SQLITE_LOCK_NONE);
    let busy = match level {
        ffi::SQLITE_LOCK_SHARED => highest >= ffi::SQLITE_LOCK_PENDING,
        ffi::SQLITE_LOCK_RESERVED => highest >= ffi::SQLITE_LOCK_RESERVED,
        _ => highest >= ffi::SQLITE_LOCK_SHARED,
    };
    if busy {
        return ffi::SQLITE_BUSY;
    }
    stored.locks.insert(own.id, level);
    ffi::SQLITE_OK
}

unsafe extern "C" fn unlock(file: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    // SAFETY: as SQLite promises.
    let own = unsafe { handle(file) };
    if let Some(stored) = own.disk.lock().files.get_mut(&own.path) {
        stored.locks.insert(own.id, level);
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn check_reserved(file: *mut ffi::sqlite3_file, out: *mut c_int) -> c_int {
    // SAFETY: as SQLite promises.
    unsafe {
        let own = handle(file);
        let state = own.disk.lock();
        let reserved =
            |stored: &Stored| stored.locks.values().any(|level| *level >= ffi::SQLITE_LOCK_RESERVED);
        *out = c_int::from(state.files.get(&own.path).is_some_and(reserved));
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn file_control(_: *mut ffi::sqlite3_file, _: c_int, _: *mut c_void) -> c_int {
    ffi::SQLITE_NOTFOUND
}

unsafe extern "C" fn sector_size(_: *mut ffi::sqlite3_file) -> c_int {
    SECTOR as c_int
}

unsafe extern "C" fn characteristics(_: *mut ffi::sqlite3_file) -> c_int {
    0
}

unsafe extern "C" fn shm_map(
    file: *mut ffi::sqlite3_file,
    region: c_int,
    size: c_int,
    extend: c_int,
    out: *mut *mut c_void,
) -> c_int {
    // SAFETY: as SQLite promises.
    let own = unsafe { handle(file) };
    let mut state = own.disk.lock();
    let Some(stored) = state.files.get_mut(&own.path) else { return ffi::SQLITE_IOERR_SHMMAP };
    let index = region as usize;
    while extend != 0 && stored.regions.len() <= index {
        // A box stays where it is when the list grows.
        stored.regions.push(vec![0_u64; (size as usize).div_ceil(8)].into_boxed_slice());
    }
    let found = stored.regions.get_mut(index).map_or(ptr::null_mut(), |region| region.as_mut_ptr().cast());
    // SAFETY: as above.
    unsafe { *out = found };
    ffi::SQLITE_OK
}

unsafe extern "C" fn shm_lock(
    file: *mut ffi::sqlite3_file,
    first: c_int,
    count: c_int,
    flags: c_int,
) -> c_int {
    // SAFETY: as SQLite promises.
    let own = unsafe { handle(file) };
    let mut state = own.disk.lock();
    let Some(stored) = state.files.get_mut(&own.path) else { return ffi::SQLITE_IOERR_SHMLOCK };
    let slots = first as usize..(first + count) as usize;
    if flags & ffi::SQLITE_SHM_UNLOCK != 0 {
        slots.for_each(|slot| unlock_slot(stored, slot, own.id));
        return ffi::SQLITE_OK;
    }
    let exclusive = flags & ffi::SQLITE_SHM_EXCLUSIVE != 0;
    let taken = |slot: usize| {
        let by_other = stored.shm_exclusive[slot].is_some_and(|holder| holder != own.id);
        by_other || (exclusive && stored.shm_shared[slot].keys().any(|holder| *holder != own.id))
    };
    if slots.clone().any(taken) {
        return ffi::SQLITE_BUSY;
    }
    for slot in slots {
        if exclusive {
            stored.shm_exclusive[slot] = Some(own.id);
        } else {
            stored.shm_shared[slot].insert(own.id, ());
        }
    }
    ffi::SQLITE_OK
}

fn unlock_slot(stored: &mut Stored, slot: usize, id: u64) {
    stored.shm_shared[slot].remove(&id);
    if stored.shm_exclusive[slot] == Some(id) {
        stored.shm_exclusive[slot] = None;
    }
}

fn release_shm(stored: &mut Stored, id: u64) {
    (0..SHM_LOCKS).for_each(|slot| unlock_slot(stored, slot, id));
}

unsafe extern "C" fn shm_barrier(_: *mut ffi::sqlite3_file) {
    fence(Ordering::SeqCst);
}

unsafe extern "C" fn shm_unmap(file: *mut ffi::sqlite3_file, _: c_int) -> c_int {
    // SAFETY: as SQLite promises. The memory itself stays until the power goes.
    let own = unsafe { handle(file) };
    if let Some(stored) = own.disk.lock().files.get_mut(&own.path) {
        release_shm(stored, own.id);
    }
    ffi::SQLITE_OK
}
