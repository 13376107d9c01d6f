//! New peers of allocations at several workers.

use proto::policy::Hasty;

use super::*;

#[test]
fn sec_009_new_peers_count_over_all_workers_and_a_failed_one_gives_none_back() {
    let shared = ledger();
    let (mut failed, mut other) = (shared.of_worker(0), shared.of_worker(1));
    let of_user = claim(1, 1, None);
    let (lease, _) = failed.lease(&of_user, &LIMITS).unwrap();
    let (beside, _) = other.lease(&of_user, &LIMITS).unwrap();
    let new = |hosts, after_s| NewPeers {
        hosts,
        addresses: 0,
        at: of_user.at + Duration::from_secs(after_s),
    };
    failed.meet(&lease, new(1_000, 0), &LIMITS).unwrap();
    let refused = other.meet(&beside, new(25, 0), &LIMITS).unwrap_err();
    assert_eq!(refused.who, Hasty::User);
    failed.forget();
    other.release(beside);
    assert!(other.meet(&lease, new(25, 0), &LIMITS).is_err(), "time alone credits");
    other.meet(&lease, new(24, 0), &LIMITS).unwrap();
    other.meet(&lease, new(1, 1), &LIMITS).unwrap();
    let (elsewhere, _) = other.lease(&claim(2, 2, None), &LIMITS).unwrap();
    other.meet(&elsewhere, new(1, 120), &LIMITS).unwrap();
    assert_eq!(shared.books().encounters.len(), [1, 1], "user 1 is forgotten");
}
