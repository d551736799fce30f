//! Which calls meet a fault, for how long, and what is shown of it.

use http::StatusCode;

use super::*;

fn aim() -> Aim {
    Aim {
        to: "stock".to_owned(),
        method: None,
        path: None,
        percent: 100.0,
        delay: None,
        status: Some(StatusCode::SERVICE_UNAVAILABLE),
        grpc: None,
        by: "ann".to_owned(),
        why: "drill".to_owned(),
    }
}

const MINUTE: Duration = Duration::from_secs(60);

/// What the injections that have these aims do to a call, if they draw 0.
fn aborts(aim: Aim, to: &str, method: &Method, path: &str, grpc: bool) -> Option<Abort> {
    let (injections, now) = (Injections::new("shop"), Instant::now());
    injections.add(aim, MINUTE, now).unwrap();
    injections.abort(&injections.meet(to, method, path, grpc, now, || 0.0))
}

#[test]
fn a_fault_meets_the_calls_it_is_for_and_no_others() {
    let get = |aim, to, path| aborts(aim, to, &Method::GET, path, false).is_some();
    assert!(get(aim(), "stock", "/"));
    assert!(!get(aim(), "prices", "/"));
    let items = Aim { path: Some("/items/".to_owned()), ..aim() };
    assert!(get(items.clone(), "stock", "/items/7"));
    assert!(!get(items, "stock", "/"));
    let post = Aim { method: Some(Method::POST), ..aim() };
    assert!(!get(post.clone(), "stock", "/"));
    assert!(aborts(post, "stock", &Method::POST, "/", false).is_some());
}

#[test]
fn a_call_of_grpc_is_answered_in_its_own_words() {
    let abort = |aim, grpc| aborts(aim, "stock", &Method::POST, "/", grpc);
    assert_eq!(abort(aim(), false), Some(Abort::Http(StatusCode::SERVICE_UNAVAILABLE)));
    assert_eq!(abort(aim(), true), Some(Abort::Grpc(14)));
    assert_eq!(abort(Aim { status: Some(StatusCode::NOT_FOUND), ..aim() }, true), Some(Abort::Grpc(12)));
    assert_eq!(abort(Aim { grpc: Some(8), ..aim() }, true), Some(Abort::Grpc(8)));
    let only = Aim { status: None, grpc: Some(8), ..aim() };
    assert_eq!((abort(only.clone(), true), abort(only, false)), (Some(Abort::Grpc(8)), None));
}

#[test]
fn a_share_is_met_as_exactly_as_it_was_written() {
    let (injections, now) = (Injections::new("shop"), Instant::now());
    injections.add(Aim { percent: 0.25, ..aim() }, MINUTE, now).unwrap();
    let met = |drawn| {
        let met = injections.meet("stock", &Method::GET, "/", false, now, || drawn);
        injections.abort(&met).is_some()
    };
    assert!(met(0.0) && met(0.002_499));
    assert!(!met(0.0025) && !met(0.999_999));
}

#[test]
fn of_several_faults_the_longest_delay_holds_and_the_first_abort() {
    let (injections, now) = (Injections::new("shop"), Instant::now());
    let delay = |millis| Aim { status: None, delay: Some(Duration::from_millis(millis)), ..aim() };
    injections.add(delay(200), MINUTE, now).unwrap();
    injections.add(delay(100), MINUTE, now).unwrap();
    injections.add(aim(), MINUTE, now).unwrap();
    injections.add(Aim { status: Some(StatusCode::BAD_GATEWAY), ..aim() }, MINUTE, now).unwrap();
    let met = injections.meet("stock", &Method::GET, "/", false, now, || 0.0);
    let told = injections.told(&met).unwrap();
    assert_eq!(told, "delay; for=200ms; edge=\"shop>stock\"; id=1, abort; edge=\"shop>stock\"; id=3");
    assert_eq!(injections.abort(&met), Some(Abort::Http(StatusCode::SERVICE_UNAVAILABLE)));
    let none = injections.meet("stock", &Method::GET, "/", false, now, || 1.0);
    assert_eq!(injections.told(&none), None);
}

