//! A timer that is looked at in every turn of a connection and hardly ever due: a look costs next to nothing.

use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use tokio::task::unconstrained;
use tokio::time::{Instant, Sleep, sleep_until};

/// See the module.
pub(crate) struct Alarm {
    sleep: Pin<Box<Sleep>>,
    /// Whom the timer wakes, since it was set; it stays set beyond other wakes.
    wakes: Option<Waker>,
}

impl Alarm {
    pub(crate) fn new(at: Instant) -> Self {
        Self { sleep: Box::pin(sleep_until(at)), wakes: None }
    }

    /// From here on it is due then.
    pub(crate) fn reset(&mut self, at: Instant) {
        self.wakes = None;
        self.sleep.as_mut().reset(at);
    }

    /// Ready when it is due.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let is_set = self.wakes.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
        if is_set && !self.sleep.is_elapsed() {
            return Poll::Pending;
        }
        // Of a task that has used up its turn the runtime would set no timer, and say the same as of one that is set.
        let due = pin!(unconstrained(self.sleep.as_mut())).poll(cx);
        self.wakes = if due.is_ready() { None } else { Some(cx.waker().clone()) };
        due
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::Ordering;
    use std::time::Duration;

    use super::*;
    use crate::woke::Woke;

    #[tokio::test(start_paused = true)]
    async fn it_is_due_once_its_time_has_come_and_wakes_whoever_looked_last() {
        let (first, last) = (Arc::<Woke>::default(), Arc::<Woke>::default());
        let mut alarm = Alarm::new(Instant::now() + Duration::from_secs(5));
        let wakers = [&first, &first, &last, &last].map(|woke| Waker::from(Arc::clone(woke)));
        for waker in &wakers {
            assert_eq!(alarm.poll(&mut Context::from_waker(waker)), Poll::Pending);
        }
        let woken = || (first.0.load(Ordering::SeqCst), last.0.load(Ordering::SeqCst));
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert_eq!((woken(), alarm.poll(&mut Context::from_waker(&wakers[3]))), ((0, 0), Poll::Pending));
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!((woken(), alarm.poll(&mut Context::from_waker(&wakers[3]))), ((0, 1), Poll::Ready(())));
        alarm.reset(Instant::now() + Duration::from_secs(1));
        assert_eq!(alarm.poll(&mut Context::from_waker(&wakers[3])), Poll::Pending);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!((woken(), alarm.poll(&mut Context::from_waker(&wakers[3]))), ((0, 2), Poll::Ready(())));
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_has_used_up_its_turn_is_woken_all_the_same() {
        let mut alarm = Alarm::new(Instant::now() + Duration::from_secs(5));
        std::future::poll_fn(|cx| {
            while tokio::task::coop::has_budget_remaining() {
                std::task::ready!(tokio::task::coop::poll_proceed(cx)).made_progress();
            }
            assert_eq!(alarm.poll(cx), Poll::Pending);
            Poll::Ready(())
        })
        .await;
        tokio::time::timeout(Duration::from_secs(6), std::future::poll_fn(|cx| alarm.poll(cx))).await.unwrap();
    }
}
