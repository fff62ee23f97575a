//! The life of an authority: renewal of units, revocation, lists, and time that went back.

use super::*;

const DAY: i64 = 24 * 3_600_000;

fn fast(now: Millis) -> (TempDir, Authority) {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::create_with(&folder.path().join("tsa"), "Zegel", now, Algorithm::P256).unwrap();
    (folder, authority)
}

fn unit_of(authority: &Authority, now: Millis) -> TokenInfo {
    let anchor = TrustAnchor::from_pem(authority.ca_pem()).unwrap();
    verify(&authority.stamp(&sha256(DATA), None, now).unwrap(), &sha256(DATA), &anchor).unwrap()
}

#[test]
fn a_unit_is_replaced_before_its_key_may_no_longer_be_used_and_its_key_is_destroyed() {
    let (folder, authority) = fast(*NOW);
    let first = unit_of(&authority, *NOW);
    assert_eq!(authority.maintain(*NOW, Algorithm::P256).unwrap(), Maintained::default());
    let later = NOW.plus(340 * DAY);
    let done = authority.maintain(later, Algorithm::P256).unwrap();
    assert_eq!(done, Maintained { renewed: true, listed: true });
    let second = unit_of(&authority, later);
    assert_ne!(first.unit, second.unit);
    let place = folder.path().join("tsa");
    assert!(!place.join("tsa.key").exists() && place.join("tsa.pem").exists());
    assert!(place.join("units/2/tsa.key").exists());
    assert_eq!(authority.units_pem().unwrap().matches("BEGIN").count(), 2);
    // A restart finds the second, and the old token still verifies.
    drop(authority);
    Authority::check(&place).unwrap();
    let again = Authority::load(&place, Millis(0)).unwrap();
    assert_eq!(unit_of(&again, later.plus(5_000)).unit, second.unit);
    assert_eq!(again.maintain(later, Algorithm::P256).unwrap(), Maintained::default());
}

#[test]
fn another_algorithm_takes_over_with_the_next_unit() {
    let (_folder, authority) = fast(*NOW);
    assert!(authority.maintain(*NOW, Algorithm::P384).unwrap().renewed);
    assert_eq!(authority.algorithm(), Algorithm::P384);
    unit_of(&authority, *NOW);
    assert_eq!("ecdsa-p384".parse::<Algorithm>().unwrap(), Algorithm::P384);
    assert!("rsa".parse::<Algorithm>().is_err());
}

#[test]
fn a_unit_that_another_process_made_is_taken_over() {
    let (folder, one) = fast(*NOW);
    let other = Authority::load(&folder.path().join("tsa"), Millis(0)).unwrap();
    assert!(one.maintain(NOW.plus(350 * DAY), Algorithm::P256).unwrap().renewed);
    let done = other.maintain(NOW.plus(350 * DAY), Algorithm::P256).unwrap();
    assert_eq!(done, Maintained { renewed: true, listed: false });
    assert_eq!(unit_of(&one, NOW.plus(350 * DAY)).unit, unit_of(&other, NOW.plus(350 * DAY)).unit);
}

#[test]
fn a_revoked_unit_stands_on_the_list_and_is_replaced() {
    let (folder, authority) = fast(*NOW);
    let place = folder.path().join("tsa");
    let token = unit_of(&authority, *NOW);
    let anchor = TrustAnchor::from_pem(authority.ca_pem()).unwrap();
    let before = Crl::read(&authority.list().unwrap(), &anchor).unwrap();
    assert!(before.allows(&token.unit_serial, token.gen_time) && before.revoked().is_empty());
    let at = NOW.plus(2 * DAY);
    let list = Authority::revoke_active(&place, at, Reason::Superseded).unwrap();
    let list = Crl::read(&list, &anchor).unwrap();
    assert_eq!((list.number(), list.of(&token.unit_serial).unwrap().reason), (before.number() + 1, Reason::Superseded));
    assert!(list.allows(&token.unit_serial, token.gen_time), "what was given before holds");
    assert!(!list.allows(&token.unit_serial, at.plus(1_000)), "what is given after does not");
    assert!(authority.maintain(at, Algorithm::P256).unwrap().renewed);
    let second = unit_of(&authority, at);
    assert!(list.allows(&second.unit_serial, second.gen_time));

    let list = Authority::revoke_active(&place, at, Reason::KeyCompromise).unwrap();
    let path = folder.path().join("ca.crl");
    fs::write(&path, &list).unwrap();
    let list = Crl::read(&list, &anchor).unwrap();
    assert!(!list.allows(&second.unit_serial, second.gen_time.plus(-DAY)), "a stolen key proves nothing at any time");
    assert_eq!(list.revoked().len(), 2);
    let ca = place.join("ca.pem");
    let arguments =
        ["crl", "-inform", "DER", "-in", path.to_str().unwrap(), "-CAfile", ca.to_str().unwrap(), "-noout", "-text"];
    let Some(output) = run("openssl", &arguments) else {
        println!("SKIPPED: openssl is absent");
        return;
    };
    let (text, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("verify OK"), "{said}");
    assert!(text.contains("Key Compromise") && text.contains("Superseded"), "{text}");
}