#[test]
fn a_fault_ends_when_its_time_is_over_whoever_looks() {
    let (injections, now) = (Injections::new("shop"), Instant::now());
    assert!(!injections.any());
    let injection = injections.add(aim(), MINUTE, now).unwrap();
    let aborts = |at| injections.abort(&injections.meet("stock", &Method::GET, "/", false, at, || 0.0)).is_some();
    let last = now + MINUTE - Duration::from_nanos(1);
    assert!(aborts(last) && !aborts(now + MINUTE));
    assert_eq!((injection.aborted.get(), injection.delayed.get()), (1, 0));
    injections.sweep(last);
    assert!(injections.any());
    injections.sweep(now + MINUTE);
    assert!(!injections.any(), "calls look at one number again");
    let (active, ended) = injections.all();
    assert_eq!((active.len(), ended.len(), ended[0].how), (0, 1, Ending::Expired));
}

#[test]
fn faults_end_when_somebody_says_so_and_with_the_configuration() {
    let (injections, now) = (Injections::new("shop"), Instant::now());
    let ids: Vec<u64> = (0..4).map(|_| injections.add(aim(), MINUTE, now).unwrap().id).collect();
    assert_eq!(ids, [1, 2, 3, 4]);
    assert!(injections.remove(2) && !injections.remove(2));
    injections.clear();
    assert!(!injections.any());
    let endings: Vec<_> = injections.all().1.into_iter().map(|ended| (ended.injection.id, ended.how)).collect();
    let expected = [(4, Ending::Reload), (3, Ending::Reload), (1, Ending::Reload), (2, Ending::Removed)];
    assert_eq!(endings, expected);
    injections.add(aim(), MINUTE, now).unwrap();
    assert_eq!((injections.remove_all(), injections.any()), (1, false));
}

#[test]
fn there_are_so_many_faults_and_no_more() {
    let (injections, now) = (Injections::new("shop"), Instant::now());
    for _ in 0..MOST {
        injections.add(aim(), MINUTE, now).unwrap();
    }
    assert!(injections.add(aim(), MINUTE, now).err().unwrap().contains("remove one first"));
    injections.add(aim(), MINUTE, now + MINUTE).unwrap();
    assert_eq!(injections.all().0.len(), 1, "those that are over make room");
    for _ in 0..=KEPT {
        let id = injections.add(aim(), MINUTE, now).unwrap().id;
        injections.remove(id);
    }
    assert_eq!(injections.all().1.len(), KEPT);
}

#[tokio::test(start_paused = true)]
async fn so_many_calls_are_held_up_and_others_are_spared() {
    let (injections, now) = (Arc::new(Injections::new("shop")), Instant::now());
    injections.add(Aim { delay: Some(MINUTE), ..aim() }, MINUTE, now).unwrap();
    let meet = || injections.meet("stock", &Method::GET, "/", false, now, || 0.0);
    let mut holding = Vec::new();
    for _ in 0..MOST_HELD {
        let (injections, mut met) = (Arc::clone(&injections), meet());
        holding.push(tokio::spawn(async move { injections.hold(&mut met, true).await }));
    }
    while injections.held.get() < MOST_HELD {
        tokio::task::yield_now().await;
    }
    let mut late = meet();
    assert!(!injections.hold(&mut late, true).await);
    assert_eq!((now.elapsed(), injections.spared.get()), (Duration::ZERO, 1));
    assert_eq!(injections.told(&late).unwrap(), "abort; edge=\"shop>stock\"; id=1", "it is not said to have waited");
    // One whose client goes away makes room.
    holding.remove(0).abort();
    while injections.held.get() == MOST_HELD {
        tokio::task::yield_now().await;
    }
    assert!(!injections.hold(&mut meet(), false).await, "too many requests are in flight");
    assert!(injections.hold(&mut meet(), true).await);
    assert_eq!(now.elapsed(), MINUTE);
    for held in holding {
        assert!(held.await.unwrap());
    }
    assert_eq!((injections.held.get(), injections.spared.get()), (0, 2));
}
