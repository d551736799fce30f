//! Whether the write-ahead log that a process left behind is whole.
//!
//! SQLite takes a log up to the first frame that is not as it was written, and says nothing of the rest: so what was
//! being written when a process died goes away. Damage looks the same to it. But how many frames were committed stands in
//! the shared memory beside the log, a file that outlives the process as well. It is read here before SQLite makes it
//! anew. The formats: <https://www.sqlite.org/fileformat2.html#walformat>, <https://www.sqlite.org/walformat.html>.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

/// Of the log's own head, and of that of a frame, in bytes.
const HEAD: usize = 32;
const FRAME_HEAD: usize = 24;
/// Of the shared memory: two copies of its head, and how many frames are copied into the database already.
const INDEX: usize = 2 * INDEX_HEAD + 4;
const INDEX_HEAD: usize = 48;
/// What a log begins with; the last bit says in which order of bytes it is summed.
const MAGIC: u32 = 0x377f_0682;

/// Where the log of a database is.
pub(super) fn log_of(database: &Path) -> PathBuf {
    beside(database, "-wal")
}

/// Where its shared memory is.
pub(super) fn index_of(database: &Path) -> PathBuf {
    beside(database, "-shm")
}

fn beside(database: &Path, suffix: &str) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

/// What is wrong with a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Damage {
    /// Frames that were committed, and are neither readable nor in the database.
    pub(super) lost: u32,
    /// Frames that were committed.
    pub(super) committed: u32,
    /// Whether the database alone is later than with what can be read of the log.
    pub(super) useless: bool,
}

/// Looks at what a process that has gone left behind at `database`. None where all is there, or nothing can be said.
pub(super) fn damage(database: &Path) -> Option<Damage> {
    let Index { committed, copied, salt } = Index::read(&index_of(database))?;
    let readable = match Log::open(&log_of(database)) {
        // A log that was begun anew since: of that one the index says nothing.
        Some(log) if log.salt != salt => return None,
        Some(log) => log.commits(),
        None => 0,
    };
    let lost = committed.saturating_sub(readable.max(copied));
    // SQLite itself passes over a log without a readable frame.
    let harmless = readable >= committed || (readable == 0 && lost == 0);
    (!harmless).then_some(Damage { lost, committed, useless: readable < copied })
}

/// What the shared memory says of the log.
struct Index {
    committed: u32,
    copied: u32,
    salt: [u8; 8],
}

impl Index {
    fn read(path: &Path) -> Option<Self> {
        let mut bytes = [0; INDEX];
        File::open(path).ok()?.read_exact(&mut bytes).ok()?;
        let (first, rest) = bytes.split_first_chunk::<INDEX_HEAD>()?;
        let (second, copied) = rest.split_first_chunk::<INDEX_HEAD>()?;
        let (committed, salt) = [first, second].into_iter().find_map(Self::head)?;
        Some(Self { committed, copied: u32::from_ne_bytes(*copied.first_chunk()?), salt })
    }

    /// The frames that were committed and the salt of the log, as one of the two copies has them.
    fn head(bytes: &[u8; INDEX_HEAD]) -> Option<(u32, [u8; 8])> {
        const INITIALIZED: usize = 12;
        let (body, told) = bytes.split_first_chunk::<40>()?;
        let whole = Sum::default().over(body, cfg!(target_endian = "big")) == Sum::of(told, u32::from_ne_bytes)?;
        let committed = u32::from_ne_bytes(*body.get(16..)?.first_chunk()?);
        (whole && body.get(INITIALIZED) == Some(&1)).then_some((committed, *body.get(32..)?.first_chunk()?))
    }
}

/// A log whose head is whole.
struct Log {
    file: BufReader<File>,
    page: usize,
    salt: [u8; 8],
    sum: Sum,
    big: bool,
}

impl Log {
    fn open(path: &Path) -> Option<Self> {
        let mut file = BufReader::new(File::open(path).ok()?);
        let mut head = [0; HEAD];
        file.read_exact(&mut head).ok()?;
        let (body, told) = head.split_first_chunk::<24>()?;
        let word = |at: usize| Some(u32::from_be_bytes(*body.get(at..)?.first_chunk()?));
        let magic = word(0)?;
        let big = magic & 1 == 1;
        let sum = Sum::default().over(body, big);
        let page = word(8)? as usize;
        let whole = magic & !1 == MAGIC && (512..=65_536).contains(&page) && page.is_power_of_two();
        let salt = *body.get(16..)?.first_chunk()?;
        (whole && sum == Sum::of(told, u32::from_be_bytes)?).then_some(Self { file, page, salt, sum, big })
    }

    /// Up to which frame it can be read and is committed.
    fn commits(mut self) -> u32 {
        let (mut commits, mut frames) = (0, 0);
        let mut bytes = vec![0; FRAME_HEAD + self.page];
        while self.file.read_exact(&mut bytes).is_ok() {
            let Some(size) = self.frame(&bytes) else { break };
            frames += 1;
            // The last frame of a transaction tells how large the database is then.
            if size > 0 {
                commits = frames;
            }
        }
        commits
    }

