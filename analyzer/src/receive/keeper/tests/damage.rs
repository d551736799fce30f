//! A history of rollups is damaged: it goes on, and what is lost was told.

use super::*;

/// What places and bytes come from.
const SEED: u64 = 0x0c0d_e5ee_d016_0004;

/// Few in CI; many with `COUPLET_HEAVY=1`.
fn cases() -> u32 {
    if std::env::var_os("COUPLET_HEAVY").is_some() { 1_000 } else { 60 }
}

#[test]
fn rollups_that_are_damaged_are_left_out_and_told_and_no_other() {
    const SECONDS: u64 = 3_700;
    let data = tempfile::tempdir().unwrap();
    let mut desk = Desk::open(&config(Some(data.path())), T);
    let end = run(&mut desk, 0, SECONDS);
    desk.keeper.close();
    let whole = std::fs::read(data.path().join("history.db")).unwrap();
    let all = SECONDS * 2;
    let mut random = fastrand::Rng::with_seed(SEED);
    let (mut lost, mut harmless) = (0, 0);
    for case in 0..cases() {
        let data = tempfile::tempdir().unwrap();
        let mut bytes = whole.clone();
        let at = random.usize(0..bytes.len());
        if case % 2 == 0 {
            bytes[at] ^= random.u8(1..);
        } else {
            bytes.truncate(at);
        }
        std::fs::write(data.path().join("history.db"), bytes).unwrap();
        let mut desk = Desk::open(&config(Some(data.path())), end);
        let left = desk.document().requests;
        assert!(left <= all, "byte {at}: {left} of {all}: nothing is counted twice");
        let counters = &desk.board.counters;
        let told = counters.history_damages.get() + counters.history_damaged.get();
        assert!(left == all || told > 0, "byte {at}: {left} of {all} are left, and nothing was said");
        let n = SECONDS / 5 + 1;
        assert!(desk.receive(&reports(n), end), "byte {at}: it goes on");
        desk.work(end + 11 * SECOND);
        drop(desk);
        let desk = Desk::open(&config(Some(data.path())), end + 12 * SECOND);
        assert_eq!(desk.document().requests, left + 10, "byte {at}: what is left stays");
        (lost, harmless) = (lost + all - left, harmless + u32::from(left == all));
    }
    let _ = std::io::Write::write_fmt(
        &mut std::io::stderr(),
        format_args!("seed {SEED:#x}: {} histories damaged, {harmless} lost nothing, {lost} requests lost\n", cases()),
    );
}
