//! The requests of one connection, served in the connection's own task. Were each a task of its own, a client with five
//! hundred of them would have five hundred turns for each one that another client has.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};

use parking_lot::Mutex;

use super::others_first;

/// Requests that go on in one turn.
const TURN: usize = 16;
/// Requests that are let go of in one turn: what they hold stays in memory until then, and their client may have another
/// connection by now.
const LEAVE: usize = 64;
/// Places that an idle connection keeps.
const KEPT: usize = 16;

/// Futures that are polled when they are woken, in that order.
pub(super) struct Streams<F> {
    places: Vec<Place<F>>,
    free: Vec<usize>,
    woken: Arc<Woken>,
}

struct Place<F> {
    future: Option<F>,
    bell: Arc<Bell>,
    /// The bell as a waker, and so without another count of it for each poll.
    waker: Waker,
}

/// Who is to be polled.
#[derive(Default)]
struct Woken(Mutex<Queue>);

#[derive(Default)]
struct Queue {
    places: VecDeque<usize>,
    /// Who polls them.
    task: Option<Waker>,
}

/// Wakes one future. It outlives the future in its place: whoever comes next there is polled once too often.
struct Bell {
    place: usize,
    rung: AtomicBool,
    woken: Arc<Woken>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.rung.swap(true, Ordering::AcqRel) {
            return;
        }
        let task = {
            let mut queue = self.woken.0.lock();
            queue.places.push_back(self.place);
            queue.task.take()
        };
        if let Some(task) = task {
            task.wake();
        }
    }
}

