//! Directories held open: everything of the registry is opened relative to one, and nothing outside of it is reached.
//!
//! No symbolic link is followed, whoever put it there, and only regular files are read. Linux checks that in one call
//! (`openat2`); where that call is missing, each part of a path is opened on its own, and refuses a link.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

/// A failure of the file system, with what was done to what.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}", path.display())]
pub struct DiskError {
    pub action: &'static str,
    pub path: PathBuf,
    pub source: std::io::Error,
}

impl DiskError {
    /// There is no such file or directory.
    pub fn is_missing(&self) -> bool {
        self.source.kind() == ErrorKind::NotFound
    }
}

type Disk<T> = Result<T, DiskError>;

/// Longest path below a directory, in parts.
const MAX_PARTS: usize = 8;

const READ_ONLY_FILE: Mode = Mode::from_raw_mode(0o444);
const READ_ONLY_DIRECTORY: Mode = Mode::from_raw_mode(0o555);
const FILE: Mode = Mode::from_raw_mode(0o644);
const DIRECTORY: Mode = Mode::from_raw_mode(0o755);

/// An open directory.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
    /// Where it was found, for errors only.
    shown: PathBuf,
}

impl Dir {
    /// Opens the root. Its own path is the operator's, and may lead through links.
    ///
    /// # Errors
    /// It is missing, no directory, or may not be read.
    pub fn open_root(path: &Path) -> Disk<Self> {
        let failed = |errno: Errno| DiskError { action: "open", path: path.into(), source: errno.into() };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = fs::open(path, flags, Mode::empty()).map_err(failed)?;
        Ok(Self { fd, shown: path.into() })
    }

    pub fn shown(&self) -> &Path {
        &self.shown
    }

    /// Opens a directory below this one.
    ///
    /// # Errors
    /// It is missing, no directory, or a part of the path is a symbolic link.
    pub fn dir(&self, path: &str) -> Disk<Self> {
        let fd = self.open(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty(), "open")?;
        Ok(Self { fd, shown: self.shown.join(path) })
    }