#[test]
fn openssl_refuses_a_revoked_unit_and_accepts_the_next() {
    let (folder, authority) = fast(*NOW);
    let place = folder.path().join("tsa");
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("old.pem"), authority.units_pem().unwrap()).unwrap();
    fs::write(path("list.der"), Authority::revoke_active(&place, *NOW, Reason::Superseded).unwrap()).unwrap();
    let Some(_) = run("openssl", &["crl", "-inform", "DER", "-in", &path("list.der"), "-out", &path("list.pem")])
    else {
        println!("SKIPPED: openssl is absent");
        return;
    };
    authority.maintain(*NOW, Algorithm::P256).unwrap();
    let next = place.join("units/2/tsa.pem");
    let ca = place.join("ca.pem");
    let check = |unit: &str| {
        let files = ["-CAfile", ca.to_str().unwrap(), "-CRLfile", &path("list.pem"), unit];
        run("openssl", &[&["verify", "-crl_check", "-purpose", "timestampsign"], &files[..]].concat()).unwrap()
    };
    assert!(String::from_utf8_lossy(&check(&path("old.pem")).stderr).contains("revoked"));
    let output = check(next.to_str().unwrap());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_list_of_another_ca_or_with_a_changed_byte_is_refused() {
    let ((_one, authority), (_other, stranger)) = (fast(*NOW), fast(*NOW));
    let anchor = TrustAnchor::from_pem(authority.ca_pem()).unwrap();
    assert!(Crl::read(&stranger.list().unwrap(), &anchor).is_err());
    let list = authority.list().unwrap();
    for at in 0..list.len() {
        let mut changed = list.clone();
        changed[at] ^= 1;
        assert!(Crl::read(&changed, &anchor).is_err(), "byte {at}");
    }
}

#[test]
fn what_is_said_to_be_accurate_is_not_stamped_when_time_went_back() {
    let (_folder, authority) = fast(*NOW);
    let vouched = |at: i64| Moment { now: NOW.plus(at), accuracy_ms: Some(1_000) };
    authority.stamp(&sha256(DATA), None, vouched(10_000)).unwrap();
    let info = |at| {
        verify(
            &authority.stamp(&sha256(DATA), None, vouched(at)).unwrap(),
            &sha256(DATA),
            &TrustAnchor::from_pem(authority.ca_pem()).unwrap(),
        )
        .unwrap()
    };
    assert_eq!(info(9_500).gen_time, NOW.plus(10_000), "half a second is within the accuracy");
    assert!(
        matches!(authority.stamp(&sha256(DATA), None, vouched(8_000)), Err(TsaError::Clock)),
        "two seconds are not"
    );
    let request = Request::over(Digest::Sha256, &sha256(DATA).0, None).unwrap().encode();
    assert_eq!(authority.answer(&request, Some(vouched(8_000))), Failure::TimeNotAvailable.response());
    assert_eq!(info(12_000).gen_time, NOW.plus(12_000));
}

