//! Multipart uploads that nobody finishes: they are invisible, and cost as much as what was sent.
//!
//! `object_store` has no call that lists them, so the request is made here: `GET /?uploads`, signed by `object_store`, with
//! its client. The store's own clock decides what is old.

use super::failure::{code, from_store, transport};
use crate::{OBJECTS, unavailable};
use chrono::DateTime;
use object_store::ClientOptions;
use object_store::aws::AmazonS3;
use object_store::client::{HttpClient, HttpConnector, HttpRequest, HttpRequestBody, HttpResponse, ReqwestConnector};
use object_store::multipart::MultipartStore;
use object_store::path::Path as ObjectPath;
use object_store::signer::{SignedUrlOptions, Signer};
use quick_xml::events::Event;
use quick_xml::reader::Reader;
use schemas::Millis;
use std::time::Duration;
use zegel_core::ObjectsError;

/// How long a signed request is good for: it is sent at once, and clocks may differ.
const SIGNED_FOR: Duration = Duration::from_secs(300);
/// As the store client's own requests.
const TRIES: u32 = 5;
/// Between two tries, growing by as much each time.
const PAUSE: Duration = Duration::from_millis(200);

/// An upload that was begun and not finished.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Begun {
    pub(super) key: String,
    pub(super) id: String,
    pub(super) at: Millis,
}

/// One page of them, in the order of their keys.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) uploads: Vec<Begun>,
    /// Where the next page begins, if there is one.
    pub(super) more: bool,
    pub(super) next_key: String,
    pub(super) next_id: String,
}

/// See the module.
pub(crate) struct Unfinished {
    s3: AmazonS3,
    client: HttpClient,
    /// Of our own objects' keys: others may share the bucket.
    prefix: String,
}

impl Unfinished {
    pub(crate) fn new(s3: AmazonS3, options: &ClientOptions, prefix: ObjectPath) -> Result<Unfinished, ObjectsError> {
        let client = ReqwestConnector::default().connect(options).map_err(from_store)?;
        let prefix = if prefix.as_ref().is_empty() { format!("{OBJECTS}/") } else { format!("{prefix}/{OBJECTS}/") };
        Ok(Unfinished { s3, client, prefix })
    }

    /// The store's clock.
    pub(crate) async fn now(&self) -> Result<Millis, ObjectsError> {
        let answer = self.request(&[("max-uploads", "1")]).await?;
        let date = answer.headers().get("date").and_then(|date| date.to_str().ok());
        let date = date.and_then(|date| DateTime::parse_from_rfc2822(date).ok());
        date.map(|date| Millis(date.timestamp_millis())).ok_or_else(|| unavailable("the store does not say its time"))
    }

    /// Aborts the uploads that were begun before `before`; returns how many.
    pub(crate) async fn abort_older(&self, before: Millis) -> Result<u64, ObjectsError> {
        let mut aborted = 0;
        for upload in self.list().await?.iter().filter(|upload| upload.at < before) {
            let path = ObjectPath::parse(&upload.key).map_err(|_| unavailable("the store lists what is no object"))?;
            if let Err(error) = self.s3.abort_multipart(&path, &upload.id).await {
                let gone = code(&error.to_string()) == Some("NoSuchUpload");
                match from_store(error) {
                    // Finished, or aborted by another process, since it was listed.
                    _ if gone => continue,
                    ObjectsError::Missing => continue,
                    other => return Err(other),
                }
            }
            aborted += 1;
        }
        Ok(aborted)
    }

    /// Every upload of ours that is not finished.
    pub(crate) async fn list(&self) -> Result<Vec<Begun>, ObjectsError> {
        let mut uploads = Vec::new();
        let mut page = Page { more: true, ..Page::default() };
        while page.more {
            let markers = [("key-marker", page.next_key.as_str()), ("upload-id-marker", page.next_id.as_str())];
            let asked: Vec<_> = markers.into_iter().filter(|(_, marker)| !marker.is_empty()).collect();
            let body = self.request(&asked).await?.into_body().bytes().await;
            let body = body.map_err(|error| unavailable(transport(&error, "")))?;
            let next = parse(&body).ok_or_else(|| unavailable("the store's list of uploads cannot be read"))?;
            // A store that says the same page again would hold us for ever.
            let same = (&next.next_key, &next.next_id) == (&page.next_key, &page.next_id);
            if next.more && (same || next.next_key < page.next_key) {
                return Err(unavailable("the store's list of uploads does not go on"));
            }
            page = next;
            uploads.append(&mut page.uploads);
        }
        Ok(uploads)
    }