    /// What a frame that continues the log says of the size of the database.
    fn frame(&mut self, bytes: &[u8]) -> Option<u32> {
        let (head, page) = bytes.split_first_chunk::<FRAME_HEAD>()?;
        let (what, rest) = head.split_first_chunk::<8>()?;
        let (salt, told) = rest.split_first_chunk::<8>()?;
        self.sum = self.sum.over(what, self.big).over(page, self.big);
        let whole = *salt == self.salt && self.sum == Sum::of(told, u32::from_be_bytes)?;
        whole.then_some(u32::from_be_bytes(*what.last_chunk()?))
    }
}

/// The checksum of logs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Sum(u32, u32);

impl Sum {
    /// A sum as it is written.
    fn of(bytes: &[u8], read: impl Fn([u8; 4]) -> u32) -> Option<Self> {
        let (first, rest) = bytes.split_first_chunk()?;
        Some(Self(read(*first), read(*rest.first_chunk()?)))
    }

    fn over(mut self, bytes: &[u8], big: bool) -> Self {
        let word = |bytes| if big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) };
        for [a, b, c, d, e, f, g, h] in bytes.as_chunks().0 {
            self.0 = self.0.wrapping_add(word([*a, *b, *c, *d])).wrapping_add(self.1);
            self.1 = self.1.wrapping_add(word([*e, *f, *g, *h])).wrapping_add(self.0);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;

    /// What a process leaves behind that is killed after so many transactions.
    fn left_behind(transactions: u32) -> (tempfile::TempDir, PathBuf) {
        let (alive, left) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let path = alive.path().join("db");
        let connection = Connection::open(&path).unwrap();
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(())).unwrap();
        connection.execute_batch("CREATE TABLE t (x)").unwrap();
        for n in 0..transactions {
            connection.execute("INSERT INTO t VALUES (?1)", [n]).unwrap();
        }
        for entry in std::fs::read_dir(alive.path()).unwrap().map(Result::unwrap) {
            std::fs::copy(entry.path(), left.path().join(entry.file_name())).unwrap();
        }
        let path = left.path().join("db");
        (left, path)
    }

    fn rows(path: &Path) -> u32 {
        let count = |connection: Connection| connection.query_row("SELECT count(*) FROM t", [], |row| row.get(0));
        Connection::open(path).and_then(count).unwrap_or(0)
    }

    #[test]
    fn a_log_that_a_killed_process_leaves_is_whole() {
        let (_left, path) = left_behind(40);
        let index = Index::read(&index_of(&path)).unwrap();
        assert!(index.committed >= 40, "{}", index.committed);
        assert_eq!(damage(&path), None);
        assert_eq!(rows(&path), 40);
        assert_eq!(damage(&path), None, "and nothing is left of it once it was read and closed");
        assert_eq!(damage(Path::new("/nowhere")), None);
    }

    #[test]
    fn a_log_with_one_other_byte_or_cut_anywhere_is_told_wherever_it_costs_a_row() {
        let (_left, path) = left_behind(12);
        let log = std::fs::read(log_of(&path)).unwrap();
        let index = std::fs::read(index_of(&path)).unwrap();
        let database = std::fs::read(&path).unwrap();
        let mut told = 0;
        for at in (0..log.len()).step_by(211).chain(0..64) {
            for cut in [false, true] {
                let mut damaged = log.clone();
                if cut {
                    damaged.truncate(at);
                } else {
                    damaged[at] ^= 0x40;
                }
                std::fs::write(&path, &database).unwrap();
                std::fs::write(log_of(&path), damaged).unwrap();
                std::fs::write(index_of(&path), &index).unwrap();
                let damage = damage(&path);
                let lost = 12 - rows(&path);
                assert_eq!(damage.is_some(), lost > 0 || damage.is_some_and(|damage| damage.lost > 0), "{at} {cut}");
                told += u32::from(damage.is_some());
            }
        }
        assert!(told > 100, "{told}");
    }

    #[test]
    fn what_is_in_the_database_already_is_not_lost_with_the_log() {
        let (_left, path) = left_behind(12);
        let keep = Connection::open(&path).unwrap();
        keep.pragma_update_and_check(None, "wal_checkpoint", "PASSIVE", |_| Ok(())).unwrap();
        let copy = tempfile::tempdir().unwrap();
        let copied = copy.path().join("db");
        for of in [|path: &Path| path.to_owned(), log_of, index_of] {
            std::fs::copy(of(&path), of(&copied)).unwrap();
        }
        let mut log = std::fs::read(log_of(&copied)).unwrap();
        let middle = log.len() / 2;
        log[middle] ^= 1;
        std::fs::write(log_of(&copied), log).unwrap();
        let damage = damage(&copied).unwrap();
        assert!(damage.useless && damage.lost == 0, "{damage:?}");
        // Without it, all is there.
        std::fs::remove_file(log_of(&copied)).unwrap();
        assert_eq!(super::damage(&copied), None);
        assert_eq!(rows(&copied), 12);
    }
}
