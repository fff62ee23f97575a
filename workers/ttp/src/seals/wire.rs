//! Requests and responses, member for member as the public XSD has them, so that a SOAP face can use the same types.
//!
//! Members are in the XSD's spelling. A choice (`EncodedData` or `Error`) is an object with one member of that name.

use serde::{Deserialize, Serialize};

/// `EncodeRequest`.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct EncodeRequest {
    /// Which application.
    pub application_name: String,
    /// What to encode.
    pub original_data: Vec<OriginalData>,
}

/// `OriginalDataType`.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct OriginalData {
    /// The item's name in this request.
    pub id: String,
    /// `SIV`, `HMAC`, `GCM` or `FF1`.
    pub algorithm_code: String,
    /// The text, up to 750 characters.
    pub input_data: String,
}

/// `DecodeRequest`.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct DecodeRequest {
    /// Which application.
    pub application_name: String,
    /// What to decode.
    pub encoded_data: Vec<EncodedData>,
}

/// `EncodedDataType`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct EncodedData {
    /// The item's name in its request.
    pub id: String,
    /// The coded value, base64.
    pub value: String,
}

/// `EncodeResponse`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct EncodeResponse {
    /// Whether all items went well.
    pub status: Status,
    /// Which application.
    pub application_name: String,
    /// One for each item, in their order.
    pub response: Vec<Encoded>,
}

/// `ChoiceEncodedDataErrorType`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Encoded {
    /// The coded value.
    EncodedData(EncodedData),
    /// Why there is none.
    Error(ItemError),
}

/// `DecodeResponse`.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DecodeResponse {
    /// Whether all items went well.
    pub status: Status,
    /// Which application.
    pub application_name: String,
    /// One for each item, in their order.
    pub response: Vec<Decoded>,
}

/// `ChoiceDecodedDataErrorType`.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub enum Decoded {
    /// The text.
    DecodedData(DecodedData),
    /// Why there is none.
    Error(ItemError),
}

/// `DecodedDataType`.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DecodedData {
    /// The item's name in its request.
    pub id: String,
    /// The text.
    pub output_data: String,
}

/// `ErrorType`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ItemError {
    /// The item's name in its request.
    pub id: String,
    /// A code of `schemas::codes`.
    pub error_code: String,
    /// The code in words.
    pub error_value: String,
}

/// `StatusType` of the platform's common types.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Status {
    /// `100` when every item went well, `300` when some did not.
    pub code: String,
    /// The same in words.
    pub message: String,
}

impl Status {
    /// The status of a response with so many errors.
    #[must_use]
    pub fn of(errors: u32) -> Status {
        let (code, message) = if errors == 0 { ("100", "success") } else { ("300", "some items are in error") };
        Status { code: code.to_owned(), message: message.to_owned() }
    }
}