    async fn request(&self, further: &[(&str, &str)]) -> Result<HttpResponse, ObjectsError> {
        let mut tried = 0;
        loop {
            tried += 1;
            match self.request_once(further).await {
                Err((error, true)) if tried == TRIES => return Err(error),
                Err((_, true)) => tokio::time::sleep(PAUSE * tried).await,
                Err((error, false)) => return Err(error),
                Ok(answer) => return Ok(answer),
            }
        }
    }

    /// With an error, whether another try might help.
    async fn request_once(&self, further: &[(&str, &str)]) -> Result<HttpResponse, (ObjectsError, bool)> {
        let mut query = vec![("uploads", ""), ("prefix", self.prefix.as_str())];
        query.extend_from_slice(further);
        // A new request is a GET.
        let mut request = HttpRequest::new(HttpRequestBody::empty());
        let (method, bucket) = (request.method().clone(), ObjectPath::default());
        let options = SignedUrlOptions::new().with_query(query);
        let url = self.s3.signed_url_opts(method, &bucket, SIGNED_FOR, &options).await;
        let url = url.map_err(|error| (from_store(error), false))?;
        *request.uri_mut() = url.as_str().parse().map_err(|_| (unavailable("the address cannot be used"), false))?;
        let answer = self.client.execute(request).await;
        let answer = answer.map_err(|error| (unavailable(transport(&error, "")), true))?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let again = answer.status().is_server_error();
        let status = answer.status().as_u16();
        let body = answer.into_body().bytes().await.unwrap_or_default();
        let word = code(&String::from_utf8_lossy(&body)).unwrap_or("no code").to_owned();
        Err((unavailable(format_args!("the store does not list uploads: {status} {word}")), again))
    }
}

/// Reads a `ListMultipartUploadsResult`; none for anything else.
pub(super) fn parse(body: &[u8]) -> Option<Page> {
    let mut reader = Reader::from_str(std::str::from_utf8(body).ok()?);
    let (mut page, mut names, mut text) = (Page::default(), Vec::new(), String::new());
    let mut whole = false;
    loop {
        match reader.read_event().ok()? {
            Event::Start(start) => {
                names.push(start.local_name().as_ref().to_owned());
                text.clear();
                if names.len() == 2 && names[1] == "Upload" {
                    page.uploads.push(Begun::default());
                }
            }
            Event::Text(part) => text.push_str(&part.into_inner()),
            Event::GeneralRef(part) => text.push_str(entity(&part.into_inner())?),
            Event::End(_) => {
                let path: Vec<&str> = names.iter().map(String::as_str).collect();
                take(&mut page, path.as_slice(), std::mem::take(&mut text))?;
                whole = path == ["ListMultipartUploadsResult"];
                names.pop();
            }
            Event::Eof => return whole.then_some(page),
            _ => {}
        }
    }
}

/// Keeps the text of an element that says something of an upload or of the next page.
fn take(page: &mut Page, path: &[&str], text: String) -> Option<()> {
    match *path {
        [_, "IsTruncated"] => page.more = text == "true",
        [_, "NextKeyMarker"] => page.next_key = text,
        [_, "NextUploadIdMarker"] => page.next_id = text,
        [_, "Upload", "Key"] => page.uploads.last_mut()?.key = text,
        [_, "Upload", "UploadId"] => page.uploads.last_mut()?.id = text,
        [_, "Upload", "Initiated"] => {
            page.uploads.last_mut()?.at = Millis(DateTime::parse_from_rfc3339(&text).ok()?.timestamp_millis());
        }
        _ => {}
    }
    Some(())
}

fn entity(name: &str) -> Option<&'static str> {
    Some(match name {
        "amp" => "&",
        "lt" => "<",
        "gt" => ">",
        "quot" | "#34" => "\"",
        "apos" | "#39" => "'",
        _ => return None,
    })
}
