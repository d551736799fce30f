//! Names to addresses. Every name has one task, shared by all workers, that asks anew when the answer has run out; a
//! request waits for an answer only where there has been none yet.

mod dns;
#[cfg(test)]
mod scripted;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

pub(crate) use dns::Dns;
#[cfg(test)]
pub(crate) use scripted::Scripted;

use crate::metrics::Metrics;

/// An answer is not asked for again earlier than this, whatever its time to live says.
const MIN_REFRESH: Duration = Duration::from_secs(1);
/// An answer is asked for again after this at the latest, whatever its time to live says.
const MAX_REFRESH: Duration = Duration::from_secs(300);
/// While there is no answer: the longest pause between two questions.
const MAX_RETRY: Duration = Duration::from_secs(30);
/// Endpoints of one name that are used; further ones are counted.
const MAX_ENDPOINTS: usize = 128;
/// Names that are kept fresh at the same time.
const MAX_NAMES: usize = 4_096;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Question {
    /// The addresses of a host.
    Host { name: String, port: u16 },
    /// The endpoints that the `SRV` records of a name say.
    Service(String),
}

/// An address that stands for a name. Those of the lowest priority are used as long as any of them can be reached, in
/// proportion to their weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Found {
    pub(crate) priority: u16,
    pub(crate) address: SocketAddr,
    pub(crate) weight: u16,
}

/// The addresses of a name, and for how long they hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Addresses {
    pub(crate) found: Vec<Found>,
    pub(crate) ttl: Duration,
}

/// Why there are no addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NotFound {
    /// The name has none. Holds for the time to live of that answer, where it said one.
    Absent(Option<Duration>),
    /// Nobody answered; what was known before may still be true.
    Unanswered(String),
}

pub(crate) type Resolving<'a> = Pin<Box<dyn Future<Output = Result<Addresses, NotFound>> + Send + 'a>>;

/// Who is asked.
pub(crate) trait Resolver: Send + Sync {
    fn resolve<'a>(&'a self, question: &'a Question) -> Resolving<'a>;
}

/// What is known of a name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Not asked yet, or the first answer is not there.
    #[default]
    Pending,
    Known(Arc<[Found]>),
    /// It has no address, or nobody ever said one.
    Unknown,
}

/// All names that are in use.
pub(crate) struct Directory {
    resolver: Box<dyn Resolver>,
    metrics: Arc<Metrics>,
    names: Mutex<HashMap<Question, Arc<watch::Sender<Answer>>>>,
    /// Names that have no task yet; at most as many as there are names.
    added: Mutex<Vec<Question>>,
    wanted: Notify,
}