impl<F: Future + Unpin> Streams<F> {
    pub(super) fn new() -> Self {
        Self { places: Vec::new(), free: Vec::new(), woken: Arc::default() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.free.len() == self.places.len()
    }

    /// One more. It is polled in its turn.
    pub(super) fn push(&mut self, future: F) {
        let index = self.free.pop().unwrap_or(self.places.len());
        if index == self.places.len() {
            let bell = Bell { place: index, rung: AtomicBool::new(false), woken: Arc::clone(&self.woken) };
            let bell = Arc::new(bell);
            self.places.push(Place { future: None, waker: Waker::from(Arc::clone(&bell)), bell });
        }
        if let Some(place) = self.places.get_mut(index) {
            place.future = Some(future);
            place.bell.wake_by_ref();
        }
    }

    /// Polls those that were woken, as many as one turn allows; whether there were any.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        let mut polled = false;
        for _ in 0..TURN {
            let index = {
                let mut queue = self.woken.0.lock();
                match queue.places.pop_front() {
                    Some(index) => index,
                    None => {
                        if !queue.task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
                            queue.task = Some(cx.waker().clone());
                        }
                        return polled;
                    }
                }
            };
            polled = true;
            let Some(place) = self.places.get_mut(index) else { continue };
            place.bell.rung.store(false, Ordering::Release);
            let Some(future) = &mut place.future else { continue };
            if Pin::new(future).poll(&mut Context::from_waker(&place.waker)).is_ready() {
                self.remove(index);
            }
        }
        others_first(cx);
        polled
    }

    /// Drops those that `over` says it of.
    pub(super) fn cut(&mut self, mut over: impl FnMut(&mut F) -> bool) {
        for index in 0..self.places.len() {
            let future = self.places.get_mut(index).and_then(|place| place.future.as_mut());
            if future.is_some_and(&mut over) {
                self.remove(index);
            }
        }
    }

    /// Drops as many as one turn allows, whatever they wait for; whether none is left.
    pub(super) fn dismiss(&mut self) -> bool {
        self.free.clear();
        self.places.truncate(self.places.len().saturating_sub(LEAVE));
        self.places.is_empty()
    }

    fn remove(&mut self, index: usize) {
        let Some(place) = self.places.get_mut(index) else { return };
        // What its drop does may wake others: nothing is locked here.
        place.future = None;
        self.free.push(index);
        if self.is_empty() && self.places.len() > KEPT {
            *self = Self::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::task::Poll;

    use super::*;
    use crate::woke::Woke;

    /// A future that is polled so many times, and counts that.
    struct Counting {
        left: usize,
        polls: Arc<AtomicUsize>,
        wakes: bool,
        kept: Option<Arc<Mutex<Option<Waker>>>>,
    }

    impl Future for Counting {
        type Output = ();

        fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
            self.polls.fetch_add(1, Ordering::SeqCst);
            if let Some(kept) = &self.kept {
                *kept.lock() = Some(cx.waker().clone());
            }
            self.left -= 1;
            if self.left == 0 {
                return Poll::Ready(());
            }
            if self.wakes {
                cx.waker().wake_by_ref();
            }
            Poll::Pending
        }
    }

    fn counting(left: usize, polls: &Arc<AtomicUsize>) -> Counting {
        Counting { left, polls: Arc::clone(polls), wakes: true, kept: None }
    }

    #[test]
    fn so_many_go_on_in_one_turn_and_all_in_the_end() {
        let (woke, polls) = (Arc::<Woke>::default(), Arc::<AtomicUsize>::default());
        let waker = Waker::from(Arc::clone(&woke));
        let mut cx = Context::from_waker(&waker);
        let mut streams = Streams::new();
        for _ in 0..100 {
            streams.push(counting(3, &polls));
        }
        let mut turns = 0;
        while !streams.is_empty() {
            let before = (polls.load(Ordering::SeqCst), woke.0.load(Ordering::SeqCst));
            assert!(streams.poll(&mut cx));
            turns += 1;
            assert!(polls.load(Ordering::SeqCst) - before.0 <= TURN);
            assert!(streams.is_empty() || woke.0.load(Ordering::SeqCst) > before.1, "the rest has its turn");
        }
        assert_eq!((polls.load(Ordering::SeqCst), turns), (300, 300_usize.div_ceil(TURN)));
        assert!(streams.places.len() <= KEPT, "an idle connection keeps few places");
    }

    #[test]
    fn those_that_are_left_at_the_end_go_in_turns() {
        let polls = Arc::<AtomicUsize>::default();
        let mut streams = Streams::new();
        for _ in 0..2 * LEAVE + 8 {
            streams.push(counting(9, &polls));
        }
        let held = |streams: &Streams<Counting>| (streams.places.len(), Arc::strong_count(&polls) - 1);
        assert!(!streams.dismiss());
        assert_eq!(held(&streams), (LEAVE + 8, LEAVE + 8));
        assert!(!streams.dismiss() && streams.dismiss() && streams.dismiss());
        assert_eq!(held(&streams), (0, 0));
        assert!(streams.is_empty() && polls.load(Ordering::SeqCst) == 0);
    }

    #[test]
    fn only_those_that_were_woken_are_polled_and_a_late_wake_harms_nobody() {
        let (woke, polls) = (Arc::<Woke>::default(), Arc::<AtomicUsize>::default());
        let waker = Waker::from(Arc::clone(&woke));
        let mut cx = Context::from_waker(&waker);
        let mut streams = Streams::new();
        let kept: Arc<Mutex<Option<Waker>>> = Arc::default();
        streams.push(Counting { left: 2, polls: Arc::clone(&polls), wakes: false, kept: Some(Arc::clone(&kept)) });
        assert!(streams.poll(&mut cx) && !streams.poll(&mut cx));
        let first = kept.lock().take().unwrap();
        first.wake_by_ref();
        first.wake_by_ref();
        assert_eq!(woke.0.load(Ordering::SeqCst), 1);
        assert!(streams.poll(&mut cx) && streams.is_empty());
        let others = Arc::<AtomicUsize>::default();
        streams.push(Counting { left: 9, polls: Arc::clone(&others), wakes: false, kept: None });
        assert!(streams.poll(&mut cx));
        first.wake();
        assert!(streams.poll(&mut cx) && !streams.poll(&mut cx));
        assert_eq!((polls.load(Ordering::SeqCst), others.load(Ordering::SeqCst)), (2, 2));
        streams.cut(|_| true);
        assert!(streams.is_empty());
    }
}
