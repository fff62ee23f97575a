//! Tests of the pseudonyms: published vectors, an independent implementation, scopes, and the attack by enumeration.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::cast_possible_truncation)]

use super::*;
use aes_siv::KeyInit;
use aes_siv::siv::Aes128Siv;
use proptest::prelude::*;
use sha2::Digest;

const ROOT: [u8; 32] = [7; 32];
const SCOPE: Scope<'static> = Scope { recipient: "CBE:0123456749", domain: "ssin", epoch: 1, sender: None };

fn reversible(root: &[u8; 32], scope: &Scope<'_>, value: &str) -> String {
    let mut out = Vec::new();
    PseudonymRoot::new(root).reversible(scope).encode(value.as_bytes(), &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn one_way(root: &[u8; 32], scope: &Scope<'_>, value: &str) -> String {
    let mut out = Vec::new();
    PseudonymRoot::new(root).one_way(scope).encode(value.as_bytes(), &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn decode(root: &[u8; 32], scope: &Scope<'_>, token: &str) -> Result<Vec<u8>, PseudonymError> {
    PseudonymRoot::new(root).reversible(scope).decode(token).map(|value| value.to_vec())
}

/// Every scope that differs from [`SCOPE`] in one thing.
fn other_scopes() -> [Scope<'static>; 4] {
    [
        Scope { recipient: "CBE:0206653946", ..SCOPE },
        Scope { domain: "hospital-patient", ..SCOPE },
        Scope { epoch: 2, ..SCOPE },
        Scope { sender: Some("NIHII-HOSPITAL:71000436"), ..SCOPE },
    ]
}

#[test]
fn the_siv_that_we_use_gives_the_published_results_of_rfc_5297() {
    let key = hex::decode("fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff").unwrap();
    let ad = hex::decode("101112131415161718191a1b1c1d1e1f2021222324252627").unwrap();
    let mut text = hex::decode("112233445566778899aabbccddee").unwrap();
    let mut siv = Aes128Siv::new_from_slice(&key).unwrap();
    let tag = siv.encrypt_inout_detached([&ad], text.as_mut_slice().into()).unwrap();
    assert_eq!(hex::encode(tag), "85632d07c6e8f37f950acd320a2ecc93", "appendix A.1, tag");
    assert_eq!(hex::encode(&text), "40c02b9690c4dc04daef7f6afe5c", "appendix A.1, ciphertext");

    let key = hex::decode("7f7e7d7c7b7a79787776757473727170404142434445464748494a4b4c4d4e4f").unwrap();
    let headers = [
        "00112233445566778899aabbccddeeffdeaddadadeaddadaffeeddccbbaa99887766554433221100",
        "102030405060708090a0",
        "09f911029d74e35bd84156c5635688c0",
    ];
    let headers = headers.map(|header| hex::decode(header).unwrap());
    let mut text = b"this is some plaintext to encrypt using SIV-AES".to_vec();
    let mut siv = Aes128Siv::new_from_slice(&key).unwrap();
    let tag = siv.encrypt_inout_detached(&headers, text.as_mut_slice().into()).unwrap();
    assert_eq!(hex::encode(tag), "7bdb6e3b432667eb06f4d14bff2fbd0f", "appendix A.2, tag");
    assert!(hex::encode(&text).starts_with("cb900f2fddbe404326601965c889bf17dba77ceb094fa663b7a3f748ba8af829"));
}

#[test]
fn the_format_of_tokens_never_changes() {
    assert_eq!(reversible(&ROOT, &SCOPE, "85061511796"), GOLDEN_P1);
    assert_eq!(one_way(&ROOT, &SCOPE, "85061511796"), GOLDEN_H1);
}

const GOLDEN_P1: &str = "P1.1-abb59daf.SgQKaN16-KOE1DZA2qdJRUGhY3T5jyp2_5SI4gckrBA";
const GOLDEN_H1: &str = "H1.1-b1c9420d.gu1kRK8nHvf4Pg9a-oNXsQ";

/// Builds both golden tokens with Python's `cryptography` from the text of the module's header.
const ORACLE: &str = r#"
import base64, hashlib, hmac, struct, sys
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from cryptography.hazmat.primitives.hashes import SHA256
def key(purpose, n):
    items = [b"zegel-ttp/1", b"CBE:0123456749", b"forward", b"ssin", purpose, struct.pack(">I", 1)]
    info = b"".join(bytes([i + 1]) + struct.pack(">H", len(x)) + x for i, x in enumerate(items))
    return HKDFExpand(SHA256(), n, info).derive(bytes([7]) * 32)
b64 = lambda b: base64.urlsafe_b64encode(b).decode().rstrip("=")
value = b"85061511796"
head = "P1.1-" + key(b"siv-check", 4).hex()
text = struct.pack(">H", len(value)) + value
print(head + "." + b64(AESSIV(key(b"siv", 64)).encrypt(text.ljust(16, b"\0"), [head.encode()])))
head = "H1.1-" + key(b"mac-check", 4).hex()
print(head + "." + b64(hmac.new(key(b"mac", 32), value, hashlib.sha256).digest()[:16]))
"#;

#[test]
fn an_independent_implementation_makes_the_same_tokens() {
    let required = std::env::var_os("ZEGEL_ORACLES").is_some();
    let venv = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/oracles/bin/python");
    let python = if std::path::Path::new(venv).exists() { venv } else { "python3" };
    let output = std::process::Command::new(python).args(["-c", ORACLE]).output();
    match output {
        Ok(output) if output.status.success() => {
            assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{GOLDEN_P1}\n{GOLDEN_H1}\n"));
        }
        _ if required => panic!("python with the package `cryptography` is needed"),
        _ => eprintln!("SKIPPED: no python with the package `cryptography`"),
    }
}

#[test]
fn a_token_of_another_project_recipient_domain_epoch_or_sender_is_refused() {
    let token = reversible(&ROOT, &SCOPE, "85061511796");
    assert_eq!(decode(&ROOT, &SCOPE, &token).unwrap(), b"85061511796");
    assert_eq!(decode(&[8; 32], &SCOPE, &token), Err(PseudonymError::OtherKey));
    let [recipient, domain, epoch, sender] = other_scopes();
    for scope in [recipient, domain, epoch] {
        assert_eq!(decode(&ROOT, &scope, &token), Err(PseudonymError::OtherKey));
    }
    // The key id does not know the sender, so this one is found out by its tag.
    assert_eq!(decode(&ROOT, &sender, &token), Err(PseudonymError::Authentication));
    assert_eq!(decode(&ROOT, &SCOPE, &one_way(&ROOT, &SCOPE, "85061511796")), Err(PseudonymError::Format));
}

#[test]
fn the_key_id_does_not_mark_the_sender() {
    let kid = |sender| {
        let token = reversible(&ROOT, &Scope { sender, ..SCOPE }, "85061511796");
        token.split('.').nth(1).unwrap().to_owned()
    };
    assert_eq!(kid(Some("NIHII-HOSPITAL:71000436")), kid(Some("NIHII-HOSPITAL:71000139")));
}

#[test]
fn scope_parts_that_only_differ_in_where_they_are_cut_get_different_keys() {
    let one = Scope { recipient: "CBE:01", domain: "23x", ..SCOPE };
    let two = Scope { recipient: "CBE:0123", domain: "x", ..SCOPE };
    assert_ne!(info(&one, "siv"), info(&two, "siv"));
    assert_ne!(one_way(&ROOT, &one, "v"), one_way(&ROOT, &two, "v"));
}

#[test]
fn neither_empty_nor_endless_values_become_tokens() {
    let mut maker = PseudonymRoot::new(&ROOT).reversible(&SCOPE);
    let mut out = b"kept".to_vec();
    assert_eq!(maker.encode(b"", &mut out), Err(PseudonymError::Empty));
    assert_eq!(maker.encode(&[b'x'; VALUE_MAX + 1], &mut out), Err(PseudonymError::TooLong));
    assert_eq!(PseudonymRoot::new(&ROOT).one_way(&SCOPE).encode(b"", &mut out), Err(PseudonymError::Empty));
    assert_eq!(out, b"kept");
    assert_eq!(maker.encode(&[b'x'; VALUE_MAX], &mut out), Ok(()));
}

#[test]
fn nothing_prints_its_key() {
    let root = PseudonymRoot::new(&ROOT);
    let text = format!("{root:?} {:?} {:?}", root.reversible(&SCOPE), root.one_way(&SCOPE));
    assert_eq!(text, "PseudonymRoot(***) Reversible(***) OneWay(***)");
}

#[test]
fn a_changed_character_is_noticed() {
    let token = reversible(&ROOT, &SCOPE, "85061511796");
    for place in 0..token.len() {
        let mut changed = token.clone().into_bytes();
        changed[place] = if changed[place] == b'A' { b'B' } else { b'A' };
        assert!(decode(&ROOT, &SCOPE, std::str::from_utf8(&changed).unwrap()).is_err(), "character {place}");
    }
}

/// All valid numbers of people born in some months of 1985, as they are written.
fn numbers(months: std::ops::RangeInclusive<u64>) -> impl Iterator<Item = [u8; 11]> {
    months.flat_map(|month| (1..=31u64).map(move |day| (month, day))).flat_map(|(month, day)| {
        (1..=998u64).map(move |serial| {
            let stem = 850_000_000 + month * 100_000 + day * 1_000 + serial;
            let mut number = stem * 100 + (97 - stem % 97);
            let mut digits = [b'0'; 11];
            for digit in digits.iter_mut().rev() {
                *digit += (number % 10) as u8;
                number /= 10;
            }
            digits
        })
    })
}

#[test]
fn enumerating_the_numbers_of_a_year_reverses_a_plain_hash() {
    let hash = Sha256::digest(b"85061511796");
    let found: Vec<_> = numbers(1..=12).filter(|number| Sha256::digest(number) == hash).collect();
    assert_eq!(found, [*b"85061511796"]);
}

#[test]
fn the_same_enumeration_does_not_reverse_our_tokens() {
    let body = |token: &[u8]| URL_SAFE_NO_PAD.decode(token.rsplit(|byte| *byte == b'.').next().unwrap()).unwrap();
    let mac = body(one_way(&ROOT, &SCOPE, "85061511796").as_bytes());
    let siv = body(reversible(&ROOT, &SCOPE, "85061511796").as_bytes());
    let sought = [&mac[..], &siv[..SIV], &siv[SIV..]];
    // The attacker has the program, the scope and the key id, but has to guess the root.
    let own = PseudonymRoot::new(&[0; 32]);
    let (own_mac, mut own_siv) = (own.one_way(&SCOPE), own.reversible(&SCOPE));
    let (mut met_the_victim, mut token) = (false, Vec::new());
    // One month of the year: our own code is not optimised in a test build.
    for number in numbers(6..=6) {
        met_the_victim |= &number == b"85061511796";
        let digest = Sha256::digest(number);
        token.clear();
        own_mac.encode(&number, &mut token).unwrap();
        let guessed_mac = body(&token);
        token.clear();
        own_siv.encode(&number, &mut token).unwrap();
        let guessed_siv = body(&token);
        let guesses = [&digest[..MAC], &digest[MAC..], &guessed_mac, &guessed_siv[..SIV], &guessed_siv[SIV..]];
        assert!(guesses.iter().all(|guess| !sought.contains(guess)), "a guess meets a token");
    }
    assert!(met_the_victim, "the enumeration covers the victim");
}

proptest! {
    #[test]
    fn equal_values_give_equal_tokens_and_the_token_gives_the_value_back(value in "\\PC{1,250}") {
        let token = reversible(&ROOT, &SCOPE, &value);
        prop_assert_eq!(&token, &reversible(&ROOT, &SCOPE, &value));
        prop_assert_eq!(one_way(&ROOT, &SCOPE, &value), one_way(&ROOT, &SCOPE, &value));
        prop_assert_eq!(decode(&ROOT, &SCOPE, &token).unwrap(), value.as_bytes());
    }

    #[test]
    fn any_other_root_scope_or_value_gives_another_token(
        value in "[0-9]{11}", other in "[0-9]{11}", root in any::<[u8; 32]>(),
    ) {
        prop_assume!(root != ROOT && value != other);
        for make in [reversible, one_way] {
            let token = make(&ROOT, &SCOPE, &value);
            prop_assert_ne!(&token, &make(&root, &SCOPE, &value));
            prop_assert_ne!(&token, &make(&ROOT, &SCOPE, &other));
            for scope in other_scopes() {
                prop_assert_ne!(&token, &make(&ROOT, &scope, &value));
            }
        }
    }

    #[test]
    fn tokens_of_the_same_bucket_have_the_same_length(a in "[a-z]{15,30}", b in "[a-z]{15,30}") {
        prop_assert_eq!(reversible(&ROOT, &SCOPE, &a).len(), reversible(&ROOT, &SCOPE, &b).len());
    }

    #[test]
    fn no_text_makes_decoding_panic(text in "(P1\\.)?\\PC{0,80}") {
        prop_assert!(decode(&ROOT, &SCOPE, &text).is_err());
    }
}

#[test]
fn a_compact_token_is_a_fhir_id_and_comes_back_in_its_own_scope_only() {
    let root = PseudonymRoot::new(&ROOT);
    let encode = |scope: &Scope<'_>, id: &str| {
        let mut out = Vec::new();
        root.compact(scope).encode(id, &mut out).map(|()| String::from_utf8(out).unwrap())
    };
    for id in ["1", "129c6ac7-8d06-89de-ad63-0204a93e76c3", "dzop-team-0002.v2", &"Zz9.-".repeat(8)] {
        let token = encode(&SCOPE, id).unwrap();
        assert!(
            token.len() == 64 && token.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'.'),
            "{token}"
        );
        assert_eq!(root.compact(&SCOPE).decode(&token).unwrap().as_str(), id);
        for scope in other_scopes() {
            assert!(root.compact(&scope).decode(&token).is_err());
        }
        let changed = token.replace(&token[10..11], if &token[10..11] == "A" { "B" } else { "A" });
        assert!(root.compact(&SCOPE).decode(&changed).is_err());
    }
    assert_eq!(encode(&SCOPE, &"x".repeat(41)), Err(PseudonymError::TooLong));
    assert_eq!(encode(&SCOPE, ""), Err(PseudonymError::Empty));
    assert_eq!(encode(&SCOPE, "a_b"), Err(PseudonymError::Format));
    // In capitals it is another id, and comes back in capitals.
    let capitals = "129C6AC7-8D06-89DE-AD63-0204A93E76C3";
    assert_eq!(root.compact(&SCOPE).decode(&encode(&SCOPE, capitals).unwrap()).unwrap().as_str(), capitals);
}

#[test]
fn a_randomised_token_never_repeats_and_comes_back_in_its_own_scope_only() {
    let root = PseudonymRoot::new(&ROOT);
    let encode = |nonce| {
        let mut out = Vec::new();
        root.randomised(&SCOPE).encode(b"85061511796", [nonce; NONCE], &mut out).unwrap();
        String::from_utf8(out).unwrap()
    };
    let (first, second) = (encode(1), encode(2));
    assert!(first.starts_with("R1.1-") && first != second);
    for token in [&first, &second] {
        assert_eq!(root.randomised(&SCOPE).decode(token).unwrap().as_slice(), b"85061511796");
        assert!(other_scopes()[..3].iter().all(|scope| root.randomised(scope).decode(token).is_err()));
    }
    assert!(root.randomised(&SCOPE).decode(&first[..first.len() - 1]).is_err());
}

#[test]
fn draws_are_the_same_for_one_patient_and_purpose_and_no_other() {
    let root = PseudonymRoot::new(&ROOT);
    let draw = root.draw(&SCOPE, "dates");
    assert_eq!(draw.of(b"a"), root.draw(&SCOPE, "dates").of(b"a"));
    assert_ne!(draw.of(b"a"), draw.of(b"b"));
    assert_ne!(draw.of(b"a"), root.draw(&SCOPE, "class").of(b"a"));
}
