//! What the store counts, and how well projects hide their senders, in the Prometheus text format 0.0.4.

use std::sync::atomic::{AtomicU64, Ordering};
use zegel_embedded::Metrics;

/// The embedded store's numbers.
pub fn embedded(metrics: &Metrics) -> String {
    let counters: [(&str, &str, &AtomicU64); 11] = [
        ("zegel_store_commits_total", "Transactions committed, one fsync each.", &metrics.commits),
        ("zegel_store_rollbacks_total", "Transactions rolled back.", &metrics.rollbacks),
        ("zegel_store_steps_total", "Steps committed.", &metrics.steps),
        ("zegel_store_messages_total", "Messages that got a number.", &metrics.messages),
        ("zegel_store_rows_total", "Rows inserted, updated or deleted.", &metrics.rows),
        ("zegel_store_written_bytes_total", "Bytes of sealed values and bodies written.", &metrics.bytes),
        ("zegel_store_trimmed_total", "Messages deleted because every group had passed them.", &metrics.trimmed),
        ("zegel_store_checkpoints_total", "Passive checkpoints that ran.", &metrics.checkpoints),
        ("zegel_store_log_restarts_total", "Times the write-ahead log was restarted.", &metrics.restarts),
        ("zegel_store_tail_hits_total", "Batches that subscribers got from memory.", &metrics.tail_hits),
        ("zegel_store_tail_misses_total", "Batches that subscribers got from the file.", &metrics.tail_misses),
    ];
    let mut out = self::counters(&counters.map(|(name, help, counter)| (name, help, counter.load(Ordering::Relaxed))));
    let log_bytes = metrics.wal_bytes.load(Ordering::Relaxed);
    one(&mut out, "zegel_store_log_bytes", "Bytes in the write-ahead log.", "gauge", log_bytes);
    out
}

/// Counters by name, help and value.
pub fn counters(counters: &[(&str, &str, u64)]) -> String {
    let mut out = String::new();
    for (name, help, value) in counters {
        one(&mut out, name, help, "counter", *value);
    }
    out
}

/// Of each project how many may send, and among how few of them a delivery may be hidden. A project's name is its label.
pub fn anonymity(projects: &[(String, usize, usize)]) -> String {
    let metrics = [
        (
            "zegel_ttp_senders",
            "Senders of the project.",
            projects.iter().map(|(name, all, _)| (name, all)).collect::<Vec<_>>(),
        ),
        (
            "zegel_ttp_anonymity_set",
            "Fewest senders that a delivery may be hidden among.",
            projects.iter().map(|(name, _, fewest)| (name, fewest)).collect(),
        ),
    ];
    let mut out = String::new();
    for (name, help, values) in metrics.into_iter().filter(|(_, _, values)| !values.is_empty()) {
        out.push_str(&format!("# HELP {name} {help}\n# TYPE {name} gauge\n"));
        for (project, value) in values {
            out.push_str(&format!("{name}{{project=\"{project}\"}} {value}\n"));
        }
    }
    out
}

fn one(out: &mut String, name: &str, help: &str, kind: &str, value: u64) {
    out.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_project_says_how_well_it_hides_its_senders() {
        let text = anonymity(&[("alone".to_owned(), 1, 1), ("lab".to_owned(), 9, 3)]);
        assert!(text.contains("zegel_ttp_senders{project=\"lab\"} 9\n"), "{text}");
        assert!(text.contains("zegel_ttp_anonymity_set{project=\"lab\"} 3\n"), "{text}");
        assert_eq!(text.lines().count(), 8);
        assert_eq!(anonymity(&[]), "");
    }

    #[test]
    fn every_number_has_help_a_type_and_a_value() {
        let text = embedded(&Metrics::default());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 36);
        for lines in lines.chunks(3) {
            let name = lines[2].split(' ').next().unwrap_or_default();
            assert!(
                lines[0].starts_with(&format!("# HELP {name} ")) && lines[1].starts_with(&format!("# TYPE {name} "))
            );
        }
    }
}
