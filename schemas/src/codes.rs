//! Stable codes of everything that Zegel refuses or reports.
//!
//! A code never changes its meaning and is never reused; numbers are those of the eHealthBox where it has one. The table
//! is printed in `schemas/README.md`, and a test keeps both equal. Texts name rules, never values.
//! Invariants (tested): codes are unique; a refusal has an HTTP status of 400 and above.

/// What a code stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CodeKind {
    /// The input was refused and nothing changed; the sender can do something about it.
    Refused,
    /// The platform could not do it; an operator can do something about it.
    Failed,
    /// It was done, and there is something to know.
    Warning,
}

impl CodeKind {
    /// `refused`, `failed` or `warning`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            CodeKind::Refused => "refused",
            CodeKind::Failed => "failed",
            CodeKind::Warning => "warning",
        }
    }
}

/// One stable code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code {
    /// The code itself: a number of the eHealthBox, or `ZGL-…`.
    pub code: &'static str,
    /// What it stands for.
    pub kind: CodeKind,
    /// The status that it has in an HTTP answer.
    pub http_status: u16,
    /// One line that says what happened.
    pub summary: &'static str,
    /// One sentence that says what to do.
    pub help: &'static str,
}

/// Every code, in the order of the documentation.
#[must_use]
pub fn all() -> &'static [Code] {
    CODES
}

/// The code with this name.
#[must_use]
pub fn find(code: &str) -> Option<&'static Code> {
    CODES.iter().find(|entry| entry.code == code)
}

/// The table as Markdown, for the documentation.
#[must_use]
pub fn markdown() -> String {
    let mut text =
        String::from("| code | kind | HTTP | what happened | what to do |\n| --- | --- | --- | --- | --- |\n");
    for Code { code, kind, http_status, summary, help } in CODES {
        text.push_str(&format!("| `{code}` | {} | {http_status} | {summary} | {help} |\n", kind.name()));
    }
    text
}

const fn refused(code: &'static str, http_status: u16, summary: &'static str, help: &'static str) -> Code {
    Code { code, kind: CodeKind::Refused, http_status, summary, help }
}

const fn failed(code: &'static str, http_status: u16, summary: &'static str, help: &'static str) -> Code {
    Code { code, kind: CodeKind::Failed, http_status, summary, help }
}

const fn warning(code: &'static str, http_status: u16, summary: &'static str, help: &'static str) -> Code {
    Code { code, kind: CodeKind::Warning, http_status, summary, help }
}

