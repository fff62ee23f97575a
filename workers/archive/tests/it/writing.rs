//! The writer: what is acknowledged stays, whatever was cut off; what is damaged is not written over.

use crate::world::{Kept, audit_with, bags, hospital, many, names, new_bag, trust};
use std::fs;
use std::path::Path;
use zegel_archive::ArchiveError;
use zegel_archive::manifest::Side;
use zegel_archive::reader::Archive;
use zegel_archive::testing::Made;
use zegel_archive::writer::Writer;

fn open(folder: &Path) -> Result<Writer, ArchiveError> {
    Writer::open(folder, &hospital(), Side::Hospital)
}

fn append(writer: &mut Writer, made: &Made) {
    writer.append(&new_bag(made, &made.header.encode())).unwrap();
    writer.sync().unwrap();
}

fn clean(folder: &Path, bags: u64) {
    let audited = audit_with(folder, &trust(), None);
    assert_eq!(names(&audited.findings), [""; 0]);
    assert_eq!(audited.overview.bags, bags);
}

#[test]
fn an_archive_goes_on_where_it_was_left_and_may_be_audited_while_it_is_open() {
    let made = bags(&[1, 2, 3]);
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut writer = open(folder).unwrap();
    append(&mut writer, &made[0]);
    clean(folder, 1);
    assert!(matches!(open(folder), Err(ArchiveError::Unusable { .. })), "two writers at once");
    drop(writer);
    let mut writer = open(folder).unwrap();
    assert_eq!(writer.last(), 1);
    append(&mut writer, &made[1]);
    assert!(matches!(writer.append(&new_bag(&made[0], &made[0].header.encode())), Err(ArchiveError::Order { .. })));
    writer.finish().unwrap();
    let mut writer = open(folder).unwrap();
    append(&mut writer, &made[2]);
    clean(folder, 3);
}

#[test]
fn segments_are_cut_at_the_same_bags_whenever_the_archive_was_opened() {
    let made = many(260);
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut writer = open(one.path()).unwrap();
    made.iter().for_each(|made| writer.append(&new_bag(made, &made.header.encode())).unwrap());
    drop(writer);
    for part in made.chunks(100) {
        let mut writer = open(other.path()).unwrap();
        part.iter().for_each(|made| writer.append(&new_bag(made, &made.header.encode())).unwrap());
    }
    for file in ["000001.zseg", "open.zseg", "MANIFEST"] {
        assert!(fs::read(one.path().join(file)).unwrap() == fs::read(other.path().join(file)).unwrap(), "{file}");
    }
    clean(one.path(), 260);
}

/// The open segment cut off at every byte: what stands before the cut is there, and the archive goes on.
#[test]
fn a_cut_anywhere_in_the_open_segment_loses_only_what_was_not_synced() {
    let made = bags(&[1, 1]);
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("archive");
    let mut writer = open(&folder).unwrap();
    append(&mut writer, &made[0]);
    let whole = fs::metadata(folder.join("open.zseg")).unwrap().len();
    append(&mut writer, &made[1]);
    drop(writer);
    let bytes = fs::read(folder.join("open.zseg")).unwrap();
    for cut in (whole..bytes.len() as u64).step_by(97).chain([bytes.len() as u64 - 1]) {
        fs::write(folder.join("open.zseg"), &bytes[..cut as usize]).unwrap();
        let mut writer = open(&folder).unwrap();
        assert_eq!(writer.last(), 1, "cut at {cut}");
        append(&mut writer, &made[1]);
        drop(writer);
        clean(&folder, 2);
    }
    // A tail of zeros, as some file systems leave it.
    fs::write(folder.join("open.zseg"), [&bytes[..whole as usize], &[0; 500]].concat()).unwrap();
    assert_eq!(open(&folder).unwrap().last(), 1);
}

