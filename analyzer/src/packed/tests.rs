use proptest::prelude::*;

use super::*;

fn histogram() -> impl Strategy<Value = Histogram> {
    let nanos = prop_oneof![Just(0_u64), 1_u64..1_000, 1_000_000_u64..2_000_000_000, any::<u64>()];
    prop::collection::vec(nanos, 0..60).prop_map(|values| {
        let mut histogram = Histogram::default();
        values.into_iter().for_each(|value| histogram.record(value));
        histogram
    })
}

fn counts() -> impl Strategy<Value = Counts> {
    let values = prop::collection::vec((prop_oneof![0_u32..5, 0_u32..100, any::<u32>()], 0_u64..1_000), 0..12);
    // What a sender claims of sum and largest need not fit its values.
    (values, any::<bool>(), any::<u64>(), any::<u32>()).prop_map(|(values, lies, sum, max)| {
        if lies {
            return Counts::from_parts(values, sum, max);
        }
        let mut counts = Counts::default();
        values.into_iter().for_each(|(value, times)| counts.record_many(value, times));
        counts
    })
}

fn numbers<const N: usize>() -> impl Strategy<Value = [u64; N]> {
    prop::array::uniform(prop_oneof![4 => Just(0_u64), 4 => 0_u64..300, 1 => any::<u64>()])
}

fn links(numbers: [u64; LINKS]) -> Links {
    links_of(&mut numbers.into_iter())
}

prop_compose! {
    fn handlings()(
        outcomes in numbers::<OUTCOMES>(), above in numbers::<LINKS>(), below in numbers::<LINKS>(),
        duration in histogram(), [blocked, busy, asynchronous, retries] in numbers::<4>(),
        [calls, callees, depth_below, calls_below, services_below] in prop::array::uniform5(counts()),
        failed in prop::collection::vec(("[a-z]{1,12}", 1_u64..1_000), 0..4),
    ) -> HandlingStats {
        let mut origins = Origins::default();
        failed.iter().for_each(|(service, times)| origins.add(service, *times));
        HandlingStats {
            outcomes: outcomes_of(&mut outcomes.into_iter()), links: links(above), below: links(below), duration, blocked, busy,
            asynchronous, retries, calls, callees, depth_below, calls_below, services_below, origins,
            examples: Examples::default(),
        }
    }
}

prop_compose! {
    fn calls()(
        outcomes in numbers::<OUTCOMES>(), how in numbers::<LINKS>(), joint in numbers::<4>(), duration in histogram(),
        per_handling in counts(),
        [blocking, blocked, attempts, delayed, aborted, request_bytes, response_bytes] in numbers::<7>(),
    ) -> CallStats {
        CallStats {
            outcomes: outcomes_of(&mut outcomes.into_iter()), links: links(how), joint: joint_of(&mut joint.into_iter()),
            duration, first_byte: Histogram::default(), per_handling, blocking, blocked, attempts, delayed, aborted,
            request_bytes, response_bytes,
        }
    }
}