#[rustfmt::skip] // one code a line is read as a table
const CODES: &[Code] = &[
    // The mailbox, with the numbers of eHealthBox v3.
    refused("801", 413, "message is over 10 MiB", "send less, or send a batch to the TTP, which takes larger ones"),
    refused("802", 422, "identifier of an address is invalid", "check the digits of the number"),
    refused("803", 422, "quality of an address is invalid", "take a quality that goes with the type, or leave it out"),
    refused("804", 422, "type of an address is invalid", "take SSIN, NIHII, CBE or EHP"),
    refused("805", 422, "subtype of an address is invalid", "take a subtype that goes with the type"),
    refused("810", 422, "box does not belong to the sender", "name a box of your own"),
    refused("814", 403, "not authorised to publish to this quality", "send to another quality of the recipient"),
    refused("816", 422, "digest does not match the content", "compute the SHA-256 over the bytes as they are sent"),
    warning("826", 200, "a recipient is out of office", "decide whether to send to a substitute"),
    // A submission on its way.
    refused("ZGL-PUB-REUSED", 409, "publication id stands for other content", "choose a new publication id"),
    refused("ZGL-BOX-UNKNOWN", 422, "recipient has no mailbox here", "check the address, or have the box opened"),
    failed("ZGL-DEADLINE", 504, "no answer within 2 hours", "send again under a new publication id"),
    failed("ZGL-STANDBY", 507, "recipient's box was still full at the deadline", "ask the recipient to make room, then send again"),
    // Processing.
    failed("ZGL-PANIC", 500, "worker panicked", "report the fault; replay the dead letter after the repair"),
    failed("ZGL-POISON", 500, "message ended the process several times", "report the fault; replay the dead letter after the repair"),
    failed("ZGL-ATTEMPTS", 500, "all attempts are used up", "see the last error of the dead letter, then replay it"),
    failed("ZGL-READS", 500, "worker asked for more reads than a step may have", "report the fault"),
    failed("ZGL-MSG-TYPE", 500, "message has a type that its stage does not know", "upgrade the stage, then replay the dead letter"),
    failed("ZGL-MSG-PAYLOAD", 500, "message does not follow its schema", "upgrade the stage, then replay the dead letter"),
    failed("ZGL-MSG-ENCODE", 500, "message that was produced could not be written", "report the fault"),
    failed("ZGL-STATE-READ", 500, "stored state does not follow its schema", "run zegel check"),
    failed("ZGL-STATE-WRITE", 500, "state could not be written as JSON", "report the fault"),
    failed("ZGL-JOB-UNKNOWN", 500, "no executor knows this job", "upgrade the stage, then replay the dead letter"),
    failed("ZGL-STOPPING", 503, "process is stopping", "nothing; the work is started again"),
    // The TTP.
    refused("ZGL-TTP-PROJECT", 422, "project is unknown", "check the project's name"),
    refused("ZGL-TTP-EXPIRED", 422, "project has expired", "have the agreement renewed"),
    refused("ZGL-TTP-EARLY", 422, "project is not valid yet", "send from its first day on"),
    refused("ZGL-TTP-INACTIVE", 422, "project is not signed and activated", "have every party sign and an officer activate it"),
    refused("ZGL-TTP-ALTERED", 422, "project's papers are not as they were signed", "have the officer run zegel project status"),
    refused("ZGL-TTP-RETIRED", 422, "project is retired", "send nothing more for it"),
    refused("ZGL-TTP-KEYS", 422, "project's keys are missing or other ones", "have the operator restore the key file"),
    refused("ZGL-TTP-FILING", 422, "decision or its papers break a rule", "see the paper and the rule that are named; zegel project check"),
    refused("ZGL-TTP-SENDER", 403, "sender does not belong to the project", "have the sender added to the agreement"),
    refused("ZGL-TTP-QUOTA", 422, "sender's quota of distinct identifiers is used up", "send the rest tomorrow, or have the quota of the agreement raised"),
    refused("ZGL-TTP-SEALED", 422, "sealed part cannot pass", "seal it for the recipient's certificate alone, as plain data, without a signature: zegel send does"),
    refused("ZGL-TTP-SIGNATURE", 422, "batch is not signed by its sender", "sign it whole with the certificate that the agreement names"),
    refused("ZGL-TTP-FORMAT", 422, "batch is not of the project's format", "send the format that the project names, or CSV or NDJSON where it names none"),
    refused("ZGL-TTP-SIZE", 413, "batch is over the limit", "send it in several parts"),
    refused("ZGL-TTP-EMPTY", 422, "batch has no rows", "send at least one row"),
    refused("ZGL-TTP-COLUMNS", 422, "columns are not those of the project", "send the columns that the project lists"),
    refused("ZGL-TTP-MISSING", 422, "column of the project is missing", "add the column that is named"),
    refused("ZGL-TTP-UNLISTED", 422, "column is not listed in the project", "leave the column out, or have it added to the agreement"),
    refused("ZGL-TTP-ROWS", 422, "batch has bad rows", "correct the rows that are listed and send the batch again"),
    refused("ZGL-TTP-CELLS", 422, "rows would tell too few patients apart", "send more patients of each class in one batch, or have the fields made coarser"),
    refused("ZGL-TTP-FEW", 422, "too few senders came together in time", "send again when others send, or have the project's release changed"),
    refused("ZGL-TTP-POOL", 429, "too many of the sender's batches wait for other senders'", "send fewer and larger batches, or later"),
    // What a recipient sends back.
    refused("ZGL-RETURN-DIRECTION", 422, "project takes nothing back", "see the direction of its document"),
    refused("ZGL-RETURN-RECIPIENT", 403, "only the project's recipient may send back", "send from the box that the batch was delivered to"),
    refused("ZGL-RETURN-HANDLE", 422, "handle is unknown", "take the handle of the message that brought the batch, and the project's name"),
    refused("ZGL-RETURN-EXPIRED", 422, "time to send back has passed", "have the batch sent anew; the document says how long a handle lives"),
    refused("ZGL-RETURN-KEY", 503, "key of the project's decode role is not here", "send to an installation that has it, or have the role decode: zegel project decode --help"),
    refused("ZGL-RETURN-USED", 409, "handle was used by a return that was accepted", "send back once for each batch"),
    // Seals, the synchronous service.
    refused("ZGL-SEALS-RIGHT", 403, "caller has no such right to this application", "see the [seals] of its project's document"),
    refused("ZGL-SEALS-QUOTA", 429, "caller's quota of this day is used up", "go on tomorrow, or have the quota of the agreement raised"),
    refused("ZGL-SEALS-ALGORITHM", 422, "algorithm is unknown or not allowed here", "ask for one that the project's document names"),
    refused("ZGL-SEALS-INPUT", 422, "text of the item is empty or too long", "send 1 to 750 characters"),
    refused("ZGL-SEALS-VALUE", 422, "value was not made for this application", "send the value as it was given, to its own application"),
    refused("ZGL-SEALS-ONE-WAY", 422, "value is one-way", "nobody can decode it"),
    refused("ZGL-SEALS-ID", 422, "id of the item is not a name, or stands twice", "begin with a letter, and name each item once"),
    refused("ZGL-ROW-REQUIRED", 422, "required value is empty", "fill the field"),
    refused("ZGL-ROW-SSIN", 422, "national number is invalid", "check the digits of the number"),
    refused("ZGL-ROW-DATE", 422, "date is invalid", "write YYYY-MM-DD"),
    refused("ZGL-ROW-POSTCODE", 422, "postcode is invalid", "write the four digits"),
    refused("ZGL-ROW-NIS", 422, "NIS code is unknown", "write the five digits of a municipality"),
    refused("ZGL-ROW-NUMBER", 422, "number or age is invalid", "write digits with a point for the fraction; an age is 0 to 130"),
    refused("ZGL-ROW-SEX", 422, "code for a sex is invalid", "write a letter, a digit or a word"),
    refused("ZGL-ROW-SEALED", 422, "sealed content is not for the recipient alone", "seal it for the certificate that the project names, unsigned and for nobody else"),
    refused("ZGL-ROW-ID", 422, "id or reference of FHIR is invalid", "write letters, digits, hyphens and points, at most 64"),
    refused("ZGL-ROW-PATIENT", 422, "row does not say who its patient is", "fill the field that the project names as the patient"),
    refused("ZGL-ROW-TOKEN", 422, "value is no token of this project", "send back the tokens as they were delivered"),
    refused("ZGL-ROW-FOREIGN", 422, "tokens and row number were not delivered together in this exchange", "send back each row with the number and the tokens that it came with"),
    refused("ZGL-ROW-UNNUMBERED", 422, "row has no row number, or several", "send back each row with the one number that it was delivered with"),
    refused("ZGL-ROW-TWICE", 422, "row stands twice in what is sent back", "send back each row once"),
    refused("ZGL-ROW-LENGTH", 422, "value or row is too long", "shorten it"),
    refused("ZGL-ROW-PREFIX", 422, "value does not begin with its prefix", "write the prefix that the project names before the identifier"),
    refused("ZGL-ROW-FIELDS", 422, "row has another number of fields than the header", "check quotes and separators"),
    refused("ZGL-ROW-QUOTE", 422, "quote is not closed before the batch ends", "close it, or write two quotes for one; see that the batch is complete"),
    refused("ZGL-ROW-UTF8", 422, "row is not UTF-8", "save the batch as UTF-8"),
    refused("ZGL-ROW-FHIR", 422, "row is no FHIR resource", "give every resource its resourceType"),
    refused("ZGL-ROW-HL7", 422, "message or field of HL7 v2 has not the form of the project", "check the separators in MSH and the components of the field"),
    refused("ZGL-ROW-JSON", 422, "row is not a JSON object", "write one JSON object a line"),
    failed("ZGL-TTP-SCRATCH", 507, "scratch folder of the TTP could not be used", "make room on the disk; the batch is tried again"),
    // Time stamps.
    refused("ZGL-TS-CONFLICT", 409, "reference stands for another hash", "give the prescription a new reference"),
    refused("ZGL-TS-REF", 422, "reference is 0", "number prescriptions from 1 on"),
    refused("ZGL-TS-ENROL", 409, "hospital is not enrolled", "enrol the hospital first"),
    refused("ZGL-TS-HOSPITAL", 422, "address is not a hospital's", "use an address of type NIHII-HOSPITAL"),
    refused("ZGL-TS-BAG", 422, "bag breaks the rules of TimeStampBagType", "validate it against the eHealth time-stamping schema"),
    refused("ZGL-TS-WITNESS", 422, "cosignature is of no known witness, or does not verify", "have the witness's key added to the settings; sign the checkpoint of the size that is named"),
    failed("ZGL-TS-CHAIN", 500, "closed bag does not continue its hospital's chain", "report the fault; later bags of the hospital wait, intake goes on"),
    failed("ZGL-TS-AUTHORITY", 503, "time-stamp authority gave no valid stamp", "see to the authority; bags wait in order and are stamped later"),
    // The front.
    refused("ZGL-AUTH-TOKEN", 401, "known bearer token is needed", "send the header Authorization: Bearer <token>"),
    refused("ZGL-AUTH-ROLE", 403, "token does not give this right", "use a token that has the right"),
    refused("ZGL-NOT-FOUND", 404, "no such thing", "check the name or id"),
    refused("ZGL-IN-FIELD", 422, "field breaks its rule", "see the field and the rule that are named"),
    refused("ZGL-HTTP-ROUTE", 404, "no such resource", "see the OpenAPI document"),
    refused("ZGL-HTTP-METHOD", 405, "method is not allowed here", "see the OpenAPI document"),
    refused("ZGL-HTTP-BODY", 400, "body could not be read", "send the JSON that the OpenAPI document describes"),
    refused("ZGL-HTTP-SIZE", 413, "request is too large", "send less in one request"),
    refused("ZGL-HTTP-MEDIA", 415, "media type is not taken here", "send the body with the media type that is named"),
    refused("ZGL-HTTP-ENCODING", 415, "content codings are not taken", "send the body without Content-Encoding"),
    refused("ZGL-HTTP-SLOW", 408, "request came too slowly", "send at least 64 KiB a second"),
    refused("ZGL-HTTP-BUSY", 503, "too many requests in flight", "try again after the given time"),
    refused("ZGL-CHANNEL-FULL", 429, "channel is above its high-water mark", "try again after the given time"),
    // What the platform stands on.
    failed("ZGL-BROKER-AWAY", 503, "broker is not available", "try again; nothing was accepted"),
    failed("ZGL-STORE-AWAY", 503, "store is not available", "try again; nothing was changed"),
    failed("ZGL-STORE-FULL", 507, "store is full", "make room on the disk"),
    failed("ZGL-STORE-DAMAGED", 500, "store is damaged", "run zegel check, and restore what it names"),
    failed("ZGL-CLOCK", 503, "machine's clock jumped and is not followed", "set the clock right; when it is right, restart"),
    failed("ZGL-OBJECTS-AWAY", 503, "object store is not available", "try again; nothing was kept"),
    failed("ZGL-OBJECT-MISSING", 500, "object is missing from the object store", "run zegel check, and restore what it names"),
    failed("ZGL-SEAL", 500, "stored value fails authentication", "run zegel check; the value or the key is not what it was"),
    failed("ZGL-SEAL-OPEN", 500, "sealed message could not be opened", "run zegel check; the value or the key is not what it was"),
    failed("ZGL-INTERNAL", 500, "request could not be handled", "report the fault"),
];