/// Each state that a crash while sealing can leave is finished by the next opening.
#[test]
fn a_crash_between_the_steps_of_sealing_is_finished_later() {
    let made = bags(&[1, 1, 1]);
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("archive");
    let mut writer = open(&folder).unwrap();
    append(&mut writer, &made[0]);
    append(&mut writer, &made[1]);
    let manifest = fs::read(folder.join("MANIFEST")).unwrap();
    writer.finish().unwrap();
    let sealed = fs::read(folder.join("000001.zseg")).unwrap();
    let goes_on = |what: &str| {
        let mut writer = open(&folder).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(writer.last(), 2, "{what}");
        append(&mut writer, &made[2]);
        writer.finish().unwrap();
        clean(&folder, 3);
        for file in fs::read_dir(&folder).unwrap() {
            fs::remove_file(file.unwrap().path()).unwrap();
        }
        fs::write(folder.join("MANIFEST"), &manifest).unwrap();
    };
    for file in ["000001.zseg", "MANIFEST"] {
        fs::remove_file(folder.join(file)).unwrap();
    }
    fs::write(folder.join("MANIFEST"), &manifest).unwrap();
    // The index was written, or half of it, and the file not renamed.
    for cut in [sealed.len(), sealed.len() - 8, sealed.len() - 16, sealed.len() - 40] {
        fs::write(folder.join("open.zseg"), &sealed[..cut]).unwrap();
        goes_on(&format!("{} bytes of the index's end", sealed.len() - cut));
    }
    // Renamed, and not in the manifest.
    fs::write(folder.join("000001.zseg"), &sealed).unwrap();
    goes_on("renamed");
    // A new manifest that was not renamed.
    fs::write(folder.join("000001.zseg"), &sealed).unwrap();
    fs::write(folder.join("MANIFEST.new"), b"half").unwrap();
    goes_on("half a manifest");
}

#[test]
fn what_is_damaged_before_its_end_is_not_cut_off() {
    let made = bags(&[1, 1]);
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("archive");
    let mut writer = open(&folder).unwrap();
    append(&mut writer, &made[0]);
    append(&mut writer, &made[1]);
    drop(writer);
    let path = folder.join("open.zseg");
    let mut bytes = fs::read(&path).unwrap();
    bytes[200] ^= 1;
    fs::write(&path, &bytes).unwrap();
    assert!(matches!(open(&folder), Err(ArchiveError::Unusable { .. })));
    assert_eq!(fs::read(&path).unwrap(), bytes);
    fs::write(folder.join("MANIFEST"), "other").unwrap();
    assert!(matches!(open(&folder), Err(ArchiveError::Unusable { .. })));
}

#[test]
fn an_archive_of_another_hospital_or_a_folder_with_other_files_is_refused() {
    let kept = Kept::of(&bags(&[1]));
    assert!(
        matches!(open(&kept.path()), Err(ArchiveError::Unusable { .. })),
        "the platform's archive as the hospital's"
    );
    let other = "NIHII-HOSPITAL:71000535".parse().unwrap();
    assert!(Writer::open(&kept.path(), &other, Side::Platform).is_err());
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("letter.txt"), "dear").unwrap();
    assert!(open(folder.path()).is_err());
}

#[test]
fn certificates_are_kept_once() {
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..3 {
        let mut writer = open(folder.path()).unwrap();
        writer.append_material("ca.pem", b"one").unwrap();
        writer.append_material("ca.crl", b"list").unwrap();
        writer.finish().unwrap();
    }
    let materials = Archive::open(folder.path()).unwrap().materials().unwrap();
    assert_eq!(materials, [("ca.pem".to_owned(), b"one".to_vec()), ("ca.crl".to_owned(), b"list".to_vec())]);
}

/// The bytes of a segment do not change unnoticed: archives are read for thirty years.
#[test]
fn the_form_of_a_record_is_the_golden_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = open(folder.path()).unwrap();
    writer.append_material("a", b"b").unwrap();
    writer.finish().unwrap();
    let bytes = fs::read(folder.path().join("000001.zseg")).unwrap();
    // Magic; a head of 28 bytes: {1: "NIHII-HOSPITAL:71000436", 2: 1}; a material of 7: {1: "a", 2: 'b'}; the index.
    let head = "5a474c534547310a0000001c00a20177\
        4e494849492d484f53504954414c3a37313030303433360201";
    assert_eq!(hex::encode(&bytes[..41]), head);
    assert_eq!(hex::encode(&bytes[73..85]), "0000000702a20161610241".to_owned() + "62");
    assert_eq!(
        (&bytes[bytes.len() - 8..], bytes[bytes.len() - 16..bytes.len() - 8].to_vec()),
        (&b"ZGLEND1\n"[..], 117u64.to_be_bytes().to_vec())
    );
}
