//! Batches whose items are good and bad, rights, quotas and the log.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::wire::OriginalData;
use super::worker::{Grant, SealsKeeper};
use super::*;
use crate::project::ProjectDocument;
use crate::project::book::ProjectBook;
use proptest::prelude::*;
use schemas::messages::{SealsOperation, SealsUsed};
use schemas::{Envelope, MailboxAddress, MessageId, Millis};
use zegel_core::{Context, Decision, Effects, Message, View, Worker, names};
use zegel_crypto::Keyring;

const NOW: Millis = Millis(1_795_305_600_000);
const DAY_MS: i64 = 86_400_000;
const HOSPITAL: &str = "NIHII-HOSPITAL:71000436";
const REGISTRY: &str = "CBE:0123456749";

fn project(quotas: &str) -> CompiledProject {
    let text = format!(
        "name = \"app\"\nsenders = [\"{HOSPITAL}\"]\nrecipient = \"{REGISTRY}\"\n\
         valid = {{ from = \"2026-01-01\", until = \"2026-12-31\" }}\n[seals]\nalgorithms = [\"SIV\", \"HMAC\", \"GCM\", \"FF1\"]\n\
         encode = [\"{HOSPITAL}\"]\ndecode = [\"{REGISTRY}\"]\npurpose = \"invoicing\"\n{quotas}"
    );
    CompiledProject::new(ProjectDocument::parse(&text).unwrap(), &[7; 32]).unwrap()
}

fn application() -> Application {
    Application::new(Arc::new(project("")), &[9; 32]).unwrap()
}

fn item(id: &str, algorithm: &str, text: &str) -> OriginalData {
    OriginalData { id: id.to_owned(), algorithm_code: algorithm.to_owned(), input_data: text.to_owned() }
}

fn encode_all(items: Vec<OriginalData>) -> (EncodeResponse, Use) {
    let keys = Keyring::generate_in_memory();
    let mut random = |bytes: &mut [u8]| zegel_core::Keys::random(&keys, bytes);
    let request = EncodeRequest { application_name: "app".to_owned(), original_data: items };
    encode(&mut application(), request, &mut random)
}