    /// Opens a directory right in this one, and makes it first if it is missing.
    ///
    /// # Errors
    /// It cannot be made, or something else has its name.
    pub fn make_dir(&self, name: &str) -> Disk<Self> {
        match self.dir(name) {
            Err(error) if error.is_missing() => {}
            found => return found,
        }
        self.step("make", name)?;
        match fs::mkdirat(&self.fd, name, DIRECTORY) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(self.failed("make", name, errno)),
        }
        self.sync()?;
        self.dir(name)
    }

    /// Names in this directory, sorted; those that are no text are left out.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn names(&self) -> Disk<Vec<String>> {
        let entries = fs::Dir::read_from(&self.fd).map_err(|errno| self.failed("list", "", errno))?;
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|errno| self.failed("list", "", errno))?;
            match entry.file_name().to_str() {
                Ok("." | "..") | Err(_) => {}
                Ok(name) => names.push(name.to_string()),
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Whether something has this name, whatever it is.
    ///
    /// # Errors
    /// The directory cannot be searched.
    pub fn has(&self, name: &str) -> Disk<bool> {
        match fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(self.failed("look for", name, errno)),
        }
    }

    /// The bytes of a regular file.
    ///
    /// # Errors
    /// It is missing, a link, no regular file, or longer than `max_bytes`.
    pub fn read(&self, path: &str, max_bytes: u64) -> Disk<Vec<u8>> {
        let mut file = self.open_regular(path, OFlags::RDONLY, "read")?;
        let length = file.metadata().map_err(|source| self.io_failed("read", path, source))?.len();
        let too_long = || {
            let reason = format!("longer than the {max_bytes} bytes that are allowed");
            self.io_failed("read", path, std::io::Error::other(reason))
        };
        if length > max_bytes {
            return Err(too_long());
        }
        let capacity = usize::try_from(length).map_err(|_| too_long())?;
        let mut bytes = Vec::new();
        let reserved = bytes.try_reserve_exact(capacity).map_err(std::io::Error::other);
        reserved.map_err(|source| self.io_failed("read", path, source))?;
        // One byte more than allowed: a file that grows meanwhile is told apart from one that just fits.
        let mut limited = (&mut file).take(max_bytes.saturating_add(1));
        limited.read_to_end(&mut bytes).map_err(|source| self.io_failed("read", path, source))?;
        if bytes.len() as u64 > max_bytes {
            return Err(too_long());
        }
        Ok(bytes)
    }

    /// As `read`, and nothing where there is no such file.
    ///
    /// # Errors
    /// As `read`.
    pub fn read_if_there(&self, path: &str, max_bytes: u64) -> Disk<Option<Vec<u8>>> {
        match self.read(path, max_bytes) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes a new file that nobody may write to afterwards, down to the disk.
    ///
    /// # Errors
    /// The name is taken, or the disk is full or read-only.
    pub fn write_new(&self, name: &str, bytes: &[u8]) -> Disk<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        self.write_to(name, flags, bytes)?;
        let file = self.open(name, OFlags::RDONLY, Mode::empty(), "write")?;
        self.step("protect", name)?;
        fs::fchmod(&file, READ_ONLY_FILE).map_err(|errno| self.failed("protect", name, errno))
    }

    /// Puts a file in place of the one of this name: after a crash it is the old or the new one, whole. One writer at a
    /// time: the caller holds a lock.
    ///
    /// # Errors
    /// The disk is full or read-only: the old file stays.
    pub fn replace(&self, name: &str, bytes: &[u8]) -> Disk<()> {
        let beside = format!("{name}.new");
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC;
        let replaced = self.write_to(&beside, flags, bytes).and_then(|()| {
            self.step("rename", name)?;
            fs::renameat(&self.fd, &beside, &self.fd, name).map_err(|errno| self.failed("replace", name, errno))
        });
        if replaced.is_err() {
            // What could not be put in place only takes up room; if it stays, the next writer truncates it.
            let _ = self.step("tidy", &beside).map(|()| fs::unlinkat(&self.fd, &beside, AtFlags::empty()));
        }
        replaced?;
        self.sync()
    }

    /// Cuts a file to a length and appends to it, down to the disk. The file is made if it is missing.
    ///
    /// # Errors
    /// The disk is full or read-only: an unknown part of `bytes` may stand at the end.
    pub fn append_at(&self, name: &str, length: u64, bytes: &[u8]) -> Disk<()> {
        let is_new = !self.has(name)?;
        let mut file = self.open_regular(name, OFlags::WRONLY | OFlags::CREATE, "append to")?;
        let failed = |source| self.io_failed("append to", name, source);
        self.step("cut", name)?;
        file.set_len(length).map_err(failed)?;
        file.seek(SeekFrom::Start(length)).map_err(failed)?;
        self.write_bytes(&mut file, name, bytes)?;
        file.sync_all().map_err(failed)?;
        if is_new { self.sync() } else { Ok(()) }
    }

    /// Moves a directory of this one into another, whose name for it must be free, and syncs both.
    ///
    /// # Errors
    /// The name is taken, or the disk is full or read-only.
    pub fn move_dir(&self, name: &str, to: &Self, new_name: &str) -> Disk<()> {
        if to.has(new_name)? {
            return Err(to.failed("move to", new_name, Errno::EXIST));
        }
        self.step("move", name)?;
        fs::renameat(&self.fd, name, &to.fd, new_name).map_err(|errno| self.failed("move", name, errno))?;
        to.sync()?;
        self.sync()
    }

    /// Takes everybody's right to write to this directory.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn protect(&self) -> Disk<()> {
        self.step("protect", "")?;
        fs::fchmod(&self.fd, READ_ONLY_DIRECTORY).map_err(|errno| self.failed("protect", "", errno))
    }

    /// Gives the owner's right back, so that the directory can be moved.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn unprotect(&self) -> Disk<()> {
        self.step("unprotect", "")?;
        fs::fchmod(&self.fd, DIRECTORY).map_err(|errno| self.failed("unprotect", "", errno))
    }

    /// Moves a file of this directory into another, in place of the one there, and syncs both.
    ///
    /// # Errors
    /// The disk is full or read-only.
    pub fn move_file_over(&self, name: &str, to: &Self, new_name: &str) -> Disk<()> {
        self.step("move", name)?;
        fs::renameat(&self.fd, name, &to.fd, new_name).map_err(|errno| self.failed("move", name, errno))?;
        to.sync()?;
        self.sync()
    }

    /// Removes a file, or a directory of files, read-only or not.
    ///
    /// # Errors
    /// It is missing, the disk is read-only, or the directory has directories.
    pub fn remove(&self, name: &str) -> Disk<()> {
        let failed = |errno| self.failed("remove", name, errno);
        let stat = fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            self.step("remove", name)?;
            return fs::unlinkat(&self.fd, name, AtFlags::empty()).map_err(failed);
        }
        let dir = self.dir(name)?;
        self.step("unprotect", name)?;
        fs::fchmod(&dir.fd, DIRECTORY).map_err(failed)?;
        for file in dir.names()? {
            self.step("remove", &file)?;
            fs::unlinkat(&dir.fd, &file, AtFlags::empty()).map_err(|errno| dir.failed("remove", &file, errno))?;
        }
        self.step("remove", name)?;
        fs::unlinkat(&self.fd, name, AtFlags::REMOVEDIR).map_err(failed)
    }

    /// As `remove`, and nothing where there is no such name.
    ///
    /// # Errors
    /// As `remove`.
    pub fn remove_if_there(&self, name: &str) -> Disk<()> {
        if self.has(name)? { self.remove(name) } else { Ok(()) }
    }

    /// A file to lock, made if it is missing.
    ///
    /// # Errors
    /// The disk is read-only, or something else has the name.
    pub fn lock_file(&self, name: &str) -> Disk<File> {
        self.open_regular(name, OFlags::RDWR | OFlags::CREATE, "lock")
    }

    /// Brings names in this directory down to the disk.
    ///
    /// # Errors
    /// The disk fails.
    pub fn sync(&self) -> Disk<()> {
        self.step("sync", "")?;
        fs::fsync(&self.fd).map_err(|errno| self.failed("sync", "", errno))
    }

    fn write_to(&self, name: &str, flags: OFlags, bytes: &[u8]) -> Disk<()> {
        self.step("create", name)?;
        let mut file = self.open_regular(name, flags, "write")?;
        self.write_bytes(&mut file, name, bytes)?;
        self.step("sync", name)?;
        file.sync_all().map_err(|source| self.io_failed("write", name, source))
    }

    fn write_bytes(&self, file: &mut File, name: &str, bytes: &[u8]) -> Disk<()> {
        let half = bytes.len() / 2;
        let (first, second) = bytes.split_at(half);
        for part in [first, second] {
            self.step("write", name)?;
            file.write_all(part).map_err(|source| self.io_failed("write", name, source))?;
        }
        Ok(())
    }

    fn open_regular(&self, path: &str, flags: OFlags, action: &'static str) -> Disk<File> {
        // Without NONBLOCK a named pipe would hold the caller up until somebody writes to it.
        let fd = self.open(path, flags | OFlags::NONBLOCK, FILE, action)?;
        let stat = fs::fstat(&fd).map_err(|errno| self.failed(action, path, errno))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(self.io_failed(action, path, std::io::Error::other("no regular file")));
        }
        Ok(File::from(fd))
    }

    fn open(&self, path: &str, flags: OFlags, mode: Mode, action: &'static str) -> Disk<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        // Linux refuses a mode where nothing is created.
        let mode = if flags.contains(OFlags::CREATE) { mode } else { Mode::empty() };
        let opened = match open_in_one_call(&self.fd, path, flags, mode) {
            // An old kernel does not know the call, an old container filter forbids it.
            Err(Errno::NOSYS | Errno::PERM) => open_by_parts(&self.fd, path, flags, mode),
            opened => opened,
        };
        opened.map_err(|errno| match errno {
            // Where a directory is wanted, a link at the end of the path is told as no directory.
            Errno::LOOP | Errno::NOTDIR if errno == Errno::LOOP || self.is_link(path) => {
                let reason = "a symbolic link, and the registry follows none: put the file itself there";
                self.io_failed(action, path, std::io::Error::other(reason))
            }
            _ => self.failed(action, path, errno),
        })
    }

    fn is_link(&self, path: &str) -> bool {
        let stat = fs::statat(&self.fd, path, AtFlags::SYMLINK_NOFOLLOW);
        stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink)
    }

    fn failed(&self, action: &'static str, name: &str, errno: Errno) -> DiskError {
        self.io_failed(action, name, errno.into())
    }

    fn io_failed(&self, action: &'static str, name: &str, source: std::io::Error) -> DiskError {
        let path = if name.is_empty() { self.shown.clone() } else { self.shown.join(name) };
        DiskError { action, path, source }
    }

    /// Where tests let the process die: before each change of the disk.
    #[cfg(test)]
    fn step(&self, action: &'static str, name: &str) -> Disk<()> {
        crash::step().map_err(|source| self.io_failed(action, name, source))
    }

    #[cfg(not(test))]
    #[allow(clippy::unused_self, clippy::unnecessary_wraps)]
    fn step(&self, _action: &'static str, _name: &str) -> Disk<()> {
        Ok(())
    }
}

