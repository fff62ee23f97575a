//! What needs no server: answers and lists as stores give them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::failure::{code, from_store};
use super::unfinished::{Begun, Page, parse};
use object_store::Error;
use schemas::Millis;
use zegel_core::ObjectsError;

fn not_found(answer: &str) -> ObjectsError {
    from_store(Error::NotFound { path: "objects/ab/abcd".to_owned(), source: answer.into() })
}

#[test]
fn only_a_missing_object_is_missing() {
    assert!(matches!(not_found("<Error><Code>NoSuchKey</Code></Error>"), ObjectsError::Missing));
    assert!(matches!(not_found("status code: 404 Not Found: "), ObjectsError::Missing));
    for code in ["NoSuchBucket", "NoSuchUpload"] {
        let error = not_found(&format!("<Error><Code>{code}</Code></Error>"));
        assert!(matches!(error, ObjectsError::Unavailable(text) if text.contains(code)));
    }
}

#[test]
fn an_answer_that_repeats_credentials_does_not_get_through() {
    let answer = "status code: 403 Forbidden: <?xml version=\"1.0\"?><Error><Code>SignatureDoesNotMatch</Code>\
        <AWSAccessKeyId>AKIDEXAMPLE</AWSAccessKeyId><StringToSign>AWS4-HMAC-SHA256 key</StringToSign></Error>";
    let error = from_store(Error::PermissionDenied { path: "secret-path".to_owned(), source: answer.into() });
    assert_eq!(error.to_string(), "object store: the store refuses these credentials (SignatureDoesNotMatch)");
    let error = from_store(Error::Generic { store: "S3", source: "status code: 503 key AKIDEXAMPLE".into() });
    assert_eq!(error.to_string(), "object store: the store answered with status 503");
}

#[test]
fn a_code_word_is_a_word() {
    assert_eq!(code("<Code>SlowDown</Code>"), Some("SlowDown"));
    let long = format!("<Code>{}</Code>", "a".repeat(65));
    for text in ["", "<Code>", "<Code></Code>", "<Code>a secret</Code>", "</Code>a<Code>", &long] {
        assert_eq!(code(text), None, "{text}");
    }
}

#[test]
fn a_page_of_uploads_says_keys_ages_and_where_to_go_on() {
    let page = parse(
        br#"<?xml version="1.0" encoding="UTF-8"?>
        <ListMultipartUploadsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
          <Bucket>bucket</Bucket><KeyMarker/><MaxUploads>2</MaxUploads><IsTruncated>true</IsTruncated>
          <NextKeyMarker>objects/b</NextKeyMarker><NextUploadIdMarker>i&amp;2</NextUploadIdMarker>
          <Upload><Key>objects/a</Key><UploadId>i1</UploadId><Initiator><ID>x</ID></Initiator>
            <Initiated>2024-02-03T04:05:06.789Z</Initiated></Upload>
          <Upload><Key>objects/b</Key><UploadId>i&amp;2</UploadId><Initiated>2024-02-03T04:05:06Z</Initiated></Upload>
        </ListMultipartUploadsResult>"#,
    );
    let begun = |key: &str, id: &str, at| Begun { key: key.to_owned(), id: id.to_owned(), at: Millis(at) };
    let expected = Page {
        uploads: vec![begun("objects/a", "i1", 1_706_933_106_789), begun("objects/b", "i&2", 1_706_933_106_000)],
        more: true,
        next_key: "objects/b".to_owned(),
        next_id: "i&2".to_owned(),
    };
    assert_eq!(page, Some(expected));
}

#[test]
fn what_is_no_page_of_uploads_is_refused_rather_than_taken_for_an_empty_one() {
    assert_eq!(parse(b"<ListMultipartUploadsResult/>"), None);
    assert_eq!(parse(b"<ListMultipartUploadsResult></ListMultipartUploadsResult>"), Some(Page::default()));
    let cut: &[u8] = b"<ListMultipartUploadsResult><Upload><Key>objects/a</Key>";
    let undated: &[u8] =
        b"<ListMultipartUploadsResult><Upload><Initiated>today</Initiated></Upload></ListMultipartUploadsResult>";
    for text in [b"".as_slice(), b"{}", b"<Error><Code>NoSuchBucket</Code></Error>", cut, undated] {
        assert_eq!(parse(text), None, "{}", String::from_utf8_lossy(text));
    }
}
