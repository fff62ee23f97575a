//! Bait for what a format can be combined with: a part sealed for the recipient, sealed values, a signed batch, small cells.

use crate::bait::{Bait, Canaries, Patient, Words, canaries};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use schemas::Millis;
use std::path::Path;
use std::process::Command;
use zegel_crypto::envelope;
use zegel_crypto::signed::{Identity, fingerprint};
use zegel_suite::canary::Canary;
use zegel_ttp::split::container;

/// While the certificates of a test are valid.
fn now() -> Millis {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Millis(i64::try_from(since.as_millis()).unwrap())
}

fn identity(name: &str) -> Identity {
    Identity::create(name, now()).unwrap()
}

fn new(name: &str, terms: String) -> Bait {
    let (good, bad, broken, canaries) = (Vec::new(), Vec::new(), Vec::new(), Canaries::default());
    Bait {
        name: format!("leak-{name}"),
        project: format!("leak-{name}"),
        format: Some("csv"),
        terms,
        good,
        bad,
        broken,
        canaries,
        uncut: None,
        leaves_rows_out: true,
    }
}

/// What is medical here is sealed: nobody but the recipient ever has it in clear.
fn sealed_canaries(bait: &mut Bait, patients: &[Patient], bad: Patient, sender: &[(&str, &str)]) {
    let mut all = canaries(&bait.name, &[patients, &[bad]].concat());
    all.patients.append(&mut all.medical);
    bait.canaries.extend(all);
    let of = bait.name.clone();
    bait.canaries.sender.extend(sender.iter().map(|(what, word)| Canary::new(&format!("{of}: {what}"), word)));
}

/// A split batch; also the recipient's identity, and what it finds when it opens its part.
pub fn split(words: &mut Words) -> (Bait, Identity, String) {
    let (recipient, hospital) = (identity("registry"), words.word("Signer"));
    let pem = recipient.certificate_pem().unwrap();
    let terms = format!(
        "direction = \"with-return\"\n[split]\nrow = \"row\"\ncolumns = [\"diagnosis\"]\nsealed_for = '''\n{pem}'''\n\
         [[fields]]\npath = \"row\"\nkind = \"row-number\"\naction = \"keep\"\nrequired = true\n\
         [[fields]]\npath = \"niss\"\nkind = \"ssin\"\naction = \"pseudonym\"\n\
         [[fields]]\npath = \"patient_no\"\naction = \"pseudonym\"\ndomain = \"no\"\nscope = \"sender\"\n\
         [[fields]]\npath = \"name\"\naction = \"drop\"\n"
    );
    let mut bait = new("split", terms);
    bait.leaves_rows_out = false;
    let (patients, bad, file) = (words.patients(), words.spoilt(), words.word("File"));
    let all = || patients.iter().enumerate();
    let number = |at: usize| format!("{:032x}", 0x1234_5678_9abc_def0_u128 * (at as u128 + 3));
    let row = |(at, patient): (usize, &Patient)| {
        format!("{},{},{},\"{}\"\n", number(at), patient.niss, patient.number, patient.name)
    };
    let head = "row,niss,patient_no,name\n";
    let identifiers = format!("{head}{}", all().map(row).collect::<String>());
    let medical: String =
        all().map(|(at, patient)| format!("{},{} {}\n", number(at), patient.value, patient.name)).collect();
    let medical = format!("row,diagnosis\n{medical}");
    let sealed = envelope::seal(&pem, medical.as_bytes()).unwrap();
    let other = envelope::seal(&identity("another").certificate_pem().unwrap(), medical.as_bytes()).unwrap();
    let signature = identity(&hospital).sign(medical.as_bytes(), now()).unwrap();
    let batch = |identifiers: &str, sealed: &[u8]| container((&file, identifiers.as_bytes()), sealed).unwrap();
    bait.good = batch(&identifiers, &sealed);
    bait.bad = batch(&format!("{identifiers}{}", row((99, &bad))), &sealed);
    bait.broken = vec![
        ("sealed for another", batch(&identifiers, &other), true),
        ("a signature instead", batch(&identifiers, &signature), true),
        ("not sealed", batch(&identifiers, medical.as_bytes()), true),
        ("sealed and more", batch(&identifiers, &[&sealed[..], medical.as_bytes()].concat()), true),
        ("a part alone", identifiers.clone().into_bytes(), true),
        ("cut in the sealed part", bait.good[..bait.good.len() - 1_700].to_vec(), true),
        ("a row number that is a name", batch(&identifiers.replacen(&number(0), &bad.name, 1), &sealed), true),
    ];
    bait.break_like_any(&patients[0].niss, medical.as_bytes());
    let line = |patient: &Patient| {
        format!("{},{},\"{}\",{} {}\n", patient.niss, patient.number, patient.name, patient.value, patient.name)
    };
    let uncut =
        |more: &str| format!("niss,patient_no,name,diagnosis\n{}{more}", patients.iter().map(line).collect::<String>());
    bait.uncut = Some([uncut("").into_bytes(), uncut(&line(&bad)).into_bytes()]);
    sealed_canaries(&mut bait, &patients, bad, &[("the signer", &hospital), ("a file in the container", &file)]);
    (bait, recipient, medical)
}