#[cfg(target_os = "linux")]
fn open_in_one_call(fd: &OwnedFd, path: &str, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
    use rustix::fs::ResolveFlags;
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    fs::openat2(fd, path, flags, mode, beneath)
}

#[cfg(not(target_os = "linux"))]
fn open_in_one_call(_: &OwnedFd, _: &str, _: OFlags, _: Mode) -> Result<OwnedFd, Errno> {
    Err(Errno::NOSYS)
}

fn open_by_parts(fd: &OwnedFd, path: &str, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
    let parts: Vec<&str> = path.split('/').collect();
    let Some((name, dirs)) = parts.split_last() else { return Err(Errno::INVAL) };
    if parts.len() > MAX_PARTS || parts.iter().any(|part| matches!(*part, "" | "." | "..")) {
        return Err(Errno::XDEV);
    }
    let through = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut held: Option<OwnedFd> = None;
    for part in dirs {
        // A link here answers "not a directory"; it is told as what it is.
        let next = fs::openat(held.as_ref().unwrap_or(fd), *part, through, Mode::empty());
        held = Some(next.map_err(|errno| if errno == Errno::NOTDIR { Errno::LOOP } else { errno })?);
    }
    fs::openat(held.as_ref().unwrap_or(fd), *name, flags, mode)
}

