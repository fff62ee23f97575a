//! Disks that fill up, pages that change, folders that cannot be written, a second process, an fsync that fails.

use crate::place::Place;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::sync::Arc;
use zegel_conformance::fixture::{
    Fixture as _, SINGLE, SPREAD, WIDE, claim, expect_numbers, id_number, message, message_of, owner, publish, slot,
    subscribe, take,
};
use zegel_conformance::runner::Backend;
use zegel_core::{Broker as _, BrokerError, Step, Store as _, StoreError};
use zegel_embedded::{Embedded, Finding, Offline, OpenError, Options, check};

fn backend(store: &Arc<Embedded>) -> Backend {
    Backend { broker: store.clone(), store: store.clone() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_what_does_not_fit_and_loses_nothing() {
    let place = Place::fresh();
    let store = place.embedded(Options { max_bytes: Some(2 << 20), ..Options::default() });
    let held = claim(&backend(&store), slot(SPREAD, 0), owner(1)).await;
    assert!(store.has_room());
    // Many at once, so that a group is given up and its requests run again singly.
    let tasks: Vec<_> = (1..=64u64)
        .map(|n| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { (n, store.publish(vec![message_of(SINGLE, n, 100_000)]).await.remove(0)) })
        })
        .collect();
    let mut taken = Vec::new();
    for task in tasks {
        match task.await.unwrap() {
            (n, Ok(())) => taken.push(n),
            (_, Err(error)) => assert!(matches!(error, BrokerError::NoRoom(_)), "refused with {error}"),
        }
    }
    assert!((1..64).contains(&taken.len()), "{} of 64 messages were taken by a disk of 2 MiB", taken.len());
    let step = Step { produced: vec![message_of(SINGLE, 99, 1 << 20)], ..Step::empty(held.slot, held.epoch) };
    let refused = store.commit(step).await;
    assert!(matches!(refused, Err(StoreError::Full(_))), "a step on a full disk was answered with {refused:?}");
    assert!(!store.has_room(), "a full disk is not known as such");
    assert!(store.metrics().rollbacks.load(std::sync::atomic::Ordering::Relaxed) > 0, "no transaction was given up");
    drop(store);
    place.shut().await;

    assert_eq!(check(place.file()).unwrap(), [], "a full disk left damage behind");
    let store = place.embedded(Options::default());
    publish(&backend(&store), vec![message(SINGLE, 100)]).await;
    let mut stream = subscribe(&backend(&store), slot(SINGLE, 0), 0).await;
    let got = take(&mut *stream, taken.len() + 1).await;
    expect_numbers(&got, 1);
    let mut kept: Vec<u64> = got.iter().map(|one| id_number(one.id)).collect();
    assert_eq!(kept.pop(), Some(100));
    kept.sort_unstable();
    taken.sort_unstable();
    assert_eq!(kept, taken, "what was acknowledged and what is there differ");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_takes_messages_again_once_there_is_room() {
    let place = Place::fresh();
    let store = place.embedded(Options { max_bytes: Some(2 << 20), ..Options::default() });
    let mut n = 0;
    while store.publish(vec![message_of(SINGLE, n, 50_000)]).await.remove(0).is_ok() {
        n += 1;
    }
    let mut stream = subscribe(&backend(&store), slot(SINGLE, 0), 0).await;
    take(&mut *stream, usize::try_from(n).unwrap()).await;
    // The consumer has passed everything; the writer deletes it when it has nothing else to do.
    let patience = std::time::Instant::now();
    while store.publish(vec![message_of(SINGLE, n, 50_000)]).await.remove(0).is_err() {
        assert!(patience.elapsed().as_secs() < 10, "a full store never takes anything again");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    expect_numbers(&take(&mut *stream, 1).await, n + 1);
    place.shut().await;
}

/// A file system of 3 MiB, taken away when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<SmallDisk> {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=3m", "tmpfs"]).arg(folder.path()).stderr(std::process::Stdio::null());
        mount.status().is_ok_and(|status| status.success()).then(|| SmallDisk(folder))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg(self.0.path()).status();
    }
}