/// Values that are sealed one by one.
pub fn sealed_values(words: &mut Words) -> Bait {
    let (recipient, signer) = (identity("registry"), words.word("Signer"));
    let pem = recipient.certificate_pem().unwrap();
    let terms = format!(
        "[[fields]]\npath = \"niss\"\nkind = \"ssin\"\naction = \"pseudonym\"\n[[fields]]\npath = \"name\"\naction = \"drop\"\n\
         [[fields]]\npath = \"labs\"\nkind = \"sealed\"\naction = \"keep\"\nrequired = true\nsealed_for = '''\n{pem}'''\n"
    );
    let mut bait = new("sealed-values", terms);
    let (patients, bad) = (words.patients(), words.spoilt());
    let row = |patient: &Patient, labs: &str| format!("{},\"{}\",{labs}\n", patient.niss, patient.name);
    let seal = |patient: &Patient| STANDARD.encode(envelope::seal(&pem, patient.value.as_bytes()).unwrap());
    let rows: String = patients.iter().map(|patient| row(patient, &seal(patient))).collect();
    let text = |more: String| format!("niss,name,labs\n{rows}{more}").into_bytes();
    let signed = STANDARD.encode(identity(&signer).sign(bad.value.as_bytes(), now()).unwrap());
    bait.good = text(String::new());
    // The hospital forgot to seal; and somebody signed.
    let good_number = words.patient();
    bait.bad = text(row(&good_number, &good_number.value));
    bait.broken = vec![("a signature instead", text(row(&bad, &signed)), false)];
    bait.break_like_any(&patients[0].niss, format!("[{{\"niss\":\"{}\"}}]", bad.niss).as_bytes());
    let all = [&patients[..], &[good_number]].concat();
    sealed_canaries(&mut bait, &all, bad, &[("the signer", &signer)]);
    bait
}

/// Rows of which some would stand out.
pub fn small_cells(words: &mut Words) -> Bait {
    // The same agreement allows single identifiers to be coded.
    let terms = "patient = [\"niss\"]\nsmall_cells = { quasi = [\"region\"], k = 5 }\n\
        [seals]\nalgorithms = [\"SIV\", \"HMAC\", \"FF1\"]\nencode = [\"NIHII-HOSPITAL:71000436\"]\n\
        decode = [\"CBE:0123456749\"]\npurpose = \"p\"\n\
        [[fields]]\npath = \"niss\"\nkind = \"ssin\"\naction = \"pseudonym\"\n[[fields]]\npath = \"region\"\naction = \"keep\"\n\
        [[fields]]\npath = \"name\"\naction = \"drop\"\n[[fields]]\npath = \"value\"\naction = \"keep\"\n";
    let mut bait = new("small-cells", terms.to_owned());
    let (patients, rare, bad) = (words.patients(), words.patients()[..2].to_vec(), words.spoilt());
    let place = words.word("Village");
    let row =
        |patient: &Patient, region: &str| format!("{},{region},\"{}\",{}\n", patient.niss, patient.name, patient.value);
    let many: String = patients.iter().map(|patient| row(patient, "north")).collect();
    let few: String = rare.iter().map(|patient| row(patient, &place)).collect();
    let text = |rows: &str| format!("niss,region,name,value\n{rows}").into_bytes();
    bait.good = text(&format!("{many}{few}"));
    bait.bad = text(&format!("{many}{few}{}", row(&bad, "north")));
    bait.broken = vec![
        ("nobody but the rare ones", text(&few), true),
        ("no patient", text(&format!("{many},{place},,\n")), false),
    ];
    bait.break_like_any(&patients[0].niss, b"<x/>");
    let of = bait.name.clone();
    bait.canaries.extend(canaries(&of, &patients));
    let mut held = canaries(&format!("{of}, held back"), &[&rare[..], &[bad]].concat());
    held.patients.append(&mut held.medical);
    bait.canaries.extend(held);
    bait.canaries.patients.push(Canary::new(&format!("{of}: a rare class"), &place));
    bait
}