/// Lets a process die between two changes of the disk: from the chosen step on, nothing is done any more.
#[cfg(test)]
pub mod crash {
    use std::cell::Cell;

    thread_local! {
        static LEFT: Cell<Option<usize>> = const { Cell::new(None) };
    }

    /// Runs `work` with so many steps before the crash; whether it came.
    pub fn after<T>(steps: usize, work: impl FnOnce() -> T) -> (T, bool) {
        LEFT.set(Some(steps));
        let outcome = work();
        let crashed = LEFT.get() == Some(0);
        LEFT.set(None);
        (outcome, crashed)
    }

    pub(super) fn step() -> std::io::Result<()> {
        match LEFT.get() {
            Some(0) => Err(std::io::Error::other("the process died here")),
            Some(left) => {
                LEFT.set(Some(left - 1));
                Ok(())
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened_both_ways(dir: &Dir, path: &str) -> [Result<OwnedFd, Errno>; 2] {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        [open_in_one_call(&dir.fd, path, flags, Mode::empty()), open_by_parts(&dir.fd, path, flags, Mode::empty())]
    }

    #[test]
    fn nothing_outside_is_reached_whichever_call_the_kernel_has() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        std::fs::create_dir_all(root.join("a/b")).unwrap();
        std::fs::write(folder.path().join("secret"), "s").unwrap();
        std::fs::write(root.join("a/b/file"), "f").unwrap();
        std::os::unix::fs::symlink(folder.path().join("secret"), root.join("a/link")).unwrap();
        std::os::unix::fs::symlink("b", root.join("a/to_b")).unwrap();
        let dir = Dir::open_root(&root).unwrap();
        for good in ["a/b/file", "a/b"] {
            for opened in opened_both_ways(&dir, good) {
                assert!(opened.is_ok(), "{good}: {opened:?}");
            }
        }
        for bad in ["../secret", "a/../../secret", "a/link", "a/to_b/file", "/etc/passwd", ""] {
            for opened in opened_both_ways(&dir, bad) {
                assert!(opened.is_err(), "{bad}");
            }
        }
        let error = dir.read("a/link", 10).unwrap_err().to_string();
        assert!(error.contains("symbolic link"), "{error}");
    }

    #[test]
    fn a_file_that_is_too_long_or_no_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let dir = Dir::open_root(folder.path()).unwrap();
        dir.write_new("ten", &[1; 10]).unwrap();
        assert_eq!(dir.read("ten", 10).unwrap().len(), 10);
        assert!(dir.read("ten", 9).unwrap_err().to_string().contains("longer than the 9 bytes"));
        dir.make_dir("folder").unwrap();
        assert!(dir.read("folder", 10).unwrap_err().to_string().contains("no regular file"));
        assert!(dir.read("none", 10).unwrap_err().is_missing());
    }
}
