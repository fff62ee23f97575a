//! Requests of others: what `openssl ts -query` writes, every refusal, every digest and key, and altered requests.

use super::*;
use crate::tsa::request::{Failure, Request};
use proptest::prelude::*;

/// As an operator would want it: everything vouched for.
fn vouched() -> Option<Moment> {
    Some(Moment { now: *NOW, accuracy_ms: Some(1_000) })
}

/// Status and failure bit of a response without a token.
fn refusal(response: &[u8]) -> (u64, Option<usize>) {
    let response = der::Any::from_der(response).unwrap();
    let status = der::Any::from_der(response.value()).unwrap();
    let mut reader = der::SliceReader::new(status.value()).unwrap();
    let number = u64::decode(&mut reader).unwrap();
    let _text = der::Any::decode(&mut reader).unwrap();
    let bits = BitString::decode(&mut reader).unwrap();
    (number, bits.bits().position(|bit| bit))
}

fn request() -> Request {
    Request::over(Digest::Sha256, &sha256(DATA).0, Some(7)).unwrap()
}

#[test]
fn every_refusal_says_why_in_the_way_of_the_standard() {
    let authority = &SHARED.1;
    let bit = |bytes: &[u8], moment| refusal(&authority.answer(bytes, moment)).1;
    let good = request().encode();
    assert_eq!(refusal(&authority.answer(&good, None)), (2, Some(14)), "timeNotAvailable");
    // MD5 and SHA-1, which clients of old still offer.
    let md5 = hex::decode("3024020101301f300706052b0e03021a04141234567890123456789012345678901234567890").unwrap();
    assert_eq!(bit(&md5, vouched()), Some(0), "badAlg");
    let version_2 = [&good[..4], &[2], &good[5..]].concat();
    assert_eq!(bit(&version_2, vouched()), Some(2), "badRequest");
    for broken in [&b""[..], b"hello", &good[..good.len() - 1], &[&good[..], &[0]].concat()] {
        assert_eq!(bit(broken, vouched()), Some(5), "badDataFormat");
    }
    let short = Request { imprint: hex::decode("3011300d060960864801650304020105000400").unwrap(), ..request() };
    assert_eq!(bit(&short.encode(), vouched()), Some(5), "a hash of another length");
    let policy = Request { policy: Some(ObjectIdentifier::new("1.2.3.4.5").unwrap()), ..request() };
    assert_eq!(bit(&policy.encode(), vouched()), Some(15), "unacceptedPolicy");
    let extensions = element(0xa0, &[&hex::decode("3009060355040304020500").unwrap()]);
    let extended = element(0x30, &[&good[2..], &extensions]);
    assert_eq!(bit(&extended, vouched()), Some(16), "unacceptedExtension");
    let giant = Request { nonce: Some(vec![1; 65]), ..request() };
    assert_eq!(bit(&giant.encode(), vouched()), Some(2), "a giant nonce");
    let huge = Request { nonce: Some(vec![1; 100_000]), ..request() };
    assert_eq!(bit(&huge.encode(), vouched()), Some(5), "is not even looked at");
    let openssl_reads = Failure::TimeNotAvailable.response();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("refused.tsr");
    fs::write(&path, openssl_reads).unwrap();
    if let Some(text) = run("openssl", &["ts", "-reply", "-in", path.to_str().unwrap(), "-text"]) {
        let text = String::from_utf8_lossy(&text.stdout).into_owned();
        assert!(text.contains("Rejected") && text.contains("is not available"), "{text}");
    }
}

#[test]
fn openssl_asks_and_verifies_with_every_digest_and_every_key() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("data"), DATA).unwrap();
    for algorithm in Algorithm::ALL {
        let place = folder.path().join(algorithm.to_string());
        let authority = Authority::create_with(&place, "Zegel", *NOW, algorithm).unwrap();
        let (ca, units) = (place.join("ca.pem"), path("units.pem"));
        fs::write(&units, authority.units_pem().unwrap()).unwrap();
        for digest in ["-sha256", "-sha384", "-sha512"] {
            for certificates in [true, false] {
                let (query, tsr) = (path("q.tsq"), path("q.tsr"));
                let (data, ca) = (path("data"), ca.to_str().unwrap());
                let mut ask = vec!["ts", "-query", "-data", &data, digest, "-out", &query];
                ask.extend(certificates.then_some("-cert"));
                let Some(asked) = run("openssl", &ask) else {
                    println!("SKIPPED: openssl is absent");
                    return;
                };
                assert!(asked.status.success());
                let response = authority.answer(&fs::read(&query).unwrap(), vouched());
                fs::write(&tsr, &response).unwrap();
                let mut verify = vec!["ts", "-verify", "-queryfile", &query, "-in", &tsr, "-CAfile", ca];
                if !certificates {
                    verify.extend(["-untrusted", units.as_str()]);
                }
                let output = run("openssl", &verify).unwrap();
                let context = format!("{algorithm} {digest} {certificates}");
                assert!(output.status.success(), "{context}: {}", String::from_utf8_lossy(&output.stderr));
                check_our_own(&authority, &response, digest, certificates);
            }
        }
    }
}

