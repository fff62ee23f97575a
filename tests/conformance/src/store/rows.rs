//! State rows: ranges, overwriting, sizes.

use super::{all_rows, commit, ok, one_row, write};
use crate::fixture::{Fixture, SPREAD, claim, key, owner, sealed, slot};
use bytes::Bytes;
use std::sync::Arc;
use zegel_core::slot::spaces::{ARCHIVE, TEST};
use zegel_core::{Read, Sealed, Step, Store, Write};

async fn subs(
    store: &Arc<dyn Store>,
    from: &'static [u8],
    to: Option<&'static [u8]>,
    limit: usize,
    reverse: bool,
) -> Vec<Vec<u8>> {
    let (from, to) = (Bytes::from_static(from), to.map(Bytes::from_static));
    let read = Read::Range { space: TEST, owner: key(1), from, to, limit, reverse };
    let rows = ok(store.read(vec![read]).await).remove(0);
    assert!(rows.iter().all(|(sub, value)| value.bytes() == sub), "a row has another row's value");
    rows.into_iter().map(|(sub, _)| sub.to_vec()).collect()
}

/// Ranges: `from <= sub < to`, limits, backwards, and nothing of the neighbours.
pub async fn ranges_are_bounded_ordered_and_of_one_owner<F: Fixture>() {
    let place = F::fresh();
    let backend = place.open(None).await;
    let store = &backend.store;
    let claim = claim(&backend, slot(SPREAD, 0), owner(1)).await;
    let all: [&[u8]; 7] = [b"", b"\0", b"a", b"a\0", b"a\xff", b"b", b"\xff\xff"];
    let row = |space, owner, sub: &[u8]| Write {
        space,
        owner: key(owner),
        sub: Bytes::copy_from_slice(sub),
        value: Some(Sealed::from_stored(Bytes::copy_from_slice(sub))),
    };
    let mut writes: Vec<Write> = all.iter().rev().map(|sub| row(TEST, 1, sub)).collect();
    // The neighbours in every direction: owners before and after, and another space.
    writes.extend([row(TEST, 0, b"zz"), row(TEST, 2, b""), row(ARCHIVE, 1, b"a")]);
    commit(store, Step { writes, ..Step::empty(claim.slot, claim.epoch) }).await;

    assert_eq!(subs(store, b"", None, 100, false).await, all, "a whole range");
    let backwards: Vec<&[u8]> = all.iter().rev().copied().collect();
    assert_eq!(subs(store, b"", None, 100, true).await, backwards, "a whole range backwards");
    assert_eq!(subs(store, b"a", Some(b"b"), 100, false).await, all[2..5], "a prefix");
    assert_eq!(subs(store, b"a", Some(b"b"), 2, false).await, all[2..4], "the first two of a prefix");
    assert_eq!(subs(store, b"a", Some(b"b"), 2, true).await, [all[4], all[3]], "the last two of a prefix");
    assert_eq!(subs(store, b"b", Some(b"a"), 100, false).await, [b""; 0], "a range that ends before it begins");
    assert_eq!(subs(store, b"a", Some(b"a"), 100, false).await, [b""; 0], "an empty range");
    assert_eq!(subs(store, b"", None, 0, false).await, [b""; 0], "a limit of nothing");
    let answers = ok(store.read(vec![all_rows(2), one_row(1, "a"), one_row(1, "nothing")]).await);
    let counts: Vec<usize> = answers.iter().map(Vec::len).collect();
    assert_eq!(counts, [1, 1, 0], "several reads are not answered each in its place");
}

/// Within a step, writes are applied in order.
pub async fn the_last_write_of_a_row_counts<F: Fixture>() {
    let place = F::fresh();
    let backend = place.open(None).await;
    let claim = claim(&backend, slot(SPREAD, 0), owner(1)).await;
    let writes = vec![
        write(0, "a", Some("1")),
        write(0, "a", None),
        write(0, "a", Some("2")),
        write(0, "b", Some("1")),
        write(0, "b", None),
        write(0, "never", None),
    ];
    commit(&backend.store, Step { writes, ..Step::empty(claim.slot, claim.epoch) }).await;
    let rows = ok(backend.store.read(vec![all_rows(0)]).await).remove(0);
    assert_eq!(rows, [(Bytes::from_static(b"a"), sealed("2"))], "writes of one step were applied in another order");
}

/// From nothing to a mebibyte, over a restart.
pub async fn values_of_every_size_come_back<F: Fixture>() {
    let place = F::fresh();
    let backend = place.open(None).await;
    let claim = claim(&backend, slot(SPREAD, 0), owner(1)).await;
    let sizes = [0usize, 1, 900, 1_100, 4_000, 4_100, 65_536, 1 << 20];
    let value = |size: usize| Sealed::from_stored((0..size).map(|n| n.to_le_bytes()[0]).collect::<Vec<u8>>().into());
    let row = |size: &usize| Write { value: Some(value(*size)), ..write(0, &size.to_string(), None) };
    let writes = sizes.iter().map(row).collect();
    commit(&backend.store, Step { writes, ..Step::empty(claim.slot, claim.epoch) }).await;
    let backend = place.reopen(backend).await;
    for size in sizes {
        let read = Read::One { space: TEST, owner: key(0), sub: Bytes::from(size.to_string()) };
        let rows = ok(backend.store.read(vec![read]).await).remove(0);
        assert_eq!(rows.first().map(|row| &row.1), Some(&value(size)), "a value of {size} bytes was altered or lost");
    }
}