/// The real thing: the file system refuses, not SQLite.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_system_without_room_loses_nothing_either() {
    let Some(disk) = SmallDisk::mount() else {
        println!("SKIPPED: a_file_system_without_room_loses_nothing_either: no right to mount a tmpfs here");
        return;
    };
    let file = disk.0.path().join("zegel.db");
    let store = Embedded::open(&file, Options::default()).unwrap();
    let mut taken = Vec::new();
    for n in 1..=100u64 {
        match store.publish(vec![message_of(SINGLE, n, 60_000)]).await.remove(0) {
            Ok(()) => taken.push(n),
            Err(error) => assert!(error.to_string().contains("full"), "refused with {error}"),
        }
    }
    assert!((1..100).contains(&taken.len()), "{} of 100 messages fit into 3 MiB", taken.len());
    drop(store);
    assert_eq!(check(&file).unwrap(), [], "a full file system left damage behind");
    let store = Embedded::open(&file, Options::default()).unwrap();
    let mut stream = subscribe(&backend(&store), slot(SINGLE, 0), 0).await;
    let got = take(&mut *stream, taken.len()).await;
    expect_numbers(&got, 1);
    assert_eq!(got.iter().map(|one| id_number(one.id)).collect::<Vec<_>>(), taken, "acknowledged and kept differ");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_on_the_file_is_told_who_holds_it() {
    let place = Place::fresh();
    let store = place.embedded(Options::default());
    let second = Embedded::open(place.file(), Options::default()).err().expect("a second opening is refused");
    let own = std::process::id().to_string();
    assert!(matches!(&second, OpenError::InUse { pid, .. } if *pid == own), "{second}");
    publish(&backend(&store), vec![message(SINGLE, 1)]).await;
    let lines = Offline::open(place.file()).unwrap().stats().unwrap();
    let line = lines.iter().find(|line| line.slot == slot(SINGLE, 0)).unwrap();
    assert_eq!(line.last, 1, "an offline reader beside the process does not see what it committed");
    drop(store);
    place.shut().await;
    assert!(Embedded::open(place.file(), Options::default()).is_ok(), "the file is not free after closing");
}

#[test]
fn a_file_of_another_program_or_a_newer_version_is_left_alone() {
    let place = Place::fresh();
    let other = rusqlite::Connection::open(place.file()).unwrap();
    other.execute_batch("CREATE TABLE theirs(x); INSERT INTO theirs VALUES(1);").unwrap();
    let before = std::fs::read(place.file()).unwrap();
    assert!(matches!(Embedded::open(place.file(), Options::default()), Err(OpenError::Foreign { .. })));
    assert_eq!(std::fs::read(place.file()).unwrap(), before, "another program's file was changed");
    drop(other);

    let place = Place::fresh();
    drop(Embedded::open(place.file(), Options::default()).unwrap());
    rusqlite::Connection::open(place.file()).unwrap().execute_batch("UPDATE format SET version = 99").unwrap();
    let refused = Embedded::open(place.file(), Options::default());
    assert!(matches!(refused, Err(OpenError::Version { found: 99, known: 1, .. })));
    assert!(matches!(Offline::open(place.file()), Err(OpenError::Version { .. })));

    let place = Place::fresh();
    std::fs::write(place.file(), vec![7; 8_192]).unwrap();
    assert!(matches!(Embedded::open(place.file(), Options::default()), Err(OpenError::Foreign { .. })));
    assert!(matches!(Offline::open(Path::new("/nowhere/zegel.db")), Err(OpenError::Missing { .. })));
}

/// Runs as nobody, because root writes anywhere.
#[test]
fn a_read_only_folder_is_named_in_the_error() {
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::process::CommandExt as _;
    if let Ok(file) = std::env::var("ZEGEL_TEST_READ_ONLY") {
        let refused = Embedded::open(file, Options::default()).err();
        std::process::exit(if matches!(refused, Some(OpenError::ReadOnly { .. })) { 42 } else { 1 });
    }
    let place = Place::fresh();
    let folder = place.file().parent().unwrap().to_owned();
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o555)).unwrap();
    // A copy where nobody may run it: the build folder may be closed to others.
    let copies = tempfile::tempdir().unwrap();
    std::fs::set_permissions(copies.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let program = copies.path().join("it");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let mut child = std::process::Command::new(program);
    child.args(["--exact", "faults::a_read_only_folder_is_named_in_the_error"]);
    child.env("ZEGEL_TEST_READ_ONLY", place.file()).stdout(std::process::Stdio::null());
    if rustix::process::geteuid().is_root() {
        child.uid(65_534).gid(65_534);
    }
    let status = child.status().unwrap();
    assert_eq!(status.code(), Some(42), "opening in a read-only folder gave another error, or none");
}

