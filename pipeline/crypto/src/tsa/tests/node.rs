//! Tokens of every kind of key against PKI.js, which browsers and Node verify time stamps with.

use super::*;
use std::path::PathBuf;

/// Verifies a response over data up to a root, and refuses it over other data, with a bit less of it, and under another root.
const CHECK: &str = r#"
const { readFileSync } = require("node:fs");
const [library, ...files] = process.argv.slice(1);
const { Certificate, SignedData, TimeStampResp } = require(library);
const [data, tsr, ca, other] = files.map((path) => readFileSync(path));
const whole = (bytes) => bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
const root = (pem) => Certificate.fromBER(whole(Buffer.from(pem.toString().replace(/-----[^-]+-----|\s/g, ""), "base64")));
const verifies = async (data, tsr, pem) => {
  try {
    const signed = new SignedData({ schema: TimeStampResp.fromBER(whole(tsr)).timeStampToken.content });
    return await signed.verify({ signer: 0, trustedCerts: [root(pem)], data: whole(data), checkChain: true });
  } catch (_) {
    return false;
  }
};
const flipped = Buffer.from(tsr);
flipped[flipped.length - 9] ^= 1;
(async () => {
  const said = [
    await verifies(data, tsr, ca),
    await verifies(Buffer.concat([data, Buffer.from(" ")]), tsr, ca),
    await verifies(data, flipped, ca),
    await verifies(data, tsr, other),
  ];
  console.log(said.join(" "));
})();
"#;

/// The library beside the tools that `make oracles` installs: their folder is on the path.
fn library() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let places = std::env::split_paths(&path).map(|bin| bin.join("../node_modules/pkijs/build/index.js"));
    places.into_iter().find(|place| place.is_file())
}

#[test]
fn pkijs_accepts_tokens_of_every_key_and_refuses_changed_ones() {
    // It comes by npm, which a small machine need not have; where it has it, `make oracles` installs it.
    if Command::new("node").arg("--version").output().is_err() {
        println!("SKIPPED: node is absent");
        return;
    }
    let Some(library) = library() else {
        assert!(std::env::var_os("ZEGEL_ORACLES").is_none(), "ZEGEL_ORACLES is set and pkijs is absent");
        println!("SKIPPED: pkijs is absent");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    for algorithm in Algorithm::ALL {
        let place = folder.path().join(algorithm.to_string());
        let authority = Authority::create_with(&place, "Zegel", *NOW, algorithm).unwrap();
        let response = authority.stamp(&sha256(DATA), Some(5), *NOW).unwrap();
        let [data, tsr, _] = written(&folder, DATA, &response);
        let (ca, other) = (place.join("ca.pem"), SHARED.0.path().join("tsa/ca.pem"));
        let files = [data.as_str(), tsr.as_str(), ca.to_str().unwrap(), other.to_str().unwrap()];
        let output = run("node", &[&["-e", CHECK, library.to_str().unwrap()], &files[..]].concat()).unwrap();
        let (said, wrong) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(said.trim(), "true false false false", "{algorithm}: {wrong}");
    }
}
