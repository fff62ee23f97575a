//! The suite over a server that is not ours, and what only a server can do: be away, be killed, refuse.

use super::server::{self, Server, Variables};
use super::suite::{Bench, LARGE, pattern};
use crate::EncryptedObjects;
use crate::s3::Bucket;
use futures_util::TryStreamExt;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStoreExt, PutPayload};
use schemas::Millis;
use std::fs;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tempfile::TempDir;
use tokio::runtime::{Builder, Handle, Runtime};
use zegel_core::{Objects, ObjectsError};
use zegel_crypto::Keyring;

struct Fixture {
    objects: EncryptedObjects,
    /// The same place a second time, to look behind the port.
    behind: Bucket,
    keyring: Arc<Keyring>,
    scratch: TempDir,
    runtime: Runtime,
}

/// Under a prefix of its own.
fn fixture(variables: &Variables) -> Fixture {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let prefix = format!("test/{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
    let url = server::url(variables, &prefix);
    let scratch = tempfile::tempdir().unwrap();
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let keyring = Arc::new(Keyring::generate_in_memory());
    let handle = runtime.handle().clone();
    let behind = Bucket::open(&url, variables.clone(), scratch.path(), handle.clone()).unwrap();
    let objects =
        EncryptedObjects::open_s3_with(&url, variables.clone(), scratch.path(), keyring.clone(), handle).unwrap();
    Fixture { objects, behind, keyring, scratch, runtime }
}

impl Fixture {
    /// What stands under the prefix.
    fn keys(&self) -> Vec<ObjectPath> {
        let listing = self.behind.store.list(None).map_ok(|meta| meta.location);
        self.runtime.block_on(listing.try_collect()).unwrap()
    }

    fn unfinished(&self) -> usize {
        self.runtime.block_on(self.behind.unfinished.list()).unwrap().len()
    }
}

impl Bench for Fixture {
    fn objects(&self) -> &EncryptedObjects {
        &self.objects
    }

    fn keyring(&self) -> &Arc<Keyring> {
        &self.keyring
    }

    fn raw_get(&self, path: &str) -> Vec<u8> {
        let get = async { self.behind.store.get(&ObjectPath::from(path)).await?.bytes().await };
        self.runtime.block_on(get).unwrap().to_vec()
    }

    fn raw_put(&self, path: &str, bytes: Vec<u8>) {
        let payload = PutPayload::from(bytes);
        self.runtime.block_on(self.behind.store.put(&ObjectPath::from(path), payload)).unwrap();
    }

    fn leftovers(&self) -> usize {
        let there = self.keys().iter().filter(|key| key.as_ref().starts_with("uploads/")).count();
        let here = fs::read_dir(self.scratch.path()).unwrap().count();
        there + here + self.unfinished()
    }
}

fn open() -> Option<Fixture> {
    server::shared().map(fixture)
}

keeps_the_contract!(open);

#[test]
fn objects_move_from_a_folder_to_a_bucket_as_they_are_and_damage_is_not_moved() {
    let Some(variables) = server::shared() else { return };
    let bucket = fixture(variables);
    let folder = tempfile::tempdir().unwrap();
    let handle = bucket.runtime.handle().clone();
    let local = EncryptedObjects::open_local(folder.path(), bucket.keyring.clone(), handle).unwrap();
    let plain = vec![5; 3 * 1024 * 1024];
    let mut sink = local.create().unwrap();
    sink.write_all(&plain).unwrap();
    let object = sink.finish().unwrap();
    let stored = local.list().unwrap().remove(0);
    assert!(local.copy_to(&bucket.objects, &stored).unwrap());
    assert!(!local.copy_to(&bucket.objects, &stored).unwrap(), "what was there is copied again");
    assert_eq!(bucket.get(&object).unwrap(), plain);
    // A flipped bit is found, and nothing of it stays in the bucket.
    bucket.objects.delete(&object.name).unwrap();
    let path = folder.path().join(crate::object_path(&object.name).as_ref());
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[1_000] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    assert!(matches!(local.copy_to(&bucket.objects, &stored), Err(ObjectsError::Authentication)));
    assert!(bucket.objects.list().unwrap().is_empty());
}

#[test]
fn an_unfinished_upload_is_aborted_by_age_and_no_sooner() {
    let Some(fixture) = open() else { return };
    let kept = fixture.put(b"content");
    let path = crate::object_path(&zegel_crypto::hash::sha256(b"a crashed writer's"));
    let mut upload = fixture.runtime.block_on(fixture.behind.store.put_multipart(&path)).unwrap();
    fixture.runtime.block_on(upload.put_part(PutPayload::from(vec![7; 5 * 1024 * 1024]))).unwrap();
    fixture.raw_put("uploads/probe-of-a-crashed-process", b"probe".to_vec());
    fs::write(fixture.scratch.path().join("left"), b"ciphertext").unwrap();
    assert_eq!(fixture.leftovers(), 3);
    // What lies here is ours alone; in the bucket others may be writing.
    assert_eq!(fixture.objects.sweep_uploads(Millis::NEVER).unwrap(), 1);
    assert_eq!(fixture.leftovers(), 2);
    let now = fixture.runtime.block_on(fixture.behind.unfinished.now()).unwrap();
    let sweep = |before| fixture.runtime.block_on(fixture.behind.sweep_now(before)).unwrap();
    assert_eq!(sweep(now.plus(-60_000)), 0);
    assert_eq!(sweep(now.plus(60_000)), 2);
    assert_eq!(fixture.leftovers(), 0);
    assert!(fixture.runtime.block_on(upload.complete()).is_err(), "a swept upload cannot be finished");
    assert_eq!(fixture.get(&kept).unwrap(), b"content");
    assert_eq!(fixture.objects.list().unwrap().len(), 1);
}

#[test]
fn what_waits_here_has_no_name() {
    let Some(fixture) = open() else { return };
    let mut sink = fixture.objects.create().unwrap();
    sink.write_all(&pattern(LARGE)).unwrap();
    assert_eq!(fs::read_dir(fixture.scratch.path()).unwrap().count(), 0);
    sink.finish().unwrap();
}

/// What every call says of a place that does not serve; the text must give away nothing.
fn refusals(fixture: &Fixture, secrets: &[&str]) -> Vec<String> {
    let object = schemas::messages::ObjectRef {
        name: zegel_crypto::hash::sha256(b""),
        salt: zegel_crypto::hash::sha256(b""),
        key_version: 1,
        size: 1,
    };
    let finish = |length: usize| {
        let mut sink = fixture.objects.create().unwrap();
        sink.write_all(&pattern(length)).unwrap();
        sink.finish().map(|_| ())
    };
    let results = [
        fixture.objects.probe(),
        fixture.objects.open(&object).map(|_| ()),
        fixture.objects.delete(&object.name),
        fixture.objects.list().map(|_| ()),
        fixture.objects.sweep_uploads(Millis::NEVER).map(|_| ()),
        finish(1),
        finish(LARGE),
    ];
    let texts = results.map(|result| match result {
        Err(error @ ObjectsError::Unavailable(_)) => error.to_string(),
        other => panic!("not unavailable: {other:?}"),
    });
    for text in &texts {
        assert!(!secrets.iter().any(|secret| text.contains(secret)), "{text}");
    }
    texts.to_vec()
}

#[test]
fn a_store_that_is_away_is_unavailable_and_serves_again_when_it_is_back() {
    let Some(server) = Server::start() else { return };
    let fixture = fixture(server.variables());
    let (small, large) = (fixture.put(b"content"), fixture.put(&pattern(LARGE)));
    let mut reader = fixture.objects.open(&large).unwrap();
    server.kill();
    for text in refusals(&fixture, &["127.0.0.1", "zegel", "only-for-tests"]) {
        assert_eq!(text, "object store: the store cannot be reached");
    }
    let cut = std::io::copy(&mut reader, &mut std::io::sink()).unwrap_err();
    assert!(matches!(cut.downcast().unwrap(), ObjectsError::Unavailable(_)));
    server.restart();
    fixture.objects.probe().unwrap();
    assert_eq!(fixture.get(&small).unwrap(), b"content");
    assert!(fixture.get(&large).unwrap() == pattern(LARGE));
    let after = fixture.put(&pattern(LARGE));
    assert!(fixture.get(&after).unwrap() == pattern(LARGE));
}

#[test]
fn a_server_killed_in_mid_upload_has_nothing_under_an_address() {
    let Some(server) = Server::start() else { return };
    let fixture = fixture(server.variables());
    let mut sink = fixture.objects.create().unwrap();
    let plain = pattern(LARGE);
    for _ in 0..16 {
        sink.write_all(&plain).unwrap();
    }
    let finishing = std::thread::spawn(move || sink.finish());
    while fixture.unfinished() == 0 {
        assert!(!finishing.is_finished(), "the upload was over before it was seen");
    }
    server.kill();
    assert!(matches!(finishing.join().unwrap(), Err(ObjectsError::Unavailable(_))));
    server.restart();
    assert!(fixture.objects.list().unwrap().is_empty());
    assert!(fixture.keys().is_empty());
    // The abort did not get through: age does it.
    assert_eq!(fixture.unfinished(), 1);
    fixture.runtime.block_on(fixture.behind.sweep_now(Millis::NEVER)).unwrap();
    assert_eq!(fixture.leftovers(), 0);
}

#[test]
fn wrong_buckets_and_credentials_are_told_apart_without_telling_them() {
    let Some(right) = server::shared() else { return };
    let with = |name: &str, value: &str| {
        let mut wrong = right.clone();
        wrong.iter_mut().filter(|(found, _)| found == name).for_each(|pair| pair.1 = value.to_owned());
        fixture(&wrong)
    };
    let secrets = ["127.0.0.1", "zegel", "only-for-tests", "nobody", "guess"];
    let refused = |fixture: &Fixture, expected: &str| {
        for text in refusals(fixture, &secrets) {
            assert!(text.contains(expected), "{text}");
        }
    };
    refused(&with("S3_URL", "s3://nowhere"), "NoSuchBucket");
    refused(&with("AWS_ACCESS_KEY_ID", "nobody"), "InvalidAccessKeyId");
    refused(&with("AWS_SECRET_ACCESS_KEY", "guess"), "SignatureDoesNotMatch");
}

#[test]
fn an_address_a_setting_or_a_runtime_that_cannot_serve_is_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let alone = Builder::new_current_thread().enable_all().build().unwrap();
    let good = [("AWS_ENDPOINT", "https://127.0.0.1:1"), ("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b")];
    let open = |url: &str, further: Option<(&str, &str)>, handle: &Handle| {
        let variables = good.into_iter().chain(further).map(|(name, value)| (name.to_owned(), value.to_owned()));
        Bucket::open(url, variables, folder.path(), handle.clone()).map(|_| ())
    };
    let handle = runtime.handle();
    for url in ["s3://bucket", "s3://bucket/", "s3://bucket/a/b_c", "s3://bucket/a/b/"] {
        open(url, None, handle).unwrap();
    }
    for url in ["", "bucket", "s3:/bucket", "s3://", "s3:///a", "s3://user:word@bucket", "s3://bucket/a//b"] {
        assert!(matches!(open(url, None, handle), Err(ObjectsError::Unavailable(_))), "{url}");
    }
    for url in ["s3://bucket/../a", "s3://bucket/a?b", "s3://bucket/a b", "s3://bucket/é"] {
        assert!(matches!(open(url, None, handle), Err(ObjectsError::Unavailable(_))), "{url}");
    }
    let wrong = open("s3://bucket", Some(("AWS_ALLOW_HTTP", "perhaps")), handle);
    assert!(matches!(wrong, Err(ObjectsError::Unavailable(_))));
    assert!(open("s3://bucket", Some(("AWS_PROFILE", "other programs'")), handle).is_ok());
    assert!(matches!(open("s3://bucket", None, alone.handle()), Err(ObjectsError::Unavailable(_))));
}
