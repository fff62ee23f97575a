//! Kill -9 of the whole server under load, again and again: nothing acknowledged is lost, nothing is there twice.

use crate::cluster::Cluster;
use crate::load::{Load, rounds, verify};
use crate::place::Place;
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_kills_of_the_server() {
    let Some(cluster) = Cluster::start() else { return };
    let place = Place::on(cluster.url());
    let store = place.postgres(place.options()).await;
    let load = Load::start(&store);
    for round in 0..rounds() {
        let before = load.told.count();
        let since = Instant::now();
        while load.told.count() < before + 20 {
            assert!(since.elapsed() < Duration::from_secs(60), "work does not go on after a restart of the server");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
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
    println!("{} kills, {} acknowledged, {errors} calls told that they failed", rounds(), told.count());
}
