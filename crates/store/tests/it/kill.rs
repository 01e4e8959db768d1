//! Killed at any moment under concurrent writers, the store holds everything that it acknowledged.

use crate::embedded::put;
use nauplius_base::{task, time};
use nauplius_store::embedded::{EmbeddedStore, Options};
use nauplius_store::{RangeRequest, Revision, Store, StoreError, Txn, TxnOutcome};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const DIRECTORY: &str = "NAUPLIUS_STORE_KILL_TEST";
const ROUNDS_VARIABLE: &str = "NAUPLIUS_STORE_KILL_ROUNDS";
const ROUNDS: u32 = 6;
const WRITERS: usize = 8;
/// The child compacts all but this many revisions.
const KEPT: i64 = 2000;

/// Not a test of its own: the child that [`nothing_acknowledged_is_lost`] kills.
#[test]
fn child() {
    let Ok(directory) = std::env::var(DIRECTORY) else { return };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(WRITERS).enable_all().build().unwrap();
    runtime.block_on(write_for_ever(Path::new(&directory)));
}

async fn write_for_ever(directory: &Path) {
    let options = Options { checkpoint_pages: 200, ..Options::default() };
    let store = EmbeddedStore::open(directory, options).await.unwrap();
    for writer in 0..WRITERS {
        let store = store.clone();
        task::spawn("writer", async move {
            for turn in 0.. {
                write(&store, writer, turn).await;
            }
        });
    }
    loop {
        time::sleep(Duration::from_millis(40)).await;
        let newest = store.revision().await.unwrap();
        // Refused while there is too little history.
        let _ = store.compact(Revision(newest.0 - KEPT)).await;
    }
}

/// A pair of keys that only this writer writes, in one transaction.
async fn write(store: &EmbeddedStore, writer: usize, turn: usize) {
    let (one, other) = (format!("{writer}/{}/one", turn % 20), format!("{writer}/{}/other", turn % 20));
    let value = format!("{turn} {}", "x".repeat(turn % 3000));
    let ops = vec![put(&one, value.clone()), put(&other, value)];
    let TxnOutcome::Committed { revision, .. } = store.txn(Txn { compare: vec![], ops }).await.unwrap()
    else {
        panic!("nothing was compared");
    };
    let line = format!("ACK {revision} {writer}/{} {turn}\n", turn % 20);
    std::io::stdout().write_all(line.as_bytes()).unwrap();
}

struct Killed(Child);

impl Killed {
    fn spawn(directory: &Path) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "kill::child", "--nocapture"]).env(DIRECTORY, directory);
        Self(command.stdout(Stdio::piped()).spawn().unwrap())
    }

    /// Kills it after a while, and returns what it acknowledged.
    fn after(mut self, life: Duration) -> Vec<Acknowledged> {
        let output = self.0.stdout.take().unwrap();
        let lines =
            std::thread::spawn(move || BufReader::new(output).lines().map_while(Result::ok).collect());
        std::thread::sleep(life);
        self.0.kill().unwrap();
        self.0.wait().unwrap();
        let lines: Vec<String> = lines.join().unwrap();
        lines.iter().filter_map(|line| Acknowledged::parse(line)).collect()
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        // It is gone already unless the test failed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Acknowledged {
    revision: Revision,
    pair: String,
    turn: String,
}

impl Acknowledged {
    fn parse(line: &str) -> Option<Self> {
        // The last line may be torn by the kill, but writes of a line this short are whole.
        let (_, fields) = line.split_once("ACK ")?;
        let mut fields = fields.split(' ');
        let revision = Revision(fields.next()?.parse().ok()?);
        Some(Self { revision, pair: fields.next()?.to_owned(), turn: fields.next()?.to_owned() })
    }

    /// It is there at its revision; where that is compacted, something at least as new is.
    async fn verify(&self, store: &EmbeddedStore) {
        for half in ["one", "other"] {
            let key = RangeRequest::key(format!("{}/{half}", self.pair));
            let (kv, exact) = match store.range(RangeRequest { at: Some(self.revision), ..key.clone() }).await
            {
                Ok(mut then) => (then.kvs.pop(), true),
                Err(StoreError::Compacted { .. }) => (store.range(key).await.unwrap().kvs.pop(), false),
                Err(error) => panic!("{error}"),
            };
            let kv = kv.unwrap_or_else(|| panic!("{} at {} is lost", self.pair, self.revision));
            assert!(kv.mod_revision >= self.revision, "{} at {} is lost", self.pair, self.revision);
            if exact {
                assert_eq!(kv.mod_revision, self.revision);
                assert!(kv.value.starts_with(format!("{} ", self.turn).as_bytes()));
            }
        }
    }
}

#[tokio::test]
async fn nothing_acknowledged_is_lost() {
    let scratch = tempfile::tempdir().unwrap();
    let rounds = std::env::var(ROUNDS_VARIABLE).map_or(ROUNDS, |rounds| rounds.parse().unwrap());
    let mut newest = Revision(1);
    let mut acknowledged = 0;
    for _ in 0..rounds {
        let child = Killed::spawn(scratch.path());
        let life = Duration::from_millis(100 + nauplius_base::id::below(500));
        let acknowledgements = tokio::task::spawn_blocking(move || child.after(life)).await.unwrap();
        let store = EmbeddedStore::open(scratch.path(), Options::default()).await.unwrap();
        let report = store.check().await.unwrap();
        assert!(report.is_ok(), "{report:?}");
        let revision = store.revision().await.unwrap();
        for write in &acknowledgements {
            assert!(newest < write.revision && write.revision <= revision, "a revision went backwards");
            write.verify(&store).await;
        }
        newest = revision;
        acknowledged += acknowledgements.len();
        store.close().await.unwrap();
    }
    assert!(acknowledged > 0, "the child never wrote");
    println!("{acknowledged} acknowledged writes, {rounds} kills");
}