proptest! {
    #[test]
    fn handlings_are_unpacked_as_they_were(stats in handlings()) {
        let packed = Packed::new(&stats);
        let totals = packed.totals();
        prop_assert_eq!(total(&packed.bytes), stats.outcomes.total());
        prop_assert_eq!(&totals.outcomes, &stats.outcomes);
        prop_assert_eq!((totals.nanos, totals.blocked, totals.busy), (stats.duration.sum(), stats.blocked, stats.busy));
        let server = ServerSide { outcomes: stats.outcomes.clone(), duration: stats.duration.clone() };
        prop_assert_eq!(&packed.server_side(), &server);
        prop_assert_eq!(&Packed::new(&server).unpack(), &server);
        prop_assert_eq!(packed.unpack(), stats);
    }

    #[test]
    fn calls_are_unpacked_as_they_were(stats in calls()) {
        let packed = Packed::new(&stats);
        let totals = packed.totals();
        prop_assert_eq!(total(&packed.bytes), stats.outcomes.total());
        prop_assert_eq!(&totals.outcomes, &stats.outcomes);
        prop_assert_eq!((totals.links, totals.joint), (stats.links, stats.joint));
        prop_assert_eq!((totals.blocking, totals.blocked, totals.attempts), (stats.blocking, stats.blocked, stats.attempts));
        prop_assert_eq!((totals.nanos, totals.users), (stats.duration.sum(), stats.per_handling.count()));
        prop_assert_eq!((packed.per_handling(), packed.duration()), (stats.per_handling.clone(), stats.duration.clone()));
        prop_assert_eq!(packed.unpack(), stats);
    }

    #[test]
    fn what_is_packed_adds_up_to_the_same(
        calls in prop::collection::vec(calls(), 0..5), handlings in prop::collection::vec(handlings(), 0..5),
    ) {
        let servers = handlings.iter().map(|stats| Packed::new(stats).server_side()).collect::<Vec<_>>();
        adds_up(&calls, CallStats::merge);
        adds_up(&handlings, HandlingStats::merge);
        adds_up(&servers, ServerSide::merge);
    }
}

/// Adding up what is packed gives the bytes of what adding up gives.
fn adds_up<T: Measures + std::fmt::Debug + PartialEq>(parts: &[T], merge: fn(&mut T, &T)) {
    let mut scratch = Scratch::default();
    let (mut sum, mut merged) = (T::default(), Packed::<T>::default());
    for part in parts {
        merge(&mut sum, part);
        merged.merge_bytes(&Packed::new(part).bytes, &mut scratch);
    }
    let packed: Vec<_> = parts.iter().map(Packed::new).collect();
    assert_eq!(merged.unpack(), sum);
    assert_eq!(merged.bytes, Packed::new(&sum).bytes);
    assert_eq!(Packed::sum(packed.iter(), &mut scratch).bytes, merged.bytes);
}

#[test]
fn a_copy_keeps_what_it_was_when_the_original_grows() {
    let mut scratch = Scratch::default();
    let once = CallStats { attempts: 1, ..CallStats::default() };
    let mut packed = Packed::new(&once);
    let (copy, alone) = (packed.clone(), Packed::<CallStats>::sum(std::iter::once(&packed), &mut scratch));
    packed.merge_bytes(&Packed::new(&once).bytes, &mut scratch);
    assert_eq!([packed.totals().attempts, copy.totals().attempts, alone.totals().attempts], [2, 1, 1]);
}

#[test]
fn the_usual_path_takes_about_a_hundred_bytes() {
    let mut stats = HandlingStats::default();
    for n in 0..20 {
        stats.outcomes.add(Outcome::Ok, 1);
        stats.links.add(Evidence::Exact, 1);
        stats.below.add(Evidence::Exact, 1);
        stats.duration.record(4_000_000 + n * n * 100_000);
        stats.blocked += 3_000_000;
        stats.busy += 3_000_000;
        for counts in [&mut stats.calls, &mut stats.callees, &mut stats.depth_below, &mut stats.calls_below] {
            counts.record(2);
        }
        stats.services_below.record(2);
    }
    let length = Packed::new(&stats).bytes.len();
    assert!(length < 100, "{length}");
    assert_eq!(Packed::new(&HandlingStats::default()).bytes.len(), 0);
}

#[test]
fn the_shortest_time_is_one_that_was_measured() {
    let none = CallStats { attempts: 1, ..CallStats::default() };
    let mut some = CallStats::default();
    some.duration.record(5_000);
    for (one, other) in [(&none, &some), (&some, &none)] {
        let mut packed = Packed::new(one);
        packed.merge_bytes(&Packed::new(other).bytes, &mut Scratch::default());
        let duration = packed.duration();
        assert_eq!((duration.min(), duration.max(), duration.count()), (5_000, 5_000, 1));
    }
}
