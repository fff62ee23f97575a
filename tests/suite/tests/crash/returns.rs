//! The process dies in each step of a return, before and after its commit: what a researcher was told is taken reaches its hospital once,
//! and its handle serves no second time.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};
use zegel_suite::history::{HOSPITAL, REGISTRY, TTP, is_done, whole_folder};
use zegel_suite::server::{Address, Client, Server};
use zegel_suite::zegel_with_failpoints;

const PROJECT: &str = r#"
name = "returning"
senders = ["NIHII-HOSPITAL:71000436"]
recipient = "CBE:0123456749"
valid = { from = "2020-01-01", until = "2099-12-31" }
direction = "with-return"
returns = { fields = ["score"] }
[[fields]]
path = "niss"
kind = "ssin"
action = "pseudonym"
[[fields]]
path = "n"
action = "keep"
"#;
/// Around the commit of a step.
const POINTS: [&str; 2] = ["runner::before-commit", "runner::after-commit"];
/// Steps that a return takes: it is submitted, judged, answered, and delivered.
const STEPS: usize = 4;
/// Of a machine that is five times slower than usual.
const PATIENCE: Duration = Duration::from_secs(60);

/// One exchange: its handle, what goes back, and the submission once it was acknowledged.
struct Exchange {
    handle: String,
    number: usize,
    batch: String,
    submission: Option<String>,
}