/// Overwrites the middle of every page after the first three.
fn scribble(file: &Path) {
    let mut file = std::fs::OpenOptions::new().read(true).write(true).open(file).unwrap();
    let mut length = [0; 4];
    file.seek(SeekFrom::Start(28)).unwrap();
    file.read_exact(&mut length).unwrap();
    let pages = u64::from(u32::from_be_bytes(length));
    assert!(pages > 20, "too few pages to scribble on");
    for page in pages / 2..pages {
        file.seek(SeekFrom::Start(page * 8_192)).unwrap();
        file.write_all(&[0x5A; 64]).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_page_is_found_by_a_check_and_by_a_read() {
    let place = Place::fresh();
    let store = place.embedded(Options::default());
    for part in 0..10u64 {
        publish(&backend(&store), (0..30).map(|n| message_of(SINGLE, part * 30 + n, 900)).collect()).await;
    }
    drop(store);
    place.shut().await;
    assert_eq!(check(place.file()).unwrap(), []);
    scribble(&place.file());
    let findings = check(place.file()).unwrap();
    assert!(findings.iter().any(|finding| finding.rule == "pages"), "a check does not see changed pages: {findings:?}");
    match Embedded::open(place.file(), Options::default()) {
        Err(error) => assert!(matches!(error, OpenError::Damaged { .. }), "{error}"),
        Ok(store) => {
            let mut stream = store.subscribe(slot(SINGLE, 0), 0).await.unwrap();
            let mut count = 0;
            let error = loop {
                match stream.next(WIDE).await {
                    Ok(batch) => count += batch.deliveries.len(),
                    Err(error) => break error,
                }
                assert!(count < 300, "changed pages were read as if nothing had happened");
            };
            assert!(error.to_string().contains("damaged"), "{error}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_finds_what_no_page_shows() {
    let place = Place::fresh();
    let store = place.embedded(Options::default());
    let held = claim(&backend(&store), slot(SINGLE, 0), owner(1)).await;
    publish(&backend(&store), (1..=9).map(|n| message(SINGLE, n)).collect()).await;
    store.commit(Step { position: Some(4), ..Step::empty(held.slot, held.epoch) }).await.unwrap();
    drop(store);
    place.shut().await;
    assert_eq!(check(place.file()).unwrap(), []);
    let broken = |sql: &str| -> Vec<Finding> {
        let copy = place.file().with_extension("copy");
        std::fs::copy(place.file(), &copy).unwrap();
        rusqlite::Connection::open(&copy).unwrap().execute_batch(sql).unwrap();
        check(&copy).unwrap()
    };
    for (rule, sql) in [
        ("numbers", "DELETE FROM messages WHERE id IN (SELECT id FROM messages ORDER BY id LIMIT 1 OFFSET 2)"),
        ("numbers", "DELETE FROM messages WHERE id IN (SELECT id FROM messages ORDER BY id LIMIT 1)"),
        ("position", "UPDATE slots SET position = 10"),
        (
            "trimmed",
            "UPDATE partitions SET trimmed = 9; INSERT INTO partitions SELECT id >> 40, 9 FROM messages LIMIT 1",
        ),
        ("width", "UPDATE messages SET key = x'01'"),
        (
            "parked",
            "INSERT INTO parked VALUES((SELECT slot FROM slots), 5, zeroblob(16), zeroblob(16), 0, 0, NULL, NULL, 0, x'')",
        ),
        (
            "dead",
            "INSERT INTO dead SELECT slot >> 32, slot & 65535, 5, slot >> 16 & 65535, zeroblob(16), zeroblob(16), '', 0, 0, x'' FROM slots",
        ),
        (
            "topology",
            "INSERT INTO timers SELECT slot, zeroblob(16), 'a', 0, 999, zeroblob(16), zeroblob(16), x'' FROM slots",
        ),
    ] {
        let findings = broken(sql);
        assert!(findings.iter().any(|finding| finding.rule == rule), "`{sql}` is not found: {findings:?}");
    }
}

#[cfg(feature = "failpoints")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_fsync_acknowledges_nothing_and_stops_the_store() {
    if std::env::var("ZEGEL_TEST_FSYNC").is_err() {
        // In a process of its own: a fail point would hit the other tests of this one.
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "faults::a_failed_fsync_acknowledges_nothing_and_stops_the_store"]);
        assert!(child.env("ZEGEL_TEST_FSYNC", "1").status().unwrap().success(), "see above");
        return;
    }
    let place = Place::fresh();
    let said = Arc::new(std::sync::Mutex::new(Vec::new()));
    let heard = Arc::clone(&said);
    let on_fatal = Arc::new(move |what| heard.lock().unwrap().push(what));
    let store = place.embedded(Options { on_fatal, ..Options::default() });
    publish(&backend(&store), vec![message(SINGLE, 1)]).await;
    fail::cfg("embedded::fsync", "return").unwrap();
    let outcome = store.publish(vec![message(SINGLE, 2)]).await.remove(0);
    assert!(outcome.is_err(), "a message was acknowledged although its fsync failed");
    fail::cfg("embedded::fsync", "off").unwrap();
    let later = store.publish(vec![message(SINGLE, 3)]).await.remove(0);
    assert!(matches!(later, Err(BrokerError::Closed)), "the store goes on after a failed fsync: {later:?}");
    assert_eq!(said.lock().unwrap().len(), 1, "nobody was told of the failed fsync");
}

#[cfg(feature = "failpoints")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_of_the_writer_is_told_and_never_leaves_a_store_that_only_looks_well() {
    if std::env::var("ZEGEL_TEST_PANIC").is_err() {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "faults::a_panic_of_the_writer_is_told_and_never_leaves_a_store_that_only_looks_well"]);
        assert!(child.env("ZEGEL_TEST_PANIC", "1").status().unwrap().success(), "see above");
        return;
    }
    let place = Place::fresh();
    let (told, heard) = std::sync::mpsc::channel();
    let told = std::sync::Mutex::new(told);
    let on_fatal = Arc::new(move |what| told.lock().unwrap().send(what).unwrap());
    let store = place.embedded(Options { on_fatal, ..Options::default() });
    fail::cfg("embedded::before-begin", "panic").unwrap();
    let outcome = store.publish(vec![message(SINGLE, 1)]).await.remove(0);
    assert!(outcome.is_err(), "a message was acknowledged by a writer that panicked");
    let what = heard.recv_timeout(std::time::Duration::from_secs(10)).expect("nobody was told of the panic");
    assert!(what.contains("panicked"), "{what}");
}
