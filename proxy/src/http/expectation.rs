//! `Expect: 100-continue` (RFC 9110, section 10.1.1): a body that is asked of its client once somebody wants it. Reading
//! it is what makes the codec ask.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Sleep;

/// How long the upstream may take to say whether it wants the body. Clients go ahead about as soon by themselves, and
/// some servers never say it.
const PATIENCE: Duration = Duration::from_secs(1);

/// What is known of whether a body is wanted: the upstream says it, the body waits for it.
#[derive(Clone)]
pub(crate) struct Expectation(Arc<Mutex<State>>);

struct State {
    phase: Phase,
    waiting: Option<Waker>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The upstream has not said anything.
    Open,
    /// It answers without having asked for the body. It may still read it where the answer is no refusal.
    Answered {
        refused: bool,
    },
    Wanted,
    /// The exchange is over.
    Unwanted,
}

impl Expectation {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(State { phase: Phase::Open, waiting: None })))
    }

    /// The upstream asks for the body.
    pub(crate) fn wanted(&self) {
        self.become_of(|_| Some(Phase::Wanted));
    }

    /// The head of the answer is here.
    pub(crate) fn answered(&self, refused: bool) {
        self.become_of(|phase| (phase == Phase::Open).then_some(Phase::Answered { refused }));
    }

    /// The client has the head of the answer: nothing asks it for the body any more, and it may send it all the same.
    pub(crate) fn handed_on(&self) {
        self.become_of(|phase| (phase == Phase::Answered { refused: false }).then_some(Phase::Wanted));
    }

    /// Whether the body was refused before anybody had asked for it.
    pub(crate) fn is_refused(&self) -> bool {
        self.0.lock().phase == Phase::Answered { refused: true }
    }

    fn become_of(&self, next: impl Fn(Phase) -> Option<Phase>) {
        let mut state = self.0.lock();
        if let Some(phase) = next(state.phase) {
            state.phase = phase;
            if let Some(waiting) = state.waiting.take() {
                waiting.wake();
            }
        }
    }
}

/// The exchange that the body is for. The body is of no use beyond it.
pub(crate) struct Asking(pub(crate) Expectation);

impl Asking {
    /// Whether the body was, or is, under way.
    pub(crate) fn is_met(&self) -> bool {
        self.0.0.lock().phase == Phase::Wanted
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.become_of(|phase| (phase != Phase::Wanted).then_some(Phase::Unwanted));
    }
}

/// A body that waits.
pub(crate) struct Waiting {
    expectation: Expectation,
    patience: Pin<Box<Sleep>>,
}

impl Waiting {
    pub(crate) fn new() -> (Self, Expectation) {
        let expectation = Expectation::new();
        (Self { expectation: expectation.clone(), patience: Box::pin(tokio::time::sleep(PATIENCE)) }, expectation)
    }

    /// Ready once it is known whether the body is wanted.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let mut state = self.expectation.0.lock();
        match state.phase {
            Phase::Wanted => return Poll::Ready(true),
            Phase::Unwanted => return Poll::Ready(false),
            Phase::Open if self.patience.as_mut().poll(cx).is_ready() => {
                state.phase = Phase::Wanted;
                return Poll::Ready(true);
            }
            Phase::Open | Phase::Answered { .. } => state.waiting = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn poll(waiting: &mut Waiting) -> Poll<bool> {
        waiting.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_waits_until_the_upstream_asks_for_it_but_not_for_ever() {
        let (mut waiting, expectation) = Waiting::new();
        assert_eq!(poll(&mut waiting), Poll::Pending);
        expectation.wanted();
        assert_eq!(poll(&mut waiting), Poll::Ready(true));

        let (mut waiting, _) = Waiting::new();
        tokio::time::advance(PATIENCE).await;
        assert_eq!(poll(&mut waiting), Poll::Ready(true), "this upstream never says it");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_was_refused_is_never_read() {
        let (mut waiting, expectation) = Waiting::new();
        let asking = Asking(expectation.clone());
        expectation.answered(true);
        expectation.handed_on();
        tokio::time::advance(2 * PATIENCE).await;
        assert_eq!(poll(&mut waiting), Poll::Pending);
        assert!(!asking.is_met());
        drop(asking);
        assert_eq!(poll(&mut waiting), Poll::Ready(false));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_came_early_may_still_read_the_body() {
        let (mut waiting, expectation) = Waiting::new();
        expectation.answered(false);
        tokio::time::advance(2 * PATIENCE).await;
        assert_eq!(poll(&mut waiting), Poll::Pending, "the client would be asked after it was answered");
        expectation.handed_on();
        assert_eq!(poll(&mut waiting), Poll::Ready(true));
    }
}
