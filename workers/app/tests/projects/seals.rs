//! Seals from the command line: who may, how much, and what is logged.

use super::*;

#[test]
fn seals_codes_for_those_whom_the_agreement_names_within_their_quota_and_logs_what_was_decoded() {
    let world = World::new();
    fs::remove_dir_all(world.data()).unwrap();
    let text = format!(
        "name = \"invoices\"\nsenders = [\"{SENDER}\"]\nrecipient = \"{RECIPIENT}\"\n\
         valid = {{ from = \"2026-01-01\", until = \"2099-12-31\" }}\n[seals]\nalgorithms = [\"SIV\", \"HMAC\", \"FF1\"]\n\
         encode = [\"{SENDER}\"]\ndecode = [\"{RECIPIENT}\"]\npurpose = \"invoicing\"\ndecode_per_day = 3\n"
    );
    world.ok(&["project", "activate", "--trial", &world.batch("invoices.toml", &text)]);
    let platform = world.up();
    for address in [SENDER, RECIPIENT] {
        world.ok(&["mailbox", "open", address]);
    }
    let plain = world.batch("plain.txt", "85061511796\nAmélie\n\n");
    let encode = |caller, file: &str| world.run(&["seals", "encode", "invoices", "--caller", caller, file]);
    let (status, coded) = encode(SENDER, &plain);
    assert_eq!((status, coded["errors"].as_u64()), (Some(3), Some(1)), "{coded}");
    let values: Vec<String> = coded["Response"].as_array().unwrap()[..2]
        .iter()
        .map(|one| one["EncodedData"]["Value"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(encode(RECIPIENT, &plain).1["error"]["code"], "ZGL-SEALS-RIGHT");
    let codes = world.batch("codes.txt", &values.join("\n"));
    let decode = |caller| world.run(&["seals", "decode", "invoices", "--caller", caller, &codes]);
    assert_eq!(decode(SENDER).1["error"]["code"], "ZGL-SEALS-RIGHT", "who may encode may decode");
    let decoded = decode(RECIPIENT);
    assert_eq!(decoded.1["Response"][0]["DecodedData"]["OutputData"], "85061511796", "{}", decoded.1);
    assert_eq!(decoded.1["Response"][1]["DecodedData"]["OutputData"], "Amélie");
    let digits = world.batch("digits.txt", "85061511796\n");
    let text = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_zegel"));
        let output = command.args(["seals"]).args(arguments).arg("--data").arg(world.data()).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let coded = text(&["encode", "invoices", "--caller", SENDER, "--algorithm", "FF1", &digits]);
    assert!(coded.len() == 11 && coded != "85061511796" && coded.bytes().all(|byte| byte.is_ascii_digit()), "{coded}");
    // An editor's mark at the beginning of a file is no part of its first value.
    let marked = world.batch("marked.txt", "\u{feff}85061511796\n");
    assert_eq!(text(&["encode", "invoices", "--caller", SENDER, "--algorithm", "FF1", &marked]), coded);
    let coded = world.batch("coded.txt", &coded);
    assert_eq!(text(&["decode", "invoices", "--caller", RECIPIENT, "--digits", &coded]), "85061511796");
    let log = world.ok(&["seals", "log", "invoices"]);
    assert_eq!(log["log"].as_array().unwrap().len(), 2, "{log}");
    assert_eq!(log["log"][0]["items"], 2);
    assert!(!log.to_string().contains("85061511796"));
    drop(platform);
}
