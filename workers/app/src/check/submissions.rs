//! I5: every submission has at most one final answer for each recipient, and one in time.

use super::Line;
use super::rows::Rows;
use crate::failed::Failed;
use std::collections::HashMap;
use zegel_core::Clock;
use zegel_core::clock::SystemClock;
use zegel_core::rows::decode;
use zegel_core::slot::spaces;
use zegel_receipts::SubmissionRow;
use zegel_receipts::rows::What;

/// Checks every submission.
///
/// # Errors
/// When the database cannot be read.
pub fn check(rows: &Rows) -> Result<Line, Failed> {
    let now = SystemClock.now();
    let mut line = Line::new("I5", "submissions have one final answer for each recipient, in time");
    rows.every(spaces::SUBMISSIONS, |_, _, value| {
        line.looked_at += 1;
        let Some(row) = value.and_then(|bytes| decode::<SubmissionRow>(&bytes).ok()) else {
            line.fault("a submission's row cannot be read");
            return Ok(());
        };
        // Without a sender it holds an answer that came before the submission; only the sender is missing, not for long.
        if row.sender.is_none() {
            line.fault(format!("submission {} was answered and never opened", row.submission));
        } else if !row.is_final() && now > row.deadline {
            line.fault(format!("submission {} has no final answer after its deadline", row.submission));
        }
        let mut finals: HashMap<Option<u16>, u32> = HashMap::new();
        for event in row.life.iter().filter(|event| matches!(event.what, What::Done | What::Refused)) {
            *finals.entry(event.recipient).or_default() += 1;
        }
        if finals.values().any(|count| *count > 1) {
            line.fault(format!("submission {} has two final answers for one recipient", row.submission));
        }
        for recipient in row.recipients.iter().filter_map(|recipient| recipient.answered_at) {
            if recipient > row.deadline {
                line.fault(format!("submission {} was answered after its deadline", row.submission));
            }
        }
        Ok(())
    })?;
    Ok(line)
}
