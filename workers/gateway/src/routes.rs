//! The one table of routes: the router, and what the OpenAPI document is compared with, are both made from it.

use crate::outflow::Held;
use crate::platform::{Front, Platform};
use crate::problem::Problem;
use crate::{
    authority, box_items, boxes, consult, dead, log, mutations, operations, own_bags, projects, quarantine, seals,
    submission, timestamp, tokens,
};
use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::MethodRouter;
use std::sync::Arc;

macro_rules! routes {
    ($(#[$doc:meta])* $table:ident, $router:ident: $($path:literal => $($method:ident $handler:path),+;)+) => {
        $(#[$doc])*
        #[cfg(test)]
        const $table: &[(&str, &[&str])] = &[$(($path, &[$(stringify!($method)),+])),+];

        fn $router() -> Router<Arc<Front>> {
            Router::new()$(.route($path, MethodRouter::new()$(.$method($handler))+))+
        }
    };
}

routes! {
    /// Calls that count against the requests in flight.
    CALLS, calls:
    "/v1/messages" => post submission::submit;
    "/v1/returns/{handle}" => post submission::give_back;
    "/v1/submissions/{id}" => get submission::life;
    "/v1/boxes" => post boxes::open;
    "/v1/boxes/{address}" => get boxes::info;
    "/v1/boxes/{address}/{folder}" => get box_items::list;
    "/v1/boxes/{address}/token" => post boxes::token;
    "/v1/boxes/{address}/items/{item}" => get box_items::read;
    "/v1/boxes/{address}/items/{item}/parts/{part}" => get box_items::part;
    "/v1/boxes/{address}/move" => post box_items::move_items;
    "/v1/boxes/{address}/delete" => post box_items::delete_items;
    "/v1/timestamp/hospitals" => post timestamp::enrol;
    "/v1/timestamp/entries" => post timestamp::offer;
    "/v1/timestamp/bags/{hospital}" => get timestamp::bags;
    "/v1/timestamp/bags/{hospital}/{file}" => get timestamp::bag_file;
    "/v1/timestamp/own-bags/{hospital}" => get own_bags::list, post own_bags::take;
    "/v1/timestamp/own-bags/{hospital}/{file}" => get own_bags::file;
    "/v1/timestamp/tokens/{hospital}" => get tokens::list;
    "/v1/timestamp/tokens/{hospital}/{file}" => get tokens::file;
    "/v1/timestamp/consult" => post consult::consult;
    "/v1/timestamp/retrieve" => post consult::retrieve;
    "/v1/timestamp/stream/{hospital}" => get consult::stream;
    "/v1/timestamp/ca.pem" => get timestamp::ca;
    "/v1/timestamp/ca.crl" => get authority::revocations;
    "/v1/timestamp/units.pem" => get authority::units;
    "/timestamp" => post authority::stamp;
    "/log/checkpoint" => get log::checkpoint;
    "/log/latest" => get log::latest;
    "/log/stamps/{size}" => get log::stamp;
    "/log/tile/{*path}" => get log::tile;
    "/log/cosignatures" => post log::cosign;
    "/v1/inscriptions" => post mutations::inscribe;
    "/v1/mutations" => post mutations::feed_in;
    "/v1/feeds/{organisation}" => get mutations::feed_out;
    "/v1/feeds/{organisation}/ack" => post mutations::acknowledge;
    "/v1/projects" => get projects::list, post projects::file;
    "/v1/projects/{name}" => get projects::show;
    "/v1/projects/{name}/root" => post projects::root;
    "/v1/projects/{name}/cells" => get quarantine::cells;
    "/v1/quarantine" => get quarantine::list;
    "/v1/quarantine/{project}" => get quarantine::show;
    "/v1/quarantine/{project}/{number}" => get quarantine::one, delete quarantine::drop;
    "/v1/quarantine/{project}/{number}/release" => post quarantine::release;
    "/v1/seals/encode" => post seals::encode;
    "/v1/seals/decode" => post seals::decode;
    "/v1/seals/{application}/log" => get seals::log;
    "/v1/dead" => get dead::list;
    "/v1/dead/{channel}/{partition}/{number}/replay" => post dead::replay;
    "/v1/dead/{channel}/{partition}/{number}" => delete dead::drop;
    "/v1/alerts" => get operations::alerts;
    "/v1/stats" => get operations::stats;
}

routes! {
    /// Calls that are answered however busy the process is, and without a token.
    OPEN, open:
    "/healthz" => get operations::healthz;
    "/readyz" => get operations::readyz;
    "/metrics" => get operations::metrics;
    "/openapi.json" => get operations::openapi;
}

/// The whole front as a service.
pub fn router(platform: Arc<Platform>) -> Router {
    let front = Arc::new(Front::new(platform));
    let calls = if front.config.calls { calls() } else { Router::new() };
    calls
        .layer(from_fn_with_state(front.clone(), shed))
        .merge(open())
        .fallback(|| async { Problem::new("ZGL-HTTP-ROUTE", "see /openapi.json for what there is") })
        .method_not_allowed_fallback(|| async {
            Problem::new("ZGL-HTTP-METHOD", "see /openapi.json for what there is")
        })
        .with_state(front)
}

/// Refuses what would be one request too many, instead of letting it wait without an end. A request holds its place until
/// its answer is written.
async fn shed(State(front): State<Arc<Front>>, request: Request, next: Next) -> Response {
    match front.in_flight.clone().try_acquire_owned() {
        Ok(place) => next.run(request).await.map(|body| Held::body(body, place)),
        Err(_) => Problem::new("ZGL-HTTP-BUSY", "try again in a second").into_response(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::Value;
    use std::collections::BTreeSet;

    #[test]
    fn the_openapi_document_describes_exactly_the_routes_that_there_are() {
        let document: Value = serde_json::from_str(operations::OPENAPI).unwrap();
        let mut described = BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for method in item.as_object().unwrap().keys() {
                described.insert(format!("{method} {path}"));
            }
        }
        let routed: BTreeSet<String> = CALLS
            .iter()
            .chain(OPEN)
            .flat_map(|(path, methods)| {
                methods.iter().map(move |method| format!("{method} {}", path.replace("{*", "{")))
            })
            .collect();
        assert_eq!(described, routed);
    }

    #[test]
    fn every_operation_has_its_own_id_and_every_reference_leads_somewhere() {
        let document: Value = serde_json::from_str(operations::OPENAPI).unwrap();
        let mut ids = BTreeSet::new();
        for item in document["paths"].as_object().unwrap().values() {
            for operation in item.as_object().unwrap().values() {
                assert!(ids.insert(operation["operationId"].as_str().unwrap()), "an operation id is used twice");
            }
        }
        let references = operations::OPENAPI.split("\"$ref\": \"#").skip(1);
        for reference in references.filter_map(|rest| rest.split('"').next()) {
            assert!(document.pointer(reference).is_some(), "{reference} leads nowhere");
        }
    }
}
