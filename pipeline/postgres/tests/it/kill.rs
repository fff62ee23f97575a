//! Kill -9 of the whole server under load, again and again: nothing acknowledged is lost, nothing is there twice.

use crate::cluster::Cluster;
use crate::load::{Load, verify};
use crate::place::Place;
use std::time::Duration;
use zegel_conformance::load::kills;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_kills_of_the_server() {
    let Some(cluster) = Cluster::start() else { return };
    let place = Place::on(cluster.url());
    let store = place.postgres(place.options()).await;
    let load = Load::start(&store);
    let kills = kills(8);
    for round in 0..kills {
        load.more(20).await;
        tokio::time::sleep(Duration::from_millis(u64::from(round * 37 % 230))).await;
        tokio::task::block_in_place(|| {
            cluster.kill();
            cluster.restart();
        });
    }
    let told = load.stop().await;
    drop(store);
    place.shut().await;
    verify(&place, &told).await;
    let errors = told.errors.load(std::sync::atomic::Ordering::SeqCst);
    println!("{kills} kills, {} acknowledged, {errors} calls told that they failed", told.count());
}
