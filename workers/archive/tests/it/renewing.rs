//! Time stamps that are renewed before their certificates end.

use crate::world::{Kept, audit_with, authority, bags, hospital, names, other_authority, trust, trust_text};
use schemas::Millis;
use zegel_archive::ArchiveError;
use zegel_archive::evidence::{self, Wanted};
use zegel_archive::manifest::Side;
use zegel_archive::reader::Archive;
use zegel_archive::renewal::{due, renew};
use zegel_archive::writer::Writer;
use zegel_crypto::tsa::{Authority, Digest, Moment, Reason, Request};

/// Half a year after the bags.
pub const LATER: Millis = Millis(1_767_261_600_000 + 180 * 86_400_000);

pub fn writer(kept: &Kept) -> Writer {
    Writer::open(&kept.path(), &hospital(), Side::Platform).unwrap()
}

pub fn stamped(authority: &Authority, at: Millis) -> impl FnMut(Digest, &[u8]) -> Result<Vec<u8>, ArchiveError> + '_ {
    move |digest, root| {
        let request = Request::over(digest, root, None).unwrap().encode();
        Ok(authority.answer(&request, Some(Moment::from(at))))
    }
}

pub fn renewed(kept: &Kept, authority: &Authority, at: Millis) -> u64 {
    let all = due(&Archive::open(&kept.path()).unwrap(), Millis::NEVER).unwrap();
    let mut writer = writer(kept);
    let count = renew(all, &mut writer, stamped(authority, at)).unwrap();
    writer.finish().unwrap();
    count
}

#[test]
fn renewed_bags_hold_twice_over_and_evidence_carries_the_chain() {
    let kept = Kept::of(&bags(&[2, 0, 3]));
    let archive = Archive::open(&kept.path()).unwrap();
    // The unit's certificate ends in ten years: nothing is due before, all of it towards the end.
    assert_eq!(due(&archive, LATER).unwrap().len(), 0);
    let ends = due(&archive, Millis::NEVER).unwrap()[0].ends;
    assert_eq!(due(&archive, ends.plus(1)).unwrap().len(), 3);
    assert_eq!(renewed(&kept, &authority(), LATER), 3);
    assert_eq!(renewed(&kept, &authority(), LATER.plus(1_000)), 3);
    let audited = kept.audit();
    assert_eq!((names(&audited.findings), audited.overview.renewed), (vec![], 3));
    let archive = Archive::open(&kept.path()).unwrap();
    let bytes = evidence::make(&archive, &Wanted { reference: Some(2), ..Wanted::default() }, &trust()).unwrap();
    let (view, findings) = evidence::check(&bytes, None, &trust());
    assert!(findings.clean() && view.renewed == Some(LATER.plus(1_000)), "{:?}", findings.list());
}

#[test]
fn an_archive_whose_last_segment_holds_renewals_alone_goes_on_after_its_last_bag() {
    let made = bags(&[2, 2, 1]);
    let kept = Kept::of(&made[..2]);
    assert_eq!(renewed(&kept, &authority(), LATER), 2);
    let mut writer = writer(&kept);
    assert_eq!(writer.last(), 2);
    let header = made[0].header.encode();
    assert!(writer.append(&crate::world::new_bag(&made[0], &header)).is_err(), "a bag that is there already");
    let header = made[2].header.encode();
    writer.append(&crate::world::new_bag(&made[2], &header)).unwrap();
    writer.finish().unwrap();
    let audited = kept.audit();
    assert_eq!((names(&audited.findings), audited.overview.bags), (vec![], 3));
}

#[test]
fn a_renewal_by_a_stranger_or_of_another_bag_is_found() {
    let kept = Kept::of(&bags(&[2, 2]));
    assert_eq!(renewed(&kept, &other_authority(), LATER), 2);
    assert_eq!((kept.names(), kept.audit().findings.status()), (vec!["renewal"], 13));
    let kept = Kept::of(&bags(&[2, 2]));
    let all = due(&Archive::open(&kept.path()).unwrap(), Millis::NEVER).unwrap();
    let mut writer = writer(&kept);
    renew(all[..1].to_vec(), &mut writer, stamped(&authority(), LATER)).unwrap();
    writer.finish().unwrap();
    let archive = Archive::open(&kept.path()).unwrap();
    let record = zegel_archive::renewal::records(&archive).unwrap().remove(&1).unwrap();
    let mut writer = self::writer(&kept);
    writer.append_renewal(2, &record).unwrap();
    writer.finish().unwrap();
    let found = audit_with(&kept.path(), &trust(), None);
    assert_eq!((names(&found.findings), found.overview.renewed), (vec!["renewal"], 1));
    assert_eq!(found.findings.status(), 10);
}

#[test]
fn a_key_stolen_after_a_renewal_makes_archive_and_evidence_untrusted_and_not_altered() {
    let kept = Kept::of(&bags(&[2, 1]));
    renewed(&kept, &authority(), LATER);
    let list = authority().revoke(LATER.plus(60_000), Reason::KeyCompromise);
    let trust = trust_text("crl = [\"ca.crl\"]", &list);
    let found = audit_with(&kept.path(), &trust, None).findings;
    assert_eq!((names(&found), found.status()), (vec!["renewal", "token-revoked"], 13), "{:?}", found.list());
    let archive = Archive::open(&kept.path()).unwrap();
    let bytes = evidence::make(&archive, &Wanted { reference: Some(2), ..Wanted::default() }, &trust).unwrap();
    let (view, found) = evidence::check(&bytes, None, &trust);
    assert_eq!((names(&found), found.status()), (vec!["renewal", "token-revoked"], 13), "{:?}", found.list());
    assert_eq!((view.stamped, view.renewed), (None, None));
}

/// The authority goes away between two groups; what was done stays, and the next run does the rest.
#[test]
fn an_interrupted_renewal_goes_on_at_the_next_run() {
    let kept = Kept::of(&bags(&[1, 1, 1]));
    let all = due(&Archive::open(&kept.path()).unwrap(), Millis::NEVER).unwrap();
    let mut writer = writer(&kept);
    renew(all[..2].to_vec(), &mut writer, stamped(&authority(), LATER)).unwrap();
    let away = |_: Digest, _: &[u8]| Err(ArchiveError::TooLarge("outage"));
    assert!(renew(all[2..].to_vec(), &mut writer, away).is_err());
    drop(writer);
    assert_eq!(kept.audit().overview.renewed, 2);
    let archive = Archive::open(&kept.path()).unwrap();
    assert_eq!(zegel_archive::renewal::records(&archive).unwrap().len(), 2);
    assert_eq!(renewed(&kept, &authority(), LATER), 3);
    assert_eq!(kept.audit().overview.renewed, 3);
}