impl Directory {
    pub(crate) fn new(resolver: impl Resolver + 'static, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            resolver: Box::new(resolver),
            metrics,
            names: Mutex::default(),
            added: Mutex::default(),
            wanted: Notify::new(),
        })
    }

    /// The answer to a question, kept fresh for as long as somebody holds it; none beyond the limit of names.
    pub(crate) fn subscribe(&self, question: &Question) -> Option<watch::Receiver<Answer>> {
        let mut names = self.names.lock();
        if let Some(answer) = names.get(question) {
            return Some(answer.subscribe());
        }
        if names.len() >= MAX_NAMES {
            self.metrics.names_overflow.add(1);
            return None;
        }
        let answer = Arc::new(watch::Sender::new(Answer::Pending));
        let receiver = answer.subscribe();
        names.insert(question.clone(), answer);
        self.added.lock().push(question.clone());
        self.wanted.notify_one();
        Some(receiver)
    }

    /// Answers questions. Runs on the control side for as long as the proxy does.
    pub(crate) async fn run(self: Arc<Self>) {
        loop {
            let added = std::mem::take(&mut *self.added.lock());
            for question in added {
                let Some(answer) = self.names.lock().get(&question).cloned() else { continue };
                tokio::spawn(Arc::clone(&self).keep(question, answer));
            }
            self.wanted.notified().await;
        }
    }

    /// Keeps one name fresh until nobody uses it any more.
    async fn keep(self: Arc<Self>, question: Question, answer: Arc<watch::Sender<Answer>>) {
        let mut failures = 0;
        loop {
            let resolved = self.resolver.resolve(&question).await;
            let (next, pause) = self.judge(&question, resolved, &answer.borrow(), &mut failures);
            answer.send_if_modified(|known| {
                let differs = *known != next;
                *known = next;
                differs
            });
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = answer.closed() => {}
            }
            let mut names = self.names.lock();
            if answer.receiver_count() == 0 {
                names.remove(&question);
                return;
            }
        }
    }

    /// What is known from now on, and when to ask again.
    fn judge(
        &self,
        question: &Question,
        resolved: Result<Addresses, NotFound>,
        known: &Answer,
        failures: &mut u32,
    ) -> (Answer, Duration) {
        let reason = match resolved {
            Ok(addresses) if !addresses.found.is_empty() => {
                *failures = 0;
                return (self.known(addresses.found), addresses.ttl.clamp(MIN_REFRESH, MAX_REFRESH));
            }
            Ok(_) => NotFound::Absent(None),
            Err(reason) => reason,
        };
        self.metrics.resolution_failures.add(1);
        let retry = (MIN_REFRESH * 2_u32.saturating_pow((*failures).min(5))).min(MAX_RETRY);
        *failures = failures.saturating_add(1);
        if *failures == 1 {
            tracing::warn!(?question, ?reason, "a name could not be resolved");
        }
        match (reason, known) {
            (NotFound::Absent(ttl), _) => (Answer::Unknown, ttl.map_or(retry, |ttl| ttl.clamp(MIN_REFRESH, MAX_RETRY))),
            (NotFound::Unanswered(_), Answer::Known(stale)) => (Answer::Known(Arc::clone(stale)), retry),
            (NotFound::Unanswered(_), _) => (Answer::Unknown, retry),
        }
    }

    /// In one order, whatever order the server chose, so that an answer that says the same is the same.
    fn known(&self, mut found: Vec<Found>) -> Answer {
        found.sort_unstable();
        found.dedup_by_key(|found| found.address);
        if let Some(beyond) = found.len().checked_sub(MAX_ENDPOINTS) {
            self.metrics.endpoints_overflow.add(beyond as u64);
            found.truncate(MAX_ENDPOINTS);
        }
        Answer::Known(found.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str) -> Question {
        Question::Host { name: name.to_owned(), port: 80 }
    }

    fn addresses(found: &[&str], ttl: u64) -> Result<Addresses, NotFound> {
        let found = found.iter().map(|address| Found { priority: 0, address: address.parse().unwrap(), weight: 1 });
        Ok(Addresses { found: found.collect(), ttl: Duration::from_secs(ttl) })
    }

    fn known(answer: &Answer) -> Vec<String> {
        let Answer::Known(found) = answer else { panic!("{answer:?}") };
        found.iter().map(|found| found.address.to_string()).collect()
    }

    fn directory(script: Vec<Result<Addresses, NotFound>>) -> (Arc<Directory>, Arc<Scripted>) {
        let scripted = Scripted::new(script);
        let directory = Directory::new(Arc::clone(&scripted), Arc::default());
        tokio::spawn(Arc::clone(&directory).run());
        (directory, scripted)
    }

    async fn next(answer: &mut watch::Receiver<Answer>) -> Answer {
        answer.changed().await.unwrap();
        answer.borrow_and_update().clone()
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_is_asked_for_again_when_its_time_to_live_is_over() {
        let (directory, _) = directory(vec![addresses(&["10.0.0.1:80"], 30), addresses(&["10.0.0.2:80"], 30)]);
        let mut answer = directory.subscribe(&host("stock")).unwrap();
        assert_eq!(known(&next(&mut answer).await), ["10.0.0.1:80"]);
        let asked = tokio::time::Instant::now();
        assert_eq!(known(&next(&mut answer).await), ["10.0.0.2:80"]);
        assert_eq!(asked.elapsed().as_secs(), 30);
    }

    #[tokio::test(start_paused = true)]
    async fn times_to_live_beyond_reason_are_bounded() {
        let script =
            vec![addresses(&["10.0.0.1:80"], 0), addresses(&["10.0.0.2:80"], 86_400), addresses(&["10.0.0.3:80"], 9)];
        let (directory, _) = directory(script);
        let mut answer = directory.subscribe(&host("stock")).unwrap();
        next(&mut answer).await;
        for expected in [1, 300] {
            let asked = tokio::time::Instant::now();
            next(&mut answer).await;
            assert_eq!(asked.elapsed().as_secs(), expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stale_answer_is_kept_while_nobody_answers_but_not_when_the_name_is_gone() {
        let silence = || Err(NotFound::Unanswered("timeout".to_owned()));
        let script = vec![addresses(&["10.0.0.1:80"], 5), silence(), silence(), Err(NotFound::Absent(None))];
        let (directory, scripted) = directory(script);
        let mut answer = directory.subscribe(&host("stock")).unwrap();
        next(&mut answer).await;
        assert_eq!(next(&mut answer).await, Answer::Unknown);
        assert_eq!(scripted.asked(), 4);
        assert_eq!(directory.metrics.resolution_failures.get(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_without_an_answer_is_asked_for_less_and_less_often() {
        let (directory, scripted) = directory(vec![Err(NotFound::Unanswered("timeout".to_owned())); 100]);
        let mut answer = directory.subscribe(&host("stock")).unwrap();
        assert_eq!(next(&mut answer).await, Answer::Unknown);
        tokio::time::sleep(Duration::from_secs(120)).await;
        // After 0, 1, 3, 7, 15, 31, 61, 91 seconds.
        assert_eq!(scripted.asked(), 8);
    }

    #[tokio::test(start_paused = true)]
    async fn one_task_serves_everybody_and_ends_with_the_last_one() {
        let (directory, scripted) = directory(vec![addresses(&["10.0.0.1:80"], 60); 100]);
        let (mut one, two) =
            (directory.subscribe(&host("stock")).unwrap(), directory.subscribe(&host("stock")).unwrap());
        next(&mut one).await;
        assert_eq!((scripted.asked(), directory.names.lock().len()), (1, 1));
        drop((one, two));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(directory.names.lock().len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn more_endpoints_than_the_limit_are_counted() {
        let many: Vec<_> = (0..200).map(|n| format!("10.0.0.{n}:80")).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        let (directory, _) = directory(vec![addresses(&many, 60)]);
        let mut answer = directory.subscribe(&host("stock")).unwrap();
        assert_eq!(known(&next(&mut answer).await).len(), MAX_ENDPOINTS);
        assert_eq!(directory.metrics.endpoints_overflow.get(), 72);
    }
}