/// The key of a unit is used by another program, which asks nobody whether its certificate has ended.
#[test]
fn a_token_made_before_the_certificate_began_or_after_it_ended_is_refused_whenever_it_is_looked_at() {
    let (_folder, authority) = fast(*NOW);
    let anchor = TrustAnchor::from_pem(authority.ca_pem()).unwrap();
    let unit = authority.unit();
    let template = Template::new(anchor.certificate(), &unit.certificate, &unit.key).unwrap();
    let imprint = Request::over(Digest::Sha256, &sha256(DATA).0, None).unwrap().imprint;
    let policy = ObjectIdentifier::new(TEST_POLICY).unwrap();
    let at = |at: Millis| {
        let info = Info { policy, imprint: &imprint, serial: 1, at, accuracy_ms: None, nonce: None };
        let response = template.response(&unit.key, &info.encode().unwrap(), true).unwrap();
        let roots = Roots::from_pem(authority.ca_pem()).unwrap();
        let foreign = roots.verify(&response, Digest::Sha256, &sha256(DATA).0).is_ok();
        (verify(&response, &sha256(DATA), &anchor).map_err(|error| error.to_string()), foreign)
    };
    let ends = unit_ends(&authority.stamp(&sha256(DATA), None, *NOW).unwrap()).unwrap();
    assert!(ends.since(*NOW) > 9 * 365 * DAY);
    assert!(matches!(at(NOW.plus(1_000)), (Ok(_), true)));
    for outside in [ends.plus(1_000), ends.plus(400 * DAY), NOW.plus(-2 * DAY), Millis(0)] {
        let (own, foreign) = at(outside);
        assert!(own.unwrap_err().contains("not valid at that time") && !foreign, "{outside:?}");
    }
}

#[test]
fn a_text_without_certificates_is_refused_and_nothing_panics() {
    for text in ["", "\n", " \r\n\n", "-", "-----END CERTIFICATE-----"] {
        assert!(Roots::from_pem(text).is_err() && TrustAnchor::from_pem(text).is_err(), "{text:?}");
        assert!(certificate_facts(text).is_empty());
    }
}

#[test]
fn a_unit_that_was_replaced_can_be_revoked_later_and_nothing_is_taken_back() {
    let (folder, authority) = fast(*NOW);
    let place = folder.path().join("tsa");
    let anchor = TrustAnchor::from_pem(authority.ca_pem()).unwrap();
    let first = unit_of(&authority, *NOW);
    assert!(authority.maintain(NOW.plus(340 * DAY), Algorithm::P256).unwrap().renewed);
    assert_eq!(Authority::units(&place).unwrap(), [1, 2]);
    let revoke = |at: Millis, reason| {
        let list = Authority::revoke(&place, 1, at, reason, NOW.plus(341 * DAY)).unwrap();
        Crl::read(&list, &anchor).unwrap().of(&first.unit_serial).cloned().unwrap()
    };
    assert!(revoke(NOW.plus(DAY), Reason::Superseded).at.since(*NOW) <= DAY);
    assert!(!authority.is_revoked().unwrap(), "the active one is another");
    let worse = revoke(NOW.plus(2 * DAY), Reason::KeyCompromise);
    assert_eq!((worse.reason, worse.at.since(*NOW) <= DAY), (Reason::KeyCompromise, true));
    assert_eq!(revoke(*NOW, Reason::Superseded).reason, Reason::KeyCompromise);
    assert!(Authority::revoke(&place, 3, *NOW, Reason::Superseded, *NOW).is_err());
    Authority::revoke(&place, 2, *NOW, Reason::Superseded, *NOW).unwrap();
    assert!(authority.is_revoked().unwrap());
}

#[test]
fn a_list_is_not_lost_when_two_processes_write_one() {
    let (folder, authority) = fast(*NOW);
    let place = folder.path().join("tsa");
    let anchor = TrustAnchor::from_pem(authority.ca_pem()).unwrap();
    // Upkeep issues a list whenever the last is half over; revocations come at the same time.
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 1..30 {
                authority.maintain(NOW.plus(n * 20 * DAY), Algorithm::P256).unwrap();
            }
        });
        for unit in [1, 1, 1, 1] {
            Authority::revoke(&place, unit, *NOW, Reason::KeyCompromise, *NOW).unwrap();
        }
    });
    let list = Crl::read(&authority.list().unwrap(), &anchor).unwrap();
    assert_eq!(list.revoked().len(), 1, "a revocation was written over");
}