fn check_our_own(authority: &Authority, response: &[u8], digest: &str, certificates: bool) {
    let digest = match digest {
        "-sha256" => Digest::Sha256,
        "-sha384" => Digest::Sha384,
        _ => Digest::Sha512,
    };
    let anchor = TrustAnchor::from_pem(authority.ca_pem()).unwrap();
    let alone = verify_imprint(response, digest, &digest.of(DATA), &anchor);
    assert_eq!(alone.is_ok(), certificates);
    let knowing = anchor.knowing(&authority.units_pem().unwrap()).unwrap();
    let info = verify_imprint(response, digest, &digest.of(DATA), &knowing).unwrap();
    assert_eq!((info.accuracy_ms, info.policy.as_str()), (Some(1_000), TEST_POLICY));
    assert!(info.nonce.is_some());
    let roots = Roots::from_pem(authority.ca_pem()).unwrap().knowing(&authority.units_pem().unwrap()).unwrap();
    let foreign = roots.verify(response, digest, &digest.of(DATA)).unwrap();
    assert_eq!((foreign.gen_time, foreign.nonce, foreign.weak), (info.gen_time, info.nonce, false));
}

#[test]
fn a_request_is_written_as_it_is_read() {
    for nonce in [None, Some(0), Some(1), Some(0x7f), Some(0x80), Some(u64::MAX)] {
        for digest in [Digest::Sha256, Digest::Sha384, Digest::Sha512] {
            let request = Request::over(digest, &digest.of(DATA), nonce).unwrap();
            assert_eq!(Request::read(&request.encode()), Ok(request.clone()));
            assert_eq!(request.imprint(), Some((digest, digest.of(DATA))));
        }
    }
    assert!(Request::over(Digest::Sha384, &[0; 32], None).is_err());
}

/// How many altered requests are tried: few by default, minutes' worth where `ZEGEL_FUZZ_ROUNDS` says so.
fn rounds() -> u32 {
    std::env::var("ZEGEL_FUZZ_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(400)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: rounds(), max_shrink_iters: 64, ..ProptestConfig::default() })]

    #[test]
    fn an_altered_request_is_answered_and_never_harms(
        nonce in proptest::option::of(any::<u64>()), certificates in any::<bool>(), which in 0usize..3,
        cuts in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>(), 0u8..4), 0..6),
        tail in proptest::collection::vec(any::<u8>(), 0..12),
    ) {
        let digest = [Digest::Sha256, Digest::Sha384, Digest::Sha512][which];
        let request = Request { certificates, ..Request::over(digest, &digest.of(DATA), nonce).unwrap() };
        let mut bytes = request.encode();
        for (at, byte, how) in cuts {
            if bytes.is_empty() { break }
            let at = at.index(bytes.len());
            match how {
                0 => bytes[at] ^= byte,
                1 => bytes[at] = byte,
                2 => { bytes.remove(at); }
                _ => bytes.insert(at, byte),
            }
        }
        bytes.extend(tail);
        let read = Request::read(&bytes);
        if let Ok(request) = &read {
            prop_assert!(request.imprint.len() <= 128);
            prop_assert_eq!(request.encode().len() <= REQUEST_MAX, true);
        }
        // Signing is the slow part and the same for all: the fast key stands for it.
        let response = FAST.1.answer(&bytes, vouched());
        prop_assert!(response.len() < 4_096);
        let parsed = x509_tsp::TimeStampResp::from_der(&response).unwrap();
        prop_assert_eq!(parsed.time_stamp_token.is_some(), read.is_ok_and(|request| request.policy.is_none()));
    }

    #[test]
    fn an_altered_token_is_refused_and_never_harms(at in any::<proptest::sample::Index>(), byte in 1u8.., drop in any::<bool>()) {
        let response = &*STAMPED;
        let at = at.index(response.len());
        let mut changed = response.clone();
        if drop { changed.remove(at); } else { changed[at] ^= byte; }
        let anchor = TrustAnchor::from_pem(FAST.1.ca_pem()).unwrap();
        let first = verify(response, &sha256(DATA), &anchor).unwrap();
        if let Ok(info) = verify(&changed, &sha256(DATA), &anchor) {
            prop_assert_eq!(info, first);
        }
        let roots = Roots::from_pem(FAST.1.ca_pem()).unwrap();
        let _ = roots.verify(&changed, Digest::Sha256, &sha256(DATA).0);
        let _ = Crl::read(&changed, &anchor);
    }
}

static FAST: LazyLock<(TempDir, Authority)> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::create_with(&folder.path().join("tsa"), "Zegel", *NOW, Algorithm::P256).unwrap();
    (folder, authority)
});
static STAMPED: LazyLock<Vec<u8>> = LazyLock::new(|| FAST.1.stamp(&sha256(DATA), Some(9), *NOW).unwrap());