/// A batch in its sender's signature; the papers of its project, each with its name in the folder.
pub fn signed(words: &mut Words, folder: &Path) -> Bait {
    let [signer, stranger] = ["Signer", "Stranger"].map(|head| words.word(head));
    let parties = [identity(&signer), identity("second"), identity("registry")];
    let prints = parties.each_ref().map(|party| fingerprint(&party.certificate_pem().unwrap()).unwrap().to_string());
    let terms = format!(
        "signed = true\n[certificates]\n\"NIHII-HOSPITAL:71000436\" = \"{}\"\n\"NIHII-HOSPITAL:71099812\" = \"{}\"\n\
         \"CBE:0123456749\" = \"{}\"\n[[fields]]\npath = \"niss\"\nkind = \"ssin\"\naction = \"pseudonym\"\n\
         [[fields]]\npath = \"name\"\naction = \"drop\"\n[[fields]]\npath = \"value\"\naction = \"keep\"\n",
        prints[0], prints[1], prints[2]
    );
    let mut bait = new("signed", terms);
    let (patients, bad) = (words.patients(), words.spoilt());
    let row = |patient: &Patient| format!("{},\"{}\",{}\n", patient.niss, patient.name, patient.value);
    let text = |more: &[Patient]| {
        format!("niss,name,value\n{}", [&patients[..], more].concat().iter().map(row).collect::<String>()).into_bytes()
    };
    let sign = |who: &Identity, batch: &[u8]| in_signature(folder, who, batch);
    bait.good = sign(&parties[0], &text(&[]));
    bait.bad = sign(&parties[0], &text(std::slice::from_ref(&bad)));
    let mut altered = bait.good.clone();
    let at = altered.windows(5).position(|window| window == b"niss,").unwrap();
    altered[at + 8] ^= 1;
    bait.broken = vec![
        ("not signed", text(&[]), true),
        ("signed by a stranger", sign(&identity(&stranger), &text(&[])), true),
        ("altered", altered, true),
    ];
    bait.break_like_any(&patients[0].niss, b"<x/>");
    let document = bait.document(&bait.name, "refuse-row");
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.join(name), bytes).unwrap();
    write("signed.toml", document.as_bytes());
    for (number, party) in parties.iter().enumerate() {
        write(&format!("signed.toml.{}.p7s", number + 1), &party.sign(document.as_bytes(), now()).unwrap());
    }
    identity("officer").write(&folder.join("officer.key"), &folder.join("officer.pem")).unwrap();
    let of = bait.name.clone();
    bait.canaries.extend(canaries(&of, &patients));
    let mut wrong = canaries(&format!("{of}, bad row"), &[bad]);
    wrong.patients.append(&mut wrong.medical);
    bait.canaries.extend(wrong);
    for (what, word) in [("the signer", &signer), ("a stranger", &stranger)] {
        bait.canaries.sender.push(Canary::new(&format!("{of}: {what}"), word));
    }
    bait
}

/// A batch in a signature, as OpenSSL writes it.
fn in_signature(folder: &Path, who: &Identity, batch: &[u8]) -> Vec<u8> {
    let at = folder.join("signer");
    std::fs::create_dir_all(&at).unwrap();
    let _first = [std::fs::remove_file(at.join("a.key")), std::fs::remove_file(at.join("a.pem"))];
    who.write(&at.join("a.key"), &at.join("a.pem")).unwrap();
    std::fs::write(at.join("batch"), batch).unwrap();
    let arguments =
        "cms -sign -nodetach -binary -md sha256 -signer a.pem -inkey a.key -in batch -outform DER -out signed";
    let output =
        Command::new("openssl").current_dir(&at).args(arguments.split(' ')).output().expect("openssl is there");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::read(at.join("signed")).unwrap()
}
