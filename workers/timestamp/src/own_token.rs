//! A token that a hospital asked for by itself and wants archived: kept as it was given, found by its digest and its time, and
//! entered into the append-only log beside bags.
//!
//! The edge stamps and hands the response in; what is kept is what it gave. The same token again gets the first answer.
//! Failure behaviour: an attachment that is not the token that the message names is dead (`ZGL-MSG-PAYLOAD`).

use crate::rows::{self, TokenRow};
use crate::{LOGGED, SOURCE};
use bytes::Bytes;
use schemas::messages::{ArchiveToken, BagMaker, Logged};
use zegel_core::names::log_key;
use zegel_core::rows::V1;
use zegel_core::slot::spaces;
use zegel_core::{Context, Decision, Effects, Failure, Interrupt, Message, View};
use zegel_crypto::hash::sha256;
use zegel_crypto::tsa::{gen_time, token_of};

pub(crate) fn decide(message: &Message, view: &View, context: &Context<'_>) -> Result<Decision, Interrupt> {
    let order: ArchiveToken = message.payload()?;
    let owner = message.key();
    let mut effects = Effects::default();
    let known: Option<TokenRow> = view.get(spaces::ARCHIVE, owner, rows::kept_token_sub(&order.token))?;
    if let Some(known) = known {
        effects.reply = Some(json(&known)?);
        return Ok(Decision::Done(effects));
    }
    let wrong = |_| Failure::permanent("ZGL-MSG-PAYLOAD");
    let tsr = message.envelope.attachment.to_vec();
    let token = sha256(&token_of(&tsr).map_err(wrong)?);
    let stamped = gen_time(&tsr).map_err(wrong)?;
    if token != order.token {
        return Err(Failure::permanent("ZGL-MSG-PAYLOAD").into());
    }
    let row = TokenRow { v: V1, imprint: order.imprint, token, stamped, tsr };
    effects.put(spaces::ARCHIVE, owner, rows::kept_token_sub(&token), &row)?;
    effects.put_bytes(spaces::ARCHIVE, owner, rows::kept_time_sub(stamped, &token), Bytes::new());
    let logged = Logged { maker: BagMaker::Hospital, subject: order.imprint, token };
    effects.produce(LOGGED, message.follow_up(context, SOURCE, log_key(context.keys), &logged)?);
    effects.reply = Some(json(&row)?);
    Ok(Decision::Done(effects))
}

fn json(row: &TokenRow) -> Result<Bytes, Interrupt> {
    serde_json::to_vec(row).map(Bytes::from).map_err(|_| Failure::permanent("ZGL-STATE-WRITE").into())
}