fn code(encoded: &Encoded) -> &str {
    match encoded {
        Encoded::EncodedData(_) => "",
        Encoded::Error(error) => &error.error_code,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn what_is_encoded_is_decoded_in_order(texts in proptest::collection::vec("\\PC{1,60}", 1..12), which in 0usize..2) {
        let algorithm = ["SIV", "GCM"][which];
        let items = texts.iter().enumerate().map(|(n, text)| item(&format!("i{n}"), algorithm, text)).collect();
        let (response, used) = encode_all(items);
        prop_assert_eq!(used.items as usize, texts.len());
        let encoded_data = response.response.into_iter().map(|one| match one {
            Encoded::EncodedData(data) => data,
            Encoded::Error(error) => panic!("{error:?}"),
        });
        let request = DecodeRequest { application_name: "app".to_owned(), encoded_data: encoded_data.collect() };
        let (decoded, _) = decode(&mut application(), request);
        let found: Vec<(String, String)> = decoded.response.into_iter().map(|one| match one {
            Decoded::DecodedData(data) => (data.id, data.output_data),
            Decoded::Error(error) => panic!("{error:?}"),
        }).collect();
        let expected: Vec<_> = texts.into_iter().enumerate().map(|(n, text)| (format!("i{n}"), text)).collect();
        prop_assert_eq!(found, expected);
    }
}

#[test]
fn a_bad_item_is_an_error_by_itself_and_quotes_nothing() {
    let long = "x".repeat(751);
    let (response, used) = encode_all(vec![
        item("a", "SIV", "85061511796"),
        item("b", "MD5", "85061511796"),
        item("c", "SIV", ""),
        item("d", "SIV", &long),
        item("a", "SIV", "85061511796"),
        item("85061511796", "SIV", "x"),
        item("e", "HMAC", "é"),
    ]);
    let codes: Vec<&str> = response.response.iter().map(code).collect();
    assert_eq!(codes, ["", ALGORITHM, INPUT, INPUT, ID, ID, ""]);
    assert_eq!((used.items, used.errors, response.status.code.as_str()), (2, 5, "300"));
    assert!(response.response[4..5].iter().all(|one| !format!("{one:?}").contains("85061511796")));
}

#[test]
fn a_value_of_another_application_or_a_one_way_one_is_an_error() {
    let (response, _) = encode_all(vec![item("a", "HMAC", "x"), item("b", "SIV", "x")]);
    let values: Vec<EncodedData> = response
        .response
        .into_iter()
        .map(|one| match one {
            Encoded::EncodedData(data) => data,
            Encoded::Error(error) => panic!("{error:?}"),
        })
        .collect();
    let request = DecodeRequest { application_name: "app".to_owned(), encoded_data: values.clone() };
    let codes = |mut application: Application| {
        let (decoded, _) = decode(&mut application, request.clone());
        let code = |one: Decoded| match one {
            Decoded::DecodedData(_) => String::new(),
            Decoded::Error(error) => error.error_code,
        };
        decoded.response.into_iter().map(code).collect::<Vec<_>>()
    };
    assert_eq!(codes(application()), [ONE_WAY, ""]);
    assert_eq!(codes(Application::new(Arc::new(project("")), &[8; 32]).unwrap()), [ONE_WAY, VALUE]);
    let garbage = EncodedData { id: "z".to_owned(), value: "not base64!".to_owned() };
    let request = DecodeRequest { application_name: "app".to_owned(), encoded_data: vec![garbage] };
    assert!(
        matches!(&decode(&mut application(), request).0.response[0], Decoded::Error(error) if error.error_code == VALUE)
    );
}

#[test]
fn the_wire_has_the_members_of_the_public_interface() {
    let (response, _) = encode_all(vec![item("a", "HMAC", "x"), item("b", "?", "x")]);
    let json = serde_json::to_value(&response).unwrap();
    assert_eq!(json["ApplicationName"], "app");
    assert_eq!(json["Response"][0]["EncodedData"]["Id"], "a");
    assert!(json["Response"][0]["EncodedData"]["Value"].is_string());
    assert_eq!(json["Response"][1]["Error"]["ErrorCode"], ALGORITHM);
    assert!(json["Response"][1]["Error"]["ErrorValue"].is_string());
    let request = r#"{"ApplicationName":"app","OriginalData":[{"Id":"a","AlgorithmCode":"SIV","InputData":"x"}]}"#;
    assert_eq!(serde_json::from_str::<EncodeRequest>(request).unwrap().original_data.len(), 1);
}

struct Bench {
    keeper: SealsKeeper,
    keys: Keyring,
    day: Option<(bytes::Bytes, bytes::Bytes)>,
}

impl Bench {
    fn new(quotas: &str) -> Bench {
        let book = ProjectBook::unconditional(vec![project(quotas)]).unwrap();
        Bench { keeper: SealsKeeper::new(Arc::new(book)).unwrap(), keys: Keyring::generate_in_memory(), day: None }
    }

    fn ask(&mut self, caller: &str, operation: SealsOperation, texts: &[&str], now: Millis) -> (Grant, Effects) {
        let items = texts.iter().enumerate().map(|(n, text)| item(&format!("i{n}"), "SIV", text)).collect();
        let values = BASE64_STANDARD.encode(encode_all(items).1.values.encode());
        let caller: MailboxAddress = caller.parse().unwrap();
        let items = u32::try_from(texts.len()).unwrap();
        let used = SealsUsed { application: "app".to_owned(), caller, operation, items, errors: 0, values };
        let key = names::project_key(&self.keys, "app");
        let envelope = Envelope::new(MessageId([1; 16]), "/t", key, now, &used).unwrap();
        let message = Message { number: 1, envelope, attempt: 0, job: None };
        let context = Context { now, keys: &self.keys };
        let mut view = View::default();
        for read in self.keeper.reads(&message, &context) {
            view.load(read, self.day.clone().into_iter().collect());
        }
        let Decision::Done(effects) = self.keeper.decide(&message, &view, &context).unwrap() else {
            panic!("not done")
        };
        if let Some(day) = effects.changes.iter().find(|change| change.sub[0] == 0) {
            self.day = day.value.clone().map(|value| (day.sub.clone(), value));
        }
        (serde_json::from_slice(effects.reply.as_ref().unwrap()).unwrap(), effects)
    }
}

#[test]
fn a_quota_of_distinct_values_to_encode_ends_the_day_and_repeats_are_free() {
    let mut bench = Bench::new("encode_per_day = 3");
    let mut ask = |texts: &[&str], now| bench.ask(HOSPITAL, SealsOperation::Encode, texts, now).0;
    assert_eq!(ask(&["a", "b"], NOW), Grant::Granted);
    assert_eq!(ask(&["a", "b"], NOW), Grant::Granted);
    assert_eq!(ask(&["c", "d"], NOW), Grant::UsedUp);
    assert_eq!(ask(&["c"], NOW), Grant::Granted);
    assert_eq!(ask(&["d"], NOW), Grant::UsedUp);
    assert_eq!(ask(&["d"], NOW.plus(DAY_MS)), Grant::Granted);
}

#[test]
fn decoding_needs_the_right_is_counted_item_by_item_and_each_call_is_logged() {
    let mut bench = Bench::new("decode_per_day = 2");
    let (answer, effects) = bench.ask(HOSPITAL, SealsOperation::Decode, &["a"], NOW);
    assert_eq!(answer, Grant::NoRight, "who may encode may decode");
    assert!(effects.changes.iter().any(|change| change.sub[0] == 1), "a refused call leaves no line");
    assert_eq!(bench.ask(REGISTRY, SealsOperation::Encode, &["a"], NOW).0, Grant::NoRight);
    let (answer, effects) = bench.ask(REGISTRY, SealsOperation::Decode, &["a", "a"], NOW);
    assert_eq!(answer, Grant::Granted);
    let line = effects.changes.iter().find(|change| change.sub[0] == 1).expect("a line of the log");
    let line: serde_json::Value = serde_json::from_slice(line.value.as_ref().unwrap()).unwrap();
    assert_eq!((line["caller"].as_str(), line["items"].as_u64()), (Some(REGISTRY), Some(2)));
    assert_eq!(bench.ask(REGISTRY, SealsOperation::Decode, &["a"], NOW).0, Grant::UsedUp, "repeats are free to decode");
    assert_eq!(
        bench.ask(REGISTRY, SealsOperation::Decode, &["a"], NOW.plus(60 * DAY_MS)).0,
        Grant::NoRight,
        "it expired"
    );
}

#[test]
fn digits_are_decoded_only_where_the_agreement_names_ff1() {
    let (response, used) = encode_all(vec![
        item("a", "FF1", "85061511796"),
        item("b", "FF1", "8506151179X"),
        item("c", "SIV", &"€".repeat(750)),
    ]);
    assert_eq!(response.response.iter().map(code).collect::<Vec<_>>(), ["", INPUT, ""]);
    assert_eq!(used.items, 2);
    let Encoded::EncodedData(data) = response.response[0].clone() else { panic!("not encoded") };
    let request = DecodeRequest { application_name: "app".to_owned(), encoded_data: vec![data] };
    let decoded = |application: &mut Application| match decode(application, request.clone()).0.response.remove(0) {
        Decoded::DecodedData(data) => data.output_data,
        Decoded::Error(error) => error.error_code,
    };
    assert_eq!(decoded(&mut application()), "85061511796");
    let text = format!(
        "name = \"app\"\nsenders = [\"{HOSPITAL}\"]\nrecipient = \"{REGISTRY}\"\n\
         valid = {{ from = \"2026-01-01\", until = \"2026-12-31\" }}\n[seals]\nalgorithms = [\"SIV\"]\n\
         encode = [\"{HOSPITAL}\"]\ndecode = [\"{REGISTRY}\"]\npurpose = \"invoicing\"\n"
    );
    let other = CompiledProject::new(ProjectDocument::parse(&text).unwrap(), &[7; 32]).unwrap();
    assert_eq!(decoded(&mut Application::new(Arc::new(other), &[9; 32]).unwrap()), VALUE, "any digits are decoded");
}