#[test]
fn an_accepted_return_arrives_once_and_uses_its_handle_up_once_wherever_the_process_dies() {
    let _alone = zegel_suite::alone();
    let Some(program) = zegel_with_failpoints() else {
        println!("SKIPPED: no program built with fail points (make end-to-end builds it)");
        assert!(std::env::var_os("ZEGEL_ORACLES").is_none(), "the program with fail points was not built");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let (data, address) = (folder.path().join("data"), Address::default());
    zegel_suite::activate(&data, PROJECT);
    let server = Server::start(&program, &data, &address, &[]).expect("starts");
    let [hospital, registry] = [HOSPITAL, REGISTRY].map(|owner| server.open_box(owner).expect("a box opens"));
    let mut exchanges = deliver(&hospital, &registry, POINTS.len() * STEPS);
    assert_eq!(server.stop(), Some(0));

    let crashes = crash_in_every_step(&program, (&data, &address), &registry, &mut exchanges);
    println!("{crashes} crashes in {} returns", exchanges.len());
    assert!(crashes >= exchanges.len() - 1, "returns were hardly disturbed: {crashes} crashes");

    let server = Server::start(&program, &data, &address, &[]).expect("starts after all crashes");
    for exchange in &mut exchanges {
        let deadline = Instant::now() + PATIENCE;
        while exchange.submission.is_none() {
            give_back(&registry, exchange);
            assert!(Instant::now() < deadline, "return {} is not taken", exchange.number);
        }
    }
    all_are_final(&registry, &exchanges);
    every_handle_served_once(&registry, &exchanges);
    each_arrived_once(&hospital, exchanges.len());
    assert_eq!(server.stop(), Some(0), "the process does not drain");
}

/// Sends so many batches; each as it lies in the recipient's box, enriched.
fn deliver(hospital: &Client, registry: &Client, count: usize) -> Vec<Exchange> {
    for n in 0..count {
        let path = format!(
            "/v1/messages?sender={HOSPITAL}&project=returning&to={TTP}&publication_id=S{n}&title=S{n}&file_name=f.csv&mime=text/csv"
        );
        let (status, answer) =
            hospital.post_bytes(&path, "text/csv", format!("niss,n\n85061511796,{n}\n").as_bytes()).unwrap();
        assert_eq!(status, 202, "{answer}");
    }
    let deadline = Instant::now() + PATIENCE;
    let items = loop {
        let items = whole_folder(registry, REGISTRY);
        let delivered: Vec<Value> = items.into_iter().filter(|item| item["from"]["handle"].is_string()).collect();
        if delivered.len() == count {
            break delivered;
        }
        assert!(Instant::now() < deadline, "{} of {count} batches were delivered", delivered.len());
        thread::sleep(Duration::from_millis(50));
    };
    let exchange = |(number, item): (usize, &Value)| {
        let id = item["id"].as_str().unwrap();
        let bytes = registry.get_bytes(&format!("/v1/boxes/{REGISTRY}/items/{id}/parts/0")).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        let lines = text.lines().filter(|line| !line.is_empty()).enumerate();
        let batch = lines.map(|(at, line)| format!("{line},{}\n", if at == 0 { "score" } else { "0.5" })).collect();
        let handle = item["from"]["handle"].as_str().unwrap().to_owned();
        Exchange { handle, number, batch, submission: None }
    };
    items.iter().enumerate().map(exchange).collect()
}

/// For each point and step: starts the program so that it dies there, and gives back what is open until it has died. How often it did.
fn crash_in_every_step(
    program: &Path,
    (data, address): (&Path, &Address),
    registry: &Client,
    exchanges: &mut [Exchange],
) -> usize {
    let mut crashes = 0;
    for (number, (point, step)) in POINTS.iter().flat_map(|point| (0..STEPS).map(move |step| (point, step))).enumerate()
    {
        let step = step.to_string();
        let env = [("ZEGEL_CRASH_AT", *point), ("ZEGEL_CRASH_PASSES", step.as_str())];
        let Ok(mut server) = Server::start(program, data, address, &env) else {
            // It died over what the one before had left, while it started.
            crashes += 1;
            continue;
        };
        let deadline = Instant::now() + Duration::from_secs(10);
        while !server.has_ended() && Instant::now() < deadline {
            for exchange in exchanges[..=number].iter_mut().filter(|exchange| exchange.submission.is_none()) {
                give_back(registry, exchange);
            }
            thread::sleep(Duration::from_millis(10));
        }
        crashes += usize::from(server.has_ended());
        server.kill();
    }
    crashes
}

/// Hands a return in, with the id that makes a repetition harmless; notes what was acknowledged.
fn give_back(registry: &Client, exchange: &mut Exchange) {
    if let Ok((status, answer)) = post(registry, exchange, "R") {
        assert!(!(400..500).contains(&status), "a repeated return is refused: {status} {answer}");
        exchange.submission = (status == 202).then(|| answer["submission"].as_str().expect("an id").to_owned());
    }
}

fn post(
    registry: &Client,
    Exchange { handle, number, batch, .. }: &Exchange,
    letter: &str,
) -> Result<(u16, Value), String> {
    let path = format!(
        "/v1/returns/{handle}?sender={REGISTRY}&project=returning&publication_id={letter}{number}&title=r&file_name=r.csv&mime=text/csv"
    );
    registry.post_bytes(&path, "text/csv", batch.as_bytes())
}

/// The final answer of a submission: whether it is positive.
fn answer(registry: &Client, submission: &str) -> bool {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let life = registry.get(&format!("/v1/submissions/{submission}"));
        if let Some([recipient]) = life.as_ref().ok().and_then(|life| life["recipients"].as_array()).map(Vec::as_slice)
        {
            match is_done(recipient) {
                true => return true,
                false if recipient["state"]["is"] == "refused" => return false,
                false => {}
            }
        }
        assert!(Instant::now() < deadline, "return {submission} has no final answer: {life:?}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn all_are_final(registry: &Client, exchanges: &[Exchange]) {
    for exchange in exchanges {
        let submission = exchange.submission.as_ref().unwrap();
        assert!(answer(registry, submission), "return {} was taken and then refused", exchange.number);
        let life = registry.get(&format!("/v1/submissions/{submission}")).unwrap();
        assert_eq!(life["ignored"].as_u64().unwrap_or(0), 0, "return {} was answered twice", exchange.number);
    }
}

fn every_handle_served_once(registry: &Client, exchanges: &[Exchange]) {
    for exchange in exchanges {
        let (status, taken) = post(registry, exchange, "Again").unwrap();
        assert_eq!(status, 202, "{taken}");
        assert!(!answer(registry, taken["submission"].as_str().unwrap()), "handle {} served twice", exchange.number);
    }
}

/// Every batch is back in the hospital's box, in clear, once.
fn each_arrived_once(hospital: &Client, count: usize) {
    let deadline = Instant::now() + PATIENCE;
    let returned = loop {
        let items = whole_folder(hospital, HOSPITAL);
        let returned: Vec<Value> = items.into_iter().filter(|item| item["meta"]["returns"].is_string()).collect();
        if returned.len() >= count {
            break returned;
        }
        assert!(Instant::now() < deadline, "{} of {count} returns arrived", returned.len());
        thread::sleep(Duration::from_millis(50));
    };
    let mut rows: BTreeMap<String, usize> = BTreeMap::new();
    for item in &returned {
        let id = item["id"].as_str().unwrap();
        let bytes = hospital.get_bytes(&format!("/v1/boxes/{HOSPITAL}/items/{id}/parts/0")).unwrap();
        *rows.entry(String::from_utf8(bytes).unwrap()).or_default() += 1;
    }
    let expected = (0..count).map(|n| (format!("niss,n,score\n85061511796,{n},0.5\n"), 1)).collect();
    assert_eq!(rows, expected, "a return was lost, doubled or changed");
    let origins: BTreeSet<&str> = returned.iter().filter_map(|item| item["meta"]["returns"].as_str()).collect();
    assert_eq!(origins.len(), count, "two returns answer one submission");
}
